"""A teacher on this cluster: a model that Ray Data gives batches to, one copy in each worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import ray
import ray.data

from agentflan_ray.corpus.data_context import quiet_data
from agentflan_ray.corpus.teacher.recipe import TeacherRecipe
from agentflan_ray.corpus.teacher.replies import Failure, Reply
from agentflan_ray.corpus.teacher.request import Request

Generate = Callable[[list[list[dict[str, str]]]], list[str]]
"""Conversations in, one reply each out, in their order."""


@dataclass(frozen=True)
class LocalModel:
    """A model that is loaded in ``workers`` workers, each with ``num_cpus`` and ``num_gpus``.

    ``load(recipe)`` runs in the worker and returns what generates; it keeps to the recipe's model and settings.
    """

    load: Callable[[TeacherRecipe], Generate]
    workers: int = 1
    batch_size: int = 32
    """Replies generated at once, and lost at most where the run is cut off."""
    num_cpus: float = 1.0
    num_gpus: float = 0.0

    def cost(self, _reply: Reply, /) -> float | None:
        """Nothing: tokens are not sold here, and not counted either."""
        return 0.0

    def answer(self, requests: Sequence[Request], recipe: TeacherRecipe) -> Iterator[tuple[str, Reply | Failure]]:
        """Generate all of them. Raises ``ValueError`` where the cluster has too few CPUs for the workers."""
        asked, there = self.workers * self.num_cpus, ray.cluster_resources().get("CPU", 0.0)
        if asked > there - 1:
            # Reading the requests takes a CPU too: without one, reader and workers wait for each other for ever.
            raise ValueError(
                f"The teacher's {self.workers} workers take {asked:g} CPUs, but of the cluster's {there:g} one must be "
                "left; ask for fewer workers or give each less."
            )
        rows = pa.table(
            {
                "key": [request.key for request in requests],
                "messages": [json.dumps(request.messages) for request in requests],
            }
        )
        batches = [rows.slice(start, self.batch_size) for start in range(0, len(rows), self.batch_size)]
        with quiet_data():
            dataset = ray.data.from_arrow(batches).map_batches(
                _Worker,
                fn_constructor_args=(self.load, recipe),
                batch_format="pyarrow",
                batch_size=None,
                concurrency=self.workers,
                num_cpus=self.num_cpus,
                num_gpus=self.num_gpus,
            )
            for batch in dataset.iter_batches(batch_format="pyarrow", batch_size=None, prefetch_batches=0):
                for row in batch.to_pylist():
                    yield row["key"], Reply(row["text"])


class _Worker:
    def __init__(self, load: Callable[[TeacherRecipe], Generate], recipe: TeacherRecipe) -> None:
        self._generate = load(recipe)

    def __call__(self, batch: pa.Table) -> pa.Table:
        texts = self._generate([json.loads(text) for text in batch["messages"].to_pylist()])
        assert len(texts) == len(batch), f"{len(texts)} replies for {len(batch)} requests"
        return pa.table({"key": batch["key"], "text": pa.array(texts, pa.string())})
