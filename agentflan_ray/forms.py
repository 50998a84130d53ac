"""The explicit formats: how a tool list and an agent step are written as text, and how a reply is read back.

ReAct (``Thought: / Action: / Action Input: / Final Answer:``), JSON steps and strings (``Call = name(city="Oslo")``),
with key names that may be renamed, because the paper's instruction-following pairs vary them (Agent-FLAN, section
3.2). ``corpus`` writes training text with these functions and ``evaluate`` prompts with the same ones, so that
training and scoring never disagree.
"""

from __future__ import annotations

import functools
import json
import keyword
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from agentflan_ray.sample import Part
from agentflan_ray.trajectory import Message, Tool, ToolCall


@dataclass(frozen=True, slots=True)
class Keys:
    """The names that a format gives to the pieces of a step."""

    thought: str
    action: str
    arguments: str
    answer: str


REACT_KEYS = Keys(thought="Thought", action="Action", arguments="Action Input", answer="Final Answer")
JSON_KEYS = Keys(thought="thought", action="name", arguments="args", answer="answer")
STRING_KEYS = Keys(thought="Plan", action="Call", arguments="", answer="Answer")
"""Strings write a call whole, ``name(argument=value)``, so that arguments have no key of their own."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ARGUMENT_START = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*")
_ARGUMENT_END = re.compile(r"\s*(,|$)")
_HALF_OF_A_PAIR = re.compile(r"[\ud800-\udfff]")


def json_text(value: Any) -> str:
    """The value as JSON, characters as they are. Half of a surrogate pair, which is no text, stays escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if _HALF_OF_A_PAIR.search(text) else text


def are_identifiers(names: Iterable[str]) -> bool:
    """Whether all names may stand before the ``=`` of a Python call."""
    return all(_IDENTIFIER.fullmatch(name) and not keyword.iskeyword(name) for name in names)


def python_arguments(values: dict[str, Any]) -> str:
    """Arguments as a Python call has them, ``city="Oslo", days=3``, values as JSON. The names are identifiers."""
    assert are_identifiers(values)
    return ", ".join(f"{name}={json_text(value)}" for name, value in values.items())


def read_python_arguments(text: str) -> dict[str, Any]:
    """Inverse of :func:`python_arguments`; raises ``ValueError`` where the text is not of that kind."""
    values: dict[str, Any] = {}
    decoder = json.JSONDecoder()
    position = 0
    while position < len(text):
        start = _ARGUMENT_START.match(text, position)
        if start is None:
            raise ValueError(f"No argument can be read from {text[position:]!r}; expected such as 'city=\"Oslo\"'.")
        values[start.group(1)], position = decoder.raw_decode(text, start.end())
        separator = _ARGUMENT_END.match(text, position)
        if separator is None:
            raise ValueError(f"Arguments are not parted by a comma at {text[position:]!r}.")
        position = separator.end()
    return values


def tool_line(tool: Tool) -> str:
    """One line for one tool: ``name(parameter: type, optional?: type): description``."""
    parameters = ", ".join(
        f"{name}{'' if name in tool.required else '?'}: {_type_of(schema)}" for name, schema in tool.properties.items()
    )
    description = " ".join(tool.description.split())
    return f"- {tool.name}({parameters}){': ' if description else ''}{description}"


# A trajectory's tools are listed in each of its samples, and many trajectories share them.
@functools.lru_cache(maxsize=1024)
def tool_list(tools: tuple[Tool, ...]) -> str:
    """One line for each tool."""
    return "\n".join(tool_line(tool) for tool in tools)


def plain_system(tools: tuple[Tool, ...]) -> str:
    """A system prompt that lists tools and asks for no format."""
    if not tools:
        return "You are a helpful assistant."
    return f"You are a helpful assistant. You have these tools:\n{tool_list(tools)}"


def react_system(tools: tuple[Tool, ...], keys: Keys = REACT_KEYS, with_thought: bool = True) -> str:
    """A system prompt that lists tools and asks for ReAct steps when, and only when, a tool is needed.

    Without thought it asks for the call alone: for trajectories that hold no reasoning, which would else teach to
    leave out what is asked for.
    """
    thought = f"{keys.thought}:, " if with_thought else ""
    return (
        f"You are a helpful assistant. You have these tools:\n{tool_list(tools)}\n"
        f"To use one, reply with the lines {thought}{keys.action}: (its name) and {keys.arguments}: (JSON). "
        f"With the result, end with {keys.answer}: or use another. If no tool fits the request, reply in plain words."
    )


def json_system(tools: tuple[Tool, ...], keys: Keys = JSON_KEYS, with_thought: bool = True) -> str:
    """A system prompt that lists tools and asks for JSON steps when, and only when, a tool is needed.

    ``with_thought`` as in :func:`react_system`.
    """
    first = f'"{keys.thought}", ' if with_thought else ""
    last = f'"{keys.thought}" and ' if with_thought else ""
    return (
        f"You are a helpful assistant. You have these tools:\n{tool_list(tools)}\n"
        f'To use one, reply with a JSON object of {first}"{keys.action}" (its name) and "{keys.arguments}". '
        f'With the result, end with one of {last}"{keys.answer}" or use another. '
        "If no tool fits the request, reply in plain words."
    )


def string_system(tools: tuple[Tool, ...], keys: Keys = STRING_KEYS, with_thought: bool = True) -> str:
    """A system prompt that lists tools and asks for steps as strings when, and only when, a tool is needed.

    ``with_thought`` as in :func:`react_system`.
    """
    lines = f"lines {keys.thought} = (your reasoning) and" if with_thought else "line"
    return (
        f"You are a helpful assistant. You have these tools:\n{tool_list(tools)}\n"
        f"To use one, reply with the {lines} {keys.action} = "
        f"tool_name(argument=value), values as JSON. With the result, end with {keys.answer} = or use another. "
        "If no tool fits the request, reply in plain words."
    )


def observation(text: str) -> str:
    """A tool's result as the user turn of an explicit format."""
    return f"Observation: {text}"


def thought_of(message: Message) -> str:
    """What an assistant turn reasons: its thought, and the words it says beside a call."""
    beside = message.content.strip() if message.calls else ""
    return "\n".join(piece for piece in (message.thought.strip(), beside) if piece)


def react_parts(message: Message, keys: Keys = REACT_KEYS) -> tuple[Part, ...]:
    """An assistant turn in ReAct form, scaffolding tagged apart from content (paper, figure 3)."""
    parts: list[Part] = []

    def add(key: str, part: Part) -> None:
        parts.append(Part(f"{chr(10) if parts else ''}{key}: ", "instruction"))
        parts.append(part)

    if thought := thought_of(message):
        add(keys.thought, Part(thought, "reasoning"))
    for call in message.calls:
        add(keys.action, Part(call.name, "retrieval"))
        add(keys.arguments, Part(call.arguments, "understanding"))
    if not message.calls and message.content.strip():
        add(keys.answer, Part(message.content.strip(), "reasoning"))
    return tuple(parts)


def json_parts(message: Message, keys: Keys = JSON_KEYS) -> tuple[Part, ...]:
    """An assistant turn as JSON objects, one for each call, or one with the answer."""
    thought = thought_of(message)
    parts: list[Part] = []
    steps: list[ToolCall | None] = [*message.calls] or [None]
    for index, call in enumerate(steps):
        parts.append(Part("{" if index == 0 else "\n{", "instruction"))
        if thought and index == 0:
            parts += _json_field(keys.thought, json_text(thought), "reasoning")
            parts.append(Part(", ", "instruction"))
        if call is None:
            answer = json_text(message.content.strip())
            parts += _json_field(keys.answer, answer, "reasoning")
        else:
            parts += _json_field(keys.action, json_text(call.name), "retrieval")
            parts.append(Part(", ", "instruction"))
            parts += _json_field(keys.arguments, call.arguments, "understanding")
        parts.append(Part("}", "instruction"))
    return tuple(parts)


def string_parts(message: Message, keys: Keys = STRING_KEYS) -> tuple[Part, ...]:
    """An assistant turn as lines ``key = value``, a call as ``name(argument=value)`` or ``name({…})``.

    The JSON object is for arguments whose names are no identifiers.
    """
    parts: list[Part] = []

    def add(key: str, *pieces: Part) -> None:
        parts.append(Part(f"{chr(10) if parts else ''}{key} = ", "instruction"))
        parts.extend(pieces)

    if thought := thought_of(message):
        add(keys.thought, Part(thought, "reasoning"))
    for call in message.calls:
        values = json.loads(call.arguments)
        text = python_arguments(values) if are_identifiers(values) else json_text(values)
        given = (Part(text, "understanding"),) if text else ()
        add(keys.action, Part(call.name, "retrieval"), Part("(", "instruction"), *given, Part(")", "instruction"))
    if not message.calls and message.content.strip():
        add(keys.answer, Part(message.content.strip(), "reasoning"))
    return tuple(parts)


@dataclass(frozen=True, slots=True)
class Step:
    """A reply read back: its thought, its calls, and its answer (None when it only calls)."""

    thought: str
    calls: tuple[ToolCall, ...]
    answer: str | None


def parse_react(text: str, keys: Keys = REACT_KEYS) -> Step | None:
    """Read a ReAct reply; None when it holds neither a call nor a final answer in that form.

    A call whose arguments are not a JSON object is kept with its arguments as they stand: whether they parse is for
    the reader to judge. Text after an ``Observation:`` that the model invented is not read.
    """
    thought, answer = "", None
    calls: list[ToolCall] = []
    for key, value in _keyed_lines(text, ":", (keys.thought, keys.arguments, keys.action, keys.answer)):
        if key == keys.thought:
            thought = thought or value
        elif key == keys.action:
            calls.append(ToolCall(value, "{}"))
        elif key == keys.arguments and calls:
            calls[-1] = ToolCall(calls[-1].name, value)
        elif key == keys.answer:
            answer = value
    return Step(thought, tuple(calls), answer) if calls or answer is not None else None


def parse_string(text: str, keys: Keys = STRING_KEYS) -> Step | None:
    """Read a reply of lines ``key = value``; None when it holds neither a call nor an answer in that form.

    A call whose arguments can't be read is kept with their text as it stands, as by :func:`parse_react`.
    """
    thought, answer = "", None
    calls: list[ToolCall] = []
    for key, value in _keyed_lines(text, "=", (keys.thought, keys.action, keys.answer)):
        if key == keys.thought:
            thought = thought or value
        elif key == keys.action:
            name, _, given = value.partition("(")
            calls.append(ToolCall(name.strip(), _string_arguments(given.strip().removesuffix(")").strip())))
        elif key == keys.answer:
            answer = value
    return Step(thought, tuple(calls), answer) if calls or answer is not None else None


def parse_json(text: str, keys: Keys = JSON_KEYS) -> Step | None:
    """Read a reply of JSON steps; None when it holds neither a call nor an answer in that form."""
    decoder = json.JSONDecoder()
    thought, answer = "", None
    calls: list[ToolCall] = []
    position = text.find("{")
    while position >= 0:
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):  # the latter where brackets are nested a thousand deep
            position = text.find("{", position + 1)
            continue
        if isinstance(value, dict):
            thought = thought or str(value.get(keys.thought, ""))
            if keys.action in value:
                arguments = value.get(keys.arguments, {})
                calls.append(ToolCall(str(value[keys.action]), json_text(arguments)))
            if keys.answer in value:
                answer = str(value[keys.answer])
        position = text.find("{", end)
    return Step(thought, tuple(calls), answer) if calls or answer is not None else None


ExplicitForm = Literal["react", "json", "string"]


@dataclass(frozen=True, slots=True)
class Format:
    """How one explicit form is asked for, written and read."""

    keys: Keys
    system: Callable[[tuple[Tool, ...], Keys, bool], str]
    write: Callable[[Message, Keys], tuple[Part, ...]]
    parse: Callable[[str, Keys], Step | None]

    def reads_back(self, message: Message, keys: Keys, text: str) -> bool:
        """Whether ``text``, which :attr:`write` made of an assistant turn, is read as that turn.

        It is not where a thought or an answer holds a line that begins with one of the keys.
        """
        step = self.parse(text, keys)
        if not message.calls and not message.content.strip():
            return step is None
        answer = None if message.calls else message.content.strip()
        if step is None or (step.thought, step.answer) != (thought_of(message), answer):
            return False
        if [call.name for call in step.calls] != [call.name for call in message.calls]:
            return False
        pairs = zip(step.calls, message.calls, strict=True)
        return all(_same_json(read.arguments, meant.arguments) for read, meant in pairs)


FORMATS: dict[ExplicitForm, Format] = {
    "react": Format(REACT_KEYS, react_system, react_parts, parse_react),
    "json": Format(JSON_KEYS, json_system, json_parts, parse_json),
    "string": Format(STRING_KEYS, string_system, string_parts, parse_string),
}


def _keyed_lines(text: str, sign: str, keys: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each key at the start of a line and before the sign, with all that follows up to the next one."""
    text = re.split(r"^\s*Observation\s*:", text, maxsplit=1, flags=re.MULTILINE)[0]
    names = "|".join(re.escape(key) for key in keys)
    pieces = re.split(rf"^[ \t]*({names})[ \t]*{sign}[ \t]*", text, flags=re.MULTILINE)
    return [(key, value.strip()) for key, value in zip(pieces[1::2], pieces[2::2], strict=True)]


def _string_arguments(text: str) -> str:
    if text.startswith("{"):
        return text
    try:
        return json_text(read_python_arguments(text))
    except ValueError:
        return text


def _same_json(first: str, second: str) -> bool:
    if first == second:
        return True
    try:
        return bool(json.loads(first) == json.loads(second))
    except ValueError:
        return False


def _json_field(key: str, value: str, capability: Any) -> list[Part]:
    return [Part(f"{json.dumps(key)}: ", "instruction"), Part(value, capability)]


def _type_of(schema: Any) -> str:
    kind = schema.get("type", "any") if isinstance(schema, dict) else "any"
    return "|".join(kind) if isinstance(kind, list) else str(kind)
