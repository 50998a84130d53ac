"""What answers requests: the protocol of engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from agentflan_ray.evaluate.benchmark import Reply, Request

Conversation = list[dict[str, str]]
"""Messages as a chat template takes them."""


class Engine(Protocol):
    """Answers requests, many at once. :meth:`submit` may be called by any thread."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides its replies: the model's content, number format, template, limits. JSON values."""

    @property
    def num_slots(self) -> int:
        """How many requests it answers at the same time; with more waiting it is always busy."""

    def submit(self, request: Request) -> Future[Reply]:
        """Asks. A prompt that is too long, or a reply cut off at the engine's own time limit, says so in ``finish``.

        The future raises :class:`~agentflan_ray.evaluate.benchmark.Unanswered` where only this request can't be
        answered. What else it raises is a fault of the settings (``ValueError``: a template that refuses the
        conversation, an endpoint that knows no such model) or of the engine itself; nothing more can be asked then.
        """

    def close(self) -> None:
        """Ends it and waits for no reply. Requests that are not answered yet are cancelled."""


class Plan(Protocol):
    """An engine that is not there yet: what it would be, known without loading a model. It can be pickled."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """The identity of the engine that :meth:`open` makes."""

    def open(self) -> Engine:
        """Load the model, or reach the server. Raises ``ValueError`` where that can't be done."""


class LazyEngine:
    """The engine of a plan, opened when its first request is about to come. Where all is there already, it never is.

    ``num_slots`` opens it; a runner asks for that before it starts threads.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._engine: Engine | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        """The plan's."""
        return self._plan.identity

    @property
    def num_slots(self) -> int:
        """The engine's."""
        if self._engine is None:
            self._engine = self._plan.open()
        return self._engine.num_slots

    def submit(self, request: Request) -> Future[Reply]:
        """See :meth:`Engine.submit`."""
        assert self._engine is not None, "num_slots opens the engine"
        return self._engine.submit(request)

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        if self._engine is not None:
            self._engine.close()


class Generator(Protocol):
    """Anything that replies to conversations, in their order."""

    def __call__(self, conversations: Sequence[Conversation], max_new_tokens: int) -> list[str]: ...


def ask_all(engine: Engine, conversations: Sequence[Conversation], max_new_tokens: int) -> list[str]:
    """The replies to conversations, in their order: with an engine, a :class:`Generator`."""
    futures = [engine.submit(Request(tuple(messages), max_new_tokens)) for messages in conversations]
    return [future.result().text for future in futures]
