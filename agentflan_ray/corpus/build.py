"""The Ray Data graph that builds a corpus: sources -> records -> samples, a file at every arrow.

Two passes. The first reads every source and writes what became of each record. Between them the driver looks for
duplicate ids and gathers the tools that negatives may list. The second makes all samples of each kept trajectory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import ray.data

from agentflan_ray import storage
from agentflan_ray.corpus.data_context import quiet_data
from agentflan_ray.corpus.derive import Omission, derive
from agentflan_ray.corpus.negatives import catalogue_of
from agentflan_ray.corpus.recipe import CorpusRecipe
from agentflan_ray.corpus.store import DERIVED_SCHEMA, Corpus, count_by, open_corpus, read_table
from agentflan_ray.sample import Sample
from agentflan_ray.sources.files import SourceSpec, plan_slices
from agentflan_ray.sources.ingest import INGEST_SCHEMA, ingest, mark_duplicates
from agentflan_ray.toolbox import draw_chat, draw_missing_argument, draw_trajectory
from agentflan_ray.trajectory import TRAJECTORY_SCHEMA, Tool, Trajectory, validate

MADE_BY = ("corpus", "forms.py", "randomness.py", "sample.py", "sources", "toolbox", "trajectory.py")
"""The parts of this package whose code decides what the same recipe and sources give."""

DRAWS = {"tool": draw_trajectory, "chat": draw_chat, "missing_argument": draw_missing_argument}


@dataclass(frozen=True)
class ToolboxDraw:
    """How many training conversations to draw from the embedded world, by case."""

    tool: int
    chat: int
    missing_argument: int
    seed: int = 0

    @classmethod
    def of_size(cls, num: int, seed: int = 0) -> ToolboxDraw:
        """A draw of ``num`` conversations: half use tools, three eighths are chat, one eighth lacks an argument."""
        missing = num // 8
        chat = 3 * num // 8
        return cls(tool=num - chat - missing, chat=chat, missing_argument=missing, seed=seed)


def build(
    sources: Sequence[SourceSpec | ToolboxDraw],
    recipe: CorpusRecipe,
    out: str,
) -> Corpus:
    """Build a corpus below ``out`` and return it; one that is already complete there is returned as it is.

    Raises ``ValueError`` where no source is given, a path is missing, or more than ``recipe.max_quarantined`` of
    the records are bad; then ``records/`` stays on disk to be looked at.
    """
    if not sources:
        raise ValueError("No source is given; name at least one, such as --source toolbox=2000.")
    identity = {
        "code": storage.code_fingerprint(*MADE_BY),
        "recipe": asdict(recipe),
        "sources": [_identity(source) for source in sources],
    }
    fingerprint = storage.fingerprint(identity)
    uri = storage.join(storage.absolute(out), f"corpus@{fingerprint}")
    if storage.exists(storage.join(uri, "manifest.json")):
        return open_corpus(uri)
    storage.remove_folder(uri)
    storage.make_folder(uri)
    corpus = Corpus(uri, {"fingerprint": fingerprint, **identity})

    with quiet_data():
        _write(_records(sources), corpus.records_uri, ["status"])
        table = read_table(corpus.records_uri, ["status", "reason", "where", "record", "origin", "id"])
        num_duplicates = _set_duplicates_aside(corpus, table)
        counts = _count_records(table, num_duplicates)
        _stop_if_too_many_are_bad(corpus, counts, recipe)
        catalogue = _catalogue(corpus)
        storage.write_json(storage.join(uri, "catalogue.json"), [asdict(tool) for tool in catalogue])
        _write(_samples(corpus, recipe, catalogue), corpus.samples_uri, [])

    derived = read_table(corpus.samples_uri, ["form", "case", "omitted"])
    made = derived.filter(pads.field("omitted").is_null())
    omitted = derived.filter(pads.field("omitted").is_valid())
    manifest = {
        **corpus.manifest,
        "records": counts,
        "samples": count_by(made, ["form", "case"]),
        "omitted": count_by(omitted, ["case", "omitted"]),
    }
    storage.write_json(storage.join(uri, "manifest.json"), manifest)
    return open_corpus(uri)


def _records(sources: Sequence[SourceSpec | ToolboxDraw]) -> ray.data.Dataset:
    datasets = [_drawn(source) for source in sources if isinstance(source, ToolboxDraw)]
    files = [source for source in sources if isinstance(source, SourceSpec)]
    if files:
        datasets.append(ingest(files))
    return datasets[0].union(*datasets[1:]) if len(datasets) > 1 else datasets[0]


def _drawn(draw: ToolboxDraw) -> ray.data.Dataset:
    jobs = [(case, index) for case in DRAWS for index in range(getattr(draw, case))]
    rows = pa.table({"case": [case for case, _ in jobs], "index": [index for _, index in jobs]})
    # One block per 500 draws: a draw takes about 2 ms, so that a block is a second's work.
    dataset = ray.data.from_arrow(rows).repartition(max(1, len(jobs) // 500))

    def draw_batch(batch: pa.Table) -> pa.Table:
        return pa.Table.from_pylist(
            [_drawn_row(row["case"], row["index"], draw.seed) for row in batch.to_pylist()], schema=INGEST_SCHEMA
        )

    return dataset.map_batches(draw_batch, batch_format="pyarrow", batch_size=500)


def _drawn_row(case: str, index: int, seed: int) -> dict[str, str | None]:
    trajectory = DRAWS[case](index, seed, "train")
    faults = validate(trajectory)
    assert not faults, f"The toolbox drew a record that breaks a rule: {faults[0].sentence}"
    where = f"toolbox/{case}:{index}"
    return {
        "status": "kept",
        "reason": None,
        "sentence": None,
        "where": where,
        "record": where,
        "origin": "toolbox",
        **trajectory.to_row(),
        "raw": None,
    }


def _set_duplicates_aside(corpus: Corpus, table: pa.Table) -> int:
    """Write the second and later records of an id to quarantine; their positions say which to pass over."""
    kept = table.filter(pads.field("status") == "kept")
    positions = set(mark_duplicates(kept.select(["id", "where"])))
    rows = [
        {
            **dict.fromkeys(INGEST_SCHEMA.names),
            **row,
            "status": "quarantined",
            "reason": "duplicate_id",
            "sentence": f"The id {row['id']!r} at {row['where']} was used before; give each record its own.",
        }
        for row in kept.to_pylist()
        if row["where"] in positions
    ]
    if rows:
        filesystem, path = storage.locate(storage.join(corpus.records_uri, "status=quarantined"))
        filesystem.create_dir(path, recursive=True)
        columns = [name for name in INGEST_SCHEMA.names if name != "status"]
        duplicates = pa.Table.from_pylist(rows, schema=INGEST_SCHEMA).select(columns)
        pq.write_table(duplicates, f"{path}/duplicates.parquet", filesystem=filesystem)
    return len(rows)


def _count_records(table: pa.Table, num_duplicates: int) -> dict[str, Any]:
    """Rows by status, reason and source. A duplicate counts as quarantined, no longer as kept."""
    rows = count_by(table, ["status", "reason", "origin"])
    totals = {
        status: sum(r["count_all"] for r in rows if r["status"] == status)
        for status in ("kept", "dropped", "quarantined")
    }
    totals["kept"] -= num_duplicates
    totals["quarantined"] += num_duplicates
    reasons: dict[str, dict[str, int]] = {"dropped": {}, "quarantined": {}}
    for row in rows:
        if row["status"] in reasons:
            by_reason = reasons[row["status"]]
            by_reason[row["reason"]] = by_reason.get(row["reason"], 0) + row["count_all"]
    if num_duplicates:
        reasons["quarantined"]["duplicate_id"] = num_duplicates
    return {**totals, "reasons": reasons, "by_source": rows}


def _stop_if_too_many_are_bad(corpus: Corpus, counts: dict[str, Any], recipe: CorpusRecipe) -> None:
    total = counts["kept"] + counts["dropped"] + counts["quarantined"]
    bad = counts["quarantined"]
    if total and bad / total > recipe.max_quarantined:
        reasons = ", ".join(f"{reason} {num}" for reason, num in counts["reasons"]["quarantined"].items())
        raise ValueError(
            f"{bad} of {total} records are bad ({bad / total:.1%}; {recipe.max_quarantined:.0%} are allowed): "
            f"{reasons}. Look at {storage.join(corpus.records_uri, 'status=quarantined')}, mend the data, or allow "
            "more with --max-quarantined."
        )
    if not counts["kept"]:
        reasons = (
            ", ".join(f"{reason} {num}" for reason, num in counts["reasons"]["dropped"].items()) or "none was read"
        )
        raise ValueError(f"No record is left to build from: {reasons}.")


def _catalogue(corpus: Corpus) -> tuple[Tool, ...]:
    table = read_table(corpus.records_uri, ["tools"], pads.field("status") == "kept")
    distinct = table.column("tools").unique().to_pylist()
    return catalogue_of([tuple(Tool(**tool) for tool in json.loads(text)) for text in distinct])


def _samples(corpus: Corpus, recipe: CorpusRecipe, catalogue: tuple[Tool, ...]) -> ray.data.Dataset:
    duplicates_uri = storage.join(corpus.records_uri, "status=quarantined", "duplicates.parquet")
    passed_over: frozenset[str] = frozenset()
    if storage.exists(duplicates_uri):
        filesystem, path = storage.locate(duplicates_uri)
        passed_over = frozenset(pq.read_table(path, filesystem=filesystem, columns=["where"])["where"].to_pylist())
    filesystem, path = storage.locate(storage.join(corpus.records_uri, "status=kept"))
    columns = [*TRAJECTORY_SCHEMA.names, "where"]
    shared = ray.put(catalogue)

    def derive_batch(batch: pa.Table) -> pa.Table:
        tools = ray.get(shared)
        rows = [
            row
            for record in batch.to_pylist()
            if record["where"] not in passed_over
            for row in _derived_rows(Trajectory.from_row(record), recipe, tools)
        ]
        return pa.Table.from_pylist(rows, schema=DERIVED_SCHEMA)

    return ray.data.read_parquet(path, filesystem=filesystem, columns=columns).map_batches(
        derive_batch, batch_format="pyarrow", batch_size=512
    )


def _derived_rows(t: Trajectory, recipe: CorpusRecipe, tools: tuple[Tool, ...]) -> Iterator[dict[str, str | None]]:
    for made in derive(t, recipe, tools):
        if isinstance(made, Sample):
            yield {**made.to_row(), "omitted": None}
        else:
            assert isinstance(made, Omission)
            yield {
                "id": f"{made.parent}/{made.kind}",
                "parent": made.parent,
                "source": t.source,
                "form": None,
                "case": made.kind,
                "turns": None,
                "omitted": made.reason,
            }


def _write(dataset: ray.data.Dataset, uri: str, partition: list[str]) -> None:
    filesystem, path = storage.locate(uri)
    dataset.write_parquet(path, filesystem=filesystem, partition_cols=partition or None)


def _identity(source: SourceSpec | ToolboxDraw) -> dict[str, Any]:
    """What a source is: a draw by its literals, files by their names and contents, never by where they lie."""
    if isinstance(source, ToolboxDraw):
        return {"toolbox": asdict(source)}
    files = sorted({piece.path for piece in plan_slices([source])})
    filesystem, _ = storage.locate(source.uri)
    return {"source": source.source, "files": [[path.rsplit("/", 1)[-1], _digest(filesystem, path)] for path in files]}


def _digest(filesystem: Any, path: str) -> str:
    digest = hashlib.sha256()
    with filesystem.open_input_stream(path, compression=None) as stream:
        while chunk := stream.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()
