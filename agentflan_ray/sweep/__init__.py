"""The main job: corpora -> tokens -> search -> confirmation -> evaluation -> proof -> report. A file at every arrow.

Each step looks first for what it made before, so a job that was cut off is started again with the same command.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentflan_ray import storage
from agentflan_ray.analyse import report
from agentflan_ray.corpus.build import ToolboxDraw
from agentflan_ray.search.trial import TrialSetup, trial_name
from agentflan_ray.sources.files import SourceSpec
from agentflan_ray.sweep.choose import choose, describe, write_best
from agentflan_ray.sweep.job import Job, Teller
from agentflan_ray.sweep.prepare import constraints_of, judge_base, prepare
from agentflan_ray.sweep.proof import in_words, run_proof
from agentflan_ray.sweep.recipe import SweepRecipe, cluster_sweep, laptop_sweep, rehearsal_sweep
from agentflan_ray.sweep.retrain import Retraining, show_as_judged, train_again
from agentflan_ray.sweep.search import search

__all__ = [
    "Job",
    "SweepRecipe",
    "ablate_negatives",
    "cluster_sweep",
    "laptop_sweep",
    "prove_best",
    "rehearsal_sweep",
    "sweep",
]


def sweep(recipe: SweepRecipe, sources: Sequence[SourceSpec | ToolboxDraw], job: Job) -> str:
    """Run the whole job, or what is left of it; returns the place of the report."""
    say = Teller(job.console)
    say(f"Run {job.name} in {job.run_uri}")
    setup = prepare(recipe, sources, job, say)
    searcher = search(recipe, setup, job, constraints_of(recipe, job, say), say)
    choice = choose(searcher.trials(), recipe.objectives)
    best = trial_name(choice.best.number)
    say(f"Best of the search: trial {best} with {describe(choice.best, recipe)} ({choice.rule})")
    say("Training it again with other seeds, to be judged on held-out tools and questions that chose nothing")
    confirmed = _confirm(recipe, setup, job, best)
    write_best(recipe, job, searcher.trials(), choice, confirmed)
    say("Judging the base model")
    judge_base(recipe, job, "judge", job.place("evaluation"), "base")
    if recipe.prove:
        _prove(recipe, setup, job, best, say)
    return _report(job, say)


def prove_best(recipe: SweepRecipe, sources: Sequence[SourceSpec | ToolboxDraw], job: Job) -> str:
    """Compare a finished sweep's best mix with the three named ones over several seeds, and report again."""
    say = Teller(job.console)
    best = _finished(job)
    setup = prepare(recipe, sources, job, say)
    judge_base(recipe, job, "judge", job.place("evaluation"), "base")
    _prove(recipe, setup, job, best["trial"], say)
    return _report(job, say)


def ablate_negatives(recipe: SweepRecipe, sources: Sequence[SourceSpec | ToolboxDraw], job: Job) -> str:
    """Train a finished sweep's best mix without negatives, judge it as the best one was, and report again."""
    say = Teller(job.console)
    best = _finished(job)
    setup = prepare(recipe, sources, job, say)
    say(f"Training the mix of trial {best['trial']} without negatives")
    name = f"no-negatives-{best['trial']}"
    parameters = {**best["parameters"], "negative_share": 0.0}
    training = Retraining("ablation", parameters, recipe.confirm_seeds[0], job.place("no_negatives"))
    train_again(recipe, setup, job, {name: training})
    show_as_judged(setup, job, name, "no_negatives")
    return _report(job, say)


def _finished(job: Job) -> dict[str, Any]:
    if not storage.exists(job.place("best_mixture.json")):
        raise ValueError(f"The run {job.run_uri} has no best_mixture.json yet; run the sweep to its end first.")
    best: dict[str, Any] = storage.read_json(job.place("best_mixture.json"))
    return best


def _confirm(recipe: SweepRecipe, setup: TrialSetup, job: Job, best: str) -> list[dict[str, Any]]:
    """Train the best mix with other seeds; the model of the first one is kept, and shown as the best one."""
    parameters = storage.read_json(job.place("trials", best, "result.json"))["parameters"]
    first = recipe.confirm_seeds[0]
    wanted = {
        f"confirm-{best}-{seed}": Retraining("confirm", parameters, seed, job.place("best") if seed == first else None)
        for seed in recipe.confirm_seeds
    }
    results = train_again(recipe, setup, job, wanted)
    show_as_judged(setup, job, f"confirm-{best}-{first}", "best")
    return results


def _prove(recipe: SweepRecipe, setup: TrialSetup, job: Job, best: str, say: Callable[[str], None]) -> None:
    seeds = ", ".join(map(str, recipe.proof_seeds))
    say(f"Proof: training the named mixes and trial {best} with the seeds {seeds}, and judging all of them")
    say(in_words(run_proof(recipe, setup, job, best)))


def _report(job: Job, say: Callable[[str], None]) -> str:
    """Write the report into the run's folder; a remote one is copied here, reported on, and its report sent back."""
    if storage.is_local(job.run_uri):
        page = str(report.write(Path(storage.locate(job.run_uri)[1])))
    else:
        with tempfile.TemporaryDirectory(prefix="agentflan-report-") as folder:
            for part in ("trials", "evaluation"):
                storage.copy_folder(job.place(part), f"{folder}/{part}")
            for file in ("sweep.json", "best_mixture.json", "proof.json", "study.db"):
                uri = job.place(file)
                if storage.exists(uri):  # a study with an address of its own is no file
                    storage.write_bytes(f"{folder}/{file}", storage.read_bytes(uri))
            report.write(Path(folder))
            for file in report.FILES:
                storage.write_bytes(job.place(file), Path(folder, file).read_bytes())
        page = job.place("report.html")
    say(f"Report: {page}")
    return page
