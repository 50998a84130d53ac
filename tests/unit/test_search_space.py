"""The space of mixtures: weights and parameters are two names of one thing."""

import math
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflan_ray.sample import COMPONENTS
from agentflan_ray.search.space import (
    MIXTURE_PARAMETERS,
    RATIOS,
    Interval,
    Space,
    from_weights,
    named_mixes,
    to_weights,
)

CORPUS = {
    "reasoning": 500.0,
    "retrieval": 80.0,
    "understanding": 300.0,
    "instruction": 120.0,
    "general": 8_000.0,
    "negative": 40.0,
}

shares = st.floats(0, 0.99)
ratios = st.floats(-10, 10)
points = st.fixed_dictionaries({name: ratios if name in RATIOS else shares for name in MIXTURE_PARAMETERS})


@given(points)
def test_weights_of_any_point_are_a_mixture_and_lead_back(point: dict[str, float]) -> None:
    weights = to_weights(point)
    assert tuple(weights) == COMPONENTS
    assert all(weight >= 0 for weight in weights.values())
    assert sum(weights.values()) == pytest.approx(1, abs=1e-12)
    assert from_weights(weights) == pytest.approx(point, abs=1e-9)


@given(st.lists(st.floats(1e-6, 1), min_size=len(COMPONENTS), max_size=len(COMPONENTS)))
def test_parameters_of_any_mixture_lead_back(masses: list[float]) -> None:
    weights = {name: mass / sum(masses) for name, mass in zip(COMPONENTS, masses, strict=True)}
    assert to_weights(from_weights(weights)) == pytest.approx(weights, abs=1e-9)


@given(points)
def test_one_step_of_a_ratio_doubles_it_and_moves_neither_share(point: dict[str, float]) -> None:
    before, after = to_weights(point), to_weights({**point, "log2_retrieval": point["log2_retrieval"] + 1})
    assert after["negative"] == before["negative"]
    assert after["general"] == before["general"]
    assert after["retrieval"] / after["reasoning"] == pytest.approx(2 * before["retrieval"] / before["reasoning"])


def test_a_component_left_out_has_no_weight_and_comes_back() -> None:
    point = dict.fromkeys(MIXTURE_PARAMETERS, 0.0) | {"log2_instruction": -math.inf}
    weights = to_weights(point)
    assert weights["instruction"] == weights["general"] == weights["negative"] == 0
    assert weights["reasoning"] == pytest.approx(1 / 3)
    assert from_weights(weights) == point


def test_the_paper_mix_has_the_ratios_of_the_paper() -> None:
    weights = to_weights(named_mixes(CORPUS)["paper"])
    agent = 1 - weights["negative"] - weights["general"]
    assert weights["retrieval"] / weights["reasoning"] == pytest.approx(0.25)
    assert weights["understanding"] / weights["reasoning"] == pytest.approx(0.75)
    assert weights["general"] == pytest.approx(agent)
    assert weights["instruction"] / agent == pytest.approx(0.10)
    assert weights["negative"] == pytest.approx(0.03)
    assert to_weights(named_mixes(CORPUS, negative_share=0.3)["paper"])["negative"] == pytest.approx(0.3)


def test_the_other_named_mixes() -> None:
    mixes = named_mixes(CORPUS)
    total = sum(CORPUS.values())
    assert to_weights(mixes["proportional"]) == pytest.approx({name: n / total for name, n in CORPUS.items()})
    assert to_weights(mixes["uniform"]) == pytest.approx(dict.fromkeys(COMPONENTS, 1 / 6))


def test_enqueued_mixes_come_back_exactly_from_the_widened_space() -> None:
    mixes = named_mixes(CORPUS)
    space = Space(learning_rate=Interval(1e-5, 1e-3)).including(mixes)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for name, mix in mixes.items():
        study.enqueue_trial(space.complete(mix), user_attrs={"mix": name})
    for mix in mixes.values():
        parameters = space.suggest(study.ask())
        assert {name: parameters[name] for name in MIXTURE_PARAMETERS} == mix
        assert parameters["fraction"] == 1.0
        assert parameters["learning_rate"] == pytest.approx(1e-4)


def test_a_fixed_part_is_given_but_not_searched() -> None:
    space = Space(negative_share=0.3, fraction=0.5)
    assert set(space.distributions()) == {"general_share", *RATIOS}
    assert "negative_share" not in space.complete(named_mixes(CORPUS)["paper"])
    parameters = space.suggest(optuna.create_study().ask())
    assert parameters["negative_share"] == 0.3
    assert parameters["fraction"] == 0.5
    assert set(parameters) == set(space.names) == {*MIXTURE_PARAMETERS, "fraction"}
    assert sum(to_weights(parameters).values()) == pytest.approx(1)


def test_a_mix_without_a_searched_component_is_refused_and_fits_when_it_is_left_out() -> None:
    mixes = named_mixes({**CORPUS, "instruction": 0.0})
    with pytest.raises(ValueError, match="'proportional' has no instruction"):
        Space().including(mixes)
    without = Space(log2_instruction=-math.inf).including(mixes)
    assert to_weights(without.suggest(optuna.create_study().ask()))["instruction"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"negative_share": Interval(0.0, 1.0)}, "negative_share must lie in"),
        ({"general_share": -0.1}, "general_share must lie in"),
        ({"log2_retrieval": Interval(-30.0, 0.0)}, "log2_retrieval must lie within"),
        ({"log2_retrieval": math.inf}, "log2_retrieval must lie within"),
        ({"log2_retrieval": math.nan}, "log2_retrieval must lie within"),
        ({"fraction": (0.5, 0.5)}, "fraction must be different numbers"),
        ({"fraction": ()}, "fraction must be different numbers"),
        ({"fraction": 1.5}, "fraction must be different numbers"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
    ],
)
def test_a_space_that_is_none_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Space(**arguments)


@pytest.mark.parametrize(("low", "high", "log"), [(1, 1, False), (2, 1, False), (0, math.inf, False), (0, 1, True)])
def test_an_interval_that_is_none_is_refused(low: float, high: float, log: bool) -> None:
    with pytest.raises(ValueError, match="An interval"):
        Interval(low, high, log)


UNIFORM = dict.fromkeys(COMPONENTS, 1 / 6)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"reasoning": 1.0}, "needs the components"),
        (UNIFORM | {"general": -1 / 6, "negative": 0.5}, "must not be negative"),
        (UNIFORM | {"general": 0.5}, "must sum to 1"),
        (UNIFORM | {"general": math.nan}, "must not be negative"),
        (UNIFORM | {"reasoning": 0.0, "general": 1 / 3}, "needs a share of reasoning"),
    ],
)
def test_weights_that_are_no_mixture_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_weights(weights)


def test_a_share_outside_the_simplex_and_an_empty_corpus_are_refused() -> None:
    with pytest.raises(ValueError, match="negative_share must lie in"):
        to_weights(dict.fromkeys(MIXTURE_PARAMETERS, 1.0))
    with pytest.raises(ValueError, match="needs supervised tokens"):
        named_mixes(dict.fromkeys(COMPONENTS, 0.0))


def test_searched_parameters_alone_give_the_whole_mixture() -> None:
    space = Space(general_share=0.5, log2_instruction=-math.inf)
    assert space.mixture == ("negative_share", "log2_retrieval", "log2_understanding")
    weights = space.weights({"negative_share": 0.2, "log2_retrieval": -2.0, "log2_understanding": 0.0, "fraction": 1.0})
    assert weights["negative"] == pytest.approx(0.2)
    assert weights["general"] == pytest.approx(0.4)
    assert weights["instruction"] == 0
    assert weights["retrieval"] == pytest.approx(weights["reasoning"] / 4)
