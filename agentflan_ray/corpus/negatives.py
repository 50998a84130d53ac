"""Negatives: the cells of the grid (tools given?) x (does the query need one?) that agent corpora leave empty.

Agent-FLAN section 3.4. From real parts: the queries of tool trajectories with their tools taken away or replaced by
ones that can't help, and ordinary conversations with tools listed beside them. The reply calls nothing. Half of the
prompts ask for an explicit format, so that the decision, and not the prompt, is what is learnt.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from agentflan_ray.forms import json_system, plain_system, react_system
from agentflan_ray.randomness import stable_hash, stable_random
from agentflan_ray.sample import Case, Part, Sample, Turn
from agentflan_ray.trajectory import Tool, Trajectory

MAX_QUERY_CHARACTERS = 600
"""A longer first message is an environment's rule book (AgentInstruct), which makes no sense without its tools."""

MAX_SIMILARITY = 0.1
"""Tools that share more of their words than this (Jaccard) with the needed ones may help, so they are no negatives."""

_OPENERS = ("Sorry, ", "I'm afraid ", "Unfortunately, ", "", "Thanks for asking, but ", "Regrettably, ")
_NO_TOOLS = (
    "I have no tools here, so I can't {deed} for you.",
    "I can't {deed}: nothing in this chat gives me access to that.",
    "I have no way to {deed} from here.",
    "I'm not connected to anything that could {deed}.",
    "I can't {deed} in this conversation because no tool is available to me.",
)
_NO_FITTING_TOOL = (
    "none of my tools can {deed}.",
    "the tools listed here do not {deed}.",
    "I can't {deed} with the tools I was given.",
    "my tools serve other purposes and can't {deed}.",
    "nothing among the listed tools would {deed}.",
)
_OFFERS = (
    "",
    " If you can give me the details, I am glad to help with them.",
    " You could look it up at the source and tell me what you find.",
    " Is there anything else I can do for you?",
    " If such a tool is added, ask me again.",
    " I would rather say so than guess.",
)
_DEEDS = ("do that", "look that up", "carry that out", "find that out", "help with that request", "get at that")

System = Callable[[tuple[Tool, ...]], str]
_SYSTEMS: tuple[System, ...] = (plain_system, react_system, plain_system, json_system)


def no_tool_request(trajectory: Trajectory, seed: int) -> Sample | str:
    """The query of a tool trajectory without any tool, and an honest reply; a reason where it can't be made."""
    rng = stable_random(seed, "no_tool_request", trajectory.id)
    query = _query(trajectory)
    if query is None:
        return "query_too_long"
    reply = _reply(_NO_TOOLS, rng)
    turns = [Turn("user", (Part(query),)), Turn("assistant", (Part(reply, "general"),))]
    if rng.random() < 0.5:
        turns.insert(0, Turn("system", (Part(plain_system(())),)))
    return _sample(trajectory, "no_tool_request", turns)


def irrelevant_tool(trajectory: Trajectory, catalogue: Sequence[Tool], seed: int) -> Sample | str:
    """The query of a tool trajectory with tools that can't help, and an honest reply; a reason where none can't."""
    rng = stable_random(seed, "irrelevant_tool", trajectory.id)
    query = _query(trajectory)
    if query is None:
        return "query_too_long"
    tools = unhelpful_tools(trajectory.tools, query, catalogue, rng)
    if not tools:
        return "no_unhelpful_tools_in_catalogue"
    reply = _reply(_NO_FITTING_TOOL, rng)
    return _sample(
        trajectory,
        "irrelevant_tool",
        [
            Turn("system", (Part(rng.choice(_SYSTEMS)(tools)),)),
            Turn("user", (Part(query),)),
            Turn("assistant", (Part(reply, "general"),)),
        ],
    )


def chat_with_tools(trajectory: Trajectory, catalogue: Sequence[Tool], seed: int) -> Sample | str:
    """An ordinary conversation with tools listed and its real replies; a reason where it can't be made."""
    rng = stable_random(seed, "chat_with_tools", trajectory.id)
    tools = unhelpful_tools((), " ".join(m.content for m in trajectory.messages[:2]), catalogue, rng)
    if not tools:
        return "no_unhelpful_tools_in_catalogue"
    return _sample(trajectory, "chat_with_tools", listed(trajectory, tools, rng))


def listed(trajectory: Trajectory, tools: tuple[Tool, ...], rng: random.Random) -> list[Turn]:
    """A conversation without calls as turns, under a system prompt that lists the tools."""
    turns = [Turn("system", (Part(rng.choice(_SYSTEMS)(tools)),))]
    return turns + plain_turns(trajectory)


def plain_turns(trajectory: Trajectory) -> list[Turn]:
    """The user and assistant turns of a conversation without calls; what the assistant says is general ability."""
    return [
        Turn(
            "assistant" if message.role == "assistant" else "user",
            (Part(message.content.strip() or message.thought.strip(), "general" if message.loss else None),),
        )
        for message in trajectory.messages
        if message.role in ("user", "assistant")
    ]


def unhelpful_tools(
    needed: tuple[Tool, ...], query: str, catalogue: Sequence[Tool], rng: random.Random, num: int | None = None
) -> tuple[Tool, ...]:
    """Two to four tools of the catalogue that share almost no words with the needed ones nor names with the query.

    Chance alone would now and then list a tool that does help, and teach the model to refuse it.
    """
    wanted = num or rng.randint(2, 4)
    taken_words = [_words(tool) for tool in needed]
    said = set(_split(query))
    chosen: list[Tool] = []
    for tool in rng.sample(catalogue, min(len(catalogue), 12 * wanted)):
        words = _words(tool)
        names = {tool.name for tool in (*needed, *chosen)}
        if tool.name in names or set(_split(tool.name)) & said:
            continue
        if all(_jaccard(words, other) <= MAX_SIMILARITY for other in taken_words):
            chosen.append(tool)
        if len(chosen) == wanted:
            break
    return tuple(chosen)


def catalogue_of(trajectories_tools: Sequence[tuple[Tool, ...]], size: int = 2000) -> tuple[Tool, ...]:
    """Distinct tools by name, at most ``size`` of them, chosen by a stable hash and in its order."""
    by_name: dict[str, Tool] = {}
    for tools in trajectories_tools:
        for tool in tools:
            # Of several tools with one name keep the same one whatever the order they come in.
            kept = by_name.get(tool.name)
            if kept is None or tool.description < kept.description:
                by_name[tool.name] = tool
    return tuple(sorted(by_name.values(), key=lambda tool: stable_hash("catalogue", tool.name))[:size])


def _query(trajectory: Trajectory) -> str | None:
    first = next(message for message in trajectory.messages if message.role == "user")
    query = first.content.strip()
    return query if 0 < len(query) <= MAX_QUERY_CHARACTERS else None


def _reply(patterns: tuple[str, ...], rng: random.Random) -> str:
    sentence = rng.choice(_OPENERS) + rng.choice(patterns).format(deed=rng.choice(_DEEDS))
    return sentence[0].upper() + sentence[1:] + rng.choice(_OFFERS)


def _sample(trajectory: Trajectory, case: Case, turns: list[Turn]) -> Sample:
    return Sample(f"{trajectory.id}/{case}", trajectory.id, trajectory.source, "chat", case, tuple(turns))


def _words(tool: Tool) -> frozenset[str]:
    return frozenset(_split(f"{tool.name} {tool.description}")) - _STOP_WORDS


def _split(text: str) -> list[str]:
    return re.findall(r"[a-z]{3,}", re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower())


def _jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    return len(first & second) / max(1, len(first | second))


_STOP_WORDS = frozenset(
    [
        "the",
        "and",
        "for",
        "get",
        "with",
        "from",
        "that",
        "this",
        "one",
        "all",
        "are",
        "its",
        "into",
        "was",
        "per",
        "has",
        "can",
        "you",
        "your",
    ]
)
