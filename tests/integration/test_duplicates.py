"""Duplicates on real Ray: planted ones are found, in files written by hand and by Ray Data, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data

from agentflan_ray.corpus.clean.duplicates import DUPLICATE_SCHEMA, SIGNATURE_SCHEMA, find_duplicates, signature_columns
from agentflan_ray.randomness import stable_random
from agentflan_ray.toolbox import draw_trajectory
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning"),
    pytest.mark.usefixtures("local_ray"),
]

NUM_OWN = 2_000
NUM_PLANTED = 300
SYLLABLES = ("ba", "den", "fo", "gri", "hal", "kem", "lu", "mor", "ni", "pel", "ras", "tiv", "ur", "ves", "zol")


def own(number: int) -> Trajectory:
    """A trajectory of 200 made-up words, unlike all others."""
    random = stable_random("duplicates", number)
    words = ["".join(random.choices(SYLLABLES, k=2)) for _ in range(200)]
    call = ToolCall("look", json.dumps({"word": words[7]}))
    messages = (
        Message("user", " ".join(words[:80])),
        Message("assistant", "", " ".join(words[80:140]), (call,), loss=True),
        Message("tool", "found"),
        Message("assistant", " ".join(words[140:]), loss=True),
    )
    return Trajectory(f"own-{number}", "test", (Tool("look", "Looks."),), messages)


def reworded(trajectory: Trajectory, number: int) -> Trajectory:
    """One word of the request changed: 5 of some 200 word 5-grams, so a true similarity of 0.95."""
    words = trajectory.messages[0].content.split()
    words[10 + number % 20] = "another"
    first = replace(trajectory.messages[0], content=" ".join(words))
    return replace(trajectory, id=f"near-{number}", messages=(first, *trajectory.messages[1:]))


def renumbered(trajectory: Trajectory, number: int) -> Trajectory:
    """The same words, but a number more: another task."""
    last = trajectory.messages[-1]
    changed = replace(last, content=f"{last.content} {number}")
    return replace(trajectory, id=f"other-{number}", messages=(*trajectory.messages[:-1], changed))


def table_of(placed: list[tuple[str, Trajectory]]) -> pa.Table:
    table = signature_columns([trajectory for _, trajectory in placed])
    table = table.append_column("where", pa.array([where for where, _ in placed]))
    table = table.append_column("id", pa.array([trajectory.id for _, trajectory in placed]))
    table = table.append_column("origin", pa.array([trajectory.source for _, trajectory in placed]))
    table = table.append_column("part", pa.array(["p"] * len(placed)))
    return table.select(SIGNATURE_SCHEMA.names).cast(SIGNATURE_SCHEMA)


def planted() -> tuple[list[tuple[str, Trajectory]], dict[str, str]]:
    """Records with their positions, and for each planted duplicate the position of what it repeats."""
    placed = [(f"own.jsonl:{number + 1}", own(number)) for number in range(NUM_OWN)]
    truth = {}
    for number, of in enumerate(stable_random("of").sample(range(NUM_OWN), NUM_PLANTED)):
        original = placed[of]
        placed.append((f"other.jsonl:{number}", renumbered(original[1], number)))
        # Positions go by file name: these stand behind what they repeat.
        for where, trajectory in (
            (f"z-exact.jsonl:{number}", replace(original[1], id=f"exact-{number}")),
            (f"z-near.jsonl:{number}", reworded(original[1], number)),
        ):
            placed.append((where, trajectory))
            truth[where] = original[0]
    placed += [(f"toolbox/tool:{index}", draw_trajectory(index, 0, "train")) for index in range(500)]
    placed += [(f"z-id.jsonl:{number}", replace(own(-number), id=f"own-{number}")) for number in range(1, 21)]
    return placed, truth


def test_planted_duplicates_are_found_and_nothing_else(tmp_path: Path) -> None:
    placed, truth = planted()
    by_hand = tmp_path / "by-hand"
    by_hand.mkdir()
    for number in range(5):
        pq.write_table(table_of(placed[number::5]), by_hand / f"{number}.parquet", row_group_size=100)
    by_ray = tmp_path / "by-ray"
    ray.data.from_arrow(table_of(placed)).repartition(3).write_parquet(str(by_ray))

    found = find_duplicates([str(by_hand)], 0.9)
    assert found.schema == DUPLICATE_SCHEMA
    assert find_duplicates([str(path) for path in by_ray.glob("*.parquet")], 0.9).equals(found)

    rows = {row["where"]: row for row in found.to_pylist()}
    exact = {where for where in truth if where.startswith("z-exact")}
    near = set(truth) - exact
    same_id = {f"z-id.jsonl:{number}" for number in range(1, 21)}
    assert {where for where, row in rows.items() if row["reason"] == "exact_duplicate"} == exact
    assert {where for where, row in rows.items() if row["reason"] == "duplicate_id"} == same_id
    found_near = {where for where, row in rows.items() if row["reason"] == "near_duplicate"}
    assert found_near <= near
    assert len(found_near) >= 0.95 * len(near)
    assert all(rows[where]["of"] == truth[where] for where in exact)
    assert rows["z-id.jsonl:1"]["sentence"] == (
        "The id 'own-1' at z-id.jsonl:1 was used before; give each record its own."
    )
    assert rows["z-id.jsonl:1"]["of"] == "own.jsonl:2"


def test_without_a_threshold_only_whole_conversations_and_ids_count(tmp_path: Path) -> None:
    placed, truth = planted()
    pq.write_table(table_of(placed), tmp_path / "all.parquet")
    rows = find_duplicates([str(tmp_path / "all.parquet")], None).to_pylist()
    assert {row["reason"] for row in rows} == {"exact_duplicate", "duplicate_id"}
    assert sum(row["reason"] == "exact_duplicate" for row in rows) == len(truth) / 2


def test_no_signatures_are_no_duplicates(tmp_path: Path) -> None:
    assert find_duplicates([], 0.9).equals(DUPLICATE_SCHEMA.empty_table())
    pq.write_table(table_of([]), tmp_path / "none.parquet")
    assert find_duplicates([str(tmp_path)], 0.9).equals(DUPLICATE_SCHEMA.empty_table())
    with pytest.raises(ValueError, match=r"There are no signatures at .*nowhere"):
        find_duplicates([str(tmp_path / "nowhere")], 0.9)
