"""Tasks about towns: weather, time, places, roads, football."""

from __future__ import annotations

from agentflan_ray.toolbox.scene import Scene, template

KINDS_PLURAL = {
    "museum": "museums",
    "pharmacy": "pharmacies",
    "bakery": "bakeries",
    "bookshop": "bookshops",
    "gym": "gyms",
    "restaurant": "restaurants",
}


@template(weight=2.0)
def weather_one(s: Scene) -> None:
    city = s.pick("SELECT name FROM cities")["name"]
    day = s.one("today", "tomorrow")
    asked = s.one("sky", "high", "low", "rain_chance")
    s.ask(
        {
            "sky": [
                f"What will the weather be like in {city} {day}?",
                f"How is the weather in {city} {day}?",
                f"Is it sunny in {city} {day}, or what should I expect?",
                f"I am going to {city} {day}. What weather can I expect?",
            ],
            "high": [
                f"How warm does it get in {city} {day}?",
                f"What is the highest temperature in {city} {day}?",
                f"Tell me the high for {city} {day}.",
            ],
            "low": [
                f"How cold does it get in {city} {day}?",
                f"What is the lowest temperature in {city} {day}?",
                f"Tell me the low for {city} {day}.",
            ],
            "rain_chance": [
                f"What is the chance of rain in {city} {day}?",
                f"How likely is rain in {city} {day}?",
                f"Do I need an umbrella in {city} {day}? Give me the chance of rain.",
            ],
        }[asked]
    )
    words = {"sky": "sky", "high": "high", "low": "low", "rain_chance": "chance of rain"}[asked]
    got = s.call(
        "get_weather",
        [
            f"The forecast for {city} covers {day}, including the {words}.",
            f"This depends on the weather in {city}, so fetch {day}'s forecast.",
            f"City and day are both clear from the question: {city}, {day}.",
            f"A forecast for {city} is needed; the {words} is part of it.",
        ],
        city=city,
        day=day,
    )
    value = got[asked]
    s.answer(
        [value.removesuffix(" C").removesuffix("%")],
        {
            "sky": [
                f"It will be {value} in {city} {day}, between {got['low']} and {got['high']}.",
                f"Expect {value} weather in {city} {day}.",
                f"The forecast for {city} {day} is {value}.",
            ],
            "high": [
                f"The high in {city} {day} is {value}.",
                f"It gets up to {value} in {city} {day}.",
            ],
            "low": [
                f"The low in {city} {day} is {value}.",
                f"It gets down to {value} in {city} {day}.",
            ],
            "rain_chance": [
                f"The chance of rain in {city} {day} is {value}.",
                f"Rain in {city} {day} has a probability of {value}.",
            ],
        }[asked],
        [f"The forecast gives {value} for the {words}."] if asked != "sky" else None,
    )


@template(weight=1.2)
def weather_two(s: Scene) -> None:
    day = s.one("today", "tomorrow")
    rows = s.world.rows("SELECT * FROM weather WHERE day = ? ORDER BY city", day)
    first = s.rng.choice(rows)
    second = s.rng.choice([row for row in rows if row["high"] != first["high"]])
    cities = [first["city"], second["city"]]
    s.ask(
        [
            f"Where is it warmer {day}, in {cities[0]} or in {cities[1]}?",
            f"Which of {cities[0]} and {cities[1]} has the higher temperature {day}?",
            f"I can go to {cities[0]} or {cities[1]} {day}. Which gets warmer?",
        ]
    )
    highs = []
    for city, thoughts in zip(
        cities,
        (
            [
                f"Two cities are compared, so get {cities[0]} first.",
                f"A comparison needs both forecasts; {cities[0]} comes first.",
                f"One after the other: begin with the forecast for {cities[0]}.",
            ],
            [
                f"One temperature is known; now the same lookup for {cities[1]}.",
                f"{cities[0]} is known; the forecast for {cities[1]} is still missing.",
                f"To compare the two, the forecast for {cities[1]} is needed too.",
            ],
        ),
        strict=True,
    ):
        highs.append(int(s.call("get_weather", thoughts, city=city, day=day)["high"].split()[0]))
    order = (0, 1) if highs[0] > highs[1] else (1, 0)
    warm, cool = cities[order[0]], cities[order[1]]
    s.answer(
        [warm, str(highs[order[0]])],
        [
            f"It is warmer in {warm}, with {highs[order[0]]} C against {highs[order[1]]} C in {cool}.",
            f"{warm} gets warmer {day}: {highs[order[0]]} C, while {cool} has {highs[order[1]]} C.",
        ],
        [f"{highs[order[0]]} is more than {highs[order[1]]}, so {warm} is warmer."],
    )


@template()
def warning_for_city(s: Scene) -> None:
    row = s.pick("SELECT * FROM cities")
    city = row["name"]
    s.ask(
        [
            f"Is there a weather warning for {city}?",
            f"Are there any weather warnings in {city} at the moment?",
            f"Does a severe weather warning apply to {city}?",
            f"Before I drive to {city}: is a weather warning in force there?",
        ]
    )
    text = s.call(
        "weather_alert",
        [
            f"Warnings are kept apart from the forecast; check the one for {city}.",
            f"The question is about warnings in {city}, not about the usual forecast.",
            f"See whether a warning is in force for {city}.",
        ],
        city=city,
    )
    if row["alert"]:
        alert = text.split(": ")[1].rstrip(".")
        s.answer(
            [alert],
            [
                f"Yes, {city} has a warning: {alert}.",
                f"There is a warning for {city}: {alert}.",
                f"Yes, the current warning for {city} is: {alert}.",
            ],
        )
    else:
        s.answer(
            ["no|not|none"],
            [
                f"No, there is no weather warning for {city}.",
                f"There is no warning for {city} at the moment.",
                f"No warning is in force in {city}.",
            ],
        )


@template(weight=1.2)
def clock_in_city(s: Scene) -> None:
    city = s.pick("SELECT name FROM cities")["name"]
    s.ask(
        [
            f"What time is it in {city}?",
            f"What is the local time in {city} right now?",
            f"Tell me the current time in {city}.",
            f"I want to phone someone in {city}. What time is it there?",
        ]
    )
    value = s.call(
        "local_time",
        [
            f"The time depends on the zone of {city}, so ask for its local time.",
            f"{city} may be in another time zone; look up the clock there.",
            f"Only the present time in {city} is wanted, nothing about its weather.",
            f"The current time there cannot be guessed, so check {city}.",
        ],
        city=city,
    )["time"]
    s.answer(
        [value],
        [f"It is {value} in {city}.", f"The local time in {city} is {value}.", f"In {city} it is now {value}."],
    )


@template(weight=1.2)
def places_of_kind(s: Scene) -> None:
    row = s.pick("SELECT * FROM places")
    kind, city = row["kind"], row["city"]
    s.ask(
        [
            f"Is there a {kind} in {city}?",
            f"Which {KINDS_PLURAL[kind]} are there in {city}?",
            f"I am looking for a {kind} in {city}.",
            f"Find me a {kind} in {city}, please.",
        ]
    )
    found = s.call(
        "find_places",
        [
            f"The user wants a {kind}, and the town to search is {city}.",
            f"The place search takes a kind and a city: {kind} and {city}.",
            f"Only {city} matters here, so look through it for every {kind}.",
        ],
        kind=kind,
        city=city,
    )
    place_names = [entry.split(",")[0] for entry in found]
    listed = " and ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else found[0].replace(",", " at", 1)
    s.answer(
        place_names,
        [
            f"In {city} you find {listed}.",
            f"You can go to {listed}.",
            f"{city} has {listed}.",
        ],
    )


@template(weight=1.3)
def place_hours(s: Scene) -> None:
    place = s.pick("SELECT name FROM places")["name"]
    asked = s.one("opens", "closes")
    verb = asked.removesuffix("s")
    s.ask(
        [
            f"At what time does the {place} {verb}?",
            f"When does the {place} {verb} today?",
            f"Tell me when the {place} {asked}.",
            f"I want to visit the {place}. What time does it {verb}?",
        ]
    )
    value = s.call(
        "opening_hours",
        [
            f"The opening hours of the {place} say when it {asked}.",
            f"The {place} is named, so its hours can be read directly.",
            f"Hours are listed by place name, here the {place}.",
        ],
        place=place,
    )[asked]
    s.answer(
        [value],
        [
            f"The {place} {asked} at {value}.",
            f"It {asked} at {value}.",
            f"According to its hours, the {place} {asked} at {value}.",
        ],
    )


@template(weight=0.9)
def place_hours_by_kind(s: Scene) -> None:
    row = s.pick("SELECT kind, city FROM places GROUP BY kind, city HAVING count(*) = 1 ORDER BY kind, city")
    kind, city = row["kind"], row["city"]
    asked = s.one("opens", "closes")
    verb = asked.removesuffix("s")
    s.ask(
        [
            f"When does the {kind} in {city} {verb}?",
            f"At what time does {city}'s only {kind} {verb}?",
            f"I need the {kind} in {city}. What time does it {verb}?",
        ]
    )
    found = s.call(
        "find_places",
        [
            f"Hours go by name, so find out what the {kind} in {city} is called.",
            f"First find the {kind} in {city}; its hours come after.",
            f"The name of the {kind} is missing; search {city} for it.",
        ],
        kind=kind,
        city=city,
    )
    place = found[0].split(",")[0]
    value = s.call(
        "opening_hours",
        [
            f"The search gave the {place}; what is missing now is its hours.",
            f"The {place} is the one meant, so read when it {asked}.",
            f"With the name {place} the hours can be looked up.",
        ],
        place=place,
    )[asked]
    s.answer(
        [value],
        [f"The {place} in {city} {asked} at {value}.", f"{city}'s {kind} is the {place}, and it {asked} at {value}."],
    )


@template()
def distance_by_road(s: Scene) -> None:
    row = s.pick("SELECT * FROM roads")
    origin, destination = s.rng.sample([row["origin"], row["destination"]], 2)
    s.ask(
        [
            f"How far is it from {origin} to {destination} by road?",
            f"How many kilometres is {destination} from {origin}?",
            f"What is the road distance between {origin} and {destination}?",
            f"I am driving from {origin} to {destination}. How far is that?",
        ]
    )
    value = s.call(
        "road_distance",
        [
            f"Both ends of the trip are named: {origin} and {destination}.",
            f"The distance from {origin} to {destination} is a plain lookup.",
            f"Kilometres by road between {origin} and {destination} are asked for.",
        ],
        origin=origin,
        destination=destination,
    )
    s.answer(
        [value.split()[0]],
        [
            f"It is {value} from {origin} to {destination}.",
            f"The road from {origin} to {destination} is {value} long.",
            f"{destination} is {value} from {origin}.",
        ],
    )


@template(weight=0.8)
def distance_in_miles(s: Scene) -> None:
    row = s.pick("SELECT * FROM roads")
    origin, destination = row["origin"], row["destination"]
    s.ask(
        [
            f"How many miles is it from {origin} to {destination}?",
            f"What is the distance between {origin} and {destination} in miles?",
            f"Give me the road distance from {origin} to {destination}, in miles please.",
        ]
    )
    km = s.call(
        "road_distance",
        [
            "The distance comes in kilometres first; miles follow from it.",
            f"Find the road from {origin} to {destination}, then change the unit.",
            "Miles are wanted, but the road list is in kilometres, so start there.",
        ],
        origin=origin,
        destination=destination,
    ).split()[0]
    value = s.call(
        "convert_units",
        [
            f"The user wants miles, so the {km} km have to be converted.",
            f"The road is known, so now convert the {km} kilometres to miles.",
            f"The road is {km} km long; only the unit is wrong.",
        ],
        value=int(km),
        from_unit="km",
        to_unit="miles",
    )
    s.answer(
        [value.split()[0]],
        [
            f"It is {value} from {origin} to {destination}.",
            f"The distance is {value}, which is {km} km.",
            f"{origin} and {destination} are {value} apart.",
        ],
    )


@template(weight=0.8)
def driving_time(s: Scene) -> None:
    row = s.pick("SELECT * FROM roads")
    origin, destination = row["origin"], row["destination"]
    speed = s.one(40, 50, 60, 80, 90, 100)
    s.ask(
        [
            f"How many hours does it take from {origin} to {destination} at {speed} km/h?",
            f"If I drive {speed} km/h, how many hours do I need from {origin} to {destination}?",
            f"At an average of {speed} km/h, how long is the drive from {origin} to {destination} in hours?",
        ]
    )
    km = s.call(
        "road_distance",
        [
            f"The speed is known, the distance from {origin} to {destination} is not.",
            "Time is distance over speed, so get the distance first.",
            f"How far {destination} is must be looked up before anything can be divided.",
        ],
        origin=origin,
        destination=destination,
    ).split()[0]
    hours = s.call(
        "calculate",
        [
            f"{km} kilometres at {speed} km/h: divide one by the other.",
            f"The trip is {km} km, so the hours are {km} divided by {speed}.",
        ],
        expression=f"{km} / {speed}",
    )
    s.answer(
        [hours],
        [
            f"The drive takes {hours} hours.",
            f"At {speed} km/h you need {hours} hours for the {km} km.",
            f"It takes {hours} hours from {origin} to {destination}.",
        ],
    )


@template(held_out=True, weight=1.2)
def sun_in_town(s: Scene) -> None:
    town = s.pick("SELECT name FROM cities")["name"]
    moment = s.one("sunrise", "sunset")
    verb = {"sunrise": "rise", "sunset": "set"}[moment]
    s.ask(
        [
            f"When does the sun {verb} in {town}?",
            f"What time is {moment} in {town}?",
            f"I want to photograph the {moment} in {town}. At what time is it?",
            f"Tell me the time of {moment} for {town}.",
        ]
    )
    value = s.call(
        "sun_times",
        [
            f"The time of {moment} differs from town to town; look it up for {town}.",
            f"{town} is the town and {moment} the moment in question.",
            f"This is about the sun in {town}, and only {moment} matters.",
        ],
        town=town,
        moment=moment,
    )[moment]
    s.answer(
        [value],
        [
            f"The sun {verb}s at {value} in {town}.",
            f"In {town}, {moment} is at {value}.",
            f"{moment.title()} in {town} is at {value}.",
        ],
    )


@template(held_out=True, weight=1.2)
def club_standing(s: Scene) -> None:
    club = s.pick("SELECT name FROM clubs")["name"]
    asked = s.one("position", "points", "played")
    s.ask(
        {
            "position": [
                f"In which position is {club} in the league?",
                f"Where does {club} stand in the table?",
                f"What place is the club {club} in right now?",
            ],
            "points": [
                f"How many points does {club} have?",
                f"What is the points total of the club {club}?",
                f"Tell me how many league points {club} has collected.",
            ],
            "played": [
                f"How many matches has {club} played?",
                f"How many league games did {club} play so far?",
                f"What number of matches has the club {club} played this season?",
            ],
        }[asked]
    )
    value = s.call(
        "league_table",
        [
            f"The league table has a row for {club} with this figure.",
            f"{club} is a club in the league, so its row will tell.",
            f"Find the row of {club}; the figure asked for stands in it.",
        ],
        club=club,
    )[asked]
    s.answer(
        [str(value)],
        {
            "position": [f"{club} is in position {value}.", f"The club {club} stands at number {value} in the table."],
            "points": [f"{club} has {value} points.", f"The points total of {club} is {value}."],
            "played": [f"{club} has played {value} matches.", f"So far {club} has played {value} games."],
        }[asked],
    )


@template(held_out=True, weight=0.7)
def club_comparison(s: Scene) -> None:
    clubs = [row["name"] for row in s.rng.sample(s.world.rows("SELECT name FROM clubs ORDER BY name"), 2)]
    s.ask(
        [
            f"Who has more points, {clubs[0]} or {clubs[1]}?",
            f"Which club is ahead on points: {clubs[0]} or {clubs[1]}?",
            f"Compare the points of {clubs[0]} and {clubs[1]}. Which club has more?",
        ]
    )
    points = []
    for club, thoughts in zip(
        clubs,
        (
            [
                f"Points of both clubs are needed; {clubs[0]} first.",
                f"To compare them, start with the table row of {clubs[0]}.",
            ],
            [
                f"That is one club; now look up {clubs[1]} for the comparison.",
                f"The other row, that of {clubs[1]}, is still missing.",
            ],
        ),
        strict=True,
    ):
        points.append(s.call("league_table", thoughts, club=club)["points"])
    ahead = 0 if points[0] > points[1] else 1
    s.answer(
        [clubs[ahead], str(points[ahead])],
        [
            f"{clubs[ahead]} has more points: {points[ahead]} against {points[1 - ahead]}.",
            f"{clubs[ahead]} is ahead with {points[ahead]} points; {clubs[1 - ahead]} has {points[1 - ahead]}.",
        ],
    )


TEMPLATES = (
    weather_one,
    weather_two,
    warning_for_city,
    clock_in_city,
    places_of_kind,
    place_hours,
    place_hours_by_kind,
    distance_by_road,
    distance_in_miles,
    driving_time,
    sun_in_town,
    club_standing,
    club_comparison,
)
