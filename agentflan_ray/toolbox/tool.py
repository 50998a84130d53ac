"""What a tool of the embedded world is: its description for a model, read off the function that runs it."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any, Literal, NamedTuple, get_args, get_origin

from agentflan_ray.trajectory import Tool

Result = str | dict[str, Any] | list[Any]
"""What a tool returns; anything but text is shown as JSON."""

_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


class ToolFault(Exception):
    """A tool cannot do what a call asks; the message is one sentence for the model."""


class Observation(NamedTuple):
    """What a call gave: the text that the model reads, and whether the call succeeded."""

    text: str
    ok: bool


@dataclass(frozen=True, slots=True)
class EmbeddedTool:
    """An executable tool. ``run(world, **arguments)`` trusts that the arguments fit ``spec.parameters``."""

    spec: Tool
    domain: str
    held_out: bool
    run: Callable[..., Result]


def tool(domain: str, description: str, held_out: bool = False) -> Callable[[Callable[..., Result]], EmbeddedTool]:
    """Make a tool of a function ``(world, parameter, ..., optional=default) -> Result``.

    The tool takes the function's name, and its JSON schema is read from the annotations: ``str``, ``int``, ``float``,
    ``bool``, ``list[...]`` and ``Literal[...]``. A parameter with a default is optional.
    """

    def make(function: Callable[..., Result]) -> EmbeddedTool:
        hints = typing.get_type_hints(function)
        parameters = list(signature(function).parameters.values())[1:]
        schema = {
            "type": "object",
            "properties": {parameter.name: _schema_of(hints[parameter.name]) for parameter in parameters},
            "required": [parameter.name for parameter in parameters if parameter.default is Parameter.empty],
        }
        return EmbeddedTool(Tool(function.__name__, description, schema), domain, held_out, function)

    return make


def _schema_of(hint: Any) -> dict[str, Any]:
    if get_origin(hint) is Literal:
        return {"type": "string", "enum": list(get_args(hint))}
    if get_origin(hint) is list:
        return {"type": "array", "items": _schema_of(get_args(hint)[0])}
    if types.NoneType in get_args(hint):  # an optional parameter without a natural default: `str | None`
        return _schema_of(next(kind for kind in get_args(hint) if kind is not types.NoneType))
    return {"type": _JSON_TYPES[hint]}
