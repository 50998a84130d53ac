"""Drawn records: valid, executable, deterministic, short, and nothing shared between training and evaluation."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable

import pytest

from agentflan_ray.forms import observation, react_parts, react_system
from agentflan_ray.toolbox import (
    ITEM_CASES,
    TOOLS,
    World,
    answer_is_right,
    draw_chat,
    draw_missing_argument,
    draw_trajectories,
    draw_trajectory,
    execute,
    held_out_items,
)
from agentflan_ray.toolbox.answers import answer_appears
from agentflan_ray.toolbox.asking import GAPS, Gap, group_of
from agentflan_ray.toolbox.chat import TOPICS
from agentflan_ray.toolbox.tasks import TEMPLATES, Split, drawing, play
from agentflan_ray.trajectory import Trajectory, validate

SPLITS: tuple[Split, ...] = ("train", "held_out")
DRAWS: tuple[Callable[[int, int, Split], Trajectory], ...] = (draw_trajectory, draw_chat, draw_missing_argument)


def needed(trajectory: Trajectory) -> set[str]:
    return {call.name for message in trajectory.messages for call in message.calls}


def rendered_words(trajectory: Trajectory) -> int:
    texts = [react_system(trajectory.tools)]
    for message in trajectory.messages:
        if message.role == "assistant":
            texts.append("".join(part.text for part in react_parts(message)))
        else:
            texts.append(observation(message.content) if message.role == "tool" else message.content)
    return len(" ".join(texts).split())


@pytest.mark.parametrize("split", SPLITS)
def test_gold_trajectories_are_what_the_tools_give(split: Split) -> None:
    for trajectory in draw_trajectories(400, seed=1, split=split):
        assert not validate(trajectory)
        assert all(message.loss == (message.role == "assistant") for message in trajectory.messages)
        world = World(int(trajectory.meta["world_seed"]))
        for before, after in zip(trajectory.messages[1::2], trajectory.messages[2::2], strict=False):
            (call,) = before.calls
            assert execute(world, call).text == after.content
            assert len(after.content.split()) <= 25
        tools = {tool.name for tool in trajectory.tools}
        assert needed(trajectory) < tools
        assert 3 <= len(tools) <= 5
        assert trajectory.meta["num_calls"] == str(sum(len(message.calls) for message in trajectory.messages))


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_gold_answer_is_right_and_that_of_another_draw_is_not(name: str) -> None:
    template = TEMPLATES[name]
    tasks = []
    for index in range(60):
        world_seed, rng = drawing(index * 17, 2, "held_out" if template.held_out else "train")
        tasks.append(play(template, world_seed, rng))
    for task in tasks:
        assert answer_appears(task.answer, task.messages[-1].content), (task.answer, task.messages[-1].content)
        assert 1 <= len(task.calls) <= 4
        assert all(7 <= len(m.thought.split()) <= 22 for m in task.messages if m.calls)
    pairs = itertools.pairwise(tasks)
    crossed = sum(answer_appears(one.answer, other.messages[-1].content) for one, other in pairs)
    # A cancelled order or "no warning" reads the same in every world.
    few_answers = {"order_cancelled", "order_cancel_refused", "warning_for_city", "room_facts"}
    assert crossed <= 25 or name in few_answers


def num_distinct(num: int) -> int:
    return len(
        {
            (t.messages[0].content, tuple((c.name, c.arguments) for m in t.messages for c in m.calls))
            for t in draw_trajectories(num)
        }
    )


def test_few_trajectories_repeat() -> None:
    assert num_distinct(2_000) >= 1_960


@pytest.mark.slow
def test_training_has_twenty_thousand_distinct_trajectories() -> None:
    assert num_distinct(24_000) >= 20_000


def test_drawing_is_quick() -> None:
    start = time.process_time()
    for trajectory in draw_trajectories(600, seed=9):
        assert trajectory.id
    assert 600 / (time.process_time() - start) > 300


def test_most_trajectories_are_short() -> None:
    trajectories = list(draw_trajectories(1000, seed=4))
    calls = Counter(trajectory.meta["num_calls"] for trajectory in trajectories)
    assert set(calls) == {"1", "2", "3", "4"}
    assert calls["1"] + calls["2"] > 900
    words = [rendered_words(t) for t in trajectories if t.meta["num_calls"] == "1"]
    assert 130 < sum(words) / len(words) < 200


def test_training_and_held_out_share_nothing_they_are_judged_by() -> None:
    drawn = {split: list(draw_trajectories(1200, seed=0, split=split)) for split in SPLITS}
    for trajectory in drawn["train"]:
        assert not any(TOOLS[tool.name].held_out for tool in trajectory.tools)
    for trajectory in drawn["held_out"]:
        assert all(TOOLS[name].held_out for name in needed(trajectory))
    tools = {split: {name for t in drawn[split] for name in needed(t)} for split in SPLITS}
    templates = {split: {t.meta["template"] for t in drawn[split]} for split in SPLITS}
    queries = {split: {t.messages[0].content for t in drawn[split]} for split in SPLITS}
    for values in (tools, templates, queries):
        assert not values["train"] & values["held_out"]
    assert tools["train"] | tools["held_out"] == set(TOOLS)
    assert templates["train"] | templates["held_out"] == set(TEMPLATES)

    assert not set(TOPICS["train"]) & set(TOPICS["held_out"])
    questions = {
        split: {q.casefold() for pairs in TOPICS[split].values() for pair in pairs for q in pair.questions}
        for split in SPLITS
    }
    assert not questions["train"] & questions["held_out"]
    assert not {g.tool for g in GAPS["train"]} & {g.tool for g in GAPS["held_out"]}
    for index in range(500):
        assert not any(TOOLS[tool.name].held_out for tool in draw_missing_argument(index, 0, "train").tools)


@pytest.mark.parametrize("split", SPLITS)
def test_chat_texts_are_short_whole_and_distinct(split: Split) -> None:
    pairs = [pair for pairs in TOPICS[split].values() for pair in pairs]
    assert len(pairs) >= (400 if split == "train" else 240)
    questions = [question for pair in pairs for question in pair.questions]
    assert len(set(questions)) == len(questions)
    for pair in pairs:
        for answer in pair.answers:
            assert 2 <= len(answer.split()) <= 35, answer
            assert answer[-1] in ".!?", answer
            assert answer[0].isupper() or answer[0].isdigit(), answer
            assert split == "train" or answer_appears((pair.keywords,), answer), answer
        assert bool(pair.keywords) == (split == "held_out")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("draw", [draw_chat, draw_missing_argument])
def test_chat_and_missing_arguments_are_valid(draw: Callable[[int, int, Split], Trajectory], split: Split) -> None:
    groups = set()
    for index in range(400):
        trajectory = draw(index, 0, split)
        assert not validate(trajectory)
        assert not needed(trajectory)
        assert not any("{" in message.content for message in trajectory.messages)
        groups.add(trajectory.meta["group"])
    assert len(groups) >= 13


@pytest.mark.parametrize("gap", [gap for gaps in GAPS.values() for gap in gaps], ids=group_of)
def test_a_gap_asks_for_a_required_argument_by_its_name(gap: Gap) -> None:
    assert gap.parameter in TOOLS[gap.tool].spec.required
    assert len(set(gap.queries)) >= 4
    for reply in gap.replies:
        assert answer_appears((gap.words,), reply), reply


def test_an_item_of_every_case_is_interleaved_and_nested() -> None:
    few, more = held_out_items(30, seed=3), held_out_items(60, seed=3)
    assert held_out_items(30, seed=3) == few
    assert held_out_items(30, seed=4) != few
    for case in ITEM_CASES:
        short = [item for item in few if item.case == case]
        long = [item for item in more if item.case == case]
        assert long[:30] == short
        assert len({item.query for item in long}) == len({item.id for item in long}) == 60
        groups = Counter(item.group for item in long)
        assert len(groups) >= 13
        assert len({item.group for item in long[: len(groups)]}) == len(groups)
        assert (case in ("no_tool_request", "chat")) == (not any(item.tools for item in long))
        assert (case == "tool") == any(item.gold_calls for item in long)


def test_gold_calls_of_items_run_and_only_held_out_tools_are_needed() -> None:
    for item in held_out_items({"tool": 200}):
        world = World(item.world_seed)
        results = [execute(world, call) for call in item.gold_calls]
        assert results[-1].ok or item.group == "seat_on_train"
        assert all(TOOLS[call.name].held_out for call in item.gold_calls)
        assert {call.name for call in item.gold_calls} < {tool.name for tool in item.tools}


def test_tools_of_an_irrelevant_item_are_not_those_needed() -> None:
    for item in held_out_items({"irrelevant_tool": 100}):
        template = TEMPLATES[item.group]
        world_seed, rng = drawing(0, 0, "held_out")
        assert not {call.name for call in play(template, world_seed, rng).calls} & {tool.name for tool in item.tools}
        assert answer_is_right(item, "Sorry, none of my tools can look that up.")
        assert not answer_is_right(item, "It is 12.")


def test_asking_for_too_much_or_for_the_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="there are only"):
        held_out_items({"chat": 5000})
    with pytest.raises(ValueError, match="'talk' is not known"):
        held_out_items({"talk": 1})
    with pytest.raises(ValueError, match="0 or more"):
        draw_trajectory(-1)
    with pytest.raises(ValueError, match="use one of train, held_out"):
        draw_chat(0, 0, "test")  # type: ignore[arg-type]


@pytest.mark.parametrize("split", SPLITS)
def test_draws_depend_on_their_arguments_only(split: Split) -> None:
    for draw in DRAWS:
        forward = [draw(index, 5, split).to_row() for index in range(40)]
        backward = [draw(index, 5, split).to_row() for index in reversed(range(40))]
        assert forward == backward[::-1]
        assert forward != [draw(index, 6, split).to_row() for index in range(40)]
        assert len({row["id"] for row in forward}) == 40


def test_a_few_records_are_the_same_bytes_everywhere() -> None:
    rows = [draw(index, 0, split).to_row() for draw in DRAWS for split in SPLITS for index in (0, 1, 999)]
    digest = hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()
    assert digest == "1086867578451aa6ee41bc0c342a8fb53964dee24b0a23a087d4dc3d6c64811e"
