"""Copies of a model in Ray actors answer as one engine."""

from __future__ import annotations

from contextlib import closing

import pytest

from agentflan_ray.evaluate.benchmark import Request
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
        places = list(copies._place_of.values())
        assert sorted(places) == [0] * 4 + [1] * 4
        second = [future.result(timeout=120) for future in [copies.submit(each) for each in longer]]
        assert list(copies._place_of.values()) == places
        assert copies._in_flight == [0, 0]
    assert [*first, *second] == expected


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_cluster_that_is_too_small_is_refused() -> None:
    plan = TransformersPlan(resolve("tiny-llama"), "abc")
    with pytest.raises(ValueError, match="3 replicas take 3 CPUs, but the cluster has 2"):
        ReplicasPlan(plan, 3, 1.0, 0.0).open()
