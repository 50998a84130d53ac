"""A run folder read into tidy tables, checked at the door.

``load`` reads everything a report needs; ``trials`` and ``curves`` give the two tables alone. A trial that was cut
off before its ``result.json`` was written is a row in state ``unfinished``, never a gap.
"""

from __future__ import annotations

import json
import math
import sqlite3
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pandas as pd

KINDS: tuple[str, ...] = ("paper", "proportional", "uniform", "search", "confirm", "ablation")
NAMED_MIXES: tuple[str, ...] = ("paper", "proportional", "uniform")
STATES: tuple[str, ...] = ("complete", "pruned", "failed", "unfinished")

MIN_TRIALS_FOR_IMPORTANCES = 4
"""Below this PED-ANOVA compares one best trial with at most two others, which says nothing."""


class Metric(NamedTuple):
    """How a metric is called in a report and which direction is good (None: not known)."""

    label: str
    better: str | None


METRICS: dict[str, Metric] = {
    "score": Metric("Score", "higher"),
    "tool_score": Metric("Tool score", "higher"),
    "right_tool": Metric("Right tool", "higher"),
    "right_arguments": Metric("Right arguments", "higher"),
    "right_answer": Metric("Right answer", "higher"),
    "sensible_rate": Metric("Sensible answers", "higher"),
    "false_call_rate": Metric("False calls", "lower"),
    "missed_call_rate": Metric("Missed calls", "lower"),
    "over_refusal_rate": Metric("Over-refusal", "lower"),
    "leak_rate": Metric("Protocol leaks", "lower"),
    "h_react": Metric("H_ReAct", "lower"),
    "h_general": Metric("H_General", "lower"),
    "hscore": Metric("HScore", "higher"),
    "validation_loss": Metric("Validation loss", "lower"),
}


def metric(name: str) -> Metric:
    """Label and direction of a metric; an unknown one keeps its own name and has no direction."""
    return METRICS.get(name, Metric(name.replace("_", " "), None))


@dataclass(frozen=True)
class Run:
    """What a run folder holds. ``best`` is None until the search has chosen; ``cut_off`` names the trials whose
    curve ends in a half-written row, which is left out."""

    folder: Path
    sweep: dict[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame
    cut_off: tuple[str, ...]
    best: dict[str, Any] | None
    evaluations: dict[str, dict[str, Any]]


def load(run: Path) -> Run:
    """Read a whole run folder. Evaluations are ordered base, best, then the others by name.

    Raises:
        ValueError: the folder, its ``sweep.json`` or all its trials are missing, or a file is half-written.
    """
    sweep = _sweep(run)
    table = trials(run)
    rows, cut_off = _curves(run)
    best_path = run / "best_mixture.json"
    best = _object(best_path, ("trial", "weights", "realised", "metrics")) if best_path.exists() else None
    if best is not None and best["trial"] not in set(table["trial"]):
        raise ValueError(
            f"{best_path}: the best trial is {best['trial']!r}, but {run / 'trials'} holds no such trial; "
            "copy the whole run folder or run the sweep again"
        )
    paths = {path.stem: path for path in (run / "evaluation").glob("*.json")}
    names = sorted(paths, key=lambda name: (name != "base", name != "best", name))
    evaluations = {name: _object(paths[name], ("metrics", "cases", "examples")) for name in names}
    return Run(run, sweep, table, rows, cut_off, best, evaluations)


def trials(run: Path) -> pd.DataFrame:
    """One row per trial, in the order of their numbers; unfinished ones last.

    Nested fields become dotted columns: ``parameters.learning_rate``, ``asked.reasoning``, ``metrics.score``,
    ``intervals.score.low``, ``seconds.train``. Columns that every table has: ``trial, number, kind, state, error``.

    Raises:
        ValueError: no run folder, no trials in it, or a ``result.json`` that is half-written or contradicts itself.
    """
    records = []
    for folder in _trial_folders(run):
        path = folder / "result.json"
        records.append(_result(path) if path.exists() else {"trial": folder.name, "state": "unfinished"})
    table = pd.json_normalize(records)
    leading = ["trial", "number", "kind", "state", "error"]
    columns = [*leading, *(column for column in table.columns if column not in leading)]
    table = table.reindex(columns=columns).astype({"number": "Int64"})
    return table.sort_values(["number", "trial"], na_position="last", ignore_index=True)


def curves(run: Path) -> pd.DataFrame:
    """One row per training step of every trial: ``trial, step, tokens, loss, loss/<component>, ...``.

    A last line without its end, as an interrupted trial leaves it, is not read; :func:`load` names those trials.

    Raises:
        ValueError: no run folder, no trials in it, or a broken line that is not the last one.
    """
    return _curves(run)[0]


def part(row: pd.Series, prefix: str) -> dict[str, Any]:
    """The fields of a trial below a dotted prefix, without the missing ones: ``part(row, "parameters")``."""
    return {
        str(column).removeprefix(f"{prefix}."): value
        for column, value in row.items()
        if str(column).startswith(f"{prefix}.") and not _is_missing(value)
    }


def interval(row: pd.Series, name: str) -> tuple[float, float] | None:
    """The 95 % interval of a trial's metric; None when the trial has none."""
    bounds = part(row, f"intervals.{name}")
    return (bounds["low"], bounds["high"]) if {"low", "high"} <= bounds.keys() else None


def importances(run: Path, name: str) -> tuple[dict[str, float], str]:
    """Optuna's parameter importances of the study ``name`` and a sentence that says what they rest on.

    PED-ANOVA (Watanabe et al., arXiv 2304.10255), Optuna's default: how far the parameters of the best 10 % of the
    trials differ from those of all. The shares sum to 1. Empty, with the reason, where they cannot be computed. The
    database is opened read-only.
    """
    path = run / "study.db"
    if not path.exists():
        return {}, f"Not computed: there is no {path.name} in the run folder."
    uri = f"{path.resolve().as_uri()}?mode=ro"
    storage = optuna.storages.RDBStorage(
        "sqlite://", engine_kwargs={"creator": lambda: sqlite3.connect(uri, uri=True, check_same_thread=False)}
    )
    try:
        studies = optuna.get_all_study_names(storage)
        if name not in studies:
            return {}, f"Not computed: {path.name} holds {', '.join(studies) or 'no study'}, not {name}."
        study = optuna.load_study(study_name=name, storage=storage)
        complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        if len(complete) < MIN_TRIALS_FOR_IMPORTANCES:
            return {}, (
                f"Not computed: {len(complete)} complete trials in the study, "
                f"at least {MIN_TRIALS_FOR_IMPORTANCES} are needed."
            )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values = optuna.importance.get_param_importances(study)
    finally:
        storage.remove_session()
        storage.engine.dispose()
    aim = "to reach the Pareto front" if len(study.directions) > 1 else "to be among the best 10 %"
    basis = f"How much each parameter mattered {aim} of {len(complete)} complete trials (PED-ANOVA)."
    notes = [str(warning.message) for warning in caught]
    return dict(values), " ".join([basis, *notes])


def _sweep(run: Path) -> dict[str, Any]:
    if not run.is_dir():
        raise ValueError(f"{run}: no such run folder; give the folder that holds sweep.json")
    path = run / "sweep.json"
    if not path.exists():
        raise ValueError(f"{run}: there is no sweep.json, so this is not a run folder")
    return _object(path, ("name", "command"))


def _trial_folders(run: Path) -> list[Path]:
    if not run.is_dir():
        raise ValueError(f"{run}: no such run folder; give the folder that holds sweep.json")
    root = run / "trials"
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if not folders:
        raise ValueError(f"{root}: no trial has been started, so there is nothing to analyse")
    return folders


def _result(path: Path) -> dict[str, Any]:
    result = _object(path, ("trial", "number", "kind", "state"))
    if result["trial"] != path.parent.name:
        raise ValueError(f"{path}: it belongs to trial {result['trial']!r} but lies in the folder {path.parent.name!r}")
    for field, allowed in (("kind", KINDS), ("state", STATES[:-1])):
        if result[field] not in allowed:
            raise ValueError(f"{path}: {field} is {result[field]!r}, expected one of {', '.join(allowed)}")
    score = result.get("metrics", {}).get("score")
    if result["state"] == "complete" and not (isinstance(score, int | float) and math.isfinite(score)):
        raise ValueError(f"{path}: the trial is complete but its metrics.score is {score!r}, expected a finite number")
    return result


def _curves(run: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    rows: list[dict[str, Any]] = []
    cut_off = []
    for folder in _trial_folders(run):
        path = folder / "curve.jsonl"
        if not path.exists():
            continue
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                if number == len(lines) and not text.endswith("\n"):
                    cut_off.append(folder.name)
                    continue
                raise ValueError(f"{path}:{number}: not a JSON row ({error.msg}); remove the line") from error
            rows.append({"trial": folder.name, **row})
    return pd.DataFrame(rows, columns=None if rows else ["trial", "step", "tokens", "loss"]), tuple(cut_off)


def _object(path: Path, required: tuple[str, ...]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}:{error.lineno}: not complete JSON ({error.msg}); it was probably cut off while being written: "
            "remove it or run that step again"
        ) from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(value).__name__}")
    missing = [key for key in required if key not in value]
    if missing:
        raise ValueError(f"{path}: the fields {', '.join(missing)} are missing")
    return value


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
