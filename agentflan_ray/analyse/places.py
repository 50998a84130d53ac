"""Which kind of place a report is made of, and where it goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from agentflan_ray.analyse import frame, study, tune
from agentflan_ray.analyse.frame import Run


def load(place: str, study_name: str | None = None) -> Run:
    """Read a run folder, a folder of Ray Tune's results, or an Optuna study, whichever the place is.

    Args:
        place: A folder, a SQLite file or an SQLAlchemy URL; ``#name`` at its end names a study.
        study_name: The study, in place of ``#name``.

    Raises:
        ValueError: It is none of these, or a file in it is broken; see the loaders of the three.
    """
    path = Path(place)
    if "://" not in place and path.is_dir():
        return _folder(path, study_name)
    place, _, named = place.partition("#")
    if named and study_name and named != study_name:
        raise ValueError(f"The place names the study {named!r}, but --study names {study_name!r}; name it once.")
    if "://" not in place and not Path(place).is_file():
        raise ValueError(
            f"{place}: there is no such folder or file; give a run folder, a folder of Ray Tune's results, a study's "
            "SQLite file, or its SQLAlchemy URL."
        )
    return study.load(place, named or study_name)


def output_folder(run: Run) -> Path:
    """Where a report goes unless told: into a run folder, and for the rest into the working folder."""
    if run.origin == "run folder":
        return run.folder
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in run.name)
    return Path(f"{safe.lstrip('.') or 'study'}-report")


def _folder(path: Path, study_name: str | None) -> Run:
    if (path / "sweep.json").exists():
        return load_run(path)
    if tune.is_experiment(path):
        return tune.load(path)
    inner = sorted(child.name for child in path.iterdir() if child.is_dir() and tune.is_experiment(child))
    if inner:
        raise ValueError(
            f"{path} holds the Ray Tune experiments {', '.join(inner)}; name one of them, such as {path / inner[0]}."
        )
    databases = sorted(child.name for child in path.iterdir() if child.suffix in (".db", ".sqlite", ".sqlite3"))
    if len(databases) == 1 and study_name:
        return study.load(str(path / databases[0]), study_name)
    hint = f" It holds {', '.join(databases)}: name the file itself for its study." if databases else ""
    raise ValueError(
        f"{path} is neither a run folder (there is no sweep.json) nor Ray Tune's results (no folder in it has a "
        f"result.json, progress.csv or params.json).{hint}"
    )


def load_run(path: Path) -> Run:
    """A run folder with what its study adds: bounds of the parameters, objectives and constraints.

    Raises:
        ValueError: see :func:`agentflan_ray.analyse.frame.load`.
    """
    run = frame.load(path)
    searched, goals, note = study.beside(path / "study.db", run.name)
    constraints = {f"{trial.number:04d}": trial.constraints for trial in searched if trial.constraints}
    numbers = run.trials["number"].map(lambda number: "" if pd.isna(number) else f"{int(number):04d}")
    names = sorted({name for held in constraints.values() for name in held})
    excesses = pd.DataFrame(
        {f"constraints.{name}": [constraints.get(key, {}).get(name) for key in numbers] for name in names},
        index=run.trials.index,
        dtype=float,
    )
    return replace(
        run,
        trials=pd.concat([run.trials, excesses], axis=1).copy(),
        # The results name what they measured; a study that calls it otherwise cannot be matched to them.
        goals=goals if goals and all(goal.column in run.trials for goal in goals) else run.goals,
        searched=searched,
        notes=(*run.notes, *([note] if note else [])),
    )
