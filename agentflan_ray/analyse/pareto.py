"""The trials that no other one beats in every objective, with those that break a constraint told apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from agentflan_ray.analyse.frame import REPEATED_KINDS, Goal, Run

SECOND_METRICS: tuple[str, ...] = ("false_call_rate", "h_react")
"""What stands beside the score where the search had one objective only: hallucination, smaller is better."""


@dataclass(frozen=True)
class Front:
    """``trials`` are the points in the order of the table; ``feasible`` is None where no constraint was recorded."""

    goals: tuple[Goal, Goal]
    is_searched: bool
    """False where the search had one objective and the report chose the second one."""
    trials: list[str]
    values: list[tuple[float, float]]
    feasible: list[bool | None]
    front: list[str]
    """Undominated among those that break no constraint, by the first objective."""
    others: int
    """Objectives beyond the two that are drawn."""


def fronts(run: Run) -> list[Front] | str:
    """One front for each pair of the first objective with another, or a sentence on why there is none."""
    if not run.goals:
        return "The trials have no objective that is known."
    first, *rest = run.goals
    is_searched = bool(rest)
    if not rest:
        rest = [Goal(name, "min") for name in SECOND_METRICS if f"metrics.{name}" in run.trials][:1]
    found = [front for second in rest[:4] if (front := _front(run, first, second, is_searched)) is not None]
    if found:
        return found
    return "The search had one objective, and no complete trial carries a second one such as false calls."


def undominated(values: np.ndarray) -> np.ndarray:
    """Which rows (n, m) no other row beats: larger is better in every column. Equal rows are all kept."""
    order = np.lexsort(tuple(-values[:, column] for column in reversed(range(values.shape[1]))))
    kept = np.zeros(len(values), dtype=bool)
    best: list[np.ndarray] = []
    for index in order:
        row = values[index]
        beaten = any((other >= row).all() and (other > row).any() for other in best)
        if not beaten:
            kept[index] = True
            best.append(row)
    return kept


def _front(run: Run, first: Goal, second: Goal, is_searched: bool) -> Front | None:
    rows = run.scored(first)
    rows = rows[~rows["kind"].isin(REPEATED_KINDS)]
    if second.column not in rows:
        return None
    rows = rows[np.isfinite(pd.to_numeric(rows[second.column], errors="coerce"))]
    if rows.empty:
        return None
    feasible = _feasible(rows)
    values = rows[[first.column, second.column]].to_numpy(float)
    allowed = np.array([each is not False for each in feasible])
    kept = np.zeros(len(rows), dtype=bool)
    kept[allowed] = undominated(values[allowed] * (first.sign, second.sign))
    places = np.flatnonzero(kept)
    places = places[np.argsort(-first.sign * values[places, 0], kind="stable")]
    return Front(
        (first, second),
        is_searched,
        rows["trial"].astype(str).tolist(),
        [(float(x), float(y)) for x, y in values],
        feasible,
        rows["trial"].astype(str).iloc[places].tolist(),
        max(len(run.goals) - 2, 0),
    )


def _feasible(rows: pd.DataFrame) -> list[bool | None]:
    columns = [column for column in rows.columns if str(column).startswith("constraints.")]
    excesses = rows[columns].to_numpy(float)
    return [None if not len(row) or np.isnan(row).all() else bool(np.nanmax(row) <= 0) for row in excesses]
