"""Means with honest intervals: items of one group (a template, a topic) are not independent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

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


def _wilson(mean: float, n: float) -> tuple[float, float]:
    centre = (mean + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(mean * (1 - mean) / n + Z95**2 / (4 * n * n))
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))
