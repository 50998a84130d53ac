"""Negatives: nothing is called, what is listed can't help, and what can't be made says why."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from agentflan_ray.corpus import failures, replies
from agentflan_ray.corpus.derive import Omission, derive
from agentflan_ray.corpus.missing import missing_argument
from agentflan_ray.corpus.negatives import catalogue_of
from agentflan_ray.corpus.recipe import CorpusRecipe
from agentflan_ray.corpus.relevance import is_self_contained, near_miss, unhelpful_tools
from agentflan_ray.corpus.similarity import Catalogue
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
