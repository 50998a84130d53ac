"""Two models on the same items: differences with intervals, McNemar's test, and many comparisons at once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agentflan_ray.evaluate.stats import drawn_groups, holm, mcnemar, paired_difference, two_sided


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


def test_what_makes_an_item_hard_falls_out_of_a_difference() -> None:
    """Items from hopeless to trivial: each model's own mean is uncertain, their difference of 0.1 is not."""
    rng = np.random.default_rng(0)
    hard = rng.random(100) * 0.9
    found = paired_difference((hard + 0.1).tolist(), hard.tolist(), [str(item) for item in range(100)])
    assert found.value == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))
    assert found.p < 0.001
    assert found.n == 100


def test_items_of_one_group_count_together() -> None:
    rng = np.random.default_rng(1)
    ours = (rng.random(100) < 0.6).astype(float).tolist()
    theirs = (rng.random(100) < 0.5).astype(float).tolist()
    apart = paired_difference(ours, theirs, [str(item) for item in range(100)])
    # The same ten items ten times over are no more evidence than ten items.
    together = paired_difference(ours[:10] * 10, theirs[:10] * 10, [str(i % 10) for i in range(100)])
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_the_interval_holds_the_truth_with_few_groups_too() -> None:
    """300 made-up pairs of models on 12 groups of 5 items, the truth being 0.1: 89 to 98 % of the intervals hold it."""
    held = []
    for world in range(300):
        rng = np.random.default_rng(world)
        groups = np.repeat(np.arange(12), 5)
        differences = 0.1 + rng.normal(0, 0.2, 12)[groups] + rng.normal(0, 0.4, 60)
        found = paired_difference(differences.tolist(), [0.0] * 60, [str(each) for each in groups], draws=1000)
        held.append(found.low <= 0.1 <= found.high)
    assert 0.89 <= np.mean(held) <= 0.98


def test_one_group_and_no_item_tell_nothing() -> None:
    alone = paired_difference([1.0, 1.0], [0.0, 1.0], ["a", "a"])
    assert (alone.value, alone.low, alone.high, alone.p) == (0.5, -math.inf, math.inf, 1.0)
    assert math.isnan(paired_difference([], [], []).value)
    with pytest.raises(ValueError, match="Ours has 2 items, theirs 1, and there are 2 groups"):
        paired_difference([1.0, 0.0], [1.0], ["a", "b"])


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
