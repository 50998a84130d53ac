"""What comes before a search: corpora, tokens and validation text, its identity, its goals checked and in numbers."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import ray

from agentflan_ray import storage
from agentflan_ray.corpus.build import Order, ToolboxDraw, build
from agentflan_ray.corpus.store import Corpus
from agentflan_ray.evaluate.items import Split
from agentflan_ray.evaluate.model import score_model
from agentflan_ray.search.searcher import Constraint
from agentflan_ray.search.trial import TrialSetup, write_evaluation
from agentflan_ray.sources.files import SourceSpec
from agentflan_ray.sweep.job import Job
from agentflan_ray.sweep.recipe import SweepRecipe
from agentflan_ray.tokens.blocks import write_validation_plan
from agentflan_ray.tokens.tokenise import TokenStore, tokenise
from agentflan_ray.tokens.tokenizer import load_tokenizer
from agentflan_ray.train import models
from agentflan_ray.versions import versions
from agentflan_ray.view.tables import omitted_table, records_table, tokens_table


def prepare(
    recipe: SweepRecipe, sources: Sequence[SourceSpec | ToolboxDraw], job: Job, say: Callable[[str], None]
) -> TrialSetup:
    """Corpora, tokens and validation text, made or found.

    Raises ``ValueError`` where the run was begun with other literals.
    """
    say("Building the corpora with Ray Data")
    order = Order(tuple(sources), recipe.corpus, recipe.cleaning)
    corpus = build(order, storage.join(job.storage, "store"), job.console)
    job.console.print(records_table(corpus))
    if corpus.manifest["omitted"]:
        job.console.print(omitted_table(corpus))
    model_path = models.resolve(recipe.train.model)
    say(f"Tokenising for {recipe.train.model}")
    tokens = tokenise(corpus, model_path, recipe.train.block_length, recipe.train.template, job.console)
    job.console.print(tokens_table(tokens))
    setup = TrialSetup(
        run_uri=job.run_uri,
        tokens=tokens,
        train=recipe.train,
        placement=job.placement,
        budget=recipe.budget,
        max_repeats=recipe.max_repeats,
        items=tuple(recipe.choose_items.items()),
        pad_token_id=load_tokenizer(model_path, recipe.train.template).pad_token_id,
        evaluation_batch=recipe.evaluation_batch,
        rungs=recipe.rungs,
        weights=recipe.weights,
    )
    _write_identity(recipe, job, corpus, tokens)
    write_validation_plan(tokens, recipe.validation_budget, recipe.train.block_length, setup.validation.plan_uri)
    return setup


def constraints_of(recipe: SweepRecipe, job: Job, say: Callable[[str], None]) -> list[Constraint]:
    """The recipe's constraints in numbers, said and kept in ``sweep.json``.

    Where one is relative to the base model, that is scored once on the items that choose.
    """
    base: dict[str, float] = {}
    if any(bound.is_relative for bound in recipe.constraints):
        uri = job.place("base_on_choose", "evaluation.json")
        if not storage.exists(uri):
            say("Scoring the base model on the items that choose, for the constraints that are relative to it")
            judge_base(recipe, job, "choose", job.place("base_on_choose"), "evaluation")
        base = {name: float(row["value"]) for name, row in storage.read_json(uri)["metrics"].items()}
    constraints = [bound.resolve(base) for bound in recipe.constraints]
    if constraints:
        say(f"The best mixture must keep {', '.join(map(str, constraints))}")
    asked = [
        {"asked": str(bound), "held": str(constraint)}
        for bound, constraint in zip(recipe.constraints, constraints, strict=True)
    ]
    job.note({"constraints": asked})
    return constraints


def judge_base(recipe: SweepRecipe, job: Job, split: Split, folder: str, stem: str) -> None:
    """Score the model as it was before training, in a task of its own, unless that was done for this run."""
    if storage.exists(storage.join(folder, f"{stem}.json")):
        return
    path = models.resolve(recipe.train.model)
    gpus = int(job.placement.use_gpu)
    task = ray.remote(score_model).options(num_cpus=1 - gpus, num_gpus=gpus)
    items = recipe.choose_items if split == "choose" else recipe.judge_items
    cores = int(ray.cluster_resources()["CPU"])
    scored, seconds = ray.get(task.remote(path, split, items, recipe.evaluation_batch, cores, recipe.train.template))
    write_evaluation(folder, scored, "base", split, seconds, stem=stem, weights=recipe.weights)


def _write_identity(recipe: SweepRecipe, job: Job, corpus: Corpus, tokens: TokenStore) -> None:
    """Write ``sweep.json``; refuse to go on with a run that was begun with other literals."""
    uri = job.place("sweep.json")
    # More trials go on with a search, a proof may follow it later, and of another corpus the study judges.
    literals = storage.as_json({k: value for k, value in asdict(recipe).items() if k not in ("num_trials", "prove")})
    begun = storage.read_json(uri) if storage.exists(uri) else {"recipe": literals}
    for key, value in literals.items():
        if begun["recipe"].get(key) != value:
            raise ValueError(
                f"The run {job.name!r} was begun with {key}={begun['recipe'].get(key)}, but now it is {value}; "
                "give another --name, or go on with what it was begun with."
            )
    counts = corpus.manifest["records"]
    storage.write_json(
        uri,
        {
            **begun,
            "name": job.name,
            "command": job.command,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": {**literals, "corpus_fingerprint": corpus.fingerprint},
            "placement": {
                "num_workers": job.placement.num_workers,
                "cpus_per_worker": job.placement.cpus_per_worker,
                "use_gpu": job.placement.use_gpu,
            },
            "versions": versions(),
            "seeds": {"search": recipe.seed, "confirm": list(recipe.confirm_seeds), "corpus": recipe.corpus.seed},
            "model": {"name": recipe.train.model, "fingerprint": models.fingerprint(recipe.train.model)},
            "corpus": {
                "fingerprint": corpus.fingerprint,
                "table": tokens.manifest["table"],
                "counts": {"kept": counts["kept"], **counts["reasons"]},
            },
            "hardware": {
                "machine": f"{platform.system()} {platform.machine()}",
                **{name: amount for name, amount in ray.cluster_resources().items() if name in ("CPU", "GPU")},
                "accelerators": [name for name in ray.cluster_resources() if name.startswith("accelerator_type:")],
            },
        },
    )
