"""Replies of a teacher, and the files that keep them: what was paid for once is not paid for again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Protocol

from agentflan_ray import storage
from agentflan_ray.corpus.teacher.recipe import TeacherRecipe
from agentflan_ray.corpus.teacher.request import Request

LOOKUPS = 16
"""Files looked for at once: on an object store each takes some ten milliseconds of waiting."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a teacher wrote, and the tokens of its request and of its text (None where it does not count them)."""

    text: str
    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no reply: one sentence."""

    sentence: str


@dataclass(frozen=True)
class Prices:
    """US dollars for a million tokens of requests and of replies."""

    per_million_in: float
    per_million_out: float

    def __post_init__(self) -> None:
        if min(self.per_million_in, self.per_million_out) < 0:
            raise ValueError(f"Prices can't be below zero, but are {self.per_million_in} and {self.per_million_out}.")

    def cost(self, reply: Reply) -> float | None:
        """US dollars for this reply, by the tokens that the endpoint counted; None where it counted none."""
        if reply.tokens_in is None or reply.tokens_out is None:
            return None
        return (reply.tokens_in * self.per_million_in + reply.tokens_out * self.per_million_out) / 1e6


class Teacher(Protocol):
    """Anything that answers requests: an endpoint, or a model on this cluster."""

    def cost(self, reply: Reply, /) -> float | None:
        """US dollars for a reply of it; None where that is not known."""

    def answer(self, requests: Sequence[Request], recipe: TeacherRecipe) -> Iterator[tuple[str, Reply | Failure]]:
        """Key and outcome of each request, in the order in which they arrive.

        Raises ``ValueError`` where no request can succeed, as with a wrong key.
        """


class ReplyFiles:
    """Kept replies below ``uri``: ``<first two digits of the key>/<key>.json``, each written whole or not at all."""

    def __init__(self, uri: str) -> None:
        self.uri = storage.absolute(uri)

    def find(self, keys: Sequence[str]) -> dict[str, Reply]:
        """The replies among these keys that are kept."""
        with ThreadPoolExecutor(LOOKUPS) as pool:
            found = pool.map(self._read, keys)
            return {key: reply for key, reply in zip(keys, found, strict=True) if reply is not None}

    def keep(self, key: str, reply: Reply, model: str) -> None:
        """Write one reply; the model's name is for people who look at the file."""
        storage.write_json(self._place(key), {**asdict(reply), "model": model})

    def _read(self, key: str) -> Reply | None:
        uri = self._place(key)
        try:
            kept = storage.read_json(uri)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(f"The kept reply {uri} is not JSON ({error}); delete it to ask for it again.") from error
        return Reply(kept["text"], kept["tokens_in"], kept["tokens_out"])

    def _place(self, key: str) -> str:
        return storage.join(self.uri, key[:2], f"{key}.json")
