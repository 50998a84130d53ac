"""AgentTuning's held-in composite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.cli.compare import composite_line
from agentflan_ray.evaluate.benchmarks.agentbench_db import AgentBenchDb, DbProtocol
from agentflan_ray.evaluate.benchmarks.mind2web import Mind2Web
from agentflan_ray.evaluate.compare import Result
from agentflan_ray.evaluate.composite import HELD_IN, PUBLISHED_ITEMS, held_in
from agentflan_ray.evaluate.databases import SqliteDatabase

AS_PUBLISHED = {"mind2web": {"ranker": "the published ranker"}, "agentbench-db": {"server": "mysql"}}
MIND2WEB = "mind2web: 1000 items, where AgentTuning takes a part of test_domain."
"""Which part is not known, so that this is said of every composite."""


def result(benchmark: str, value: float | None, **changed: Any) -> Result:
    of = PUBLISHED_ITEMS.get(benchmark, 1000)
    row = {"value": value, "low": value and value - 0.03, "high": value and value + 0.03, "scale": 100}
    summary = {
        "benchmark": benchmark,
        "model": {"label": "m"},
        "metrics": {"headline": row},
        "asked": {"items": of, "of": of},
        "errors": {"items": 0},
        "identity": AS_PUBLISHED.get(benchmark, {}),
        **changed,
    }
    return Result(summary, Path())


def remarks(**changed: Any) -> list[str]:
    """Of a composite whose databases were run otherwise."""
    found: list[str] = held_in([result(name, 0.1, **(changed if name == "agentbench-db" else {})) for name in HELD_IN])[
        "remarks"
    ]
    return found


def test_a_model_at_the_weights_has_the_composite_one() -> None:
    row = held_in([result(name, weight / 100) for name, weight in HELD_IN.items()])
    assert row["value"] == pytest.approx(1.0)
    halves = sum((3 / weight / 6) ** 2 for weight in HELD_IN.values()) ** 0.5
    assert row["high"] - row["value"] == pytest.approx(halves)
    assert row["value"] - row["low"] == pytest.approx(halves)
    line = composite_line(row)
    assert line.startswith("Held-in composite of m: 1 (0.")
    assert line.endswith(f"). Not run as published. {MIND2WEB}")


def test_without_all_six_there_is_none() -> None:
    row = held_in([result(name, None if name == "webshop" else 0.1) for name in HELD_IN if name != "mind2web"])
    assert row["value"] is None
    assert row["missing"] == ["webshop", "mind2web"]
    assert row["remarks"] == []
    assert composite_line(row) == "Held-in composite of m: not without webshop, mind2web."


def test_each_way_in_which_a_task_was_run_otherwise_is_said() -> None:
    assert remarks() == [MIND2WEB]
    assert remarks(identity={"server": "sqlite"}) == [
        MIND2WEB, "agentbench-db: server is 'sqlite', where 'mysql' is published.",
    ]  # fmt: skip
    assert remarks(asked={"items": 40, "of": 300})[1:] == ["agentbench-db: only 40 of 300 items were run."]
    assert remarks(errors={"items": 3})[1:] == ["agentbench-db: 3 items ended with an error and are in no mean."]
    assert remarks(asked={"items": 20, "of": 20})[1:] == ["agentbench-db: 20 items, where AgentBench has 300."]
    games = [
        result(name, 0.1, **({"asked": {"items": 274, "of": 274}} if name == "alfworld" else {})) for name in HELD_IN
    ]
    row = held_in(games)
    assert row["remarks"] == ["alfworld: 274 items, where AgentBench has 50.", MIND2WEB]
    assert composite_line(row).endswith(f"Not run as published. {' '.join(row['remarks'])}")


def test_what_is_required_stands_in_the_identities() -> None:
    database = AgentBenchDb(DbProtocol(), (), SqliteDatabase, "mysql", "own")
    assert database.identity["server"] == AS_PUBLISHED["agentbench-db"]["server"]
    assert Mind2Web((), "the published ranker").identity["ranker"] == AS_PUBLISHED["mind2web"]["ranker"]
