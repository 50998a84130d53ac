"""Trainings that ``benchmarks/gpu.py`` times, each in a process of its own: ours, TRL's, and what the machine can do.

Every function returns one row of values. Times are of whole steps, from one synchronised clock to the next, the first
steps left out, and medians. Tokens are those of samples, padding not counted. ``mfu`` counts the head where a token is
learnt (:meth:`agentflan_ray.train.shapes.ModelShape.flops_per_token`), ``mfu_whole_head`` at every token, as is more
usual; neither counts what activation checkpointing computes again, nor keys that a mask hides.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samples import PackedBlocks, Samples

Values = dict[str, Any]

GIB = 2**30
WARM_UP = 2
"""Steps that are not counted: kernels are chosen, memory is taken, DeepSpeed learns the order of the layers."""

LEARNING_RATE = 1e-5


def device_of(use_gpu: bool) -> Any:
    import torch

    return torch.device("cuda", 0) if use_gpu else torch.device("cpu")


def clock(use_gpu: bool) -> float:
    """Seconds, when all that was begun is done."""
    import torch

    if use_gpu:
        torch.cuda.synchronize()
    return time.perf_counter()


class Peaks:
    """The most memory that a process takes on its GPU: DeepSpeed resets PyTorch's own count while it starts."""

    def __init__(self) -> None:
        import torch

        self._reset = torch.cuda.reset_peak_memory_stats
        self.allocated = self.reserved = 0
        torch.cuda.reset_peak_memory_stats = self._before_reset

    def _before_reset(self, *arguments: Any) -> None:
        self.look()
        self._reset(*arguments)

    def look(self) -> None:
        import torch

        self.allocated = max(self.allocated, torch.cuda.max_memory_allocated())
        self.reserved = max(self.reserved, torch.cuda.max_memory_reserved())

    def forget(self) -> None:
        """Count from here on, with nothing kept of what is free."""
        import torch

        torch.cuda.empty_cache()
        self._reset()
        self.allocated = self.reserved = 0

    def values(self) -> Values:
        import torch

        self.look()
        free, total = torch.cuda.mem_get_info()
        return {
            "allocated_gib": self.allocated / GIB,
            "reserved_gib": self.reserved / GIB,
            "device_gib": (total - free) / GIB,
        }


def machine(*, use_gpu: bool) -> list[Values]:
    """What the machine is, and the two ceilings that every time lies above: products and copies."""
    import torch

    names = ("torch", "transformers", "deepspeed", "peft", "trl", "bitsandbytes", "vllm")
    versions = {name: importlib.metadata.version(name) for name in names if importlib.util.find_spec(name)}
    row: Values = {"python": platform.python_version(), **versions}
    device = device_of(use_gpu)
    size, dtype = (8192, torch.bfloat16) if use_gpu else (512, torch.float32)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = _median_seconds(lambda: left @ right, use_gpu)
    row["matmul_tflops"] = 2 * size**3 / seconds / 1e12
    source = torch.randn((2**30 if use_gpu else 2**20), device=device)
    target = torch.empty_like(source)
    row["copy_tb_per_second"] = 2 * source.nbytes / _median_seconds(lambda: target.copy_(source), use_gpu) / 1e12
    if use_gpu:
        row["device"] = torch.cuda.get_device_name()
        row["memory_bytes"] = torch.cuda.get_device_properties(0).total_memory
        row["cuda"] = torch.version.cuda
    else:
        row["device"] = platform.machine()
    return [row]


def _median_seconds(do: Any, use_gpu: bool) -> float:
    seconds = []
    for _ in range(12):
        began = clock(use_gpu)
        do()
        seconds.append(clock(use_gpu) - began)
    return statistics.median(seconds[2:])


def recipe_of(
    *,
    model: str,
    block_length: int,
    blocks_per_step: int,
    precision: str,
    zero_stage: int,
    activation_checkpointing: bool = False,
    lora: str | None = None,
) -> Any:
    """The recipe of a timed training; ``lora`` is "none" (bf16 weights) or "4bit"."""
    from agentflan_ray.train.adapters import LoraRecipe
    from agentflan_ray.train.recipe import TrainRecipe

    return TrainRecipe(
        model=model,
        block_length=block_length,
        blocks_per_step=blocks_per_step,
        learning_rate=LEARNING_RATE,
        warmup_fraction=0.0,
        minimum_ratio=1.0,
        precision=precision,  # type: ignore[arg-type]
        zero_stage=zero_stage,  # type: ignore[arg-type]
        activation_checkpointing=activation_checkpointing,
        lora=LoraRecipe(rank=64, alpha=16, quantise=lora) if lora else None,  # type: ignore[arg-type]
    )


@dataclass(frozen=True)
class _Step:
    seconds: float
    tokens: int
    supervised: int


def ours(
    *,
    samples: str,
    use_gpu: bool,
    num_steps: int,
    micro_batch_size: int,
    metering: bool = False,
    written_first: bool = False,
    **settings: Any,
) -> list[Values]:
    """``train.loop.train`` on packed blocks, beside what the planner says of it.

    ``metering`` also times the sums of losses by group. ``written_first`` writes a model of random weights to a folder
    and trains from there: weights are quantised while they are loaded.
    """
    from agentflan_ray.train.loop import train
    from agentflan_ray.train.recipe import Placement
    from agentflan_ray.train.shapes import attended_keys, shape_of

    learnt = Samples.read(Path(samples))
    peaks = Peaks() if use_gpu else None
    with tempfile.TemporaryDirectory(prefix="agentflan-gpu-") as folder:
        row: Values = {"model": settings["model"]}
        if written_first:
            began = time.perf_counter()
            settings["model"] = _write_model(settings["model"], Path(folder, "model"), use_gpu)
            row["write_seconds"] = time.perf_counter() - began
            if peaks is not None:
                peaks.forget()
        recipe = recipe_of(**settings)
        placement = Placement(use_gpu=use_gpu, micro_batch_size=micro_batch_size, cpus_per_worker=2)
        shape = shape_of(recipe.model)
        num_blocks = num_steps * recipe.blocks_per_step
        blocks = PackedBlocks(learnt, recipe.block_length, num_blocks=num_blocks, vocabulary=shape.vocabulary)
        watch = _Metering(use_gpu) if metering else None
        ends: list[float] = []
        metrics: list[Values] = []

        def report(each: Values, _folder: Path | None) -> None:
            ends.append(clock(use_gpu))
            metrics.append(each)

        train(recipe, placement, blocks, report=report, scratch=Path(folder, "scratch"))
        started = {name: value for name, value in metrics[0].items() if name.startswith("startup_seconds/")}
        row["first_step_seconds"] = started.pop("startup_seconds/first step")
        row["startup_seconds"] = sum(started.values())
    so_far = [each["supervised_tokens"] for each in metrics]
    steps = [
        _Step(
            seconds=ends[number] - ends[number - 1],
            tokens=blocks.count(number * recipe.blocks_per_step, (number + 1) * recipe.blocks_per_step),
            supervised=so_far[number] - so_far[number - 1],
        )
        for number in range(WARM_UP, num_steps)
    ]
    row |= {
        "parameters": shape.parameters,
        **_settings(recipe, micro_batch_size),
        **_rates(
            shape,
            learnt,
            tokens_per_second=statistics.median(step.tokens / step.seconds for step in steps),
            supervised_per_second=statistics.median(step.supervised / step.seconds for step in steps),
            step_seconds=statistics.median(step.seconds for step in steps),
            frozen=recipe.lora is not None,
            use_gpu=use_gpu,
        ),
        "first_loss": metrics[0]["loss"],
        "last_loss": metrics[-1]["loss"],
    }
    if watch is not None:
        row["metering_overhead"] = watch.seconds(WARM_UP * placement.accumulation(recipe))
        row["metering_overhead"] /= sum(step.seconds for step in steps)
    attended = attended_keys(learnt.lengths.tolist())
    row |= _predicted(shape, recipe, placement, attended)
    if (whole := _whole(recipe.model)) is not None:
        row["whole_layers"] = whole.layers
        row |= {f"whole_{name}": value for name, value in _predicted(whole, recipe, placement, attended).items()}
    if peaks is not None:
        row |= peaks.values()
    return [row]


def _settings(recipe: Any, micro_batch_size: int) -> Values:
    lora = "" if recipe.lora is None else "QLoRA" if recipe.lora.quantise == "4bit" else "LoRA"
    return {
        "trains": lora or "all weights",
        "zero_stage": recipe.zero_stage,
        "recomputed": recipe.activation_checkpointing,
        "blocks_at_once": micro_batch_size,
        "blocks_per_step": recipe.blocks_per_step,
    }


def _rates(
    shape: Any,
    samples: Samples,
    *,
    tokens_per_second: float,
    supervised_per_second: float,
    step_seconds: float,
    frozen: bool,
    use_gpu: bool,
) -> Values:
    import torch

    from agentflan_ray.train.hardware import gpu_of_device
    from agentflan_ray.train.shapes import attended_keys

    attended = attended_keys(samples.lengths.tolist())
    gpu = gpu_of_device(torch.cuda.get_device_name()) if use_gpu else None
    values: Values = {
        "tokens_per_second": tokens_per_second,
        "supervised_per_second": supervised_per_second,
        "step_seconds": step_seconds,
    }
    for name, share in (("mfu", supervised_per_second / tokens_per_second), ("mfu_whole_head", 1.0)):
        per_second = tokens_per_second * shape.flops_per_token(attended, supervised=share, frozen=frozen)
        values[name.replace("mfu", "tflops")] = per_second / 1e12
        values[name] = per_second / gpu.peak_flops if gpu else None
    return values


def _predicted(shape: Any, recipe: Any, placement: Any, attended: float) -> Values:
    """The planner's memory and, on a GPU that it knows, seconds of a step."""
    import torch

    from agentflan_ray.train.hardware import Cluster, gpu_of_device, step_time
    from agentflan_ray.train.memory import predict, weights_of

    memory = predict(shape, recipe, placement)
    values: Values = {
        "predicted_allocated_gib": memory.allocated / GIB,
        "predicted_device_gib": memory.worker / GIB,
        "predicted_moment": memory.moment,
    }
    gpu = gpu_of_device(torch.cuda.get_device_name()) if placement.use_gpu else None
    if gpu is not None:
        cluster = Cluster(gpu=gpu, num_gpus=1, gpus_per_node=1, host_memory=GIB)
        weights = weights_of(shape, recipe)
        time_of_step = step_time(
            shape,
            recipe,
            placement,
            cluster,
            attended=attended,
            trained=weights.trained,
            weight_bytes=weights.total_bytes,
        )
        values["predicted_step_seconds"] = time_of_step.total
    return values


def _whole(model: str) -> Any:
    """The shape that a name such as ``random-llama2-13b-8layers`` has some layers of."""
    from agentflan_ray.train.models import RANDOM
    from agentflan_ray.train.shapes import BUILT_IN

    shape, _, layers = model.removeprefix(RANDOM).rpartition("-")
    return BUILT_IN[shape] if layers.endswith("layers") else None


def _write_model(name: str, folder: Path, use_gpu: bool) -> str:
    import torch

    from agentflan_ray.train import models

    model = models.load_model(name, "bf16", device=device_of(use_gpu))
    model.save_pretrained(folder)
    models.load_tokenizer(name).save_pretrained(folder)
    del model
    if use_gpu:
        torch.cuda.empty_cache()
    return str(folder)


class _Metering:
    """Times the sums of losses by group: on a GPU with events, which make nothing wait."""

    _spans: list[Any]

    def __init__(self, use_gpu: bool) -> None:
        import torch

        from agentflan_ray.train import losses

        sums, self._use_gpu, self._spans = losses.group_sums, use_gpu, []

        def timed(*arguments: Any) -> Any:
            if not use_gpu:
                began = time.perf_counter()
                result = sums(*arguments)
                self._spans.append(time.perf_counter() - began)
                return result
            begins, ends = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begins.record()
            result = sums(*arguments)
            ends.record()
            self._spans.append((begins, ends))
            return result

        losses.group_sums = timed

    def seconds(self, left_out: int) -> float:
        """Of all calls but the first ones."""
        spans = self._spans[left_out:]
        if not self._use_gpu:
            return math.fsum(spans)
        return math.fsum(begins.elapsed_time(ends) for begins, ends in spans) / 1000


def trl(
    *,
    samples: str,
    use_gpu: bool,
    model: str,
    num_steps: int,
    block_length: int,
    blocks_per_step: int,
    blocks_at_once: int,
    packing: bool,
    activation_checkpointing: bool,
    weights: str = "fp32",
    varlen: bool = False,
) -> list[Values]:
    """SFTTrainer with its defaults on the same samples: as many to a step as lie in our blocks on average.

    ``weights`` "fp32" is the model in float32 under bfloat16 autocast, as precise as ours; "bf16" keeps weights and
    Adam's moments in bfloat16 alone. ``blocks_at_once`` is the share of a step in one forward pass: so many packed
    rows, or the samples of so many blocks, padded to the longest of them. Attention is transformers' ``sdpa``, with a
    mask where samples are packed; ``varlen`` gives TRL our kernel (:func:`peers.register_varlen`).
    """
    import torch
    import transformers
    from peers import plain_model, register_varlen, sft_trainer

    from agentflan_ray.train.shapes import shape_of

    learnt = Samples.read(Path(samples))
    peaks = Peaks() if use_gpu else None
    attention = register_varlen() if varlen else "sdpa"
    at_once = blocks_at_once if packing else round(len(learnt.lengths) * blocks_at_once / learnt.num_blocks)
    dtype = torch.bfloat16 if weights == "bf16" else torch.float32
    torch.manual_seed(0)
    made = plain_model(model, dtype, attention=attention, device=device_of(use_gpu))
    begins: list[float] = []
    ends: list[float] = []
    losses: list[float] = []

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_arguments: Any, **_rest: Any) -> None:
            begins.append(clock(use_gpu))

        def on_step_end(self, *_arguments: Any, **_rest: Any) -> None:
            ends.append(clock(use_gpu))

        def on_log(self, *_arguments: Any, logs: Values | None = None, **_rest: Any) -> None:
            losses.extend([logs["loss"]] if logs and "loss" in logs else [])

    with tempfile.TemporaryDirectory(prefix="agentflan-gpu-trl-") as folder:
        trainer = sft_trainer(
            made,
            model,
            learnt,
            folder,
            per_device_train_batch_size=at_once,
            gradient_accumulation_steps=blocks_per_step // blocks_at_once,
            max_length=block_length,
            packing=packing,
            max_steps=num_steps,
            learning_rate=LEARNING_RATE,
            bf16=use_gpu,
            gradient_checkpointing=activation_checkpointing,
            use_cpu=not use_gpu,
            logging_steps=num_steps,
        )
        trainer.add_callback(Watch())
        rows = len(trainer.train_dataset)
        trainer.train()
    seconds = statistics.median(end - begin for begin, end in list(zip(begins, ends, strict=True))[WARM_UP:])
    share = at_once * (blocks_per_step // blocks_at_once) / rows
    row: Values = {
        "model": model,
        "parameters": shape_of(model).parameters,
        "trains": f"all weights, {'float32 under autocast' if weights == 'fp32' and use_gpu else weights}",
        "recomputed": activation_checkpointing,
        "attention": "varlen" if varlen else "mask" if packing else "padding",
        "rows_at_once": at_once,
        "rows_per_step": at_once * (blocks_per_step // blocks_at_once),
        **_rates(
            shape_of(model),
            learnt,
            tokens_per_second=share * int(learnt.lengths.sum()) / seconds,
            supervised_per_second=share * int((learnt.tags >= 0).sum()) / seconds,
            step_seconds=seconds,
            frozen=False,
            use_gpu=use_gpu,
        ),
        "last_loss": losses[-1],
    }
    if peaks is not None:
        row |= peaks.values()
    return [row]
