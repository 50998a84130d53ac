"""Trainings outside of the search: of the best mix with other seeds, of the named mixes, of a mix without a part.

Each is scored on the items that choose, as a trial is, and on those that judge. What is complete is not trained again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from agentflan_ray import cluster, storage
from agentflan_ray.search.record import Ending, Recorder
from agentflan_ray.search.runner import DRIVER_RESOURCES, max_concurrent
from agentflan_ray.search.trial import JUDGED, TrialSetup, train_trial
from agentflan_ray.sweep.job import Job
from agentflan_ray.sweep.recipe import SweepRecipe
from agentflan_ray.train.recipe import Placement


@dataclass(frozen=True)
class Retraining:
    """A training outside of the search. ``export_to`` keeps its model."""

    kind: str
    parameters: Mapping[str, float]
    seed: int
    export_to: str | None = None


def train_again(
    recipe: SweepRecipe, setup: TrialSetup, job: Job, wanted: Mapping[str, Retraining]
) -> list[dict[str, Any]]:
    """Run the trainings that are not complete yet, by name, and return the results of all, in their order.

    Raises ``RuntimeError`` where one failed, ``KeyboardInterrupt`` where they were interrupted (Ctrl-C).
    """
    setup = replace(setup, judge_items=tuple(recipe.judge_items.items()))
    todo = [name for name in wanted if not _is_complete(setup, name)]
    if todo:
        _train(setup, job, {name: wanted[name] for name in todo})
    places = {name: storage.join(setup.folder(name), "result.json") for name in wanted}
    if missing := [name for name, place in places.items() if not storage.exists(place)]:
        raise KeyboardInterrupt(f"{len(missing)} trainings were interrupted; run the same again to go on.")
    results = [storage.read_json(place) for place in places.values()]
    if failed := [result for result in results if result["state"] != "complete"]:
        raise RuntimeError(f"The training {failed[0]['trial']} failed: {failed[0]['error']}. Run the same again.")
    return results


def show_as_judged(setup: TrialSetup, job: Job, name: str, model: str) -> None:
    """Put what a retraining got on the items that judge beside the base model's, as that of ``model``."""
    for ending in (".json", "-samples.parquet"):
        found = storage.read_bytes(storage.join(setup.folder(name), f"{JUDGED}{ending}"))
        storage.write_bytes(job.place("evaluation", f"{model}{ending}"), found)


def needed(placement: Placement) -> dict[str, float]:
    """What all workers of one trial take together."""
    one = {"CPU": placement.cpus_per_worker, "GPU": float(placement.use_gpu)}
    return {name: amount * placement.num_workers for name, amount in one.items() if amount}


def retrain(config: dict[str, str], setup: TrialSetup, wanted: Mapping[str, Retraining]) -> None:
    """The trial function of a retraining."""
    chosen = wanted[config["name"]]
    train_trial(setup, config["name"], chosen.parameters, chosen.seed, chosen.export_to)


def _train(setup: TrialSetup, job: Job, wanted: Mapping[str, Retraining]) -> None:
    at_once = min(len(wanted), max_concurrent(needed(job.placement)))
    roomy = job.placement
    if not roomy.use_gpu:
        # Fewer trainings at once than in the search leave cores free: the ones that run take them.
        cores = ray.cluster_resources()["CPU"] / at_once / roomy.num_workers
        roomy = replace(roomy, cpus_per_worker=max(roomy.cpus_per_worker, cores - 2 * cluster.DRIVER_CPU))
    recorder = Recorder(
        job.run_uri,
        name_of=lambda trial: str(trial.config["name"]),
        ending_of=lambda trial: _ending(wanted[trial.config["name"]].kind, trial),
    )
    tune.Tuner(
        tune.with_resources(partial(retrain, setup=replace(setup, placement=roomy), wanted=wanted), DRIVER_RESOURCES),
        param_space={"name": tune.grid_search(list(wanted))},
        tune_config=tune.TuneConfig(max_concurrent_trials=at_once),
        run_config=tune.RunConfig(
            # A name of its own each time: what is done already is known by its result.json.
            name=f"again-{datetime.now(UTC):%Y%m%d-%H%M%S}",
            storage_path=job.place("tune"),
            callbacks=[recorder],
            verbose=0,
        ),
    ).fit()


def _ending(kind: str, trial: Trial) -> Ending:
    name = str(trial.config["name"])
    if trial.error_file:
        return Ending(name, kind, "failed", Path(trial.error_file).read_text().strip().splitlines()[-1])
    return Ending(name, kind, "complete")


def _is_complete(setup: TrialSetup, name: str) -> bool:
    result = storage.join(setup.folder(name), "result.json")
    return storage.exists(result) and storage.read_json(result)["state"] == "complete"
