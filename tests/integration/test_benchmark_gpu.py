"""The script for a GPU, rehearsed on the CPU: its cheapest sections, and what it does where something fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"

pytestmark = pytest.mark.slow


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)


def last_line(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The cheapest sections, about half a minute on two free cores."""
    out = tmp_path_factory.mktemp("gpu")
    done = run("--rehearse", "--only", "attention,zero++,export", "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out / "results.json", done


def test_every_run_leaves_a_row(rehearsed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    rows = {f"{row['section']}: {row['name']}": row for row in json.loads(rehearsed[0].read_text())}
    assert list(rows) == [
        "machine: this",
        "attention: kernels",
        "zero++: quantised_gather",
        "export: transformers",
        "export: vLLM",
    ]
    attention = rows["attention: kernels"]["values"]
    assert [(row["precision"], row["heads"]) for row in attention] == [
        (precision, heads) for precision in ("bf16", "fp32") for heads in ("grouped", "a window of 6")
    ]
    for row in attention:
        errors = [row[name] for name in ("output", "of_query", "of_key", "of_value")]
        assert row["within"]
        assert 0 < max(errors) < row["tolerance"]
        assert row["if_borders_were_ignored"] > 0.1  # so a kernel that ignores them would be seen
    whole, adapted = rows["export: transformers"]["values"]
    assert whole["logits"] == 0
    assert 0 < adapted["logits"] <= 1e-5
    assert whole["same_first_choice"] == adapted["same_first_choice"] == 1
    assert rows["zero++: quantised_gather"]["outcome"] == "not run"
    assert rows["zero++: quantised_gather"]["reason"] == "needs CUDA"


def test_the_last_line_is_the_summary(rehearsed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    summary = last_line(rehearsed[1])
    assert summary == {"checks": 6, "checks_outside_tolerance": 0, "not_run": 2, "failed": 0, "rehearsed": True}


def test_results_are_shown_again(rehearsed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    shown = run("--show", str(rehearsed[0]))
    assert last_line(shown) == last_line(rehearsed[1])
    assert "a window of 6" in shown.stdout


def test_a_crash_is_a_row(tmp_path: Path) -> None:
    """Samples that are no file: the process ends with an error, the next run goes on."""
    out = tmp_path / "out"
    done = run("--rehearse", "--only", "metering", "--out", str(out), "--samples", str(tmp_path / "none.npz"))
    assert done.returncode == 0, done.stderr
    machine, failed = json.loads((out / "results.json").read_text())
    assert machine["outcome"] == "done"
    assert failed["outcome"] == "failed"
    assert failed["reason"].startswith("FileNotFoundError: ")
    assert "Traceback" in failed["said"]
    assert last_line(done)["failed"] == 1


def test_time_that_is_over_is_said(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("--rehearse", "--only", "metering", "--out", str(out), "--samples", "any.npz", "--seconds", "31")
    assert done.returncode == 0, done.stderr
    _, late = json.loads((out / "results.json").read_text())
    assert late["outcome"] == "not run"
    assert late["reason"].endswith("seconds were left")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = run("--only", "attention", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "--rehearse runs on a CPU" in done.stderr


def test_a_section_that_there_is_not(tmp_path: Path) -> None:
    done = run("--only", "7b,speed", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "there is no section speed; choose attention, sameness, smollm2, 7b" in done.stderr
