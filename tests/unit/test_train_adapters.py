"""LoRA: which weights it trains, at every ZeRO stage, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, MixtralConfig

from agentflan_ray.train import checkpoint, models
from agentflan_ray.train.adapters import LoraRecipe, adapted_layers, adapter_parameters, add_adapters, merged_weight
from agentflan_ray.train.blocks import RandomBlocks, targets
from agentflan_ray.train.engine import Engine
from agentflan_ray.train.loop import train
from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.zero import deepspeed_config

LORA = LoraRecipe(rank=4, alpha=8)
RECIPE = TrainRecipe(
    model="tiny-llama", block_length=64, blocks_per_step=4, learning_rate=1e-2, weight_decay=0.1, lora=LORA
)
BLOCKS = RandomBlocks(num_blocks=12, block_length=64, vocabulary_size=259)


folders: list[Path | None] = []
"""Of the last training, one for each step."""


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loop's temporary folders die with the test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def losses(recipe: TrainRecipe, placement: Placement = Placement(), **rest: Any) -> list[float]:  # noqa: B008
    """The loss of every step, and the validation loss after the last."""
    found: list[float] = []
    folders.clear()

    def report(metrics: dict[str, Any], folder: Path | None) -> None:
        found.append(metrics["loss"])
        found.extend([metrics["validation_loss"]] if "validation_loss" in metrics else [])
        folders.append(folder)

    train(recipe, placement, BLOCKS, validation=BLOCKS, report=report, **rest)
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rank": 0}, "rank of the LoRA recipe is 0; it must be at least 1"),
        ({"alpha": 0}, "alpha of the LoRA recipe is 0; it must be above 0"),
        ({"dropout": 1.0}, "dropout of the LoRA recipe is 1.0; it must lie between 0 and below 1"),
        ({"quantise": "8bit"}, "quantise of the LoRA recipe is '8bit'; choose 'none' or '4bit'"),
        ({"targets": ()}, r"targets of the LoRA recipe is \(\); give 'all-linear' or a tuple of names"),
        ({"targets": "q_proj"}, "targets of the LoRA recipe is 'q_proj'; give 'all-linear' or a tuple of names"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(LORA, **change)


@pytest.mark.parametrize("lora", [LORA, LoraRecipe(rank=8, alpha=16, dropout=0.1, targets=("q_proj", "v_proj"))])
def test_a_recipe_as_json_is_the_recipe(lora: LoraRecipe) -> None:
    recipe = dataclasses.replace(RECIPE, lora=lora)
    assert TrainRecipe.from_json(recipe.to_json()) == recipe
    assert isinstance(recipe.to_json()["lora"]["targets"], str | list)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precision": "fp32", "zero_stage": 2}, "multiplies in bfloat16, but precision is 'fp32'"),
        ({"zero_stage": 3}, "quantise='4bit' needs zero_stage 1 or 2, but zero_stage is 3"),
        ({}, r"quantise='4bit' needs GPUs.* but use_gpu is False; set quantise='none'"),
    ],
)
def test_what_four_bits_cannot_do_is_refused(change: dict[str, Any], words: str) -> None:
    lora = dataclasses.replace(LORA, quantise="4bit")
    recipe = dataclasses.replace(RECIPE, **{"precision": "bf16", "zero_stage": 2, "lora": lora, **change})
    with pytest.raises(ValueError, match=words):
        deepspeed_config(recipe, Placement())


def test_four_bits_on_gpus_are_allowed() -> None:
    lora = dataclasses.replace(LORA, quantise="4bit")
    recipe = dataclasses.replace(RECIPE, precision="bf16", zero_stage=2, lora=lora)
    assert deepspeed_config(recipe, Placement(use_gpu=True))["zero_optimization"] == {"stage": 2, "overlap_comm": True}


def test_only_adapters_are_trained_and_they_start_as_no_change() -> None:
    model = models.load_model("tiny-llama")
    ids = torch.arange(20)[None]
    before = model(input_ids=ids).logits
    add_adapters(model, LORA, seed=0)
    assert torch.equal(model(input_ids=ids).logits, before)
    adapters = dict(adapter_parameters(model))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {
        name.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default.") for name in adapters
    }
    # Rank times inputs plus outputs of the seven matrices of each of two layers; the head, tied, is left out.
    per_layer = 2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 128)
    assert sum(parameter.numel() for parameter in adapters.values()) == 2 * 4 * per_layer
    assert type(model).__name__ == "LlamaForCausalLM"
    assert type(model.base_model).__name__ == "LlamaModel"


def test_named_targets_alone_get_adapters() -> None:
    model = models.load_model("tiny-llama")
    add_adapters(model, dataclasses.replace(LORA, targets=("q_proj", "v_proj")), seed=0)
    assert {name.rpartition(".")[2] for name, _ in adapted_layers(model)} == {"q_proj", "v_proj"}


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (
            ("q_proj", "query"),
            "LlamaForCausalLM has no linear layer query.* choose among down_proj, gate_proj, k_proj, ",
        ),
        (("lm_head",), "names lm_head, whose weight LlamaForCausalLM shares with the embedding"),
    ],
)
def test_targets_that_cannot_be_are_refused(targets: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        add_adapters(models.load_model("tiny-llama"), dataclasses.replace(LORA, targets=targets), seed=0)


def test_experts_that_are_no_linear_layers_are_refused(tmp_path: Path) -> None:
    config = MixtralConfig(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_local_experts=2,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    models.load_tokenizer("tiny-llama").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lora adapts linear layers, but MixtralForCausalLM holds weights that"):
        Engine(dataclasses.replace(RECIPE, model=str(tmp_path)), Placement())


def test_merged_weights_give_the_adapted_outputs() -> None:
    model = models.load_model("tiny-llama")
    add_adapters(model, LORA, seed=0)
    inputs = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    layer = next(layer for name, layer in adapted_layers(model) if name.endswith("q_proj"))
    torch.nn.init.normal_(layer.lora_B["default"].weight, generator=torch.Generator().manual_seed(1))
    expected = layer(inputs)
    assert torch.allclose(inputs @ merged_weight(layer).T, expected, rtol=1e-4, atol=1e-5)
    update = 8 / 4 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    assert torch.allclose(merged_weight(layer), layer.base_layer.weight + update, rtol=1e-6)


def test_every_zero_stage_trains_the_same_adapters() -> None:
    plain = losses(RECIPE)
    assert plain[-1] < plain[0]
    for stage in (1, 2, 3):
        assert losses(dataclasses.replace(RECIPE, zero_stage=stage)) == pytest.approx(plain, rel=2e-5), stage


@pytest.mark.parametrize("stage", [2, 3])
def test_bf16_agrees_roughly(stage: Any) -> None:
    recipe = dataclasses.replace(RECIPE, zero_stage=stage, precision="bf16")
    assert losses(recipe) == pytest.approx(losses(RECIPE), rel=5e-3)


def test_activation_checkpointing_changes_nothing_though_embeddings_are_frozen() -> None:
    expected = losses(RECIPE)
    for stage in (0, 3):
        recipe = dataclasses.replace(RECIPE, activation_checkpointing=True, zero_stage=stage)
        assert losses(recipe) == pytest.approx(expected, rel=2e-5), stage


def test_dropout_and_named_targets_train() -> None:
    lora = LoraRecipe(rank=4, alpha=8, dropout=0.3, targets=("q_proj", "up_proj"))
    found = losses(dataclasses.replace(RECIPE, lora=lora))
    assert found[-1] < found[0]
    assert found != losses(dataclasses.replace(RECIPE, lora=dataclasses.replace(lora, dropout=0.0)))


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_a_resumed_run_is_the_uninterrupted_one(stage: Any) -> None:
    lora = dataclasses.replace(LORA, dropout=0.1)
    recipe = dataclasses.replace(RECIPE, lora=lora, zero_stage=stage, checkpoint_every=1)
    whole = losses(recipe)
    assert folders[0] is not None
    assert losses(recipe, resume_from=checkpoint.read(folders[0])) == whole[1:]


@pytest.mark.slow  # DeepSpeed compiles its Adam at first
@pytest.mark.parametrize("offload", ["optimizer", "parameters"])
def test_offloading_changes_nothing(offload: Any) -> None:
    """With DeepSpeed's own Adam, which rounds otherwise."""
    recipe = dataclasses.replace(RECIPE, zero_stage=3, offload=offload)
    assert losses(recipe) == pytest.approx(losses(RECIPE), rel=1e-4)


@pytest.mark.parametrize("stage", [0, 2])
def test_the_base_stays_as_it_was(stage: Any) -> None:
    engine = Engine(dataclasses.replace(RECIPE, zero_stage=stage, blocks_per_step=1), Placement())
    base = {name: p.detach().clone() for name, p in engine.model.named_parameters() if not p.requires_grad}
    adapters = {name: p.detach().clone() for name, p in engine.model.named_parameters() if p.requires_grad}
    block = BLOCKS[0]
    wanted = targets(block.position_ids, block.tags)
    ids, positions, groups = (
        torch.from_numpy(each).long()[None] for each in (block.input_ids, block.position_ids, wanted)
    )
    for _ in range(2):  # in the first step A has no gradient, as B is 0
        total, _ = engine.forward(ids, positions, groups)
        engine.backward(total, num_targets=64)
        engine.update(1e-2)
    after = dict(engine.model.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in base.items())
    assert all(not torch.equal(after[name], value) for name, value in adapters.items())


STAGES: tuple[tuple[str, Literal[0, 2, 3], int], ...] = (("0", 0, 1), ("2", 2, 1), ("3", 3, 1), ("3, twice", 3, 2))
"""Names, ZeRO stages and secondary partitions."""


def train_as_rank(rank: int, port: int, out: str) -> None:
    """One of two processes, at one ZeRO stage after the other; at last with hpZ of ZeRO++."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = {}
    for name, stage, secondary in STAGES:
        placement = Placement(num_workers=2, secondary_partition=secondary)
        recipe = dataclasses.replace(RECIPE, zero_stage=stage)
        found[name] = losses(recipe, placement, card={})
        if rank == 0:
            assert folders[-1] is not None
            (folders[-1] / "model").rename(Path(out) / name)
    if rank == 0:
        (Path(out) / "found.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_workers_train_and_export_the_adapters_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(train_as_rank, args=(port, str(tmp_path)), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    expected = losses(RECIPE, card={})
    assert folders[-1] is not None
    weights = load_file(folders[-1] / "model" / "model.safetensors")
    for name, found in json.loads((tmp_path / "found.json").read_text()).items():
        assert found == pytest.approx(expected, rel=2e-5), name
        other = load_file(tmp_path / name / "model.safetensors")
        assert weights.keys() == other.keys()
        assert all(torch.allclose(other[key], weight, atol=1e-5) for key, weight in weights.items()), name
