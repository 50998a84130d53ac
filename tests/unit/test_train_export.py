"""Exported models: what is in the directory, and that others load from it what was trained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig

from agentflan_ray.train import models, zero
from agentflan_ray.train.adapters import LoraRecipe
from agentflan_ray.train.blocks import RandomBlocks, targets
from agentflan_ray.train.engine import Engine
from agentflan_ray.train.export import export
from agentflan_ray.train.losses import ComponentLoss
from agentflan_ray.train.recipe import Placement, TrainRecipe

RECIPE = TrainRecipe(model="tiny-llama", block_length=64, blocks_per_step=1, learning_rate=1e-2)
LORA = LoraRecipe(rank=4, alpha=8)
BLOCKS = RandomBlocks(num_blocks=4, block_length=64, vocabulary_size=259)
IDS = torch.arange(3, 43)[None]

_LLAMA = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
ARCHITECTURES: dict[str, PreTrainedConfig] = {
    "grouped keys, tied": transformers.LlamaConfig(**_LLAMA, num_key_value_heads=1, tie_word_embeddings=True),
    "scaled rotary positions": transformers.LlamaConfig(
        **_LLAMA,
        num_key_value_heads=2,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10_000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    ),
    "linear rotary positions": transformers.LlamaConfig(
        **_LLAMA, rope_parameters={"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
    ),
    "biases": transformers.Qwen2Config(**_LLAMA, num_key_value_heads=2, tie_word_embeddings=True),
    "norms of heads": transformers.Qwen3Config(**_LLAMA, num_key_value_heads=2, head_dim=16),
    "sliding window": transformers.MistralConfig(**_LLAMA, num_key_value_heads=2, sliding_window=16),
    "experts, which transformers converts": transformers.MixtralConfig(
        **_LLAMA, num_key_value_heads=2, num_local_experts=2
    ),
}


def trained(recipe: TrainRecipe, num_steps: int = 2) -> Engine:
    """An engine after some steps; two, because with one the frozen half of an adapter would still be 0."""
    engine = Engine(recipe, Placement())
    for step in range(num_steps):
        total, _ = engine.forward(*batch(step))
        engine.backward(total, num_targets=50)
        engine.update(recipe.learning_rate)
    engine.module.eval()
    return engine


def batch(index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    block = BLOCKS[index]
    wanted = targets(block.position_ids, block.tags)
    return tuple(torch.from_numpy(each).long()[None] for each in (block.input_ids, block.position_ids, wanted))  # type: ignore[return-value]


def losses_of(module: Any) -> torch.Tensor:
    with torch.no_grad():
        sums: torch.Tensor = module(*batch(3))[1]
    return sums


def drawn(config: PreTrainedConfig, folder: Path) -> Path:
    """A base model of random weights, with the tokenizer of the tiny one."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    models.load_tokenizer("tiny-llama").save_pretrained(folder)
    return folder


def loaded(folder: Path) -> Any:
    """As transformers by itself loads it."""
    return AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("stage", [0, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_was_trained_is_what_is_loaded(architecture: str, stage: Any, tmp_path: Path) -> None:
    base = drawn(ARCHITECTURES[architecture], tmp_path / "base")
    before = losses_of(ComponentLoss(models.load_model(str(base))))
    engine = trained(dataclasses.replace(RECIPE, model=str(base), zero_stage=stage))
    expected = losses_of(engine.forward)
    export(engine, engine.tokenizer, tmp_path / "exported", {})
    found = losses_of(ComponentLoss(loaded(tmp_path / "exported")))
    assert torch.allclose(found, expected, rtol=1e-5)
    assert not torch.allclose(before, expected, rtol=1e-2)
    stored = [safetensors.torch.load_file(folder / "model.safetensors") for folder in (base, tmp_path / "exported")]
    assert stored[0].keys() == stored[1].keys()


# PEFT 0.21 reads a property that transformers 5.23 has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_adapters_are_merged_and_kept(stage: Any, tmp_path: Path) -> None:
    engine = trained(dataclasses.replace(RECIPE, zero_stage=stage, lora=LORA))
    expected = losses_of(engine.forward)
    export(engine, engine.tokenizer, tmp_path / "model", {})
    merged = loaded(tmp_path / "model")
    assert torch.allclose(losses_of(ComponentLoss(merged)), expected, rtol=1e-5)
    assert not any("lora" in name or "base_layer" in name for name, _ in merged.named_parameters())
    beside = peft.PeftModel.from_pretrained(models.load_model("tiny-llama"), tmp_path / "model" / "adapter")
    with torch.no_grad():
        found, merged_logits = beside(input_ids=IDS).logits, merged(input_ids=IDS).logits
        base = models.load_model("tiny-llama")(input_ids=IDS).logits
    assert torch.allclose(found, merged_logits, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(base, merged_logits, rtol=1e-2, atol=1e-2)
    config = json.loads((tmp_path / "model" / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 8, "tiny-llama")


@pytest.mark.parametrize("stage", [0, 3])
@pytest.mark.parametrize(
    ("config", "lora"),
    [
        (ARCHITECTURES["scaled rotary positions"], dataclasses.replace(LORA, targets=("q_proj", "lm_head"))),
        (transformers.GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=4, n_positions=128), LORA),
        (ARCHITECTURES["biases"], LORA),
    ],
    ids=["an output head", "transposed weights", "biases"],
)
def test_adapters_of_other_layers_are_merged(
    config: PreTrainedConfig, lora: LoraRecipe, stage: Any, tmp_path: Path
) -> None:
    base = drawn(config, tmp_path / "base")
    engine = trained(dataclasses.replace(RECIPE, model=str(base), zero_stage=stage, lora=lora))
    expected = losses_of(engine.forward)
    export(engine, engine.tokenizer, tmp_path / "model", {})
    assert torch.allclose(losses_of(ComponentLoss(loaded(tmp_path / "model"))), expected, rtol=1e-5)
    stored = [safetensors.torch.load_file(folder / "model.safetensors") for folder in (base, tmp_path / "model")]
    assert stored[0].keys() == stored[1].keys()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("chosen", ["all-linear", ("q_proj", "down_proj")])
def test_weights_of_four_bits_are_merged(
    stage: Any, chosen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU, slowly, and only here: bitsandbytes computes there as well."""
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(zero, "_refuse_what_cpus_cannot", lambda *_: None)
    lora = LoraRecipe(rank=4, alpha=8, quantise="4bit", targets=chosen)
    engine = trained(dataclasses.replace(RECIPE, zero_stage=stage, precision="bf16", lora=lora))
    quantised = [name for name, parameter in engine.model.named_parameters() if parameter.dtype == torch.uint8]
    assert len(quantised) == 14
    expected = losses_of(engine.forward)
    export(engine, engine.tokenizer, tmp_path / "model", {})
    merged = loaded(tmp_path / "model")
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}
    assert not hasattr(merged.config, "quantization_config")
    assert torch.allclose(losses_of(ComponentLoss(merged)), expected, rtol=1e-3)


@pytest.mark.parametrize("stage", [0, 3])
def test_large_models_are_written_in_several_files(stage: Any, tmp_path: Path) -> None:
    engine = trained(dataclasses.replace(RECIPE, zero_stage=stage))
    export(engine, engine.tokenizer, tmp_path / "whole", {})
    export(engine, engine.tokenizer, tmp_path / "split", {}, shard_bytes=100_000)
    files = sorted(path.name for path in (tmp_path / "split").glob("*.safetensors"))
    assert len(files) > 3
    assert all((tmp_path / "split" / name).stat().st_size < 101_000 for name in files)
    index = json.loads((tmp_path / "split" / "model.safetensors.index.json").read_text())
    whole = safetensors.torch.load_file(tmp_path / "whole" / "model.safetensors")
    assert index["weight_map"].keys() == whole.keys()
    assert index["metadata"]["total_size"] == sum(weight.nbytes for weight in whole.values())
    expected = dict(loaded(tmp_path / "whole").named_parameters())
    found = dict(loaded(tmp_path / "split").named_parameters())
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_what_is_in_the_directory(tmp_path: Path) -> None:
    engine = trained(RECIPE)
    card = {"data": {"corpus": "0123abcd"}, "recipe": RECIPE.to_json(), "metrics": {"loss": 1.25}}
    export(engine, engine.tokenizer, tmp_path / "model", card)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert not any("attn" in name or "packed" in str(value) for name, value in config.items())
    assert (config["architectures"], config["dtype"]) == (["LlamaForCausalLM"], "float32")
    assert loaded(tmp_path / "model").generation_config.eos_token_id == engine.tokenizer.eos_token_id
    assert AutoTokenizer.from_pretrained(tmp_path / "model").chat_template == engine.tokenizer.chat_template
    readme = (tmp_path / "model" / "README.md").read_text()
    for words in ('"corpus": "0123abcd"', '"learning_rate": 0.01', '"loss": 1.25', "base_model: tiny-llama\n"):
        assert words in readme
    assert f"tiny-llama (content `{models.fingerprint('tiny-llama')}`), all weights fine-tuned with" in readme


def test_the_directory_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = trained(RECIPE)

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(engine.tokenizer), "save_pretrained", full)
        with pytest.raises(OSError, match="No space left"):
            export(engine, engine.tokenizer, tmp_path / "model", {})
    assert [path.name for path in tmp_path.iterdir()] == ["model.partial"]
    (tmp_path / "model.partial" / "left behind").touch()
    export(engine, engine.tokenizer, tmp_path / "model", {})
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "left behind").exists()
    with pytest.raises(ValueError, match="model exists already; give a new directory"):
        export(engine, engine.tokenizer, tmp_path / "model", {})


def test_bf16_weights_are_exported_as_such(tmp_path: Path) -> None:
    engine = trained(dataclasses.replace(RECIPE, zero_stage=1, precision="bf16", lora=LORA))
    export(engine, engine.tokenizer, tmp_path / "model", {})
    weights = safetensors.torch.load_file(tmp_path / "model" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert loaded(tmp_path / "model").dtype == torch.bfloat16
