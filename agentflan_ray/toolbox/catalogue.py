"""All tools of the embedded world, and the one way to call them."""

from __future__ import annotations

import json
import random
from typing import Any

from agentflan_ray.toolbox.domains import dates, leisure, office, reckoning, records, shop, town
from agentflan_ray.toolbox.tool import EmbeddedTool, Observation, ToolFault
from agentflan_ray.toolbox.world import World
from agentflan_ray.trajectory import Tool, ToolCall

TOOLS: dict[str, EmbeddedTool] = {
    tool.spec.name: tool for module in (office, dates, shop, town, records, reckoning, leisure) for tool in module.TOOLS
}
"""Every tool by its name."""

SELF_CONTAINED_DOMAINS = frozenset({"maths", "units", "dates", "text"})
"""Domains whose questions a person can answer without looking anything up."""

MAX_ARGUMENT_CHARACTERS = 4_000
MAX_TEXT_CHARACTERS = 2_000
MAX_ITEMS = 50
MAX_NUMBER = 1e12

_NEAR = (
    {"shop", "parcels", "money"},
    {"places", "trains", "clock", "weather"},
    {"places", "cinema", "library"},
    {"calendar", "rooms", "people", "cinema", "dates"},
    {"maths", "units", "money", "dates"},
    {"league", "places"},
    {"garage", "dates", "kitchen"},
)
"""Domains of one set may help with each other's requests."""
BROAD_DOMAINS = frozenset({"files", "notes", "graph"})
"""Domains that search at large: what a person may have written down could help with anything."""


def execute(world: World, call: ToolCall) -> Observation:
    """Run one call in ``world``, which it may change.

    Never raises on what a model wrote: an unknown tool, arguments that are no JSON object, a missing, unknown or
    wrongly typed argument, and whatever the tool itself refuses become one sentence with ``ok`` false.
    """
    try:
        tool = TOOLS.get(call.name)
        if tool is None:
            raise ToolFault(f"There is no tool called '{_shown(call.name)}'.")
        arguments = _read_arguments(tool.spec, call.arguments)
        result = tool.run(world, **arguments)
    except ToolFault as fault:
        return Observation(str(fault), ok=False)
    return Observation(result if isinstance(result, str) else json.dumps(result, ensure_ascii=False), ok=True)


def domain_of(tool_name: str) -> str:
    """The domain of an embedded tool."""
    return TOOLS[tool_name].domain


def irrelevant_tools(needed: set[str], rng: random.Random, num: int, held_out: bool | None = None) -> tuple[Tool, ...]:
    """Tools that cannot help where ``needed`` would: of other domains, none near to theirs, none that search at large.

    Held-out tools are drawn only with ``held_out``, which by default holds where a needed tool is held out itself, so
    that nothing made for training shows one.
    """
    if held_out is None:
        held_out = any(TOOLS[name].held_out for name in needed)
    domains = {domain_of(name) for name in needed}
    excluded = BROAD_DOMAINS | domains | {near for group in _NEAR if group & domains for near in group}
    pool = [tool.spec for tool in TOOLS.values() if tool.domain not in excluded and (held_out or not tool.held_out)]
    return tuple(rng.sample(pool, num))


def _read_arguments(tool: Tool, text: str) -> dict[str, Any]:
    if len(text) > MAX_ARGUMENT_CHARACTERS:
        raise ToolFault(f"The arguments have more than {MAX_ARGUMENT_CHARACTERS} characters.")
    try:
        arguments = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ToolFault("The arguments are not valid JSON.") from None
    if not isinstance(arguments, dict):
        raise ToolFault("The arguments are not a JSON object.")
    for name in arguments:
        if name not in tool.properties:
            raise ToolFault(f"The tool {tool.name} has no parameter '{_shown(name)}'.")
    for name in tool.required:
        if name not in arguments:
            raise ToolFault(f"The parameter '{name}' is missing.")
    return {name: _checked(name, value, tool.properties[name]) for name, value in arguments.items()}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _checked(name: str, value: Any, schema: dict[str, Any]) -> Any:
    """The value if it fits the schema, whole numbers as ``int``; else a :class:`ToolFault`."""
    kind = schema["type"]
    if kind == "array":
        if not isinstance(value, list):
            raise ToolFault(f"The parameter '{name}' must be an array.")
        if len(value) > MAX_ITEMS:
            raise ToolFault(f"The parameter '{name}' takes at most {MAX_ITEMS} items.")
        return [_checked(name, item, schema["items"]) for item in value]
    if kind == "string":
        if not isinstance(value, str):
            raise ToolFault(f"The parameter '{name}' must be a string.")
        if len(value) > MAX_TEXT_CHARACTERS or _shown(value, MAX_TEXT_CHARACTERS) != value:
            raise ToolFault(f"The parameter '{name}' must be a text of at most {MAX_TEXT_CHARACTERS} characters.")
        if value not in schema.get("enum", [value]):
            raise ToolFault(f"The parameter '{name}' must be one of {', '.join(schema['enum'])}.")
        return value
    assert kind in ("number", "integer"), kind
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ToolFault(f"The parameter '{name}' must be {'an integer' if kind == 'integer' else 'a number'}.")
    if not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise ToolFault(f"The parameter '{name}' is too large.")
    if kind == "integer" and value != int(value):
        raise ToolFault(f"The parameter '{name}' must be an integer.")
    return int(value) if kind == "integer" else value


def _shown(text: str, limit: int = 60) -> str:
    """The start of a text from a model, with half surrogate pairs, which are no text, made visible."""
    return text[:limit].encode(errors="replace").decode()
