"""What an evaluation leaves behind: ``evaluation/<model>/<benchmark>.json`` and ``<benchmark>-samples.parquet``.

``<benchmark>.json`` holds ``{"benchmark", "protocol", "identity", "model": {"name", "label", "fingerprint"}, "engine",
"fingerprint", "asked": {"items", "of", "limit"}, "versions"}`` and what
:func:`agentflan_ray.evaluate.summary.summarise` says: ``items``, ``errors``, ``metrics``, ``cases``, ``replies``. It
follows from the samples alone, so that an evaluation that is asked for again writes the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agentflan_ray import storage
from agentflan_ray.evaluate.benchmark import Benchmark, Sample
from agentflan_ray.evaluate.cache import run_fingerprint, turns_to_json
from agentflan_ray.evaluate.summary import summarise
from agentflan_ray.versions import versions

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
_TURN = pa.struct(
    [
        ("kept", pa.int32()),
        ("added", pa.list_(_MESSAGE)),
        ("reply", pa.string()),
        ("finish", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("new_tokens", pa.int64()),
        ("choices", pa.list_(pa.string())),
        ("logprobs", pa.list_(pa.float64())),
    ]
)
SAMPLES_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),
        ("case", pa.string()),
        ("data", pa.string()),
        ("turns", pa.list_(_TURN)),
        ("outcome", pa.string()),
        ("scores", pa.map_(pa.string(), pa.float64())),
        ("prompt_tokens", pa.int64()),
        ("new_tokens", pa.int64()),
        ("seconds", pa.float64()),
        ("error", pa.string()),
    ]
)
"""A row for each item. ``data`` and ``outcome`` are JSON. A turn's prompt is the first ``kept`` messages of the turn
before and then those ``added``."""


@dataclass(frozen=True)
class Model:
    """What is evaluated: as it was named, and what identifies its content."""

    name: str
    fingerprint: str

    @property
    def label(self) -> str:
        """A name for folders and tables: the last part of its name and the first digits of its fingerprint."""
        last = self.name.rstrip("/").rpartition("/")[2] or "model"
        digits = re.sub(r"[^A-Za-z0-9]", "", self.fingerprint.rpartition("@")[2])[:6]
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', last)}-{digits}"


class ResultFolder:
    """Where the results of one model lie below an output folder."""

    def __init__(self, out: Path, model: Model) -> None:
        self.model = model
        self.place = out / "evaluation" / model.label

    def episodes_path(self, engine: Mapping[str, Any], benchmark: Benchmark) -> Path:
        """The file of the benchmark's episodes."""
        return self.place / "episodes" / f"{benchmark.name}-{run_fingerprint(engine, benchmark)}.jsonl"

    def replaced(self, benchmark: Benchmark, engine: Mapping[str, Any], num_items: int) -> str | None:
        """What :meth:`write` would lose of the result that is there, in a sentence; None where it loses nothing.

        ``num_items`` are going to be evaluated. More items of the same evaluation lose nothing: they begin with these.
        """
        path = self.place / f"{benchmark.name}.json"
        if not storage.exists(path):
            return None
        try:
            found = storage.read_json(path)
        except ValueError:
            return f"{benchmark.name}: this replaces {path}, which is no JSON."
        same = found["fingerprint"] == run_fingerprint(engine, benchmark)
        if same and num_items >= found["items"]:
            return None
        differing = [f"now {num_items}"] if num_items < found["items"] else []
        for before, now in ((found["engine"], dict(engine)), (found["identity"], dict(benchmark.identity))):
            now = storage.as_json(now)
            differing += [
                f"{name} was {_short(before.get(name))} and is {_short(now.get(name))}"
                for name in dict.fromkeys([*before, *now])
                if before.get(name) != now.get(name)
            ]
        back = "the command without --limit" if same else "the earlier command"
        return (
            f"{benchmark.name}: this replaces the result of {found['items']} item{'s' * (found['items'] != 1)} "
            f"({'; '.join(differing) or 'of another version of this package'}); its episodes stay, and {back} writes "
            "it again from them."
        )

    def write(
        self, benchmark: Benchmark, engine: Mapping[str, Any], samples: Sequence[Sample], limit: int | None, of: int
    ) -> dict[str, Any]:
        """Write the two files of a benchmark that has ``of`` items; what the JSON file holds is returned."""
        summary = {
            "benchmark": benchmark.name,
            "protocol": benchmark.protocol,
            "identity": dict(benchmark.identity),
            "model": {"name": self.model.name, "label": self.model.label, "fingerprint": self.model.fingerprint},
            "engine": dict(engine),
            "fingerprint": run_fingerprint(engine, benchmark),
            "asked": {"items": len(samples), "of": of, "limit": limit},
            "versions": versions(),
            **summarise(samples, benchmark.metrics),
        }
        storage.write_json(self.place / f"{benchmark.name}.json", summary)
        write_samples(self.place / f"{benchmark.name}-samples.parquet", samples)
        return summary


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write :data:`SAMPLES_SCHEMA`, whole or not at all."""
    table = pa.Table.from_pylist([_as_row(sample) for sample in samples], schema=SAMPLES_SCHEMA)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    storage.write_bytes(path, sink.getvalue().to_pybytes())


def _short(value: Any) -> str:
    """A literal in a sentence; a prompt may be long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _as_row(sample: Sample) -> dict[str, Any]:
    replies = [reply for _, reply in sample.turns]
    return {
        "id": sample.item.id,
        "group": sample.item.group,
        "case": sample.item.case,
        "data": json.dumps(dict(sample.item.data)),
        "turns": [_turn(row) for row in turns_to_json(sample.turns)],
        "outcome": json.dumps(dict(sample.outcome)),
        "scores": list(sample.scores.items()),
        "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
        "new_tokens": sum(reply.new_tokens for reply in replies),
        "seconds": sample.seconds,
        "error": sample.error,
    }


def _turn(row: Mapping[str, Any]) -> dict[str, Any]:
    request, reply = row["request"], row["reply"]
    return {
        "kept": row["kept"],
        "added": [
            {name: _utf8(message.get(name, "")) for name in ("role", "content")} for message in request["messages"]
        ],
        "reply": reply["text"],
        **{name: reply[name] for name in ("finish", "prompt_tokens", "new_tokens")},
        "choices": request["choices"],
        "logprobs": reply["logprobs"],
    }


def _utf8(text: str) -> str:
    """Text that a file can hold: an observation may carry half a surrogate pair."""
    return text.encode("utf-8", "replace").decode("utf-8")
