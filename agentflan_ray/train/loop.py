"""One training loop for one worker or many, CPU or GPU, ZeRO 0 to 3.

Step s trains on the blocks [s * G, (s + 1) * G) of the plan, G = ``blocks_per_step``; the last step may hold fewer.
Everything that a step does is a function of the recipe, the blocks and the step's number, so a resumed run continues
the very sequence and any number of workers gives the same losses up to rounding.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agentflan_ray import storage
from agentflan_ray.randomness import stable_hash
from agentflan_ray.sample import COMPONENTS
from agentflan_ray.tokens.block import Block, Blocks
from agentflan_ray.tokens.loader import Loader
from agentflan_ray.train.blocks import NUM_COMPONENTS, count_targets, targets
from agentflan_ray.train.engine import Engine
from agentflan_ray.train.export import export
from agentflan_ray.train.recipe import Placement, TrainRecipe

Report = Callable[[dict[str, Any], Path | None], None]
"""Takes the metrics of a step, and the folder of this rank's part of a checkpoint, which it may keep or remove."""

Finish = Callable[[Any, Any], dict[str, Any]]
"""Takes the trained model and its tokenizer on every rank; what it returns joins the last report, as JSON values."""

STATE_FOLDER = "state"
"""Where in a reported folder the state to resume from lies."""

MODEL_FOLDER = "model"
"""Where in the last reported folder the exported model lies."""

METRICS_FILE = "metrics.json"


def train(
    recipe: TrainRecipe,
    placement: Placement,
    blocks: Blocks,
    *,
    report: Report,
    validation: Blocks | None = None,
    resume_from: Path | None = None,
    finish: Finish | None = None,
    card: dict[str, Any] | None = None,
    tensorboard: Path | None = None,
) -> dict[str, Any]:
    """Train and return the metrics of the last report. Every rank calls it with the same arguments.

    Each step reports, on every rank: ``step`` (from 1), ``tokens`` (positions processed so far, padding included),
    ``supervised_tokens`` (so far), ``loss`` (mean over the supervised tokens of the global batch),
    ``loss/<component>`` for each component in the batch, ``learning_rate``, ``grad_norm`` (before clipping),
    ``tokens_per_second`` and ``seconds`` of the step, all workers together.

    Every ``validate_every`` steps and at the end the report holds ``validation_loss/<component>``, the mean over the
    component's supervised tokens, and ``validation_loss``, the plain mean of these: each component that is present
    weighs the same, however many tokens it has, so that mixtures are compared on equal terms.

    Every ``checkpoint_every`` steps and at the end (0: never) the report comes with a folder that holds this rank's
    state under ``state/``. The last report always comes with a folder: it holds ``metrics.json`` (rank 0), and with
    ``card`` the exported model under ``model/``.

    Raises ``ValueError`` where ``resume_from`` belongs to another recipe or number of workers, where a step has no
    supervised token, or where ``finish`` meets ZeRO-3; ``FloatingPointError`` where a loss or gradient is not finite,
    before the optimizer uses it.
    """
    if len(blocks) == 0:
        raise ValueError("The plan holds no blocks; there is nothing to train on.")
    if finish is not None and recipe.zero_stage == 3:
        raise ValueError(
            "zero_stage is 3, which leaves no rank with a whole model to finish with; use a stage of 0 to 2, or "
            "evaluate the exported model."
        )
    engine = Engine(recipe, placement)
    loader = _loader(engine, blocks, recipe.blocks_per_step)
    num_steps = len(loader)
    state = engine.load(resume_from / STATE_FOLDER) if resume_from else {"step": 0, "supervised_tokens": 0}
    first_step, supervised_tokens = state["step"], state["supervised_tokens"]
    if first_step >= num_steps:
        raise ValueError(f"The checkpoint is at step {first_step}, but the plan has only {num_steps} steps.")
    writer = _scalar_writer(tensorboard) if tensorboard and engine.rank == 0 else None
    metrics: dict[str, Any] = {}
    for step in range(first_step, num_steps):
        began = time.perf_counter()
        learning_rate = recipe.learning_rate_at(step, num_steps)
        sums, counts, grad_norm = _train_step(engine, loader, step, learning_rate)
        supervised_tokens += int(counts.sum())
        seconds = time.perf_counter() - began
        step_tokens = recipe.blocks_per_step * recipe.block_length
        metrics = {
            "step": step + 1,
            "tokens": (step + 1) * step_tokens,
            "supervised_tokens": supervised_tokens,
            "loss": float(sums.sum() / counts.sum()),
            **_by_component("loss", sums, counts),
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            "tokens_per_second": step_tokens / seconds,
            "seconds": seconds,
        }
        last = step + 1 == num_steps
        if validation is not None and (last or _is_due(step, recipe.validate_every)):
            metrics |= validate(engine, validation)
        if last and finish is not None:
            engine.model.eval()
            metrics |= finish(engine.model, engine.tokenizer)
        keeps_state = recipe.checkpoint_every > 0 and (last or _is_due(step, recipe.checkpoint_every))
        folder = Path(tempfile.mkdtemp(prefix="agentflan-train-")) if keeps_state or last else None
        if folder and keeps_state:
            engine.save(folder / STATE_FOLDER, {"step": step + 1, "supervised_tokens": supervised_tokens})
        if folder and last and card is not None:
            export(
                engine,
                engine.tokenizer,
                folder / MODEL_FOLDER,
                {**card, "recipe": recipe.to_json(), "metrics": metrics},
            )
        if folder and last and engine.rank == 0:
            storage.write_json(folder / METRICS_FILE, metrics)
        if writer is not None:
            for name, value in metrics.items():
                if isinstance(value, int | float):
                    writer.add_scalar(name, value, step + 1)
        report(metrics, folder)
    if writer is not None:
        writer.close()
    return metrics


def validate(engine: Engine, blocks: Blocks) -> dict[str, float]:
    """Losses on held-out blocks, see :func:`train`."""
    sums, counts = torch.zeros(NUM_COMPONENTS, dtype=torch.float64), np.zeros(NUM_COMPONENTS, dtype=np.int64)
    loader = _loader(engine, blocks, engine.placement.micro_batch_size * engine.world_size)
    engine.module.eval()
    with torch.no_grad():
        for (micro_batch,) in loader:
            batch = _Batch(micro_batch)
            sums += engine.forward(*batch.tensors())[1].cpu()
            counts += batch.counts
    totals = engine.sum_over_ranks(torch.cat([sums, torch.from_numpy(counts).double()]))
    sums, all_counts = totals[:NUM_COMPONENTS], totals[NUM_COMPONENTS:]
    losses = _by_component("validation_loss", sums, all_counts)
    if not losses:
        raise ValueError(f"None of the {len(blocks)} validation blocks has a supervised token.")
    return {"validation_loss": sum(losses.values()) / len(losses), **losses}


class _Batch:
    """The blocks of one forward pass of one rank, with their targets."""

    def __init__(self, blocks: list[Block]) -> None:
        self.input_ids = np.stack([block.input_ids for block in blocks])
        self.position_ids = np.stack([block.position_ids for block in blocks])
        self.targets = targets(self.position_ids, np.stack([block.tags for block in blocks]))
        self.counts = count_targets(self.targets)

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return tuple(torch.from_numpy(each).long() for each in (self.input_ids, self.position_ids, self.targets))  # type: ignore[return-value]


def _train_step(
    engine: Engine, loader: Loader, step: int, learning_rate: float
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Sums of the losses and numbers of the targets by component over all ranks, and the norm of the gradient."""
    recipe, blocks = engine.recipe, loader.blocks
    # Dropout and the like depend on seed, step and rank alone, so that no generator state has to be kept.
    torch.manual_seed(stable_hash(recipe.seed, step, engine.rank))
    batches = [_Batch(micro_batch) for micro_batch in loader[step]]
    counts = engine.sum_over_ranks(torch.from_numpy(np.sum([batch.counts for batch in batches], axis=0)).double())
    last_block = min((step + 1) * recipe.blocks_per_step, len(blocks)) - 1
    if counts.sum() == 0:
        raise ValueError(
            f"Step {step + 1} (blocks {step * recipe.blocks_per_step} to {last_block}) has no supervised token; "
            "its blocks hold only prompts."
        )
    engine.module.train()
    sums = torch.zeros(NUM_COMPONENTS, dtype=torch.float64)
    for index, batch in enumerate(batches):
        total, by_component = engine.forward(*batch.tensors())
        engine.backward(total, num_targets=float(counts.sum()))
        sums += by_component.cpu()
        if index + 1 < len(batches):
            engine.next_micro_batch()
    sums = engine.sum_over_ranks(sums)
    if not bool(torch.isfinite(sums).all()):
        broken = ", ".join(name for name, value in zip(COMPONENTS, sums, strict=True) if not math.isfinite(value))
        raise FloatingPointError(
            f"The loss of step {step + 1} (blocks {step * recipe.blocks_per_step} to {last_block}) is not finite in "
            f"{broken}; nothing was learnt from it. Lower the learning rate (now {learning_rate:.2g}) or look at "
            "these blocks."
        )
    grad_norm = engine.update(learning_rate)
    if not math.isfinite(grad_norm):
        raise FloatingPointError(
            f"The gradient of step {step + 1} (blocks {step * recipe.blocks_per_step} to {last_block}) is not finite; "
            f"nothing was learnt from it. Lower the learning rate (now {learning_rate:.2g})."
        )
    return sums, counts, grad_norm


def _loader(engine: Engine, blocks: Blocks, batch_size: int) -> Loader:
    size, length = engine.placement.micro_batch_size, engine.recipe.block_length
    return Loader(blocks, length, batch_size, engine.rank, engine.world_size, size)


def _by_component(prefix: str, sums: torch.Tensor, counts: torch.Tensor) -> dict[str, float]:
    """Mean loss of each component that occurs."""
    return {
        f"{prefix}/{name}": float(total / count)
        for name, total, count in zip(COMPONENTS, sums, counts, strict=True)
        if count > 0
    }


def _is_due(step: int, every: int) -> bool:
    return every > 0 and (step + 1) % every == 0


def _scalar_writer(folder: Path) -> Any:
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(folder))
