"""One trial: parameters -> plan -> training -> scores, and a folder that says everything about it.

The folder ``trials/<name>/`` holds ``plan.parquet`` (what is read), ``trial.json`` (facts known before training),
``curve.jsonl`` (each step), ``evaluation.json`` and ``samples.parquet`` (the scores and every reply), ``result.json``
(how it ended), ``tensorboard/``, and ``model/`` where it was exported.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agentflan_ray import storage
from agentflan_ray.evaluate.engine import TransformersGenerator
from agentflan_ray.evaluate.items import Split, select_items
from agentflan_ray.evaluate.toolbox import Scored, run, samples_of, summarise
from agentflan_ray.mixture import Mixture, make_plan
from agentflan_ray.sample import COMPONENTS
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
        return OpenBlocks(plan_uri, self.tokens.uri, self.train.block_length, self.pad_token_id)


@dataclass(frozen=True)
class ScoreAtTheEnd:
    """The loop's ``finish``: scores the trained model on the items that choose, on the first rank.

    What it returns is the complete report that a search waits for. The other ranks wait in the next collective.
    """

    setup: TrialSetup
    name: str

    def __call__(self, model: Any, tokenizer: Any) -> dict[str, Any]:
        """Scores by name, ``evaluate_seconds``, and the mark of a complete trial."""
        import torch.distributed

        if torch.distributed.get_rank() != 0:
            return {}
        began = time.perf_counter()
        generate = TransformersGenerator(model, tokenizer, self.setup.evaluation_batch)
        scored = run(select_items("choose", dict(self.setup.items)), generate)
        seconds = time.perf_counter() - began
        summary = write_evaluation(self.setup.folder(self.name), scored, self.name, "choose", seconds)
        values = {name: row["value"] for name, row in summary["metrics"].items()}
        return {**values, "evaluate_seconds": seconds, TRIAL_STATE: COMPLETE}


def write_validation_plan(setup: TrialSetup, budget: int) -> None:
    """Choose the held-out text that every trial is measured on: equal supervised tokens of each component."""
    table = setup.tokens.index_table(validation=True)
    index = to_index(table)
    present = [name for name, count in zip(COMPONENTS, index.supervised.sum(axis=0), strict=True) if count]
    mixture = Mixture(dict.fromkeys(present, 1 / len(present)), budget, max_repeats=1, when_short="cap")
    write_plan(make_plan(index, mixture), table, setup.train.block_length, 0, setup.validation.plan_uri)


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
    callbacks: Sequence[Any],
    export: bool = False,
) -> Any:
    """Plan, train and score one trial; returns Ray Train's result. With ``export`` the model is kept."""
    facts = prepare(setup, name, parameters, seed)
    local = storage.is_local(setup.run_uri)
    trainer = make_trainer(
        _recipe(setup, parameters, seed),
        setup.placement,
        setup.blocks(name),
        storage_path=storage.join(setup.run_uri, "train"),
        name=name,
        make_validation=setup.validation,
        finish=ScoreAtTheEnd(setup, name),
        card={"data": facts} if export else None,
        tensorboard=storage.join(setup.folder(name), "tensorboard") if local else None,
        callbacks=callbacks,
    )
    return trainer.fit()


def trial_name(number: int) -> str:
    """The folder of a trial of the search."""
    return f"{number:04d}"


def run_trial(config: dict[str, Any], setup: TrialSetup, seed: int) -> None:
    """The trial function that Tune runs: each report of the workers goes to Tune, and so to scheduler and study."""
    from ray.tune.integration.ray_train import TuneReportCallback

    parameters = {key: value for key, value in config.items() if key != TRIAL_NUMBER}
    train_trial(setup, trial_name(config[TRIAL_NUMBER]), parameters, seed, [TuneReportCallback()])


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


def _recipe(setup: TrialSetup, parameters: Mapping[str, float], seed: int) -> TrainRecipe:
    rate = parameters.get("learning_rate", setup.train.learning_rate)
    return replace(setup.train, seed=seed, learning_rate=rate)
