"""What a benchmark is: items, a way to run a model on each, and a pure function that scores what came of it.

An item is run as an *episode*: it says what the model is asked next, takes the reply, and at its end says what came of
it (its *outcome*, JSON values). Scores are computed from the item and the outcome alone, so that stored episodes can
be scored again without a model. A benchmark that asks once is an episode of one request (:class:`OneRequest`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Finish = Literal["stop", "length", "context", "time", "choice"]
"""Why a reply ended: at an end token or a stop string, at ``max_new_tokens``, because the prompt did not fit into the
model's context, at the engine's own time limit for a reply, or because one of given choices was weighed."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item. ``data`` holds JSON values: what the benchmark needs to ask and to score it.

    ``group`` names what items have in common that makes them depend on each other (a template, a table, a simulator's
    task); intervals are clustered by it. ``case`` is the row of the result's table that the item counts for.
    """

    id: str
    group: str
    case: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """What the model is asked: a conversation to answer, or ``choices`` to weigh as its answer.

    With ``choices`` nothing is generated: the reply's ``logprobs`` are those of each choice as the answer's first text,
    summed over its tokens. ``tools`` are JSON schemas for the model's own chat template, where a prompt uses that.
    """

    messages: tuple[Mapping[str, str], ...]
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model answered. ``text`` is without the stop string and outer blanks; with choices, the likeliest."""

    text: str
    finish: Finish = "stop"
    prompt_tokens: int = 0
    new_tokens: int = 0
    logprobs: tuple[float, ...] = ()


class EnvironmentDied(RuntimeError):
    """The environment of an episode broke, through no fault of the model: the item is tried once more, then kept as an
    error. Whatever else an episode raises is a fault of the benchmark's own code and ends the evaluation."""


class Unanswered(Exception):
    """The engine could not answer this one request: it took too long each time, or an endpoint refuses it. Its item is
    an error and is tried again by the next call."""


class Episode(Protocol):
    """An item being run. One thread at a time calls it; several episodes run at once."""

    def ask(self) -> Request | None:
        """The next request, or None where the episode is over. Called again after each :meth:`take`."""

    def take(self, reply: Reply) -> None:
        """The reply to the last request. It may be garbage, empty or cut off: that is an outcome, never an error."""

    def outcome(self) -> dict[str, Any]:
        """What came of it, as JSON values. Called once: when :meth:`ask` has returned None, or where a limit ends the
        episode after any reply, so that the request which :meth:`ask` returned last is never answered."""

    def close(self) -> None:
        """Frees what the episode holds. Called in any case, also after :class:`EnvironmentDied`."""


@dataclass
class OneRequest:
    """An episode of one request; its outcome is ``{"reply": text, "finish": …, "logprobs": […]}``."""

    request: Request
    reply: Reply | None = None

    def ask(self) -> Request | None:
        return self.request if self.reply is None else None

    def take(self, reply: Reply) -> None:
        self.reply = reply

    def outcome(self) -> dict[str, Any]:
        assert self.reply is not None
        return {"reply": self.reply.text, "finish": self.reply.finish, "logprobs": list(self.reply.logprobs)}

    def close(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A number of the result: the mean of a score over the items that have it.

    Attributes:
        name: Its name in tables.
        score: The score that it is the mean of; by default the same name.
        cases: Items of these cases only; all by default.
        by_case: The mean of the cases' means, each case weighing the same, in place of the mean over items.
        weight: The score that says how many things an item's score is the mean of (IFEval's instructions of a prompt),
            each of which weighs the same; by default an item weighs one.
        better: Whether more of it is better.
        scale: Factor for display, 100 for a score that is published in percent.
    """

    name: str
    score: str = ""
    cases: tuple[str, ...] = ()
    by_case: bool = False
    weight: str = ""
    better: Literal["high", "low"] = "high"
    scale: float = 1.0

    @property
    def of(self) -> str:
        """The score that it is the mean of."""
        return self.score or self.name


class Benchmark(Protocol):
    """A benchmark, ready to run. See ``benchmarks/`` for one file each, :mod:`registry` for their names."""

    @property
    def name(self) -> str:
        """Its name, as the command line takes it."""

    @property
    def protocol(self) -> str:
        """One sentence for the report: which items, which prompt, which limits, which scores, and how this differs
        from the published protocol where it does."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Literals and fingerprints of data that decide its scores; JSON values."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """Its numbers; the first is the headline."""

    def items(self) -> Sequence[Item]:
        """All items, in a fixed order in which any prefix is a fair sample of the whole (for ``--limit``)."""

    def open(self, item: Item) -> Episode:
        """Begins an item. May start an environment and take its time; raises :class:`EnvironmentDied` where that
        fails."""

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """The scores of an outcome. Pure. A score that does not apply is absent."""


@runtime_checkable
class Heavy(Protocol):
    """A benchmark whose environments take memory, so that only so many of them run at once."""

    @property
    def environment_gib(self) -> float:
        """Of one environment."""


@runtime_checkable
class Weighing(Protocol):
    """A benchmark that may ask with choices, which takes an engine that tells how likely they are."""

    @property
    def weighs_choices(self) -> bool:
        """Whether this one does."""


@dataclass(frozen=True, slots=True)
class Missing:
    """What a benchmark lacks to run here: what, and how to get it (one sentence each)."""

    what: str
    how: str


class Unavailable(ValueError):
    """A benchmark can't run here. ``missing`` says why, all of it at once."""

    def __init__(self, benchmark: str, missing: Sequence[Missing]) -> None:
        self.missing = tuple(missing)
        super().__init__(f"{benchmark} can't run here: " + " ".join(f"{each.what} {each.how}" for each in missing))


ENDED_BY = "ended_by"
"""The entry of an outcome that says which limit ended the episode: ``turns`` or ``tokens``. Absent where none did."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An item that was run: every request with its reply, what came of it, and its scores.

    ``error`` says why there are no scores, where the environment died twice, the item's time was up or a request was
    not answered. Such items are counted beside every mean and in none of them. One that a
    limit ended (:data:`ENDED_BY`) is scored as any other.
    """

    item: Item
    turns: tuple[tuple[Request, Reply], ...]
    outcome: Mapping[str, Any]
    scores: Mapping[str, float]
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class Settings:
    """What a user says about benchmarks: where the data lies, which prompts, addresses of servers.

    Attributes:
        data: Folder with published evaluation data, laid out as docs/evaluation.md says; None where there is none.
        prompt: Name of the prompt format where a benchmark has several (``react``, ``json``, ``native``, ``plain``);
            None takes the benchmark's own.
        options: Addresses and the like by name, for instance ``{"sparql_url": "…"}``.
    """

    data: str | None = None
    prompt: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
