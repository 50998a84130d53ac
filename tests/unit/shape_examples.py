"""A model's shape as the configuration that transformers makes it from."""

from __future__ import annotations

from transformers import LlamaConfig

from agentflan_ray.train.shapes import ModelShape


def config_of(shape: ModelShape) -> LlamaConfig:
    """The published numbers, as transformers takes them."""
    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=shape.tied,
    )
