"""The whole job with goals of its own, proven afterwards by a second command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FLAGS = ["--model", "tiny-llama", "--source", "toolbox=160", "--name", "goals"]
GOALS = ["--objective", "validation_loss:min", "--objective", "score=1,false_call_rate=-0.5"]
GOALS += ["--constraint", "sensible_rate>=base-0.5", "--constraint", "missed_call_rate<=1"]


def run_script(script: str, storage: Path) -> str:
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": "local", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(REPOSITORY / "experiments" / script), *FLAGS, *GOALS, "--storage", str(storage)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_sweep_with_several_goals_is_proven_afterwards(tmp_path: Path) -> None:
    said = run_script("sweep.py", tmp_path)
    assert "Scoring the base model on the items that choose" in said
    check_sweep(tmp_path / "runs" / "goals")
    said = run_script("prove.py", tmp_path)
    assert "the best mix is one of:" in said
    check_proof(tmp_path / "runs" / "goals")
    # What is paid for is not paid again.
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "goals").glob("trials/*/result.json")}
    run_script("prove.py", tmp_path)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def check_sweep(run: Path) -> None:
    sweep = json.loads((run / "sweep.json").read_text())
    base = json.loads((run / "base_on_choose" / "evaluation.json").read_text())["metrics"]["sensible_rate"]["value"]
    bound = f"sensible_rate >= {round(base - 0.5, 4):g}"
    assert sweep["constraints"] == [
        {"asked": "sensible_rate >= base -0.5", "held": bound},
        {"asked": "missed_call_rate <= 1", "held": "missed_call_rate <= 1"},
    ]
    best = json.loads((run / "best_mixture.json").read_text())
    assert [each["metric"] for each in best["objectives"]] == ["validation_loss", "weighted_score"]
    assert best["pareto"][0]["trial"] == best["trial"]
    assert best["constraints_held"]
    results = {path.parent.name: json.loads(path.read_text()) for path in run.glob("trials/*/result.json")}
    complete = {name: each for name, each in results.items() if name.isdigit() and each["state"] == "complete"}
    smallest = min(complete, key=lambda name: complete[name]["metrics"]["validation_loss"])
    assert best["trial"] == smallest
    for name in complete:
        metrics = results[name]["metrics"]
        assert metrics["weighted_score"] == pytest.approx(metrics["score"] - 0.5 * metrics["false_call_rate"])
        assert results[name]["intervals"]["weighted_score"]["n"] == 12
    judged = json.loads((run / "evaluation" / "best.json").read_text())
    assert judged["model"] == f"confirm-{best['trial']}-1"


def check_proof(run: Path) -> None:
    proof = json.loads((run / "proof.json").read_text())
    trial = json.loads((run / "best_mixture.json").read_text())["trial"]
    kind = json.loads((run / "trials" / trial / "result.json").read_text())["kind"]
    named = {"paper", "proportional", "uniform"} - {kind}
    winner = kind if kind in ("paper", "proportional", "uniform") else f"trial {trial}"
    assert proof["winner"] == winner
    assert proof["metric"] == "score"  # the first objective is of the training, and has no items
    assert {each["theirs"] for each in proof["comparisons"]} == named
    assert [len(each["by_seed"]) for each in proof["mixes"]] == [2] * (1 + len(named))
    assert proof["num_items"] == 12
    assert proof["against_base"]["theirs"] == "base"
    for mix in named:
        for seed in (1, 2):
            retrained = json.loads((run / "trials" / f"proof-{mix}-{seed}" / "result.json").read_text())
            assert retrained["kind"] == "proof"
            assert retrained["seed"] == seed
            assert (run / "trials" / f"proof-{mix}-{seed}" / "judge-samples.parquet").exists()
    assert "Is it the best?" in (run / "report.html").read_text()
    assert json.loads((run / "sweep.json").read_text())["constraints"]
