"""Raw files to rows of trajectories, kept, dropped or quarantined, and how the files are dealt out.

Every record of every file comes out as at least one row: rows in = kept + dropped + quarantined, counted over
``record``. Nothing here depends on the order in which groups of slices are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import ray

from agentflan_ray.sources import SOURCES
from agentflan_ray.sources.base import Dropped, MalformedRecord, Source, Where
from agentflan_ray.sources.files import (
    RAW_CHARACTERS,
    SLICE_BYTES,
    BadRow,
    Slice,
    SourceSpec,
    count_lines,
    number_slices,
    plan_slices,
    read_slice,
)
from agentflan_ray.trajectory import TRAJECTORY_SCHEMA, Trajectory, validate

INGEST_SCHEMA = pa.schema(
    [
        ("status", pa.string()),
        ("reason", pa.string()),
        ("sentence", pa.string()),
        ("where", pa.string()),
        ("record", pa.string()),
        ("origin", pa.string()),
        *TRAJECTORY_SCHEMA,
        ("raw", pa.string()),
    ]
)
"""``status`` is kept, dropped or quarantined; ``reason`` and ``sentence`` say why, for rows that are not kept.

``record`` is the position ``file:row`` of the record; ``where`` the position of the trajectory, the same but for
``#2``, ``#3`` behind it where a record holds several. ``origin`` is the name of the spec's source. The trajectory's
columns are null where there is none; ``raw`` is the beginning of a record that is not kept.
"""


class Outcome(NamedTuple):
    """One row of :data:`INGEST_SCHEMA`, and the trajectory that it holds where it is kept."""

    row: dict[str, str | None]
    trajectory: Trajectory | None = None


_COMPRESSED = 5
"""Compressed text is about this many times larger when it is read; it only weighs the blocks."""


def plan_groups(specs: Sequence[SourceSpec], slice_bytes: int = SLICE_BYTES) -> list[list[Slice]]:
    """Everything that ``specs`` name, in groups of slices that each are some seconds of work.

    Paths are looked up at once, and JSON lines files larger than ``slice_bytes`` are read once to number their lines.
    Raises ``ValueError`` as :func:`~agentflan_ray.sources.files.plan_slices` does.
    """
    return list(_grouped(_numbered(plan_slices(specs, slice_bytes)), slice_bytes))


def read_slices(slices: Iterable[Slice]) -> Iterator[Outcome]:
    """What comes of all records of the slices, in order."""
    for piece in slices:
        source = SOURCES[piece.source]
        for where, record in read_slice(piece):
            yield from read_record(source, where, record)


def read_record(source: Source, where: Where, record: dict[str, Any] | BadRow) -> list[Outcome]:
    """What comes of one record, at least one row."""
    if isinstance(record, BadRow):
        row = _row("quarantined", record.reason, record.sentence, str(where), where, source, raw=record.raw)
        return [Outcome(row)]
    try:
        rows = _parsed(source, where, record)
    except RecursionError:
        # JSON that was just shallow enough to be read may be too deep to be written or looked at.
        sentence = "The record holds lists or objects within each other to a depth that Python cannot follow."
        return [Outcome(_row("quarantined", "nested_too_deeply", sentence, str(where), where, source, raw=""))]
    assert rows, f"The parser of {source.name} says nothing about {where}."
    return rows


def _parsed(source: Source, where: Where, record: dict[str, Any]) -> list[Outcome]:
    rows: list[Outcome] = []
    try:
        for number, parsed in enumerate(source.parse(record, where), start=1):
            place = str(where) if number == 1 else f"{where}#{number}"
            rows.append(_outcome(parsed, place, where, source, record))
    except MalformedRecord as error:
        place = f"{where}#{len(rows) + 1}" if rows else str(where)
        rows.append(_outcome(error, place, where, source, record))
    return rows


def _outcome(
    parsed: Trajectory | Dropped | MalformedRecord, place: str, where: Where, source: Source, record: dict[str, Any]
) -> Outcome:
    if not isinstance(parsed, Trajectory):
        status = "dropped" if isinstance(parsed, Dropped) else "quarantined"
        return Outcome(_row(status, parsed.reason, parsed.sentence, place, where, source, raw=_raw(record)))
    if faults := validate(parsed):
        sentence = " ".join(fault.sentence for fault in faults)
        row = _row("quarantined", faults[0].reason, sentence, place, where, source, raw=_raw(record))
        return Outcome({**row, "id": _clean(parsed.id), "source": _clean(parsed.source)})
    columns = parsed.to_row()
    try:
        # The validator has looked at the messages already.
        "".join(columns[name] for name in ("id", "source", "tools", "meta")).encode()
    except UnicodeEncodeError:
        sentence = f"The id, tools or meta of {parsed.id!r} hold half of a surrogate pair, which is no text."
        return Outcome(_row("quarantined", "not_unicode", sentence, place, where, source, raw=_raw(record)))
    return Outcome({**_row("kept", None, None, place, where, source), **columns}, parsed)


def _row(
    status: str,
    reason: str | None,
    sentence: str | None,
    place: str,
    where: Where,
    source: Source,
    raw: str | None = None,
) -> dict[str, str | None]:
    row: dict[str, str | None] = dict.fromkeys(INGEST_SCHEMA.names)
    row |= {"status": status, "reason": reason, "where": place, "record": str(where), "origin": source.name}
    row["sentence"] = None if sentence is None else _clean(sentence)
    row["raw"] = None if raw is None else _clean(raw)
    return row


def _raw(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, default=str)[:RAW_CHARACTERS]


def _clean(text: str) -> str:
    """The text as Arrow can hold it: half surrogate pairs are shown as escapes."""
    return text.encode(errors="backslashreplace").decode()


def _numbered(slices: list[Slice]) -> list[Slice]:
    cut = [piece for piece in slices if not piece.whole]
    if not cut:
        return slices
    count = ray.remote(count_lines)
    numbered = iter(number_slices(cut, ray.get([count.remote(piece) for piece in cut])))
    return [piece if piece.whole else next(numbered) for piece in slices]


def _grouped(slices: Sequence[Slice], slice_bytes: int) -> Iterator[list[Slice]]:
    """Neighbouring slices together until they weigh as much as one: thousands of small files make few tasks."""
    weights = [piece.num_bytes * (_COMPRESSED if piece.path.endswith((".gz", ".zst")) else 1) for piece in slices]
    # At least eight blocks where there is enough to read, so that a small machine is busy too.
    limit = min(slice_bytes, max(sum(weights) // 8, 2**18))
    group: list[Slice] = []
    size = 0
    for piece, weight in zip(slices, weights, strict=True):
        if group and size + weight > limit:
            yield group
            group, size = [], 0
        group.append(piece)
        size += weight
    yield group
