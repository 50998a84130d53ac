"""The explicit formats: how a tool list and an agent step are written as text, and how a reply is read back.

ReAct (``Thought: / Action: / Action Input: / Final Answer:``) and JSON steps, with key names that may be renamed,
because the paper's instruction-following pairs vary them (Agent-FLAN, section 3.2). ``corpus`` writes training text
with these functions and ``evaluate`` prompts with the same ones, so that training and scoring never disagree.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

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


def tool_line(tool: Tool) -> str:
    """One line for one tool: ``name(parameter: type, optional?: type): description``."""
    parameters = ", ".join(
        f"{name}{'' if name in tool.required else '?'}: {_type_of(schema)}" for name, schema in tool.properties.items()
    )
    return f"- {tool.name}({parameters}): {' '.join(tool.description.split())}"


def tool_list(tools: tuple[Tool, ...]) -> str:
    """One line for each tool."""
    return "\n".join(tool_line(tool) for tool in tools)


def plain_system(tools: tuple[Tool, ...]) -> str:
    """A system prompt that lists tools and asks for no format."""
    if not tools:
        return "You are a helpful assistant."
    return f"You are a helpful assistant. You have these tools:\n{tool_list(tools)}"


def react_system(tools: tuple[Tool, ...], keys: Keys = REACT_KEYS) -> str:
    """A system prompt that lists tools and asks for ReAct steps when, and only when, a tool is needed."""
    return (
        f"You are a helpful assistant. You have these tools:\n{tool_list(tools)}\n"
        f"To use one, reply with the lines {keys.thought}:, {keys.action}: (its name) and {keys.arguments}: (JSON). "
        f"With the result, end with {keys.answer}: or use another. If no tool fits the request, reply in plain words."
    )


def json_system(tools: tuple[Tool, ...], keys: Keys = JSON_KEYS) -> str:
    """A system prompt that lists tools and asks for JSON steps when, and only when, a tool is needed."""
    return (
        f"You are a helpful assistant. You have these tools:\n{tool_list(tools)}\n"
        f'To use one, reply with a JSON object of "{keys.thought}", "{keys.action}" (its name) and "{keys.arguments}". '
        f'With the result, end with one of "{keys.thought}" and "{keys.answer}" or use another. '
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
            parts += _json_field(keys.thought, json.dumps(thought, ensure_ascii=False), "reasoning")
            parts.append(Part(", ", "instruction"))
        if call is None:
            answer = json.dumps(message.content.strip(), ensure_ascii=False)
            parts += _json_field(keys.answer, answer, "reasoning")
        else:
            parts += _json_field(keys.action, json.dumps(call.name, ensure_ascii=False), "retrieval")
            parts.append(Part(", ", "instruction"))
            parts += _json_field(keys.arguments, call.arguments, "understanding")
        parts.append(Part("}", "instruction"))
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
    text = re.split(r"^\s*Observation\s*:", text, maxsplit=1, flags=re.MULTILINE)[0]
    names = "|".join(re.escape(key) for key in (keys.thought, keys.arguments, keys.action, keys.answer))
    pieces = re.split(rf"^[ \t]*({names})[ \t]*:[ \t]*", text, flags=re.MULTILINE)
    thought, answer = "", None
    calls: list[ToolCall] = []
    for key, value in zip(pieces[1::2], pieces[2::2], strict=True):
        value = value.strip()
        if key == keys.thought:
            thought = thought or value
        elif key == keys.action:
            calls.append(ToolCall(value, "{}"))
        elif key == keys.arguments and calls:
            calls[-1] = ToolCall(calls[-1].name, value)
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
        except ValueError:
            position = text.find("{", position + 1)
            continue
        if isinstance(value, dict):
            thought = thought or str(value.get(keys.thought, ""))
            if keys.action in value:
                arguments = value.get(keys.arguments, {})
                calls.append(ToolCall(str(value[keys.action]), json.dumps(arguments, ensure_ascii=False)))
            if keys.answer in value:
                answer = str(value[keys.answer])
        position = text.find("{", end)
    return Step(thought, tuple(calls), answer) if calls or answer is not None else None


def _json_field(key: str, value: str, capability: Any) -> list[Part]:
    return [Part(f"{json.dumps(key)}: ", "instruction"), Part(value, capability)]


def _type_of(schema: Any) -> str:
    kind = schema.get("type", "any") if isinstance(schema, dict) else "any"
    return "|".join(kind) if isinstance(kind, list) else str(kind)
