"""Means with honest intervals: items of one group (a template, a topic) are not independent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

Floats = npt.NDArray[np.float64]

Z95 = 1.959964


class Estimate(NamedTuple):
    """A mean over ``n`` items and its 95 % interval."""

    value: float
    n: int
    low: float
    high: float


def mean_with_interval(values: Sequence[float], groups: Sequence[str]) -> Estimate:
    """The mean of scores in [0, 1] and a Wilson interval at the effective sample size.

    The cluster-robust variance of the mean (Miller 2024, "Adding Error Bars to Evals", section 2.2) over the variance
    of independent items is the design effect, which divides n (Korn and Graubard 1998). Where all scores are equal no
    variance can be seen; then each group counts as one item, so that 5 of 5 is not reported as certain.
    """
    if len(values) != len(groups):
        raise ValueError(f"{len(values)} values for {len(groups)} groups; each value needs its group.")
    n = len(values)
    if n == 0:
        return Estimate(math.nan, 0, 0.0, 1.0)
    scores = np.asarray(values, dtype=np.float64)
    mean = float(scores.mean())
    _, members = np.unique(np.asarray(groups), return_inverse=True)
    num_groups = int(members.max()) + 1
    independent = float(((scores - mean) ** 2).sum()) / n**2
    sums = np.bincount(members, weights=scores - mean)
    clustered = float((sums**2).sum()) / n**2
    if independent == 0 or num_groups == 1:
        effective = float(num_groups)
    else:
        # The effective size lies between one item per group and one per item.
        effective = float(np.clip(n * independent / max(clustered, 1e-12), min(num_groups, n), n))
    low, high = _wilson(mean, effective)
    return Estimate(mean, n, low, high)


def bootstrap(
    statistic: Callable[[np.ndarray], float], groups: Sequence[str], seed: int = 0, draws: int = 2000
) -> tuple[float, float]:
    """The 95 % interval of ``statistic`` of item numbers, drawing whole groups with replacement."""
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    items = [np.flatnonzero(members == group) for group in range(len(names))]
    rng = np.random.default_rng(seed)
    values = [
        statistic(np.concatenate([items[group] for group in rng.integers(0, len(items), len(items))]))
        for _ in range(draws)
    ]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def drawn_groups(num_groups: int, draws: int, seed: int = 0) -> Floats:
    """How often each group is in each bootstrap draw of as many groups with replacement, (draws, num_groups)."""
    even = np.full(num_groups, 1 / num_groups)
    return np.random.default_rng(seed).multinomial(num_groups, even, size=draws).astype(np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values for testing all of these at once (Holm 1979, "A Simple Sequentially Rejective Multiple Test
    Procedure"): where those below a level count as shown, at most that share of families shows anything false."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [1.0] * len(p_values)
    so_far = 0.0
    for rank, place in enumerate(order):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = so_far
    return adjusted


class Difference(NamedTuple):
    """Ours minus theirs over the same ``n`` items: the mean, its 95 % interval, and a two-sided p-value."""

    value: float
    n: int
    low: float
    high: float
    p: float


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], groups: Sequence[str], seed: int = 0, draws: int = 10_000
) -> Difference:
    """Two models on the same items, by a paired bootstrap that draws whole groups with replacement.

    What makes an item hard is the same for both and falls out. The draws are stretched by ``sqrt(G / (G - 1))`` for G
    groups, which undoes the bootstrap's bias with few. With one group the interval is without end.
    """
    if not len(ours) == len(theirs) == len(groups):
        raise ValueError(
            f"Ours has {len(ours)} items, theirs {len(theirs)}, and there are {len(groups)} groups; each item needs "
            "one of each."
        )
    if not len(ours):
        return Difference(math.nan, 0, math.nan, math.nan, 1.0)
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    _, members = np.unique(np.asarray(groups), return_inverse=True)
    sums, counts = np.bincount(members, weights=differences), np.bincount(members)
    mean, num_groups = float(differences.mean()), len(sums)
    if num_groups == 1:
        return Difference(mean, len(differences), -math.inf, math.inf, 1.0)
    times = drawn_groups(num_groups, draws, seed)
    drawn = mean + math.sqrt(num_groups / (num_groups - 1)) * (times @ sums / (times @ counts) - mean)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Difference(mean, len(differences), float(low), float(high), two_sided(drawn))


def two_sided(draws: Floats) -> float:
    """The p-value of "it is 0" from bootstrap draws of a difference: the smallest level whose interval leaves 0 out."""
    beyond = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return min(1.0, 2 * (beyond + 1) / (len(draws) + 1))


def mcnemar(ours: Sequence[bool], theirs: Sequence[bool]) -> float:
    """The exact p-value of McNemar's test (1947) of two models on the same independent items, right or wrong.

    Only items that one alone got right tell them apart; where both are as good, each is as often that one.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"Ours has {len(ours)} items and theirs {len(theirs)}; they must be the same items.")
    only_ours = sum(mine and not other for mine, other in zip(ours, theirs, strict=True))
    only_theirs = sum(other and not mine for mine, other in zip(ours, theirs, strict=True))
    return min(1.0, 2 * float(binom.cdf(min(only_ours, only_theirs), only_ours + only_theirs, 0.5)))


def _wilson(mean: float, n: float) -> tuple[float, float]:
    centre = (mean + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(mean * (1 - mean) / n + Z95**2 / (4 * n * n))
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))
