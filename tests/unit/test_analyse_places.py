"""Where a search is read from (a study, Ray Tune's results, a run folder), and the report of each with its command."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

from agentflan_ray.analyse import frame, places, report, study, tune
from agentflan_ray.analyse.frame import Goal, Run
from tests.unit.test_analyse_search import EXPONENT, a_run, make_study

MIX = {
    "negative_share": 0.1,
    "general_share": 0.5,
    "log2_retrieval": -2.0,
    "log2_understanding": -0.5,
    "log2_instruction": -2.0,
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the known study."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return make_study(tmp_path_factory.mktemp("studies") / "known.db")


@pytest.fixture(scope="module")
def known(database: Path) -> Run:
    return places.load(str(database))


def write_experiment(folder: Path, ends: tuple[str, ...] = ("complete", "pruned", "failed", "running")) -> Path:
    """Ray Tune's files of one trial for each end, as Ray 2.60 leaves them."""
    data = []
    for number, end in enumerate(ends):
        name = f"trial_{number:04d}_abcdef{number:02d}"
        trial = folder / name
        trial.mkdir(parents=True)
        config = MIX | {"fraction": 1.0, "trial_number": number}
        (trial / "params.json").write_text(json.dumps(config))
        rows = []
        for step in range(1, 5 if end == "complete" else 3):
            row: dict[str, Any] = {
                "step": step,
                "tokens": 512 * step,
                "loss": 3.0 / step,
                "loss/reasoning": 3.0 / step,
                "seconds": 5.0,
                "training_iteration": step,
                "time_total_s": 20.0 + 5 * step,
                "time_this_iter_s": 5.0,
                "pid": 17,
                "hostname": "somewhere",
                "config": config,
            }
            rows.append(row)
        if end == "complete":
            rows[-1] |= {"score": 0.4 + 0.1 * number, "evaluate_seconds": 12.0, "trial_state": "complete"}
        (trial / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        pd.DataFrame(rows).drop(columns="config").to_csv(trial / "progress.csv", index=False)
        if end == "failed":
            (trial / "error.txt").write_text("Traceback (most recent call last):\n  ...\nValueError: <b>no</b>\n")
        status = {"failed": "ERROR", "running": "RUNNING"}.get(end, "TERMINATED")
        data.append([json.dumps({"status": status, "relative_logdir": name}), "{}"])
    (folder / "experiment_state-2026-01-01_00-00-00.json").write_text(json.dumps({"trial_data": data}))
    return folder


def test_tune_results_give_the_tables_of_a_run(tmp_path: Path) -> None:
    run = places.load(str(write_experiment(tmp_path / "search")))
    assert (run.origin, run.name) == ("Ray Tune results", "search")
    assert list(run.trials["state"]) == ["complete", "pruned", "failed", "unfinished"]
    assert run.trials.loc[2, "error"] == "ValueError: <b>no</b>"
    assert run.goals == (Goal("score", "max"),)
    assert run.scored(run.goals[0])["metrics.score"].tolist() == [0.4]
    seconds = frame.part(run.trials.iloc[0], "seconds")
    assert seconds == {"total": 40.0, "train": 20.0, "startup": 20.0, "evaluate": 12.0}
    assert frame.part(run.trials.iloc[0], "asked")["negative"] == pytest.approx(0.1)
    assert not {"metrics.pid", "metrics.time_this_iter_s"} & set(run.trials.columns)
    assert run.curves.groupby("trial").size().to_dict() == {"0000": 4, "0001": 2, "0002": 2, "0003": 2}


def test_progress_csv_stands_in_for_result_json(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "search")
    whole = places.load(str(folder))
    for path in folder.glob("*/result.json"):
        path.unlink()
    without = places.load(str(folder))
    assert list(without.trials["state"]) == list(whole.trials["state"])
    assert without.trials.loc[0, "metrics.score"] == 0.4
    assert len(without.curves) == len(whole.curves)


def test_other_tune_trials_are_stopped_where_they_reported_less(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "other", ("complete", "pruned"))
    for path in folder.glob("*/result.json"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row.pop("trial_state", None)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (path.parent / "params.json").write_text('{"lr": 0.1, "layers": [1, 2]}')
    run = places.load(str(folder))
    assert list(run.trials["state"]) == ["complete", "pruned"]
    assert list(run.trials["trial"]) == [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
    assert frame.components(run.trials) == []
    assert any("those with fewer than 4 reports count as stopped" in note for note in run.notes)


def test_a_half_written_last_row_is_left_out_and_named(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "search")
    path = next(folder.glob("trial_0003*/result.json"))
    path.write_text(path.read_text() + '{"step": 3, "tok')
    assert places.load(str(folder)).cut_off == ("0003",)


def test_a_study_of_anyone_is_read_without_mixtures(tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'other.db'}")
    other = optuna.create_study(storage=storage, study_name="other", sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial: optuna.Trial) -> float:
        x, kind = trial.suggest_float("x", -1, 1), trial.suggest_categorical("kind", ["a", "b"])
        for step in range(3):
            trial.report(x**2 + step, step)
        return float(x**2 + (kind == "b"))

    other.optimize(objective, n_trials=12)
    storage.remove_session()
    storage.engine.dispose()
    before = (tmp_path / "other.db").read_bytes()
    run = places.load(str(tmp_path / "other.db"))
    assert run.goals == (Goal("value", "min"),)
    assert len(run.curves) == 36
    source = report.write_to(run, tmp_path / "out").read_text(encoding="utf-8")
    assert '<h2 id="response">' in source
    for left_out in ("mixes", "prediction", "losses"):
        assert f'<h2 id="{left_out}">' not in source
    assert (tmp_path / "other.db").read_bytes() == before


def test_one_of_several_studies_is_named_in_either_way(database: Path, tmp_path: Path) -> None:
    path = tmp_path / "both.db"
    path.write_bytes(database.read_bytes())
    make_study(path, num_trials=8, name="second")
    with pytest.raises(
        ValueError, match=r"holds 2 studies: known, second\. Name one with --study, or as .*both\.db#known"
    ):
        places.load(str(path))
    for place, name in ((f"{path}#second", None), (str(path), "second"), (f"sqlite:///{path}#second", None)):
        assert places.load(place, name).name == "second"
    with pytest.raises(ValueError, match="names the study 'second', but --study names 'known'"):
        places.load(f"{path}#second", "known")
    with pytest.raises(ValueError, match="holds no study 'third', but known, second"):
        places.load(f"{path}#third")


def a_database(path: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(path)
    connection.execute("create table songs (name text)")
    connection.close()


def broken_experiment(folder: Path) -> None:
    write_experiment(folder)
    path = next(folder.glob("trial_0001*/result.json"))
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')


def broken_parameters(folder: Path) -> None:
    write_experiment(folder)
    next(folder.glob("trial_0001*/params.json")).write_text('{"a": 1,\n')


def not_text(folder: Path) -> None:
    write_experiment(folder)
    next(folder.glob("trial_0001*/result.json")).write_bytes(b'{"step": 1}\n\xff\xfe\n')


REFUSED: list[tuple[str, Any, str]] = [
    ("nowhere", None, "there is no such folder or file"),
    ("empty", lambda path: path.mkdir(), "is neither a run folder (there is no sweep.json) nor Ray Tune's results"),
    (
        "text.db",
        lambda path: path.write_text("not a database, but long enough to be looked at" * 9),
        "cannot be opened",
    ),
    ("songs.db", a_database, "this database holds no Optuna study; its tables are ['songs']"),
    ("tune", lambda path: write_experiment(path / "inner"), "holds the Ray Tune experiments inner; name one of them"),
    ("broken", broken_experiment, "result.json:2: not a JSON row"),
    ("halved", broken_parameters, "params.json:2: not complete JSON"),
    ("binary", not_text, "result.json:2: not text in UTF-8"),
]


@pytest.mark.parametrize(("name", "make", "sentence"), REFUSED, ids=[name for name, _, _ in REFUSED])
def test_what_holds_no_search_is_refused_with_a_sentence(name: str, make: Any, sentence: str, tmp_path: Path) -> None:
    if make is not None:
        make(tmp_path / name)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        places.load(str(tmp_path / name))


def test_urls_show_no_password_and_missing_drivers_are_named() -> None:
    assert study.without_password("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert study.sqlite_path("postgresql://me:secret@host/db") is None
    with pytest.raises(ValueError, match="cannot be opened") as refused:
        places.load("mysql+nosuchdriver://me:secret@localhost/db#x")
    assert "secret" not in str(refused.value)
    with pytest.raises(ValueError, match="write sqlite:///FILE"):
        places.load("sqlite://")


def test_a_report_goes_into_a_run_folder_and_else_here(tmp_path: Path) -> None:
    assert places.output_folder(a_run([{}])) == Path()
    other = a_run([{}], origin="Optuna study")
    assert places.output_folder(other) == Path("made-report")
    other.sweep["name"] = "../../etc/x y"
    assert places.output_folder(other) == Path("-..-etc-x-y-report")


@pytest.fixture(scope="module")
def written(known: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "out"
    assert report.write_to(known, folder, price=2.5) == folder / "report.html"
    return folder


def test_the_report_of_a_study_is_whole_and_quiet(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == sorted(report.FILES)
    source = (written / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<img|<link|@import|url\((?!#)|https?://(?!www\.w3\.org)", source)
    ids = re.findall(r'\bid="([^"]+)"', source)
    assert len(ids) == len(set(ids))
    for anchor in ("front", "mixes", "response", "prediction", "scaling", "time"):
        assert f'<h2 id="{anchor}">' in source
    for left_out in ("compare", "replies", "corpus", "reproduce"):
        assert f'<h2 id="{left_out}">' not in source


def test_the_json_holds_the_numbers_of_the_report(written: Path) -> None:
    found = json.loads((written / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert found["states"] == {"complete": 34, "pruned": 3, "failed": 3, "unfinished": 0}
    assert len(found["trials"]) == 40
    assert found["laws"][0]["exponent"]["value"] == pytest.approx(EXPONENT, abs=0.06)
    assert found["prediction"]["weights"].keys() == set(frame.components(pd.DataFrame(found["trials"])))
    assert found["cost"]["price"] == 2.5
    assert found["fronts"][0]["front"]
    summary = (written / "report.md").read_text(encoding="utf-8")
    assert f"{found['laws'][0]['exponent']['value']:.3f}" in summary
    assert "## Predicted best mix" in summary


def test_the_tables_are_tidy_in_both_formats(written: Path) -> None:
    trials, again = pd.read_parquet(written / "trials.parquet"), pd.read_csv(written / "trials.csv")
    assert list(trials.columns) == list(again.columns)
    assert len(trials) == 40
    assert trials["metrics.score"].dtype == float
    assert trials["cost.device_hours"].sum() == pytest.approx(trials["seconds.total"].sum() / 3600)
    curves = pd.read_parquet(written / "curves.parquet")
    assert curves.groupby("trial").size().eq(8).all()


HARD: list[tuple[str, list[dict[str, Any]]]] = [
    ("one trial", [{"metrics": {"score": 0.5}, "parameters": {"x": 1.0}}]),
    ("no complete trial", [{"state": "failed", "error": "no"}, {"state": "unfinished"}]),
    ("scores that are no numbers", [{"metrics": {"score": math.nan}, "parameters": {"x": 1.0}}] * 5),
    (
        "parameters of every type",
        [
            {"metrics": {"score": 0.1 * n}, "parameters": {"x": [1, "a", None, True][n % 4], "y": n, "z": math.inf}}
            for n in range(8)
        ],
    ),
    ("conditional parameters", [{"metrics": {"score": n / 9}, "parameters": {"xy"[n % 2]: n}} for n in range(9)]),
]


@pytest.mark.parametrize("records", [records for _, records in HARD], ids=[name for name, _ in HARD])
def test_whatever_the_trials_hold_there_is_a_report(records: list[dict[str, Any]], tmp_path: Path) -> None:
    run = a_run(records, origin="Ray Tune results")
    source = report.write_to(run, tmp_path).read_text(encoding="utf-8")
    assert f"{len(records)} trials" in source
    assert len(json.loads((tmp_path / "report.json").read_text())["trials"]) == len(records)
    assert len(pd.read_parquet(tmp_path / "trials.parquet")) == len(records)


def test_the_command_writes_a_report_and_ends_with_one_sentence_where_it_cannot(database: Path, tmp_path: Path) -> None:
    make_study(tmp_path / "small.db", num_trials=3)
    script = "import sys; sys.argv[0] = 'agentflan'; from agentflan_ray.cli import main; main()"
    out = tmp_path / "out"
    command = [sys.executable, "-c", script, "report"]
    done = subprocess.run([*command, f"{tmp_path / 'small.db'}", "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"Report: {out / 'report.html'}" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == sorted(report.FILES)
    refused = subprocess.run([*command, str(tmp_path / "nowhere")], capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: ")
    assert "Traceback" not in refused.stderr
    priced = subprocess.run([*command, str(database), "--price", "-1"], capture_output=True, text=True)
    assert "an hour costs 0 or more" in priced.stderr


def test_reading_tune_results_needs_no_ray() -> None:
    code = "import sys, agentflan_ray.analyse.report; print(*{'ray', 'torch', 'cloudpickle'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert tune.is_experiment(Path(__file__).parent) is False
