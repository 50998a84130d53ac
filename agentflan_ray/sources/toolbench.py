"""ToolBench (Qin et al. 2023, arXiv 2307.16789): ToolLLaMA conversations and DFSDT answer trees.

Data sheet
    ToolLLaMA: ``id`` (``Step 4: <query>``), ``conversations`` of ``{from: system|user|assistant|function, value}``.
    The system turn lists the tools as a Python or JSON literal after "access to the following APIs:"; replies are
    ``Thought / Action / Action Input``. Every step of a chain is a record of its own, so most records stop early.
    Trees: one file each with ``answer_generation`` (``query``, ``function`` list, ``valid_data``, ``train_messages``:
    the prefixes of the chosen chain, the last one whole, in OpenAI's function-call form) and ``tree``, ``win``. No id.
    Seen: 15 trees; 13 with ``train_messages``, 4 of these gave up.
    Taken out: the system prompt (a format description) and "Begin!" after the query; the tool ``Finish``, whose
    ``final_answer`` is said in plain words.
    Dropped, as the paper does (section 3.1: only chains that reach a final answer, and no restarts):
    ``no_final_answer`` (also the unfinished steps), ``gave_up`` (``give_up_and_restart``), ``retried`` ("This is not
    the first time you try this task"); and ``invented_tool``, a call to a tool that is not listed (later releases
    write ``invalid_hallucination_function_name`` in its place).
    Formats of the first release: :mod:`agentflan_ray.sources.toolbench_v0`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from agentflan_ray.forms import parse_react
from agentflan_ray.sources.base import (
    Dropped,
    MalformedRecord,
    Source,
    Turn,
    Where,
    arguments_text,
    as_object,
    as_objects,
    as_text,
    build,
    known_role,
    parse_json,
    parse_literal,
    react_thought,
    read_call,
    read_tool,
    read_turns,
    record_id,
    text_at,
)
from agentflan_ray.sources.toolbench_v0 import parse_v0, read_scratchpad_record
from agentflan_ray.trajectory import Message, Role, Tool, ToolCall, Trajectory

ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "function": "tool"}

_RETRIED = "This is not the first time you try this task"
_TOOL_LIST = re.compile(r"access (?:to|of) the following (?:APIs|tools|functions)\s*:\s*(?=\[)")


def parse(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped]:
    """One ToolBench record in any of its published forms."""
    if "answer_generation" in row:
        return _parse_tree(as_object(row["answer_generation"], "'answer_generation'"), record_id(row, where))
    if "conversations" not in row:
        return parse_v0(row, where)
    turns = read_turns(row, "conversations")
    identity = record_id(row, where)
    if [turn.role for turn in turns] == ["human", "gpt"]:
        return read_scratchpad_record(turns[0].text, turns[1].text, identity)
    return parse_conversation(turns, identity, "toolbench")


def parse_conversation(turns: list[Turn], identity: str, source: str) -> Iterator[Trajectory | Dropped]:
    """A ToolLLaMA conversation: tools in the system turn, ReAct replies, results as function (or user) turns."""
    tools = read_tool_list(turns[0].text) if turns and turns[0].role == "system" else ()
    if not tools:
        raise MalformedRecord("no_tool_list", f"Record {identity!r} has no list of APIs in its system turn.")
    messages: list[Message] = []
    for index, turn in enumerate(turns[1:], start=1):
        role = known_role(turn.role, ROLES, index)
        if role == "assistant":
            messages.append(_react_reply(turn))
        else:
            after_call = bool(messages and messages[-1].calls)
            result = role == "tool" or (after_call and _RETRIED not in turn.text)
            messages.append(Message("tool", turn.text) if result else Message(role, _query(turn.text)))
    yield from _filtered(identity, source, tools, messages)


def read_tool_list(system: str) -> tuple[Tool, ...]:
    """The tools listed in a ToolLLaMA system turn as a Python or JSON literal; none where there is no list."""
    found = _TOOL_LIST.search(system)
    if found is None:
        return ()
    text = system[found.end() :].strip()
    value = parse_literal(text)
    if not isinstance(value, list):
        raise MalformedRecord("tools_not_readable", f"The list of APIs is neither JSON nor a literal: {text[:80]!r}.")
    return tuple(read_tool(item, f"APIs[{index}]") for index, item in enumerate(value))


def _parse_tree(answer: dict[str, Any], identity: str) -> Iterator[Trajectory | Dropped]:
    if answer.get("valid_data") is not True:
        yield Dropped("no_final_answer", f"Tree {identity!r} is marked valid_data=false: it reached no answer.")
        return
    chains = answer.get("train_messages")
    if not isinstance(chains, list) or not chains:
        raise MalformedRecord("no_chain", f"Tree {identity!r} is marked valid, but has no train_messages.")
    functions = as_objects(answer.get("function"), "'function'")
    tools = tuple(read_tool(item, f"function[{index}]") for index, item in enumerate(functions))
    messages: list[Message] = []
    for index, item in enumerate(as_objects(chains[-1], "train_messages[-1]")):
        name = f"train_messages[-1][{index}]"
        role = known_role(text_at(item, "role", name), ROLES, index)
        content = text_at(item, "content", name)
        if role == "assistant":
            called = item.get("function_call")
            calls = () if called is None else (read_call(called, f"{name}.function_call"),)
            thought = re.sub(r"\A\s*Thought\s*:\s*", "", content).strip()
            messages.append(Message(role, thought=thought, calls=calls, loss=True))
        elif role != "system":
            messages.append(Message(role, _query(content) if role == "user" else content))
    yield from _filtered(identity, "toolbench", tools, messages)


def _react_reply(turn: Turn) -> Message:
    step = parse_react(turn.text)
    if step is None:
        return Message("assistant", turn.text.strip(), loss=turn.learnt)
    calls = tuple(ToolCall(call.name, arguments_text(call.arguments)) for call in step.calls)
    return Message("assistant", step.answer or "", react_thought(turn.text), calls, turn.learnt)


def _filtered(
    identity: str, source: str, tools: tuple[Tool, ...], messages: list[Message]
) -> Iterator[Trajectory | Dropped]:
    if any(message.role == "user" and message.content.startswith(_RETRIED) for message in messages):
        yield Dropped("retried", f"Record {identity!r} was tried before; its chain holds the notes of a search.")
        return
    listed = {tool.name for tool in tools} | {"Finish"}
    invented = [call.name for message in messages for call in message.calls if call.name not in listed]
    if invented:
        yield Dropped("invented_tool", f"Record {identity!r} calls {invented[0]!r:.80}, a tool that is not listed.")
        return
    last = messages[-1] if messages else Message("user")
    if [call.name for call in last.calls] != ["Finish"]:
        yield Dropped("no_final_answer", f"Record {identity!r} does not end with Finish.")
        return
    finish = parse_json(last.calls[0].arguments)
    if not isinstance(finish, dict):
        raise MalformedRecord(
            "arguments_not_json", f"Record {identity!r} calls Finish with {last.calls[0].arguments[:80]!r}."
        )
    if finish.get("return_type") != "give_answer":
        yield Dropped("gave_up", f"Record {identity!r} ends with {finish.get('return_type')!r:.60}.")
        return
    answer = as_text(finish.get("final_answer"), "final_answer").strip()
    if not answer:
        yield Dropped("no_final_answer", f"Record {identity!r} ends with Finish, but says no answer.")
        return
    end = Message("assistant", answer, last.thought, loss=last.loss)
    yield build(identity, source, [tool for tool in tools if tool.name != "Finish"], [*messages[:-1], end])


def _query(text: str) -> str:
    return re.sub(r"\s*Begin!\s*\Z", "", text).strip()


SOURCE = Source("toolbench", parse, "ToolBench: ToolLLaMA conversations, DFSDT answer trees, first-release ReAct")
