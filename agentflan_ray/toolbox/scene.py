"""A scene records one task while a template plays it: the query, the calls with what they really gave, the answer."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from agentflan_ray.toolbox.catalogue import execute
from agentflan_ray.toolbox.world import World, spoken_date
from agentflan_ray.trajectory import Message, ToolCall

ANSWER_THOUGHT_SHARE = 0.6
"""Share of final turns that reason before they answer, where the template knows how."""

POLITE_SHARE = 0.3
"""Share of queries with a greeting or thanks around them."""


class Scene:
    """What a template plays in. A template asks once, calls one to four tools, and answers once.

    Every list of texts is a choice: one of them is drawn.
    """

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.messages: list[Message] = []
        self.values: tuple[str, ...] = ()

    def one(self, *choices: Any) -> Any:
        """One of the choices."""
        return self.rng.choice(choices)

    def pick(self, query: str, *values: Any) -> sqlite3.Row:
        """A random row of an SQL query that must give some, whatever order SQLite gives them in."""
        return self.rng.choice(sorted(self.world.rows(query, *values), key=tuple))

    def date_words(self, day: date) -> str:
        """The date as a user may write it."""
        return spoken_date(day) if self.rng.random() < 2 / 3 else day.isoformat()

    def ask(self, queries: list[str]) -> None:
        """The user's query."""
        self.messages.append(Message("user", politely(self.rng.choice(queries), self.rng, POLITE_SHARE)))

    def call(self, tool: str, thoughts: list[str], **arguments: Any) -> Any:
        """Call a tool, which must succeed; what it gave, read from JSON where it is JSON of an object or list."""
        text, ok = self._play(tool, thoughts, arguments)
        assert ok, f"{tool}({arguments}) failed: {text}"
        return json.loads(text) if text[0] in "{[" else text

    def fault(self, tool: str, thoughts: list[str], **arguments: Any) -> str:
        """Call a tool, which must fail; the sentence it gave."""
        text, ok = self._play(tool, thoughts, arguments)
        assert not ok, f"{tool}({arguments}) was to fail but gave: {text}"
        return text

    def answer(self, values: list[str], sentences: list[str], thoughts: list[str] | None = None) -> None:
        """The final turn; ``values`` is what a right answer must contain (see ``answers``)."""
        self.values = tuple(values)
        thought = self.rng.choice(thoughts) if thoughts and self.rng.random() < ANSWER_THOUGHT_SHARE else ""
        self.messages.append(Message("assistant", self.rng.choice(sentences), thought=thought, loss=True))

    def _play(self, tool: str, thoughts: list[str], arguments: dict[str, Any]) -> tuple[str, bool]:
        call = ToolCall(tool, json.dumps(arguments, ensure_ascii=False))
        observation = execute(self.world, call)
        self.messages.append(Message("assistant", thought=self.rng.choice(thoughts), calls=(call,), loss=True))
        self.messages.append(Message("tool", observation.text))
        return observation


def politely(query: str, rng: random.Random, share: float) -> str:
    """The query as it stands, or with that probability with a greeting, thanks, or both."""
    if rng.random() >= share:
        return query
    before = rng.choice(("Hi! ", "Hello. ", "Good morning. ", "Hey, quick question. ", "", ""))
    after = rng.choice((" Thanks!", " Thank you.", " Thanks in advance.", ""))
    return f"{before}{query}{after}"


@dataclass(frozen=True, slots=True)
class Template:
    """A kind of task. ``weight`` is how often it is drawn, compared with others of its split."""

    name: str
    play: Callable[[Scene], None]
    held_out: bool
    weight: float


def template(weight: float = 1.0, held_out: bool = False) -> Callable[[Callable[[Scene], None]], Template]:
    """Make a template of a function that plays a scene; it takes the function's name."""
    return lambda play: Template(play.__name__, play, held_out, weight)
