"""Replies in tags, ``<think>``, ``<tool_call>`` and ``<response>``: ToolRL and the Hermes function-calling sets.

Data sheet
    ToolRL (Qian et al. 2025, arXiv 2504.13958): ``instruction`` (the tools, and a description of the format),
    ``input`` (the dialogue so far in tags: ``<user>``, ``<think>``, ``<tool_call>``, ``<response>``, ``<obs>``) and
    ``output`` (the next reply in tags), without ids. A ``<tool_call>`` holds one JSON object a line.
    Seen: 400, 397 kept; 371 with one user turn, 54 whose reply calls nothing.
    Hermes (NousResearch/hermes-function-calling-v1, and what Qwen's chat template writes): ``conversations`` (``from``
    system|human|gpt|tool) or ``messages`` (``role``), optional ``id`` and ``tools``. Without ``tools``, the system
    turn lists them between ``<tools>`` and ``</tools>``, as one list or one object a line, in JSON or as printed by
    Python. A reply is ``<think>`` (or ``<scratch_pad>``), words, and a ``<tool_call>`` for each call; results are
    ``<tool_response>`` in tool or user turns. Written from the published description; no file of it was at hand.
    Read: ToolRL's types (``List[int]``, ``str, optional``) as JSON schema types. It does not say which parameters are
    required: one is taken to be if neither its type nor its description says "optional", its default is "", and no
    call in the record leaves it out (without this last rule, 62 of 623 calls break their tool's schema).
    Taken out: ToolRL's instruction; of a Hermes system turn with tools everything but what stands before ``# Tools``:
    the rest describes the format. The thoughts in ToolRL's history are two sentences of the converter's, always the
    same, and go too; what is left of the history is context, not learnt.
    Malformed: ``unpaired_tag``, ``text_outside_tags`` (ToolRL only), ``call_not_json``, ``no_tool_list`` (ToolRL
    only); in the validator ``unlisted_tool`` (2 seen) and ``duplicate_tool`` (1 seen: one name, two tools).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from agentflan_ray.sources.base import (
    MalformedRecord,
    Source,
    Where,
    build,
    known_role,
    parse_json,
    parse_literal,
    read_call,
    read_tool,
    read_tools,
    read_turns,
    record_id,
    schema_type,
    text_at,
)
from agentflan_ray.trajectory import Message, Role, Tool, ToolCall, Trajectory

ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "tool": "tool",
}

_THOUGHT = re.compile(r"\s*<(think|thinking|scratch_pad)>(.*?)</\1>", re.DOTALL)
_REPLY_TAG = re.compile(r"</?(?:think|thinking|scratch_pad|tool_call|response)>")
_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_RESPONSE = re.compile(r"<response>(.*)</response>", re.DOTALL)
_RESULT = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)
_TOOLS = re.compile(r"<tools>(?=\s*[\[{])(.*?)</tools>", re.DOTALL)  # the prose before says "within <tools></tools>"
_FORMAT = re.compile(r"^\s*# Tools\b", re.MULTILINE)
_LISTED = re.compile(
    r"^\d+\. Name: (?P<name>.*)\nDescription: (?P<description>.*)\nParameters: (?P<parameters>.*)$", re.MULTILINE
)
_HISTORY = re.compile(r"\s*<(user|think|tool_call|response|obs)>(.*?)</\1>\s*", re.DOTALL)
_HISTORY_TITLE = re.compile(r"\A\s*\*\*Dialogue Records History\*\*")
_CONVERTERS_THOUGHTS = (
    "I should use the appropriate tool with proper parameters to respond to the user's need.",
    "I should directly respond to the user's need.",
)


def parse(row: dict[str, Any], where: Where) -> Iterator[Trajectory]:
    """One record of ToolRL or in the style of Hermes."""
    if "instruction" in row:
        yield _parse_toolrl(row, record_id(row, where))
    else:
        yield _parse_hermes(row, record_id(row, where))


def read_reply(text: str, learnt: bool, name: str) -> Message:
    """An assistant reply: its thought, the calls in it, and the words beside them.

    A tag's name inside a thought is a word like any other.
    """
    found = _THOUGHT.match(text)
    thought = found[2].strip() if found else ""
    rest = text[found.end() :] if found else text
    calls = tuple(call for block in _CALL.findall(rest) for call in _calls(block, name))
    words = _CALL.sub("", rest)
    if response := _RESPONSE.search(words):
        words = words[: response.start()] + response[1] + words[response.end() :]
    if alone := _REPLY_TAG.search(words):
        raise MalformedRecord("unpaired_tag", f"{name} has {alone[0]} without its other half: {text[-80:]!r}.")
    return Message("assistant", words.strip(), thought, calls, learnt)


def _calls(block: str, name: str) -> list[ToolCall]:
    """The calls between two tags: one object, a list of them, or one a line."""
    # Lines end at "\n" only: JSON strings may hold U+2028 and U+0085, where splitlines would cut them.
    value = parse_literal(block)
    if value is None:
        value = [parse_literal(line) for line in block.split("\n") if line.strip()]
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(call, dict) for call in calls):
        raise MalformedRecord("call_not_json", f"{name} calls a tool, but not in JSON: {block.strip()[:80]!r}.")
    return [read_call(call, f"{name}.tool_call[{index}]") for index, call in enumerate(calls)]


def _parse_toolrl(row: dict[str, Any], identity: str) -> Trajectory:
    messages = list(_history(text_at(row, "input", "record")))
    messages.append(read_reply(text_at(row, "output", "record"), True, "output"))
    calls = [call for message in messages for call in message.calls]
    tools = _listed_tools(text_at(row, "instruction", "record"), calls)
    if not tools:
        raise MalformedRecord("no_tool_list", f"Record {identity!r} lists no tool by Name, Description and Parameters.")
    return build(identity, "toolrl", tools, messages)


def _history(text: str) -> Iterator[Message]:
    title = _HISTORY_TITLE.match(text)
    position = title.end() if title else 0
    thought = ""
    while text[position:].strip():
        found = _HISTORY.match(text, position)
        if found is None:
            raise MalformedRecord("text_outside_tags", f"The history is not in tags from {text[position:][:80]!r} on.")
        position = found.end()
        tag, piece = found[1], found[2].strip()
        if tag == "think":
            thought = "" if piece in _CONVERTERS_THOUGHTS else piece
            continue
        if tag == "user":
            yield Message("user", piece)
        elif tag == "obs":
            yield Message("tool", piece)
        elif tag == "response":
            yield Message("assistant", piece, thought)
        else:
            yield Message("assistant", thought=thought, calls=tuple(_calls(piece, "history")))
        thought = ""


def _listed_tools(instruction: str, calls: Sequence[ToolCall]) -> tuple[Tool, ...]:
    tools = []
    for match in _LISTED.finditer(instruction):
        name = match["name"].strip()
        specs = parse_json(match["parameters"])
        if not isinstance(specs, dict) or not all(isinstance(spec, dict) for spec in specs.values()):
            raise MalformedRecord("tool_not_readable", f"The parameters of {name!r:.60} are no JSON objects.")
        given = [parse_json(call.arguments) for call in calls if call.name == name]
        required = [
            parameter
            for parameter, spec in specs.items()
            if _may_be_required(spec) and all(parameter in arguments for arguments in given if arguments is not None)
        ]
        properties = {parameter: _property(spec, f"{name}.{parameter}") for parameter, spec in specs.items()}
        schema = {"type": "object", "properties": properties, "required": required}
        tools.append(Tool(name, match["description"].strip(), schema))
    return tuple(tools)


def _may_be_required(spec: dict[str, Any]) -> bool:
    said = f"{spec.get('type')} {spec.get('description')}".lower()
    return spec.get("default", "") == "" and "optional" not in said


def _property(spec: dict[str, Any], place: str) -> dict[str, Any]:
    default = {"default": spec["default"]} if spec.get("default", "") != "" else {}
    kind = schema_type(str(spec.get("type", "")))
    return {"type": kind, "description": text_at(spec, "description", place), **default}


def _parse_hermes(row: dict[str, Any], identity: str) -> Trajectory:
    tools = read_tools(row.get("tools"), "'tools'")
    messages: list[Message] = []
    key = "conversations" if "conversations" in row else "messages"
    for index, turn in enumerate(read_turns(row, key)):
        role = known_role(turn.role, ROLES, index)
        if role == "assistant":
            messages.append(read_reply(turn.text, turn.learnt, f"{key}[{index}]"))
        elif role == "system":
            found = _TOOLS.search(turn.text)
            if found is None:
                messages.append(Message("system", turn.text))
                continue
            tools = tools or _tools_between_tags(found[1])
            own = _FORMAT.split(turn.text, maxsplit=1)
            if len(own) > 1 and own[0].strip():
                messages.append(Message("system", own[0].strip()))
        else:
            results = _RESULT.findall(turn.text)
            messages += [Message("tool", result.strip()) for result in results] or [Message(role, turn.text.strip())]
    return build(identity, "think_tags", tools, messages)


def _tools_between_tags(text: str) -> tuple[Tool, ...]:
    value = parse_literal(text)
    if value is None:
        value = [parse_literal(line) for line in text.split("\n") if line.strip()]
    listed: Sequence[Any] = value if isinstance(value, list) else [value]
    return tuple(read_tool(item, f"<tools>[{index}]") for index, item in enumerate(listed))


SOURCE = Source("think_tags", parse, "<think>, <tool_call>, <response> tags: ToolRL, Hermes function calling, Qwen")
