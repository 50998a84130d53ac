"""Any OpenAI-compatible endpoint: a provider's model, or a server that runs already."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentflan_ray.evaluate.benchmark import Finish, Reply, Request, Unanswered

if TYPE_CHECKING:
    import openai

KEY_VARIABLE = "OPENAI_API_KEY"

_MAX_RETRIES = 6
"""The client waits between tries as the endpoint's ``Retry-After`` says, else 0.5 s, 1 s, 2 s … up to 8 s; it tries
again after 408, 409, 429, every 5xx, a lost connection and a timeout."""

_STOPS = 4
"""Stop strings that OpenAI's endpoint takes; all are looked for in the reply as well."""

_OF_ONE_REQUEST = (400, 413, 422)
"""Statuses by which an endpoint refuses a request for what is in it, not for who sends it."""

_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|context (length|window|size)|maximum model length"
    r"|\b(prompt|input|conversation) is too long|input token count .{0,20}exceeds"
    r"|reduce the length of the (prompt|messages)",
    re.IGNORECASE,
)
"""How endpoints say with such a status that a prompt does not fit, or only beside fewer new tokens than are asked for
(OpenAI, vLLM, SGLang, llama.cpp, Anthropic, Gemini). "Too long" alone can be a function's name."""

_LIMIT = re.compile(r"(?:context (?:length|window|size)|model length)\D{0,30}(\d[\d,]*)", re.IGNORECASE)

_PROMPT = re.compile(
    r"(\d[\d,]*) (?:tokens )?(?:in|from) the (?:input )?(?:messages|prompt)"
    r"|(?:request has|passed) (\d[\d,]*) input tokens",
    re.IGNORECASE,
)
"""The limit and the prompt's length in such a message. vLLM counts a prompt only until it is too long: what it says to
have been passed is a lower bound."""

_KEPT = "What was answered before is kept: run the same command again to go on."


@dataclass(frozen=True)
class OpenAIPlan:
    """An endpoint and the model there.

    ``concurrency`` requests are in flight; ``seconds_per_reply`` is for one try, and a request whose reply takes longer
    in all of them is not answered.
    """

    url: str
    model: str
    concurrency: int = 32
    seconds_per_reply: float = 600.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"The endpoint's URL is {self.url!r}; give one such as http://localhost:8000/v1.")
        if self.concurrency < 1:
            raise ValueError(f"{self.concurrency} requests are to be in flight, but at least one must be sent.")

    @property
    def identity(self) -> Mapping[str, Any]:
        """The address is part of it: what model stands behind a name, only the endpoint knows."""
        return {"engine": "openai", "url": self.url, "model": self.model, "decoding": "temperature 0"}

    def open(self) -> OpenAIEngine:
        """See :meth:`agentflan_ray.evaluate.engine.Plan.open`. Nothing is asked yet."""
        return OpenAIEngine(self)


class Requests:
    """Threads that send requests through one client; the base of engines that speak to a server.

    ``answer(client, request)`` makes a reply or raises an error of the client. One of the request itself is told as
    :class:`~agentflan_ray.evaluate.benchmark.Unanswered`, any other as a ``ValueError``.
    """

    def __init__(
        self, url: str, model: str, concurrency: int, timeout: float, answer: Callable[[openai.OpenAI, Request], Reply]
    ) -> None:
        try:
            import openai
        except ImportError:
            raise ValueError('An endpoint needs the openai package: pip install "agentflan-ray[teacher]".') from None
        key = os.environ.get(KEY_VARIABLE) or "none"
        self._client = openai.OpenAI(base_url=url, api_key=key, max_retries=_MAX_RETRIES, timeout=timeout)
        self._timeout = timeout
        self._answer = answer
        self._place = f"{url} for the model {model!r}"
        self._waiting: queue.SimpleQueue[tuple[Request, Future[Reply]] | None] = queue.SimpleQueue()
        self._concurrency = concurrency
        self._closed = False
        # Not a ThreadPoolExecutor: the interpreter waits for its threads at exit, and a reply can take over an hour.
        for _ in range(concurrency):
            threading.Thread(target=self._serve, name="endpoint", daemon=True).start()

    def submit(self, request: Request) -> Future[Reply]:
        """See :meth:`agentflan_ray.evaluate.engine.Engine.submit`."""
        if self._closed:
            raise ValueError("The engine is closed; nothing can be asked any more.")
        future: Future[Reply] = Future()
        self._waiting.put((request, future))
        return future

    def close(self) -> None:
        """Cancel requests that are not sent yet, close the connections, and wait for nothing."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                if (asked := self._waiting.get_nowait()) is not None:
                    asked[1].cancel()
        self._client.close()
        for _ in range(self._concurrency):
            self._waiting.put(None)

    def _serve(self) -> None:
        while (asked := self._waiting.get()) is not None:
            request, future = asked
            if not future.set_running_or_notify_cancel():
                continue
            try:
                reply = self._ask(request)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(reply)
            del asked, request, future  # the last request must not stay while the thread waits for the next

    def _ask(self, request: Request) -> Reply:
        import openai

        try:
            return self._answer(self._client, request)
        except openai.APITimeoutError:
            raise Unanswered(f"no reply within {self._timeout:g} seconds in {_MAX_RETRIES + 1} tries") from None
        except openai.APIConnectionError as error:
            raise ValueError(
                f"{self._place} can't be reached after {_MAX_RETRIES + 1} tries: {_short(error)}. Check the URL, and "
                f"that the server runs. {_KEPT}"
            ) from error
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise ValueError(
                f"{self._place} answers {error.status_code}: {_short(error)}. Check the URL, the model's name and the "
                f"key in {KEY_VARIABLE}. {_KEPT}"
            ) from error
        except openai.APIStatusError as error:
            if _says_too_long(error):
                return Reply("", "context")
            if error.status_code in _OF_ONE_REQUEST:
                raise Unanswered(f"{self._place} answers {error.status_code}: {_short(error)}") from error
            tries = f" after {_MAX_RETRIES + 1} tries" if error.status_code >= 429 else ""
            raise ValueError(f"{self._place} answers {error.status_code}{tries}: {_short(error)}. {_KEPT}") from error


class OpenAIEngine:
    """Chat completions at temperature 0. A call that the endpoint returns as a structure is written as text, one
    ``<tool_call>{"name": …, "arguments": …}</tool_call>`` a line after the content."""

    def __init__(self, plan: OpenAIPlan) -> None:
        self.identity = plan.identity
        self.num_slots = plan.concurrency
        self._model = plan.model
        self._requests = Requests(plan.url, plan.model, plan.concurrency, plan.seconds_per_reply, self._answer)

    def submit(self, request: Request) -> Future[Reply]:
        """See :meth:`agentflan_ray.evaluate.engine.Engine.submit`. ``ValueError`` for a request with choices."""
        if request.choices:
            raise ValueError(
                "A chat endpoint does not tell how likely given answers are, which this benchmark asks for; use "
                "--engine transformers or vllm for it."
            )
        return self._requests.submit(request)

    def close(self) -> None:
        """See :meth:`agentflan_ray.evaluate.engine.Engine.close`."""
        self._requests.close()

    def _answer(self, client: openai.OpenAI, request: Request) -> Reply:
        """A prompt that fits, but not beside all tokens that are asked for, is answered with those that are left: first
        with as many as the endpoint's refusal tells, then with as many as it gives without being asked."""
        import openai

        try:
            return self._complete(client, request, max_tokens=request.max_new_tokens)
        except openai.APIStatusError as error:
            if not _says_too_long(error):
                raise
            room = _told_room(str(error))
        if room is not None and room < 1:
            return Reply("", "context")
        if room is not None and room < request.max_new_tokens:
            try:
                return self._complete(client, request, max_tokens=room)
            except openai.APIStatusError as error:
                if not _says_too_long(error):
                    raise
        return self._complete(client, request)

    def _complete(self, client: openai.OpenAI, request: Request, **options: Any) -> Reply:
        if request.stop:
            options["stop"] = list(request.stop[:_STOPS])
        if request.tools:
            options["tools"] = [_as_tool(tool) for tool in request.tools]
        response = client.chat.completions.with_raw_response.create(
            model=self._model,
            messages=[dict(message) for message in request.messages],  # type: ignore[misc]  # role and content
            temperature=0.0,
            **options,
        )
        return read_chat(response.text, request)


def read_chat(text: str, request: Request) -> Reply:
    """The reply in the body of a chat completion.

    Read here and not by the client, which takes any JSON for a completion. Raises
    :class:`~agentflan_ray.evaluate.benchmark.Unanswered` for a body that is none, as a router sends it with status 200
    where the endpoint behind it refuses a request.
    """
    try:
        body: Any = json.loads(text)
        choice = body["choices"][0]
        message = choice["message"]
        content = message.get("content") or ""
        calls = [each["function"] for each in message.get("tool_calls") or ()]
        lines = [
            f'<tool_call>{{"name": {json.dumps(call["name"])}, "arguments": {call["arguments"]}}}</tool_call>'
            for call in calls
        ]
        said = "\n".join([*([content] if content else []), *lines])
        return cut_reply(said, choice.get("finish_reason"), body.get("usage"), request)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise Unanswered(f"the endpoint's answer is no chat completion: {_short(text)!r}") from None


def cut_reply(text: str, reason: str | None, usage: Mapping[str, Any] | None, request: Request) -> Reply:
    """A reply up to the first stop string, without outer blanks. Endpoints name other reasons than ``length``, such
    as ``tool_calls``: the model stopped by itself."""
    finish: Finish = "length" if reason == "length" else "stop"
    cuts = [place for stop in request.stop if (place := text.find(stop)) >= 0]
    if cuts:
        text, finish = text[: min(cuts)], "stop"
    counts = [value if isinstance(value := (usage or {}).get(name), int) else 0 for name in _COUNTS]
    return Reply(text.strip(), finish, counts[0], counts[1])


_COUNTS = ("prompt_tokens", "completion_tokens")


def _as_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Chat templates take a function's schema alone too; endpoints want it wrapped."""
    return dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)}


def _says_too_long(error: openai.APIStatusError) -> bool:
    return error.status_code in _OF_ONE_REQUEST and _TOO_LONG.search(str(error)) is not None


def _told_room(message: str) -> int | None:
    """Tokens that a refusal says are left beside the prompt, at most; None where it does not name both numbers."""
    limit, prompt = _LIMIT.search(message), _PROMPT.search(message)
    if limit is None or prompt is None:
        return None
    return _number(limit[1]) - _number(prompt[1] or prompt[2])


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _short(error: object) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
