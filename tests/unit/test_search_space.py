"""The space of mixtures: weights and parameters are two names of one thing."""

import math
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflan_ray.mixture import Index, make_plan, part_names, proportional_parts, proportional_weights
from agentflan_ray.sample import CASES, COMPONENTS, FORMS, NEGATIVE_CASES
from agentflan_ray.search.sampler import Fidelity, MixtureSampler
from agentflan_ray.search.space import (
    DIVISIONS,
    EXPLICIT,
    MIXTURE_PARAMETERS,
    NEGATIVES,
    PART_PARAMETERS,
    RATIOS,
    Interval,
    Space,
    from_weights,
    named_mixes,
    to_mixture,
    to_part_weights,
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
        ({"epochs": ()}, "epochs must be different numbers from 1 on"),
        ({"epochs": (1, 1)}, "epochs must be different numbers from 1 on"),
        ({"epochs": 0}, "epochs must be different numbers from 1 on"),
        ({"log2_json": 0.0}, "log2_json is given, but log2_string is not; give all of log2_json, log2_string"),
        ({"log2_cot": 30.0}, "log2_cot must lie within 20 of 0, or be fixed at -inf to leave its part out"),
        (
            {"negative_share": 0.0} | dict.fromkeys(NEGATIVES.ratios, Interval(-1, 1)),
            "log2_no_tool_request is searched, but negative_share is fixed at 0.0, which leaves nothing to divide",
        ),
        (
            {"log2_instruction": -math.inf, "log2_json": Interval(-1, 1), "log2_string": 0.0},
            "log2_json is searched, but log2_instruction is fixed at -inf",
        ),
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


# ---- forms, cases, epochs ------------------------------------------------------------------------------------------

TOKENS = CORPUS | {"instruction/react": 90.0, "instruction/json": 20.0, "instruction/string": 10.0} | {
    "reasoning/chat": 400.0,
    "reasoning/cot": 100.0,
    "retrieval/chat": 80.0,
    "understanding/chat": 300.0,
    **{f"negative/{case}": float(4 + number) for number, case in enumerate(NEGATIVE_CASES)},
}  # fmt: skip
ALL_PARTS = Space.wide().names
whole_points = st.fixed_dictionaries(
    {name: ratios if name.startswith("log2") else shares for name in (*MIXTURE_PARAMETERS, *PART_PARAMETERS)}
)


@given(whole_points)
def test_weights_by_part_sum_to_one_and_to_the_components(point: dict[str, float]) -> None:
    weights, parts = to_weights(point), to_part_weights(point)
    assert list(parts) == sorted(parts, key=lambda name: COMPONENTS.index(name.partition("/")[0]))
    assert sum(parts.values()) == pytest.approx(1, abs=1e-12)
    assert set(parts) == {part for name in COMPONENTS for part in part_names(name)}
    for name in COMPONENTS:
        assert sum(parts[part] for part in part_names(name)) == pytest.approx(weights[name], abs=1e-12)
    for division in DIVISIONS:
        for ratio, part in division.ratios.items():
            for component in division.components:
                expected = parts[f"{component}/{division.reference}"] * 2 ** point[ratio]
                assert parts[f"{component}/{part}"] == pytest.approx(expected)


@given(whole_points, st.sampled_from([0.25, 1.0]), st.integers(1, 3))
def test_a_point_becomes_the_mixture_it_stands_for(point: dict[str, float], fraction: float, epochs: int) -> None:
    mixture = to_mixture({**point, "fraction": fraction, "epochs": epochs, "learning_rate": 1e-4}, 5000, 6, "cap")
    assert (mixture.budget, mixture.max_repeats, mixture.when_short) == (5000, 6, "cap")
    assert (mixture.fraction, mixture.epochs) == (fraction, epochs)
    assert mixture.weights == to_weights(point)
    assert mixture.forms is not None
    assert mixture.cases is not None
    parts = to_part_weights(point)
    for form in ("react", "json", "string"):
        assert parts[f"instruction/{form}"] == pytest.approx(mixture.weights["instruction"] * mixture.forms[form])
    assert parts["retrieval/cot"] == pytest.approx(mixture.weights["retrieval"] * mixture.forms["cot"])
    for case in NEGATIVE_CASES:
        assert parts[f"negative/{case}"] == pytest.approx(mixture.weights["negative"] * mixture.cases[case])


def test_a_point_without_parts_is_the_mixture_it_always_was() -> None:
    point = dict.fromkeys(MIXTURE_PARAMETERS, 0.2)
    mixture = to_mixture(point, 1000)
    assert (mixture.forms, mixture.cases, mixture.epochs, mixture.fraction) == (None, None, 1, 1.0)
    assert (mixture.max_repeats, mixture.when_short) == (4, "fail")
    assert to_part_weights(point) == to_weights(point) == Space().weights(point)
    assert set(Space().names) == {*MIXTURE_PARAMETERS, "fraction"}
    assert to_mixture({**point, "log2_cot": -math.inf}, 1000).forms == {"chat": 1.0, "cot": 0.0}
    with pytest.raises(ValueError, match="log2_string is given, but log2_json is not; give all of log2_json, log2_st"):
        to_mixture({**point, "log2_string": 0.0}, 1000)


def test_the_wide_space_searches_everything_and_holds_the_named_mixes_exactly() -> None:
    mixes = named_mixes(CORPUS, parts=TOKENS)
    space = Space.wide().including(mixes)
    assert set(space.names) == {*MIXTURE_PARAMETERS, *PART_PARAMETERS, "fraction", "epochs", "learning_rate"} - {
        "log2_cot"
    }
    assert len(space.mixture) == 12
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for mix in mixes.values():
        study.enqueue_trial(space.complete(mix))
    for name, mix in mixes.items():
        parameters = space.suggest(study.ask())
        assert {key: parameters[key] for key in space.mixture} == {key: mix[key] for key in space.mixture}
        assert (parameters["fraction"], parameters["epochs"]) == (1.0, 1)
        parts = space.weights({key: parameters[key] for key in space.distributions()})
        if name == "uniform":
            assert parts["instruction/json"] == pytest.approx(1 / 18)
            assert parts["negative/near_miss"] == pytest.approx(1 / 36)
        else:
            assert parts["instruction/json"] == pytest.approx(parts["instruction/react"] * 20 / 90)
            assert parts["negative/near_miss"] == pytest.approx(parts["negative/irrelevant_tool"] * 6 / 5)
    drawn = space.suggest(study.ask())
    assert sum(space.weights({key: drawn[key] for key in space.distributions()}).values()) == pytest.approx(1)
    assert to_mixture(drawn, 1000).epochs in (1, 2)


def test_mixes_that_do_not_say_the_parts_take_the_middle() -> None:
    space = Space(log2_json=Interval(-4.0, 2.0), log2_string=-math.inf).including(named_mixes(CORPUS))
    assert {space.complete(mix)["log2_json"] for mix in named_mixes(CORPUS).values()} == {-1.0}
    assert "log2_string" not in space.complete(named_mixes(CORPUS)["paper"])


def test_what_the_corpus_lacks_is_refused_or_left_out_by_name() -> None:
    tokens = TOKENS | {"instruction/string": 0.0, "negative/near_miss": 0.0}
    mixes = named_mixes(CORPUS, parts=tokens)
    assert mixes["uniform"]["log2_string"] == mixes["paper"]["log2_string"] == -math.inf
    with pytest.raises(
        ValueError, match=r"The mix 'paper' has no string, but log2_string is searched from -3.0 to 3.0"
    ):
        Space.wide().including(mixes)
    space = Space.wide().holding(tokens)
    assert {name for name in ALL_PARTS if getattr(space, name) == -math.inf} == {"log2_string", "log2_near_miss"}
    space = space.including(mixes)
    parameters = space.suggest(optuna.create_study().ask())
    assert to_mixture(parameters, 1000).cases["near_miss"] == 0  # type: ignore[index]
    assert Space().holding({}) == Space()
    with pytest.raises(
        ValueError, match="ratios log2_json, log2_string refer to react, but the corpus holds no superv"
    ):
        Space.wide().holding(tokens | {"instruction/react": 0.0})


def test_the_sampler_searches_a_divided_space() -> None:
    """The loss looks at the forms and the cases alone; the surrogates see their weights."""
    space = Space(
        negative_share=Interval(0.1, 0.4),
        general_share=0.4,
        log2_retrieval=-2.0,
        log2_understanding=-1.0,
        log2_instruction=0.0,
        log2_json=Interval(-4.0, 4.0),
        log2_string=-math.inf,
        **{name: Interval(-4.0, 4.0) if name == "log2_near_miss" else -math.inf for name in NEGATIVES.ratios},  # type: ignore[arg-type]
    )
    assert space.mixture == ("negative_share", "log2_json", "log2_near_miss")
    sampler = MixtureSampler(
        space.distributions(), space.mixture, space.weights, fidelities=[Fidelity("fraction", 1.0)], seed=3
    )
    study = optuna.create_study(sampler=sampler)

    def loss(weights: dict[str, float]) -> float:
        json = weights["instruction/json"] / (weights["instruction/json"] + weights["instruction/react"])
        return (json - 0.25) ** 2 + 4 * (weights["negative/near_miss"] - 0.15) ** 2

    for _ in range(24):
        trial = study.ask()
        parameters = space.suggest(trial)
        weights = to_part_weights(parameters)
        study.tell(trial, loss(weights) + 0.02 / parameters["fraction"])
    chosen = space.weights(sampler.recommend(study))
    random = [space.weights(space.suggest(optuna.create_study().ask())) for _ in range(50)]
    assert loss(chosen) < 0.1 * np.median([loss(each) for each in random])


def test_any_point_of_the_wide_space_can_be_planned() -> None:
    """From a corpus' own index to realised shares of the forms and cases asked for."""
    rng = np.random.default_rng(5)
    kinds = rng.integers(0, 4, 3000)
    supervised = np.zeros((3000, 6), dtype=np.int64)
    supervised[kinds == 0, :3] = rng.integers(5, 40, (int((kinds == 0).sum()), 3))
    for kind in (1, 2, 3):
        supervised[kinds == kind, kind + 2] = rng.integers(10, 80, int((kinds == kind).sum()))
    forms = np.where(kinds == 1, rng.choice([2, 3, 4], 3000), FORMS.index("chat")).astype(np.int8)
    negatives = rng.choice([CASES.index(case) for case in NEGATIVE_CASES], 3000)
    cases = np.select([kinds == 3, kinds == 2], [negatives, CASES.index("chat")], CASES.index("tool")).astype(np.int8)
    keys = np.sort(rng.integers(0, 2**63 - 1, 3000))
    index = Index(keys, supervised.sum(axis=1) + 20, supervised, forms, cases)
    mixes = named_mixes(proportional_weights(index), parts=proportional_parts(index))
    space = Space.wide().including(mixes)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for mix in mixes.values():
        study.enqueue_trial(space.complete(mix))
    for _ in range(8):
        trial = study.ask()
        mixture = to_mixture(space.suggest(trial), 40_000, max_repeats=100)
        plan = make_plan(index, mixture)
        one_row = 80 * mixture.epochs / plan.num_supervised
        for name, share in plan.asked_parts.items():
            assert plan.realised_parts[name] == pytest.approx(share, abs=2 * one_row)
        asked = space.weights(trial.params)
        assert plan.asked_parts == pytest.approx({name: asked[name] for name in plan.asked_parts})
        assert set(EXPLICIT.ratios.values()) <= {name.partition("/")[2] for name in plan.asked_parts}
