"""One training loop for one worker or many, CPU or GPU, ZeRO 0 to 3.

Step s trains on the blocks [s * G, (s + 1) * G) of the plan, G = ``blocks_per_step``; the last step may hold fewer.
Everything that a step does is a function of the recipe, the blocks and the step's number, so a resumed run continues
the very sequence and any number of workers gives the same losses up to rounding.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from agentflan_ray import storage
from agentflan_ray.randomness import stable_hash
from agentflan_ray.tokens.block import Block, Blocks
from agentflan_ray.tokens.loader import Loader
from agentflan_ray.train import checkpoint
from agentflan_ray.train.blocks import count_targets, targets
from agentflan_ray.train.engine import Engine
from agentflan_ray.train.export import export
from agentflan_ray.train.metering import Utilisation, mean_losses
from agentflan_ray.train.recipe import Placement, TrainRecipe

Report = Callable[[dict[str, Any], Path | None], None]
"""Takes the metrics of a step, and the folder of this rank's part of a checkpoint, which it may keep or remove."""

Finish = Callable[[Any, Any], dict[str, Any]]
"""Takes the trained model and its tokenizer on every rank; what it returns joins the last report, as JSON values."""

ScoreRung = Callable[[Any, Any, float], dict[str, Any]]
"""As :data:`Finish` in the middle of a training; it also takes the rung, and leaves the model as it was."""


@dataclass(frozen=True)
class Rungs:
    """Steps at which a training is measured on its way, and the part of its data that it has read by then.

    Attributes:
        steps: ``{step (from 1): rung in (0, 1)}``.
        score: Scores the model there; None leaves it at the validation losses, as ZeRO-3 must, which has no whole model
            on any rank.
    """

    steps: Mapping[int, float]
    score: ScoreRung | None = None


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
    resume_from: checkpoint.Saved | None = None,
    scratch: Path | None = None,
    finish: Finish | None = None,
    rungs: Rungs | None = None,
    card: dict[str, Any] | None = None,
    tensorboard: Path | None = None,
    startup: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Train and return the metrics of the last report. Every rank calls it with the same arguments.

    Each step reports, on every rank: ``step`` (from 1), ``tokens`` (positions of the whole batches so far, padding
    included), ``supervised_tokens`` (so far), ``loss`` (mean over the supervised tokens of the global batch),
    its parts as of :func:`metering.mean_losses` (``loss/<component>``, ``source_loss/<source>``,
    ``explicit_loss/<piece>``), ``learning_rate``, ``grad_norm`` (before clipping), ``tokens_per_second`` and
    ``seconds`` of the step, all workers together, ``tflops`` and ``mfu`` as of
    :meth:`metering.Utilisation.metrics`, and ``memory_gib``, the most that this worker has taken so far. The first
    report also says where the time before it went: ``startup_seconds/<what>``, with those of ``startup``.

    Every ``validate_every`` steps and at the end the report holds the same parts with ``validation_`` before their
    names, and ``validation_loss``, the plain mean of the components': each that is present weighs the same, however
    many tokens it has, so that mixtures are compared on equal terms.

    At each of ``rungs`` the report also holds ``rung``, the validation losses and what ``rungs.score`` returns. A
    training that keeps states keeps one there, so that no rung is scored a second time; what is reported at a rung
    stands in the checkpoint's metrics.

    Every ``checkpoint_every`` steps and at the end (0: never) the report comes with a folder that holds this rank's
    part of a checkpoint. The last report always comes with a folder: it holds ``metrics.json`` (rank 0), and with
    ``card`` the exported model under ``model/``. Folders are made in ``scratch``, the same for all ranks of a node (one
    worker alone gets a new one among the system's temporary folders), and belong to ``report``.

    ``resume_from`` may have been written by another number of workers: see :func:`checkpoint.universal`.

    Raises ``ValueError`` where ``resume_from`` belongs to another recipe or to a plan with fewer steps, where a step
    has no supervised token, where ``finish`` or ``rungs.score`` meets ZeRO-3, or where a rung is no step before the
    last; ``FloatingPointError`` where a loss or gradient is not finite, before the optimizer uses it; ``OSError`` where
    the disk is full.
    """
    if len(blocks) == 0:
        raise ValueError("The plan holds no blocks; there is nothing to train on.")
    if finish is not None and recipe.zero_stage == 3:
        raise ValueError(
            "zero_stage is 3, which leaves no rank with a whole model to finish with; use a stage of 0 to 2, or "
            "evaluate the exported model."
        )
    num_steps = recipe.num_steps(len(blocks))
    _check_rungs(rungs, recipe, num_steps)
    scratch = scratch or Path(tempfile.mkdtemp(prefix="agentflan-train-"))
    engine, first_step, supervised_tokens = _begin(recipe, placement, num_steps, resume_from, scratch)
    loader = _loader(engine, blocks, recipe.blocks_per_step)
    utilisation = Utilisation(recipe, engine.model.config, engine.device_name)
    started = {f"startup_seconds/{name}": value for name, value in {**(startup or {}), **engine.seconds}.items()}
    writer = _scalar_writer(tensorboard) if tensorboard and engine.rank == 0 else None
    metrics: dict[str, Any] = {}
    for step in range(first_step, num_steps):
        began = time.perf_counter()
        learning_rate = recipe.learning_rate_at(step, num_steps)
        done = _train_step(engine, loader, step, learning_rate)
        supervised_tokens += int(done.counts.sum())
        seconds = time.perf_counter() - began
        step_tokens = recipe.blocks_per_step * recipe.block_length
        metrics = {
            "step": step + 1,
            "tokens": (step + 1) * step_tokens,
            "supervised_tokens": supervised_tokens,
            "loss": float(done.sums.sum() / done.counts.sum()),
            **mean_losses(blocks.groups, done.sums, done.counts),
            "learning_rate": learning_rate,
            "grad_norm": done.grad_norm,
            "tokens_per_second": step_tokens / seconds,
            **utilisation.metrics(
                tokens=step_tokens,
                attended=done.attended,
                supervised=float(done.counts.sum()),
                seconds=seconds,
                num_workers=engine.world_size,
            ),
            "memory_gib": engine.peak_memory() / 2**30,
            "seconds": seconds,
        }
        if step == first_step:
            metrics |= {**started, "startup_seconds/first step": seconds}
        last = step + 1 == num_steps
        rung = None if rungs is None else rungs.steps.get(step + 1)
        if validation is not None and (last or rung is not None or _is_due(step, recipe.validate_every)):
            metrics |= validate(engine, validation)
        if rungs is not None and rung is not None:
            metrics |= {"rung": rung, **_score_rung(engine, rungs.score, rung)}
        if last and finish is not None:
            engine.model.eval()
            metrics |= finish(engine.model, engine.tokenizer)
        is_kept = last or rung is not None or _is_due(step, recipe.checkpoint_every)
        keeps_state = recipe.checkpoint_every > 0 and is_kept
        folder = _new_folder(scratch, engine.rank, step + 1) if keeps_state or last else None
        if folder and keeps_state:
            engine.save(folder / checkpoint.STATE_FOLDER)
        if folder and last and card is not None:
            export(
                engine,
                engine.tokenizer,
                folder / MODEL_FOLDER,
                {**card, "recipe": recipe.to_json(), "metrics": metrics},
            )
        if folder and last and engine.rank == 0:
            storage.write_json(folder / METRICS_FILE, metrics)
        if folder:
            checkpoint.write(folder, recipe, metrics, rank=engine.rank, num_workers=engine.world_size)
        if writer is not None:
            for name, value in metrics.items():
                if isinstance(value, int | float):
                    writer.add_scalar(name, value, step + 1)
        report(metrics, folder)
    if writer is not None:
        writer.close()
    return metrics


def _check_rungs(rungs: Rungs | None, recipe: TrainRecipe, num_steps: int) -> None:
    if rungs is None:
        return
    if rungs.score is not None and recipe.zero_stage == 3:
        raise ValueError(
            "zero_stage is 3, which leaves no rank with a whole model to score at a rung; use a stage of 0 to 2, or "
            "give rungs without score, which report validation losses only."
        )
    if misplaced := [step for step in rungs.steps if not 0 < step < num_steps]:
        raise ValueError(
            f"A rung lies after step {misplaced[0]}, but must lie between the steps 1 and {num_steps - 1} of this "
            "training; the end is scored by finish."
        )


def _score_rung(engine: Engine, score: ScoreRung | None, rung: float) -> dict[str, Any]:
    if score is None:
        return {}
    engine.model.eval()  # the next step puts it back
    precision = torch.get_float32_matmul_precision()
    try:
        return score(engine.model, engine.tokenizer, rung)
    finally:
        # Scoring may choose another one, with which the steps after it would take and compute something else.
        torch.set_float32_matmul_precision(precision)


def _begin(
    recipe: TrainRecipe, placement: Placement, num_steps: int, resume_from: checkpoint.Saved | None, scratch: Path
) -> tuple[Engine, int, int]:
    """The engine, the steps done and the supervised tokens seen."""
    if resume_from is None:
        return Engine(recipe, placement), 0, 0
    resume_from.check(recipe, num_steps)
    began = time.perf_counter()
    # Without ZeRO every rank keeps the whole state, so there is nothing to convert.
    converts = recipe.zero_stage > 0 and resume_from.num_workers != placement.num_workers
    engine = Engine(recipe, placement, load_universal=converts)
    if converts:
        engine.load(checkpoint.universal(resume_from, scratch))
    else:
        engine.load(resume_from.folder / checkpoint.STATE_FOLDER)
    engine.seconds["checkpoint"] = time.perf_counter() - began - sum(engine.seconds.values())
    return engine, resume_from.step, resume_from.supervised_tokens


def _new_folder(scratch: Path, rank: int, step: int) -> Path:
    folder = scratch / f"rank_{rank:05d}" / f"step_{step:06d}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def validate(engine: Engine, blocks: Blocks) -> dict[str, float]:
    """Losses on held-out blocks, see :func:`train`."""
    num_groups = len(blocks.groups)
    sums, counts = torch.zeros(num_groups, dtype=torch.float64), np.zeros(num_groups, dtype=np.int64)
    loader = _loader(engine, blocks, engine.placement.micro_batch_size * engine.world_size)
    engine.module.eval()
    with torch.no_grad():
        for (micro_batch,) in loader:
            batch = _Batch(micro_batch, num_groups)
            sums += engine.forward(*batch.tensors(), num_groups)[1].cpu()
            counts += batch.counts
    totals = engine.sum_over_ranks(torch.cat([sums, torch.from_numpy(counts).double()])).numpy()
    losses = mean_losses(blocks.groups, totals[:num_groups], totals[num_groups:], "validation_")
    components = [value for name, value in losses.items() if name.startswith("validation_loss/")]
    if not components:
        raise ValueError(f"None of the {len(blocks)} validation blocks has a supervised token.")
    return {"validation_loss": sum(components) / len(components), **losses}


class _Batch:
    """The blocks of one forward pass of one rank, with their targets."""

    def __init__(self, blocks: list[Block], num_groups: int) -> None:
        self.input_ids = np.stack([block.input_ids for block in blocks])
        self.position_ids = np.stack([block.position_ids for block in blocks])
        self.targets = targets(self.position_ids, np.stack([block.tags for block in blocks]))
        self.counts = count_targets(self.targets, num_groups)
        # Not those of blocks that only fill up a batch.
        learnt = self.position_ids[(self.targets >= 0).any(axis=1)]
        self.attended = int(learnt.sum()) + learnt.size

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return tuple(torch.from_numpy(each).long() for each in (self.input_ids, self.position_ids, self.targets))  # type: ignore[return-value]


class _Done(NamedTuple):
    """What a step did, over all ranks: sums of the losses and numbers of the targets of each group, how many keys its
    tokens attended to, and the norm of the gradient."""

    sums: npt.NDArray[np.float64]
    counts: npt.NDArray[np.float64]
    attended: float
    grad_norm: float


def _train_step(engine: Engine, loader: Loader, step: int, learning_rate: float) -> _Done:
    recipe, blocks = engine.recipe, loader.blocks
    num_groups = len(blocks.groups)
    # Dropout and the like depend on seed, step and rank alone, so that no generator state has to be kept.
    torch.manual_seed(stable_hash(recipe.seed, step, engine.rank))
    batches = [_Batch(micro_batch, num_groups) for micro_batch in loader[step]]
    own = [*np.sum([batch.counts for batch in batches], axis=0), sum(batch.attended for batch in batches)]
    *counts, attended = engine.sum_over_ranks(torch.tensor(own, dtype=torch.float64)).tolist()
    num_targets = sum(counts)
    last_block = min((step + 1) * recipe.blocks_per_step, len(blocks)) - 1
    if num_targets == 0:
        raise ValueError(
            f"Step {step + 1} (blocks {step * recipe.blocks_per_step} to {last_block}) has no supervised token; "
            "its blocks hold only prompts."
        )
    engine.module.train()
    of_passes = []
    for index, batch in enumerate(batches):
        total, by_group = engine.forward(*batch.tensors(), num_groups)
        engine.backward(total, num_targets=num_targets)
        of_passes.append(by_group)  # where they are: to fetch them, the host would wait for the GPU
        if index + 1 < len(batches):
            engine.next_micro_batch()
    sums = engine.sum_over_ranks(torch.stack(of_passes).sum(dim=0))
    if not bool(torch.isfinite(sums).all()):
        broken = ", ".join(
            f"{group.component} of {group.source}" if group.source else group.component
            for group, value in zip(blocks.groups, sums.tolist(), strict=True)
            if not math.isfinite(value)
        )
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
    return _Done(sums.numpy(), np.array(counts), attended, grad_norm)


def _loader(engine: Engine, blocks: Blocks, batch_size: int) -> Loader:
    size, length = engine.placement.micro_batch_size, engine.recipe.block_length
    return Loader(blocks, length, batch_size, engine.rank, engine.world_size, size)


def _is_due(step: int, every: int) -> bool:
    return every > 0 and (step + 1) % every == 0


def _scalar_writer(folder: Path) -> Any:
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(folder))
