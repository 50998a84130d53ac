"""Copies of a model in Ray actors answer as one engine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from agentflan_ray.evaluate.benchmark import Reply, Request, Unanswered
from agentflan_ray.evaluate.engine import Engine
from agentflan_ray.evaluate.engines.replicas import Replicas, ReplicasPlan
from agentflan_ray.evaluate.engines.transformers import TransformersPlan, TransformersSettings
from agentflan_ray.train.models import resolve


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_two_copies_answer_as_one_engine() -> None:
    plan = TransformersPlan(resolve("tiny-llama"), "abc", TransformersSettings(num_slots=3))
    requests = [Request(({"role": "user", "content": f"Say {number}."},), 6) for number in range(8)]
    longer = [
        Request((*each.messages, {"role": "assistant", "content": "x"}, {"role": "user", "content": "Again."}), 6)
        for each in requests
    ]
    with closing(plan.open()) as engine:
        expected = [future.result(timeout=60) for future in [engine.submit(each) for each in [*requests, *longer]]]
    replicas = ReplicasPlan(plan, 2, 1.0, 0.0)
    with closing(replicas.open()) as copies:
        assert isinstance(copies, Replicas)
        assert copies.num_slots == 6
        assert copies.identity == plan.identity
        first = [future.result(timeout=120) for future in [copies.submit(each) for each in requests]]
        places = list(copies._places._of.values())
        assert sorted(places) == [0] * 4 + [1] * 4
        second = [future.result(timeout=120) for future in [copies.submit(each) for each in longer]]
        assert list(copies._places._of.values()) == places
        assert copies._places.in_flight == [0, 0]
    assert [*first, *second] == expected


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_cluster_that_is_too_small_is_refused() -> None:
    plan = TransformersPlan(resolve("tiny-llama"), "abc")
    with pytest.raises(ValueError, match="3 replicas take 3 CPUs, but the cluster has 2"):
        ReplicasPlan(plan, 3, 1.0, 0.0).open()


@dataclass(frozen=True)
class FussyPlan:
    """An engine that refuses ``bad``, never answers ``wait``, and says to ``?`` how many of those were cancelled."""

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"engine": "fussy"}

    def open(self) -> Engine:
        return Fussy()


class Fussy:
    num_slots = 4

    def __init__(self) -> None:
        self.identity: Mapping[str, Any] = {}
        self.num_cancelled = 0

    def submit(self, request: Request) -> Future[Reply]:
        future: Future[Reply] = Future()
        text = request.messages[0]["content"]
        if text == "bad":
            future.set_exception(Unanswered("this one is refused"))
        elif text == "?":
            future.set_result(Reply(str(self.num_cancelled)))
        else:
            future.add_done_callback(self.count)
        return future

    def count(self, future: Future[Reply]) -> None:
        self.num_cancelled += future.cancelled()

    def close(self) -> None: ...


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_refusals_and_cancellations_go_through() -> None:
    def asked(text: str) -> Request:
        return Request(({"role": "user", "content": text},))

    with closing(ReplicasPlan(FussyPlan(), 1, 1.0, 0.0).open()) as copies:
        with pytest.raises(Unanswered) as raised:
            copies.submit(asked("bad")).result(timeout=60)
        assert str(raised.value) == "this one is refused"
        waiting = [copies.submit(asked("wait")) for _ in range(3)]
        assert copies.submit(asked("?")).result(timeout=60).text == "0"
        assert waiting[0].cancel()
        until = time.monotonic() + 30
        while copies.submit(asked("?")).result(timeout=60).text != "1":
            assert time.monotonic() < until
            time.sleep(0.05)
        while copies._places.in_flight != [2]:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert not waiting[1].done()
