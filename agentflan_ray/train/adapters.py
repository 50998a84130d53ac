"""LoRA and QLoRA: low-rank matrices beside frozen weights, put into the model in place by PEFT.

In place (``peft.inject_adapter_in_model``) and not around it (``PeftModel``): the model stays the causal language model
that losses, evaluation and export know, only some of its linear layers hold a ``base_layer`` and two small matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig

ADAPTER = "default"
"""The name of the only adapter of a model, as PEFT names its first."""

ALL_LINEAR: Literal["all-linear"] = "all-linear"
Quantise = Literal["none", "4bit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraRecipe:
    """Which weights get a low-rank update W + alpha / rank * B A, and how (LoRA, arXiv 2106.09685, section 4.1).

    ``targets`` is "all-linear", every linear layer but the output head (QLoRA, arXiv 2305.14314, section 4, finds that
    all are needed to match full fine-tuning), or names of layers such as ``("q_proj", "v_proj")``. ``quantise`` "4bit"
    keeps the frozen weights in 4-bit NormalFloat with doubly quantised constants (section 3 there); it needs CUDA.
    """

    rank: int
    alpha: int
    dropout: float = 0.0
    targets: Literal["all-linear"] | tuple[str, ...] = ALL_LINEAR
    quantise: Quantise = "none"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank of the LoRA recipe is {self.rank}; it must be at least 1.")
        if not self.alpha > 0:
            raise ValueError(f"alpha of the LoRA recipe is {self.alpha}; it must be above 0.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout of the LoRA recipe is {self.dropout}; it must lie between 0 and below 1.")
        if self.quantise not in get_args(Quantise):
            raise ValueError(f"quantise of the LoRA recipe is {self.quantise!r}; choose 'none' or '4bit'.")
        named = isinstance(self.targets, tuple) and self.targets and all(isinstance(name, str) for name in self.targets)
        if self.targets != ALL_LINEAR and not named:
            raise ValueError(
                f"targets of the LoRA recipe is {self.targets!r}; give 'all-linear' or a tuple of names of layers."
            )

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> LoraRecipe:
        """The recipe of :meth:`recipe.TrainRecipe.to_json`, where a list stands for the tuple of targets."""
        targets = fields["targets"]
        return cls(**{**fields, "targets": tuple(targets) if isinstance(targets, list) else targets})


def quantisation() -> Any:
    """How transformers quantises the frozen weights of QLoRA (arXiv 2305.14314, section 3) while it loads them.

    Raises ``ValueError`` where bitsandbytes is not installed.
    """
    import importlib.util

    import torch
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            "quantise='4bit' needs the package bitsandbytes, which is not installed; run: "
            "pip install 'agentflan-ray[qlora]'"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def add_adapters(model: Any, lora: LoraRecipe, seed: int) -> None:
    """Freeze a model and add the adapters of a recipe, in place; they start as no change (B is 0).

    Under ZeRO-3 the frozen weights may be partitioned already; the adapters become whole parameters, which DeepSpeed
    partitions when it starts. Raises ``ValueError`` where a target is no linear layer of the model, or the head of one
    that shares it with the embedding.
    """
    import torch
    from peft import inject_adapter_in_model

    if lora.targets != ALL_LINEAR:
        _check_targets(model, lora.targets)
    # Making the model draws other amounts of random numbers at other ZeRO stages.
    torch.manual_seed(seed)
    inject_adapter_in_model(_peft_config(model, lora), model, ADAPTER)


def adapted_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """The layers that hold an adapter (``peft.tuners.lora.LoraLayer``), with their names."""
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))


def adapter_parameters(model: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The parameters of all adapters, named as PEFT stores them: ``<layer>.lora_A.weight``."""
    for layer_name, layer in adapted_layers(model):
        for name, parameter in layer.named_parameters():
            if not name.startswith("base_layer."):
                yield f"{layer_name}.{name.replace(f'.{ADAPTER}.', '.')}", parameter


def merged_weight(layer: Any) -> torch.Tensor:
    """The weight of an adapted layer with its update added in float32, in the adapter's type.

    A weight of 4 bits is dequantised first: the adapter was trained beside the rounded weights, not beside the
    original ones. Under ZeRO-3 call it while the parameters of the layer are gathered.
    """
    update = layer.get_delta_weight(ADAPTER).detach()
    merged: torch.Tensor = (dequantised(layer.get_base_layer()).float() + update.float()).to(update.dtype)
    return merged


def dequantised(module: torch.nn.Module) -> torch.Tensor:
    """The weight of a layer, computed from its 4 bits where it has no more."""
    from peft.utils.integrations import dequantize_module_weight

    weight: torch.Tensor = dequantize_module_weight(module).detach()
    return weight


def write_adapter_config(model: Any, lora: LoraRecipe, base: str, folder: str) -> None:
    """Write PEFT's ``adapter_config.json``, with which ``PeftModel.from_pretrained`` finds its place in the base."""
    config = _peft_config(model, lora)
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.save_pretrained(folder)


def _check_targets(model: Any, targets: Sequence[str]) -> None:
    linear = {name.rpartition(".")[2] for name, module in model.named_modules() if _is_linear(module)}
    unknown = [target for target in targets if target not in linear]
    if unknown:
        raise ValueError(
            f"{type(model).__name__} has no linear layer {', '.join(unknown)}, which targets of the LoRA recipe names; "
            f"choose among {', '.join(sorted(linear))}."
        )
    head = model.get_output_embeddings()
    if model.config.tie_word_embeddings:
        tied = next((name for name, module in model.named_modules() if module is head), None)
        if tied in targets:
            raise ValueError(
                f"targets of the LoRA recipe names {tied}, whose weight {type(model).__name__} shares with the "
                "embedding, so that merging one would change the other; leave it out."
            )


def _peft_config(model: Any, lora: LoraRecipe) -> LoraConfig:
    from peft import LoraConfig, TaskType

    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        # GPT-2's layers keep their weights transposed; PEFT warns where this does not say so.
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in model.modules()),
    )


def _is_linear(module: Any) -> bool:
    import torch

    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
