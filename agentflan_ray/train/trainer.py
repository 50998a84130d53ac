"""The training loop on Ray Train: workers, failures and storage are Ray's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.train
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from agentflan_ray.tokens.block import Blocks
from agentflan_ray.train.environment import prepare_driver
from agentflan_ray.train.recipe import Placement, TrainRecipe

if TYPE_CHECKING:
    from agentflan_ray.train.loop import Finish

MakeBlocks = Callable[[], Blocks]
"""Opens the blocks on a worker. A frozen dataclass with ``__call__``, because it travels there by pickling."""


def make_trainer(
    recipe: TrainRecipe,
    placement: Placement,
    make_blocks: MakeBlocks,
    *,
    storage_path: str,
    name: str,
    make_validation: MakeBlocks | None = None,
    resume_from: str | None = None,
    finish: Finish | None = None,
    card: dict[str, Any] | None = None,
    tensorboard: str | None = None,
    max_failures: int = 0,
    callbacks: Sequence[Any] = (),
) -> TorchTrainer:
    """A trainer whose ``fit()`` runs :func:`loop.train` on the workers of a placement.

    Every step is reported; the folders of the loop become checkpoints under ``storage_path/name``, merged over ranks,
    and ``fit()`` returns the last one with its metrics. After a failure the workers start again from the latest
    checkpoint, at most ``max_failures`` times. ``resume_from`` is the path of an earlier run's checkpoint.

    In a Tune trial pass ``callbacks=[TuneReportCallback()]``, so that schedulers see every step, and ask for a driver
    of 0.01 CPUs: with one whole CPU each, two drivers on two CPUs leave none for their workers.
    """
    prepare_driver()
    from ray.train.v2.api.config import LoggingConfig

    return TorchTrainer(
        _train_on_worker,
        train_loop_config={
            "recipe": recipe,
            "placement": placement,
            "make_blocks": make_blocks,
            "make_validation": make_validation,
            "resume_from": resume_from,
            "finish": finish,
            "card": card,
            "tensorboard": tensorboard,
        },
        scaling_config=ScalingConfig(
            num_workers=placement.num_workers,
            use_gpu=placement.use_gpu,
            resources_per_worker={
                "CPU": placement.cpus_per_worker,
                **({"GPU": 1} if placement.use_gpu else {}),
                **dict(placement.resources_per_worker),
            },
        ),
        run_config=RunConfig(
            name=name,
            storage_path=storage_path,
            failure_config=FailureConfig(max_failures=max_failures),
            callbacks=list(callbacks),
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )


def _train_on_worker(config: dict[str, Any]) -> None:
    from agentflan_ray.train.loop import train

    # Ray writes each report's metrics to every worker's log, whatever level its LoggingConfig says.
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    resume_from: str | None = config["resume_from"]
    checkpoint = ray.train.get_checkpoint() or (Checkpoint(resume_from) if resume_from else None)
    make_validation: MakeBlocks | None = config["make_validation"]
    arguments = {
        "validation": make_validation() if make_validation else None,
        "report": _report,
        "finish": config["finish"],
        "card": config["card"],
        "tensorboard": Path(config["tensorboard"]) if config["tensorboard"] else None,
    }
    blocks = config["make_blocks"]()
    if checkpoint is None:
        train(config["recipe"], config["placement"], blocks, **arguments)
        return
    with checkpoint.as_directory() as folder:
        train(config["recipe"], config["placement"], blocks, resume_from=Path(folder), **arguments)


def _report(metrics: dict[str, Any], folder: Path | None) -> None:
    """Hand metrics and this rank's folder to Ray; the same name on all ranks merges their folders into one."""
    if folder is None:
        ray.train.report(metrics)
        return
    ray.train.report(
        metrics,
        checkpoint=Checkpoint.from_directory(str(folder)),
        checkpoint_dir_name=f"step_{int(metrics['step']):06d}",
        delete_local_checkpoint_after_upload=True,
    )
