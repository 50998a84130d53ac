"""An Optuna study read without changing it: all of it where nothing else is there, or beside a run folder.

A SQLite file is opened read-only. Of another database only the tables are looked for first, as Optuna makes those that
are missing.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import sqlalchemy.exc
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from agentflan_ray.analyse.frame import Goal, Run, as_curves, tidy, weights_of

STATE_NAMES: dict[TrialState, str] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "unfinished",
    TrialState.WAITING: "unfinished",
}


def load(place: str, name: str | None) -> Run:
    """Read a study into the tables that a run folder gives.

    A study of this package's search carries configurations, curves and all metrics of its trials; of any other one the
    parameters, values, states, constraints and times are read.

    Args:
        place: A SQLite file, or an SQLAlchemy URL.
        name: The study; needed where the database holds several.

    Raises:
        ValueError: The database cannot be opened, holds no Optuna study, or not this one, or several and no name.
    """
    with opened(place) as storage:
        names = sorted(optuna.get_all_study_names(storage))
        study = optuna.load_study(study_name=_chosen(place, names, name), storage=storage)
        trials = study.get_trials(deepcopy=False)
        goals = goals_of(study)
        if not trials:
            raise ValueError(f"The study {study.study_name!r} in {without_password(place)} holds no trial yet.")
        shown = study.study_name
    asked = [trial for trial in trials if trial.state != TrialState.WAITING]
    notes = [f"Read from the study {shown!r} alone: replies, corpus and the time of each part are not in it."]
    if len(asked) < len(trials):
        notes.append(f"{len(trials) - len(asked)} enqueued trials have not begun and are left out.")
    table = tidy([_record(trial, goals) for trial in asked] or [_record(trial, goals) for trial in trials])
    rows = [row for trial in asked for row in _curve(trial)]
    return Run(
        folder=Path(),
        sweep={"name": shown},
        trials=table,
        curves=as_curves(rows),
        origin="Optuna study",
        goals=goals,
        searched=tuple(asked),
        notes=tuple(notes),
    )


def beside(path: Path, name: str) -> tuple[tuple[FrozenTrial, ...], tuple[Goal, ...] | None, str | None]:
    """The trials and objectives of a run folder's study, or empty with the reason."""
    if not path.exists():
        return (), None, f"There is no {path.name} in the run folder: bounds of parameters are those that were tried."
    with opened(str(path)) as storage:
        names = optuna.get_all_study_names(storage)
        if name not in names:
            return (), None, f"{path.name} holds {', '.join(sorted(names)) or 'no study'}, not {name}."
        study = optuna.load_study(study_name=name, storage=storage)
        return tuple(study.get_trials(deepcopy=False)), goals_of(study), None


def goals_of(study: optuna.Study) -> tuple[Goal, ...]:
    """The objectives by the names that the search, or else Optuna, gave them; ``value`` where nobody did."""
    directions = ["max" if direction == StudyDirection.MAXIMIZE else "min" for direction in study.directions]
    told = study.user_attrs.get("search")
    if isinstance(told, dict) and len(told.get("objectives", ())) == len(directions):
        names = [str(metric) for metric, _ in told["objectives"]]
    elif study.metric_names is not None:
        names = list(study.metric_names)
    else:
        names = ["value"] if len(directions) == 1 else [f"value {place}" for place in range(len(directions))]
    return tuple(
        Goal(name, "max" if direction == "max" else "min") for name, direction in zip(names, directions, strict=True)
    )


@contextmanager
def opened(place: str) -> Iterator[RDBStorage]:
    """The database, closed at the end; ``ValueError`` where it is none of Optuna's."""
    shown = without_password(place)
    path = sqlite_path(place)
    options: dict[str, Any] = {}
    if path is not None:
        if not path.is_file():
            raise ValueError(f"{shown}: there is no such file; name the study's SQLite file or its SQLAlchemy URL.")
        uri = f"{path.resolve().as_uri()}?mode=ro"
        options["creator"] = lambda: sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=60)
    try:
        url = place if path is None else "sqlite://"
        engine = sqlalchemy.create_engine(url, **options)
        try:
            tables = sqlalchemy.inspect(engine).get_table_names()
        finally:
            engine.dispose()
        if not {"studies", "trials"} <= set(tables):
            raise ValueError(f"{shown}: this database holds no Optuna study; its tables are {sorted(tables)}.")
        storage = RDBStorage(url, engine_kwargs=options)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        reason = str(error.orig) if isinstance(error, sqlalchemy.exc.DBAPIError) else str(error)
        raise ValueError(f"{shown}: this study cannot be opened ({reason}).") from error
    except RuntimeError as error:  # what Optuna raises where the tables were made by another version
        raise ValueError(f"{shown}: this study cannot be read by Optuna {optuna.__version__} ({error}).") from error
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def sqlite_path(place: str) -> Path | None:
    """The file that a path or a ``sqlite:///`` URL names; None for another database."""
    if "://" not in place:
        return Path(place)
    try:
        url = sqlalchemy.engine.make_url(place)
    except sqlalchemy.exc.ArgumentError as error:
        raise ValueError(f"{without_password(place)} is no SQLAlchemy URL ({error}).") from error
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database:
        raise ValueError(f"{place} names no file; write sqlite:///FILE, with four slashes for an absolute path.")
    return Path(url.database)


def without_password(place: str) -> str:
    """The place as it may be shown."""
    try:
        return sqlalchemy.engine.make_url(place).render_as_string(hide_password=True) if "://" in place else place
    except sqlalchemy.exc.ArgumentError:
        return place.split("://")[0] + "://…"


def _chosen(place: str, names: list[str], name: str | None) -> str:
    shown = without_password(place)
    if not names:
        raise ValueError(f"{shown}: this database holds no Optuna study.")
    if name is None:
        if len(names) > 1:
            raise ValueError(
                f"{shown} holds {len(names)} studies: {', '.join(names)}. Name one with --study, or as "
                f"{shown}#{names[0]}."
            )
        return names[0]
    if name not in names:
        raise ValueError(f"{shown} holds no study {name!r}, but {', '.join(names)}.")
    return name


def _record(trial: FrozenTrial, goals: tuple[Goal, ...]) -> dict[str, Any]:
    attributes = trial.user_attrs
    config = attributes.get("config")
    config = {key: value for key, value in config.items() if key != "trial_number"} if isinstance(config, dict) else {}
    parameters = {**trial.params, **config}
    metrics = attributes.get("metrics")
    metrics = dict(metrics) if isinstance(metrics, dict) else {}
    values = trial.values if trial.state == TrialState.COMPLETE else None
    metrics |= {goal.metric: value for goal, value in zip(goals, values or (), strict=False)}
    reason = attributes.get("reason")
    record: dict[str, Any] = {
        "trial": f"{trial.number:04d}",
        "number": trial.number,
        "kind": str(attributes.get("mix", "search")),
        "state": STATE_NAMES[trial.state],
        "error": str(reason) if reason else None,
        "parameters": parameters,
        "asked": weights_of(parameters),
        "metrics": metrics,
        "constraints": dict(trial.constraints),
    }
    if "tokens" in metrics:
        record["tokens"] = metrics["tokens"]
    if isinstance(attributes.get("model_size"), int | float):
        record["model_size"] = attributes["model_size"]
    if trial.duration is not None:
        seconds = {"total": trial.duration.total_seconds()}
        if isinstance(metrics.get("evaluate_seconds"), int | float):
            seconds["evaluate"] = float(metrics["evaluate_seconds"])
        record["seconds"] = seconds
    return record


def _curve(trial: FrozenTrial) -> list[dict[str, Any]]:
    """The points that this package's search keeps, else Optuna's intermediate values by step."""
    name = f"{trial.number:04d}"
    curve = trial.user_attrs.get("curve")
    if isinstance(curve, list):
        return [{"trial": name, "tokens": tokens, "validation_loss": loss} for tokens, loss in curve]
    return [
        {"trial": name, "step": step, "intermediate_value": value}
        for step, value in sorted(trial.intermediate_values.items())
        if math.isfinite(value)
    ]
