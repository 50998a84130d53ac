"""Which trials are stopped early, and how Tune's schedulers are bound to the study.

Early stopping is ASHA (Li et al., *A System for Massively Parallel Hyperparameter Tuning*, 2020) on the validation
loss over trained tokens. Two habits of Tune's schedulers are put right here: they forget their rungs when a driver is
restarted, so they are filled again from the curves in the study; and they let a trial with a NaN loss run on, which
is stopped here, with ASHA or without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from agentflan_ray.search.searcher import COMPLETE, TOKENS, TRIAL_STATE, VALIDATION_LOSS, StudySearcher


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
        """Stops a trial whose loss is no number any more; the scheduler decides about the others."""
        if not math.isfinite(result.get(VALIDATION_LOSS, 0.0)):
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


def build_scheduler(searcher: StudySearcher, settings: EarlyStopping | None) -> StudyFIFO | StudyASHA:
    """The scheduler for a search; None runs every trial to its end."""
    return StudyFIFO(searcher) if settings is None else StudyASHA(searcher, settings)
