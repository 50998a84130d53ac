"""Negatives: the cells of the grid (tools given?) x (does the query need one?) that agent corpora leave empty.

Agent-FLAN section 3.4, and beyond. From real parts: the queries of tool trajectories with their tools taken away,
replaced by ones that can't help or by ones that only seem to, and ordinary conversations with tools listed beside
them. The reply calls nothing. Half of the prompts that list tools ask for an explicit format, so that the decision,
and not the prompt, is what is learnt.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence

from agentflan_ray.corpus.align import split_system, unlearnt
from agentflan_ray.corpus.relevance import near_miss, needs_no_tool, unhelpful_tools
from agentflan_ray.corpus.replies import NEAR_MISS, NO_FITTING_TOOL, NO_TOOLS, Deed, refusal, stated
from agentflan_ray.corpus.similarity import Catalogue, words_of
from agentflan_ray.forms import json_system, plain_system, react_system, string_system
from agentflan_ray.randomness import stable_hash, stable_random
from agentflan_ray.sample import Case, Part, Sample, Turn
from agentflan_ray.sources import agentinstruct, agenttraj, knowagent
from agentflan_ray.trajectory import Message, Tool, Trajectory

MAX_QUERY_CHARACTERS = 600
"""A longer first message is an environment's rule book (AgentInstruct), which makes no sense without its tools."""

ENVIRONMENT_TASKS = frozenset(("alfworld", "babyai", "maze", "mind2web", "sciworld", "textcraft", "webshop", "wordle"))
"""Tasks whose query is what an environment shows ("In front of you in this room …"): nobody asks that without it."""

ENVIRONMENT_TOOLS = frozenset(
    (tool.name, tool.description)
    for task in (*agentinstruct.TASKS, *agenttraj.TASKS, knowagent.TASK)
    if task.name in ENVIRONMENT_TASKS
    for tool in task.tools("")
)
"""Names and descriptions of the moves in those tasks ("Look around."), which nobody would offer beside a request."""

SEARCH_TASK = "search"
"""FireAct: questions of general knowledge, many with yes or no or choices, that a model may well answer by itself."""

_GREETING = re.compile(
    r"\W*(?:(?:dear|hi|hello|hey|greetings|good (?:morning|evening)|assistant|there|all|team|sir|madam)\b\W*)+",
    re.IGNORECASE,
)

MAX_STATED_CHARACTERS = 140
"""A longer description is not quoted in a reply; the tool is then no near miss."""

CATALOGUE_SIZE = 2000
"""Tools that negatives draw from; more would cost time in each worker and add little to two to five that are listed."""

System = Callable[[tuple[Tool, ...]], str]
_SYSTEMS: tuple[System, ...] = (plain_system, react_system, plain_system, json_system, plain_system, string_system)


def no_tool_request(trajectory: Trajectory, seed: int) -> Sample | str:
    """The query of a tool trajectory without any tool, and an honest reply; a reason where it can't be made."""
    rng = stable_random(seed, "no_tool_request", trajectory.id)
    query = request_of(trajectory)
    if (reason := _unfit(trajectory, query)) is not None:
        return reason
    reply = refusal(NO_TOOLS, Deed.of(called_tools(trajectory)), rng)
    turns = [Turn("user", (Part(query),)), Turn("assistant", (Part(reply, "general"),))]
    if rng.random() < 0.5:
        turns.insert(0, Turn("system", (Part(plain_system(())),)))
    return make_negative(trajectory, "no_tool_request", turns)


def irrelevant_tool(trajectory: Trajectory, catalogue: Catalogue, seed: int) -> Sample | str:
    """The query of a tool trajectory with tools that can't help, and an honest reply; a reason where none can't."""
    rng = stable_random(seed, "irrelevant_tool", trajectory.id)
    query = request_of(trajectory)
    if (reason := _unfit(trajectory, query)) is not None:
        return reason
    tools = unhelpful_tools(trajectory.tools, query, catalogue, rng, rng.randint(2, 5))
    if not tools:
        return "no_unhelpful_tools_in_catalogue"
    reply = refusal(NO_FITTING_TOOL, Deed.of(called_tools(trajectory)), rng)
    return make_negative(trajectory, "irrelevant_tool", _asked(tools, query, reply, rng))


def near_miss_tool(trajectory: Trajectory, catalogue: Catalogue, seed: int) -> Sample | str:
    """The query of a tool trajectory with a tool that only seems to fit, and a reply that says what that one does.

    A reason where the catalogue has none of which that is sure.
    """
    rng = stable_random(seed, "near_miss", trajectory.id)
    query = request_of(trajectory)
    if (reason := _unfit(trajectory, query)) is not None:
        return reason
    called = called_tools(trajectory)
    nearest = near_miss(called, query, catalogue)
    if nearest is None or not 0 < len(stated(nearest)) <= MAX_STATED_CHARACTERS:
        return "no_near_miss_in_catalogue"
    others = unhelpful_tools((*trajectory.tools, nearest), query, catalogue, rng, rng.randint(0, 3))
    tools = rng.sample((nearest, *others), 1 + len(others))
    reply = refusal(NEAR_MISS, Deed.of(called), rng, nearest)
    return make_negative(trajectory, "near_miss", _asked(tuple(tools), query, reply, rng))


def chat_with_tools(trajectory: Trajectory, catalogue: Catalogue, seed: int) -> Sample | str:
    """An ordinary conversation with tools listed and its real replies; a reason where it can't be made."""
    rng = stable_random(seed, "chat_with_tools", trajectory.id)
    said = " ".join(message.content for message in trajectory.messages if message.role == "user")
    tools = unhelpful_tools((), said, catalogue, rng, rng.randint(2, 5))
    if not tools:
        return "no_unhelpful_tools_in_catalogue"
    return make_negative(trajectory, "chat_with_tools", listed(trajectory, tools, rng))


def listed(trajectory: Trajectory, tools: tuple[Tool, ...], rng: random.Random) -> list[Turn]:
    """A conversation without calls as turns, under a system prompt that lists the tools."""
    own, _ = split_system(trajectory)
    prompt = rng.choice(_SYSTEMS)(tools)
    return [Turn("system", (Part(f"{own}\n{prompt}" if own else prompt),)), *plain_turns(trajectory)]


def plain_turns(trajectory: Trajectory) -> list[Turn]:
    """The user and assistant turns of a conversation without calls: thoughts are reasoning, words general ability."""
    return [
        Turn("assistant", _spoken(message))
        if message.role == "assistant"
        else Turn("user", (Part(message.content.strip()),))
        for message in trajectory.messages
        if message.role in ("user", "assistant")
    ]


def _spoken(message: Message) -> tuple[Part, ...]:
    """The thought of a turn without calls, and below it what it says."""
    thought, content = message.thought.strip(), message.content.strip()
    parts = [Part(thought, "reasoning")] if thought else []
    if content:
        parts += [Part("\n", "general")] if parts else []
        parts.append(Part(content, "general"))
    return tuple(parts) if message.loss else unlearnt(parts)


def request_of(trajectory: Trajectory) -> str:
    """The first thing that the user says."""
    return next(message.content for message in trajectory.messages if message.role == "user").strip()


def called_tools(trajectory: Trajectory) -> tuple[Tool, ...]:
    """The tools that the trajectory calls, in the order in which they are listed."""
    names = {call.name for message in trajectory.messages for call in message.calls}
    return tuple(tool for tool in trajectory.tools if tool.name in names)


def make_negative(trajectory: Trajectory, case: Case, turns: Sequence[Turn]) -> Sample:
    """A sample in natural language that counts as negative."""
    return Sample(f"{trajectory.id}/{case}", trajectory.id, trajectory.source, "chat", case, tuple(turns))


def catalogue_of(trajectories_tools: Sequence[tuple[Tool, ...]], size: int = CATALOGUE_SIZE) -> tuple[Tool, ...]:
    """Distinct tools by name, at most ``size`` of them, chosen by a stable hash and in its order.

    Moves of an environment (:data:`ENVIRONMENT_TOOLS`) are left out.
    """
    by_name: dict[str, Tool] = {}
    for tools in trajectories_tools:
        for tool in tools:
            if (tool.name, tool.description) in ENVIRONMENT_TOOLS:
                continue
            # Of several tools with one name keep the same one whatever the order they come in: one that says what it
            # is for, and of those the first by its texts.
            kept = by_name.get(tool.name)
            if kept is None or (tool != kept and _rank(tool) < _rank(kept)):
                by_name[tool.name] = tool
    return tuple(sorted(by_name.values(), key=lambda tool: stable_hash("catalogue", tool.name))[:size])


def _rank(tool: Tool) -> tuple[bool, str, str]:
    return not tool.description, tool.description, json.dumps(tool.parameters, sort_keys=True)


def is_environment(trajectory: Trajectory) -> bool:
    """Whether the query only makes sense within the environment of its task."""
    return trajectory.meta.get("task") in ENVIRONMENT_TASKS


def _unfit(trajectory: Trajectory, query: str) -> str | None:
    """Why a refusal of this request would be wrong or make no sense."""
    if is_environment(trajectory):
        return "environment_task"
    if not words_of(_GREETING.sub("", query, count=1)):
        return "no_query"
    if len(query) > MAX_QUERY_CHARACTERS:
        return "query_too_long"
    if trajectory.meta.get("task") == SEARCH_TASK or needs_no_tool(called_tools(trajectory), query):
        return "answerable_without_tools"
    return None


def _asked(tools: tuple[Tool, ...], query: str, reply: str, rng: random.Random) -> list[Turn]:
    return [
        Turn("system", (Part(rng.choice(_SYSTEMS)(tools)),)),
        Turn("user", (Part(query),)),
        Turn("assistant", (Part(reply, "general"),)),
    ]
