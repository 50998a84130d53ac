"""Laws of the mixture: counting gives the weights, budgets and fractions nest, the impossible is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflan_ray.mixture import (
    Index,
    Mixture,
    Phase,
    Plan,
    Schedule,
    drop_plan,
    make_plan,
    proportional_weights,
    temperature_weights,
)
from agentflan_ray.sample import COMPONENTS


def index_of(num: int, seed: int = 0) -> Index:
    """Like a corpus: chat rows with three capabilities, and rows of one component each."""
    rng = np.random.default_rng(seed)
    supervised = np.zeros((num, 6), dtype=np.int64)
    kinds = rng.integers(0, 4, num)
    supervised[kinds == 0, :3] = rng.integers(3, 40, (int((kinds == 0).sum()), 3))
    for kind, component in ((1, 3), (2, 4), (3, 5)):
        supervised[kinds == kind, component] = rng.integers(10, 80, int((kinds == kind).sum()))
    keys = np.sort(rng.integers(0, 2**63 - 1, num))
    return Index(keys, supervised.sum(axis=1) + rng.integers(20, 100, num), supervised)


INDEX = index_of(4000)
weight_lists = st.lists(st.floats(0.05, 1), min_size=6, max_size=6).map(
    lambda values: {name: value / sum(values) for name, value in zip(COMPONENTS, values, strict=True)}
)


def counted(index: Index, rows: np.ndarray, masks: np.ndarray) -> np.ndarray:
    learnt = ((masks[:, None] >> np.arange(6)) & 1) * index.supervised[rows]
    return np.asarray(learnt.sum(axis=0) / learnt.sum())


def pieces_of(plan: Plan, phase: int | None = None) -> list[tuple[int, int]]:
    """(row, component) for each component that is learnt in a row, in the order of the plan."""
    rows = zip(plan.rows.tolist(), plan.masks.tolist(), plan.phases.tolist(), strict=True)
    return [(r, c) for r, mask, p in rows if phase in (None, p) for c in range(6) if mask >> c & 1]


@settings(deadline=None)
@given(weight_lists, st.sampled_from([0.25, 0.5, 1.0]))
def test_counting_the_plan_gives_the_weights_within_one_row(weights: dict[str, float], fraction: float) -> None:
    plan = make_plan(INDEX, Mixture(weights, budget=60_000, fraction=fraction))
    shares = counted(INDEX, plan.rows, plan.masks)
    one_row = 80 / plan.num_supervised
    for name, share in zip(COMPONENTS, shares, strict=True):
        assert plan.realised[name] == pytest.approx(share)
        assert share == pytest.approx(weights[name], abs=2 * one_row)
    assert plan.num_tokens == INDEX.num_tokens[plan.rows].sum()
    assert 0.97 * 60_000 * fraction < plan.num_tokens <= 60_000 * fraction


@settings(deadline=None, max_examples=25)
@given(weight_lists)
def test_a_fraction_lies_inside_a_larger_one(weights: dict[str, float]) -> None:
    before: set[tuple[int, int]] = set()
    for fraction in (0.25, 0.5, 1.0):
        plan = make_plan(INDEX, Mixture(weights, budget=40_000, fraction=fraction))
        assert (INDEX.keys[plan.rows] < fraction * 2**63).all()
        parts = set(pieces_of(plan))
        assert before <= parts
        before = parts


def test_no_component_that_is_asked_for_is_left_out() -> None:
    weights = dict.fromkeys(COMPONENTS, 1 / 6)
    plan = make_plan(INDEX, Mixture(weights, budget=1_500))
    assert all(plan.realised[name] > 0 for name in COMPONENTS)


def test_repeats_are_spread_evenly_and_capped() -> None:
    index = index_of(60)
    weights = proportional_weights(index)
    total = int(index.num_tokens.sum())
    plan = make_plan(index, Mixture(weights, budget=int(2.5 * total), max_repeats=3))
    times = np.bincount(plan.rows, minlength=60)
    assert times.max() == 3
    assert times.min() >= 2
    assert plan.repeats["general"] == pytest.approx(2.5, abs=0.1)


def test_a_budget_beyond_the_cap_is_refused_with_the_numbers_or_capped() -> None:
    index = index_of(600)
    scarce = dict.fromkeys(COMPONENTS, 0.02) | {"retrieval": 0.9}
    with pytest.raises(
        ValueError, match=r"budget of 1,000,000 tokens can't be filled: 90.0% retrieval with at most 4 repeats"
    ):
        make_plan(index, Mixture(scarce, budget=1_000_000))
    plan = make_plan(index, Mixture(scarce, budget=1_000_000, when_short="cap"))
    assert plan.realised["retrieval"] == pytest.approx(0.9, abs=0.02)
    assert plan.repeats["retrieval"] == pytest.approx(4)


def test_a_weight_on_nothing_is_refused() -> None:
    index = INDEX
    empty = Index(index.keys, index.num_tokens, index.supervised * np.array([1, 1, 1, 1, 1, 0]))
    with pytest.raises(ValueError, match=r"asks for 50.0% negative, but the corpus holds no supervised negative token"):
        make_plan(empty, Mixture({"negative": 0.5, "general": 0.5}, budget=1000))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"reasoning": 0.5}, "must sum to 1, but .* sum to 0.500000"),
        ({"planning": 1.0}, "Unknown component 'planning'"),
        ({"reasoning": 1.5, "general": -0.5}, "finite and not negative"),
    ],
)
def test_wrong_weights_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(weights, budget=1000)


def test_a_budget_below_one_sample_is_refused() -> None:
    with pytest.raises(ValueError, match=r"too small for a single sample"):
        make_plan(INDEX, Mixture(proportional_weights(INDEX), budget=3))


def test_temperature_goes_from_proportional_to_uniform() -> None:
    available = INDEX.supervised.sum(axis=0)
    assert temperature_weights(INDEX, 1) == pytest.approx(proportional_weights(INDEX))
    assert temperature_weights(INDEX, 1e12) == pytest.approx(dict.fromkeys(COMPONENTS, 1 / 6))
    halved = temperature_weights(INDEX, 2)
    assert halved["reasoning"] / halved["negative"] == pytest.approx((available[0] / available[5]) ** 0.5)
    assert max(temperature_weights(INDEX, 1e-3).values()) == pytest.approx(1)
    without = Index(INDEX.keys, INDEX.num_tokens, INDEX.supervised * np.array([1, 0, 1, 1, 1, 1]))
    assert temperature_weights(without, float("inf")) == pytest.approx(
        {name: 0.0 if name == "retrieval" else 0.2 for name in COMPONENTS}
    )
    with pytest.raises(ValueError, match="The temperature is 0, but must be above 0"):
        temperature_weights(INDEX, 0)


@settings(deadline=None, max_examples=30)
@given(st.lists(weight_lists, min_size=1, max_size=4), st.integers(8_000, 400_000))
def test_phases_go_on_where_the_one_before_stopped(weights: list[dict[str, float]], budget: int) -> None:
    """No part of a sample is learnt a second time before its component was learnt whole, and never beyond the cap."""
    phases = tuple(Phase(1 / len(weights), each) for each in weights)
    plan = make_plan(INDEX, Schedule(phases, budget, max_repeats=3, when_short="cap"))
    assert plan.num_tokens == INDEX.num_tokens[plan.rows].sum() <= budget
    assert plan.phases.tolist() == sorted(plan.phases.tolist())
    assert sum(each.num_tokens for each in plan.by_phase) == plan.num_tokens
    for number, phase in enumerate(phases):
        rows = plan.rows[plan.phases == number]
        used = int(INDEX.num_tokens[plan.rows[plan.phases <= number]].sum())
        assert used <= budget * (number + 1) / len(weights) + 1
        if not len(rows):
            continue
        shares = counted(INDEX, rows, plan.masks[plan.phases == number])
        for name, share in zip(COMPONENTS, shares, strict=True):
            assert plan.by_phase[number].realised[name] == pytest.approx(share)
            assert share == pytest.approx(phase.weights[name], abs=2 * 80 / plan.by_phase[number].num_supervised)
    for component in range(6):
        holders = np.flatnonzero(INDEX.supervised[:, component]).tolist()
        read = [row for row, each in pieces_of(plan) if each == component]
        # Read in the stable order, over and over: a prefix of the corpus repeated up to the cap.
        assert sorted(read) == sorted((holders * 3)[: len(read)])
        if len(read) <= len(holders):
            assert read == holders[: len(read)]
            assert plan.unread[COMPONENTS[component]] == INDEX.supervised[holders[len(read) :], component].sum()
        else:
            assert plan.unread[COMPONENTS[component]] == 0


@settings(deadline=None, max_examples=20)
@given(weight_lists, st.integers(8_000, 100_000))
def test_equal_phases_learn_no_more_than_one_phase_does(weights: dict[str, float], budget: int) -> None:
    """A sample whose components are learnt in different phases is read in each, so that phases learn somewhat less."""
    once = make_plan(INDEX, Mixture(weights, budget))
    thrice = make_plan(INDEX, Schedule(tuple(Phase(1 / 3, weights) for _ in range(3)), budget))
    assert set(once.phases.tolist()) == {0}
    assert once.by_phase[0].asked == pytest.approx(weights)
    assert thrice.asked == pytest.approx(weights)
    assert len(set(pieces_of(thrice)) - set(pieces_of(once))) <= 6  # one of each component by rounding
    assert 0.6 * once.num_supervised < thrice.num_supervised <= once.num_supervised + 6 * 80


def test_a_schedule_that_runs_dry_is_refused_with_the_phase() -> None:
    index = index_of(600)
    only = Phase(0.5, {"negative": 1.0})
    with pytest.raises(
        ValueError,
        match=r"budget of phase 2 of [\d,]+ tokens can't be filled: 100.0% negative .* lasts for [\d,]+ tokens",
    ):
        make_plan(index, Schedule((only, only), 40_000, max_repeats=2))
    tokens = int(index.num_tokens[index.supervised[:, 5] > 0].sum())
    with pytest.raises(
        ValueError, match=r"of phase 2 asks for 100.0% negative, but the phases before it have read its [\d,]+ superv"
    ):
        make_plan(index, Schedule((Phase(0.5, {"negative": 1.0}), only), 2 * tokens, max_repeats=1, when_short="cap"))
    with pytest.raises(ValueError, match=r"phases' shares must sum to 1, but \[0.5, 0.25\] sum to 0.750000"):
        Schedule((only, Phase(0.25, {"negative": 1.0})), 1000)
    with pytest.raises(ValueError, match=r"The share of a phase is 0, but must lie in"):
        Phase(0, {"negative": 1.0})


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 1), st.floats(0.01, 1), st.sampled_from([0.5, 1.0]))
def test_dropping_keeps_the_part_asked_for_and_the_rest_whole(first: float, second: float, fraction: float) -> None:
    plan = drop_plan(INDEX, {"reasoning": 1, "retrieval": first, "understanding": second}, fraction)
    eligible = INDEX.keys < fraction * 2**63
    available = INDEX.supervised[eligible].sum(axis=0)
    kept = np.array([plan.realised[name] for name in COMPONENTS]) * plan.num_supervised
    for name, tokens, all_tokens, part in zip(COMPONENTS, kept, available, (1, first, second, 1, 1, 1), strict=True):
        assert tokens == pytest.approx(part * all_tokens, abs=40)
        assert plan.unread[name] == pytest.approx(all_tokens - tokens, abs=1e-6)
    assert plan.num_tokens == INDEX.num_tokens[plan.rows].sum() <= INDEX.num_tokens[eligible].sum()
    assert len(set(plan.rows.tolist())) == len(plan.rows)


def test_a_smaller_ratio_learns_a_part_of_what_a_larger_one_does_and_reads_no_more() -> None:
    before: set[tuple[int, int]] = set()
    tokens = 0
    for ratio in (0.0, 0.25, 0.75, 1.0):
        ratios = {"reasoning": ratio, "retrieval": ratio, "understanding": ratio, "instruction": 1.0}
        plan = drop_plan(INDEX, ratios)
        parts = set(pieces_of(plan))
        assert before <= parts
        assert tokens < plan.num_tokens
        before, tokens = parts, plan.num_tokens
    assert plan.num_tokens == INDEX.num_tokens.sum()
    assert set(plan.unread.values()) == {0}


@pytest.mark.parametrize(
    ("ratios", "sentence"),
    [
        ({"planning": 1.0}, "Unknown component 'planning' in the ratios; there are reasoning"),
        ({"reasoning": -1.0, "general": 1.0}, "Ratios must be finite, not negative, and one of them above 0"),
        ({}, "Ratios must be finite"),
    ],
)
def test_wrong_ratios_are_refused(ratios: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        drop_plan(INDEX, ratios)
