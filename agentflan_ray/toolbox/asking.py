"""Requests that lack one required argument; the right reply asks for exactly that."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from agentflan_ray.toolbox.catalogue import TOOLS, irrelevant_tools
from agentflan_ray.toolbox.names import PLACE_KINDS
from agentflan_ray.toolbox.scene import politely
from agentflan_ray.toolbox.tasks import SOURCE, Split, built_world, drawing
from agentflan_ray.toolbox.world import ORDER_STATES, World, spoken_date
from agentflan_ray.trajectory import Message, Tool, Trajectory


@dataclass(frozen=True, slots=True)
class Gap:
    """Requests for one tool without one of its required parameters.

    ``queries`` may hold slots such as ``{city}``. ``words``, parted by ``|``, name what is missing: a right reply has
    one of them, and so has every one of ``replies``.
    """

    tool: str
    parameter: str
    queries: tuple[str, ...]
    replies: tuple[str, ...]
    words: str


POLITE_SHARE = 0.5
"""Share of queries with a greeting or thanks around them; some gaps have few other ways to differ."""

_GAPS = (
    Gap(
        "get_weather",
        "city",
        (
            "What will the weather be like tomorrow?",
            "Do I need an umbrella today?",
            "How warm does it get tomorrow?",
            "Is it going to be sunny today?",
            "My friend {first} visits me tomorrow. How will the weather be?",
        ),
        (
            "For which city would you like the forecast?",
            "Which city should I check the weather for?",
            "Sure, but please tell me the city first.",
            "I can look that up. What city are you in?",
        ),
        "city|town|where|place|location",
    ),
    Gap(
        "weather_alert",
        "city",
        (
            "Are there any weather warnings right now?",
            "Is a storm warning in force?",
            "Check the weather warnings for me, please.",
            "I am about to leave the house. Is there a weather warning?",
        ),
        (
            "Which city do you want the warnings for?",
            "I can check that; for which city?",
            "Please name the city whose warnings you need.",
            "What city are you asking about?",
        ),
        "city|town|where|place|location",
    ),
    Gap(
        "local_time",
        "city",
        (
            "What time is it over there right now?",
            "{first} moved abroad. What is the local time there?",
            "Tell me the current local time in my partner's city.",
            "I want to call my aunt abroad. What time is it at her place?",
        ),
        (
            "In which city? I can look up the time there.",
            "Which city do you mean?",
            "Please tell me the city, and I will check the time.",
            "What city is that?",
        ),
        "city|town|where|place|location",
    ),
    Gap(
        "order_status",
        "order_id",
        (
            "Where is my order?",
            "Has my parcel from the shop been sent yet? I ordered the {product}.",
            "Can you check the status of my order, please?",
            "I ordered the {product} last week. When will it arrive?",
            "What is happening with the order I placed?",
        ),
        (
            "What is the number of your order?",
            "Please give me the order number, then I can check.",
            "I need the order id for that. Could you send it?",
            "Which order do you mean? The order number would help.",
        ),
        "order",
    ),
    Gap(
        "cancel_order",
        "order_id",
        (
            "Please cancel my order.",
            "I do not want the {product} any more. Cancel the order.",
            "Cancel what I ordered, I found it cheaper.",
            "I ordered by mistake. Can you cancel that?",
        ),
        (
            "Which order should be cancelled? Please give me its number.",
            "I can do that once I have the order number.",
            "What is the id of the order you want to cancel?",
            "Could you tell me the order number first?",
        ),
        "order",
    ),
    Gap(
        "product_info",
        "product_id",
        (
            "How many pieces of that product are in stock?",
            "What does the product cost that my colleague {first} mentioned?",
            "Look up the price of the product I saw yesterday.",
            "Is the product still in stock?",
        ),
        (
            "Which product do you mean? Please give me its id.",
            "What is the product id?",
            "I need the product's id to look that up.",
            "Could you send me the id of the product?",
        ),
        "product|id",
    ),
    Gap(
        "list_orders",
        "customer",
        (
            "Show me all {status} orders of this customer.",
            "Which orders of the customer are {status}?",
            "A customer is on the phone. List the {status} orders, please.",
            "I need the list of {status} orders for one of our customers.",
        ),
        (
            "What is the customer's name?",
            "Which customer do you mean?",
            "Please tell me the name of the customer.",
            "For which customer should I list the orders?",
        ),
        "customer|name|who",
    ),
    Gap(
        "create_event",
        "time",
        (
            "Put a {title} in my calendar on {date}.",
            "Schedule a {title} for {date}, please.",
            "Add a {title} on {date}.",
            "I have a {title} on {date}. Please enter it.",
        ),
        (
            "At what time should it start?",
            "What time is it planned for?",
            "I can add it. Which time shall I enter?",
            "Please tell me the time as well.",
        ),
        "time|when|hour|o'clock",
    ),
    Gap(
        "create_event",
        "date",
        (
            "Put a {title} in my calendar at {time}.",
            "Schedule a {title} at {time}, please.",
            "Add a {title} for me. It starts at {time}.",
            "Please enter my {title}, starting at {time}.",
        ),
        (
            "On which date is it?",
            "What date should I enter it for?",
            "Which day do you mean? Please give me the date.",
            "Sure, on what date?",
        ),
        "date|day|when",
    ),
    Gap(
        "list_events",
        "date",
        (
            "What is on my calendar that day?",
            "{first} asks whether I am free. Which events do I have then?",
            "List my appointments for the day we talked about.",
            "Show me the events of one day in my calendar.",
        ),
        (
            "Which date do you mean?",
            "For what date should I list your events?",
            "Please tell me the date.",
            "What day should I look at?",
        ),
        "date|day|when",
    ),
    Gap(
        "list_team",
        "team",
        (
            "Who is in the team?",
            "Name all members of the team, please.",
            "I want to write to a whole team. Who belongs to it?",
            "I would like to meet everyone in a team with {first}. Who is in it?",
        ),
        (
            "Which team do you mean?",
            "What is the name of the team?",
            "Please tell me the team whose members you need.",
            "I can list them. For which team?",
        ),
        "team",
    ),
    Gap(
        "person_details",
        "person_id",
        (
            "What is the {field} of that staff member?",
            "I need the {field} of someone on our staff.",
            "Look up a colleague's {field} for me.",
            "Give me the {field} of the person I met this morning.",
        ),
        (
            "Whose record should I open? Please give me the person's id.",
            "What is the id of that person?",
            "Which person do you mean? I need the id.",
            "I can look that up with the person's id. Do you have it?",
        ),
        "id|who|whose|person|name",
    ),
    Gap(
        "room_info",
        "room",
        (
            "How many seats does the meeting room have?",
            "Does the meeting room have a projector?",
            "On which floor is the room for my meeting with {first}?",
            "I need to know the capacity of a meeting room.",
        ),
        (
            "Which meeting room do you mean?",
            "What is the name of the room?",
            "Please tell me which room.",
            "For which room should I check that?",
        ),
        "room",
    ),
    Gap(
        "opening_hours",
        "place",
        (
            "When does it close today?",
            "What are the opening hours?",
            "I want to go shopping with {first}. When do they open?",
            "At what time do they open in the morning?",
        ),
        (
            "Which place do you mean?",
            "Opening hours of which place?",
            "Please tell me the name of the place.",
            "What is the place called?",
        ),
        "place|name|where|called|shop",
    ),
    Gap(
        "find_places",
        "city",
        (
            "Find me a {kind}, please.",
            "I am looking for a {kind}.",
            "Is there a {kind} around?",
            "Where can I find a {kind}?",
        ),
        (
            "In which city should I look?",
            "Which city are you in?",
            "I can search; please name the city.",
            "For what city do you need it?",
        ),
        "city|town|where|place|location",
    ),
    Gap(
        "road_distance",
        "origin",
        (
            "How far is it to {city} by road?",
            "How many kilometres do I have to drive to {city}?",
            "I am driving to {city}. How far is that?",
            "What is the road distance to {city}?",
        ),
        (
            "From which city are you starting?",
            "Where does the trip start?",
            "Please tell me the city you are leaving from.",
            "What is the starting point?",
        ),
        "from|start|starting|starts|where|leaving",
    ),
    Gap(
        "road_distance",
        "destination",
        (
            "How far do I have to drive from {city}?",
            "I am leaving from {city}. How many kilometres is it?",
            "What is the road distance from {city}?",
            "We start in {city}. How far is our trip?",
        ),
        (
            "Where do you want to go?",
            "To which city?",
            "What is your destination?",
            "Please tell me the city you are driving to.",
        ),
        "destination|where|to",
    ),
    Gap(
        "convert_currency",
        "target",
        (
            "Convert {number} {currency} for me.",
            "I have {number} {currency} and want to exchange them. How much do I get?",
            "How much are {number} {currency} worth?",
            "Please exchange {number} {currency}.",
        ),
        (
            "Into which currency?",
            "Which currency should I convert it to?",
            "What currency do you want in return?",
            "I can do that. Please name the target currency.",
        ),
        "currency",
    ),
    Gap(
        "convert_currency",
        "amount",
        (
            "Convert my {currency} to EUR.",
            "How many EUR do I get for my {currency}?",
            "I want to change {currency} into EUR. What will I get?",
            "Exchange some {currency} to EUR, please.",
        ),
        (
            "How much do you want to convert?",
            "What amount should I convert?",
            "Please tell me the amount.",
            "Which amount do you have?",
        ),
        "amount|much|many",
    ),
    Gap(
        "convert_units",
        "to_unit",
        (
            "Convert {number} km for me.",
            "I have {number} kg. Can you convert that?",
            "Please convert {number} litres to another unit.",
            "What is {number} km in the other unit?",
        ),
        (
            "Which unit should I convert it to?",
            "Into what unit?",
            "Please tell me the unit you want.",
            "What unit do you need it in?",
        ),
        "unit|units",
    ),
    Gap(
        "days_between",
        "second_date",
        (
            "How many days is it from {date}?",
            "Count the days since {date} up to my exam.",
            "My holiday starts on {date}. How many days does it last?",
            "How many days lie between {date} and the other date?",
        ),
        (
            "What is the second date?",
            "Up to which date should I count?",
            "Please give me the other date too.",
            "And on what date does it end?",
        ),
        "date|day|when|end",
    ),
    Gap(
        "add_days",
        "days",
        (
            "The contract starts on {date}. On which date does it end?",
            "Add some days to {date}, please.",
            "What date is it a few days after {date}?",
            "My course begins on {date}. What is its last day?",
        ),
        (
            "How many days should I add?",
            "How many days does it last?",
            "Please tell me the number of days.",
            "What number of days do you mean?",
        ),
        "days|long",
    ),
    Gap(
        "read_file",
        "path",
        (
            "Open the file and tell me the deadline.",
            "Who is the leader according to the file?",
            "Read the project file from {first} to me.",
            "What budget does the report state?",
        ),
        (
            "Which file do you mean? Please give me its path.",
            "What is the path of the file?",
            "I can read it if you tell me the file path.",
            "Please name the file I should open.",
        ),
        "file|path",
    ),
    Gap(
        "write_file",
        "text",
        (
            "Create the file {file} for me.",
            "Please write a new file called {file}.",
            "I need a file {file}. Can you make it?",
            "Save a text as {file}.",
        ),
        (
            "What text should it contain?",
            "What should I write into it?",
            "Please tell me the text for the file.",
            "Which text do you want in it?",
        ),
        "text|contain|content|write|say",
    ),
    Gap(
        "add_note",
        "text",
        (
            'Make a note called "{title}".',
            'Save a note with the title "{title}".',
            'I want a new note, "{title}".',
            'Add "{title}" to my notes, please.',
        ),
        (
            "What should the note say?",
            "Which text shall I put in the note?",
            "Please tell me what to write in it.",
            "What is the text of the note?",
        ),
        "text|say|write|content|note",
    ),
    Gap(
        "search_notes",
        "keyword",
        (
            "Search my notes.",
            "I wrote something down for {first}. Find it in my notes.",
            "Look through my notes for me, please.",
            "Can you find a note of mine?",
        ),
        (
            "What word should I search for?",
            "What is the note about?",
            "Please give me a keyword to look for.",
            "Which word does the note contain?",
        ),
        "word|keyword|about|for|topic",
    ),
    Gap(
        "look_up_fact",
        "entity",
        (
            "Who founded the company?",
            "In which city is that company based?",
            "When was the firm founded that {first} works for?",
            "What is the parent company?",
        ),
        (
            "Which company do you mean?",
            "What is the name of the company?",
            "Please tell me the company's name.",
            "I can look that up. For which company?",
        ),
        "company|name|firm",
    ),
    Gap(
        "count_letter",
        "letter",
        (
            'How often does the letter occur in "{title}"?',
            'Count a letter in "{title}" for me.',
            'How many times is that letter used in "{title}"?',
            'I need a letter counted in the text "{title}".',
        ),
        (
            "Which letter should I count?",
            "What letter do you mean?",
            "Please tell me the letter.",
            "For which letter?",
        ),
        "letter",
    ),
    Gap(
        "check_warranty",
        "serial",
        (
            "Is my {product} still under warranty?",
            "Until when does my warranty run?",
            "My {product} broke. Please check the warranty.",
            "How long is the warranty on my device still valid?",
        ),
        (
            "What is the serial number?",
            "Please give me the serial of the device.",
            "I need the serial number to check that.",
            "Could you read me the serial from the label?",
        ),
        "serial",
    ),
    Gap(
        "track_parcel",
        "tracking_code",
        (
            "Where is my parcel right now?",
            "Please track my parcel with the {product}.",
            "Has the parcel from {first} reached my town yet?",
            "When will the parcel be here?",
        ),
        (
            "What is the tracking code?",
            "Please send me the tracking code of the parcel.",
            "I can track it with its code. Which one is it?",
            "Do you have the tracking code?",
        ),
        "code|tracking|number",
    ),
    Gap(
        "sun_times",
        "town",
        (
            "When does the sun set this evening?",
            "At what time is sunrise tomorrow?",
            "{first} and I want to watch the sunset. When is it?",
            "Tell me the time of sunrise, please.",
        ),
        (
            "In which town?",
            "Which town are you in?",
            "Please tell me the town.",
            "For what town do you need it?",
        ),
        "town|city|where|place|location",
    ),
    Gap(
        "leave_balance",
        "employee",
        (
            "How many holiday days are left?",
            "{first} from the office asks how many days of leave an employee has left.",
            "Check the remaining holiday for a member of my team.",
            "Please look up how much leave remains.",
        ),
        (
            "For which employee?",
            "Which employee do you mean?",
            "What is the employee's name?",
            "Please tell me whose balance you need.",
        ),
        "employee|name|who|whose",
    ),
    Gap(
        "league_table",
        "club",
        (
            "How many points does my club have?",
            "Where does our team stand in the table?",
            "{first} supports a club. In which position is it?",
            "How many matches has the club played?",
        ),
        (
            "Which club do you mean?",
            "What is the name of the club?",
            "Please tell me the club.",
            "I can check the table. For which club?",
        ),
        "club|team|name",
    ),
    Gap(
        "find_trains",
        "arrival",
        (
            "When does the next direct train leave {city}?",
            "I need a train from {city}.",
            "Find a direct train that departs from {city}, please.",
            "Which train can I take from {city}?",
        ),
        (
            "Where do you want to go?",
            "To which station?",
            "What is your destination?",
            "Please tell me where the train should take you.",
        ),
        "where|destination|to|arrival",
    ),
    Gap(
        "train_platform",
        "train_number",
        (
            "Which platform does my train leave from?",
            "From which platform does the train go?",
            "I have to catch a train at {time}. Which platform is it?",
            "Tell me the platform of {first}'s train.",
        ),
        (
            "What is the train number?",
            "Which train do you mean? Please give me its number.",
            "I need the number of the train.",
            "Could you tell me the train number?",
        ),
        "number|train",
    ),
    Gap(
        "reserve_seat",
        "train_number",
        (
            "Reserve a seat on the train for {person}.",
            "Please book a train seat for {person}.",
            "{person} needs a seat on the train. Can you reserve one?",
            "Get {person} a seat on the next train.",
        ),
        (
            "On which train? Please give me the number.",
            "What is the number of the train?",
            "Which train should I book?",
            "I need the train number for the reservation.",
        ),
        "train|number",
    ),
    Gap(
        "locate_book",
        "book",
        (
            "On which shelf is the book?",
            "How many copies of that book does the library have?",
            "Where in the library do I find the book {first} recommended?",
            "I am looking for a book in the library.",
        ),
        (
            "What is the title of the book?",
            "Which book are you looking for?",
            "Please tell me the title.",
            "What is the book called?",
        ),
        "title|book|called|name",
    ),
    Gap(
        "renew_loan",
        "loan_code",
        (
            "Please renew my library loan.",
            "I have not finished my library book. Renew it, please.",
            "Can you extend the loan of the book that {first} and I are reading?",
            "My library book is due soon. I need two more weeks.",
        ),
        (
            "What is the loan code?",
            "Please give me the code of the loan.",
            "I can renew it with the loan code. Which one is it?",
            "Do you have the loan code at hand?",
        ),
        "code|number",
    ),
    Gap(
        "film_times",
        "film",
        (
            "At what times is the film showing today?",
            "I want to go to the cinema with {first}. When does the film start?",
            "List today's screenings of the film, please.",
            "When can I see the new film today?",
        ),
        (
            "Which film do you mean?",
            "What is the title of the film?",
            "Please tell me the name of the film.",
            "For which film should I look?",
        ),
        "film|movie|title|name",
    ),
    Gap(
        "vehicle_record",
        "plate",
        (
            "When is the next inspection of my car?",
            "From which year is the vehicle?",
            "What model is the car that {first} parked here?",
            "Look up the record of a vehicle for me.",
        ),
        (
            "What is the number plate?",
            "Please give me the plate of the vehicle.",
            "Which plate does the car have?",
            "I need the plate to look that up.",
        ),
        "plate|registration|license|licence|number",
    ),
    Gap(
        "find_recipe",
        "dish",
        (
            "How long does our recipe take?",
            "For how many people is the recipe?",
            "Which spice does {first}'s recipe call for?",
            "I want to cook from our recipes. How many minutes will it take?",
        ),
        (
            "Which dish do you mean?",
            "What dish would you like to cook?",
            "Please tell me the dish.",
            "For which dish should I open the recipe?",
        ),
        "dish|recipe|cook",
    ),
)

GAPS: dict[str, tuple[Gap, ...]] = {
    "train": tuple(gap for gap in _GAPS if not TOOLS[gap.tool].held_out),
    "held_out": tuple(gap for gap in _GAPS if TOOLS[gap.tool].held_out),
}
"""Split to its gaps: those of held-out tools are held out."""


def draw_missing_argument(index: int, seed: int = 0, split: Split = "train") -> Trajectory:
    """The request at ``index`` that lacks an argument, and the reply that asks for it.

    Raises:
        ValueError: an index below zero or an unknown split.
    """
    world_seed, rng = drawing(index, seed, split, "missing_argument")
    gap = rng.choice(GAPS[split])
    query, tools = play_gap(gap, world_seed, rng)
    return Trajectory(
        id=f"{SOURCE}/missing_argument/{split}/{seed}/{index}",
        source=SOURCE,
        tools=tools,
        messages=(Message("user", query), Message("assistant", rng.choice(gap.replies), loss=True)),
        meta={"case": "missing_argument", "group": group_of(gap), "split": split},
    )


def group_of(gap: Gap) -> str:
    """The name of a gap, such as ``get_weather.city``."""
    return f"{gap.tool}.{gap.parameter}"


def play_gap(gap: Gap, world_seed: int, rng: random.Random) -> tuple[str, tuple[Tool, ...]]:
    """A query of the gap with its slots filled from the world, and the tool among two or three that can't help."""
    query = politely(_fill(rng.choice(gap.queries), built_world(world_seed), rng), rng, POLITE_SHARE)
    tools = [TOOLS[gap.tool].spec, *irrelevant_tools({gap.tool}, rng, rng.choice((2, 2, 3)))]
    rng.shuffle(tools)
    return query, tuple(tools)


def _fill(text: str, world: World, rng: random.Random) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: _SLOTS[match[1]](world, rng), text)


def _any_of(query: str) -> Callable[[World, random.Random], str]:
    return lambda world, rng: str(rng.choice(sorted(world.rows(query), key=tuple))[0])


_SLOTS: dict[str, Callable[[World, random.Random], str]] = {
    "first": _any_of("SELECT first FROM people"),
    "person": _any_of("SELECT name FROM people"),
    "city": _any_of("SELECT name FROM cities"),
    "product": _any_of("SELECT name FROM products"),
    "title": _any_of("SELECT title FROM events"),
    "currency": _any_of("SELECT code FROM rates WHERE code != 'EUR'"),
    "date": lambda world, rng: spoken_date(world.today + timedelta(days=rng.randint(14, 90))),
    "time": lambda _, rng: f"{rng.randint(7, 20):02d}:{rng.choice(('00', '15', '30'))}",
    "file": lambda world, rng: f"{rng.choice(world.files.names_in(''))}memo-{rng.randint(10, 99)}.txt",
    "kind": lambda _, rng: rng.choice(PLACE_KINDS),
    "status": lambda _, rng: rng.choice(ORDER_STATES),
    "field": lambda _, rng: rng.choice(("email address", "phone number", "office number")),
    "number": lambda _, rng: str(rng.randint(3, 900)),
}
"""What a slot of a query is filled with."""
