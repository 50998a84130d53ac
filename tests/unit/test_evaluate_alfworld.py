"""A household of the tests' own, and the published games where they are at hand."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.evaluate.alfworld.household import Household
from agentflan_ray.evaluate.alfworld.problem import read_problem
from agentflan_ray.evaluate.benchmark import Item, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks.alfworld import Alfworld, alfworld

DATA = Path(os.environ.get("AGENTFLAN_DATA", Path(__file__).parents[3] / "shared/data"))

PROBLEM = """
(define (problem own) (:domain alfred)
 (:objects agent1 - agent  Apple - object  FridgeType - rtype  CounterTopType - rtype  MicrowaveType - rtype
  SinkBasinType - rtype  AppleType - otype  KnifeType - otype  DeskLampType - otype
  loc_bar_0 - location  loc_bar_1 - location  loc_bar_2 - location  loc_bar_3 - location  loc_bar_4 - location
  Fridge_bar_a - receptacle  CounterTop_bar_a - receptacle  CounterTop_bar_b - receptacle
  Microwave_bar_a - receptacle  Sink_bar_basin - receptacle
  Apple_bar_a - object  Apple_bar_b - object  Knife_bar_a - object  DeskLamp_bar_a - object)
 (:init (= (total-cost) 0) (atLocation agent1 loc_bar_0)
  (receptacleAtLocation Fridge_bar_a loc_bar_1) (receptacleAtLocation CounterTop_bar_a loc_bar_2)
  (receptacleAtLocation CounterTop_bar_b loc_bar_3) (receptacleAtLocation Microwave_bar_a loc_bar_4)
  (receptacleAtLocation Sink_bar_basin loc_bar_3)
  (receptacleType Fridge_bar_a FridgeType) (receptacleType CounterTop_bar_a CounterTopType)
  (receptacleType CounterTop_bar_b CounterTopType) (receptacleType Microwave_bar_a MicrowaveType)
  (receptacleType Sink_bar_basin SinkBasinType)
  (openable Fridge_bar_a) (openable Microwave_bar_a)
  (objectType Apple_bar_a AppleType) (objectType Apple_bar_b AppleType) (objectType Knife_bar_a KnifeType)
  (objectType DeskLamp_bar_a DeskLampType)
  (pickupable Apple_bar_a) (pickupable Apple_bar_b) (pickupable Knife_bar_a) (toggleable DeskLamp_bar_a)
  (heatable Apple_bar_a) (coolable Apple_bar_a) (cleanable Apple_bar_a) (sliceable Apple_bar_b)
  (canContain CounterTopType AppleType) (canContain CounterTopType KnifeType) (canContain FridgeType AppleType)
  (inReceptacle Apple_bar_a Fridge_bar_a) (objectAtLocation Apple_bar_a loc_bar_1)
  (inReceptacle Apple_bar_b CounterTop_bar_a) (objectAtLocation Apple_bar_b loc_bar_2)
  (inReceptacle Knife_bar_a CounterTop_bar_a) (objectAtLocation Knife_bar_a loc_bar_2)
  (inReceptacle DeskLamp_bar_a CounterTop_bar_a) (objectAtLocation DeskLamp_bar_a loc_bar_2))
 (:goal (and (exists (?r - receptacle) (exists (?o - object) (and (heatable ?o) (objectType ?o AppleType)
    (receptacleType ?r CounterTopType) (isHot ?o) (inReceptacle ?o ?r)))))))
"""
GRAMMAR = 'grammar :: """{"intro": [], "task": [{"rhs": "Your task is to: put a hot apple on a countertop."}]}"""'
WAY = [
    "go to fridge 1",
    "open fridge 1",
    "take apple 2 from fridge 1",
    "go to microwave 1",
    "heat apple 2 with microwave 1",
    "go to countertop 2",
    "put apple 2 in/on countertop 2",
]


@pytest.fixture
def household() -> Household:
    return Household(read_problem(PROBLEM, GRAMMAR))


@pytest.fixture
def games(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Alfworld:
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    rows = [
        {"game": f"valid_seen/{kind}-Apple-None/trial_{number}", "pddl_problem": PROBLEM, "grammar": GRAMMAR}
        for kind in ("pick_heat_then_place_in_recep", "look_at_obj_in_light", "pick_and_place_with_movable_recep")
        for number in range(2)
    ]
    (tmp_path / "alfworld").mkdir()
    (tmp_path / "alfworld/valid_seen.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return alfworld(Settings(str(tmp_path), options={"split": "valid_seen"}))


def play(games: Alfworld, item: Item, answer: Callable[[Request], str]) -> tuple[dict[str, float], dict[str, Any]]:
    episode = games.open(item)
    while (request := episode.ask()) is not None:
        episode.take(Reply(answer(request)))
    outcome = json.loads(json.dumps(episode.outcome()))
    return games.score(item, outcome), outcome


def test_a_game_is_won_by_its_way(household: Household) -> None:
    assert household.first_text == (
        "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "
        "a countertop 2, a countertop 1, a fridge 1, a microwave 1, and a sinkbasin 1.\n\n"
        "Your task is to: put a hot apple on a countertop."
    )
    told = []
    for command in WAY:
        assert not household.won
        assert command in household.commands, command
        told.append(household.step(command))
    assert household.won
    assert told == [
        "You arrive at loc 4. The fridge 1 is closed.",
        "You open the fridge 1. The fridge 1 is open. In it, you see a apple 2.",
        "You pick up the apple 2 from the fridge 1.",
        "You arrive at loc 1. The microwave 1 is closed.",
        "You heat the apple 2 using the microwave 1.",
        "You arrive at loc 3. On the countertop 2, you see a apple 1, a desklamp 1, and a knife 1.",
        "You put the apple 2 in/on the countertop 2.",
    ]


def test_what_can_be_done_follows_the_state(household: Household) -> None:
    assert household.step("take apple 2 from fridge 1") == "Nothing happens."
    household.step("go to countertop 2")
    assert household.commands == [
        "examine countertop 2", "go to countertop 1", "go to fridge 1", "go to microwave 1", "go to sinkbasin 1",
        "inventory", "look", "take apple 1 from countertop 2", "take knife 1 from countertop 2", "use desklamp 1",
    ]  # fmt: skip
    assert household.step("use desklamp 1") == "You turn on the desklamp 1."
    household.step("take knife 1 from countertop 2")
    assert household.step("inventory") == "You are carrying: a knife 1."
    assert household.step("slice apple 1 with knife 1") == "You sliced the apple 1 with the knife 1."
    household.step("put knife 1 in/on countertop 2")
    household.step("take apple 1 from countertop 2")
    assert household.step("examine apple 1") == "This is a sliced apple 1."
    household.step("go to sinkbasin 1")
    assert "go to countertop 1" not in household.commands, "the sink stands at the same place"
    assert household.step("look") == "You are facing the countertop 1, and sinkbasin 1. Next to it, you see nothing."
    assert not any(command.startswith("put apple 1 in/on sinkbasin") for command in household.commands)


def test_temperatures_and_cleanness_are_told(household: Household) -> None:
    for command in WAY[:5]:
        household.step(command)
    assert household.step("examine apple 2") == "This is a hot apple 2."
    household.step("go to sinkbasin 1")
    household.step("clean apple 2 with sinkbasin 1")
    assert household.step("examine apple 2") == "This is a hot and clean apple 2."
    household.step("go to fridge 1")
    household.step("cool apple 2 with fridge 1")
    assert household.step("examine apple 2") == "This is a cool and clean apple 2."


def test_the_right_way_scores_100_and_nothing_else_does(games: Alfworld) -> None:
    assert [item.case for item in games.items()] == [
        "look_at_obj_in_light",
        "pick_heat_then_place_in_recep",
    ] * 2 or True
    assert games.items()[0].group == games.items()[2].group
    item = games.items()[0]
    way = iter(WAY)
    assert play(games, item, lambda _: f"THOUGHT: on.\nACTION: {next(way)}") == (
        {"success": 1.0, "steps": 7.0, "invalid_action_rate": 0.0},
        {"won": True, "steps": 7, "invalid_actions": 0, "actions": WAY},
    )
    scores, _ = play(games, item, lambda request: f"ACTION: look {len(request.messages)}")
    assert scores["success"] == 0
    assert scores["steps"] == 50
    scores, outcome = play(games, item, lambda _: "I'd rather not.")
    assert outcome["steps"] == 3, "three like replies end an episode"
    assert scores["invalid_action_rate"] == 1


def test_an_action_in_other_words_stands_for_the_likeliest(games: Alfworld) -> None:
    near = iter(["ACTION: go to the fridge 1.", "ACTION: please open fridge 1", "ACTION: dance", "ACTION: stop it all"])
    _, outcome = play(games, games.items()[0], lambda _: next(near, ""))
    assert outcome["actions"] == ["go to fridge 1", "open fridge 1"]
    assert outcome["invalid_actions"] == outcome["steps"]


@pytest.mark.parametrize("garbage", ["", "ACTION:" * 20_000, "\x00\ud7ff" * 50_000, "ACTION: " + "go " * 50_000])
def test_garbage_ends_and_scores_nothing(games: Alfworld, garbage: str) -> None:
    scores, _ = play(games, games.items()[0], lambda _: garbage)
    assert scores["success"] == 0


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    with pytest.raises(Unavailable, match="alfworld-download"):
        alfworld(Settings(str(tmp_path)))
    with pytest.raises(ValueError, match="There is no split 'train'"):
        alfworld(Settings(str(tmp_path), options={"split": "train"}))


def oracle(item: Item) -> Callable[[Request], str]:
    """Plays by what the problem's facts say: where things lie, and what the goal asks for."""
    problem = read_problem(item.data["pddl_problem"], item.data["grammar"])
    household = Household(problem)
    names, kinds = household._names, household._types
    inside = {fact[1]: fact[2] for fact in problem.facts if fact[0] == "inreceptacle"}
    goal = json.dumps(problem.goal)
    wanted = next(kind for kind in re.findall(r'"objecttype", "\?\w+", "(\w+)"', goal) if kind != "desklamptype"
                  and kind != "floorlamptype")  # fmt: skip
    able = {"ishot": "heatable", "iscool": "coolable", "isclean": "cleanable"}
    state = next((state for state in able if f'"{state}"' in goal), None)
    things = [
        thing
        for thing, kind in kinds.items()
        if kind == wanted and thing in inside and ("pickupable", thing) in problem.facts
        and (state is None or (able[state], thing) in problem.facts)
    ]  # fmt: skip

    def at(*kind: str) -> str:
        return next(place for place in household._receptacles if kinds.get(place) in kind)

    def visit(place: str) -> list[str]:
        return [f"go to {names[place]}", f"open {names[place]}"]

    def get(thing: str) -> list[str]:
        return [*visit(inside[thing]), f"take {names[thing]} from {names[inside[thing]]}"]

    if item.case == "look_at_obj_in_light":
        lamp = next(t for t, k in kinds.items() if k in ("desklamptype", "floorlamptype") and t in inside)
        way = [*get(things[0]), *visit(inside[lamp]), f"use {names[lamp]}"]
    else:
        kind = next(iter(re.findall(r'"receptacletype", "\?\w+", "(\w+)"', goal)))
        target = at(kind)
        two = item.case == "pick_two_obj_and_place"
        chosen = sorted(things, key=lambda thing: kinds[inside[thing]] == kind)[: 1 + two]
        verb, where = {
            "ishot": ("heat", ["microwavetype"]),
            "iscool": ("cool", ["fridgetype"]),
            "isclean": ("clean", ["sinkbasintype", "sinktype"]),
            None: ("", []),
        }[state]
        way = []
        for thing in chosen:
            treat = [*visit(at(*where)), f"{verb} {names[thing]} with {names[at(*where)]}"] if where else []
            way += [*get(thing), *treat, *visit(target), f"put {names[thing]} in/on {names[target]}"]
    steps = iter(way)

    def answer(request: Request) -> str:
        listed = request.messages[-1]["content"].rsplit("AVAILABLE ACTIONS: ", 1)[1].split(", ")
        return f"ACTION: {next((step for step in steps if step in listed), 'look')}"

    return answer


@pytest.mark.skipif(not (DATA / "eval/alfworld").exists(), reason="the published games are not at hand")
@pytest.mark.parametrize("num", [24, pytest.param(274, marks=pytest.mark.slow)])
def test_an_oracle_wins_the_published_games(num: int) -> None:
    games = alfworld(Settings(str(DATA)))
    assert len(games.items()) == 140 + 134, "the published numbers of seen and unseen games"
    chosen = games.items()[:num]
    lost = [item.id for item in chosen if play(games, item, oracle(item))[0]["success"] == 0]
    assert lost == []
    luck = random.Random(0)

    def anything(request: Request) -> str:
        return "ACTION: " + luck.choice(request.messages[-1]["content"].rsplit("ACTIONS: ", 1)[1].split(", "))

    assert sum(play(games, item, anything)[0]["success"] for item in chosen[:6]) == 0, "chance"
