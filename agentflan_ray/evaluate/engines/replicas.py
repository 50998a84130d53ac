"""Several copies of an engine on a Ray cluster, each in an actor of its own, as one engine.

A conversation stays with the copy that answered its first turn, whose keys and values of it are there; a new one goes
to the copy with the fewest requests in flight. Episodes and their environments run where the evaluation was started.
An actor that dies is started again and asked again by Ray.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import ray

from agentflan_ray.evaluate.benchmark import Reply, Request
from agentflan_ray.evaluate.engine import Plan
from agentflan_ray.evaluate.engines.transformers import TransformersPlan, default_dtype

_THREADS = 512
"""Requests that an actor may hold: those that its engine answers and those that wait for it."""

_RESTARTS = 3

_CONVERSATIONS = 10_000
"""Beginnings of conversations whose copy is remembered."""


@dataclass(frozen=True)
class ReplicasPlan:
    """``replicas`` copies of a plan's engine, each with so many CPUs and GPUs."""

    plan: Plan
    replicas: int
    cpus: float
    gpus: float

    @property
    def identity(self) -> Mapping[str, Any]:
        """The plan's: how many copies there are decides nothing."""
        return self.plan.identity

    def open(self) -> Replicas:
        """Start the actors and wait until their models are loaded.

        Raises ``ValueError`` where the cluster is too small for them, and what loading raises.
        """
        return Replicas(self)


def spread(plan: Plan, replicas: int) -> ReplicasPlan:
    """Copies on the cluster that this process is on: each with a GPU, or with its share of the CPUs, where Ray gives
    its threads their number."""
    there = ray.cluster_resources()
    gpus = float(there.get("GPU", 0) > 0)
    if isinstance(plan, TransformersPlan) and plan.dtype is None:
        # Decided here: this machine may be a head without a GPU.
        plan = replace(plan, dtype=default_dtype(bool(gpus)))
    return ReplicasPlan(plan, replicas, 1.0 if gpus else max(1.0, there["CPU"] // replicas), gpus)


class Replicas:
    """The copies."""

    def __init__(self, plan: ReplicasPlan) -> None:
        self.identity = plan.identity
        there = ray.cluster_resources()
        for name, each in (("CPU", plan.cpus), ("GPU", plan.gpus)):
            if each * plan.replicas > there.get(name, 0):
                raise ValueError(
                    f"{plan.replicas} replicas take {each * plan.replicas:g} {name}s, but the cluster has "
                    f"{there.get(name, 0):g}; ask for fewer with --replicas."
                )
        actor = ray.remote(_Replica).options(
            num_cpus=plan.cpus,
            num_gpus=plan.gpus,
            max_concurrency=_THREADS,
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
        )
        self._actors = [actor.remote(plan.plan) for _ in range(plan.replicas)]
        try:
            self.num_slots: int = sum(ray.get([each.num_slots.remote() for each in self._actors]))
        except BaseException:
            self.close()
            raise
        self._lock = threading.Lock()
        self._in_flight = [0] * plan.replicas
        self._place_of: OrderedDict[int, int] = OrderedDict()

    def submit(self, request: Request) -> Future[Reply]:
        """See :meth:`agentflan_ray.evaluate.engine.Engine.submit`."""
        with self._lock:
            place = self._place(request)
            self._in_flight[place] += 1
        future: Future[Reply] = self._actors[place].answer.remote(request).future()
        future.add_done_callback(lambda _: self._done(place))
        return future

    def close(self) -> None:
        """See :meth:`agentflan_ray.evaluate.engine.Engine.close`."""
        for each in self._actors:
            ray.kill(each)

    def _place(self, request: Request) -> int:
        """The copy for a conversation, known by its messages up to the first question."""
        questions = [place for place, message in enumerate(request.messages) if message["role"] == "user"]
        beginning = request.messages[: questions[0] + 1 if questions else 1]
        key = hash(tuple(message["content"] for message in beginning))
        place = self._place_of.pop(key, None)
        if place is None:
            place = min(range(len(self._actors)), key=self._in_flight.__getitem__)
        self._place_of[key] = place
        if len(self._place_of) > _CONVERSATIONS:
            self._place_of.popitem(last=False)
        return place

    def _done(self, place: int) -> None:
        with self._lock:
            self._in_flight[place] -= 1


class _Replica:
    """The actor."""

    def __init__(self, plan: Plan) -> None:
        self._engine = plan.open()

    def num_slots(self) -> int:
        return self._engine.num_slots

    def answer(self, request: Request) -> Reply:
        return self._engine.submit(request).result()
