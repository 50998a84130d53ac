"""Where the time and the money went, by state and by part, and what stopping early saved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from agentflan_ray.analyse import frame
from agentflan_ray.analyse.frame import Run

PARTS: tuple[str, ...] = ("startup", "train", "evaluate")
"""What a trial's time is recorded by; the rest of its total is ``other``."""


@dataclass(frozen=True)
class Devices:
    """What one trial holds while it runs."""

    count: float
    kind: str
    """``GPU``, ``CPU``, or ``trial`` where no file says how many devices a trial used."""


@dataclass(frozen=True)
class Cost:
    """Seconds of trials by state and part (``startup, train, evaluate, other, total``), and what they come to."""

    devices: Devices
    seconds: dict[str, dict[str, float]]
    num_timed: int
    num_untimed: int
    hours: float
    """Device hours of all trials."""
    by_trial: dict[str, float]
    """Device hours by trial."""
    price: float | None
    """Price of one device hour."""
    saved_seconds: float | None
    saved_share: float | None
    """Of what the search would have taken without stopping anyone."""
    saved: str
    """What the saving rests on, or why it is not known."""

    @property
    def money(self) -> float | None:
        """Price of all trials."""
        return None if self.price is None else self.hours * self.price


def time_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Seconds by part (``startup, train, evaluate, other, total``) of each timed trial, the longest first."""
    table = trials.set_index("trial").reindex(columns=[f"seconds.{part}" for part in (*PARTS, "total")])
    table.columns = [str(column).removeprefix("seconds.") for column in table.columns]
    table = table.apply(pd.to_numeric, errors="coerce").dropna(how="all").astype(float)
    known = table[list(PARTS)].fillna(0.0)
    total = table["total"].fillna(known.sum(axis=1))
    other = (total - known.sum(axis=1)).clip(lower=0.0)
    return known.assign(other=other, total=total).sort_values("total", ascending=False)


def account(run: Run, price: float | None = None) -> Cost | str:
    """Add the trials' times up, or say in a sentence that there are none."""
    timed = time_table(run.trials)
    if timed.empty:
        return "No trial has recorded its time."
    devices = devices_of(run)
    states = run.trials.set_index("trial")["state"].reindex(timed.index)
    by_state = {
        state: {part: float(seconds) for part, seconds in timed[states == state].sum().items()}
        for state in frame.STATES
        if (states == state).any()
    }
    by_trial = (timed["total"] / 3600 * devices.count).to_dict()
    saved_seconds, saved_share, saved = _saved(run, timed)
    return Cost(
        devices=devices,
        seconds=by_state,
        num_timed=len(timed),
        num_untimed=len(run.trials) - len(timed),
        hours=float(sum(by_trial.values())),
        by_trial={str(trial): float(hours) for trial, hours in by_trial.items()},
        price=price,
        saved_seconds=saved_seconds,
        saved_share=saved_share,
        saved=saved,
    )


def devices_of(run: Run) -> Devices:
    """The devices of a trial, as ``sweep.json`` records its placement."""
    placement = run.sweep.get("placement")
    if not isinstance(placement, dict) or "num_workers" not in placement:
        return Devices(1.0, "trial")
    workers = float(placement["num_workers"])
    if placement.get("use_gpu"):
        return Devices(workers, "GPU")
    return Devices(workers * float(placement.get("cpus_per_worker", 1.0)), "CPU")


def _saved(run: Run, timed: pd.DataFrame) -> tuple[float | None, float | None, str]:
    """Seconds that the stopped trials would have taken more, their share, and what that rests on."""
    trials = run.trials.set_index("trial")
    stopped = [trial for trial in timed.index if trials.at[trial, "state"] == "pruned"]
    if not stopped:
        return None, None, "No trial was stopped early, so nothing was saved by it."
    complete = [trial for trial in timed.index if trials.at[trial, "state"] == "complete"]
    evaluation = float(np.median(timed.loc[complete, "evaluate"])) if complete else 0.0
    extra, counted = 0.0, 0
    for trial in stopped:
        part = _part_done(run, trials, trial)
        if part is None:
            continue
        row = timed.loc[trial]
        # Where the parts are not known, all of a trial's time counts as training.
        training = row["train"] if row["train"] > 0 else row["total"]
        extra += training * (1 / part - 1) + max(evaluation - row["evaluate"], 0.0)
        counted += 1
    if not counted:
        return (
            None,
            None,
            (
                f"{len(stopped)} trials were stopped early, but no file says how far each would have gone: what that "
                "saved is not known."
            ),
        )
    share = extra / (extra + float(timed["total"].sum()))
    left_out = f" {len(stopped) - counted} stopped trials are left out, as their length is not known." * (
        counted < len(stopped)
    )
    return (
        extra,
        share,
        (
            f"{counted} stopped trials, each taken on to its planned end at its own speed and scored like the others "
            f"(median {evaluation:.0f} s).{left_out} What they would have scored is not known."
        ),
    )


def _part_done(run: Run, trials: pd.DataFrame, trial: str) -> float | None:
    """How much of its planned training a stopped trial did, in (0, 1]; None where no file says."""
    for done, planned in (("metrics.step", "steps"), ("metrics.tokens", None)):
        if done not in trials or pd.isna(trials.at[trial, done]):
            continue
        if planned is not None:
            whole = trials.at[trial, planned] if planned in trials else None
        else:
            whole = _tokens_of_complete(run.trials, trials, trial)
        if whole is not None and not pd.isna(whole) and float(whole) > 0 and float(trials.at[trial, done]) > 0:
            return min(float(trials.at[trial, done]) / float(whole), 1.0)
    return None


def _tokens_of_complete(table: pd.DataFrame, trials: pd.DataFrame, trial: str) -> float | None:
    """What complete trials at the same data fraction trained on."""
    complete = table[table["state"] == "complete"]
    if frame.FRACTION in table and not pd.isna(trials.at[trial, frame.FRACTION]):
        complete = complete[complete[frame.FRACTION] == trials.at[trial, frame.FRACTION]]
    tokens = complete["metrics.tokens"].dropna()
    return float(tokens.median()) if len(tokens) else None
