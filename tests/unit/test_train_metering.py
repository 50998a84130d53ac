"""What the losses and operations of a step are divided into."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agentflan_ray.tokens.block import COMPONENT_GROUPS, Group
from agentflan_ray.train import models
from agentflan_ray.train.adapters import LoraRecipe
from agentflan_ray.train.hardware import GPUS, gpu_of_device
from agentflan_ray.train.metering import Utilisation, mean_losses
from agentflan_ray.train.recipe import TrainRecipe

RECIPE = TrainRecipe(model="tiny-llama", block_length=64, blocks_per_step=4, learning_rate=1e-2, precision="bf16")

GROUPS = (
    Group("reasoning", "toolbench"),
    Group("instruction", "toolbench", "format"),
    Group("instruction", "fireact", "content"),
    Group("negative", "fireact", "format"),
    Group("general", "glaive"),
)


def test_each_division_is_a_mean_over_its_tokens() -> None:
    sums, counts = np.array([8.0, 1.0, 6.0, 1.0, 0.0]), np.array([4.0, 10.0, 3.0, 10.0, 0.0])
    assert mean_losses(GROUPS, sums, counts, "validation_") == {
        "validation_loss/reasoning": 2.0,
        "validation_loss/instruction": 7 / 13,
        "validation_loss/negative": 0.1,
        "validation_source_loss/fireact": 7 / 13,
        "validation_source_loss/toolbench": 9 / 14,
        "validation_explicit_loss/format": 0.1,
        "validation_explicit_loss/content": 2.0,
    }


def test_blocks_that_know_no_source_have_components_alone() -> None:
    found = mean_losses(COMPONENT_GROUPS, np.ones(6), np.full(6, 2.0))
    assert list(found) == [f"loss/{group.component}" for group in COMPONENT_GROUPS]
    assert set(found.values()) == {0.5}


@pytest.mark.parametrize(
    ("device_name", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-80g"),
        ("NVIDIA H200", "h200-141g"),
        ("NVIDIA A100-SXM4-40GB", "a100-40g"),
        ("NVIDIA A100-SXM4-80GB", "a100-80g"),
        ("NVIDIA A100 80GB PCIe", "a100-80g"),
        ("NVIDIA A10G", "a10g-24g"),
        ("NVIDIA L40S", "l40s-48g"),
        ("NVIDIA GeForce RTX 4090", "rtx4090-24g"),
        ("NVIDIA B200", "b200-180g"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA L40", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
    ],
)
def test_a_gpu_is_known_by_its_drivers_name(device_name: str, name: str | None) -> None:
    assert gpu_of_device(device_name) == (None if name is None else GPUS[name])


def rates(recipe: TrainRecipe = RECIPE, device_name: str | None = "NVIDIA H100 80GB HBM3", **change: Any) -> Any:
    config = models.load_model("tiny-llama").config
    step = {"tokens": 256, "attended": 256 * 10.0, "supervised": 128.0, "seconds": 2.0, "num_workers": 1}
    return Utilisation(recipe, config, device_name).metrics(**{**step, **change})


def test_operations_are_counted_as_they_are_done() -> None:
    config = models.load_model("tiny-llama").config
    hidden, heads = config.hidden_size, config.num_attention_heads
    width = heads * config.head_dim
    matrices = hidden * (2 * width + 2 * config.num_key_value_heads * config.head_dim + 3 * config.intermediate_size)
    layers = config.num_hidden_layers
    # Half of the tokens are learnt, so the head works for half of them; ten keys to a token.
    each = 6 * (layers * matrices + 0.5 * config.vocab_size * hidden) + 12 * layers * width * 10
    found = rates()
    assert found["tflops"] == pytest.approx(each * 256 / 2 / 1e12)
    assert found["mfu"] == pytest.approx(found["tflops"] * 1e12 / 989.4e12)
    assert rates(num_workers=4)["mfu"] == pytest.approx(found["mfu"] / 4)
    # Frozen weights have no gradient of their own.
    lora = rates(dataclasses.replace(RECIPE, lora=LoraRecipe(rank=4, alpha=8)))
    assert 2 / 3 < lora["mfu"] / found["mfu"] < 0.75


def test_there_is_no_utilisation_of_what_has_no_known_peak() -> None:
    for unknown in (
        rates(device_name=None),
        rates(device_name="NVIDIA H100 PCIe"),
        rates(dataclasses.replace(RECIPE, precision="fp32")),
    ):
        assert list(unknown) == ["tflops"]
    mamba = SimpleNamespace(to_dict=lambda: {"model_type": "mamba"})
    nothing = Utilisation(RECIPE, mamba, None).metrics(tokens=1, attended=1, supervised=1, seconds=1, num_workers=1)
    assert nothing == {}
