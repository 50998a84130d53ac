"""Laws of every parser and reader: whatever comes in, only known outcomes come out, and nothing is lost unsaid.

The quick tests draw hundreds of cases with Hypothesis; the slow ones count 10,000 mutated records of each source and
thousands of damaged files.
"""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflan_ray.sources import SOURCES, Dropped, MalformedRecord, Where
from agentflan_ray.sources.files import BadRow, Row, SourceSpec, count_lines, number_slices, plan_slices, read_slice
from agentflan_ray.sources.ingest import INGEST_SCHEMA, read_record
from agentflan_ray.trajectory import Trajectory, validate
from tests.unit.sources_examples import RECORDS

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=True)
    | st.text(max_size=8)
    | st.sampled_from(["Action: x", "Thought: a\nAction: b\nAction Input: [", "{", "[]", "\ud800", "user", "Finish"]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "role", "from", "value", "content", "loss", "x"]), children)
    ),
    max_leaves=6,
)
STEMS = ["demo.json", "toolbench_negative.jsonl", "agent_instruct_tflan.jsonl", "toolbench_instruct_j1s1_3k.jsonl"]


def mutate(value: Any, place: random.Random, junk: Any) -> Any:
    """The value with something in it removed, replaced, doubled or cut."""
    if isinstance(value, dict) and value and place.random() < 0.8:
        key = place.choice(sorted(value))
        action = place.random()
        if action < 0.15:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: junk if action < 0.35 else mutate(value[key], place, junk)}
    if isinstance(value, list) and value and place.random() < 0.9:
        index = place.randrange(len(value))
        action = place.random()
        if action < 0.1:
            return value[:index]
        if action < 0.2:
            return [*value[:index], value[index], *value[index:]]
        return [*value[:index], mutate(value[index], place, junk), *value[index + 1 :]]
    if isinstance(value, str) and value and place.random() < 0.8:
        start, stop = sorted(place.choices(range(len(value) + 1), k=2))
        kept, piece, rest = value[:start], value[start:stop], value[stop:]
        return place.choice((kept, kept + rest, value + piece, kept + place.choice(SNIPPETS) + piece + rest))
    return junk


SNIPPETS = (
    "\n",
    " ",
    '"',
    "{",
    "]",
    "\ud800",
    "\0",
    "\nThought: ",
    "\nAction: ",
    "\nAction Input: {",
    "\nObservation: ",
    "\nFinal Answer: ",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<response>",
    "```",
    "finish[",
    "###",
)
"""What the formats' readers look for, to be put where it does not belong."""


@pytest.mark.parametrize("source", sorted(SOURCES))
@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_only_known_outcomes(source: str, data: st.DataObject) -> None:
    row = copy.deepcopy(data.draw(st.sampled_from(RECORDS[source])))
    place = data.draw(st.randoms(use_true_random=False))
    for _ in range(data.draw(st.integers(1, 3))):
        row = mutate(row, place, data.draw(JUNK))
        if not isinstance(row, dict):
            row = {"id": "x", "conversations": row}
    where = Where(data.draw(st.sampled_from(STEMS)), 1)
    outcomes: list[object] = []
    try:
        outcomes += SOURCES[source].parse(row, where)
    except MalformedRecord as error:
        outcomes.append(error)
    assert outcomes
    for outcome in outcomes:
        assert isinstance(outcome, Trajectory | Dropped | MalformedRecord)
        if isinstance(outcome, Trajectory):
            validate(outcome)
        else:
            assert outcome.reason
            assert outcome.sentence
    for table_row, read in read_record(SOURCES[source], where, row):
        assert set(table_row) == set(INGEST_SCHEMA.names)
        assert (table_row["status"] == "kept") == (table_row["reason"] is None)
        for text in table_row.values():
            (text or "").encode()
        if table_row["status"] == "kept":
            # It is cleaned from memory when it is read, and from its row later.
            assert Trajectory.from_row(table_row) == read


@given(junk=JUNK)
def test_bad_rows_are_quarantined_with_their_place(junk: Any) -> None:
    raw = json.dumps(junk)
    ((row, _),) = read_record(SOURCES["sharegpt"], Where("a.json", 3), BadRow("not_json", "It is not JSON.", raw))
    assert (row["status"], row["reason"], row["where"], row["raw"]) == ("quarantined", "not_json", "a.json:3", raw)


SEEDED_JUNK: list[Any] = [
    None,
    True,
    0,
    -1.5,
    float("nan"),
    "",
    " \n",
    "user",
    "Finish",
    "<tool_call>",
    "</think>",
    "<think>a</think><tool_call>{",
    "Thought: a\nAction: b\nAction Input: [",
    "Observation: x",
    "\ud800",
    "\0",
    [],
    [[]],
    {},
    {"name": "x", "arguments": "{"},
    {"role": "user", "content": None},
    {"from": "gpt", "value": 1, "loss": 1},
    [{"role": "tool", "content": "x"}, 3],
]
MUTATED_RECORDS = 10_000


def mutated(source: str, number: int) -> dict[str, Any]:
    """A record of the source with one to four things wrong in it, the same one for the same number."""
    place = random.Random(f"{source} {number}")
    row: dict[str, Any] = copy.deepcopy(place.choice(RECORDS[source]))
    for _ in range(place.randint(1, 4)):
        value = mutate(row, place, copy.deepcopy(place.choice(SEEDED_JUNK)))
        row = value if isinstance(value, dict) else {"id": "x", "conversations": value}
    return row


def outcomes(source: str, numbers: range) -> Counter[str]:
    """How the mutated records end; asserts what must hold of each of their rows."""
    counts: Counter[str] = Counter()
    for number in numbers:
        where = Where(STEMS[number % len(STEMS)], number + 1)
        rows = [row for row, _ in read_record(SOURCES[source], where, mutated(source, number))]
        assert {row["record"] for row in rows} == {str(where)}
        assert len({row["where"] for row in rows}) == len(rows)
        for row in rows:
            "".join(text for text in row.values() if text).encode()
            assert (row["status"] == "kept") == (row["reason"] is None) == (row["sentence"] is None)
            if row["status"] == "kept":
                assert validate(Trajectory.from_row(row)) == []
        # A record of several conversations counts as kept where one of them is.
        counts[min(str(row["status"]) for row in rows if row["status"] is not None)] += 1
    return counts


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_mutated_records_are_kept_dropped_or_quarantined(source: str) -> None:
    assert outcomes(source, range(300)).total() == 300


@pytest.mark.slow
@pytest.mark.parametrize("source", sorted(SOURCES))
def test_ten_thousand_mutated_records_are_kept_dropped_or_quarantined(source: str) -> None:
    counts = outcomes(source, range(MUTATED_RECORDS))
    assert counts.total() == MUTATED_RECORDS
    assert set(counts) <= {"kept", "dropped", "quarantined"}
    # Mutation must leave something of each kind, or it would test one path only.
    assert counts["quarantined"] > 0.01 * MUTATED_RECORDS
    assert counts["kept"] + counts["dropped"] > 0.01 * MUTATED_RECORDS


def damaged(content: bytes, place: random.Random, alphabet: bytes = bytes(range(256))) -> bytes:
    """The bytes with some of them changed, put in, taken out or cut off."""
    data = bytearray(content)
    for _ in range(place.randint(1, 6)):
        where = place.randrange(len(data) + 1)
        action = place.random()
        if action < 0.3:
            data[where : where + 1] = bytes([place.choice(alphabet)])
        elif action < 0.6:
            data[where:where] = bytes(place.choice(alphabet) for _ in range(place.randint(1, 4)))
        elif action < 0.9:
            del data[where : where + place.randint(1, 30)]
        elif len(data) > 1:
            del data[where:]
    return bytes(data)


def read_all(path: Path, slice_bytes: int = 2**25) -> list[Row]:
    slices = plan_slices([SourceSpec("alpaca", str(path))], slice_bytes)
    counts = [0 if piece.whole else count_lines(piece) for piece in slices]
    return [row for piece in number_slices(slices, counts) for row in read_slice(piece)]


ROWS = [{"instruction": f"Say {number} please.", "input": "", "output": "é" * number} for number in range(8)]
JSON_LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode() + b"\n"


def csv_bytes(rows: list[dict[str, str]], quoting: Literal[0, 1]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def check_every_line_is_a_record(path: Path, content: bytes) -> int:
    lines = [number for number, line in enumerate(content.split(b"\n"), start=1) if line.strip()]
    for slice_bytes in (2**25, 64):
        rows = read_all(path, slice_bytes)
        if lines:
            assert [where.row for where, _ in rows] == lines
        else:
            assert [record.reason for _, record in rows if isinstance(record, BadRow)] == ["empty_file"] * len(rows)
    return len(lines)


def check_damaged_files(folder: Path, numbers: range) -> Counter[str]:
    """Damage files of every kind and read them; the number of records of each kind that were accounted for."""
    counts: Counter[str] = Counter()
    plain = csv_bytes(ROWS, csv.QUOTE_MINIMAL)
    quoted = csv_bytes([{**row, "output": 'one, "two"\nthree'} for row in ROWS], csv.QUOTE_ALL)
    array = json.dumps(ROWS, ensure_ascii=False).encode()
    for number in numbers:
        place = random.Random(number)
        path = folder / "a.jsonl"
        path.write_bytes(content := damaged(JSON_LINES, place))
        counts["jsonl"] += check_every_line_is_a_record(path, content)

        # Without quotes a CSV row is a line. A header that names a column twice is one bad row for the whole file.
        path = folder / "a.csv"
        letters = bytes(byte for byte in range(256) if byte not in b'"\r')
        path.write_bytes(content := damaged(plain, place, letters))
        rows = read_all(path)
        lines = content.replace(b"\r\n", b"\n").split(b"\n")
        filled = [line for line in lines if line.replace(b",", b"").decode("utf-8-sig", "replace").strip()]
        reasons = [record.reason for _, record in rows if isinstance(record, BadRow)]
        assert len(rows) == max(len(filled) - 1, 1) or reasons == ["bad_header"]
        counts["csv"] += len(rows)

        path.write_bytes(content := damaged(quoted, place))
        rows = read_all(path)
        positions = [where.row for where, _ in rows]
        assert positions == sorted(set(positions))
        assert rows
        assert positions[-1] <= content.count(b"\n") + content.count(b"\r") + 1
        counts["quoted csv"] += len(rows)

        path = folder / "a.json"
        path.write_bytes(damaged(array, place))
        rows = read_all(path)
        assert [where.row for where, _ in rows] == list(range(1, len(rows) + 1))
        assert rows
        counts["json"] += len(rows)

        for suffix, packed in (
            ("gz", gzip.compress(JSON_LINES)),
            ("zst", pa.compress(JSON_LINES, "zstd", asbytes=True)),
        ):
            path = folder / f"a.jsonl.{suffix}"
            path.write_bytes(damaged(packed, place))
            rows = read_all(path)
            assert rows
            assert len({where.row for where, _ in rows}) == len(rows)
            counts[suffix] += len(rows)
    return counts


def test_damaged_files_lose_nothing_unsaid(tmp_path: Path) -> None:
    counts = check_damaged_files(tmp_path, range(40))
    assert counts["jsonl"] > 200


@pytest.mark.slow
def test_thousands_of_damaged_files_lose_nothing_unsaid(tmp_path: Path) -> None:
    counts = check_damaged_files(tmp_path, range(2_000))
    assert counts["jsonl"] > 10_000
    assert counts["csv"] > 10_000
