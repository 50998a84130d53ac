"""Which parameters mattered, by two methods of Optuna's for each objective.

PED-ANOVA (Watanabe et al., arXiv 2304.10255) asks how far the parameters of the best tenth differ from those of all.
fANOVA (Hutter et al., 2014) asks how much of the variance a forest of trees explains by each; it needs scikit-learn,
which this package does not.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial

from agentflan_ray.analyse.frame import REPEATED_KINDS, Goal, Run, part
from agentflan_ray.analyse.response import LOG_SPAN

MIN_TRIALS = 4
"""Below this PED-ANOVA compares one best trial with at most two others, which says nothing."""
TRIALS_PER_PARAMETER = 10
"""The usual rule of thumb for the slopes of a regression; with fewer the order is called a hint."""
MAX_TRIALS_OF_A_FOREST = 250
"""64 trees over 435 trials take 6 s of one core for each objective."""


@dataclass(frozen=True)
class Importance:
    """Shares by parameter, which sum to 1, the largest first; empty with the reason in ``basis``."""

    goal: Goal
    method: str
    shares: dict[str, float]
    num_trials: int
    basis: str


def importances(run: Run) -> list[Importance]:
    """Both methods for each objective."""
    return [each for goal in run.goals for each in _of(run, goal)]


def _of(run: Run, goal: Goal) -> list[Importance]:
    trials = _trials(run, goal)
    if len(trials) < MIN_TRIALS:
        reason = f"Not computed: {len(trials)} complete trials with a {goal.metric}, at least {MIN_TRIALS} are needed."
        return [Importance(goal, "PED-ANOVA", {}, len(trials), reason)]
    if not {name for trial in trials for name, each in trial.distributions.items() if not each.single()}:
        return [Importance(goal, "PED-ANOVA", {}, len(trials), "Not computed: no parameter was varied.")]
    if len({trial.value for trial in trials}) == 1:
        reason = f"Not computed: all {len(trials)} complete trials have the same {goal.metric}."
        return [Importance(goal, "PED-ANOVA", {}, len(trials), reason)]
    found = [
        _evaluate(
            goal,
            "PED-ANOVA",
            trials,
            PedAnovaImportanceEvaluator(),
            f"How much each parameter mattered to be among the best 10 % of {len(trials)} complete trials (PED-ANOVA).",
        )
    ]
    try:
        forest = FanovaImportanceEvaluator(seed=0)
    except ImportError as error:
        reason = f"fANOVA is not computed: it needs scikit-learn (pip install scikit-learn): {_first_line(error)}"
        return [*found, Importance(goal, "fANOVA", {}, len(trials), reason)]
    some = trials[:: -(-len(trials) // MAX_TRIALS_OF_A_FOREST)]
    basis = f"How much of the variance over {len(some)} complete trials each parameter explains (fANOVA)."
    return [*found, _evaluate(goal, "fANOVA", some, forest, basis)]


def _first_line(error: ImportError) -> str:
    """What is missing, without Optuna's advice around it."""
    return str(error).partition(". ")[0].rstrip(".") + "."


def _evaluate(
    goal: Goal, method: str, trials: list[FrozenTrial], evaluator: BaseImportanceEvaluator, basis: str
) -> Importance:
    study = _study(goal, trials)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        except (ValueError, RuntimeError) as error:
            return Importance(goal, method, {}, len(trials), f"{method} is not computed: {error}")
    if len(trials) < TRIALS_PER_PARAMETER * len(shares):
        basis += " With this few trials the order is a hint, not a finding."
    notes = dict.fromkeys(str(each.message) for each in caught)
    ordered = dict(sorted(((str(name), float(share)) for name, share in shares.items()), key=lambda pair: -pair[1]))
    return Importance(goal, method, ordered, len(trials), " ".join([basis, *notes]))


def _study(goal: Goal, trials: list[FrozenTrial]) -> optuna.Study:
    """A study in memory with one objective: of several, either method would look at the first or at the front."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize" if goal.direction == "max" else "minimize")
        study.add_trials(trials)
    finally:
        optuna.logging.set_verbosity(before)
    return study


def _trials(run: Run, goal: Goal) -> list[FrozenTrial]:
    """The complete trials of the search with this objective's value, and the bounds of their parameters."""
    rows = run.scored(goal)
    rows = rows[~rows["kind"].isin(REPEATED_KINDS)]
    known = {
        trial.number: trial for trial in run.searched if trial.state == TrialState.COMPLETE and trial.distributions
    }
    tried = _tried(rows) if not known else {}
    found = []
    for _, row in rows.iterrows():
        value = float(row[goal.column])
        if not known:
            parameters = {name: each for name, each in part(row, "parameters").items() if name in tried}
            found.append(create_trial(params=parameters, distributions={n: tried[n] for n in parameters}, value=value))
        elif not pd.isna(row["number"]) and int(row["number"]) in known:
            trial = known[int(row["number"])]
            found.append(create_trial(params=trial.params, distributions=trial.distributions, value=value))
    return found


def _tried(rows: pd.DataFrame) -> dict[str, BaseDistribution]:
    """Bounds of the parameters as they were tried, where no study says what was searched."""
    found: dict[str, BaseDistribution] = {}
    for column in rows.columns:
        if not str(column).startswith("parameters."):
            continue
        values = rows[column].dropna().tolist()
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            numbers = [float(value) for value in values if np.isfinite(value)]
            if numbers and len(numbers) == len(values):
                low, high = min(numbers), max(numbers)
                log = low > 0 and high / low >= LOG_SPAN
                found[str(column).partition(".")[2]] = FloatDistribution(low, high, log=log)
        elif all(isinstance(value, str | bool | int | float) for value in values):
            choices = sorted(set(values), key=str)
            found[str(column).partition(".")[2]] = CategoricalDistribution(choices)
    return found
