"""Every benchmark can be cut off after any turn: what came of it until then is scored."""

from __future__ import annotations

import functools
import math
import stat
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.evaluate import bfcl_package, sandbox
from agentflan_ray.evaluate.benchmark import ENDED_BY, Benchmark, Item, Metric, Reply, Request, Settings
from agentflan_ray.evaluate.benchmarks.agent_h import AgentH, AgentHProtocol
from agentflan_ray.evaluate.benchmarks.agent_h_queries import Query
from agentflan_ray.evaluate.benchmarks.agentbench_db import AgentBenchDb, DbProtocol
from agentflan_ray.evaluate.benchmarks.agentbench_kg import KnowledgeGraphQuestions
from agentflan_ray.evaluate.benchmarks.agentbench_os import os_small
from agentflan_ray.evaluate.benchmarks.alfworld import Alfworld
from agentflan_ray.evaluate.benchmarks.bfcl import Bfcl, BfclProtocol
from agentflan_ray.evaluate.benchmarks.gsm8k import Gsm8k, GsmProtocol
from agentflan_ray.evaluate.benchmarks.hotpotqa import HotpotProtocol, HotpotQA
from agentflan_ray.evaluate.benchmarks.humaneval import HumanEval, HumanEvalProtocol
from agentflan_ray.evaluate.benchmarks.ifeval import Ifeval, IfevalProtocol
from agentflan_ray.evaluate.benchmarks.metatool import MetaTool, MetaToolProtocol
from agentflan_ray.evaluate.benchmarks.mind2web import Mind2Web
from agentflan_ray.evaluate.benchmarks.mmlu import Mmlu, MmluProtocol
from agentflan_ray.evaluate.benchmarks.sciworld import Sciworld, SciworldProtocol
from agentflan_ray.evaluate.benchmarks.teval import Teval
from agentflan_ray.evaluate.benchmarks.toolbench_choice import ChoiceProtocol, ToolBenchChoice
from agentflan_ray.evaluate.benchmarks.toolbox import Toolbox, ToolboxBenchmark
from agentflan_ray.evaluate.benchmarks.web import WebTasks
from agentflan_ray.evaluate.benchmarks.webshop import Shopping, shopping
from agentflan_ray.evaluate.benchmarks.when2call import When2Call, When2CallProtocol
from agentflan_ray.evaluate.cache import Episodes
from agentflan_ray.evaluate.databases import SqliteDatabase
from agentflan_ray.evaluate.embedding import CharacterNgrams
from agentflan_ray.evaluate.passages import ClosedPool
from agentflan_ray.evaluate.registry import BENCHMARKS
from agentflan_ray.evaluate.runner import Limits, evaluate
from agentflan_ray.evaluate.shop import Seen
from agentflan_ray.evaluate.simulators import SimulatorPool
from tests.unit.test_evaluate_alfworld import GRAMMAR, PROBLEM
from tests.unit.test_evaluate_humaneval import PROBLEM as HUMANEVAL_PROBLEM
from tests.unit.test_evaluate_mind2web import PAGE
from tests.unit.test_evaluate_web import WORKER
from tests.unit.test_sciworld import EXAMPLE, Pretended


class Babbler:
    """An engine that says one thing for ever, up to the length of a reply."""

    num_slots = 2

    def __init__(self, text: str, finish: Any = "length") -> None:
        self.identity = {"engine": "babbler"}
        self.text, self.finish = text, finish
        self.asked = 0

    def submit(self, request: Request) -> Future[Reply]:
        self.asked += 1
        future: Future[Reply] = Future()
        if request.choices and self.finish != "context":
            weights = tuple(-1.0 - place for place in range(len(request.choices)))
            future.set_result(Reply(request.choices[0], "choice", 10, 0, weights))
        else:
            future.set_result(Reply(self.text, self.finish, 10, 200))
        return future

    def close(self) -> None: ...


class ClosedShop:
    """A shop in which nothing happens."""

    def enter(self, goal: int) -> Seen:
        return Seen(f"Buy goal {goal}.", True, ())

    def act(self, kind: str, argument: str) -> Seen:
        return Seen(f"{kind} {argument}", True, ())

    def leave(self) -> None: ...


class NoGraph:
    """A graph without a fact."""

    def select(self, query: str) -> list[dict[str, str]]:
        return []


def one(case: str = "own", **data: Any) -> tuple[Item, ...]:
    return (Item(f"{case}/one", "one", case, data),)


def agent_h(protocol: AgentHProtocol) -> AgentH:
    return AgentH(protocol, [Query("own", "1", "1", "chat", ({"role": "user", "content": "Hello"},))])


def agentbench_db() -> AgentBenchDb:
    table = {"name": "mills", "columns": ["name", "built in"], "rows": [["Upper", "1801"], ["Lower", "1755"]]}
    data = {"question": "Oldest?", "hint": "", "table": table, "gold": ["Lower"], "gold_hash": "0"}
    return AgentBenchDb(DbProtocol(), (*one("SELECT", **data), *one("INSERT", **data)), SqliteDatabase, "sqlite", "own")


def alfworld() -> Alfworld:
    return Alfworld(one("pick_heat_then_place_in_recep", pddl_problem=PROBLEM, grammar=GRAMMAR))


def bfcl() -> Bfcl:
    if not bfcl_package.is_installed():
        pytest.skip("the package bfcl-eval is not installed")

    class OneItem(Bfcl):
        def items(self) -> tuple[Item, ...]:
            function = {"name": "f", "description": "F", "parameters": {"type": "dict", "properties": {}}}
            messages = [{"role": "user", "content": "Hello"}]
            return (Item("irrelevance_0", "f", "irrelevance", {"messages": messages, "function": [function]}),)

    return OneItem(BfclProtocol(), "own")


def hotpotqa() -> HotpotQA:
    pytest.importorskip("bm25s", reason="needs the package bm25s")
    item = one("easy", question="Which river?", answer="the Lune", type="bridge")
    return HotpotQA(HotpotProtocol(), item, ClosedPool([("Arbent", ["Arbent is a town on the Lune."])]), "own")


def humaneval() -> HumanEval:
    if missing := sandbox.available():
        pytest.skip(missing.what)
    return HumanEval(HumanEvalProtocol(seconds=2.0, memory_mb=256), one("humaneval", **HUMANEVAL_PROBLEM))


def mind2web() -> Mind2Web:
    candidates = [str(number) for number in [4, 7, *range(20, 28)]]
    data: dict[str, Any] = {"task": "See trains", "previous": [], "html": PAGE, "candidates": candidates}
    return Mind2Web(one(**data, gold=["7"], operation="CLICK", value=""), "words shared with the task")


def small_os() -> Benchmark:
    if missing := sandbox.available():
        pytest.skip(missing.what)
    return os_small(Settings())


@functools.cache
def toolbox() -> ToolboxBenchmark:
    """Drawing the held-out items takes seconds."""
    return ToolboxBenchmark(Toolbox(num_tool=4, num_each_other=2))


def own_shopping() -> Shopping:
    pytest.importorskip("bm25s", reason="the shop's search needs bm25s")
    return shopping(Settings())


def teval(name: str) -> Teval:
    messages = [{"role": "user", "content": "What now?"}]
    items = one("reason_str", messages=messages, gold={"thought": "look it up", "name": "n", "args": "{}"})
    return Teval(name, "own", CharacterNgrams(), items)


def toolbench_choice() -> ToolBenchChoice:
    api = {
        "tool_name": "Sky", "api_name": "now", "api_description": "The sky", "required_parameters": [],
        "optional_parameters": [],
    }  # fmt: skip
    record = {"api_list": [api], "query": "Sky?", "relevant APIs": [["Sky", "now"]], "query_id": 1}
    return ToolBenchChoice(ChoiceProtocol("react"), [("G1_tool", record)], "own")


def web(folder: Path, name: str) -> WebTasks:
    python = folder / "python"
    python.write_text(WORKER)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return WebTasks(name, "pages of our own", one(task="own.go", seed=0), str(python), 4, {})


def when2call(weigh: bool) -> When2Call:
    record = {
        "uuid": "1", "source_id": "own", "question": "Weather?", "correct_answer": "tool_call", "tools": [],
        "answers": {name: name for name in ("direct", "tool_call", "request_for_info", "cannot_answer")},
    }  # fmt: skip
    return When2Call(When2CallProtocol(weigh), [record], "own")


CORRECT = (Metric("accuracy"),)
BUILD: dict[str, Callable[[Path], Benchmark]] = {
    "hotpotqa": lambda _: hotpotqa(),
    "teval": lambda _: teval("teval"),
    "teval-open": lambda _: teval("teval-open"),
    "mmlu": lambda _: Mmlu(MmluProtocol(2), one("maps", text="Which?\nAnswer:", answer="C"), {"maps": ["Q A", "R B"]}),
    "gsm8k": lambda _: Gsm8k(GsmProtocol(), one(question="1 + 1?", answer="2"), (), "own"),
    "humaneval": lambda _: humaneval(),
    "ifeval": lambda _: Ifeval(
        IfevalProtocol(), one(prompt="No commas.", instructions=[["punctuation:no_comma", {}]]), "own"
    ),
    "agent-h": lambda _: agent_h(AgentHProtocol("mixed")),
    "agent-h-1845": lambda _: agent_h(AgentHProtocol("mixed", 1845)),
    "when2call": lambda _: when2call(weigh=False),
    "when2call-mcq": lambda _: when2call(weigh=True),
    "metatool-need": lambda _: MetaTool(MetaToolProtocol("need"), one(prompt="Needed?", answer="yes"), "own", CORRECT),
    "metatool-select": lambda _: MetaTool(
        MetaToolProtocol("select"), one(prompt="Which?", answer="None", listed=["a", "b"]), "own", CORRECT
    ),
    "bfcl": lambda _: bfcl(),
    "toolbench-choice": lambda _: toolbench_choice(),
    "toolbox": lambda _: toolbox(),
    "agentbench-kg": lambda _: KnowledgeGraphQuestions(
        one(question="Which?", entities={"Arbent": "m.arbent"}, answers=["m.tay"]), NoGraph(), "own"
    ),
    "alfworld": lambda _: alfworld(),
    "mind2web": lambda _: mind2web(),
    "webshop": lambda _: Shopping("webshop", "WebShop", one(goal=0), ClosedShop),
    "shopping": lambda _: own_shopping(),
    "webarena": lambda folder: web(folder, "webarena"),
    "miniwob": lambda folder: web(folder, "miniwob"),
    "agentbench-db": lambda _: agentbench_db(),
    "agentbench-os": lambda _: small_os(),
    "os-small": lambda _: small_os(),
    "sciworld": lambda _: Sciworld(
        SciworldProtocol(), one("boil", task="boil", variation=1), {"boil": EXAMPLE}, SimulatorPool(Pretended)
    ),
}
"""Each benchmark over an item of its own, without data or servers."""

BABBLE = "la la la\n" * 50
CALL = "Thought: I look.\nAction: weather\nAction Input: {}"
GOES_ON: dict[str, str] = {
    **dict.fromkeys(("hotpotqa", "agentbench-kg", "alfworld", "mind2web", "webshop", "shopping", "sciworld"), BABBLE),
    **dict.fromkeys(("webarena", "miniwob"), BABBLE),
    "agentbench-db": f"{BABBLE}Action: Operation\n```sql\nSELECT 1\n```",
    **dict.fromkeys(("agentbench-os", "os-small"), f"{BABBLE}Act: bash\n```bash\necho la\n```"),
    "toolbox": CALL,
}
"""What a benchmark of several turns takes and asks again."""


def ask_all(benchmark: Benchmark, engine: Babbler, path: Path, limits: Limits) -> list[Any]:
    """Its first items, stored and found again."""
    items = benchmark.items()[:3]
    samples = evaluate(benchmark, engine, items, limits=limits, episodes=Episodes(path))
    asked = engine.asked
    again = evaluate(benchmark, engine, items, limits=limits, episodes=Episodes(path))
    assert engine.asked == asked
    assert [(each.scores, each.outcome) for each in again] == [(each.scores, each.outcome) for each in samples]
    for sample in samples:
        assert sample.error is None
        assert sample.scores
        assert all(math.isfinite(value) for value in sample.scores.values())
    return samples


def test_every_benchmark_is_built_here() -> None:
    assert BUILD.keys() == BENCHMARKS.keys()


@pytest.mark.parametrize("name", BUILD)
def test_a_model_that_babbles_to_the_limit_is_scored(name: str, tmp_path: Path) -> None:
    benchmark = BUILD[name](tmp_path)
    samples = ask_all(benchmark, Babbler(GOES_ON.get(name, BABBLE)), tmp_path / "e.jsonl", Limits(turns=1))
    assert [len(sample.turns) for sample in samples] == [1] * len(samples)
    ended = {sample.outcome.get(ENDED_BY) for sample in samples}
    # Items of the toolbox that have no tools, and those that ask once, end of themselves.
    assert ended == ({"turns", None} if name == "toolbox" else {"turns"} if name in GOES_ON else {None})


@pytest.mark.parametrize("name", GOES_ON)
def test_a_model_that_babbles_beyond_its_tokens_is_scored(name: str, tmp_path: Path) -> None:
    benchmark = BUILD[name](tmp_path)
    samples = ask_all(benchmark, Babbler(GOES_ON[name]), tmp_path / "e.jsonl", Limits(new_tokens=199))
    ended = [sample for sample in samples if ENDED_BY in sample.outcome]
    assert ended
    assert {(sample.outcome[ENDED_BY], len(sample.turns)) for sample in ended} == {("tokens", 1)}


@pytest.mark.parametrize("name", BUILD)
def test_a_prompt_that_does_not_fit_is_scored_within_the_limit(name: str, tmp_path: Path) -> None:
    ask_all(BUILD[name](tmp_path), Babbler("", "context"), tmp_path / "e.jsonl", Limits(turns=1))
