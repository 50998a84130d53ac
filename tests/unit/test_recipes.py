"""Named recipes: the paper's shares, forms that exclude each other, and shares that must make sense."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace

import pytest

from agentflan_ray.corpus.derive import Omission, derive
from agentflan_ray.corpus.recipe import AGENT_FLAN_RATIOS, RECIPES, CorpusRecipe, agent_flan, laptop, react_baseline
from agentflan_ray.corpus.similarity import Catalogue
from agentflan_ray.sample import CAPABILITIES, Sample
from agentflan_ray.storage import as_json
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory

WEATHER = Tool("get_weather", "Get the weather of a city.", {"type": "object", "properties": {}})
LETTER = Tool("send_letter", "Post mail to somebody.", {"type": "object", "properties": {}})
TRIP = Trajectory(
    "t",
    "unit",
    (WEATHER,),
    (
        Message("user", "How is the weather in Oslo?"),
        Message("assistant", "", "Look.", (ToolCall("get_weather", '{"city": "Oslo"}'),), loss=True),
        Message("tool", "rain"),
        Message("assistant", "It rains.", loss=True),
    ),
)
NUM = 4_000


def drawn(recipe: CorpusRecipe, num: int = NUM) -> list[list[Sample]]:
    catalogue = Catalogue.of([WEATHER, LETTER])
    return [
        [made for made in derive(replace(TRIP, id=f"t{i}"), recipe, catalogue) if isinstance(made, Sample)]
        for i in range(num)
    ]


def test_the_papers_recipe_gives_each_trajectory_one_form_in_its_shares() -> None:
    samples = drawn(agent_flan())
    forms: Counter[str] = Counter()
    cases: Counter[str] = Counter()
    pairs = 0
    for made in samples:
        whole = [s.form for s in made if s.case == "tool" and not s.id.endswith("/instruct")]
        assert len(whole) == 1
        forms[whole[0]] += 1
        pairs += sum(s.id.endswith("/instruct") for s in made)
        cases.update(s.case for s in made if s.case != "tool")
    assert forms["chat"] / NUM == pytest.approx(0.6, abs=0.03)
    assert forms["cot"] / NUM == pytest.approx(0.3, abs=0.03)
    assert forms["react"] / NUM == pytest.approx(0.1, abs=0.02)
    assert pairs / NUM == pytest.approx(2_000 / 24_703, abs=0.015)
    assert set(cases) == {"no_tool_request", "irrelevant_tool"}
    assert sum(cases.values()) / NUM == pytest.approx(761 / 22_867, abs=0.012)


def test_the_baseline_is_react_and_nothing_else() -> None:
    for made in drawn(react_baseline(), 50):
        assert [(s.form, s.case) for s in made] == [("react", "tool")]


def test_the_default_keeps_every_form_that_a_search_may_weigh() -> None:
    for made in drawn(laptop(), 50):
        kinds = {s.id.split("/")[1] for s in made}
        assert {"chat", "react", "no_tool_request", "irrelevant_tool"} <= kinds
        assert "cot" not in kinds


def test_a_trajectory_without_thoughts_is_no_chain_of_thought_and_is_not_lost() -> None:
    silent = replace(TRIP, messages=tuple(replace(message, thought="") for message in TRIP.messages))
    catalogue = Catalogue.of([WEATHER, LETTER])
    forms: Counter[str] = Counter()
    for index in range(1_000):
        made = derive(replace(silent, id=f"t{index}"), agent_flan(), catalogue)
        whole = [s.form for s in made if isinstance(s, Sample) and s.case == "tool" and not s.id.endswith("/instruct")]
        assert len(whole) == 1
        forms[whole[0]] += 1
    assert set(forms) == {"chat", "react"}
    assert forms["chat"] / 1_000 == pytest.approx(0.6 / 0.7, abs=0.04)
    made = derive(silent, CorpusRecipe(chat_share=0.0, cot_share=1.0, react_share=0.0, one_form=True), catalogue)
    assert Omission("t", "cot", "no_thought") in made


def test_shares_of_a_form_are_nested_and_forms_do_not_meet() -> None:
    smaller = CorpusRecipe(chat_share=0.3, cot_share=0.3, react_share=0.4, one_form=True)
    larger = replace(smaller, chat_share=0.5, react_share=0.2)
    chats = [
        {s.parent for made in drawn(recipe, 500) for s in made if s.id.endswith("/chat")}
        for recipe in (smaller, larger)
    ]
    assert chats[0] < chats[1]


def test_recipes_have_names_and_are_json() -> None:
    assert {name: make() for name, make in RECIPES.items()} == {
        "laptop": CorpusRecipe(),
        "agent-flan": agent_flan(),
        "react-baseline": react_baseline(),
    }
    for make in RECIPES.values():
        assert CorpusRecipe(**as_json(asdict(make()))) == make()
    assert set(AGENT_FLAN_RATIOS) < set(CAPABILITIES)


def test_shares_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cot_share is 1\.2, but a share lies between 0 and 1"):
        CorpusRecipe(cot_share=1.2)
    with pytest.raises(ValueError, match=r"add up to 1, but 0\.6, 0\.3 and 0\.2 make 1\.1; change one of them"):
        CorpusRecipe(chat_share=0.6, cot_share=0.3, react_share=0.2, one_form=True)
