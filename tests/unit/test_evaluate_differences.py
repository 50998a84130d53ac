"""Two models on the same items: differences with intervals, McNemar's test, and many comparisons at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from agentflan_ray.evaluate.paired import PairedMetric
from agentflan_ray.evaluate.stats import Difference, drawn_groups, holm, mcnemar, told_apart, two_sided


def test_holm_is_what_its_paper_says() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_each_draw_has_as_many_groups_as_there_are() -> None:
    drawn = drawn_groups(7, 50)
    assert drawn.shape == (50, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert (drawn == drawn_groups(7, 50)).all()


def difference(ours: Sequence[float], theirs: Sequence[float], groups: Sequence[str]) -> Difference:
    """Of a plain mean over the items."""

    def items(values: Sequence[float]) -> list[dict[str, Any]]:
        return [
            {"id": str(i), "case": "case", "group": group, "scores": {"score": value}}
            for i, (value, group) in enumerate(zip(values, groups, strict=True))
        ]

    how = {"score": "score", "cases": [], "by_case": False, "weight": ""}
    return PairedMetric(how, items(ours), items(theirs)).difference()


def numbers(num: int) -> list[str]:
    return [str(item) for item in range(num)]


def test_what_makes_an_item_hard_falls_out_of_a_difference() -> None:
    """Items from hopeless to trivial: each model's own mean is uncertain, their difference of 0.1 is not."""
    rng = np.random.default_rng(0)
    hard = rng.random(100) * 0.9
    found = difference((hard + 0.1).tolist(), hard.tolist(), numbers(100))
    assert found.value == pytest.approx(0.1)
    # None of the draws varies: what 100 items can miss (Wilson) is left.
    missed = 1.959964**2 / (100 + 1.959964**2)
    assert (found.low, found.high) == pytest.approx((0.1 - missed, 0.1 + missed))
    assert found.p < 0.001
    assert found.n == 100


def test_items_of_one_group_count_together() -> None:
    rng = np.random.default_rng(1)
    ours = (rng.random(100) < 0.6).astype(float).tolist()
    theirs = (rng.random(100) < 0.5).astype(float).tolist()
    apart = difference(ours, theirs, numbers(100))
    # The same ten items ten times over are no more evidence than ten items.
    together = difference(ours[:10] * 10, theirs[:10] * 10, [str(i % 10) for i in range(100)])
    assert together.high - together.low > 2 * (apart.high - apart.low)


@pytest.mark.parametrize(("num_groups", "least"), [(4, 0.95), (8, 0.92), (12, 0.91), (40, 0.91)])
def test_few_groups_show_a_difference_rarely_where_there_is_none(num_groups: int, least: float) -> None:
    """150 pairs of models that are as good, on groups of 10 items that each suit one of them: before, the draws of 4
    groups called 15 of 100 different."""
    held, shown = [], []
    for world in range(150):
        rng = np.random.default_rng(world)
        groups = np.repeat(np.arange(num_groups), 10)
        rates = np.clip(rng.random(num_groups) + rng.normal(0, 0.25, (2, num_groups)), 0, 1)[:, groups]
        ours, theirs = (rng.random((2, len(groups))) < rates).astype(float)
        found = difference(ours.tolist(), theirs.tolist(), [str(each) for each in groups])
        held.append(found.low <= 0 <= found.high)
        shown.append(found.p <= 0.05)
    assert np.mean(held) >= least
    assert np.mean(shown) <= 1 - least


def test_the_interval_holds_a_difference_that_there_is() -> None:
    """200 made-up pairs on 12 groups of 5 items, the truth being 0.1: 90 to 99 % of the intervals hold it."""
    held = []
    for world in range(200):
        rng = np.random.default_rng(world)
        groups = np.repeat(np.arange(12), 5)
        differences = 0.1 + rng.normal(0, 0.2, 12)[groups] + rng.normal(0, 0.4, 60)
        found = difference(differences.tolist(), [0.0] * 60, [str(each) for each in groups])
        held.append(found.low <= 0.1 <= found.high)
    assert 0.90 <= np.mean(held) <= 0.99


@pytest.mark.parametrize(("ours", "theirs"), [(1, 0), (11, 10), (51, 50), (10, 10)])
def test_models_that_are_all_but_as_good_have_a_narrow_interval(ours: int, theirs: int) -> None:
    """One item more of a thousand: the limits are those of the normal distribution, and hold 0."""
    values = [1.0] * ours + [0.0] * theirs + [1.0] * (1000 - ours - theirs)
    others = [0.0] * ours + [1.0] * theirs + [1.0] * (1000 - ours - theirs)
    found = difference(values, others, numbers(1000))
    assert found.low <= 0 <= found.high
    half = max(1.96 * math.sqrt(ours + theirs) / 1000, abs(found.value))
    assert found.high - found.value == pytest.approx(half, rel=0.1)
    assert found.p == pytest.approx(1.0, abs=0.01)


def test_a_mean_over_items_heeds_groups_that_are_its_cases() -> None:
    """A simulator's tasks: their mean of means draws items, moves over all items draw tasks."""
    rng = np.random.default_rng(0)
    told = 0
    for _ in range(40):
        task = rng.normal(0, 5, (2, 30))
        models = [
            [
                {
                    "id": f"{t}-{e}",
                    "case": f"t{t}",
                    "group": f"t{t}",
                    "scores": {"moves": 20 + task[model, t] + rng.normal()},
                }
                for t in range(30)
                for e in range(9)
            ]
            for model in range(2)
        ]
        how = {"score": "moves", "cases": [], "by_case": False, "weight": ""}
        told += PairedMetric(how, models[0], models[1]).difference().p < 0.05
    assert told <= 6


def test_what_is_plain_is_shown_with_a_small_p() -> None:
    """So that it stays so among a hundred rows that are tested together."""
    found = difference([1.0] * 200 + [0.0] * 100, [0.0] * 300, numbers(300))
    assert found.p < 1e-6
    assert 0.6 < found.low < found.value < found.high < 0.73


@pytest.mark.parametrize(("num_groups", "p"), [(2, 0.5), (4, 0.125), (6, 0.03125)])
def test_groups_that_all_say_the_same_are_a_permutation_test(num_groups: int, p: float) -> None:
    """No draw varies, and yet four of four is what one of eight pairs of equal models does."""
    found = difference([1.0] * 10 * num_groups, [0.0] * 10 * num_groups, [str(i // 10) for i in range(10 * num_groups)])
    assert found.p == pytest.approx(p)
    assert (found.low <= 0) == (p > 0.05)
    assert found.low <= 1 - 1.959964**2 / (num_groups + 1.959964**2) + 1e-9
    items = difference([1.0] * num_groups, [0.0] * num_groups, numbers(num_groups))
    assert items.p == pytest.approx(mcnemar([True] * num_groups, [False] * num_groups))


def test_a_score_that_not_all_replies_have_is_compared_where_both_have_it() -> None:
    how = {"score": "valid", "cases": [], "by_case": False, "weight": ""}

    def items(valid: Mapping[int, float]) -> list[dict[str, Any]]:
        return [
            {"id": str(i), "case": "case", "group": str(i), "scores": {"valid": valid[i]} if i in valid else {}}
            for i in range(100)
        ]

    pair = PairedMetric(how, items({0: 1.0}), items(dict.fromkeys(range(100), 0.0)))
    assert (pair.first, pair.second, pair.n) == (1.0, 0.0, 1)
    assert pair.difference().p == 1.0
    nothing = PairedMetric(how, items({0: 1.0}), items({1: 1.0}))
    assert (math.isnan(nothing.first), nothing.n) == (True, 0)


def test_one_group_tells_nothing() -> None:
    alone = difference([1.0, 1.0], [0.0, 1.0], ["a", "a"])
    assert (alone.value, alone.low, alone.high, alone.p) == (0.5, -1.0, 1.0, 1.0)


def test_a_p_value_is_never_zero() -> None:
    assert two_sided(np.full(999, 0.3)) == pytest.approx(0.002)
    assert two_sided(np.array([-1.0, 1.0])) == 1.0


@pytest.mark.parametrize(
    ("only_ours", "only_theirs", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (10, 2, 0.0386), (2, 10, 0.0386), (6, 0, 0.03125)],
)
def test_mcnemar_is_exact(only_ours: int, only_theirs: int, p: float) -> None:
    ours = [True] * only_ours + [False] * only_theirs + [True, False]
    theirs = [False] * only_ours + [True] * only_theirs + [True, False]
    assert mcnemar(ours, theirs) == pytest.approx(p, abs=1e-4)


def test_mcnemar_needs_the_same_items() -> None:
    with pytest.raises(ValueError, match="Ours has 1 items and theirs 2"):
        mcnemar([True], [True, False])


def test_a_number_that_hardly_any_draw_has_is_not_told() -> None:
    found = told_apart(0.5, np.full(20, 0.5), np.full(50, 0.5), np.ones(12))
    assert (found.low, found.high, found.p) == (-math.inf, math.inf, 1.0)
