"""When2Call, MetaTool and StableToolBench: gold, constant and garbage replies, on made-up records and on real data."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.evaluate.benchmark import Benchmark, Item, Reply, Sample, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks.metatool import chosen_tool, listed_tools, metatool_need, metatool_select
from agentflan_ray.evaluate.benchmarks.toolbench_choice import toolbench_choice
from agentflan_ray.evaluate.benchmarks.when2call import ANSWERS, when2call, when2call_mcq
from agentflan_ray.evaluate.registry import open_benchmark
from agentflan_ray.evaluate.summary import estimate
from agentflan_ray.randomness import stable_random

DATA = Path(os.environ.get("AGENTFLAN_DATA", Path(__file__).parents[2] / "../shared/data"))
FACTORIES: dict[str, Callable[[Settings], Benchmark]] = {
    "when2call": when2call,
    "when2call-mcq": when2call_mcq,
    "metatool-need": metatool_need,
    "metatool-select": metatool_select,
    "toolbench-choice": toolbench_choice,
}
GARBAGE = ["", " ", "\x00\ud800\ufffd", "x" * 100_000, "{" * 100_000, '{"a":' * 20_000, "yes no none " * 9_000]


def made_up(folder: Path) -> Path:
    """A few records of each set in its published layout, own words."""
    weather = {"name": "weather", "description": "Weather", "parameters": {"type": "dict", "properties": {}}}
    answers = {
        "direct": "It is sunny in Oslo.",
        "tool_call": json.dumps({"name": "weather", "arguments": {"city": "Oslo"}}),
        "request_for_info": "Which city do you mean?",
        "cannot_answer": "I'm sorry, I can't look that up.",
    }
    calls = [
        {
            "uuid": f"u{i}",
            "source_id": f"live_simple_{i}-{i // 2}-0",
            "question": "How is the weather?",
            "correct_answer": ANSWERS[1 + i % 3],
            "answers": answers,
            "tools": [] if i == 8 else [json.dumps(weather)],
        }
        for i in range(9)
    ]
    lists = "\n".join(f"{i + 1}. tool name: tool{i}, tool description: ['does {i}']" for i in range(10))
    select = [
        {"action_prompt": f"Choose.\n{lists}\nQuery {i}?", "tool": "Now", "query": f"Query {i}?", "index": i}
        for i in range(4)
    ]
    need = [
        {"thought_prompt": f"Needed? {i}", "label": "positive" if i % 2 else "negative", "query": str(i)}
        for i in range(6)
    ]
    api = {
        "tool_name": "Sky 1", "api_name": "/now", "api_description": "The sky now", "optional_parameters": [],
        "required_parameters": [{"name": "city", "type": "STRING", "description": "a city", "default": ""}],
    }  # fmt: skip
    query = {
        "api_list": [api, {**api, "api_name": "later"}, {**api, "api_name": "now"}],
        "query": "Sky over Oslo?",
        "relevant APIs": [["Sky 1", "/now"]],
        "query_id": 7,
    }
    files: dict[str, Any] = {
        "metatool/Task1.json": need,
        "metatool/Task2-Subtask3.json": select,
        "metatool/plugin_des.json": {"Now": "The time."},
        "metatool/big_tool_des.json": {},
        **{
            f"stabletoolbench/{group}.json": [query]
            for group in ("G1_instruction", "G1_category", "G1_tool", "G2_instruction", "G2_category", "G3_instruction")
        },
    }
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    (folder / "when2call").mkdir()
    with gzip.open(folder / "when2call/when2call_test_llm_judge.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, calls)))
    return folder


def samples(benchmark: Benchmark, reply: Callable[[Item], Reply]) -> list[Sample]:
    """Every item with this reply, through the episode."""
    found = []
    for item in benchmark.items():
        episode = benchmark.open(item)
        assert episode.ask() is not None
        episode.take(reply(item))
        assert episode.ask() is None
        outcome = episode.outcome()
        found.append(Sample(item, (), outcome, benchmark.score(item, outcome), 0.0))
    return found


def values(benchmark: Benchmark, reply: Callable[[Item], Reply]) -> dict[str, float]:
    run = samples(benchmark, reply)
    return {metric.name: estimate(run, metric).value for metric in benchmark.metrics}


def gold(item: Item) -> Reply:
    data = item.data
    if "answers" in data:
        right = ANSWERS.index(item.case)
        weights = tuple(-1.0 * len(a) if i == right else -2.0 * len(a.encode()) for i, a in enumerate(data["answers"]))
        return Reply(data["answers"][right], logprobs=weights)
    if "answer" in data:
        return Reply(f"{data['answer']}. Explanation: tool3 does not do it, no, none.")
    tools = {tool["name"]: tool for tool in data["tools"]}
    given = {name: dict.fromkeys(tools[name]["parameters"]["required"], "x") for name in data["relevant"]}
    return Reply("\n".join(f"Action: {name}\nAction Input: {json.dumps(values)}" for name, values in given.items()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_up(tmp_path)


@pytest.mark.parametrize("name", FACTORIES)
def test_gold_replies_score_everything(name: str, folder: Path) -> None:
    benchmark = FACTORIES[name](Settings(data=str(folder)))
    assert benchmark.name == open_benchmark(name, Settings(data=str(folder))).name == name
    for metric in benchmark.metrics:
        assert estimate(samples(benchmark, gold), metric).value == (1.0 if metric.better == "high" else 0.0)


@pytest.mark.parametrize("name", FACTORIES)
def test_order_and_identity_do_not_change_and_garbage_is_scored(name: str, folder: Path) -> None:
    benchmark, again = (FACTORIES[name](Settings(data=str(folder))) for _ in range(2))
    assert [item.id for item in benchmark.items()] == [item.id for item in again.items()]
    assert len({item.id for item in benchmark.items()}) == len(benchmark.items())
    assert benchmark.identity == again.identity
    assert json.loads(json.dumps(benchmark.identity)) == benchmark.identity
    assert json.loads(json.dumps([dict(item.data) for item in benchmark.items()]))
    for reply in GARBAGE:
        began = time.process_time()
        item = benchmark.items()[0]
        for value in benchmark.score(item, {"reply": reply, "logprobs": []}).values():
            assert 0.0 <= value <= 1.0
        assert time.process_time() - began < 1.5


@pytest.mark.parametrize("name", FACTORIES)
def test_without_data_it_says_what_is_missing(name: str, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=rf"{name} can't run here: .*data folder.* github"):
        FACTORIES[name](Settings(data=str(tmp_path)))


def test_when2call_counts_what_went_wrong(folder: Path) -> None:
    benchmark = when2call(Settings(data=str(folder)))
    always = values(benchmark, lambda item: Reply(json.dumps({"name": "weather", "arguments": {}})))
    assert always["two_sided"] == 0.0
    assert always["false_call"] == 1.0
    assert always["macro_accuracy"] == pytest.approx(1 / 3)
    assert always["call_without_tools"] == 1.0
    assert always["unlisted_call"] == pytest.approx(1 / 9)
    never = values(benchmark, lambda item: Reply("I can't do that."))
    assert (never["two_sided"], never["missed_call"], never["false_call"]) == (0.0, 1.0, 0.0)
    assert never["macro_accuracy"] == pytest.approx(1 / 3)


def test_when2call_lists_functions_and_weighs_the_four_replies(folder: Path) -> None:
    item = when2call(Settings(data=str(folder))).items()[0]
    request = when2call_mcq(Settings(data=str(folder))).open(item).ask()
    assert request is not None
    assert request.choices == tuple(item.data["answers"])
    assert '"name": "weather"' in request.messages[0]["content"] or not item.data["tools"]
    assert "{tools}" not in request.messages[0]["content"]


def test_metatool_lists_have_the_right_tool_put_in_once(folder: Path) -> None:
    for item in metatool_select(Settings(data=str(folder))).items():
        names = [name for name, _ in listed_tools(item.data["prompt"])]
        assert names == item.data["listed"]
        assert len(names) == 10
        assert ("Now" in names) == (item.case == "listed")


@pytest.mark.parametrize(
    ("reply", "tool"),
    [
        ("tool1", "tool1"),
        ("The tool: tool10 rather than tool1", "tool10"),
        ("None. tool1 does something else", "None"),
        ("There is no suitable tool.", "None"),
        ("I would now take TOOL1", "tool1"),
        ("It can be done right now.", "Now"),
        ("Something else", None),
    ],
)
def test_the_first_tool_that_is_named_is_the_choice(reply: str, tool: str | None) -> None:
    listed = ["tool1", "tool10"] if "now" not in reply or "TOOL" in reply else ["Now", "tool1"]
    assert chosen_tool(reply, listed) == tool


def test_toolbench_scores_calls_against_relevant_and_listed_apis(folder: Path) -> None:
    benchmark = toolbench_choice(Settings(data=str(folder), prompt="json"))
    item = benchmark.items()[0]
    assert [tool["name"] for tool in item.data["tools"]] == ["now_for_sky_1", "later_for_sky_1", "now_for_sky_1_2"]
    reply = '{"name": "now_for_sky_1", "args": {}} {"name": "made_up", "args": {}}'
    assert benchmark.score(item, {"reply": reply}) == {
        "hit": 1.0, "recall": 1.0, "called": 1.0, "gave_up": 0.0, "precision": 0.5, "invented": 0.5,
        "valid_arguments": 0.0,
    }  # fmt: skip
    wrong = '{"name": "later_for_sky_1", "args": {"city": "Oslo"}}'
    scores = benchmark.score(item, {"reply": wrong})
    assert (scores["hit"], scores["precision"], scores["invented"], scores["valid_arguments"]) == (0.0, 0.0, 0.0, 1.0)
    assert benchmark.score(item, {"reply": "Sorry, I can't."}) == {
        "hit": 0.0, "recall": 0.0, "called": 0.0, "gave_up": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("prompt", ["react", "json", "string", "plain", "native"])
def test_toolbench_asks_in_the_form_that_is_named(prompt: str, folder: Path) -> None:
    benchmark = toolbench_choice(Settings(data=str(folder), prompt=prompt))
    request = benchmark.open(benchmark.items()[0]).ask()
    assert request is not None
    assert bool(request.tools) == (prompt == "native")
    assert len(request.messages) == (1 if prompt == "native" else 2)
    assert ("Action Input:" in request.messages[0]["content"]) == (prompt == "react")
    with pytest.raises(Unavailable, match="not 'prose'"):
        toolbench_choice(Settings(data=str(folder), prompt="prose"))


NUM_ITEMS = {
    "when2call": 300,
    "when2call-mcq": 300,
    "metatool-need": 1040,
    "metatool-select": 1990,
    "toolbench-choice": 765,
}
CEILING = {"when2call": 0.99, "metatool-select": 0.999}
"""Of 300 reference replies of When2Call one is read as another kind."""
CHANCE = {"when2call": 0.25, "when2call-mcq": 0.25, "metatool-need": 0.5, "toolbench-choice": 0.569}
"""Lists of StableToolBench are short: 57 % of the listed APIs are relevant."""


@pytest.mark.skipif(not (DATA / "eval/when2call").exists(), reason="real data is not there; set AGENTFLAN_DATA")
@pytest.mark.parametrize("name", FACTORIES)
def test_on_real_data_gold_reaches_the_ceiling_and_chance_is_chance(name: str) -> None:
    benchmark = FACTORIES[name](Settings(data=str(DATA)))
    assert len(benchmark.items()) == len({item.id for item in benchmark.items()}) == NUM_ITEMS[name]
    headline = benchmark.metrics[0].name
    assert values(benchmark, gold)[headline] >= CEILING.get(name, 1.0)

    def guess(item: Item) -> Reply:
        random = stable_random("guess", item.id)
        if "answers" in item.data:
            return Reply(random.choice(item.data["answers"]), logprobs=tuple(random.choices([-1.0, -9.0, -99.0], k=4)))
        if "listed" in item.data:
            return Reply(random.choice([*item.data["listed"], "None"]))
        if "answer" in item.data:
            return Reply(random.choice(["yes", "no"]))
        return Reply(json.dumps({"name": random.choice(item.data["tools"])["name"], "arguments": {}}))

    if name in CHANCE:
        assert values(benchmark, guess)[headline] == pytest.approx(CHANCE[name], abs=0.06)
