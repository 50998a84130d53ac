"""Ingest on real Ray: the law of counts on damaged files, and real published data."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from agentflan_ray.sources.files import SourceSpec
from agentflan_ray.sources.ingest import INGEST_SCHEMA, plan_groups, read_slices
from agentflan_ray.trajectory import Trajectory, validate

# Ray deprecates settings of its own and says so whenever it reads them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning"),
    pytest.mark.usefixtures("local_ray"),
]

DATA = Path(os.environ.get("AGENTFLAN_DATA", Path(__file__).parents[2] / "../shared/data"))


def collect(*specs: tuple[str, Path], slice_bytes: int = 2**25) -> pa.Table:
    groups = plan_groups([SourceSpec(source, str(path)) for source, path in specs], slice_bytes)
    return pa.Table.from_pylist([row for group in groups for row, _ in read_slices(group)], INGEST_SCHEMA)


def counts(table: pa.Table) -> dict[tuple[str, str], int]:
    pairs = zip(table["status"].to_pylist(), table["reason"].to_pylist(), strict=True)
    return dict(Counter((status, reason or "") for status, reason in pairs))


def chat(identity: str, reply: str) -> str:
    messages = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": reply}]
    return json.dumps({"id": identity, "messages": messages})


def test_rows_in_are_rows_out_however_the_file_is_cut(tmp_path: Path) -> None:
    lines = [chat(f"id{number % 990}", "x" * (number % 97)) for number in range(1_000)]
    lines[10] = "{broken"
    lines[20] = "[]"
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    (tmp_path / "empty.jsonl").touch()
    whole = collect(("openai_messages", tmp_path)).sort_by("where")
    cut = collect(("openai_messages", tmp_path), slice_bytes=10_000).sort_by("where")
    assert whole.equals(cut)
    assert whole.num_rows == 1_001
    assert len(set(whole["record"].to_pylist())) == 1_001
    assert counts(whole) == {
        ("kept", ""): 987,
        ("quarantined", "empty_assistant_message"): 11,
        ("quarantined", "not_json"): 1,
        ("quarantined", "not_an_object"): 1,
        ("quarantined", "empty_file"): 1,
    }
    assert whole.schema == INGEST_SCHEMA


REAL = [
    ("agentinstruct", "train/agentinstruct/db.jsonl.gz", 538, {}),
    ("agentinstruct", "train/agentinstruct/alfworld.jsonl.gz", 336, {}),
    ("agentinstruct", "train/agentinstruct/samples", 20, {}),
    ("agenttraj", "train/agenttraj", 3639, {}),
    (
        "toolbench",
        "train/toolbench/dfs",
        15,
        {"gave_up": 1, "retried": 7, "invented_tool": 1, "no_final_answer": 2},
    ),
    (
        "toolbench",
        "train/toolbench/v0",
        666,
        {"invented_tool": 12, "no_tool_list": 101, "no_final_answer": 187, "not_utf8": 10},
    ),
    ("fireact", "train/fireact", 2 * 2063, {}),
    ("sharegpt", "train/glaive", 300, {}),
    ("intercode", "train/intercode", 3759, {"out_of_turns": 11}),
    ("knowagent", "train/knowagent", 316, {}),
    ("openai_messages", "train/intercode", 3759, {"out_of_turns": 11}),
    ("openai_messages", "train/knowagent", 316, {}),
    ("openai_messages", "train/sgd", 12174, {"duplicate_tool": 117}),
    ("think_tags", "train/toolrl", 400, {"unlisted_tool": 2, "duplicate_tool": 1}),
    ("toolverifier", "train/toolverifier", 555, {"invented_tool": 3}),
    ("openai_messages", "chat", 43157, {}),
]


@pytest.mark.parametrize(("source", "place", "num_records", "expected"), REAL)
def test_real_data(source: str, place: str, num_records: int, expected: dict[str, int]) -> None:
    if not (DATA / place.split("*")[0]).exists():
        pytest.skip(f"{place} is not there; set AGENTFLAN_DATA to the folder with real data")
    table = collect((source, DATA / place))
    assert len(set(table["record"].to_pylist())) == table.num_rows == num_records
    found = counts(table)
    if expected:
        assert {reason: count for (_, reason), count in found.items() if reason} == expected
    else:
        assert found["kept", ""] >= 0.95 * num_records
    kept = table.filter(pa.compute.equal(table["status"], "kept"))
    for row in kept.slice(0, 50).to_pylist():
        assert validate(Trajectory.from_row(row)) == []
