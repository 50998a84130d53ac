"""OpenAI-style messages: ``messages`` with ``tools``, ``tool_calls`` and ``role: tool``.

Data sheet
    Fields: ``messages`` (list of ``{role, content, tool_calls?, function_call?, loss?}``; content is text, null, or a
    list of text parts), optional ``id``, ``source`` (kept as the trajectory's source), ``tools`` or ``functions``.
    Roles: system, developer, user, assistant, tool, function. Without ``loss`` every assistant turn is learnt.
    A call may also stand as text, where tools are listed: the JSON of ``{name, arguments}`` alone (Schema-Guided
    Dialogue, 33,963 calls seen), or ReAct steps, then followed by user turns that begin with ``Observation:``.
    Records whose ``source`` names a data set with text actions and no tools are read by that data set's syntax:
    intercode (3,759 seen), knowagent_alfworld (316 seen) and fireact; their own data sheets say how.
    Seen: Schema-Guided Dialogue 12,174, chain-of-thought, GPTeacher, GSM8K, Topical-Chat and other chat 43,157, without
    a loss but for 117 dialogues of the former: two of their services have a ``FindMovies``, not the same one
    (``duplicate_tool``).
    Malformed: ``steps_without_tools``, an assistant turn of ReAct steps where no tool is listed: kept as chat, it would
    teach to answer in ReAct form unasked, the format hallucination of the paper. ``content_not_text``, images or audio.
    Dropped: nothing but ``unreadable_action`` of the text-action data sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from agentflan_ray.forms import REACT_KEYS, parse_react
from agentflan_ray.sources import fireact, intercode, knowagent
from agentflan_ray.sources.base import (
    Dropped,
    MalformedRecord,
    Source,
    Where,
    arguments_text,
    as_object,
    as_objects,
    as_text,
    build,
    known_role,
    loss_at,
    parse_json,
    react_thought,
    read_call,
    read_tools,
    record_id,
    text_at,
)
from agentflan_ray.trajectory import Message, Role, Tool, ToolCall, Trajectory

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


TEXT_ACTIONS = {"intercode": intercode.parse, "knowagent_alfworld": knowagent.parse, "fireact": fireact.parse}
"""Values of ``source`` whose records are read by a data set's own syntax."""


def parse(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped]:
    """One record of messages."""
    source = as_text(row.get("source"), "'source'") or "openai_messages"
    tools = read_tools(row.get("tools", row.get("functions")), "'tools'")
    if source in TEXT_ACTIONS and not tools:
        yield from TEXT_ACTIONS[source](row, where)
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
    role = known_role(text_at(item, "role", name), ROLES, index)
    content = _content(item, name)
    loss = loss_at(item, name)
    calls = _calls(item, name)
    if role != "assistant":
        return Message(role, content, calls=calls, loss=loss is True)
    learnt = loss is not False
    thought = text_at(item, "reasoning_content", name)
    if calls:
        return Message(role, content, thought, calls, learnt)
    return text_reply(content, thought, learnt, tools, name)


def text_reply(content: str, thought: str, loss: bool, tools: Sequence[Tool], name: str) -> Message:
    """An assistant turn whose call, if it makes one, stands in its text."""
    if tools and content.lstrip().startswith("{"):
        value = parse_json(content)
        if isinstance(value, dict) and value.keys() == {"name", "arguments"}:
            return Message("assistant", thought=thought, calls=(read_call(value, name),), loss=loss)
    # A step has one of these words; to look for them first saves most of the time that plain replies would take.
    acts = REACT_KEYS.action in content or REACT_KEYS.answer in content
    step = parse_react(content) if acts else None
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
    return Message("assistant", step.answer or "", react_thought(content) or thought, calls, loss)


def _content(item: dict[str, Any], name: str) -> str:
    if not isinstance(item.get("content"), list):
        return text_at(item, "content", name)
    pieces = []
    for index, part in enumerate(as_objects(item["content"], f"{name}.content")):
        place = f"{name}.content[{index}]"
        if part.get("type", "text") not in ("text", "input_text", "output_text"):
            raise MalformedRecord("content_not_text", f"{place} is of type {part['type']!r:.40}, not text.")
        pieces.append(text_at(part, "text", place))
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
