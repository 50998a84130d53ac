"""A trained model as a Hugging Face directory, which transformers and vLLM load.

``vllm serve DIRECTORY`` and a greedy reply compared with that of ``model.generate`` would show the latter on a GPU.
"""

from __future__ import annotations

import copy
import functools
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
import torch.distributed
from huggingface_hub import split_torch_state_dict_into_shards

from agentflan_ray import storage
from agentflan_ray.train import models
from agentflan_ray.train.adapters import (
    adapted_layers,
    adapter_parameters,
    dequantised,
    merged_weight,
    write_adapter_config,
)
from agentflan_ray.train.partitioned import is_converted, returning_memory

if TYPE_CHECKING:
    from agentflan_ray.train.engine import Engine
    from agentflan_ray.train.recipe import TrainRecipe

SHARD_BYTES = 5_000_000_000
"""Size of a weight file: half of what Llama 2 is published in, as rank 0 holds one file's weights while it writes."""

ADAPTER_FOLDER = "adapter"
"""Where the adapter lies beside the weights that it was merged into."""

_PACKAGES = ("agentflan-ray", "torch", "transformers", "deepspeed", "peft")

_CARD = """---
library_name: transformers
pipeline_tag: text-generation
base_model: {base}
---

# {title}

{base} (content `{fingerprint}`), {method} with {packages}.

What it was trained on and how, as JSON:

```json
{details}
```
"""


def export(
    engine: Engine, tokenizer: Any, directory: Path, card: Mapping[str, Any], *, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write weights as safetensors, tokenizer, chat template, generation configuration and a README with ``card``.

    All ranks call it; rank 0 writes, and returns with the others. Adapters are merged into the weights, and lie once
    more under ``adapter/`` in PEFT's format. At every ZeRO stage rank 0 gathers one file of weights at a time, of at
    most ``shard_bytes`` or one weight; only of architectures that transformers converts
    (:func:`partitioned.is_converted`) it gathers all. The directory appears whole or not at all; ``ValueError`` where
    it exists already. ``card`` holds JSON values: fingerprints of the data, the recipe, metrics.
    """
    writes = engine.rank == 0
    if writes and directory.exists():
        raise ValueError(f"{directory} exists already; give a new directory for the exported model.")
    partial = directory.with_name(directory.name + ".partial")
    if writes:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    with returning_memory():
        _write_weights(engine, partial, shard_bytes)
    if engine.recipe.lora is not None:
        _write_adapter(engine, partial / ADAPTER_FOLDER)
    if writes:
        _write_configurations(engine.model, partial)
        tokenizer.save_pretrained(partial)
        (partial / "README.md").write_text(_readme(engine.recipe, directory.name, card), encoding="utf-8")
        partial.rename(directory)
    torch.distributed.barrier()


@dataclass(frozen=True, slots=True)
class _Weight:
    """One weight of the exported model and the parameters that it is made of, which have to be whole for ``make``.

    ``outline`` has its shape and type, and no values.
    """

    name: str
    outline: torch.Tensor
    parameters: Sequence[torch.nn.Parameter]
    make: Callable[[], torch.Tensor]


def _weights(model: Any) -> Iterator[_Weight]:
    """The weights under the names that the base model has for them; tied ones once, adapters merged."""
    layers = {layer.get_base_layer(): layer for _, layer in adapted_layers(model)}
    seen = {parameter for _, parameter in adapter_parameters(model)}
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in seen:
                continue
            seen.add(parameter)
            layer = layers.get(module) if name == "weight" else None
            yield _Weight(
                name=f"{module_name}.{name}".replace(".base_layer.", "."),
                outline=_outline(parameter),
                parameters=[parameter] if layer is None else list(layer.parameters()),
                make=functools.partial(_value, module, name)
                if layer is None
                else functools.partial(merged_weight, layer),
            )


def _value(module: torch.nn.Module, name: str) -> torch.Tensor:
    parameter: torch.Tensor = getattr(module, name)
    return dequantised(module) if hasattr(parameter, "quant_state") else parameter


def _outline(parameter: Any) -> torch.Tensor:
    if hasattr(parameter, "quant_state"):  # of 4 bits: packed bytes
        shape, dtype = parameter.quant_state.shape, parameter.quant_state.dtype
    else:  # under ZeRO-3 a parameter's own shape is that of nothing
        shape, dtype = getattr(parameter, "ds_shape", parameter.shape), parameter.dtype
    return torch.empty(shape, dtype=dtype, device="meta")


def _write_weights(engine: Engine, folder: Path, shard_bytes: int) -> None:
    weights = {weight.name: weight for weight in _weights(engine.model)}
    if is_converted(engine.model):
        whole = _gather(engine, weights.values())
        if engine.rank == 0:
            engine.model.save_pretrained(folder, state_dict=whole, max_shard_size=shard_bytes)
        return
    outlines = {name: weight.outline for name, weight in weights.items()}
    split = split_torch_state_dict_into_shards(outlines, max_shard_size=shard_bytes)
    for file, names in split.filename_to_tensors.items():
        shard = _gather(engine, [weights[name] for name in names])
        if engine.rank == 0:
            safetensors.torch.save_file(shard, folder / file, metadata={"format": "pt"})
    if engine.rank == 0 and split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        storage.write_json(folder / "model.safetensors.index.json", index)


def _gather(engine: Engine, weights: Iterable[_Weight]) -> dict[str, torch.Tensor]:
    """These weights on the CPU of rank 0; nothing on the other ranks, which call it too."""
    import deepspeed

    gathered = {}
    for weight in weights:
        with deepspeed.zero.GatheredParameters(weight.parameters):  # below stage 3 they are whole already
            if engine.rank == 0:
                gathered[weight.name] = weight.make().detach().to("cpu", copy=True).contiguous()
    return gathered


def _write_adapter(engine: Engine, folder: Path) -> None:
    """The adapter alone, as ``PeftModel.from_pretrained`` reads it onto the base model."""
    lora = engine.recipe.lora
    assert lora is not None
    parameters = [
        _Weight(f"base_model.model.{name}", parameter, [parameter], parameter.detach)
        for name, parameter in adapter_parameters(engine.model)
    ]
    weights = _gather(engine, parameters)
    if engine.rank == 0:
        base = engine.recipe.model
        write_adapter_config(engine.model, lora, models.HUB_NAMES.get(base, base), str(folder))
        safetensors.torch.save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _write_configurations(model: Any, folder: Path) -> None:
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.dtype = str(model.dtype).removeprefix("torch.")
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # the merged weights are whole numbers of bfloat16 again
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)


def _readme(recipe: TrainRecipe, title: str, card: Mapping[str, Any]) -> str:
    method = "all weights fine-tuned"
    if recipe.lora is not None:
        method = (
            f"fine-tuned with LoRA of rank {recipe.lora.rank}, which is merged into these weights and lies in "
            f"`{ADAPTER_FOLDER}/` by itself,"
        )
    packages = _PACKAGES if recipe.lora is not None else _PACKAGES[:-1]
    return _CARD.format(
        base=models.HUB_NAMES.get(recipe.model, recipe.model),
        title=title,
        fingerprint=models.fingerprint(recipe.model),
        method=method,
        packages=", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages),
        details=json.dumps(card, ensure_ascii=False, indent=2),
    )
