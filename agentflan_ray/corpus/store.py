"""Built corpora on disk: immutable, named by their fingerprints, complete when their manifests are there.

Layout of a store::

    records@<fp>/kept/part-00000-0000.parquet       trajectories of one source, KEPT_SCHEMA
                 set_aside/part-00000.parquet       what its format's rules drop, and bad rows: INGEST_SCHEMA
    clean@<fp>/part-00000-0000.*.parquet            of each kept file: its verdicts, its signatures
    samples@<fp>/part-00000-0000.parquet            samples of one kept file, and what could not be made: DERIVED_SCHEMA
    corpus@<fp>/removed.parquet                     kept records that cleaning removed, REMOVED_SCHEMA
                catalogue.json                      the tools that negatives may list
                manifest.json, README.md            identity, parents, counts, parts; a card for people; written last

A folder ``kind@<fp>`` is named by everything that decides its content, code included, so whatever a new recipe or a new
source leaves as it was is found again and not made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from agentflan_ray import storage
from agentflan_ray.sample import SAMPLE_SCHEMA
from agentflan_ray.trajectory import TRAJECTORY_SCHEMA

KEPT_SCHEMA = pa.schema([*TRAJECTORY_SCHEMA, ("where", pa.string()), ("origin", pa.string())])
"""A kept trajectory, the position ``file:row`` that it was read at, and the name of the source it was read as."""

DERIVED_SCHEMA = pa.schema([*SAMPLE_SCHEMA, ("omitted", pa.string())])
"""A row of ``samples``: a sample, or (``omitted`` set) the reason why one could not be made."""

REMOVED_SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("where", pa.string()),
        ("id", pa.string()),
        ("origin", pa.string()),
        ("reason", pa.string()),
        ("sentence", pa.string()),
    ]
)
"""A record that cleaning removed: the kept file that holds it (below the store), its position, and why."""


@dataclass(frozen=True)
class Corpus:
    """A complete corpus: its place and its manifest."""

    uri: str
    manifest: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Identity of the recipe, the sources' contents and the code that made it."""
        return str(self.manifest["fingerprint"])

    @property
    def store_uri(self) -> str:
        """The store that the corpus lies in, which its parts are named below."""
        return storage.parent(self.uri)

    @property
    def record_parts(self) -> list[str]:
        """Files of kept trajectories (KEPT_SCHEMA), in the order of the sources. Some rows are named in ``removed``."""
        return self._parts("kept")

    @property
    def set_aside_parts(self) -> list[str]:
        """Files of dropped and quarantined rows (INGEST_SCHEMA)."""
        return self._parts("set_aside")

    @property
    def sample_parts(self) -> list[str]:
        """Files of samples (DERIVED_SCHEMA), one for each of ``record_parts``."""
        return self._parts("samples")

    def removed(self) -> pa.Table:
        """The records that cleaning removed (REMOVED_SCHEMA)."""
        return read_table([storage.join(self.uri, "removed.parquet")])

    def _parts(self, kind: str) -> list[str]:
        return [storage.join(self.store_uri, part) for part in self.manifest["parts"][kind]]


def open_corpus(uri: str) -> Corpus:
    """A complete corpus at this place.

    Raises ``ValueError`` where there is none, its build was cut off, or another version of the program made it.
    """
    uri = storage.absolute(uri).rstrip("/")
    manifest = storage.join(uri, "manifest.json")
    if not storage.exists(manifest):
        raise ValueError(f"No complete corpus at {uri!r} (no manifest.json); build it with: agentflan build --out DIR.")
    corpus = Corpus(uri, storage.read_json(manifest))
    for part in corpus.sample_parts[:1]:
        filesystem, path = storage.locate(part)
        if missing := set(DERIVED_SCHEMA.names) - set(pq.read_schema(path, filesystem=filesystem).names):
            raise ValueError(
                f"The corpus {uri} was built by another version of this program: its samples lack "
                f"{', '.join(sorted(missing))}; build it again with: agentflan build."
            )
    return corpus


def read_table(
    parts: Sequence[str], columns: list[str] | None = None, where: pads.Expression | None = None
) -> pa.Table:
    """The rows of Parquet files of one schema, file after file."""
    if not parts:
        raise ValueError("There is no file to read rows from.")
    filesystem, _ = storage.locate(parts[0])
    paths = [storage.locate(part)[1] for part in parts]
    return pads.dataset(paths, filesystem=filesystem, format="parquet").to_table(columns=columns, filter=where)


def write_table(uri: str, table: pa.Table) -> None:
    """Write a Parquet file whole or not at all, the same bytes for the same table."""
    sink = pa.BufferOutputStream()
    # Level 1 of zstd halves Snappy's size on conversations at its speed.
    pq.write_table(table, sink, compression="zstd", compression_level=1)
    storage.write_bytes(uri, sink.getvalue())


def count_by(table: pa.Table, columns: list[str]) -> list[dict[str, Any]]:
    """Rows counted by the values of the columns, largest first, then by value."""
    counted = table.group_by(columns).aggregate([([], "count_all")]).to_pylist()
    return sorted(counted, key=lambda row: (-row["count_all"], *(str(row[name]) for name in columns)))
