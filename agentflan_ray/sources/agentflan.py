"""The Agent-FLAN release (internlm/Agent-FLAN, Chen et al. 2024, arXiv 2403.12881).

Data sheet
    Fields: ``id``, ``conversation`` (list of ``{role: system|user|assistant, content, loss?, type?}``); ``loss`` is
    missing in some files, then every assistant turn is learnt; ``type`` is not read. Observations are user turns.
    The seven files are told apart by their names, because the records do not say which file they are of:
    ``agent_instruct_react``, ``toolbench_react_10p``: ReAct replies in AgentInstruct's or ToolBench's syntax, read as
    these sources read them.
    ``agent_instruct_tflan``, ``toolbench_tflan_60p_r10r5u7``: decomposed already, calls are free text; kept as they
    stand, with ``meta["aligned"]`` = ``tflan`` and the case ``tool``. ``toolbench_tflan_cot_30p``: the same with
    thought and call in one turn, ``aligned`` = ``cot``. ``toolbench_instruct_j1s1_3k``: asked to answer in a named
    format, ``aligned`` = ``instruct``.
    ``toolbench_negative`` (761): a system turn, a query, and a reply without a call; case ``irrelevant_tool`` where the
    system turn lists APIs (it is then read as tools), else ``no_tool_request``.
    Ids: the file's name goes before the record's id, because the same trajectory may stand in several files, in
    another form each, and both forms are wanted.
    Dropped: as in AgentInstruct and ToolBench.
    Malformed: ``unknown_task``, a ReAct record with neither a list of APIs nor a known instruction.
    Written from the published description of the files; the files themselves were not at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentflan_ray.sources.actions import find_task
from agentflan_ray.sources.agentinstruct import TASKS, parse_tasks
from agentflan_ray.sources.base import (
    Dropped,
    MalformedRecord,
    Source,
    Turn,
    Where,
    build,
    known_role,
    read_turns,
    record_id,
)
from agentflan_ray.sources.toolbench import parse_conversation, read_tool_list
from agentflan_ray.trajectory import Message, Role, Trajectory

ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "function": "tool"}

ALIGNED = {"tflan_cot": "cot", "tflan": "tflan", "_instruct_j": "instruct"}
"""What stands in the name of a file whose records are aligned already, and what ``meta["aligned"]`` says then."""


def parse(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped]:
    """One record of the release."""
    turns = read_turns(row, "conversation")
    identity = record_id(row, where)
    if not identity.startswith(f"{where.stem}-"):
        identity = f"{where.stem}-{identity}"
    for index, turn in enumerate(turns):
        known_role(turn.role, ROLES, index)
    if not turns:
        raise MalformedRecord("no_messages", f"Record {identity!r} has no messages.")
    tools = read_tool_list(turns[0].text) if turns[0].role == "system" else ()
    if aligned := next((name for mark, name in ALIGNED.items() if mark in where.stem), ""):
        yield build(identity, "agentflan", (), _as_they_stand(turns), {"aligned": aligned, "case": "tool"})
    elif "negative" in where.stem:
        messages = [message for message in _as_they_stand(turns) if not (tools and message.role == "system")]
        case = "irrelevant_tool" if tools else "no_tool_request"
        yield build(identity, "agentflan", tools, messages, {"case": case})
    elif tools:
        yield from parse_conversation(turns, identity, "agentflan")
    else:
        conversation = [turn for turn in turns if turn.role != "system"]
        if not conversation or find_task(TASKS, conversation[0].text) is None:
            raise MalformedRecord(
                "unknown_task",
                f"Record {identity!r} of {where.stem!r} has neither a list of APIs nor an AgentInstruct instruction.",
            )
        yield from parse_tasks(conversation, identity, "agentflan", TASKS)


def _as_they_stand(turns: list[Turn]) -> list[Message]:
    messages = []
    for turn in turns:
        role = ROLES[turn.role]
        messages.append(Message(role, turn.text, loss=turn.learnt if role == "assistant" else turn.loss is True))
    return messages


SOURCE = Source("agentflan", parse, "the released Agent-FLAN files")
