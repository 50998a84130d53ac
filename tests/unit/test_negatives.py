"""Negatives: nothing is called, what is listed can't help, and what can't be made says why."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import replace

import pytest

from agentflan_ray.corpus import failures, replies
from agentflan_ray.corpus.derive import Omission, derive
from agentflan_ray.corpus.missing import missing_argument
from agentflan_ray.corpus.negatives import catalogue_of, no_tool_request
from agentflan_ray.corpus.recipe import CorpusRecipe
from agentflan_ray.corpus.relevance import is_self_contained, near_miss, unhelpful_tools
from agentflan_ray.corpus.similarity import Catalogue, action_of
from agentflan_ray.evaluate.hallucination import read
from agentflan_ray.sample import NEGATIVE_CASES, Sample
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory

ALL = CorpusRecipe(instruction_share=1.0, near_miss_share=1.0, missing_argument_share=1.0, tool_error_share=1.0)


def tool(name: str, description: str, *required: str) -> Tool:
    properties = {parameter: {"type": "string"} for parameter in required}
    return Tool(name, description, {"type": "object", "properties": properties, "required": list(required)})


WEATHER = tool("get_weather", "Get the weather forecast of a city.", "city")
TOOLS = (
    WEATHER,
    tool("city_weather_report", "Weather report of a city."),
    tool("reserve_table", "Reserve seats at a restaurant."),
    tool("convert_money", "Exchange between currencies."),
    tool("play_song", "Play a song in the living room."),
    tool("play_movie", "Play a movie in the living room."),
    tool("send_letter", "Post mail to somebody."),
    tool("web_search", "Search the internet for anything."),
)
CATALOGUE = Catalogue.of(TOOLS)
TRIP = Trajectory(
    "t1",
    "unit",
    (WEATHER,),
    (
        Message("user", "Will it rain in Oslo tomorrow?"),
        Message("assistant", thought="Check.", calls=(ToolCall("get_weather", '{"city": "Oslo"}'),), loss=True),
        Message("tool", "rain"),
        Message("assistant", "Yes.", loss=True),
    ),
)
CHAT = Trajectory("c1", "unit", (), (Message("user", "Who are you?"), Message("assistant", "A helper.", loss=True)))


def made(trajectory: Trajectory, recipe: CorpusRecipe = ALL) -> dict[str, Sample]:
    found = derive(trajectory, recipe, CATALOGUE)
    return {sample.id: sample for sample in found if isinstance(sample, Sample)}


def omitted(trajectory: Trajectory, catalogue: Catalogue = CATALOGUE) -> set[tuple[str, str]]:
    return {(o.kind, o.reason) for o in derive(trajectory, ALL, catalogue) if isinstance(o, Omission)}


def test_a_tool_trajectory_gives_its_forms_and_its_negatives() -> None:
    samples = made(TRIP)
    kinds = ["chat", "react", "instruct", "no_tool_request", "irrelevant_tool", "tool_error"]
    assert list(samples) == [f"t1/{kind}" for kind in kinds]
    for case in ("no_tool_request", "irrelevant_tool"):
        sample = samples[f"t1/{case}"]
        assert sample.turns[-2].text == "Will it rain in Oslo tomorrow?"
        reading = read(sample.turns[-1].text, {t.name for t in TOOLS})
        assert reading.plain
        assert reading.refuses, sample.turns[-1].text
        assert sample.component("general") == "negative"


def test_irrelevant_tools_are_listed_and_never_those_that_could_help() -> None:
    for seed in range(30):
        system = made(TRIP, replace(ALL, seed=seed))["t1/irrelevant_tool"].turns[0].text
        for helpful in ("get_weather", "city_weather_report", "web_search"):
            assert helpful not in system
        assert any(name in system for name in ("reserve_table", "convert_money", "play_song", "send_letter"))


def test_a_near_miss_is_named_and_said_not_to_do_it() -> None:
    movie = tool("play_movie", "Play a movie in the living room.", "title")
    wish = replace(
        TRIP,
        tools=(movie,),
        messages=(
            Message("user", "Play the movie Alien, please."),
            Message("assistant", "", "", (ToolCall("play_movie", '{"title": "Alien"}'),), loss=True),
            Message("tool", "playing"),
            Message("assistant", "It is on.", loss=True),
        ),
    )
    sample = made(wish)["t1/near_miss"]
    assert "play_song" in sample.turns[0].text
    assert "play_movie" not in sample.turns[0].text
    assert "play_song" in sample.turns[-1].text
    assert "Play a song in the living room" in sample.turns[-1].text
    assert read(sample.turns[-1].text, {"play_song"}).refuses


def test_a_tool_that_does_the_same_is_no_near_miss() -> None:
    assert near_miss((WEATHER,), "What is the weather forecast for Oslo?", CATALOGUE) is None


def test_a_near_miss_may_do_another_thing_to_the_same_object() -> None:
    wanted = tool("list_events", "List the events of the calendar.")
    catalogue = Catalogue.of([wanted, tool("delete_event", "Delete an event of the calendar."), *TOOLS])
    found = near_miss((wanted,), "Which events are there on Monday?", catalogue)
    assert found is not None
    assert found.name == "delete_event"


def test_a_search_is_no_near_miss_for_a_booking() -> None:
    wanted = tool("reserve_flight", "Reserve a flight.")
    catalogue = Catalogue.of([wanted, tool("search_flights", "Search for flights."), *TOOLS])
    assert near_miss((wanted,), "Reserve me a flight to Rome.", catalogue) is None


def test_what_needs_no_tool_is_not_refused() -> None:
    tip = tool("calculate_tip", "Calculate the tip on a bill.", "bill")
    call = Message("assistant", "", "", (ToolCall("calculate_tip", '{"bill": 50}'),), loss=True)
    asked = (Message("user", "What is a tip of 20% on 50 dollars?"), call, *TRIP.messages[2:])
    reasons = omitted(replace(TRIP, tools=(tip,), messages=asked))
    for kind in ("no_tool_request", "irrelevant_tool", "near_miss"):
        assert (kind, "answerable_without_tools") in reasons
    assert is_self_contained(tool("count_words", "Count the words of a text."))
    assert not is_self_contained(tool("convert_currency", "Convert an amount between currencies."))
    assert not is_self_contained(WEATHER)


# Request, the tool that was called for it, the only other tool of the catalogue, whether that one is a near miss.
NEAR_MISSES = [
    ("Play the song Blackbird.", tool("PlaySong", "Plays a song."), tool("PlayMovie", "Plays a movie on tv."), False),
    ("Find songs by Abba.", tool("LookupMusic", "Look up a song."), tool("whois_lookup", "Look up a domain."), False),
    ("Find me a bus to Rome.", tool("FindBus", "Find a bus."), tool("find_pairs_with_sum", "Find pairs."), False),
    (
        "I want a hotel in Rome.",
        tool("SearchHotel", "Search hotels at a place."),
        tool("get_latitude_longitude", "Get the coordinates of a place."),
        False,
    ),
    (
        "What is the forecast for upcoming days?",
        tool("forecast_weather", "Weather forecast for upcoming days."),
        tool("crypto_events", "Get upcoming events of crypto coins."),
        False,
    ),
    (
        "Stock price of Apple on Monday?",
        tool("Stock Price", "The stock price tool gets the price at a date."),
        tool("Date", "Gets today's date."),
        False,
    ),
    (
        "Will there be thunderstorms in Austin today?",
        tool("get_weather_today", "Get today's the weather."),
        tool("weather_forecast", "Retrieve the current weather forecast."),
        False,
    ),
    (
        "Find me a Tesla car nearby.",
        tool("Car Finder", "The Car Finder tool finds cars."),
        tool("Movie Finder", "The Movie Finder tool finds movies."),
        False,
    ),
    ("Rent a car in Oslo.", tool("GetCarRental", "Get a rental car."), tool("hotel_booking", "Book a hotel."), False),
    (
        "Which events are on Monday?",
        tool("list_events", "List the events of the calendar."),
        tool("delete_event", "Delete an event of the calendar."),
        True,
    ),
    (
        "How long does it take to travel to Toronto?",
        tool("travel_duration", "Get the duration of a journey."),
        tool("get_task_duration", "Get the duration of a task."),
        True,
    ),
    (
        "Play the movie Alien.",
        tool("play_movie", "Play a movie in the living room."),
        tool("play_song", "Play a song in the living room."),
        True,
    ),
    (
        "Delete the row of Ann.",
        tool("execute_sql", "Run one SQL statement on a table row."),
        tool("create_row", "Create a row of a table."),
        False,
    ),
]


@pytest.mark.parametrize(("request_text", "called", "other", "expected"), NEAR_MISSES)
def test_near_misses_as_a_reader_would_judge_them(request_text: str, called: Tool, other: Tool, expected: bool) -> None:
    found = near_miss((called,), request_text, Catalogue.of([called, other, *TOOLS[3:4]]))
    assert found == (other if expected else None)


SQL, SHELL = tool("execute_sql", "Run one SQL statement.", "query"), tool("bash", "Run commands.", "command")
# Request, the tool that was called for it, and why it is not refused; None where it is.
REFUSED = [
    ("Will it rain in Oslo?", WEATHER, {}, None),
    ("Delete all rows of 2019.", SQL, {}, None),
    ("How many singers are there?", SQL, {}, None),
    ("Print the last line of /workspace/a.txt", SHELL, {}, None),
    ("Print numbers of lines of each file", SHELL, {}, None),
    ("Compare the route by car", tool("distance_matrix", "Distances between places."), {}, None),
    ("Who has this number?", tool("reverse_phone_lookup", "Find the owner of a phone."), {}, None),
    ("Get the movies of 2019.", tool("movies", "Get movies of a year as a string in JSON format."), {}, None),
    ("Which prime video shows are new?", tool("prime_video", "New shows."), {}, None),
    ("Print numbers 1 through 10 separated by ':'", SHELL, {}, "answerable_without_tools"),
    ("Is Paris larger than Rome?", tool("search", "Search the web."), {"task": "search"}, "answerable_without_tools"),
    ("Turn 'abc' round.", tool("reverse_string", "Reverse a text."), {}, "answerable_without_tools"),
    ("Is 97 prime?", tool("is_prime", "Check a number."), {}, "answerable_without_tools"),
    ("Sort 3, 1, 2.", tool("order_list", "Sort a list."), {}, "answerable_without_tools"),
    ("Which of 3, 5, 1 is least?", tool("find_smallest", "Find it."), {}, "answerable_without_tools"),
    ("Multiply these.", tool("matrix_multiply", "Multiplies two matrices."), {}, "answerable_without_tools"),
    ("What is the GCD of 8 and 12?", tool("gcd", "Of two numbers."), {}, "answerable_without_tools"),
    ("Dear Assistant,", WEATHER, {}, "no_query"),
    ("Hello!", WEATHER, {}, "no_query"),
]


@pytest.mark.parametrize(("request_text", "called", "meta", "reason"), REFUSED)
def test_refusals_as_a_reader_would_judge_them(
    request_text: str, called: Tool, meta: dict[str, str], reason: str | None
) -> None:
    call = Message("assistant", calls=(ToolCall(called.name, "{}"),), loss=True)
    messages = (Message("user", request_text), call, *TRIP.messages[2:])
    made = no_tool_request(replace(TRIP, tools=(called,), messages=messages, meta=meta), seed=0)
    assert (made if isinstance(made, str) else None) == reason


def test_a_tool_that_does_what_it_is_told_is_refused_in_words_for_looking_and_for_changing() -> None:
    asked = replies.Deed.of([SQL])
    assert asked.clause is None
    rng = random.Random(0)
    for _ in range(300):
        reply = replies.refusal(replies.NO_TOOLS, asked, rng)
        assert not re.search(r"look (that|it) up|find that out|check that|guess|paste|memory", reply), reply


def test_a_tool_that_does_what_it_is_told_is_never_tried_again() -> None:
    call = Message("assistant", calls=(ToolCall("execute_sql", '{"query": "INSERT"}'),), loss=True)
    added = replace(TRIP, tools=(SQL,), messages=(Message("user", "Add Ann."), call, *TRIP.messages[2:]))
    for index in range(60):
        sample = made(replace(added, id=f"q{index}"))[f"q{index}/tool_error"]
        assert [turn.text for turn in sample.turns if turn.role == "assistant"].count("execute_sql") == 1


def test_one_more_try_is_offered_only_where_the_failure_passes() -> None:
    letter = tool("send_letter", "Post mail to somebody.", "to")
    call = Message("assistant", calls=(ToolCall("send_letter", '{"to": "Ann"}'),), loss=True)
    sent = replace(TRIP, tools=(letter,), messages=(Message("user", "Write to Ann."), call, *TRIP.messages[2:]))
    kinds = {text.replace("{tool}", "send_letter"): kind for kind in failures.FAILURES for text in kind.texts if text}
    offered = unsure = 0
    for index in range(300):
        sample = made(replace(sent, id=f"f{index}"))[f"f{index}/tool_error"]
        said = sample.turns[-2].text
        failure = next((kinds[text] for text in sorted(kinds, key=len, reverse=True) if text in said), None)
        if failure is None:
            continue  # the empty result
        reply = sample.turns[-1].text
        if re.search(r"again later|try again|once more", reply):
            offered += 1
            assert failure.passes, reply
            assert not failure.may_have_acted, reply
        if re.search(r"can't confirm|may or may not|don't know whether", reply):
            unsure += 1
            assert failure.may_have_acted, reply
    assert offered > 10
    assert unsure > 20


@pytest.mark.parametrize(
    ("name", "description", "action"),
    [
        ("schedule_by_date", "Fetches the event schedule for a date.", "read"),
        ("schedule_meeting", "Schedule a meeting.", "create"),
        ("order_status", "Get the status of an order.", "read"),
        ("create_user", "Returns the created user.", "create"),
        ("get_weather", "Weather of a city.", "read"),
        ("execute_bash", "Run commands.", "operate"),
        ("run_python", "Run a program.", "operate"),
        ("python_shell", "Returns what the program prints.", "operate"),
    ],
)
def test_what_a_tool_does_is_told_by_its_name_and_description(name: str, description: str, action: str) -> None:
    assert action_of(tool(name, description)) == action


def test_moves_of_an_environment_are_not_in_the_catalogue() -> None:
    moves = (tool("look", "Look around."), tool("task", "Describe the task."), tool("task", "Add a task to a project."))
    assert [(t.name, t.description) for t in catalogue_of([moves])] == [("task", "Add a task to a project.")]


def test_chat_gets_tools_listed_beside_its_real_answer() -> None:
    samples = made(CHAT)
    assert [turn.role for turn in samples["c1/chat"].turns] == ["user", "assistant"]
    beside = samples["c1/chat_with_tools"]
    assert beside.turns[-1].text == "A helper."
    assert "You have these tools:" in beside.turns[0].text


def test_the_own_system_text_of_a_talk_stays_when_tools_are_listed() -> None:
    told = replace(CHAT, messages=(Message("system", "Answer in rhymes."), *CHAT.messages))
    assert made(told)["c1/chat_with_tools"].turns[0].text.startswith("Answer in rhymes.\n")


def test_a_missing_argument_is_the_question_that_was_really_needed() -> None:
    asked = (
        Message("user", "Will it rain tomorrow?"),
        Message("assistant", "In which city?", loss=True),
        Message("user", "In Oslo."),
        *TRIP.messages[1:],
    )
    sample = made(replace(TRIP, messages=asked))["t1/missing_argument"]
    assert [turn.text for turn in sample.turns[1:]] == ["Will it rain tomorrow?", "In which city?"]
    assert [p.capability for p in sample.turns[-1].parts] == ["general"]
    known = (Message("user", "Will it rain in Oslo tomorrow?"), *asked[1:])
    assert missing_argument(replace(TRIP, messages=known)) == "nothing_was_asked_for"


def test_after_an_error_only_what_is_said_is_learnt() -> None:
    given_up = tried_again = 0
    for index in range(200):
        sample = made(replace(TRIP, id=f"t{index}"))[f"t{index}/tool_error"]
        learnt = [(turn.text, p.capability) for turn in sample.turns for p in turn.parts if p.capability]
        assert {capability for _, capability in learnt} == {"reasoning"}
        names = [turn for turn in sample.turns if turn.role == "assistant" and turn.text == "get_weather"]
        if learnt[-1][0] == "Yes.":
            tried_again += 1
            assert (len(names), len(learnt)) == (2, 2)
            assert any("rain" in turn.text for turn in sample.turns[-2:-1])
        else:
            given_up += 1
            assert (len(names), len(learnt)) == (1, 1)
            assert "rain" not in "".join(turn.text for turn in sample.turns[2:])
            reading = read(learnt[0][0], {"get_weather"})
            assert reading.plain, learnt
    assert given_up > 100
    assert tried_again > 30


def test_a_tool_that_changes_something_is_never_tried_again() -> None:
    letter = tool("send_letter", "Post mail to somebody.", "to")
    call = Message("assistant", "", "", (ToolCall("send_letter", '{"to": "Ann"}'),), loss=True)
    sent = replace(TRIP, tools=(letter,), messages=(Message("user", "Write to Ann."), call, *TRIP.messages[2:]))
    for index in range(60):
        sample = made(replace(sent, id=f"s{index}"))[f"s{index}/tool_error"]
        assert [turn.text for turn in sample.turns if turn.role == "assistant"].count("send_letter") == 1


def test_what_cant_be_made_says_why() -> None:
    long = replace(TRIP, messages=(Message("user", "rule " * 200), *TRIP.messages[1:]))
    cases = ("no_tool_request", "irrelevant_tool", "near_miss", "tool_error")
    assert omitted(long) == {
        *((case, "query_too_long") for case in cases),
        ("missing_argument", "nothing_was_asked_for"),
    }
    environment = replace(TRIP, meta={"task": "alfworld"})
    assert omitted(environment) == {(case, "environment_task") for case in (*cases, "missing_argument")}
    assert omitted(TRIP, Catalogue.of([WEATHER])) == {
        ("irrelevant_tool", "no_unhelpful_tools_in_catalogue"),
        ("near_miss", "no_near_miss_in_catalogue"),
        ("missing_argument", "nothing_was_asked_for"),
    }


def test_a_protocol_word_in_a_text_keeps_it_out_of_the_forms_that_it_would_break() -> None:
    marked = replace(TRIP, messages=(*TRIP.messages[:3], Message("assistant", "Well.\nAction: done", loss=True)))
    recipe = CorpusRecipe(cot_share=1.0, tool_error_share=0.0)
    reasons = {(o.kind, o.reason) for o in derive(marked, recipe, CATALOGUE) if isinstance(o, Omission)}
    assert ("chat", "format_keyword_in_text") in reasons
    assert ("cot", "format_keyword_in_text") in reasons
    assert ("react", "does_not_read_back") in reasons


def test_a_smaller_share_lies_inside_a_larger_one() -> None:
    trips = [replace(TRIP, id=f"t{i}") for i in range(200)]
    before: set[str] = set()
    for share in (0.0, 0.2, 0.7, 1.0):
        recipe = CorpusRecipe(irrelevant_tool_share=share)
        kept = {t.id for t in trips if f"{t.id}/irrelevant_tool" in made(t, recipe)}
        assert before <= kept
        assert len(kept) == pytest.approx(200 * share, abs=25)
        before = kept


def test_every_negative_case_counts_as_negative() -> None:
    cases = {"no_tool_request", "irrelevant_tool", "near_miss", "chat_with_tools", "missing_argument", "tool_error"}
    assert cases == set(NEGATIVE_CASES)


def test_the_catalogue_does_not_depend_on_order() -> None:
    other = tool("get_weather", "Another text.")
    assert catalogue_of([TOOLS, (other,)]) == catalogue_of([(other,), TOOLS[::-1]])
    silent, first = Tool("get_weather", ""), Tool("get_weather", "Another text.", {"a": 1})
    for tools in itertools.permutations((silent, first, Tool("get_weather", "Another text.", {"b": 1}))):
        (kept,) = catalogue_of([tools])
        assert (kept.description, kept.parameters) == ("Another text.", {"a": 1})
    forwards, backwards = Catalogue.of(TOOLS), Catalogue.of(TOOLS[::-1])
    assert forwards.tools == backwards.tools
    assert (forwards.likeness(WEATHER) == backwards.likeness(WEATHER)).all()


def test_a_tool_that_the_query_speaks_of_is_not_called_unhelpful() -> None:
    found = unhelpful_tools((), "please play that song", CATALOGUE, random.Random(0), num=8)
    assert "play_song" not in {t.name for t in found}
    assert len(found) >= 4


def test_likeness_knows_words_that_mean_the_same() -> None:
    names = [t.name for t in CATALOGUE.tools]
    likeness = CATALOGUE.likeness(tool("rain_tomorrow", "Whether rain is forecast for a town."))
    assert names[int(likeness.argmax())] in ("get_weather", "city_weather_report")
    assert likeness[names.index("send_letter")] == 0
    assert CATALOGUE.likeness(WEATHER)[names.index("get_weather")] == pytest.approx(1.0)


def test_an_empty_catalogue_offers_nothing() -> None:
    assert unhelpful_tools((), "hello", Catalogue.of([]), random.Random(0), num=3) == ()


@pytest.mark.parametrize(
    ("description", "clause"),
    [
        ("Get the weather forecast of a city.", "get the weather forecast of a city"),
        ("Returns the list of players for a given team", "get the list of players"),
        ("Find a bus itinerary between cities for a given date", "find a bus itinerary between cities"),
        ("Get the user's current date.", "get your current date"),
        ("Play the selected song on the device", "play a song on the device"),
        ("Weather report of a city.", None),
        ("Get today's the weather", None),
        ("GET /v1/users/{id}", None),
        ("", None),
    ],
)
def test_a_deed_is_said_only_where_the_description_says_one(description: str, clause: str | None) -> None:
    assert replies.deed(tool("x", description)) == clause


@pytest.mark.parametrize("cores", [replies.NO_TOOLS, replies.NO_FITTING_TOOL, replies.NEAR_MISS])
def test_refusals_are_many_and_every_one_reads_as_a_plain_refusal(cores: tuple[str, ...]) -> None:
    nearest, asked = tool("play_song", "Play a song."), replies.Deed.of([WEATHER])
    rng = random.Random(0)
    made = {replies.refusal(cores, asked, rng, nearest) for _ in range(1_500)}
    assert len(made) > 300
    for reply in made:
        reading = read(reply, {"play_song", "get_weather"})
        assert reading.plain, reply
        assert reading.refuses, reply
        assert "{" not in reply


def test_every_kind_of_failure_has_several_texts_and_causes() -> None:
    for failure in failures.FAILURES:
        assert len(failure.texts) >= 4
        assert len(failure.causes) >= 3
