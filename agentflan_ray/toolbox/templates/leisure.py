"""Tasks of the domains that occur only in evaluation, and of holiday leave."""

from __future__ import annotations

from agentflan_ray.toolbox.names import with_article
from agentflan_ray.toolbox.scene import Scene, template
from agentflan_ray.toolbox.templates.shop import CANNOT


@template(held_out=True, weight=1.2)
def days_of_leave(s: Scene) -> None:
    name = s.pick("SELECT name FROM people")["name"]
    s.ask(
        [
            f"How many holiday days does {name} have left?",
            f"What is the leave balance of {name}?",
            f"Check how much holiday {name} can still take this year.",
            f"Our employee {name} asks about the remaining holiday days. How many are there?",
        ]
    )
    value = s.call(
        "leave_balance",
        [
            f"The leave balance is kept for each employee, here {name}.",
            f"{name} is the employee, and the remaining days are on record.",
            f"Remaining holiday of {name} is a single lookup.",
        ],
        employee=name,
    )["days_left"]
    s.answer(
        [str(value)],
        [f"{name} has {value} holiday days left.", f"There are {value} days of leave left for {name}."],
    )


@template(held_out=True)
def trains_between(s: Scene) -> None:
    row = s.pick("SELECT * FROM trains")
    start, end = row["origin"], row["destination"]
    asked = s.one("departs", "number", "minutes")
    s.ask(
        {
            "departs": [
                f"When does the direct train from {start} to {end} leave?",
                f"At what time can I take a train from {start} to {end}?",
            ],
            "number": [
                f"Which train goes from {start} to {end}? I need its number.",
                f"What is the number of the direct train from {start} to {end}?",
            ],
            "minutes": [
                f"How many minutes does the train from {start} to {end} take?",
                f"How long is the train ride from {start} to {end}?",
            ],
        }[asked]
    )
    found = s.call(
        "find_trains",
        [
            f"A connection from {start} to {end} is wanted, so look for direct trains.",
            f"Departure is {start}, arrival is {end}; the timetable has the rest.",
            f"The train from {start} to {end} has to be found in the timetable.",
        ],
        departure=start,
        arrival=end,
    )
    number, departs, minutes = row["number"], row["departs"], row["minutes"]
    assert found == [f"{number} leaves at {departs}, takes {minutes} minutes"]
    s.answer(
        [str(row[asked])],
        {
            "departs": [f"The train {number} leaves {start} at {departs}.", f"It leaves at {departs}, as {number}."],
            "number": [f"It is the train {number}.", f"The train {number} goes from {start} to {end}."],
            "minutes": [f"The train ride takes {minutes} minutes.", f"{number} takes {minutes} minutes to {end}."],
        }[asked],
    )


@template(held_out=True, weight=1.2)
def platform_of_train(s: Scene) -> None:
    number = s.pick("SELECT number FROM trains")["number"]
    s.ask(
        [
            f"Which platform does the train {number} leave from?",
            f"I have to catch {number}. From which platform does the train go?",
            f"Tell me the platform of train {number}.",
            f"Where do I board the train {number}? I mean the platform.",
        ]
    )
    value = s.call(
        "train_platform",
        [
            f"{number} is a train number, and only its platform is asked for.",
            f"The platform of {number} can be read straight from the number.",
            f"The number is known, so look up from where {number} departs.",
        ],
        train_number=number,
    )["platform"]
    s.answer(
        [str(value)],
        [f"The train {number} leaves from platform {value}.", f"Go to platform {value} for {number}."],
    )


@template(held_out=True, weight=0.8)
def platform_by_route(s: Scene) -> None:
    row = s.pick("SELECT * FROM trains")
    start, end = row["origin"], row["destination"]
    s.ask(
        [
            f"From which platform does the train from {start} to {end} leave?",
            f"I am taking the direct train from {start} to {end}. What is its platform?",
            f"Which platform in {start} do I need for the train to {end}?",
        ]
    )
    number = s.call(
        "find_trains",
        [
            f"The platform goes by train number, so first find the train from {start} to {end}.",
            f"Which train runs from {start} to {end} has to be known first.",
        ],
        departure=start,
        arrival=end,
    )[0].split()[0]
    value = s.call(
        "train_platform",
        [
            f"The train in question is {number}; now look up its platform.",
            f"The train is {number}, and its platform is still missing.",
        ],
        train_number=number,
    )["platform"]
    s.answer(
        [str(value)],
        [f"The train to {end} is {number}, from platform {value}.", f"Take {number} from platform {value}."],
    )


@template(held_out=True)
def seat_on_train(s: Scene) -> None:
    row = s.pick("SELECT * FROM trains")
    number, passenger = row["number"], s.pick("SELECT name FROM people")["name"]
    s.ask(
        [
            f"Reserve a seat on train {number} for {passenger}.",
            f"Please book a seat for {passenger} on the train {number}.",
            f"{passenger} needs a seat on {number}. Can you reserve it?",
        ]
    )
    thoughts = [
        f"Train and passenger are named: {number} and {passenger}.",
        f"A seat on {number} is to be held in the name of {passenger}.",
        f"The reservation for {passenger} on {number} can be made now.",
    ]
    if not row["seats"]:
        s.fault("reserve_seat", thoughts, train_number=number, passenger=passenger)
        s.answer(
            [f"{CANNOT}|fully booked|full|no seat"],
            [
                f"Sorry, train {number} is fully booked, so I could not reserve a seat for {passenger}.",
                f"No seat could be reserved because {number} is fully booked.",
            ],
        )
        return
    seat = s.call("reserve_seat", thoughts, train_number=number, passenger=passenger)["seat"]
    s.answer(
        [str(seat)],
        [
            f"Seat {seat} on train {number} is reserved for {passenger}.",
            f"Done: {passenger} has seat {seat} on {number}.",
        ],
    )


@template(held_out=True, weight=1.2)
def book_facts(s: Scene) -> None:
    book = s.pick("SELECT title FROM books")["title"]
    asked = s.one("shelf", "author", "copies")
    words = "number of copies" if asked == "copies" else asked
    s.ask(
        {
            "shelf": [
                f'On which shelf is the book "{book}"?',
                f'Where in the library do I find "{book}"?',
                f'Tell me the shelf of "{book}".',
            ],
            "author": [
                f'Who wrote "{book}"?',
                f'Which author does our library list for the book "{book}"?',
            ],
            "copies": [
                f'How many copies of "{book}" does the library have?',
                f'How many copies of the book "{book}" are there?',
            ],
        }[asked]
    )
    value = s.call(
        "locate_book",
        [
            f'The library entry of "{book}" includes the {words}.',
            f'"{book}" is a book title, so look for it in the library.',
            f"The title is known; the {words} comes with it.",
        ],
        book=book,
    )[asked]
    s.answer(
        [str(value)],
        {
            "shelf": [f'"{book}" stands on shelf {value}.', f"You find it on shelf {value}."],
            "author": [f'"{book}" was written by {value}.', f"The author is {value}."],
            "copies": [f'The library has {value} copies of "{book}".', f"There are {value} copies."],
        }[asked],
    )


@template(held_out=True, weight=1.2)
def due_date_of_loan(s: Scene) -> None:
    row = s.pick("SELECT * FROM loans")
    code = row["code"]
    s.ask(
        [
            f"When is my library loan {code} due?",
            f"By which date must I return the loan {code}?",
            f"I borrowed a book, loan code {code}. When do I have to bring it back?",
            f"Look up the due date of loan {code}.",
        ]
    )
    got = s.call(
        "loan_due",
        [
            f"The loan code {code} leads to the due date.",
            f"{code} is the loan in question, and its last day is wanted.",
            f"Due dates are kept by loan, so check {code}.",
        ],
        loan_code=code,
    )
    s.answer(
        [got["due"]],
        [f"The loan {code} is due on {got['due']}.", f'"{got["book"]}" must be back by {got["due"]}.'],
    )


@template(held_out=True)
def longer_loan(s: Scene) -> None:
    code = s.pick("SELECT code FROM loans WHERE renewals < 2")["code"]
    s.ask(
        [
            f"Please renew my library loan {code}.",
            f"I have not finished the book. Renew loan {code} and tell me the new date.",
            f"Can you extend the loan {code}? Until when may I keep it then?",
        ]
    )
    got = s.call(
        "renew_loan",
        [
            f"The user wants more time for {code}, so renew it.",
            f"{code} is to be extended; the new date will come back.",
            f"A renewal of {code} is asked for outright.",
        ],
        loan_code=code,
    )
    s.answer(
        [got["new_due"]],
        [
            f"The loan {code} is renewed until {got['new_due']}.",
            f'You may keep "{got["book"]}" until {got["new_due"]}.',
        ],
    )


@template(held_out=True, weight=0.7)
def loan_not_renewed(s: Scene) -> None:
    code = s.pick("SELECT code FROM loans WHERE renewals = 2")["code"]
    s.ask(
        [
            f"Renew loan {code} once more. If that fails, tell me when it is due.",
            f"I would like to extend {code} again; otherwise I need its due date.",
        ]
    )
    s.fault(
        "renew_loan",
        [f"Extending {code} is the first wish, so try that.", f"Try the renewal of {code} before anything else."],
        loan_code=code,
    )
    due = s.call(
        "loan_due",
        [
            f"No more renewals for {code}; the due date is what the user wants then.",
            f"The renewal was refused, so look up when {code} is due.",
        ],
        loan_code=code,
    )["due"]
    s.answer(
        [due],
        [
            f"The loan {code} cannot be renewed again; it is due on {due}.",
            f"It was not possible to renew {code}, so please return it by {due}.",
        ],
    )


@template(held_out=True)
def screenings_of_film(s: Scene) -> None:
    film = s.pick("SELECT DISTINCT title FROM films ORDER BY title")["title"]
    s.ask(
        [
            f'At what times is "{film}" showing today?',
            f'When can I see the film "{film}" today?',
            f'List today\'s screenings of "{film}".',
        ]
    )
    found = s.call(
        "film_times",
        [
            f'The cinema programme lists every screening of "{film}".',
            f'"{film}" is the film, and all its times today are wanted.',
            f'The user wants times, so look up the screenings of "{film}".',
        ],
        film=film,
    )
    times = [entry.split()[0] for entry in found]
    listed = times[0] if len(times) == 1 else f"{', '.join(times[:-1])} and {times[-1]}"
    s.answer(times, [f'"{film}" is showing at {listed} today.', f"You can see it today at {listed}."])


@template(held_out=True)
def seats_for_screening(s: Scene) -> None:
    row = s.pick("SELECT * FROM films")
    film, time = row["title"], row["screening"]
    s.ask(
        [
            f'How many seats are free for "{film}" at {time}?',
            f'Are there seats left for the {time} screening of "{film}"? How many?',
            f'Count the free seats for the film "{film}" at {time}.',
        ]
    )
    value = s.call(
        "seats_left",
        [
            f'Film and screening are fixed: "{film}" at {time}.',
            f"Only the {time} screening matters, so check its free seats.",
            f'The free seats of "{film}" at {time} can be looked up.',
        ],
        film=film,
        screening=time,
    )["free_seats"]
    s.answer(
        [str(value)],
        [f'There are {value} free seats for "{film}" at {time}.', f"The {time} screening has {value} free seats."],
    )


@template(held_out=True, weight=0.8)
def seats_for_last_screening(s: Scene) -> None:
    film = s.pick("SELECT DISTINCT title FROM films ORDER BY title")["title"]
    s.ask(
        [
            f'How many seats are free in today\'s last screening of "{film}"?',
            f'I want to see "{film}" as late as possible today. How many seats are left in that screening?',
        ]
    )
    last = s.call(
        "film_times",
        [
            f'Which screening of "{film}" is the last one is not known yet.',
            f'List the times of "{film}" to find the latest.',
        ],
        film=film,
    )[-1].split()[0]
    value = s.call(
        "seats_left",
        [f"The last one starts at {last}; now its free seats.", f"{last} is the latest time, so check that screening."],
        film=film,
        screening=last,
    )["free_seats"]
    s.answer(
        [str(value)],
        [f"The last screening is at {last}, with {value} free seats.", f"At {last} there are {value} seats left."],
    )


@template(held_out=True, weight=1.2)
def recipe_facts(s: Scene) -> None:
    dish = s.pick("SELECT dish FROM recipes")["dish"]
    asked = s.one("minutes", "servings", "spice")
    s.ask(
        {
            "minutes": [
                f"How many minutes does our recipe for {dish} take?",
                f"How long does {dish} take to cook according to our recipe?",
            ],
            "servings": [
                f"How many servings does our recipe for {dish} make?",
                f"For how many people is the recipe for {dish} in our collection?",
            ],
            "spice": [
                f"What is the main spice in our recipe for {dish}?",
                f"Which spice does our {dish} recipe call for?",
            ],
        }[asked]
    )
    value = s.call(
        "find_recipe",
        [
            f"The recipe for {dish} in the collection will say.",
            f"Our own recipe for {dish} is meant, so it has to be opened.",
            f"The dish is named, so look for {dish} among the recipes.",
        ],
        dish=dish,
    )[asked]
    s.answer(
        [str(value)],
        {
            "minutes": [f"The {dish} takes {value} minutes.", f"It takes {value} minutes."],
            "servings": [f"The recipe for {dish} makes {value} servings.", f"It makes {value} servings."],
            "spice": [f"The main spice in the {dish} is {value}.", f"It calls for {value}."],
        }[asked],
    )


@template(held_out=True, weight=1.2)
def vehicle_facts(s: Scene) -> None:
    plate = s.pick("SELECT plate FROM vehicles")["plate"]
    asked = s.one("model", "year", "inspection")
    s.ask(
        {
            "model": [
                f"What model is the vehicle with the plate {plate}?",
                f"Which car has the number plate {plate}?",
            ],
            "year": [
                f"From which year is the vehicle {plate}?",
                f"What is the model year of the car with the plate {plate}?",
            ],
            "inspection": [
                f"When is the next inspection of the vehicle {plate}?",
                f"By what date must the car with the plate {plate} be inspected?",
            ],
        }[asked]
    )
    value = s.call(
        "vehicle_record",
        [
            f"The plate {plate} leads to the vehicle's record, which has the {asked}.",
            f"{plate} is a number plate, so its record can be opened.",
            f"Everything about {plate} is in one record, including the {asked}.",
        ],
        plate=plate,
    )[asked]
    car = with_article(str(value))
    s.answer(
        [str(value)],
        {
            "model": [f"The vehicle {plate} is {car}.", f"The plate {plate} belongs to {car}."],
            "year": [f"The vehicle {plate} is from {value}.", f"The car is from the year {value}."],
            "inspection": [f"The next inspection of {plate} is on {value}.", f"{plate} must be inspected by {value}."],
        }[asked],
    )


TEMPLATES = (
    days_of_leave,
    trains_between,
    platform_of_train,
    platform_by_route,
    seat_on_train,
    book_facts,
    due_date_of_loan,
    longer_loan,
    loan_not_renewed,
    screenings_of_film,
    seats_for_screening,
    seats_for_last_screening,
    recipe_facts,
    vehicle_facts,
)
