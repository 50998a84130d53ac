"""The command ``plan`` with ``--gpus``: memory, time and cost of each way to train a model on a cluster."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from agentflan_ray.train.hardware import Cluster
    from agentflan_ray.train.memory import Memory, Option
    from agentflan_ray.train.recipe import TrainRecipe

USES = """Two uses:
  agentflan plan CORPUS --weights ... --budget ...   which rows of a corpus a mixture would read
  agentflan plan --model ... --gpus N --gpu NAME     what a training takes on a cluster, and how best to run it"""

_UNITS = {"": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12} | {
    f"{prefix}iB": 1024.0**power for power, prefix in enumerate("KMGT", start=1)
}


def add_gpu_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of the second use; its ``--model`` and ``--block-length`` are declared with those of the first."""
    group = parser.add_argument_group("what a training takes on a cluster")
    group.add_argument("--gpus", type=int, help="how many GPUs train, one worker on each")
    group.add_argument("--gpu", help="which: such as h100-80g (a wrong name lists them)")
    group.add_argument("--gpus-per-node", type=int, default=8, help="GPUs in one machine (default: 8)")
    group.add_argument("--host-memory", default="1TiB", help="memory of one machine (default: 1TiB)")
    group.add_argument("--recipe", help="a named training recipe (default: the one for the model)")
    group.add_argument("--micro-batch-size", type=int, default=1, help="blocks of one GPU in one pass (default: 1)")
    group.add_argument("--sample-length", type=int, help="mean tokens of a packed sample (default: a whole block)")
    amount = group.add_mutually_exclusive_group()
    amount.add_argument("--tokens", type=float, help="tokens to train on, such as 20e6, padding included")
    amount.add_argument("--blocks", type=int, help="the same in blocks")
    group.add_argument("--price-per-gpu-hour", type=float, help="gives the cost; no prices are built in")


def run(arguments: argparse.Namespace) -> None:
    """Print the options, the recommended one in detail, and its DeepSpeed configuration.

    Raises ``ValueError`` for flags that say nothing or something impossible, and where nothing fits.
    """
    from agentflan_ray.train.memory import options, recommend, refusal, smallest_cluster, weights_of
    from agentflan_ray.train.shapes import attended_keys, shape_of
    from agentflan_ray.train.zero import deepspeed_config

    if arguments.corpus is not None:
        raise ValueError(f"{arguments.corpus!r} and --gpus are two uses of `agentflan plan`; give one of them.")
    cluster = _cluster(arguments)
    recipe = _recipe(arguments)
    shape = shape_of(recipe.model)
    length = recipe.block_length if arguments.sample_length is None else arguments.sample_length
    if not 1 <= length <= recipe.block_length:
        raise ValueError(f"--sample-length is {length}, but a sample has 1 to {recipe.block_length} tokens (a block).")
    if recipe.block_length > shape.max_positions:
        raise ValueError(
            f"--block-length is {recipe.block_length}, but {recipe.model} has {shape.max_positions} positions."
        )
    tokens = _tokens(arguments, recipe)
    asked = {"micro_batch_size": arguments.micro_batch_size, "attended": attended_keys([length])}
    found = options(shape, recipe, cluster, **asked)
    console = Console()
    console.print(
        f"{recipe.model}: {shape.parameters:,} parameters; {cluster.num_gpus} x {cluster.gpu.name} "
        f"({_gib(cluster.gpu.memory)} GiB, {cluster.workers_per_node} in a node of {_gib(cluster.host_memory)} GiB); "
        f"{recipe.precision}, {recipe.blocks_per_step} blocks of {recipe.block_length} tokens a step, "
        f"{found[0].placement.accumulation(recipe)} passes of {arguments.micro_batch_size}; "
        f"{length} tokens a sample",
        soft_wrap=True,
        highlight=False,
    )
    best = recommend(found, recipe.lora)
    console.print(_table(found, best, tokens, arguments.price_per_gpu_hour))
    if best is None:
        raise ValueError(refusal(found, recipe.lora, smallest_cluster(shape, recipe, cluster, **asked)))
    _explain(best, tokens, arguments.price_per_gpu_hour, console)
    settings = deepspeed_config(best.recipe, best.placement, weights_of(shape, best.recipe).sizes)
    console.print("DeepSpeed:", json.dumps(settings, indent=2), markup=False, highlight=False, soft_wrap=True)


def _recipe(arguments: argparse.Namespace) -> TrainRecipe:
    from agentflan_ray.train.recipe import RECIPES, recipe_named
    from agentflan_ray.train.shapes import BUILT_IN

    if arguments.recipe is None:
        recipes = {name: make() for name, make in RECIPES.items()}
        if arguments.model is None:
            raise ValueError("Say what is trained: --model llama2-7b, or --recipe with one of " + ", ".join(recipes))
        shape = BUILT_IN.get(arguments.model)
        of_shape = (name for name, each in recipes.items() if shape and BUILT_IN.get(each.model) == shape)
        recipe = recipes[next(of_shape, "agent-flan-7b")]
    else:
        recipe = recipe_named(arguments.recipe)
    changes = {"model": arguments.model, "block_length": arguments.block_length}
    return replace(recipe, **{name: value for name, value in changes.items() if value is not None})


def _cluster(arguments: argparse.Namespace) -> Cluster:
    from agentflan_ray.train.hardware import GPUS, Cluster

    if arguments.gpus is None or arguments.gpu is None:
        raise ValueError("Give both --gpus and --gpu, such as --gpus 8 --gpu h100-80g.")
    if arguments.gpu not in GPUS:
        raise ValueError(f"There is no GPU {arguments.gpu!r}; choose {', '.join(GPUS)}.")
    return Cluster(
        gpu=GPUS[arguments.gpu],
        num_gpus=arguments.gpus,
        gpus_per_node=arguments.gpus_per_node,
        host_memory=_bytes(arguments.host_memory),
    )


def _bytes(text: str) -> int:
    """``512GiB``, ``2TB`` or a number of bytes."""
    parts = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*", text)
    if parts is None or parts[2] not in _UNITS or parts[1].count(".") > 1 or not parts[1].strip("."):
        raise ValueError(f"--host-memory {text!r} is not of the form 512GiB; the units are {', '.join(_UNITS)[2:]}.")
    return int(float(parts[1]) * _UNITS[parts[2]])


def _tokens(arguments: argparse.Namespace, recipe: TrainRecipe) -> float | None:
    if arguments.blocks is not None:
        return float(arguments.blocks * recipe.block_length)
    tokens: float | None = arguments.tokens
    return tokens


def _gib(size: float) -> str:
    return f"{size / 2**30:,.1f}"


def _hours(option: Option, tokens: float) -> float:
    return tokens / option.time.tokens_per_second / 3600


def _method(recipe: TrainRecipe) -> str:
    if recipe.lora is None:
        return "all weights"
    kind = "QLoRA" if recipe.lora.quantise == "4bit" else "LoRA"
    return f"{kind}, rank {recipe.lora.rank}"


def _table(found: list[Option], best: Option | None, tokens: float | None, price: float | None) -> Table:
    from agentflan_ray.train.memory import mode_name

    table = Table(box=None)
    for column in ("trained", "how", "activations"):
        table.add_column(column)
    for column in ("GiB/GPU", "GiB/host", "fits", "tokens/s", "MFU"):
        table.add_column(column, justify="right")
    if tokens is not None:
        table.add_column("hours", justify="right")
    if price is not None:
        table.add_column("cost" if tokens is not None else "cost/1e9 tokens", justify="right")
    for option in found:
        cells = [
            _method(option.recipe),
            mode_name(option),
            "recomputed" if option.recipe.activation_checkpointing else "kept",
            _gib(option.memory.worker),
            _gib(option.host_bytes),
            "yes" if option.fits else "no: GPU" if not option.fits_gpu else "no: host",
        ]
        if option.fits:
            cells += [f"{option.time.tokens_per_second:,.0f}", f"{option.time.utilisation:.0%}"]
            if tokens is not None:
                cells.append(f"{_hours(option, tokens):,.2f}")
            if price is not None:
                hours = _hours(option, 1e9 if tokens is None else tokens)
                cells.append(f"{hours * option.cluster.num_gpus * price:,.2f}")
        table.add_row(*cells, style="bold green" if option is best else None if option.fits else "dim")
    return table


def _explain(best: Option, tokens: float | None, price: float | None, console: Console) -> None:
    from agentflan_ray.train.memory import mode_name

    time, memory = best.time, best.memory
    recomputed = "activations recomputed" if best.recipe.activation_checkpointing else "activations kept"
    amount = ""
    if tokens is not None:
        hours = _hours(best, tokens)
        steps = best.recipe.num_steps(-int(-tokens // best.recipe.block_length))
        amount = f"; {steps:,} steps, {hours:,.2f} hours, {hours * best.cluster.num_gpus:,.1f} GPU-hours"
        if price is not None:
            amount += f", cost {hours * best.cluster.num_gpus * price:,.2f}"
    lines = [
        f"Recommended, as the quickest that fits: {mode_name(best)}, {recomputed}{amount}.",
        f"A step takes {time.total:.1f} s: computing {time.computing:.1f}, communicating {time.communicating:.1f}, "
        f"host {time.offloading:.1f}. Times rest on priors (docs/planning.md); memory is counted.",
        f"GPU, when {memory.moment}: {_parts(memory)}.",
    ]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def _parts(memory: Memory) -> str:
    largest = sorted(memory.parts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {_gib(size)}" for name, size in largest if size >= 2**30 / 20) + " GiB"
