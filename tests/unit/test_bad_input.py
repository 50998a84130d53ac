"""Files as users have them: cut, damaged, empty, in the wrong encoding, huge; and what comes out of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflan_ray.sources import SOURCES, Dropped, MalformedRecord, Source, Where, files
from agentflan_ray.sources.files import (
    BadRow,
    Slice,
    SourceSpec,
    count_lines,
    number_slices,
    plan_slices,
    read_slice,
)
from agentflan_ray.sources.ingest import read_record
from agentflan_ray.trajectory import Trajectory


def record(number: int, reply: str = "Hello.") -> dict[str, Any]:
    turns = [{"role": "user", "content": f"Hi {number}."}, {"role": "assistant", "content": reply}]
    return {"id": f"r{number}", "messages": turns}


LINES = [json.dumps(record(number)).encode() for number in range(4)]
ARRAY = b"[" + b",\n ".join(LINES) + b"]"

CONTENTS: list[tuple[str, str, bytes, list[str]]] = [
    ("good lines", "a.jsonl", b"\n".join(LINES) + b"\n", ["r0", "r1", "r2", "r3"]),
    ("blank lines are no records", "a.jsonl", LINES[0] + b"\n\n \r\n" + LINES[1] + b"\r\n", ["r0", "r1"]),
    ("a byte order mark", "a.jsonl", b"\xef\xbb\xbf" + LINES[0] + b"\n" + LINES[1], ["r0", "r1"]),
    ("a cut last line", "a.jsonl", LINES[0] + b"\n" + LINES[1][:-5], ["r0", "!truncated_json"]),
    ("a broken line in the middle", "a.jsonl", LINES[0] + b"\n{oops}\n" + LINES[1], ["r0", "!not_json", "r1"]),
    ("a line that is no object", "a.jsonl", b'["a"]\n3\nnull\n' + LINES[0], ["!not_an_object"] * 3 + ["r0"]),
    ("a Latin-1 line", "a.jsonl", b'{"id": "\xb0"}\n' + LINES[1], ["!not_utf8", "r1"]),
    ("a deep line", "a.jsonl", b"[" * 100_000 + b"\n" + LINES[1], ["!not_json", "r1"]),
    ("an empty file", "a.jsonl", b"", ["!empty_file"]),
    ("only blank lines", "a.jsonl", b"\n\n", ["!empty_file"]),
    ("compressed lines", "a.jsonl.gz", gzip.compress(b"\n".join(LINES)), ["r0", "r1", "r2", "r3"]),
    ("an empty compressed file", "a.jsonl.gz", b"", ["!empty_file"]),
    ("compressed nothing", "a.jsonl.gz", gzip.compress(b""), ["!empty_file"]),
    ("no gzip at all", "a.jsonl.gz", LINES[0], ["!corrupt_gz"]),
    ("an array", "a.json", ARRAY, ["r0", "r1", "r2", "r3"]),
    ("a compressed array", "a.json.gz", gzip.compress(ARRAY), ["r0", "r1", "r2", "r3"]),
    ("one object", "a.json", b"\xef\xbb\xbf " + LINES[2], ["r2"]),
    ("objects one after another", "a.json", b"\n".join(LINES), ["r0", "r1", "r2", "r3"]),
    ("a cut array", "a.json", ARRAY[:-10], ["r0", "r1", "r2", "!truncated_json"]),
    ("an array cut between records", "a.json", ARRAY[: len(LINES[0]) + 2], ["r0", "!truncated_json"]),
    ("an array with an error inside", "a.json", b"[" + LINES[0] + b", {oops}]", ["r0", "!not_json"]),
    ("an array of other things", "a.json", b"[1, " + LINES[0] + b"]", ["!not_an_object", "r0"]),
    ("an empty array", "a.json", b"[]", ["!empty_file"]),
    ("an empty JSON file", "a.json", b" ", ["!empty_file"]),
    (
        "one Latin-1 record in an array",
        "a.json",
        b"[" + LINES[0] + b', {"id": "\xb0"}, ' + LINES[1] + b"]",
        ["r0", "!not_utf8", "r1"],
    ),
    ("UTF-16", "a.json", ARRAY.decode().encode("utf-16"), ["!not_utf8"]),
    ("a damaged compressed array", "a.json.gz", gzip.compress(ARRAY)[:10] + bytes([255]) * 60, ["!corrupt_gz"]),
    ("an empty parquet file", "a.parquet", b"", ["!empty_file"]),
    ("no parquet at all", "a.parquet", b"garbage", ["!corrupt_parquet"]),
]


def read(path: Path) -> list[str]:
    """Ids of the records, reasons with a ! in the place of what could not be read."""
    found = []
    for piece in plan_slices([SourceSpec("openai_messages", str(path))]):
        for where, value in read_slice(piece):
            assert where.file == str(path)
            found.append(f"!{value.reason}" if isinstance(value, BadRow) else value["id"])
    return found


@pytest.mark.parametrize(
    ("name", "content", "expected"), [row[1:] for row in CONTENTS], ids=[row[0] for row in CONTENTS]
)
def test_files(tmp_path: Path, name: str, content: bytes, expected: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert read(path) == expected


def test_an_object_of_records_lends_its_keys_as_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"x": {"messages": []}, "y": {"id": "own", "messages": []}}))
    assert read(path) == ["x", "own"]


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".json.gz"])
def test_what_stands_before_the_cut_of_a_gzip_file_is_read(tmp_path: Path, suffix: str) -> None:
    records = [record(number, reply=f"{number * 7919 % 1009}" * 50) for number in range(2_000)]
    text = json.dumps(records) if suffix == ".json.gz" else "\n".join(map(json.dumps, records))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(text.encode())[:-2_000])
    found = read(path)
    assert found[-1] == "!truncated_gz"
    assert found[:-1] == [f"r{number}" for number in range(len(found) - 1)]
    assert len(found) > 100


def test_positions_are_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES[0] + b"\n\n{oops\n" + LINES[1])
    (piece,) = plan_slices([SourceSpec("openai_messages", str(path))])
    assert [str(where).rsplit(":")[-1] for where, _ in read_slice(piece)] == ["1", "3", "4"]


def test_an_endless_line_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_RECORD_BYTES", 2**20)
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES[0] + b"\n" + b"x" * (5 * 2**20) + b"\n" + LINES[1])
    assert read(path) == ["r0", "!record_too_long", "r1"]


def test_a_message_of_ten_megabytes_is_quarantined_not_fatal(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record(0, reply="x" * 10_000_000)) + "\n" + json.dumps(record(1)))
    rows = []
    for piece in plan_slices([SourceSpec("openai_messages", str(path))]):
        for where, value in read_slice(piece):
            rows += [row for row, _ in read_record(SOURCES["openai_messages"], where, value)]
    assert [(row["status"], row["reason"], row["id"]) for row in rows] == [
        ("quarantined", "message_too_long", "r0"),
        ("kept", None, "r1"),
    ]
    assert len(rows[0]["raw"] or "") == 2_000


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=40),
    slice_bytes=st.integers(1, 64),
    closed=st.booleans(),
)
def test_slices_own_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], slice_bytes: int, closed: bool
) -> None:
    lines = [json.dumps({"id": str(number), "x": "é" * length}) for number, length in enumerate(lengths)]
    path = tmp_path_factory.mktemp("cut") / "a.jsonl"
    path.write_text("\n".join(lines) + ("\n" if closed else ""), encoding="utf-8")
    slices = plan_slices([SourceSpec("openai_messages", str(path))], slice_bytes)
    counts = [0 if piece.whole else count_lines(piece) for piece in slices]
    found = [
        (where.row, value["id"])
        for piece in number_slices(slices, counts)
        for where, value in read_slice(piece)
        if isinstance(value, dict)
    ]
    assert found == [(number + 1, str(number)) for number in range(len(lines))]


def test_parquet_is_read_by_row_group(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([record(number) for number in range(10)]), path, row_group_size=4)
    slices = plan_slices([SourceSpec("openai_messages", str(path))])
    assert [piece.rows_before for piece in slices] == [0, 4, 8]
    rows = [
        (where.row, value["id"]) for piece in slices for where, value in read_slice(piece) if isinstance(value, dict)
    ]
    assert rows == [(number + 1, f"r{number}") for number in range(10)]


def test_a_parquet_file_without_rows_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": pa.array([], pa.string())}), path)
    assert read(path) == ["!empty_file"]


def test_a_damaged_parquet_page_is_quarantined(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([record(number, reply="x" * 99) for number in range(50)]), path)
    content = bytearray(path.read_bytes())
    content[8:400] = bytes(392)
    path.write_bytes(content)
    assert read(path)[-1] == "!corrupt_parquet"


def test_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.json", "deep/c.jsonl", "LICENSE", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(LINES[0])

    def names(uri: str) -> list[str]:
        return [piece.path.rsplit("/", 1)[-1] for piece in plan_slices([SourceSpec("openai_messages", uri)])]

    assert names(str(tmp_path)) == ["a.json", "b.jsonl", "c.jsonl"]
    assert names(f"file://{tmp_path}") == ["a.json", "b.jsonl", "c.jsonl"]
    assert names(f"{tmp_path}/*.jsonl") == ["b.jsonl"]
    assert names(f"{tmp_path}/**/*.jsonl") == ["b.jsonl", "c.jsonl"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.jsonl", "no file or folder"),
        ("notes.txt", "suffix"),
        ("empty", "holds no file"),
        ("*.parquet", "No file"),
        ("nowhere/*.jsonl", "No file"),
    ],
)
def test_places_that_hold_nothing_stop_at_once(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=words) as caught:
        plan_slices([SourceSpec("openai_messages", str(tmp_path / name))])
    assert name in str(caught.value)


@pytest.mark.parametrize("text", ["no-equals", "=path", "name=", ""])
def test_specs_need_a_name_and_a_place(text: str) -> None:
    with pytest.raises(ValueError, match="name=URI"):
        SourceSpec.parse(text)


def test_a_spec_keeps_equals_signs_of_the_uri() -> None:
    assert SourceSpec.parse("sharegpt=s3://b/day=1/a.json") == SourceSpec("sharegpt", "s3://b/day=1/a.json")


def test_a_bug_in_a_parser_is_not_taken_for_bad_data() -> None:
    def broken(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped]:
        raise KeyError(row["id"], where)

    with pytest.raises(KeyError):
        read_record(Source("broken", broken, "a parser with a bug"), Where("a.json", 1), record(0))


def test_each_trajectory_of_a_record_has_its_own_place() -> None:
    def twice(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped | MalformedRecord]:
        yield from SOURCES["openai_messages"].parse(row, where)
        yield Dropped("second", "The second one is dropped.")
        raise MalformedRecord("third", "The third one is broken.")

    rows = read_record(Source("twice", twice, "three outcomes"), Where("a.json", 1), record(0))
    assert [(row["status"], row["where"], row["record"]) for row, _ in rows] == [
        ("kept", "a.json:1", "a.json:1"),
        ("dropped", "a.json:1#2", "a.json:1"),
        ("quarantined", "a.json:1#3", "a.json:1"),
    ]


def test_remote_files_are_named_with_their_scheme() -> None:
    assert Slice("sharegpt", "s3://bucket/x", "bucket/x/a.json", 0, 1).name == "s3://bucket/x/a.json"
    assert Slice("sharegpt", "file:///x", "/x/a.json", 0, 1).name == "/x/a.json"
