"""Published tool descriptions as :class:`~agentflan_ray.trajectory.Tool`, whose parameters are a JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from agentflan_ray.trajectory import Tool

_TYPES = {
    "dict": "object",
    "hashmap": "object",
    "float": "number",
    "double": "number",
    "long": "integer",
    "int": "integer",
    "tuple": "array",
    "list": "array",
    "arraylist": "array",
    "str": "string",
    "char": "string",
    "enum": "string",
    "bool": "boolean",
    "date (yyyy-mm-dd)": "string",
}
_JSON_TYPES = frozenset({"object", "number", "integer", "array", "string", "boolean", "null"})


def tool_of(function: Mapping[str, Any]) -> Tool:
    """A function as BFCL, When2Call and glaive describe it: name, description, parameters of type dict or object."""
    parameters = schema_of(function.get("parameters") or {})
    parameters.setdefault("type", "object")
    return Tool(str(function["name"]), str(function.get("description") or ""), parameters)


def schema_of(schema: Any) -> Any:
    """A schema with the type names of Python, Java and JavaScript replaced by JSON's; an unknown type is left out."""
    if isinstance(schema, list):
        return [schema_of(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: schema_of(value) for key, value in schema.items() if key != "type" or isinstance(value, dict)}
    kind = schema.get("type")
    if isinstance(kind, str):
        word = _TYPES.get(kind.lower(), kind.lower())
        return {"type": word, **changed} if word in _JSON_TYPES else changed
    return {"type": kind, **changed} if isinstance(kind, list) else changed


def tools_to_json(tools: Iterable[Tool]) -> list[dict[str, Any]]:
    """Tools as an item's data holds them."""
    return [{"name": tool.name, "description": tool.description, "parameters": tool.parameters} for tool in tools]


def tools_from_json(tools: Iterable[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """Inverse of :func:`tools_to_json`."""
    return tuple(Tool(tool["name"], tool["description"], tool["parameters"]) for tool in tools)


def chat_template_tools(tools: Iterable[Tool]) -> tuple[dict[str, Any], ...]:
    """Tools as chat templates take them."""
    return tuple({"type": "function", "function": tool} for tool in tools_to_json(tools))


def parsed_tools(text: str) -> tuple[Tool, ...]:
    """Tools of a JSON text that holds a list of functions, or an empty text."""
    return tuple(tool_of(function) for function in json.loads(text)) if text.strip() else ()
