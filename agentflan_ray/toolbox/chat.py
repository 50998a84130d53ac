"""Ordinary conversation without tools, in the same record: what a model must keep being able to do."""

from __future__ import annotations

import random
from dataclasses import dataclass

from agentflan_ray.toolbox.chat_texts import held_out, lists, train
from agentflan_ray.toolbox.tasks import SOURCE, Split, drawing
from agentflan_ray.trajectory import Message, Trajectory

FOLLOW_UP_SHARE = 0.15
"""Share of conversations with a second question on the same topic."""

MAX_TOPIC_WEIGHT = 14
"""Topics are drawn by their number of pairs up to here, so that long lists do not crowd out the written ones."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One exchange; any of the questions goes with any of the answers. ``keywords`` are parted by ``|``."""

    questions: tuple[str, ...]
    answers: tuple[str, ...]
    keywords: str = ""


def _read(text: str) -> dict[str, tuple[Pair, ...]]:
    """The topics of a text in the form that ``chat_texts.train`` describes."""
    topics: dict[str, list[Pair]] = {}
    topic: list[Pair] = []
    for line in text.strip().splitlines():
        key, rest = line[:2], line[2:].strip()
        if key == "# ":
            assert rest not in topics, rest
            topic = topics[rest] = []
        elif key == "Q:":
            if not topic or topic[-1].answers:
                topic.append(Pair((), ()))
            topic[-1] = Pair((*topic[-1].questions, rest), ())
        elif key == "A:":
            topic[-1] = Pair(topic[-1].questions, (*topic[-1].answers, rest))
        elif key == "K:":
            topic[-1] = Pair(topic[-1].questions, topic[-1].answers, rest)
        else:
            assert not line, line
    return {name: tuple(pairs) for name, pairs in topics.items()}


TOPICS: dict[str, dict[str, tuple[Pair, ...]]] = {
    "train": _read(train.TEXT)
    | {topic: tuple(Pair((q,), (a,)) for q, a in pairs) for topic, pairs in lists.train().items()},
    "held_out": _read(held_out.TEXT)
    | {topic: tuple(Pair((q,), (a,), k) for q, a, k in pairs) for topic, pairs in lists.held_out().items()},
}
"""Split to topic to its pairs. No topic is in both."""


def draw_chat(index: int, seed: int = 0, split: Split = "train") -> Trajectory:
    """The conversation at ``index``, of one or two questions; it depends on nothing but the arguments.

    Raises:
        ValueError: an index below zero or an unknown split.
    """
    _, rng = drawing(index, seed, split, "chat")
    topics = TOPICS[split]
    topic = rng.choices(list(topics), [min(len(pairs), MAX_TOPIC_WEIGHT) for pairs in topics.values()])[0]
    pairs = rng.sample(topics[topic], 2 if rng.random() < FOLLOW_UP_SHARE else 1)
    return Trajectory(
        id=f"{SOURCE}/chat/{split}/{seed}/{index}",
        source=SOURCE,
        tools=(),
        messages=tuple(message for pair in pairs for message in _exchange(pair, rng)),
        meta={"case": "chat", "group": topic, "split": split},
    )


def _exchange(pair: Pair, rng: random.Random) -> tuple[Message, Message]:
    return (
        Message("user", rng.choice(pair.questions)),
        Message("assistant", rng.choice(pair.answers), loss=True),
    )
