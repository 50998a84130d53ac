"""Samples and trajectories as the records of published formats. Pure functions; each says what its format can't hold.

Formats: the Agent-FLAN release (internlm/Agent-FLAN), ShareGPT as LLaMA-Factory reads it, and the chat format of
OpenAI's fine-tuning. All of them know loss for whole turns only.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from agentflan_ray.forms import thought_of
from agentflan_ray.sample import CHAT_FORMS, NEGATIVE_CASES, Sample, Turn
from agentflan_ray.trajectory import Message, Tool, Trajectory

Record = dict[str, Any]

SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt"}

KINDS = ("react", "tflan", "tflan_cot", "instruct_js", "negative", "general")
"""Kinds of the release's files, by the part of their names that tells them apart; ``general`` is this project's."""

LEARNT_IN_PART = "turns of which only parts are learnt, marked as learnt whole"
WITHOUT_CALL = "results that no call asked for, without a tool_call_id"
JOINED = "results joined to the one before them"
NOT_LEARNT = "assistant turns that are not to be learnt, which only their loss says"
"""What a format could not say, as a report counts it."""


def kind_of(sample: Sample) -> str:
    """The kind of file of the Agent-FLAN release that a sample belongs to."""
    if sample.case in NEGATIVE_CASES:
        return "negative"
    if sample.case == "chat":
        return "general"
    if sample.form == "react" and sample.id.endswith("/react"):
        return "react"
    if sample.form not in CHAT_FORMS:
        return "instruct_js"
    return "tflan_cot" if sample.form == "cot" else "tflan"


def agentflan_sample(sample: Sample, notes: Counter[str]) -> Record:
    """``{"conversation": [{"role", "content", "loss"}], "id"}``."""
    turns = [{"role": turn.role, "content": turn.text, "loss": is_learnt(turn, notes)} for turn in sample.turns]
    return {"conversation": turns, "id": sample.id}


def sharegpt_sample(sample: Sample, notes: Counter[str]) -> Record:
    """``{"id", "conversations": [{"from", "value", "loss"}]}``."""
    turns = [
        {"from": SHAREGPT_ROLES[turn.role], "value": turn.text, "loss": is_learnt(turn, notes)} for turn in sample.turns
    ]
    return {"id": sample.id, "conversations": turns}


def openai_sample(sample: Sample, notes: Counter[str]) -> Record:
    """``{"messages": [{"role", "content", "weight"}]}``: ``weight`` 0 or 1 on assistant messages, and no other key,
    since the fine-tuning API refuses a file with a key that it does not know."""
    messages = []
    for turn in sample.turns:
        learnt = is_learnt(turn, notes)
        weight = {"weight": int(learnt)} if turn.role == "assistant" else {}
        messages.append({"role": turn.role, "content": turn.text, **weight})
    return {"messages": messages}


def is_learnt(turn: Turn, notes: Counter[str]) -> bool:
    """Whether any part of the turn is learnt. A turn of which only some parts are is counted in ``notes``."""
    learnt = [part.capability is not None for part in turn.parts if part.text]
    if any(learnt) and not all(learnt):
        notes[LEARNT_IN_PART] += 1
    return any(learnt)


def openai_trajectory(trajectory: Trajectory, notes: Counter[str]) -> Record:
    """``{"id", "source", "messages", "tools"}`` with ``tool_calls``, ``role: tool`` and ``reasoning_content``.

    ``loss`` on assistant messages says what is learnt, as ms-swift and this project's own source read it.
    """
    messages: list[Record] = []
    num_calls = 0
    waiting: list[str] = []
    for message in trajectory.messages:
        entry: Record = {"role": message.role, "content": message.content}
        if message.role == "assistant":
            if message.thought:
                entry["reasoning_content"] = message.thought
            waiting = [f"call_{num_calls + index}" for index in range(len(message.calls))]
            num_calls += len(waiting)
            if message.calls:
                entry["tool_calls"] = [
                    {"id": name, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                    for name, call in zip(waiting, message.calls, strict=True)
                ]
            entry["loss"] = message.loss
        elif message.role == "tool":
            if waiting:
                # Results come in the order of the calls; one more than there were calls belongs to the last.
                entry["tool_call_id"] = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            else:
                notes[WITHOUT_CALL] += 1
        messages.append(entry)
    return {
        "id": trajectory.id,
        "source": trajectory.source,
        "messages": messages,
        "tools": [{"type": "function", "function": _tool(tool)} for tool in trajectory.tools],
    }


def sharegpt_trajectory(trajectory: Trajectory, notes: Counter[str]) -> Record:
    """``{"id", "system", "tools", "conversations"}`` with the turns human, gpt, function_call and observation.

    LLaMA-Factory drops a record whose turns do not alternate. So several results in a row become one observation, a
    line each, and the words beside a call go before it into ``<think>``, which it takes for the turn's thought.
    """
    system = ""
    turns: list[Record] = []
    for message in trajectory.messages:
        if message.role == "system":
            system = message.content
        elif message.role == "tool" and turns and turns[-1]["from"] == "observation":
            turns[-1]["value"] += f"\n{message.content}"
            notes[JOINED] += 1
        elif message.role == "tool":
            turns.append({"from": "observation", "value": message.content})
        elif message.role == "user":
            turns.append({"from": "human", "value": message.content})
        else:
            turns.append(_sharegpt_assistant(message))
            notes[NOT_LEARNT] += not message.loss
    tools = json.dumps([_tool(tool) for tool in trajectory.tools], ensure_ascii=False) if trajectory.tools else ""
    return {"id": trajectory.id, "system": system, "tools": tools, "conversations": turns}


def _sharegpt_assistant(message: Message) -> Record:
    if not message.calls:
        return {"from": "gpt", "value": _thought_before(message.thought, message.content), "loss": message.loss}
    calls = [{"name": call.name, "arguments": json.loads(call.arguments)} for call in message.calls]
    text = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
    return {"from": "function_call", "value": _thought_before(thought_of(message), text), "loss": message.loss}


def _thought_before(thought: str, text: str) -> str:
    return f"<think>\n{thought}\n</think>\n\n{text}" if thought else text


def _tool(tool: Tool) -> Record:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
