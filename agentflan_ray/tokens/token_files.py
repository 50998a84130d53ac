"""One part of a corpus's samples as tokens: a file to train from and the index of its rows.

It runs inside a Ray task and has the shape of :data:`agentflan_ray.corpus.parts.Work`. What it writes is a function of
the part, the tokenizer and the window length: a part that is made twice has the same bytes.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from agentflan_ray import storage
from agentflan_ray.corpus.split import is_validation, unit_of
from agentflan_ray.corpus.store import write_table
from agentflan_ray.randomness import stable_hash
from agentflan_ray.sample import CAPABILITIES, SAMPLE_SCHEMA, Part, Sample, Turn
from agentflan_ray.tokens.encode import REMEMBERED_CHARACTERS, Encoded, Encoder, TemplateFault
from agentflan_ray.tokens.tokenizer import load_tokenizer
from agentflan_ray.tokens.windows import cut

CHUNK_SAMPLES = 256
CHUNK_CHARACTERS = 2**20
"""What is encoded at once. While it is, a token takes some 150 bytes, so this is 50 MB, one long sample beyond it."""

NO_WINDOW = "no_window"
"""The reason of a sample none of whose learnt turns fits in a window."""

_NAME = pa.dictionary(pa.int32(), pa.string())

SHARD_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("form", pa.string()),
        ("case", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("tags", pa.list_(pa.int8())),
    ]
)
"""A row of a token file, in Arrow's file format, which workers map into memory. ``tags`` as in
:class:`~agentflan_ray.tokens.encode.Encoded`."""

INDEX_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("key", pa.int64()),
        ("validation", pa.bool_()),
        ("source", _NAME),
        ("form", _NAME),
        ("case", _NAME),
        ("shard", _NAME),
        ("row", pa.int32()),
        ("num_tokens", pa.int32()),
        *((name, pa.int32()) for name in CAPABILITIES),
        ("num_windows", pa.int32()),
        ("num_lost_turns", pa.int32()),
        ("unusable", _NAME),
    ]
)
"""A row of an index: a sample or a window of one. ``shard`` is the token file below the store. ``num_windows`` is above
1 for a part of a long conversation; ``num_lost_turns`` counts learnt turns that fit in no window and stands in the
first row of their sample. ``unusable`` says why a sample has no tokens; it then has one row without a ``shard``."""


def tokenise_part(folder: str, name: str, task: dict[str, Any]) -> dict[str, Any]:
    """Write ``<name>.arrow`` and ``<name>.index.parquet``; the report counts samples and unusable ones by reason.

    ``task``: ``part_uri`` (a Parquet file of ``DERIVED_SCHEMA``), ``shard`` (the token file's name below the store),
    ``tokenizer``, ``template`` and ``max_tokens``.
    """
    # The task has one CPU, so threads of the library beyond it would contend with the other tasks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    encode = Encoder(load_tokenizer(task["tokenizer"], task["template"]))
    index: dict[str, list[Any]] = {column: [] for column in INDEX_SCHEMA.names}
    faults: dict[str, list[str]] = {}
    num_rows = num_samples = 0
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SHARD_SCHEMA) as writer:
        for samples in _chunks(task["part_uri"]):
            num_samples += len(samples)
            rows: list[tuple[str, Sample, Encoded]] = []
            for sample, found in zip(samples, encode.batch([sample.turns for sample in samples]), strict=True):
                windows, num_lost, reason = _windows(sample, found, encode, task["max_tokens"])
                if isinstance(reason, TemplateFault):
                    faults.setdefault(reason.reason, []).append(f"Sample {sample.id!r}: {reason}")
                for number, window in enumerate(windows or [None]):
                    row_id = sample.id if len(windows) < 2 else f"{sample.id}#{number}"
                    _add_to(index, sample, row_id, window, reason)
                    index["shard"].append(task["shard"] if window else None)
                    index["row"].append(num_rows + len(rows) if window else None)
                    index["num_windows"].append(len(windows))
                    index["num_lost_turns"].append(0 if number else num_lost)
                    if window:
                        rows.append((row_id, sample, window))
            if rows:
                writer.write_batch(_batch(rows))
            num_rows += len(rows)
    storage.write_bytes(storage.join(folder, f"{name}.arrow"), sink.getvalue())
    write_table(storage.join(folder, f"{name}.index.parquet"), pa.table(index, INDEX_SCHEMA))
    return {
        "samples": num_samples,
        "unusable": dict(sorted(Counter(reason for reason in index["unusable"] if reason).items())),
        "examples": {reason: sentences[:3] for reason, sentences in sorted(faults.items())},
    }


def _chunks(part_uri: str) -> Iterator[list[Sample]]:
    filesystem, path = storage.locate(part_uri)
    read_turns = _SharedTurns()
    chunk: list[Sample] = []
    characters = 0
    names = [*SAMPLE_SCHEMA.names, "omitted"]
    with filesystem.open_input_file(path) as file:
        for batch in pq.ParquetFile(file).iter_batches(CHUNK_SAMPLES, columns=names):
            made = batch.filter(batch["omitted"].is_null())
            columns = [made[name].to_pylist() for name in SAMPLE_SCHEMA.names]
            for identity, parent, source, form, case, group, turns in zip(*columns, strict=True):
                chunk.append(Sample(identity, parent, source, form, case, read_turns(turns), group))
                characters += len(turns)
                if len(chunk) == CHUNK_SAMPLES or characters >= CHUNK_CHARACTERS:
                    yield chunk
                    chunk, characters = [], 0
    if chunk:
        yield chunk


class _SharedTurns:
    """Reads the turns of samples as :meth:`Sample.from_row` does; equal ones become one object, which the encoder knows
    again (of the turns of real corpora, nearly half)."""

    def __init__(self) -> None:
        self._known: dict[tuple[str | None, ...], Turn] = {}
        self._num_characters = 0

    def __call__(self, text: str) -> tuple[Turn, ...]:
        if self._num_characters > REMEMBERED_CHARACTERS:
            self._known.clear()
            self._num_characters = 0
        turns = []
        for role, parts in json.loads(text):
            key = (role, *itertools.chain.from_iterable(parts))
            if (turn := self._known.get(key)) is None:
                turn = Turn(role, tuple(Part(text, capability) for text, capability in parts))
                self._known[key] = turn
                self._num_characters += sum(len(part.text) for part in turn.parts)
            turns.append(turn)
        return tuple(turns)


def _windows(
    sample: Sample, found: Encoded | TemplateFault, encode: Encoder, max_tokens: int
) -> tuple[list[Encoded], int, TemplateFault | str | None]:
    """The windows of a sample, the number of learnt turns that fit in none, and why it has no window."""
    try:
        if isinstance(found, TemplateFault):
            raise found
        if len(found) <= max_tokens:
            return [found], 0, None
        windows, num_lost = cut(sample.turns, found, encode, max_tokens)
        return windows, num_lost, None if windows else NO_WINDOW
    except TemplateFault as fault:
        return [], 0, fault


def _add_to(
    index: dict[str, list[Any]], sample: Sample, row_id: str, window: Encoded | None, reason: TemplateFault | str | None
) -> None:
    index["id"].append(row_id)
    index["key"].append(stable_hash("fraction", sample.parent))
    index["validation"].append(is_validation(unit_of(sample.group, sample.parent)))
    for column in ("source", "form", "case"):
        index[column].append(getattr(sample, column))
    index["num_tokens"].append(len(window) if window else 0)
    tags = window.tags if window else np.zeros(0, dtype=np.int8)
    counts = np.bincount(tags[tags >= 0], minlength=len(CAPABILITIES)).tolist()
    for capability, count in zip(CAPABILITIES, counts, strict=True):
        index[capability].append(count)
    index["unusable"].append(reason.reason if isinstance(reason, TemplateFault) else reason)


def _batch(rows: list[tuple[str, Sample, Encoded]]) -> pa.RecordBatch:
    offsets = pa.array(np.cumsum([0, *(len(window) for _, _, window in rows)]), pa.int32())
    ids = np.concatenate([window.input_ids for _, _, window in rows])
    tags = np.concatenate([window.tags for _, _, window in rows])
    columns = [
        pa.array([name for name, _, _ in rows], pa.string()),
        pa.array([sample.form for _, sample, _ in rows], pa.string()),
        pa.array([sample.case for _, sample, _ in rows], pa.string()),
        pa.ListArray.from_arrays(offsets, pa.array(ids)),
        pa.ListArray.from_arrays(offsets, pa.array(tags)),
    ]
    return pa.record_batch(columns, schema=SHARD_SCHEMA)
