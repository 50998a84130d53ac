"""Exports as files: names, bytes, splits, what is said of what a format can't hold; the folder loads; the card."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from agentflan_ray import storage
from agentflan_ray.corpus.card import card
from agentflan_ray.corpus.export import hub
from agentflan_ray.corpus.export.files import JsonLines, whole_file
from agentflan_ray.corpus.export.hub import SPLITS, split_of
from agentflan_ray.corpus.export.records import JOINED, KINDS, LEARNT_IN_PART, NOT_LEARNT, kind_of, sharegpt_trajectory
from agentflan_ray.corpus.export.write import FORMATS, export
from agentflan_ray.corpus.store import (
    DERIVED_SCHEMA,
    KEPT_SCHEMA,
    REMOVED_SCHEMA,
    Corpus,
    open_corpus,
    write_table,
)
from agentflan_ray.sample import NEGATIVE_CASES, Case, Form, Part, Sample, Turn
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory

WEATHER = Tool("get_weather", "Weather of a city.", {"type": "object", "properties": {}, "required": []})


def trajectory(number: int) -> Trajectory:
    return Trajectory(
        f"t{number}",
        "unit",
        (WEATHER,),
        (
            Message("system", "Be brief."),
            Message("user", f"Will it rain in Oslo on day {number}?"),
            Message(
                "assistant", "I look.", "Weather needed.", (ToolCall("get_weather", '{"city": "Oslo"}'),), loss=True
            ),
            Message("tool", "rain"),
            Message("assistant", "Yes, take an ümbrella.", loss=True),
        ),
    )


def sample(number: int, kind: str, form: Form, case: Case) -> Sample:
    scaffold = Part("Action: ", "instruction") if form == "react" else Part("Well, ")
    turns = (
        Turn("system", (Part("Be brief."),)),
        Turn("user", (Part(f"Will it rain in Oslo on day {number}?"),)),
        Turn("assistant", (scaffold, Part("it will.", "reasoning"))),
    )
    return Sample(f"t{number}/{kind}", f"t{number}", "unit", form, case, turns)


MADE: tuple[tuple[str, Form, Case], ...] = (
    ("chat", "chat", "tool"),
    ("cot", "cot", "tool"),
    ("react", "react", "tool"),
    ("instruct", "react", "tool"),
    ("no_tool_request", "chat", "no_tool_request"),
)
NUM = 60


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Sixty trajectories in two parts, one of them removed, and five samples of each."""
    store = tmp_path_factory.mktemp("store")
    parts: dict[str, list[str]] = {"kept": [], "set_aside": [], "samples": []}
    for number, numbers in enumerate((range(40), range(40, NUM))):
        kept = [{**trajectory(i).to_row(), "where": f"a.jsonl:{i}", "origin": "unit"} for i in numbers]
        made: list[dict[str, Any]] = [
            {**sample(i, *kind).to_row(), "omitted": None} for i in numbers if i != 7 for kind in MADE
        ]
        made.append({**dict.fromkeys(DERIVED_SCHEMA.names), "id": "t1/near_miss", "parent": "t1", "omitted": "none"})
        for folder, rows, schema in (("kept", kept, KEPT_SCHEMA), ("samples", made, DERIVED_SCHEMA)):
            name = f"{folder}@0/part-{number}.parquet"
            write_table(str(store / name), pa.Table.from_pylist(rows, schema))
            parts[folder].append(name)
    removed = {**dict.fromkeys(REMOVED_SCHEMA.names), "part": parts["kept"][0], "where": "a.jsonl:7", "reason": "loop"}
    uri = str(store / "corpus@0123456789ab")
    write_table(f"{uri}/removed.parquet", pa.Table.from_pylist([removed], REMOVED_SCHEMA))
    storage.write_json(f"{uri}/manifest.json", {**MANIFEST, "parts": parts})
    return open_corpus(uri)


MANIFEST: dict[str, Any] = {
    "fingerprint": "0123456789ab",
    "sources": [
        {"toolbox": {"tool": 4, "chat": 3, "missing_argument": 1, "seed": 0}, "code": "c0de"},
        {"source": "sharegpt", "files": [[f"part {i}|x.json", f"{i:064x}"] for i in range(30)], "code": "c0de"},
    ],
    "cleaning": {"recipe": {"loops": True, "near_duplicates": 0.9, "languages": []}, "against": [], "code": "c1"},
    "deriving": {"recipe": {"seed": 0, "react_share": 1.0, "inner": {"cases": ["near_miss", "chat"]}}, "code": "d1"},
    "records": {
        "records": 1234,
        "kept": 59,
        "dropped": 1,
        "quarantined": 0,
        "reasons": {"dropped": {"loop": 1}, "quarantined": {}},
        "by_source": [
            {"origin": "unit", "status": "kept", "reason": None, "count_all": 59},
            {"origin": "unit", "status": "dropped", "reason": "loop", "count_all": 1},
        ],
        "examples": {"loop": ["Record 't7' calls <b>get_weather</b> | three times."]},
    },
    "samples": [{"form": "chat", "case": "tool", "count_all": 12345}],
    "omitted": [{"case": "near_miss", "omitted": "none_near", "count_all": 2}],
    "overlaps": [],
    "parts": {},
}


def lines(path: Path) -> list[dict[str, Any]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.decode().splitlines()]


def test_agentflan_has_a_file_for_each_kind(corpus: Corpus, tmp_path: Path) -> None:
    report = export(corpus, str(tmp_path / "out"), "agentflan")
    names = {Path(uri).name: number for uri, number in report.files.items()}
    assert names == {
        f"agentflan_{kind}.jsonl": NUM - 1 for kind in ("tflan", "tflan_cot", "react", "instruct_js", "negative")
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    assert report.num_records == 5 * (NUM - 1)
    # The scaffolding of ReAct is learnt with the rest; in the others "Well, " is not, but only whole turns can say so.
    assert report.notes == {LEARNT_IN_PART: 3 * (NUM - 1)}
    first = lines(tmp_path / "out" / "agentflan_react.jsonl")[0]
    assert first == {
        "conversation": [
            {"role": "system", "content": "Be brief.", "loss": False},
            {"role": "user", "content": "Will it rain in Oslo on day 0?", "loss": False},
            {"role": "assistant", "content": "Action: it will.", "loss": True},
        ],
        "id": "t0/react",
    }


@pytest.mark.parametrize(
    ("kind", "form", "case", "expected"),
    [
        ("react", "react", "tool", "react"),
        ("instruct", "react", "tool", "instruct_js"),
        ("instruct", "string", "tool", "instruct_js"),
        ("json", "json", "tool", "instruct_js"),
        ("chat", "chat", "chat", "general"),
        *((case, "chat", case, "negative") for case in NEGATIVE_CASES),
    ],
)
def test_every_sample_has_a_kind_of_the_release(kind: str, form: Form, case: Case, expected: str) -> None:
    assert kind_of(sample(0, kind, form, case)) == expected
    assert expected in KINDS


def test_sharegpt_samples_are_compressed_by_their_name(corpus: Corpus, tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    export(corpus, str(plain), "sharegpt")
    report = export(corpus, str(packed), "sharegpt")
    assert report.files == {str(packed): 5 * (NUM - 1)}
    assert packed.stat().st_size < plain.stat().st_size / 5
    assert lines(packed) == lines(plain)
    assert lines(plain)[0]["conversations"][2] == {"from": "gpt", "value": "Well, it will.", "loss": True}


def test_openai_samples_have_no_key_that_the_api_does_not_know(corpus: Corpus, tmp_path: Path) -> None:
    export(corpus, str(tmp_path / "a.jsonl"), "openai")
    records = lines(tmp_path / "a.jsonl")
    assert {key for record in records for key in record} == {"messages"}
    assert [list(message) for message in records[0]["messages"]] == [
        ["role", "content"],
        ["role", "content"],
        ["role", "content", "weight"],
    ]


def test_trajectories_that_cleaning_removed_are_left_out(corpus: Corpus, tmp_path: Path) -> None:
    report = export(corpus, str(tmp_path / "a.jsonl"), "openai", "trajectories")
    records = lines(tmp_path / "a.jsonl")
    assert [record["id"] for record in records] == [f"t{i}" for i in range(NUM) if i != 7]
    assert report.notes == {}
    assert records[0]["messages"][2] == {
        "role": "assistant",
        "content": "I look.",
        "reasoning_content": "Weather needed.",
        "tool_calls": [
            {"id": "call_0", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
        ],
        "loss": True,
    }
    assert records[0]["messages"][3] == {"role": "tool", "content": "rain", "tool_call_id": "call_0"}


def test_sharegpt_trajectories_are_what_llama_factory_reads(corpus: Corpus, tmp_path: Path) -> None:
    export(corpus, str(tmp_path / "a.jsonl"), "sharegpt", "trajectories")
    record = lines(tmp_path / "a.jsonl")[0]
    assert record["system"] == "Be brief."
    assert json.loads(record["tools"]) == [
        {"name": "get_weather", "description": "Weather of a city.", "parameters": WEATHER.parameters}
    ]
    assert [turn["from"] for turn in record["conversations"]] == ["human", "function_call", "observation", "gpt"]
    value = record["conversations"][1]["value"]
    thought, _, call = value.partition("\n</think>\n\n")
    assert thought == "<think>\nWeather needed.\nI look."
    assert json.loads(call) == {"name": "get_weather", "arguments": {"city": "Oslo"}}


def test_what_sharegpt_cannot_say_is_counted() -> None:
    notes: Counter[str] = Counter()
    call = ToolCall("get_weather", "{}")
    messages = (
        Message("user", "Rain?"),
        Message("assistant", calls=(call, call)),
        Message("tool", "rain"),
        Message("tool", "sun"),
        Message("assistant", "Both.", loss=True),
    )
    record = sharegpt_trajectory(Trajectory("t", "unit", (WEATHER,), messages), notes)
    assert [turn["from"] for turn in record["conversations"]] == ["human", "function_call", "observation", "gpt"]
    assert record["conversations"][2]["value"] == "rain\nsun"
    assert dict(notes) == {NOT_LEARNT: 1, JOINED: 1}


@pytest.mark.parametrize(
    ("what", "format", "name"), [(what, format, f"out-{what}") for what in FORMATS for format in FORMATS[what]]
)
def test_the_same_corpus_gives_the_same_bytes(
    corpus: Corpus, tmp_path: Path, what: str, format: str, name: str
) -> None:
    name = name if format in ("agentflan", "datasets") else f"{name}.jsonl.gz"
    for folder in ("one", "two"):
        export(corpus, str(tmp_path / folder / name), format, what)
    one, two = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
    assert one
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]


def test_the_folder_loads_with_datasets(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(hub, "SHARD_ROWS", 100)
    monkeypatch.setattr(hub, "BATCH_ROWS", 20)
    out = tmp_path / "out"
    report = export(corpus, str(out), "datasets")
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    expected = Counter(split_of("", f"t{i}") for i in range(NUM) if i != 7 for _ in MADE)
    assert {split: len(rows) for split, rows in loaded.items()} == dict(expected)
    assert set(expected) == set(SPLITS)
    assert report.num_records == 5 * (NUM - 1)
    names = [f"train-{i:05}-of-00003.parquet" for i in range(3)] + ["validation-00000-of-00001.parquet"]
    assert sorted(path.name for path in (out / "data").iterdir()) == names
    row = loaded["train"][0]
    assert row["id"] == "t0/chat"
    assert row["messages"][2] == {
        "role": "assistant",
        "content": "Well, it will.",
        "loss": True,
        "spans": [{"start": 6, "end": 14, "capability": "reasoning"}],
    }
    assert loaded["train"].features.arrow_schema.remove_metadata() == hub.HUB_SCHEMA
    ids = {split: set(rows["parent"]) for split, rows in loaded.items()}
    assert not ids["train"] & ids["validation"]
    front = yaml.safe_load((out / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert front["size_categories"] == ["n<1K"]
    assert front["dataset_info"]["features"] == datasets.Features.from_arrow_schema(hub.HUB_SCHEMA)._to_yaml_list()
    assert front["dataset_info"]["download_size"] == sum(path.stat().st_size for path in (out / "data").iterdir())


def test_a_corpus_without_validation_rows_has_no_such_split(tmp_path: Path) -> None:
    parents = [f"t{i}" for i in range(200)]
    train = next(parent for parent in parents if split_of("", parent) == "train")
    one = Sample(f"{train}/chat", train, "unit", "chat", "tool", sample(0, "chat", "chat", "tool").turns)
    written = hub.write_shards([one], {"train": 1, "validation": 0}, str(tmp_path))
    assert written["validation"].files == {}
    front = yaml.safe_load(hub.front_matter("f", written).split("---\n")[1])
    assert [each["split"] for each in front["configs"][0]["data_files"]] == ["train"]
    assert pq.read_table(tmp_path / "data" / "train-00000-of-00001.parquet").num_rows == 1


@pytest.mark.parametrize(
    ("out", "format", "what", "sentence"),
    [
        ("a.jsonl", "alpaca", "samples", "samples can't be exported as 'alpaca'; choose agentflan, sharegpt, openai"),
        ("a.jsonl", "agentflan", "trajectories", "trajectories can't be exported as 'agentflan'"),
        ("a.jsonl", "openai", "tokens", "There is no export of 'tokens'; choose samples or trajectories"),
        ("a.json", "openai", "samples", r"end .*a\.json in \.jsonl or \.jsonl\.gz"),
        ("a.jsonl", "datasets", "samples", "The format datasets is a folder of files, but .* is the name of one file"),
    ],
)
def test_what_does_not_fit_is_said(
    corpus: Corpus, tmp_path: Path, out: str, format: str, what: str, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        export(corpus, str(tmp_path / out), format, what)


def test_a_folder_with_files_is_not_mixed_with_new_ones(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"is not empty \(it holds 'mine.txt'\)"):
        export(corpus, str(tmp_path), "datasets")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_export_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl.gz"
    out.write_bytes(b"old")

    def write(*values: object) -> None:
        with JsonLines(str(out)) as records:
            for value in values:
                records.write({"value": value})

    with pytest.raises(TypeError):
        write(1, object())
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]
    with whole_file(str(out)) as path:
        path.write_bytes(b"new")
    assert out.read_bytes() == b"new"


def test_the_card_says_what_a_reader_must_know() -> None:
    text = card(MANIFEST, [sample(3, "react", "react", "tool")], [TOKENS])
    for piece in (
        "# Corpus 0123456789ab",
        "12,345 training conversations made from 59 trajectories",
        "**sharegpt**: 30 files",
        f"| part 0\\|x.json | `{0:064x}` |",
        "and 10 more files",
        "bound by their licences",
        "near_duplicates = 0.9, languages = none; code c1.",
        "inner.cases = near_miss chat",
        "| unit | dropped | loop | 1 |",
        "- loop: Record 't7' calls &lt;b>get_weather&lt;/b> \\| three times.",
        "| near_miss | none_near | 2 |",
        "No evaluation set was named",
        "| reasoning | chat | tool | 10 | 2,000 | 300 |",
        "[assistant]\nAction: it will.",
        "## Limits",
    ):
        assert piece in text, piece
    assert "Teacher:" not in text


def test_the_card_says_overlaps_and_teacher_where_they_are() -> None:
    more: dict[str, Any] = {
        "overlaps": [{"name": "hotpotqa", "items": 7405, "unmatched": 12, "records": 40}],
        "teacher_recipe": {"model": "m", "cases": ["near_miss", "tool_error"]},
        "teacher": {
            "chosen": 1000,
            "accepted": 900,
            "rejected": [{"case": "near_miss", "reason": "claims_a_result", "count_all": 100}],
            "tokens_in": 600_000,
            "tokens_out": 50_000,
            "cost": 0.4321,
        },
    }
    text = card({**MANIFEST, **more})
    for piece in (
        "| hotpotqa | 7,405 | 12 | 40 |",
        "Teacher: model = m, cases = near_miss tool_error.",
        "900 of its replies were accepted",
        "600,000 tokens and wrote 50,000, for 0.43 US dollars.",
        "| near_miss | claims_a_result | 100 |",
    ):
        assert piece in text, piece
    assert "## Examples" not in text
    assert "at a cost that is not known" in card({**MANIFEST, **more, "teacher": {**more["teacher"], "cost": None}})


def test_an_example_cannot_leave_its_fence() -> None:
    turns = (Turn("user", (Part("````\n# Not a heading"),)), Turn("assistant", (Part("x" * 5000, "general"),)))
    text = card(MANIFEST, [Sample("t/chat", "t", "unit", "chat", "chat", turns)])
    assert text.count("`````") == 2
    assert "(5,000 characters)" in text


TOKENS = {
    "component": "reasoning",
    "form": "chat",
    "case": "tool",
    "samples": 10,
    "tokens": 2000,
    "supervised_tokens": 300,
}
