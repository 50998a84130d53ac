"""A teacher behind an OpenAI-compatible endpoint: a provider's, or a server of one's own such as vLLM."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentflan_ray.corpus.teacher.recipe import TeacherRecipe
from agentflan_ray.corpus.teacher.replies import Failure, Prices, Reply
from agentflan_ray.corpus.teacher.request import Request

if TYPE_CHECKING:
    import openai


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask: nothing of it decides what a reply is, so nothing of it is identity.

    The client waits between tries as the endpoint's ``Retry-After`` says, else 0.5 s, 1 s, 2 s … up to 8 s; it tries
    again after 408, 409, 429, every 5xx, a lost connection and a timeout.
    """

    url: str
    """Base URL, such as ``https://api.openai.com/v1`` or ``http://localhost:8000/v1``."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; a server that needs none still wants some text in it."""
    concurrency: int = 8
    """Requests in flight."""
    max_retries: int = 5
    timeout_seconds: float = 60.0
    """For one try."""
    prices: Prices | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"The teacher's URL is {self.url!r}; give one such as https://api.openai.com/v1.")
        if self.concurrency < 1:
            raise ValueError(f"The teacher's concurrency is {self.concurrency}; at least one request must be sent.")

    def cost(self, reply: Reply, /) -> float | None:
        """By the prices, where they are given."""
        return None if self.prices is None else self.prices.cost(reply)

    def answer(self, requests: Sequence[Request], recipe: TeacherRecipe) -> Iterator[tuple[str, Reply | Failure]]:
        """Ask for all of them, ``concurrency`` at once.

        Raises ``ValueError`` where the client is not installed, the key is not set, or the endpoint refuses the key or
        does not know the model: then no other request would succeed either.
        """
        client = self._client()
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            futures = {pool.submit(self._ask, client, request, recipe): request.key for request in requests}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            # After an error or an interrupt: requests in flight end, those that wait are never sent.
            pool.shutdown(wait=True, cancel_futures=True)
            client.close()

    def _client(self) -> openai.OpenAI:
        try:
            import openai
        except ImportError:
            raise ValueError(
                'A teacher behind an endpoint needs the openai package: pip install "agentflan-ray[teacher]".'
            ) from None
        key = os.environ.get(self.key_variable)
        if not key:
            raise ValueError(
                f"The environment variable {self.key_variable} is not set; put the key of {self.url} into it (any "
                "text, where the server asks for no key)."
            )
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=self.max_retries, timeout=self.timeout_seconds)

    def _ask(self, client: openai.OpenAI, request: Request, recipe: TeacherRecipe) -> Reply | Failure:
        import openai

        try:
            response = client.chat.completions.with_raw_response.create(
                model=recipe.model,
                messages=request.messages,  # type: ignore[arg-type]  # role and content, which every role's type has
                temperature=recipe.temperature,
                max_tokens=recipe.max_tokens,
                seed=recipe.seed,
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise ValueError(
                f"{self.url} answers {error.status_code} for the model {recipe.model!r}: {_short(error.message)}. "
                f"Check the URL, the model's name and the key in {self.key_variable}."
            ) from error
        except openai.OpenAIError as error:
            return Failure(f"{type(error).__name__}: {_short(str(error))}")
        return read_completion(response.text)


def read_completion(text: str) -> Reply | Failure:
    """The reply in the body of a chat completion; a :class:`Failure` where the body is not one.

    Read here and not by the client, which takes any JSON for a completion.
    """
    try:
        body: Any = json.loads(text)
        content = body["choices"][0]["message"]["content"]
        usage = body.get("usage") or {}
        tokens_in, tokens_out = usage.get("prompt_tokens"), usage.get("completion_tokens")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return Failure(f"The endpoint's answer is no chat completion: {_short(text)!r}")
    if not isinstance(content, str | None):
        return Failure(f"The endpoint's reply is not text: {_short(text)!r}")
    return Reply(content or "", _count(tokens_in), _count(tokens_out))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _short(text: str) -> str:
    return " ".join(text.split())[:200].rstrip(".")
