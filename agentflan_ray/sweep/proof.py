"""The proof: the winner and the three named mixes, each trained with the same seeds, on items that chose nothing."""

from __future__ import annotations

import json
from dataclasses import asdict

import optuna
import pyarrow.parquet as pq

from agentflan_ray import storage
from agentflan_ray.evaluate.measures import MEASURES, WEIGHTED, ItemScores, Measure, weighted
from agentflan_ray.search.proof import Proof, prove
from agentflan_ray.search.trial import JUDGED, TrialSetup
from agentflan_ray.sweep.job import Job
from agentflan_ray.sweep.recipe import SweepRecipe
from agentflan_ray.sweep.retrain import Retraining, train_again
from agentflan_ray.sweep.search import space_of

OF_TRAINING = ("fraction", "learning_rate", "epochs")
"""Parameters that are no part of a mixture: in a proof all mixes have the winner's."""


def run_proof(recipe: SweepRecipe, setup: TrialSetup, job: Job, best: str) -> Proof:
    """Train what is not trained yet, compare the trial ``best`` with the named mixes, and write ``proof.json``."""
    metric, direction, measure = measured(recipe)
    result = storage.read_json(job.place("trials", best, "result.json"))
    parameters = {name: float(value) for name, value in result["parameters"].items()}
    space, mixes = space_of(recipe, setup.tokens)
    winner = result["kind"] if result["kind"] in mixes else f"trial {best}"
    wanted: dict[str, tuple[str, int]] = {}
    todo: dict[str, Retraining] = {}
    seeds = recipe.proof_seeds
    for seed in seeds:
        name = f"confirm-{best}-{seed}"
        wanted[name] = (winner, seed)
        # What was kept as the best model stays as it is: only seeds beyond those of the confirmation are trained here.
        todo[name] = Retraining("confirm", parameters, seed)
    of_training = {name: value for name, value in parameters.items() if name in OF_TRAINING}
    for other, point in mixes.items():
        if other == winner:
            continue
        complete = space.suggest(optuna.trial.FixedTrial(point))
        for seed in seeds:
            name = f"proof-{other}-{seed}"
            wanted[name] = (other, seed)
            todo[name] = Retraining("proof", {**complete, **of_training}, seed)
    train_again(recipe, setup, job, todo)
    runs: dict[str, dict[int, list[ItemScores]]] = {}
    for name, (of_mix, seed) in wanted.items():
        runs.setdefault(of_mix, {})[seed] = read_items(storage.join(setup.folder(name), f"{JUDGED}-samples.parquet"))
    proof = prove(
        measure,
        runs,
        winner,
        metric=metric,
        direction=direction,
        base=read_items(job.place("evaluation", "base-samples.parquet")),
    )
    storage.write_json(job.place("proof.json"), {"seeds": list(seeds), "trial": best, **asdict(proof)})
    return proof


def measured(recipe: SweepRecipe) -> tuple[str, str, Measure]:
    """What is compared, and which way it is good: the first objective, or the score where that is of the training."""
    first = recipe.objectives[0]
    if first.metric == WEIGHTED:
        return first.metric, first.direction, weighted(dict(recipe.weights))
    if first.metric in MEASURES:
        return first.metric, first.direction, MEASURES[first.metric]
    return "score", "max", MEASURES["score"]


def read_items(uri: str) -> list[ItemScores]:
    """The scores of each item from a file of samples."""
    filesystem, path = storage.locate(uri)
    rows = pq.read_table(path, filesystem=filesystem, columns=["id", "case", "group", "scores"]).to_pylist()
    return [ItemScores(row["id"], row["case"], row["group"], json.loads(row["scores"])) for row in rows]


def in_words(proof: Proof) -> str:
    """What was shown, in a sentence."""
    best = ", ".join(each.mix for each in proof.mixes if each.is_among_best)
    shown = ", ".join(each.theirs for each in proof.comparisons if each.is_shown and each.value > 0)
    beaten = f"shown to be better than {shown}" if shown else "not shown to be better than any named mix"
    return f"On the items that judge, {proof.winner} is {beaten}; the best mix is one of: {best}"
