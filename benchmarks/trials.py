"""What a trial costs beyond its own training and evaluation, and what Ray Tune takes to hand out many.

    python benchmarks/trials.py                    # some minutes on two free cores
    python benchmarks/trials.py --cluster          # fake CPUs, 8 and 64 trials at once: 4 minutes, 12 GiB

Without ``--cluster``: a real search of six trials of a random model of two layers, one at a time and two at a time.
The *overhead* of a trial is the time that its place in the search is taken, less its steps and its scoring; it is
itemised from the trials' own reports, Tune's callbacks and the study. With ``--model`` a real model is loaded.

With ``--cluster``: a search of trials that only sleep, on a Ray that is told of as many CPUs as there are trials at
once. Its overhead is the time that a process waits between two of its trials. What the start of so many processes takes
is said apart: here all of them share this machine's cores. More trials at once than CPUs would show as that many
sleeping at one moment.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console
from rich.table import Table

from agentflan_ray import cluster
from agentflan_ray.corpus.build import Order, ToolboxDraw, build
from agentflan_ray.search import lane
from agentflan_ray.search.runner import ProgressTable, run
from agentflan_ray.search.searcher import TRIAL_STATE, Objective, StudySearcher
from agentflan_ray.search.space import Space
from agentflan_ray.search.trial import TrialSetup, run_trial
from agentflan_ray.tokens.blocks import write_validation_plan
from agentflan_ray.tokens.tokenise import tokenise
from agentflan_ray.tokens.tokenizer import load_tokenizer
from agentflan_ray.toolbox import ITEM_CASES
from agentflan_ray.train import models
from agentflan_ray.train.recipe import TrainRecipe

STARTUP = "startup_seconds/"
SPACE = Space(log2_instruction=-math.inf, fraction=1.0)
"""A small corpus holds everything else."""


def main() -> None:
    """Print a table, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", action="store_true", help="trials that only sleep, many at once")
    parser.add_argument("--trials", type=int, default=6, help="trials of each real search")
    parser.add_argument("--model", default=models.TINY_LLAMA, help="model of the real searches")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="agentflan-trials-") as folder:
        if arguments.cluster:
            found = {f"{size} at once": pretend(size, Path(folder, str(size))) for size in (8, 64)}
        else:
            cluster.connect()
            setup = _setup(arguments.model, Path(folder))
            found = {f"{at_once} at once": search(setup, at_once, arguments.trials, folder) for at_once in (1, 2)}
    table = Table("seconds", *found, title=f"ray {ray.__version__}, {os.cpu_count()} cores", title_justify="left")
    for what in next(iter(found.values())):
        table.add_row(what, *(f"{values[what]:.2f}" for values in found.values()))
    Console().print(table)
    key = "scheduling_overhead_per_trial_seconds" if arguments.cluster else "trial_overhead_seconds"
    line: dict[str, Any] = {key: {name: values["overhead per trial"] for name, values in found.items()}}
    if not arguments.cluster:
        alone, together = (found[f"{at_once} at once"]["search, all of it"] for at_once in (1, 2))
        line["speedup_two_at_once"] = alone / together
    print(json.dumps({**line, "items": found}))  # noqa: T201  # the line that programs read


def search(setup: TrialSetup, at_once: int, num_trials: int, folder: str) -> dict[str, float]:
    """The items of one real search, as medians over its trials, and the time that its places were taken for nothing."""
    setup = dataclasses.replace(setup, run_uri=f"{folder}/run-{at_once}")
    write_validation_plan(setup.tokens, 2_000, setup.train.block_length, setup.validation.plan_uri)
    searcher = _searcher(Path(setup.run_uri, "study.db"), num_trials, at_once)
    clock = _Clock()
    began = time.time()
    run(
        partial(run_trial, setup=setup, seed=0),
        searcher,
        name="search",
        storage_path=f"{setup.run_uri}/tune",
        callbacks=[clock],
        driver_resources=lane.resources(setup.placement),
        reuse_processes=True,
    )
    total = time.time() - began
    items = [_items(clock.trials[trial.user_attrs["tune_trial"]], trial) for trial in searcher.trials()]
    medians = {what: statistics.median(each[what] for each in items) for what in items[0]}
    own = sum(each["its steps"] + each["its scoring"] for each in items)
    # What the places of the search were taken for; the last trial's place is taken until the search ends.
    return {
        **medians,
        "overhead per trial": (total * at_once - own) / num_trials,
        "overhead per trial, the items": statistics.mean(
            sum(value for what, value in each.items() if not what.startswith("its")) for each in items
        ),
        "search, all of it": total,
    }


@dataclasses.dataclass
class _Times:
    started: float
    first: float = 0.0
    complete: float = 0.0
    ended: float = 0.0
    steps: list[float] = dataclasses.field(default_factory=list)
    startup: dict[str, float] = dataclasses.field(default_factory=dict)
    scoring: float = 0.0


class _Clock(Callback):  # type: ignore[misc]  # ray is untyped
    """When Tune saw what of each trial."""

    def __init__(self) -> None:
        self.trials: dict[str, _Times] = {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        del iteration, trials, info
        self.trials[trial.trial_id] = _Times(time.time())

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        del iteration, trials, info
        times = self.trials[trial.trial_id]
        if not times.first:
            times.first = time.time()
            times.startup = {
                name.removeprefix(STARTUP): value for name, value in result.items() if name.startswith(STARTUP)
            }
            del times.startup["first step"]
        times.steps.append(float(result.get("seconds", 0.0)))
        if TRIAL_STATE in result:
            times.complete, times.scoring = time.time(), float(result["evaluate_seconds"])

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        del iteration, trials, info
        self.trials[trial.trial_id].ended = time.time()


def _items(times: _Times, known: optuna.trial.FrozenTrial) -> dict[str, float]:
    """Where the time of a trial went, from its suggestion to its end."""
    steps = sum(times.steps)
    fitted = times.first - times.steps[0] - sum(times.startup.values())
    assert known.datetime_start is not None
    return {
        "Tune's actor": times.started - known.datetime_start.timestamp(),
        "plan": fitted - times.started,
        **times.startup,
        "validation and reports": times.complete - times.first - (steps - times.steps[0]) - times.scoring,
        "end": times.ended - times.complete,
        "its steps": steps,
        "its scoring": times.scoring,
    }


def pretend(at_once: int, folder: Path, seconds: float = 20.0, rounds: int = 3) -> dict[str, float]:
    """Trials that sleep, ``at_once`` at a time, on CPUs that do not exist."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    folder.mkdir(parents=True)
    ray.init(address="local", num_cpus=at_once, include_dashboard=False, log_to_driver=False)
    try:
        searcher = _searcher(folder / "study.db", rounds * at_once, at_once)
        nobody = Console(file=(folder / "table.txt").open("w"), width=120)
        began = time.time()
        run(
            partial(_sleep, seconds=seconds),
            searcher,
            name="search",
            storage_path=folder / "tune",
            driver_resources={"CPU": 1},
            reuse_processes=True,
            callbacks=[ProgressTable(searcher, nobody)],
        )
        total = time.time() - began
        trials = searcher.trials()
    finally:
        ray.shutdown()
    slept = sorted((trial.user_attrs["metrics"] for trial in trials), key=lambda each: each["from"])
    ends = sorted([(each["from"], 1) for each in slept] + [(each["until"], -1) for each in slept])
    most = running = 0
    for _, change in ends:
        running += change
        most = max(most, running)
    assert most <= at_once, f"{most} trials ran at once"
    waits, free_since = [], {}
    for each in slept:
        if each["process"] in free_since:
            waits.append(each["from"] - free_since[each["process"]])
        free_since[each["process"]] = each["until"]
    return {
        "overhead per trial": statistics.mean(waits),
        "overhead per trial, the longest": max(waits),
        "until all processes run": slept[at_once - 1]["from"] - began,
        "search, all of it": total,
        "trials": len(trials),
        "most at once": most,
    }


def _sleep(config: dict[str, Any], seconds: float) -> None:
    began = time.time()
    time.sleep(seconds)
    where = {"process": os.getpid(), "from": began, "until": time.time()}
    tune.report({TRIAL_STATE: "complete", "score": config["negative_share"], **where})


def _searcher(study: Path, num_trials: int, at_once: int) -> StudySearcher:
    make: Callable[..., StudySearcher] = partial(StudySearcher, SPACE, [Objective("score", "max")])
    return make(storage=study, study_name="trials", num_trials=num_trials, max_concurrent=at_once, sampler="random")


def _setup(model: str, folder: Path) -> TrialSetup:
    """A small corpus of the embedded world, in tokens."""
    train = TrainRecipe(model=model, block_length=512, blocks_per_step=1, learning_rate=1e-3)
    corpus = build(Order((ToolboxDraw.of_size(400),)), str(folder / "store"))
    path = models.resolve(model)
    tokens = tokenise(corpus, path, train.block_length)
    return TrialSetup(
        run_uri=str(folder),
        tokens=tokens,
        train=train,
        placement=cluster.placement(1, None, 0),
        budget=4_000,
        max_repeats=16,
        items=tuple(dict.fromkeys(ITEM_CASES, 1).items()),
        pad_token_id=load_tokenizer(path).pad_token_id,
        evaluation_batch=8,
    )


if __name__ == "__main__":
    main()
