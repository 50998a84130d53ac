"""Episodes run many at once, within limits, and are paid for once."""

from __future__ import annotations

import functools
import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from agentflan_ray.evaluate import runner, toolbox
from agentflan_ray.evaluate.benchmark import (
    EnvironmentDied,
    Item,
    Metric,
    OneRequest,
    Reply,
    Request,
    Sample,
    Unanswered,
)
from agentflan_ray.evaluate.benchmarks.toolbox import Toolbox, ToolboxBenchmark
from agentflan_ray.evaluate.cache import Episodes, turns_from_json, turns_to_json
from agentflan_ray.evaluate.engine import LazyEngine
from agentflan_ray.evaluate.memory import free_memory
from agentflan_ray.evaluate.results import Model, ResultFolder
from agentflan_ray.evaluate.runner import Limits, evaluate
from agentflan_ray.evaluate.summary import summarise
from agentflan_ray.toolbox import EvaluationItem


class Scripted:
    """An engine that answers by a function of the request, each in a thread of its own."""

    num_slots = 4

    def __init__(self, say: Callable[[Request], str | Reply], seconds: float = 0.0) -> None:
        self.identity: Mapping[str, Any] = {"engine": "scripted"}
        self.say = say
        self.seconds = seconds
        self.asked: list[Request] = []
        self.running = self.most_running = 0
        self._lock = threading.Lock()

    def submit(self, request: Request) -> Future[Reply]:
        future: Future[Reply] = Future()
        with self._lock:
            self.asked.append(request)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        threading.Thread(target=self._answer, args=(request, future), daemon=True).start()
        return future

    def _answer(self, request: Request, future: Future[Reply]) -> None:
        time.sleep(self.seconds)
        with self._lock:
            self.running -= 1
        if not future.set_running_or_notify_cancel():
            return
        try:
            said = self.say(request)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(said if isinstance(said, Reply) else Reply(said, "stop", 10, len(said.split())))

    def close(self) -> None: ...


class Echo:
    """Items whose answer is their id; ``num_turns`` requests each."""

    name = "echo"
    protocol = "Each item is asked for its id."
    metrics: Sequence[Metric] = (Metric("right"),)

    def __init__(self, num_items: int = 8, num_turns: int = 1, **identity: Any) -> None:
        self.identity: Mapping[str, Any] = {"turns": num_turns, **identity}
        self.num_items = num_items
        self.num_turns = num_turns

    def items(self) -> list[Item]:
        return [Item(f"item {i}", f"group {i % 3}", f"case {i % 2}", {"n": i}) for i in range(self.num_items)]

    def open(self, item: Item) -> Any:
        return Talk(item, self.num_turns)

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        return {"right": float(outcome["replies"][-1] == item.id)}


class Talk:
    def __init__(self, item: Item, num_turns: int) -> None:
        self.messages: tuple[Mapping[str, str], ...] = ({"role": "user", "content": item.id},)
        self.num_turns = num_turns
        self.replies: list[str] = []

    def ask(self) -> Request | None:
        return None if len(self.replies) == self.num_turns else Request(self.messages, 20)

    def take(self, reply: Reply) -> None:
        self.replies.append(reply.text)
        answer = {"role": "assistant", "content": reply.text}
        self.messages = (*self.messages, answer, {"role": "user", "content": "And now?"})

    def outcome(self) -> dict[str, Any]:
        return {"replies": self.replies}

    def close(self) -> None: ...


def first_words(request: Request) -> str:
    return request.messages[0]["content"]


def run(benchmark: Any, engine: Any, **options: Any) -> list[Sample]:
    return evaluate(benchmark, engine, benchmark.items(), **options)


def test_samples_come_in_the_order_of_items_with_all_that_was_said() -> None:
    engine = Scripted(first_words)
    samples = run(Echo(num_turns=3), engine)
    assert [sample.item.id for sample in samples] == [f"item {i}" for i in range(8)]
    assert all(sample.scores == {"right": 1.0} and sample.error is None for sample in samples)
    assert [len(sample.turns) for sample in samples] == [3] * 8
    request, reply = samples[2].turns[1]
    assert [message["content"] for message in request.messages] == ["item 2", "item 2", "And now?"]
    assert (reply.text, reply.prompt_tokens) == ("item 2", 10)


def test_more_episodes_run_than_the_engine_has_slots() -> None:
    engine = Scripted(first_words, seconds=0.05)
    run(Echo(20), engine)
    assert 4 < engine.most_running <= 6


def test_items_with_one_id_are_refused() -> None:
    benchmark = Echo(2)
    with pytest.raises(ValueError, match="2 items of echo have the id 'item 0'"):
        evaluate(benchmark, Scripted(first_words), [benchmark.items()[0]] * 2)


class Breaks(Echo):
    """Environments that die: ``times`` by item number."""

    def __init__(self, times: dict[int, int], where: str = "open") -> None:
        super().__init__(4)
        self.times = dict(times)
        self.where = where
        self.closed = 0

    def open(self, item: Item) -> Any:
        talk, benchmark = super().open(item), self

        class Fragile(Talk):
            def take(self, reply: Reply) -> None:
                benchmark.break_down(item, "take")
                super().take(reply)

            def close(self) -> None:
                benchmark.closed += 1

        self.break_down(item, "open")
        talk.__class__ = Fragile
        return talk

    def break_down(self, item: Item, where: str) -> None:
        if where == self.where and self.times.get(item.data["n"], 0):
            self.times[item.data["n"]] -= 1
            raise EnvironmentDied("the simulator is gone")


@pytest.mark.parametrize("where", ["open", "take"])
def test_an_item_whose_environment_died_is_tried_again_once(where: str) -> None:
    benchmark = Breaks({0: 1, 1: 2, 2: 3}, where)
    samples = run(benchmark, Scripted(first_words))
    died = "environment: the simulator is gone"
    assert [sample.error for sample in samples] == [None, died, died, None]
    assert samples[0].scores == {"right": 1.0}
    assert samples[1].scores == {}
    assert benchmark.closed == (2 if where == "open" else 7)


def test_an_error_is_run_again_by_the_next_call(tmp_path: Path) -> None:
    benchmark, engine = Breaks({1: 2}), Scripted(first_words)
    path = tmp_path / "episodes.jsonl"
    assert run(benchmark, engine, episodes=Episodes(path))[1].error
    assert len(engine.asked) == 3
    samples = run(benchmark, engine, episodes=Episodes(path))
    assert [sample.error for sample in samples] == [None] * 4
    assert len(engine.asked) == 4


def test_what_was_run_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    first = run(Echo(5, 2), Scripted(first_words), episodes=Episodes(path))
    again = Scripted(first_words)
    assert [(s.item, s.turns, s.outcome, s.scores) for s in run(Echo(5, 2), again, episodes=Episodes(path))] == [
        (s.item, s.turns, s.outcome, s.scores) for s in first
    ]
    assert again.asked == []
    run(Echo(7, 2), again, episodes=Episodes(path))
    assert {request.messages[0]["content"] for request in again.asked} == {"item 5", "item 6"}


def test_an_item_with_other_data_is_run_again(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    benchmark = Echo(2)
    evaluate(benchmark, Scripted(first_words), benchmark.items(), episodes=Episodes(path))
    changed = [Item("item 0", "group 0", "case 0", {"n": 99}), benchmark.items()[1]]
    engine = Scripted(first_words)
    evaluate(benchmark, engine, changed, episodes=Episodes(path))
    assert len(engine.asked) == 1


def test_stored_episodes_are_scored_anew(tmp_path: Path) -> None:
    run(Echo(3), Scripted(first_words), episodes=Episodes(tmp_path / "e.jsonl"))

    class Stricter(Echo):
        def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
            return {"right": 0.25}

    samples = run(Stricter(3), Scripted(first_words), episodes=Episodes(tmp_path / "e.jsonl"))
    assert [sample.scores["right"] for sample in samples] == [0.25] * 3


def test_an_interrupted_evaluation_goes_on(tmp_path: Path) -> None:
    seen = itertools.count()

    def interrupt(_: Sample) -> None:
        if next(seen) == 3:
            raise KeyboardInterrupt

    path = tmp_path / "episodes.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(Echo(40), Scripted(first_words, 0.01), episodes=Episodes(path), on_sample=interrupt)
    stored = len(Episodes(path))
    assert 4 <= stored < 40
    engine = Scripted(first_words)
    assert len(run(Echo(40), engine, episodes=Episodes(path))) == 40
    assert len(engine.asked) == 40 - stored


@pytest.mark.parametrize("keep", [1, 40, -1])
def test_a_torn_line_is_no_episode(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "episodes.jsonl"
    run(Echo(3), Scripted(first_words), episodes=Episodes(path))
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join(lines[:2]) + b"\n" + lines[2][:keep])
    engine = Scripted(first_words)
    run(Echo(4), engine, episodes=Episodes(path))
    assert len(engine.asked) == 2
    assert len(Episodes(path)) == 4


def test_a_file_of_other_bytes_holds_no_episodes(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(b'\x00\xff\n[1]\n"x"\n{"id": 1}\n{}\n')
    assert len(Episodes(path)) == 0


def test_long_conversations_store_what_each_turn_adds() -> None:
    sample = run(Echo(1, 30), Scripted(first_words))[0]
    rows = turns_to_json(sample.turns)
    assert [row["kept"] for row in rows] == [0, *range(1, 58, 2)]
    assert [len(row["request"]["messages"]) for row in rows] == [1, *[2] * 29]
    assert turns_from_json(json.loads(json.dumps(rows))) == sample.turns


def test_turns_with_choices_and_tools_come_back() -> None:
    request = Request(({"role": "user", "content": "?"},), 5, ("\n",), ("A", "B"), ({"name": "f"},))
    turns = ((request, Reply("B", "choice", 3, 0, (-2.5, -0.5))),)
    assert turns_from_json(json.loads(json.dumps(turns_to_json(turns)))) == turns


def test_a_model_that_talks_on_is_scored_by_what_it_has_reached() -> None:
    """Were its item an error, it would be in no mean, and talking on would pay."""
    long = Echo(2, 50)
    turns = run(long, Scripted(first_words), limits=Limits(turns=5))
    assert [(sample.error, sample.outcome["ended_by"]) for sample in turns] == [(None, "turns")] * 2
    assert [len(sample.turns) for sample in turns] == [5, 5]
    assert [sample.scores for sample in turns] == [{"right": 1.0}] * 2
    tokens = run(long, Scripted(lambda _: "word " * 40), limits=Limits(new_tokens=100))
    assert [(sample.error, sample.outcome["ended_by"]) for sample in tokens] == [(None, "tokens")] * 2
    assert [len(sample.turns) for sample in tokens] == [3, 3]
    assert [sample.scores for sample in tokens] == [{"right": 0.0}] * 2
    metrics = summarise([*turns, *tokens], long.metrics)
    assert (metrics["metrics"]["right"]["value"], metrics["metrics"]["right"]["n"]) == (0.5, 4)
    assert metrics["errors"]["items"] == 0


def test_an_episode_that_ends_at_the_limit_was_not_ended_by_it() -> None:
    samples = run(Echo(2, 5), Scripted(lambda _: "word " * 40), limits=Limits(turns=5, new_tokens=199))
    assert [sample.outcome for sample in samples] == [{"replies": [("word " * 40)] * 5}] * 2


def test_how_an_episode_ended_is_stored_and_a_higher_limit_runs_it_on(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path, Model("rambles", "0123456789ab"))
    benchmark, engine = Echo(2, 50), Scripted(first_words)
    path = folder.episodes_path(engine.identity, benchmark)
    for _ in range(2):
        samples = run(benchmark, engine, limits=Limits(turns=5), episodes=Episodes(path))
        folder.write(benchmark, engine.identity, samples, None, 2)
        outcomes = pq.read_table(folder.place / "echo-samples.parquet")["outcome"].to_pylist()
        assert [json.loads(outcome)["ended_by"] for outcome in outcomes] == ["turns", "turns"]
        assert len(engine.asked) == 10
    more = run(benchmark, engine, limits=Limits(turns=60), episodes=Episodes(path))
    assert [(len(sample.turns), "ended_by" in sample.outcome) for sample in more] == [(50, False)] * 2
    assert run(benchmark, engine, limits=Limits(turns=5), episodes=Episodes(path)) == more


@pytest.mark.parametrize("reason", ["turns: more than 300 requests", "tokens: more than 200,000 in its replies"])
def test_what_an_earlier_version_stored_as_an_error_is_run_again(tmp_path: Path, reason: str) -> None:
    episodes, benchmark, engine = Episodes(tmp_path / "e.jsonl"), Echo(1), Scripted(first_words)
    episodes.add(Sample(benchmark.items()[0], (), {}, {}, 1.0, reason))
    [sample] = run(benchmark, engine, episodes=Episodes(tmp_path / "e.jsonl"))
    assert (sample.error, sample.scores, len(engine.asked)) == (None, {"right": 1.0}, 1)


def test_limits_that_leave_nothing_to_score_are_refused() -> None:
    for limits in ({"turns": 0}, {"new_tokens": -1}):
        with pytest.raises(ValueError, match="allow at least one turn"):
            Limits(**limits)


def test_an_item_beyond_its_time_is_an_error_and_not_a_zero() -> None:
    began = time.monotonic()
    slow = run(Echo(2, 50), Scripted(first_words, seconds=30), limits=Limits(seconds=0.2))
    assert [sample.error for sample in slow] == ["time: more than 0.2 seconds"] * 2
    assert [(sample.scores, sample.outcome) for sample in slow] == [({}, {})] * 2
    assert time.monotonic() - began < 10


def test_an_environment_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_GRACE_SECONDS", 0.2)
    let_go = threading.Event()

    class Hangs(Echo):
        def open(self, item: Item) -> Any:
            if item.data["n"] == 1:
                let_go.wait(60)
            return super().open(item)

    try:
        samples = run(Hangs(5), Scripted(first_words), limits=Limits(seconds=0.2), concurrency=1)
    finally:
        let_go.set()
    assert [sample.error for sample in samples] == [
        None,
        "time: more than 0.2 seconds, and its environment hangs",
        None,
        None,
        None,
    ]


def test_an_environment_that_hangs_is_seen_while_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_GRACE_SECONDS", 0.2)
    monkeypatch.setattr(runner, "_POLL_SECONDS", 0.2)
    let_go = threading.Event()
    told: list[str | None] = []

    class Hangs(Echo):
        def open(self, item: Item) -> Any:
            if item.data["n"] == 0:
                let_go.wait(60)
            return super().open(item)

    try:
        run(
            Hangs(60),
            Scripted(first_words, seconds=0.05),
            limits=Limits(seconds=0.3),
            concurrency=2,
            on_sample=lambda sample: told.append(sample.error),
        )
    finally:
        let_go.set()
    hangs = "time: more than 0.3 seconds, and its environment hangs"
    assert told.count(hangs) == 1
    # 0.8 s after its start, when some 16 others were done; of the 59, three seconds' work for one thread.
    assert told.index(hangs) < 40


def test_a_fault_of_the_benchmark_ends_the_evaluation_and_names_the_item() -> None:
    class Wrong(Echo):
        def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
            raise KeyError("gold")

    with pytest.raises(KeyError) as raised:
        run(Wrong(3), Scripted(first_words))
    assert raised.value.__notes__[0].endswith("of echo")


def test_a_fault_of_the_engine_ends_the_evaluation() -> None:
    def refuse(_: Request) -> str:
        raise ValueError("There is no model 'x' at this endpoint.")

    with pytest.raises(ValueError, match="no model 'x'"):
        run(Echo(3), Scripted(refuse))


def test_a_request_that_is_not_answered_is_its_items_error(tmp_path: Path) -> None:
    """No score of zero, and not for ever: the next call asks again."""
    refused = {"item 1": 0, "item 4": 2}

    def say(request: Request) -> str:
        name = first_words(request)
        if sum(message["role"] == "assistant" for message in request.messages) == refused.get(name):
            raise Unanswered("the endpoint answers 400: filtered")
        return name

    path, sentence = tmp_path / "e.jsonl", "engine: the endpoint answers 400: filtered"
    samples = run(Echo(6, 3), Scripted(say), episodes=Episodes(path))
    assert [sample.error for sample in samples] == [None, sentence, None, None, sentence, None]
    assert [len(sample.turns) for sample in samples] == [3, 0, 3, 3, 2, 3]
    assert [sample.scores for sample in samples if sample.error] == [{}, {}]
    assert summarise(samples, Echo.metrics)["errors"] == {"items": 2, "reasons": {sentence: 2}}
    again = Scripted(first_words)
    assert [sample.error for sample in run(Echo(6, 3), again, episodes=Episodes(path))] == [None] * 6
    assert {first_words(request) for request in again.asked} == {"item 1", "item 4"}


def test_an_engine_that_answers_nothing_ends_the_evaluation() -> None:
    def refuse(_: Request) -> str:
        raise Unanswered("the endpoint answers 400: no tools here")

    engine = Scripted(refuse)
    with pytest.raises(ValueError, match=r"^10 items of echo in a row .*no tools here\. What was answered .* is kept"):
        run(Echo(200), engine)
    assert len(engine.asked) < 40


def test_items_that_are_refused_each_time_do_not_end_the_next_evaluation(tmp_path: Path) -> None:
    """Two of three are refused, never ten in a row; the next call has nothing else to ask."""

    def say(request: Request) -> str:
        if int(first_words(request).removeprefix("item ")) % 3:
            raise Unanswered("filtered")
        return first_words(request)

    for _ in range(2):
        samples = run(Echo(36), Scripted(say), episodes=Episodes(tmp_path / "e.jsonl"), concurrency=1)
        assert sum(sample.error == "engine: filtered" for sample in samples) == 24


def test_what_is_answered_as_an_error_ends_the_evaluation_is_kept(tmp_path: Path) -> None:
    """All 30 are asked at once; one is an error of the settings, the others are answered at the same moment."""
    all_asked = threading.Barrier(30)

    def say(request: Request) -> str:
        all_asked.wait(60)
        if first_words(request) == "item 5":
            raise ValueError("There is no model 'x' at this endpoint.")
        time.sleep(0.2)
        return first_words(request)

    path = tmp_path / "e.jsonl"
    with pytest.raises(ValueError, match="no model 'x'"):
        run(Echo(30), Scripted(say), episodes=Episodes(path), concurrency=30)
    assert len(Episodes(path)) == 29


GARBAGE = {
    "empty": "",
    "long": "x" * 100_000,
    "half a surrogate pair": "a\ud83db",
    "bytes": "".join(map(chr, range(256))),
    "braces": "{[" * 20_000,
    "call": 'Action: x\nAction Input: {"a": ' * 500,
}


@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_stored_and_scored(tmp_path: Path, text: str, small_toolbox: ToolboxBenchmark) -> None:
    benchmark = small_toolbox
    items = benchmark.items()[:8]
    folder = ResultFolder(tmp_path, Model("garbage", "0123456789ab"))
    engine = Scripted(lambda _: Reply(text, "length", 10, 72))
    episodes = Episodes(folder.episodes_path(engine.identity, benchmark))
    samples = evaluate(benchmark, engine, items, episodes=episodes)
    assert all(sample.error is None and sample.scores for sample in samples)
    summary = folder.write(benchmark, engine.identity, samples, None, len(samples))
    assert 0 <= summary["metrics"]["score"]["value"] <= 1
    again = evaluate(benchmark, engine, items, episodes=Episodes(episodes.path))
    assert [sample.scores for sample in again] == [sample.scores for sample in samples]
    replies = pq.read_table(folder.place / "toolbox-samples.parquet")["turns"].to_pylist()
    assert replies[0][0]["reply"] == text.replace("\ud83d", "?")


def test_results_are_the_same_bytes_again(tmp_path: Path) -> None:
    benchmark, folder = Echo(6, 2), ResultFolder(tmp_path, Model("some/model one", "abc@0123456789"))
    engine = Scripted(lambda request: first_words(request).replace("3", "4"))
    path = folder.episodes_path(engine.identity, benchmark)
    for _ in range(2):
        samples = run(benchmark, engine, episodes=Episodes(path))
        folder.write(benchmark, engine.identity, samples, 6, 10)
        written = {file.name: file.read_bytes() for file in folder.place.glob("echo*")}
        if _ == 0:
            first = written
    assert folder.place == tmp_path / "evaluation" / "model-one-012345"
    assert sorted(first) == ["echo-samples.parquet", "echo.json"]
    assert json.loads(first["echo.json"])["metrics"]["right"]["value"] == pytest.approx(5 / 6)
    assert json.loads(first["echo.json"])["asked"] == {"items": 6, "of": 10, "limit": 6}
    assert written == first


def test_what_changes_a_reply_changes_the_file(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path, Model("m", "1"))
    paths = {
        folder.episodes_path(engine, benchmark)
        for engine in ({"max_length": 1}, {"max_length": 2})
        for benchmark in (Echo(1), Echo(1, prompt="react"))
    }
    assert len(paths) == 4


def test_an_engine_is_opened_when_it_is_needed(tmp_path: Path) -> None:
    class Plan:
        identity: Mapping[str, Any] = {"engine": "scripted"}
        opened = 0

        def open(self) -> Scripted:
            self.opened += 1
            return Scripted(first_words)

    plan = Plan()
    for _ in range(2):
        engine = LazyEngine(plan)
        run(Echo(3), engine, episodes=Episodes(tmp_path / "e.jsonl"))
        engine.close()
    assert plan.opened == 1


def oracle(request: Request, gold: Mapping[str, EvaluationItem]) -> str:
    """Replies made of the gold answers, given the whole conversation."""
    question = next(message["content"] for message in request.messages if message["role"] == "user")
    item = gold[question]
    if item.case == "tool":
        turn = sum(message["role"] == "assistant" for message in request.messages)
        if turn < len(item.gold_calls):
            call = item.gold_calls[turn]
            return f"Thought: I look.\nAction: {call.name}\nAction Input: {call.arguments}"
        return "Thought: I know.\nFinal Answer: " + "; ".join(each.partition("|")[0] for each in item.answer)
    if item.case.startswith("chat"):
        return " ".join(each.partition("|")[0] for each in item.answer)
    return "Sorry, none of my tools can do that; what do you mean?"


AGENTS: dict[str, Callable[[Request], str]] = {
    "always calls": lambda _: 'Thought: x\nAction: weather\nAction Input: {"city": "Oslo"}',
    "never calls": lambda _: "It is 42.",
    "refuses": lambda _: "Sorry, I can't do that.",
}


@pytest.fixture(scope="module")
def small_toolbox() -> ToolboxBenchmark:
    """Drawing the held-out items takes a second."""
    return ToolboxBenchmark(Toolbox(num_tool=12, num_each_other=6))


@pytest.mark.parametrize("agent", ["oracle", *AGENTS])
def test_the_toolbox_scores_as_the_search_does(agent: str, small_toolbox: ToolboxBenchmark) -> None:
    items = [item for item, _ in small_toolbox._items.values()]
    gold = {item.query: item for item in items}
    say: Callable[[Request], str] = AGENTS[agent] if agent in AGENTS else functools.partial(oracle, gold=gold)

    def generate(conversations: Sequence[list[dict[str, str]]], max_new_tokens: int) -> list[str]:
        return [say(Request(tuple(each), max_new_tokens)) for each in conversations]

    expected = toolbox.run(items, generate)
    samples = {sample.item.id: sample for sample in run(small_toolbox, Scripted(say))}
    assert len(samples) == len(expected) == 42
    for scored in expected:
        sample = samples[scored.item.id]
        assert {name: sample.scores[name] for name in scored.scores} == scored.scores
        assert tuple(reply.text for _, reply in sample.turns) == scored.replies
    metrics = summarise(list(samples.values()), small_toolbox.metrics)["metrics"]
    searched = toolbox.summarise(expected)["metrics"]
    for name in ("score", "hscore"):
        assert metrics[name]["value"] == pytest.approx(searched[name]["value"])
    if agent == "oracle":
        assert metrics["score"]["value"] == 1.0
    else:
        assert metrics["score"]["value"] <= 0.5


def test_any_prefix_of_the_toolbox_holds_all_cases() -> None:
    items = ToolboxBenchmark(Toolbox()).items()
    assert len({item.id for item in items}) == len(items) == 336
    counts = [sum(item.case == "tool" for item in items[:n]) / n for n in (56, 112, 336)]
    assert counts == pytest.approx([2 / 7] * 3, abs=0.1)


def test_one_request_is_an_episode() -> None:
    episode = OneRequest(Request(({"role": "user", "content": "?"},), choices=("A", "B")))
    assert episode.ask() is episode.request
    episode.take(Reply("B", "choice", logprobs=(-2.0, -1.0)))
    assert episode.ask() is None
    assert episode.outcome() == {"reply": "B", "finish": "choice", "logprobs": [-2.0, -1.0]}


@pytest.mark.parametrize(("free_gib", "at_once"), [(64, 6), (9, 2), (1, 1)])
def test_heavy_environments_run_as_many_as_memory_holds(
    free_gib: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of what is free is theirs, and one always runs."""

    class HeavyEcho(Echo):
        environment_gib = 2.0
        lock = threading.Lock()
        running = most_running = 0

        def open(self, item: Item) -> Any:
            with self.lock:
                self.running += 1
                self.most_running = max(self.most_running, self.running)
            talk, close = super().open(item), self.leave
            talk.close = close
            return talk

        def leave(self) -> None:
            with self.lock:
                self.running -= 1

    monkeypatch.setattr(runner, "free_memory", lambda: int(free_gib * 2**30))
    benchmark = HeavyEcho(num_items=12)
    engine = Scripted(lambda request: request.messages[0]["content"], seconds=0.05)
    assert len(evaluate(benchmark, engine, benchmark.items())) == 12
    assert benchmark.most_running == at_once


def test_free_memory_heeds_a_containers_limit(tmp_path: Path) -> None:
    machine = free_memory(tmp_path)  # no such files: no container
    assert machine > 2**28
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) > machine / 2
    (tmp_path / "memory.max").write_text(f"{2**20}\n")
    (tmp_path / "memory.current").write_text(f"{2**19}\n")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 1024\n")
    assert free_memory(tmp_path) == 2**19 + 1024
    (tmp_path / "memory.max").write_text("1\n")
    assert free_memory(tmp_path) == 0
