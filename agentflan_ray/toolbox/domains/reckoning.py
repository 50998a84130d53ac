"""Tools that reckon: arithmetic, units, money and text. Nothing here evaluates code."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Literal

from agentflan_ray.toolbox.arithmetic import evaluate, plain_number
from agentflan_ray.toolbox.tool import Result, ToolFault, tool
from agentflan_ray.toolbox.world import World

UNITS: dict[str, tuple[str, float]] = {
    "mm": ("length", 0.001),
    "cm": ("length", 0.01),
    "m": ("length", 1.0),
    "km": ("length", 1000.0),
    "inches": ("length", 0.0254),
    "feet": ("length", 0.3048),
    "yards": ("length", 0.9144),
    "miles": ("length", 1609.344),
    "g": ("mass", 0.001),
    "kg": ("mass", 1.0),
    "pounds": ("mass", 0.45359237),
    "ounces": ("mass", 0.028349523125),
    "ml": ("volume", 0.001),
    "litres": ("volume", 1.0),
    "cups": ("volume", 0.2365882365),
    "gallons": ("volume", 3.785411784),
    "seconds": ("time", 1.0),
    "minutes": ("time", 60.0),
    "hours": ("time", 3600.0),
    "days": ("time", 86400.0),
}
"""Unit to its quantity and its size in metres, kilograms, litres or seconds; US cups and gallons."""


_MEASURES: dict[str, Callable[[list[float]], float]] = {
    "mean": statistics.fmean,
    "median": statistics.median,
    "sum": sum,
    "smallest": min,
    "largest": max,
}


@tool("maths", "Work out an arithmetic expression such as 2 * (3 + 4).")
def calculate(world: World, expression: str) -> Result:  # noqa: ARG001
    return plain_number(evaluate(expression))


@tool("maths", "Give the mean, median, sum, smallest or largest of numbers.")
def number_summary(
    world: World,  # noqa: ARG001
    numbers: list[float],
    measure: Literal["mean", "median", "sum", "smallest", "largest"],
) -> Result:
    if not numbers:
        raise ToolFault("The list of numbers is empty.")
    value = _MEASURES[measure](numbers)
    return plain_number(value)


@tool("maths", "Split a bill evenly between guests, with an optional tip.", held_out=True)
def split_bill(world: World, total: float, guests: int, tip_percent: float = 0) -> Result:  # noqa: ARG001
    if guests < 1 or total < 0 or not 0 <= tip_percent <= 100:
        raise ToolFault("Give a positive total, at least one guest, and a tip of 0 to 100 percent.")
    return {"per_guest": f"{total * (1 + tip_percent / 100) / guests:.2f}"}


@tool("units", "Convert a length, weight, volume or time between units.")
def convert_units(world: World, value: float, from_unit: str, to_unit: str) -> Result:  # noqa: ARG001
    for unit in (from_unit, to_unit):
        if unit not in UNITS:
            raise ToolFault(f"The unit '{unit}' is not known; use one of {', '.join(UNITS)}.")
    (quantity, size), (other, target_size) = UNITS[from_unit], UNITS[to_unit]
    if quantity != other:
        raise ToolFault(f"Cannot convert {from_unit} ({quantity}) to {to_unit} ({other}).")
    return f"{plain_number(round(value * size / target_size, 2))} {to_unit}"


@tool("units", "Convert degrees on one scale, celsius or fahrenheit, to the other.", held_out=True)
def convert_temperature(world: World, degrees: float, scale: Literal["celsius", "fahrenheit"]) -> Result:  # noqa: ARG001
    if scale == "celsius":
        return f"{plain_number(round(degrees * 9 / 5 + 32, 1))} F"
    return f"{plain_number(round((degrees - 32) * 5 / 9, 1))} C"


@tool("money", "Convert an amount between currencies at today's rate.")
def convert_currency(world: World, amount: float, source: str, target: str) -> Result:
    rates = {row["code"]: row["per_euro"] for row in world.rows("SELECT * FROM rates")}
    for code in (source, target):
        if code.upper() not in rates:
            raise ToolFault(f"The currency '{code}' is not known; use one of {', '.join(rates)}.")
    return f"{amount / rates[source.upper()] * rates[target.upper()]:.2f} {target.upper()}"


@tool("text", "Count the words of a text.")
def count_words(world: World, text: str) -> Result:  # noqa: ARG001
    return {"words": len(text.split())}


@tool("text", "Count how often a letter occurs in a text.")
def count_letter(world: World, text: str, letter: str) -> Result:  # noqa: ARG001
    if len(letter) != 1:
        raise ToolFault(f"Give one letter, not '{letter}'.")
    return {"letter": letter, "count": text.lower().count(letter.lower())}


TOOLS = (
    calculate,
    number_summary,
    split_bill,
    convert_units,
    convert_temperature,
    convert_currency,
    count_words,
    count_letter,
)
