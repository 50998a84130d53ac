"""Evaluation items over the held-out tools, templates and topics, with an exact check of the answer."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from agentflan_ray.sample import Case
from agentflan_ray.toolbox.answers import answer_appears
from agentflan_ray.toolbox.asking import GAPS, Gap, group_of, play_gap
from agentflan_ray.toolbox.catalogue import BROAD_DOMAINS, SELF_CONTAINED_DOMAINS, TOOLS, domain_of, irrelevant_tools
from agentflan_ray.toolbox.chat import TOPICS
from agentflan_ray.toolbox.scene import Template
from agentflan_ray.toolbox.tasks import SOURCE, TEMPLATES, play
from agentflan_ray.trajectory import Tool, ToolCall

ITEM_CASES: tuple[Case, ...] = (
    "tool",
    "no_tool_request",
    "irrelevant_tool",
    "chat_with_tools",
    "missing_argument",
    "chat",
)
"""Cases that there are held-out items of."""

REFUSALS = (
    "cannot|can't|can not|could not|couldn't|unable|not able|no way to|not possible|don't have|do not have|have no|"
    "no access|no tool|none of|nothing here|not connected|sorry|afraid|unfortunately|i don't know|i do not know"
)
"""Signs of an honest reply where nothing can be looked up."""

MAX_REPEATS = 200
"""A group that only repeats its queries this often has no more to give."""


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """One thing to ask a model.

    ``group`` is the template, gap or topic it is drawn from: the unit by which scores are clustered. ``answer`` holds
    requirements of which all must be met, each one value or several parted by ``|`` of which one is enough (see
    ``answers``). For ``tool`` they are the values of the final answer; for ``chat`` and ``chat_with_tools`` words of
    a sensible reply; for ``missing_argument`` names of what is missing; for the other cases signs of a refusal.
    ``gold_calls`` is empty but for ``tool``, whose calls run in ``World(world_seed)``.
    """

    id: str
    case: Case
    group: str
    tools: tuple[Tool, ...]
    query: str
    world_seed: int
    gold_calls: tuple[ToolCall, ...]
    answer: tuple[str, ...]


def held_out_items(num_per_case: int | dict[str, int], seed: int = 0) -> list[EvaluationItem]:
    """Items of every case, case after case; each case's groups take turns, so that few items cover many groups.

    Deterministic and nested: the items of a smaller number are the first ones of a larger. No two items of a case
    share a query.

    Raises:
        ValueError: an unknown case, or more items of a case than there are different queries.
    """
    wanted = dict.fromkeys(ITEM_CASES, num_per_case) if isinstance(num_per_case, int) else num_per_case
    if unknown := sorted(set(wanted) - set(ITEM_CASES)):
        raise ValueError(f"The case {unknown[0]!r} is not known; use one of {', '.join(ITEM_CASES)}.")
    return [item for case in ITEM_CASES if case in wanted for item in _items(case, wanted[case], seed)]


def answer_is_right(item: EvaluationItem, reply: str) -> bool:
    """True if the reply meets every requirement of ``item.answer``."""
    return answer_appears(item.answer, reply)


def _items(case: Case, num: int, seed: int) -> list[EvaluationItem]:
    streams = _streams(case, f"{SOURCE}/items/{case}/{seed}")
    items: list[EvaluationItem] = []
    seen: set[str] = set()
    while len(items) < num:
        if not streams:
            raise ValueError(f"{num} items of the case {case} are asked for, but there are only {len(items)}.")
        for stream in list(streams):
            item = next((item for item in itertools.islice(stream, MAX_REPEATS) if item.query not in seen), None)
            if item is None:
                streams.remove(stream)
            else:
                seen.add(item.query)
                items.append(item)
    return [replace(item, id=f"{SOURCE}/{case}/{seed}/{number}") for number, item in enumerate(items[:num])]


def _streams(case: Case, name: str) -> list[Iterator[EvaluationItem]]:
    """One stream of items for each group, in random order."""
    streams: list[Iterator[EvaluationItem]]
    if case in ("chat", "chat_with_tools"):
        streams = [_chat_stream(case, topic, f"{name}/{topic}") for topic in TOPICS["held_out"]]
    elif case == "missing_argument":
        streams = [_gap_stream(gap, f"{name}/{group_of(gap)}") for gap in GAPS["held_out"]]
    else:
        templates = [t for t in TEMPLATES.values() if t.held_out and (case == "tool" or _looks_something_up(t))]
        streams = [_task_stream(case, template, f"{name}/{template.name}") for template in templates]
    random.Random(name).shuffle(streams)
    return streams


def _looks_something_up(template: Template) -> bool:
    """False where the query could be answered by reckoning, without any tool."""
    return any(domain_of(call.name) not in SELF_CONTAINED_DOMAINS for call in play(template, 0, random.Random(0)).calls)


def _task_stream(case: Case, template: Template, name: str) -> Iterator[EvaluationItem]:
    for turn in itertools.count():
        rng = random.Random(f"{name}/{turn}")
        world_seed = rng.getrandbits(32)
        task = play(template, world_seed, rng)
        if case == "tool":
            yield EvaluationItem("", case, template.name, task.tools, task.query, world_seed, task.calls, task.answer)
        else:
            needed = {call.name for call in task.calls}
            tools = () if case == "no_tool_request" else irrelevant_tools(needed, rng, rng.choice((2, 3, 4)))
            yield EvaluationItem("", case, template.name, tools, task.query, world_seed, (), (REFUSALS,))


def _gap_stream(gap: Gap, name: str) -> Iterator[EvaluationItem]:
    for turn in itertools.count():
        rng = random.Random(f"{name}/{turn}")
        world_seed = rng.getrandbits(32)
        query, tools = play_gap(gap, world_seed, rng)
        yield EvaluationItem("", "missing_argument", group_of(gap), tools, query, world_seed, (), (gap.words,))


def _chat_stream(case: Case, topic: str, name: str) -> Iterator[EvaluationItem]:
    rng = random.Random(name)
    useless = [
        tool.spec
        for tool in TOOLS.values()
        if tool.domain not in SELF_CONTAINED_DOMAINS and tool.domain not in BROAD_DOMAINS
    ]
    pairs = TOPICS["held_out"][topic]
    for pair in rng.sample(pairs, len(pairs)):
        tools = tuple(rng.sample(useless, rng.choice((2, 3, 4)))) if case == "chat_with_tools" else ()
        yield EvaluationItem("", case, topic, tools, rng.choice(pair.questions), 0, (), (pair.keywords,))
