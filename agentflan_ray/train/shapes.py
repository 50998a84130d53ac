"""The shape of a decoder: parameters by kind and floating point operations, counted without making a model.

Counts are exact for the Llama family (Llama, Mistral, Qwen2, Qwen3, SmolLM2): what transformers 5 makes of the same
numbers. Nothing here imports torch; transformers only where a model that is not built in has to be looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The numbers that decide what a decoder costs.

    ``hidden`` is the width of the residual stream, ``intermediate`` that of the gated MLP; queries are
    ``heads * head_size`` wide, keys and values ``key_value_heads * head_size``. ``tied``: the head is the embedding.
    ``head_norms``: a norm over each head's queries and keys (Qwen3).
    """

    name: str
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    head_size: int
    max_positions: int
    tied: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_norms: bool = False

    @property
    def query_width(self) -> int:
        return self.heads * self.head_size

    @property
    def key_value_width(self) -> int:
        return self.key_value_heads * self.head_size

    @property
    def embedding_parameters(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def head_parameters(self) -> int:
        """0 where the head is the embedding."""
        return 0 if self.tied else self.vocabulary * self.hidden

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """(outputs, inputs) of each matrix of one layer, by the name that Llama gives it."""
        hidden, intermediate = self.hidden, self.intermediate
        return {
            "q_proj": (self.query_width, hidden),
            "k_proj": (self.key_value_width, hidden),
            "v_proj": (self.key_value_width, hidden),
            "o_proj": (hidden, self.query_width),
            "gate_proj": (intermediate, hidden),
            "up_proj": (intermediate, hidden),
            "down_proj": (hidden, intermediate),
        }

    @property
    def matrix_parameters_per_layer(self) -> int:
        return sum(outputs * inputs for outputs, inputs in self.matrices.values())

    @property
    def vector_parameters_per_layer(self) -> int:
        """Norms and biases of one layer."""
        biases = (
            self.qkv_bias * (self.query_width + 2 * self.key_value_width)
            + self.output_bias * self.hidden
            + self.mlp_bias * (2 * self.intermediate + self.hidden)
        )
        return 2 * self.hidden + 2 * self.head_norms * self.head_size + biases

    @property
    def parameters_per_layer(self) -> int:
        return self.matrix_parameters_per_layer + self.vector_parameters_per_layer

    @property
    def parameters_by_kind(self) -> dict[str, int]:
        """Embedding, layers, the norm after them, and the head (0 where tied)."""
        return {
            "embedding": self.embedding_parameters,
            "layers": self.layers * self.parameters_per_layer,
            "final norm": self.hidden,
            "head": self.head_parameters,
        }

    @property
    def parameters(self) -> int:
        return sum(self.parameters_by_kind.values())

    @property
    def largest_matrix(self) -> int:
        """Parameters of the largest matrix: the embedding, or one of the MLP."""
        return max(self.embedding_parameters, *(outputs * inputs for outputs, inputs in self.matrices.values()))

    def lora_parameters(self, rank: int, targets: Iterable[str] | None = None) -> int:
        """Parameters of low-rank adapters on the named matrices of every layer (``None``: all seven).

        Each adds rank * (inputs + outputs) (LoRA, arXiv 2106.09685, section 4.1). ``ValueError`` for a name that is
        no matrix of a layer.
        """
        names = set(self.matrices) if targets is None else set(targets)
        if unknown := names - set(self.matrices):
            raise ValueError(
                f"{', '.join(sorted(unknown))}: no matrix of a layer of {self.name}; choose {', '.join(self.matrices)}."
            )
        return self.layers * rank * sum(sum(self.matrices[name]) for name in names)

    def flops_per_token(
        self, attended: float, *, supervised: float = 1.0, frozen: bool = False, recomputed: bool = False
    ) -> float:
        """Floating point operations of one token, forward and backward.

        A matrix of N parameters costs 2N forward, 2N for the gradient of its input, and 2N for its own gradient, which
        a ``frozen`` one does without. Attention costs 4 * width for each of the ``attended`` keys of a token forward
        (scores and weighted values, 2 each) and twice that backward. The head works for the ``supervised`` share of the
        tokens. ``recomputed``: activation checkpointing runs
        the layers' forward pass once more. Full training of a causal block of length S is 6N + 6 * layers * width * S:
        PaLM (arXiv 2204.02311, appendix B) has twice the attention term, as it counts keys that the mask hides. The
        embedding looks up and costs nothing; norms, activations and softmax are left out, as there.
        """
        layers = self.layers * self.matrix_parameters_per_layer
        head = supervised * self.vocabulary * self.hidden
        attention = 4 * self.layers * self.query_width * attended
        passes = 4 if frozen else 6
        return passes * (layers + head) + 3 * attention + recomputed * (2 * layers + attention)


def attended_keys(lengths: Iterable[int]) -> float:
    """Mean number of keys that a token attends to, itself included, where samples of these lengths are packed.

    Token i of a sample (from 1) sees i keys, so it is (sum of l² + sum of l) / (2 * sum of l): for equal lengths
    (l + 1) / 2, however long the block. ``ValueError`` without any token.
    """
    total = squares = 0
    for length in lengths:
        total += length
        squares += length * length
    if total == 0:
        raise ValueError("There is no sample with a token, so nothing is attended to.")
    return (squares + total) / (2 * total)


def _llama2(size: str, hidden: int, intermediate: int, layers: int, heads: int, key_value_heads: int) -> ModelShape:
    """Llama 2 (arXiv 2307.09288, table 1, and the models' config.json)."""
    return ModelShape(
        name=f"llama2-{size}",
        vocabulary=32_000,
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        heads=heads,
        key_value_heads=key_value_heads,
        head_size=128,
        max_positions=4096,
    )


_LLAMA2 = (
    _llama2("7b", 4096, 11_008, 32, 32, 32),
    _llama2("13b", 5120, 13_824, 40, 40, 40),
    _llama2("70b", 8192, 28_672, 80, 64, 8),
)

_SMOLLM2 = ModelShape(
    name="smollm2-135m-instruct",
    vocabulary=49_152,
    hidden=576,
    intermediate=1536,
    layers=30,
    heads=9,
    key_value_heads=3,
    head_size=64,
    max_positions=8192,
    tied=True,
)

BUILT_IN: Mapping[str, ModelShape] = {
    _SMOLLM2.name: _SMOLLM2,
    **{f"{shape.name}{suffix}": shape for shape in _LLAMA2 for suffix in ("", "-chat")},
}
"""Shapes that need neither a download nor a configuration."""

_BIASES: Mapping[str, tuple[bool | str, ...]] = {
    # model_type: are there biases on queries, keys and values / on the attention's output / in the MLP, and head norms
    "llama": ("attention_bias", "attention_bias", "mlp_bias", False),
    "mistral": (False, False, False, False),
    "qwen2": (True, False, False, False),
    "qwen3": ("attention_bias", "attention_bias", False, True),
}


def shape_of(name: str) -> ModelShape:
    """The shape of a model: built in, or read from its configuration as transformers finds it.

    ``name`` is a key of :data:`BUILT_IN`, or what :func:`agentflan_ray.train.models.resolve` takes. Raises
    ``ValueError`` for another family of models, and ``OSError`` (of transformers) where there is no configuration.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    from transformers import AutoConfig

    from agentflan_ray.train.models import resolve

    return from_config(name, AutoConfig.from_pretrained(resolve(name), trust_remote_code=False).to_dict())


def from_config(name: str, config: Mapping[str, Any]) -> ModelShape:
    """The shape that a complete configuration (``config.to_dict()`` of transformers) describes.

    Raises ``ValueError`` for a family whose parameters are not counted here.
    """
    kind = config["model_type"]
    if kind not in _BIASES:
        raise ValueError(
            f"The planner counts models of the families {', '.join(_BIASES)}, but {name} is of the family {kind!r}; "
            "plan with a shape of a like size, such as llama2-7b."
        )
    qkv, output, mlp, head_norms = (bool(config[flag] if isinstance(flag, str) else flag) for flag in _BIASES[kind])
    heads = config["num_attention_heads"]
    return ModelShape(
        name=name,
        vocabulary=config["vocab_size"],
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        key_value_heads=config["num_key_value_heads"] or heads,
        head_size=config.get("head_dim") or config["hidden_size"] // heads,
        max_positions=config["max_position_embeddings"],
        tied=config["tie_word_embeddings"],
        qkv_bias=qkv,
        output_bias=output,
        mlp_bias=mlp,
        head_norms=head_norms,
    )
