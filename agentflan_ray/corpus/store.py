"""A built corpus on disk: immutable, named by its fingerprint, complete when its manifest is there.

Layout below ``<store>/corpus@<fingerprint>/``::

    records/status=kept/…         trajectories, one row each (Parquet)
    records/status=dropped/…      what the format's own rules filter out, with reason and position
    records/status=quarantined/…  bad rows, with reason, sentence, position and the start of the raw text
    samples/…                     training samples, and the ones that could not be made with their reason
    catalogue.json                the tools that negatives may list
    manifest.json                 identity, parents, counts; written last
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads

from agentflan_ray import storage
from agentflan_ray.sample import SAMPLE_SCHEMA

DERIVED_SCHEMA = pa.schema([*SAMPLE_SCHEMA, ("omitted", pa.string())])
"""A row of ``samples``: a sample, or (``omitted`` set) the reason why one could not be made."""


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
    def records_uri(self) -> str:
        """Folder of the records."""
        return storage.join(self.uri, "records")

    @property
    def samples_uri(self) -> str:
        """Folder of the samples."""
        return storage.join(self.uri, "samples")


def open_corpus(uri: str) -> Corpus:
    """A complete corpus at this place. Raises ``ValueError`` where there is none or its build was cut off."""
    manifest = storage.join(uri, "manifest.json")
    if not storage.exists(manifest):
        raise ValueError(f"No complete corpus at {uri!r} (no manifest.json); build it with: agentflan build --out DIR.")
    return Corpus(uri, storage.read_json(manifest))


def read_table(uri: str, columns: list[str] | None = None, where: pads.Expression | None = None) -> pa.Table:
    """The rows of a folder of Parquet files, partition folders (``name=value``) read as columns."""
    filesystem, path = storage.locate(uri)
    partitioning = pads.partitioning(pa.schema([("status", pa.string())]), flavor="hive")
    dataset = pads.dataset(path, filesystem=filesystem, format="parquet", partitioning=partitioning)
    return dataset.to_table(columns=columns, filter=where)


def count_by(table: pa.Table, columns: list[str]) -> list[dict[str, Any]]:
    """Rows counted by the values of the columns, largest first, then by value."""
    counted = table.group_by(columns).aggregate([([], "count_all")]).to_pylist()
    return sorted(counted, key=lambda row: (-row["count_all"], *(str(row[name]) for name in columns)))
