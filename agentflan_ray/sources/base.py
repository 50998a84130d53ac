"""What every format has in common: the parser's contract, and turning checked JSON into messages and tools.

A parser is a pure function ``parse(row, where)`` that yields a :class:`~agentflan_ray.trajectory.Trajectory` for each
conversation in the record, or a :class:`Dropped` where the format's own published rules filter it out, and raises
:class:`MalformedRecord` where the record is not what the format promises. Where a record holds several conversations
and one of them is malformed, it yields the :class:`MalformedRecord` and goes on. Any other exception is a bug.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentflan_ray.randomness import stable_hash
from agentflan_ray.trajectory import Message, Role, Tool, ToolCall, Trajectory


@dataclass(frozen=True, slots=True)
class Where:
    """Position of a record: the file, and its line (JSON lines, CSV) or its place in the file, counted from 1."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}:{self.row}"

    @property
    def stem(self) -> str:
        """The file's name without folders and suffixes."""
        return re.sub(r"(\.jsonl?|\.csv|\.parquet)?(\.gz|\.zst)?$", "", self.file.rsplit("/", 1)[-1])


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record that the format's own rules filter out: a reason to count by and a sentence for a person."""

    reason: str
    sentence: str


class MalformedRecord(Exception):
    """A record that is not what its format promises. It is quarantined, with ``reason`` and ``sentence``."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(reason, sentence)
        self.reason = reason
        self.sentence = sentence


Parser = Callable[[dict[str, Any], Where], Iterator[Trajectory | Dropped | MalformedRecord]]


@dataclass(frozen=True, slots=True)
class Source:
    """A published format: the name users write before ``=``, its parser, and one line that says what it is."""

    name: str
    parse: Parser
    summary: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn as it stands in the file, its shape checked. ``loss`` is None where the file says nothing."""

    role: str
    text: str
    loss: bool | None

    @property
    def learnt(self) -> bool:
        """Whether an assistant turn is learnt from: yes, unless the file says no."""
        return self.loss is not False


def as_text(value: Any, name: str) -> str:
    """``value`` if it is text, "" for None; raises :class:`MalformedRecord` otherwise."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise MalformedRecord("not_text", f"{name} must be text, but is {_kind(value)}.")
    return value


def text_at(item: dict[str, Any], key: str, place: str) -> str:
    """The text under ``key`` of the object that stands at ``place``, "" for none; raises as :func:`as_text` does.

    The name for the error is put together only where there is one: messages are read by the million.
    """
    value = item.get(key)
    return value if isinstance(value, str) else as_text(value, f"{place}.{key}")


def as_objects(value: Any, name: str) -> list[dict[str, Any]]:
    """``value`` if it is a list of objects; raises :class:`MalformedRecord` otherwise."""
    if not isinstance(value, list):
        raise MalformedRecord("not_a_list", f"{name} must be a list, but is {_kind(value)}.")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise MalformedRecord("not_an_object", f"{name}[{index}] must be an object, but is {_kind(item)}.")
    return value


def as_object(value: Any, name: str) -> dict[str, Any]:
    """``value`` if it is an object; raises :class:`MalformedRecord` otherwise."""
    if not isinstance(value, dict):
        raise MalformedRecord("not_an_object", f"{name} must be an object, but is {_kind(value)}.")
    return value


def loss_at(item: dict[str, Any], place: str) -> bool | None:
    """The loss flag of the turn that stands at ``place``: true, false or null."""
    value = item.get("loss")
    if value is not None and not isinstance(value, bool):
        raise MalformedRecord("loss_not_boolean", f"{place}.loss must be true, false or null, but is {value!r:.40}.")
    return value


def record_id(row: dict[str, Any], where: Where, key: str = "id") -> str:
    """The record's own id, else ``<file stem>-<hash of the record>``.

    Files without ids often share a name (``train.json``), so a row number would make one id of two records, and it
    would move with every line that is put before it. Copies of a record in one file get the same id.
    """
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise MalformedRecord("id_not_text", f"{key!r} must be text or a number, but is {_kind(value)}.")
    text = "" if value is None else str(value).strip()
    return text or f"{where.stem}-{stable_hash(json.dumps(row, sort_keys=True, default=str)):016x}"


def read_turns(row: dict[str, Any], key: str) -> list[Turn]:
    """The conversation under ``key`` in either published style: ``from``/``value`` or ``role``/``content``."""
    turns = []
    for index, item in enumerate(as_objects(row.get(key), repr(key))):
        place = f"{key}[{index}]"
        role_key, text_key = ("from", "value") if "from" in item else ("role", "content")
        turns.append(Turn(text_at(item, role_key, place), text_at(item, text_key, place), loss_at(item, place)))
    return turns


def known_role(turn_role: str, roles: dict[str, Role], index: int) -> Role:
    """The role that the format's name means; raises :class:`MalformedRecord` for a name it does not know."""
    if turn_role not in roles:
        raise MalformedRecord(
            "unknown_role", f"Turn {index} has the role {turn_role!r}; this format has {', '.join(sorted(roles))}."
        )
    return roles[turn_role]


def read_tool(value: Any, name: str) -> Tool:
    """A tool from ``{name, description, parameters}``, bare or inside ``{"type": "function", "function": ...}``."""
    spec = as_object(value, name)
    if "function" in spec:
        spec = as_object(spec["function"], f"{name}.function")
    parameters = as_object(spec.get("parameters") or {}, f"{name}.parameters")
    properties = as_object(parameters.get("properties") or {}, f"{name}.parameters.properties")
    for parameter, schema in properties.items():
        kind = as_object(schema, f"{name}.parameters.properties.{parameter}").get("type", "any")
        if not (isinstance(kind, str) or (isinstance(kind, list) and all(isinstance(item, str) for item in kind))):
            raise MalformedRecord("tool_not_readable", f"The type of {name}.{parameter} is {_kind(kind)}, not text.")
    required = parameters.get("required") or []
    if not isinstance(required, list) or not all(isinstance(item, str) for item in required):
        raise MalformedRecord("tool_not_readable", f"{name}.parameters.required must be a list of names.")
    return Tool(
        name=text_at(spec, "name", name).strip(),
        description=text_at(spec, "description", name).strip(),
        parameters={**parameters, "type": "object", "properties": properties, "required": required},
    )


def read_tools(value: Any, name: str) -> tuple[Tool, ...]:
    """Tools from a list, or from the JSON text of one; none for null or empty text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    if isinstance(value, str):
        value = parse_json(value)
        if value is None:
            raise MalformedRecord("tools_not_json", f"{name} is text, but not the JSON of a list of tools.")
    if not isinstance(value, list):
        raise MalformedRecord("not_a_list", f"{name} must be a list, but is {_kind(value)}.")
    return tuple(read_tool(item, f"{name}[{index}]") for index, item in enumerate(value))


def read_call(value: Any, name: str) -> ToolCall:
    """A call from ``{name, arguments}``; arguments may be an object or its JSON text."""
    call = as_object(value, name)
    return ToolCall(text_at(call, "name", name).strip(), arguments_text(call.get("arguments", call.get("parameters"))))


def arguments_text(value: Any) -> str:
    """Arguments as JSON text, spaced in one way; a Python literal of a dict is read too.

    Text that is neither is left for the validator to judge.
    """
    if value is None or value == "":
        return "{}"
    if isinstance(value, str):
        parsed = parse_literal(value)
        if not isinstance(parsed, dict):
            return value.strip()
        value = parsed
    return json.dumps(value, ensure_ascii=False, default=str)


_REACT_STEP = re.compile(r"^[ \t]*(?:Action|Final Answer)[ \t]*:", re.MULTILINE)
_REACT_THOUGHT = re.compile(r"^[ \t]*Thought[ \t]*:[ \t]*", re.MULTILINE)


def react_thought(text: str) -> str:
    """All that a ReAct reply says before it acts or answers, without the label, however often the label stands there.

    :func:`~agentflan_ray.forms.parse_react` takes the first labelled line, which is right for scoring a reply but loses
    words of one that is to be learnt.
    """
    return _REACT_THOUGHT.sub("", _REACT_STEP.split(text, maxsplit=1)[0]).strip()


_TYPES = {
    "string": "str string text date datetime url",
    "integer": "int integer long",
    "number": "float number double",
    "boolean": "bool boolean",
    "array": "list array tuple set",
    "object": "dict object",
}
_TYPE_OF_WORD = {word: kind for kind, words in _TYPES.items() for word in words.split()}


def schema_type(text: str) -> str:
    """The JSON schema type that a type in another notation means: ``List[int]`` is ``array``; ``any`` if unknown.

    Read by its first word, so that what follows (``str, optional``, ``Array[string]``) does not matter.
    """
    found = re.search(r"[A-Za-z]+", text)
    return _TYPE_OF_WORD.get(found[0].lower(), "any") if found else "any"


def parse_json(text: str) -> Any:
    """The JSON value of ``text``, or None where it is not JSON (or nested deeper than Python can read)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def parse_literal(text: str) -> Any:
    """The value of ``text`` as JSON, else as a Python literal of what JSON knows; None where it is neither.

    Releases made by printing Python objects have ``'`` for ``"`` and ``True`` for ``true``.
    """
    value = parse_json(text)
    if value is not None:
        return value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of texts such as "\d"
            return json.loads(json.dumps(ast.literal_eval(text.strip())))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def build(
    identity: str,
    source: str,
    tools: Sequence[Tool],
    messages: Iterable[Message],
    meta: dict[str, str] | None = None,
) -> Trajectory:
    """A trajectory from messages in order.

    Neighbours of one role are merged where the meaning allows it. User and tool turns after the last assistant turn
    are cut: nothing in them can be learnt. ``meta`` gets the ``case`` and the number of turns cut. A tool that is
    listed twice in the same words is listed once.
    """
    merged = _merge(messages)
    end = len(merged)
    while end and merged[end - 1].role in ("user", "tool"):
        end -= 1
    cut = {"trailing_turns_cut": str(len(merged) - end)} if end and end < len(merged) else {}
    kept = tuple(merged[:end]) if end else tuple(merged)
    case = "tool" if any(message.calls for message in kept) else "chat_with_tools" if tools else "chat"
    return Trajectory(identity, source, _without_copies(tools), kept, {"case": case, **cut, **(meta or {})})


def _without_copies(tools: Sequence[Tool]) -> tuple[Tool, ...]:
    first: dict[str, Tool] = {}
    kept = []
    for tool in tools:
        if first.get(tool.name) != tool:
            kept.append(tool)
            first.setdefault(tool.name, tool)
    return tuple(kept)


def _merge(messages: Iterable[Message]) -> list[Message]:
    merged: list[Message] = []
    for message in messages:
        if merged and _are_one(merged[-1], message):
            before = merged[-1]
            merged[-1] = replace(
                message,
                content=_join(before.content, message.content),
                thought=_join(before.thought, message.thought),
            )
        else:
            merged.append(message)
    return merged


def _are_one(before: Message, after: Message) -> bool:
    # A call is followed by its result: words after a call without a result belong to no known order, so they are left
    # for the validator. Several results in a row answer several calls, one each.
    return before.role == after.role and before.role != "tool" and not before.calls and before.loss == after.loss


def _join(before: str, after: str) -> str:
    return "\n\n".join(piece for piece in (before, after) if piece.strip())


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {value!r:.40}"
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), f"of type {type(value).__name__}")
