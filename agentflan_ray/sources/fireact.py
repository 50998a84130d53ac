"""FireAct: question answering with a web search, ReAct, Reflexion and CoT runs (Chen et al. 2023, arXiv 2310.05915).

Data sheet
    Two files hold the same 2,063 runs, without ids. Messages: ``messages`` (list of ``{role: user|assistant,
    content}``). Alpaca: ``instruction`` (the question), ``input`` (always ""), ``output`` (the whole run as text, which
    for questions with choices begins with the choices).
    Read: ``Thought: .. Action: search[..]`` as thought and call, ``Observation: ..`` as the result,
    ``finish[<answer>]`` as the answer in plain words.
    Taken out: ``Question:`` before the question; the last observation ("Episode finished, reward = ..").
    Seen: 2,051 kept as messages, and 2,056 from the Alpaca form, where the same questions give the same turns.
    Dropped: ``unreadable_action``, 10 and 5 seen: a reply without an action, or an observation in the place of one.
    Malformed: ``no_user_first`` and ``no_steps``, 2 seen: the question stands in the reply, the thought in the action.
    Decontaminate: 40 questions are also in HotpotQA's easy and medium development sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from agentflan_ray.sources.actions import Task, Verb, read_episode
from agentflan_ray.sources.base import Dropped, MalformedRecord, Source, Turn, Where, record_id, text_at
from agentflan_ray.sources.text_actions import read_messages
from agentflan_ray.trajectory import Trajectory

TASK = Task(
    name="search",
    marker="",
    system="You answer questions. You can search the web.",
    verbs=(
        Verb("search", r"search\[(?P<query>.*)\]", "Search the web; returns the best matching passage."),
        Verb(None, r"finish\[(?P<answer>.*)\]"),
    ),
    problem=r"\Aquestion:\s*",
)

_STEP = re.compile(r"^(?=(?:Thought|Observation):)", re.MULTILINE)


def parse(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped]:
    """One FireAct record in its messages or its Alpaca form."""
    identity = record_id(row, where)
    if "messages" in row:
        yield from read_messages(row, identity, TASK, "fireact")
    else:
        yield from read_episode(TASK, "", _turns(row, identity), identity, "fireact")


def _turns(row: dict[str, Any], identity: str) -> list[Turn]:
    """The turns of a run that is written as one text; what stands before its first step belongs to the question."""
    choices, *steps = _STEP.split(text_at(row, "output", "record"))
    if "Action:" in choices or not steps:
        raise MalformedRecord("no_steps", f"Record {identity!r} has no 'Thought:' before its first action.")
    question = (text_at(row, "instruction", "record"), text_at(row, "input", "record"), choices)
    turns = [Turn("user", "\n".join(piece.strip("\n") for piece in question if piece.strip()), None)]
    for step in steps:
        turns.append(Turn("user" if step.startswith("Observation:") else "assistant", step, None))
    return turns


SOURCE = Source("fireact", parse, "FireAct: search and finish trajectories, messages or Alpaca form")
