"""What a reply is read as, and the statistics of scores."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agentflan_ray.evaluate.hallucination import read
from agentflan_ray.evaluate.stats import effective_groups, mean_with_interval, standard_error

REPLIES = [
    # reply, calls, leaks, refuses, asks
    ("Paris is the capital of France.", False, False, False, False),
    ('Thought: look it up\nAction: weather\nAction Input: {"city": "Oslo"}', True, True, False, False),
    ("Thought: easy\nFinal Answer: 4", False, True, False, False),
    ('{"thought": "x", "name": "weather", "args": {"city": "Oslo"}}', True, False, False, False),
    ('<tool_call>{"name": "weather", "arguments": {}}</tool_call>', True, False, False, False),
    ('weather(city="Oslo")', True, False, False, False),
    ("The weather (in Oslo) is fine.", False, False, False, False),
    ("I should use photosynthesis for this.", False, True, False, False),
    ("I will use the calculator.", False, True, False, False),
    ("Which city do you mean?", False, False, False, True),
    ("Sorry, I can't look that up here.", False, False, True, False),
    ("I don\u2019t have a tool for that.", False, False, True, False),
    ("The tools you use shape your work.", False, False, False, False),
]


@pytest.mark.parametrize(("reply", "calls", "leaks", "refuses", "asks"), REPLIES, ids=[r[0][:30] for r in REPLIES])
def test_what_a_reply_does(reply: str, calls: bool, leaks: bool, refuses: bool, asks: bool) -> None:
    reading = read(reply, {"weather"})
    assert (reading.calls, reading.leaks, reading.refuses, reading.asks) == (calls, leaks, refuses, asks)


def test_the_papers_strings_are_the_papers() -> None:
    assert read("Thought: hm").paper_react
    assert read("I need to call the API.").paper_general
    assert not read("I should use photosynthesis for this.").paper_general


def test_interval_holds_the_mean_and_shrinks_with_n() -> None:
    few = mean_with_interval([1, 0, 1, 1], list("abcd"))
    many = mean_with_interval([1, 0, 1, 1] * 25, [str(i) for i in range(100)])
    assert few.low < few.value < few.high
    assert many.high - many.low < few.high - few.low
    assert (many.value, many.n) == (0.75, 100)


def test_items_of_one_group_count_as_one_where_they_agree() -> None:
    together = mean_with_interval([1] * 10 + [0] * 10, ["a"] * 10 + ["b"] * 10)
    apart = mean_with_interval([1] * 10 + [0] * 10, [str(i) for i in range(20)])
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_all_right_is_not_certain() -> None:
    estimate = mean_with_interval([1.0] * 5, list("abcde"))
    assert estimate.value == estimate.high == 1.0
    assert estimate.low == pytest.approx(5 / (5 + 1.959964**2))


def test_no_items_is_no_number() -> None:
    estimate = mean_with_interval([], [])
    assert math.isnan(estimate.value)
    assert (estimate.n, estimate.low, estimate.high) == (0, 0.0, 1.0)


def test_coverage_of_the_interval_under_clustering() -> None:
    """Of 400 samples with strongly alike items in 12 groups, about 95 % of the intervals hold the true mean."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        rates = rng.beta(2, 2, 12)
        values = [float(rng.random() < rate) for rate in rates for _ in range(5)]
        estimate = mean_with_interval(values, [str(g) for g in range(12) for _ in range(5)])
        hits += estimate.low <= 0.5 <= estimate.high
    assert 0.90 <= hits / 400 <= 0.99


def test_groups_of_unequal_size_are_worth_fewer() -> None:
    assert effective_groups(np.array([5, 5, 5])) == 3
    assert effective_groups(np.array([100, *[1] * 20])) == pytest.approx(120**2 / (100**2 + 20))
    one_large = [1.0] * 30 + [1.0] * 5
    estimate = mean_with_interval(one_large, ["large"] * 30 + list("abcde"))
    assert estimate.low < 0.3  # one group tells little, however many items it has


@pytest.mark.parametrize("sizes", [[10] * 5, [12] * 11, [3, 5, 30] * 6, [1] * 60 + [25]], ids=str)
def test_the_interval_covers_whatever_the_sizes_of_groups(sizes: list[int]) -> None:
    """300 samples of groups that are alike inside (half of the variance is between them): 91 % and more are right."""
    rng = np.random.default_rng(1)
    groups = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
    hits = 0
    for _ in range(300):
        rates = rng.beta(0.5, 0.5, len(sizes))
        values = [float(rng.random() < rate) for rate, size in zip(rates, sizes, strict=True) for _ in range(size)]
        estimate = mean_with_interval(values, groups)
        hits += estimate.low <= 0.5 <= estimate.high
    assert hits / 300 >= 0.91


def test_the_standard_error_is_that_of_wilsons_interval() -> None:
    right = [1.0, 0.0] * 50
    assert standard_error(right, [str(i) for i in range(100)]) == pytest.approx(0.05, rel=0.03)
    assert standard_error([1.0] * 5, list("abcde")) == pytest.approx(1.959964**2 / (5 + 1.959964**2) / 2 / 1.959964)
    assert math.isnan(standard_error([], []))
