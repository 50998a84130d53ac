"""Settings of Ray Data while this project's graphs run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import ray.data
from ray.data._internal.execution.resource_manager import ResourceManager

RESOURCES_ASKED_EVERY = 0.1
"""Seconds."""


@contextlib.contextmanager
def quiet_data() -> Iterator[None]:
    """Results one by one as they are made, and no tables of operators on the console; put back afterwards.

    Ray Data gathers what a task yields to blocks of 128 MiB: the reports of several parts would come all at once, at
    the end of their task, and progress with them.

    It asks what the cluster has once a second, and the first answer is always empty (Ray 2.60): until the second one
    each graph runs a single task, on however many CPUs. So it is made to ask more often.
    """
    context = ray.data.DataContext.get_current()
    logger = logging.getLogger("ray.data")
    before = context.target_max_block_size, context.enable_progress_bars, logger.level
    seconds = ResourceManager.GLOBAL_LIMITS_UPDATE_INTERVAL_S
    ResourceManager.GLOBAL_LIMITS_UPDATE_INTERVAL_S = RESOURCES_ASKED_EVERY
    context.target_max_block_size, context.enable_progress_bars = 1, False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        context.target_max_block_size, context.enable_progress_bars = before[:2]
        logger.setLevel(before[2])
        ResourceManager.GLOBAL_LIMITS_UPDATE_INTERVAL_S = seconds
