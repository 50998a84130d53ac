"""Write a corpus in the format of another trainer, streaming: its size is bounded by the disk, not by memory."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from agentflan_ray import storage
from agentflan_ray.corpus.card import card
from agentflan_ray.corpus.export import hub
from agentflan_ray.corpus.export.files import JsonLines, expect_empty
from agentflan_ray.corpus.export.reading import families_of, samples_of, trajectories_of
from agentflan_ray.corpus.export.records import (
    Record,
    agentflan_sample,
    kind_of,
    openai_sample,
    openai_trajectory,
    sharegpt_sample,
    sharegpt_trajectory,
)
from agentflan_ray.corpus.store import Corpus
from agentflan_ray.sample import Sample
from agentflan_ray.trajectory import Trajectory

SampleWriter = Callable[[Sample, "Counter[str]"], Record]
TrajectoryWriter = Callable[[Trajectory, "Counter[str]"], Record]

SAMPLE_LINES: dict[str, SampleWriter] = {"sharegpt": sharegpt_sample, "openai": openai_sample}
TRAJECTORY_LINES: dict[str, TrajectoryWriter] = {"sharegpt": sharegpt_trajectory, "openai": openai_trajectory}

FORMATS: dict[str, tuple[str, ...]] = {
    "samples": ("agentflan", "sharegpt", "openai", "datasets"),
    "trajectories": ("sharegpt", "openai"),
}
"""What can be exported, and how. ``agentflan`` and ``datasets`` make a folder, the others one file of JSON lines."""

NUM_EXAMPLES = 6


@dataclass(frozen=True)
class ExportReport:
    """What was written: records by file, and how often the format could not say what the corpus says."""

    files: dict[str, int]
    notes: dict[str, int]

    @property
    def num_records(self) -> int:
        """Records in all files."""
        return sum(self.files.values())


def export(corpus: Corpus, out_uri: str, format: str, what: str = "samples") -> ExportReport:
    """Write the corpus's ``samples`` or its kept ``trajectories`` (what) in a format of :data:`FORMATS`.

    A file of JSON lines ends in ``.jsonl``, or ``.jsonl.gz`` to be compressed; a folder must be empty or new. The same
    corpus gives the same bytes. Raises ``ValueError`` where format or name does not fit.
    """
    if what not in FORMATS:
        raise ValueError(f"There is no export of {what!r}; choose {' or '.join(FORMATS)}.")
    if format not in FORMATS[what]:
        raise ValueError(f"{what} can't be exported as {format!r}; choose {', '.join(FORMATS[what])}.")
    out_uri = storage.absolute(out_uri)
    is_lines = storage.locate(out_uri)[1].endswith((".jsonl", ".jsonl.gz"))
    if format in ("agentflan", "datasets"):
        if is_lines:
            raise ValueError(f"The format {format} is a folder of files, but {out_uri} is the name of one file.")
        expect_empty(out_uri)
    elif not is_lines:
        raise ValueError(f"The format {format} is one file of JSON lines: end {out_uri} in .jsonl or .jsonl.gz.")
    if format == "agentflan":
        return _agentflan(samples_of(corpus), out_uri)
    if format == "datasets":
        return _datasets(corpus, out_uri)
    notes: Counter[str] = Counter()
    if what == "samples":
        records = (SAMPLE_LINES[format](sample, notes) for sample in samples_of(corpus))
    else:
        records = (TRAJECTORY_LINES[format](trajectory, notes) for trajectory in trajectories_of(corpus))
    return _lines(records, out_uri, notes)


def _lines(records: Iterable[Record], out_uri: str, notes: Counter[str]) -> ExportReport:
    with JsonLines(out_uri) as lines:
        for record in records:
            lines.write(record)
    return ExportReport({out_uri: lines.num_records}, _filled(notes))


def _agentflan(samples: Iterable[Sample], out_uri: str) -> ExportReport:
    """One file for each kind of the release that the corpus has."""
    notes: Counter[str] = Counter()
    files: dict[str, JsonLines] = {}
    with contextlib.ExitStack() as stack:
        for sample in samples:
            kind = kind_of(sample)
            if kind not in files:
                uri = storage.join(out_uri, f"agentflan_{kind}.jsonl")
                files[kind] = stack.enter_context(JsonLines(uri))
            files[kind].write(agentflan_sample(sample, notes))
    return ExportReport({lines.uri: lines.num_records for lines in files.values()}, _filled(notes))


def _datasets(corpus: Corpus, out_uri: str) -> ExportReport:
    # Only two columns are read for this, so that the first pass takes a small part of the second one's time.
    num_rows = Counter(hub.split_of(group, parent) for group, parent in families_of(corpus))
    examples: dict[tuple[str, str], Sample] = {}

    def looked_at() -> Iterator[Sample]:
        for sample in samples_of(corpus):
            if len(examples) < NUM_EXAMPLES:
                examples.setdefault((sample.form, sample.case), sample)
            yield sample

    written = hub.write_shards(looked_at(), {split: num_rows[split] for split in hub.SPLITS}, out_uri)
    text = hub.front_matter(corpus.fingerprint, written) + "\n" + card(corpus.manifest, list(examples.values()))
    storage.write_bytes(storage.join(out_uri, "README.md"), text.encode())
    return ExportReport({storage.join(out_uri, f): n for each in written.values() for f, n in each.files.items()}, {})


def _filled(notes: Counter[str]) -> dict[str, int]:
    return {note: number for note, number in sorted(notes.items()) if number}
