"""Promotion at rungs: the estimate behind it, the decision, and Tune's scheduler on a study, without Ray running."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler

from agentflan_ray.search.promotion import END, Promotion, Scored, Shown, decide, estimate
from agentflan_ray.search.scheduler import StudyPromotion, build_scheduler
from agentflan_ray.search.searcher import Constraint, Objective, StudySearcher
from agentflan_ray.search.space import Space

SETTINGS = Promotion(reduction_factor=2, threshold=0.3, min_trials=4)


def shown(number: int, value: float, error: float = 0.05, end: float | None = None, **losses: float) -> Shown:
    """A trial seen at a quarter of its data, complete where ``end`` is given."""
    scores = {0.25: Scored((value,), (error,))}
    if end is not None:
        scores[END] = Scored((end,), (error,))
    return Shown(number, losses, scores)


# ---- the estimate --------------------------------------------------------------------------------------------------


def test_without_noise_the_estimate_keeps_what_was_seen_at_the_end() -> None:
    values = np.array([0.1, 0.5, 0.3, 0.9])
    posterior = estimate(np.arange(4), np.ones(4), values, np.zeros(4), np.zeros((4, 0)))
    assert posterior.mean == pytest.approx(values, abs=1e-3)
    assert posterior.deviation.max() < 0.01
    drawn = posterior.draw(200, np.random.default_rng(0))
    assert drawn.mean(axis=0) == pytest.approx(values, abs=5e-3)


def test_noise_draws_scores_together() -> None:
    values = np.array([0.3, 0.35, 0.4, 0.45, 0.5])
    sure = estimate(np.arange(5), np.ones(5), values, np.full(5, 0.005), np.zeros((5, 0)))
    unsure = estimate(np.arange(5), np.ones(5), values, np.full(5, 0.15), np.zeros((5, 0)))
    assert np.ptp(sure.mean) > 0.18
    assert np.ptp(unsure.mean) < 0.1
    assert unsure.mean.argsort().tolist() == values.argsort().tolist()
    assert 0.01 < float(unsure.deviation.mean()) < 0.16


@pytest.mark.parametrize("seed", range(3))
def test_losses_that_foretell_the_score_make_a_better_estimate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    losses = rng.standard_normal((24, 3))
    truth = 0.5 + 0.1 * losses @ np.array([0.8, -0.5, 0.1])
    seen = truth + rng.normal(0, 0.08, 24)
    of, rungs, errors = np.arange(24), np.full(24, END), np.full(24, 0.08)

    def error_of(features: np.ndarray[Any, Any]) -> float:
        return float(np.abs(estimate(of, rungs, seen, errors, features).mean - truth).mean())

    assert error_of(losses) < 0.7 * error_of(np.zeros((24, 0)))
    assert error_of(rng.standard_normal((24, 3))) < 1.4 * error_of(np.zeros((24, 0)))


def test_the_end_is_foretold_from_the_losses_where_no_rung_is_scored() -> None:
    """As with ZeRO-3: complete trials teach what the losses at a rung mean."""
    rng = np.random.default_rng(1)
    losses = rng.standard_normal((16, 2))
    truth = 0.5 + 0.2 * losses[:, 0]
    complete = np.arange(10)
    posterior = estimate(complete, np.ones(10), truth[:10] + rng.normal(0, 0.02, 10), np.full(10, 0.02), losses)
    assert np.corrcoef(posterior.mean[10:], truth[10:])[0, 1] > 0.95
    assert np.abs(posterior.mean[10:] - truth[10:]).max() < 0.1


@pytest.mark.slow
def test_intervals_hold_what_they_say() -> None:
    """Of true values at the end nine in ten should lie within 1.645 standard deviations; of 1,440 it was 0.86."""
    inside = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        losses, own = rng.standard_normal((12, 3)), rng.standard_normal((12, 2))
        early = losses @ np.array([0.5, 0.3, 0.0]) + 0.5 * own[:, 0]
        truth = 1 + early + 0.4 * own[:, 1]
        of = np.concatenate([np.arange(12), np.arange(5)])
        rungs = np.concatenate([np.full(12, 0.25), np.ones(5)])
        values = np.concatenate([early, truth[:5]]) + rng.normal(0, 0.3, 17)
        posterior = estimate(of, rungs, values, np.full(17, 0.3), losses)
        inside += (np.abs(posterior.mean - truth) < 1.645 * posterior.deviation).tolist()
    assert 0.80 < np.mean(inside) < 0.96


# ---- the decision --------------------------------------------------------------------------------------------------


def test_the_worse_half_is_stopped_where_scores_are_sure() -> None:
    trials = [shown(number, value, 0.001) for number, value in enumerate((0.1, 0.2, 0.8, 0.9))]
    decisions = [decide(SETTINGS, number, trials) for number in range(4)]
    assert [each.goes_on for each in decisions] == [True, True, False, False]
    assert decisions[0].probability > 0.8
    assert decisions[3].probability < 0.2
    assert decisions[3].num_seen == 4


def test_noise_keeps_trials_in() -> None:
    values = (0.40, 0.42, 0.45, 0.48)
    sure = [decide(SETTINGS, 3, [shown(n, v, 0.002) for n, v in enumerate(values)])]
    unsure = [decide(SETTINGS, 3, [shown(n, v, 0.1) for n, v in enumerate(values)])]
    assert [each.goes_on for each in (*sure, *unsure)] == [False, True]


def test_the_same_trials_in_any_order_give_the_same_decision() -> None:
    trials = [shown(number, 0.1 * number, 0.1, general=1.0 + 0.1 * number) for number in range(6)]
    assert decide(SETTINGS, 3, trials) == decide(SETTINGS, 3, trials[::-1])


def test_the_first_trials_and_named_mixes_go_on() -> None:
    few = [shown(number, 0.4 * number, 0.001) for number in range(3)]
    first = decide(SETTINGS, 2, few)
    assert (first.goes_on, first.reason) == (True, "one of the first 3 seen at this rung")
    trials = [*few, shown(3, 2.0, 0.001)]
    assert not decide(SETTINGS, 3, trials).goes_on
    named = decide(SETTINGS, 3, trials, named=True)
    assert (named.goes_on, named.reason) == (True, "a named mix")
    assert not decide(dataclasses.replace(SETTINGS, spare_named=False), 3, trials, named=True).goes_on


def test_early_scores_that_turned_out_to_mean_nothing_stop_nobody() -> None:
    """Ten complete trials whose order at the end has nothing to do with that at the rung; then one that looks bad."""
    rng = np.random.default_rng(0)
    early, late = rng.uniform(0.2, 0.8, 10), rng.uniform(0.2, 0.8, 10)
    telling = [shown(n, float(e), 0.01, end=float(e)) for n, e in enumerate(early)]
    mute = [shown(n, float(e), 0.01, end=float(t)) for n, (e, t) in enumerate(zip(early, late, strict=True))]
    assert not decide(SETTINGS, 10, [*telling, shown(10, 0.75, 0.01)]).goes_on
    assert decide(SETTINGS, 10, [*mute, shown(10, 0.75, 0.01)]).goes_on


def test_nothing_scored_at_all_stops_nobody() -> None:
    trials = [Shown(number, {"general": float(number)}, {}) for number in range(6)]
    decision = decide(SETTINGS, 5, trials)
    assert (decision.goes_on, decision.reason) == (True, "no trial seen at this rung has a score yet")


def bounded(number: int, value: float, excess: float, end: float | None = None) -> Shown:
    scores = {0.25: Scored((value,), (0.02,), (excess,), (0.02,))}
    if end is not None:
        scores[END] = Scored((value,), (0.02,), (end,), (0.02,))
    return Shown(number, {}, scores)


def test_a_trial_that_will_break_a_constraint_is_stopped_however_good_it_is() -> None:
    others = [bounded(n, 0.5 + 0.01 * n, -0.3, end=-0.3) for n in range(5)]
    decision = decide(SETTINGS, 5, [*others, bounded(5, 0.1, 0.6)])
    assert not decision.goes_on
    assert decision.broken > 0.95
    assert decision.reason.startswith("breaks a constraint with probability")
    # All break it at a quarter and keep it at the end: so will this one.
    late = [bounded(n, 0.5 + 0.01 * n, 0.4, end=-0.3) for n in range(5)]
    assert decide(SETTINGS, 5, [*late, bounded(5, 0.1, 0.4)]).goes_on
    # Where nobody keeps it, stopping all would leave nothing to choose from.
    never = [bounded(n, 0.5 + 0.01 * n, 0.4, end=0.4) for n in range(5)]
    assert decide(SETTINGS, 5, [*never, bounded(5, 0.1, 0.4)]).goes_on


def test_several_objectives_spare_the_front_and_stop_what_is_dominated() -> None:
    def both(number: int, first: float, second: float) -> Shown:
        return Shown(number, {}, {0.25: Scored((first, second), (0.005, 0.005))})

    trials = [both(0, 0.1, 0.9), both(1, 0.5, 0.5), both(2, 0.9, 0.1), both(3, 0.6, 0.6), both(4, 0.95, 0.95)]
    trials.append(both(5, 0.92, 0.93))
    assert [decide(SETTINGS, number, trials).goes_on for number in range(6)] == [True, True, True, True, False, False]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"reduction_factor must be above 1, but is 1\.0"):
        Promotion(reduction_factor=1.0)
    with pytest.raises(ValueError, match=r"threshold must lie between 0 and 1, but is 0\.0"):
        Promotion(threshold=0.0)
    with pytest.raises(ValueError, match="min_trials must be at least 2, but is 1"):
        Promotion(min_trials=1)


# ---- the scheduler -------------------------------------------------------------------------------------------------


class Driver:
    """Drives a searcher and its scheduler as Tune does."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        settings: dict[str, Any] = {
            "storage": folder / "study.db",
            "study_name": "mixtures",
            "num_trials": 20,
            "max_concurrent": 9,
        }
        settings["constraints"] = [Constraint("refusals", at_most=0.5)]
        self.searcher = StudySearcher(Space(fraction=1.0), [Objective("score", "max")], **{**settings, **changes})
        self.searcher.begin("experiment")
        self.scheduler = StudyPromotion(self.searcher, SETTINGS)
        self.iterations: dict[str, int] = {}

    def start(self, trial_id: str) -> None:
        assert isinstance(self.searcher.suggest(trial_id), dict)
        self.scheduler.on_trial_add(None, self.trial(trial_id))

    @staticmethod
    def trial(trial_id: str) -> Any:
        return SimpleNamespace(trial_id=trial_id, is_finished=lambda: False, error_file=None)

    def report(self, trial_id: str, **metrics: Any) -> str:
        self.iterations[trial_id] = self.iterations.get(trial_id, 0) + 1
        result = {"training_iteration": self.iterations[trial_id], **metrics}
        decision = self.scheduler.on_trial_result(None, self.trial(trial_id), result)
        if decision == TrialScheduler.STOP:
            self.searcher.on_trial_complete(trial_id, {**result, "done": True})
        else:
            self.searcher.on_trial_result(trial_id, result)
        return decision

    def rung(self, trial_id: str, score: float, rung: float = 0.25, **more: Any) -> str:
        losses = {"validation_loss": 2 - score, "validation_loss/general": 2 - score}
        scores = {"score": score, "standard_error/score": 0.01, "refusals": 0.1, "standard_error/refusals": 0.05}
        return self.report(trial_id, rung=rung, step=4, tokens=400, **{**losses, **scores, **more})

    def complete(self, trial_id: str, score: float) -> None:
        scores = {"score": score, "standard_error/score": 0.01, "refusals": 0.1, "standard_error/refusals": 0.05}
        self.report(trial_id, trial_state="complete", **scores)
        self.searcher.on_trial_complete(trial_id, {"done": True})


def test_a_bad_trial_is_stopped_at_a_rung_and_the_study_holds_why(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    for number, score in enumerate((0.8, 0.7, 0.6, 0.75, 0.65)):
        driver.start(str(number))
        assert driver.rung(str(number), score) in ("CONTINUE", "STOP")
        if driver.searcher.trials()[number].state == TrialState.RUNNING:
            driver.complete(str(number), score + 0.05)
    driver.start("bad")
    assert driver.rung("bad", 0.1) == TrialScheduler.STOP
    known = driver.searcher.trial_of("bad")
    assert known.state == TrialState.PRUNED
    (entry,) = known.user_attrs["rungs"]
    assert (entry["rung"], entry["step"], entry["tokens"]) == (0.25, 4, 400)
    assert entry["values"] == [0.1]
    assert entry["deviations"] == [0.01]
    assert entry["constraints"] == {"refusals <= 0.5": pytest.approx(-0.4)}
    assert entry["losses"] == {"general": 1.9}
    decision = entry["promotion"]
    assert decision["decision"] == "stop"
    assert decision["probability"] < SETTINGS.threshold
    assert decision["estimate"][0] < 0.45, "in the direction of the metric"
    assert decision["seen"] == 6
    complete = driver.searcher.trials()[0]
    assert complete.user_attrs["deviations"] == [0.01]
    assert complete.user_attrs["constraint_deviations"] == {"refusals <= 0.5": 0.05}
    assert [each["rung"] for each in complete.user_attrs["rungs"]] == [0.25]


def test_a_decision_stands_however_often_the_rung_is_reported(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    for number in range(4):
        driver.start(str(number))
    assert driver.rung("0", 0.1) == TrialScheduler.CONTINUE, "the first one seen"
    for number in (1, 2, 3):
        driver.rung(str(number), 0.9)
    assert driver.rung("0", 0.1) == TrialScheduler.CONTINUE
    assert len(driver.searcher.trial_of("0").user_attrs["rungs"]) == 1


def test_a_restarted_driver_decides_by_what_the_study_has_seen(tmp_path: Path) -> None:
    first = Driver(tmp_path)
    for number, score in enumerate((0.8, 0.7, 0.75, 0.7)):
        first.start(str(number))
        first.rung(str(number), score)
    first.searcher.end()
    second = Driver(tmp_path)
    for number in range(4):
        second.start(f"again {number}")
    second.start("new")
    assert second.rung("new", 0.05) == TrialScheduler.STOP
    assert second.searcher.trial_of("new").user_attrs["rungs"][0]["promotion"]["seen"] == 5


def test_a_trial_whose_driver_died_before_it_was_stopped_is_stopped_at_its_next_report(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    for number, score in enumerate((0.7, 0.7, 0.7, 0.7, 0.05)):
        driver.start(str(number))
        if number < 4:
            driver.rung(str(number), score)
    result = {"training_iteration": 1, "rung": 0.25, "score": 0.05, "refusals": 0.1, "validation_loss": 1.9}
    assert driver.scheduler.on_trial_result(None, driver.trial("4"), result) == TrialScheduler.STOP
    driver.searcher.end()  # and killed here, before Tune tells the searcher
    again = Driver(tmp_path)
    for number in range(5):
        again.start(f"again {number}")
    stopped = next(t for t in again.searcher.trials() if t.user_attrs["rungs"][0]["promotion"]["decision"] == "stop")
    assert stopped.state == TrialState.RUNNING
    assert again.report(stopped.user_attrs["tune_trial"], step=5, tokens=500) == TrialScheduler.STOP
    assert again.searcher.trials()[stopped.number].state == TrialState.PRUNED


def test_rungs_that_can_not_be_judged(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.start("a")
    assert driver.rung("a", math.nan, **{"validation_loss": 1.0, "validation_loss/general": 1.0}) == "CONTINUE"
    assert "values" not in driver.searcher.trial_of("a").user_attrs["rungs"][0]
    driver.start("b")
    assert driver.rung("b", 0.5, validation_loss=math.nan) == TrialScheduler.STOP
    assert driver.searcher.trial_of("b").state == TrialState.FAIL
    driver.start("c")
    with pytest.raises(
        ValueError, match="trial c is complete and never reported a rung; give the trials rungs below 1"
    ):
        driver.report("c", trial_state="complete", score=0.5, refusals=0.1)
    assert isinstance(build_scheduler(driver.searcher, SETTINGS), StudyPromotion)
