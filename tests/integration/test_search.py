"""Searches on a real Ray of two CPUs, with trial functions that only pretend to train."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from optuna.trial import TrialState
from ray import tune
from rich.console import Console

from agentflan_ray.corpus.build import Order, ToolboxDraw, build
from agentflan_ray.search import lane
from agentflan_ray.search.runner import ProgressTable, max_concurrent, run
from agentflan_ray.search.scheduler import EarlyStopping
from agentflan_ray.search.searcher import TRIAL_NUMBER, Objective, StudySearcher, load_study
from agentflan_ray.search.space import Space, named_mixes
from agentflan_ray.search.trial import TrialSetup, run_trial, train_trial
from agentflan_ray.tokens.blocks import write_validation_plan
from agentflan_ray.tokens.tokenise import tokenise
from agentflan_ray.tokens.tokenizer import load_tokenizer
from agentflan_ray.toolbox import ITEM_CASES
from agentflan_ray.train.models import resolve
from agentflan_ray.train.recipe import Placement, TrainRecipe

SPACE = Space()
NUM_STEPS = 9


pytestmark = [
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray"),
]


def make(folder: Path, **changes: Any) -> StudySearcher:
    settings: dict[str, Any] = {
        "storage": folder / "study.db",
        "study_name": "mixtures",
        "num_trials": 4,
        "max_concurrent": 2,
    }
    return StudySearcher(SPACE, [Objective("score", "max")], **{**settings, **changes})


def count_up(config: dict[str, Any]) -> None:
    """Nine reports of a loss that grows with the trial's number, then the complete report."""
    for step in range(1, NUM_STEPS + 1):
        loss = config["trial_number"] + 1 / step
        tune.report({"tokens": 100 * step, "validation_loss": loss, "phase": "train"})
    tune.report({"trial_state": "complete", "phase": "evaluate", "score": config["negative_share"]})


@pytest.mark.parametrize("reuse_processes", [False, True])
def test_early_stopping_stops_and_the_study_knows_it(tmp_path: Path, reuse_processes: bool) -> None:
    mixes = named_mixes(
        dict.fromkeys(("reasoning", "retrieval", "understanding", "instruction", "general"), 1.0) | {"negative": 1.0}
    )
    space = SPACE.including(mixes)
    searcher = StudySearcher(
        space,
        [Objective("score", "max")],
        storage=tmp_path / "study.db",
        study_name="mixtures",
        num_trials=5,
        max_concurrent=1,
        mixes={name: space.complete(mix) for name, mix in mixes.items()},
    )
    console = Console(record=True, width=120, quiet=True)
    results = run(
        count_up,
        searcher,
        name="stops",
        storage_path=tmp_path,
        early_stopping=EarlyStopping(grace_tokens=100, max_tokens=900),
        callbacks=[ProgressTable(searcher, console)],
        reuse_processes=reuse_processes,
    )
    trials = searcher.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] + [TrialState.PRUNED] * 4
    assert len(trials[0].intermediate_values) == NUM_STEPS
    assert [trial.intermediate_values for trial in trials[1:]] == [{100: -(number + 1.0)} for number in range(1, 5)]
    assert [trial.user_attrs.get("mix") for trial in trials] == ["paper", "proportional", "uniform", None, None]
    assert trials[2].params == space.complete(mixes["uniform"])
    reports = {result.config["trial_number"]: result.metrics["training_iteration"] for result in results}
    assert reports == {0: NUM_STEPS + 1, 1: 1, 2: 1, 3: 1, 4: 1}
    processes = {result.metrics["pid"] for result in results}
    assert len(processes) == (1 if reuse_processes else 5), "a stopped trial leaves its process to the next"
    assert sorted(path.name[:10] for path in (tmp_path / "stops").glob("trial_*")) == [
        f"trial_000{n}" for n in range(5)
    ]
    assert load_study(tmp_path / "study.db", "mixtures").best_trial.number == 0


def sometimes_broken(config: dict[str, Any]) -> None:
    if config["trial_number"] == 1:
        raise RuntimeError("no such luck")
    if config["trial_number"] == 3:
        tune.report({"tokens": 100, "validation_loss": 1.0})
        tune.report({"trial_state": "failed", "reason": "FloatingPointError: as it will be each time"})
        return
    score = float("nan") if config["trial_number"] == 2 else 0.5
    tune.report({"trial_state": "complete", "score": score})


def test_failed_trials_are_kept_with_their_reason_and_do_not_stop_the_others(tmp_path: Path) -> None:
    searcher = make(tmp_path)
    console = Console(record=True, width=120)
    results = run(
        sometimes_broken, searcher, name="broken", storage_path=tmp_path, callbacks=[ProgressTable(searcher, console)]
    )
    trials = searcher.trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "FAIL", "FAIL"]
    assert "RuntimeError: no such luck" in trials[1].user_attrs["reason"]
    assert trials[2].user_attrs["reason"] == "score is nan in the complete report"
    assert trials[3].user_attrs["reason"] == "FloatingPointError: as it will be each time"
    assert results.num_errors == 1
    shown = console.export_text()
    assert "4/4" in shown
    assert "failed  RuntimeError: no such luck" in shown
    assert "complete  score 0.5" in shown

    more = make(tmp_path, num_trials=6)
    results = run(sometimes_broken, more, name="broken", storage_path=tmp_path)
    assert [trial.state.name for trial in more.trials()] == ["COMPLETE", "FAIL", "FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert len(results) == 6


def always_broken(config: dict[str, Any]) -> None:
    raise RuntimeError(f"trial {config['trial_number']} is doomed by {config['reason']}")


def test_a_search_where_everything_fails_stops_and_says_why(tmp_path: Path) -> None:
    searcher = make(tmp_path, num_trials=20)
    with pytest.raises(RuntimeError, match=r"All \d trials of this run failed; .*is doomed by design"):
        run(always_broken, searcher, name="doomed", storage_path=tmp_path, param_space={"reason": "design"})
    assert 3 <= len(searcher.trials()) <= 4


def _work(number: int) -> float:
    time.sleep(1)
    return number / 10


def with_a_worker(config: dict[str, Any]) -> None:
    """A driver whose worker wants nearly a whole CPU, as a trainer's worker does."""

    # A trial's tasks are confined to the driver's own placement group, unless they say otherwise.
    work = ray.remote(_work).options(num_cpus=0.99, scheduling_strategy="DEFAULT")
    tune.report({"trial_state": "complete", "score": ray.get(work.remote(config["trial_number"]))})


def test_two_trials_with_workers_on_two_cpus_do_not_deadlock(tmp_path: Path) -> None:
    concurrent = max_concurrent({"CPU": 0.99})
    assert concurrent == 2
    searcher = make(tmp_path, num_trials=3, max_concurrent=concurrent)
    run(with_a_worker, searcher, name="workers", storage_path=tmp_path)
    assert [trial.value for trial in searcher.trials()] == [0.0, 0.1, 0.2]


def test_a_trial_that_the_cluster_cannot_hold_is_refused() -> None:
    assert max_concurrent({"CPU": 1}) == 1, "two drivers and two workers need 2.02 CPUs"
    assert max_concurrent({"CPU": 1}, driver_resources={"CPU": 0}) == 2
    for resources in ({"CPU": 4}, {"GPU": 1}):
        with pytest.raises(ValueError, match="but the whole cluster has"):
            max_concurrent(resources)


def test_what_is_set_twice_or_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    searcher = make(tmp_path)
    with pytest.raises(ValueError, match="negative_share is set in param_space and given by the search"):
        run(count_up, searcher, name="twice", storage_path=tmp_path, param_space={"negative_share": 0.1})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "experiment_state-2026-01-01_00-00-00.json").touch()
    with pytest.raises(ValueError, match="exists, but its study is empty"):
        run(count_up, searcher, name="other", storage_path=tmp_path)


DRIVER = textwrap.dedent(
    """
    import os, sys, time
    from pathlib import Path
    import ray
    from ray import tune
    from agentflan_ray.search.runner import run
    from agentflan_ray.search.searcher import Objective, StudySearcher
    from agentflan_ray.search.space import Space

    folder = Path(sys.argv[1])

    def trial(config):
        with open(folder / "starts.txt", "a") as starts:
            starts.write(f"{config['trial_number']} {config['negative_share']}\\n")
        for step in range(1, 6):
            tune.report({"tokens": step, "validation_loss": 1 / step})
            time.sleep(0.3)
        tune.report({"trial_state": "complete", "score": config["negative_share"]})

    ray.init(address="local", num_cpus=2, include_dashboard=False)
    searcher = StudySearcher(
        Space(), [Objective("score", "max")], storage=folder / "study.db", study_name="mixtures",
        num_trials=6, max_concurrent=2,
    )
    results = run(trial, searcher, name="killed", storage_path=folder)
    for result in results:
        assert result.metrics["score"] == result.config["negative_share"], result
    """
)


@pytest.mark.parametrize("death", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_driver_that_dies_midway_is_run_again_and_loses_nothing(tmp_path: Path, death: signal.Signals) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    command = [sys.executable, str(tmp_path / "driver.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "RAY_AUTH_MODE": "disabled"}

    def begin() -> subprocess.Popen[bytes]:
        with (tmp_path / "log.txt").open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def started() -> list[str]:
        path = tmp_path / "starts.txt"
        return path.read_text().splitlines() if path.exists() else []

    driver = begin()
    deadline = time.monotonic() + 90
    while len(started()) < 4:
        assert driver.poll() is None, (tmp_path / "log.txt").read_text()
        assert time.monotonic() < deadline, (tmp_path / "log.txt").read_text()
        time.sleep(0.05)
    driver.send_signal(death)
    driver.wait(60)
    assert driver.returncode != 0
    before = {t.number: t for t in load_study(tmp_path / "study.db", "mixtures").trials}
    finished = {number for number, trial in before.items() if trial.state == TrialState.COMPLETE}
    interrupted = {number for number, trial in before.items() if trial.state == TrialState.RUNNING}
    assert finished
    assert interrupted

    driver = begin()
    assert driver.wait(120) == 0, (tmp_path / "log.txt").read_text()
    after = load_study(tmp_path / "study.db", "mixtures").trials
    assert [trial.state for trial in after] == [TrialState.COMPLETE] * 6
    for number in finished:
        assert after[number] == before[number]
    for number in interrupted:
        assert before[number].params.items() <= after[number].params.items()  # killed while it was suggested: a part
    starts = [line.split()[0] for line in started()]
    assert {number: starts.count(str(number)) for number in finished} == dict.fromkeys(finished, 1)
    assert {int(number) for number in starts} == set(range(6))
    for trial in after:
        assert trial.user_attrs["curve"] == [[step, 1 / step] for step in range(1, 6)]
        assert trial.value == trial.params["negative_share"]


def inner_loop(config: dict[str, Any]) -> None:
    from ray import train

    marks = Path(config["marks"])
    for step in range(1, 41):
        (marks / f"{config['trial_number']}.json").write_text(json.dumps({"step": step, "pid": os.getpid()}))
        train.report({"tokens": step, "validation_loss": config["trial_number"] + 1 / step})
        time.sleep(0.25)


def with_a_trainer(config: dict[str, Any]) -> None:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    trainer = TorchTrainer(
        inner_loop,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.9}),
        run_config=RunConfig(
            name=f"train_{config['trial_number']}", storage_path=config["marks"], callbacks=[TuneReportCallback()]
        ),
    )
    trainer.fit()
    tune.report({"trial_state": "complete", "score": 0.5})


@pytest.mark.slow
def test_a_scheduler_sees_each_report_of_a_trainer_inside_and_stops_its_workers(tmp_path: Path) -> None:
    searcher = make(tmp_path, num_trials=2, max_concurrent=1)
    run(
        with_a_trainer,
        searcher,
        name="trainers",
        storage_path=tmp_path,
        early_stopping=EarlyStopping(grace_tokens=2, max_tokens=40),
        param_space={"marks": str(tmp_path)},
    )
    full, stopped = searcher.trials()
    assert (full.state, stopped.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert len(full.user_attrs["curve"]) == 40
    assert [tokens for tokens, _ in stopped.user_attrs["curve"]] == [1, 2]
    worker = json.loads((tmp_path / "1.json").read_text())
    assert worker["step"] < 40
    deadline = time.monotonic() + 30
    while _runs(worker["pid"]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _runs(worker["pid"]), "the worker of the stopped trial lives on"


def _runs(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rsplit(")")[-1].split()[0] != "Z"


@pytest.mark.slow
def test_a_trial_in_a_lane_is_the_one_that_workers_of_ray_train_make(tmp_path: Path) -> None:
    """The second trial of a process learns what it would learn in a new one, and Tune gets the same reports."""
    train = TrainRecipe(model="tiny-llama", block_length=512, blocks_per_step=1, learning_rate=1e-3, validate_every=4)
    tokens = tokenise(build(Order((ToolboxDraw.of_size(400),)), str(tmp_path / "store")), resolve("tiny-llama"), 512)
    space = Space(log2_instruction=-math.inf, fraction=1.0)
    points = {
        "first": {"general_share": 0.2, "negative_share": 0.1, "log2_retrieval": 0.0, "log2_understanding": 0.0},
        "second": {"general_share": 0.4, "negative_share": 0.2, "log2_retrieval": 1.0, "log2_understanding": 0.0},
    }
    found = {}
    for name in ("lanes", "workers"):
        setup = TrialSetup(
            run_uri=str(tmp_path / name),
            tokens=tokens,
            train=train,
            placement=Placement(cpus_per_worker=0.9),
            budget=6_000,
            max_repeats=16,
            items=tuple(dict.fromkeys(ITEM_CASES, 1).items()),
            pad_token_id=load_tokenizer(resolve("tiny-llama")).pad_token_id,
            evaluation_batch=8,
        )
        write_validation_plan(tokens, 2_000, 512, setup.validation.plan_uri)
        searcher = StudySearcher(
            space,
            [Objective("score", "max")],
            storage=tmp_path / name / "study.db",
            study_name=name,
            num_trials=2,
            mixes=points,
        )
        in_lanes = name == "lanes"
        results = run(
            partial(run_trial, setup=setup, seed=0) if in_lanes else partial(_by_workers, setup=setup),
            searcher,
            name="search",
            storage_path=tmp_path / name,
            driver_resources=lane.resources(setup.placement) if in_lanes else None,
            reuse_processes=in_lanes,
        )
        assert len({result.metrics["pid"] for result in results}) == (1 if in_lanes else 2)
        found[name] = searcher.trials()
    for ours, theirs in zip(found["lanes"], found["workers"], strict=True):
        assert ours.state == theirs.state == TrialState.COMPLETE
        assert len(ours.user_attrs["curve"]) > 1
        np.testing.assert_allclose(ours.user_attrs["curve"], theirs.user_attrs["curve"], rtol=1e-5)
        assert ours.user_attrs["metrics"].keys() == theirs.user_attrs["metrics"].keys()
        assert ours.value == pytest.approx(theirs.value)


def _by_workers(config: dict[str, Any], setup: TrialSetup) -> None:
    parameters = {key: value for key, value in config.items() if key != TRIAL_NUMBER}
    train_trial(setup, f"{config[TRIAL_NUMBER]:04d}", parameters, seed=0)
