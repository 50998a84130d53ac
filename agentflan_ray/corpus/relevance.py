"""Which tools can't serve a request, and which only seem to: decided by likeness, never by chance alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from agentflan_ray.corpus.lexicon import (
    GENERIC_WORDS,
    OPERATES,
    READS,
    SELF_CONTAINED,
    SELF_CONTAINED_DEED,
    SELF_CONTAINED_REQUEST,
)
from agentflan_ray.corpus.similarity import Catalogue, action_of, purpose, spelled, words_of
from agentflan_ray.trajectory import Tool

MAX_LIKENESS = 0.05
"""Cosine to every listed tool up to which another is unlike. Of the pairs among 229 tools (SGD, Glaive, ToolBench,
AgentTraj, the embedded world) four fifths lie at 0; those read between 0.05 and 0.1 were unlike too; from 0.1 on,
some served."""

MAX_COVERAGE = 0.2
"""Share of a tool that the request may speak of; a place that is named gives up to 0.15 to tools that take a city."""

NEAR_LIKENESS = (0.25, 0.6)
"""Cosine between which a tool for another object seems to fit. Read on real queries: below it were tools that nobody
would take for the needed one, above it some that do the same in other words."""

SAME_OBJECT_LIKENESS = 0.3
"""Cosine from which a tool with another action is about the same object."""

OPPOSED: dict[str, set[str]] = {
    READS: {"create", "remove", "change"},
    "create": {"remove", "send"},
    "remove": {"create", "change", "send"},
    "change": {"create", "remove", "send"},
    "send": {"remove", "change"},
    "reserve": {"remove", "change"},
    "play": {"remove", "change", "send", "create"},
}
"""Actions that are no help where another is asked for. Reading is in none but its own row: to search is often the first
step of what is asked for; and who looks for a flight may well be helped by a tool that reserves one."""

FIRST_WORDS = 4
"""Words of a description that say what a tool does rather than what it takes and returns."""

MIN_REQUEST_COVERAGE = 0.25
"""Share of the needed tool that the request must speak of, so that what is asked for can be compared at all."""


def is_self_contained(tool: Tool) -> bool:
    """Whether what the tool does can be done without it: reckoning, counting, sorting, translating."""
    text = spelled(tool)
    beginning = text[: len(text) - len(purpose(tool))] + " ".join(purpose(tool).split()[:FIRST_WORDS])
    return SELF_CONTAINED.search(text) is not None or SELF_CONTAINED_DEED.search(beginning) is not None


def needs_no_tool(called: Sequence[Tool], query: str) -> bool:
    """Whether the request can be served without any of the tools that were called for it."""
    if all(is_self_contained(tool) for tool in called):
        return True
    return SELF_CONTAINED_REQUEST.match(query) is not None and any(action_of(tool) == OPERATES for tool in called)


def needed_tool(called: Sequence[Tool], query: str, catalogue: Catalogue) -> tuple[Tool, float]:
    """Of the tools that were called, the one that the request speaks of most, and how much of it (0 to 1)."""
    covered = [catalogue.coverage_of(tool, query) for tool in called]
    best = max(range(len(called)), key=covered.__getitem__)
    return called[best], covered[best]


def unhelpful_tools(
    known: Sequence[Tool], query: str, catalogue: Catalogue, rng: random.Random, num: int
) -> tuple[Tool, ...]:
    """Up to ``num`` tools that are unlike every known tool and that the query says nothing about, drawn by ``rng``."""
    fit = ~catalogue.broad & (catalogue.coverage(query) <= MAX_COVERAGE)
    for tool in known:
        fit &= catalogue.likeness(tool) <= MAX_LIKENESS
    fit[[catalogue.places[tool.name] for tool in known if tool.name in catalogue.places]] = False
    able = np.flatnonzero(fit)
    return tuple(catalogue.tools[able[index]] for index in rng.sample(range(len(able)), min(num, len(able))))


def near_miss(called: Sequence[Tool], query: str, catalogue: Catalogue) -> Tool | None:
    """The tool that comes nearest to the needed one and yet can't do what is asked; None where none surely can't.

    It must fit the request less than the needed tool does, and differ from it in one of two ways that the request
    shows: it does the same kind of thing, but with another object than the request and the needed tool name; or it
    does to the same object what none of the called tools does (:data:`OPPOSED`). Either way they share a word that is
    neither an action nor generic: "lookup", "date" or "range" alone make no tool seem to fit, at whatever cosine.
    """
    needed, covered = needed_tool(called, query, catalogue)
    objects = (set(words_of(needed.name)) - GENERIC_WORDS) & set(words_of(query))
    if covered < MIN_REQUEST_COVERAGE or not objects:
        return None
    action, actions = action_of(needed), {action_of(tool) for tool in called}
    if action == OPERATES:
        return None
    said = set(words_of(f"{needed.name} {purpose(needed)}")) - GENERIC_WORDS
    likeness = catalogue.likeness(needed)
    most_alike = np.maximum.reduce([likeness, *(catalogue.likeness(tool) for tool in called if tool is not needed)])
    names = {tool.name for tool in called}
    possible = ~catalogue.broad & (catalogue.coverage(query) < covered) & (likeness >= NEAR_LIKENESS[0])
    for index in sorted(np.flatnonzero(possible).tolist(), key=lambda index: (-likeness[index], index)):
        other = catalogue.actions[index]
        if catalogue.tools[index].name in names or is_self_contained(catalogue.tools[index]):
            continue
        if other == action:
            seems = said & catalogue.words[index]
            differs = not objects & catalogue.words[index] and most_alike[index] <= NEAR_LIKENESS[1]
        else:
            seems = said & objects & catalogue.words[index]
            differs = other in OPPOSED[action] - actions and likeness[index] >= SAME_OBJECT_LIKENESS
        if seems and differs:
            return catalogue.tools[index]
    return None
