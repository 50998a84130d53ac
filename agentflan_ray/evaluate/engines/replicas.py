"""Several copies of an engine on a Ray cluster, each in an actor of its own, as one engine.

A conversation stays with the copy that answered its last turn, whose keys and values of it are there; a new one goes
to the copy with the fewest requests in flight, as does one whose copy is much busier than that. Episodes and their
environments run where the evaluation was started. An actor that dies is started again and asked again by Ray.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayTaskError

from agentflan_ray.evaluate.benchmark import Reply, Request
from agentflan_ray.evaluate.engine import Plan
from agentflan_ray.evaluate.engines.transformers import SHARED_CPU_GIB, TransformersPlan, default_dtype
from agentflan_ray.evaluate.engines.vllm import VllmPlan

_REQUESTS = 512
"""Requests that an actor may hold: those that its engine answers and those that wait for it."""

_RESTARTS = 3

_CONVERSATIONS = 10_000
"""Conversations whose copy is remembered, the last ones that were asked."""


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
    """Copies on the cluster that this process is on: each with as many GPUs as its plan spreads the model over, or with
    its share of the CPUs, where Ray gives its threads their number."""
    there = ray.cluster_resources()
    gpus = float(there.get("GPU", 0) > 0)
    if gpus and isinstance(plan, VllmPlan):
        gpus = float(plan.gpus)
    if isinstance(plan, TransformersPlan):
        # Decided here: this machine may be a head without a GPU.
        plan = replace(plan, dtype=plan.dtype or default_dtype(bool(gpus)))
        if not gpus and plan.settings.memory_gib is None:
            plan = replace(plan, settings=replace(plan.settings, memory_gib=SHARED_CPU_GIB))
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
            max_concurrency=_REQUESTS,
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
        )
        self._actors = [actor.remote(plan.plan) for _ in range(plan.replicas)]
        try:
            self.num_slots: int = sum(ray.get([each.num_slots.remote() for each in self._actors]))
        except BaseException:
            self.close()
            raise
        self._places = Places(plan.replicas, max(1, self.num_slots // plan.replicas))

    def submit(self, request: Request) -> Future[Reply]:
        """See :meth:`agentflan_ray.evaluate.engine.Engine.submit`. Cancelled, it leaves the copy's batch."""
        place = self._places.take(request)
        asked = self._actors[place].answer.remote(request)
        future: Future[Reply] = Future()

        def answered(told: Future[Reply]) -> None:
            self._places.give_back(place)
            if not future.set_running_or_notify_cancel():
                return
            error = told.exception()
            if error is None:
                future.set_result(told.result())
            else:
                # Ray's own error has the text of the actor's traceback in place of the sentence.
                future.set_exception(error.cause if isinstance(error, RayTaskError) else error)

        def cancelled(future: Future[Reply]) -> None:
            if future.cancelled():
                ray.cancel(asked)

        future.add_done_callback(cancelled)
        asked.future().add_done_callback(answered)
        return future

    def close(self) -> None:
        """See :meth:`agentflan_ray.evaluate.engine.Engine.close`."""
        for each in self._actors:
            ray.kill(each)


class Places:
    """Which of ``num`` copies, with so many slots each, answers a request. Any thread may ask."""

    def __init__(self, num: int, slots: int) -> None:
        self.in_flight = [0] * num
        self._slots = slots
        self._of: OrderedDict[int, int] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, request: Request) -> int:
        """The copy that was asked the longest conversation which this one goes on, unless it has half of its slots'
        number of requests more than the one with the fewest, which is taken else.

        Only whole conversations are remembered: what they begin with (a system text, examples) is the same in all
        items of many benchmarks.
        """
        *beginnings, whole = _keys(request.messages)
        with self._lock:
            place = min(range(len(self.in_flight)), key=self.in_flight.__getitem__)
            for key in reversed(beginnings):
                if (known := self._of.pop(key, None)) is not None:
                    if self.in_flight[known] - self.in_flight[place] <= self._slots // 2:
                        place = known
                    break
            self._of[whole] = place
            self._of.move_to_end(whole)
            if len(self._of) > _CONVERSATIONS:
                self._of.popitem(last=False)
            self.in_flight[place] += 1
        return place

    def give_back(self, place: int) -> None:
        """A request that this copy was asked is done."""
        with self._lock:
            self.in_flight[place] -= 1


def _keys(messages: Sequence[Mapping[str, str]]) -> list[int]:
    """A key for each beginning of a conversation, the whole one last."""
    keys: list[int] = []
    for message in messages:
        keys.append(hash((keys[-1] if keys else 0, message["role"], message["content"])))
    return keys


class _Replica:
    """The actor. Asynchronous, so that Ray can cancel what it awaits, and the engine with it."""

    def __init__(self, plan: Plan) -> None:
        self._engine = plan.open()

    async def num_slots(self) -> int:
        return self._engine.num_slots

    async def answer(self, request: Request) -> Reply:
        return await asyncio.wrap_future(self._engine.submit(request))
