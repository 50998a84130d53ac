"""What a training says while it runs."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agentflan_ray.train.progress import CurveWriter, read_curve, shown, step_table
from agentflan_ray.train.tracking import Tracking


def row(step: int, **more: float) -> dict[str, Any]:
    return {"step": step, "supervised_tokens": 100 * step, "loss": 3.0 - step / 10, "grad_norm": 1.0, **more}


def test_the_curve_of_a_run_that_went_back_has_each_step_once(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    writer = CurveWriter(str(path))
    for step, loss in ((1, 2.0), (2, 1.9), (3, 1.8), (2, 1.7), (3, 1.6), (4, 1.5)):
        writer.after_report(None, [row(step, loss=loss), row(step, loss=9.0)], None)
    assert [(each["step"], each["loss"]) for each in read_curve(path)] == [(1, 2.0), (2, 1.7), (3, 1.6), (4, 1.5)]


def test_a_line_that_is_being_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    assert read_curve(path) == []
    path.write_text(json.dumps(row(1)) + "\n" + json.dumps(row(2))[:20])
    assert [each["step"] for each in read_curve(path)] == [1]


def test_without_a_terminal_a_line_for_each_tenth(tmp_path: Path) -> None:
    said = io.StringIO()
    path = tmp_path / "curve.jsonl"
    writer = CurveWriter(str(path))
    with shown(path, 20, Console(file=said, width=200)):
        for step in range(1, 21):
            writer.after_report(None, [row(step)], None)
            if step in (1, 10):
                time.sleep(1.2)
    steps = [line.split("step ")[1].split("/")[0] for line in said.getvalue().splitlines()]
    assert steps == ["1", "10", "20"]
    assert "loss 1.0000" in said.getvalue().splitlines()[-1]


def test_each_start_says_once_where_its_time_went(tmp_path: Path) -> None:
    """A run that went on from a checkpoint has started twice."""
    said = io.StringIO()
    path = tmp_path / "curve.jsonl"
    writer = CurveWriter(str(path))
    first = {"startup_seconds/workers": 9.0, "startup_seconds/model": 2.25}
    with shown(path, 20, Console(file=said, width=200)):
        for step, more in ((1, first), (2, {}), (2, {**first, "startup_seconds/checkpoint": 1.0}), (3, {})):
            writer.after_report(None, [row(step, **more)], None)
            time.sleep(0.7)
    starts = [line for line in said.getvalue().splitlines() if line.startswith("First step")]
    assert starts == [
        "First step after 11.2 s: workers 9.0, model 2.2",
        "First step after 12.2 s: workers 9.0, model 2.2, checkpoint 1.0",
    ]


def test_the_table_has_losses_first_now_and_held_out() -> None:
    rows = [
        row(1, **{"loss/reasoning": 3.0, "loss/general": 2.0, "source_loss/glaive": 2.0, "explicit_loss/format": 4.0}),
        row(2, **{"loss/reasoning": 2.5, "validation_loss/reasoning": 2.75, "validation_loss": 2.75}),
        row(3, **{"loss/reasoning": 2.25}),
    ]
    said = io.StringIO()
    Console(file=said, width=120).print(step_table(rows))
    text = said.getvalue()
    assert "Step 3, 300 supervised tokens" in text
    assert next(line.split()[-4:] for line in text.splitlines() if "reasoning" in line) == [
        "reasoning",
        "3.000",
        "2.250",
        "2.750",
    ]
    assert next(line.split()[-3:] for line in text.splitlines() if "general" in line) == ["general", "2.000", "2.000"]
    assert next(line.split()[-3:] for line in text.splitlines() if "format" in line) == ["format", "4.000", "4.000"]


def test_trackers_by_name() -> None:
    with pytest.raises(ValueError, match="--track tensorbored names no tracker; give one of mlflow, wandb"):
        Tracking.parse("tensorbored")


def test_a_tracker_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match="--track mlflow needs a package that is not installed; run: pip install mlflow"
    ):
        Tracking.parse("mlflow=sqlite:///runs.db")
