"""The one record: an agent trajectory, whatever format it came from.

Every source adapter produces it, every later stage reads it, and it is validated once, at the door
(:func:`validate`). In Arrow the nested parts travel as JSON text: converting nested ``list<struct>`` columns to
Python objects was the largest cost of a Ray Data stage over chat records.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import pyarrow as pa

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)

MAX_MESSAGE_CHARACTERS = 1_000_000
"""A longer message is no conversation turn but a pasted file; it is quarantined. About 250k tokens."""

TRAJECTORY_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("tools", pa.string()),
        ("messages", pa.string()),
        ("meta", pa.string()),
    ]
)
"""Arrow schema of a stored trajectory; ``tools``, ``messages`` and ``meta`` hold JSON text."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as the model sees it. ``parameters`` is a JSON schema of type ``object``."""

    name: str
    description: str
    parameters: dict[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        # The schema is a dict, so the generated hash would fail; equal tools have equal names and descriptions.
        return hash((self.name, self.description))

    @property
    def properties(self) -> dict[str, Any]:
        """Parameter name to its JSON schema, in the order they were declared."""
        properties = self.parameters.get("properties", {})
        return properties if isinstance(properties, dict) else {}

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the parameters that a call must give."""
        return tuple(self.parameters.get("required", ()))


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call: the tool's name and its arguments as the text of a JSON object."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. ``thought`` and ``calls`` belong to assistant turns; ``loss`` marks what may be learnt from."""

    role: Role
    content: str = ""
    thought: str = ""
    calls: tuple[ToolCall, ...] = ()
    loss: bool = False


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A conversation with tools, from the task to the answer."""

    id: str
    source: str
    tools: tuple[Tool, ...]
    messages: tuple[Message, ...]
    meta: dict[str, str] = field(default_factory=dict)

    def to_row(self) -> dict[str, str]:
        """The row of :data:`TRAJECTORY_SCHEMA`."""
        return {
            "id": self.id,
            "source": self.source,
            "tools": _dump(
                [{"name": t.name, "description": t.description, "parameters": t.parameters} for t in self.tools]
            ),
            "messages": _dump([_message_to_json(message) for message in self.messages]),
            "meta": _dump(self.meta),
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Trajectory:
        """Inverse of :meth:`to_row`."""
        return cls(
            id=row["id"],
            source=row["source"],
            tools=_tools_of(row["tools"]),
            messages=tuple(_message_from_json(message) for message in json.loads(row["messages"])),
            meta=json.loads(row["meta"]),
        )


class Fault(NamedTuple):
    """Why a record is not a valid trajectory: a short reason to count by, and a sentence for a person."""

    reason: str
    sentence: str


def validate(trajectory: Trajectory) -> list[Fault]:
    """All rules that the trajectory breaks; empty for a valid one."""
    return [fault for rule in RULES if (fault := rule(trajectory)) is not None]


def _has_an_id(t: Trajectory) -> Fault | None:
    return None if t.id else Fault("no_id", "The record has no id; give each record a unique one.")


def _has_messages(t: Trajectory) -> Fault | None:
    return None if t.messages else Fault("no_messages", f"Record {t.id!r} has no messages.")


def _roles_are_known(t: Trajectory) -> Fault | None:
    for index, message in enumerate(t.messages):
        if message.role not in ROLES:
            return Fault(
                "unknown_role",
                f"Message {index} of {t.id!r} has the role {message.role!r}; known roles are {', '.join(ROLES)}.",
            )
    return None


def _roles_take_turns(t: Trajectory) -> Fault | None:
    roles = [message.role for message in t.messages]
    if "system" in roles[1:]:
        return Fault("system_not_first", f"Record {t.id!r} has a system message after the first message.")
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if turns[:1] != ["user"]:
        found = turns[0] if turns else "nothing"
        return Fault("no_user_first", f"Record {t.id!r} must start with a user message, but starts with {found}.")
    if turns[-1] != "assistant":
        return Fault(
            "no_assistant_last", f"Record {t.id!r} must end with an assistant message, but ends with {turns[-1]}."
        )
    for index, (before, after) in enumerate(itertools.pairwise(turns)):
        expected = {"user": ("assistant",), "assistant": ("user", "tool"), "tool": ("assistant", "tool")}[before]
        if after not in expected:
            return Fault(
                "roles_do_not_alternate",
                f"Record {t.id!r}: turn {index + 1} is {after} after {before}; expected {' or '.join(expected)}.",
            )
    return None


def _results_follow_calls(t: Trajectory) -> Fault | None:
    # Forms that show no results leave them out: without a call before, two assistant turns would be neighbours.
    for index, (before, message) in enumerate(itertools.pairwise(t.messages), start=1):
        if message.role == "tool" and before.role == "assistant" and not before.calls:
            return Fault(
                "result_without_call",
                f"Message {index} of {t.id!r} is a tool's result, but the assistant turn before it has no call.",
            )
    return None


def _the_user_says_something(t: Trajectory) -> Fault | None:
    for index, message in enumerate(t.messages):
        if message.role == "user" and not message.content.strip():
            return Fault("empty_user_message", f"Message {index} of {t.id!r} is a user turn without any text.")
    return None


def _assistant_says_something(t: Trajectory) -> Fault | None:
    for index, message in enumerate(t.messages):
        if message.role == "assistant" and not (message.content.strip() or message.thought.strip() or message.calls):
            return Fault(
                "empty_assistant_message", f"Message {index} of {t.id!r} is an assistant turn without any text."
            )
    return None


def _something_is_learnt(t: Trajectory) -> Fault | None:
    if any(message.loss for message in t.messages):
        return None
    return Fault("nothing_to_learn", f"No message of {t.id!r} is marked for learning (loss is false everywhere).")


def _only_the_assistant_is_learnt(t: Trajectory) -> Fault | None:
    for index, message in enumerate(t.messages):
        if message.loss and message.role != "assistant":
            return Fault(
                "loss_outside_assistant",
                f"Message {index} of {t.id!r} is a {message.role} turn with loss=true; only the assistant is learnt.",
            )
    return None


def _only_the_assistant_acts(t: Trajectory) -> Fault | None:
    for index, message in enumerate(t.messages):
        if message.role != "assistant" and (message.calls or message.thought):
            return Fault(
                "call_outside_assistant",
                f"Message {index} of {t.id!r} is a {message.role} turn with a call or thought.",
            )
    return None


def _tool_names_are_unique(t: Trajectory) -> Fault | None:
    for name, number in Counter(tool.name for tool in t.tools).items():
        if not name:
            return Fault("tool_without_name", f"Record {t.id!r} lists a tool without a name.")
        if number > 1:
            return Fault("duplicate_tool", f"Record {t.id!r} lists the tool {name!r} {number} times.")
    return None


def _calls_are_listed(t: Trajectory) -> Fault | None:
    listed = {tool.name for tool in t.tools}
    for index, message in enumerate(t.messages):
        for call in message.calls:
            if call.name not in listed:
                names = ", ".join(sorted(listed)) or "none"
                return Fault(
                    "unlisted_tool",
                    f"Message {index} of {t.id!r} calls {call.name!r}, but the listed tools are: {names}.",
                )
    return None


def _arguments_are_json_objects(t: Trajectory) -> Fault | None:
    for index, message in enumerate(t.messages):
        for call in message.calls:
            if not isinstance(_parse(call.arguments), dict):
                return Fault(
                    "arguments_not_json",
                    f"Message {index} of {t.id!r} calls {call.name!r} with arguments that are not a JSON object: "
                    f"{call.arguments[:80]!r}.",
                )
    return None


def _messages_have_a_human_size(t: Trajectory) -> Fault | None:
    for index, message in enumerate(t.messages):
        size = len(message.content) + len(message.thought) + sum(len(call.arguments) for call in message.calls)
        if size > MAX_MESSAGE_CHARACTERS:
            return Fault(
                "message_too_long",
                f"Message {index} of {t.id!r} has {size:,} characters; at most {MAX_MESSAGE_CHARACTERS:,} are taken.",
            )
    return None


def _text_is_unicode(t: Trajectory) -> Fault | None:
    for index, message in enumerate(t.messages):
        try:
            "".join([message.content, message.thought, *(call.arguments for call in message.calls)]).encode()
        except UnicodeEncodeError:
            return Fault(
                "not_unicode", f"Message {index} of {t.id!r} holds half of a surrogate pair, which is no text."
            )
    return None


RULES: tuple[Callable[[Trajectory], Fault | None], ...] = (
    _has_an_id,
    _has_messages,
    _roles_are_known,
    _roles_take_turns,
    _results_follow_calls,
    _the_user_says_something,
    _assistant_says_something,
    _something_is_learnt,
    _only_the_assistant_is_learnt,
    _only_the_assistant_acts,
    _tool_names_are_unique,
    _calls_are_listed,
    _arguments_are_json_objects,
    _messages_have_a_human_size,
    _text_is_unicode,
)


# Made once: json.dumps makes an encoder for every call that has settings.
_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


# Records of one source share a few lists of tools: of 66,000 real records 2,800 were different.
@functools.lru_cache(maxsize=1024)
def _tools_of(text: str) -> tuple[Tool, ...]:
    return tuple(Tool(**tool) for tool in json.loads(text))


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _message_to_json(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": message.content, "loss": message.loss}
    if message.thought:
        row["thought"] = message.thought
    if message.calls:
        row["calls"] = [{"name": call.name, "arguments": call.arguments} for call in message.calls]
    return row


def _message_from_json(row: dict[str, Any]) -> Message:
    return Message(
        role=row["role"],
        content=row["content"],
        thought=row.get("thought", ""),
        calls=tuple(ToolCall(**call) for call in row.get("calls", ())),
        loss=row["loss"],
    )
