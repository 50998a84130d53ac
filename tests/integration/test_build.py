"""The corpus build on real Ray: what comes out, what does not and why, and the tokens of it."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from agentflan_ray.corpus.build import Order, ToolboxDraw, build
from agentflan_ray.corpus.clean.evaluation_sets import EvaluationSet
from agentflan_ray.corpus.clean.recipe import CleanRecipe
from agentflan_ray.corpus.recipe import CorpusRecipe
from agentflan_ray.corpus.store import Corpus, open_corpus, read_table, write_table
from agentflan_ray.mixture import Mixture, Plan, make_plan, proportional_weights
from agentflan_ray.sample import CAPABILITIES, COMPONENTS, NEGATIVE_CASES, SAMPLE_SCHEMA, Sample, component_of
from agentflan_ray.sources.files import SourceSpec
from agentflan_ray.tokens.block import Group
from agentflan_ray.tokens.blocks import OpenBlocks, write_plan
from agentflan_ray.tokens.tokenise import to_index, tokenise
from tests.small_tokenizer import small_tokenizer

DRAW = ToolboxDraw(tool=60, chat=40, missing_argument=20)


@pytest.fixture(scope="module")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    small_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def corpus(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build(Order((DRAW,)), str(tmp_path_factory.mktemp("store")))


def good(identity: str, hour: str = "12") -> str:
    tools = [{"type": "function", "function": {"name": "clock", "description": "Time.", "parameters": {}}}]
    call = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": f"What time is it where {identity} lives?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [call]},
        {"role": "tool", "content": f"{hour}:00", "tool_call_id": "1"},
        {"role": "assistant", "content": f"It is {hour} o'clock."},
    ]
    return json.dumps({"id": identity, "messages": messages, "tools": tools})


def log(folder: Path, lines: list[str]) -> SourceSpec:
    folder.mkdir(exist_ok=True)
    (folder / "log.jsonl").write_text("\n".join(lines))
    return SourceSpec("openai_messages", str(folder / "log.jsonl"))


def contents(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


def test_the_embedded_corpus_has_every_case_and_loses_nothing(corpus: Corpus) -> None:
    records = corpus.manifest["records"]
    assert records["records"] == 120
    assert records["kept"] + records["dropped"] == 120
    assert records["quarantined"] == 0
    cases = {(row["form"], row["case"]): row["count_all"] for row in corpus.manifest["samples"]}
    assert 50 < cases[("chat", "tool")] <= 60
    not_made = {row["case"] for row in corpus.manifest["omitted"]}
    for case in NEGATIVE_CASES:
        # Of so few tools none may come near another one's purpose: then it is said that no sample was made.
        assert cases.get(("chat", case), 0) > 0 or (case == "near_miss" and case in not_made), case


def test_a_second_build_reads_what_is_there(corpus: Corpus) -> None:
    before = Path(corpus.uri, "manifest.json").stat().st_mtime_ns
    again = build(Order((DRAW,)), corpus.store_uri)
    assert again.fingerprint == corpus.fingerprint
    assert Path(corpus.uri, "manifest.json").stat().st_mtime_ns == before


def test_the_same_order_gives_the_same_bytes_elsewhere(corpus: Corpus, tmp_path: Path) -> None:
    build(Order((DRAW,)), str(tmp_path))
    there = contents(Path(corpus.store_uri))
    assert contents(tmp_path) == {name: content for name, content in there.items() if "/tokens@" not in name}


def test_what_a_cut_off_build_left_is_completed_with_the_same_bytes(corpus: Corpus, tmp_path: Path) -> None:
    store = Path(shutil.copytree(corpus.store_uri, tmp_path / "store", ignore=shutil.ignore_patterns("tokens@*")))
    whole = contents(store)
    rng = random.Random(0)
    for name in rng.sample(sorted(whole), len(whole) // 2):
        if not re.search(r"part-[\d-]+\.json$", name):
            continue
        # A part whose report is missing was cut off: its files may be there, torn or not at all.
        (store / name).unlink()
        for torn in store.glob(name.removesuffix(".json") + ".*parquet"):
            torn.write_bytes(torn.read_bytes()[:100])
    for name in ("manifest.json", "removed.parquet"):
        (store / f"corpus@{corpus.fingerprint}" / name).unlink()
    build(Order((DRAW,)), str(store))
    assert contents(store) == whole


def test_a_new_source_leaves_the_records_of_the_others_alone(corpus: Corpus, tmp_path: Path) -> None:
    store = Path(shutil.copytree(corpus.store_uri, tmp_path / "store"))
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    more = build(Order((DRAW, log(tmp_path / "raw", [good(f"r{i}") for i in range(20)]))), str(store))
    assert more.manifest["records"]["records"] == 140
    assert {path: path.stat().st_mtime_ns for path in before} == before
    new = {path.relative_to(store).parts[0].partition("@")[0] for path in store.rglob("*") if path not in before}
    assert new >= {"records", "clean", "samples", "corpus"}
    assert len(list(store.glob("records@*"))) == 2
    assert len(list(store.glob("clean@*"))) == 2


def test_cleaning_what_was_read_before_gives_what_cleaning_while_reading_gives(
    corpus: Corpus, local_ray: None, tmp_path: Path
) -> None:
    source = log(tmp_path, [good(f"r{number}", f"{number:02}") for number in range(9)] + [good("r3", "03")])
    order = Order((DRAW, source))
    build(order, str(tmp_path / "once"))
    build(replace(order, cleaning=CleanRecipe(max_turns=50)), str(tmp_path / "twice"))
    build(order, str(tmp_path / "twice"))
    once, twice = contents(tmp_path / "once"), contents(tmp_path / "twice")
    assert {name: twice[name] for name in once} == once
    assert len(twice) > len(once)


def test_every_sample_comes_from_a_kept_trajectory(corpus: Corpus) -> None:
    kept = read_table(corpus.record_parts, ["id", "where"]).to_pylist()
    removed = set(corpus.removed()["where"].to_pylist())
    ids = {row["id"] for row in kept if row["where"] not in removed}
    made = read_table(corpus.sample_parts, SAMPLE_SCHEMA.names, pads.field("omitted").is_null()).to_pylist()
    samples = [Sample.from_row(row) for row in made]
    assert {sample.parent for sample in samples} == ids
    assert len({sample.id for sample in samples}) == len(samples)


def test_bad_rows_are_counted_and_kept_with_reason_and_place(local_ray: None, tmp_path: Path) -> None:
    lines = [good(f"r{i}") for i in range(60)]
    lines[7] = lines[7][:-9]
    lines[9] = good("r8", hour="11")
    lines[12] = good("r11")
    lines[20] = good("r20").replace('"role": "user"', '"role": "narrator"')
    corpus = build(Order((log(tmp_path, lines),)), str(tmp_path / "store"))
    records = corpus.manifest["records"]
    assert records["kept"] + records["quarantined"] + records["dropped"] == records["records"] == 60
    assert records["reasons"]["quarantined"] == {"not_json": 1, "unknown_role": 1}
    assert records["reasons"]["dropped"] == {"duplicate_id": 1, "exact_duplicate": 1}
    rows = read_table(corpus.set_aside_parts, ["reason", "sentence", "where"])
    places = {row["reason"]: (row["where"], row["sentence"]) for row in rows.to_pylist()}
    assert places["not_json"][0].endswith("log.jsonl:8")
    removed = {row["reason"]: row for row in corpus.removed().to_pylist()}
    assert removed["duplicate_id"]["where"].endswith("log.jsonl:10")
    assert "The id 'r8'" in removed["duplicate_id"]["sentence"]
    assert removed["exact_duplicate"]["where"].endswith("log.jsonl:13")
    samples = read_table(corpus.sample_parts, ["id"])["id"].to_pylist()
    assert len(samples) == len(set(samples))


def test_too_many_bad_rows_stop_the_build_with_their_reasons(local_ray: None, tmp_path: Path) -> None:
    source = log(tmp_path, [good(f"r{i}") if i % 3 else "{" for i in range(30)])
    with pytest.raises(ValueError, match=r"10 of 30 records are bad \(33.3%; 5% are allowed\): not_json 10"):
        build(Order((source,)), str(tmp_path / "store"))
    allowed = build(Order((source,), CorpusRecipe(max_quarantined=0.5)), str(tmp_path / "store"))
    assert allowed.manifest["records"]["kept"] == 20
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="No complete corpus at"):
        open_corpus(str(tmp_path / "empty"))


def test_a_corpus_of_another_version_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    """Such as one from before samples named their task."""
    shutil.copytree(corpus.store_uri, tmp_path / "store")
    older = open_corpus(str(tmp_path / "store" / Path(corpus.uri).name))
    part = older.sample_parts[0]
    write_table(part, read_table([part]).drop_columns(["group"]))
    with pytest.raises(ValueError, match="built by another version of this program: its samples lack group; build it"):
        open_corpus(older.uri)


def test_a_record_that_shares_its_question_with_an_evaluation_set_is_removed(local_ray: None, tmp_path: Path) -> None:
    held_out = tmp_path / "questions.jsonl"
    held_out.write_text(json.dumps({"question": "What time is it, where r3 lives?"}) + "\n")
    order = Order(
        (log(tmp_path / "raw", [good(f"r{i}") for i in range(10)]),),
        against=(EvaluationSet("clocks", str(held_out)),),
    )
    corpus = build(order, str(tmp_path / "store"))
    (row,) = corpus.removed().to_pylist()
    assert row["id"] == "r3"
    assert "clocks" in row["sentence"]
    assert corpus.manifest["records"]["dropped"] == 1


def test_wrong_orders_are_refused_before_anything_starts(local_ray: None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="absent"):
        build(Order((SourceSpec("toolbench", str(tmp_path / "absent.json")),)), str(tmp_path / "store"))
    with pytest.raises(ValueError, match="No source is given"):
        Order(())
    with pytest.raises(ValueError, match="There is no source 'nonsense'; known sources are"):
        Order((SourceSpec("nonsense", "x.json"),))


def test_blocks_hold_what_the_plan_says(corpus: Corpus, tokenizer_path: str, tmp_path: Path) -> None:
    tokens = tokenise(corpus, tokenizer_path, 3000)
    assert tokenise(corpus, tokenizer_path, 3000) == tokens
    table = tokens.index_table(validation=False)
    index = to_index(table)
    assert (np.diff(index.keys) >= 0).all()
    assert index.supervised.sum() == sum(sum(table[name].to_pylist()) for name in CAPABILITIES)
    plan = make_plan(index, Mixture(proportional_weights(index), budget=60_000))
    uri = str(tmp_path / "plan.parquet")
    packing = write_plan(plan, table, 3000, 0, uri)
    blocks = OpenBlocks(uri, tokens.shards_uri, 3000, 0)()
    assert len(blocks) == packing.num_blocks
    assert packing.efficiency > 0.85
    tags = np.concatenate([blocks[i].tags for i in range(len(blocks))])
    learnt = [blocks.groups[tag] for tag in tags[tags >= 0]]
    counts = np.bincount([COMPONENTS.index(group.component) for group in learnt], minlength=len(COMPONENTS))
    assert counts.sum() == plan.num_supervised
    shares = {name: count / counts.sum() for name, count in zip(COMPONENTS, counts, strict=True)}
    assert shares == pytest.approx(plan.realised)
    _every_token_knows_its_source_and_piece(table, plan, learnt)
    starts = sum(int((blocks[i].position_ids == 0).sum()) for i in range(len(blocks)))
    padded = sum(int(blocks[i].input_ids[-1] == 0 and blocks[i].tags[-1] == -1) for i in range(len(blocks)))
    assert len(plan.rows) <= starts <= len(plan.rows) + padded


def _every_token_knows_its_source_and_piece(table: pa.Table, plan: Plan, learnt: list[Group]) -> None:
    """Counted from the index, which knows how many tokens of each capability every row has."""
    expected: Counter[tuple[str, str]] = Counter()
    rows = table.take(plan.rows).select(["source", "form", "case", *CAPABILITIES]).to_pylist()
    for row, mask in zip(rows, plan.masks.tolist(), strict=True):
        for capability in CAPABILITIES:
            if mask >> COMPONENTS.index(component_of(row["form"], row["case"], capability)) & 1:
                explicit = "format" if capability == "instruction" else "content"
                piece = explicit if row["form"] in ("react", "json", "string") else ""
                expected[row["source"], piece] += row[capability]
    assert Counter((group.source, group.piece) for group in learnt) == +expected
    assert {piece for _, piece in +expected} == {"", "format", "content"}


def test_validation_text_is_in_no_plan(corpus: Corpus, tokenizer_path: str) -> None:
    tokens = tokenise(corpus, tokenizer_path, 3000)
    train, held = (tokens.index_table(validation=value) for value in (False, True))
    parents = [{name.rsplit("/", 1)[0] for name in table["id"].to_pylist()} for table in (train, held)]
    assert parents[1]
    assert not parents[0] & parents[1]


def test_a_build_that_no_record_is_left_for_says_why(local_ray: None, tmp_path: Path) -> None:
    source = log(tmp_path, ["{", good("r1")[:-5]])
    with pytest.raises(ValueError, match="No record is left to build from: not_json 1, truncated_json 1"):
        build(Order((source,), CorpusRecipe(max_quarantined=1.0)), str(tmp_path / "store"))


def test_removed_rows_are_told_apart_in_files_of_one_name(local_ray: None, tmp_path: Path) -> None:
    """Two folders with files of one name in one part: removing a row of the one is not removing that of the other."""
    made = []
    for removed_from in ("a", "b"):
        raw = tmp_path / removed_from
        held_out = tmp_path / f"held-out-{removed_from}.jsonl"
        held_out.write_text(json.dumps({"question": f"What time is it where {removed_from}1 lives?"}) + "\n")
        for folder in ("a", "b"):
            log(raw, [])
            log(raw / folder, [good(f"{folder}{i}") for i in range(4)])
        (raw / "log.jsonl").unlink()
        source = SourceSpec("openai_messages", str(raw))
        corpus = build(Order((source,), against=(EvaluationSet("set", str(held_out)),)), str(tmp_path / "store"))
        assert corpus.removed()["id"].to_pylist() == [f"{removed_from}1"]
        made.append(set(read_table(corpus.sample_parts, ["parent"])["parent"].to_pylist()))
    everyone = {f"{folder}{i}" for folder in "ab" for i in range(4)}
    assert made == [everyone - {"a1"}, everyone - {"b1"}]
