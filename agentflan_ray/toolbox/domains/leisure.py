"""Tools of domains that occur only in evaluation: trains, library, cinema, kitchen, garage."""

from __future__ import annotations

import sqlite3
from datetime import date as Date
from datetime import timedelta

from agentflan_ray.toolbox.tool import Result, ToolFault, tool
from agentflan_ray.toolbox.world import World, spoken_date

MAX_RENEWALS = 2
RENEWAL_DAYS = 14


def _train(world: World, number: str) -> sqlite3.Row:
    row = world.row("SELECT * FROM trains WHERE number = ?", number.replace(" ", "").upper())
    if row is None:
        raise ToolFault(f"There is no train with the number '{number}'.")
    return row


def _loan(world: World, code: str) -> sqlite3.Row:
    row = world.row("SELECT * FROM loans WHERE lower(code) = ?", code.lower())
    if row is None:
        raise ToolFault(f"There is no loan with the code '{code}'.")
    return row


@tool("trains", "Find direct trains from one station to another.", held_out=True)
def find_trains(world: World, departure: str, arrival: str) -> Result:
    rows = world.rows(
        "SELECT * FROM trains WHERE lower(origin) = ? AND lower(destination) = ? ORDER BY departs",
        departure.strip().lower(),
        arrival.strip().lower(),
    )
    if not rows:
        raise ToolFault(f"There is no direct train from '{departure}' to '{arrival}'.")
    return [f"{row['number']} leaves at {row['departs']}, takes {row['minutes']} minutes" for row in rows]


@tool("trains", "Tell the platform that a train leaves from.", held_out=True)
def train_platform(world: World, train_number: str) -> Result:
    row = _train(world, train_number)
    return {"train": row["number"], "platform": row["platform"]}


@tool("trains", "Reserve one seat on a train for a passenger.", held_out=True)
def reserve_seat(world: World, train_number: str, passenger: str) -> Result:
    row = _train(world, train_number)
    if not passenger.strip():
        raise ToolFault("A seat needs the passenger's name.")
    if not row["seats"]:
        raise ToolFault(f"Train {row['number']} is fully booked.")
    world.rows("UPDATE trains SET seats = seats - 1 WHERE number = ?", row["number"])
    return {"train": row["number"], "passenger": passenger, "seat": row["seats"]}


@tool("library", "Tell a book's shelf, author and number of copies.", held_out=True)
def locate_book(world: World, book: str) -> Result:
    row = world.row("SELECT * FROM books WHERE lower(title) = ?", book.strip().lower())
    if row is None:
        raise ToolFault(f"There is no book called '{book}'.")
    return {"author": row["author"], "shelf": row["shelf"], "copies": row["copies"]}


@tool("library", "Show when a library loan is due.", held_out=True)
def loan_due(world: World, loan_code: str) -> Result:
    row = _loan(world, loan_code)
    return {"book": row["book"], "due": spoken_date(Date.fromisoformat(row["due"]))}


@tool("library", "Renew a library loan for two weeks.", held_out=True)
def renew_loan(world: World, loan_code: str) -> Result:
    row = _loan(world, loan_code)
    if row["renewals"] >= MAX_RENEWALS:
        raise ToolFault(f"Loan {row['code']} has been renewed {MAX_RENEWALS} times and cannot be renewed again.")
    due = Date.fromisoformat(row["due"]) + timedelta(days=RENEWAL_DAYS)
    world.rows("UPDATE loans SET due = ?, renewals = renewals + 1 WHERE code = ?", due.isoformat(), row["code"])
    return {"book": row["book"], "new_due": spoken_date(due)}


@tool("cinema", "List today's screening times of a film.", held_out=True)
def film_times(world: World, film: str) -> Result:
    rows = world.rows("SELECT * FROM films WHERE lower(title) = ? ORDER BY screening", film.strip().lower())
    if not rows:
        raise ToolFault(f"The film '{film}' is not showing today.")
    return [f"{row['screening']} in hall {row['hall']}" for row in rows]


@tool("cinema", "Count the free seats for a film's screening (HH:MM).", held_out=True)
def seats_left(world: World, film: str, screening: str) -> Result:
    row = world.row(
        "SELECT * FROM films WHERE lower(title) = ? AND screening = ?", film.strip().lower(), screening.strip()
    )
    if row is None:
        raise ToolFault(f"There is no screening of '{film}' at {screening}.")
    return {"screening": row["screening"], "free_seats": row["seats"]}


@tool("kitchen", "Show cooking time, servings and main spice of a dish.", held_out=True)
def find_recipe(world: World, dish: str) -> Result:
    row = world.row("SELECT * FROM recipes WHERE dish = ?", dish.strip().lower())
    if row is None:
        raise ToolFault(f"There is no recipe for '{dish}'.")
    return {"minutes": row["minutes"], "servings": row["servings"], "spice": row["spice"]}


@tool("garage", "Show model, year and next inspection of a vehicle.", held_out=True)
def vehicle_record(world: World, plate: str) -> Result:
    row = world.row("SELECT * FROM vehicles WHERE lower(plate) = ?", plate.strip().lower())
    if row is None:
        raise ToolFault(f"There is no vehicle with the plate '{plate}'.")
    return {
        "model": row["model"],
        "year": row["year"],
        "inspection": spoken_date(Date.fromisoformat(row["inspection"])),
    }


TOOLS = (
    find_trains,
    train_platform,
    reserve_seat,
    locate_book,
    loan_due,
    renew_loan,
    film_times,
    seats_left,
    find_recipe,
    vehicle_record,
)
