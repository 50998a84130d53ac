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

from agentflan_ray.evaluate.benchmark import Benchmark, EnvironmentDied, Heavy, Item, Reply, Request, Sample
from agentflan_ray.evaluate.cache import Episodes
from agentflan_ray.evaluate.engine import Engine
from agentflan_ray.evaluate.memory import free_memory
from agentflan_ray.storage import as_json

ATTEMPTS = 2
"""Times that an item is run where its environment dies."""

_GRACE_SECONDS = 60.0
"""What an environment may take over the time limit before its thread is given up."""

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Limits:
    """What one item may take. An item beyond a limit is kept as an error.

    Attributes:
        seconds: Time from its start, waiting for replies included.
        turns: Requests.
        new_tokens: Tokens of its replies together.
    """

    seconds: float = 7200.0
    turns: int = 300
    new_tokens: int = 200_000


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
    futures raise. Interrupted, it lets running environments end; finished items are in ``episodes``.
    """
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
        if found is None:
            missing.append(item)
        else:
            keep(found)
    if missing:
        num_threads = min(len(missing), concurrency or _episodes_at_once(benchmark, engine))
        with _Crew(benchmark, engine, missing, limits or Limits(), num_threads) as crew:
            for sample in crew.samples():
                if episodes is not None:
                    episodes.add(sample)
                keep(sample)
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
    num_tokens = 0
    error: str | None = None
    episode = benchmark.open(item)
    try:
        while (request := episode.ask()) is not None:
            left = limits.seconds - (time.monotonic() - began)
            if stop.is_set():
                error = "stopped"
            elif left <= 0:
                error = _over_time(limits)
            elif len(turns) == limits.turns:
                error = f"turns: more than {limits.turns} requests"
            elif num_tokens > limits.new_tokens:
                error = f"tokens: more than {limits.new_tokens:,} in its replies"
            reply = None if error else _ask(engine, request, left, stop)
            if reply is None:
                error = error or ("stopped" if stop.is_set() else _over_time(limits))
                break
            turns.append((request, reply))
            num_tokens += reply.new_tokens
            episode.take(reply)
        outcome = {} if error else as_json(episode.outcome())
    finally:
        episode.close()
    scores = {} if error else benchmark.score(item, outcome)
    return Sample(item, tuple(turns), outcome, scores, round(time.monotonic() - began, 3), error)


def _ask(engine: Engine, request: Request, seconds: float, stop: threading.Event) -> Reply | None:
    """The reply; None where the time is up first, or all is to stop."""
    future = engine.submit(request)
    until = time.monotonic() + seconds
    while not stop.is_set() and (left := until - time.monotonic()) > 0:
        try:
            reply = future.result(timeout=min(left, _POLL_SECONDS))
        except concurrent.futures.TimeoutError:
            if future.done():
                raise  # the engine's own
            continue
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
        self, benchmark: Benchmark, engine: Engine, items: Sequence[Item], limits: Limits, num_threads: int
    ) -> None:
        self.benchmark = benchmark
        self.engine = engine
        self.limits = limits
        self.ahead = deque(items)
        self.results: queue.SimpleQueue[tuple[_Worker, Sample | BaseException]] = queue.SimpleQueue()
        self.stop = threading.Event()
        self._left = len(items)
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
        """Each sample as it is there. Raises what a worker raised."""
        while self._left:
            try:
                worker, sample = self.results.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                yield from self._overdue()
                continue
            if worker.given_up:
                continue
            if isinstance(sample, BaseException):
                raise sample
            self._left -= 1
            yield sample

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
