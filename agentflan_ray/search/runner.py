"""Runs a search on Ray Tune: begin it, or call it again with the same arguments to go on after any kind of death."""

from __future__ import annotations

import os
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
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from agentflan_ray.search.promotion import Promotion
from agentflan_ray.search.scheduler import EarlyStopping, build_scheduler
from agentflan_ray.search.searcher import TOKENS, TRIAL_NUMBER, VALIDATION_LOSS, StudyGenerator, StudySearcher

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
    early_stopping: EarlyStopping | Promotion | None = None,
    param_space: Mapping[str, Any] | None = None,
    driver_resources: Mapping[str, float] | None = None,
    callbacks: Sequence[Callback] = (),
    max_failures: int = 0,
    reuse_processes: bool = False,
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
        early_stopping: ASHA, or promotion at rungs; None runs every trial to its end.
        param_space: Constants for the configuration of each trial.
        driver_resources: What the trial function itself takes, beside its workers.
        callbacks: Tune callbacks, for instance :class:`ProgressTable`.
        max_failures: How often a trial that died is started again before it counts as failed.
        reuse_processes: Whether a trial function that has ended is followed by the next in its process, for instance
            those of :mod:`agentflan_ray.search.lane`. One that is stopped must end at its next report.

    Returns:
        Tune's results. The study holds the same and more; a trial that began and ended within the last seconds before
        a driver was killed is in the study only.

    Raises:
        ValueError: ``param_space`` sets what the space gives, the experiment exists and the study is empty, or
            a living process runs it.
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
            reuse_actors=reuse_processes,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=storage_path,
            callbacks=[*callbacks, _StayAlive(searcher)],
            failure_config=FailureConfig(max_failures=max_failures),
            verbose=0,
        ),
        # Tuner.restore would bring back the pickled searcher, callbacks and number of trials of the first run, and
        # trust a snapshot that may be older than the study.
        _tuner_kwargs={"resume_config": ResumeConfig()} if resume else None,
    )
    # Tune (2.60) starts the processes of trials one after another, unless its own ConcurrencyLimiter bounds a searcher.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(searcher.max_concurrent)
    searcher.begin(f"{storage_path}/{name}")
    try:
        results = tuner.fit()
    finally:
        searcher.end()
        for callback in callbacks:
            if isinstance(callback, ProgressTable):
                callback.close()
    if searcher.num_live:
        raise KeyboardInterrupt(f"{searcher.num_live} trials were interrupted; run the same again to go on.")
    if searcher.all_failed:
        failed = next(trial for trial in reversed(searcher.trials()) if trial.state == TrialState.FAIL)
        raise RuntimeError(
            f"All {searcher.num_failed} trials of this run failed; the last, number {failed.number}: "
            f"{failed.user_attrs['reason']}"
        )
    return results


class _StayAlive(Callback):  # type: ignore[misc]  # ray is untyped
    """Tells the other drivers of the study at each step of Tune's loop, ten a second, that this one lives."""

    def __init__(self, searcher: StudySearcher) -> None:
        self._searcher = searcher

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Renews the lease."""
        del iteration, trials, info
        self._searcher.renew()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks, and this one holds the way to the study


class ProgressTable(Callback):  # type: ignore[misc]  # ray is untyped
    """Prints a line when a trial ends, and what runs: on a terminal as a table below these lines, else as a line when
    a trial enters a phase (the ``phase`` of its reports)."""

    def __init__(self, searcher: StudySearcher, console: Console) -> None:
        self._searcher = searcher
        self._console: Console | None = console
        self._phases: dict[str, str] = {}
        self._begun: dict[str, float] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._numbers: dict[str, int] = {}
        self._live: Live | None = None
        self._drawn = 0.0

    def setup(self, **info: Any) -> None:
        """Draws the table where there is a terminal."""
        del info
        assert self._console is not None
        if self._console.is_terminal:
            # Drawn from Tune's loop, not by a thread: what is drawn is read from the study.
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def close(self) -> None:
        """Takes the table away and gives the terminal its cursor back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Draws the table anew, every two seconds: each time the study is read."""
        del iteration, trials, info
        if self._live is not None and time.monotonic() - self._drawn > 2.0:
            self._drawn = time.monotonic()
            self._live.update(self.table(), refresh=True)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Starts the clock."""
        del iteration, trials, info
        self._begun[trial.trial_id] = time.monotonic()
        self._numbers[trial.trial_id] = trial.config[TRIAL_NUMBER]

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """One line for each new phase."""
        del iteration, trials, info
        self._last.setdefault(trial.trial_id, {}).update(result)
        phase = result.get("phase")
        if phase and phase != self._phases.get(trial.trial_id):
            self._phases[trial.trial_id] = phase
            if self._live is None:
                self._line(trial, phase)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """One line for the end."""
        del iteration, trials, info
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """One line for the end."""
        del iteration, trials, info
        self._end(trial)

    def table(self) -> Group:
        """What runs now, the longest first, as many as the terminal has room for."""
        assert self._console is not None
        trials = self._searcher.trials()
        ended = sum(known.state.is_finished() for known in trials)
        running = sorted(self._begun, key=self._begun.__getitem__)
        shown = running[: max(1, self._console.height - 6)]
        hidden = f", {len(running) - len(shown)} of them not shown" if len(running) > len(shown) else ""
        title = f"{ended} of {self._searcher.num_trials} trials ended, {len(running)} running here{hidden}"
        table = Table("trial", "mix", "phase", "tokens", "loss", "seconds", box=None)
        for trial_id in shown:
            last = self._last.get(trial_id, {})
            tokens, loss = last.get(TOKENS), last.get(VALIDATION_LOSS)
            table.add_row(
                str(self._numbers[trial_id]),
                escape(str(trials[self._numbers[trial_id]].user_attrs.get("mix", ""))),
                escape(str(last.get("phase", "train" if last else "start"))),
                f"{tokens:,}" if tokens is not None else "",
                f"{loss:.4g}" if loss is not None else "",
                f"{time.monotonic() - self._begun[trial_id]:.0f}",
            )
        return Group(title, table)

    def _end(self, trial: Trial) -> None:
        known = self._searcher.trial_of(trial.trial_id)
        words = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}
        text = words.get(known.state, "given up to another driver")
        if known.state == TrialState.COMPLETE:
            metrics = [objective.metric for objective in self._searcher.objectives]
            text += "".join(f"  {metric} {value:.4g}" for metric, value in zip(metrics, known.values, strict=True))
        if curve := known.user_attrs.get("curve"):
            text += f"  loss {curve[-1][1]:.4g} at {curve[-1][0]:,} tokens"
        if reason := known.user_attrs.get("reason"):
            text += f"  {reason}"
        self._line(trial, text)
        for known_by_id in (self._begun, self._last, self._phases, self._numbers):
            known_by_id.pop(trial.trial_id, None)

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
        return {
            **self.__dict__,
            "_console": None,
            "_live": None,
        }  # a console holds locks, and Tune pickles its callbacks


def _has_state(folder: str) -> bool:
    """Whether Tune has saved a state there; ``Tuner.can_restore`` is already true before the first trial exists."""
    filesystem, path = pyarrow.fs.FileSystem.from_uri(folder)
    files = filesystem.get_file_info(pyarrow.fs.FileSelector(path, allow_not_found=True))
    return any(file.base_name.startswith("experiment_state-") for file in files)


def _folder(trial: Trial) -> str:
    return f"trial_{trial.config[TRIAL_NUMBER]:04d}_{trial.trial_id}"
