"""ToolVerifier: choosing one of some tools, with the reason (Mekala et al. 2024, arXiv 2402.14158).

Data sheet
    A CSV file with one column, ``text``, without ids: ``User: <request>``, ``###``, ``Tool Choices: <name> =
    <description>`` (one a line), ``###``, ``Thought: <why>``, ``Act: CALLTOOL["<name>"]``.
    Seen: 555 records, 552 kept; 2 to 8 tools each, mostly 8.
    Read: the choices as tools without parameters (the published ones list none), the choice as a call without
    arguments. There is no result and no answer.
    Dropped: ``invented_tool``, 3 seen: the tool named is not among the choices (``Sun`` for ``Sun-Rise Time tool``).
    Malformed: ``not_a_choice``, the text is not of this form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from agentflan_ray.sources.base import Dropped, MalformedRecord, Source, Where, build, record_id, text_at
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory

_CHOICE = re.compile(
    r"\s*User: (?P<request>.*?)\n###\nTool Choices: (?P<choices>.*?)\n###\nThought: (?P<thought>.*?)\n"
    r'Act: CALLTOOL\["(?P<name>[^"\n]*)"\]\s*',
    re.DOTALL,
)


def parse(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped]:
    """One choice."""
    identity = record_id(row, where)
    found = _CHOICE.fullmatch(text_at(row, "text", "record").replace("\r\n", "\n"))
    if found is None:
        raise MalformedRecord(
            "not_a_choice", f"Record {identity!r} is not of the form User, Tool Choices, Thought, Act: CALLTOOL."
        )
    tools = [_tool(line, identity) for line in found["choices"].splitlines() if line.strip()]
    name = found["name"].strip()
    if name not in {tool.name for tool in tools}:
        yield Dropped("invented_tool", f"Record {identity!r} calls {name!r:.80}, a tool that is not listed.")
        return
    step = Message("assistant", thought=found["thought"].strip(), calls=(ToolCall(name, "{}"),), loss=True)
    yield build(identity, "toolverifier", tools, [Message("user", found["request"].strip()), step])


def _tool(line: str, identity: str) -> Tool:
    name, equals, description = line.partition(" = ")
    if not equals:
        raise MalformedRecord("not_a_choice", f"Record {identity!r} has a choice without ' = ': {line[:80]!r}.")
    return Tool(name.strip(), description.strip(), {"type": "object", "properties": {}, "required": []})


SOURCE = Source("toolverifier", parse, "ToolVerifier: one-step tool choice with a thought, CSV")
