"""Any OpenAI-compatible endpoint: a provider's model, or a server that runs already."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentflan_ray.evaluate.benchmark import Finish, Reply, Request

if TYPE_CHECKING:
    import openai

KEY_VARIABLE = "OPENAI_API_KEY"

_MAX_RETRIES = 6
"""The client waits between tries as the endpoint's ``Retry-After`` says, else 0.5 s, 1 s, 2 s … up to 8 s; it tries
again after 408, 409, 429, every 5xx, a lost connection and a timeout."""

_STOPS = 4
"""Stop strings that OpenAI's endpoint takes; all are looked for in the reply as well."""

_TOO_LONG = ("context_length_exceeded", "context length", "context window", "too long", "maximum model length")
"""How endpoints say with status 400 that a prompt does not fit."""


@dataclass(frozen=True)
class OpenAIPlan:
    """An endpoint and the model there.

    ``concurrency`` requests are in flight; ``seconds_per_reply`` is for one try, and a reply that takes longer in all
    of them has ``finish="time"``.
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

    ``answer(client, request)`` makes a reply or raises an error of the client, which is told as a ``ValueError``.
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
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="endpoint")
        self._answer = answer
        self._place = f"{url} for the model {model!r}"

    def submit(self, request: Request) -> Future[Reply]:
        """See :meth:`agentflan_ray.evaluate.engine.Engine.submit`."""
        return self._pool.submit(self._ask, request)

    def close(self) -> None:
        """Requests in flight end, those that wait are never sent."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def _ask(self, request: Request) -> Reply:
        import openai

        try:
            return self._answer(self._client, request)
        except openai.APITimeoutError:
            return Reply("", "time")
        except openai.APIConnectionError as error:
            raise ValueError(
                f"{self._place} can't be reached after {_MAX_RETRIES + 1} tries: {_short(error)}. Check the URL, and "
                "that the server runs."
            ) from error
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise ValueError(
                f"{self._place} answers {error.status_code}: {_short(error)}. Check the URL, the model's name and the "
                f"key in {KEY_VARIABLE}."
            ) from error
        except openai.APIStatusError as error:
            if error.status_code in (400, 413, 422) and any(sign in str(error).lower() for sign in _TOO_LONG):
                return Reply("", "context")
            tries = f" after {_MAX_RETRIES + 1} tries" if error.status_code >= 429 else ""
            raise ValueError(
                f"{self._place} answers {error.status_code}{tries}: {_short(error)}. What was answered before is kept: "
                "run the same command again to go on."
            ) from error


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
        options: dict[str, Any] = {"stop": list(request.stop[:_STOPS])} if request.stop else {}
        if request.tools:
            options["tools"] = [_as_tool(tool) for tool in request.tools]
        response = client.chat.completions.with_raw_response.create(
            model=self._model,
            messages=[dict(message) for message in request.messages],  # type: ignore[misc]  # role and content
            temperature=0.0,
            max_tokens=request.max_new_tokens,
            **options,
        )
        return read_chat(response.text, request)


def read_chat(text: str, request: Request) -> Reply:
    """The reply in the body of a chat completion.

    Read here and not by the client, which takes any JSON for a completion. Raises ``ValueError`` for a body that is
    none.
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
        raise ValueError(f"The endpoint's answer is no chat completion: {_short(text)!r}.") from None


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


def _short(error: object) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
