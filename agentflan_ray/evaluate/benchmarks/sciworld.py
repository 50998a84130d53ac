"""ScienceWorld (Wang et al. 2022, arXiv 2203.07540) as AgentTuning (arXiv 2310.12823) evaluates it: tasks in a house.

The simulator is the package ``scienceworld`` 1.2.3 (Apache-2.0; needs Java 8 or later); it holds all data. Our
one-shot examples are gold paths of training variations. With ``--option examples=published`` they are those of
AgentTuning, from ``scienceworld/prompt.json`` below the data folder.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any

from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.data import find
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.prompts import read
from agentflan_ray.evaluate.simulators import ENVIRONMENT_GIB, SimulatorPool

VERSION = "1.2.3"
_INSTRUCTION, _EXAMPLES = "sciworld/instruction.txt", "sciworld/examples.json"
_ROOMS = (
    "hallway",
    "greenhouse",
    "green house",
    "kitchen",
    "bathroom",
    "outside",
    "workshop",
    "art studio",
    "foundry",
    "bedroom",
    "living room",
)
_OPENED = frozenset(f"open door to {room}" for room in _ROOMS)
_NO_FOCUS = frozenset(f"focus on {name}" for name in ("agent", "air", *_ROOMS))
_FOCUS_WORDS = re.compile(r"\b(?:focus|on|in|to)\b", re.IGNORECASE)
_NOT_UNDERSTOOD = ("No known action matches that input.", "Unknown action.")
_AMBIGUOUS = "Ambiguous request"
_MAX_ACTION = 1_000


@dataclass(frozen=True, slots=True)
class SciworldProtocol:
    """Literals. ``prompt_characters`` stands for 4,036 tokens of cl100k, at 4 characters each."""

    simplifications: str = "easy"
    moves: int = 100
    turns: int = 200
    failures_in_a_row: int = 10
    loop_window: int = 5
    new_tokens: int = 256
    prompt_characters: int = 16_144
    examples: str = "own"


def allowed(possible: Collection[str], look: str, inventory: str) -> set[str]:
    """The actions that a reply is mapped to: the simulator's, all doors' opening, no closing, focus only on things in
    view or carried."""
    seen = f"{look} {inventory.lower()}"
    kept = {action for action in (set(possible) | _OPENED) - _NO_FOCUS if "door" not in action or "open" in action}
    return {
        action
        for action in kept
        if not action.startswith("focus on") or all(word in seen for word in _FOCUS_WORDS.sub("", action).split(" "))
    }


def repaired(action: str, actions: Collection[str]) -> str:
    """The action itself where it is among ``actions``; else the one that shares most words with it, the shortest of
    several; itself where none shares any."""
    named = action.replace("green house", "greenhouse").strip()
    if named in actions:
        return named
    words = set(action.split(" "))
    best, most = action, 0
    for other in sorted(actions, key=lambda each: (len(each), each)):
        if (shared := len(words & set(other.split(" ")))) > most:
            best, most = other, shared
    return re.sub(r"[^A-Za-z0-9 ]+", "", best)


def failed(observation: str) -> bool:
    """Whether an observation says that an action did nothing, by the published words."""
    return observation == _NOT_UNDERSTOOD[0] or any(word in observation for word in ("can't", "not", "doesn't"))


class SciworldEpisode:
    """An item being run."""

    def __init__(self, protocol: SciworldProtocol, item: Item, example: Sequence[str], pool: SimulatorPool) -> None:
        self._protocol = protocol
        self._pool = pool
        self._simulator = pool.take()
        try:
            look, task = self._simulator.begin(item.data["task"], item.data["variation"], protocol.simplifications)
        except BaseException:
            self._simulator.close()
            raise
        self._task = f"The task above is over. Now a new task begins.\n{_one_line(look)}\n{task[18:]}".strip()
        # (what is told, reply) pairs of the example, and what it ends with
        self._example = [(example[i], example[i + 1]) for i in range(0, len(example) - 1, 2)]
        self._last_told = example[-1] if len(example) % 2 else ""
        self._dialogue: list[tuple[str, str]] = []  # (reply, what is told)
        self._recent = ["look around"]
        self._score = 0
        self._turns = self._moves = self._repairs = self._failures = 0
        self._end = ""

    def ask(self) -> Request | None:
        if self._end:
            return None
        messages = self._messages()
        while sum(len(each["content"]) for each in messages) > self._protocol.prompt_characters and self._shorten():
            messages = self._messages()
        return Request(tuple(messages), max_new_tokens=self._protocol.new_tokens)

    def take(self, reply: Reply) -> None:
        if reply.finish == "context":
            if not self._shorten():
                self._end = "context"
            return
        text = reply.text
        over = False
        if text.startswith("Think:"):
            action, observation = text, "OK."
        else:
            action, observation = self._act(text.replace("Action:", "").strip()[:_MAX_ACTION])
            if failed(observation):
                self._failures += 1
                if self._failures >= self._protocol.failures_in_a_row:
                    # as published: the score of this step no longer counts
                    self._end = "failures"
                    return
            else:
                self._failures = 0
            score = self._simulator.score()
            self._moves = self._simulator.moves()
            over = self._simulator.completed() or self._moves > self._protocol.moves or score < 0
            self._score = max(score, 0) if score >= 0 else self._score
        told = _one_line(observation)
        self._dialogue.append((text, told))
        self._recent.append(f"({action}, {told})")
        self._turns += 1
        window = self._recent[-self._protocol.loop_window :]
        if over:
            self._end = "over"
        elif self._turns >= self._protocol.turns:
            self._end = "turns"
        elif len(window) == self._protocol.loop_window and len(set(window)) == 2:
            self._end = "loop"

    def outcome(self) -> dict[str, Any]:
        return {
            "score": self._score,
            "end": self._end,
            "turns": self._turns,
            "moves": self._moves,
            "repairs": self._repairs,
        }

    def close(self) -> None:
        self._pool.give_back(self._simulator)

    def _act(self, action: str) -> tuple[str, str]:
        """Does an action, repaired where it must be; what was done and the observation.

        The published code lists all possible actions before each. What the simulator does not understand changes
        nothing, so it is asked first, and the list made only where it or a rule refuses. It understands some that it
        does not list, such as ``focus on thermometer in inventory``: these are done as they are.
        """
        named = action.replace("green house", "greenhouse").strip()
        if named and (not self._ruled(named) or self._permitted(named)):
            observation = self._step(named)
            if not observation.startswith(_NOT_UNDERSTOOD):
                return named, observation
        simulator = self._simulator
        done = repaired(action, allowed(simulator.possible_actions(), simulator.look(), simulator.inventory()))
        self._repairs += done != named
        return done, self._step(done)

    @staticmethod
    def _ruled(action: str) -> bool:
        return action.startswith("focus on") or "door" in action

    def _permitted(self, action: str) -> bool:
        return action in allowed([action], self._simulator.look(), self._simulator.inventory())

    def _step(self, action: str) -> str:
        """Does an action; where it can mean several, the first, for the question which one would be lost on the next
        action's repair."""
        observation = self._simulator.step(action)
        return self._simulator.step("0") if observation.startswith(_AMBIGUOUS) else observation

    def _messages(self) -> list[dict[str, str]]:
        told = [read(_INSTRUCTION).strip()]
        replies = ["Ok."]
        for user, assistant in self._example:
            told.append(user)
            replies.append(assistant)
        told.append(f"{self._last_told}\n{self._task}".strip() if self._example else self._task)
        for reply, observation in self._dialogue:
            replies.append(reply)
            told.append(observation)
        messages = []
        for number, user in enumerate(told):
            messages.append({"role": "user", "content": user})
            if number < len(replies):
                messages.append({"role": "assistant", "content": replies[number]})
        return messages

    def _shorten(self) -> bool:
        """Leaves out the oldest turn of the example but its first, then its first, then the oldest of the episode."""
        if len(self._example) > 1:
            del self._example[1]
        elif self._example:
            del self._example[0]
        elif self._dialogue:
            del self._dialogue[0]
        else:
            return False
        return True


@dataclass(frozen=True)
class Sciworld:
    """The benchmark ``sciworld``."""

    settings: SciworldProtocol
    variations: tuple[Item, ...]
    examples: Mapping[str, Sequence[str]]
    pool: SimulatorPool = field(default_factory=SimulatorPool)
    name: str = "sciworld"
    environment_gib: float = ENVIRONMENT_GIB
    metrics: Sequence[Metric] = (
        Metric("score", by_case=True, scale=100),
        Metric("completed", by_case=True, scale=100),
        Metric("moves", better="low"),
        Metric("repairs", better="low"),
    )

    @property
    def protocol(self) -> str:
        own = "own one-shot examples (gold paths of training variations)"
        return (
            f"ScienceWorld {VERSION} (published: 1.1.3), {len(self.variations)} test variations of 30 tasks as in "
            f"AgentTuning, simplification {self.settings.simplifications}, at most {self.settings.moves} moves and "
            f"{self.settings.turns} turns, "
            f"{'the published' if self.settings.examples == 'published' else own}; prompts cut at "
            f"{self.settings.prompt_characters} characters (published: 4,036 tokens); mean of the tasks' mean final "
            "scores; an action that the simulator understands is done as it is, also where it does not list it. Gold "
            "paths with thoughts in between reached 91.5 on one variation of each task."
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        shown = json.dumps([read(_INSTRUCTION), self.examples], sort_keys=True)
        chosen = json.dumps([item.id for item in self.variations])
        return {
            **asdict(self.settings),
            "version": VERSION,
            "prompt": hashlib.sha256(shown.encode()).hexdigest()[:16],
            "variations": hashlib.sha256(chosen.encode()).hexdigest()[:16],
        }

    def items(self) -> Sequence[Item]:
        return self.variations

    def open(self, item: Item) -> SciworldEpisode:
        return SciworldEpisode(self.settings, item, self.examples[item.case], self.pool)

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:  # noqa: ARG002
        return {
            "score": outcome["score"] / 100,
            "completed": float(outcome["score"] == 100),
            "moves": float(outcome["moves"]),
            "repairs": float(outcome["repairs"]),
        }


def sciworld(settings: Settings) -> Sciworld:
    """The benchmark; options: ``examples`` (``own`` or ``published``)."""
    which = settings.options.get("examples", "own")
    if which not in ("own", "published"):
        raise ValueError(f"The option examples of sciworld is {which!r}; it is own or published.")
    missing = []
    try:
        version = importlib.metadata.version("scienceworld")
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    if version != VERSION:
        missing.append(
            Missing(
                f"The package scienceworld is there in version {version}, but variations and texts are of {VERSION}.",
                f"`pip install scienceworld=={VERSION}`.",
            )
        )
    if shutil.which("java") is None:
        missing.append(Missing("There is no `java`.", "On Debian and Ubuntu: `apt-get install default-jre-headless`."))
    tasks: dict[str, list[int]] = json.loads(
        files("agentflan_ray.evaluate").joinpath("sciworld_variations.json").read_text(encoding="utf-8")
    )
    path = find(settings.data, "scienceworld/prompt.json")
    if which == "published" and path is None:
        missing.append(
            Missing(
                "The published examples are not there: `scienceworld/prompt.json` below the data folder.",
                "Take `eval_heldout/science-world/prompts/prompt.json` of github.com/THUDM/AgentTuning.",
            )
        )
    if missing:
        raise Unavailable("sciworld", missing)
    if which == "published":
        assert path is not None
        raw = json.loads(path.read_text(encoding="utf-8"))
        examples = {task: raw[str(number)] for number, task in enumerate(tasks)}
    else:
        examples = json.loads(read(_EXAMPLES))
    items = [
        Item(f"{task}-{variation}", task, task, {"task": task, "variation": variation})
        for task, chosen in tasks.items()
        for variation in chosen
    ]
    return Sciworld(SciworldProtocol(examples=which), in_fair_order(items), examples)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ")
