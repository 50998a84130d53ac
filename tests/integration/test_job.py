"""The sweep as users of a cluster run it: submitted as a job, killed and run again, with a bucket for storage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from transformers import AutoModelForCausalLM, AutoTokenizer

REPOSITORY = Path(__file__).parents[2]
FLAGS = ["--model", "tiny-llama", "--source", "toolbox=160"]
RAY = str(Path(sys.executable).with_name("ray"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A head started as ``ray start --head`` does, on ports of its own; what it started is ended by process id."""
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "disabled",
        "RAY_ADDRESS": "127.0.0.1:6399",
        "PYTHONWARNINGS": "ignore",
    }
    folder = tmp_path_factory.mktemp("ray")
    start = [RAY, "start", "--head", "--block", "--port=6399", "--dashboard-port=8299", "--num-cpus=2"]
    start += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--disable-usage-stats"]
    without_address = {name: value for name, value in environment.items() if name != "RAY_ADDRESS"}
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen(start, env=without_address, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for_the_job_server(environment)
            yield environment
        finally:
            os.killpg(head.pid, signal.SIGTERM)
            head.wait(timeout=60)


def _wait_for_the_job_server(environment: dict[str, str]) -> None:
    """The server answers before the agent that runs jobs is there, so an empty job is the sign."""
    command = [RAY, "job", "submit", "--address", "http://127.0.0.1:8299", "--", "true"]
    for _ in range(30):
        if subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(1)
    raise AssertionError("The job server of the test's cluster ran no job.")


def submit(environment: dict[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    command = [RAY, "job", "submit", "--address", "http://127.0.0.1:8299", "--working-dir", str(REPOSITORY)]
    command += ["--", sys.executable, "experiments/sweep.py", *FLAGS, *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)


def study_of(run: Path) -> list[Any]:
    study = optuna.load_study(study_name=run.name, storage=f"sqlite:///{run / 'study.db'}")
    return list(study.get_trials(deepcopy=False))


@pytest.mark.slow
def test_a_submitted_job_streams_its_log_and_leaves_everything(cluster: dict[str, str], tmp_path: Path) -> None:
    done = submit(cluster, "--name", "job", "--storage", str(tmp_path))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Searching: 4 trials" in done.stdout
    assert "Report:" in done.stdout
    run = tmp_path / "runs" / "job"
    assert (run / "report.html").stat().st_size > 50_000
    trials = study_of(run)
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    results = [json.loads(path.read_text()) for path in sorted(run.glob("trials/0*/result.json"))]
    kinds = [result["kind"] for result in results]
    assert kinds[:4] == ["paper", "proportional", "uniform", "search"]
    assert kinds[4:] in ([], ["recommended"])  # none where what is recommended was tried already
    for result in results:
        # How near the shares come is test_mixture's law: here a row holds a tenth of all supervised tokens.
        assert sum(result["realised"].values()) == pytest.approx(1)
        assert [share > 0 for share in result["realised"].values()] == [share > 0 for share in result["asked"].values()]
        assert result["tokens"] <= 40_000 * result["fraction"]
    best = json.loads((run / "best_mixture.json").read_text())
    assert best["confirmed"][0]["seed"] == 1
    assert AutoTokenizer.from_pretrained(run / "best").chat_template
    assert AutoModelForCausalLM.from_pretrained(run / "best").num_parameters() > 0
    for model in ("base", "best"):
        judged = json.loads((run / "evaluation" / f"{model}.json").read_text())
        assert judged["metrics"]["score"]["n"] == 12
        assert "split 'judge'" in judged["protocol"]
    assert [each["trial"] for each in best["pareto"]] == [best["trial"]]
    assert json.loads((run / "sweep.json").read_text())["saved"]["num_trials"] == len(results)


@pytest.mark.slow
def test_a_job_that_fails_says_so(cluster: dict[str, str], tmp_path: Path) -> None:
    done = submit(cluster, "--storage", str(tmp_path), "--source", "toolbench=absent.json")
    assert done.returncode == 1
    assert "absent.json" in done.stdout


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": "local", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(REPOSITORY / "experiments/sweep.py"), *FLAGS, "--storage", str(tmp_path)]
    command += ["--name", "killed"]
    run = tmp_path / "runs" / "killed"
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 400
    while not list(run.glob("trials/0*/result.json")):
        assert first.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    finished = {t.number: t.datetime_complete for t in study_of(run) if t.state.is_finished()}
    assert finished
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    trials = study_of(run)
    assert sum(trial.user_attrs.get("mix") != "recommended" for trial in trials) == 4
    assert all(trial.state.is_finished() for trial in trials)
    assert {number: trials[number].datetime_complete for number in finished} == finished
    assert len(list(run.glob("trials/0*/result.json"))) == len(trials)
    refused = subprocess.run(
        [*command, "--budget", "20000"], env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "was begun with budget=40000, but now it is 20000" in refused.stderr.replace("\n", " ")
