"""A folder that ``datasets.load_dataset(folder)`` loads and that can be pushed to a hub: Parquet shards and a card.

Columns: ``id``, ``parent`` (the trajectory that the sample was made from), ``source``, ``form``, ``case``, ``group``
(its task, which decides the split), and ``messages`` with ``role``, ``content``, ``loss`` (is anything of it learnt)
and ``spans``: characters ``start`` to ``end`` of the content that are learnt, with the capability that they carry.
Nothing of a sample is lost.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from agentflan_ray import storage
from agentflan_ray.corpus.export.files import whole_file
from agentflan_ray.corpus.split import is_validation, unit_of
from agentflan_ray.sample import SAMPLE_SCHEMA, Sample, Turn

SHARD_ROWS = 50_000
"""Samples in a file: at 1 to 4 kB of text each it stays below the 500 MB that the hub advises."""

BATCH_ROWS = 1_000
"""Samples held in memory, and rows of a row group, which is what a streaming reader fetches at once."""

HUB_SCHEMA = pa.schema(
    [
        *(field for field in SAMPLE_SCHEMA if field.name != "turns"),
        (
            "messages",
            pa.list_(
                pa.struct(
                    [
                        ("role", pa.string()),
                        ("content", pa.string()),
                        ("loss", pa.bool_()),
                        (
                            "spans",
                            pa.list_(
                                pa.struct([("start", pa.int32()), ("end", pa.int32()), ("capability", pa.string())])
                            ),
                        ),
                    ]
                )
            ),
        ),
    ]
)

SPLITS = ("train", "validation")


def hub_row(sample: Sample) -> dict[str, Any]:
    """The row of :data:`HUB_SCHEMA`."""
    return {
        "id": sample.id,
        "parent": sample.parent,
        "source": sample.source,
        "form": sample.form,
        "case": sample.case,
        "group": sample.group,
        "messages": [_message(turn) for turn in sample.turns],
    }


def split_of(group: str, parent: str) -> str:
    """``train`` or ``validation``, by the rule that keeps validation text out of every mixture."""
    return "validation" if is_validation(unit_of(group, parent)) else "train"


def shard_names(num_rows: dict[str, int]) -> dict[str, list[str]]:
    """Names of the files of each split; a split without rows has none."""
    names = {}
    for split, number in num_rows.items():
        count = math.ceil(number / SHARD_ROWS)
        names[split] = [f"data/{split}-{index:05}-of-{count:05}.parquet" for index in range(count)]
    return names


@dataclass(frozen=True)
class Written:
    """What became of one split: its files, their bytes on disk, and the bytes of its rows in memory."""

    files: dict[str, int]
    """Rows by name."""
    num_bytes_on_disk: int
    num_bytes: int

    @property
    def num_rows(self) -> int:
        """Rows of all files."""
        return sum(self.files.values())


def write_shards(samples: Iterable[Sample], num_rows: dict[str, int], out_uri: str) -> dict[str, Written]:
    """Write the samples, of which each split has as many as ``num_rows`` says: the names of files tell how many of
    them there are. A file is there whole or not at all."""
    with contextlib.ExitStack() as stack:
        writers = {
            split: stack.enter_context(_Shards(out_uri, names)) for split, names in shard_names(num_rows).items()
        }
        for sample in samples:
            writers[split_of(sample.group, sample.parent)].add(hub_row(sample))
    return {split: writer.written() for split, writer in writers.items()}


def front_matter(fingerprint: str, written: dict[str, Written]) -> str:
    """The YAML block that opens the card: which files are which split, the columns, the sizes."""
    filled = {split: each for split, each in written.items() if each.files}
    meta = {
        "pretty_name": f"Agent corpus {fingerprint}",
        "task_categories": ["text-generation"],
        "tags": ["agent", "tool-use", "function-calling", "agentflan-ray"],
        "size_categories": [_size_category(sum(each.num_rows for each in filled.values()))],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in filled],
            }
        ],
        "dataset_info": {
            "features": [_feature(field) for field in HUB_SCHEMA],
            "splits": [
                {"name": split, "num_bytes": each.num_bytes, "num_examples": each.num_rows}
                for split, each in filled.items()
            ],
            "download_size": sum(each.num_bytes_on_disk for each in filled.values()),
            "dataset_size": sum(each.num_bytes for each in filled.values()),
        },
    }
    return f"---\n{yaml.safe_dump(meta, sort_keys=False, allow_unicode=True)}---\n"


class _Shards:
    """Rows to one file after another, :data:`SHARD_ROWS` in each."""

    def __init__(self, out_uri: str, names: Sequence[str]) -> None:
        self._out_uri = out_uri
        self._names = list(names)
        self._files: dict[str, int] = {}
        self._num_bytes = 0
        self._rows: list[dict[str, Any]] = []
        self._open = contextlib.ExitStack()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self._flush()
        self._open.__exit__(*error)

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == BATCH_ROWS:
            self._flush()

    def written(self) -> Written:
        places = [storage.locate(storage.join(self._out_uri, name)) for name in self._files]
        sizes = [filesystem.get_file_info(path).size for filesystem, path in places]
        return Written(self._files, sum(sizes), self._num_bytes)

    def _flush(self) -> None:
        if not self._rows:
            return
        # SHARD_ROWS is a multiple of BATCH_ROWS, so that no batch reaches into the next file.
        if self._writer is None or self._files[self._name] == SHARD_ROWS:
            self._begin_file()
        table = pa.Table.from_pylist(self._rows, HUB_SCHEMA)
        assert self._writer is not None
        self._writer.write_table(table)
        self._num_bytes += table.nbytes
        self._files[self._name] += len(table)
        self._rows = []

    def _begin_file(self) -> None:
        self._open.close()
        self._name = self._names[len(self._files)]
        self._files[self._name] = 0
        path = self._open.enter_context(whole_file(storage.join(self._out_uri, self._name)))
        self._writer = self._open.enter_context(pq.ParquetWriter(path, HUB_SCHEMA, compression="zstd"))


def _message(turn: Turn) -> dict[str, Any]:
    spans = []
    start = 0
    for part in turn.parts:
        end = start + len(part.text)
        if part.capability is not None and part.text:
            spans.append({"start": start, "end": end, "capability": part.capability})
        start = end
    return {"role": turn.role, "content": turn.text, "loss": bool(spans), "spans": spans}


def _feature(field: pa.Field) -> dict[str, Any]:
    """A column as ``dataset_info`` of a card describes it."""
    if pa.types.is_list(field.type):
        return {"name": field.name, "list": [_feature(inner) for inner in field.type.value_type]}
    names = {pa.string(): "string", pa.bool_(): "bool", pa.int32(): "int32"}
    return {"name": field.name, "dtype": names[field.type]}


def _size_category(num_rows: int) -> str:
    """The hub's name for a number of rows."""
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for bound, name in bounds if num_rows < bound), "1M<n<10M")
