"""The embedded world: one small invented town's worth of records, made from a seed, that the tools read and change."""

from __future__ import annotations

import itertools
import random
import sqlite3
from datetime import date, timedelta
from typing import Any

from agentflan_ray.toolbox import names
from agentflan_ray.toolbox.files import FileTree

SCHEMA = """
CREATE TABLE people (id TEXT, first TEXT, last TEXT, name TEXT, team TEXT, email TEXT, phone TEXT, office TEXT,
    manager TEXT, leave_days INT);
CREATE TABLE products (id TEXT, name TEXT, category TEXT, cents INT, stock INT);
CREATE TABLE orders (id TEXT, customer TEXT, product TEXT, quantity INT, status TEXT, arrives TEXT);
CREATE TABLE warranties (serial TEXT, product TEXT, until TEXT);
CREATE TABLE rooms (name TEXT, floor INT, seats INT, projector INT);
CREATE TABLE events (title TEXT, day TEXT, time TEXT, minutes INT, room TEXT);
CREATE TABLE cities (name TEXT, offset_minutes INT, sunrise TEXT, sunset TEXT, alert TEXT);
CREATE TABLE weather (city TEXT, day TEXT, sky TEXT, low INT, high INT, rain INT);
CREATE TABLE roads (origin TEXT, destination TEXT, km INT);
CREATE TABLE places (name TEXT, kind TEXT, city TEXT, opens TEXT, closes TEXT, street TEXT);
CREATE TABLE rates (code TEXT, per_euro REAL);
CREATE TABLE facts (subject TEXT, kind TEXT, relation TEXT, object TEXT);
CREATE TABLE notes (title TEXT, text TEXT);
CREATE TABLE trains (number TEXT, origin TEXT, destination TEXT, departs TEXT, minutes INT, platform INT, seats INT);
CREATE TABLE books (title TEXT, author TEXT, shelf TEXT, copies INT);
CREATE TABLE loans (code TEXT, book TEXT, due TEXT, renewals INT);
CREATE TABLE films (title TEXT, screening TEXT, hall INT, seats INT);
CREATE TABLE parcels (code TEXT, state TEXT, place TEXT, expected TEXT);
CREATE TABLE recipes (dish TEXT, minutes INT, servings INT, spice TEXT);
CREATE TABLE vehicles (plate TEXT, model TEXT, year INT, inspection TEXT);
CREATE TABLE clubs (name TEXT, position INT, points INT, played INT);
"""

BASE_RATES = {
    "USD": 1.08,
    "GBP": 0.85,
    "CHF": 0.95,
    "JPY": 161.0,
    "SEK": 11.4,
    "NOK": 11.7,
    "PLN": 4.3,
    "CZK": 25.1,
    "CAD": 1.48,
    "AUD": 1.65,
}
"""Units of a currency for one euro, roughly as in 2025; a world's own rates lie within 6 % of them."""

RAIN_STEPS = {"rainy": (12, 20), "stormy": (12, 20), "snowy": (8, 20), "sunny": (0, 2), "hazy": (0, 4)}
"""Chance of rain that goes with a sky, in steps of 5 %."""

ORDER_STATES = ("processing", "packed", "shipped", "delivered", "cancelled")
PARCEL_STATES = ("at the depot", "out for delivery", "held at customs", "ready for pickup")


class World:
    """Everything the tools can see. The same seed gives the same world on every machine.

    ``database`` is an in-memory SQLite connection, ``files`` the file tree, ``today`` the world's date. Tools change
    a world, so play each episode in its own :meth:`copy`. Building one takes a few milliseconds, a copy less than one.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.database = _connect()
        self.database.executescript(SCHEMA)
        rng = random.Random(f"world/{seed}")
        self.today = date(2026, 1, 1) + timedelta(days=rng.randrange(900))
        self.files = FileTree(_Builder(self, rng).build())

    def copy(self) -> World:
        """The same world, free to be changed."""
        other = object.__new__(World)
        other.seed = self.seed
        other.today = self.today
        other.files = FileTree(self.files.files)
        other.database = _connect()
        self.database.backup(other.database)
        return other

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a query, values bound by position."""
        return self.database.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a query, None where it has none."""
        row: sqlite3.Row | None = self.database.execute(query, values).fetchone()
        return row


def spoken_date(day: date) -> str:
    """``14 March 2027``: the way the tools and answers write a date."""
    return f"{day.day} {names.MONTHS[day.month - 1]} {day.year}"


def _connect() -> sqlite3.Connection:
    # A world is used by one episode at a time, but an evaluation may hand it from thread to thread.
    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    database.row_factory = sqlite3.Row
    return database


class _Builder:
    """Fills a new world, table by table, from one random stream."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng

    def build(self) -> dict[str, str]:
        """Fill the database; the texts of the files by their paths."""
        rng = self.rng
        full = [
            f"{first} {last}" for first, last in zip(self.some(names.FIRST_NAMES, 60), self.last_names(60), strict=True)
        ]
        self.staff, self.customers, self.others = full[:26], full[26:42], full[42:]
        starts, ends = self.some(names.CITY_STARTS, 10), [rng.choice(names.CITY_ENDS) for _ in range(10)]
        self.cities = [start + end for start, end in zip(starts, ends, strict=True)]
        self.world.database.execute("BEGIN")
        for fill in (
            self.people,
            self.shop,
            self.calendar,
            self.weather,
            self.places,
            self.rates,
            self.graph,
            self.notes,
            self.trains,
            self.library,
            self.cinema,
            self.parcels,
            self.kitchen,
            self.garage,
            self.league,
        ):
            fill()
        self.world.database.execute("COMMIT")
        return self.files()

    def some(self, values: tuple[Any, ...] | list[Any], num: int) -> list[Any]:
        return self.rng.sample(list(values), num)

    def last_names(self, num: int) -> list[str]:
        """Some surnames come twice, so that a surname alone may be ambiguous."""
        once = self.some(names.LAST_NAMES, num - 12)
        return once[:14] + once[:8] + once[14:] + once[-4:]

    def insert(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        marks = ",".join("?" * len(rows[0]))
        self.world.database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)

    def codes(self, num: int, prefix: str, low: int, high: int) -> list[str]:
        return [f"{prefix}{number}" for number in self.rng.sample(range(low, high), num)]

    def day(self, first: int, last: int) -> str:
        """ISO date between so many days from today."""
        return (self.world.today + timedelta(days=self.rng.randint(first, last))).isoformat()

    def clock(self, first: int, last: int, step: int = 15) -> str:
        minutes = self.rng.randrange(first * 60, last * 60, step)
        return f"{minutes // 60:02d}:{minutes % 60:02d}"

    def people(self) -> None:
        rng, rows = self.rng, []
        ids = self.codes(len(self.staff), "P", 101, 999)
        phones = self.codes(len(self.staff), "555-", 1000, 9999)
        teams = self.some(names.TEAMS, 6)
        for index, (name, code, phone) in enumerate(zip(self.staff, ids, phones, strict=True)):
            first, last = name.split()
            manager = self.staff[rng.randrange(max(index, 1))] if index else ""
            office = f"{rng.choice('ABCD')}{rng.randint(1, 4)}{rng.randint(10, 39)}"
            email = f"{first}.{last}@example.org".lower()
            rows.append((code, first, last, name, teams[index % 6], email, phone, office, manager, rng.randint(2, 28)))
        self.insert("people", rows)

    def shop(self) -> None:
        rng = self.rng
        kinds = [
            f"{material} {good}"
            for good in names.GOODS
            for material in (names.SOFT_MATERIALS if good in names.SOFT_GOODS else names.HARD_MATERIALS)
        ]
        chosen = self.some(kinds, 24)
        ids = self.codes(len(chosen), "K", 1000, 9999)
        products = [
            (
                code,
                name,
                names.GOODS[name.split()[1]],
                rng.randint(9, 240) * 100 + rng.choice((0, 50, 90, 95)),
                rng.choice((0, rng.randint(2, 90), rng.randint(2, 90))),
            )
            for code, name in zip(ids, chosen, strict=True)
        ]
        self.insert("products", products)
        orders = []
        for index, code in enumerate(self.codes(32, "R", 10000, 99999)):
            state = ORDER_STATES[index % len(ORDER_STATES)]
            days = (-20, -1) if state in ("delivered", "cancelled") else (1, 12)
            orders.append(
                (code, rng.choice(self.customers), rng.choice(products)[1], rng.randint(1, 6), state, self.day(*days))
            )
        self.insert("orders", orders)
        serials = self.codes(12, "SN-", 20000, 99999)
        self.insert("warranties", [(serial, rng.choice(products)[1], self.day(30, 900)) for serial in serials])

    def calendar(self) -> None:
        rng = self.rng
        rooms = self.some(names.ROOM_NAMES, 8)
        self.insert("rooms", [(room, rng.randint(1, 6), rng.randint(4, 60), rng.randrange(2)) for room in rooms])
        rows, taken = [], set()
        for title in self.some(names.EVENT_TITLES, 20):
            day, time = self.day(1, 12), self.clock(8, 18, 30)
            if (day, time) in taken:
                continue
            taken.add((day, time))
            rows.append((title, day, time, rng.choice((30, 45, 60, 90)), rng.choice(rooms)))
        self.insert("events", rows)

    def weather(self) -> None:
        rng, cities, days = self.rng, [], []
        for city in self.cities:
            alert = rng.choice(names.ALERTS) if rng.random() < 0.5 else ""
            offset = 60 * rng.randint(-8, 11)
            cities.append((city, offset, self.clock(5, 8, 1), self.clock(17, 21, 1), alert))
            for day in ("today", "tomorrow"):
                low = rng.randint(-8, 20)
                sky = rng.choice(names.SKIES if low < 2 else names.SKIES_WITHOUT_SNOW)
                days.append(
                    (city, day, sky, low, low + rng.randint(3, 14), 5 * rng.randint(*RAIN_STEPS.get(sky, (0, 8))))
                )
        self.insert("cities", cities)
        self.insert("weather", days)

    def places(self) -> None:
        rng, rows = self.rng, []
        words = self.some(names.PLACE_WORDS, 20)
        for index, word in enumerate(words):
            kind = names.PLACE_KINDS[index % len(names.PLACE_KINDS)]
            street = f"{rng.randint(1, 120)} {rng.choice(names.STREETS)} Street"
            rows.append(
                (
                    f"{word} {kind.title()}",
                    kind,
                    rng.choice(self.cities[:6]),
                    self.clock(6, 11, 30),
                    self.clock(16, 23, 30),
                    street,
                )
            )
        self.insert("places", rows)
        pairs = itertools.combinations(self.cities, 2)
        self.insert("roads", [(origin, destination, rng.randint(12, 640)) for origin, destination in pairs])

    def rates(self) -> None:
        rows = [(code, float(f"{rate * self.rng.uniform(0.94, 1.06):.4g}")) for code, rate in BASE_RATES.items()]
        self.insert("rates", [("EUR", 1.0), *rows])

    def graph(self) -> None:
        rng, rows = self.rng, []
        firms = [f"{start} {rng.choice(names.FIRM_ENDS)}" for start in self.some(names.FIRM_STARTS, 10)]
        goods = self.some(names.FIRM_GOODS, 10)
        for index, (firm, good) in enumerate(zip(firms, goods, strict=True)):
            founder = self.others[index]
            rows += [
                (firm, "company", "founder", founder),
                (firm, "company", "headquarters", rng.choice(self.cities)),
                (firm, "company", "product", good),
                (firm, "company", "founding_year", str(rng.randint(1901, 2019))),
                (founder, "person", "birthplace", rng.choice(self.cities)),
            ]
            if index:
                rows.append((firm, "company", "parent", rng.choice(firms[:index])))
        self.insert("facts", rows)

    def notes(self) -> None:
        rng = self.rng
        rows = []
        for label in self.some(names.NOTE_LABELS, 9):
            value = {
                "Wifi password": f"{rng.choice(names.COLOURS)}-{rng.choice(names.PROJECTS)}-{rng.randint(10, 99)}",
                "Guest network": f"{rng.choice(names.PLACE_WORDS).lower()}-{rng.randint(10, 99)}",
                "Parking spot": f"{rng.choice('ABCDEF')}{rng.randint(1, 80)}",
                "Paint colour": f"{rng.choice(('pale', 'dark', 'warm'))} {rng.choice(names.COLOURS)}",
                "Shoe size": str(rng.randint(36, 47)),
                "Coffee order": f"{rng.choice(('large', 'small'))} {rng.choice(('latte', 'espresso', 'mocha'))}",
                "Printer name": f"{rng.choice(names.ROOM_NAMES)}-{rng.randint(2, 9)}",
                "Spare key": f"under the {rng.choice(names.COLOURS)} {rng.choice(('pot', 'mat', 'bench', 'stone'))}",
                "Dentist": f"Dr {rng.choice(self.others).split()[1]}, 555-{rng.randint(1000, 9999)}",
                "Plumber": f"{rng.choice(self.others)}, 555-{rng.randint(1000, 9999)}",
            }.get(label, str(rng.randint(1000, 9999)))
            rows.append((label, value))
        self.insert("notes", rows)

    def files(self) -> dict[str, str]:
        rng = self.rng
        files = {}
        for folder in self.some(names.FOLDERS, 4):
            for _ in range(rng.randint(3, 5)):
                project, kind = rng.choice(names.PROJECTS), rng.choice(names.PROJECT_KINDS)
                files[f"{folder}/{project}-{kind}.txt"] = (
                    f"{project.title()} {kind}. Leader: {rng.choice(self.staff)}. "
                    f"Budget: {rng.randint(12, 990) * 100} EUR. "
                    f"Deadline: {spoken_date(date.fromisoformat(self.day(5, 200)))}."
                )
        return files

    def trains(self) -> None:
        rng = self.rng
        rows: list[tuple[Any, ...]] = []
        numbers = self.rng.sample(range(100, 999), 16)
        routes = self.some(list(itertools.permutations(self.cities, 2)), 16)
        for number, (origin, destination) in zip(numbers, routes, strict=True):
            rows.append(
                (
                    f"{rng.choice(names.TRAIN_KINDS)}{number}",
                    origin,
                    destination,
                    self.clock(5, 23, 1),
                    rng.randint(18, 240),
                    rng.randint(1, 14),
                    rng.randint(1, 60) if len(rows) % 4 else 0,
                )
            )
        self.insert("trains", rows)

    def library(self) -> None:
        rng = self.rng
        titles = self.some([f"{a} {b}" for a, b in itertools.product(names.BOOK_STARTS, names.BOOK_ENDS)], 14)
        self.insert(
            "books",
            [
                (title, rng.choice(self.others), f"{rng.choice('ABCDEFGH')}{rng.randint(1, 40)}", rng.randint(2, 7))
                for title in titles
            ],
        )
        codes = self.codes(12, "LN", 100, 999)
        self.insert(
            "loans", [(code, rng.choice(titles), self.day(1, 25), index % 3) for index, code in enumerate(codes)]
        )

    def cinema(self) -> None:
        rng, rows = self.rng, []
        for title in self.some([f"{a} {b}" for a, b in itertools.product(names.FILM_STARTS, names.FILM_ENDS)], 10):
            for screening in sorted({self.clock(11, 23, 5) for _ in range(rng.randint(1, 3))}):
                rows.append((title, screening, rng.randint(1, 9), rng.randint(2, 140)))
        self.insert("films", rows)

    def parcels(self) -> None:
        rng = self.rng
        codes = self.codes(14, "TX", 100000, 999999)
        self.insert(
            "parcels", [(code, rng.choice(PARCEL_STATES), rng.choice(self.cities), self.day(1, 9)) for code in codes]
        )

    def kitchen(self) -> None:
        rng = self.rng
        self.insert(
            "recipes",
            [
                (dish, 5 * rng.randint(4, 24), rng.randint(2, 8), rng.choice(names.SPICES))
                for dish in self.some(names.DISHES, 12)
            ],
        )

    def garage(self) -> None:
        rng, rows = self.rng, []
        for number in self.rng.sample(range(100, 999), 12):
            plate = f"{''.join(rng.choice('ABCDEFGHKLMNPRSTVXYZ') for _ in range(2))}-{number}"
            rows.append((plate, rng.choice(names.CAR_MAKES), rng.randint(2008, 2025), self.day(3, 400)))
        self.insert("vehicles", rows)

    def league(self) -> None:
        rng = self.rng
        played = rng.randint(12, 30)
        points = sorted(rng.sample(range(played // 2, played * 3 - 4), 8), reverse=True)
        self.insert(
            "clubs",
            [
                (f"{city} {rng.choice(names.CLUB_ENDS)}", position, won, played)
                for position, (city, won) in enumerate(zip(self.some(self.cities, 8), points, strict=True), start=1)
            ],
        )
