"""Tools over towns: weather, the sun, local time, places, roads, and the football league."""

from __future__ import annotations

import sqlite3
from typing import Literal

from agentflan_ray.toolbox.tool import Result, ToolFault, tool
from agentflan_ray.toolbox.world import World

NOON = 12 * 60
"""The world's clock stands at noon UTC, so that an episode can be repeated."""


def _city(world: World, name: str) -> sqlite3.Row:
    row = world.row("SELECT * FROM cities WHERE lower(name) = ?", name.strip().lower())
    if row is None:
        raise ToolFault(f"The city '{name}' is not known.")
    return row


@tool("weather", "Get the weather of a city, today or tomorrow.")
def get_weather(world: World, city: str, day: Literal["today", "tomorrow"] = "today") -> Result:
    row = world.row("SELECT * FROM weather WHERE city = ? AND day = ?", _city(world, city)["name"], day)
    assert row is not None
    return {"sky": row["sky"], "low": f"{row['low']} C", "high": f"{row['high']} C", "rain_chance": f"{row['rain']}%"}


@tool("weather", "Show the weather warning in force for a city.")
def weather_alert(world: World, city: str) -> Result:
    row = _city(world, city)
    return f"Warning for {row['name']}: {row['alert']}." if row["alert"] else f"No warning for {row['name']}."


@tool("weather", "Tell when the sun rises or sets in a town.", held_out=True)
def sun_times(world: World, town: str, moment: Literal["sunrise", "sunset"]) -> Result:
    row = _city(world, town)
    return {"town": row["name"], moment: row[moment]}


@tool("clock", "Tell the current local time in a city.")
def local_time(world: World, city: str) -> Result:
    row = _city(world, city)
    minutes = (NOON + row["offset_minutes"]) % (24 * 60)
    return {"city": row["name"], "time": f"{minutes // 60:02d}:{minutes % 60:02d}"}


@tool("places", "Find museums, pharmacies, bakeries, bookshops, gyms or restaurants in a city.")
def find_places(
    world: World, kind: Literal["museum", "pharmacy", "bakery", "bookshop", "gym", "restaurant"], city: str
) -> Result:
    rows = world.rows(
        "SELECT name, street FROM places WHERE kind = ? AND city = ? ORDER BY name", kind, _city(world, city)["name"]
    )
    return [f"{row['name']}, {row['street']}" for row in rows] or f"No {kind} found in {city}."


@tool("places", "Show the opening hours of a place by its name.")
def opening_hours(world: World, place: str) -> Result:
    row = world.row("SELECT * FROM places WHERE lower(name) = ?", place.strip().lower())
    if row is None:
        raise ToolFault(f"There is no place called '{place}'.")
    return {"place": row["name"], "opens": row["opens"], "closes": row["closes"]}


@tool("places", "Give the road distance between two cities in kilometres.")
def road_distance(world: World, origin: str, destination: str) -> Result:
    pair = (_city(world, origin)["name"], _city(world, destination)["name"])
    if pair[0] == pair[1]:
        raise ToolFault("Origin and destination are the same city.")
    row = world.row("SELECT km FROM roads WHERE origin IN (?, ?) AND destination IN (?, ?)", *pair, *pair)
    assert row is not None
    return f"{row['km']} km"


@tool("league", "Show the league position and points of a football club.", held_out=True)
def league_table(world: World, club: str) -> Result:
    row = world.row("SELECT * FROM clubs WHERE lower(name) = ?", club.strip().lower())
    if row is None:
        raise ToolFault(f"There is no club called '{club}'.")
    return {"club": row["name"], "position": row["position"], "points": row["points"], "played": row["played"]}


TOOLS = (
    get_weather,
    weather_alert,
    sun_times,
    local_time,
    find_places,
    opening_hours,
    road_distance,
    league_table,
)
