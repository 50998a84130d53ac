"""The corpus build on real Ray: what comes out, what does not and why, and the tokens of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as pads
import pytest

from agentflan_ray.corpus.build import ToolboxDraw, build
from agentflan_ray.corpus.recipe import CorpusRecipe
from agentflan_ray.corpus.store import open_corpus, read_table
from agentflan_ray.mixture import Mixture, make_plan, proportional_weights
from agentflan_ray.sample import CAPABILITIES, COMPONENTS, SAMPLE_SCHEMA, Sample
from agentflan_ray.sources.files import SourceSpec
from agentflan_ray.tokens.blocks import OpenBlocks, write_plan
from agentflan_ray.tokens.tokenise import to_index, tokenise
from agentflan_ray.trajectory import TRAJECTORY_SCHEMA, Trajectory
from tests.small_tokenizer import small_tokenizer

DRAW = ToolboxDraw(tool=60, chat=40, missing_argument=20)


@pytest.fixture(scope="module")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    small_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def corpus(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build([DRAW], CorpusRecipe(), str(tmp_path_factory.mktemp("store")))


def good(identity: str) -> str:
    tools = [{"type": "function", "function": {"name": "clock", "description": "Time.", "parameters": {}}}]
    call = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [call]},
        {"role": "tool", "content": "12:00", "tool_call_id": "1"},
        {"role": "assistant", "content": "Noon."},
    ]
    return json.dumps({"id": identity, "messages": messages, "tools": tools})


def test_the_embedded_corpus_has_every_case_and_loses_nothing(corpus: Any) -> None:
    records = corpus.manifest["records"]
    assert (records["kept"], records["dropped"], records["quarantined"]) == (120, 0, 0)
    cases = {(row["form"], row["case"]): row["count_all"] for row in corpus.manifest["samples"]}
    assert (
        cases[("chat", "tool")] + sum(r["count_all"] for r in corpus.manifest["omitted"] if r["case"] == "chat") == 60
    )
    assert cases[("chat", "missing_argument")] == 20
    assert cases[("chat", "chat")] == 40
    for case in ("no_tool_request", "irrelevant_tool", "chat_with_tools"):
        assert cases[("chat", case)] > 0


def test_a_second_build_reads_what_is_there(corpus: Any) -> None:
    before = Path(corpus.uri, "manifest.json").stat().st_mtime_ns
    again = build([DRAW], CorpusRecipe(), str(Path(corpus.uri).parent))
    assert again.fingerprint == corpus.fingerprint
    assert Path(corpus.uri, "manifest.json").stat().st_mtime_ns == before


def test_the_same_literals_give_the_same_samples_elsewhere(corpus: Any, tmp_path: Path) -> None:
    again = build([DRAW], CorpusRecipe(), str(tmp_path))
    assert again.fingerprint == corpus.fingerprint
    tables = [read_table(c.samples_uri, SAMPLE_SCHEMA.names).sort_by("id") for c in (corpus, again)]
    assert tables[0].equals(tables[1])


def test_every_sample_comes_from_a_kept_trajectory(corpus: Any) -> None:
    kept = read_table(corpus.records_uri, TRAJECTORY_SCHEMA.names, pads.field("status") == "kept").to_pylist()
    ids = {Trajectory.from_row(row).id for row in kept}
    made = read_table(corpus.samples_uri, SAMPLE_SCHEMA.names, pads.field("omitted").is_null()).to_pylist()
    samples = [Sample.from_row(row) for row in made]
    assert {sample.parent for sample in samples} == ids
    assert len({sample.id for sample in samples}) == len(samples)


def test_bad_rows_are_counted_and_kept_with_reason_and_place(local_ray: None, tmp_path: Path) -> None:
    lines = [good(f"r{i}") for i in range(60)]
    lines[7] = lines[7][:-9]
    lines[9] = good("r8")
    lines[20] = good("r20").replace('"role": "user"', '"role": "narrator"')
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    corpus = build([SourceSpec("openai_messages", str(tmp_path / "log.jsonl"))], CorpusRecipe(), str(tmp_path / "s"))
    records = corpus.manifest["records"]
    assert records["kept"] + records["quarantined"] + records["dropped"] == 60
    assert records["reasons"]["quarantined"] == {"not_json": 1, "unknown_role": 1, "duplicate_id": 1}
    rows = read_table(corpus.records_uri, ["reason", "sentence", "where"], pads.field("status") == "quarantined")
    places = {row["reason"]: (row["where"], row["sentence"]) for row in rows.to_pylist()}
    assert places["duplicate_id"][0].endswith("log.jsonl:10")
    assert "The id 'r8'" in places["duplicate_id"][1]
    assert places["not_json"][0].endswith("log.jsonl:8")
    samples = read_table(corpus.samples_uri, ["id"])["id"].to_pylist()
    assert len(samples) == len(set(samples))


def test_too_many_bad_rows_stop_the_build_with_their_reasons(local_ray: None, tmp_path: Path) -> None:
    lines = [good(f"r{i}") if i % 3 else "{" for i in range(30)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    source = SourceSpec("openai_messages", str(tmp_path / "log.jsonl"))
    with pytest.raises(ValueError, match=r"10 of 30 records are bad \(33.3%; 5% are allowed\): not_json 10"):
        build([source], CorpusRecipe(), str(tmp_path / "store"))
    with pytest.raises(ValueError, match="No complete corpus at"):
        open_corpus(str(next((tmp_path / "store").iterdir())))
    allowed = build([source], CorpusRecipe(max_quarantined=0.5), str(tmp_path / "store"))
    assert allowed.manifest["records"]["kept"] == 20


def test_a_missing_path_is_said_before_anything_starts(local_ray: None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="absent"):
        build([SourceSpec("toolbench", str(tmp_path / "absent.json"))], CorpusRecipe(), str(tmp_path / "store"))
    with pytest.raises(ValueError, match="No source is given"):
        build([], CorpusRecipe(), str(tmp_path / "store"))


def test_blocks_hold_what_the_plan_says(corpus: Any, tokenizer_path: str, tmp_path: Path) -> None:
    tokens = tokenise(corpus, tokenizer_path, 3000)
    assert tokenise(corpus, tokenizer_path, 3000) == tokens
    table = tokens.index_table(validation=False)
    index = to_index(table)
    assert (np.diff(index.keys) >= 0).all()
    assert index.supervised.sum() == sum(sum(table[name].to_pylist()) for name in CAPABILITIES)
    plan = make_plan(index, Mixture(proportional_weights(index), budget=60_000))
    uri = str(tmp_path / "plan.parquet")
    packing = write_plan(plan, table, 3000, 0, uri)
    blocks = OpenBlocks(uri, tokens.uri, 3000, 0)()
    assert len(blocks) == packing.num_blocks
    assert packing.efficiency > 0.85
    tags = np.concatenate([blocks[i].tags for i in range(len(blocks))])
    counts = np.bincount(tags[tags >= 0], minlength=6)
    assert counts.sum() == plan.num_supervised
    shares = {name: count / counts.sum() for name, count in zip(COMPONENTS, counts, strict=True)}
    assert shares == pytest.approx(plan.realised)
    starts = sum(int((blocks[i].position_ids == 0).sum()) for i in range(len(blocks)))
    padded = sum(int(blocks[i].input_ids[-1] == 0 and blocks[i].tags[-1] == -1) for i in range(len(blocks)))
    assert len(plan.rows) <= starts <= len(plan.rows) + padded


def test_validation_text_is_in_no_plan(corpus: Any, tokenizer_path: str) -> None:
    tokens = tokenise(corpus, tokenizer_path, 3000)
    train, held = (tokens.index_table(validation=value) for value in (False, True))
    parents = [{name.rsplit("/", 1)[0] for name in table["id"].to_pylist()} for table in (train, held)]
    assert parents[1]
    assert not parents[0] & parents[1]
