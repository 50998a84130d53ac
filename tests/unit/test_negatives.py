"""Negatives: nothing is called, what is listed can't help, and what can't be made says why."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from agentflan_ray.corpus.derive import Omission, derive
from agentflan_ray.corpus.negatives import catalogue_of, unhelpful_tools
from agentflan_ray.corpus.recipe import CorpusRecipe
from agentflan_ray.evaluate.hallucination import read
from agentflan_ray.sample import NEGATIVE_CASES, Sample
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory


def tool(name: str, description: str) -> Tool:
    return Tool(name, description, {"type": "object", "properties": {}})


WEATHER = tool("get_weather", "Weather forecast of a city.")
CATALOGUE = (
    WEATHER,
    tool("city_weather_report", "Weather report of a city."),
    tool("book_table", "Reserve seats at a restaurant."),
    tool("convert_money", "Exchange between currencies."),
    tool("play_song", "Start music in the living room."),
    tool("send_letter", "Post mail to somebody."),
)
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


def made(trajectory: Trajectory, recipe: CorpusRecipe | None = None) -> dict[str, Sample]:
    found = derive(trajectory, recipe or CorpusRecipe(instruction_share=1.0), CATALOGUE)
    return {sample.id: sample for sample in found if isinstance(sample, Sample)}


def test_a_tool_trajectory_gives_its_forms_and_two_negatives() -> None:
    samples = made(TRIP)
    assert list(samples) == ["t1/chat", "t1/react", "t1/instruct", "t1/no_tool_request", "t1/irrelevant_tool"]
    for case in ("no_tool_request", "irrelevant_tool"):
        sample = samples[f"t1/{case}"]
        assert sample.turns[-2].text == "Will it rain in Oslo tomorrow?"
        reading = read(sample.turns[-1].text, {t.name for t in CATALOGUE})
        assert reading.plain
        assert reading.refuses or reading.asks, sample.turns[-1].text
        assert sample.component("general") == "negative"


def test_irrelevant_tools_are_listed_and_never_the_helpful_ones() -> None:
    for seed in range(30):
        system = made(TRIP, CorpusRecipe(seed=seed))["t1/irrelevant_tool"].turns[0].text
        assert "get_weather" not in system
        assert "city_weather_report" not in system
        assert any(name in system for name in ("book_table", "convert_money", "play_song", "send_letter"))


def test_chat_gets_tools_listed_beside_its_real_answer() -> None:
    samples = made(CHAT)
    assert [turn.role for turn in samples["c1/chat"].turns] == ["user", "assistant"]
    beside = samples["c1/chat_with_tools"]
    assert beside.turns[-1].text == "A helper."
    assert "You have these tools:" in beside.turns[0].text


def test_what_cant_be_made_says_why() -> None:
    long = replace(TRIP, messages=(Message("user", "rule " * 200), *TRIP.messages[1:]))
    omitted = [each for each in derive(long, CorpusRecipe(), CATALOGUE) if isinstance(each, Omission)]
    assert {(o.kind, o.reason) for o in omitted} == {
        ("no_tool_request", "query_too_long"),
        ("irrelevant_tool", "query_too_long"),
    }
    alone = [each for each in derive(TRIP, CorpusRecipe(), (WEATHER,)) if isinstance(each, Omission)]
    assert [(o.kind, o.reason) for o in alone] == [("irrelevant_tool", "no_unhelpful_tools_in_catalogue")]


def test_a_protocol_word_in_a_text_keeps_it_out_of_chat_form() -> None:
    marked = replace(TRIP, messages=(*TRIP.messages[:3], Message("assistant", "Thought: done", loss=True)))
    omitted = [each for each in derive(marked, CorpusRecipe(), CATALOGUE) if isinstance(each, Omission)]
    assert omitted == [Omission("t1", "chat", "format_keyword_in_text")]


def test_a_smaller_share_lies_inside_a_larger_one() -> None:
    trips = [replace(TRIP, id=f"t{i}") for i in range(200)]
    before: set[str] = set()
    for share in (0.0, 0.2, 0.7, 1.0):
        kept = {t.id for t in trips if f"{t.id}/irrelevant_tool" in made(t, CorpusRecipe(negative_share=share))}
        assert before <= kept
        assert len(kept) == pytest.approx(200 * share, abs=25)
        before = kept


def test_every_negative_case_counts_as_negative() -> None:
    assert {"no_tool_request", "irrelevant_tool", "chat_with_tools", "missing_argument"} <= set(NEGATIVE_CASES)


def test_the_catalogue_does_not_depend_on_order() -> None:
    other = tool("get_weather", "Another text.")
    assert catalogue_of([CATALOGUE, (other,)]) == catalogue_of([(other,), CATALOGUE[::-1]])


def test_tools_named_in_the_query_are_not_called_unhelpful() -> None:
    found = unhelpful_tools((), "please play that song", CATALOGUE, random.Random(0), num=5)
    assert "play_song" not in {t.name for t in found}
