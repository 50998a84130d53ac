"""Objectives, weighted sums and constraints as users write them."""

from __future__ import annotations

import re

import pytest

from agentflan_ray.evaluate.measures import WEIGHTED
from agentflan_ray.search.goals import Bound, check_names, parse_bound, parse_objectives
from agentflan_ray.search.searcher import Constraint, Objective
from agentflan_ray.toolbox import ITEM_CASES

TRAINED = ("validation_loss", "validation_loss/general")


def test_objectives_are_read_in_their_order() -> None:
    objectives, weights = parse_objectives(["score:max", " false_call_rate : min "])
    assert objectives == (Objective("score", "max"), Objective("false_call_rate", "min"))
    assert weights == ()


def test_a_weighted_sum_is_one_objective() -> None:
    objectives, weights = parse_objectives(["score=1,false_call_rate=-0.5, over_refusal_rate = -1e-1", "h_react:min"])
    assert objectives == (Objective(WEIGHTED, "max"), Objective("h_react", "min"))
    assert weights == (("score", 1.0), ("false_call_rate", -0.5), ("over_refusal_rate", -0.1))


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["score"], "'score' can't be read; write NAME:max"),
        (["score:up"], "'score:up' can't be read"),
        (["score=1-0.5*h_react"], "can't be read"),
        (["score=__import__('os')"], "can't be read"),
        (["score=1", "h_react=-1"], "'h_react=-1' is a second weighted sum"),
        (["score=1,score=2"], "names score twice"),
    ],
)
def test_what_is_no_objective_is_refused(texts: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        parse_objectives(texts)


@pytest.mark.parametrize(
    ("text", "bound", "written"),
    [
        ("missed_call_rate<=0.4", Bound("missed_call_rate", "<=", 0.4), "missed_call_rate <= 0.4"),
        ("validation_loss/general >= -1.5e0", Bound("validation_loss/general", ">=", -1.5), None),
        ("sensible_rate>=base-0.05", Bound("sensible_rate", ">=", -0.05, True), "sensible_rate >= base -0.05"),
        ("sensible_rate >= base", Bound("sensible_rate", ">=", 0.0, True), "sensible_rate >= base"),
        ("leak_rate <= base + .1", Bound("leak_rate", "<=", 0.1, True), "leak_rate <= base +0.1"),
    ],
)
def test_constraints_are_read(text: str, bound: Bound, written: str | None) -> None:
    assert parse_bound(text) == bound
    assert written is None or str(bound) == written
    assert parse_bound(str(bound)) == bound


@pytest.mark.parametrize(
    "text", ["leak_rate<0.4", "leak_rate<=", "<=0.4", "leak_rate<=half", "leak_rate<=base*2", "a<=nan"]
)
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="can't be read; write NAME<=NUMBER"):
        parse_bound(text)


def test_a_bound_relative_to_the_base_model_becomes_a_number() -> None:
    base = {"sensible_rate": 0.623456, "leak_rate": 0.1}
    assert parse_bound("sensible_rate>=base-0.05").resolve(base) == Constraint("sensible_rate", at_least=0.5735)
    assert parse_bound("leak_rate<=base").resolve(base) == Constraint("leak_rate", at_most=0.1)
    assert parse_bound("leak_rate<=0.3").resolve({}) == Constraint("leak_rate", at_most=0.3)


def test_names_that_every_report_has_pass() -> None:
    objectives, weights = parse_objectives(["score=1,false_call_rate=-0.5", "validation_loss:min"])
    bounds = [parse_bound("sensible_rate>=base-0.05"), parse_bound("validation_loss/general<=3")]
    check_names(objectives, weights, bounds, ITEM_CASES, TRAINED)


@pytest.mark.parametrize(
    ("objectives", "bounds", "cases", "sentence"),
    [
        (["scor:max"], [], ITEM_CASES, "The objective 'scor' is in no report; there are score, tool_score,"),
        (["weighted_score:max"], [], ITEM_CASES, "The objective 'weighted_score' is in no report"),
        (["score:max"], ["missed<=0.4"], ITEM_CASES, "The constraint 'missed' is in no report"),
        (
            ["score:max"],
            ["validation_loss<=base"],
            ITEM_CASES,
            "The constraint 'validation_loss' relative to the base model is in no report",
        ),
        (["validation_loss=-1"], [], ITEM_CASES, "The term of the weighted sum 'validation_loss' is in no report"),
        (["score:max"], [], ("chat", "tool")[:1], "The objective 'score' can't be measured on the items that choose"),
        (["tool_score=1"], [], ("chat",), "The term of the weighted sum 'tool_score' can't be measured"),
        (["sensible_rate:max"], ["missed_call_rate<=0.4"], ("chat",), "are of the cases chat only; ask for more"),
    ],
)
def test_what_no_report_has_is_refused(
    objectives: list[str], bounds: list[str], cases: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check_names(*parse_objectives(objectives), [parse_bound(text) for text in bounds], cases, TRAINED)
