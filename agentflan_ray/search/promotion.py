"""Whether a trial goes on at a rung: what all trials seen there have shown, what it foretells, and how sure that is.

A trial's score on some hundred items is noisy, it is early, and what the losses of the capabilities say about it has to
be learnt. So each trial's value *at the end* is estimated from the losses of all trials at this rung and from all their
scores: at this rung, at others, and, of those that are complete, at the end. For trial i at rung t,

    y_it = a_t + b_t' x_i + u_it + noise_it,    noise_it ~ N(0, e_it^2),

with the losses x at this rung and the standard error e of the score. b x is what the losses foretell, u what they
don't. Both are normal; between two rungs they are correlated, the less, the farther apart these lie (the autoregressive
model of Kennedy and O'Hagan, *Biometrika* 87, 2000). The spread of the true values, the part of it that the losses
explain and that correlation are weighed by their likelihood, over a grid: with five trials the likeliest ones alone
would often be 0 or 1. So a noisy score is drawn towards what the losses say; where early scores turn out to foretell
little, they count for little; and where nothing can be scored at a rung (ZeRO-3), complete trials teach what the losses
there mean.

A trial goes on where the probability that it is among the best ``1 / reduction_factor`` of the trials seen at its rung
reaches ``threshold``. Successive halving (Jamieson and Talwalkar, arXiv 1502.07943) is that rule for scores without
noise that never change their order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STOPPED = "stop"
"""The decision that ends a trial."""

END = 1.0
"""The rung of a complete trial."""

_SPREADS = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Variances of the true values that are weighed, relative to that of the scores."""
_EXPLAINED = (0.0, 0.3, 0.6, 0.9, 0.99)
"""Parts of it that the losses explain."""
_CORRELATIONS = (0.3, 0.6, 0.85, 0.97)
"""Correlations of the true values at a quarter of the data and at all of it."""
_LEVEL, _RISE = 100.0, 25.0
"""Prior variances, relative to that of the scores: of the level of all rungs, and of what each has besides."""
_NUM_DRAWS = 1024
"""Draws of the true values. A probability of 0.2 is known to 0.013."""
_SURE = 0.95
"""A trial that will break a constraint with this probability is stopped."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """When a trial goes on at a rung.

    Attributes:
        reduction_factor: The best ``1 / reduction_factor`` of the trials seen at a rung are worth going on with.
        threshold: A trial goes on where it is one of them with at least this probability.
        min_trials: With fewer trials seen at a rung, this one among them, every trial goes on.
        spare_named: Trials of named mixes always go on: they are what the winner is compared with.
    """

    reduction_factor: float = 4.0
    threshold: float = 0.3
    min_trials: int = 4
    spare_named: bool = True

    def __post_init__(self) -> None:
        if self.reduction_factor <= 1:
            raise ValueError(f"reduction_factor must be above 1, but is {self.reduction_factor}.")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must lie between 0 and 1, but is {self.threshold}.")
        if self.min_trials < 2:
            raise ValueError(f"min_trials must be at least 2, but is {self.min_trials}: one trial is always the best.")


class Scored(NamedTuple):
    """A trial's scores at a rung, each with its standard error: of the objectives, all to be minimised, and by how much
    each constraint is broken (0 or less where it is kept)."""

    values: tuple[float, ...]
    deviations: tuple[float, ...]
    excesses: tuple[float, ...] = ()
    excess_deviations: tuple[float, ...] = ()


Part = Callable[[Scored], tuple[tuple[float, ...], tuple[float, ...]]]


@dataclass(frozen=True)
class Shown:
    """What a trial has shown.

    Attributes:
        number: The trial's.
        losses: Validation losses by capability at the rung that is decided about.
        scores: By rung, that of the end among them; none where a rung was not scored.
    """

    number: int
    losses: Mapping[str, float]
    scores: Mapping[float, Scored]


@dataclass(frozen=True)
class Decision:
    """Whether a trial goes on, and the numbers that say so.

    ``estimates`` and ``deviations`` are of the objectives at the end, to be minimised; ``probability`` is that of being
    among the best; ``broken`` the largest probability of a broken constraint.
    """

    goes_on: bool
    reason: str
    estimates: tuple[float, ...]
    deviations: tuple[float, ...]
    probability: float
    broken: float
    num_seen: int

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the study and in ``result.json``; there the estimates have the sign of their metrics."""
        return {
            "decision": "go on" if self.goes_on else STOPPED,
            "reason": self.reason,
            "estimate": list(self.estimates),
            "sd": list(self.deviations),
            "probability": self.probability,
            "broken": self.broken,
            "seen": self.num_seen,
        }


def decide(settings: Promotion, number: int, seen: Sequence[Shown], *, named: bool = False) -> Decision:
    """Whether trial ``number`` goes on, given all trials that were seen at its rung, itself among them.

    Several objectives are ranked by how many trials dominate one (Fonseca and Fleming 1993), in each draw from the
    posterior. A trial that breaks a constraint ranks behind all that keep it (Deb 2002), and one that will break it
    with a probability above 0.95 is stopped, unless none seen at this rung is likelier to keep it than not.

    The answer is the same for the same trials in any order, as all that is drawn depends on their numbers alone.
    """
    shown = sorted(seen, key=lambda each: each.number)
    mine = [each.number for each in shown].index(number)
    example = next((each for trial in shown for each in trial.scores.values()), None)
    if example is None:
        return Decision(True, "no trial seen at this rung has a score yet", (), (), 1.0, 0.0, len(shown))
    features = _features([each.losses for each in shown])
    objectives = [
        _estimate(shown, features, lambda at: (at.values, at.deviations), i) for i in range(len(example.values))
    ]
    limits = [
        _estimate(shown, features, lambda at: (at.excesses, at.excess_deviations), i)
        for i in range(len(example.excesses))
    ]
    rng = np.random.default_rng([number, len(shown)])
    values = np.stack([each.draw(_NUM_DRAWS, rng) for each in objectives], axis=2)
    breaks = np.stack([each.draw(_NUM_DRAWS, rng) > 0 for each in limits], axis=2) if limits else None
    probability = float((_num_ahead(values, breaks, mine) < math.ceil(len(shown) / settings.reduction_factor)).mean())
    risks = np.zeros((len(shown), 1)) if breaks is None else breaks.mean(axis=0)
    hopeless = (risks[mine] > _SURE) & (risks.min(axis=0) < 0.5)
    goes_on, reason = True, f"among the best with probability {probability:.2f}"
    if named and settings.spare_named:
        reason = "a named mix"
    elif len(shown) < settings.min_trials:
        reason = f"one of the first {settings.min_trials - 1} seen at this rung"
    elif hopeless.any():
        goes_on, reason = False, f"breaks a constraint with probability {float(risks[mine].max()):.2f}"
    elif probability < settings.threshold:
        goes_on = False
    return Decision(
        goes_on,
        reason,
        tuple(float(each.mean[mine]) for each in objectives),
        tuple(float(each.deviation[mine]) for each in objectives),
        probability,
        float(risks[mine].max()),
        len(shown),
    )


@dataclass(frozen=True)
class Posterior:
    """What is believed of n true values: a mixture of normal distributions, one for each point of the grid.

    ``shares``: (k,); ``means``: (k, n); ``roots``: (k, n, n), of the covariances.
    """

    shares: Floats
    means: Floats
    roots: Floats

    @property
    def mean(self) -> Floats:
        """(n,)."""
        return np.asarray(self.shares @ self.means, dtype=np.float64)

    @property
    def deviation(self) -> Floats:
        """(n,) standard deviations."""
        second = (self.roots**2).sum(axis=2) + (self.means - self.mean) ** 2
        return np.asarray(np.sqrt(self.shares @ second), dtype=np.float64)

    def draw(self, num: int, rng: np.random.Generator) -> Floats:
        """(num, n) true values, drawn together."""
        chosen = rng.choice(len(self.shares), size=num, p=self.shares)
        normal = rng.standard_normal((num, self.means.shape[1]))
        drawn = self.means[chosen]
        for point in np.unique(chosen):
            drawn[chosen == point] += normal[chosen == point] @ self.roots[point].T
        return drawn


def estimate(of: Ints, rungs: Floats, values: Floats, deviations: Floats, features: Floats) -> Posterior:
    """The true values of n trials at the end; see the module.

    Args:
        of: (m,) which trial each score is of, from 0 to n - 1.
        rungs: (m,) at which rung it was taken.
        values: (m,), m at least 1.
        deviations: (m,) their standard errors.
        features: (n, d) what may foretell the values, standardised.
    """
    num = len(features)
    levels, at = np.unique(np.append(rungs, END), return_inverse=True)
    at, end = at[:-1], int(at[-1])
    middles, scales = _scales(of, at, values, deviations, len(levels))
    scores, noise = (values - middles[at]) / scales[at], (deviations / scales[at]) ** 2 + 1e-6
    distance = np.abs(np.log2(levels[:, None] / levels[None])) / 2
    alike, same = features @ features.T / max(1, features.shape[1]), np.eye(num)
    level = _LEVEL + _RISE * np.eye(len(levels))
    fits, whites, priors = [], [], []
    explained = _EXPLAINED if features.shape[1] else (0.0,)
    correlations = _CORRELATIONS if len(levels) > 1 else (1.0,)
    for spread, part, correlation in itertools.product(_SPREADS, explained, correlations):
        over_trials = spread * (part * alike + (1 - part) * same)
        over_rungs = correlation**distance
        gram = over_trials[np.ix_(of, of)] * over_rungs[np.ix_(at, at)] + level[np.ix_(at, at)]
        across = over_trials[of] * over_rungs[at, end][:, None] + level[at, end][:, None]
        lower = np.linalg.cholesky(gram + np.diag(noise))
        whites.append(solve_triangular(lower, np.column_stack([scores, across]), lower=True))
        priors.append(over_trials + level[end, end])
        fits.append(-0.5 * float((whites[-1][:, 0] ** 2).sum()) - float(np.log(np.diag(lower)).sum()))
    shares = np.exp(np.array(fits) - max(fits))
    kept = np.flatnonzero(shares > 1e-3 * shares.max())
    means = [whites[point][:, 1:].T @ whites[point][:, 0] for point in kept]
    covariances = [priors[point] - whites[point][:, 1:].T @ whites[point][:, 1:] + 1e-7 * same for point in kept]
    return Posterior(
        shares[kept] / shares[kept].sum(),
        middles[end] + scales[end] * np.array(means),
        scales[end] * np.linalg.cholesky(np.array(covariances)),
    )


def _estimate(shown: Sequence[Shown], features: Floats, part: Part, index: int) -> Posterior:
    rows = [
        (trial, rung, part(scored)[0][index], part(scored)[1][index])
        for trial, each in enumerate(shown)
        for rung, scored in sorted(each.scores.items())
    ]
    of, rungs, values, deviations = (np.array(column) for column in zip(*rows, strict=True))
    return estimate(of, rungs, values, deviations, features)


def _scales(of: Ints, at: Ints, values: Floats, deviations: Floats, num_levels: int) -> tuple[Floats, Floats]:
    """Means and spreads of the scores of each rung, (rungs,) both.

    The rung with the most scores has its own spread. That of another is compared with it over the trials that have
    both, as it is mostly the better ones that get farther; as if three more trials had shown no difference.
    """
    counts = np.bincount(at, minlength=num_levels)
    most = int(counts.argmax())
    first = values[at == most]
    scale = math.sqrt(max(float(first.var()), float((deviations[at == most] ** 2).mean()), 1e-16))
    middles, scales = np.full(num_levels, float(first.mean())), np.full(num_levels, scale)
    for level in np.flatnonzero(counts):
        both, here, there = np.intersect1d(of[at == level], of[at == most], return_indices=True)
        middles[level] = float(values[at == level].mean())
        if level != most and len(both) > 1:
            squares = [float(((v - v.mean()) ** 2).sum()) for v in (values[at == level][here], first[there])]
            scales[level] *= math.sqrt((squares[0] / scale**2 + 3) / (squares[1] / scale**2 + 3))
    return middles, scales


def _features(losses: Sequence[Mapping[str, float]]) -> Floats:
    """Standardised losses of the capabilities that every trial has and that differ, (n, d)."""
    names = sorted(set.intersection(*(set(each) for each in losses)))
    columns = np.array([[each[name] for name in names] for each in losses], dtype=np.float64).reshape(len(losses), -1)
    columns = columns[:, (columns.std(axis=0) > 1e-9) & np.isfinite(columns).all(axis=0)]
    return np.asarray((columns - columns.mean(axis=0)) / columns.std(axis=0), dtype=np.float64)


def _num_ahead(values: Floats, breaks: npt.NDArray[np.bool_] | None, mine: int) -> Ints:
    """In each draw, how many trials rank before this one, (draws,).

    ``values``: (draws, n, objectives); ``breaks``: (draws, n, constraints), or None.
    """
    ranks = values[:, :, 0]
    if values.shape[2] > 1:
        ranks = np.stack([_num_dominating(drawn) for drawn in values])
    broken = np.zeros(ranks.shape) if breaks is None else breaks.sum(axis=2)
    own, own_broken = ranks[:, mine, None], broken[:, mine, None]
    before = (broken < own_broken) | ((broken == own_broken) & (ranks < own))
    return np.asarray(before.sum(axis=1), dtype=np.int64)


def _num_dominating(values: Floats) -> Floats:
    """How many rows are no worse than a row in anything and better in something, (n,)."""
    no_worse = (values[:, None] <= values[None]).all(axis=2)
    return np.asarray((no_worse & ~no_worse.T).sum(axis=0), dtype=np.float64)
