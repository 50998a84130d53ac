"""Settings of Ray Data while this project's graphs run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import ray.data


@contextlib.contextmanager
def quiet_data() -> Iterator[None]:
    """Results one by one as they are made, and no tables of operators on the console; put back afterwards.

    Ray Data gathers what a task yields to blocks of 128 MiB: the reports of several parts would come all at once, at
    the end of their task, and progress with them.
    """
    context = ray.data.DataContext.get_current()
    logger = logging.getLogger("ray.data")
    before = context.target_max_block_size, context.enable_progress_bars, logger.level
    context.target_max_block_size, context.enable_progress_bars = 1, False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        context.target_max_block_size, context.enable_progress_bars = before[:2]
        logger.setLevel(before[2])
