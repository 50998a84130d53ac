"""Trials in lanes: a process that trains one trial after another.

A trial with Ray Train starts five processes (Tune's trial, its queue, the controller, its cleaner, the worker), and
four of them import PyTorch: 17 s of a core, whatever the trial does then. A trial that needs one worker and keeps no
state to go on from needs none of them but the first, which Tune uses again for the next trial (``reuse_actors``). A
trial that scheduler or user stops ends at its next report; one whose process dies begins again in a new one.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from agentflan_ray.tokens.blocks import OpenBlocks
from agentflan_ray.train import watch
from agentflan_ray.train.recipe import Placement, TrainRecipe

if TYPE_CHECKING:
    from agentflan_ray.train.loop import Finish, Rungs

STOP_SECONDS = 120
"""How long the next trial waits for a stopped one to leave the process; Tune (2.60) fails it after 2 by default."""


def fits(recipe: TrainRecipe, placement: Placement) -> bool:
    """Whether trials can run in lanes: one worker, which holds the whole model and keeps no states."""
    return placement.num_workers == 1 and recipe.zero_stage < 3 and not recipe.checkpoint_every


def resources(placement: Placement) -> dict[str, float]:
    """What a lane takes of the cluster, as Tune asks for it."""
    gpus = {"GPU": 1.0} if placement.use_gpu else {}
    return {"CPU": placement.cpus_per_worker, **gpus, **dict(placement.resources_per_worker)}


def train_here(
    recipe: TrainRecipe,
    placement: Placement,
    blocks: OpenBlocks,
    validation: OpenBlocks,
    *,
    finish: Finish,
    rungs: Rungs | None,
    tensorboard: str | None,
) -> None:
    """Train in this process, which is Tune's trial, and report each step to Tune; see :func:`loop.train`.

    A process that hangs in its steps ends after ``watch.HANG_SECONDS``, and Tune starts the trial anew. Raises what the
    training raises.
    """
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = str(STOP_SECONDS)  # read in this process
    began = time.perf_counter()
    from agentflan_ray.train.loop import train

    startup = {"libraries": time.perf_counter() - began}
    with tempfile.TemporaryDirectory(prefix="agentflan-lane-") as scratch, watch.watching_ends():
        try:
            train(
                recipe,
                placement,
                watch.Watched(blocks(), watch.HANG_SECONDS),
                report=_report,
                validation=watch.Watched(validation(), watch.HANG_SECONDS),
                scratch=Path(scratch),
                finish=watch.unwatched(finish),
                rungs=None if rungs is None else watch.unwatched_rungs(rungs),
                tensorboard=Path(tensorboard) if tensorboard else None,
                startup=startup,
            )
        finally:
            _clear_memory()


def _report(metrics: dict[str, Any], folder: Path | None) -> None:
    """Tune learns the metrics; a trial of a search leaves no model."""
    if folder is not None:
        shutil.rmtree(folder)
    watch.pause()
    tune.report(metrics)


def _clear_memory() -> None:
    """Give the model of the ended trial back: DeepSpeed's engine refers to itself."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
