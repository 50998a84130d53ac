"""Laws of the mixture: counting gives the weights, budgets and fractions nest, the impossible is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflan_ray.mixture import Index, Mixture, make_plan, proportional_weights
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
        parts = {
            (r, c) for r, m in zip(plan.rows.tolist(), plan.masks.tolist(), strict=True) for c in range(6) if m >> c & 1
        }
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
