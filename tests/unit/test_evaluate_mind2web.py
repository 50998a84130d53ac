"""Pages cut down to their candidates, and the choice among them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.evaluate.benchmark import Item, Reply, Request, Sample, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks.mind2web import Mind2Web, mind2web
from agentflan_ray.evaluate.page_snippet import elements_by_id, parse_page, snippet
from agentflan_ray.evaluate.summary import summarise

BUTTONS = "".join(f'<button backend_node_id="{number}">Button {number}</button>' for number in range(20, 32))
PAGE = (
    '<html backend_node_id="1"><body backend_node_id="2"><script>var x = "Lund"</script>'
    '<div backend_node_id="3"><label>From</label><input backend_node_id="4" placeholder="Departure city"></div>'
    '<div backend_node_id="5"><div backend_node_id="6"><span backend_node_id="7">Trains to Lund</span></div></div>'
    f'<p backend_node_id="8">{BUTTONS}</p></body></html>'
)


def step(gold: str, operation: str = "CLICK", value: str = "") -> dict[str, Any]:
    others = [str(number) for number in [4, 7, *range(20, 32)] if str(number) != gold]
    return {
        "action_uid": f"step-{gold}",
        "cleaned_html": PAGE,
        "operation": {"op": operation, "original_op": operation, "value": value},
        "pos_candidates": [{"backend_node_id": gold}],
        "neg_candidates": [{"backend_node_id": other} for other in others],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tasks = [
        {
            "annotation_id": "task",
            "domain": "Travel",
            "confirmed_task": "See trains to Lund departing from a city",
            "action_reprs": ["[input]  Departure city -> TYPE: Lund", "[span]  Trains to Lund -> CLICK"],
            "actions": [step("4", "TYPE", "Lund C"), step("7")],
        }
    ]
    (tmp_path / "mind2web/test_task").mkdir(parents=True)
    (tmp_path / "mind2web/test_task/test_task_0.json").write_text(json.dumps(tasks))
    return tmp_path


@pytest.fixture
def benchmark(folder: Path) -> Mind2Web:
    return mind2web(Settings(str(folder), options={"ranker": "words"}))


def run(benchmark: Mind2Web, item: Item, answer: Callable[[str], str]) -> tuple[dict[str, float], dict[str, Any]]:
    episode = benchmark.open(item)
    while (request := episode.ask()) is not None:
        episode.take(Reply(answer(_question(request))))
    outcome = json.loads(json.dumps(episode.outcome()))
    return benchmark.score(item, outcome), outcome


def _question(request: Request) -> str:
    return str(request.messages[-1]["content"])


def oracle(question: str) -> str:
    for letter, text in re.findall(r"^([B-F])\. (.*)$", question, re.MULTILINE):
        if "Departure city" in text:
            return f"Answer: {letter}.\nAction: TYPE\nValue: Lund C"
    return "Answer: A."


def test_an_oracle_is_right_and_the_rounds_end(benchmark: Mind2Web) -> None:
    first = next(item for item in benchmark.items() if item.data["gold"] == ["4"])
    assert first.data["previous"] == []
    assert len(first.data["candidates"]) == 10
    scores, outcome = run(benchmark, first, oracle)
    assert scores == {"step_success": 1.0, "element_accuracy": 1.0, "action_f1": 1.0, "ranked": 1.0}
    assert outcome["element"] == "4"
    assert outcome["asked"] <= 3


def test_the_right_element_with_half_the_value_is_no_success(benchmark: Mind2Web) -> None:
    first = next(item for item in benchmark.items() if item.data["gold"] == ["4"])
    scores, _ = run(benchmark, first, lambda question: oracle(question).replace("Lund C", "Lund"))
    assert scores["element_accuracy"] == 1
    assert scores["action_f1"] == pytest.approx(0.8)
    assert scores["step_success"] == 0


def test_none_in_the_last_group_is_no_answer(benchmark: Mind2Web) -> None:
    asked: list[str] = []

    def once(question: str) -> str:
        asked.append(question)
        return "Answer: B.\nAction: CLICK" if len(asked) <= 2 else "Answer: A."

    scores, outcome = run(benchmark, benchmark.items()[0], once)
    assert outcome["element"] is None
    assert scores["step_success"] == scores["action_f1"] == 0
    assert len(asked) == 3
    assert run(benchmark, benchmark.items()[0], lambda _: "Answer: A.")[1]["element"] is None


def test_a_step_without_a_right_candidate_is_not_asked_about_and_scores_nothing(folder: Path) -> None:
    file = folder / "mind2web/test_task/test_task_0.json"
    [task] = json.loads(file.read_text())
    pageless = {**step("20"), "action_uid": "pageless", "pos_candidates": []}
    bare = {**pageless, "action_uid": "bare", "neg_candidates": []}
    task["actions"] += [pageless, bare]
    task["action_reprs"] += ["[button]  Button 20 -> CLICK", "[button]  Button 21 -> CLICK"]
    file.write_text(json.dumps([task]))
    order = {str(number): float(-number) for number in [4, *range(20, 32), 99]}
    # The ranker has 7, the right element of the second step, last of all.
    scored = {name: {**order, "7": -100.0} for name in ("task_step-4", "task_step-7", "task_pageless")}
    (folder / "mind2web/scores_all_data.json").write_text(json.dumps({"scores": scored}))
    benchmark = mind2web(Settings(str(folder)))
    items = {item.id: item for item in benchmark.items()}
    assert items.keys() == {"task_step-4", "task_step-7", "task_pageless", "task_bare"}
    assert "Mind2Web, 4 steps" in benchmark.protocol
    nothing = {"step_success": 0.0, "element_accuracy": 0.0, "action_f1": 0.0, "ranked": 0.0}
    samples = []
    for item in items.values():
        found, outcome = run(benchmark, item, oracle)
        samples.append(Sample(item, (), outcome, found, 0.0))
        assert (outcome["asked"] > 0) == (item.id == "task_step-4")
        if not outcome["asked"]:
            assert outcome == {"element": None, "operation": "", "value": "", "asked": 0}
            assert found == nothing
            # Nor is an episode of an older version, which was asked, worth its operation.
            assert benchmark.score(item, {"element": "20", "operation": "CLICK", "value": "", "asked": 2}) == nothing
    metrics = summarise(samples, benchmark.metrics)["metrics"]
    names = ("step_success", "element_accuracy", "action_f1", "recall of the ranker")
    assert {name: (row["value"], row["n"]) for name, row in metrics.items()} == dict.fromkeys(names, (0.25, 4))


@pytest.mark.parametrize("garbage", ["", "Answer: Z", "Answer: " * 20_000, "\x00\ud7ff" * 50_000, "BBBBB"])
def test_garbage_is_no_answer(benchmark: Mind2Web, garbage: str) -> None:
    scores, outcome = run(benchmark, benchmark.items()[0], lambda _: garbage)
    assert outcome["element"] is None
    assert scores["step_success"] == 0


def test_a_page_is_cut_to_what_stands_round_the_candidates() -> None:
    root = parse_page(PAGE)
    nodes = elements_by_id(root)
    page, alone = snippet(root, [nodes["4"], nodes["7"]])
    assert alone == ["<input id=0 Departure city> </input>", "<span id=1> Trains to Lund </span>"]
    assert page == (
        "<html> <body> <div> <label> From </label> <input id=0 Departure city> </input> </div> <div> <div> "
        "<span id=1> Trains to Lund </span> </div> </div> </body> </html>"
    )
    assert "Button" not in page
    assert "var x" not in page


def test_broken_and_deep_pages_are_parsed() -> None:
    deep = parse_page("<div>" * 20_000 + '<b backend_node_id="1">x' + "</i></p>" * 10)
    (element,) = elements_by_id(deep).values()
    assert snippet(deep, [element])[1] == ["<b id=0> x </b>"]
    assert list(parse_page("<<<>>&&&").walk())


def test_what_is_missing_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"scores_all_data\.pkl; turn it into JSON"):
        mind2web(Settings(str(folder)))
    with pytest.raises(Unavailable) as caught:
        mind2web(Settings(str(tmp_path / "elsewhere")))
    assert len(caught.value.missing) == 2
    (folder / "mind2web/scores_all_data.json").write_text(
        json.dumps({"scores": {"task_step-4": {"4": 3.0, "20": 2.0}, "task_step-7": {"20": 1.0}}})
    )
    found = mind2web(Settings(str(folder), options={"split": "test_task"}))
    assert {"4", "20"} <= set(next(i for i in found.items() if i.data["gold"] == ["4"]).data["candidates"])
    with pytest.raises(ValueError, match="There is no split 'train'"):
        mind2web(Settings(str(folder), options={"split": "train"}))
