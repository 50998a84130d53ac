"""Means with honest intervals: items of one group (a template, a topic) are not independent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binom
from scipy.stats import t as student

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
    of independent items is the design effect, which divides n; so does the square of the ratio of t-quantiles, as few
    groups tell little of that variance (Korn and Graubard 1998). The least that n items are worth is as many as
    groups of one size would be (:func:`effective_groups`). Where all scores are equal no variance can be seen; then
    they are worth that, so that 5 of 5 is not reported as certain.
    """
    if not values:
        return Estimate(math.nan, 0, 0.0, 1.0)
    mean, effective, least = _worth(values, groups)
    n = len(values)
    if least > 1:
        effective *= float(student.ppf(0.975, n - 1) / student.ppf(0.975, least - 1)) ** 2
    low, high = _wilson(mean, max(1.0, effective))
    return Estimate(mean, n, low, high)


def standard_error(values: Sequence[float], groups: Sequence[str]) -> float:
    """The standard error of that mean: what a normal distribution with Wilson's interval has, which is above 0 where
    all scores are equal; NaN without a value."""
    if not values:
        return math.nan
    mean, effective, _ = _worth(values, groups)
    low, high = _wilson(mean, effective)
    return (high - low) / (2 * Z95)


def mean_with_t_interval(values: Sequence[float], groups: Sequence[str]) -> Estimate:
    """For scores that are no share: Student's t at one degree of freedom less than there are groups (Cameron and
    Miller 2015, "A Practitioner's Guide to Cluster-Robust Inference", section VI.D), unequal ones counting as fewer
    (:func:`effective_groups`). Fewer than two have no interval."""
    mean, variance, _, sizes = _clustered(values, groups)
    worth = effective_groups(sizes)
    if worth < 2:
        return Estimate(mean, len(values), math.nan, math.nan)
    half = float(student.ppf(0.975, worth - 1)) * math.sqrt(variance)
    return Estimate(mean, len(values), mean - half, mean + half)


def _worth(values: Sequence[float], groups: Sequence[str]) -> tuple[float, float, float]:
    """The mean, how many independent items these are worth, and the least that they can be."""
    mean, clustered, independent, sizes = _clustered(values, groups)
    least = effective_groups(sizes)
    if len(sizes) == 1 or independent == 0:
        return mean, least, least
    n = len(values)
    return mean, float(np.clip(n * independent / max(clustered, 1e-12), least, n)), least


def _clustered(values: Sequence[float], groups: Sequence[str]) -> tuple[float, float, float, npt.NDArray[np.int64]]:
    """The mean, its variance by groups (0 with one group), that of independent items, and the groups' sizes."""
    if len(values) != len(groups):
        raise ValueError(f"{len(values)} values for {len(groups)} groups; each value needs its group.")
    n = len(values)
    scores = np.asarray(values, dtype=np.float64)
    mean = float(scores.mean())
    _, members = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(members)
    sums = np.bincount(members, weights=scores - mean)
    clustered = float((sums**2).sum()) / n**2 * len(sizes) / max(1, len(sizes) - 1)
    return mean, clustered, float(((scores - mean) ** 2).sum()) / n**2, sizes


def effective_groups(sizes: Floats | npt.NDArray[np.int64]) -> float:
    """How many groups of one size tell as much as these (Kish 1965): 1 to as many as there are."""
    return float(sizes.sum()) ** 2 / float((sizes.astype(np.float64) ** 2).sum())


def missed(sizes: Floats) -> float:
    """How large a difference of two shares may be that shows on none of the items: Wilson's upper limit at 0 of as many
    as there are effective groups."""
    return Z95**2 / (effective_groups(sizes) + Z95**2)


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


def told_apart(value: float, drawn: Floats, swapped: Floats | None, sizes: Floats, unseen: float = 0.0) -> Difference:
    """What a difference of two models on the same items says of them.

    Args:
        value: Ours minus theirs.
        drawn: The difference in bootstrap draws of whole groups, (draws,).
        swapped: The difference where the two models' scores are exchanged in groups (:func:`swaps`), (draws,). None for
            a number made of several means: where one of them is better and another worse, every exchange shows that,
            and hides how sure the sum is.
        sizes: Items of each group, (groups,).
        unseen: Half the interval where none of the draws varies (:func:`missed`).

    The interval is Student's, of the standard deviation of the draws, which ``sqrt(G / (G - 1))`` frees of the
    bootstrap's bias with few groups, at one degree of freedom less than :func:`effective_groups`. The p-value of
    a mean is the larger of its and that of the permutation test that exchanges the models in whole groups, which is
    exact where they are as good, however few groups there are (of four groups that all say the same it is 1/8); where
    that shows no difference the interval holds 0. With one group, or with fewer than 100 draws that have a value, it is
    without end.
    """
    n, num_groups = int(sizes.sum()), len(sizes)
    if num_groups == 1 or len(drawn) < 100:
        return Difference(value, n, -math.inf, math.inf, 1.0)
    freedom = max(effective_groups(sizes) - 1, 0.1)
    error = math.sqrt(num_groups / (num_groups - 1)) * float(drawn.std())
    varies = error >= 1e-12
    by_draws = 2 * float(student.sf(abs(value) / error, freedom)) if varies else 0.0
    # That all groups exchange the models happens, whether or not a draw does it.
    p = max(by_draws, 2.0 ** (1 - num_groups))
    if abs(value) < 1e-12:
        p = 1.0
    elif swapped is not None:
        p = max(p, float((np.abs(swapped) >= abs(value) - 1e-12).mean()))
    half = float(student.ppf(0.975, freedom)) * error if varies else unseen
    if p > 0.05:
        half = max(half, abs(value))
    return Difference(value, n, value - half, value + half, p)


def swaps(num_groups: int, draws: int, seed: int = 0) -> npt.NDArray[np.bool_]:
    """Which groups exchange the models, (draws, num_groups): every way to do it where there are no more than draws."""
    if 2**num_groups <= draws:
        numbers = np.arange(2**num_groups)[:, None]
        return np.asarray((numbers >> np.arange(num_groups)) % 2 == 1)
    chosen = np.random.default_rng(seed).random((draws, num_groups)) < 0.5
    return np.asarray(chosen)


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
