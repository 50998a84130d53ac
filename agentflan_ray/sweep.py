"""The main job: corpora -> tokens -> search -> confirmation -> evaluation -> report. A file at every arrow.

Each step looks first for what it made before, so a job that was cut off is started again with the same command.
"""

from __future__ import annotations

import contextlib
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import ray
from optuna.trial import FrozenTrial, TrialState
from ray import tune
from ray.tune.experiment import Trial
from rich.console import Console
from rich.text import Text

from agentflan_ray import cluster, storage
from agentflan_ray.analyse import report
from agentflan_ray.corpus.build import Order, ToolboxDraw, build
from agentflan_ray.corpus.clean.recipe import CleanRecipe
from agentflan_ray.corpus.recipe import CorpusRecipe
from agentflan_ray.corpus.store import Corpus
from agentflan_ray.evaluate.model import score_model
from agentflan_ray.mixture import proportional_weights
from agentflan_ray.search.record import Ending, Recorder, write_result
from agentflan_ray.search.runner import DRIVER_RESOURCES, ProgressTable, max_concurrent, run
from agentflan_ray.search.scheduler import EarlyStopping
from agentflan_ray.search.searcher import TRIAL_NUMBER, Constraint, Objective, StudySearcher
from agentflan_ray.search.space import Space, named_mixes, to_weights
from agentflan_ray.search.trial import (
    TrialSetup,
    run_trial,
    train_trial,
    trial_name,
    write_evaluation,
)
from agentflan_ray.sources.files import SourceSpec
from agentflan_ray.tokens.blocks import write_validation_plan
from agentflan_ray.tokens.tokenise import TokenStore, to_index, tokenise
from agentflan_ray.tokens.tokenizer import load_tokenizer
from agentflan_ray.toolbox import ITEM_CASES
from agentflan_ray.train import models
from agentflan_ray.train.recipe import Placement, TrainRecipe, agentflan_llama2_7b, laptop
from agentflan_ray.train.tracking import Tracking
from agentflan_ray.versions import versions
from agentflan_ray.view.tables import omitted_table, records_table, tokens_table

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@dataclass(frozen=True, kw_only=True)
class SweepRecipe:
    """The identity of a search: every literal that its outcome depends on, besides the sources."""

    train: TrainRecipe
    budget: int
    """Tokens that a trial trains on at fraction 1."""
    num_trials: int
    corpus: CorpusRecipe = field(default_factory=CorpusRecipe)
    cleaning: CleanRecipe = field(default_factory=CleanRecipe)
    space: Space = field(default_factory=Space)
    sampler: str = "tpe"
    seed: int = 0
    max_repeats: int = 4
    paper_negative_share: float = 0.1
    """Negatives in the mix named paper; the paper gives 761 samples beside 24,703, no share of tokens."""
    validation_budget: int = 20_000
    """Held-out tokens that each trial is measured on."""
    first_rung: float = 0.5
    """Early stopping compares trials from this part of the budget on."""
    max_over_refusal: float = 0.5
    """A mix that refuses more of the answerable requests than this can't be the best one."""
    choose_items: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ITEM_CASES, 60))
    """Held-out items by case that choose between trials."""
    judge_items: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ITEM_CASES, 60))
    """Held-out items by case, of other groups, that the base model and the best one are judged by."""
    evaluation_batch: int = 32
    """Replies generated at once; part of the identity because near-ties fall differently in other batches."""
    confirm_seeds: tuple[int, ...] = (1, 2, 3)
    """The best mix is trained again with these seeds; the first of these models is the one that is kept."""


def laptop_sweep() -> SweepRecipe:
    """A search with a real model of 135M parameters on two CPU cores, in less than a quarter of an hour."""
    return SweepRecipe(
        train=replace(laptop(), validate_every=10),
        budget=10_000,
        num_trials=4,
        validation_budget=3_000,
        choose_items={"tool": 12, **dict.fromkeys(ITEM_CASES[1:], 4)},
        judge_items={"tool": 32, **dict.fromkeys(ITEM_CASES[1:], 10)},
        confirm_seeds=(1,),
    )


def rehearsal_sweep() -> SweepRecipe:
    """The whole job with a random model of two layers, to try a cluster or the code: what it learns means nothing."""
    train = TrainRecipe(
        model=models.TINY_LLAMA, block_length=2048, blocks_per_step=1, learning_rate=1e-2, validate_every=4
    )
    return SweepRecipe(
        train=train,
        budget=40_000,
        num_trials=4,
        validation_budget=8_000,
        choose_items=dict.fromkeys(ITEM_CASES, 2),
        judge_items=dict.fromkeys(ITEM_CASES, 2),
        confirm_seeds=(1,),
    )


def cluster_sweep(model: str) -> SweepRecipe:
    """A search with a model of the paper's size: its training recipe, 20M tokens at fraction 1."""
    return SweepRecipe(train=replace(agentflan_llama2_7b(), model=model), budget=20_000_000, num_trials=24)


@dataclass(frozen=True)
class Job:
    """Where a sweep runs and what it is called; none of it changes its outcome."""

    name: str
    storage: str
    command: str
    placement: Placement
    study: str | None = None
    tracking: Tracking | None = None
    """Where the search's trials are written besides their folders."""
    console: Console = field(default_factory=Console)

    @property
    def run_uri(self) -> str:
        """Folder of this run."""
        return storage.join(self.storage, "runs", self.name)


def sweep(recipe: SweepRecipe, sources: Sequence[SourceSpec | ToolboxDraw], job: Job) -> str:
    """Run the whole job, or what is left of it; returns the place of the report."""
    say = _Teller(job.console)
    say(f"Run {job.name} in {job.run_uri}")
    setup = _prepare(recipe, sources, job, say)
    study = _local_study(job)
    searcher = _searcher(recipe, setup, job, study)
    say(f"Searching: {recipe.num_trials} trials, {searcher.max_concurrent} at a time; the study is {study}")
    _search(recipe, setup, job, searcher, study)
    best = _best(searcher)
    say(f"Best of the search: trial {best.number} with {_values(best)}; training it again with other seeds")
    confirmed = _confirm(recipe, setup, job, best)
    _write_best(recipe, job, searcher, best, confirmed)
    say("Judging the base model and the best one on held-out tools and questions that chose nothing")
    _judge(recipe, job, "base", models.resolve(recipe.train.model))
    _judge(recipe, job, "best", storage.join(job.run_uri, "best"))
    page = _report(job)
    say(f"Report: {page}")
    return page


def ablate_negatives(recipe: SweepRecipe, sources: Sequence[SourceSpec | ToolboxDraw], job: Job) -> str:
    """Train a finished sweep's best mix without negatives, judge it as the best one was, and report again."""
    say = _Teller(job.console)
    if not storage.exists(storage.join(job.run_uri, "best_mixture.json")):
        raise ValueError(f"The run {job.run_uri} has no best_mixture.json yet; run the sweep to its end first.")
    setup = _prepare(recipe, sources, job, say)
    best = storage.read_json(storage.join(job.run_uri, "best_mixture.json"))
    say(f"Training the mix of trial {best['trial']} without negatives")
    kept = storage.join(job.run_uri, "no_negatives")
    parameters = {**best["parameters"], "negative_share": 0.0}
    name = f"no-negatives-{best['trial']}"
    _train_again(setup, job, {name: Retraining("ablation", parameters, recipe.confirm_seeds[0], kept)})
    _judge(recipe, job, "no_negatives", kept)
    page = _report(job)
    say(f"Report: {page}")
    return page


class _Teller:
    """Says what is done, and after how many seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        seconds = f"{time.monotonic() - self._began:6.0f} s  "
        self._console.print(Text.assemble((seconds, "dim"), text), soft_wrap=True)


def _prepare(
    recipe: SweepRecipe, sources: Sequence[SourceSpec | ToolboxDraw], job: Job, say: Callable[[str], None]
) -> TrialSetup:
    """Corpora, tokens and validation text, made or found."""
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
    )
    _write_identity(recipe, job, corpus, tokens)
    write_validation_plan(tokens, recipe.validation_budget, recipe.train.block_length, setup.validation.plan_uri)
    return setup


def _searcher(recipe: SweepRecipe, setup: TrialSetup, job: Job, study: str) -> StudySearcher:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    proportional = proportional_weights(to_index(setup.tokens.index_table(validation=False)))
    mixes = named_mixes(proportional, negative_share=recipe.paper_negative_share)
    space = recipe.space.including(mixes)
    return StudySearcher(
        space,
        [Objective("score", "max")],
        storage=study,
        study_name=job.name,
        num_trials=recipe.num_trials,
        max_concurrent=min(recipe.num_trials, max_concurrent(_needed(job.placement))),
        sampler=recipe.sampler,
        seed=recipe.seed,
        constraints=[Constraint("over_refusal_rate", at_most=recipe.max_over_refusal)],
        mixes={name: space.complete(mix) for name, mix in mixes.items()},
    )


def _search(recipe: SweepRecipe, setup: TrialSetup, job: Job, searcher: StudySearcher, study: str) -> None:
    recorder = Recorder(
        job.run_uri,
        name_of=lambda trial: trial_name(trial.config[TRIAL_NUMBER]),
        ending_of=lambda trial: _ending(searcher.trial_of(trial.trial_id)),
        after_end=partial(_keep_study, study, job),
    )
    run(
        partial(run_trial, setup=setup, seed=recipe.seed),
        searcher,
        name="search",
        storage_path=storage.join(job.run_uri, "tune"),
        early_stopping=EarlyStopping(
            grace_tokens=int(recipe.first_rung * recipe.budget), max_tokens=recipe.budget, reduction_factor=2
        ),
        callbacks=[
            recorder,
            ProgressTable(searcher, job.console),
            *([] if job.tracking is None else [job.tracking.of_search(job.name)]),
        ],
    )
    _keep_study(study, job)
    for known in searcher.trials():
        # A driver that was killed between a trial's end and its result.json left it in the study only.
        written = storage.join(setup.folder(trial_name(known.number)), "result.json")
        if known.state in STATES and not storage.exists(written):
            write_result(job.run_uri, _ending(known), known.number, known.user_attrs.get("metrics", {}), {})


def _ending(known: FrozenTrial) -> Ending:
    kind = known.user_attrs.get("mix", "search")
    return Ending(trial_name(known.number), kind, STATES[known.state], known.user_attrs.get("reason"))


@dataclass(frozen=True)
class Retraining:
    """A training outside of the search. ``export_to`` keeps its model."""

    kind: str
    parameters: dict[str, float]
    seed: int
    export_to: str | None = None


def _confirm(recipe: SweepRecipe, setup: TrialSetup, job: Job, best: FrozenTrial) -> list[dict[str, Any]]:
    """Train the best mix again with other seeds; the first of these models is exported to ``best/``.

    It was not chosen for its own score, so its scores are free of the winner's luck.
    """
    parameters = {key: value for key, value in best.user_attrs["config"].items() if key != TRIAL_NUMBER}
    exports = {recipe.confirm_seeds[0]: storage.join(job.run_uri, "best")}
    wanted = {
        f"confirm-{best.number:04d}-{seed}": Retraining("confirm", parameters, seed, exports.get(seed))
        for seed in recipe.confirm_seeds
    }
    return _train_again(setup, job, wanted)


def _train_again(setup: TrialSetup, job: Job, wanted: dict[str, Retraining]) -> list[dict[str, Any]]:
    """Run the trainings that are not complete yet, and return the results of all, in their order."""
    todo = [name for name in wanted if not _is_complete(setup, name)]
    if todo:
        at_once = min(len(todo), max_concurrent(_needed(job.placement)))
        roomy = job.placement
        if not roomy.use_gpu:
            # Fewer trainings at once than in the search leave cores free: the ones that run take them.
            cores = ray.cluster_resources()["CPU"] / at_once / roomy.num_workers
            roomy = replace(roomy, cpus_per_worker=max(roomy.cpus_per_worker, cores - 2 * cluster.DRIVER_CPU))
        recorder = Recorder(
            job.run_uri,
            name_of=lambda trial: str(trial.config["name"]),
            ending_of=lambda trial: _ending_apart(wanted[trial.config["name"]].kind, trial),
        )
        tune.Tuner(
            tune.with_resources(
                partial(retrain, setup=replace(setup, placement=roomy), wanted=wanted), DRIVER_RESOURCES
            ),
            param_space={"name": tune.grid_search(todo)},
            tune_config=tune.TuneConfig(max_concurrent_trials=at_once),
            run_config=tune.RunConfig(
                # A name of its own each time: what is done already is known by its result.json.
                name=f"again-{datetime.now(UTC):%Y%m%d-%H%M%S}",
                storage_path=storage.join(job.run_uri, "tune"),
                callbacks=[recorder],
                verbose=0,
            ),
        ).fit()
    results = [storage.read_json(storage.join(setup.folder(name), "result.json")) for name in wanted]
    if failed := [result for result in results if result["state"] != "complete"]:
        raise RuntimeError(f"The training {failed[0]['trial']} failed: {failed[0]['error']}. Run the same again.")
    return results


def retrain(config: dict[str, str], setup: TrialSetup, wanted: dict[str, Retraining]) -> None:
    """The trial function of a retraining."""
    chosen = wanted[config["name"]]
    train_trial(setup, config["name"], chosen.parameters, chosen.seed, chosen.export_to)


def _ending_apart(kind: str, trial: Trial) -> Ending:
    name = str(trial.config["name"])
    if trial.error_file:
        return Ending(name, kind, "failed", Path(trial.error_file).read_text().strip().splitlines()[-1])
    return Ending(name, kind, "complete")


def _needed(placement: Placement) -> dict[str, float]:
    """What all workers of one trial take together."""
    one = {"CPU": placement.cpus_per_worker, "GPU": float(placement.use_gpu)}
    return {name: amount * placement.num_workers for name, amount in one.items() if amount}


def _is_complete(setup: TrialSetup, name: str) -> bool:
    result = storage.join(setup.folder(name), "result.json")
    return storage.exists(result) and storage.read_json(result)["state"] == "complete"


def _best(searcher: StudySearcher) -> FrozenTrial:
    """The best trial on most of the data that keeps the constraints; where none does, the best of all of these, and the
    report says so."""
    complete = [trial for trial in searcher.trials() if trial.state == TrialState.COMPLETE]
    if not complete:
        raise RuntimeError("No trial of the search was completed, so there is no best mixture; see the trials' errors.")
    # A trial of a part of the data is evidence, but no candidate beside those of more.
    whole = max(trial.user_attrs["config"]["fraction"] for trial in complete)
    of_whole = [trial for trial in complete if trial.user_attrs["config"]["fraction"] == whole]
    kept = [trial for trial in of_whole if all(excess <= 0 for excess in trial.constraints.values())]
    return max(kept or of_whole, key=lambda trial: trial.value)


def _values(trial: FrozenTrial) -> str:
    metrics = trial.user_attrs["metrics"]
    names = ("score", "tool_score", "false_call_rate", "over_refusal_rate")
    return ", ".join(f"{name} {metrics[name]:.2f}" for name in names)


def _write_best(
    recipe: SweepRecipe, job: Job, searcher: StudySearcher, best: FrozenTrial, confirmed: list[dict[str, Any]]
) -> None:
    folder = storage.join(job.run_uri, "trials")
    result = storage.read_json(storage.join(folder, trial_name(best.number), "result.json"))
    complete = [trial for trial in searcher.trials() if trial.state == TrialState.COMPLETE]
    intervals = {
        trial.number: storage.read_json(storage.join(folder, trial_name(trial.number), "result.json"))["intervals"][
            "score"
        ]
        for trial in complete
    }
    mine = intervals[best.number]
    storage.write_json(
        storage.join(job.run_uri, "best_mixture.json"),
        {
            "trial": result["trial"],
            "weights": to_weights(result["parameters"]),
            "realised": result["realised"],
            "fraction": result["fraction"],
            "budget": recipe.budget,
            "parameters": result["parameters"],
            "metrics": result["metrics"],
            "intervals": result["intervals"],
            "constraints_held": bool(searcher.best()),
            "confirmed": [{"seed": each["seed"], "metrics": each["metrics"]} for each in confirmed],
            "candidates": [
                trial_name(number)
                for number, interval in intervals.items()
                if interval["low"] <= mine["high"] and mine["low"] <= interval["high"]
            ],
        },
    )


def _judge(recipe: SweepRecipe, job: Job, stem: str, path: str) -> None:
    """Score a model on the items that judge, unless that was done for this run."""
    folder = storage.join(job.run_uri, "evaluation")
    if storage.exists(storage.join(folder, f"{stem}.json")):
        return
    with storage.as_local_folder(path) if storage.exists(path) else contextlib.nullcontext(path) as local:
        gpus = int(job.placement.use_gpu)
        task = ray.remote(score_model).options(num_cpus=1 - gpus, num_gpus=gpus)
        cores = int(ray.cluster_resources()["CPU"])
        settings = (recipe.judge_items, recipe.evaluation_batch, cores, recipe.train.template)
        scored, seconds = ray.get(task.remote(local, "judge", *settings))
    write_evaluation(folder, scored, stem, "judge", seconds, stem=stem)


def _report(job: Job) -> str:
    """Write the report into the run's folder; a remote one is copied here, reported on, and its report sent back."""
    if storage.is_local(job.run_uri):
        return str(report.write(Path(storage.locate(job.run_uri)[1])))
    with tempfile.TemporaryDirectory(prefix="agentflan-report-") as folder:
        for part in ("trials", "evaluation"):
            storage.copy_folder(storage.join(job.run_uri, part), f"{folder}/{part}")
        for file in ("sweep.json", "best_mixture.json", "study.db"):
            uri = storage.join(job.run_uri, file)
            if storage.exists(uri):  # a study with an address of its own is no file
                storage.write_bytes(f"{folder}/{file}", storage.read_bytes(uri))
        report.write(Path(folder))
        for file in report.FILES:
            storage.write_bytes(storage.join(job.run_uri, file), Path(folder, file).read_bytes())
    return storage.join(job.run_uri, "report.html")


def _write_identity(recipe: SweepRecipe, job: Job, corpus: Corpus, tokens: TokenStore) -> None:
    """Write ``sweep.json``; refuse to go on with a run that was begun with other literals."""
    uri = storage.join(job.run_uri, "sweep.json")
    literals = {**asdict(recipe), "corpus_fingerprint": corpus.fingerprint}
    literals = storage.as_json({key: value for key, value in literals.items() if key != "num_trials"})
    if storage.exists(uri):
        begun = storage.read_json(uri)["recipe"]
        for key, value in literals.items():
            if begun.get(key) != value:
                raise ValueError(
                    f"The run {job.name!r} was begun with {key}={begun.get(key)}, but now it is {value}; "
                    "give another --name, or go on with what it was begun with."
                )
    counts = corpus.manifest["records"]
    storage.write_json(
        uri,
        {
            "name": job.name,
            "command": job.command,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": literals,
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


def _local_study(job: Job) -> str:
    """The study's database: what the user named, or a SQLite file, which must lie on a disk.

    For a run in a bucket it lies in the working folder and is copied to the bucket after each trial.
    """
    if job.study:
        return job.study
    if storage.is_local(job.run_uri):
        return storage.join(storage.locate(job.run_uri)[1], "study.db")
    path = Path("runs", job.name, "study.db").absolute()
    kept = storage.join(job.run_uri, "study.db")
    if not path.exists() and storage.exists(kept):
        storage.write_bytes(path, storage.read_bytes(kept))
    return str(path)


def _keep_study(study: str, job: Job) -> None:
    """Copy a local SQLite study to the run's bucket, whole, while the search goes on writing to it."""
    if job.study or storage.is_local(job.run_uri):
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(sqlite3.connect(study)) as source:
        with contextlib.closing(sqlite3.connect(f"{folder}/study.db")) as target:
            source.backup(target)
        storage.write_bytes(storage.join(job.run_uri, "study.db"), Path(folder, "study.db").read_bytes())
