"""A law of every parser: whatever the record, only trajectories, drops and MalformedRecord come out."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflan_ray.sources import SOURCES, Dropped, MalformedRecord, Where
from agentflan_ray.sources.files import BadRow
from agentflan_ray.sources.ingest import INGEST_SCHEMA, record_rows
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
    if isinstance(value, str) and value and place.random() < 0.7:
        return value[: place.randrange(len(value))]
    return junk


@pytest.mark.parametrize("source", sorted(SOURCES))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
    for table_row in record_rows(SOURCES[source], where, row):
        assert set(table_row) == set(INGEST_SCHEMA.names)
        assert (table_row["status"] == "kept") == (table_row["reason"] is None)
        for text in table_row.values():
            (text or "").encode()
        if table_row["status"] == "kept":
            Trajectory.from_row(table_row)


@given(junk=JUNK)
def test_bad_rows_are_quarantined_with_their_place(junk: Any) -> None:
    raw = json.dumps(junk)
    (row,) = record_rows(SOURCES["sharegpt"], Where("a.json", 3), BadRow("not_json", "It is not JSON.", raw))
    assert (row["status"], row["reason"], row["where"], row["raw"]) == ("quarantined", "not_json", "a.json:3", raw)
