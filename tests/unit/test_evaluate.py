"""What a reply is read as, and the statistics of scores."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agentflan_ray.evaluate.hallucination import read
from agentflan_ray.evaluate.stats import bootstrap, mean_with_interval

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


def test_bootstrap_draws_whole_groups_and_repeats() -> None:
    values = np.array([1.0] * 10 + [0.0] * 10)
    groups = ["a"] * 10 + ["b"] * 10
    first = bootstrap(lambda chosen: float(values[chosen].mean()), groups)
    assert first == bootstrap(lambda chosen: float(values[chosen].mean()), groups) == (0.0, 1.0)
