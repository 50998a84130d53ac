"""How the score answers to each share and parameter, and which mix it would be best at: both from one surrogate.

The response to a share follows Cox's direction (Cox, *A note on polynomial response functions for mixtures*, 1971;
Cornell, *Experiments with Mixtures*, 2002): it moves from the middle of the mixes that were tried, and
all other shares keep their proportions among each other. So shares that are varied together are told apart as far as
the trials allow, and the band says how far that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from agentflan_ray.analyse import frame, surrogate
from agentflan_ray.analyse.frame import Goal, Run
from agentflan_ray.analyse.surrogate import Array, HeldOut, Surrogate
from agentflan_ray.search.space import MIXTURE_PARAMETERS

MIN_POINTS = 6
"""Fewer different points than this say nothing of a slope beside a noise."""
TRIALS_PER_INPUT = 10
"""Trials for each degree of freedom that a Gaussian process wants (Loeppky, Sacks and Welch, *Choosing the sample size
of a computer experiment*, 2009); below, a band is called unreliable."""
TRACE_POINTS = 25
LOG_SPAN = 30.0
"""A positive parameter whose largest value is this many times its smallest is looked at in its logarithm."""
DRAWS = 400
CANDIDATES = 1500


@dataclass(frozen=True)
class Axis:
    """A parameter or fidelity as an input: 0 at its smallest tried value, 1 at its largest."""

    column: str
    low: float
    high: float
    log: bool
    middle: float

    @property
    def name(self) -> str:
        """As a reader knows it."""
        return self.column.removeprefix("parameters.")

    def encode(self, values: Array) -> Array:
        """Values to inputs."""
        result: Array = (
            np.log(values / self.low) / np.log(self.high / self.low)
            if self.log
            else (values - self.low) / (self.high - self.low)
        )
        return result

    def decode(self, inputs: Array) -> Array:
        """Inputs to values."""
        if self.log:
            grown: Array = self.low * (self.high / self.low) ** inputs
            return grown
        result: Array = self.low + inputs * (self.high - self.low)
        return result


@dataclass(frozen=True)
class Trace:
    """The score along one share or parameter; ``change`` from its smallest tried value to its largest, with 95 %."""

    name: str
    kind: str
    """``share`` or ``parameter``."""
    at: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    change: float
    change_low: float
    change_high: float
    log: bool
    trials_at: list[float]
    trials: list[float]
    """Partial residuals: the line at each trial's place along it, and what the surrogate leaves of that trial."""


@dataclass(frozen=True)
class Response:
    """What a surrogate of one objective says. ``caution`` is None where nothing speaks against its bands."""

    goal: Goal
    num_trials: int
    num_points: int
    num_inputs: int
    held_out: HeldOut
    caution: str | None
    traces: list[Trace]


class Spread(NamedTuple):
    """A value with the 5 % and 95 % quantiles that the trials leave open."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Prediction:
    """The mix that the surrogate expects most of at the largest fidelity: a prediction, which nobody trained."""

    goal: Goal
    fidelity: dict[str, float]
    num_trials: int
    num_trials_there: int
    weights: dict[str, Spread]
    parameters: dict[str, float]
    score: Spread
    best_tried: str
    """The trial whose mix the same surrogate expects most of at that fidelity."""
    gain: Spread
    probability_of_gain: float
    constraints: list[str]
    """Constraints that the prediction holds by the surrogate's mean."""
    caution: str | None


@dataclass(frozen=True)
class Model:
    """A surrogate with what its inputs mean."""

    goal: Goal
    rows: pd.DataFrame
    components: list[str]
    mixes: Array
    axes: list[Axis]
    fitted: Surrogate

    def encode(self, mixes: Array, others: Array) -> Array:
        """Mixes (m, components) and inputs of the axes (m, axes) as the surrogate's inputs."""
        return np.hstack([np.sqrt(mixes), others])

    @property
    def others(self) -> Array:
        """The axes' inputs of the trials (n, axes)."""
        if not self.axes:
            return np.empty((len(self.rows), 0))
        return np.column_stack([axis.encode(self.rows[axis.column].to_numpy(float)) for axis in self.axes])

    @cached_property
    def rest(self) -> Array:
        """What the surrogate leaves of each trial's value, (n,)."""
        values = self.rows[self.goal.column].to_numpy(float)
        result: Array = values - self.fitted.predict(self.encode(self.mixes, self.others))[0]
        return result

    @property
    def centre(self) -> tuple[Array, Array]:
        """The mean mix, and the axes' middles with the fidelities at their largest."""
        at = [1.0 if axis.column in (frame.FRACTION, frame.MODEL_SIZE) else axis.middle for axis in self.axes]
        return self.mixes.mean(axis=0) if len(self.components) else np.empty(0), np.array(at)

    @property
    def num_inputs(self) -> int:
        """Degrees of freedom: one less than the components, as shares sum to 1, and the axes."""
        return max(len(self.components) - 1, 0) + len(self.axes)

    def caution(self, held_out: HeldOut) -> str | None:
        """Why the surrogate should not be trusted, or None."""
        reasons = []
        wanted = TRIALS_PER_INPUT * self.num_inputs
        if len(self.rows) < wanted:
            reasons.append(
                f"{len(self.rows)} trials for {self.num_inputs} degrees of freedom, and about {wanted} are wanted"
            )
        if held_out.r_squared <= 0:
            reasons.append("held-out trials are predicted no better than by the mean of the others")
        return f"Unreliable: {'; '.join(reasons)}." if reasons else None


def model(run: Run, goal: Goal) -> Model | str:
    """Fit a surrogate of an objective to the complete trials, or say in a sentence why there is none."""
    rows = run.scored(goal)
    shares = frame.weights(rows)
    if len(shares.columns):
        rows = rows[shares.notna().all(axis=1)]
        shares = shares.loc[rows.index]
    varying = [name for name in shares if len(rows) and float(np.ptp(shares[name])) > 1e-9]
    axes = _axes(rows, without_mixture=len(varying) > 0)
    # A trial that lacks a parameter which others have, as conditional ones do, cannot be placed.
    rows = rows.dropna(subset=[axis.column for axis in axes])
    shares = shares.loc[rows.index]
    components = list(shares.columns) if varying else []
    mixes = shares[components].to_numpy(float)
    if not components and not axes:
        return f"No share and no number was varied among the {len(rows)} complete trials."
    points = np.unique(np.round(np.hstack([mixes, rows[[axis.column for axis in axes]].to_numpy(float)]), 6), axis=0)
    if len(points) < MIN_POINTS:
        return (
            f"{len(points)} different points among the {len(rows)} complete trials with a {goal.metric}, and at least "
            f"{MIN_POINTS} are needed."
        )
    empty = Model(goal, rows, components, mixes, axes, fitted=None)  # type: ignore[arg-type]  # filled in below
    values = rows[goal.column].to_numpy(float)
    try:
        fitted = surrogate.fit(empty.encode(mixes, empty.others), values)
    except ValueError as error:
        return f"Not fitted to {goal.metric}: {error}."
    return Model(goal, rows, components, mixes, axes, fitted)


def response(of: Model) -> Response:
    """Traces along each share and each parameter, with bands of 95 %."""
    held_out = of.fitted.held_out()
    mix, others = of.centre
    traces = []
    for index, name in enumerate(of.components):
        column = of.mixes[:, index]
        if np.ptp(column) < 1e-9 or mix[index] >= 1:
            continue
        at = np.linspace(column.min(), column.max(), TRACE_POINTS)
        mixes = mix * ((1 - at) / (1 - mix[index]))[:, None]
        mixes[:, index] = at
        traces.append(_trace(of, name, "share", at, mixes, np.tile(others, (TRACE_POINTS, 1)), False, column))
    for index, axis in enumerate(of.axes):
        steps = np.linspace(0, 1, TRACE_POINTS)
        varied = np.tile(others, (TRACE_POINTS, 1))
        varied[:, index] = steps
        mixes = np.tile(mix, (TRACE_POINTS, 1))
        column = of.rows[axis.column].to_numpy(float)
        traces.append(_trace(of, axis.name, "parameter", axis.decode(steps), mixes, varied, axis.log, column))
    distinct = len(np.unique(np.round(of.encode(of.mixes, of.others), 6), axis=0))
    return Response(of.goal, len(of.rows), distinct, of.num_inputs, held_out, of.caution(held_out), traces)


def predict(of: Model, seed: int = 0) -> Prediction | str:
    """The mix with the best expected value at the largest fidelity, among mixes within what was tried.

    Mixes are drawn between tried ones and then near the best of those drawn. Shares outside of the range that was tried
    are left out, as the surrogate knows nothing there, and so are mixes that it expects to break a constraint. The
    quantiles of the shares are those of the best mix in each of :data:`DRAWS` draws of the whole surface.
    """
    if not of.components:
        return "The trials vary no mixture."
    generator = np.random.default_rng(seed)
    fidelity = [axis.column in (frame.FRACTION, frame.MODEL_SIZE) for axis in of.axes]
    bounds = _constraint_models(of)

    def value(mixes: Array, others: Array) -> Array:
        points = of.encode(mixes, others)
        expected = of.goal.sign * of.fitted.predict(points)[0]
        for limit in bounds.values():
            expected = np.where(limit.predict(points)[0] > 0, -np.inf, expected)
        result: Array = expected
        return result

    def spread_out(mixes: Array, others: Array, width: float) -> tuple[Array, Array]:
        mixes = mixes * np.exp(width * generator.standard_normal(mixes.shape))
        mixes /= mixes.sum(axis=1, keepdims=True)
        others = np.clip(others + width * generator.standard_normal(others.shape), 0, 1)
        others[:, fidelity] = 1.0
        inside = np.all((mixes >= of.mixes.min(axis=0) - 1e-9) & (mixes <= of.mixes.max(axis=0) + 1e-9), axis=1)
        return mixes[inside], others[inside]

    parents = generator.integers(len(of.mixes), size=(CANDIDATES, 3))
    parts = generator.dirichlet(np.full(3, 0.5), CANDIDATES)[:, :, None]
    mixes = np.concatenate([of.mixes, (of.mixes[parents] * parts).sum(axis=1)])
    others = np.concatenate([of.others, (of.others[parents] * parts).sum(axis=1)])
    others[:, fidelity] = 1.0
    tried = np.arange(len(of.mixes))
    for width in (0.2, 0.1, 0.05):
        order = np.argsort(-value(mixes, others), kind="stable")[:30]
        more = spread_out(np.repeat(mixes[order], 20, axis=0), np.repeat(others[order], 20, axis=0), width)
        mixes, others = np.concatenate([mixes, more[0]]), np.concatenate([others, more[1]])
    values = value(mixes, others)
    if not np.isfinite(values).any():
        return "The surrogate expects every mix between the tried ones to break a constraint."
    best = int(np.argmax(values))
    incumbent = int(tried[np.argmax(values[tried])])
    kept = np.unique([best, incumbent, *np.argsort(-values)[:200], *generator.choice(len(values), 100)])
    kept = kept[np.isfinite(values[kept]) | (kept == incumbent)]
    drawn = of.fitted.sample(of.encode(mixes[kept], others[kept]), DRAWS, seed)
    winners = mixes[kept[np.argmax(of.goal.sign * drawn, axis=1)]]
    at_best, at_incumbent = drawn[:, kept == best][:, 0], drawn[:, kept == incumbent][:, 0]
    gains = of.goal.sign * (at_best - at_incumbent)
    held = {axis.column: axis.high for axis in of.axes if axis.column in (frame.FRACTION, frame.MODEL_SIZE)}
    there = np.ones(len(of.rows), dtype=bool)
    for column, high in held.items():
        there &= of.rows[column].to_numpy(float) >= high * (1 - 1e-9)
    return Prediction(
        goal=of.goal,
        fidelity=held,
        num_trials=len(of.rows),
        num_trials_there=int(there.sum()),
        weights={
            name: Spread(float(mixes[best, index]), *_quantiles(winners[:, index]))
            for index, name in enumerate(of.components)
        },
        parameters={
            axis.name: float(axis.decode(others[best, [index]])[0])
            for index, axis in enumerate(of.axes)
            if not fidelity[index]
        },
        score=Spread(float(of.goal.sign * values[best]), *_quantiles(at_best)),
        best_tried=str(of.rows["trial"].iloc[incumbent]),
        gain=Spread(
            float(values[best] - values[incumbent]) if np.isfinite(values[incumbent]) else float(gains.mean()),
            *_quantiles(gains),
        ),
        probability_of_gain=float(np.mean(gains > 0)) if best != incumbent else 0.0,
        constraints=list(bounds),
        caution=of.caution(of.fitted.held_out()),
    )


def _trace(of: Model, name: str, kind: str, at: Array, mixes: Array, others: Array, log: bool, places: Array) -> Trace:
    points = of.encode(mixes, others)
    mean, spread = of.fitted.predict(points)
    drawn = of.fitted.sample(points[[0, -1]], 4 * DRAWS, seed=0)
    low, high = np.quantile(drawn[:, 1] - drawn[:, 0], (0.025, 0.975))
    return Trace(
        name=name,
        kind=kind,
        at=at.tolist(),
        mean=mean.tolist(),
        low=(mean - 1.96 * spread).tolist(),
        high=(mean + 1.96 * spread).tolist(),
        change=float(mean[-1] - mean[0]),
        change_low=float(low),
        change_high=float(high),
        log=log,
        trials_at=places.tolist(),
        trials=(np.interp(places, at, mean) + of.rest).tolist(),
    )


def _axes(rows: pd.DataFrame, without_mixture: bool) -> list[Axis]:
    left_out = {f"parameters.{name}" for name in MIXTURE_PARAMETERS} if without_mixture else set()
    left_out |= {f"parameters.{frame.FRACTION}", f"parameters.{frame.MODEL_SIZE}"}
    columns = [str(name) for name in rows.columns if str(name).startswith("parameters.") and name not in left_out]
    axes = []
    for column in [*columns, frame.FRACTION, frame.MODEL_SIZE]:
        if column not in rows:
            continue
        values = rows[column].dropna()
        if not all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in values):
            continue  # text has no order that a distance could be taken in
        numbers = values.to_numpy(float)
        numbers = numbers[np.isfinite(numbers)]
        # A parameter that most trials lack belongs to one branch of a conditional space.
        if len(numbers) < 0.9 * len(rows) or len(numbers) == 0 or np.ptp(numbers) < 1e-12:
            continue
        low, high = float(numbers.min()), float(numbers.max())
        log = low > 0 and (high / low >= LOG_SPAN or column in (frame.FRACTION, frame.MODEL_SIZE))
        axis = Axis(column, low, high, log, middle=0.5)
        axes.append(Axis(column, low, high, log, middle=float(axis.encode(np.array([np.median(numbers)]))[0])))
    return axes


def _constraint_models(of: Model) -> dict[str, Surrogate]:
    """Surrogates of how far each constraint is exceeded, for those that every trial here has a value of."""
    models = {}
    for column in of.rows.columns:
        if not str(column).startswith("constraints."):
            continue
        excess = of.rows[column].to_numpy(float)
        if np.isfinite(excess).all() and np.std(excess) > 1e-9:
            models[str(column).removeprefix("constraints.")] = surrogate.fit(of.encode(of.mixes, of.others), excess)
    return models


def _quantiles(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, (0.05, 0.95))
    return float(low), float(high)
