"""Optuna behind a Tune searcher, driven as Tune drives it but without Ray running."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from wsgiref.util import setup_testing_defaults

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from agentflan_ray.search import drivers
from agentflan_ray.search.evidence import Evidence
from agentflan_ray.search.runner import ProgressTable
from agentflan_ray.search.scheduler import EarlyStopping, StudyASHA, build_scheduler
from agentflan_ray.search.searcher import (
    SAMPLERS,
    TRIAL_NUMBER,
    Constraint,
    Objective,
    StudyGenerator,
    StudySearcher,
    load_study,
)
from agentflan_ray.search.space import Interval, Space

SPACE = Space()
SCORE = Objective("score", "max")
IN_MEMORY = "sqlite://"  # each commit to a file waits for the disk, about 10 ms, and a trial makes some fifteen


def make(folder: Path, **changes: Any) -> StudySearcher:
    settings: dict[str, Any] = {"storage": folder / "study.db", "study_name": "mixtures", "num_trials": 10}
    objectives = changes.pop("objectives", [SCORE])
    return StudySearcher(changes.pop("space", SPACE), objectives, **{**settings, "max_concurrent": 4, **changes})


def finish(searcher: StudySearcher, trial_id: str, **report: Any) -> None:
    """What Tune does when a function reports once and returns."""
    result = {"training_iteration": 1, "trial_state": "complete", **report}
    searcher.on_trial_result(trial_id, result)
    searcher.on_trial_complete(trial_id, {**result, "done": True})


def step(iteration: int, loss: float, **more: Any) -> dict[str, Any]:
    return {"training_iteration": iteration, "tokens": 100 * iteration, "validation_loss": loss, **more}


def test_a_complete_trial_keeps_its_values_and_its_whole_report(tmp_path: Path) -> None:
    searcher = make(tmp_path)
    config = searcher.suggest("a")
    assert isinstance(config, dict)
    assert set(config) == {*SPACE.names, TRIAL_NUMBER}
    searcher.on_trial_result("a", step(1, 2.0))
    flat = {"fingerprints/retrieval": "ab12", "score/n": 3, "interval": (0.1, np.float32(0.5)), "pid": 7, "config/x": 1}
    finish(searcher, "a", score=np.float64(0.3), bad=math.nan, **flat)
    (trial,) = searcher.trials()
    assert trial.state == TrialState.COMPLETE
    assert trial.value == 0.3
    assert trial.intermediate_values == {100: -2.0}, "in the direction of the study, which is maximised"
    assert trial.user_attrs["curve"] == [[100, 2.0]]
    assert trial.user_attrs["config"] == config
    assert trial.user_attrs["metrics"] == {"score": 0.3, "score/n": 3}
    assert trial.user_attrs["report"] == {
        "trial_state": "complete",
        "score": 0.3,
        "bad": "nan",
        "fingerprints/retrieval": "ab12",
        "score/n": 3,
        "interval": [0.1, 0.5],
    }
    assert searcher.num_live == 0


def test_a_trial_stopped_by_a_scheduler_is_pruned_with_all_its_values(tmp_path: Path) -> None:
    searcher = make(tmp_path, objectives=[Objective("score", "min")])
    searcher.suggest("a")
    searcher.on_trial_result("a", step(1, 2.0))
    searcher.on_trial_complete("a", step(2, 1.5, done=True))  # Tune shows the report it stops on only here
    (trial,) = searcher.trials()
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {100: 2.0, 200: 1.5}
    assert "reason" not in trial.user_attrs


@pytest.mark.parametrize(
    ("reports", "error", "reason"),
    [
        ([step(1, 2.0)], True, "the trial raised an error"),
        ([step(1, 2.0)], False, "returned without a report of trial_state='complete'"),
        ([], False, "returned without a report of trial_state='complete'"),
        ([step(1, math.nan)], False, "validation_loss is nan at 100 tokens"),
        ([step(1, 2.0, trial_state="complete", score=math.nan, refusals=0.0)], False, "score is nan"),
        ([step(1, 2.0, trial_state="complete", score=math.inf, refusals=0.0)], False, "score is inf"),
        ([step(1, 2.0, trial_state="complete", refusals=0.0)], False, "lacks score"),
        ([step(1, 2.0, trial_state="complete", score=0.5)], False, "lacks refusals"),
        ([step(1, 2.0, trial_state="complete", score=0.5, refusals=math.nan)], False, "refusals is nan"),
    ],
)
def test_a_failed_trial_has_a_reason(tmp_path: Path, reports: list[dict[str, Any]], error: bool, reason: str) -> None:
    searcher = make(tmp_path, constraints=[Constraint("refusals", at_most=0.1)])
    searcher.suggest("a")
    for report in reports:
        searcher.on_trial_result("a", report)
    last = None if error else {**(reports[-1] if reports else {}), "done": True}
    searcher.on_trial_complete("a", last, error)
    (trial,) = searcher.trials()
    assert trial.state == TrialState.FAIL
    assert reason in trial.user_attrs["reason"]
    assert searcher.all_failed


def test_a_trial_stopped_on_a_loss_that_is_none_failed(tmp_path: Path) -> None:
    searcher = make(tmp_path)
    searcher.suggest("a")
    searcher.on_trial_result("a", step(1, 2.0))
    searcher.on_trial_complete("a", step(2, math.inf, done=True))
    (trial,) = searcher.trials()
    assert (trial.state, trial.user_attrs["reason"]) == (TrialState.FAIL, "validation_loss is inf at 200 tokens")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_best_trial_holds_the_constraints(tmp_path: Path, sampler: str) -> None:
    constraints = [Constraint("refusals", at_most=0.1), Constraint("mmlu", at_least=0.4)]
    searcher = make(tmp_path, sampler=sampler, constraints=constraints, num_trials=14, storage=IN_MEMORY)
    for number in range(14):
        searcher.suggest(str(number))
        finish(searcher, str(number), score=number / 14, refusals=0.3 if number > 10 else 0.0, mmlu=0.4)
    assert [trial.number for trial in searcher.best()] == [10]
    assert searcher.study is not None
    assert searcher.study.best_trial.number == 10
    assert searcher.trials()[13].constraints == pytest.approx({"refusals <= 0.1": 0.2, "mmlu >= 0.4": 0.0})
    assert searcher.suggest("more") == "FINISHED"


def test_no_trial_is_best_where_none_holds_the_constraints(tmp_path: Path) -> None:
    searcher = make(tmp_path, constraints=[Constraint("refusals", at_most=0.1)])
    searcher.suggest("a")
    finish(searcher, "a", score=1.0, refusals=0.2)
    assert searcher.best() == []


@pytest.mark.parametrize("sampler", ["mixture", "tpe", "nsga2", "gp"])
def test_several_objectives_give_a_pareto_set(tmp_path: Path, sampler: str) -> None:
    objectives = [SCORE, Objective("hallucination", "min")]
    searcher = make(tmp_path, objectives=objectives, sampler=sampler, num_trials=13, storage=IN_MEMORY)
    reported = [(0.1, 0.1), (0.9, 0.9), (0.5, 0.95), (0.05, 0.5)] + [(0.01, 0.99)] * 8
    for number, (score, hallucination) in enumerate(reported):
        searcher.suggest(str(number))
        finish(searcher, str(number), tokens=1, validation_loss=1.0, score=score, hallucination=hallucination)
    searcher.suggest("stopped")
    searcher.on_trial_complete("stopped", step(1, 3.0, done=True))
    assert sorted(trial.number for trial in searcher.best()) == [0, 1]
    assert searcher.trials()[12].state == TrialState.PRUNED
    assert searcher.trials()[12].user_attrs["curve"] == [[100, 3.0]]


def test_tpe_avoids_what_breaks_a_constraint(tmp_path: Path) -> None:
    """The score alone draws to many negatives, and the constraint away from them."""
    space = Space(general_share=0.5, log2_retrieval=0.0, log2_understanding=0.0, log2_instruction=0.0, fraction=1.0)
    drawn: dict[bool, list[float]] = {}
    for constrained in (False, True):
        constraints = [Constraint("refusals", at_most=0.1)] if constrained else []
        searcher = make(tmp_path, space=space, constraints=constraints, num_trials=30, storage=IN_MEMORY)
        for number in range(30):
            config = searcher.suggest(str(number))
            assert isinstance(config, dict)
            finish(searcher, str(number), score=config["negative_share"], refusals=config["negative_share"])
        drawn[constrained] = [trial.params["negative_share"] for trial in searcher.trials()[15:]]
    assert np.median(drawn[False]) > 0.3
    assert np.median(drawn[True]) < 0.2


def test_named_mixes_come_first_once_and_again_only_when_they_failed(tmp_path: Path) -> None:
    mixes = {"first": {"negative_share": 0.125, "fraction": 0.5}, "second": {"negative_share": 0.25, "fraction": 1.0}}
    searcher = make(tmp_path, mixes=mixes)
    for trial_id, mix in zip("ab", mixes.values(), strict=True):
        config = searcher.suggest(trial_id)
        assert isinstance(config, dict)
        assert {name: config[name] for name in mix} == mix
    finish(searcher, "a", score=0.1)
    searcher.on_trial_complete("b", None, error=True)
    again = make(tmp_path, mixes=mixes)
    config = again.suggest("c")
    assert isinstance(config, dict)
    assert (config["negative_share"], config[TRIAL_NUMBER]) == (0.25, 2)
    finish(again, "c", score=0.1)
    assert [trial.user_attrs.get("mix") for trial in make(tmp_path, mixes=mixes).trials()] == [
        "first",
        "second",
        "second",
    ]
    with pytest.raises(ValueError, match="'odd' sets \\['size'\\]"):
        make(tmp_path, mixes={"odd": {"size": 1}})


def test_a_killed_driver_loses_and_repeats_nothing(tmp_path: Path) -> None:
    first = make(tmp_path, num_trials=4)
    configs = {trial_id: first.suggest(trial_id) for trial_id in ("known", "orphan", "ended")}
    first.on_trial_result("known", step(1, 2.0))
    finish(first, "ended", score=0.5)
    # The driver is killed here. Tune's snapshot knows the first and the last as running, the orphan not at all.
    second = make(tmp_path, num_trials=4)
    assert second.adopt("known")
    assert not second.adopt("ended"), "it ended after the snapshot"
    assert second.report_of("ended") == {"trial_state": "complete", "score": 0.5}
    assert not second.adopt("stranger")
    assert second.report_of("stranger") == {}
    assert second.suggest("new id") == configs["orphan"]
    assert second.num_live == 2
    second.on_trial_result("known", step(1, 1.9))  # restarted from an earlier checkpoint
    second.on_trial_result("known", step(2, 1.5))
    fresh = second.suggest("fresh")
    assert isinstance(fresh, dict)
    assert fresh[TRIAL_NUMBER] == 3
    assert second.suggest("too many") == "FINISHED"
    for trial_id in ("known", "new id", "fresh"):
        second.on_trial_complete(trial_id, {"training_iteration": 9, "trial_state": "complete", "score": 0.1})
    assert [trial.state for trial in second.trials()] == [TrialState.COMPLETE] * 4
    assert second.trials()[0].user_attrs["curve"] == [[100, 2.0], [200, 1.5]]
    assert second.trial_of("new id").number == 1


def test_a_complete_report_ends_the_trial_even_if_its_function_never_returns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    searcher = make(tmp_path, max_concurrent=1)
    searcher.suggest("a")
    searcher.on_trial_result("a", step(1, 1.0, trial_state="complete", score=0.5))
    assert not make(tmp_path).adopt("a"), "a driver killed now must not train it again"
    assert searcher.suggest("b") is None, "it still holds its resources"
    searcher.on_trial_complete("a", None, error=True)
    (trial,) = searcher.trials()
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.5)
    assert "Trial 0 failed after its complete report" in caplog.text
    assert isinstance(searcher.suggest("b"), dict)


def test_an_orphan_killed_between_its_parameters_gets_the_rest(tmp_path: Path) -> None:
    first = make(tmp_path)
    assert first.study is not None
    share = first.study.ask().suggest_float("negative_share", 0.0, 0.4)
    config = make(tmp_path).suggest("a")
    assert isinstance(config, dict)
    assert (config["negative_share"], config[TRIAL_NUMBER]) == (share, 0)
    assert set(SPACE.names) < set(config)


def test_a_continued_study_does_not_draw_its_first_points_again(tmp_path: Path) -> None:
    one = make(tmp_path, sampler="random").suggest("a")
    other = make(tmp_path, sampler="random", study_name="twin").suggest("a")
    assert one == other
    continued = make(tmp_path, sampler="random")
    continued.adopt("a")
    following = continued.suggest("b")
    assert isinstance(one, dict)
    assert isinstance(following, dict)
    assert following["negative_share"] != one["negative_share"]


def test_the_limit_on_concurrent_trials_holds(tmp_path: Path) -> None:
    searcher = make(tmp_path, max_concurrent=2)
    assert isinstance(searcher.suggest("a"), dict)
    assert isinstance(searcher.suggest("b"), dict)
    assert searcher.suggest("c") is None
    finish(searcher, "a", score=0.0)
    assert isinstance(searcher.suggest("c"), dict)


def test_nothing_is_started_after_only_failures_until_a_live_trial_says_otherwise(tmp_path: Path) -> None:
    searcher = make(tmp_path, stop_after_failures=2)
    for trial_id in "abc":
        searcher.suggest(trial_id)
    for trial_id in "ab":
        searcher.on_trial_complete(trial_id, None, error=True)
    assert searcher.suggest("d") is None
    finish(searcher, "c", score=0.0)
    assert isinstance(searcher.suggest("d"), dict)
    doomed = make(tmp_path, study_name="doomed", stop_after_failures=1)
    doomed.suggest("a")
    doomed.on_trial_complete("a", None, error=True)
    assert doomed.suggest("b") == "FINISHED"


def test_the_study_is_a_sqlite_file_that_another_process_and_the_dashboard_open(tmp_path: Path) -> None:
    searcher = make(tmp_path)
    searcher.suggest("a")
    finish(searcher, "a", score=0.25)
    searcher.suggest("running")
    path = tmp_path / "study.db"
    assert path.read_bytes().startswith(b"SQLite format 3")
    script = (
        "import optuna, json\n"
        f"study = optuna.load_study(study_name='mixtures', storage='sqlite:///{path}')\n"
        "print(json.dumps([[trial.number, trial.state.name, trial.value] for trial in study.trials]))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(shown.stdout) == [[0, "COMPLETE", 0.25], [1, "RUNNING", None]]
    assert load_study(path, "mixtures").best_value == 0.25


def test_the_dashboard_serves_the_study(tmp_path: Path) -> None:
    dashboard = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is a development extra")
    searcher = make(tmp_path)
    searcher.suggest("a")
    finish(searcher, "a", score=0.25)
    answered: list[str] = []
    environment: dict[str, Any] = {}
    setup_testing_defaults(environment)
    environment["PATH_INFO"] = "/api/studies"
    serve = dashboard.wsgi(f"sqlite:///{tmp_path}/study.db")
    body = b"".join(serve(environment, lambda status, *_: answered.append(status)))
    assert answered[0].startswith("200")
    assert b"mixtures" in body


def test_an_existing_study_with_another_question_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"space": Space(negative_share=Interval(0.0, 0.2))}, "space"),
        ({"objectives": [Objective("score", "min")]}, "objectives"),
        ({"objectives": [SCORE, Objective("cost", "min")]}, "objectives"),
        ({"constraints": [Constraint("refusals", at_most=0.1)]}, "constraints"),
    ]
    for changes, part in cases:
        with pytest.raises(ValueError, match=f"exists with other {part}"):
            make(tmp_path, **changes)
    foreign = optuna.create_study(study_name="foreign", storage=f"sqlite:///{tmp_path}/study.db")
    foreign.ask()
    with pytest.raises(ValueError, match="was not made by this search"):
        make(tmp_path, study_name="foreign")


@pytest.mark.parametrize(
    "storage", ["sqlite:////no/such/folder/study.db", "nonsense://host/db", "postgresql+nodriver://u:secret@h/db"]
)
def test_a_storage_that_cannot_be_opened_is_named_without_its_password(tmp_path: Path, storage: str) -> None:
    with pytest.raises(ValueError, match="Cannot open the study storage") as caught:
        make(tmp_path, storage=storage)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_trials": 0}, "num_trials must be at least 1"),
        ({"max_concurrent": 0}, "max_concurrent must be at least 1"),
        ({"objectives": []}, "at least one objective"),
        ({"objectives": [SCORE, SCORE]}, "the same metric"),
        ({"sampler": "grid"}, "'grid' is unknown"),
        ({"space": SimpleNamespace(names=("x", "x"))}, "gives a parameter twice: x, x"),
    ],
)
def test_settings_that_make_no_search_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(tmp_path, **changes)


def test_objectives_and_constraints_that_say_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="must be 'max' or 'min'"):
        Objective("score", "up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs either at_most or at_least"):
        Constraint("refusals")
    with pytest.raises(ValueError, match="needs either at_most or at_least"):
        Constraint("refusals", at_most=0.1, at_least=0.0)


def test_tune_saves_and_restores_no_pickle_of_the_searcher(tmp_path: Path) -> None:
    searcher = make(tmp_path)
    searcher.save_to_dir(str(tmp_path), "session")
    (saved,) = tmp_path.glob("study-searcher-*.json")
    assert json.loads(saved.read_text()) == {"study": "mixtures"}
    make(tmp_path).restore_from_dir(str(tmp_path))
    with pytest.raises(ValueError, match="with the study 'mixtures', not 'other'"):
        make(tmp_path, study_name="other").restore_from_dir(str(tmp_path))
    generator = StudyGenerator(searcher)
    generator.set_state({"counter": 3, "total_samples": 3, "finished": True, "experiment": None})
    assert not generator.is_finished()


def asha_decision(scheduler: StudyASHA, trial_id: str, tokens: int, loss: float) -> str:
    return scheduler.on_trial_result(
        None, SimpleNamespace(trial_id=trial_id), {"tokens": tokens, "validation_loss": loss}
    )


def test_a_restarted_scheduler_knows_the_curves_of_the_study(tmp_path: Path) -> None:
    settings = EarlyStopping(grace_tokens=100, max_tokens=900)
    searcher = make(tmp_path)
    for trial_id, loss in (("a", 1.0), ("b", 1.1), ("c", 1.2)):
        searcher.suggest(trial_id)
        searcher.on_trial_result(trial_id, step(1, loss))
        finish(searcher, trial_id, score=0.0)
    newcomer = SimpleNamespace(trial_id="d", is_finished=lambda: True)
    decisions = []
    for study_searcher in (make(tmp_path, study_name="empty"), make(tmp_path)):
        scheduler = StudyASHA(study_searcher, settings)
        scheduler.on_trial_add(None, newcomer)
        decisions.append(asha_decision(scheduler, "d", 100, 5.0))
    assert decisions == [TrialScheduler.CONTINUE, TrialScheduler.STOP]


def test_a_full_trial_is_left_to_its_final_evaluation_and_a_broken_one_is_not(tmp_path: Path) -> None:
    searcher = make(tmp_path)
    scheduler = StudyASHA(searcher, EarlyStopping(grace_tokens=100, max_tokens=900))
    scheduler.on_trial_add(None, SimpleNamespace(trial_id="a", is_finished=lambda: True))
    assert asha_decision(scheduler, "a", 2_000, 1.0) == TrialScheduler.CONTINUE
    assert asha_decision(scheduler, "a", 2_100, math.nan) == TrialScheduler.STOP
    trial = SimpleNamespace(trial_id="a")
    assert build_scheduler(make(tmp_path), None).on_trial_result(None, trial, {"validation_loss": math.inf}) == "STOP"
    searcher.suggest("a")
    assert scheduler.on_trial_result(None, trial, {"tokens": 50}) == TrialScheduler.CONTINUE
    with pytest.raises(ValueError, match="is complete and never reported both"):
        scheduler.on_trial_result(None, trial, {"trial_state": "complete", "score": 1.0})
    searcher.on_trial_result("a", step(1, 1.0))
    assert scheduler.on_trial_result(None, trial, {"trial_state": "complete", "score": 1.0}) == TrialScheduler.CONTINUE


def test_early_stopping_settings(tmp_path: Path) -> None:
    assert not isinstance(build_scheduler(make(tmp_path), None), StudyASHA)
    assert isinstance(build_scheduler(make(tmp_path), EarlyStopping(1, 2)), StudyASHA)
    for grace, most, factor in [(0, 10, 3.0), (10, 10, 3.0), (1, 10, 1.0)]:
        with pytest.raises(ValueError, match="reduction_factor" if factor == 1 else "grace_tokens"):
            EarlyStopping(grace, most, factor)


def test_the_mixture_sampler_tries_a_part_of_the_data_first(tmp_path: Path) -> None:
    """It knows the fraction as a fidelity: its first proposals take the smallest, and mixes of their own."""
    searcher = make(tmp_path, space=Space(), sampler="mixture", num_trials=4, storage=IN_MEMORY)
    tried: list[dict[str, Any]] = []
    for number in range(4):
        config = searcher.suggest(str(number))
        assert isinstance(config, dict)
        tried.append(config)
        finish(searcher, str(number), score=0.1 * number)
    assert {config["fraction"] for config in tried} == {0.25}
    assert len({config["general_share"] for config in tried}) == 4


def test_two_drivers_share_trials_and_their_number(tmp_path: Path) -> None:
    one, two = make(tmp_path, num_trials=3), make(tmp_path, num_trials=3)
    one.begin("one")
    two.begin("two")
    numbers = []
    for searcher, trial_id in ((one, "a"), (two, "b"), (two, "c")):
        config = searcher.suggest(trial_id)
        assert isinstance(config, dict)
        numbers.append(config[TRIAL_NUMBER])
    assert numbers == [0, 1, 2]
    assert one.suggest("d") is None, "three are asked for; the other driver may die, so this one waits"
    one._wait_until = 0.0
    finish(two, "b", score=0.1)
    finish(two, "c", score=0.1)
    finish(one, "a", score=0.1)
    assert one.suggest("e") == "FINISHED"


def test_an_orphan_is_taken_up_when_the_lease_of_its_driver_has_run_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = make(tmp_path, num_trials=1), make(tmp_path, num_trials=1)
    one.begin("one")
    two.begin("two")
    config = one.suggest("a")
    assert two.suggest("b") is None
    assert not two.adopt("a")
    monkeypatch.setattr(drivers, "LEASE_SECONDS", 0.0)
    two._wait_until = 0.0
    assert two.suggest("b") == config
    # The first one wakes up: it has lost the trial, and says nothing about it to the study any more.
    monkeypatch.setattr(drivers, "RENEW_SECONDS", 0.0)
    one.on_trial_result("a", step(1, 2.0))
    assert one.has_lost("a")
    assert "Another driver has taken up trial 0" in caplog.text
    one.on_trial_complete("a", step(2, 2.0, trial_state="complete", score=0.9))
    assert [trial.state for trial in two.trials()] == [TrialState.RUNNING]
    finish(two, "b", score=0.5)
    assert [trial.value for trial in one.trials()] == [0.5]


def test_what_a_driver_leaves_is_free_at_once(tmp_path: Path) -> None:
    one, two = make(tmp_path), make(tmp_path)
    one.begin("one")
    two.begin("two")
    config = one.suggest("a")
    one.end()
    assert two.suggest("b") == config


def test_an_experiment_that_a_living_process_runs_is_refused(tmp_path: Path) -> None:
    """Another process that renews its lease; a dead one on this machine is replaced without waiting."""
    script = (
        "import sys, time\n"
        "from agentflan_ray.search import drivers\n"
        "from agentflan_ray.search.searcher import Objective, StudySearcher\n"
        "from agentflan_ray.search.space import Space\n"
        "drivers.RENEW_SECONDS = 0.1\n"
        "searcher = StudySearcher(Space(), [Objective('score', 'max')], storage=sys.argv[1], study_name='mixtures',\n"
        "    num_trials=10, max_concurrent=4)\n"
        "searcher.begin('same')\n"
        "print(searcher.suggest('a'), flush=True)\n"
        "while True:\n"
        "    searcher.renew()\n"
        "    time.sleep(0.05)\n"
    )
    searcher = make(tmp_path)
    command = [sys.executable, "-c", script, str(tmp_path / "study.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline().startswith("{")
        with pytest.raises(ValueError, match=f"The experiment same is being run by process {other.pid} on "):
            searcher.begin("same")
        other.kill()
    searcher.begin("same")
    config = searcher.suggest("b")
    assert isinstance(config, dict)
    assert config[TRIAL_NUMBER] == 0


def test_postgresql_without_its_driver_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package psycopg; install agentflan-ray\[postgres\]") as caught:
        make(tmp_path, storage="postgresql://me:secret@nowhere/db")
    assert "secret" not in str(caught.value)


LEARNT = [{"a/chat/x/s": 80, "b/chat/x/s": 20}, {"b/chat/x/s": 50}, {"a/chat/x/s": 10}]
BEFORE = {"a/chat/x/s": "1111", "b/chat/x/s": "2222"}
AFTER = {"a/chat/x/s": "1111", "b/chat/x/s": "9999", "c/chat/x/new": "3333"}


def test_a_study_about_another_corpus_is_refused_or_weighs_less(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def learnt_from(number: int) -> dict[str, int]:
        return LEARNT[number]

    first = make(tmp_path, sampler="mixture", evidence=Evidence(BEFORE, learnt_from))
    for number in range(3):
        first.suggest(str(number))
        finish(first, str(number), score=0.1 * number)
    first.suggest("interrupted")
    assert first.trials()[0].user_attrs["buckets"] == {"a/chat/x/s": [80, "1111"], "b/chat/x/s": [20, "2222"]}
    same = make(tmp_path, sampler="mixture", evidence=Evidence(BEFORE, learnt_from))
    assert same.changes is None
    with pytest.raises(
        ValueError,
        match=r"is about another corpus: 2 of its trials have learnt from b/chat/x/s, which changed "
        r"\(0% to 80% of their supervised tokens did not\); trial 3 was interrupted on the corpus before. Give another",
    ):
        make(tmp_path, sampler="mixture", evidence=Evidence(AFTER, learnt_from))
    with pytest.raises(ValueError, match="The sampler 'tpe' can't weigh trials"):
        make(tmp_path, sampler="tpe", evidence=Evidence(AFTER, learnt_from, "down-weight"))
    weighed = make(tmp_path, sampler="mixture", evidence=Evidence(AFTER, learnt_from, "down-weight"))
    assert weighed.changes is not None
    assert weighed.changes.shares == {0: pytest.approx(0.8), 1: 0.0}
    assert "The study goes on with trials that weigh less: 2 of its trials" in caplog.text
    config = weighed.suggest("next")
    assert isinstance(config, dict)
    assert config[TRIAL_NUMBER] == 4
    interrupted = weighed.trials()[3]
    assert interrupted.state == TrialState.FAIL
    assert interrupted.user_attrs["reason"] == "the corpus has changed since it was interrupted"
    assert weighed.study is not None
    errors = {each.trial.number: each.deviations for each in weighed.study.sampler._evidence(weighed.trials())}
    spread = np.std([0.0, 0.1, 0.2])
    assert errors[0] == [pytest.approx(math.sqrt(0.2) * spread)]
    assert errors[1] == [pytest.approx(spread)]
    assert errors[2] == [0.0], "what has not changed keeps its weight"


def test_the_table_shows_what_runs_in_the_room_there_is(tmp_path: Path) -> None:
    searcher = make(tmp_path, storage=IN_MEMORY, num_trials=9, max_concurrent=9, mixes={"paper": {}})
    console = Console(width=80, height=9, force_terminal=True, record=True, file=io.StringIO())
    progress = ProgressTable(searcher, console)
    progress.setup()
    trials = []
    for number in range(6):
        trials.append(SimpleNamespace(trial_id=f"t{number}", config=searcher.suggest(f"t{number}")))
        progress.on_trial_start(0, [], trials[-1])
        if number:
            progress.on_trial_result(0, [], trials[-1], step(number, 2.0, phase="train"))
    finish(searcher, "t1", score=0.5)
    progress.on_trial_complete(0, [], trials[1])
    progress.on_step_end(0, [])
    progress.close()
    console.print(progress.table())
    shown = console.export_text()
    assert "complete  score 0.5" in shown
    lines = [line.split() for line in shown.splitlines()[-4:]]
    assert " ".join(lines[0]) == "trial mix phase tokens loss seconds"
    assert "1 of 9 trials ended, 5 running here, 2 of them not shown" in shown
    assert [line[:2] for line in lines[1:]] == [["0", "paper"], ["2", "train"], ["3", "train"]]
    assert lines[2][2:4] == ["200", "2"]
