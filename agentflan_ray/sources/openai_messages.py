"""OpenAI-style messages: ``messages`` with ``tools``, ``tool_calls`` and ``role: tool``.

Data sheet
    Fields: ``messages`` (list of ``{role, content, tool_calls?, function_call?, loss?}``; content is text, null, or a
    list of text parts), optional ``id``, ``source`` (kept as the trajectory's source), ``tools`` or ``functions``.
    Roles: system, developer, user, assistant, tool, function. Without ``loss`` every assistant turn is learnt.
    A call may also stand as text, where tools are listed: the JSON of ``{name, arguments}`` alone (Schema-Guided
    Dialogue, 33,963 calls seen), or ReAct steps, then followed by user turns that begin with ``Observation:``.
    Records whose ``source`` names a data set with text actions and no tools are read by that data set's syntax:
    intercode (3,759 seen) and knowagent_alfworld (316 seen), see :mod:`agentflan_ray.sources.text_actions`.
    Malformed: ``steps_without_tools``, an assistant turn of ReAct steps where no tool is listed: kept as chat, it would
    teach to answer in ReAct form unasked, the format hallucination of the paper. ``content_not_text``, images or audio.
    Dropped: nothing but ``unreadable_action`` of the text-action data sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from agentflan_ray.forms import parse_react
from agentflan_ray.sources.base import (
    Dropped,
    MalformedRecord,
    Source,
    Where,
    arguments_text,
    as_loss,
    as_object,
    as_objects,
    as_text,
    build,
    known_role,
    parse_json,
    read_call,
    read_tools,
    record_id,
)
from agentflan_ray.sources.text_actions import DATA_SETS, parse_text_actions
from agentflan_ray.trajectory import Message, Role, Tool, ToolCall, Trajectory

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


def parse(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped]:
    """One record of messages."""
    source = as_text(row.get("source"), "'source'") or "openai_messages"
    tools = read_tools(row.get("tools", row.get("functions")), "'tools'")
    if source in DATA_SETS and not tools:
        yield from parse_text_actions(row, where, source)
        return
    messages: list[Message] = []
    for index, item in enumerate(as_objects(row.get("messages"), "'messages'")):
        message = _message(item, index, tools)
        after_text_call = bool(messages and messages[-1].calls) and message.role == "user"
        if after_text_call and (found := re.match(r"\s*Observation\s*:\s*", message.content)):
            message = Message("tool", message.content[found.end() :])
        messages.append(message)
    yield build(record_id(row, where), source, tools, messages)


def _message(item: dict[str, Any], index: int, tools: Sequence[Tool]) -> Message:
    name = f"messages[{index}]"
    role = known_role(as_text(item.get("role"), f"{name}.role"), ROLES, index)
    content = _content(item.get("content"), f"{name}.content")
    loss = as_loss(item.get("loss"), f"{name}.loss")
    calls = _calls(item, name)
    if role != "assistant":
        return Message(role, content, calls=calls, loss=loss is True)
    learnt = loss is not False
    thought = as_text(item.get("reasoning_content"), f"{name}.reasoning_content")
    if calls:
        return Message(role, content, thought, calls, learnt)
    return text_reply(content, thought, learnt, tools, name)


def text_reply(content: str, thought: str, loss: bool, tools: Sequence[Tool], name: str) -> Message:
    """An assistant turn whose call, if it makes one, stands in its text."""
    if tools and content.lstrip().startswith("{"):
        value = parse_json(content)
        if isinstance(value, dict) and value.keys() == {"name", "arguments"}:
            return Message("assistant", thought=thought, calls=(read_call(value, name),), loss=loss)
    step = parse_react(content)
    if step is None:
        return Message("assistant", content, thought, loss=loss)
    if step.calls and not tools:
        raise MalformedRecord(
            "steps_without_tools",
            f"{name} is written in ReAct steps ({step.calls[0].name[:40]!r}), but the record lists no tools.",
        )
    if not step.calls and not tools:
        return Message("assistant", content, thought, loss=loss)
    calls = tuple(ToolCall(call.name, arguments_text(call.arguments)) for call in step.calls)
    return Message("assistant", step.answer or "", step.thought or thought, calls, loss)


def _content(value: Any, name: str) -> str:
    if not isinstance(value, list):
        return as_text(value, name)
    pieces = []
    for index, part in enumerate(as_objects(value, name)):
        if part.get("type", "text") not in ("text", "input_text", "output_text"):
            raise MalformedRecord("content_not_text", f"{name}[{index}] is of type {part['type']!r}, not text.")
        pieces.append(as_text(part.get("text"), f"{name}[{index}].text"))
    return "\n".join(pieces)


def _calls(item: dict[str, Any], name: str) -> tuple[ToolCall, ...]:
    calls = []
    if item.get("tool_calls") is not None:
        for index, call in enumerate(as_objects(item["tool_calls"], f"{name}.tool_calls")):
            calls.append(read_call(call.get("function", call), f"{name}.tool_calls[{index}]"))
    if item.get("function_call") is not None:
        calls.append(read_call(as_object(item["function_call"], f"{name}.function_call"), f"{name}.function_call"))
    return tuple(calls)


SOURCE = Source("openai_messages", parse, "OpenAI-style messages with tools, tool_calls and role tool; or plain chat")
