"""Keeps what happened to each trial as plain files, so that a report needs neither Ray nor the study."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from agentflan_ray import storage

_FACTS_OF_TUNE = (
    "date",
    "hostname",
    "node_ip",
    "pid",
    "time",
    "iterations",
    "config",
    "timestamp",
    "done",
    "checkpoint",
)


@dataclass(frozen=True)
class Ending:
    """How a trial ended, for its ``result.json``."""

    name: str
    kind: str
    state: str
    error: str | None = None
    rungs: Sequence[Mapping[str, Any]] = ()
    """What it has shown at each rung and what was decided, as the study's user attribute ``rungs`` has it."""


@dataclass
class _Running:
    began: float
    first_report: float | None = None
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)


class Recorder(Callback):  # type: ignore[misc]  # ray is untyped
    """Writes ``curve.jsonl`` and ``result.json`` of each trial below ``trials/``.

    ``name_of`` gives a trial's folder and ``ending_of`` how it ended, once it has. ``after_end`` runs after each end.
    """

    def __init__(
        self,
        run_uri: str,
        name_of: Callable[[Trial], str],
        ending_of: Callable[[Trial], Ending],
        after_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._run_uri = run_uri
        self._name_of = name_of
        self._ending_of = ending_of
        self._after_end = after_end
        self._running: dict[str, _Running] = {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Starts the clock."""
        del iteration, trials, info
        self._running[trial.trial_id] = _Running(time.monotonic())

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Adds a row to the curve."""
        del iteration, trials, info
        running = self._running[trial.trial_id]
        if running.first_report is None:
            running.first_report = time.monotonic() - float(result.get("seconds", 0.0))
            running.rows = self._rows_before(trial)
        seconds = float(result.get("seconds", 0.0))
        # A trainer that goes on after a worker died says its checkpoint's report again.
        if not (seconds and any(row.get("seconds") == seconds for row in running.rows[-1:])):
            running.train_seconds += seconds
            running.evaluate_seconds += float(result.get("evaluate_seconds", 0.0))
        metrics = {key: value for key, value in result.items() if _is_a_metric(key, value)}
        # Scores that a task of its own reports are those of the last step.
        running.last = metrics if "step" in metrics else {**running.last, **metrics}
        if "step" not in running.last:
            return  # it failed before its first step
        # A step that is done again stands in the curve once.
        running.rows = [row for row in running.rows if row["step"] < running.last["step"]] + [running.last]
        lines = "".join(json.dumps(row) + "\n" for row in running.rows)
        storage.write_bytes(self._place(trial, "curve.jsonl"), lines.encode())

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Writes how it ended."""
        del iteration, trials, info
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Writes how it ended."""
        del iteration, trials, info
        self._end(trial)

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks into tuner.pkl, and this one holds the way to the study.
        return {"_run_uri": self._run_uri}

    def _end(self, trial: Trial) -> None:
        running = self._running.pop(trial.trial_id, None)
        metrics, seconds = (running.last, _seconds(running)) if running else ({}, {})
        write_result(self._run_uri, self._ending_of(trial), trial.config.get("trial_number"), metrics, seconds)
        self._after_end()

    def _rows_before(self, trial: Trial) -> list[dict[str, Any]]:
        """What an earlier start of the trial left of its curve."""
        uri = self._place(trial, "curve.jsonl")
        if not storage.exists(uri):
            return []
        return [json.loads(line) for line in storage.read_bytes(uri).decode().splitlines()]

    def _place(self, trial: Trial, file: str) -> str:
        return storage.join(self._run_uri, "trials", self._name_of(trial), file)


def write_result(
    run_uri: str, ending: Ending, number: int | None, metrics: dict[str, Any], seconds: dict[str, float]
) -> None:
    """Write a trial's ``result.json`` from how it ended and what its folder says."""
    folder = storage.join(run_uri, "trials", ending.name)
    facts_uri, evaluation_uri = storage.join(folder, "trial.json"), storage.join(folder, "evaluation.json")
    facts = storage.read_json(facts_uri) if storage.exists(facts_uri) else {"trial": ending.name}
    scored = ending.state == "complete" and storage.exists(evaluation_uri)
    scores = storage.read_json(evaluation_uri)["metrics"] if scored else {}
    result = {
        **facts,
        "number": number,
        "kind": ending.kind,
        "state": ending.state,
        "error": ending.error,
        "promotion": [_promotion(rung) for rung in ending.rungs],
        "metrics": metrics,
        "intervals": {name: {key: row[key] for key in ("n", "low", "high")} for name, row in scores.items()},
        "seconds": seconds,
    }
    storage.write_json(storage.join(folder, "result.json"), result)


def _promotion(rung: Mapping[str, Any]) -> dict[str, Any]:
    """A rung with its decision, flat; the losses there stand in the curve."""
    facts = {name: value for name, value in rung.items() if name not in ("losses", "promotion")}
    return {**facts, **rung["promotion"]}


def _seconds(running: _Running) -> dict[str, float]:
    """Where the time went: until the first step, in steps, in scoring, and in all."""
    total = time.monotonic() - running.began
    return {
        "startup": (running.first_report or time.monotonic()) - running.began,
        "train": running.train_seconds,
        "evaluate": running.evaluate_seconds,
        "total": total,
    }


def _is_a_metric(key: str, value: Any) -> bool:
    # Tune adds facts about the process to each report.
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and not key.startswith(("config/", "time_", "timesteps", "training_iteration"))
        and key not in _FACTS_OF_TUNE
    )


@dataclass(frozen=True)
class Saved:
    """What a search trained on, and what it would have trained on otherwise, in tokens and seconds of its trials.

    ``spent`` is all that ended trials took. ``to_the_end`` is what they would have taken had none been stopped, each at
    its own speed, scored like the others; ``restarting`` what they would have taken had each begun anew at each rung it
    reached, as successive halving by separate trainings does. Seconds are None where no trial's time is known.
    """

    num_trials: int
    num_stopped: int
    tokens_spent: int
    tokens_to_the_end: int
    tokens_restarting: int
    seconds_spent: float | None
    seconds_to_the_end: float | None
    seconds_restarting: float | None

    @property
    def share(self) -> float:
        """Part of the tokens of training all to the end that was not spent."""
        return 1 - self.tokens_spent / self.tokens_to_the_end if self.tokens_to_the_end else 0.0

    def __str__(self) -> str:
        text = (
            f"{self.num_stopped} of {self.num_trials} trials were stopped at rungs: {self.tokens_spent:,} tokens "
            f"trained, {self.share:.0%} less than the {self.tokens_to_the_end:,} of all trials to their ends, and "
            f"{self.tokens_restarting:,} had each rung begun anew"
        )
        if self.seconds_spent is None or self.seconds_to_the_end is None:
            return text + "."
        return text + f"; {self.seconds_spent:,.0f} s in trials, where {self.seconds_to_the_end:,.0f} s were to be."


def saved_compute(results: Iterable[Mapping[str, Any]]) -> Saved:
    """Adds up what promotion saved, from the trials' ``result.json``.

    Failed trials are left out, and so are those that were retrained outside of the search. Each counts with the step
    that it has reached: a trial trains on for a moment until it is stopped.
    """
    counted = [each for each in results if each["number"] is not None and each["state"] in ("complete", "pruned")]
    trained = [each for each in counted if each["metrics"].get("step") and each.get("steps")]
    timed = [each for each in trained if each["seconds"].get("train")]
    scorings = [each["seconds"]["evaluate"] for each in timed if each["state"] == "complete"]
    scoring = sorted(scorings)[len(scorings) // 2] if scorings else 0.0
    spent = to_the_end = restarting = 0
    seconds = seconds_to_the_end = seconds_restarting = 0.0
    for each in trained:
        step, steps = each["metrics"]["step"], each["steps"]
        # One that was stopped has its last rung in what it trained.
        reached = [rung["step"] for rung in each.get("promotion", ())]
        again = sum(reached if each["state"] == "complete" else reached[:-1])
        per_step = each["metrics"]["tokens"] / step
        whole = steps if each["state"] == "pruned" else step
        spent, to_the_end = spent + round(step * per_step), to_the_end + round(whole * per_step)
        restarting += round((step + again) * per_step)
        if each in timed:
            took, pace = each["seconds"]["total"], each["seconds"]["train"] / step
            seconds += took
            seconds_restarting += took + again * pace
            left_out = max(scoring - each["seconds"]["evaluate"], 0.0) if each["state"] == "pruned" else 0.0
            seconds_to_the_end += took + (whole - step) * pace + left_out
    known = bool(timed)
    return Saved(
        num_trials=len(trained),
        num_stopped=sum(each["state"] == "pruned" for each in trained),
        tokens_spent=spent,
        tokens_to_the_end=to_the_end,
        tokens_restarting=restarting,
        seconds_spent=seconds if known else None,
        seconds_to_the_end=seconds_to_the_end if known else None,
        seconds_restarting=seconds_restarting if known else None,
    )
