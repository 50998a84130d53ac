"""One trial: parameters -> plan -> training -> scores, and a folder that says everything about it.

The folder ``trials/<name>/`` holds ``plan.parquet`` (what is read), ``trial.json`` (facts known before training),
``curve.jsonl`` (each step), ``rung-<rung>.json`` (its scores on the way), ``evaluation.json`` (those at the end) and
``<the same>-samples.parquet`` (every reply of them), ``result.json`` (how it ended), and ``tensorboard/``.

With rungs a trial reads its data in nested increments and goes on at each rung or is stopped there, see
:mod:`agentflan_ray.search.promotion`; it never begins again.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from agentflan_ray import storage
from agentflan_ray.evaluate.engine import ask_all
from agentflan_ray.evaluate.items import Split, select_items
from agentflan_ray.evaluate.measures import WEIGHTED, ItemScores, estimate, weighted
from agentflan_ray.evaluate.model import score_model
from agentflan_ray.evaluate.stats import Z95
from agentflan_ray.evaluate.toolbox import PLAIN_CASES, Scored, run, samples_of, summarise
from agentflan_ray.mixture import make_plan, nested
from agentflan_ray.search import lane
from agentflan_ray.search.promotion import END
from agentflan_ray.search.searcher import COMPLETE, FAILED, REASON, STANDARD_ERROR, TRIAL_NUMBER, TRIAL_STATE
from agentflan_ray.search.space import to_mixture
from agentflan_ray.tokens.blocks import OpenBlocks, write_plan
from agentflan_ray.tokens.buckets import learnt_from
from agentflan_ray.tokens.tokenise import TokenStore, to_index
from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.trainer import REPEATING, make_trainer

JUDGED = "judge"
"""Stem of the files of a retraining's scores on the items that judge."""


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
    rungs: tuple[float, ...] = (END,)
    """Parts of a trial's data after which it is scored, the end among them."""
    rung_items: tuple[tuple[str, int], ...] | None = None
    """Evaluation items by case at the rungs before the end, the first ones of ``items``; None: all of them."""
    weights: tuple[tuple[str, float], ...] = ()
    """Terms of the weighted sum of metrics that reports give as ``weighted_score``; none without them."""
    judge_items: tuple[tuple[str, int], ...] = ()
    """Items by case that a training outside of the search is judged by as well."""

    def __post_init__(self) -> None:
        if self.rung_items is None:
            return
        whole = dict(self.items)
        for case, num in self.rung_items:
            if num > whole.get(case, 0):
                raise ValueError(
                    f"rung_items asks for {num} items of the case {case} at a rung, but items for {whole.get(case, 0)} "
                    "at the end; score at rungs on a part of what is scored at the end."
                )

    @property
    def items_at_rungs(self) -> tuple[tuple[str, int], ...]:
        """Evaluation items by case at the rungs before the end."""
        return self.items if self.rung_items is None else self.rung_items

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
class ScoreAtRung:
    """The loop's ``rungs.score``: scores the model as it is now on the items of the rungs, on the first rank.

    What a trial's earlier start has scored is read, not scored again: the same plan and recipe make the same model. So
    a trial that keeps no state to go on from pays for its steps twice, but not for its rungs.
    """

    setup: TrialSetup
    name: str
    made_of: str
    """Fingerprint of the trial's plan and recipe, and of what is scored."""

    def __call__(self, model: Any, tokenizer: Any, rung: float) -> dict[str, Any]:
        """Scores by name, their standard errors, and ``evaluate_seconds``."""
        if not _is_first_rank():
            return {}
        stem = rung_stem(rung)
        uri = storage.join(self.setup.folder(self.name), f"{stem}.json")
        if storage.exists(uri) and (kept := storage.read_json(uri))["made_of"] == self.made_of:
            return {**_values_of(kept), "evaluate_seconds": 0.0}
        scored, seconds = _score_here(self.setup, self.setup.items_at_rungs, model, tokenizer)
        facts = {"rung": rung, "made_of": self.made_of}
        summary = write_evaluation(
            self.setup.folder(self.name),
            scored,
            self.name,
            "choose",
            seconds,
            stem=stem,
            facts=facts,
            weights=self.setup.weights,
        )
        return {**_values_of(summary), "evaluate_seconds": seconds}


@dataclass(frozen=True)
class ScoreAtTheEnd:
    """The loop's ``finish``: scores the trained model on the items that choose, on the first rank.

    What it returns is the complete report that a search waits for. The other ranks wait in the next collective.
    """

    setup: TrialSetup
    name: str

    def __call__(self, model: Any, tokenizer: Any) -> dict[str, Any]:
        """Scores by name, ``evaluate_seconds``, and the mark of a complete trial."""
        if not _is_first_rank():
            return {}
        if self.setup.judge_items:
            judged = _score_here(self.setup, self.setup.judge_items, model, tokenizer, "judge")
            _write_judged(self.setup, self.name, *judged)
        return _complete_report(self.setup, self.name, *_score_here(self.setup, self.setup.items, model, tokenizer))


def _is_first_rank() -> bool:
    import torch.distributed

    return torch.distributed.get_rank() == 0


def prepare(setup: TrialSetup, name: str, parameters: Mapping[str, float], seed: int) -> dict[str, Any]:
    """Plan a trial and write its plan and facts; the facts are returned.

    ``rungs`` of the facts are those before the end: ``rung`` (the part of the data), ``step`` (the last one that holds
    a block of it; with several blocks in a step, some of the next rung's may be in it) and ``tokens`` (up to there, as
    the reports count them).

    Raises:
        ValueError: The plan can't be made, or is so short that two rungs end at the same step.
    """
    table = setup.tokens.index_table(validation=False)
    mixture = to_mixture(parameters, setup.budget, setup.max_repeats)
    plan = make_plan(to_index(table), mixture if setup.rungs == (END,) else nested(mixture, setup.rungs))
    packing = write_plan(plan, table, setup.train.block_length, seed, setup.blocks(name).plan_uri)
    facts = {
        "trial": name,
        "parameters": dict(parameters),
        "seed": seed,
        "asked": plan.asked,
        "realised": plan.realised,
        "asked_parts": plan.asked_parts,
        "realised_parts": plan.realised_parts,
        "repeats": plan.repeats,
        "fraction": mixture.fraction,
        "epochs": mixture.epochs,
        "tokens": plan.num_tokens,
        "supervised_tokens": plan.num_supervised,
        "blocks": packing.num_blocks,
        "packing_efficiency": packing.efficiency,
        "steps": setup.train.num_steps(packing.num_blocks),
        "buckets": learnt_from(table, plan),
        "rungs": _rungs(setup, packing.ends),
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
    *,
    at_rungs: bool = False,
    in_lane: bool = False,
) -> None:
    """Plan, train and score one trial inside a Tune trial. With ``export_to`` the model is kept there.

    With ``at_rungs`` it is scored at the rungs too; without, it reads the same blocks in the same order. With
    ``in_lane`` it is trained in this process (:mod:`agentflan_ray.search.lane`), else by workers of Ray Train.

    Up to ZeRO-2 the workers hold the whole model and score it where it is. ZeRO-3 leaves no worker with a whole one:
    the model is exported and scored by a task of its own, which reports to Tune in the workers' stead; at its rungs
    such a trial has validation losses only.
    """
    from agentflan_ray.train.loop import MODEL_FOLDER, Rungs

    facts = prepare(setup, name, parameters, seed)
    whole = setup.train.zero_stage < 3
    made_of = storage.fingerprint([facts["fingerprints"], setup.items_at_rungs, setup.evaluation_batch])
    score = ScoreAtRung(setup, name, made_of) if whole else None
    local = storage.is_local(setup.run_uri)
    rungs = Rungs({each["step"]: each["rung"] for each in facts["rungs"]}, score) if at_rungs else None
    tensorboard = storage.join(setup.folder(name), "tensorboard") if local else None
    recipe = _recipe(setup, parameters, seed)
    if in_lane:
        lane.train_here(
            recipe,
            setup.placement,
            setup.blocks(name),
            setup.validation,
            finish=ScoreAtTheEnd(setup, name),
            rungs=rungs,
            tensorboard=tensorboard,
        )
        return
    runs = storage.join(setup.run_uri, "train")
    if not setup.train.checkpoint_every:
        # What an earlier start of this trial left there is no state to go on from.
        storage.remove_folder(storage.join(runs, name))
    trainer = make_trainer(
        recipe,
        setup.placement,
        setup.blocks(name),
        storage_path=runs,
        name=name,
        make_validation=setup.validation,
        finish=ScoreAtTheEnd(setup, name) if whole else None,
        rungs=rungs,
        card={"data": facts} if export_to or not whole else None,
        tensorboard=tensorboard,
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
    """The trial function that Tune runs: each report of the workers goes to Tune, and so to scheduler and study.

    In a lane, what would come again is reported as the trial's end: Tune starts a trial that raised once more.
    """
    parameters = {key: value for key, value in config.items() if key != TRIAL_NUMBER}
    name = trial_name(config[TRIAL_NUMBER])
    in_lane = lane.fits(setup.train, setup.placement)
    try:
        train_trial(setup, name, parameters, seed, at_rungs=True, in_lane=in_lane)
    except REPEATING as error:
        if not in_lane:
            raise
        tune.report({TRIAL_STATE: FAILED, REASON: f"{type(error).__name__}: {error}"})


def write_evaluation(
    folder: str,
    scored: Sequence[Scored],
    model: str,
    split: Split,
    seconds: float,
    stem: str = "evaluation",
    facts: Mapping[str, Any] | None = None,
    weights: Sequence[tuple[str, float]] = (),
) -> dict[str, Any]:
    """Write every reply to ``<stem>-samples.parquet``, then ``<stem>.json``, with the facts; the latter is returned.

    With ``weights`` the metrics hold their weighted sum too (:data:`~agentflan_ray.evaluate.measures.WEIGHTED`).
    """
    samples = samples_of(scored)
    summary: dict[str, Any] = {
        **(facts or {}),
        "model": model,
        **summarise(scored),
        "examples": [{**row, "scores": json.loads(row["scores"])} for row in samples],
        "protocol": f"embedded toolbox, held-out groups of the split '{split}', greedy, ReAct or plain prompt by item",
        "seconds": seconds,
    }
    if weights:
        items = [ItemScores(each.item.id, each.item.case, each.item.group, each.scores) for each in scored]
        summary["metrics"][WEIGHTED] = estimate(weighted(dict(weights)), items)._asdict()
    storage.make_folder(folder)
    filesystem, path = storage.locate(storage.join(folder, f"{stem}-samples.parquet"))
    pq.write_table(pa.Table.from_pylist(samples), path, filesystem=filesystem)
    storage.write_json(storage.join(folder, f"{stem}.json"), summary)
    return summary


def rung_stem(rung: float) -> str:
    """Stem of the files of a rung's scores."""
    return f"rung-{rung:g}"


def standard_errors(summary: Mapping[str, Any]) -> dict[str, float]:
    """Standard errors of the metrics of a summary of :func:`~agentflan_ray.evaluate.toolbox.summarise`.

    A mean's is clustered by group and above 0 even where all items are alike; ``score`` has that of the cases that it
    is made of, and a weighted sum that of its interval.
    """
    errors = {name: row.get("error", _width_as_error(row)) for name, row in summary["metrics"].items()}
    plain = [summary["cases"][case]["correct"]["error"] for case in PLAIN_CASES if case in summary["cases"]]
    others = math.sqrt(sum(error**2 for error in plain)) / max(1, len(plain))
    errors["score"] = math.hypot(0.5 * errors["tool_score"], 0.5 * others)
    return errors


def _width_as_error(row: Mapping[str, float]) -> float:
    return (row["high"] - row["low"]) / (2 * Z95)


def _score_here(
    setup: TrialSetup, items: Sequence[tuple[str, int]], model: Any, tokenizer: Any, split: Split = "choose"
) -> tuple[list[Scored], float]:
    """Scores of a model in this process, and the seconds they took."""
    import torch

    from agentflan_ray.evaluate.engines.transformers import (
        SHARED_CPU_GIB,
        TransformersEngine,
        TransformersSettings,
        default_dtype,
    )

    began = time.perf_counter()
    # Products of single tokens gain nothing from fast inputs and pay for their conversion (twice the time).
    torch.set_float32_matmul_precision("highest")
    # A copy: the trained weights are exported or trained further as they are.
    ours = copy.deepcopy(model).to(getattr(torch, default_dtype(setup.placement.use_gpu)))
    memory = None if setup.placement.use_gpu else SHARED_CPU_GIB
    settings = TransformersSettings(num_slots=setup.evaluation_batch, memory_gib=memory)
    with contextlib.closing(TransformersEngine(ours, tokenizer, setup.train.model, settings)) as engine:
        scored = run(select_items(split, dict(items)), partial(ask_all, engine))
    return scored, time.perf_counter() - began


def _score_export(setup: TrialSetup, name: str, model: str) -> dict[str, Any]:
    gpus = int(setup.placement.use_gpu)
    task = ray.remote(score_model).options(num_cpus=1 - gpus, num_gpus=gpus, scheduling_strategy="DEFAULT")
    settings = (setup.evaluation_batch, setup.placement.num_threads)
    if setup.judge_items:
        _write_judged(setup, name, *ray.get(task.remote(model, "judge", dict(setup.judge_items), *settings)))
    scored, seconds = ray.get(task.remote(model, "choose", dict(setup.items), *settings))
    return _complete_report(setup, name, scored, seconds)


def _write_judged(setup: TrialSetup, name: str, scored: Sequence[Scored], seconds: float) -> None:
    write_evaluation(setup.folder(name), scored, name, "judge", seconds, stem=JUDGED, weights=setup.weights)


def _complete_report(setup: TrialSetup, name: str, scored: Sequence[Scored], seconds: float) -> dict[str, Any]:
    summary = write_evaluation(setup.folder(name), scored, name, "choose", seconds, weights=setup.weights)
    return {**_values_of(summary), "evaluate_seconds": seconds, TRIAL_STATE: COMPLETE}


def _values_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a summary with their standard errors, as they are reported."""
    values = {metric: row["value"] for metric, row in summary["metrics"].items()}
    return values | {f"{STANDARD_ERROR}/{metric}": error for metric, error in standard_errors(summary).items()}


def _rungs(setup: TrialSetup, ends: Sequence[int]) -> list[dict[str, float]]:
    """The rungs before the end, from the number of blocks up to the end of each stretch of the plan."""
    stretches = len(ends) // len(setup.rungs)  # a rung has one for each epoch
    steps = [setup.train.num_steps(end) for end in ends[stretches - 1 :: stretches]]
    for number in range(1, len(steps)):
        if steps[number] == steps[number - 1]:
            raise ValueError(
                f"The rungs {setup.rungs[number - 1]:g} and {setup.rungs[number]:g} of a trial both end at its step "
                f"{steps[number]} of {steps[-1]}; raise the budget of {setup.budget:,} tokens, take rungs that are "
                "farther apart, or fewer blocks in a step."
            )
    per_step = setup.train.blocks_per_step * setup.train.block_length
    return [
        {"rung": rung, "step": step, "tokens": step * per_step}
        for rung, step in zip(setup.rungs[:-1], steps, strict=False)
    ]


def _recipe(setup: TrialSetup, parameters: Mapping[str, float], seed: int) -> TrainRecipe:
    rate = parameters.get("learning_rate", setup.train.learning_rate)
    return replace(setup.train, seed=seed, learning_rate=rate)
