"""Several drivers that share a study, on SQLite and on a real PostgreSQL server, killed and taken over."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from agentflan_ray.search.searcher import open_storage

NUM_TRIALS = 12

DRIVER = textwrap.dedent(
    """
    import json, random, sys, time
    from agentflan_ray.search import drivers
    from agentflan_ray.search.searcher import Objective, StudySearcher
    from agentflan_ray.search.space import Space

    storage, experiment, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    drivers.LEASE_SECONDS, drivers.RENEW_SECONDS = 3.0, 0.3
    searcher = StudySearcher(
        Space(), [Objective("score", "max")], storage=storage, study_name="shared",
        num_trials=settings["num_trials"], max_concurrent=2, sampler="random",
        mixes={"half": {"negative_share": 0.2}, "none": {"negative_share": 0.0}},
    )
    searcher.begin(experiment)
    live, count, config = {}, 0, None
    while config != "FINISHED" or live:
        config = searcher.suggest(f"{experiment}-{time.time_ns()}")
        if isinstance(config, dict):
            print(json.dumps(["began", config["trial_number"]]), flush=True)
            live[searcher.study.trials[config["trial_number"]].user_attrs["tune_trial"]] = config
            continue
        ends = time.monotonic() + settings["seconds"] * random.random()
        while time.monotonic() < ends:
            time.sleep(0.02)
            searcher.renew()
        if live:
            trial_id, done = live.popitem()
            result = {"training_iteration": 1, "trial_state": "complete", "score": done["negative_share"]}
            searcher.on_trial_result(trial_id, result)
            searcher.on_trial_complete(trial_id, result)
            print(json.dumps(["ended", done["trial_number"]]), flush=True)
    searcher.end()
    """
)


def _postgres() -> str | None:
    found = shutil.which("postgres")
    return str(Path(found).resolve().parent) if found else None


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of its own, reached through a socket in its folder only."""
    programs = _postgres()
    if programs is None:
        pytest.skip("no PostgreSQL server: put its programs (initdb, postgres) on the PATH")
    # A socket's path may have 107 characters.
    folder = tmp_path_factory.mktemp("pg")
    become: list[str] = []
    if os.getuid() == 0:  # the server refuses to run as root
        become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        os.chown(folder, 65534, 65534)
        for above in list(folder.parents)[: len(folder.parents) - 2]:
            above.chmod(above.stat().st_mode | 0o011)
    data = folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    initdb = [*become, f"{programs}/initdb", "-D", str(data), "-U", "search", "-A", "trust", "--no-sync", "-E", "UTF8"]
    subprocess.run(initdb, check=True, timeout=60, **quiet)  # type: ignore[call-overload]
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
    with (folder.parent / "postgres.log").open("wb") as log:
        server = subprocess.Popen([*become, f"{programs}/postgres", "-D", str(data), *options], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not (folder / ".s.PGSQL.5432").exists():
            assert server.poll() is None, (folder.parent / "postgres.log").read_text()
            assert time.monotonic() < deadline, (folder.parent / "postgres.log").read_text()
            time.sleep(0.05)
        yield f"postgresql://search@/postgres?host={folder}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


@pytest.fixture
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without the study."""
    if request.param == "sqlite":
        return str(tmp_path / "study.db")
    url: str = request.getfixturevalue("postgresql")
    name = f"d{tmp_path.name[-20:].lower()}".translate({ord(sign): "_" for sign in "-[]"})
    folder = url.partition("host=")[2]
    subprocess.run([f"{_postgres()}/createdb", "-h", folder, "-U", "search", name], check=True, timeout=30)
    return url.replace("/postgres?", f"/{name}?")


def begin(folder: Path, storage: str, experiment: str, **settings: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OPENBLAS_NUM_THREADS": "1"}
    with (folder / f"{experiment}.txt").open("a") as out, (folder / f"{experiment}.err").open("a") as error:
        told = json.dumps({"num_trials": NUM_TRIALS, "seconds": 0.1, **settings})
        command = [sys.executable, "-c", DRIVER, storage, experiment, told]
        return subprocess.Popen(command, env=environment, stdout=out, stderr=error, text=True)


def told(folder: Path, word: str) -> list[tuple[str, int]]:
    """Which driver said that it began or ended which trial."""
    return [
        (path.stem, number)
        for path in sorted(folder.glob("*.txt"))
        for said, number in map(json.loads, path.read_text().splitlines())
        if said == word
    ]


def wait_for(folder: Path, experiment: str, num_begun: int) -> None:
    deadline = time.monotonic() + 60
    while sum(name == experiment for name, _ in told(folder, "began")) < num_begun:
        assert time.monotonic() < deadline, (folder / f"{experiment}.err").read_text()
        time.sleep(0.05)


def finish(folder: Path, experiment: str, driver: subprocess.Popen[str]) -> None:
    assert driver.wait(90) == 0, (folder / f"{experiment}.err").read_text()


def trials_of(storage: str) -> list[FrozenTrial]:
    rdb = open_storage(storage)
    trials: list[FrozenTrial] = optuna.load_study(study_name="shared", storage=rdb).trials
    rdb.engine.dispose()
    return trials


@pytest.mark.parametrize("storage", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
def test_two_drivers_share_a_study_without_a_trial_too_many_or_twice(tmp_path: Path, storage: str) -> None:
    running = {name: begin(tmp_path, storage, name) for name in ("one", "two")}
    for name, driver in running.items():
        finish(tmp_path, name, driver)
    trials = trials_of(storage)
    assert [trial.number for trial in trials] == list(range(NUM_TRIALS))
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * NUM_TRIALS
    assert Counter(number for _, number in told(tmp_path, "began")) == dict.fromkeys(range(NUM_TRIALS), 1)
    assert min(Counter(name for name, _ in told(tmp_path, "ended")).values()) > 0
    assert len({name for name, _ in told(tmp_path, "ended")}) == 2, "both had work"
    assert [trial.user_attrs.get("mix") for trial in trials[:3]] == ["half", "none", None], "each mix once"
    drawn = [trial.params["negative_share"] for trial in trials[2:]]
    assert len(set(drawn)) == len(drawn), "two drivers must not draw the same points"


@pytest.mark.parametrize("storage", [pytest.param("sqlite", marks=pytest.mark.slow), "postgresql"], indirect=True)
def test_the_trials_of_a_killed_driver_are_taken_up_when_its_lease_has_run_out(tmp_path: Path, storage: str) -> None:
    """And at once by the same experiment, run again."""
    doomed = begin(tmp_path, storage, "doomed", seconds=1000, num_trials=8)
    wait_for(tmp_path, "doomed", 2)
    other = begin(tmp_path, storage, "other", num_trials=8)
    wait_for(tmp_path, "other", 1)
    killed = time.time()
    doomed.kill()
    doomed.wait(10)
    finish(tmp_path, "other", other)
    trials = trials_of(storage)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 8
    order = [number for name, number in told(tmp_path, "began") if name == "other"]
    assert sorted(order) == list(range(8))
    assert order[:6] == [2, 3, 4, 5, 6, 7], "while the lease runs, it does something else"
    assert all(trial.datetime_complete.timestamp() - killed > 2.5 for trial in trials[:2])

    again = begin(tmp_path, storage, "doomed", seconds=1000, num_trials=10)
    wait_for(tmp_path, "doomed", 4)
    again.kill()
    again.wait(10)
    finish(tmp_path, "doomed", begin(tmp_path, storage, "doomed", num_trials=10))
    resumed = [number for name, number in told(tmp_path, "began") if name == "doomed"]
    assert resumed == [0, 1, 8, 9, 8, 9]
    assert [trial.state for trial in trials_of(storage)] == [TrialState.COMPLETE] * 10


SEARCH = textwrap.dedent(
    """
    import os, sys, time
    from pathlib import Path
    import ray
    from ray import tune
    from agentflan_ray.search import drivers
    from agentflan_ray.search.runner import run
    from agentflan_ray.search.searcher import Objective, StudySearcher
    from agentflan_ray.search.space import Space

    folder, storage, name, num_trials = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    drivers.LEASE_SECONDS, drivers.RENEW_SECONDS = 20.0, 1.0

    def say(file, text):
        with open(folder / file, "a") as lines:
            lines.write(text + "\\n")

    def trial(config):
        say("starts.txt", f"{config['trial_number']} {os.getpid()} {name}")
        for step in range(1, 5):
            tune.report({"tokens": step, "validation_loss": 1 / step})
            time.sleep(0.2)
        say("paid.txt", str(config["trial_number"]))
        tune.report({"trial_state": "complete", "score": config["negative_share"]})

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    searcher = StudySearcher(
        Space(), [Objective("score", "max")], storage=storage, study_name="shared", sampler="random",
        num_trials=num_trials, max_concurrent=2,
    )
    run(trial, searcher, name=name, storage_path=folder, max_failures=3, reuse_processes=True)
    """
)


def begin_search(folder: Path, storage: str, name: str, num_trials: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "RAY_AUTH_MODE": "disabled"}
    with (folder / f"{name}.log").open("ab") as log:
        command = [sys.executable, "-c", SEARCH, str(folder), storage, name, str(num_trials)]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.slow
def test_a_search_killed_at_random_moments_loses_nothing_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    """The driver, a trial's process or Ray itself; what the study held as finished then is the same at the end."""
    dice = random.Random(4)
    storage, starts, num_trials = str(tmp_path / "study.db"), tmp_path / "starts.txt", 16
    finished: dict[int, FrozenTrial] = {}
    paid: Counter[str] = Counter()
    search = begin_search(tmp_path, storage, "killed", num_trials)
    for victim in ("driver", "trial", "ray", "driver", "driver"):
        before = len(lines_of(starts))
        deadline = time.monotonic() + 120
        while len(lines_of(starts)) < before + 2:
            assert search.poll() is None, (tmp_path / "killed.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "killed.log").read_text()
            time.sleep(0.05)
        time.sleep(dice.uniform(0, 1.5))
        if victim == "trial":
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(lines_of(starts)[-1].split()[1]), signal.SIGKILL)
            continue
        if victim == "ray":
            (raylet,) = [
                each for each in psutil.Process(search.pid).children(recursive=True) if each.name() == "raylet"
            ]
            raylet.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                search.wait(60)
        search.kill()
        search.wait(30)
        for trial in trials_of(storage):
            if trial.state == TrialState.COMPLETE and trial.number not in finished:
                finished[trial.number] = trial
                paid[str(trial.number)] = lines_of(tmp_path / "paid.txt").count(str(trial.number))
        search = begin_search(tmp_path, storage, "killed", num_trials)
    assert search.wait(300) == 0, (tmp_path / "killed.log").read_text()
    assert finished
    trials = trials_of(storage)
    assert [trial.number for trial in trials] == list(range(num_trials))
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * num_trials
    assert {number: trials[number] for number in finished} == finished
    counts = Counter(lines_of(tmp_path / "paid.txt"))
    assert {number: counts[number] for number in paid} == dict(paid)
    assert all(trial.user_attrs["curve"] == [[step, 1 / step] for step in range(1, 5)] for trial in trials)


@pytest.mark.slow
def test_two_searches_on_rays_of_their_own_share_a_study(tmp_path: Path, postgresql: str) -> None:
    """One is killed for good on the way; the other does what it leaves."""
    starts = tmp_path / "starts.txt"
    doomed = begin_search(tmp_path, postgresql, "doomed", 10)
    other = begin_search(tmp_path, postgresql, "other", 10)
    deadline = time.monotonic() + 180
    while {line.split()[2] for line in lines_of(starts)} != {"doomed", "other"}:
        assert time.monotonic() < deadline, [path.read_text() for path in tmp_path.glob("*.log")]
        time.sleep(0.05)
    doomed.kill()
    doomed.wait(30)
    assert other.wait(240) == 0, (tmp_path / "other.log").read_text()
    trials = trials_of(postgresql)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 10
    assert max(Counter(lines_of(tmp_path / "paid.txt")).values()) == 1


def test_the_dashboard_opens_a_study_on_postgresql(postgresql: str) -> None:
    dashboard = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is a development extra")
    rdb = open_storage(postgresql)
    optuna.create_study(storage=rdb, study_name="seen")
    answered: list[str] = []
    environment: dict[str, Any] = {}
    setup_testing_defaults(environment)
    environment["PATH_INFO"] = "/api/studies"
    body = b"".join(dashboard.wsgi(rdb)(environment, lambda status, *_: answered.append(status)))
    rdb.engine.dispose()
    assert answered[0].startswith("200")
    assert "seen" in [study["study_name"] for study in json.loads(body)["study_summaries"]]
