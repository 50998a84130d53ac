"""CSV and zstd: rows and their lines, what is damaged, and what is read all the same."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pytest

from agentflan_ray.sources import Where
from agentflan_ray.sources.files import BadRow, SourceSpec, plan_slices, read_slice


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, "zstd", asbytes=True))


GOOD = b"id,text\nr0,a\nr1,b\n"

CONTENTS: list[tuple[str, str, bytes, list[tuple[int, str]]]] = [
    ("rows", "a.csv", GOOD, [(2, "r0=a"), (3, "r1=b")]),
    ("no last line end", "a.csv", GOOD.rstrip(), [(2, "r0=a"), (3, "r1=b")]),
    ("a byte order mark", "a.csv", b"\xef\xbb\xbf" + GOOD, [(2, "r0=a"), (3, "r1=b")]),
    ("line ends of Windows", "a.csv", GOOD.replace(b"\n", b"\r\n"), [(2, "r0=a"), (3, "r1=b")]),
    ("blank lines", "a.csv", b"\nid,text\n\n \nr0,a\n,\n\nr1,b\n", [(5, "r0=a"), (8, "r1=b")]),
    (
        "quotes over lines",
        "a.csv",
        b'id,text\nr0,"a ""b"",\n\nc"\nr1,b\n',
        [(2, 'r0=a "b",\n\nc'), (5, "r1=b")],
    ),
    (
        "too few and too many fields",
        "a.csv",
        b"id,text\nr0\nr1,b\nr2,c,d\n",
        [(2, "!wrong_number_of_fields"), (3, "r1=b"), (4, "!wrong_number_of_fields")],
    ),
    ("a Latin-1 row", "a.csv", b"id,text\nr0,\xb0\nr1,b\n", [(2, "!not_utf8"), (3, "r1=b")]),
    ("a quote inside", "a.csv", b'id,text\nr0,"a"x\nr1,b\n', [(2, "!not_csv"), (3, "r1=b")]),
    ("a quote left open", "a.csv", b'id,text\nr0,a\nr1,"b\nr2,c\n', [(2, "r0=a"), (3, "!not_csv")]),
    ("a long field", "a.csv", b"id,text\nr0," + b"x" * 200_000, [(2, "r0=" + "x" * 200_000)]),
    ("a column named twice", "a.csv", b"id,id\nr0,a\n", [(1, "!bad_header")]),
    ("a header that is not CSV", "a.csv", b'"id"x,text\nr0,a\nr1,b\n', [(1, "!bad_header")]),
    ("a Latin-1 header", "a.csv", b"id,text\xb0\nr0,a\n", [(1, "!bad_header")]),
    ("a header alone", "a.csv", b"id,text\n", [(1, "!empty_file")]),
    ("nothing", "a.csv", b"", [(1, "!empty_file")]),
    ("compressed by gzip", "a.csv.gz", gzip.compress(GOOD), [(2, "r0=a"), (3, "r1=b")]),
    ("compressed by zstd", "a.csv.zst", zstd(GOOD), [(2, "r0=a"), (3, "r1=b")]),
    ("lines by zstd", "a.jsonl.zst", zstd(b'{"id": "r0", "text": "a"}\n'), [(1, "r0=a")]),
    ("an array by zstd", "a.json.zst", zstd(b'[{"id": "r0", "text": "a"}]'), [(1, "r0=a")]),
    (
        "two zstd frames",
        "a.jsonl.zst",
        zstd(b'{"id": "r0", "text": "a"}\n') + zstd(b'{"id": "r1", "text": "b"}\n'),
        [(1, "r0=a"), (2, "r1=b")],
    ),
    ("no zstd at all", "a.jsonl.zst", b'{"id": "r0"}', [(1, "!corrupt_zst")]),
    ("compressed nothing", "a.jsonl.zst", zstd(b""), [(1, "!empty_file")]),
]


def read(path: Path) -> list[tuple[int, str]]:
    """Line and content of each record, the reason with a ! where it could not be read."""
    found = []
    for piece in plan_slices([SourceSpec("toolverifier", str(path))]):
        for where, value in read_slice(piece):
            found.append((where.row, f"!{value.reason}" if isinstance(value, BadRow) else "=".join(value.values())))
    return found


@pytest.mark.parametrize(
    ("name", "content", "expected"), [row[1:] for row in CONTENTS], ids=[row[0] for row in CONTENTS]
)
def test_files(tmp_path: Path, name: str, content: bytes, expected: list[tuple[int, str]]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert read(path) == expected


@pytest.mark.parametrize("suffix", [".jsonl.zst", ".csv.zst", ".csv.gz"])
def test_what_stands_before_the_cut_is_read(tmp_path: Path, suffix: str) -> None:
    # Random words, so that 4 MiB of text stay some MiB and the reader takes them in several chunks.
    place = random.Random(0)
    texts = [f"{place.getrandbits(512):x}" for _ in range(32_000)]
    if suffix == ".jsonl.zst":
        content = "\n".join(json.dumps({"id": str(number), "text": text}) for number, text in enumerate(texts))
    else:
        content = "id,text\n" + "\n".join(f"{number},{text}" for number, text in enumerate(texts))
    packed = (gzip.compress if suffix.endswith(".gz") else zstd)(content.encode())
    path = tmp_path / f"a{suffix}"
    path.write_bytes(packed[:-2_000])
    *before, (_, reason) = read(path)
    assert reason == f"!truncated_{suffix.rpartition('.')[2]}"
    assert [text for _, text in before] == [f"{number}={text}" for number, text in enumerate(texts[: len(before)])]
    assert len(before) > 16_000


def test_stems_are_names_without_suffixes() -> None:
    names = ["a.b.json", "a.b.jsonl.gz", "a.b.csv.zst", "a.b.parquet", "x/a.b.csv"]
    assert {Where(name, 1).stem for name in names} == {"a.b"}
