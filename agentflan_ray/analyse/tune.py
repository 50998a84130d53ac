"""Ray Tune's results read from their files alone: ``params.json``, ``result.json`` or ``progress.csv``, ``error.txt``.

An experiment's folder holds one folder for each trial that began (Ray 2.60). Tune pickles what it needs for a resume;
none of that is opened. Of ``experiment_state-*.json`` only the states of the trials and their folders are read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from agentflan_ray.analyse.frame import Goal, Run, as_curves, json_lines, json_object, tidy, weights_of

TRIAL_FILES: tuple[str, ...] = ("result.json", "progress.csv", "params.json")

FACTS_OF_TUNE = frozenset(
    {"checkpoint_dir_name", "checkpoint_path", "config", "date", "done", "episodes_total", "experiment_tag"}
    | {"hostname", "iterations_since_restore", "node_ip", "phase", "pid", "should_checkpoint", "time_since_restore"}
    | {"time_this_iter_s", "timestamp", "timesteps_total", "trial_id", "trial_state"}
)
"""What Tune adds to each row about the process, or what is text and no metric."""

KNOWN_GOALS: tuple[Goal, ...] = (Goal("score", "max"), Goal("validation_loss", "min"), Goal("loss", "min"))
"""Tune's files do not name the objective: the first of these that a trial reported is taken."""


def is_experiment(folder: Path) -> bool:
    """Whether a folder holds trials of Ray Tune."""
    return any(folder.glob("experiment_state-*.json")) or bool(_trial_folders(folder))


def load(folder: Path) -> Run:
    """Read an experiment's folder into the tables that a run folder gives.

    Raises:
        ValueError: no trial has begun, or a file is broken before its last line.
    """
    folders = _trial_folders(folder)
    if not folders:
        raise ValueError(f"{folder}: no trial of this Ray Tune experiment has written anything yet.")
    states = _states(folder)
    read = {path: _rows(path) for path in folders}
    told = any(row.get("trial_state") for rows, _ in read.values() for row in rows[-1:])
    longest = max((rows[-1].get("training_iteration", 0) for rows, _ in read.values() if rows), default=0)
    records, curves, cut_off = [], [], []
    for path, (rows, is_whole) in read.items():
        record = _record(path, rows, states.get(path.name), longest=0 if told else longest)
        records.append(record)
        curves += [{"trial": record["trial"], **_numbers(row)} for row in rows]
        if not is_whole:
            cut_off.append(record["trial"])
    table = tidy(records)
    goal = next((goal for goal in KNOWN_GOALS if goal.column in table), None)
    notes = ["Read from Ray Tune's results alone: replies, corpus and realised shares are not in them."]
    if goal is None:
        notes.append(f"No trial reported one of {', '.join(known.metric for known in KNOWN_GOALS)}: nothing is ranked.")
    else:
        notes.append(f"Tune's files do not name the objective: {goal.metric} is taken.")
    if not told:
        notes.append(
            f"They do not say either which trials a scheduler stopped: those with fewer than {longest} reports count "
            "as stopped."
        )
    return Run(
        folder=folder,
        sweep={"name": folder.resolve().name},
        trials=table,
        curves=as_curves(curves),
        cut_off=tuple(cut_off),
        origin="Ray Tune results",
        goals=() if goal is None else (goal,),
        notes=tuple(notes),
    )


def _trial_folders(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and any((path / name).exists() for name in TRIAL_FILES)
    )


def _states(folder: Path) -> dict[str, str]:
    """Tune's state of each trial by the name of its folder, as the newest snapshot has it."""
    snapshots = sorted(folder.glob("experiment_state-*.json"))
    if not snapshots:
        return {}
    states = {}
    for text, _ in json_object(snapshots[-1], ("trial_data",))["trial_data"]:
        trial = json.loads(text)
        if trial.get("relative_logdir"):
            states[str(trial["relative_logdir"])] = str(trial["status"])
    return states


def _rows(folder: Path) -> tuple[list[dict[str, Any]], bool]:
    """What a trial reported, one row a report, and whether the last one is whole."""
    path = folder / "result.json"
    if path.exists():
        return json_lines(path)
    path = folder / "progress.csv"
    if not path.exists() or path.stat().st_size == 0:
        return [], True
    try:
        table = pd.read_csv(path)
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a table of comma-separated values ({error}); remove it.") from error
    return [{key: value for key, value in row.items() if not pd.isna(value)} for row in table.to_dict("records")], True


def _record(folder: Path, rows: list[dict[str, Any]], status: str | None, longest: int) -> dict[str, Any]:
    last = rows[-1] if rows else {}
    path = folder / "params.json"
    config = json_object(path) if path.exists() else last.get("config", {})
    parameters = {key: value for key, value in config.items() if key != "trial_number"}
    number = config.get("trial_number")
    metrics = _numbers(last)
    record: dict[str, Any] = {
        "trial": folder.name if number is None else f"{number:04d}",
        "number": number,
        "kind": "search",
        "state": _state(folder, last, status, longest),
        "error": _error(folder),
        "parameters": {key: value for key, value in parameters.items() if isinstance(value, int | float | str | bool)},
        "asked": weights_of(parameters),
        "metrics": metrics,
    }
    if "tokens" in metrics:
        record["tokens"] = metrics["tokens"]
    if rows and "time_total_s" in last:
        record["seconds"] = _seconds(rows)
    return record


def _state(folder: Path, last: dict[str, Any], status: str | None, longest: int) -> str:
    """How the trial ended. ``longest`` is 0 where the trials themselves say that they are complete."""
    if status == "ERROR" or (status is None and (folder / "error.txt").exists()):
        return "failed"
    if last.get("trial_state") == "complete":
        return "complete"
    if status in ("RUNNING", "PENDING", "PAUSED") or not last:
        return "unfinished"
    if not longest:
        return "pruned"
    return "complete" if last.get("training_iteration", 0) >= longest else "pruned"


def _error(folder: Path) -> str | None:
    """The last line of what the trial raised."""
    path = folder / "error.txt"
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else None


def _seconds(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The parts of a trial's time; training and start-up where the reports carry their own ``seconds``."""
    seconds = {"total": float(rows[-1]["time_total_s"])}
    if "seconds" in rows[0]:
        seconds["train"] = float(sum(row.get("seconds", 0.0) for row in rows))
        seconds["startup"] = max(0.0, float(rows[0]["time_total_s"]) - float(rows[0]["seconds"]))
    if "evaluate_seconds" in rows[-1]:
        seconds["evaluate"] = float(rows[-1]["evaluate_seconds"])
    return seconds


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    """The numbers of a report, nested ones under ``outer/inner``, without what Tune adds."""
    flat: dict[str, float] = {}
    for key, value in row.items():
        if key in FACTS_OF_TUNE or key.startswith("config/"):
            continue
        if isinstance(value, dict):
            flat |= {f"{key}/{inner}": number for inner, number in _numbers(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[key] = value
    return flat
