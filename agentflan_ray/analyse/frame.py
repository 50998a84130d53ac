"""A run folder read into tidy tables, checked at the door.

``load`` reads everything a report needs; ``trials`` and ``curves`` give the two tables alone. A trial that was cut
off before its ``result.json`` was written is a row in state ``unfinished``, never a gap.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial

from agentflan_ray.sample import COMPONENTS
from agentflan_ray.search.space import MIXTURE_PARAMETERS, to_weights

KINDS: tuple[str, ...] = ("paper", "proportional", "uniform", "search", "recommended", "confirm", "proof", "ablation")
NAMED_MIXES: tuple[str, ...] = ("paper", "proportional", "uniform")
STATES: tuple[str, ...] = ("complete", "pruned", "failed", "unfinished")

REPEATED_KINDS: tuple[str, ...] = ("confirm", "proof", "ablation")
"""Trainings after the search: observations of their mixes, yet no candidates of the search."""

PROOF_FIELDS: tuple[str, ...] = ("winner", "metric", "num_items", "mixes", "comparisons", "regrets")
"""Fields that ``proof.json`` must have."""

FRACTION = "fraction"
MODEL_SIZE = "model_size"
"""Columns of the two fidelities: the fraction of the data, and the number of the model's parameters."""


class Metric(NamedTuple):
    """How a metric is called in a report and which direction is good (None: not known)."""

    label: str
    better: str | None


METRICS: dict[str, Metric] = {
    "score": Metric("Score", "higher"),
    "weighted_score": Metric("Weighted score", "higher"),
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


class Goal(NamedTuple):
    """An objective of the search; its values stand in the column ``metrics.<metric>``."""

    metric: str
    direction: Literal["max", "min"]

    @property
    def column(self) -> str:
        """Its column among the trials."""
        return f"metrics.{self.metric}"

    @property
    def sign(self) -> float:
        """1 where more is better, else -1."""
        return 1.0 if self.direction == "max" else -1.0


@dataclass(frozen=True)
class Run:
    """What a place holds: a run folder, Ray Tune's results or an Optuna study.

    ``best`` is None until the search has chosen; ``cut_off`` names the trials whose curve ends in a half-written row,
    which is left out. Only a run folder has ``best`` and ``evaluations``, and more than a name in ``sweep``.
    ``searched`` are the study's trials, with the bounds of their parameters.
    """

    folder: Path
    sweep: dict[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame
    cut_off: tuple[str, ...] = ()
    best: dict[str, Any] | None = None
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    origin: Literal["run folder", "Ray Tune results", "Optuna study"] = "run folder"
    goals: tuple[Goal, ...] = (Goal("score", "max"),)
    searched: tuple[FrozenTrial, ...] = ()
    proof: dict[str, Any] | None = None
    """The winner against the named mixes over several seeds, see :class:`agentflan_ray.search.proof.Proof`."""
    notes: tuple[str, ...] = ()
    """What a reader must know of how the place was read."""

    @property
    def name(self) -> str:
        """Name of the run, experiment or study."""
        return str(self.sweep["name"])

    def scored(self, goal: Goal) -> pd.DataFrame:
        """The complete trials that carry a finite value of the objective."""
        if goal.column not in self.trials:
            return self.trials.iloc[:0]
        values = pd.to_numeric(self.trials[goal.column], errors="coerce")
        return self.trials[(self.trials["state"] == "complete") & np.isfinite(values)]


def load(run: Path) -> Run:
    """Read a whole run folder. Evaluations are ordered base, best, then the others by name.

    Raises:
        ValueError: the folder, its ``sweep.json`` or all its trials are missing, or a file is half-written.
    """
    sweep = _sweep(run)
    table = trials(run)
    rows, cut_off = _curves(run)
    best_path = run / "best_mixture.json"
    best = json_object(best_path, ("trial", "weights", "realised", "metrics")) if best_path.exists() else None
    if best is not None and best["trial"] not in set(table["trial"]):
        raise ValueError(
            f"{best_path}: the best trial is {best['trial']!r}, but {run / 'trials'} holds no such trial; "
            "copy the whole run folder or run the sweep again"
        )
    paths = {path.stem: path for path in (run / "evaluation").glob("*.json")}
    names = sorted(paths, key=lambda name: (name != "base", name != "best", name))
    evaluations = {name: json_object(paths[name], ("metrics", "cases", "examples")) for name in names}
    proof_path = run / "proof.json"
    proof = json_object(proof_path, PROOF_FIELDS) if proof_path.exists() else None
    return Run(run, sweep, table, rows, cut_off, best, evaluations, proof=proof)


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
    return tidy(records)


def tidy(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Records of trials as one table, in the order of their numbers; see :func:`trials` for the columns."""
    table = pd.json_normalize(records)
    leading = ["trial", "number", "kind", "state", "error"]
    columns = [*leading, *(column for column in table.columns if column not in leading)]
    table = table.reindex(columns=columns).astype({"number": "Int64"})
    for name in (FRACTION, MODEL_SIZE):
        # What a trial was trained on stands at its top; where that is not recorded, its parameter of that name says it.
        if name not in table and f"parameters.{name}" in table:
            table[name] = table[f"parameters.{name}"]
    # A copy lies in one piece: pandas warns of a table of a hundred pieces at each column that is added to it.
    return table.sort_values(["number", "trial"], na_position="last", ignore_index=True).copy()


def weights_of(parameters: dict[str, Any]) -> dict[str, float]:
    """The mixture that a point of the search's space asks for; empty where these are other parameters."""
    if not set(MIXTURE_PARAMETERS) <= parameters.keys():
        return {}
    return to_weights(parameters)


def components(table: pd.DataFrame) -> list[str]:
    """The mixture's components that the trials carry shares of, in the order of the field."""
    found = {str(column).partition(".")[2] for column in table if str(column).startswith(("asked.", "realised."))}
    order = list(COMPONENTS)
    return sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name))


def weights(table: pd.DataFrame) -> pd.DataFrame:
    """Each trial's shares by component: the realised ones, else the asked ones; NaN where a trial has neither."""
    shares = {}
    for name in components(table):
        asked = table[f"asked.{name}"] if f"asked.{name}" in table else pd.Series(np.nan, table.index)
        shares[name] = table.get(f"realised.{name}", asked).astype(float).fillna(asked.astype(float))
    return pd.DataFrame(shares, index=table.index)


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
        if str(column).startswith(f"{prefix}.") and not is_missing(value)
    }


def interval(row: pd.Series, name: str) -> tuple[float, float] | None:
    """The 95 % interval of a trial's metric; None when the trial has none."""
    bounds = part(row, f"intervals.{name}")
    return (bounds["low"], bounds["high"]) if {"low", "high"} <= bounds.keys() else None


def _sweep(run: Path) -> dict[str, Any]:
    if not run.is_dir():
        raise ValueError(f"{run}: no such run folder; give the folder that holds sweep.json")
    path = run / "sweep.json"
    if not path.exists():
        raise ValueError(f"{run}: there is no sweep.json, so this is not a run folder")
    return json_object(path, ("name", "command"))


def _trial_folders(run: Path) -> list[Path]:
    if not run.is_dir():
        raise ValueError(f"{run}: no such run folder; give the folder that holds sweep.json")
    root = run / "trials"
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if not folders:
        raise ValueError(f"{root}: no trial has been started, so there is nothing to analyse")
    return folders


def _result(path: Path) -> dict[str, Any]:
    result = json_object(path, ("trial", "number", "kind", "state"))
    if result["trial"] != path.parent.name:
        raise ValueError(f"{path}: it belongs to trial {result['trial']!r} but lies in the folder {path.parent.name!r}")
    for name, allowed in (("kind", KINDS), ("state", STATES[:-1])):
        if result[name] not in allowed:
            raise ValueError(f"{path}: {name} is {result[name]!r}, expected one of {', '.join(allowed)}")
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
        read, is_whole = json_lines(path)
        rows += [{"trial": folder.name, **row} for row in read]
        if not is_whole:
            cut_off.append(folder.name)
    return as_curves(rows), tuple(cut_off)


def as_curves(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows of curves as a table that has its columns even when it is empty."""
    return pd.DataFrame(rows, columns=None if rows else ["trial", "step", "tokens", "loss"])


def json_lines(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The rows of a file of JSON lines, and whether its last one is whole; a half-written last one is left out.

    Raises:
        ValueError: a broken line that is not the last one, or a row that is no object.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        place = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}:{place}: not text in UTF-8 ({error.reason}); remove the line") from error
    lines = text.splitlines()
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines) and not text.endswith("\n"):
                return rows, False
            raise ValueError(f"{path}:{number}: not a JSON row ({error.msg}); remove the line") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}; remove the line")
        rows.append(row)
    return rows, True


def json_object(path: Path, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """A file that holds one JSON object with the required fields; ``ValueError`` with file and line otherwise."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text in UTF-8 ({error.reason}); remove it or copy it again") from error
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


def is_missing(value: Any) -> bool:
    """Whether a cell of the trials holds nothing."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
