"""Recipes, placements and the DeepSpeed configuration made of them."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from agentflan_ray.train import recipe as recipes
from agentflan_ray.train.adapters import LoraRecipe
from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.zero import deepspeed_config

BASE = TrainRecipe(model="tiny-llama", block_length=64, blocks_per_step=4, learning_rate=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"block_length": 1}, "block_length is 1; it must be at least 2"),
        ({"blocks_per_step": 0}, "blocks_per_step is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"warmup_fraction": 1.5}, "warmup_fraction is 1.5; it must lie between 0 and 1"),
        ({"precision": "fp16"}, "precision is 'fp16'; choose one of 'fp32', 'bf16'"),
        ({"zero_stage": 4}, "zero_stage is 4"),
        ({"offload": "disk"}, "offload is 'disk'"),
        ({"checkpoint_every": -1}, "checkpoint_every is -1"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(BASE, **change)


@pytest.mark.parametrize(
    ("num_steps", "step", "expected"),
    [
        (10, 0, 0.2 + 0.8 / 2),  # two warm-up steps that start at 0.2 of the learning rate
        (10, 1, 1.0),
        (10, 2, 1.0),
        (10, 6, 0.1 + 0.9 * 0.5),  # half of the cosine
        (1, 0, 1.0),
    ],
)
def test_learning_rate(num_steps: int, step: int, expected: float) -> None:
    recipe = dataclasses.replace(
        BASE, learning_rate=2.0, warmup_fraction=0.2, warmup_start_ratio=0.2, minimum_ratio=0.1
    )
    assert recipe.learning_rate_at(step, num_steps) == pytest.approx(2.0 * expected)


def test_learning_rate_falls_towards_the_minimum_and_never_below() -> None:
    recipe = dataclasses.replace(BASE, warmup_fraction=0.0, minimum_ratio=0.1)
    rates = [recipe.learning_rate_at(step, 50) for step in range(50)]
    assert rates == sorted(rates, reverse=True)
    assert 1e-4 < rates[-1] < 1.02e-4


@pytest.mark.parametrize(("num_blocks", "num_steps"), [(1, 1), (4, 1), (5, 2), (8, 2)])
def test_every_block_is_trained_on(num_blocks: int, num_steps: int) -> None:
    assert BASE.num_steps(num_blocks) == num_steps


def test_a_batch_that_workers_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="4, which 3 workers with a micro-batch of 1 can't share evenly"):
        Placement(num_workers=3).accumulation(BASE)
    assert Placement(num_workers=2, micro_batch_size=2).accumulation(BASE) == 1


@pytest.mark.parametrize(
    ("num_workers", "micro_batch_size", "passes", "idle"),
    [(4, 1, 1, 0.0), (3, 1, 2, 1 / 3), (2, 2, 1, 0.0), (3, 2, 1, 1 / 3), (1, 3, 2, 1 / 3)],
)
def test_fewer_workers_than_asked_for_may_share_a_batch_unevenly(
    num_workers: int, micro_batch_size: int, passes: int, idle: float
) -> None:
    placement = Placement(num_workers=num_workers, micro_batch_size=micro_batch_size, allow_uneven=True)
    assert placement.accumulation(BASE) == passes
    assert placement.idle_share(BASE) == pytest.approx(idle)
    config = deepspeed_config(BASE, placement)
    assert config["train_batch_size"] == num_workers * micro_batch_size * passes
    assert config["gradient_accumulation_steps"] == passes


def test_any_number_of_workers_has_no_secondary_partition() -> None:
    with pytest.raises(ValueError, match="min_workers is 2, with which any number up to 4 may run, but secondary"):
        Placement(num_workers=4, min_workers=2, secondary_partition=2)
    assert Placement(num_workers=4, min_workers=4, secondary_partition=2).secondary_partition == 2


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, 1), (0.99, 1), (1.98, 2), (4, 4)])
def test_threads_follow_cpus(cpus: float, threads: int) -> None:
    assert Placement(cpus_per_worker=cpus).num_threads == threads


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"offload": "optimizer"}, "offload='optimizer' needs zero_stage 1 or above, but zero_stage is 0"),
        ({"offload": "parameters", "zero_stage": 2}, "needs zero_stage 3 or above, but zero_stage is 2"),
        ({"precision": "bf16"}, "precision='bf16' needs zero_stage 1 or above"),
        ({"quantised_gather": True, "zero_stage": 2}, "quantised_gather needs zero_stage 3, the only one that gathers"),
        ({"quantised_gather": True, "zero_stage": 3}, "quantised_gather needs GPUs.* but use_gpu is False"),
    ],
)
def test_combinations_that_deepspeed_cannot_run_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        deepspeed_config(dataclasses.replace(BASE, **change), Placement())


def test_deepspeed_config_of_the_70b_recipe() -> None:
    config = deepspeed_config(recipes.agentflan_llama2_70b(), Placement(num_workers=32, use_gpu=True))
    assert config["train_batch_size"] == 128
    assert config["gradient_accumulation_steps"] == 4
    assert config["zero_optimization"]["stage"] == 3
    assert config["bf16"] == {"enabled": True}
    assert "optimizer" not in config


def test_the_papers_numbers() -> None:
    table = {
        "llama2-7b-chat": recipes.agentflan_llama2_7b(),
        "llama2-13b-chat": recipes.agentflan_llama2_13b(),
        "llama2-70b-chat": recipes.agentflan_llama2_70b(),
    }
    assert {name: recipe.model for name, recipe in table.items()} == {name: name for name in table}
    assert [recipe.blocks_per_step for recipe in table.values()] == [32, 32, 128]
    assert {recipe.learning_rate for recipe in table.values()} == {2e-5}
    assert all(recipe.learning_rate * recipe.warmup_start_ratio == pytest.approx(4e-6) for recipe in table.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"secondary_partition": 2}, "secondary_partition is 2, which needs zero_stage 3, but zero_stage is 2"),
        ({"secondary_partition": 3, "stage": 3}, "secondary_partition is 3, which does not divide the 4 workers"),
        ({"secondary_partition": 0}, "secondary_partition is 0; it must be at least 1"),
    ],
)
def test_a_secondary_partition_that_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    stage = change.pop("stage", 2)
    with pytest.raises(ValueError, match=words):
        deepspeed_config(dataclasses.replace(BASE, zero_stage=stage), Placement(num_workers=4, **change))


def test_zero_plus_plus_on_gpus() -> None:
    recipe = dataclasses.replace(recipes.agentflan_llama2_70b(), quantised_gather=True)
    config = deepspeed_config(recipe, Placement(num_workers=32, use_gpu=True, secondary_partition=8))
    assert config["zero_optimization"] == {
        "stage": 3,
        "stage3_param_persistence_threshold": 10_000,
        "zero_quantized_weights": True,
        "zero_hpz_partition_size": 8,
    }


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_named_recipes_run_on_gpus_and_are_their_json(name: str) -> None:
    recipe = recipes.RECIPES[name]()
    config = deepspeed_config(recipe, Placement(use_gpu=True))
    assert config["train_batch_size"] == recipe.blocks_per_step
    assert TrainRecipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_agenttunings_numbers() -> None:
    table = [recipes.RECIPES[f"agenttuning-{size}"]() for size in ("7b", "13b", "70b")]
    assert [recipe.learning_rate for recipe in table] == [5e-5, 5e-5, 1e-5]
    assert [recipe.model for recipe in table] == ["llama2-7b-chat", "llama2-13b-chat", "llama2-70b-chat"]
    shared = {
        (r.blocks_per_step, r.block_length, r.weight_decay, r.betas, r.clip_norm, r.warmup_fraction) for r in table
    }
    assert shared == {(64, 4096, 0.1, (0.9, 0.95), 1.0, 0.02)}


def test_loras_numbers() -> None:
    small, large = recipes.RECIPES["agent-flan-13b-lora"](), recipes.RECIPES["agent-flan-70b-lora"]()
    assert (small.learning_rate, large.learning_rate) == (2e-4, 1e-4)
    assert small.lora == LoraRecipe(rank=64, alpha=16, dropout=0.1)
    assert large.lora == LoraRecipe(rank=64, alpha=16, dropout=0.05)
    assert (small.zero_stage, large.zero_stage) == (2, 3)
    assert (small.blocks_per_step, large.blocks_per_step) == (32, 128)
    quantised = recipes.RECIPES["agent-flan-70b-qlora"]()
    assert quantised.lora == LoraRecipe(rank=64, alpha=16, dropout=0.05, quantise="4bit")
    assert quantised.zero_stage == 2
