"""AgentTuning's held-in composite."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentflan_ray.cli.compare import composite_line
from agentflan_ray.evaluate.compare import Result
from agentflan_ray.evaluate.composite import HELD_IN, held_in


def result(benchmark: str, value: float | None) -> Result:
    row = {"value": value, "low": value and value - 0.03, "high": value and value + 0.03, "scale": 100}
    return Result({"benchmark": benchmark, "model": {"label": "m"}, "metrics": {"headline": row}}, Path())


def test_a_model_at_the_weights_has_the_composite_one() -> None:
    row = held_in([result(name, weight / 100) for name, weight in HELD_IN.items()])
    assert row["value"] == pytest.approx(1.0)
    halves = sum((3 / weight / 6) ** 2 for weight in HELD_IN.values()) ** 0.5
    assert row["high"] - row["value"] == pytest.approx(halves)
    assert row["value"] - row["low"] == pytest.approx(halves)
    assert composite_line(row).startswith("Held-in composite of m: 1 (0.")


def test_without_all_six_there_is_none() -> None:
    row = held_in([result(name, None if name == "webshop" else 0.1) for name in HELD_IN if name != "mind2web"])
    assert row["value"] is None
    assert row["missing"] == ["webshop", "mind2web"]
    assert composite_line(row) == "Held-in composite of m: not without webshop, mind2web."
