"""What is kept together: the runs of a task, the samples of a trajectory, and where they go."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflan_ray.corpus.recipe import CorpusRecipe
from agentflan_ray.corpus.similarity import Catalogue
from agentflan_ray.corpus.split import VALIDATION_SHARE, group_of, is_validation, unit_of
from agentflan_ray.corpus.steps import _derived_rows
from agentflan_ray.corpus.store import DERIVED_SCHEMA
from agentflan_ray.sample import Sample
from agentflan_ray.toolbox import draw_trajectory
from agentflan_ray.trajectory import Message, Trajectory
from tests.strategies import sentences

TASK = "Which of the two rivers carries more water in spring?"


def asked(*texts: str, system: str = "", identity: str = "a") -> Trajectory:
    turns = [turn for text in texts for turn in (Message("user", text), Message("assistant", "Well.", loss=True))]
    return Trajectory(identity, "unit", (), (*([Message("system", system)] if system else []), *turns))


@given(st.lists(sentences, max_size=3), st.lists(sentences, max_size=3))
def test_runs_of_one_task_are_on_one_side(one: list[str], other: list[str]) -> None:
    groups = [group_of(asked(TASK, *later, identity=name)) for name, later in (("a", one), ("b", other))]
    assert groups[0] == groups[1]
    assert is_validation(groups[0]) == is_validation(groups[1])


@given(sentences, sentences)
def test_other_words_are_another_task(one: str, other: str) -> None:
    same = one.split() == other.split()
    assert (group_of(asked(f"{TASK} {one}")) == group_of(asked(f"{TASK} {other}"))) == same
    assert (group_of(asked("Hi!", one)) == group_of(asked("Hi!", other))) == same


@pytest.mark.parametrize(
    "twin",
    [
        asked(TASK.upper().replace("?", "!\n")),
        asked(TASK, "And in autumn?"),
        asked(TASK, system="Use the tools."),
        asked(TASK, identity="b"),
    ],
    ids=["marks", "later turns", "system", "id"],
)
def test_what_the_group_does_not_look_at(twin: Trajectory) -> None:
    assert group_of(twin) == group_of(asked(TASK))


def test_a_short_opening_is_no_task() -> None:
    assert group_of(asked("Hi there", "What is the weather?")) != group_of(asked("Hi there", "Book a table."))
    assert group_of(asked("Hi there", TASK)) == group_of(asked("hi, there!", TASK))
    assert group_of(asked("Hi there")) == group_of(asked("Hi there", identity="b"))
    assert group_of(asked("Hi", "there")) != group_of(asked("Hi there"))


@settings(max_examples=20)
@given(st.integers(0, 500))
def test_samples_of_a_trajectory_share_its_group(index: int) -> None:
    trajectory = draw_trajectory(index, 0, "train")
    rows = list(_derived_rows(trajectory, CorpusRecipe(), Catalogue.of(trajectory.tools)))
    assert {row["group"] for row in rows} == {group_of(trajectory)}
    table = pa.Table.from_pylist(rows, DERIVED_SCHEMA).to_pylist()
    samples = [Sample.from_row(row) for row in table if row["omitted"] is None]
    assert samples
    for sample, row in zip(samples, (row for row in table if row["omitted"] is None), strict=True):
        assert sample.group == group_of(trajectory)
        assert {**sample.to_row(), "omitted": None} == row
        assert json.loads(sample.to_row()["turns"])


def test_five_per_cent_are_validation_text() -> None:
    held = [name for name in map(str, range(10_000)) if is_validation(name)]
    assert len(held) == pytest.approx(10_000 * VALIDATION_SHARE, rel=0.1)
    assert [unit_of("g", "p"), unit_of("", "p")] == ["g", "p"]
