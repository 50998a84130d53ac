"""The search itself: its study, its trials, and the trial of what the sampler recommends in the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from agentflan_ray import storage
from agentflan_ray.mixture import proportional_parts, proportional_weights
from agentflan_ray.search import lane
from agentflan_ray.search.evidence import Evidence
from agentflan_ray.search.promotion import END
from agentflan_ray.search.record import Ending, Recorder, saved_compute, write_result
from agentflan_ray.search.runner import ProgressTable, max_concurrent, run
from agentflan_ray.search.sampler import MixtureSampler
from agentflan_ray.search.searcher import TRIAL_NUMBER, Constraint, StudySearcher
from agentflan_ray.search.space import Space, named_mixes
from agentflan_ray.search.trial import TrialSetup, run_trial, trial_name
from agentflan_ray.sweep.job import Job
from agentflan_ray.sweep.recipe import SweepRecipe
from agentflan_ray.sweep.retrain import needed
from agentflan_ray.tokens.buckets import fingerprints
from agentflan_ray.tokens.tokenise import TokenStore, to_index

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}

RECOMMENDED = "recommended"
"""The mix that the sampler recommends when the search is over."""
RECOMMENDED_AFTER = "recommended_after"
"""User attribute of its trial: the trials that the search had."""

Mixes = dict[str, dict[str, float]]


def space_of(recipe: SweepRecipe, tokens: TokenStore) -> tuple[Space, Mixes]:
    """The space, wide enough for the named mixes, and these mixes as its points (searched parameters only)."""
    index = to_index(tokens.index_table(validation=False))
    parts = proportional_parts(index)
    mixes = named_mixes(proportional_weights(index), negative_share=recipe.paper_negative_share, parts=parts)
    # Where trials are promoted from rung to rung, these are the fractions.
    searched = recipe.space if recipe.rungs == (END,) else replace(recipe.space, fraction=END)
    space = searched.holding(parts).including(mixes)
    return space, {name: space.complete(mix) for name, mix in mixes.items()}


def search(
    recipe: SweepRecipe, setup: TrialSetup, job: Job, constraints: Sequence[Constraint], say: Callable[[str], None]
) -> StudySearcher:
    """Run the trials that the study lacks; with the sampler ``mixture`` also that of what it recommends then.

    The searcher that comes back holds the study as it is in the end.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = job.study_place
    searcher = _searcher(recipe, setup, job, constraints, study)
    say(f"Searching: {recipe.num_trials} trials, {searcher.max_concurrent} at a time; the study is {study}")
    _run(recipe, setup, job, searcher, study)
    if recipe.sampler == "mixture" and recommend(searcher, recipe.num_trials, say):
        searcher = _searcher(recipe, setup, job, constraints, study)
        _run(recipe, setup, job, searcher, study)
    _finish_records(setup, job, searcher)
    if recipe.rungs != (END,):
        names = [trial_name(known.number) for known in searcher.trials() if known.state.is_finished()]
        saved = saved_compute([storage.read_json(storage.join(setup.folder(name), "result.json")) for name in names])
        say(str(saved))
        job.note({"saved": {**asdict(saved), "share": saved.share}})
    return searcher


def recommend(searcher: StudySearcher, num_trials: int, say: Callable[[str], None]) -> bool:
    """Enqueue the mix that the sampler expects to be best at the target; whether its trial is still to be run.

    It is done once for each number of trials that a study is searched with: with more trials more is known. A mix that
    was tried whole already is not tried again.
    """
    assert searcher.study is not None
    sampler = searcher.study.sampler
    assert isinstance(sampler, MixtureSampler)
    with searcher.alone():  # drivers that share a study may all be at its end
        known = [trial for trial in searcher.trials() if trial.user_attrs.get(RECOMMENDED_AFTER) == num_trials]
        if known:
            return not known[-1].state.is_finished()
        complete = [trial for trial in searcher.trials() if trial.state == TrialState.COMPLETE]
        if len(complete) < 2:
            say("Nothing is recommended: that takes two complete trials")
            return False
        parameters = sampler.recommend(searcher.study)
        for trial in complete:
            if is_same_point(trial.params, parameters):
                say(f"What the sampler recommends was tried already, as trial {trial.number}")
                return False
        say("Trying the mix that the sampler recommends")
        searcher.study.enqueue_trial(parameters, user_attrs={"mix": RECOMMENDED, RECOMMENDED_AFTER: num_trials})
    return True


def is_same_point(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two points have the same parameters, up to rounding."""
    return ours.keys() == theirs.keys() and all(
        math.isclose(ours[name], theirs[name], rel_tol=1e-6, abs_tol=1e-9) for name in ours
    )


def _searcher(
    recipe: SweepRecipe, setup: TrialSetup, job: Job, constraints: Sequence[Constraint], study: str
) -> StudySearcher:
    space, mixes = space_of(recipe, setup.tokens)
    searcher = StudySearcher(
        space,
        recipe.objectives,
        storage=study,
        study_name=job.name,
        num_trials=recipe.num_trials,
        max_concurrent=min(recipe.num_trials, max_concurrent(needed(job.placement))),
        sampler=recipe.sampler,
        seed=recipe.seed,
        constraints=constraints,
        mixes=mixes,
        evidence=Evidence(fingerprints(setup.tokens), partial(_learnt_from, setup), job.changed),
    )
    # Recommended mixes come on top of the trials that were asked for.
    searcher.num_trials += sum(trial.user_attrs.get("mix") == RECOMMENDED for trial in searcher.trials())
    return searcher


def _learnt_from(setup: TrialSetup, number: int) -> Mapping[str, int] | None:
    """Supervised tokens by bucket of a trial, from its plan's facts; None where it was never planned, or by a version
    that did not count them."""
    facts = storage.join(setup.folder(trial_name(number)), "trial.json")
    return storage.read_json(facts).get("buckets") if storage.exists(facts) else None


def _run(recipe: SweepRecipe, setup: TrialSetup, job: Job, searcher: StudySearcher, study: str) -> None:
    recorder = Recorder(
        job.run_uri,
        name_of=lambda trial: trial_name(trial.config[TRIAL_NUMBER]),
        ending_of=lambda trial: _ending(searcher.trial_of(trial.trial_id)),
        after_end=partial(job.keep_study, study),
    )
    in_lanes = lane.fits(setup.train, setup.placement)
    run(
        partial(run_trial, setup=setup, seed=recipe.seed),
        searcher,
        name="search",
        storage_path=job.place("tune"),
        early_stopping=None if recipe.rungs == (END,) else recipe.promotion,
        callbacks=[
            recorder,
            ProgressTable(searcher, job.console),
            *([] if job.tracking is None else [job.tracking.of_search(job.name)]),
        ],
        driver_resources=lane.resources(setup.placement) if in_lanes else None,
        reuse_processes=in_lanes,
        # Ray Train starts workers that died again by itself; of a lane the process is Tune's.
        max_failures=int(in_lanes),
    )
    job.keep_study(study)


def _finish_records(setup: TrialSetup, job: Job, searcher: StudySearcher) -> None:
    """A driver that was killed between a trial's end and its result.json left it in the study only."""
    for known in searcher.trials():
        written = storage.join(setup.folder(trial_name(known.number)), "result.json")
        if known.state in STATES and not storage.exists(written):
            write_result(job.run_uri, _ending(known), known.number, known.user_attrs.get("metrics", {}), {})


def _ending(known: FrozenTrial) -> Ending:
    kind = known.user_attrs.get("mix", "search")
    reason, rungs = known.user_attrs.get("reason"), known.user_attrs.get("rungs", ())
    if known.state not in STATES:
        # This driver's lease ran out; the trial goes on there, and its end is written there.
        return Ending(trial_name(known.number), kind, "failed", "another driver took the trial over", rungs)
    return Ending(trial_name(known.number), kind, STATES[known.state], reason, rungs)
