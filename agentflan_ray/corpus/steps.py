"""What the passes of a build do for one part each: read (or draw), clean, derive. They run inside Ray tasks.

Every function has the shape of :data:`~agentflan_ray.corpus.parts.Work`: it writes the files of one part and returns
a report of counts. Its task holds only JSON, so that a part is a function of its folder's fingerprint.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import pyarrow as pa
import ray

from agentflan_ray import storage
from agentflan_ray.corpus.clean import examine
from agentflan_ray.corpus.clean.contamination import EvaluationGrams
from agentflan_ray.corpus.clean.duplicates import SIGNATURE_SCHEMA, signature_columns
from agentflan_ray.corpus.clean.recipe import CleanRecipe
from agentflan_ray.corpus.derive import Omission, derive
from agentflan_ray.corpus.negatives import catalogue_of
from agentflan_ray.corpus.parts import Report, finish
from agentflan_ray.corpus.recipe import CorpusRecipe
from agentflan_ray.corpus.similarity import Catalogue
from agentflan_ray.corpus.split import group_of
from agentflan_ray.corpus.store import DERIVED_SCHEMA, KEPT_SCHEMA, REMOVED_SCHEMA, read_table, write_table
from agentflan_ray.sample import Sample
from agentflan_ray.sources.files import Slice
from agentflan_ray.sources.ingest import INGEST_SCHEMA, Outcome, read_slices
from agentflan_ray.toolbox import draw_chat, draw_missing_argument, draw_trajectory
from agentflan_ray.trajectory import Tool, Trajectory, validate

DRAWS = {"tool": draw_trajectory, "chat": draw_chat, "missing_argument": draw_missing_argument}

Recipe = TypeVar("Recipe", CleanRecipe, CorpusRecipe)

FILE_ROWS = 2048
"""Trajectories in a kept file: some seconds of work for the passes after it, and some tens of megabytes of samples."""

FILE_CHARACTERS = 32 * 2**20
"""A kept file ends earlier where its records are long, so that its memory is bounded."""

DRAWS_PER_PART = 2000
"""A draw takes about 2 ms, so that a part is some seconds of work."""

EXAMPLES = 3
"""How many records of each reason a report names."""


def read(folder: str, name: str, task: dict[str, Any], evaluation: ray.ObjectRef | None) -> Report:
    """Read ``slices`` of raw files, or draw conversations ``start`` to ``stop`` of a ``case`` from the embedded world:
    kept rows to ``kept/``, the others to ``set_aside/``.

    What is kept is cleaned at once, from memory, as :func:`clean` does it for a corpus with other rules later.
    """
    if "slices" in task:
        outcomes = read_slices(Slice(**piece) for piece in task["slices"])
    else:
        outcomes = (_drawn(task["case"], index, task["seed"]) for index in range(task["start"], task["stop"]))
    return _write_records(folder, name, outcomes, task["clean"], _fetched(evaluation))


def clean(folder: str, name: str, task: dict[str, Any], evaluation: ray.ObjectRef | None) -> Report:
    """Judge the records of one kept file: the rows that break a rule, the signatures of the others, their tools.

    ``evaluation`` refers to the :class:`EvaluationGrams` that no record may share words with.
    """
    rows = read_table([task["part_uri"]]).to_pylist()
    records = [Outcome(row, Trajectory.from_row(row)) for row in rows]
    return _write_cleaned(folder, name, task, _fetched(evaluation), records)


def _fetched(evaluation: ray.ObjectRef | None) -> EvaluationGrams | None:
    grams: EvaluationGrams | None = None if evaluation is None else ray.get(evaluation)
    return grams


def _write_cleaned(
    folder: str, name: str, task: dict[str, Any], grams: EvaluationGrams | None, records: Sequence[Outcome]
) -> Report:
    recipe = _literals(CleanRecipe, task["recipe"])
    removed: list[dict[str, Any]] = []
    tool_lists: set[str] = set()
    passed: list[tuple[dict[str, Any], Trajectory]] = []
    for row, trajectory in records:
        assert trajectory is not None, f"The row of {row['where']} is not kept."
        verdict = examine(trajectory, recipe, grams)
        place = {"part": task["part"], "where": row["where"], "id": row["id"], "origin": row["origin"]}
        if verdict is None:
            passed.append((place, trajectory))
            tool_lists.add(str(row["tools"]))
        else:
            removed.append({**place, "reason": verdict.reason, "sentence": verdict.sentence})
    write_table(storage.join(folder, f"{name}.removed.parquet"), pa.Table.from_pylist(removed, REMOVED_SCHEMA))
    signatures = signature_columns([trajectory for _, trajectory in passed])
    for column in ("part", "where", "id", "origin"):
        signatures = signatures.append_column(column, pa.array([place[column] for place, _ in passed], pa.string()))
    write_table(storage.join(folder, f"{name}.signatures.parquet"), signatures.select(SIGNATURE_SCHEMA.names))
    tools = merge_tools(sorted(tool_lists))
    storage.write_json(storage.join(folder, f"{name}.tools.json"), [asdict(tool) for tool in tools])
    return {"examined": len(records), "removed": len(removed)}


def make_samples(folder: str, name: str, task: dict[str, Any]) -> Report:
    """Derive the samples of one kept file, but for the records that cleaning removed."""
    recipe = _literals(CorpusRecipe, task["recipe"])
    catalogue = _catalogue(task["catalogue"])
    removed = frozenset(task["removed"])
    rows: list[dict[str, str | None]] = []
    for number, row in enumerate(read_table([task["part_uri"]]).to_pylist()):
        if number not in removed:
            rows += _derived_rows(Trajectory.from_row(row), recipe, catalogue)
    write_table(storage.join(folder, f"{name}.parquet"), pa.Table.from_pylist(rows, DERIVED_SCHEMA))
    made = Counter((row["form"], row["case"]) for row in rows if row["omitted"] is None)
    omitted = Counter((row["case"], row["omitted"]) for row in rows if row["omitted"] is not None)
    return {
        "samples": [[*key, number] for key, number in sorted(made.items())],
        "omitted": [[*key, number] for key, number in sorted(omitted.items())],
    }


def _literals(kind: type[Recipe], values: dict[str, Any]) -> Recipe:
    """A recipe from its JSON, which has lists for tuples."""
    make: Any = kind
    made: Recipe = make(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    return made


def _write_records(
    folder: str, name: str, outcomes: Iterable[Outcome], clean: dict[str, Any], grams: EvaluationGrams | None
) -> Report:
    counts: Counter[tuple[str, str, str]] = Counter()
    last = None
    examples: dict[str, list[str]] = {}
    kept: list[Outcome] = []
    aside: list[dict[str, str | None]] = []
    files: list[str] = []
    size = num_records = 0

    def write_kept() -> None:
        if kept:
            files.append(f"{name}-{len(files):04}")
            table = pa.Table.from_pylist([row for row, _ in kept], KEPT_SCHEMA)
            write_table(storage.join(folder, "kept", f"{files[-1]}.parquet"), table)
            part = f"{clean['records']}/kept/{files[-1]}.parquet"
            report = _write_cleaned(clean["folder"], files[-1], {**clean, "part": part}, grams, kept)
            finish(clean["folder"], files[-1], report)
            kept.clear()

    for row, trajectory in outcomes:
        status, reason = str(row["status"]), row["reason"] or ""
        counts[status, reason, str(row["origin"])] += 1
        # Rows of one record follow each other.
        num_records += row["record"] != last
        last = row["record"]
        if status == "kept":
            kept.append(Outcome(row, trajectory))
            size += sum(len(value) for value in row.values() if value is not None)
        else:
            aside.append(row)
            if len(examples.setdefault(reason, [])) < EXAMPLES:
                examples[reason].append(str(row["sentence"]))
        if len(kept) == FILE_ROWS or size > FILE_CHARACTERS:
            write_kept()
            size = 0
    write_kept()
    if aside:
        table = pa.Table.from_pylist(aside, INGEST_SCHEMA)
        write_table(storage.join(folder, "set_aside", f"{name}.parquet"), table)
    return {
        "records": num_records,
        "counts": [[*key, number] for key, number in sorted(counts.items())],
        "examples": examples,
        "kept": files,
        "set_aside": [name] if aside else [],
    }


def _drawn(case: str, index: int, seed: int) -> Outcome:
    trajectory = DRAWS[case](index, seed, "train")
    faults = validate(trajectory)
    assert not faults, f"The toolbox drew a record that breaks a rule: {faults[0].sentence}"
    where = f"toolbox/{case}:{index + 1}"
    row: dict[str, str | None] = dict.fromkeys(INGEST_SCHEMA.names)
    row |= {"status": "kept", "where": where, "record": where, "origin": "toolbox", **trajectory.to_row()}
    return Outcome(row, trajectory)


def _derived_rows(t: Trajectory, recipe: CorpusRecipe, catalogue: Catalogue) -> Iterator[dict[str, str | None]]:
    group = group_of(t)
    for made in derive(t, recipe, catalogue):
        if isinstance(made, Sample):
            yield {**made.to_row(), "group": group, "omitted": None}
        else:
            assert isinstance(made, Omission)
            yield {
                "id": f"{made.parent}/{made.kind}",
                "parent": made.parent,
                "source": t.source,
                "form": None,
                "case": made.kind,
                "group": group,
                "turns": None,
                "omitted": made.reason,
            }


@functools.lru_cache(maxsize=2)
def _catalogue(uri: str) -> Catalogue:
    """Read once per worker: making it takes longer than the samples of a file."""
    return Catalogue.of([Tool(**tool) for tool in storage.read_json(uri)])


def merge_tools(texts: Iterable[str | bytes]) -> tuple[Tool, ...]:
    """The catalogue of many tool lists (JSON), or of many catalogues: whatever the order, the same tools."""
    return catalogue_of([tuple(Tool(**tool) for tool in json.loads(text)) for text in texts])
