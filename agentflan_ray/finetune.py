"""One training: a corpus's tokens and a mixture -> plan -> Ray Train with DeepSpeed -> a model that others load.

The folder holds ``train.json`` (what it is), ``plan.parquet`` (what is read), ``validation.parquet``, ``curve.jsonl``
(each step), ``tensorboard/``, ``checkpoints/`` (Ray Train's own), ``metrics.json`` and ``model/``. The same order in
the same folder goes on where it stopped.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from agentflan_ray import storage
from agentflan_ray.mixture import Index, Plan
from agentflan_ray.tokens.blocks import OpenBlocks, write_plan, write_validation_plan
from agentflan_ray.tokens.tokenise import TokenStore, to_index
from agentflan_ray.tokens.tokenizer import load_tokenizer
from agentflan_ray.train import models
from agentflan_ray.train.progress import CurveWriter, read_curve, shown
from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.tracking import Tracking
from agentflan_ray.train.trainer import make_trainer
from agentflan_ray.versions import versions
from agentflan_ray.view.tables import plan_table

VALIDATION_TOKENS = 20_000
"""Held-out tokens that a training is measured on."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to train: the recipe, the tokens of a corpus, and which of their rows to read."""

    recipe: TrainRecipe
    tokens: TokenStore
    make_plan: Callable[[Index], Plan]
    validation_tokens: int = VALIDATION_TOKENS


@dataclass(frozen=True, kw_only=True)
class Job:
    """Where a training runs and who watches it; none of it changes what is learnt."""

    out: str
    placement: Placement
    tracking: Tracking | None = None
    console: Console = field(default_factory=lambda: Console(quiet=True))


def prepare(order: Order, out: str, console: Console) -> dict[str, Any]:
    """Plan and pack what is read, and write the facts of the training to ``train.json``; they are returned.

    Raises ``ValueError`` where the folder holds another training, and as making the plan does.
    """
    recipe, tokens = order.recipe, order.tokens
    if not recipe.model.startswith(models.RANDOM):
        models.check_weights(recipe.model)
    table = tokens.index_table(validation=False)
    plan = order.make_plan(to_index(table))
    console.print(plan_table(plan))
    facts = {
        "corpus": tokens.manifest["corpus"],
        "tokens": tokens.fingerprint,
        "plan": storage.fingerprint([plan.rows.tolist(), plan.masks.tolist(), plan.phases.tolist()]),
        "recipe": recipe.to_json(),
        "validation_tokens": order.validation_tokens,
    }
    _refuse_another(storage.join(out, "train.json"), facts)
    packing = write_plan(plan, table, recipe.block_length, recipe.seed, storage.join(out, "plan.parquet"))
    validation = storage.join(out, "validation.parquet")
    write_validation_plan(tokens, order.validation_tokens, recipe.block_length, validation)
    facts |= {
        "asked": plan.asked,
        "realised": plan.realised,
        "tokens_to_read": plan.num_tokens,
        "supervised_tokens": plan.num_supervised,
        "blocks": packing.num_blocks,
        "packing_efficiency": packing.efficiency,
        "steps": recipe.num_steps(packing.num_blocks),
        "model": {"name": recipe.model, "fingerprint": models.fingerprint(recipe.model)},
        "versions": versions(),
    }
    storage.write_json(storage.join(out, "train.json"), facts)
    return facts


def finetune(order: Order, job: Job) -> str:
    """Train, or go on with a training that was cut off; returns the place of the exported model.

    Raises ``ValueError`` where the folder holds another training, and the error of the workers where they failed more
    than :data:`~agentflan_ray.train.trainer.MAX_FAILURES` times.
    """
    recipe, console = order.recipe, job.console
    model = storage.join(job.out, "model")
    facts = prepare(order, job.out, console)
    if storage.exists(storage.join(job.out, "metrics.json")):
        console.print(f"It is trained already: {model}", soft_wrap=True, markup=False)
        return model
    console.print(
        f"Training {recipe.model}: {facts['steps']:,} steps of {recipe.blocks_per_step} x {recipe.block_length} tokens "
        f"on {job.placement.num_workers} workers; everything lies in {job.out}",
        soft_wrap=True,
        markup=False,
    )
    pad = load_tokenizer(models.resolve(recipe.model), recipe.template).pad_token_id
    local = storage.is_local(job.out)
    with tempfile.TemporaryDirectory(prefix="agentflan-curve-") as folder:
        # The curve of a run in a bucket is written here and copied there at the end.
        curve = Path(storage.locate(job.out)[1] if local else folder, "curve.jsonl")
        callbacks: list[Any] = [CurveWriter(str(curve))]
        if job.tracking is not None:
            name = storage.absolute(job.out).rpartition("/")[2]
            callbacks.append(job.tracking.of_training(name, recipe.to_json()))
        blocks, validation = (
            OpenBlocks(storage.join(job.out, f"{plan}.parquet"), order.tokens.shards_uri, recipe.block_length, pad)
            for plan in ("plan", "validation")
        )
        trainer = make_trainer(
            recipe,
            job.placement,
            blocks,
            storage_path=job.out,
            name="checkpoints",
            make_validation=validation,
            card={"data": facts},
            tensorboard=storage.join(job.out, "tensorboard") if local else None,
            callbacks=callbacks,
        )
        with shown(curve, facts["steps"], console):
            result = trainer.fit()
        if not local:
            lines = "".join(json.dumps(row) + "\n" for row in read_curve(curve))
            storage.write_bytes(storage.join(job.out, "curve.jsonl"), lines.encode())
    from agentflan_ray.train.loop import METRICS_FILE, MODEL_FOLDER

    with result.checkpoint.as_directory() as folder:
        storage.remove_folder(model)
        storage.copy_folder(f"{folder}/{MODEL_FOLDER}", model)
        storage.write_json(storage.join(job.out, "metrics.json"), storage.read_json(f"{folder}/{METRICS_FILE}"))
    if not recipe.checkpoint_every:
        # The weights were kept only to be copied.
        result.checkpoint.filesystem.delete_dir(result.checkpoint.path)
    console.print(f"Model: {model}", soft_wrap=True, markup=False)
    return model


def _refuse_another(uri: str, facts: dict[str, Any]) -> None:
    if not storage.exists(uri):
        return
    begun = storage.read_json(uri)
    for name, value in storage.as_json(facts).items():
        if begun[name] == value:
            continue
        if name == "recipe":
            name, value, begun = next(
                (f"recipe's {key}", value[key], {f"recipe's {key}": begun["recipe"].get(key)})
                for key in value
                if begun["recipe"].get(key) != value[key]
            )
        raise ValueError(
            f"The folder {uri.rpartition('/')[0]} holds a training with another {name} ({begun[name]}, now {value}); "
            "give another --out, or go on with what it was begun with."
        )
