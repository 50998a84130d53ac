"""Runs a search on Ray Tune: begin it, or call it again with the same arguments to go on after any kind of death."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.fs
import ray
from optuna.trial import TrialState
from ray import tune
from ray.tune import Callback, FailureConfig, ResultGrid, ResumeConfig, RunConfig, TuneConfig, Tuner
from ray.tune.experiment import Trial
from rich.console import Console
from rich.markup import escape

from agentflan_ray.search.scheduler import EarlyStopping, build_scheduler
from agentflan_ray.search.searcher import TRIAL_NUMBER, StudyGenerator, StudySearcher

DRIVER_RESOURCES = {"CPU": 0.01}
"""A trial function only waits for its workers. With Tune's default of a whole CPU, two drivers on two CPUs leave
none for the workers, and nothing ever moves."""


def max_concurrent(worker_resources: Mapping[str, float], driver_resources: Mapping[str, float] | None = None) -> int:
    """How many trials the connected cluster can run at once.

    Args:
        worker_resources: What all workers of one trial take together, for instance ``{"GPU": 8, "CPU": 16}``.
        driver_resources: What its trial function takes; :data:`DRIVER_RESOURCES` by default.

    Raises:
        ValueError: The cluster cannot run a single trial.
    """
    cluster = ray.cluster_resources()
    need = dict(worker_resources)
    for name, amount in (DRIVER_RESOURCES if driver_resources is None else driver_resources).items():
        need[name] = need.get(name, 0.0) + amount
    # The small number keeps 2 / (0.99 + 0.01) at 2.
    fits = min(int(cluster.get(name, 0.0) / amount + 1e-9) for name, amount in need.items() if amount > 0)
    if fits < 1:
        found = {name: cluster.get(name, 0.0) for name in need}
        raise ValueError(f"A trial needs {need}, but the whole cluster has {found}; ask for less, or add nodes.")
    return fits


def run(
    trainable: Callable[[dict[str, Any]], Any],
    searcher: StudySearcher,
    *,
    name: str,
    storage_path: str | Path,
    early_stopping: EarlyStopping | None = None,
    param_space: Mapping[str, Any] | None = None,
    driver_resources: Mapping[str, float] | None = None,
    callbacks: Sequence[Callback] = (),
    max_failures: int = 0,
) -> ResultGrid:
    """Run the trials of a study until it has ``searcher.num_trials`` of them.

    Where the experiment exists it is resumed: finished trials stay, interrupted ones run on under their numbers, and
    a larger ``num_trials`` adds to a finished search. A trial function should therefore take up its own latest
    checkpoint, which Ray Train does by itself when the run's name is made from ``config["trial_number"]``.

    Args:
        trainable: The trial function. It gets the parameters of the space, ``trial_number``, and ``param_space``.
        searcher: The study.
        name: Name of the experiment, a folder below ``storage_path``.
        storage_path: Folder or URI for Tune's results, the same for all nodes.
        early_stopping: None runs every trial to its end.
        param_space: Constants for the configuration of each trial.
        driver_resources: What the trial function itself takes, beside its workers.
        callbacks: Tune callbacks, for instance :class:`ProgressTable`.
        max_failures: How often a trial that died is started again before it counts as failed.

    Returns:
        Tune's results. The study holds the same and more; a trial that began and ended within the last seconds before
        a driver was killed is in the study only.

    Raises:
        ValueError: ``param_space`` sets what the space gives, or the experiment exists and the study is empty.
        RuntimeError: Every trial of this run failed.
        KeyboardInterrupt: The run was interrupted (Ctrl-C); call again to go on.
    """
    constants = dict(param_space or {})
    if twice := sorted(set(constants) & {*searcher.space.names, TRIAL_NUMBER}):
        raise ValueError(f"{', '.join(twice)} is set in param_space and given by the search; set it in one place.")
    storage_path = str(storage_path) if "://" in str(storage_path) else str(Path(storage_path).absolute())
    resume = _has_state(f"{storage_path}/{name}")
    if resume and all(trial.state == TrialState.WAITING for trial in searcher.trials()):
        raise ValueError(
            f"The experiment {storage_path}/{name} exists, but its study is empty; give the experiment another name, "
            "or open the study that it was run with."
        )
    tuner = Tuner(
        tune.with_resources(trainable, dict(DRIVER_RESOURCES if driver_resources is None else driver_resources)),
        param_space=constants,
        tune_config=TuneConfig(
            search_alg=StudyGenerator(searcher),
            scheduler=build_scheduler(searcher, early_stopping),
            num_samples=searcher.num_trials,
            trial_dirname_creator=_folder,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=storage_path,
            callbacks=list(callbacks),
            failure_config=FailureConfig(max_failures=max_failures),
            verbose=0,
        ),
        # Tuner.restore would bring back the pickled searcher, callbacks and number of trials of the first run, and
        # trust a snapshot that may be older than the study.
        _tuner_kwargs={"resume_config": ResumeConfig()} if resume else None,
    )
    results = tuner.fit()
    if searcher.num_live:
        raise KeyboardInterrupt(f"{searcher.num_live} trials were interrupted; run the same again to go on.")
    if searcher.all_failed:
        failed = next(trial for trial in reversed(searcher.trials()) if trial.state == TrialState.FAIL)
        raise RuntimeError(
            f"All {searcher.num_failed} trials of this run failed; the last, number {failed.number}: "
            f"{failed.user_attrs['reason']}"
        )
    return results


class ProgressTable(Callback):  # type: ignore[misc]  # ray is untyped
    """Prints a line when a trial enters a phase (the ``phase`` of its reports) and when it ends."""

    def __init__(self, searcher: StudySearcher, console: Console) -> None:
        self._searcher = searcher
        self._console: Console | None = console
        self._phases: dict[str, str] = {}
        self._begun: dict[str, float] = {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Starts the clock."""
        del iteration, trials, info
        self._begun[trial.trial_id] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """One line for each new phase."""
        del iteration, trials, info
        phase = result.get("phase")
        if phase and phase != self._phases.get(trial.trial_id):
            self._phases[trial.trial_id] = phase
            self._line(trial, phase)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """One line for the end."""
        del iteration, trials, info
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """One line for the end."""
        del iteration, trials, info
        self._end(trial)

    def _end(self, trial: Trial) -> None:
        known = self._searcher.trial_of(trial.trial_id)
        words = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}
        text = words[known.state]
        if known.state == TrialState.COMPLETE:
            metrics = [objective.metric for objective in self._searcher.objectives]
            text += "".join(f"  {metric} {value:.4g}" for metric, value in zip(metrics, known.values, strict=True))
        if curve := known.user_attrs.get("curve"):
            text += f"  loss {curve[-1][1]:.4g} at {curve[-1][0]:,} tokens"
        if reason := known.user_attrs.get("reason"):
            text += f"  {reason}"
        self._line(trial, text)

    def _line(self, trial: Trial, text: str) -> None:
        assert self._console is not None
        number = trial.config[TRIAL_NUMBER]
        mix = self._searcher.trial_of(trial.trial_id).user_attrs.get("mix", "")
        seconds = time.monotonic() - self._begun.get(trial.trial_id, time.monotonic())
        ended = sum(known.state.is_finished() for known in self._searcher.trials())
        progress = f"{ended}/{self._searcher.num_trials}"
        self._console.print(
            escape(f"{progress:>9}  trial {number:<4} {mix:<13} {seconds:7.1f} s  {text}"), soft_wrap=True
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_console": None}  # a console holds locks, and Tune pickles its callbacks


def _has_state(folder: str) -> bool:
    """Whether Tune has saved a state there; ``Tuner.can_restore`` is already true before the first trial exists."""
    filesystem, path = pyarrow.fs.FileSystem.from_uri(folder)
    files = filesystem.get_file_info(pyarrow.fs.FileSelector(path, allow_not_found=True))
    return any(file.base_name.startswith("experiment_state-") for file in files)


def _folder(trial: Trial) -> str:
    return f"trial_{trial.config[TRIAL_NUMBER]:04d}_{trial.trial_id}"
