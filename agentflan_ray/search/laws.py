"""What is learnt from the trials of a search: the loss of a mixture nobody has trained on yet, and how sure that is.

Two families of models compete:

- ``law``: the log-linear mixing law, loss = c + k * exp(sum_i t_i w_i) (Ye et al., *Data Mixing Laws*,
  arXiv 2403.16952), as a Bayesian regression of log(loss - c) on the weights, with a Gaussian process for what the law
  leaves over: no real loss follows it exactly, and a bare law is sure of itself where it is wrong;
- ``process``: a Gaussian process on the losses themselves.

The process is a linear part in the weights and their square roots (the first tokens of a component count most), and a
Matérn-5/2 part in the Hellinger distance, |sqrt(w) - sqrt(w')|, the natural distance of two distributions.

Where an objective is the mean of several losses (one for each domain), each loss has a law of its own: a sum of
exponentials is no exponential. All losses share one kernel, so that thirteen of them cost one factorisation.
The family with the smallest leave-one-out error is taken, and its uncertainty is scaled by how far its
leave-one-out errors were from what it had expected.

Trials at several fidelities (fractions of the data, sizes of the model) are pooled in two steps. First the losses of
each level are mapped onto those of the level with the most trials by a line of its own (levels and spreads differ:
models of 1M and 1B parameters score 5.3 +- 0.3 and 2.2 +- 0.05 on the same mixtures). What remains is one kernel over
mixtures times a correlation that falls with the logarithm of the ratio of two fidelities (the autoregressive model of
Kennedy and O'Hagan, *Biometrika* 87, 2000, where it has no level of its own), which the likelihood finds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import least_squares, minimize

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Family = Literal["law", "process"]
FAMILIES: tuple[Family, ...] = ("law", "process")

_FLOOR_STEPS = np.geomspace(0.003, 30.0, 40)
"""Floors of a law that are tried, in ranges of the losses below the smallest one. At 30 the law is a straight line."""
_RIDGE = 1e-3
"""Of a law's exponents, per loss: what keeps a component that was never varied from getting any exponent."""
_OUTLIER = 4.0
"""Leave-one-out error, in standard deviations, from which a trial is trusted less."""
_OFFSET = 0.25
"""Prior variance of what is left of a level's offset after it was mapped onto the reference level."""
_JITTER = 1e-6
"""Least noise variance, relative to the losses': keeps the factorisation of 300 trials at equal points possible."""
_MOST_FITTED = 128
"""Trials that the kernel's settings are fitted to; all of them are conditioned on. At 300 that is ten times quicker."""


# ---- the mixing law ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MixingLaw:
    """loss = floor + scale * exp(exponents @ weights); the exponents have the mean 0, the rest is in the scale."""

    floor: float
    scale: float
    exponents: Floats

    def predict(self, weights: Floats) -> Floats:
        """Losses, (n,), of mixtures, (n, number of components)."""
        return np.asarray(self.floor + self.scale * np.exp(weights @ self.exponents), dtype=np.float64)


def fit_law(weights: Floats, losses: Floats) -> MixingLaw:
    """Fit the mixing law to losses, robustly.

    Least squares with Huber's loss (*Ann. Math. Statist.* 35, 1964), so that a run that went wrong does not pull the
    law, from the floor that foretells left-out losses best when log(loss - floor) is a ridge regression on the weights.

    Args:
        weights: (n, number of components), rows on the simplex.
        losses: (n,), finite; n at least 2.

    Raises:
        ValueError: There are fewer than two losses, or one is not finite.
    """
    if len(losses) < 2 or not np.isfinite(losses).all():
        raise ValueError(f"A mixing law needs at least two finite losses, but got {len(losses)}: {losses[:5]}.")
    dim = weights.shape[1]
    smallest, span = float(losses.min()), max(float(np.ptp(losses)), 1e-9 * max(1.0, abs(float(losses.min()))))
    floor = float(_floors(weights, losses[:, None])[0])
    slopes = _ridge(weights, np.log(losses - floor))
    towards_mean = math.sqrt(_RIDGE) * span * (np.eye(dim) - 1 / dim)

    def errors(values: Floats) -> Floats:
        missed = values[0] + np.exp(np.clip(weights @ values[1:], -50, 50)) - losses
        return np.concatenate([missed, towards_mean @ values[1:]])

    def jacobian(values: Floats) -> Floats:
        height = np.exp(np.clip(weights @ values[1:], -50, 50))[:, None]
        rows = np.concatenate([np.ones_like(height), height * weights], axis=1)
        return np.concatenate([rows, np.concatenate([np.zeros((dim, 1)), towards_mean], axis=1)])

    first = np.concatenate([[floor], slopes])
    spread = 1.4826 * float(np.median(np.abs(errors(first)[:-dim])))
    found = least_squares(
        errors,
        first,
        jacobian,
        bounds=([smallest - 40 * span] + [-np.inf] * dim, np.inf),
        loss="huber",
        f_scale=max(1.5 * spread, 1e-6 * span),
        max_nfev=200,
    ).x
    mean = float(found[1:].mean())
    return MixingLaw(float(found[0]), math.exp(mean), found[1:] - mean)


def _ridge(weights: Floats, values: Floats) -> Floats:
    """Slopes of a ridge regression on the weights, drawn to their mean, which, as the weights sum to 1, is the
    intercept."""
    dim = weights.shape[1]
    normal = weights.T @ weights + _RIDGE * len(weights) * (np.eye(dim) - 1 / dim) + 1e-9 * np.eye(dim)
    return np.asarray(np.linalg.solve(normal, weights.T @ values), dtype=np.float64)


def _floors(weights: Floats, losses: Floats) -> Floats:
    """The best floor of each column of losses, by the leave-one-out error of the ridge regression in logarithms."""
    hat = weights @ _ridge(weights, np.eye(len(weights)))
    left = np.maximum(1 - np.diag(hat), 0.05)[:, None]
    smallest = losses.min(axis=0)
    span = np.maximum(np.ptp(losses, axis=0), 1e-9 * np.maximum(1.0, np.abs(smallest)))
    errors = []
    for step in _FLOOR_STEPS:
        logs = np.log(losses - (smallest - step * span))
        without = logs - (logs - hat @ logs) / left
        errors.append(np.abs(np.exp(np.clip(without, -50, 50)) - np.exp(logs)).mean(axis=0))
    return np.asarray(smallest - _FLOOR_STEPS[np.argmin(errors, axis=0)] * span, dtype=np.float64)


# ---- points --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Points:
    """Mixtures at fidelities.

    ``weights``: (n, components), rows on the simplex. ``others``: (n, k) further parameters, scaled to [0, 1], one
    column for each choice of a categorical one. ``fidelity``: (n, q) logarithms of the fidelities relative to the
    target's, 0 at the target.
    """

    weights: Floats
    others: Floats
    fidelity: Floats

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, rows: Ints | npt.NDArray[np.bool_] | slice) -> Points:
        return Points(self.weights[rows], self.others[rows], self.fidelity[rows])

    def at(self, fidelity: Floats) -> Points:
        """The same mixtures at one fidelity, (q,)."""
        return replace(self, fidelity=np.tile(fidelity, (len(self), 1)))

    def at_target(self) -> Points:
        """The same mixtures at the target."""
        return replace(self, fidelity=np.zeros_like(self.fidelity))


def join(parts: Sequence[Points]) -> Points:
    """Several sets of points as one."""
    return Points(
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.others for part in parts]),
        np.concatenate([part.fidelity for part in parts]),
    )


# ---- levels --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Levels:
    """How the losses of each level look on the scale of the reference level: ``loss = offset + slope * reference``.

    ``fidelity``: (levels, q); ``of``: (n,) level of each trial; ``offsets`` and ``slopes``: (levels, outputs).
    """

    fidelity: Floats
    of: Ints
    reference: int
    offsets: Floats
    slopes: Floats

    def to_reference(self, values: Floats) -> Floats:
        """Losses, (n, outputs), as the reference level would have shown them."""
        return np.asarray((values - self.offsets[self.of]) / self.slopes[self.of], dtype=np.float64)

    def nearest_to_target(self) -> int:
        """The level whose line is taken for the target's: its own where it has been observed."""
        return int(np.abs(self.fidelity).sum(axis=1).argmin())

    def nearest(self, points: Points) -> Ints:
        """The observed level nearest to each point."""
        return np.asarray(np.abs(points.fidelity[:, None] - self.fidelity[None]).sum(axis=2).argmin(axis=1), np.int64)


def find_levels(points: Points, values: Floats) -> Levels:
    """Map the losses of every level onto those of the level with the most trials.

    The line of a level is a ridge regression of its losses on what a Gaussian process, fitted to the reference level
    alone, says about the same mixtures. The slope of an output is drawn towards that of all outputs of the level by the
    weight of three trials (two trials of a level would give thirteen wild slopes), and that one towards 1 by the weight
    of half a value. A level with one trial is only shifted.

    Args:
        points: n trials.
        values: (n, outputs) losses.
    """
    fidelity, of = np.unique(np.round(points.fidelity, 9), axis=0, return_inverse=True)
    of = of.ravel()
    counts = np.bincount(of)
    nearness = -np.abs(fidelity).sum(axis=1)
    reference = int(max(range(len(counts)), key=lambda level: (counts[level], nearness[level])))
    outputs = values.shape[1]
    offsets, slopes = np.zeros((len(counts), outputs)), np.ones((len(counts), outputs))
    if len(counts) > 1:
        base = of == reference
        guesses = _smooth(points[base], values[base], points)
        spread = np.maximum(guesses[base].var(axis=0), 1e-24)
        for level in range(len(counts)):
            rows = of == level
            if level == reference:
                continue
            across, up = guesses[rows] - guesses[rows].mean(axis=0), values[rows] - values[rows].mean(axis=0)
            products, squares = (across * up).sum(axis=0) / spread, (across**2).sum(axis=0) / spread
            common = float(np.clip((products.sum() + 0.5) / (squares.sum() + 0.5), 0.02, 50.0))
            slopes[level] = np.clip((products + 3 * common) / (squares + 3), common / 5, common * 5)
            offsets[level] = values[rows].mean(axis=0) - slopes[level] * guesses[rows].mean(axis=0)
    return Levels(fidelity, of, reference, offsets, slopes)


def _smooth(seen: Points, values: Floats, at: Points) -> Floats:
    """A Gaussian process with usual settings, for a first look: (n, outputs)."""
    mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-12)
    basis = _Basis.of(seen)
    settings = _Settings(linear=0.5, matern=0.5, length=0.6, other_length=0.7, reach=np.ones(0), noise=np.full(1, 0.02))
    flat, flat_at = replace(seen, fidelity=np.zeros((len(seen), 0))), replace(at, fidelity=np.zeros((len(at), 0)))
    gram = basis.kernel(settings, flat, flat) + 0.02 * np.eye(len(seen))
    return np.asarray(
        mean + scale * (basis.kernel(settings, flat_at, flat) @ np.linalg.solve(gram, (values - mean) / scale)),
        dtype=np.float64,
    )


# ---- the kernel ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Settings:
    """What the likelihood finds. Variances are relative to the losses' own; ``reach`` is by fidelity, in logarithms;
    ``noise`` by level."""

    linear: float
    matern: float
    length: float
    other_length: float
    reach: Floats
    noise: Floats


@dataclass(frozen=True)
class _Basis:
    """The features of the linear part, centred and scaled as the trials are, so that its variance means the same."""

    centre: Floats
    scale: float

    @classmethod
    def of(cls, points: Points) -> _Basis:
        raw = _features(points)
        centre = raw.mean(axis=0)
        scale = math.sqrt(float(((raw - centre) ** 2).sum(axis=1).mean())) or 1.0
        return cls(centre, scale)

    def features(self, points: Points) -> Floats:
        return np.asarray((_features(points) - self.centre) / self.scale, dtype=np.float64)

    def kernel(self, settings: _Settings, first: Points, second: Points) -> Floats:
        """Prior covariance of the losses at two sets of points: (n, m), without noise."""
        radius = np.sqrt(
            _hellinger(first, second) / settings.length**2 + _apart(first, second) / settings.other_length**2
        )
        over_mixtures = settings.linear * (self.features(first) @ self.features(second).T)
        over_mixtures += settings.matern * _matern(radius)
        ratios = np.abs(first.fidelity[:, None] - second.fidelity[None])
        return np.asarray(
            over_mixtures * np.exp(-(ratios / settings.reach).sum(axis=2)) + _OFFSET * (ratios.sum(axis=2) < 1e-6),
            dtype=np.float64,
        )

    def variance(self, settings: _Settings, points: Points) -> Floats:
        """The diagonal of :meth:`kernel` of points with themselves."""
        squares = (self.features(points) ** 2).sum(axis=1)
        return np.asarray(settings.linear * squares + settings.matern + _OFFSET, dtype=np.float64)


def _features(points: Points) -> Floats:
    centred = points.others - 0.5
    parts = [points.weights, np.sqrt(points.weights), 0.5 * centred, 0.5 * centred**2]
    return np.asarray(np.concatenate(parts, axis=1), dtype=np.float64)


def _hellinger(first: Points, second: Points) -> Floats:
    """Squared distances of the square roots of the weights, from 0 to 2."""
    products = np.sqrt(first.weights) @ np.sqrt(second.weights).T
    return np.asarray(np.maximum(2 - 2 * products, 0.0), dtype=np.float64)


def _apart(first: Points, second: Points) -> Floats:
    """Squared distances of the other parameters."""
    return np.asarray(((first.others[:, None] - second.others[None]) ** 2).sum(axis=2), dtype=np.float64)


def _matern(radius: Floats) -> Floats:
    root = math.sqrt(5) * radius
    return np.asarray((1 + root + root**2 / 3) * np.exp(-root), dtype=np.float64)


# ---- surrogates ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gains:
    """What observations could change: ``means`` (targets,), and ``shifts`` (options, targets), the change of each
    mean for an observation that turns out one standard deviation higher than expected."""

    means: Floats
    shifts: Floats


class Surrogate:
    """The losses of one objective over mixtures and fidelities.

    Args:
        points: n trials.
        losses: (n,), smaller is better.
        parts: (n, outputs) losses whose mean the objective is; each is modelled for itself.
        families: The families that compete.
        deviations: (n,) standard errors of the losses, as far as they are known. They come on top of the noise of each
            level, which is found.
    """

    def __init__(
        self,
        points: Points,
        losses: Floats,
        parts: Floats | None = None,
        families: Sequence[Family] = FAMILIES,
        deviations: Floats | None = None,
    ) -> None:
        values = losses[:, None] if parts is None else parts
        levels = find_levels(points, values)
        goal = levels.nearest_to_target()
        to_target = (levels.offsets[goal], levels.slopes[goal])
        aligned = levels.to_reference(values)
        errors = (np.zeros(len(losses)) if deviations is None else deviations)[:, None] / levels.slopes[levels.of]
        fits = [_Fit(points, aligned, errors, levels, family, to_target) for family in families]
        self.levels = levels
        self.errors: dict[Family, float] = {fit.family: fit.error for fit in fits}
        """Leave-one-out error of each family: mean absolute error, in losses of the target."""
        self._fit = min(fits, key=lambda fit: fit.error)

    @property
    def family(self) -> Family:
        """The family that was chosen."""
        return self._fit.family

    @property
    def calibration(self) -> float:
        """What the uncertainty is multiplied by: 1 where leave-one-out errors were as large as expected."""
        return self._fit.calibration

    def mean(self, points: Points) -> Floats:
        """Expected losses of the mixtures at the target, (n,)."""
        return self._fit.losses(self._fit.scores(points.at_target()))

    def deviation(self, points: Points) -> Floats:
        """Standard deviations of these losses, without the noise of a trial, (n,)."""
        at = points.at_target()
        return self._fit.steepness(self._fit.scores(at)) * np.sqrt(self._fit.variance(at))

    def gains(self, targets: Points, options: Points, pending: Points) -> Gains:
        """How an observation of each option would move the means of the targets, given those that are pending."""
        at = targets.at_target()
        scores = self._fit.scores(at)
        covariance, variance = self._fit.covariance(at, options, pending)
        return Gains(self._fit.losses(scores), self._fit.steepness(scores) * covariance / np.sqrt(variance)[:, None])


class _Fit:
    """One family, fitted. Its scores are what the Gaussian process is about: losses, or their logarithms over a floor,
    each output centred and scaled to variance 1."""

    def __init__(
        self,
        points: Points,
        losses: Floats,
        errors: Floats,
        levels: Levels,
        family: Family,
        to_target: tuple[Floats, Floats],
    ) -> None:
        self.family = family
        self.calibration = 1.0
        self._points = points
        self._levels = levels
        self._to_target = to_target
        self._floors = None if family == "process" else _floors(points.weights, losses)
        raw = losses if self._floors is None else np.log(losses - self._floors)
        self._centre, self._scale = raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-12)
        self._scores = (raw - self._centre) / self._scale
        steepness = 1.0 if self._floors is None else 1 / (losses - self._floors)
        self._known = ((errors * steepness / self._scale) ** 2).mean(axis=1)
        """Variances of the trials' known errors."""
        counts = np.bincount(levels.of)
        self._usual_error = np.bincount(levels.of, weights=self._known) / counts
        """Their mean at each level."""
        self._basis = _Basis.of(points)
        self._doubt = np.ones(len(points)) if self._floors is None else _noise_of_logarithms(points.weights, raw)
        self._condition(self._likeliest())
        errors, expected = self._left_out()
        far = np.abs(errors) / expected
        good = far <= _OUTLIER
        if not good.all():
            self._doubt *= np.where(good, 1.0, far**2)
            self._condition(self._likeliest())
            errors, expected = self._left_out()
        self.error = float(np.abs(errors[good]).mean())
        self.calibration = float(np.clip(np.sqrt(((errors / expected)[good] ** 2).mean()), 0.7, 3.0))

    def scores(self, points: Points) -> Floats:
        """Expected scores, (n, outputs)."""
        return np.asarray(self._basis.kernel(self._settings, points, self._points) @ self._alpha, dtype=np.float64)

    def variance(self, points: Points) -> Floats:
        """Their variance in units of the kernel, (n,)."""
        half = solve_triangular(self._lower, self._basis.kernel(self._settings, self._points, points), lower=True)
        variance = self._basis.variance(self._settings, points) - (half**2).sum(axis=0)
        return np.asarray(np.maximum(variance, 1e-12), dtype=np.float64)

    def losses(self, scores: Floats) -> Floats:
        """The mean over the outputs in losses of the target, (n,)."""
        raw = self._centre + self._scale * scores
        losses = raw if self._floors is None else self._floors + np.exp(np.minimum(raw, 50))
        offset, slope = self._to_target
        return np.asarray((offset + slope * losses).mean(axis=1), dtype=np.float64)

    def steepness(self, scores: Floats) -> Floats:
        """Standard deviation of the mean over the outputs for a unit of the kernel's, (n,)."""
        slopes = self._to_target[1] * self._scale / scores.shape[1] * np.ones_like(scores)
        if self._floors is not None:
            slopes = slopes * np.exp(np.minimum(self._centre + self._scale * scores, 50))
        variance = ((slopes @ self._together) * slopes).sum(axis=1)
        return np.asarray(self.calibration * np.sqrt(np.maximum(variance, 1e-300)), dtype=np.float64)

    def covariance(self, targets: Points, options: Points, pending: Points) -> tuple[Floats, Floats]:
        """Posterior covariance of options and targets, (options, targets), and variance of an observation, (options,).

        A pending trial counts as an observation of just what is expected there, which changes no mean (the kriging
        believer of Ginsbourger, Le Riche and Carraro, 2010).
        """
        seen, lower = self._points, self._lower
        if len(pending):
            seen = join([seen, pending])
            noise = np.concatenate([self._noise, self._noise_of_new(pending)])
            lower = np.linalg.cholesky(self._basis.kernel(self._settings, seen, seen) + np.diag(noise))
        to_targets = solve_triangular(lower, self._basis.kernel(self._settings, seen, targets), lower=True)
        to_options = solve_triangular(lower, self._basis.kernel(self._settings, seen, options), lower=True)
        covariance = self._basis.kernel(self._settings, options, targets) - to_options.T @ to_targets
        variance = self._basis.variance(self._settings, options) - (to_options**2).sum(axis=0)
        return covariance, np.maximum(variance, 1e-12) + self._noise_of_new(options)

    def _noise_of_new(self, points: Points) -> Floats:
        """Variance of the noise of trials to come, (n,)."""
        level = self._levels.nearest(points)
        return np.asarray(self._settings.noise[level] + self._usual_error[level], dtype=np.float64)

    def _likeliest(self) -> _Settings:
        num = len(self._scores)
        some = np.arange(num) if num <= _MOST_FITTED else np.linspace(0, num - 1, _MOST_FITTED).astype(np.int64)
        doubt = np.equal.outer(np.arange(len(self._levels.fidelity)), self._levels.of) * self._doubt
        return _likeliest(self._basis, self._points[some], self._scores[some], doubt[:, some], self._known[some])

    def _condition(self, settings: _Settings) -> None:
        self._settings = settings
        self._noise = settings.noise[self._levels.of] * self._doubt + self._known + _JITTER
        gram = self._basis.kernel(settings, self._points, self._points) + np.diag(self._noise)
        self._lower = np.linalg.cholesky(gram)
        self._alpha = cho_solve((self._lower, True), self._scores)
        # Outputs times kernel is a matrix normal distribution; this is the likeliest covariance of the outputs.
        self._together = self._scores.T @ self._alpha / len(self._scores)

    def _left_out(self) -> tuple[Floats, Floats]:
        """Errors of the objective at each trial from all others, and their expected size, in losses of the target.

        In closed form for given settings (Rasmussen and Williams 2006, equations 5.10 to 5.12).
        """
        variance = 1 / np.diag(cho_solve((self._lower, True), np.eye(len(self._scores))))
        without = self._scores - self._alpha * variance[:, None]
        errors = self.losses(self._scores) - self.losses(without)
        return errors, self.steepness(without) * np.sqrt(variance)


# Medians and widths, in logarithms, of the log-normal priors, tried on the made-up worlds of benchmarks/search.py.
_PRIOR_VARIANCE = (math.log(0.5), 1.5)
_PRIOR_LENGTH = (math.log(0.6), 0.6)
_PRIOR_OTHER_LENGTH = (math.log(0.7), 0.6)
_PRIOR_DECAY = (math.log(0.1), 1.0)
"""Of minus the logarithm of the correlation between the lowest fidelity and the highest: 0.9 is the median."""
_PRIOR_NOISE = (math.log(0.01), 1.5)


def _noise_of_logarithms(weights: Floats, logs: Floats) -> Floats:
    """Relative noise variance of the logarithms of losses with the same noise, (n,): the larger the nearer the floor.

    All outputs share one kernel, so this is the mean over them. The heights come from a law, not from the noisy losses.
    """
    heights = weights @ _ridge(weights, logs)
    relative = np.exp(np.clip(-2 * (heights - heights.mean(axis=0)), -6, 6)).mean(axis=1)
    return np.asarray(relative / np.exp(np.log(relative).mean()), dtype=np.float64)


def _likeliest(basis: _Basis, points: Points, scores: Floats, doubt: Floats, known: Floats) -> _Settings:
    """The settings of the kernel with the largest posterior probability, by L-BFGS with exact gradients.

    The likelihood is the mean over the outputs, so that many outputs, which are not independent, do not drown the
    prior. ``doubt``: (levels, n), the noise of each trial relative to the noise of its level, 0 at the other levels.
    ``known``: (n,) variances of errors that are known.
    """
    num, outputs = scores.shape
    line = basis.features(points) @ basis.features(points).T
    near, apart = _hellinger(points, points), _apart(points, points)
    ratios = np.abs(points.fidelity[:, None] - points.fidelity[None])
    same = _OFFSET * (ratios.sum(axis=2) < 1e-6)
    widest = np.maximum(np.ptp(np.concatenate([points.fidelity, np.zeros_like(points.fidelity[:1])]), axis=0), 1e-9)
    varied = points.others.shape[1] > 0
    priors = np.array(
        [_PRIOR_VARIANCE, _PRIOR_VARIANCE, _PRIOR_LENGTH]
        + [_PRIOR_OTHER_LENGTH] * varied
        + [_PRIOR_DECAY] * points.fidelity.shape[1]
        + [_PRIOR_NOISE] * len(doubt)
    )

    def settings(logs: Floats) -> _Settings:
        values = list(np.exp(logs))
        linear, matern, length = (values.pop(0) for _ in range(3))
        other = values.pop(0) if varied else 1.0
        decays = np.array([values.pop(0) for _ in widest])
        return _Settings(linear, matern, length, other, widest / decays, np.array(values))

    def cost(logs: Floats) -> tuple[float, Floats]:
        now = settings(logs)
        decay = ratios / now.reach
        across = np.exp(-decay.sum(axis=2))
        close, spread = near / now.length**2, apart / now.other_length**2
        root = np.sqrt(5 * (close + spread))
        fall = np.exp(-root) * now.matern * across
        steep = 5 / 3 * (1 + root) * fall
        parts = [now.linear * line * across, (1 + root + root**2 / 3) * fall, steep * close] + [steep * spread] * varied
        signal = parts[0] + parts[1]
        parts += [signal * decay[:, :, column] for column in range(decay.shape[2])]
        noise = now.noise @ doubt + known
        lower = np.linalg.cholesky(signal + same + np.diag(noise + _JITTER))
        inverse = cho_solve((lower, True), np.eye(num))
        alpha = inverse @ scores
        misfit = 0.5 * float((scores * alpha).sum()) / outputs + float(np.log(np.diag(lower)).sum())
        middle = 0.5 * (inverse - alpha @ alpha.T / outputs)
        gradient = [float((middle * part).sum()) for part in parts]
        gradient += list((doubt * now.noise[:, None]) @ np.diag(middle))
        off = (logs - priors[:, 0]) / priors[:, 1]
        return misfit + 0.5 * float(off @ off), np.array(gradient) + off / priors[:, 1]

    low, high = priors[:, 0] - 4 * priors[:, 1], priors[:, 0] + 4 * priors[:, 1]
    bounds = list(zip(low, high, strict=True))
    # Losses without noise leave a long flat valley, in which 60 evaluations are as good as 250.
    found = minimize(cost, priors[:, 0], jac=True, method="L-BFGS-B", bounds=bounds, options={"maxfun": 60})
    return settings(found.x)
