"""Which trials are stopped early, and how Tune's schedulers are bound to the study.

Two ways: promotion at rungs, where trials are scored (:mod:`agentflan_ray.search.promotion`), and ASHA (Li et al., *A
System for Massively Parallel Hyperparameter Tuning*, 2020) on the validation loss over trained tokens. Two habits of
Tune's schedulers are put right here: they forget their rungs when a driver is restarted, so the study is asked, and the
rungs of ASHA are filled again from its curves; and they let a trial with a NaN loss run on, which is stopped here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from agentflan_ray.search.promotion import END, STOPPED, Promotion, Scored, Shown, decide
from agentflan_ray.search.searcher import COMPLETE, TOKENS, TRIAL_STATE, VALIDATION_LOSS, StudySearcher

RUNG = "rung"
"""Key of a report: the part of its data that the trial has read, at a rung."""


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Stop a trial at a rung where its validation loss is not among the best ``1 / reduction_factor`` so far.

    Attributes:
        grace_tokens: The first rung; no trial stops before it.
        max_tokens: What a full trial trains on; rungs lie below it. A trial that gets there is left to its end, so
            that its final evaluation is not lost.
        reduction_factor: Ratio of a rung to the one below it.
    """

    grace_tokens: int
    max_tokens: int
    reduction_factor: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.grace_tokens < self.max_tokens:
            raise ValueError(
                f"grace_tokens must lie between 0 and max_tokens, but is {self.grace_tokens:,} of {self.max_tokens:,}."
            )
        if self.reduction_factor <= 1:
            raise ValueError(f"reduction_factor must be above 1, but is {self.reduction_factor}.")


class _BoundToStudy:
    """What every scheduler here does with the study; mixed in before one of Tune's schedulers."""

    searcher: StudySearcher

    def on_trial_add(self, controller: Any, trial: Trial) -> None:
        """Takes a new or restored trial in. One that the study holds as ended is not run again.

        Tune calls this before it queues the trial by its status, so that a status set here is the one that counts.
        """
        super().on_trial_add(controller, trial)  # type: ignore[misc]  # a mixin: the scheduler comes after it
        if not trial.is_finished() and not self.searcher.adopt(trial.trial_id):
            trial.set_status(Trial.TERMINATED)
            trial.update_last_result({**self.searcher.report_of(trial.trial_id), "config": trial.config})

    def on_trial_result(self, controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stops a trial whose loss is no number any more, or that another driver has taken up; the scheduler decides
        about the others."""
        if self.searcher.has_lost(trial.trial_id) or not math.isfinite(result.get(VALIDATION_LOSS, 0.0)):
            return TrialScheduler.STOP  # type: ignore[no-any-return]
        return super().on_trial_result(controller, trial, result)  # type: ignore[misc,no-any-return]

    def on_trial_error(self, controller: Any, trial: Trial) -> None:
        """Passes on what a trial raised, just before Tune tells the searcher that it failed."""
        if trial.error_file:
            lines = Path(trial.error_file).read_text().strip().splitlines()
            self.searcher.explain_error(trial.trial_id, lines[-1])
        super().on_trial_error(controller, trial)  # type: ignore[misc]


class StudyFIFO(_BoundToStudy, FIFOScheduler):  # type: ignore[misc]  # ray is untyped
    """Runs every trial to its end."""

    def __init__(self, searcher: StudySearcher) -> None:
        super().__init__()
        self.searcher = searcher


class StudyASHA(_BoundToStudy, AsyncHyperBandScheduler):  # type: ignore[misc]  # ray is untyped
    """ASHA on the validation loss over tokens."""

    def __init__(self, searcher: StudySearcher, settings: EarlyStopping) -> None:
        super().__init__(
            time_attr=TOKENS,
            metric=VALIDATION_LOSS,
            mode="min",
            max_t=settings.max_tokens,
            grace_period=settings.grace_tokens,
            reduction_factor=settings.reduction_factor,
            stop_last_trials=False,
        )
        self.searcher = searcher
        for known in searcher.trials():
            if "curve" not in known.user_attrs:
                continue
            stand_in = SimpleNamespace(trial_id=known.user_attrs["tune_trial"])
            super(_BoundToStudy, self).on_trial_add(None, stand_in)
            for tokens, loss in known.user_attrs["curve"]:
                super().on_trial_result(None, stand_in, {TOKENS: tokens, VALIDATION_LOSS: loss})

    @property
    def metric(self) -> None:
        """None: Tune would demand this metric of each report, also of a final one that has objectives only."""
        return None

    def on_trial_result(self, controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Continue or stop. A trial that ends without a single report that ASHA can judge is an error.

        Reports without a validation loss are passed over: a loop may validate every so many steps.
        """
        judged = TOKENS in result and VALIDATION_LOSS in result
        if result.get(TRIAL_STATE) == COMPLETE and not judged and not self.searcher.has_curve(trial.trial_id):
            raise ValueError(
                f"Early stopping judges trials by {TOKENS} and {VALIDATION_LOSS} in one report, but trial "
                f"{trial.trial_id} is complete and never reported both; report them, or turn early stopping off."
            )
        return super().on_trial_result(controller, trial, result)


class StudyPromotion(_BoundToStudy, FIFOScheduler):  # type: ignore[misc]  # ray is untyped
    """Decides at each rung whether a trial goes on, by all that the study has seen.

    What a trial has shown at a rung and what was decided about it is one entry of its user attribute ``rungs``, which
    is written before Tune acts. A report of a rung that is known already, of a trial that was taken up again, changes
    nothing: what was decided stands.
    """

    def __init__(self, searcher: StudySearcher, settings: Promotion) -> None:
        super().__init__()
        self.searcher = searcher
        self._settings = settings
        self._signs = [-1.0 if objective.direction == "max" else 1.0 for objective in searcher.objectives]

    def on_trial_result(self, controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stops or goes on at a rung; goes on elsewhere.

        Raises:
            ValueError: A trial is complete and never reported a rung, so that nothing was there to judge it by.
        """
        decision = super().on_trial_result(controller, trial, result)
        if decision != TrialScheduler.CONTINUE:
            return decision
        rungs = self._rungs_of(trial.trial_id)
        if rungs and rungs[-1]["promotion"]["decision"] == STOPPED:
            return TrialScheduler.STOP  # type: ignore[no-any-return]  # its driver was killed before it was stopped
        if RUNG in result and all(known[RUNG] != result[RUNG] for known in rungs):
            return self._decide(trial.trial_id, result)
        if result.get(TRIAL_STATE) == COMPLETE and not rungs:
            raise ValueError(
                f"Promotion judges trials by what they report at rungs, but trial {trial.trial_id} is complete and "
                f"never reported a {RUNG}; give the trials rungs below 1, or run the search without promotion."
            )
        return decision

    def _rungs_of(self, trial_id: str) -> list[dict[str, Any]]:
        return list(self.searcher.trial_of(trial_id).user_attrs.get("rungs", []))

    def _decide(self, trial_id: str, result: Mapping[str, Any]) -> str:
        known = self.searcher.trial_of(trial_id)
        entry = {
            RUNG: result[RUNG],
            **{name: result[name] for name in ("step", TOKENS) if name in result},
            **(self.searcher.scores_in(result) or {}),
            "losses": {
                name.removeprefix(f"{VALIDATION_LOSS}/"): float(value)
                for name, value in result.items()
                if name.startswith(f"{VALIDATION_LOSS}/") and math.isfinite(value)
            },
        }
        mine = {**known.user_attrs, "rungs": [*self._rungs_of(trial_id), entry]}
        others = [each for each in self.searcher.trials() if each.number != known.number]
        seen = [self._shown(known.number, mine, None, result[RUNG])]
        seen += [self._shown(each.number, each.user_attrs, each, result[RUNG]) for each in others if _counts(each)]
        decision = decide(
            self._settings, known.number, [each for each in seen if each is not None], named="mix" in known.user_attrs
        )
        signed = [sign * value for sign, value in zip(self._signs, decision.estimates, strict=False)]
        self.searcher.keep_rung(trial_id, {**entry, "promotion": {**decision.to_json(), "estimate": signed}})
        return TrialScheduler.CONTINUE if decision.goes_on else TrialScheduler.STOP  # type: ignore[no-any-return]

    def _shown(
        self, number: int, attributes: Mapping[str, Any], complete: FrozenTrial | None, rung: float
    ) -> Shown | None:
        """What a trial has shown, with its losses at the rung; None where it has not been there."""
        entries = {each[RUNG]: each for each in attributes.get("rungs", [])}
        if rung not in entries:
            return None
        scores = {at: self._scored(each) for at, each in entries.items() if "values" in each}
        if complete is not None and complete.state == TrialState.COMPLETE:
            scores[END] = self._scored(
                {
                    "values": complete.values,
                    "deviations": attributes.get("deviations", [0.0] * len(complete.values)),
                    "constraints": complete.constraints,
                    "constraint_deviations": attributes.get("constraint_deviations", {}),
                }
            )
        return Shown(number, entries[rung]["losses"], scores)

    def _scored(self, scores: Mapping[str, Any]) -> Scored:
        limits = [str(constraint) for constraint in self.searcher.constraints]
        return Scored(
            tuple(sign * value for sign, value in zip(self._signs, scores["values"], strict=True)),
            tuple(scores["deviations"]),
            tuple(scores["constraints"][limit] for limit in limits),
            tuple(scores["constraint_deviations"].get(limit, 0.0) for limit in limits),
        )


def _counts(trial: FrozenTrial) -> bool:
    return trial.state in (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


def build_scheduler(
    searcher: StudySearcher, settings: EarlyStopping | Promotion | None
) -> StudyFIFO | StudyASHA | StudyPromotion:
    """The scheduler for a search; None runs every trial to its end."""
    if isinstance(settings, Promotion):
        return StudyPromotion(searcher, settings)
    return StudyFIFO(searcher) if settings is None else StudyASHA(searcher, settings)
