"""Token files and their index: what stands in them, what does not and why, and what is made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agentflan_ray import storage
from agentflan_ray.corpus.parts import Job
from agentflan_ray.corpus.split import is_validation
from agentflan_ray.corpus.store import DERIVED_SCHEMA
from agentflan_ray.mixture import Mixture, Phase, Schedule, make_plan, proportional_weights
from agentflan_ray.randomness import stable_hash
from agentflan_ray.sample import CAPABILITIES, COMPONENTS, Case, Form, Part, Sample, Turn
from agentflan_ray.tokens import token_files
from agentflan_ray.tokens import tokenise as tokenise_module
from agentflan_ray.tokens.blocks import PLAN_SCHEMA, OpenBlocks, write_plan
from agentflan_ray.tokens.encode import Encoder
from agentflan_ray.tokens.tokenise import TokenStore, find_tokens, to_index, tokenise
from agentflan_ray.tokens.tokenizer import load_tokenizer
from tests.small_tokenizer import bare_tokenizer, small_tokenizer


@dataclass(frozen=True)
class FewParts:
    """As much of a corpus as tokenising needs."""

    uri: str
    store_uri: str
    fingerprint: str
    sample_parts: list[str]


def a_sample(number: int, form: Form = "chat", case: Case = "tool", words: str = "") -> Sample:
    said = words or f"reply number {number}"
    turns = (
        Turn("user", (Part(f"Question {number}"),)),
        Turn("assistant", (Part(f"think {number} ", "reasoning"), Part(said, "understanding"))),
        Turn("user", (Part("And then?"),)),
        Turn("assistant", (Part("a_tool", "retrieval"),)),
    )
    return Sample(f"s{number}/{form}", f"t{number}", "made", form, case, turns)


def write_part(uri: str, samples: Sequence[Sample]) -> str:
    rows: list[dict[str, Any]] = [{**sample.to_row(), "omitted": None} for sample in samples]
    rows.insert(1, {**rows[0], "id": "never made", "omitted": "no_reason", "turns": None})
    Path(uri).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, DERIVED_SCHEMA), uri)
    return uri


@pytest.fixture
def tokenizer_path(tmp_path: Path) -> str:
    small_tokenizer().save_pretrained(tmp_path / "tokenizer")
    return str(tmp_path / "tokenizer")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs run here instead of on Ray; the names of those that ran."""
    names: list[str] = []

    def run_jobs(what: str, jobs: Sequence[Job], work: Callable[..., Any], console: Any) -> list[Any]:
        for job in jobs:
            if not storage.exists(job.report_uri):
                storage.write_json(job.report_uri, work(job.folder, job.name, job.task))
                names.append(job.name)
        return [storage.read_json(job.report_uri) for job in jobs]

    monkeypatch.setattr(tokenise_module, "run_jobs", run_jobs)
    return names


def corpus_of(store: Path, *parts: Sequence[Sample], name: str = "1") -> FewParts:
    uris = [
        write_part(str(store / f"samples@{number}" / f"part-{number:05}.parquet"), samples)
        for number, samples in enumerate(parts)
    ]
    return FewParts(str(store / f"corpus@{name}"), str(store), name, uris)


def two_parts(store: Path, name: str = "1") -> FewParts:
    first = [a_sample(number) for number in range(40)]
    second = [a_sample(number, form="react") for number in range(40, 60)]
    second += [a_sample(number, case="no_tool_request") for number in range(60, 80)]
    return corpus_of(store, first, second, name=name)


def whole_index(tokens: TokenStore) -> pa.Table:
    return pq.read_table(Path(tokens.uri, "index.parquet"))


def test_runs_of_one_task_are_on_one_side_and_counted_apart(
    tmp_path: Path, tokenizer_path: str, ran: list[str]
) -> None:
    runs = [replace(a_sample(number), group=f"g{number % 10}") for number in range(40)]
    tokens = tokenise(corpus_of(tmp_path / "store", runs), tokenizer_path, 400)
    rows = whole_index(tokens).to_pylist()
    assert len(rows) == 40
    for row in rows:
        number = int(row["id"][1:].split("/")[0])
        assert row["validation"] == is_validation(f"g{number % 10}")
        assert row["key"] == stable_hash("fraction", f"t{number}")


def test_the_index_holds_every_sample_and_leads_to_its_tokens(
    tmp_path: Path, tokenizer_path: str, ran: list[str]
) -> None:
    corpus = two_parts(tmp_path / "store")
    tokens = tokenise(corpus, tokenizer_path, 400)
    assert ran == ["part-00000", "part-00001"]
    index = whole_index(tokens)
    keys = index["key"].to_pylist()
    assert keys == sorted(keys)
    rows = index.to_pylist()
    assert {row["id"] for row in rows} == {f"s{n}/{'react' if 40 <= n < 60 else 'chat'}" for n in range(80)}
    encode = Encoder(load_tokenizer(tokenizer_path))
    for row in rows:
        number = int(row["id"][1:].split("/")[0])
        assert row["key"] == stable_hash("fraction", f"t{number}")
        expected = encode(a_sample(number, row["form"], row["case"]).turns)
        shard = pa.ipc.open_file(pa.memory_map(str(Path(tokens.shards_uri, row["shard"])))).read_all()
        assert shard["id"][row["row"]].as_py() == row["id"]
        assert shard["input_ids"][row["row"]].as_py() == expected.input_ids.tolist()
        assert shard["tags"][row["row"]].as_py() == expected.tags.tolist()
        assert row["num_tokens"] == len(expected)
        counts = np.bincount(expected.tags[expected.tags >= 0], minlength=len(CAPABILITIES))
        assert [row[capability] for capability in CAPABILITIES] == counts.tolist()
    assert len(tokens.index_table(True)) + len(tokens.index_table(False)) == 80
    assert 0 < len(tokens.index_table(True)) < 20
    planned = to_index(index)
    shares = {name: int(planned.supervised[:, i].sum()) for i, name in enumerate(COMPONENTS)}
    assert shares["instruction"] == sum(sum(r[c] for c in CAPABILITIES) for r in rows if r["form"] == "react")
    assert shares["negative"] == sum(sum(r[c] for c in CAPABILITIES) for r in rows if r["case"] != "tool")
    assert shares["general"] == 0
    table = tokens.manifest["table"]
    assert {row["component"]: row["supervised_tokens"] for row in table} == {n: s for n, s in shares.items() if s}
    assert tokens.manifest["corpus"] == "1"


def test_what_is_there_is_not_made_again_and_is_the_same_elsewhere(
    tmp_path: Path, tokenizer_path: str, ran: list[str]
) -> None:
    assert find_tokens(two_parts(tmp_path / "here"), tokenizer_path, 400) is None
    here = tokenise(two_parts(tmp_path / "here"), tokenizer_path, 400)
    assert find_tokens(two_parts(tmp_path / "here"), tokenizer_path, 400) == here
    assert find_tokens(two_parts(tmp_path / "here"), tokenizer_path, 399) is None
    again = tokenise(two_parts(tmp_path / "here"), tokenizer_path, 400)
    assert (again, len(ran)) == (here, 2)
    # A corpus with one more source makes the tokens of that one only.
    larger = two_parts(tmp_path / "here", name="2")
    more = write_part(str(tmp_path / "here" / "samples@9" / "part-00000.parquet"), [a_sample(n) for n in (90, 91, 92)])
    larger.sample_parts.append(more)
    assert len(whole_index(tokenise(larger, tokenizer_path, 400))) == 83
    assert ran == ["part-00000", "part-00001", "part-00000"]
    # A cut-off job left the files of a part without its report; they are written again with the same bytes.
    files = [*sorted(Path(here.shards_uri).rglob("samples@*/tokens@*/*.a*")), Path(here.uri, "index.parquet")]
    before = [file.read_bytes() for file in files]
    for report in Path(here.shards_uri).glob("samples@1/tokens@*/*.json"):
        report.unlink()
    Path(here.uri, "manifest.json").unlink()
    assert tokenise(two_parts(tmp_path / "here"), tokenizer_path, 400) == here
    assert ran[3:] == ["part-00001"]
    assert [file.read_bytes() for file in files] == before
    there = tokenise(two_parts(tmp_path / "there"), tokenizer_path, 400)
    assert there.fingerprint == here.fingerprint
    assert Path(there.uri, "index.parquet").read_bytes() == before[-1]
    # Another window length or template is another thing.
    assert tokenise(two_parts(tmp_path / "here"), tokenizer_path, 300).fingerprint != here.fingerprint
    assert tokenise(two_parts(tmp_path / "here"), tokenizer_path, 400, "mistral").fingerprint != here.fingerprint


def test_chunks_change_nothing_but_where_batches_end(
    tmp_path: Path, tokenizer_path: str, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tokenise(two_parts(tmp_path / "one"), tokenizer_path, 400)
    monkeypatch.setattr(token_files, "CHUNK_CHARACTERS", 1000)
    small = tokenise(two_parts(tmp_path / "two"), tokenizer_path, 400)
    assert whole_index(small) == whole_index(tokens)
    shards = sorted({row["shard"] for row in whole_index(tokens).to_pylist()})
    for shard in shards:
        one, two = (pa.ipc.open_file(pa.memory_map(str(Path(t.shards_uri, shard)))) for t in (tokens, small))
        assert one.num_record_batches < two.num_record_batches
        assert one.read_all() == two.read_all()


def test_long_samples_are_cut_and_what_fits_nowhere_is_counted(
    tmp_path: Path, tokenizer_path: str, ran: list[str]
) -> None:
    samples = [a_sample(n) for n in range(10)]
    samples += [a_sample(10, words="word " * 55), a_sample(11, words="word " * 200)]
    alone = Sample("s12/chat", "t12", "made", "chat", "tool", a_sample(12, words="word " * 200).turns[:2])
    tokens = tokenise(corpus_of(tmp_path, [*samples, alone]), tokenizer_path, 350)
    rows = {row["id"]: row for row in whole_index(tokens).to_pylist()}
    assert rows["s10/chat#0"]["num_windows"] == rows["s10/chat#1"]["num_windows"] == 2
    assert (rows["s11/chat"]["num_windows"], rows["s11/chat"]["num_lost_turns"]) == (1, 1)
    assert (rows["s12/chat"]["shard"], rows["s12/chat"]["unusable"]) == (None, "no_window")
    assert all(row["num_tokens"] <= 350 for row in rows.values())
    manifest = tokens.manifest
    assert manifest["windows_of_long_samples"] == 2
    assert manifest["learnt_turns_longer_than_a_window"] == 2
    assert manifest["samples_without_a_window"] == 1
    assert manifest["unusable"] == {}


def test_what_the_template_cannot_render_is_counted_with_its_reason(
    tmp_path: Path, tokenizer_path: str, ran: list[str]
) -> None:
    samples = [a_sample(n) for n in range(30)] + [a_sample(30, words="one<|im_end|>two")]
    tokens = tokenise(corpus_of(tmp_path, samples), tokenizer_path, 400)
    assert tokens.manifest["unusable"] == {"control_token_in_text": 1}
    (sentence,) = tokens.manifest["examples"]["control_token_in_text"]
    assert sentence.startswith("Sample 's30/chat': The text of turn 1 ('think 30 one<|im_end|>two') holds")
    (row,) = [row for row in whole_index(tokens).to_pylist() if row["unusable"]]
    assert (row["id"], row["unusable"], row["shard"], row["num_tokens"]) == (
        "s30/chat",
        "control_token_in_text",
        None,
        0,
    )
    assert "s30/chat" not in tokens.index_table(False)["id"].to_pylist() + tokens.index_table(True)["id"].to_pylist()


def test_a_template_that_does_not_fit_the_corpus_is_refused(
    tmp_path: Path, tokenizer_path: str, ran: list[str]
) -> None:
    samples = [a_sample(n) for n in range(18)] + [a_sample(n, words="a<|im_end|>b") for n in (18, 19)]
    with pytest.raises(
        ValueError,
        match=r"can't render 2 of 20 samples \(10.0%; 5% are allowed\): control_token_in_text 2. Sample 's18/chat'",
    ):
        tokenise(corpus_of(tmp_path / "a", samples), tokenizer_path, 400)
    with pytest.raises(ValueError, match=r"None of the 1 samples of .* has tokens to learn \({'no_window': 1}\); make"):
        tokenise(corpus_of(tmp_path / "b", [a_sample(0)]), tokenizer_path, 20)


def test_a_base_model_is_tokenised_with_a_named_template(tmp_path: Path, ran: list[str]) -> None:
    bare_tokenizer("metaspace").save_pretrained(tmp_path / "base")
    tokens = tokenise(two_parts(tmp_path / "store"), str(tmp_path / "base"), 400, "agentflan")
    shard = pa.ipc.open_file(pa.memory_map(str(Path(tokens.shards_uri, whole_index(tokens)["shard"][0].as_py()))))
    text = bare_tokenizer("metaspace").decode(shard.get_batch(0)["input_ids"][0].as_py())
    assert text.startswith("<s> <|Human|>\u0d46Question ")
    assert text.endswith("a_tool\u0d3f</s> \n ")


def test_blocks_come_phase_by_phase_and_hold_what_the_plan_says(
    tmp_path: Path, tokenizer_path: str, ran: list[str]
) -> None:
    tokens = tokenise(two_parts(tmp_path / "store"), tokenizer_path, 400)
    table = tokens.index_table(False)
    index = to_index(table)
    chat, formats = {"reasoning": 0.5, "understanding": 0.5}, {"instruction": 0.5, "negative": 0.5}
    plan = make_plan(index, Schedule((Phase(0.6, chat), Phase(0.4, formats)), budget=6000))
    uri = str(tmp_path / "plan.parquet")
    packing = write_plan(plan, table, 400, 3, uri)
    blocks = OpenBlocks(uri, tokens.shards_uri, 400, 0)()
    assert len(blocks) == packing.num_blocks
    assert packing.efficiency == pytest.approx(plan.num_tokens / (400 * len(blocks)))
    learnt = [
        sorted({blocks.groups[tag].component for tag in blocks[n].tags.tolist() if tag >= 0})
        for n in range(len(blocks))
    ]
    change = next(n for n, components in enumerate(learnt) if "instruction" in components or "negative" in components)
    assert all(set(components) <= set(chat) for components in learnt[:change])
    assert all(set(components) <= set(formats) for components in learnt[change:])
    counts = np.zeros(len(COMPONENTS), dtype=np.int64)
    for number in range(len(blocks)):
        tags = blocks[number].tags
        components = [COMPONENTS.index(blocks.groups[tag].component) for tag in tags[tags >= 0]]
        counts += np.bincount(components, minlength=len(COMPONENTS))
    assert counts.sum() == plan.num_supervised
    assert (counts / counts.sum()).tolist() == pytest.approx([plan.realised[name] for name in COMPONENTS])


def test_remote_token_files_are_copied_to_this_machine_once(
    tmp_path: Path, tokenizer_path: str, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tokenise(two_parts(tmp_path / "store"), tokenizer_path, 400)
    table = tokens.index_table(False)
    plan = make_plan(to_index(table), Mixture(proportional_weights(to_index(table)), budget=4000))
    uri = str(tmp_path / "plan.parquet")
    write_plan(plan, table, 400, 0, uri)
    near = OpenBlocks(uri, tokens.shards_uri, 400, 0)()
    expected = [near[number].input_ids.tolist() for number in range(len(near))]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "machine"))
    monkeypatch.setattr(storage, "is_local", lambda uri: False)
    reads: list[str] = []
    read_bytes = storage.read_bytes

    def counted(uri: str) -> bytes:
        reads.append(uri)
        return read_bytes(uri)

    monkeypatch.setattr(storage, "read_bytes", counted)
    for _ in range(2):
        far = OpenBlocks(uri, tokens.shards_uri, 400, 0)()
        assert [far[number].input_ids.tolist() for number in range(len(far))] == expected
    shards = pq.read_table(uri, schema=PLAN_SCHEMA)["shard"].unique().to_pylist()
    assert sorted(reads) == sorted(f"{tokens.shards_uri}/{shard}" for shard in shards)
