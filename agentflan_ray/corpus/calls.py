"""Calls in words: the shapes that a tool's name and arguments take where no format is asked for, and their readers.

Decomposed conversations give the name and the arguments as replies of their own. The chain-of-thought form gives both
in the turn that holds the thought, in one of several free shapes, as the paper's release does (a Python call, a
dictionary, JSON, YAML, lines). All values are JSON texts, so that each shape can be read back exactly.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agentflan_ray.forms import are_identifiers, json_text, python_arguments, read_python_arguments
from agentflan_ray.sample import Part
from agentflan_ray.trajectory import ToolCall

NO_ARGUMENTS = "none"


def write_arguments(arguments: str) -> str:
    """Arguments in plain lines, ``name: value``, each value as JSON so that :func:`read_arguments` is its inverse."""
    values = json.loads(arguments)
    if not values:
        return NO_ARGUMENTS
    return "\n".join(f"{_name(name)}: {json_text(value)}" for name, value in values.items())


def _name(name: str) -> str:
    """As JSON without its quotes; a blank at the beginning is escaped, because turns are trimmed."""
    text = json_text(name)[1:-1]
    return f"\\u{ord(text[0]):04x}{text[1:]}" if text[:1].isspace() else text


def read_arguments(text: str) -> dict[str, Any]:
    """Inverse of :func:`write_arguments`. A name that itself holds ``": "`` is read up to the value that parses.

    Raises ``ValueError`` for a line that holds no name and value.
    """
    if text == NO_ARGUMENTS:
        return {}
    values: dict[str, Any] = {}
    for line in text.split("\n"):
        for match in re.finditer(": ", line):
            try:
                values[json.loads(f'"{line[: match.start()]}"')] = json.loads(line[match.end() :])
                break
            except ValueError:
                continue
        else:
            raise ValueError(f"No argument can be read from {line!r}; expected a line such as 'city: \"Paris\"'.")
    return values


@dataclass(frozen=True, slots=True)
class Shape:
    """One way to write a call: ``before`` the name, ``between`` name and arguments, ``after`` them.

    ``style`` says how the arguments are written: ``python``, ``json``, ``lines``, ``bullets`` or ``indented``.
    ``without`` stands behind the name where there are no arguments.
    """

    before: str
    between: str
    after: str
    style: str
    without: str


SHAPES = (
    Shape("", "(", ")", "python", "()"),
    Shape("So: ", "(", ")", "python", "()"),
    Shape("```python\n", "(", ")\n```", "python", "()\n```"),
    Shape("The right tool here is ", ", called like this: ", "", "python", ", called without arguments."),
    Shape("This is a case for ", ", with ", ".", "python", ", which takes nothing."),
    Shape("Calling ", " with ", "", "json", " without arguments."),
    Shape("Tool of choice: ", "\nIts input: ", "", "json", "\nIt takes no input."),
    Shape("That calls for ", ".\nArguments: ", "", "json", ".\nNo arguments."),
    Shape('{"tool": "', '", "arguments": ', "}", "json", '", "arguments": {}}'),
    Shape('{"call": "', '", "with": ', "}", "json", '", "with": {}}'),
    Shape('```json\n{"tool": "', '", "input": ', "}\n```", "json", '", "input": {}}\n```'),
    Shape("tool: ", "\narguments:\n", "", "indented", "\narguments: {}"),
    Shape("call: ", "\nwith:\n", "", "indented", "\nwith: {}"),
    Shape("The tool for this step is ", ", with these values:\n", "", "bullets", ", which needs no values."),
    Shape("Next comes ", ":\n", "", "bullets", ", with nothing to fill in."),
    Shape("My choice is ", ". It gets:\n", "", "lines", ". It gets nothing."),
    Shape("Best done with ", ".\n", "", "lines", ", without any values."),
)
"""The shapes of a call in a chain-of-thought turn, all in the project's own words."""

CONNECTIVES = frozenset(text for shape in SHAPES for text in (shape.before, shape.between, shape.after, shape.without))
"""Every text that the chain-of-thought form adds to what a trajectory says, but for line ends between its pieces."""


def call_parts(call: ToolCall, rng: random.Random, at_start: bool) -> list[Part]:
    """A call in one of :data:`SHAPES`: scaffolding before the name is retrieval, behind it understanding.

    ``at_start`` says that the turn begins with it; else it stands on a line of its own. Names that a shape could not
    hold (a quote within JSON, an argument that is no identifier) take a shape that can.
    """
    values = json.loads(call.arguments)
    simple = are_identifiers(values)
    quotable = json_text(call.name) == f'"{call.name}"'
    able = [
        shape for shape in SHAPES if (simple or shape.style == "json") and (quotable or not shape.before.endswith('"'))
    ]
    shape = rng.choice(able)
    before = ("" if at_start else "\n") + shape.before
    parts = [Part(before, "retrieval")] if before else []
    parts.append(Part(call.name, "retrieval"))
    if not values:
        parts.append(Part(shape.without, "understanding"))
        return parts
    parts += [Part(shape.between, "understanding"), Part(_write(values, shape.style), "understanding")]
    return parts + ([Part(shape.after, "understanding")] if shape.after else [])


def calls_in(parts: Sequence[Part]) -> Iterator[ToolCall]:
    """The calls of a turn that :func:`call_parts` wrote: its inverse up to the blanks of the JSON.

    A run of retrieval parts ends with the name; of a run of understanding parts the second is the arguments, and one
    alone says that there are none.
    """
    name = ""
    behind: list[str] = []
    for part in [*parts, Part("", "retrieval")]:
        if part.capability == "understanding":
            behind.append(part.text)
        elif part.capability == "retrieval":
            if behind:
                yield ToolCall(name, json_text(_read(behind[1])) if len(behind) > 1 else "{}")
                behind = []
            name = part.text


def _write(values: dict[str, Any], style: str) -> str:
    if style == "python":
        return python_arguments(values)
    if style == "json":
        return json_text(values)
    start = {"lines": "", "bullets": "- ", "indented": "  "}[style]
    return "\n".join(f"{start}{name}: {json_text(value)}" for name, value in values.items())


def _read(text: str) -> dict[str, Any]:
    if text.startswith("{"):
        values: dict[str, Any] = json.loads(text)
        return values
    if re.match(r"\w+=", text):
        return read_python_arguments(text)
    return read_arguments("\n".join(line.removeprefix("- ").removeprefix("  ") for line in text.split("\n")))
