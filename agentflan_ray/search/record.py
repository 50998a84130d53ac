"""Keeps what happened to each trial as plain files, so that a report needs neither Ray nor the study."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
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


@dataclass
class _Running:
    began: float
    first_report: float | None = None
    train_seconds: float = 0.0
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
            running.rows = self._rows_before(trial, result.get("step", 0))
        running.train_seconds += float(result.get("seconds", 0.0))
        running.last = {key: value for key, value in result.items() if _is_a_metric(key, value)}
        running.rows.append(running.last)
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

    def _rows_before(self, trial: Trial, step: int) -> list[dict[str, Any]]:
        """What an earlier start of the trial left of its curve, before the step that it went on from."""
        uri = self._place(trial, "curve.jsonl")
        if not storage.exists(uri):
            return []
        rows = [json.loads(line) for line in storage.read_bytes(uri).decode().splitlines()]
        return [row for row in rows if row["step"] < step]

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
        "metrics": metrics,
        "intervals": {name: {key: row[key] for key in ("n", "low", "high")} for name, row in scores.items()},
        "seconds": seconds,
    }
    storage.write_json(storage.join(folder, "result.json"), result)


def _seconds(running: _Running) -> dict[str, float]:
    """Where the time went: until the first step, in steps, in scoring, and in all."""
    total = time.monotonic() - running.began
    return {
        "startup": (running.first_report or time.monotonic()) - running.began,
        "train": running.train_seconds,
        "evaluate": float(running.last.get("evaluate_seconds", 0.0)),
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
