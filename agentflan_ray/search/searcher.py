"""Optuna behind Ray Tune, with the Optuna study as the one record of the search.

Ray's own ``OptunaSearch`` (2.60) tells Optuna that a trial stopped by a scheduler is complete, sets no user
attributes, gives constraints nothing to look at, keeps the study in memory and only warns about a NaN. Here
Optuna's ask and tell are driven from a :class:`ray.tune.search.Searcher` on an RDB storage: every suggestion, every
report and every end is in the database before Tune acts on it. Tune's own snapshots may be seconds old when a driver
is killed, so on resume the study decides: what it holds as finished is not run again, what it holds as running is
run on, and nothing is counted twice. Several drivers may share a study (:mod:`agentflan_ray.search.drivers`).

What a trial reports (``ray.tune.report``), as flat or nested dictionaries:

- on the way, ``tokens`` (trained so far) and ``validation_loss``, which is kept as the trial's curve; at a rung also
  ``rung`` (the part of its data that it has read), and what is known there of the metrics of the end;
- at its end, once, ``trial_state="complete"`` with every objective and every constrained metric, or
  ``trial_state="failed"`` with a ``reason``, where to start it again would not help.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import optuna
import sqlalchemy.exc
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.result import AUTO_RESULT_KEYS, TRAINING_ITERATION
from ray.tune.search.search_generator import SearchGenerator
from ray.tune.search.searcher import Searcher

from agentflan_ray.search.drivers import LOCKED_ATTRIBUTE, Driver, alone, drivers_of
from agentflan_ray.search.evidence import BUCKETS, CORPUS, Changed, Changes, Evidence, changes
from agentflan_ray.search.sampler import Fidelity, MixtureSampler

logger = logging.getLogger(__name__)

TRIAL_NUMBER = "trial_number"
"""Key of a trial's configuration: its number in the study, stable over restarts (name runs and folders by it)."""

STANDARD_ERROR = "standard_error"
"""``standard_error/<metric>`` of a report: how noisy that metric is."""

TRIAL_STATE = "trial_state"
COMPLETE = "complete"
FAILED = "failed"
REASON = "reason"
TOKENS = "tokens"
VALIDATION_LOSS = "validation_loss"

SAMPLERS = ("mixture", "tpe", "gp", "nsga2", "random")

_BOOKKEEPING = {*AUTO_RESULT_KEYS, "trial_id", "experiment_tag", "done"} - {"time_total_s"}
"""What Tune adds to each report, and nobody wants to read in the study."""


class SearchSpace(Protocol):
    """What a study searches; see :class:`agentflan_ray.search.space.Space`."""

    @property
    def names(self) -> Sequence[str]:
        """Every parameter that ``suggest`` gives."""

    def distributions(self) -> dict[str, BaseDistribution]:
        """The searched parameters."""

    @property
    def mixture(self) -> Sequence[str]:
        """The searched parameters that make the mixture."""

    def weights(self, searched: Mapping[str, Any]) -> dict[str, float]:
        """Mixture weights of the searched parameters."""

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """All parameters of a trial."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric of the complete report, to be as large or as small as possible."""

    metric: str
    direction: Literal["max", "min"]

    def __post_init__(self) -> None:
        if self.direction not in ("max", "min"):
            raise ValueError(f"The direction of {self.metric} must be 'max' or 'min', but is {self.direction!r}.")


@dataclass(frozen=True, slots=True)
class Constraint:
    """A bound on a metric of the complete report: ``Constraint("refusals", at_most=0.1)``."""

    metric: str
    at_most: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError(f"The constraint on {self.metric} needs either at_most or at_least.")

    def __str__(self) -> str:
        return f"{self.metric} " + (f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}")

    def excess(self, value: float) -> float:
        """By how much the value breaks the bound; 0 or less where it holds it, as Optuna wants it."""
        if self.at_most is not None:
            return value - self.at_most
        assert self.at_least is not None
        return self.at_least - value


@dataclass
class _Live:
    """A trial that Tune runs now."""

    trial: Trial
    curve: list[list[float]] = field(default_factory=list)
    iteration: int | None = None
    told: bool = False
    lost: bool = False
    error: str = "the trial raised an error; its error.txt lies in the trial's folder"


class StudySearcher(Searcher):  # type: ignore[misc]  # ray is untyped
    """Suggests the trials of an Optuna study to Ray Tune, and tells the study what became of them.

    In the study every trial carries the user attributes ``config`` (what the trial function got), ``curve`` (pairs
    of tokens and validation loss), ``metrics`` (the numbers of its last report, nested ones as ``intervals/score``),
    ``report`` (all of it), ``rungs`` (what it has shown at each, and whether it went on), ``deviations`` and
    ``constraint_deviations`` (standard errors of its values), for a failed one ``reason``, for a named mix ``mix``,
    ``tune_trial`` (Tune's id), ``driver`` (who runs it, or did), and with ``evidence``
    ``buckets`` and ``corpus`` (what it has learnt from).

    Args:
        space: What to search.
        objectives: One, or several for a Pareto set.
        storage: A SQLite file, or any SQLAlchemy URL.
        study_name: Name of the study in the storage; an existing one is continued.
        num_trials: Trials of the study in all, finished and running ones of all drivers; never more are started.
            Raise it to continue a finished study.
        max_concurrent: Trials that this driver runs at the same time.
        sampler: One of :data:`SAMPLERS`.
        seed: Seed of the sampler. A continued study draws on from it and does not repeat its first draws.
        constraints: Bounds that the best trial must hold.
        mixes: Named points that are tried first, for instance :meth:`Space.complete` of each named mix. Each is
            enqueued once in the life of a study, and again only after it failed.
        evidence: The corpus that is learnt from, to notice when a study is continued with another one.
        stop_after_failures: When this many trials of a run have ended and all of them failed, no more are started.

    Raises:
        ValueError: The storage cannot be opened, or holds a study of this name with another space, other objectives
            or other constraints, or with trials whose data has changed (unless ``evidence`` says otherwise).
    """

    CKPT_FILE_TMPL = "study-searcher-{}.json"

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        storage: str | Path,
        study_name: str,
        num_trials: int,
        max_concurrent: int = 1,
        sampler: str = "tpe",
        seed: int = 0,
        constraints: Sequence[Constraint] = (),
        mixes: Mapping[str, Mapping[str, Any]] | None = None,
        evidence: Evidence | None = None,
        stop_after_failures: int = 3,
    ) -> None:
        super().__init__()
        for name, value in (("num_trials", num_trials), ("max_concurrent", max_concurrent)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but is {value}.")
        if not objectives:
            raise ValueError("A search needs at least one objective.")
        if len({objective.metric for objective in objectives}) < len(objectives):
            raise ValueError(f"Two objectives have the same metric: {[o.metric for o in objectives]}.")
        if len(set(space.names)) < len(space.names):
            raise ValueError(f"The space gives a parameter twice: {', '.join(sorted(space.names))}.")
        self.space = space
        self.objectives = tuple(objectives)
        self.constraints = tuple(constraints)
        self.num_trials = num_trials
        self.max_concurrent = max_concurrent
        self.sampler = sampler
        self.seed = seed
        self.stop_after_failures = stop_after_failures
        self.num_failed = 0
        self.num_succeeded = 0
        self.changes: Changes | None = None
        """What of the study's evidence is about data that has changed since."""
        self._evidence = evidence
        rdb = open_storage(storage)
        self._engine: sqlalchemy.Engine | None = rdb.engine
        self._driver: Driver | None = None
        self._wait_until = 0.0
        self.study: optuna.Study | None = self._open(rdb, study_name)
        self._live: dict[str, _Live] = {}
        self._numbers = {
            trial.user_attrs["tune_trial"]: trial.number for trial in self.trials() if "tune_trial" in trial.user_attrs
        }
        with self.alone():
            self._enqueue(mixes or {})

    def trials(self) -> list[FrozenTrial]:
        """The trials of the study as it is now, by number."""
        assert self.study is not None
        return self.study.get_trials(deepcopy=False)  # type: ignore[no-any-return]

    def best(self) -> list[FrozenTrial]:
        """The best trials that hold all constraints: one (or equals), or the Pareto set; empty where none does."""
        assert self.study is not None
        return self.study.best_trials  # type: ignore[no-any-return]

    def trial_of(self, trial_id: str) -> FrozenTrial:
        """The study's trial behind one of Tune's ids."""
        return self.trials()[self._numbers[trial_id]]

    @property
    def num_live(self) -> int:
        """Trials that this driver has started and not seen the end of."""
        return len(self._live)

    @property
    def all_failed(self) -> bool:
        """Whether trials of this run have ended and every one of them failed."""
        return self.num_failed > 0 and self.num_succeeded == 0

    def begin(self, experiment: str) -> None:
        """Takes part in the study as ``experiment``, and takes up what an earlier life of it was at.

        Raises:
            ValueError: A living process runs this experiment.
        """
        assert self.study is not None
        assert self._engine is not None
        self._driver = Driver(self.study, self._engine, experiment)
        if self._driver.position:  # two drivers must not draw the same
            self._seed_sampler(self.study, self._driver.position)

    def renew(self) -> None:
        """Says to the other drivers that this one lives; to be called every few seconds, cheap if called more often.

        After a long silence (a machine that slept) some trials may have been taken up by others: those are given up.
        """
        if self._driver is None or not self._driver.renew():
            return
        for live in self._live.values():
            self._look_if_lost(live)

    def end(self) -> None:
        """Leaves the study: what still runs is free for others."""
        if self._driver is not None:
            self._driver.end()
            self._driver = None

    # ---- what Tune calls -------------------------------------------------------------------------------------------

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next configuration: an orphan of a dead driver, an enqueued mix, or what the sampler says.

        An orphan is a trial that the study holds as running and nobody runs. It keeps its number and its parameters.
        While others run the last trials, this driver waits: they may die.
        """
        self.renew()
        if len(self._live) >= self.max_concurrent or time.monotonic() < self._wait_until:
            return None
        if self.all_failed and self.num_failed >= self.stop_after_failures:
            return None if self._live else Searcher.FINISHED
        driver = self._taking_part()
        with self.alone():
            trial = self._next(driver)
            if not isinstance(trial, Trial):
                return trial
            trial.set_user_attr("driver", driver.id)
        config = {**self.space.suggest(trial), TRIAL_NUMBER: trial.number}
        if self._evidence is not None:
            trial.set_user_attr(CORPUS, self._evidence.corpus)
        trial.set_user_attr("tune_trial", trial_id)
        trial.set_user_attr("config", config)
        self._start(trial_id, trial)
        return config

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keeps the report's point of the curve; the complete report ends the trial in the study.

        The function may take a while to return from there. A driver killed meanwhile must not train it again.
        """
        self.renew()
        live = self._live[trial_id]
        live.iteration = result.get(TRAINING_ITERATION)
        if result.get(TRIAL_STATE) == COMPLETE:
            self._tell(live, result, error=False)
        else:
            self._add_to_curve(live, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ends in the study what has not ended by a complete report: stopped by the scheduler (pruned), or failed."""
        live = self._live[trial_id]
        self._tell(live, result, error)
        del self._live[trial_id]

    def save(self, checkpoint_path: str) -> None:
        """Writes the study's name: all state is in the study."""
        assert self.study is not None
        Path(checkpoint_path).write_text(json.dumps({"study": self.study.study_name}))

    def restore(self, checkpoint_path: str) -> None:
        """Checks that the experiment that Tune resumes was made with this study."""
        assert self.study is not None
        saved = json.loads(Path(checkpoint_path).read_text())["study"]
        if saved != self.study.study_name:
            raise ValueError(
                f"The experiment was run with the study {saved!r}, not {self.study.study_name!r}; "
                "give the experiment another name."
            )

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles what it is given into tuner.pkl; only a driver holds the database.
        return {**self.__dict__, "study": None, "_engine": None, "_driver": None, "_live": {}}

    # ---- what the scheduler of this package calls ------------------------------------------------------------------

    def adopt(self, trial_id: str) -> bool:
        """Whether Tune should run this trial, which it has just been given or has restored from its snapshot.

        A restored trial is run on where the study holds it as running. Where it ended after the snapshot, another
        driver has taken it up, or the study has never heard of it, it is not run.
        """
        assert self.study is not None
        if trial_id in self._live:
            return True
        driver = self._taking_part()
        if trial_id not in self._numbers:
            logger.warning("Tune restored the trial %s, which the study does not know; it is not run.", trial_id)
            return False
        with self.alone():
            frozen = self.trial_of(trial_id)
            if frozen.state != TrialState.RUNNING or driver.runs(frozen.user_attrs.get("driver")):
                return False
            if self._is_outdated(frozen):
                return False
            trial = Trial(self.study, frozen._trial_id)
            trial.set_user_attr("driver", driver.id)
        self._start(trial_id, trial)
        return True

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Keeps the study's other drivers waiting: between counting or looking and asking or enqueueing."""
        assert self.study is not None
        assert self._engine is not None
        return alone(self._engine, self.study.study_name)

    def has_lost(self, trial_id: str) -> bool:
        """Whether another driver has taken a live trial up, because this one was silent for too long."""
        return trial_id in self._live and self._live[trial_id].lost

    def keep_rung(self, trial_id: str, rung: Mapping[str, Any]) -> None:
        """Adds what a trial has shown at a rung, and what was decided, to its user attribute ``rungs``."""
        live = self._live[trial_id].trial
        live.set_user_attr("rungs", [*live.user_attrs.get("rungs", []), dict(rung)])

    def scores_in(self, result: Mapping[str, Any]) -> dict[str, Any] | None:
        """What a report says of objectives and constraints; None where it lacks one, or one is not finite.

        ``values`` of the objectives and ``constraints`` (by how much each is broken), and their standard errors,
        ``deviations`` and ``constraint_deviations``: the report's ``standard_error/<metric>``, 0 where it has none.
        """
        metrics = [part.metric for part in self.objectives] + [part.metric for part in self.constraints]
        found = [
            (float(result.get(name, math.nan)), float(result.get(f"{STANDARD_ERROR}/{name}", 0))) for name in metrics
        ]
        if not all(math.isfinite(number) for pair in found for number in pair):
            return None
        num = len(self.objectives)
        limits = list(zip(self.constraints, found[num:], strict=True))
        return {
            "values": [value for value, _ in found[:num]],
            "deviations": [deviation for _, deviation in found[:num]],
            "constraints": {str(limit): limit.excess(value) for limit, (value, _) in limits},
            "constraint_deviations": {str(limit): deviation for limit, (_, deviation) in limits},
        }

    def has_curve(self, trial_id: str) -> bool:
        """Whether a live trial has reported a validation loss yet."""
        return bool(self._live[trial_id].curve)

    def report_of(self, trial_id: str) -> dict[str, Any]:
        """The last report of an ended trial, as the study keeps it; empty where there was none."""
        known = trial_id in self._numbers
        return dict(self.trial_of(trial_id).user_attrs.get("report", {})) if known else {}

    def explain_error(self, trial_id: str, error: str) -> None:
        """What the trial raised, to be kept as its reason when Tune tells that it failed."""
        self._live[trial_id].error = error

    # ---- within ----------------------------------------------------------------------------------------------------

    def _open(self, storage: RDBStorage, study_name: str) -> optuna.Study:
        study = optuna.create_study(
            storage=storage,
            study_name=study_name,
            directions=["maximize" if objective.direction == "max" else "minimize" for objective in self.objectives],
            sampler=optuna.samplers.RandomSampler(),
            pruner=optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        wanted = {
            "space": {name: json.loads(distribution_to_json(d)) for name, d in self.space.distributions().items()},
            "objectives": [[objective.metric, objective.direction] for objective in self.objectives],
            "constraints": [str(constraint) for constraint in self.constraints],
        }
        trials = study.get_trials(deepcopy=False)
        found = study.user_attrs.get(LOCKED_ATTRIBUTE)
        if found is None:
            if trials:
                raise ValueError(f"The study {study_name!r} was not made by this search; give another study name.")
            study.set_user_attr(LOCKED_ATTRIBUTE, wanted)
        elif found != wanted:
            part = next(part for part in wanted if found[part] != wanted[part])
            raise ValueError(
                f"The study {study_name!r} exists with other {part}: {found[part]} there, {wanted[part]} now; "
                "give another study name, or continue with what it was begun with."
            )
        if self._evidence is not None and (found := changes(trials, self._evidence)) is not None:
            self._look_at_changes(study, found, self._evidence.changed)
        self._seed_sampler(study)
        return study

    def _look_at_changes(self, study: optuna.Study, found: Changes, changed: Changed) -> None:
        """Refuses trials of other data, or keeps them for what they are worth."""
        if changed == "refuse":
            raise ValueError(
                f"The study {study.study_name!r} is about another corpus: {found}. Give another study name, or let "
                "what has changed weigh less."
            )
        if found.shares and self.sampler != "mixture":
            raise ValueError(
                f"The sampler {self.sampler!r} can't weigh trials, and {found}; take the sampler 'mixture', or give "
                "another study name."
            )
        self.changes = found
        logger.warning("The study goes on with trials that weigh less: %s.", found)

    def _seed_sampler(self, study: optuna.Study, *position: int) -> None:
        if self.sampler == "mixture":  # draws from the seed and the trial's number, so it needs no other seed to go on
            study.sampler = _mixture_sampler(self.space, self.seed, self.changes)
            return
        # A continued study must not draw its first random points again.
        entropy = [self.seed, len(study.get_trials(deepcopy=False)), *position]
        study.sampler = _sampler(
            self.sampler, int(np.random.SeedSequence(entropy).generate_state(1)[0]), self.num_trials
        )

    def _enqueue(self, mixes: Mapping[str, Mapping[str, Any]]) -> None:
        assert self.study is not None
        known = {trial.user_attrs.get("mix") for trial in self.trials() if trial.state != TrialState.FAIL}
        for name, parameters in mixes.items():
            if unknown := set(parameters) - set(self.space.distributions()):
                raise ValueError(f"The mix {name!r} sets {sorted(unknown)}, which the space does not search.")
            if name not in known:
                self.study.enqueue_trial(dict(parameters), user_attrs={"mix": name})

    def _taking_part(self) -> Driver:
        """This driver; without Tune's runner around it, the study's name names the experiment."""
        assert self.study is not None
        if self._driver is None:
            self.begin(self.study.study_name)
        assert self._driver is not None
        return self._driver

    def _next(self, driver: Driver) -> Trial | str | None:
        """An orphan, a new trial, or what to tell Tune where there is neither; called with the study to itself."""
        assert self.study is not None
        live = {entry.trial.number for entry in self._live.values()}
        asked = [trial for trial in self.trials() if trial.state != TrialState.WAITING]
        others = [trial for trial in asked if trial.state == TrialState.RUNNING and trial.number not in live]
        records = drivers_of(self.study) if others else {}
        for orphan in others:
            if not driver.runs(orphan.user_attrs.get("driver"), records) and not self._is_outdated(orphan):
                return Trial(self.study, orphan._trial_id)
        if len(asked) < self.num_trials:
            return self.study.ask()
        if others:
            self._wait_until = time.monotonic() + 1.0  # Tune asks ten times a second
            return None
        return Searcher.FINISHED

    def _is_outdated(self, orphan: FrozenTrial) -> bool:
        """Whether an orphan was planned from another corpus, with which it can't go on: it then fails."""
        assert self.study is not None
        if self._evidence is None or orphan.user_attrs.get(CORPUS, self._evidence.corpus) == self._evidence.corpus:
            return False
        trial = Trial(self.study, orphan._trial_id)
        trial.set_user_attr(REASON, "the corpus has changed since it was interrupted")
        self.study.tell(trial, state=TrialState.FAIL)
        return True

    def _look_if_lost(self, live: _Live) -> None:
        assert self._driver is not None
        if not live.told and not live.lost:
            owner = self.trials()[live.trial.number].user_attrs["driver"]
            live.lost = owner != self._driver.id
            if live.lost:
                logger.warning("Another driver has taken up trial %d, which is given up here.", live.trial.number)

    def _start(self, trial_id: str, trial: Trial) -> None:
        self._numbers[trial_id] = trial.number
        self._live[trial_id] = _Live(trial, curve=list(trial.user_attrs.get("curve", [])))

    def _add_to_curve(self, live: _Live, result: Mapping[str, Any]) -> None:
        """Adds a point, unless the report has none, it is not finite, or a restarted trial has been there before."""
        if live.lost or TOKENS not in result or VALIDATION_LOSS not in result:
            return
        tokens, loss = int(result[TOKENS]), float(result[VALIDATION_LOSS])
        if not math.isfinite(loss) or (live.curve and tokens <= live.curve[-1][0]):
            return
        live.curve.append([tokens, loss])
        live.trial.set_user_attr("curve", live.curve)
        if len(self.objectives) == 1:  # Optuna knows no intermediate values of several objectives
            live.trial.report(-loss if self.objectives[0].direction == "max" else loss, tokens)

    def _tell(self, live: _Live, result: Mapping[str, Any] | None, error: bool) -> None:
        """Tells the study how a trial ended: complete, stopped by the scheduler (pruned), or failed and why."""
        self._look_if_lost(live)
        if live.lost:
            return
        if live.told:
            if error:
                logger.warning("Trial %d failed after its complete report: %s", live.trial.number, live.error)
            return
        if result:
            self._add_to_curve(live, result)
            report = _report(result)
            live.trial.set_user_attr("report", report)
            live.trial.set_user_attr("metrics", _numbers_in(report))
        state, reason = self._verdict(live, result, error)
        if reason:
            live.trial.set_user_attr(REASON, reason)
        if self._evidence is not None and (read := self._evidence.of(live.trial.number)) is not None:
            live.trial.set_user_attr(BUCKETS, read)
        values = None
        if state == TrialState.COMPLETE:
            assert result is not None
            values = [float(result[objective.metric]) for objective in self.objectives]
            scores = self.scores_in(result)
            if scores is not None and any(scores["deviations"]):
                for name in ("deviations", "constraint_deviations"):
                    live.trial.set_user_attr(name, scores[name])
            for constraint in self.constraints:
                live.trial.set_constraint(str(constraint), constraint.excess(float(result[constraint.metric])))
        assert self.study is not None
        self.study.tell(live.trial, values, state=state)
        live.told = True
        if state == TrialState.FAIL:
            self.num_failed += 1
        else:
            self.num_succeeded += 1

    def _verdict(self, live: _Live, result: Mapping[str, Any] | None, error: bool) -> tuple[TrialState, str | None]:
        if error:
            return TrialState.FAIL, live.error
        if not result:
            return TrialState.PRUNED, None
        if result.get(TRIAL_STATE) == FAILED:
            return TrialState.FAIL, str(result[REASON])
        if not math.isfinite(float(result.get(VALIDATION_LOSS, 0.0))):
            return TrialState.FAIL, f"{VALIDATION_LOSS} is {result[VALIDATION_LOSS]} at {result.get(TOKENS)} tokens"
        if result.get(TRIAL_STATE) == COMPLETE:
            for metric in [o.metric for o in self.objectives] + [c.metric for c in self.constraints]:
                if metric not in result:
                    return TrialState.FAIL, f"the complete report lacks {metric}; it has {', '.join(_report(result))}"
                if not math.isfinite(float(result[metric])):
                    return TrialState.FAIL, f"{metric} is {result[metric]} in the complete report"
            return TrialState.COMPLETE, None
        # Tune shows a searcher each report, except the one on which a scheduler or stopper ends the trial. A last
        # report that was seen therefore means that the function returned by itself, and too early.
        if live.iteration == result.get(TRAINING_ITERATION):
            return TrialState.FAIL, f"the trial returned without a report of {TRIAL_STATE}={COMPLETE!r}"
        return TrialState.PRUNED, None


class StudyGenerator(SearchGenerator):  # type: ignore[misc]  # ray is untyped
    """Tune's wrapper of a searcher, without the two things that Tune restores and the study knows better.

    Tune saves how many trials an experiment wants and that it has had them, which would keep a finished search from
    being continued with more trials.
    """

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores Tune's state, ready to ask the searcher again."""
        super().set_state({**state, "total_samples": sys.maxsize, "finished": False})


def open_storage(storage: str | Path) -> RDBStorage:
    """Opens the database of a study: a SQLite file (its folder is made), or any SQLAlchemy URL.

    Raises:
        ValueError: The database cannot be opened.
    """
    url = str(storage)
    if "://" not in url:
        path = Path(storage).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{path}"
    # Seconds: a dashboard may hold the file for a moment. A server may be restarted while a trial trains for hours.
    sqlite = url.startswith("sqlite")
    engine_options = {"connect_args": {"timeout": 60}} if sqlite else {"pool_pre_ping": True}
    scheme, _, rest = url.partition("://")
    if scheme in ("postgres", "postgresql"):  # SQLAlchemy 2.0 would look for the older psycopg2
        url = f"postgresql+psycopg://{rest}"
    if url.startswith("postgresql+psycopg:") and importlib.util.find_spec("psycopg") is None:
        raise ValueError(
            f"Cannot open the study storage {_without_password(url)}: PostgreSQL needs the package psycopg; "
            "install agentflan-ray[postgres]."
        )
    for attempts_left in reversed(range(20)):
        try:
            return RDBStorage(url, engine_kwargs=engine_options)
        except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
            if not attempts_left or not _is_being_made(error):
                raise ValueError(f"Cannot open the study storage {_without_password(url)}: {error}") from error
        time.sleep(0.2)
    raise AssertionError


def _is_being_made(error: Exception) -> bool:
    """Whether another driver makes the same tables at this moment; Optuna 5.0 looks for them, then makes them."""
    made = isinstance(error, sqlalchemy.exc.ProgrammingError | sqlalchemy.exc.IntegrityError)
    return made or "already exists" in str(error)


def load_study(storage: str | Path, study_name: str) -> optuna.Study:
    """Opens an existing study to read it; for SQLite any process may, also while a search runs."""
    return optuna.load_study(storage=open_storage(storage), study_name=study_name)


def _mixture_sampler(space: SearchSpace, seed: int, changes: Changes | None) -> MixtureSampler:
    """Ours; where the data fraction is searched, it is a fidelity whose target is the largest."""
    searched = space.distributions()
    fidelities = []
    if "fraction" in searched:
        fidelities.append(Fidelity("fraction", max(searched["fraction"].choices)))
    shares = changes.shares if changes is not None else None
    return MixtureSampler(searched, space.mixture, space.weights, fidelities=fidelities, seed=seed, shares=shares)


def _sampler(name: str, seed: int, num_trials: int) -> optuna.samplers.BaseSampler:
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    if name == "nsga2":
        # Optuna's population of 50 would leave most mixture searches in their first, random generation.
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=min(50, max(4, num_trials // 5)))
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "gp":
        if importlib.util.find_spec("scipy") is None:
            raise ValueError("The sampler 'gp' needs scipy, which is not installed: pip install scipy.")
        return optuna.samplers.GPSampler(seed=seed)
    raise ValueError(f"The sampler {name!r} is unknown; known ones are {', '.join(SAMPLERS)}.")


def _report(result: Mapping[str, Any]) -> dict[str, Any]:
    """The trial's own part of a result, flat as Tune hands it on (``intervals/score``), as plain JSON."""
    return {key: _plain(value) for key, value in result.items() if key.split("/")[0] not in _BOOKKEEPING}


def _plain(value: Any) -> Any:
    """JSON types only; a number that JSON lacks (NaN, infinity) becomes its name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _numbers_in(report: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: value for key, value in report.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _without_password(url: str) -> str:
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return url.split("://")[0] + "://…"
