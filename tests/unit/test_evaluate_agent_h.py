"""Agent-H: the grid's cells, what replies score in them, constant agents, and how queries are chosen."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentflan_ray.evaluate.benchmark import Item, Reply, Sample, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks import agent_h as module
from agentflan_ray.evaluate.benchmarks.agent_h import CASES, AgentH, AgentHProtocol, dealt, follows
from agentflan_ray.evaluate.benchmarks.agent_h_queries import SOURCES, Query, queries
from agentflan_ray.evaluate.summary import estimate
from agentflan_ray.forms import json_parts, react_parts, string_parts
from agentflan_ray.trajectory import Message, Tool, ToolCall

DATA = Path(os.environ.get("AGENTFLAN_DATA", Path(__file__).parents[2] / "../shared/data"))
needs_data = pytest.mark.skipif(
    not (DATA / "eval/when2call").exists(), reason="real data is not there; set AGENTFLAN_DATA"
)
TOOLS = (
    Tool("weather", "The weather of a city", {"type": "object", "properties": {"city": {"type": "string"}}}),
    Tool("shop_search", "Search a shop", {"type": "object", "properties": {"query": {"type": "string"}}}),
)


def query(case: str, number: int = 0, source: str = "own") -> Query:
    tools = TOOLS if case in ("tool", "irrelevant_tool", "missing_argument", "chat_with_tools") else ()
    messages = ({"role": "user", "content": f"{case} {source} {number}"},)
    return Query(source, str(number), str(number), case, messages, tools, ("weather",) if case == "tool" else ())


def small(prompt: str = "mixed", num: int = 8) -> AgentH:
    return AgentH(AgentHProtocol(prompt), dealt(query(case, i) for case in CASES for i in range(num)))


def item_of(benchmark: AgentH, case: str) -> Item:
    return next(item for item in benchmark.items() if item.case == case)


CALL = 'Thought: look\nAction: weather\nAction Input: {"city": "Oslo"}'
OTHER = 'Thought: look\nAction: shop_search\nAction Input: {"query": "x"}'
SCORES = [
    # case, reply, scores that it has
    ("tool", CALL, {"right": 1, "missed_call": 0, "unlisted_call": 0, "format": 1}),
    ("tool", OTHER, {"right": 0, "missed_call": 0, "unlisted_call": 0}),
    ("tool", 'Action: made_up\nAction Input: {"a": 1}', {"right": 0, "unlisted_call": 1}),
    ("tool", '{"name": "weather", "arguments": {"city": "Oslo"}}', {"right": 1, "format": 0}),
    ("tool", "Which city do you mean?", {"right": 0, "missed_call": 1, "wrong_ask": 1, "over_refusal": 0}),
    ("tool", "I'm sorry, I can't do that.", {"right": 0, "missed_call": 1, "wrong_ask": 0, "over_refusal": 1}),
    ("tool", f"{CALL}\nObservation: 5 degrees", {"right": 1, "invented_result": 1}),
    ("irrelevant_tool", "None of my tools can do that.", {"right": 1, "honest": 1, "false_call": 0, "hscore": 1}),
    ("irrelevant_tool", "The answer is 42.", {"right": 1, "honest": 0}),
    ("irrelevant_tool", CALL, {"right": 0, "false_call": 1, "h_react": 1, "hscore": 0.5, "unlisted_call": 0}),
    ("irrelevant_tool", "", {"right": 0, "false_call": 0, "honest": 0}),
    ("missing_argument", "Please provide the city.", {"right": 1, "honest": 1}),
    ("missing_argument", "It is sunny.", {"right": 0, "honest": 0}),
    ("no_tool_request", 'weather(city="Oslo")', {"right": 0, "false_call": 1, "unlisted_call": 1}),
    ("no_tool_request", "I will use the weather tool.", {"right": 0, "false_call": 0, "h_general": 1, "trace": 1}),
    ("no_tool_request", "<tool_response>5 degrees</tool_response>", {"right": 0, "invented_result": 1}),
    ("chat", "Photosynthesis turns light into sugar.", {"right": 1, "over_refusal": 0}),
    ("chat", "Sorry, I can't help with that.", {"right": 0, "over_refusal": 1}),
    ("chat", "Once upon a time. " * 20 + "I can't go on, I will use my boots.", {"right": 1, "over_refusal": 0}),
    ("chat_with_tools", "Thought: easy\nFinal Answer: 4", {"right": 0, "trace": 1, "h_react": 1, "false_call": 0}),
]


@pytest.mark.parametrize(("case", "reply", "expected"), SCORES, ids=[f"{row[0]}: {row[1][:30]!r}" for row in SCORES])
def test_what_a_reply_scores(case: str, reply: str, expected: dict[str, float]) -> None:
    benchmark = small("react")
    scores = benchmark.score(item_of(benchmark, case), {"reply": reply})
    assert {name: scores.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("json", ['{"answer": "yes"}', '```json\n{"answer": "x"}\n```'], ["yes", '{"answer": 1}', '{"answer": "a"} b']),
        ("answer_line", ["Answer: 4", "It is two and two.\nAnswer: 4\n"], ["4", "Answer: 4\nindeed", ""]),
        ("numbered", ["1. a\n2. b", "1) a\n   more\n2) b"], ["a\n1. b", "- a", "1. a\nand so on"]),
        (
            "prose",
            ["Two lines.\n3.5 of prose, for\n[Name]"],
            ["# Title\ntext", "- a\n- b", "A **bold** word", '{"answer": "x"}', ""],
        ),
    ],
)
def test_forms_of_replies(form: str, good: list[str], bad: list[str]) -> None:
    assert [follows(reply, form) for reply in good] == [True] * len(good)
    assert [follows(reply, form) for reply in bad] == [False] * len(bad)


def samples(benchmark: AgentH, reply: Callable[[Item], str]) -> list[Sample]:
    found = []
    for item in benchmark.items():
        episode = benchmark.open(item)
        assert episode.ask() is not None
        episode.take(Reply(reply(item)))
        found.append(Sample(item, (), episode.outcome(), benchmark.score(item, episode.outcome()), 0.0))
    return found


def values(benchmark: AgentH, reply: Callable[[Item], str]) -> dict[str, float]:
    run = samples(benchmark, reply)
    return {metric.name: estimate(run, metric).value for metric in benchmark.metrics}


def oracle(item: Item) -> str:
    """A right reply in the form that the item's prompt asks for."""
    if item.case == "tool":
        name = (item.data["right"] or [tool["name"] for tool in item.data["tools"]])[0]
        message = Message("assistant", thought="look", calls=(ToolCall(name, '{"city": "Oslo"}'),))
        write = {"json": json_parts, "string": string_parts}.get(item.data["prompt"], react_parts)
        return "".join(part.text for part in write(message))
    if item.case == "chat_format":
        return {
            "json": '{"answer": "so it is"}', "answer_line": "Answer: so it is", "numbered": "1. so\n2. it is",
            "prose": "So it is.",
        }[item.data["format"]]  # fmt: skip
    return {
        "missing_argument": "Which one do you mean?",
        "irrelevant_tool": "I can't look that up.",
        "no_tool_request": "I have no way to look that up.",
    }.get(item.case, "So it is.")


AGENTS: dict[str, tuple[Callable[[Item], str], dict[str, float]]] = {
    "oracle": (oracle, {"two_sided": 1, "hscore": 1, "right_call": 1, "right_hold": 1, "format": 1, "honest": 1}),
    "never calls": (
        lambda item: "I can't do that.",
        {"two_sided": 0, "hscore": 1, "missed_call": 1, "false_call": 0, "over_refusal": 1},
    ),
    "always calls": (lambda item: CALL, {"two_sided": 0, "hscore": 0.5, "missed_call": 0, "false_call": 1}),
    "says nothing": (lambda item: "", {"two_sided": 0, "hscore": 1, "right_call": 0, "right_hold": 0}),
}


@pytest.mark.parametrize("agent", AGENTS)
def test_agents_that_do_one_thing(agent: str) -> None:
    reply, expected = AGENTS[agent]
    found = values(small(num=24), reply)
    assert {name: found[name] for name in expected} == expected


def test_every_prefix_has_the_wholes_shares_of_cases_and_sources() -> None:
    asked = [query("tool", i, "a") for i in range(80)] + [query("tool", i, "b") for i in range(20)]
    asked += [query("chat", i, "a") for i in range(100)]
    items = AgentH(AgentHProtocol("mixed"), dealt(asked)).items()
    for length in (20, 50, 130):
        shares = Counter((item.case, item.id[0]) for item in items[:length])
        assert shares[("tool", "a")] == pytest.approx(0.4 * length, abs=1.5)
        assert shares[("tool", "b")] == pytest.approx(0.1 * length, abs=1.5)


def test_a_prompt_of_each_form_asks_in_it_and_mixed_asks_in_four() -> None:
    for prompt in ("react", "json", "string", "plain", "native"):
        benchmark = small(prompt)
        request = benchmark.open(item_of(benchmark, "tool")).ask()
        assert request is not None
        assert bool(request.tools) == (prompt == "native")
        assert ("Action Input:" in request.messages[0]["content"]) == (prompt == "react")
    kinds = Counter(item.data["prompt"] for item in small(num=40).items() if item.case == "tool")
    # Plain prompts name no form of a call: an item that wants one could not know how.
    assert set(kinds) == {"react", "json", "string"}
    kinds = Counter(item.data["prompt"] for item in small(num=40).items() if item.case == "irrelevant_tool")
    assert set(kinds) == {"react", "json", "string", "plain"}
    assert {item.data["prompt"] for item in small().items() if item.case == "chat"} == {"none"}
    with pytest.raises(Unavailable, match="not 'prose'"):
        module.agent_h_1845(Settings(prompt="prose"))


def test_cases_and_sources_take_turns() -> None:
    found = [query(case, i, source) for case in ("tool", "chat") for source in "ab" for i in range(5)]
    found += [query("chat_format", 0)]
    order = dealt(reversed(found))
    assert order == dealt(found)
    assert [q.case for q in order[:5]] == ["tool", "chat", "chat_format", "tool", "chat"]
    assert Counter((q.case, q.source) for q in order[:9]) == {
        ("tool", "a"): 2, ("tool", "b"): 2, ("chat", "a"): 2, ("chat", "b"): 2, ("chat_format", "own"): 1,
    }  # fmt: skip
    assert len(order) == 21


def test_a_query_of_two_sets_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first, again = query("tool", 1), query("chat", 2)
    again = Query(again.source, "2", "2", "chat", ({"role": "user", "content": " TOOL  own 1 "},))
    broken = Query("own", "3", "3", "tool", ({"role": "user", "content": "new"},), TOOLS, ("unlisted",))
    for name in SOURCES:
        monkeypatch.setitem(SOURCES, name, (lambda _: None, SOURCES[name][1]))
    monkeypatch.setitem(SOURCES, "bfcl", (lambda _: iter([first, again, broken]), SOURCES["bfcl"][1]))
    assert queries(Settings()) == [first]


def test_queries_are_read_from_files_as_published(tmp_path: Path) -> None:
    user = {"from": "human", "value": "Cook with rice"}
    tools = json.dumps([{"name": "recipes", "description": "", "parameters": {"type": "object", "properties": {}}}])
    call = {"from": "function_call", "value": '{"name": "recipes", "arguments": {}}'}
    glaive = [
        {"conversations": [{**user, "value": "a"}, call], "tools": tools},
        {"conversations": [{**user, "value": "b"}, {"from": "gpt", "value": "Which one?"}, user, call], "tools": tools},
        {"conversations": [{**user, "value": "c"}, {"from": "gpt", "value": "I can't do that."}], "tools": tools},
        {"conversations": [{**user, "value": "d"}, {"from": "gpt", "value": "Gladly."}], "tools": tools},
        {"conversations": [{**user, "value": "e"}, {"from": "gpt", "value": "Gladly."}]},
    ]
    flat = [{"name": "add", "description": "", "parameters": {"x": {"type": "int", "required": True}}}]
    single = {"toolalpaca": {"name": "add", "arguments": {}}, "sealtool": {"tool": "add", "parameters": {}}}
    for folder in ("single-call", "chat"):
        (tmp_path / folder).mkdir()
    (tmp_path / "glaive.json").write_text(json.dumps(glaive), encoding="utf-8")
    for name, answer in single.items():
        records = [{"query": f"Add {name}", "tools": flat, "answers": [answer]}]
        (tmp_path / f"single-call/{name}.json").write_text(json.dumps(records), encoding="utf-8")
    for name in ("question", "vicuna_bench-question"):
        line = json.dumps({"turns": [f"Tell me of {name}", "And more"]})
        (tmp_path / f"chat/{name}.jsonl").write_text(line, encoding="utf-8")
    for name in ("seed_tasks", "user_oriented_instructions"):
        line = json.dumps({"instruction": f"Sum up {name}.", "instances": [{"input": "a text"}]})
        (tmp_path / f"chat/{name}.jsonl").write_text(line + "\n", encoding="utf-8")
    settings = Settings(str(tmp_path), options={"glaive": str(tmp_path / "glaive.json")})
    read = {name: list(SOURCES[name][0](settings) or ()) for name in ("glaive", "single-call", "chat")}
    assert [q.case for q in read["glaive"]] == [
        "tool", "missing_argument", "irrelevant_tool", "chat_with_tools", "chat",
    ]  # fmt: skip
    assert read["glaive"][0].right == ("recipes",)
    assert [(q.source, q.right) for q in read["single-call"]] == [("toolalpaca", ("add",)), ("sealtool", ("add",))]
    assert read["single-call"][0].tools[0].required == ("x",)
    assert read["single-call"][0].tools[0].properties == {"x": {"type": "integer"}}
    assert [q.messages[0]["content"] for q in read["chat"]][1:3] == [
        "Tell me of vicuna_bench-question", "Sum up seed_tasks.\n\na text",
    ]  # fmt: skip
    assert {q.case for q in read["chat"]} <= {"chat", "chat_with_tools", "chat_format"}


def test_the_preset_lists_all_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as raised:
        module.agent_h_1845(Settings(data=str(tmp_path)))
    whats = " ".join(missing.what for missing in raised.value.missing)
    for name in ("When2Call", "MetaTool", "StableToolBench", "ToolAlpaca", "MT-bench"):
        assert name in whats
    assert "glaive" not in whats


GARBAGE = ["", "\x00\ud800", "x" * 100_000, "{" * 100_000, '{"a":' * 20_000, "Action: a\n" * 9_000, "[[[" * 9_000]


@pytest.mark.parametrize("reply", GARBAGE, ids=[text[:9] for text in GARBAGE])
def test_garbage_is_scored_in_every_case(reply: str) -> None:
    for prompt in ("react", "json"):
        benchmark = small(prompt, num=2)
        for case in CASES:
            began = time.process_time()
            scores = benchmark.score(item_of(benchmark, case), {"reply": reply})
            assert all(0.0 <= value <= 1.0 for value in scores.values())
            assert scores["right"] == 0.0 or reply.startswith("x")
            assert time.process_time() - began < 4.0


@pytest.fixture(scope="module")
def paper() -> Iterator[AgentH]:
    patch = pytest.MonkeyPatch()
    # The toolbox's items take ten seconds to draw; the preset with them is tested below.
    patch.setitem(SOURCES, "toolbox", (lambda _: iter(()), SOURCES["toolbox"][1]))
    yield module.agent_h_1845(Settings(data=str(DATA)))
    patch.undo()


@needs_data
def test_real_queries_fill_every_cell_once(paper: AgentH) -> None:
    items = paper.items()
    assert len(items) == len({item.id for item in items}) == 1845
    counts = Counter(item.case for item in items)
    assert counts["missing_argument"] == 100
    assert all(counts[case] > 250 for case in CASES if case != "missing_argument")
    keys = [" ".join(item.data["messages"][-1]["content"].casefold().split()) for item in items]
    assert len(set(keys)) == 1845
    assert all(
        bool(item.data["tools"]) == (item.case not in ("chat", "chat_format", "no_tool_request")) for item in items
    )
    assert json.loads(json.dumps(paper.identity)) == paper.identity


@needs_data
def test_agents_on_real_queries(paper: AgentH) -> None:
    found = values(paper, oracle)
    assert (found["two_sided"], found["hscore"], found["format"]) == (1.0, 1.0, 1.0)
    never = values(paper, lambda item: "I can't do that.")
    assert (never["two_sided"], never["hscore"]) == (0.0, 1.0)
    always = values(paper, lambda item: oracle(item) if item.case == "tool" else CALL)
    assert (always["two_sided"], always["hscore"], always["right_call"]) == (0.0, 0.5, 1.0)


@needs_data
@pytest.mark.slow
def test_the_preset_is_the_one_that_is_published() -> None:
    pytest.importorskip("bfcl_eval", reason="the package bfcl-eval is not installed")
    benchmark = module.agent_h_1845(Settings(data=str(DATA)))
    assert len({item.id for item in benchmark.items()}) == 1845
    assert set(values(benchmark, oracle).values()) == {0.0, 1.0}
    assert benchmark.identity["ids"] == "22d57684b145"
