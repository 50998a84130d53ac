"""The embedded toolbox: held-out tools that really run, and questions that need none. No data is needed.

The protocol and the scores are those of :mod:`agentflan_ray.evaluate.toolbox`, which a search chooses by, on the
items that judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentflan_ray.evaluate.benchmark import Benchmark, Item, Metric, Missing, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.items import Split, select_items
from agentflan_ray.evaluate.summary import Combined
from agentflan_ray.evaluate.toolbox import PLAIN_CASES, REPLY_TOKENS, Episode, advance, score, start, with_hscore
from agentflan_ray.randomness import stable_hash
from agentflan_ray.storage import as_json
from agentflan_ray.toolbox import EvaluationItem

_TOOL_SIDE = Metric("tool_score", cases=("tool",))
_PLAIN_SIDE = Metric("plain_score", score="correct", cases=PLAIN_CASES, by_case=True)
_CHATS = ("chat", "chat_with_tools")


@dataclass(frozen=True)
class Toolbox:
    """Which items are asked."""

    split: Split = "judge"
    num_tool: int = 96
    num_each_other: int = 48
    seed: int = 0


def toolbox(settings: Settings) -> Benchmark:
    """The benchmark.

    Raises :class:`~agentflan_ray.evaluate.benchmark.Unavailable` where another prompt is asked for than its own.
    """
    if settings.prompt not in (None, "react"):
        what = (
            "It has its own prompts (ReAct, and in every second item without a call a plain one), not "
            f"{settings.prompt!r}."
        )
        raise Unavailable("toolbox", [Missing(what, "Leave --prompt out for it.")])
    return ToolboxBenchmark(Toolbox())


class ToolboxBenchmark:
    """See the module."""

    name = "toolbox"
    protocol = (
        "Embedded toolbox, held-out tools and groups of the split 'judge': tool items by a ReAct prompt with calls "
        "executed, at most one step more than the gold solution; other cases one reply; at most 72 tokens a reply. "
        "The score is half the tool side and half the mean over the other cases."
    )
    metrics: Sequence[Metric] = (
        Combined("score", parts=(_TOOL_SIDE, _PLAIN_SIDE)),
        _TOOL_SIDE,
        Metric("right_tool", cases=("tool",)),
        Metric("right_arguments", cases=("tool",)),
        Metric("right_answer", cases=("tool",)),
        _PLAIN_SIDE,
        Metric("missed_call", cases=("tool",), better="low"),
        Metric("false_call", cases=PLAIN_CASES, better="low"),
        Metric("leak", cases=PLAIN_CASES, better="low"),
        Metric("over_refusal", cases=("tool", *_CHATS), better="low"),
        Metric("sensible", cases=_CHATS),
        Metric("h_react", cases=PLAIN_CASES, better="low"),
        Metric("h_general", cases=PLAIN_CASES, better="low"),
        Metric("hscore", cases=PLAIN_CASES),
    )

    def __init__(self, recipe: Toolbox) -> None:
        self._recipe = recipe
        numbers = dict.fromkeys(PLAIN_CASES, recipe.num_each_other) | {"tool": recipe.num_tool}
        self._items = {
            item.id: (item, number) for number, item in enumerate(select_items(recipe.split, numbers, recipe.seed))
        }

    @property
    def identity(self) -> Mapping[str, Any]:
        """The recipe; items stand in the package, and their data counts by itself."""
        return {**asdict(self._recipe), "reply_tokens": REPLY_TOKENS, "prompt": "react or plain"}

    def items(self) -> Sequence[Item]:
        """Cases mixed, two of ``tool`` for one of each other."""
        ids = sorted(self._items, key=lambda name: stable_hash("toolbox order", name))
        return [
            Item(name, item.group, item.case, as_json({**asdict(item), "number": number}))
            for name in ids
            for item, number in [self._items[name]]
        ]

    def open(self, item: Item) -> ToolboxEpisode:
        """Begin the item in a world of its own."""
        return ToolboxEpisode(*self._items[item.id])

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """The replies are gone through once more: the world's tools give the same results again."""
        episode = start(*self._items[item.id])
        for reply in outcome["replies"]:
            advance(episode, reply)
        return with_hscore(score(episode))


class ToolboxEpisode:
    """An item being run; its outcome is ``{"replies": […]}``."""

    def __init__(self, item: EvaluationItem, number: int) -> None:
        self._episode: Episode = start(item, number)

    def ask(self) -> Request | None:
        """The conversation so far, until an answer or the last step."""
        return None if self._episode.done else Request(tuple(self._episode.conversation), REPLY_TOKENS)

    def take(self, reply: Reply) -> None:
        """Runs the call that the reply makes."""
        advance(self._episode, reply.text)

    def outcome(self) -> dict[str, Any]:
        """The replies alone."""
        return {"replies": self._episode.replies}

    def close(self) -> None:
        """Nothing to free."""
