"""Laws of cleaning: what is removed depends on the records alone, and what stays has nothing left to remove.

Duplicates are looked for here without Ray, by the functions that its tasks run; the tasks are tested in
``tests/integration/test_duplicates.py``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflan_ray.corpus.clean import CleanRecipe, examine
from agentflan_ray.corpus.clean import duplicates as found_by
from agentflan_ray.corpus.clean.signatures import BANDS, SIGNATURE_SCHEMA, signature_columns
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory
from tests.strategies import json_values, names, tool_trajectories

Placed = tuple[str, Trajectory]
THRESHOLD = 0.9
FILLERS = (
    "amber",
    "birch",
    "copper",
    "delta",
    "ember",
    "fjord",
    "grove",
    "harbor",
    "island",
    "juniper",
    "kelp",
    "linden",
)


def duplicates_of(placed: Sequence[Placed], num_files: int = 1) -> list[dict[str, Any]]:
    """The removed records, with the records dealt out to files."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(num_files):
            part = placed[number::num_files]
            if part:
                pq.write_table(signature_table(part, f"part-{number}"), Path(folder) / f"{number}.parquet")
        files = found_by._files([folder])
        if not files:
            return []
        ranks = found_by._ranks(files)
        contents, identities = (found_by._groups(files, column, ranks) for column in ("content", "id"))
        alike = found_by._merged(found_by._alike(files, band, ranks, contents, THRESHOLD) for band in BANDS)
        involved = found_by._involved(contents, identities, alike)
        rows = found_by._decide(involved, found_by._records_at(files, ranks, involved), contents, alike).to_pylist()
    return [{name: value for name, value in row.items() if name != "part"} for row in rows]


def signature_table(placed: Sequence[Placed], part: str) -> pa.Table:
    table = signature_columns([trajectory for _, trajectory in placed])
    names = {
        "where": [where for where, _ in placed],
        "id": [trajectory.id for _, trajectory in placed],
        "origin": ["law"] * len(placed),
        "part": [part] * len(placed),
    }
    for name, values in names.items():
        table = table.append_column(name, pa.array(values, pa.string()))
    return table.select(SIGNATURE_SCHEMA.names).cast(SIGNATURE_SCHEMA)


def position(where: str) -> tuple[str, int, int]:
    file, _, rest = where.rpartition(":")
    row, _, number = rest.partition("#")
    return file, int(row), int(number or 1)


@st.composite
def placed_records(draw: st.DrawFn) -> list[Placed]:
    """Up to eight records of two themes, each with some words changed, so that all kinds of duplicates occur."""
    records: list[Placed] = []
    for _ in range(draw(st.integers(2, 8))):
        theme = draw(st.integers(0, 1))
        words = [FILLERS[(theme + 2 * index + index // 7) % len(FILLERS)] for index in range(70)]
        for place in draw(st.lists(st.integers(0, 69), max_size=2)):
            words[place] = draw(st.sampled_from(["stone", "water"]))
        calls = (ToolCall("f", json.dumps({"x": draw(st.sampled_from([1, 1, 1, 2]))})),)
        messages = (
            Message("user", "Go on"),
            Message("assistant", "", " ".join(words), calls, loss=True),
            Message("tool", draw(st.sampled_from(["done", "done", "well done"]))),
            Message("assistant", "that is all", loss=True),
        )
        identity = draw(st.sampled_from("abcdefghijklmnop"))
        file, row, number = (
            draw(st.sampled_from(["x.jsonl", "a/y.json"])),
            draw(st.integers(1, 20)),
            draw(st.integers(1, 2)),
        )
        where = f"{file}:{row}" + (f"#{number}" if number > 1 else "")
        if where not in {other for other, _ in records}:
            records.append((where, Trajectory(identity, "law", (Tool("f", "Does."),), messages)))
    return records


@given(placed_records(), st.randoms(use_true_random=False), st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_order_and_files_do_not_matter(records: list[Placed], random: Any, num_files: int) -> None:
    shuffled = random.sample(records, len(records))
    assert duplicates_of(shuffled, num_files) == duplicates_of(records)


@given(placed_records())
@settings(max_examples=15, deadline=None)
def test_what_stays_has_no_duplicates_and_what_goes_has_one_that_stays(records: list[Placed]) -> None:
    removed = duplicates_of(records)
    gone = {row["where"] for row in removed}
    stay = [record for record in records if record[0] not in gone]
    assert duplicates_of(stay) == []
    assert len({trajectory.id for _, trajectory in stay}) == len(stay)
    assert [row["where"] for row in removed] == sorted(gone, key=position)
    staying = dict(stay)
    all_of_them = dict(records)
    for row in removed:
        assert position(row["of"]) < position(row["where"])
        one, other = all_of_them[row["where"]], staying[row["of"]]
        same = (one.tools, one.messages) == (other.tools, other.messages)
        assert same == (row["reason"] == "exact_duplicate")
        if row["reason"] == "near_duplicate":
            assert THRESHOLD <= row["similarity"] == np.float32(similarity_of(one, other))
        if row["reason"] == "duplicate_id":
            assert one.id == other.id
            assert row["similarity"] is None


def similarity_of(one: Trajectory, other: Trajectory) -> float:
    data = b"".join(signature_columns([one, other])["signature"].to_pylist())
    first, second = np.frombuffer(data, "<u2").reshape(2, -1)
    return float((first == second).mean())


@given(placed_records(), placed_records())
@settings(max_examples=10, deadline=None)
def test_records_that_come_later_change_nothing_for_earlier_ones(first: list[Placed], second: list[Placed]) -> None:
    later = [(f"z/{where}", trajectory) for where, trajectory in second]
    assert [row for row in duplicates_of([*later, *first]) if not row["where"].startswith("z/")] == duplicates_of(first)


@given(tool_trajectories())
@settings(max_examples=50)
def test_the_verdict_on_a_record_does_not_depend_on_its_id_or_source(trajectory: Trajectory) -> None:
    recipe = CleanRecipe()
    verdict = examine(trajectory, recipe, None)
    other = examine(replace(trajectory, id="other", source="other"), recipe, None)
    assert (verdict and verdict.reason) == (other and other.reason)


@given(tool_trajectories())
@settings(max_examples=50)
def test_a_run_that_is_done_three_times_over_is_a_loop(trajectory: Trajectory) -> None:
    steps = trajectory.messages[1:-1]
    if sum(bool(message.calls) for message in steps) > 3:
        steps = steps[:2] if len(steps[0].calls) == 1 else steps[:3]
    repeated = replace(trajectory, messages=(trajectory.messages[0], *steps * 3, trajectory.messages[-1]))
    verdict = examine(repeated, CleanRecipe(schema=False), None)
    assert verdict is not None
    assert verdict.reason == "loop"


values = json_values | st.sampled_from([10**400, "1e999", "NaN"])
kinds = st.sampled_from(
    ["string", "number", "integer", "boolean", "array", "object", "null", "STRING", ["integer", "null"]]
)


@given(
    st.dictionaries(names, json_values | st.builds(dict, type=kinds, enum=json_values)), st.dictionaries(names, values)
)
@settings(max_examples=200)
def test_any_schema_and_any_arguments_get_a_verdict(properties: dict[str, Any], arguments: dict[str, Any]) -> None:
    call = ToolCall("f", json.dumps({**dict.fromkeys(properties, arguments), **arguments}))
    messages = (Message("user", "Go"), Message("assistant", calls=(call,), loss=True), Message("tool", "done"))
    end = Message("assistant", "Done.", loss=True)
    tool = Tool("f", "Does.", {"type": "object", "properties": properties})
    verdict = examine(Trajectory("a", "law", (tool,), (*messages, end)), CleanRecipe(), None)
    unknown = bool(properties) and not arguments.keys() <= properties.keys()
    if unknown:
        assert verdict is not None
    assert verdict is None or verdict.reason in ("unknown_argument", "wrong_type", "unknown_choice")
