"""Runs a benchmark's items with an engine: many episodes at once, each within limits, none lost.

An episode blocks while its environment works and while its reply is awaited, so each has a thread; there are half as
many again as the engine answers requests at once, which keeps its batch full while environments work.
"""

from __future__ import annotations

import concurrent.futures
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from agentflan_ray.evaluate.benchmark import (
    ENDED_BY,
    Benchmark,
    EnvironmentDied,
    Heavy,
    Item,
    Reply,
    Request,
    Sample,
    Unanswered,
)
from agentflan_ray.evaluate.cache import Episodes
from agentflan_ray.evaluate.engine import Engine
from agentflan_ray.evaluate.memory import free_memory
from agentflan_ray.storage import as_json

ATTEMPTS = 2
"""Times that an item is run where its environment dies."""

_GRACE_SECONDS = 60.0
"""What an environment may take over the time limit before its thread is given up."""

_POLL_SECONDS = 0.5

_UNANSWERED = "engine: "
"""Begins the error of an item with a request that was not answered."""

_UNANSWERED_IN_A_ROW = 10
"""Items whose first request is not answered, one after the other, before an evaluation ends: it is not the items."""


@dataclass(frozen=True)
class Limits:
    """What one item may take.

    A model that talks on to the limit of turns or tokens is scored by what it has reached until then: were its item
    left out, talking would pay. The limit of time says as much about the machine as about the model, so an item beyond
    it is kept as an error, which the next call tries again.

    Attributes:
        seconds: Time from its start, waiting for replies included.
        turns: Requests, at least one.
        new_tokens: Tokens of its replies together; the reply that goes beyond them is the last.
    """

    seconds: float = 7200.0
    turns: int = 300
    new_tokens: int = 200_000

    def __post_init__(self) -> None:
        if self.turns < 1 or self.new_tokens < 0:
            raise ValueError(
                f"The limits of an item are {self.turns} turns and {self.new_tokens} new tokens; without a reply there "
                "is nothing to score, so allow at least one turn and no negative number of tokens."
            )

    def reached(self, turns: Sequence[tuple[Request, Reply]]) -> str | None:
        """Which limit an episode of these turns has reached: ``turns``, ``tokens`` or none."""
        if len(turns) >= self.turns:
            return "turns"
        return "tokens" if sum(reply.new_tokens for _, reply in turns) > self.new_tokens else None


def evaluate(
    benchmark: Benchmark,
    engine: Engine,
    items: Sequence[Item],
    *,
    episodes: Episodes | None = None,
    limits: Limits | None = None,
    concurrency: int | None = None,
    on_sample: Callable[[Sample], None] | None = None,
) -> list[Sample]:
    """Run the items that ``episodes`` does not hold yet; the samples of all, in the order of the items.

    ``on_sample`` is called for each as it is there, by this thread. Raises what an episode raises besides
    :class:`~agentflan_ray.evaluate.benchmark.EnvironmentDied`, with a note that names the item, and what the engine's
    futures raise besides :class:`~agentflan_ray.evaluate.benchmark.Unanswered`, which is the item's error. Ended so or
    interrupted, it lets running environments end; finished items are in ``episodes``.

    Ten items in a row whose first request is not answered end it with a ``ValueError``, too, unless ``episodes`` held
    answers already: those show that the engine works, and items that it refuses each time can be all that is left.
    """
    limits = limits or Limits()
    done: dict[str, Sample] = {}
    if repeated := [name for name, times in Counter(item.id for item in items).items() if times > 1]:
        times = sum(item.id == repeated[0] for item in items)
        raise ValueError(f"{times} items of {benchmark.name} have the id {repeated[0]!r}; an id is an item's alone.")

    def keep(sample: Sample) -> None:
        done[sample.item.id] = sample
        if on_sample is not None:
            on_sample(sample)

    missing: list[Item] = []
    for item in items:
        found = episodes.find(benchmark, item) if episodes is not None else None
        # An episode that was ended by a lower limit than today's would have gone on.
        if found is None or (ENDED_BY in found.outcome and limits.reached(found.turns) is None):
            missing.append(item)
        else:
            keep(found)
    if missing:
        num_threads = min(len(missing), concurrency or _episodes_at_once(benchmark, engine))
        crew = _Crew(benchmark, engine, missing, limits, num_threads, answered_before=bool(done))
        try:
            with crew:
                for sample in crew.samples():
                    if episodes is not None:
                        episodes.add(sample)
                    keep(sample)
        finally:
            # What came in while an error or an interrupt ended the loop was paid for.
            if episodes is not None:
                for sample in crew.finished():
                    episodes.add(sample)
    return [done[item.id] for item in items]


def _episodes_at_once(benchmark: Benchmark, engine: Engine) -> int:
    """Half as many again as the engine answers at once, or as environments have room in half of the free memory."""
    wanted = engine.num_slots + (engine.num_slots + 1) // 2
    if not isinstance(benchmark, Heavy):
        return wanted
    return max(1, min(wanted, int(free_memory() / 2 / (benchmark.environment_gib * 2**30))))


def run_item(
    benchmark: Benchmark, engine: Engine, item: Item, limits: Limits, stop: threading.Event | None = None
) -> Sample:
    """Run one item, a second time where its environment dies. ``stop`` ends it at its next turn with an error."""
    began = time.monotonic()
    reason = ""
    for _ in range(ATTEMPTS):
        try:
            return _attempt(benchmark, engine, item, limits, stop or threading.Event())
        except EnvironmentDied as error:
            reason = f"environment: {error}"
        except Exception as error:
            error.add_note(f"while running item {item.id!r} of {benchmark.name}")
            raise
    return Sample(item, (), {}, {}, round(time.monotonic() - began, 3), reason)


def _attempt(benchmark: Benchmark, engine: Engine, item: Item, limits: Limits, stop: threading.Event) -> Sample:
    began = time.monotonic()
    turns: list[tuple[Request, Reply]] = []
    ended_by: str | None = None
    error: str | None = None
    episode = benchmark.open(item)
    try:
        while (request := episode.ask()) is not None and (ended_by := limits.reached(turns)) is None:
            try:
                reply = _ask(engine, request, limits.seconds - (time.monotonic() - began), stop)
            except Unanswered as failure:
                error = f"{_UNANSWERED}{failure}"
                break
            if reply is None:
                error = "stopped" if stop.is_set() else _over_time(limits)
                break
            turns.append((request, reply))
            episode.take(reply)
        outcome = {} if error else as_json(episode.outcome())
    finally:
        episode.close()
    if ended_by is not None:
        outcome[ENDED_BY] = ended_by
    scores = {} if error else benchmark.score(item, outcome)
    return Sample(item, tuple(turns), outcome, scores, round(time.monotonic() - began, 3), error)


def _ask(engine: Engine, request: Request, seconds: float, stop: threading.Event) -> Reply | None:
    """The reply; None where the time is up first, or all is to stop."""
    if stop.is_set() or seconds <= 0:
        return None
    future = engine.submit(request)
    until = time.monotonic() + seconds
    while not stop.is_set() and (left := until - time.monotonic()) > 0:
        try:
            reply = future.result(timeout=min(left, _POLL_SECONDS))
        except concurrent.futures.TimeoutError:
            if not future.done():
                continue
            reply = future.result()  # it came just now, or the engine's own time was up
        # An endpoint's JSON may hold half a surrogate pair, which no file of UTF-8 takes.
        return replace(reply, text=reply.text.encode("utf-8", "replace").decode("utf-8"))
    future.cancel()
    return None


def _over_time(limits: Limits) -> str:
    return f"time: more than {limits.seconds:g} seconds"


class _Worker(threading.Thread):
    """Takes items until there are none. ``item`` and ``began`` say what it works on."""

    def __init__(self, crew: _Crew) -> None:
        super().__init__(name="episode", daemon=True)
        self._crew = crew
        self.item: Item | None = None
        self.began = 0.0
        self.given_up = False

    def run(self) -> None:
        crew = self._crew
        while not (self.given_up or crew.stop.is_set()):
            try:
                item = crew.ahead.popleft()
            except IndexError:
                return
            self.began = time.monotonic()
            self.item = item
            try:
                sample: Sample | BaseException = run_item(crew.benchmark, crew.engine, item, crew.limits, crew.stop)
            except BaseException as error:
                sample = error
            self.item = None
            crew.results.put((self, sample))


class _Crew:
    """The threads of an evaluation."""

    def __init__(
        self,
        benchmark: Benchmark,
        engine: Engine,
        items: Sequence[Item],
        limits: Limits,
        num_threads: int,
        *,
        answered_before: bool,
    ) -> None:
        self.benchmark = benchmark
        self.engine = engine
        self.limits = limits
        self.ahead = deque(items)
        self.results: queue.SimpleQueue[tuple[_Worker, Sample | BaseException]] = queue.SimpleQueue()
        self.stop = threading.Event()
        self._left = len(items)
        self._answered_before = answered_before
        self._unanswered = 0
        self._workers = [_Worker(self) for _ in range(num_threads)]

    def __enter__(self) -> _Crew:
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let episodes that still run end at their next turn, and their environments be closed."""
        self.stop.set()
        until = time.monotonic() + 10.0
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))

    def samples(self) -> Iterator[Sample]:
        """Each sample as it is there. Raises what a worker raised, and ``ValueError`` where nothing is answered."""
        look_at = time.monotonic() + _POLL_SECONDS
        while self._left:
            # By the clock: results that keep coming in must not hide an environment that hangs.
            if time.monotonic() >= look_at:
                yield from self._overdue()
                look_at = time.monotonic() + _POLL_SECONDS
                continue
            try:
                worker, sample = self.results.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if worker.given_up:
                continue
            if isinstance(sample, BaseException):
                raise sample
            self._left -= 1
            yield sample
            self._heed(sample)

    def finished(self) -> Iterator[Sample]:
        """After the end: samples without an error that were not taken any more."""
        while not self.results.empty():
            worker, sample = self.results.get()
            if not worker.given_up and isinstance(sample, Sample) and sample.error is None:
                yield sample

    def _heed(self, sample: Sample) -> None:
        """Count what is not answered; raises ``ValueError`` where that is no matter of single items."""
        if sample.turns:
            self._unanswered = 0
        elif sample.error is not None and sample.error.startswith(_UNANSWERED):
            self._unanswered += 1
            if self._unanswered == _UNANSWERED_IN_A_ROW and not self._answered_before:
                raise ValueError(
                    f"{self._unanswered} items of {self.benchmark.name} in a row were not answered, the last one: "
                    f"{sample.error.removeprefix(_UNANSWERED)}. What was answered before is kept: mend this and run "
                    "the same command again to go on."
                )

    def _overdue(self) -> Iterator[Sample]:
        """Items whose environment does not come back; their threads are left behind and replaced."""
        for worker in list(self._workers):
            item, seconds = worker.item, time.monotonic() - worker.began
            if item is None or seconds < self.limits.seconds * ATTEMPTS + _GRACE_SECONDS:
                continue
            worker.given_up = True
            self._workers.remove(worker)
            successor = _Worker(self)
            self._workers.append(successor)
            successor.start()
            self._left -= 1
            yield Sample(item, (), {}, {}, round(seconds, 3), f"{_over_time(self.limits)}, and its environment hangs")
