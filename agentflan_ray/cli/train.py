"""The command ``train``: a corpus and a mixture to a model, on this machine or a cluster."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console

from agentflan_ray import storage
from agentflan_ray.cli.flags import check_writable
from agentflan_ray.cli.mixture import add_mixture_flags, planner

if TYPE_CHECKING:
    from agentflan_ray.corpus.store import Corpus
    from agentflan_ray.mixture import Index, Plan
    from agentflan_ray.tokens.tokenise import TokenStore
    from agentflan_ray.train.recipe import TrainRecipe
    from agentflan_ray.train.zero import Trained


def add_command(commands: Any) -> None:
    """Add the command to the parser's subparsers."""
    train = commands.add_parser("train", help="fine-tune a model on a mixture of a corpus, with DeepSpeed on Ray Train")
    add_train_flags(train)
    train.set_defaults(run_command=run)


def add_train_flags(parser: argparse.ArgumentParser) -> None:
    """Everything that a training can be told."""
    parser.add_argument("corpus", help="a corpus@... folder")
    parser.add_argument("--out", required=True, help="folder or URI of this training; the same one goes on with it")
    parser.add_argument("--recipe", default="laptop", help="a named training recipe (default: laptop)")
    parser.add_argument("--model", help="another model than the recipe's: a name, a folder or a hub id")
    parser.add_argument("--template", help="a named chat template, for models that have none of their own")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another value for a field of the recipe, such as learning_rate=1e-4 or zero_stage=2 (repeatable)",
    )
    add_mixture_flags(parser)
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument("--min-workers", type=int, help="go on with as few as these where workers are lost")
    parser.add_argument("--cpus-per-worker", type=float, help="default: as many as there are for each")
    parser.add_argument("--gpus-per-worker", type=int, choices=(0, 1), help="default: 1 where the cluster has GPUs")
    parser.add_argument("--micro-batch-size", type=int, default=1, help="blocks of one worker in one forward pass")
    parser.add_argument("--track", metavar="TRACKER", help="mlflow[=URI] or wandb[=PROJECT], besides TensorBoard")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and DeepSpeed's settings, train nothing")


def run(arguments: argparse.Namespace) -> None:
    """Train, or say what would be trained."""
    from agentflan_ray import cluster
    from agentflan_ray.corpus.store import open_corpus
    from agentflan_ray.finetune import Job, Order, finetune
    from agentflan_ray.train.tracking import Tracking

    console = Console()
    recipe = recipe_of(arguments)
    make_plan = planner(arguments)
    tracking = None if arguments.track is None else Tracking.parse(arguments.track)
    corpus = open_corpus(arguments.corpus)
    out = storage.absolute(arguments.out)
    if arguments.dry_run:
        _dry_run(arguments, recipe, make_plan, corpus, console)
        return
    check_writable(out, "--out")
    cluster.connect()
    placement = dataclasses.replace(
        cluster.placement(arguments.num_workers, arguments.cpus_per_worker, arguments.gpus_per_worker, alone=True),
        micro_batch_size=arguments.micro_batch_size,
        min_workers=arguments.min_workers,
    )
    placement.accumulation(recipe)
    order = Order(recipe=recipe, tokens=_tokens(corpus, recipe, console), make_plan=make_plan)
    finetune(order, Job(out=out, placement=placement, tracking=tracking, console=console))


def recipe_of(arguments: argparse.Namespace) -> TrainRecipe:
    """The named recipe with what the flags say otherwise.

    Raises ``ValueError`` for a name, a field or a value that there is not.
    """
    from agentflan_ray.train.recipe import recipe_named

    recipe = recipe_named(arguments.recipe)
    changes: dict[str, Any] = {name: getattr(arguments, name) for name in ("model", "template")}
    changes = {name: value for name, value in changes.items() if value is not None}
    for text in arguments.set:
        name, equals, value = text.partition("=")
        if not equals or name not in _SETTABLE:
            raise ValueError(f"--set {text} is not FIELD=VALUE with one of the fields {', '.join(sorted(_SETTABLE))}.")
        changes[name] = _literal(name, value)
    return dataclasses.replace(recipe, **changes)


_SETTABLE: dict[str, str] = {
    **dict.fromkeys(("learning_rate", "warmup_fraction", "warmup_start_ratio", "minimum_ratio"), "a number"),
    **dict.fromkeys(("weight_decay", "clip_norm"), "a number"),
    **dict.fromkeys(("block_length", "blocks_per_step", "seed", "zero_stage"), "a whole number"),
    **dict.fromkeys(("validate_every", "checkpoint_every"), "a whole number"),
    **dict.fromkeys(("precision", "matmul", "offload"), "a word"),
    "activation_checkpointing": "true or false",
}
"""Fields of a recipe that ``--set`` changes, and what their values are. A LoRA is a recipe of its own."""


_READERS: dict[str, Callable[[str], Any]] = {
    "a number": float,
    "a whole number": int,
    "a word": str,
    "true or false": {"true": True, "false": False}.__getitem__,
}


def _literal(name: str, value: str) -> Any:
    kind = _SETTABLE[name]
    try:
        return _READERS[kind](value)
    except (ValueError, KeyError):
        raise ValueError(f"--set {name}={value} gives {value!r}, but {name} is {kind}.") from None


def _tokens(corpus: Corpus, recipe: TrainRecipe, console: Console) -> TokenStore:
    from agentflan_ray import cluster
    from agentflan_ray.tokens.tokenise import find_tokens, tokenise
    from agentflan_ray.train.models import resolve

    place = (resolve(recipe.model), recipe.block_length, recipe.template)
    found = find_tokens(corpus, *place)
    if found is None:
        check_writable(corpus.store_uri, "the store")
        cluster.connect()
        found = tokenise(corpus, *place, console=console)
    return found


def _trained(recipe: TrainRecipe) -> Trained | None:
    """What is trained, where the model's family is one whose parameters are counted without making it; else the
    settings are printed without the size of the gradients' buckets, which follows from it."""
    from agentflan_ray.train.memory import weights_of
    from agentflan_ray.train.shapes import shape_of

    try:
        return weights_of(shape_of(recipe.model), recipe).sizes
    except ValueError:
        return None


def _dry_run(
    arguments: argparse.Namespace,
    recipe: TrainRecipe,
    make_plan: Callable[[Index], Plan],
    corpus: Corpus,
    console: Console,
) -> None:
    from agentflan_ray.tokens.pack import pack
    from agentflan_ray.tokens.tokenise import to_index
    from agentflan_ray.train.recipe import Placement
    from agentflan_ray.train.zero import deepspeed_config
    from agentflan_ray.view.tables import plan_table

    gpu = bool(arguments.gpus_per_worker) or recipe.precision == "bf16"
    placement = Placement(num_workers=arguments.num_workers, use_gpu=gpu, micro_batch_size=arguments.micro_batch_size)
    settings = deepspeed_config(recipe, placement, _trained(recipe))
    index = to_index(_tokens(corpus, recipe, console).index_table(validation=False))
    plan = make_plan(index)
    console.print(plan_table(plan))
    num_blocks = int(pack(index.num_tokens[plan.rows], recipe.block_length, recipe.seed).max()) + 1
    tokens = num_blocks * recipe.block_length
    console.print(
        f"{recipe.num_steps(num_blocks):,} steps of {recipe.blocks_per_step} blocks of {recipe.block_length} tokens: "
        f"{num_blocks:,} blocks, {plan.num_tokens / tokens:.1%} full; {placement.accumulation(recipe)} forward passes "
        f"of each of {placement.num_workers} workers in a step",
        soft_wrap=True,
    )
    console.print("Recipe:", json.dumps(recipe.to_json(), indent=2), markup=False, highlight=False, soft_wrap=True)
    console.print("DeepSpeed:", json.dumps(settings, indent=2), markup=False, highlight=False, soft_wrap=True)
