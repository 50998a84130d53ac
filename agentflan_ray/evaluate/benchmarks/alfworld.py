"""ALFWorld's text games as AgentBench plays them (arXiv 2308.03688, section 3): 50 steps, one example, success rate.

Needs the games: ``alfworld/<split>.jsonl[.xz|.gz]`` with one game's ``pddl_problem`` and ``grammar`` in each line, or
the folder that ``alfworld-download`` fills (``json_2.1.1/<split>/…/game.tw-pddl``).
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentflan_ray import storage
from agentflan_ray.evaluate.alfworld.household import Household
from agentflan_ray.evaluate.alfworld.problem import read_problem
from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.data import find, read_text
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.prompts import read

STEPS = 50
REPLY_TOKENS = 128
SPLITS = ("valid_unseen", "valid_seen")
MAX_SAME_REPLIES = 3
"""So many like replies in a row end an episode, as in AgentBench."""
_LEAST_LIKENESS = 0.5

_ACTION = re.compile(r"ACTION:[ \t]*([^\n]*)", re.IGNORECASE)
_ARRIVAL = re.compile(r"^You arrive at loc \d+\. ")
_KINDS = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
"""The six tasks; games with movable receptacles or slices are left out, as ALFWorld's own evaluation does."""


@dataclass
class _Game:
    """A game being played."""

    household: Household
    messages: list[dict[str, str]]
    steps: int = 0
    invalid: int = 0
    replies: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    over: bool = False

    def ask(self) -> Request | None:
        if self.over or self.household.won or self.steps == STEPS:
            return None
        return Request(tuple(self.messages), REPLY_TOKENS)

    def take(self, reply: Reply) -> None:
        self.steps += 1
        self.replies.append(reply.text)
        stuck = len(self.replies) >= MAX_SAME_REPLIES and len(set(self.replies[-MAX_SAME_REPLIES:])) == 1
        self.over = stuck or reply.finish == "context"
        written = _ACTION.search(reply.text)
        command = _nearest(written[1], self.household.commands) if written else None
        if command is None or written is None or command != written[1].strip().rstrip("."):
            self.invalid += 1
        if command is not None:
            self.actions.append(command)
        seen = _ARRIVAL.sub("", self.household.step(command)) if command else "Nothing happens."
        self.messages += [
            {"role": "assistant", "content": reply.text},
            {"role": "user", "content": f"{seen}\n{_available(self.household)}"},
        ]

    def outcome(self) -> dict[str, Any]:
        return {
            "won": self.household.won,
            "steps": self.steps,
            "invalid_actions": self.invalid,
            "actions": self.actions,
        }

    def close(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True)
class Alfworld:
    """The games of some splits."""

    games: tuple[Item, ...]
    name: str = "alfworld"
    metrics: Sequence[Metric] = (
        Metric("success", scale=100),
        Metric("invalid actions", "invalid_action_rate", better="low", scale=100),
        Metric("steps", better="low"),
    )

    @property
    def identity(self) -> Mapping[str, Any]:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        prompts = [read("alfworld/instruction.txt"), read("alfworld/example.json")]
        return {
            "games": storage.fingerprint([item.id for item in self.games]),
            "prompt": "alfworld/instruction.txt with one example",
            "prompts": storage.fingerprint(prompts),
            "steps": STEPS,
            "reply_tokens": REPLY_TOKENS,
            "max_same_replies": MAX_SAME_REPLIES,
        }

    @property
    def protocol(self) -> str:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return (
            f"ALFWorld, {len(self.games)} games, at most {STEPS} steps, available actions listed, one example of our "
            "own making, THOUGHT and ACTION; an action that is not listed stands for the listed one most like it "
            "(shared words and pairs of words; AgentBench takes BLEU), success rate."
        )

    def items(self) -> Sequence[Item]:
        """Games so that a prefix holds about the same share of each of the six tasks."""
        return self.games

    def open(self, item: Item) -> _Game:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        household = Household(read_problem(item.data["pddl_problem"], item.data["grammar"]))
        text = household.first_text.split("\n\n", 1)[1]
        messages = [
            {"role": "system", "content": read("alfworld/instruction.txt").strip()},
            *json.loads(read("alfworld/example.json")),
            {"role": "user", "content": f"That is done. A new household:\n{text}\n{_available(household)}"},
        ]
        return _Game(household, messages)

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """Success, steps, and the share of steps whose action was not an available one."""
        del item
        return {
            "success": float(outcome["won"]),
            "steps": float(outcome["steps"]),
            "invalid_action_rate": outcome["invalid_actions"] / max(1, outcome["steps"]),
        }


def alfworld(settings: Settings) -> Alfworld:
    """ALFWorld's validation games; see the module. ``--option split=valid_seen`` plays one split only."""
    asked = settings.options.get("split")
    if asked is not None and asked not in SPLITS:
        raise ValueError(f"There is no split {asked!r} of alfworld; choose one of {', '.join(SPLITS)}.")
    splits = (asked,) if asked else SPLITS
    games = [game for split in splits for game in _games(settings, split)]
    if not games:
        raise Unavailable(
            "alfworld",
            [
                Missing(
                    "The games are not in the data folder (alfworld/valid_unseen.jsonl.xz), nor below ALFWORLD_DATA.",
                    "pip install alfworld; alfworld-download; then set ALFWORLD_DATA to the folder that it filled.",
                )
            ],
        )
    return Alfworld(in_fair_order(games))


def _games(settings: Settings, split: str) -> Iterator[Item]:
    file = find(settings.data, *(f"alfworld/{split}.jsonl{ending}" for ending in (".xz", ".gz", "")))
    if file is not None:
        rows = [json.loads(line) for line in read_text(file).splitlines() if line.strip()]
        found = [(str(row["game"]), row) for row in rows]
    elif folder := os.environ.get("ALFWORLD_DATA"):
        paths = sorted(Path(folder).glob(f"json_2.1.1/{split}/**/game.tw-pddl"))
        found = [(f"{split}/{path.parent.parent.name}/{path.parent.name}", _read_game(path)) for path in paths]
    else:
        found = []
    for name, row in found:
        kind = name.split("/")[1].split("-")[0]
        if kind in _KINDS and "Sliced" not in name and row.get("solvable", True):
            data = {"pddl_problem": row["pddl_problem"], "grammar": row["grammar"]}
            # Trials of one task share a room and a goal.
            yield Item(name, name.rsplit("/", 1)[0], kind, data)


def _read_game(path: Path) -> dict[str, Any]:
    game: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return game


def _available(household: Household) -> str:
    return f"AVAILABLE ACTIONS: {', '.join(household.commands)}"


def _nearest(written: str, commands: Sequence[str]) -> str | None:
    """The command that was written, or the one most like it; None where none shares half of its words and pairs."""
    text = written[:300].strip().rstrip(".").lower()
    if text in commands:
        return text
    mine = _pieces(text)
    best, likeness = None, _LEAST_LIKENESS
    for command in commands:
        theirs = _pieces(command)
        shared = 2 * sum((mine & theirs).values()) / max(1, mine.total() + theirs.total())
        if shared > likeness:
            best, likeness = command, shared
    return best


def _pieces(text: str) -> Counter[str]:
    words = text.split()
    return Counter([*words, *(" ".join(pair) for pair in itertools.pairwise(words))])
