"""The samples and the trajectories of a built corpus, one after another: never more than a batch in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from agentflan_ray import storage
from agentflan_ray.corpus.store import Corpus
from agentflan_ray.sample import SAMPLE_SCHEMA, Sample
from agentflan_ray.trajectory import TRAJECTORY_SCHEMA, Trajectory

BATCH_ROWS = 1_000


def samples_of(corpus: Corpus) -> Iterator[Sample]:
    """Every sample, in the order of the corpus's parts."""
    for part in corpus.sample_parts:
        for row in _rows(part, [*SAMPLE_SCHEMA.names, "omitted"]):
            if row["omitted"] is None:
                yield Sample.from_row(row)


def families_of(corpus: Corpus) -> Iterator[tuple[str, str]]:
    """The group and the parent of every sample, in the same order."""
    for part in corpus.sample_parts:
        for row in _rows(part, ["group", "parent", "omitted"]):
            if row["omitted"] is None:
                yield row["group"], row["parent"]


def trajectories_of(corpus: Corpus) -> Iterator[Trajectory]:
    """Every kept trajectory that cleaning did not remove, in the order of the corpus's parts."""
    removed: dict[str, set[str]] = {}
    table = corpus.removed()
    for name, where in zip(table["part"].to_pylist(), table["where"].to_pylist(), strict=True):
        removed.setdefault(name, set()).add(where)
    for name, part in zip(corpus.manifest["parts"]["kept"], corpus.record_parts, strict=True):
        passed_over = removed.get(name, set())
        for row in _rows(part, [*TRAJECTORY_SCHEMA.names, "where"]):
            if row["where"] not in passed_over:
                yield Trajectory.from_row(row)


def _rows(uri: str, columns: list[str]) -> Iterator[dict[str, Any]]:
    filesystem, path = storage.locate(uri)
    with filesystem.open_input_file(path) as file:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=BATCH_ROWS, columns=columns):
            yield from batch.to_pylist()
