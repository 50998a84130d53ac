"""Duplicates among all records, from the columns of :mod:`~agentflan_ray.corpus.clean.signatures` in Parquet.

Records are taken in the order of their positions: file name, row, number within the record. A record is removed if one
that *stays* before it is the same conversation, or nearly the same, or has the same id. So nothing goes because of a
record that is gone itself, however long a chain of likenesses is (a union of all that is alike would keep one record
of a chain); the result does not depend on the order or the number of the files; and what stays has no duplicate among
itself of those that were found.

Each band is one Ray task that reads that column alone (8 bytes a record), sorts it, and compares the signatures of the
records that meet. In a bucket of many, each record is compared with the first :data:`NUM_ANCHORS` only, or templated
data would make quadratically many pairs. The driver holds what is a duplicate, and nothing of the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
from pyarrow import fs

from agentflan_ray.corpus.clean.signatures import BANDS, NUM_PERMUTATIONS, SIGNATURE_SCHEMA, signature_columns
from agentflan_ray.storage import locate

__all__ = ["DUPLICATE_SCHEMA", "SIGNATURE_SCHEMA", "find_duplicates", "signature_columns"]

DUPLICATE_SCHEMA = pa.schema(
    [
        ("where", pa.string()),
        ("part", pa.string()),
        ("id", pa.string()),
        ("origin", pa.string()),
        ("reason", pa.string()),
        ("sentence", pa.string()),
        ("of", pa.string()),
        ("similarity", pa.float32()),
    ]
)
"""One row for each record to remove, in the order of the positions. ``of`` is the position of the record that stays;
``similarity`` is 1 for the same conversation, the estimated Jaccard similarity for a near one, and null for another
conversation with the same id."""

NUM_ANCHORS = 8
"""Two records that are alike but unlike the first eight of a bucket must meet in another band to be found."""

PAIRS_COMPARED = 2**18
"""So many pairs at a time: their signatures have 128 MiB."""

_POSITION = r"^(?P<file>.*):(?P<row>\d+)(?:#(?P<number>\d+))?$"

Ranks = npt.NDArray[np.int64]
"""Places in the order of the positions, from 0."""


class _File(NamedTuple):
    uri: str
    path: str


class _Groups(NamedTuple):
    """Records that share a value with another: their ranks, and the rank of the first that has the same value."""

    members: Ranks
    firsts: Ranks


class _Pairs(NamedTuple):
    """Ranks of two records each, the earlier one first, and their similarity."""

    earlier: Ranks
    later: Ranks
    similarity: npt.NDArray[np.float32]


def find_duplicates(signature_uris: Sequence[str], threshold: float | None) -> pa.Table:
    """A table of :data:`DUPLICATE_SCHEMA` for the records in files, or folders of files, of ``SIGNATURE_SCHEMA``.

    ``reason`` is ``exact_duplicate``, ``near_duplicate`` or ``duplicate_id``, the first that is true. ``threshold`` is
    the estimated Jaccard similarity from which on two records are near duplicates; None looks for none. Needs Ray.
    Raises ``ValueError`` where there is no such place.
    """
    files = _files(signature_uris)
    if not files:
        return DUPLICATE_SCHEMA.empty_table()
    ranks = ray.remote(_ranks).remote(files)
    same_content = ray.remote(_groups).remote(files, "content", ranks)
    same_id = ray.remote(_groups).remote(files, "id", ranks)
    compare = ray.remote(_alike)
    bands = BANDS if threshold is not None else ()
    alike = _merged(_as_ready([compare.remote(files, band, ranks, same_content, threshold) for band in bands]))
    contents, identities = ray.get([same_content, same_id])
    involved = _involved(contents, identities, alike)
    records = ray.get(ray.remote(_records_at).remote(files, ranks, involved))
    return _decide(involved, records, contents, alike)


def _as_ready(references: list[Any]) -> Iterator[_Pairs]:
    while references:
        (ready,), references = ray.wait(references, num_returns=1)
        yield ray.get(ready)


def _files(uris: Sequence[str]) -> list[_File]:
    files = []
    for uri in uris:
        filesystem, path = locate(uri)
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise ValueError(f"There are no signatures at {uri!r}.")
        infos = (
            [info] if info.type == fs.FileType.File else filesystem.get_file_info(fs.FileSelector(path, recursive=True))
        )
        files += [_File(uri, item.path) for item in infos if item.path.endswith(".parquet")]
    return sorted(files)


def _ranks(files: Sequence[_File]) -> Ranks:
    """The rank of each row, rows counted through all files."""
    position = pc.extract_regex(_column(files, "where"), _POSITION)
    row, number = (pc.struct_field(position, name) for name in ("row", "number"))
    keys = pa.table(
        {
            "file": pc.struct_field(position, "file"),
            "row": row.cast(pa.int64()),
            "number": pc.if_else(pc.equal(number, ""), "1", number).cast(pa.int64()),
        }
    )
    order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names]).to_numpy()
    return _inverse(order)


def _groups(files: Sequence[_File], column: str, ranks: Ranks) -> _Groups:
    values = _by_rank(files, column, ranks)
    _, first, group, counts = np.unique(values, return_index=True, return_inverse=True, return_counts=True)
    members = np.flatnonzero(counts[group] > 1)
    return _Groups(members, first[group[members]])


def _alike(files: Sequence[_File], band: str, ranks: Ranks, contents: _Groups, threshold: float) -> _Pairs:
    """The pairs that meet in a band and whose signatures agree in a share of at least ``threshold``.

    Of records with the same conversation only the first is compared.
    """
    values = _by_rank(files, band, ranks)
    compared = np.ones(len(values), bool)
    compared[contents.members] = contents.members == contents.firsts
    candidates = np.flatnonzero(compared)
    earlier, later = _meetings(candidates, values[candidates])
    involved = np.unique(np.concatenate([earlier, later]))
    signatures = _signatures(files, _inverse(ranks)[involved])
    left, right = np.searchsorted(involved, earlier), np.searchsorted(involved, later)
    similarity = np.zeros(len(earlier), np.float32)
    for start in range(0, len(earlier), PAIRS_COMPARED):
        part = slice(start, start + PAIRS_COMPARED)
        similarity[part] = (signatures[left[part]] == signatures[right[part]]).mean(axis=1, dtype=np.float32)
    # A share of 128 is no exact decimal: 0.9 of them is 115.2, and 116 / 128 passes.
    found = similarity >= threshold
    return _Pairs(earlier[found], later[found], similarity[found])


def _meetings(ranks: Ranks, values: npt.NDArray[np.int64]) -> tuple[Ranks, Ranks]:
    """Each record with the first ones of its bucket; ``ranks`` ascend, so a stable sort keeps buckets in order."""
    order = np.argsort(values, kind="stable")
    ranks, values = ranks[order], values[order]
    new = np.ones(len(values), bool)
    new[1:] = values[1:] != values[:-1]
    starts = np.flatnonzero(new)
    start = np.repeat(starts, np.diff(np.append(starts, len(values))))
    within = np.arange(len(values)) - start
    pairs = [
        (ranks[start[behind] + anchor], ranks[behind])
        for anchor in range(NUM_ANCHORS)
        if len(behind := np.flatnonzero(within > anchor))
    ]
    if not pairs:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate([earlier for earlier, _ in pairs]), np.concatenate([later for _, later in pairs])


def _merged(of_bands: Iterable[_Pairs]) -> _Pairs:
    """The pairs of all bands, each once and in order."""
    found = _Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    for new in of_bands:
        earlier = np.concatenate([found.earlier, new.earlier])
        later = np.concatenate([found.later, new.later])
        similarity = np.concatenate([found.similarity, new.similarity])
        _, once = np.unique(earlier * (later.max(initial=0) + 1) + later, return_index=True)
        found = _Pairs(earlier[once], later[once], similarity[once])
    return found


def _involved(contents: _Groups, identities: _Groups, alike: _Pairs) -> Ranks:
    """All records that anything was found about, in order."""
    return np.unique(np.concatenate([contents.members, identities.members, alike.earlier, alike.later]))


def _decide(involved: Ranks, records: pa.Table, contents: _Groups, alike: _Pairs) -> pa.Table:
    """Go through the records in order; what is removed says which record stays in its place."""
    first_of = dict(zip(contents.members.tolist(), contents.firsts.tolist(), strict=True))
    near: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for earlier, later, similarity in zip(*(column.tolist() for column in alike), strict=True):
        near[earlier].append((later, similarity))
        near[later].append((earlier, similarity))
    # By the first record with the same conversation, and by id: which record stays.
    by_content: dict[int, dict[str, Any]] = {}
    by_id: dict[str, dict[str, Any]] = {}
    removed = []
    for rank, record in zip(involved.tolist(), records.to_pylist(), strict=True):
        first = first_of.get(rank, rank)
        where = record["where"]
        staying = [(similarity, by_content[other]) for other, similarity in near[first] if other in by_content]
        if same := by_content.get(first):
            verdict = {
                "reason": "exact_duplicate",
                "sentence": f"The conversation at {where} is the one at {same['where']}.",
                "of": same["where"],
                "similarity": 1.0,
            }
        elif staying:
            similarity, like = max(staying, key=lambda pair: pair[0])
            verdict = {
                "reason": "near_duplicate",
                "sentence": f"The conversation at {where} makes the same calls and says nearly the same as the one at "
                f"{like['where']}: their word 5-grams overlap by {similarity:.0%}.",
                "of": like["where"],
                "similarity": similarity,
            }
        elif used := by_id.get(record["id"]):
            verdict = {
                "reason": "duplicate_id",
                "sentence": f"The id {record['id']!r} at {where} was used before; give each record its own.",
                "of": used["where"],
                "similarity": None,
            }
        else:
            by_content[first] = by_id[record["id"]] = record
            continue
        removed.append({**record, **verdict})
    return pa.Table.from_pylist(removed, DUPLICATE_SCHEMA)


def _records_at(files: Sequence[_File], ranks: Ranks, wanted: Ranks) -> pa.Table:
    """Position, part, id and origin of the records of these ranks, in their order."""
    columns = ["where", "part", "id", "origin"]
    rows = _inverse(ranks)[wanted]
    tables = [table.take(pa.array(inside)) for table, inside in _rows_of(files, columns, np.sort(rows))]
    if not tables:
        return pa.schema([(name, pa.string()) for name in columns]).empty_table()
    return pa.concat_tables(tables).take(pa.array(_inverse(np.argsort(rows, kind="stable"))))


def _signatures(files: Sequence[_File], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """Signatures of these rows, an array of shape (rows, NUM_PERMUTATIONS)."""
    signatures = np.zeros((len(rows), NUM_PERMUTATIONS), np.uint16)
    order = np.argsort(rows, kind="stable")
    done = 0
    for table, inside in _rows_of(files, ["signature"], rows[order]):
        chosen = table["signature"].take(pa.array(inside)).combine_chunks()
        values = np.frombuffer(chosen.buffers()[1], "<u2", len(chosen) * NUM_PERMUTATIONS)
        signatures[order[done : done + len(inside)]] = values.reshape(-1, NUM_PERMUTATIONS)
        done += len(inside)
    return signatures


def _rows_of(
    files: Sequence[_File], columns: list[str], rows: npt.NDArray[np.int64]
) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
    """Tables that hold some of the rows (ascending numbers through all files), and where in the table they are."""
    before = 0
    for uri, path in files:
        with locate(uri)[0].open_input_file(path) as file:
            parquet = pq.ParquetFile(file)
            for group in range(parquet.num_row_groups):
                num_rows = parquet.metadata.row_group(group).num_rows
                inside = rows[slice(*np.searchsorted(rows, [before, before + num_rows]))] - before
                if len(inside):
                    yield parquet.read_row_group(group, columns=columns), inside
                before += num_rows


def _by_rank(files: Sequence[_File], column: str, ranks: Ranks) -> npt.NDArray[np.int64]:
    """A column in the order of the ranks; text as its 64-bit hash, alike on every machine."""
    values = _column(files, column)
    if pa.types.is_string(values.type):
        numbers = pd.util.hash_array(values.to_numpy(), categorize=False).view(np.int64)
    else:
        numbers = values.to_numpy()
    ordered = np.empty(len(numbers), np.int64)
    ordered[ranks] = numbers
    return ordered


def _column(files: Sequence[_File], name: str) -> pa.ChunkedArray:
    def read(place: _File) -> list[pa.Array]:
        with locate(place.uri)[0].open_input_file(place.path) as file:
            chunks: list[pa.Array] = pq.ParquetFile(file).read(columns=[name])[name].chunks
            return chunks

    # A part of a build has some thousand records: of many small files in a bucket, most of the time is waiting.
    with ThreadPoolExecutor(8) as pool:
        chunks = [chunk for found in pool.map(read, files) for chunk in found]
    return pa.chunked_array(chunks, SIGNATURE_SCHEMA.field(name).type)


def _inverse(permutation: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    inverse = np.empty(len(permutation), np.int64)
    inverse[permutation] = np.arange(len(permutation))
    return inverse
