"""Metrics with intervals from samples, by case and combined."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agentflan_ray.evaluate.benchmark import Item, Metric, Reply, Request, Sample
from agentflan_ray.evaluate.stats import Estimate, mean_with_interval
from agentflan_ray.evaluate.summary import Combined, combine, definition, estimate, summarise

ASKED = Request(({"role": "user", "content": "?"},))


def sample(number: int, case: str, group: str | None = None, error: str | None = None, **scores: float) -> Sample:
    item = Item(f"i{number}", group or f"g{number}", case, {})
    reply = Reply("yes", "length" if number % 4 == 0 else "stop", prompt_tokens=10, new_tokens=5)
    return Sample(item, ((ASKED, reply),), {}, scores, 0.5, error)


def test_a_mean_is_that_of_stats_and_errors_are_in_no_mean() -> None:
    samples = [sample(i, "a", f"g{i % 5}", right=float(i % 3 == 0)) for i in range(20)]
    failed = sample(99, "a", error="the simulator died twice")
    summary = summarise([*samples, failed], [Metric("accuracy", "right", scale=100)])
    expected = mean_with_interval([s.scores["right"] for s in samples], [s.item.group for s in samples])
    row = summary["metrics"]["accuracy"]
    assert (row["value"], row["n"], row["low"], row["high"]) == (expected.value, 20, expected.low, expected.high)
    assert (row["better"], row["scale"]) == ("high", 100)
    assert row["definition"] == {"score": "right", "cases": [], "by_case": False, "weight": ""}
    assert summary["errors"] == {"items": 1, "reasons": {"the simulator died twice": 1}}
    assert summary["items"] == 21
    assert summary["cases"]["a"]["errors"] == 1
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_each_case_weighs_the_same_by_case_and_items_weigh_the_same_else() -> None:
    samples = [sample(i, "big", right=1.0) for i in range(90)] + [sample(i + 90, "small", right=0.0) for i in range(10)]
    metrics = [Metric("by item", "right"), Metric("by case", "right", by_case=True)]
    rows = summarise(samples, metrics)["metrics"]
    assert rows["by item"]["value"] == pytest.approx(0.9)
    assert rows["by case"]["value"] == pytest.approx(0.5)
    assert rows["by case"]["n"] == 100
    assert rows["by case"]["low"] < 0.5 < rows["by case"]["high"]


def test_an_item_that_is_several_things_counts_so_often() -> None:
    samples = [sample(1, "a", right=1.0, things=1.0), sample(2, "a", right=0.0, things=3.0)] * 10
    row = summarise(samples, [Metric("pooled", "right", weight="things")])["metrics"]["pooled"]
    expected = mean_with_interval([1.0, 0.0, 0.0, 0.0] * 10, ["g1", "g2", "g2", "g2"] * 10)
    assert (row["value"], row["n"], row["low"], row["high"]) == (0.25, 40, expected.low, expected.high)
    assert row["definition"]["weight"] == "things"


def test_a_metric_of_some_cases_leaves_the_others_out() -> None:
    samples = [sample(1, "a", right=1.0), sample(2, "b", right=0.0)]
    summary = summarise(samples, [Metric("only a", "right", cases=("a",))])
    assert (summary["metrics"]["only a"]["value"], summary["metrics"]["only a"]["n"]) == (1.0, 1)
    assert summary["cases"]["b"]["metrics"] == {}


def test_a_score_that_no_sample_has_is_no_number() -> None:
    row = summarise([sample(1, "a", right=1.0)], [Metric("other")])["metrics"]["other"]
    assert (row["value"], row["n"], row["low"], row["high"]) == (None, 0, None, None)


def test_no_samples_make_no_numbers() -> None:
    summary = summarise([], [Metric("right"), Metric("cases", "right", by_case=True)])
    assert summary["metrics"]["cases"]["value"] is None
    assert summary["replies"]["share_cut"] is None


def test_the_harmonic_mean_is_low_where_one_side_is() -> None:
    sides = (Metric("calls", "right", cases=("call",)), Metric("holds", "right", cases=("hold",)))
    metric = Combined("two_sided", parts=sides, how="harmonic")
    always = [sample(i, "call", right=1.0) for i in range(50)] + [sample(i + 50, "hold", right=0.0) for i in range(50)]
    number = estimate(always, metric)
    assert (number.value, number.n, number.low) == (0.0, 100, 0.0)
    assert 0.05 < number.high < 0.2
    half = [sample(i, "call", right=1.0) for i in range(50)] + [
        sample(i + 50, "hold", right=float(i % 2)) for i in range(50)
    ]
    assert estimate(half, metric).value == pytest.approx(2 / 3)
    assert estimate(half, Combined("mean", parts=sides)).value == pytest.approx(0.75)


def test_combined_metrics_nest() -> None:
    inner = Combined("inner", parts=(Metric("x"), Metric("y")))
    outer = Combined("outer", parts=(inner, Metric("z")))
    assert estimate([sample(1, "a", x=0.0, y=1.0, z=1.0)], outer).value == pytest.approx(0.75)
    assert [part.get("how", part.get("score")) for part in definition(outer)["parts"]] == ["mean", "z"]


def test_where_groups_are_the_cases_their_items_count() -> None:
    """Thirty tasks of ten episodes, each task a case and a group: a case's interval is that of ten items."""
    samples = [
        sample(10 * t + e, f"t{t}", f"t{t}", score=float((t + e) % 3 == 0)) for t in range(30) for e in range(10)
    ]
    summary = summarise(samples, [Metric("mean", "score", by_case=True)])
    row = summary["cases"]["t0"]["metrics"]["mean"]
    assert row["high"] - row["low"] < 0.6
    total = summary["metrics"]["mean"]
    assert total["high"] - total["low"] < 0.12


def test_scores_that_are_no_shares_have_an_interval_of_students_t() -> None:
    samples = [sample(i, "a", steps=float(value)) for i, value in enumerate([2, 4, 6, 8])]
    row = summarise(samples, [Metric("steps")])["metrics"]["steps"]
    # Standard error sqrt(20 / 3 / 4), t of 3 degrees 3.182.
    assert row["value"] == 5
    assert row["low"] == pytest.approx(5 - 3.1824 * (20 / 12) ** 0.5, abs=1e-3)
    alone = summarise([sample(1, "a", "g", steps=3.0), sample(2, "a", "g", steps=5.0)], [Metric("steps")])
    assert (alone["metrics"]["steps"]["value"], alone["metrics"]["steps"]["low"]) == (4.0, None)


def test_replies_are_counted_by_how_they_ended() -> None:
    weighed = Sample(Item("w", "w", "a", {}), ((ASKED, Reply("A", "choice", 7, 0, (-1.0,))),), {}, {}, 0.25)
    replies = summarise([*(sample(i, "a") for i in range(8)), weighed], [])["replies"]
    assert (replies["replies"], replies["weighed"]) == (8, 1)
    assert replies["finish"] == {"choice": 1, "length": 2, "stop": 6}
    assert (replies["share_cut"], replies["new_tokens"], replies["prompt_tokens"]) == (0.25, 40, 87)
    assert replies["seconds"] == pytest.approx(4.25)


def test_the_combined_interval_covers() -> None:
    """Of 400 draws of three small cases about 95 % of the intervals hold the true mean of case means; a bootstrap
    within cases of six items does not (0.885)."""
    rng = np.random.default_rng(1)
    rates = (0.9, 0.5, 0.2)
    hits = 0
    for _ in range(400):
        parts = [mean_with_interval((rng.random(6) < rate).astype(float).tolist(), list("abcdef")) for rate in rates]
        number = combine(parts, lambda values: sum(values) / len(values))
        hits += number.low <= sum(rates) / 3 <= number.high
    assert 0.92 <= hits / 400 <= 0.995


@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.9, 0.2), (0.05, 0.1), (0.7, 0.02)])
def test_the_interval_of_a_harmonic_mean_covers(rates: tuple[float, float]) -> None:
    """Also near 0, where it moves only if both sides do: at least 93 % of 300 draws of 30 items a side."""
    rng = np.random.default_rng(2)
    sides = (Metric("a", cases=("a",)), Metric("b", cases=("b",)))
    metric = Combined("both", parts=sides, how="harmonic")
    truth = 2 / (1 / rates[0] + 1 / rates[1])
    hits = 0
    for _ in range(300):
        drawn = (rng.random((2, 30)) < np.array(rates)[:, None]).astype(float)
        samples = [
            sample(30 * side + i, "ab"[side], **{"ab"[side]: drawn[side, i]}) for side in range(2) for i in range(30)
        ]
        number = estimate(samples, metric)
        hits += number.low <= truth <= number.high
    assert hits / 300 >= 0.93


def test_limits_stay_within_those_of_the_parts() -> None:
    parts = [Estimate(1.0, 3, 0.4, 1.0), Estimate(0.0, 3, 0.0, 0.6)]
    number = combine(parts, lambda values: sum(values) / len(values))
    assert (number.value, number.n) == (0.5, 6)
    assert 0.2 <= number.low < 0.5 < number.high <= 0.8


def test_means_that_share_groups_go_up_and_down_together() -> None:
    """Two cases of the same 40 groups: of 150 samples 92 % and more of the intervals hold the truth (84 % where the
    cases were taken as independent)."""
    sides = (Metric("x", "m", cases=("x",)), Metric("y", "m", cases=("y",)))
    for how in ("mean", "harmonic"):
        rng = np.random.default_rng(2)
        metric, hits = Combined("both", parts=sides, how=how), 0
        for _ in range(150):
            samples = []
            for group in range(40):
                rate = rng.beta(0.5, 0.5)
                samples += [
                    Sample(
                        Item(f"{group}{case}{k}", str(group), case, {}), (), {}, {"m": float(rng.random() < rate)}, 0.0
                    )
                    for case in "xy"
                    for k in range(5)
                ]
            found = estimate(samples, metric)
            hits += found.low <= 0.5 <= found.high
        assert hits / 150 >= 0.92
