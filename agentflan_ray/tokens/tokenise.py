"""Tokenise a corpus once: Ray Data writes Arrow shards that can be read at random, and an index of their rows.

Layout below ``<corpus>/tokens@<fingerprint>/``::

    shards/<hash>.arrow   id, component tags' source (form, case), input_ids, tags; memory-mapped by the workers
    index.parquet         one row per sample in plan order: where it is and how many tokens it has
    manifest.json         identity and counts; written last
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import ray
import ray.data

from agentflan_ray import storage
from agentflan_ray.corpus.data_context import quiet_data
from agentflan_ray.corpus.store import Corpus, read_table
from agentflan_ray.mixture import Index
from agentflan_ray.randomness import stable_hash, stable_share
from agentflan_ray.sample import CAPABILITIES, COMPONENTS, SAMPLE_SCHEMA, Sample, component_of
from agentflan_ray.tokens.encode import Encoder, windows
from agentflan_ray.tokens.tokenizer import load_tokenizer, tokenizer_fingerprint

VALIDATION_SHARE = 0.05
"""Share of trajectories kept out of every mixture, so that all trials are measured on the same unseen text."""

SHARD_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("form", pa.string()),
        ("case", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("tags", pa.list_(pa.int8())),
    ]
)

INDEX_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("key", pa.int64()),
        ("validation", pa.bool_()),
        ("source", pa.string()),
        ("form", pa.string()),
        ("case", pa.string()),
        ("shard", pa.string()),
        ("row", pa.int32()),
        ("num_tokens", pa.int64()),
        *((name, pa.int64()) for name in CAPABILITIES),
        ("num_windows", pa.int32()),
        ("num_lost_turns", pa.int32()),
    ]
)
"""``num_windows`` is above 1 for a part of a long conversation; ``num_lost_turns`` counts learnt turns that fit in no
window and stands in the first row of their sample (``shard`` is null where nothing of it fitted)."""


@dataclass(frozen=True)
class TokenStore:
    """A tokenised corpus: its place and its manifest."""

    uri: str
    manifest: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Identity of corpus, tokenizer, chat template and window length."""
        return str(self.manifest["fingerprint"])

    def index_table(self, validation: bool) -> pa.Table:
        """The rows of the index for training or for validation, in plan order."""
        filesystem, path = storage.locate(storage.join(self.uri, "index.parquet"))
        table = pq.read_table(path, filesystem=filesystem)
        return table.filter((pads.field("validation") == validation) & pads.field("shard").is_valid())


def to_index(table: pa.Table) -> Index:
    """The columns that a mixture is planned from."""
    supervised = np.zeros((len(table), len(COMPONENTS)), dtype=np.int64)
    forms, cases = table["form"].to_pylist(), table["case"].to_pylist()
    rows = np.arange(len(table))
    for capability in CAPABILITIES:
        columns = np.array(
            [COMPONENTS.index(component_of(f, c, capability)) for f, c in zip(forms, cases, strict=True)]
        )
        np.add.at(supervised, (rows, columns.astype(np.int64)), table[capability].to_numpy())
    return Index(table["key"].to_numpy(), table["num_tokens"].to_numpy(), supervised)


def tokenise(corpus: Corpus, tokenizer_path: str, max_tokens: int) -> TokenStore:
    """Tokenise all samples of a corpus, or open the result where it is there already.

    ``max_tokens`` is the block length of training: longer conversations are cut to windows.
    """
    tokenizer = load_tokenizer(tokenizer_path)
    identity = {
        "code": storage.code_fingerprint("tokens", "randomness.py"),
        "corpus": corpus.fingerprint,
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "max_tokens": max_tokens,
        "validation_share": VALIDATION_SHARE,
    }
    fingerprint = storage.fingerprint(identity)
    uri = storage.join(corpus.uri, f"tokens@{fingerprint}")
    manifest_uri = storage.join(uri, "manifest.json")
    if storage.exists(manifest_uri):
        return TokenStore(uri, storage.read_json(manifest_uri))
    storage.remove_folder(uri)
    shards = storage.join(uri, "shards")
    storage.make_folder(shards)

    def tokenise_batch(batch: pa.Table) -> pa.Table:
        return _tokenise(batch, tokenizer_path, max_tokens, shards)

    samples = read_table(corpus.samples_uri, SAMPLE_SCHEMA.names, pads.field("omitted").is_null())
    # One block per 2,000 samples is some seconds of tokenising; loading a tokenizer into a fresh worker takes five.
    blocks = max(1, len(samples) // 2000)
    with quiet_data():
        dataset = ray.data.from_arrow(samples.sort_by("id")).repartition(blocks)
        rows = dataset.map_batches(tokenise_batch, batch_format="pyarrow", batch_size=2000).to_arrow_refs()
    index = pa.concat_tables(ray.get(rows)).sort_by([("key", "ascending"), ("id", "ascending")])
    filesystem, path = storage.locate(storage.join(uri, "index.parquet"))
    pq.write_table(index, path, filesystem=filesystem)
    manifest = {"fingerprint": fingerprint, **identity, "table": _table(index), **_long_ones(index)}
    storage.write_json(manifest_uri, manifest)
    return TokenStore(uri, manifest)


def _tokenise(batch: pa.Table, tokenizer_path: str, max_tokens: int, shards: str) -> pa.Table:
    encode = Encoder(load_tokenizer(tokenizer_path))
    shard_rows: list[dict[str, Any]] = []
    index_rows: list[dict[str, Any]] = []
    for row in batch.to_pylist():
        sample = Sample.from_row(row)
        cut, num_lost = windows(sample.turns, encode, max_tokens)
        common = {
            "key": stable_hash("fraction", sample.parent),
            "validation": stable_share("validation", sample.parent) < VALIDATION_SHARE,
            "source": sample.source,
            "form": sample.form,
            "case": sample.case,
            "num_windows": len(cut),
        }
        if not cut:
            empty = dict.fromkeys(CAPABILITIES, 0)
            index_rows.append({**common, **empty, "id": sample.id, "num_tokens": 0, "num_lost_turns": num_lost})
        for number, encoded in enumerate(cut):
            name = sample.id if len(cut) == 1 else f"{sample.id}#{number}"
            counts = np.bincount(encoded.tags[encoded.tags >= 0], minlength=len(CAPABILITIES))
            index_rows.append(
                {
                    **common,
                    **{capability: int(counts[i]) for i, capability in enumerate(CAPABILITIES)},
                    "id": name,
                    "row": len(shard_rows),
                    "num_tokens": len(encoded),
                    "num_lost_turns": num_lost if number == 0 else 0,
                }
            )
            shard_rows.append(
                {
                    "id": name,
                    "form": sample.form,
                    "case": sample.case,
                    "input_ids": encoded.input_ids,
                    "tags": encoded.tags,
                }
            )
    shard = _write_shard(pa.Table.from_pylist(shard_rows, schema=SHARD_SCHEMA), shards)
    for row in index_rows:
        row["shard"] = shard if "row" in row else None
    return pa.Table.from_pylist(index_rows, schema=INDEX_SCHEMA)


def _write_shard(table: pa.Table, shards: str) -> str:
    """Write an Arrow file named by its content, so that a task that runs twice writes the same file."""
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, SHARD_SCHEMA) as writer:
        writer.write_table(table.combine_chunks())
    name = f"{hashlib.sha256(sink.getbuffer()).hexdigest()[:16]}.arrow"
    storage.write_bytes(storage.join(shards, name), sink.getvalue())
    return name


def _table(index: pa.Table) -> list[dict[str, Any]]:
    """Samples, tokens and supervised tokens by component, form and case."""
    usable = index.filter(pads.field("shard").is_valid())
    supervised = to_index(usable).supervised
    groups: dict[tuple[str, str, str], list[int]] = {}
    columns = zip(usable["form"].to_pylist(), usable["case"].to_pylist(), usable["num_tokens"].to_pylist(), strict=True)
    for (form, case, num_tokens), counts in zip(columns, supervised, strict=True):
        for component in np.flatnonzero(counts):
            entry = groups.setdefault((COMPONENTS[component], form, case), [0, 0, 0])
            entry[0] += 1
            entry[1] += num_tokens
            entry[2] += int(counts[component])
    return [
        {"component": c, "form": f, "case": k, "samples": n, "tokens": t, "supervised_tokens": s}
        for (c, f, k), (n, t, s) in sorted(groups.items(), key=lambda item: (COMPONENTS.index(item[0][0]), item[0][1:]))
    ]


def _long_ones(index: pa.Table) -> dict[str, int]:
    return {
        "windows_of_long_samples": int((index["num_windows"].to_numpy() > 1).sum()),
        "learnt_turns_longer_than_a_window": int(index["num_lost_turns"].to_numpy().sum()),
        "samples_without_a_window": index["shard"].null_count,
    }
