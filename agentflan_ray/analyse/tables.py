"""The tidy tables and ``report.json``: all numbers of a report, for machines."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agentflan_ray.analyse import frame
from agentflan_ray.analyse.analysis import Analysis
from agentflan_ray.analyse.frame import Run
from agentflan_ray.analyse.headline import headline

FILES: tuple[str, ...] = ("trials.csv", "trials.parquet", "curves.csv", "curves.parquet", "report.json")


def write(run: Run, analysis: Analysis, folder: Path) -> None:
    """Write :data:`FILES`: one row per trial, one row per point of its curve, and everything as JSON."""
    trials = run.trials.copy()
    if isinstance(analysis.cost, str):
        hours = pd.Series(math.nan, index=trials.index)
    else:
        hours = trials["trial"].map(analysis.cost.by_trial)
    trials = pd.concat([trials, hours.rename("cost.device_hours")], axis=1)
    for name, table in (("trials", trials), ("curves", run.curves)):
        table.to_csv(folder / f"{name}.csv", index=False)
        _for_parquet(table).to_parquet(folder / f"{name}.parquet", index=False)
    text = json.dumps(report(run, analysis), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")


def report(run: Run, analysis: Analysis) -> dict[str, Any]:
    """The whole report as plain JSON; what is not a number there (NaN, infinity) is null."""
    top = headline(run)
    states = run.trials["state"].value_counts()
    content = {
        "name": run.name,
        "origin": run.origin,
        "notes": list(run.notes),
        "headline": {"verdict": top.verdict, "sentence": top.sentence},
        "objectives": [goal._asdict() for goal in run.goals],
        "states": {state: int(states.get(state, 0)) for state in frame.STATES},
        "cut_off": list(run.cut_off),
        "trials": [
            {str(key): value for key, value in row.items() if not frame.is_missing(value)}
            for row in run.trials.to_dict("records")
        ],
        "best": run.best,
        "proof": run.proof,
        "evaluations": {
            model: {key: evaluation.get(key) for key in ("model", "metrics", "cases", "protocol", "seconds")}
            for model, evaluation in run.evaluations.items()
        },
        "sweep": run.sweep,
        **{field.name: getattr(analysis, field.name) for field in dataclasses.fields(analysis)},
    }
    plain: dict[str, Any] = _plain(content)
    return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _for_parquet(table: pd.DataFrame) -> pd.DataFrame:
    """The table with one type a column: what mixes numbers and text, or holds lists, becomes JSON text."""
    columns = {}
    for name in table.columns:
        column = table[name]
        kinds = {type(value) for value in column.dropna()}
        if column.dtype == object and (len(kinds) > 1 or kinds & {list, dict}):
            numbers = kinds <= {int, float, np.float64, np.int64}
            column = (
                pd.to_numeric(column)
                if numbers
                else column.map(lambda value: None if frame.is_missing(value) else json.dumps(_plain(value)))
            )
        columns[str(name)] = column
    return pd.DataFrame(columns)
