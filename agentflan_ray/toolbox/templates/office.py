"""Tasks about staff, the calendar, rooms and dates."""

from __future__ import annotations

from datetime import date, timedelta

from agentflan_ray.toolbox.domains.dates import WEEKDAYS
from agentflan_ray.toolbox.scene import Scene, template
from agentflan_ray.toolbox.world import spoken_date

FIELD_WORDS = {"email": "email address", "phone": "phone number", "office": "office number"}


@template(weight=1.5)
def person_team(s: Scene) -> None:
    name = s.pick("SELECT name FROM people")["name"]
    s.ask(
        [
            f"Which team is {name} in?",
            f"What team does {name} work in?",
            f"Can you tell me {name}'s team?",
            f"I need to know which team {name} belongs to.",
            f"Where in the company does {name} work, I mean which team?",
            f"Look up the team of {name}.",
        ]
    )
    found = s.call(
        "find_person",
        [
            f"The staff search lists a team beside each name, so looking up {name} is enough.",
            f"{name} is on the staff; the directory entry will show the team.",
            f"Searching the directory for {name} gives the team in one go.",
            f"The team stands in the staff record of {name}, so that is what to search.",
        ],
        name=name,
    )
    team = found[0].split("(")[1].rstrip(")")
    s.answer(
        [team],
        [
            f"{name} is in the {team} team.",
            f"{name} works in {team}.",
            f"That would be the {team} team.",
            f"{name} belongs to {team}.",
        ],
        [
            f"There is one match, and its team is {team}.",
            f"The entry for {name} names {team}, which settles the question.",
        ],
    )


@template(weight=1.5)
def person_detail_by_id(s: Scene) -> None:
    person = s.pick("SELECT * FROM people")
    field = s.one("email", "phone", "office")
    words = FIELD_WORDS[field]
    s.ask(
        [
            f"What is the {words} of staff member {person['id']}?",
            f"Give me the {words} for person {person['id']}.",
            f"I have the id {person['id']}. Which {words} belongs to it?",
            f"Could you look up the {words} of {person['id']}?",
            f"{person['id']} is the id of a colleague; what is the {words}?",
        ]
    )
    got = s.call(
        "person_details",
        [
            f"An id is given, so the details of {person['id']} can be read at once.",
            f"With {person['id']} known, no search is needed; only the {words} is missing.",
            f"The record of {person['id']} holds the {words} that is asked for.",
            f"{person['id']} looks like a staff id, and its record has an entry for the {words}.",
        ],
        person_id=person["id"],
        field=field,
    )
    value = got[field]
    s.answer(
        [value],
        [
            f"The {words} of {got['name']} ({person['id']}) is {value}.",
            f"{person['id']} is {got['name']}, and the {words} is {value}.",
            f"It is {value}, for {got['name']}.",
        ],
        [
            f"The record belongs to {got['name']} and gives {value}.",
            f"{value} is the {words} on record for {person['id']}.",
        ],
    )


@template(weight=1.5)
def person_detail_by_name(s: Scene) -> None:
    name = s.pick("SELECT name FROM people")["name"]
    field = s.one("email", "phone", "office")
    words = FIELD_WORDS[field]
    s.ask(
        [
            f"What is {name}'s {words}?",
            f"I need the {words} of {name}.",
            f"Please find the {words} of our colleague {name}.",
            f"Could you look up the {words} of {name}?",
            f"How can I reach {name}? I am after the {words}.",
        ]
    )
    found = s.call(
        "find_person",
        [
            f"Details are kept under an id, so the id of {name} comes first.",
            f"Before reading any details, {name} has to be found in the directory.",
            f"The {words} needs a person id; a search for {name} will show it.",
            f"First step: find out which id {name} has.",
        ],
        name=name,
    )
    person_id = found[0].split()[0]
    got = s.call(
        "person_details",
        [
            f"{name} has the id {person_id}; now the {words} can be read.",
            f"The search gave {person_id}, which is what the details need.",
            f"With {person_id} in hand, only the {words} is left to fetch.",
        ],
        person_id=person_id,
        field=field,
    )
    value = got[field]
    s.answer(
        [value],
        [
            f"{name}'s {words} is {value}.",
            f"The {words} of {name} is {value}.",
            f"For {name} the {words} on record is {value}.",
        ],
        [f"The record names {value}, so the answer is complete.", f"That is the {words} the user wanted: {value}."],
    )


@template(weight=0.8)
def person_with_shared_surname(s: Scene) -> None:
    person = s.pick("SELECT * FROM people WHERE last IN (SELECT last FROM people GROUP BY last HAVING count(*) > 1)")
    field = s.one("email", "phone", "office")
    words, last, team = FIELD_WORDS[field], person["last"], person["team"]
    s.ask(
        [
            f"I am looking for {last} from {team}. Please give me the {words}.",
            f"What is the {words} of {last}, the one in {team}?",
            f"Someone called {last} works in {team}. Please get me the {words}.",
            f"Find the {words} of the {last} who works in {team}.",
        ]
    )
    found = s.call(
        "find_person",
        [
            f"Only the surname {last} is known, so the directory has to show who carries it.",
            f"A search for {last} may give several people; the team will tell them apart.",
            f"The surname {last} goes into the search, and {team} decides afterwards.",
        ],
        name=last,
    )
    person_id = next(entry for entry in found if f"({team})" in entry).split()[0]
    got = s.call(
        "person_details",
        [
            f"Two people share the name, but only {person_id} is in {team}.",
            f"The {team} entry is {person['name']}, so {person_id} is the right id.",
            f"Of the matches, {person['name']} is the one in {team}; take {person_id}.",
        ],
        person_id=person_id,
        field=field,
    )
    value = got[field]
    s.answer(
        [value],
        [
            f"{got['name']} from {team} has the {words} {value}.",
            f"The {words} of {got['name']} in {team} is {value}.",
            f"You mean {got['name']}; the {words} is {value}.",
        ],
    )


@template(weight=0.8)
def person_misspelt(s: Scene) -> None:
    person = s.pick("SELECT * FROM people")
    first, last = person["first"], person["last"]
    wrong = f"{first} {last}{last[-1]}" if s.rng.random() < 0.5 else f"{first} {last[0]}{last[2:]}"
    s.ask(
        [
            f"Which team is {wrong} in?",
            f"In what team does {wrong} work? I am not sure about the spelling.",
            f"Can you find out the team of {wrong}?",
            f"{wrong} wrote to me. Which team is that?",
        ]
    )
    s.fault(
        "find_person",
        [
            f"The directory should know {wrong} and show the team.",
            f"A search for {wrong} would give the team directly.",
            f"The name {wrong} is given in full, so search for exactly that.",
        ],
        name=wrong,
    )
    found = s.call(
        "find_person",
        [
            f"No match, so the surname may be misspelt; the first name {first} is worth a try.",
            f"The full name is not in the directory. Searching only for {first} may help.",
            f"Perhaps the surname is spelt differently, so look for everyone called {first}.",
        ],
        name=first,
    )
    team = found[0].split("(")[1].rstrip(")")
    s.answer(
        [team],
        [
            f"There is no {wrong}, but {person['name']} is in the {team} team.",
            f"You probably mean {person['name']}, who works in {team}.",
            f"The closest name is {person['name']}, of the {team} team.",
        ],
        [f"{person['name']} is nearly the same name, so that must be the person meant."],
    )


@template()
def team_members(s: Scene) -> None:
    team = s.pick("SELECT DISTINCT team FROM people ORDER BY team")["team"]
    s.ask(
        [
            f"Who is in the {team} team?",
            f"List everyone who works in {team}.",
            f"Which colleagues belong to the {team} team?",
            f"I want to invite the whole {team} team. Who are they?",
            f"Name the members of {team}.",
        ]
    )
    members = s.call(
        "list_team",
        [
            f"All names of one team are wanted, and {team} is the team.",
            f"The membership list of {team} answers this directly.",
            f"No single person is meant here but the whole of {team}.",
            f"{team} is a team name, so its members can be listed.",
        ],
        team=team,
    )
    listed = f"{', '.join(members[:-1])} and {members[-1]}"
    s.answer(
        members,
        [
            f"The {team} team consists of {listed}.",
            f"{listed} work in {team}.",
            f"In {team} there are {len(members)} people: {listed}.",
        ],
        [f"The list has {len(members)} names, and all of them belong in the answer."],
    )


@template(weight=0.4)
def manager_contact(s: Scene) -> None:
    person = s.pick("SELECT * FROM people WHERE manager != ''")
    name = person["name"]
    field = s.one("email", "phone")
    words = FIELD_WORDS[field]
    s.ask(
        [
            f"What is the {words} of {name}'s manager?",
            f"I need to reach the manager of {name}. Which {words} do I use?",
            f"Find the {words} of the person who manages {name}.",
        ]
    )
    found = s.call(
        "find_person",
        [
            f"Start with {name}: the id leads to the manager.",
            f"The manager stands in the record of {name}, whose id must be found first.",
        ],
        name=name,
    )
    person_id = found[0].split()[0]
    manager = s.call(
        "person_details",
        [
            f"{person_id} is {name}; the record will name the manager.",
            f"With the id known, the manager of {person_id} can be read.",
        ],
        person_id=person_id,
        field="manager",
    )["manager"]
    found = s.call(
        "find_person",
        [
            f"The manager is {manager}, whose id is still unknown.",
            f"Next, {manager} has to be found in the directory too.",
        ],
        name=manager,
    )
    manager_id = found[0].split()[0]
    value = s.call(
        "person_details",
        [
            f"{manager_id} belongs to {manager}, so the {words} is one step away.",
            f"With the id {manager_id}, the manager's {words} can be fetched.",
        ],
        person_id=manager_id,
        field=field,
    )[field]
    s.answer(
        [value],
        [
            f"{name}'s manager is {manager}, and the {words} is {value}.",
            f"You can reach {manager}, who manages {name}, at {value}.",
        ],
    )


@template()
def day_agenda(s: Scene) -> None:
    day = date.fromisoformat(s.pick("SELECT DISTINCT day FROM events ORDER BY day")["day"])
    words = s.date_words(day)
    s.ask(
        [
            f"What is on my calendar on {words}?",
            f"Which events do I have on {words}?",
            f"Tell me my appointments for {words}.",
            f"Do I have anything planned on {words}?",
            f"How does my day look on {words}?",
        ]
    )
    events = s.call(
        "list_events",
        [
            f"The calendar can list everything on {spoken_date(day)}; the date goes in as {day.isoformat()}.",
            f"One whole day is asked for, and {day.isoformat()} is how the calendar writes it.",
            f"To see that day, list the calendar for {day.isoformat()}.",
            f"Events are kept by date, so {day.isoformat()} is all it takes.",
        ],
        date=day.isoformat(),
    )
    described = [f"{event.split(' ', 1)[1]} at {event.split(' ', 1)[0]}" for event in events]
    listed = described[0] if len(described) == 1 else f"{', '.join(described[:-1])} and {described[-1]}"
    s.answer(
        [event.split(" ", 1)[1] for event in events],
        [
            f"On {spoken_date(day)} you have {listed}.",
            f"Your calendar for {spoken_date(day)} shows {listed}.",
            f"That day there is {listed}.",
        ],
    )


@template(weight=1.3)
def event_when(s: Scene) -> None:
    title = s.pick("SELECT title FROM events")["title"]
    asked = s.one("time", "date", "room")
    s.ask(
        {
            "time": [
                f"At what time is the {title}?",
                f"When on the day does the {title} start?",
                f"What is the starting time of the {title}?",
                f"I forgot what time the {title} begins.",
            ],
            "date": [
                f"On which date is the {title}?",
                f"What day is the {title} planned for?",
                f"Please look up the date of the {title}.",
                f"Which date did we set for the {title}?",
            ],
            "room": [
                f"In which room is the {title}?",
                f"Where does the {title} take place?",
                f"Which room do I go to for the {title}?",
                f"Tell me the room of the {title}.",
            ],
        }[asked]
    )
    event = s.call(
        "find_event",
        [
            f"The {title} is one calendar entry, and its {asked} is part of it.",
            f"A search for the {title} will bring up its {asked}.",
            f"Only the title is known, so find the {title} by its words.",
            f"The calendar knows the {title}; from the entry the {asked} can be read.",
        ],
        keyword=title,
    )
    value = event[asked]
    s.answer(
        [value],
        {
            "time": [
                f"The {title} starts at {value}.",
                f"It begins at {value}.",
                f"The {title} is at {value}.",
            ],
            "date": [
                f"The {title} is on {value}.",
                f"It is planned for {value}.",
                f"The date of the {title} is {value}.",
            ],
            "room": [
                f"The {title} takes place in {value}.",
                f"It is in the room {value}.",
                f"Go to {value} for the {title}.",
            ],
        }[asked],
        [f"The entry shows {value} as its {asked}.", f"Of the details found, the {asked} matters: {value}."],
    )


@template(weight=1.3)
def event_new(s: Scene) -> None:
    title = s.one("dentist visit", "gym class", "piano lesson", "parents evening", "car service", "book club")
    title = s.one(title, s.one("coffee with", "lunch with", "call with") + f" {s.pick('SELECT first FROM people')[0]}")
    day = s.world.today + timedelta(days=s.rng.randint(14, 90))
    time = f"{s.rng.randint(7, 20):02d}:{s.one('00', '15', '30', '45')}"
    minutes = s.one(20, 40, 45, 60, 90, 120)
    words = s.date_words(day)
    with_length = s.rng.random() < 0.5
    length = f" for {minutes} minutes" if with_length else ""
    s.ask(
        [
            f"Put a {title} in my calendar on {words} at {time}{length}.",
            f"Please schedule a {title} for {words} at {time}{length}.",
            f"Add an event: {title}, {words}, {time}{length}.",
            f"Can you enter a {title} at {time} on {words}{length}?",
        ]
    )
    arguments = {"title": title, "date": day.isoformat(), "time": time}
    s.call(
        "create_event",
        [
            f"Title, date and time are all there, so the {title} can be entered.",
            f"The {title} goes to {day.isoformat()} at {time}; nothing else has to be asked.",
            f"A new entry is wanted, written as {day.isoformat()} and {time}.",
            f"Everything needed for the {title} was given; create it.",
        ],
        **arguments,
        **({"minutes": minutes} if with_length else {}),
    )
    s.answer(
        [title, time],
        [
            f"Done: {title} is in your calendar on {spoken_date(day)} at {time}.",
            f"I added the {title} on {spoken_date(day)} at {time}.",
            f"Your {title} is now set for {time} on {spoken_date(day)}.",
        ],
        ["The entry was created as asked, so this can be confirmed."],
    )


@template(weight=0.6)
def event_clash(s: Scene) -> None:
    taken = s.pick("SELECT * FROM events")
    day, time = date.fromisoformat(taken["day"]), taken["time"]
    later = f"{int(time[:2]) + 1:02d}:15"
    title = s.one("dentist visit", "phone interview", "piano lesson", "car service", "book club", "yoga class")
    words = s.date_words(day)
    s.ask(
        [
            f"Add a {title} on {words} at {time}. If that slot is taken, use {later}.",
            f"Schedule a {title} for {words}, {time}, or {later} if something is already there.",
            f"I want a {title} on {words} at {time}; {later} is fine too if that clashes.",
        ]
    )
    s.fault(
        "create_event",
        [
            f"The first choice is {time}, so that slot comes first.",
            f"Try {time} on {day.isoformat()} before falling back to the later time.",
            f"The calendar will say whether {time} is free for the {title}.",
        ],
        title=title,
        date=day.isoformat(),
        time=time,
    )
    s.call(
        "create_event",
        [
            f"{time} is occupied by the {taken['title']}, so {later} it is.",
            f"The slot is taken; the user named {later} for this case.",
            f"Since {time} clashes, move the {title} to {later}.",
        ],
        title=title,
        date=day.isoformat(),
        time=later,
    )
    s.answer(
        [title, later],
        [
            f"{time} was taken by the {taken['title']}, so the {title} is at {later} on {spoken_date(day)}.",
            f"I put the {title} at {later} because {time} clashed with the {taken['title']}.",
            f"Your {title} is set for {later}; {time} was already taken.",
        ],
    )


@template(weight=0.8)
def event_room_facts(s: Scene) -> None:
    title = s.pick("SELECT title FROM events")["title"]
    asked = s.one("seats", "floor")
    s.ask(
        {
            "seats": [
                f"How many seats does the room of the {title} have?",
                f"Will the {title} be crowded? Tell me how many seats its room has.",
                f"How many people can sit in the room booked for the {title}?",
            ],
            "floor": [
                f"On which floor is the {title}?",
                f"Which floor do I go to for the {title}?",
                f"What floor is the room of the {title} on?",
            ],
        }[asked]
    )
    room = s.call(
        "find_event",
        [
            f"The room is not named, but the calendar entry of the {title} has it.",
            f"Before anything else, find out where the {title} takes place.",
            f"To learn about the room, its name is needed; the {title} will show it.",
        ],
        keyword=title,
    )["room"]
    value = s.call(
        "room_info",
        [
            f"The {title} is in {room}, so look at that room.",
            f"{room} is the room; its record gives the {asked}.",
            f"Now that the room is known to be {room}, its {asked} can be checked.",
        ],
        room=room,
    )[asked]
    s.answer(
        [str(value)],
        {
            "seats": [
                f"The {title} is in {room}, which has {value} seats.",
                f"{room}, the room of the {title}, has {value} seats.",
            ],
            "floor": [
                f"The {title} is in {room}, on floor {value}.",
                f"Go to floor {value}: the room of the {title} is {room}.",
            ],
        }[asked],
    )


@template()
def room_facts(s: Scene) -> None:
    room = s.pick("SELECT * FROM rooms")["name"]
    asked = s.one("seats", "floor", "projector")
    s.ask(
        {
            "seats": [
                f"How many seats are there in the meeting room {room}?",
                f"How many people fit into the room {room}?",
                f"What is the capacity of {room}, the meeting room?",
            ],
            "floor": [
                f"On which floor is the meeting room {room}?",
                f"Where do I find the room {room}? Just the floor, please.",
                f"Which floor is {room} on?",
            ],
            "projector": [
                f"Does the meeting room {room} have a projector?",
                f"Is there a projector in {room}?",
                f"I have slides to show. Does the room {room} have a projector?",
            ],
        }[asked]
    )
    value = s.call(
        "room_info",
        [
            f"{room} is a meeting room, and its record covers the {asked}.",
            f"The facts about {room} include what is asked here.",
            f"A look at the room {room} will answer this.",
            f"Room data for {room} should tell, no calendar is needed.",
        ],
        room=room,
    )[asked]
    has = "has" if value == "yes" else "does not have"
    s.answer(
        [("has|yes|there is" if value == "yes" else "not|no") if asked == "projector" else str(value)],
        {
            "seats": [f"The room {room} has {value} seats.", f"{room} has {value} seats."],
            "floor": [f"{room} is on floor {value}.", f"You find {room} on floor {value}."],
            "projector": [
                f"The room {room} {has} a projector.",
                f"{'Yes' if value == 'yes' else 'No'}, {room} {has} one.",
            ],
        }[asked],
    )


@template()
def weekday(s: Scene) -> None:
    day = s.world.today + timedelta(days=s.rng.randint(-9000, 9000))
    words = s.date_words(day)
    s.ask(
        [
            f"What day of the week is {words}?",
            f"Which weekday does {words} fall on?",
            f"Tell me the weekday of {words}.",
            f"I was wondering about {words}. Which day of the week is that?",
        ]
    )
    value = s.call(
        "weekday_of",
        [
            f"Weekdays are easy to get wrong in the head; check {day.isoformat()} instead.",
            f"The date {day.isoformat()} is given in full, so its weekday can be looked up.",
            f"A calendar reckoning for {day.isoformat()} gives the day of the week.",
            f"Only the weekday of {day.isoformat()} is wanted here.",
        ],
        date=day.isoformat(),
    )
    s.answer(
        [value],
        [f"{spoken_date(day)} is a {value}.", f"It falls on a {value}.", f"That date is a {value}."],
    )


@template()
def days_apart(s: Scene) -> None:
    first = s.world.today + timedelta(days=s.rng.randint(-400, 400))
    second = first + timedelta(days=s.rng.randint(9, 420))
    one, two = s.date_words(first), s.date_words(second)
    s.ask(
        [
            f"How many days are there between {one} and {two}?",
            f"How many days lie between {one} and {two}?",
            f"Count the days from {one} to {two}.",
            f"If I start on {one} and finish on {two}, how many days is that apart?",
        ]
    )
    value = s.call(
        "days_between",
        [
            "Both dates are known, so the gap can be counted exactly.",
            f"From {first.isoformat()} to {second.isoformat()}: months differ in length, so count properly.",
            "Two dates and the difference in days, that is a straight count.",
            f"The span from {first.isoformat()} to {second.isoformat()} is wanted in days.",
        ],
        first_date=first.isoformat(),
        second_date=second.isoformat(),
    )["days"]
    s.answer(
        [str(value)],
        [
            f"There are {value} days between the two dates.",
            f"It is {value} days from {spoken_date(first)} to {spoken_date(second)}.",
            f"The dates are {value} days apart.",
        ],
    )


@template()
def date_after(s: Scene) -> None:
    start = s.world.today + timedelta(days=s.rng.randint(-300, 300))
    days = s.rng.randint(8, 300)
    words = s.date_words(start)
    what = s.one("The trial", "The contract", "My course", "The guarantee", "The project", "My visa")
    s.ask(
        [
            f"Which date is {days} days after {words}?",
            f"{what} starts on {words} and runs for {days} days. On which date does it end?",
            f"What is the date {days} days from {words}?",
            f"Add {days} days to {words}, please. What date is it then?",
        ]
    )
    value = s.call(
        "add_days",
        [
            f"Adding {days} days to {start.isoformat()} gives the date that is wanted.",
            f"To find the date, count {days} days forward from {start.isoformat()}.",
            f"The start is {start.isoformat()}, the span {days} days; the end follows.",
            f"Going {days} days ahead crosses month ends, so let it be reckoned exactly.",
        ],
        date=start.isoformat(),
        days=days,
    )
    s.answer(
        [value],
        [f"The date is {value}.", f"That is {value}.", f"{days} days after {spoken_date(start)} is {value}."],
    )


@template(weight=0.6)
def event_weekday(s: Scene) -> None:
    title = s.pick("SELECT title FROM events")["title"]
    s.ask(
        [
            f"On which day of the week is the {title}?",
            f"Is the {title} on a Monday or some other weekday?",
            f"Which weekday is the {title} on?",
        ]
    )
    when = s.call(
        "find_event",
        [
            f"The date of the {title} has to be known before its weekday.",
            f"Find the {title} first; the weekday follows from its date.",
        ],
        keyword=title,
    )["date"]
    row = s.pick("SELECT day FROM events WHERE title = ?", title)
    value = s.call(
        "weekday_of",
        [
            f"The {title} is on {when}, that is {row['day']}; now the weekday.",
            f"{when} is the date, and only its weekday is missing.",
        ],
        date=row["day"],
    )
    assert value in WEEKDAYS
    s.answer([value], [f"The {title} is on a {value}, {when}.", f"It is on a {value}: {when}."])


TEMPLATES = (
    person_team,
    person_detail_by_id,
    person_detail_by_name,
    person_with_shared_surname,
    person_misspelt,
    team_members,
    manager_contact,
    day_agenda,
    event_when,
    event_new,
    event_clash,
    event_room_facts,
    room_facts,
    weekday,
    days_apart,
    date_after,
    event_weekday,
)
