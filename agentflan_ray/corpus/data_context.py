"""Settings of Ray Data while this project's graphs run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import ray.data


@contextlib.contextmanager
def quiet_data() -> Iterator[None]:
    """One Parquet reader that splits files, and no tables of operators on the console; put back afterwards.

    Ray 2.60's second Parquet reader makes one block of a folder whatever is asked, so that one core does all the work
    (2.6k records/s against 7-9k/s); the first one splits files.
    """
    context = ray.data.DataContext.get_current()
    logger = logging.getLogger("ray.data")
    before = context.use_datasource_v2, context.enable_progress_bars, logger.level
    context.use_datasource_v2, context.enable_progress_bars = False, False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        context.use_datasource_v2, context.enable_progress_bars = before[:2]
        logger.setLevel(before[2])
