"""A Gaussian process over mixtures: what the score would be at a mix that nobody tried, and how sure that is.

Kernel: a constant variance times Matérn 5/2 with one length for each input (Rasmussen and Williams, *Gaussian Processes
for Machine Learning*, 2006, sections 2.2, 4.2 and 5.4), on the square roots of the shares, whose plain distance is
Hellinger's: a share from 0 to 1 % counts more than one from 40 to 41 %. The lengths, the variance and the noise
maximise the marginal likelihood times weak priors, so that few trials with many inputs are not explained to the last
digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]

LENGTH_PRIOR = (0.5, 0.8)
"""Median of a length, and the standard deviation of its logarithm; inputs lie between 0 and 1."""
VARIANCE_PRIOR = (1.0, 1.0)
NOISE_PRIOR = (0.1, 1.5)
"""Likewise of the kernel's variance and of the noise's, where the scores have variance 1."""
MIN_NOISE = 1e-4
"""Keeps the matrix invertible where two trials had the same mix and the same score."""
STARTS = 2
TRIALS_FOR_THE_KERNEL = 120
MAX_TRIALS = 500
"""The kernel is fitted to no more trials than the first, the process is conditioned on no more than the second: one
step of the fit costs the cube of the trials, and takes about a hundred."""


class HeldOut(NamedTuple):
    """Leave-one-out predictions against what was measured, with the kernel fitted to all."""

    r_squared: float
    """Share of the variance explained, against predicting each from the mean of the others; below 0 is worse."""
    coverage: float
    """Share of the held-out scores within their 95 % interval; far below 0.95 means bands that are too narrow."""


@dataclass(frozen=True)
class Surrogate:
    """A fitted process. ``inputs`` are (n, d), scaled as the caller has them; ``values`` are (n,), in their unit."""

    inputs: Array
    values: Array
    lengths: Array
    variance: float
    noise: float
    """Variances of the kernel and of the noise, in units of the values' variance."""
    mean: float
    scale: float
    _factor: Array
    _weights: Array

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation at each of the points (m, d), of the score without a single trial's noise."""
        cross = _kernel(points, self.inputs, self.lengths, self.variance)
        solved = solve_triangular(self._factor, cross.T, lower=True)
        spread = np.sqrt(np.maximum(self.variance - np.sum(solved**2, axis=0), 0.0))
        return self.mean + self.scale * (cross @ self._weights), self.scale * spread

    def sample(self, points: Array, count: int, seed: int) -> Array:
        """Draws (count, m) of the score at the points together, as the trials leave it open."""
        cross = _kernel(points, self.inputs, self.lengths, self.variance)
        solved = solve_triangular(self._factor, cross.T, lower=True)
        covariance = _kernel(points, points, self.lengths, self.variance) - solved.T @ solved
        # An eigendecomposition, as close points leave the matrix singular to rounding, which a Cholesky factor refuses.
        sizes, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(sizes, 0.0))
        drawn = np.random.default_rng(seed).standard_normal((count, len(points))) @ root.T
        result: Array = self.mean + self.scale * (cross @ self._weights + drawn)
        return result

    def held_out(self) -> HeldOut:
        """How well each trial is predicted from the others (Rasmussen and Williams, equation 5.12)."""
        inverse = cho_solve((self._factor, True), np.eye(len(self.values)))
        targets = (self.values - self.mean) / self.scale
        errors = (inverse @ targets) / np.diag(inverse)
        spread = np.sqrt(1.0 / np.diag(inverse))
        count = len(targets)
        from_mean = (targets - targets.mean()) * count / (count - 1)
        r_squared = 1.0 - float(np.sum(errors**2) / np.sum(from_mean**2))
        return HeldOut(r_squared, float(np.mean(np.abs(errors) <= 1.96 * spread)))


def fit(inputs: Array, values: Array, seed: int = 0) -> Surrogate:
    """Fit the process to scores at points.

    Args:
        inputs: (n, d), each between about 0 and 1; n at least 3.
        values: (n,), not all equal.
        seed: Of the starts of the optimiser, and of which trials are taken where there are more than
            :data:`MAX_TRIALS`.

    Raises:
        ValueError: The values are all equal, so there is nothing to explain.
    """
    generator = np.random.default_rng(seed)
    kept = generator.permutation(len(values))[:MAX_TRIALS]
    inputs, values = inputs[kept], values[kept]
    mean, scale = float(np.mean(values)), float(np.std(values))
    if scale < 1e-12:
        raise ValueError("all trials have the same value, so there is nothing to explain")
    targets = (values - mean) / scale
    few = slice(TRIALS_FOR_THE_KERNEL)
    squares = (inputs[few, None, :] - inputs[None, few, :]) ** 2
    middle = np.log([LENGTH_PRIOR[0]] * inputs.shape[1] + [VARIANCE_PRIOR[0], NOISE_PRIOR[0]])
    width = np.array([LENGTH_PRIOR[1]] * inputs.shape[1] + [VARIANCE_PRIOR[1], NOISE_PRIOR[1]])
    starts = [middle, *(middle + 0.7 * width * generator.standard_normal((STARTS - 1, len(middle))))]
    bounds = [(centre - 5 * spread, centre + 5 * spread) for centre, spread in zip(middle, width, strict=True)]
    found = [
        minimize(_cost, start, (squares, targets[few], middle, width), "L-BFGS-B", jac=True, bounds=bounds)
        for start in starts
    ]
    best = np.exp(min(found, key=lambda result: float(result.fun)).x)
    lengths, variance, noise = best[:-2], float(best[-2]), float(best[-1]) + MIN_NOISE
    covariance = _kernel(inputs, inputs, lengths, variance) + noise * np.eye(len(targets))
    factor = cholesky(covariance, lower=True)
    weights = cho_solve((factor, True), targets)
    return Surrogate(inputs, values, lengths, variance, noise, mean, scale, factor, weights)


def _cost(logs: Array, squares: Array, targets: Array, middle: Array, width: Array) -> tuple[float, Array]:
    """Minus the logarithm of marginal likelihood times priors, and its gradient by the logarithms."""
    lengths, variance, noise = np.exp(logs[:-2]), np.exp(logs[-2]), np.exp(logs[-1])
    scaled = squares * lengths**-2.0
    distance = np.sqrt(np.sum(scaled, axis=2))
    kernel = variance * _matern(distance)
    count = len(targets)
    factor = cholesky(kernel + (noise + MIN_NOISE) * np.eye(count), lower=True)
    inverse = cho_solve((factor, True), np.eye(count))
    weights = inverse @ targets
    value = 0.5 * targets @ weights + np.sum(np.log(np.diag(factor)))
    outer = inverse - np.outer(weights, weights)
    slope = variance * (5.0 / 3.0) * (1.0 + np.sqrt(5.0) * distance) * np.exp(-np.sqrt(5.0) * distance)
    gradient = np.empty_like(logs)
    gradient[:-2] = 0.5 * np.einsum("ij,ijk->k", outer * slope, scaled, optimize=True)
    gradient[-2] = 0.5 * np.sum(outer * kernel)
    gradient[-1] = 0.5 * noise * np.trace(outer)
    away = (logs - middle) / width
    return float(value + 0.5 * away @ away), gradient + away / width


def _kernel(left: Array, right: Array, lengths: Array, variance: float) -> Array:
    squares = (left[:, None, :] - right[None, :, :]) ** 2
    result: Array = variance * _matern(np.sqrt(squares @ lengths**-2.0))
    return result


def _matern(distance: Array) -> Array:
    root = np.sqrt(5.0) * distance
    result: Array = (1.0 + root + root**2 / 3.0) * np.exp(-root)
    return result
