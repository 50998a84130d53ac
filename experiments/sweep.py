"""Search for the mixture that makes the best agent, and prove it.

Hypothesis: a mix weighted towards reasoning with a share of negatives beats the base model on held-out tools without
calling tools where none is needed. Metric: the two-sided score of held-out items. Stop: after --num-trials trials.

    python experiments/sweep.py                                    # a laptop: embedded corpus, small real model
    ray job submit --working-dir . -- python experiments/sweep.py --storage s3://bucket/agentflan --model llama2-7b
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace

from agentflan_ray import cluster, storage
from agentflan_ray.cli import add_source_flags, exit_on_user_error, sources_of
from agentflan_ray.corpus.build import ToolboxDraw
from agentflan_ray.search.searcher import SAMPLERS
from agentflan_ray.sources.files import SourceSpec
from agentflan_ray.sweep import Job, SweepRecipe, cluster_sweep, laptop_sweep, rehearsal_sweep, sweep
from agentflan_ray.train.models import SMOLLM2, TINY_LLAMA
from agentflan_ray.train.tracking import Tracking


def parse() -> argparse.Namespace:
    """The flags. What is not given is the recipe's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="laptop", help="name of the run; the same name goes on where it stopped")
    parser.add_argument("--storage", default=".", help="folder or s3:// URI that all nodes reach (default: here)")
    parser.add_argument("--model", default=SMOLLM2, help="smollm2-135m-instruct, llama2-7b ..., a folder or a hub id")
    parser.add_argument("--template", help="chat template for a base model: chatml, llama2, llama3, mistral, agentflan")
    add_source_flags(parser)
    parser.add_argument("--num-trials", type=int, help="trials of the search; raise it to go on with a finished one")
    parser.add_argument("--budget", type=int, help="tokens that a trial trains on at fraction 1")
    parser.add_argument("--sampler", choices=SAMPLERS)
    parser.add_argument(
        "--objective",
        metavar="GOAL",
        action="append",
        default=[],
        help="NAME:max, NAME:min, or a weighted sum NAME=WEIGHT,NAME=WEIGHT; repeat it for a Pareto set",
    )
    parser.add_argument(
        "--constraint",
        metavar="BOUND",
        action="append",
        default=[],
        help="what the best mix must keep, such as 'missed_call_rate<=0.4' or 'sensible_rate>=base-0.05'",
    )
    parser.add_argument(
        "--prove",
        action=argparse.BooleanOptionalAction,
        help="train the named mixes over several seeds too, and compare (default: on a cluster)",
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument("--study", help="SQLAlchemy URL of the Optuna study (default: study.db in the run's folder)")
    parser.add_argument(
        "--changed",
        choices=("refuse", "down-weight"),
        default="refuse",
        help="trials of the study that learnt from parts of the corpus which changed since (default: refuse)",
    )
    parser.add_argument("--track", metavar="TRACKER", help="mlflow[=URI] or wandb[=PROJECT], besides TensorBoard")
    parser.add_argument("--num-workers", type=int, default=1, help="training workers of one trial")
    parser.add_argument("--cpus-per-worker", type=float, help="default: one, less the trial driver's hundredth")
    parser.add_argument("--gpus-per-worker", type=int, choices=(0, 1), help="default: 1 where the cluster has GPUs")
    return parser.parse_args()


def recipe_of(args: argparse.Namespace) -> SweepRecipe:
    """The laptop's or a cluster's recipe with what the flags say otherwise."""
    small = {SMOLLM2: laptop_sweep, TINY_LLAMA: rehearsal_sweep}
    recipe = small[args.model]() if args.model in small else cluster_sweep(args.model)
    given = {name: getattr(args, name) for name in ("num_trials", "budget", "sampler", "seed", "prove")}
    recipe = replace(recipe, **{name: value for name, value in given.items() if value is not None})
    recipe = recipe.aiming_at(args.objective, args.constraint)
    return replace(recipe, train=replace(recipe.train, template=args.template))


def sources_or_embedded(args: argparse.Namespace) -> list[SourceSpec | ToolboxDraw]:
    """The sources named, or a draw from the embedded world."""
    return sources_of(args) or [ToolboxDraw.of_size(2400)]


def job_of(args: argparse.Namespace) -> Job:
    """Join the cluster and find the trials' place in it."""
    tracking = None if args.track is None else Tracking.parse(args.track)
    cluster.connect()
    placement = cluster.placement(args.num_workers, args.cpus_per_worker, args.gpus_per_worker)
    command = shlex.join(["python", *sys.argv])
    place = storage.absolute(args.storage)
    return Job(args.name, place, command, placement, args.study, tracking, changed=args.changed)


def main() -> None:
    """Run the sweep, or what is left of it."""
    args = parse()
    with exit_on_user_error():
        recipe = recipe_of(args)  # before a cluster is started for nothing
        sweep(recipe, sources_or_embedded(args), job_of(args))


if __name__ == "__main__":
    main()
