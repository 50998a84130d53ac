"""Values as they stand in tables and sentences."""

from __future__ import annotations

from typing import Any

import pandas as pd

from agentflan_ray.analyse import frame
from agentflan_ray.analyse.frame import Goal
from agentflan_ray.analyse.page import Html, element


def score_cell(row: pd.Series, goal: Goal) -> str:
    """A trial's value of an objective, with its interval where there is one."""
    ends = frame.interval(row, goal.metric)
    score = number(row.get(goal.column))
    return f"{score} {bounds({'low': ends[0], 'high': ends[1]})}" if ends else score


def estimate_cell(estimate: dict[str, Any]) -> str:
    """A value with its interval."""
    return f"{number(estimate['value'])} {bounds(estimate)}"


def bounds(estimate: dict[str, Any]) -> str:
    """An interval."""
    # A no-break space: a narrow column may break between a value and its interval, never inside it.
    return f"[{number(estimate['low'])},\u00a0{number(estimate['high'])}]"


def number(value: Any, form: str = "{:.3f}") -> str:
    """A number, or a dash where there is none."""
    return "–" if frame.is_missing(value) else form.format(value)


def count(value: Any) -> str:
    """A whole number with its thousands."""
    return "–" if frame.is_missing(value) else f"{int(value):,}"


def value_of(value: Any) -> str:
    """A parameter of any type."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: Any) -> str:
    """Seconds in the unit that suits them."""
    if frame.is_missing(seconds):
        return "–"
    if seconds < 120:
        return f"{seconds:.0f}\u00a0s"
    return f"{seconds / 60:.0f}\u00a0min" if seconds < 7200 else f"{seconds / 3600:.1f}\u00a0h"


def note(sentence: object) -> Html:
    """A remark below a figure, or in its place."""
    if not isinstance(sentence, Html):
        sentence = str(sentence).replace(" %", "\u00a0%")
    return element("p", sentence, class_="note")


def spread_cell(spread: tuple[float, float | None, float | None], form: str = "{:.3f}") -> str:
    """A number with the ends of its interval, where it has one."""
    value, low, high = spread
    if low is None or high is None:
        return form.format(value)
    return f"{form.format(value)} [{form.format(low)},\u00a0{form.format(high)}]"
