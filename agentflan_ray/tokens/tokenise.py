"""Tokenise a corpus once: token files beside its samples, and an index of all their rows.

Layout, below the store::

    samples@<fp>/tokens@<fp>/part-….arrow            tokens and tags of one part, mapped into memory by the workers
                             part-….index.parquet    its rows
                             part-….json             its counts; written last, says that the part is whole
    corpus@<fp>/tokens@<fp>/index.parquet            the rows of all parts in plan order
                            manifest.json            identity and counts; written last

The files of a part are named by the tokenizer, its template and the window length: a corpus that grows by a source
keeps the tokens of the others, and a job that was cut off goes on with the part that it was at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from rich.console import Console

from agentflan_ray import storage
from agentflan_ray.corpus.parts import Job, Report, run_jobs
from agentflan_ray.corpus.split import VALIDATION_SHARE
from agentflan_ray.corpus.store import read_table, write_table
from agentflan_ray.mixture import Index
from agentflan_ray.sample import CAPABILITIES, CASES, COMPONENTS, FORMS, component_of
from agentflan_ray.tokens.token_files import NO_WINDOW, tokenise_part
from agentflan_ray.tokens.tokenizer import load_tokenizer, tokenizer_fingerprint

MAX_UNUSABLE = 0.05
"""Above this share of samples that the chat template can't render, tokenising stops: the template does not fit."""


_CODE = ("tokens/token_files.py", "tokens/tokenizer.py", "corpus/split.py", "randomness.py")
"""With the windows and what they are made by, the code that decides what stands in a token file."""


class Samples(Protocol):
    """What is needed of a corpus; :class:`agentflan_ray.corpus.store.Corpus` has it."""

    @property
    def uri(self) -> str: ...

    @property
    def store_uri(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def sample_parts(self) -> list[str]: ...


@dataclass(frozen=True)
class TokenStore:
    """A tokenised corpus: its place, its manifest, and the store that the shards of its index lie below."""

    uri: str
    manifest: dict[str, Any]
    shards_uri: str

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
    forms, form_names = _codes(table["form"])
    cases, case_names = _codes(table["case"])
    supervised = np.zeros((len(table), len(COMPONENTS)), dtype=np.int64)
    rows = np.arange(len(table))
    for capability in CAPABILITIES:
        components = np.array(
            [[COMPONENTS.index(component_of(f, c, capability)) for c in case_names] for f in form_names], dtype=np.int64
        ).reshape(len(form_names), len(case_names))
        supervised[rows, components[forms, cases]] += table[capability].to_numpy()
    return Index(
        table["key"].to_numpy(),
        table["num_tokens"].to_numpy().astype(np.int64),
        supervised,
        np.array([FORMS.index(name) for name in form_names], dtype=np.int8)[forms],
        np.array([CASES.index(name) for name in case_names], dtype=np.int8)[cases],
    )


def tokenise(
    corpus: Samples, tokenizer_path: str, max_tokens: int, template: str | None = None, console: Console | None = None
) -> TokenStore:
    """Tokenise all samples of a corpus, or open the result where it is there already.

    ``max_tokens`` is the block length of training: longer conversations are cut to windows. ``template`` names a chat
    template to use in place of the model's own (:data:`agentflan_ray.tokens.templates.TEMPLATES`).

    Raises ``ValueError`` as :func:`~agentflan_ray.tokens.tokenizer.load_tokenizer` does, where the template can't
    render more than 5 % of the samples, and where no sample has tokens to learn.
    """
    if (found := find_tokens(corpus, tokenizer_path, max_tokens, template)) is not None:
        return found
    part_identity = _part_identity(tokenizer_path, max_tokens, template)
    uri, identity = _place(corpus, part_identity)
    jobs = [
        _job(corpus, part, f"tokens@{storage.fingerprint(part_identity)}", tokenizer_path, template, max_tokens)
        for part in corpus.sample_parts
    ]
    reports = run_jobs("Tokenising", jobs, tokenise_part, console or Console(quiet=True))
    unusable = _stop_if_too_many_are_unusable(reports)
    index = read_table([storage.join(job.folder, f"{job.name}.index.parquet") for job in jobs])
    index = index.unify_dictionaries().sort_by([("key", "ascending"), ("id", "ascending")])
    table = _table(index)
    if not table:
        raise ValueError(
            f"None of the {len(index):,} samples of {corpus.uri} has tokens to learn ({dict(unusable)}); make windows "
            f"longer than {max_tokens} tokens."
        )
    write_table(storage.join(uri, "index.parquet"), index)
    manifest = {
        **identity,
        "table": table,
        "windows_of_long_samples": pc.sum(pc.greater(index["num_windows"], 1)).as_py(),
        "learnt_turns_longer_than_a_window": pc.sum(index["num_lost_turns"]).as_py(),
        "samples_without_a_window": unusable.pop(NO_WINDOW, 0),
        "unusable": dict(unusable),
        "examples": _examples(reports),
    }
    storage.write_json(storage.join(uri, "manifest.json"), manifest)
    return TokenStore(uri, manifest, corpus.store_uri)


def find_tokens(
    corpus: Samples, tokenizer_path: str, max_tokens: int, template: str | None = None
) -> TokenStore | None:
    """What :func:`tokenise` makes, where it is there already: nothing is started to look."""
    uri, _ = _place(corpus, _part_identity(tokenizer_path, max_tokens, template))
    manifest_uri = storage.join(uri, "manifest.json")
    return TokenStore(uri, storage.read_json(manifest_uri), corpus.store_uri) if storage.exists(manifest_uri) else None


def _part_identity(tokenizer_path: str, max_tokens: int, template: str | None) -> dict[str, Any]:
    """What decides the tokens of a sample."""
    return {
        "code": storage.code_fingerprint(*storage.imported_parts("tokens/windows.py"), *_CODE),
        "tokenizer": tokenizer_fingerprint(load_tokenizer(tokenizer_path, template)),
        "max_tokens": max_tokens,
        "validation_share": VALIDATION_SHARE,
    }


def _place(corpus: Samples, part_identity: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Where the index of a corpus lies, and its identity."""
    identity = {**part_identity, "corpus": corpus.fingerprint}
    fingerprint = storage.fingerprint(identity)
    return storage.join(corpus.uri, f"tokens@{fingerprint}"), {"fingerprint": fingerprint, **identity}


def _job(
    corpus: Samples, part: str, folder_name: str, tokenizer_path: str, template: str | None, max_tokens: int
) -> Job:
    folder = storage.join(storage.parent(part), folder_name)
    name = storage.locate(part)[1].rpartition("/")[2].removesuffix(".parquet")
    below = storage.locate(folder)[1].removeprefix(storage.locate(corpus.store_uri)[1]).strip("/")
    task = {
        "part_uri": part,
        "shard": f"{below}/{name}.arrow",
        "tokenizer": tokenizer_path,
        "template": template,
        "max_tokens": max_tokens,
    }
    filesystem, path = storage.locate(part)
    return Job(folder, name, task, weight=filesystem.get_file_info(path).size)


def _stop_if_too_many_are_unusable(reports: Sequence[Report]) -> Counter[str]:
    """Unusable samples by reason."""
    total = sum(report["samples"] for report in reports)
    unusable: Counter[str] = Counter()
    for report in reports:
        unusable.update(report["unusable"])
    faulty = unusable.total() - unusable[NO_WINDOW]
    if total and faulty / total > MAX_UNUSABLE:
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in unusable.most_common() if reason != NO_WINDOW)
        example = next(sentence for sentences in _examples(reports).values() for sentence in sentences)
        raise ValueError(
            f"The chat template can't render {faulty:,} of {total:,} samples ({faulty / total:.1%}; {MAX_UNUSABLE:.0%} "
            f"are allowed): {reasons}. {example} Choose another template."
        )
    return unusable


def _examples(reports: Sequence[Report]) -> dict[str, list[str]]:
    examples: dict[str, list[str]] = {}
    for report in reports:
        for reason, sentences in report["examples"].items():
            examples[reason] = [*examples.get(reason, []), *sentences][:3]
    return examples


def _table(index: pa.Table) -> list[dict[str, Any]]:
    """Samples, tokens and supervised tokens by component, form and case."""
    usable = index.filter(pads.field("shard").is_valid())
    planned = to_index(usable)
    forms, form_names = _codes(usable["form"])
    cases, case_names = _codes(usable["case"])
    rows = []
    for number, component in enumerate(COMPONENTS):
        counts = planned.supervised[:, number]
        holds = counts > 0
        for form, form_name in enumerate(form_names):
            for case, case_name in enumerate(case_names):
                chosen = holds & (forms == form) & (cases == case)
                if chosen.any():
                    rows.append(
                        {
                            "component": component,
                            "form": form_name,
                            "case": case_name,
                            "samples": int(chosen.sum()),
                            "tokens": int(planned.num_tokens[chosen].sum()),
                            "supervised_tokens": int(counts[chosen].sum()),
                        }
                    )
    return sorted(rows, key=lambda row: (COMPONENTS.index(row["component"]), row["form"], row["case"]))


def _codes(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], list[str]]:
    """A column of names as numbers, and the names that they stand for."""
    encoded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # a column without rows
        return np.zeros(0, dtype=np.int64), []
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()
