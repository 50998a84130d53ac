"""Tools over the staff directory, the calendar and the rooms of an office."""

from __future__ import annotations

import re
from datetime import date as Date
from typing import Any, Literal

from agentflan_ray.toolbox.domains.dates import parse_date
from agentflan_ray.toolbox.tool import Result, ToolFault, tool
from agentflan_ray.toolbox.world import World, spoken_date


@tool("people", "Find staff by first name, last name or both.")
def find_person(world: World, name: str) -> Result:
    rows = world.rows(
        "SELECT id, name, team FROM people WHERE ? IN (lower(first), lower(last), lower(name)) ORDER BY id",
        name.strip().lower(),
    )
    if not rows:
        raise ToolFault(f"No person matches '{name}'.")
    return [f"{row['id']} {row['name']} ({row['team']})" for row in rows]


@tool("people", "Get the email, phone, office or manager of a person.")
def person_details(world: World, person_id: str, field: Literal["email", "phone", "office", "manager"]) -> Result:
    row = world.row("SELECT * FROM people WHERE lower(id) = ?", person_id.lower())
    if row is None:
        raise ToolFault(f"There is no person with the id '{person_id}'.")
    return {"name": row["name"], field: row[field] or "none"}


@tool("people", "List the members of a team.")
def list_team(world: World, team: str) -> Result:
    rows = world.rows("SELECT name FROM people WHERE lower(team) = ? ORDER BY name", team.strip().lower())
    if not rows:
        raise ToolFault(f"There is no team called '{team}'.")
    return [row["name"] for row in rows]


@tool("people", "Show how many holiday days an employee has left.", held_out=True)
def leave_balance(world: World, employee: str) -> Result:
    row = world.row("SELECT name, leave_days FROM people WHERE lower(name) = ?", employee.strip().lower())
    if row is None:
        raise ToolFault(f"There is no employee called '{employee}'.")
    return {"employee": row["name"], "days_left": row["leave_days"]}


@tool("calendar", "List the calendar events of one date (YYYY-MM-DD).")
def list_events(world: World, date: str) -> Result:
    day = parse_date(date)
    rows = world.rows("SELECT time, title FROM events WHERE day = ? ORDER BY time", day.isoformat())
    return [f"{row['time']} {row['title']}" for row in rows] or f"No events on {spoken_date(day)}."


@tool("calendar", "Find a calendar event by a word of its title.")
def find_event(world: World, keyword: str) -> Result:
    rows = world.rows(
        "SELECT * FROM events WHERE instr(lower(title), ?) ORDER BY day, time LIMIT 3", keyword.strip().lower()
    )
    if not rows:
        raise ToolFault(f"No event matches '{keyword}'.")
    events = [
        {
            "title": row["title"],
            "date": spoken_date(Date.fromisoformat(row["day"])),
            "time": row["time"],
            "room": row["room"],
        }
        for row in rows
    ]
    return events[0] if len(events) == 1 else events


@tool("calendar", "Add an event to the calendar (date YYYY-MM-DD, time HH:MM).")
def create_event(world: World, title: str, date: str, time: str, minutes: int = 60) -> Result:
    day = parse_date(date)
    if not title.strip():
        raise ToolFault("An event needs a title.")
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", time):
        raise ToolFault(f"The time '{time}' is not in the form HH:MM.")
    if not 5 <= minutes <= 600:
        raise ToolFault(f"An event lasts 5 to 600 minutes, not {minutes}.")
    taken = world.row("SELECT title FROM events WHERE day = ? AND time = ?", day.isoformat(), time)
    if taken is not None:
        raise ToolFault(f"{time} is already taken by '{taken['title']}'.")
    world.rows("INSERT INTO events VALUES (?, ?, ?, ?, '')", title, day.isoformat(), time, minutes)
    return {"created": title, "date": spoken_date(day), "time": time, "minutes": minutes}


@tool("rooms", "Show the floor, seats and projector of a meeting room.")
def room_info(world: World, room: str) -> Result:
    row = world.row("SELECT * FROM rooms WHERE lower(name) = ?", room.strip().lower())
    if row is None:
        raise ToolFault(f"There is no room called '{room}'.")
    facts: dict[str, Any] = {"room": row["name"], "floor": row["floor"], "seats": row["seats"]}
    return facts | {"projector": "yes" if row["projector"] else "no"}


TOOLS = (
    find_person,
    person_details,
    list_team,
    leave_balance,
    list_events,
    find_event,
    create_event,
    room_info,
)
