"""ShareGPT conversations, with or without tools (as LLaMA-Factory's ``sharegpt`` format writes them).

Data sheet
    Fields: ``conversations`` (list of ``{from: human|gpt|system|function_call|observation, value}``), optional ``id``,
    ``system`` and ``tools`` (a list of tools, or its JSON text; "" and "[]" for none).
    Seen: glaive demo, 300 records, all kept, 147 of them without a call, no ids.
    A thought before a reply or call stands in ``<think>`` tags, as LLaMA-Factory writes it.
    ``function_call`` holds the JSON of ``{name, arguments}`` or of a list of these; ``observation`` its result.
    Taken out: assistant turns before the first user turn (ShareGPT dumps cut long conversations in pieces, so many
    start with the answer to a question that is not there); their number is kept in ``meta["leading_turns_cut"]``.
    Malformed: a function call that is not JSON (``call_not_json``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from agentflan_ray.sources.base import (
    MalformedRecord,
    Source,
    Where,
    as_text,
    build,
    known_role,
    parse_json,
    read_call,
    read_tools,
    read_turns,
    record_id,
)
from agentflan_ray.trajectory import Message, Role, ToolCall, Trajectory

ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}

_THOUGHT = re.compile(r"\s*<think>\n?(.*?)\n?</think>\s*", re.DOTALL)


def parse(row: dict[str, Any], where: Where) -> Iterator[Trajectory]:
    """One ShareGPT record."""
    messages: list[Message] = []
    if system := as_text(row.get("system"), "'system'"):
        messages.append(Message("system", system))
    for index, turn in enumerate(read_turns(row, "conversations")):
        role = known_role(turn.role, ROLES, index)
        found = _THOUGHT.match(turn.text) if role == "assistant" else None
        thought, text = (found.group(1), turn.text[found.end() :]) if found else ("", turn.text)
        if turn.role == "function_call":
            calls = _calls(text, f"conversations[{index}].value")
            messages.append(Message(role, thought=thought, calls=calls, loss=turn.learnt))
        else:
            loss = turn.learnt if role == "assistant" else turn.loss is True
            messages.append(Message(role, text, thought, loss=loss))
    first = next((index for index, message in enumerate(messages) if message.role == "user"), 0)
    leading = [message for message in messages[:first] if message.role != "system"]
    messages = [message for message in messages[:first] if message.role == "system"] + messages[first:]
    meta = {"leading_turns_cut": str(len(leading))} if leading else {}
    yield build(record_id(row, where), "sharegpt", read_tools(row.get("tools"), "'tools'"), messages, meta)


def _calls(text: str, name: str) -> tuple[ToolCall, ...]:
    value = parse_json(text)
    if value is None:
        raise MalformedRecord("call_not_json", f"{name} must be the JSON of a function call, but is {text[:80]!r}.")
    calls = value if isinstance(value, list) else [value]
    return tuple(read_call(call, f"{name}[{index}]") for index, call in enumerate(calls))


SOURCE = Source("sharegpt", parse, "ShareGPT conversations, with function calls and a tools string where there are any")
