"""Tools that reckon with dates. They need nothing but their arguments."""

from __future__ import annotations

from datetime import date as Date
from datetime import timedelta

from agentflan_ray.toolbox.tool import Result, ToolFault, tool
from agentflan_ray.toolbox.world import World, spoken_date

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MAX_DAYS = 36_525
"""A century: no sensible question goes further."""


def parse_date(text: str) -> Date:
    """A date from ``YYYY-MM-DD``; a :class:`ToolFault` for any other text."""
    try:
        return Date.fromisoformat(text.strip())
    except ValueError:
        raise ToolFault(f"The date '{text}' is not in the form YYYY-MM-DD.") from None


@tool("dates", "Count the days between two dates (YYYY-MM-DD).")
def days_between(world: World, first_date: str, second_date: str) -> Result:  # noqa: ARG001
    return {"days": abs((parse_date(second_date) - parse_date(first_date)).days)}


@tool("dates", "Tell the day of the week of a date (YYYY-MM-DD).")
def weekday_of(world: World, date: str) -> Result:  # noqa: ARG001
    return WEEKDAYS[parse_date(date).weekday()]


@tool("dates", "Add a number of days to a date (YYYY-MM-DD).")
def add_days(world: World, date: str, days: int) -> Result:  # noqa: ARG001
    day = parse_date(date)
    if abs(days) > MAX_DAYS or not 1 <= day.year + days // 365 - 1 <= 9990:
        raise ToolFault(f"At most {MAX_DAYS} days can be added, within the years 1 to 9990.")
    return spoken_date(day + timedelta(days=days))


TOOLS = (days_between, weekday_of, add_days)
