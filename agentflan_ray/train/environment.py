"""Every setting of the process environment that training needs, in one place, each with its reason."""

from __future__ import annotations

import logging
import os
import warnings

DRIVER_SETTINGS = {
    # The Train controller asks its workers for news this often, and a report waits for it: at the default of 2 s a
    # run of a few short steps spends more time waiting than training.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Asks the cluster for nodes about to be reclaimed. Left on only where a cluster's launcher sets it to 1.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""Set before a trainer starts, unless already set; Ray Train hands them on to its controller and workers."""

LIBRARY_WARNINGS = (
    # DeepSpeed 0.19.8 and PyTorch 2.13 call what PyTorch has since renamed; users can do nothing about it.
    r"`torch\.jit\.script_method` is deprecated",
    r"`torch\.distributed\..*` is deprecated",
)


def prepare_driver() -> None:
    """Apply :data:`DRIVER_SETTINGS`."""
    for name, value in DRIVER_SETTINGS.items():
        os.environ.setdefault(name, value)


def prepare_worker(*, use_gpu: bool, num_threads: int) -> None:
    """Make this process ready for DeepSpeed. Call it before anything imports ``deepspeed``."""
    import torch
    import transformers

    if not use_gpu:
        # Without it DeepSpeed searches for accelerators and warns that there are none.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        # Ray starts a worker with OMP_NUM_THREADS=1 where it asks for less than two CPUs.
        torch.set_num_threads(num_threads)

    import deepspeed

    if not use_gpu:
        # DeepSpeed would compile its shared-memory all-reduce for CPUs at start, half a minute with g++.
        deepspeed.ops.__compatible_ops__ = {"deepspeed_shm_comm": False}
    deepspeed.utils.logger.setLevel(logging.WARNING)
    for message in LIBRARY_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
