"""Whether a winner is shown to be one: intervals, errors and power on made-up models whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agentflan_ray.evaluate.measures import ItemScores, Measure, Part
from agentflan_ray.search.proof import Proof, prove

MIXES = ("winner", "paper", "proportional", "uniform")
RIGHT = Measure((Part(1.0, "correct", ("chat",)),))
NUM_GROUPS, PER_GROUP = 30, 4
SEED_DEVIATION = 0.04


def runs_of(
    world: int, gains: dict[str, float], seeds: int = 3, deviation: float = SEED_DEVIATION
) -> dict[str, dict[int, list[ItemScores]]]:
    """Models that answer 120 items of 30 groups; a group may suit one mix more than another."""
    rng = np.random.default_rng(world)
    hard = rng.normal(0, 0.15, NUM_GROUPS)
    runs: dict[str, dict[int, list[ItemScores]]] = {}
    for mix in MIXES:
        suits = rng.normal(0, 0.1, NUM_GROUPS)
        runs[mix] = {}
        for seed in range(1, seeds + 1):
            chance = 0.5 + gains.get(mix, 0.0) + rng.normal(0, deviation) + hard + suits
            right = rng.random((NUM_GROUPS, PER_GROUP)) < chance[:, None].clip(0, 1)
            runs[mix][seed] = [
                ItemScores(f"{group}/{item}", "chat", str(group), {"correct": float(right[group, item])})
                for group in range(NUM_GROUPS)
                for item in range(PER_GROUP)
            ]
    return runs


def proof_of(world: int, gains: dict[str, float], draws: int = 400, seeds: int = 3) -> Proof:
    return prove(RIGHT, runs_of(world, gains, seeds), "winner", metric="right", draws=draws)


def test_intervals_cover_the_truth_and_equal_mixes_are_rarely_told_apart() -> None:
    """Of 200 made-up searches with no difference: each interval covers 0 in 92 to 97 %, and in at most 8 % of them any
    of the three comparisons is shown (the family's level is 5 %; the standard error of 200 is 1.5 %)."""
    covered, shown, kept = [], [], []
    for world in range(200):
        proof = proof_of(world, {})
        covered += [each.low <= 0 <= each.high for each in proof.comparisons]
        shown.append(any(each.is_shown for each in proof.comparisons))
        kept.append(all(mix.is_among_best for mix in proof.mixes))
    assert 0.92 <= np.mean(covered) <= 0.97
    assert np.mean(shown) <= 0.08
    assert np.mean(kept) >= 0.87


def test_a_difference_of_the_size_that_matters_is_found() -> None:
    """A gain of 0.2 with 120 items, three seeds and a deviation of 0.04 between seeds: found in four of five."""
    proofs = [proof_of(world, {"winner": 0.2}) for world in range(1000, 1060)]
    assert np.mean([all(each.is_shown for each in proof.comparisons) for proof in proofs]) >= 0.8
    assert np.mean([each.value for proof in proofs for each in proof.comparisons]) == pytest.approx(0.2, abs=0.02)
    assert np.mean([proof.seed_deviation for proof in proofs]) == pytest.approx(
        math.hypot(SEED_DEVIATION, 0.5 / math.sqrt(120)), rel=0.25
    )


def test_a_winner_that_lost_is_not_among_the_best() -> None:
    proof = proof_of(1, {"uniform": 0.35}, draws=4000)
    best = {mix.mix for mix in proof.mixes if mix.is_among_best}
    assert best == {"uniform"}
    worse = next(each for each in proof.comparisons if each.theirs == "uniform")
    assert worse.is_shown
    assert worse.high < 0
    of_winner, of_other = proof.regrets
    assert (of_winner.mix, of_winner.instead_of) == ("winner", "uniform")
    assert (of_other.mix, of_other.instead_of) == ("uniform", "winner")
    assert of_winner.low > 0
    assert of_winner.value == pytest.approx(-of_other.value)
    assert of_other.high < 0


def test_the_best_mix_is_hardly_ever_left_out_of_the_best() -> None:
    left_out = 0
    for world in range(2000, 2100):
        proof = proof_of(world, {"winner": 0.1, "paper": 0.08})
        left_out += not proof.mixes[0].is_among_best
    assert left_out <= 5


def test_holm_counts_all_comparisons() -> None:
    proof = proof_of(3, {"winner": 0.12}, draws=2000)
    smallest = min(proof.comparisons, key=lambda each: each.p)
    assert smallest.p_holm == pytest.approx(min(1.0, 3 * smallest.p))
    assert all(each.p_holm >= each.p for each in proof.comparisons)


def test_what_seeds_do_widens_the_intervals() -> None:
    calm = prove(RIGHT, runs_of(5, {}, deviation=0.0), "winner", metric="right", draws=2000)
    wild = prove(RIGHT, runs_of(5, {}, deviation=0.15), "winner", metric="right", draws=2000)
    assert wild.seed_deviation > 2 * calm.seed_deviation
    widths = [np.mean([each.high - each.low for each in proof.comparisons]) for proof in (calm, wild)]
    assert widths[1] > 1.5 * widths[0]


def test_small_is_good_where_the_direction_says_so() -> None:
    runs = runs_of(7, {"winner": -0.3})
    proof = prove(RIGHT, runs, "winner", metric="false calls", direction="min", draws=2000)
    assert all(each.is_shown and each.low > 0 for each in proof.comparisons)
    own = proof.mixes[0]
    assert 0 < own.low <= own.value <= own.high < 0.5
    assert own.by_seed == pytest.approx(
        [np.mean([i.scores["correct"] for i in items]) for items in runs["winner"].values()]
    )


def test_the_base_model_stands_apart() -> None:
    runs = runs_of(8, {"winner": 0.2})
    proof = prove(RIGHT, runs, "winner", metric="right", base=runs_of(9, {"paper": -0.3})["paper"][1], draws=2000)
    assert proof.against_base is not None
    assert proof.against_base.theirs == "base"
    assert proof.against_base.value > 0.2
    assert proof.against_base.low > 0
    assert len(proof.comparisons) == 3


def test_what_cannot_be_compared_is_refused() -> None:
    runs = runs_of(1, {})
    with pytest.raises(ValueError, match="compares the winner 'other' with other mixes"):
        prove(RIGHT, runs, "other", metric="right")
    with pytest.raises(ValueError, match=r"'paper' was trained with the seeds \[1\], but 'winner' with \[1, 2, 3\]"):
        prove(RIGHT, {**runs, "paper": {1: runs["paper"][1]}}, "winner", metric="right")
    with pytest.raises(ValueError, match="at least 2 seeds"):
        prove(RIGHT, {mix: {1: of[1]} for mix, of in runs.items()}, "winner", metric="right")
    with pytest.raises(ValueError, match="different items: '0/0'"):
        prove(RIGHT, {**runs, "uniform": {**runs["uniform"], 2: runs["uniform"][2][1:]}}, "winner", metric="right")
