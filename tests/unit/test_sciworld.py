"""ScienceWorld: the repair of actions and the ends of an episode on a made-up simulator, gold paths on the real one."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Sequence

import pytest

from agentflan_ray.evaluate import simulators
from agentflan_ray.evaluate.benchmark import EnvironmentDied, Item, Reply, Request, Settings
from agentflan_ray.evaluate.benchmarks.sciworld import (
    Sciworld,
    SciworldEpisode,
    SciworldProtocol,
    allowed,
    failed,
    repaired,
    sciworld,
)
from agentflan_ray.evaluate.prompts import read
from agentflan_ray.evaluate.simulators import Simulator, SimulatorPool

real = pytest.mark.skipif(
    importlib.util.find_spec("scienceworld") is None or shutil.which("java") is None,
    reason="The package scienceworld and Java are not both here.",
)
GARBAGE = [
    "",
    "x" * 100_000,
    "Action:" * 15_000,
    "Think" * 20_000,
    "Action: focus on " + "( " * 50_000,
    "\x00\ud800\n\n",
]
ITEM = Item("boil-1", "boil", "boil", {"task": "boil", "variation": 1})
EXAMPLE = ["A room.\nYour task is to wait.", "Think: I wait.", "OK.", "Action: wait", "You wait."]


class Pretended(Simulator):
    """A simulator of two actions: ``go on`` is worth 30, ``focus on sun`` ends all with a minus."""

    def __init__(self) -> None:
        self.episodes = 0
        self.alive = True
        self.done: list[str] = []
        self.dies = False

    def begin(self, task: str, variation: int, simplifications: str, gold: bool = False) -> tuple[str, str]:
        self.done = []
        return "A garden.\n\tThe sun.", "Task Description:\nYour task is to go on."

    def step(self, action: str) -> str:
        if self.dies:
            self.alive = False
            raise EnvironmentDied("gone")
        if action in ("go on", "focus on sun", "stand still", "wait"):
            self.done.append(action)
            return f"You do {action} the {len(self.done)}th time."
        if action == "turn":
            return "Ambiguous request: Please enter the number."
        if action == "0":
            self.done.append("turn")
            return "You turn."
        return "No known action matches that input."

    def score(self) -> int:
        return -100 if "focus on sun" in self.done else min(100, 30 * self.done.count("go on"))

    def completed(self) -> bool:
        return self.score() == 100

    def moves(self) -> int:
        return len(self.done)

    def look(self) -> str:
        return "A garden. The sun."

    def inventory(self) -> str:
        return "Nothing"

    def possible_actions(self) -> set[str]:
        return {"go on", "focus on sun", "stand still"}

    def close(self) -> None:
        self.alive = False


def opened(protocol: SciworldProtocol | None = None) -> tuple[SciworldEpisode, SimulatorPool]:
    pool = SimulatorPool(Pretended)
    return SciworldEpisode(protocol or SciworldProtocol(), ITEM, EXAMPLE, pool), pool


def play(episode: SciworldEpisode, replies: Sequence[str]) -> dict[str, object]:
    for text in replies:
        if episode.ask() is None:
            break
        episode.take(Reply(text))
    outcome: dict[str, object] = json.loads(json.dumps(episode.outcome()))
    return outcome


def asked(episode: SciworldEpisode) -> Request:
    request = episode.ask()
    assert request is not None
    return request


def test_the_prompt_has_instruction_example_and_task_in_turns() -> None:
    episode, _ = opened()
    play(episode, ["Think: hm.", "Action: go on"])
    messages = asked(episode).messages
    assert [message["role"] for message in messages] == ["user", "assistant"] * 5 + ["user"]
    assert messages[6]["content"].endswith("Now a new task begins.\nA garden.  The sun.\nYour task is to go on.")
    assert messages[6]["content"].startswith("You wait.\n")
    assert messages[8]["content"] == "OK."
    assert messages[10]["content"] == "You do go on the 1th time."


def test_a_task_solved_is_over() -> None:
    episode, pool = opened()
    assert play(episode, ["Action: go on"] * 9) == {"score": 100, "end": "over", "turns": 4, "moves": 4, "repairs": 0}
    episode.close()
    assert pool.take() is episode._simulator


def test_a_wrong_focus_keeps_the_score_before() -> None:
    outcome = play(opened()[0], ["Action: go on", "Action: go on", "Action: focus on sun", "Action: go on"])
    assert (outcome["score"], outcome["end"], outcome["turns"]) == (60, "over", 3)


def test_ends() -> None:
    assert play(opened()[0], ["Think: a", "Think: b", "Think: c"] * 70)["end"] == "turns"
    # Five like thoughts are none, but the first four beside "look around" are: as published.
    assert play(opened()[0], ["Think: hm."] * 9)["turns"] == 4
    assert play(opened(SciworldProtocol(moves=5))[0], ["Action: wait", "Think: hm."] * 9)["end"] == "over"
    assert play(opened()[0], ["Think: a", "Think: b"] * 9)["end"] == "loop"
    nothing = SimulatorPool(type("Deaf", (Pretended,), {"possible_actions": lambda self: set()}))
    episode = SciworldEpisode(SciworldProtocol(), ITEM, EXAMPLE, nothing)
    assert play(episode, [f"Action: q{i}" for i in range(20)])["end"] == "failures"


def test_actions_are_repaired() -> None:
    outcome = play(opened()[0], ["Action: please go on now", "go on", "Action: turn"])
    assert (outcome["score"], outcome["repairs"], outcome["moves"]) == (60, 1, 3)
    actions = {"move cup to sink", "move metal cup to sink", "wait"}
    assert repaired("move cup to sink", actions) == "move cup to sink"
    assert repaired("move the cup", actions) == "move cup to sink"
    assert repaired("dance!", actions) == "dance"
    possible = {"focus on water", "focus on moon", "close door to kitchen", "focus on air", "go to kitchen"}
    left = allowed(possible, "You see water.", "In your inventory: a THING")
    assert {action for action in left if not action.startswith("open door")} == {"focus on water", "go to kitchen"}
    assert "open door to greenhouse" in left
    assert failed("No known action matches that input.")
    assert failed("The door is not open.")
    assert not failed("You move to the kitchen.")


def test_a_long_prompt_loses_the_example_first() -> None:
    episode, _ = opened()
    play(episode, ["Think: " + "a" * 50])
    lengths = []
    for _ in range(3):
        lengths.append(len(asked(episode).messages))
        episode.take(Reply("", finish="context"))
    assert lengths == [9, 7, 5]
    episode.take(Reply("", finish="context"))
    assert episode.outcome()["end"] == "context"
    small = opened(SciworldProtocol(prompt_characters=900))[0]
    assert sum(len(message["content"]) for message in asked(small).messages) <= 900


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_is_scored_in_time(text: str) -> None:
    start = time.monotonic()
    for reply in (text, f"Think:{text}", f"Action: {text}"):
        assert play(opened()[0], [reply] * 300)["end"] in ("failures", "turns", "over", "loop", "context")
    assert time.monotonic() - start < 10


def test_a_dead_simulator_is_an_error_and_not_used_again() -> None:
    episode, pool = opened()
    assert isinstance(episode._simulator, Pretended)
    episode._simulator.dies = True
    with pytest.raises(EnvironmentDied):
        episode.take(Reply("Action: go on"))
    episode.close()
    assert pool.take() is not episode._simulator


def test_the_data_is_that_of_agent_tuning() -> None:
    examples = json.loads(read("sciworld/examples.json"))
    assert len(examples) == 30
    assert all(len(example) % 2 == 1 for example in examples.values())


@real
def test_two_hundred_and_seventy_items() -> None:
    benchmark = sciworld(Settings())
    assert len(benchmark.items()) == 270
    assert len({item.case for item in benchmark.items()[:30]}) == 30
    assert set(benchmark.examples) == {item.case for item in benchmark.items()}


def gold_outcome(benchmark: Sciworld, item: Item) -> dict[str, object]:
    simulator = benchmark.pool.take()
    simulator.begin(item.data["task"], item.data["variation"], "easy", gold=True)
    path = simulator.gold()
    benchmark.pool.give_back(simulator)
    episode = benchmark.open(item)
    try:
        return play(episode, [f"Action: {action}" for action in path])
    finally:
        episode.close()


@real
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_gold_paths_reach_the_full_score_on_the_real_simulator() -> None:
    benchmark = sciworld(Settings())
    tasks = ("find-plant", "lifespan-longest-lived", "chemistry-mix-paint-secondary-color")
    try:
        for task in tasks:
            item = next(item for item in benchmark.items() if item.case == task)
            assert gold_outcome(benchmark, item)["score"] == 100
        simulator = benchmark.pool.take()
        variations = simulator._environment
        variations.load("boil", 0, "easy")
        import random

        shuffled = list(variations.get_variations_test())
        random.Random(1).shuffle(shuffled)
        chosen = {item.data["variation"] for item in benchmark.items() if item.case == "boil"}
        assert chosen == set(shuffled[:10])
        simulator._environment._gateway.java_process.kill()
        with pytest.raises(EnvironmentDied):
            simulator.step("look around")
        benchmark.pool.give_back(simulator)
    finally:
        benchmark.pool.close()


@real
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_simulator_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulators, "STALL_SECONDS", 3.0)
    simulator = Simulator()
    simulator.begin("boil", 0, "easy")
    os.kill(simulator._environment._gateway.java_process.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(EnvironmentDied, match="broke"):
        simulator.step("look around")
    assert 2 < time.monotonic() - began < 60
    simulator.close()


@real
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_random_agent_is_near_nothing_on_the_real_simulator() -> None:
    """One variation of each task, random ones of the actions that the simulator takes."""
    benchmark = sciworld(Settings())
    draw = random.Random(0)
    scores = {}
    try:
        for item in benchmark.items()[:30]:
            episode = benchmark.open(item)
            assert isinstance(episode, SciworldEpisode)
            while episode.ask() is not None:
                possible = sorted(episode._simulator.possible_actions())
                episode.take(Reply(f"Action: {draw.choice(possible)}"))
            outcome = json.loads(json.dumps(episode.outcome()))
            episode.close()
            scores[item.case] = benchmark.score(item, outcome)["score"]
    finally:
        benchmark.pool.close()
    assert len(scores) == 30
    assert sum(scores.values()) / len(scores) < 0.15
