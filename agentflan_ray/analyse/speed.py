"""How fast each capability is learnt: tokens until given shares of the final drop of its loss.

The second observation of Agent-FLAN (arXiv 2403.12881) is such curves: instruction following falls at once, retrieval
and understanding later, reasoning last. Here it is a table, with its spread over trials.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression
from scipy.stats import spearmanr

from agentflan_ray.analyse import frame
from agentflan_ray.analyse.frame import Run
from agentflan_ray.analyse.surrogate import Array

SHARES: tuple[float, ...] = (0.5, 0.8, 0.95)
MIN_POINTS = 5
"""A curve of fewer points has no shape between its ends."""
SMOOTHED = 15
"""Training losses are running means over this part of the steps first, as in the pictures of the curves."""
MAX_TRIALS = 400


@dataclass(frozen=True)
class Reached:
    """Tokens to one share of the drop: median over trials with quartiles."""

    share: float
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Speed:
    """One capability. ``num_flat`` counts trials whose loss did not fall beyond its noise, which are in no median."""

    component: str
    curve: str
    """``held-out`` or ``training``."""
    num_trials: int
    num_flat: int
    drop: float
    """Median fall of the fitted loss."""
    reached: list[Reached]
    by_trial: dict[str, float]
    """Tokens to 80 % of the drop by trial."""


def speeds(run: Run) -> list[Speed] | str:
    """The speed of each component, the quickest first, or a sentence on why there is none.

    Complete trials at the largest data fraction only: a curve that was cut off has no final drop, and others are of
    another length.
    """
    complete = run.trials[run.trials["state"] == "complete"]
    if frame.FRACTION in complete and complete[frame.FRACTION].notna().any():
        complete = complete[complete[frame.FRACTION].astype(float) >= float(complete[frame.FRACTION].max()) - 1e-9]
    curves = run.curves
    names = [
        str(column).partition("/")[2] for column in curves if str(column).startswith(("loss/", "validation_loss/"))
    ]
    if not names or "tokens" not in curves:
        return "The curves hold no losses by component."
    if complete.empty:
        return "No trial is complete, so there is no final drop to take shares of."
    kept = set(complete["trial"].tolist()[:MAX_TRIALS])
    groups = [(str(trial), rows) for trial, rows in curves.groupby("trial", sort=False) if trial in kept]
    found = []
    for name in dict.fromkeys(names):
        for column, label in ((f"validation_loss/{name}", "held-out"), (f"loss/{name}", "training")):
            speed = _speed(name, column, label, groups)
            if speed is not None:
                found.append(speed)
                break
    if not found:
        return f"No curve of a complete trial has {MIN_POINTS} points of a component's loss."
    return sorted(found, key=lambda speed: (not speed.reached, speed.reached[1].median if speed.reached else 0.0))


def tokens_to_shares(tokens: Array, losses: Array) -> tuple[Array, float] | None:
    """Tokens at which a falling curve has done each of :data:`SHARES` of its drop, and the drop.

    None where it does not fall.

    Between points it is interpolated, after a fit that never rises (isotonic regression, Barlow et al. 1972): the first
    crossing of a noisy curve would come too early.
    """
    fitted = np.asarray(isotonic_regression(losses, increasing=False).x, dtype=float)
    drop = fitted[0] - fitted[-1]
    if drop <= 0:
        return None
    done = (fitted[0] - fitted) / drop
    reached = []
    for share in SHARES:
        after = int(np.argmax(done >= share))
        before = max(after - 1, 0)
        span = done[after] - done[before]
        part = (share - done[before]) / span if span > 0 else 0.0
        reached.append(tokens[before] + part * (tokens[after] - tokens[before]))
    return np.array(reached), float(drop)


def falls(losses: Array) -> bool:
    """Whether losses (n,) in the order of the tokens fall beyond their noise: Spearman's trend, at the level of 5 %."""
    if np.ptp(losses) == 0:
        return False
    trend = spearmanr(np.arange(len(losses)), losses)
    return bool(trend.statistic < 0 and trend.pvalue < 0.05)


def _speed(name: str, column: str, label: str, groups: list[tuple[str, pd.DataFrame]]) -> Speed | None:
    reached, drops, by_trial, flat = [], [], {}, 0
    for trial, rows in groups:
        if column not in rows:
            continue
        measured = rows[["tokens", column]].dropna().astype(float)
        measured = measured[np.isfinite(measured[column])].sort_values("tokens")
        if len(measured) < MIN_POINTS:
            continue
        losses = measured[column]
        if not falls(losses.to_numpy()):
            flat += 1
            continue
        if label == "training":
            losses = losses.rolling(max(1, len(losses) // SMOOTHED), min_periods=1).mean()
        found = tokens_to_shares(measured["tokens"].to_numpy(), losses.to_numpy())
        if found is None:
            flat += 1
            continue
        at, drop = found
        reached.append(at)
        drops.append(drop)
        by_trial[trial] = float(at[SHARES.index(0.8)])
    if not reached and not flat:
        return None
    table = np.array(reached)
    quartiles = np.quantile(table, (0.5, 0.25, 0.75), axis=0).T if len(table) else np.empty((0, 3))
    return Speed(
        component=name,
        curve=label,
        num_trials=len(reached),
        num_flat=flat,
        drop=float(np.median(drops)) if drops else 0.0,
        reached=[Reached(share, *(float(each) for each in row)) for share, row in zip(SHARES, quartiles, strict=False)],
        by_trial=by_trial,
    )


def order_sentence(found: list[Speed]) -> str | None:
    """The order of the capabilities, and in how many trials instruction came before reasoning, as in the paper."""
    moving = [speed for speed in found if speed.reached]
    if len(moving) < 2:
        return None
    order = ", ".join(speed.component for speed in moving)
    sentence = f"By the median, 80 % of the drop is done in this order: {order}."
    by_name = {speed.component: speed.by_trial for speed in moving}
    if {"instruction", "reasoning"} <= by_name.keys():
        both = by_name["instruction"].keys() & by_name["reasoning"].keys()
        first = sum(by_name["instruction"][trial] < by_name["reasoning"][trial] for trial in both)
        sentence += (
            f" Instruction following was quicker than reasoning in {first} of {len(both)} trials; the paper's second "
            "observation is that it is."
        )
    return sentence
