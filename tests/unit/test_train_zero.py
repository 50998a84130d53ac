"""The DeepSpeed configuration: the size of gradient buckets, and gradients that are summed in float32."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.multiprocessing

from agentflan_ray.train.adapters import LoraRecipe
from agentflan_ray.train.blocks import RandomBlocks
from agentflan_ray.train.engine import Engine
from agentflan_ray.train.loop import train
from agentflan_ray.train.memory import weights_of
from agentflan_ray.train.recipe import RECIPES, Placement, TrainRecipe
from agentflan_ray.train.shapes import BUILT_IN
from agentflan_ray.train.zero import Trained, deepspeed_config

RECIPE = TrainRecipe(
    model="tiny-llama", block_length=64, blocks_per_step=4, learning_rate=1e-3, precision="bf16", zero_stage=2
)


@pytest.mark.parametrize(
    ("parameters", "largest", "bucket"),
    [
        (20_000_000, 90_000, 20_000_000),  # never more than is trained
        (1_000_000_000, 30_000_000, 40_000_000),
        (6_700_000_000, 131_072_000, 131_072_000),  # never less than the largest tensor
    ],
)
def test_a_bucket_is_as_large_as_needed(parameters: int, largest: int, bucket: int) -> None:
    trained = Trained(parameters=parameters, largest=largest)
    assert deepspeed_config(RECIPE, Placement(), trained)["zero_optimization"]["reduce_bucket_size"] == bucket
    assert "reduce_bucket_size" not in deepspeed_config(RECIPE, Placement())["zero_optimization"]


@pytest.mark.parametrize(
    ("name", "bucket"),
    [
        ("agent-flan-7b", 32_000 * 4096),
        ("agent-flan-70b", 32_000 * 8192),
        ("agent-flan-7b-qlora", 40_000_000),
        ("agent-flan-70b-lora", 40_000_000),
    ],
)
def test_the_buckets_of_named_recipes(name: str, bucket: int) -> None:
    recipe = RECIPES[name]()
    assert weights_of(BUILT_IN[recipe.model], recipe).sizes.bucket == bucket


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_takes_buckets_of_what_is_trained(stage: Literal[2, 3]) -> None:
    engine = Engine(dataclasses.replace(RECIPE, zero_stage=stage, lora=LoraRecipe(rank=2, alpha=4)), Placement())
    trained = sum(getattr(each, "ds_numel", each.numel()) for each in engine.model.parameters() if each.requires_grad)
    assert trained < 10_000
    assert engine._engine.optimizer.reduce_bucket_size == trained


def test_gradients_are_sent_in_float32() -> None:
    """In float32 that is DeepSpeed's own choice."""
    assert deepspeed_config(RECIPE, Placement())["communication_data_type"] == "fp32"
    assert "communication_data_type" not in deepspeed_config(dataclasses.replace(RECIPE, precision="fp32"), Placement())


Metrics = list[dict[str, float]]
STAGES: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)


def metrics_of(recipe: TrainRecipe, placement: Placement, scratch: Path) -> Metrics:
    found: Metrics = []

    def report(each: dict[str, Any], _folder: Path | None) -> None:
        found.append({name: value for name, value in each.items() if "loss" in name or name == "grad_norm"})

    train(recipe, placement, RandomBlocks(4 * 5, 64, 259), report=report, scratch=scratch)
    return found


def run_rank(rank: int, port: int, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for stage in STAGES:
        recipe = dataclasses.replace(RECIPE, zero_stage=stage)
        found = metrics_of(recipe, Placement(num_workers=2), Path(folder, f"two-{stage}"))
        if rank == 0:
            Path(folder, f"two-{stage}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_workers_train_as_one_in_bf16(tmp_path: Path) -> None:
    """Losses and gradient norms within 1e-6: summed in bfloat16 they differed by 2e-5 and 5e-4 to 1e-3."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(run_rank, args=(port, str(tmp_path)), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    for stage in STAGES:
        one = metrics_of(dataclasses.replace(RECIPE, zero_stage=stage), Placement(), tmp_path / f"one-{stage}")
        two = json.loads((tmp_path / f"two-{stage}.json").read_text())
        assert len(two) == len(one) == 5
        for found, expected in zip(two, one, strict=True):
            assert found == pytest.approx(expected, rel=1e-6)
