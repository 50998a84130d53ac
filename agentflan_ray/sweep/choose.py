"""Which trial of a search is the best one, and what is written about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from agentflan_ray import storage
from agentflan_ray.analyse.pareto import undominated
from agentflan_ray.search.searcher import Objective
from agentflan_ray.search.space import to_weights
from agentflan_ray.search.trial import trial_name
from agentflan_ray.sweep.job import Job
from agentflan_ray.sweep.recipe import SweepRecipe


@dataclass(frozen=True)
class Choice:
    """The best trial; whether it keeps the constraints; and all that no other one beats, the best first."""

    best: FrozenTrial
    is_feasible: bool
    pareto: list[FrozenTrial]
    rule: str


def choose(trials: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> Choice:
    """The best of the complete trials on most of the data.

    Those that break a constraint come into question only where all do, and the report says so. With several objectives
    the best is that of the Pareto set which is best in the first objective (where equal, in the next): the user's order
    decides, and no scale of the others.

    Raises ``RuntimeError`` where no trial is complete.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        raise RuntimeError("No trial of the search was completed, so there is no best mixture; see the trials' errors.")
    # A trial of a part of the data is evidence, but no candidate beside those of more.
    whole = max(trial.user_attrs["config"]["fraction"] for trial in complete)
    of_whole = [trial for trial in complete if trial.user_attrs["config"]["fraction"] == whole]
    kept = [trial for trial in of_whole if all(excess <= 0 for excess in trial.constraints.values())]
    candidates = kept or of_whole
    signs = np.array([1.0 if objective.direction == "max" else -1.0 for objective in objectives])
    values = np.array([trial.values for trial in candidates]) * signs
    front = [place for place, is_kept in enumerate(undominated(values)) if is_kept]
    front.sort(key=lambda place: tuple(-values[place]))
    conditions = ["keep the constraints"] if kept and any(trial.constraints for trial in complete) else []
    if len(objectives) > 1:
        conditions.append(f"none beats in {', '.join(each.metric for each in objectives)}")
    rule = f"the best {objectives[0].metric}"
    rule += f" among the trials that {' and that '.join(conditions)}" if conditions else ""
    rule += "" if kept else "; no trial keeps all constraints"
    pareto = [candidates[place] for place in front]
    return Choice(pareto[0], bool(kept), pareto, rule)


def describe(trial: FrozenTrial, recipe: SweepRecipe) -> str:
    """The trial's objectives and what else tells most of a model."""
    metrics = trial.user_attrs["metrics"]
    names = [each.metric for each in recipe.objectives]
    names += [name for name in ("score", "tool_score", "false_call_rate", "over_refusal_rate") if name not in names]
    return ", ".join(f"{name} {metrics[name]:.2f}" for name in names)


def write_best(
    recipe: SweepRecipe, job: Job, trials: Sequence[FrozenTrial], choice: Choice, confirmed: list[dict[str, Any]]
) -> None:
    """Write ``best_mixture.json``."""
    result = _result(job, choice.best.number)
    complete = [trial.number for trial in trials if trial.state == TrialState.COMPLETE]
    storage.write_json(
        job.place("best_mixture.json"),
        {
            "trial": result["trial"],
            "rule": choice.rule,
            "weights": to_weights(result["parameters"]),
            "realised": result["realised"],
            "fraction": result["fraction"],
            "budget": recipe.budget,
            "parameters": result["parameters"],
            "metrics": result["metrics"],
            "intervals": result["intervals"],
            "objectives": [{"metric": each.metric, "direction": each.direction} for each in recipe.objectives],
            "constraints_held": choice.is_feasible,
            "pareto": [
                {
                    "trial": trial_name(trial.number),
                    "values": dict(zip([each.metric for each in recipe.objectives], trial.values, strict=True)),
                }
                for trial in choice.pareto
            ],
            "confirmed": [{"seed": each["seed"], "metrics": each["metrics"]} for each in confirmed],
            "candidates": _overlapping(job, recipe.objectives[0].metric, choice.best.number, complete),
        },
    )


def _overlapping(job: Job, metric: str, best: int, complete: Sequence[int]) -> list[str]:
    """The complete trials whose interval of the first objective overlaps the best one's; a metric of the training has
    no interval, and then there is the best alone."""
    intervals = {number: _result(job, number)["intervals"].get(metric) for number in complete}
    mine = intervals[best]
    if mine is None:
        return [trial_name(best)]
    return [
        trial_name(number)
        for number, interval in intervals.items()
        if interval is not None and interval["low"] <= mine["high"] and mine["low"] <= interval["high"]
    ]


def _result(job: Job, number: int) -> dict[str, Any]:
    result: dict[str, Any] = storage.read_json(job.place("trials", trial_name(number), "result.json"))
    return result
