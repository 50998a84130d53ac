"""One trial: parameters -> plan -> training -> scores, and a folder that says everything about it.

The folder ``trials/<name>/`` holds ``plan.parquet`` (what is read), ``trial.json`` (facts known before training),
``curve.jsonl`` (each step), ``evaluation.json`` and ``samples.parquet`` (the scores and every reply), ``result.json``
(how it ended), ``tensorboard/``, and ``model/`` where it was exported.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.train
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from agentflan_ray import storage
from agentflan_ray.evaluate.engine import TransformersGenerator, generation_dtype
from agentflan_ray.evaluate.items import Split, select_items
from agentflan_ray.evaluate.model import score_model
from agentflan_ray.evaluate.toolbox import Scored, run, samples_of, summarise
from agentflan_ray.mixture import Mixture, make_plan
from agentflan_ray.search.searcher import COMPLETE, TRIAL_NUMBER, TRIAL_STATE
from agentflan_ray.search.space import to_weights
from agentflan_ray.tokens.blocks import OpenBlocks, write_plan
from agentflan_ray.tokens.tokenise import TokenStore, to_index
from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.trainer import make_trainer


@dataclass(frozen=True)
class TrialSetup:
    """What all trials of a search share."""

    run_uri: str
    tokens: TokenStore
    train: TrainRecipe
    placement: Placement
    budget: int
    """Tokens of a trial at fraction 1."""
    max_repeats: int
    items: tuple[tuple[str, int], ...]
    """Evaluation items by case that choose between trials."""
    pad_token_id: int
    evaluation_batch: int

    def folder(self, name: str) -> str:
        """Where a trial's files lie."""
        return storage.join(self.run_uri, "trials", name)

    @property
    def validation(self) -> OpenBlocks:
        """The held-out blocks, the same for every trial."""
        return self._blocks(storage.join(self.run_uri, "validation.parquet"))

    def blocks(self, name: str) -> OpenBlocks:
        """A trial's training blocks."""
        return self._blocks(storage.join(self.folder(name), "plan.parquet"))

    def _blocks(self, plan_uri: str) -> OpenBlocks:
        return OpenBlocks(plan_uri, self.tokens.shards_uri, self.train.block_length, self.pad_token_id)


@dataclass(frozen=True)
class ScoreAtTheEnd:
    """The loop's ``finish``: scores the trained model on the items that choose, on the first rank.

    What it returns is the complete report that a search waits for. The other ranks wait in the next collective.
    """

    setup: TrialSetup
    name: str

    def __call__(self, model: Any, tokenizer: Any) -> dict[str, Any]:
        """Scores by name, ``evaluate_seconds``, and the mark of a complete trial."""
        import torch

        if ray.train.get_context().get_world_rank() != 0:
            return {}
        began = time.perf_counter()
        # Products of single tokens gain nothing from fast inputs and pay for their conversion (twice the time).
        torch.set_float32_matmul_precision("highest")
        # A copy: the trained weights are exported afterwards as they are.
        quick = copy.deepcopy(model).to(generation_dtype(self.setup.placement.use_gpu))
        generate = TransformersGenerator(quick, tokenizer, self.setup.evaluation_batch)
        scored = run(select_items("choose", dict(self.setup.items)), generate)
        return _complete_report(self.setup, self.name, scored, time.perf_counter() - began)


def prepare(setup: TrialSetup, name: str, parameters: Mapping[str, float], seed: int) -> dict[str, Any]:
    """Plan a trial and write its plan and facts; the facts are returned."""
    fraction = float(parameters.get("fraction", 1.0))
    weights = to_weights(parameters)
    table = setup.tokens.index_table(validation=False)
    mixture = Mixture(weights, setup.budget, fraction, setup.max_repeats)
    plan = make_plan(to_index(table), mixture)
    packing = write_plan(plan, table, setup.train.block_length, seed, setup.blocks(name).plan_uri)
    facts = {
        "trial": name,
        "parameters": dict(parameters),
        "seed": seed,
        "asked": plan.asked,
        "realised": plan.realised,
        "repeats": plan.repeats,
        "fraction": fraction,
        "tokens": plan.num_tokens,
        "supervised_tokens": plan.num_supervised,
        "blocks": packing.num_blocks,
        "packing_efficiency": packing.efficiency,
        "steps": setup.train.num_steps(packing.num_blocks),
        "fingerprints": {
            "corpus": setup.tokens.manifest["corpus"],
            "tokens": setup.tokens.fingerprint,
            "plan": storage.fingerprint([plan.rows.tolist(), plan.masks.tolist(), seed]),
            "recipe": storage.fingerprint(_recipe(setup, parameters, seed).to_json()),
        },
    }
    storage.write_json(storage.join(setup.folder(name), "trial.json"), facts)
    return facts


def train_trial(
    setup: TrialSetup,
    name: str,
    parameters: Mapping[str, float],
    seed: int,
    export_to: str | None = None,
) -> None:
    """Plan, train and score one trial inside a Tune trial. With ``export_to`` the model is kept there.

    Up to ZeRO-2 the workers hold the whole model and score it where it is. ZeRO-3 leaves no worker with a whole one:
    the model is exported and scored by a task of its own, which reports to Tune in the workers' stead.
    """
    from agentflan_ray.train.loop import MODEL_FOLDER

    facts = prepare(setup, name, parameters, seed)
    whole = setup.train.zero_stage < 3
    local = storage.is_local(setup.run_uri)
    runs = storage.join(setup.run_uri, "train")
    if not setup.train.checkpoint_every:
        # What an earlier start of this trial left there is no state to go on from.
        storage.remove_folder(storage.join(runs, name))
    trainer = make_trainer(
        _recipe(setup, parameters, seed),
        setup.placement,
        setup.blocks(name),
        storage_path=runs,
        name=name,
        make_validation=setup.validation,
        finish=ScoreAtTheEnd(setup, name) if whole else None,
        card={"data": facts} if export_to or not whole else None,
        tensorboard=storage.join(setup.folder(name), "tensorboard") if local else None,
        callbacks=[TuneReportCallback()],
    )
    result = trainer.fit()
    if whole and not export_to:
        return
    with result.checkpoint.as_directory() as folder:
        model = f"{folder}/{MODEL_FOLDER}"
        if not whole:
            tune.report(_score_export(setup, name, model))
        if export_to:
            storage.remove_folder(export_to)
            storage.copy_folder(model, export_to)
    # The weights were kept only to be scored or copied: the trial's own state is its plan and recipe.
    result.checkpoint.filesystem.delete_dir(result.checkpoint.path)


def trial_name(number: int) -> str:
    """The folder of a trial of the search."""
    return f"{number:04d}"


def run_trial(config: dict[str, Any], setup: TrialSetup, seed: int) -> None:
    """The trial function that Tune runs: each report of the workers goes to Tune, and so to scheduler and study."""
    parameters = {key: value for key, value in config.items() if key != TRIAL_NUMBER}
    train_trial(setup, trial_name(config[TRIAL_NUMBER]), parameters, seed)


def write_evaluation(
    folder: str, scored: Sequence[Scored], model: str, split: Split, seconds: float, stem: str = "evaluation"
) -> dict[str, Any]:
    """Write ``<stem>.json`` and every reply to ``<stem>-samples.parquet``; the summary is returned."""
    samples = samples_of(scored)
    summary = {
        "model": model,
        **summarise(scored),
        "examples": [{**row, "scores": json.loads(row["scores"])} for row in samples],
        "protocol": f"embedded toolbox, held-out groups of the split '{split}', greedy, ReAct or plain prompt by item",
        "seconds": seconds,
    }
    storage.write_json(storage.join(folder, f"{stem}.json"), summary)
    filesystem, path = storage.locate(storage.join(folder, f"{stem}-samples.parquet"))
    pq.write_table(pa.Table.from_pylist(samples), path, filesystem=filesystem)
    return summary


def _score_export(setup: TrialSetup, name: str, model: str) -> dict[str, Any]:
    gpus = int(setup.placement.use_gpu)
    task = ray.remote(score_model).options(num_cpus=1 - gpus, num_gpus=gpus, scheduling_strategy="DEFAULT")
    threads = setup.placement.num_threads
    scored, seconds = ray.get(task.remote(model, "choose", dict(setup.items), setup.evaluation_batch, threads))
    return _complete_report(setup, name, scored, seconds)


def _complete_report(setup: TrialSetup, name: str, scored: Sequence[Scored], seconds: float) -> dict[str, Any]:
    summary = write_evaluation(setup.folder(name), scored, name, "choose", seconds)
    values = {metric: row["value"] for metric, row in summary["metrics"].items()}
    return {**values, "evaluate_seconds": seconds, TRIAL_STATE: COMPLETE}


def _recipe(setup: TrialSetup, parameters: Mapping[str, float], seed: int) -> TrainRecipe:
    rate = parameters.get("learning_rate", setup.train.learning_rate)
    return replace(setup.train, seed=seed, learning_rate=rate)
