"""Parameter counts against the models that transformers makes, and operations against formulas by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from agentflan_ray.train.shapes import BUILT_IN, ModelShape, attended_keys, from_config, shape_of
from tests.unit.shape_examples import config_of

SMALL = {
    "vocab_size": 320,
    "hidden_size": 96,
    "intermediate_size": 200,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}

CONFIGS: dict[str, Any] = {
    "qwen2, biases": Qwen2Config(**SMALL),
    "qwen2, tied": Qwen2Config(**SMALL, tie_word_embeddings=True),
    "qwen3, norms of heads": Qwen3Config(**SMALL, head_dim=32),
    "mistral": MistralConfig(**SMALL),
    "mistral, heads wider than hidden": MistralConfig(**SMALL, head_dim=32),
    "llama, biases everywhere": LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True),
    "llama, no groups": LlamaConfig(**{**SMALL, "num_key_value_heads": None}),
}


def assert_counts(shape: ModelShape, config: Any) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    layer = model.model.layers[0]
    assert sum(parameter.numel() for parameter in layer.parameters()) == shape.parameters_per_layer
    matrices = {
        name.split(".")[1]: tuple(parameter.shape)
        for name, parameter in layer.named_parameters()
        if name.endswith("_proj.weight")
    }
    assert matrices == shape.matrices
    assert model.num_parameters() == shape.parameters == sum(shape.parameters_by_kind.values())


@pytest.mark.parametrize("name", ["llama2-7b", "llama2-13b", "llama2-70b", "smollm2-135m-instruct"])
def test_built_in_shapes_are_what_transformers_makes(name: str) -> None:
    config = config_of(BUILT_IN[name])
    assert_counts(BUILT_IN[name], config)
    assert from_config(name, config.to_dict()) == BUILT_IN[name]


def test_the_parameters_of_llama_2_are_those_published() -> None:
    counts = {name: BUILT_IN[f"llama2-{name}-chat"].parameters for name in ("7b", "13b", "70b")}
    assert counts == {"7b": 6_738_415_616, "13b": 13_015_864_320, "70b": 68_976_648_192}
    assert BUILT_IN["smollm2-135m-instruct"].parameters == 134_515_008


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_shapes_of_configurations(config: Any) -> None:
    assert_counts(from_config("small", config.to_dict()), config)


def test_models_that_are_not_built_in() -> None:
    shape = shape_of("tiny-llama")
    assert (shape.parameters, shape.layers, shape.key_value_heads, shape.tied) == (90_624, 2, 2, True)
    with pytest.raises(ValueError, match=r"families llama, mistral, qwen2, qwen3, but this is of the family 'gpt2'"):
        from_config("this", AutoConfig.for_model("gpt2").to_dict())


def test_lora_parameters() -> None:
    shape = BUILT_IN["llama2-7b"]
    # Rank 8 on queries and values is 4.2 million (0.06 %), and QLoRA's rank 64 on all matrices is 160 million.
    assert shape.lora_parameters(8, ("q_proj", "v_proj")) == 32 * 8 * 2 * (4096 + 4096)
    assert shape.lora_parameters(64) == 159_907_840
    with pytest.raises(ValueError, match="qkv: no matrix of a layer of llama2-7b; choose q_proj"):
        shape.lora_parameters(8, ("qkv",))


def test_operations_of_a_token() -> None:
    shape = BUILT_IN["llama2-7b"]
    block = 4096
    matrices = shape.parameters - shape.embedding_parameters - (2 * shape.layers + 1) * shape.hidden
    full = shape.flops_per_token(attended_keys([block]))
    # 6N and half of PaLM's 12 * layers * width * length; the token itself is the one key more.
    assert full == 6 * matrices + 6 * 32 * 4096 * (block + 1)
    layers = shape.layers * shape.matrix_parameters_per_layer
    attention = 2 * 32 * 4096 * (block + 1)
    again = shape.flops_per_token(attended_keys([block]), recomputed=True)
    assert again == full + 2 * layers + attention
    assert shape.flops_per_token(attended_keys([block]), frozen=True) == full - 2 * matrices


def test_keys_that_a_token_attends_to() -> None:
    assert attended_keys([1]) == 1
    assert attended_keys([4]) == attended_keys([4, 4, 4]) == 2.5
    lengths = [3, 500, 41]
    expected = sum(sum(range(1, length + 1)) for length in lengths) / sum(lengths)
    assert attended_keys(lengths) == pytest.approx(expected)
    with pytest.raises(ValueError, match="no sample with a token"):
        attended_keys([])
