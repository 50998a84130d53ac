"""Reading run folders and writing the report. The folder written here follows the layout that a sweep writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
import pandas as pd
import pytest

from agentflan_ray.analyse import cost, frame, importance, page, places, plots, report

COMPONENTS = ("reasoning", "retrieval", "understanding", "instruction", "general", "negative")
CASES = ("tool", "no_tool_request", "irrelevant_tool", "chat")
BASE = {"score": 0.31, "tool_score": 0.04, "false_call_rate": 0.38, "missed_call_rate": 0.81, "hscore": 0.79}
BEST = {"score": 0.74, "tool_score": 0.68, "false_call_rate": 0.11, "missed_call_rate": 0.14, "hscore": 0.91}
KINDS = ("paper", "proportional", "uniform", "search", "search", "search", "confirm")
STATES = ("complete", "complete", "complete", "complete", "pruned", "failed", "complete")


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def estimate(value: float, n: int = 160) -> dict[str, float]:
    reach = 1.96 * (value * (1 - value) / n) ** 0.5
    return {"value": value, "n": n, "low": max(0.0, value - reach), "high": min(1.0, value + reach)}


def evaluation(model: str, metrics: dict[str, float], reply: str) -> dict[str, Any]:
    wanted = {"tool": ("tool_score", "missed_call_rate")}
    return {
        "model": model,
        "metrics": {name: estimate(value) for name, value in metrics.items()},
        "cases": {
            case: {name: estimate(metrics[name], 40) for name in wanted.get(case, ("false_call_rate",))}
            for case in CASES
        },
        "examples": [
            {
                "id": f"{case}-{index}",
                "case": case,
                "query": f"How many orders did customer {index} place in May?",
                "reply": reply,
                "scores": {"success": float(index % 2)},
            }
            for case in CASES
            for index in range(4)
        ],
        "protocol": "held-out tools, greedy decoding, one turn at a time, intervals clustered by template.",
        "seconds": 210.0,
    }


def write_trial(run: Path, number: int, kind: str, state: str, generator: np.random.Generator) -> dict[str, Any]:
    asked = dict(zip(COMPONENTS, generator.dirichlet(np.full(6, 3.0)).tolist(), strict=True))
    realised = {name: share * 0.97 for name, share in asked.items()}
    realised["general"] += 0.03
    score = float(generator.uniform(0.45, 0.7))
    metrics = {
        "score": score,
        "tool_score": score - 0.1,
        "false_call_rate": float(generator.uniform(0.1, 0.4)),
        "missed_call_rate": float(generator.uniform(0.1, 0.4)),
        "hscore": float(generator.uniform(0.7, 0.9)),
        "validation_loss": float(generator.uniform(0.8, 1.2)),
    }
    bounds = {key: value for key, value in estimate(score).items() if key != "value"}
    result = {
        "trial": f"t{number:03d}",
        "number": number,
        "kind": kind,
        "state": state,
        "parameters": {
            **{f"weights.{name}": share for name, share in asked.items()},
            "learning_rate": float(10 ** generator.uniform(-5.5, -3.8)),
            "schedule": ["cosine", "linear"][number % 2],
        },
        "seed": 7,
        "asked": asked,
        "realised": realised,
        "fraction": [0.25, 0.5, 1.0][number % 3],
        "tokens": 60_000,
        "supervised_tokens": 24_000 + number,
        "steps": 80,
        "metrics": metrics if state != "failed" else {},
        "intervals": {"score": bounds} if state != "failed" else {},
        "seconds": {"startup": 31.0, "train": 310.0 + 20 * number, "evaluate": 120.0, "total": 475.0 + 20 * number},
        "fingerprints": {"plan": f"{number:08x}"},
    }
    if state == "failed":
        result["error"] = "torch.OutOfMemoryError: tried to allocate 2.00 GiB; lower batch_tokens"
    folder = run / "trials" / f"t{number:03d}"
    write_json(folder / "result.json", result)
    rows = []
    for step in range(1, 81 if state == "complete" else 30):
        row: dict[str, Any] = {"step": step, "tokens": 750 * step, "supervised_tokens": 300 * step, "seconds": 3.8}
        for index, suffix in enumerate(("", *(f"/{name}" for name in COMPONENTS))):
            level = 0.5 + 0.1 * index + 2.0 * np.exp(-step / (8 + 3 * index))
            row[f"loss{suffix}"] = float(level * generator.uniform(0.8, 1.2))
            if step % 10 == 0:
                row[f"validation_loss{suffix}"] = float(level * generator.uniform(0.97, 1.1) + 0.05)
        rows.append(json.dumps(row))
    (folder / "curve.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return result


def write_study(run: Path, results: list[dict[str, Any]]) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{run / 'study.db'}")
    study = optuna.create_study(storage=storage, study_name=run.name, direction="maximize")
    distributions = {
        "weights.negative": optuna.distributions.FloatDistribution(0, 1),
        "learning_rate": optuna.distributions.FloatDistribution(1e-6, 1e-3, log=True),
        "schedule": optuna.distributions.CategoricalDistribution(("cosine", "linear")),
    }
    for result in results:
        if result["state"] == "complete":
            study.add_trial(
                optuna.trial.create_trial(
                    params={name: result["parameters"][name] for name in distributions},
                    distributions=distributions,
                    value=result["metrics"]["score"],
                )
            )
    storage.remove_session()
    storage.engine.dispose()


def write_run(run: Path, study: bool = False) -> Path:
    """Seven plausible trials, one unfinished, both evaluations, a best mixture; all numbers are made up."""
    generator = np.random.default_rng(11)
    write_json(
        run / "sweep.json",
        {
            "name": run.name,
            "command": f"python experiments/sweep.py --name {run.name} --model tiny --seed 7",
            "created": "2026-01-02T03:04:05+00:00",
            "recipe": {"search": {"num_trials": 7}, "train": {"batch_tokens": 2048}},
            "versions": {"ray": "2.60.0", "optuna": "5.0.0"},
            "seeds": {"search": 7, "train": 7},
            "model": {"name": "tiny-llama", "fingerprint": "0123abcd"},
            "corpus": {
                "fingerprint": "89ef4567",
                "table": [
                    {
                        "component": name,
                        "form": "react" if name == "instruction" else "chat",
                        "case": "no_tool_request" if name == "negative" else "tool",
                        "samples": 120,
                        "tokens": 22_000,
                        "supervised_tokens": 9_000 + 100 * len(name),
                    }
                    for name in COMPONENTS
                ],
                "counts": {"kept": 700, "dropped": {"duplicate": 31}, "quarantined": {"unknown tool": 2}},
            },
            "hardware": {"nodes": 1, "cpu": 2, "gpu": 0},
        },
    )
    results = [
        write_trial(run, number, kind, state, generator)
        for number, (kind, state) in enumerate(zip(KINDS, STATES, strict=True))
    ]
    (run / "trials" / "t007").mkdir()
    (run / "trials" / "t007" / "curve.jsonl").write_text('{"step": 1, "tokens": 750, "loss": 2.1}\n{"step": 2, "to')
    if study:
        write_study(run, results)
    write_json(run / "evaluation" / "base.json", evaluation("tiny-llama", BASE, "I am not able to look that up."))
    write_json(
        run / "evaluation" / "best.json",
        evaluation("t003", BEST, "Thought: count the orders\nAction: count_orders\nAction Input: {}"),
    )
    best = results[3]
    write_json(
        run / "best_mixture.json",
        {
            "trial": "t003",
            "weights": best["asked"],
            **{key: best[key] for key in ("realised", "fraction", "parameters", "metrics", "intervals")},
            "confirmed": [{"seed": seed, "metrics": {"score": 0.6 + seed / 100}} for seed in (1, 2, 3)],
            "candidates": ["t003", "t000"],
        },
    )
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "mixtures")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its study and its report; only read."""
    run = write_run(tmp_path_factory.mktemp("runs") / "mixtures", study=True)
    assert report.write(run) == run / "report.html"
    return run


def without_curves(run: Path) -> Path:
    """Drawing the loss panels takes half the time of a report; tests of other parts go without."""
    for path in run.glob("trials/*/curve.jsonl"):
        path.unlink()
    return run


class Page(HTMLParser):
    """What a browser would load, run and show."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.words = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "srcset", "data", "action")]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        self.words += data.replace("\u00a0", " ")


def test_trials_are_one_row_each_with_every_state(run: Path) -> None:
    table = frame.trials(run)
    assert list(table["state"]) == [*STATES, "unfinished"]
    assert list(table["number"][:-1]) == list(range(7))
    assert table["number"].isna().iloc[-1]
    assert table["trial"].iloc[-1] == "t007"
    assert table.loc[3, "parameters.schedule"] == "linear"
    bounds = frame.interval(table.loc[3], "score")
    assert bounds is not None
    assert bounds[0] < table.loc[3, "metrics.score"] < bounds[1]
    assert frame.interval(table.loc[5], "score") is None
    assert frame.part(table.loc[3], "asked").keys() == set(COMPONENTS)


def test_curves_leave_out_a_half_written_last_row_and_say_so(run: Path) -> None:
    rows = frame.curves(run)
    assert rows.groupby("trial").size().to_dict() == {
        f"t{number:03d}": 80 if state == "complete" else 29 for number, state in enumerate(STATES)
    } | {"t007": 1}
    assert frame.load(run).cut_off == ("t007",)


def test_a_last_row_without_line_end_is_kept_when_whole(run: Path) -> None:
    (run / "trials" / "t007" / "curve.jsonl").write_text('{"step": 1, "tokens": 750, "loss": 2.1}')
    assert frame.load(run).cut_off == ()
    assert (frame.curves(run)["trial"] == "t007").sum() == 1


BROKEN = [
    ("sweep.json", None, "no sweep.json"),
    ("sweep.json", '{"name": "mixt', "sweep.json:1: not complete JSON"),
    ("sweep.json", "[]", "expected a JSON object, found list"),
    ("sweep.json", '{"name": "mixtures"}', "the fields command are missing"),
    ("trials/t001/result.json", '{"trial": "t001",', "t001/result.json:1: not complete JSON"),
    ("trials/t001/result.json", '{"trial": "t001"}', "the fields number, kind, state are missing"),
    (
        "trials/t001/result.json",
        '{"trial": "t009", "number": 1, "kind": "paper", "state": "failed"}',
        "belongs to trial 't009' but lies in the folder 't001'",
    ),
    (
        "trials/t001/result.json",
        '{"trial": "t001", "number": 1, "kind": "guess", "state": "failed"}',
        "kind is 'guess', expected one of paper",
    ),
    (
        "trials/t001/result.json",
        '{"trial": "t001", "number": 1, "kind": "paper", "state": "complete", "metrics": {"score": NaN}}',
        "metrics.score is nan, expected a finite number",
    ),
    ("trials/t001/curve.jsonl", '{"step": 1}\n{"st\n{"step": 3}\n', "curve.jsonl:2: not a JSON row"),
    ("best_mixture.json", '{"trial": "t099", "weights": {}, "realised": {}, "metrics": {}}', "holds no such trial"),
    ("evaluation/base.json", '{"metrics": {}', "base.json:1: not complete JSON"),
]


@pytest.mark.parametrize(("path", "content", "sentence"), BROKEN)
def test_broken_folders_are_refused_with_a_sentence(run: Path, path: str, content: str | None, sentence: str) -> None:
    if content is None:
        (run / path).unlink()
    else:
        (run / path).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(sentence)):
        frame.load(run)


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    for read in (frame.load, frame.trials, frame.curves):
        with pytest.raises(ValueError, match="no such run folder"):
            read(tmp_path / "absent")
    with pytest.raises(ValueError, match="no trial has been started"):
        frame.trials(tmp_path)


def test_importances_come_from_the_study_and_leave_it_as_it_was(written: Path) -> None:
    before = (written / "study.db").read_bytes()
    found = importance.importances(places.load_run(written))
    assert found[0].method == "PED-ANOVA"
    assert found[0].shares.keys() == {"weights.negative", "learning_rate", "schedule"}
    assert sum(found[0].shares.values()) == pytest.approx(1.0)
    assert "the best 10 % of 4 complete trials" in found[0].basis
    assert (written / "study.db").read_bytes() == before


def test_importances_need_no_study_and_say_why_they_are_missing(run: Path) -> None:
    loaded = places.load_run(run)
    assert loaded.notes == ("There is no study.db in the run folder: bounds of parameters are those that were tried.",)
    assert {"learning_rate", "schedule"} <= importance.importances(loaded)[0].shares.keys()
    assert not (run / "study.db").exists()
    write_study(run, [])
    assert places.load_run(run).searched == ()
    for path in run.glob("trials/*/result.json"):
        write_json(path, json.loads(path.read_text()) | {"state": "failed"})
    basis = importance.importances(places.load_run(run))[0].basis
    assert basis == "Not computed: 0 complete trials with a score, at least 4 are needed."


HEADLINES = [
    ({"value": 0.3, "low": 0.2, "high": 0.4}, {"value": 0.7, "low": 0.6, "high": 0.8}, "better", "do not overlap"),
    ({"value": 0.5, "low": 0.4, "high": 0.65}, {"value": 0.7, "low": 0.6, "high": 0.8}, "overlap", "does not show a"),
    ({"value": 0.7, "low": 0.6, "high": 0.8}, {"value": 0.65, "low": 0.5, "high": 0.7}, "overlap", "came out worse"),
    ({"value": 0.7, "low": 0.6, "high": 0.8}, {"value": 0.3, "low": 0.2, "high": 0.4}, "worse", "is worse, and"),
]


@pytest.mark.parametrize(("base", "best", "verdict", "words"), HEADLINES)
def test_headline_is_honest(run: Path, base: dict[str, Any], best: dict[str, Any], verdict: str, words: str) -> None:
    for name, value in (("base", base), ("best", best)):
        record = {"metrics": {"score": {**value, "n": 90}}, "cases": {}, "examples": []}
        write_json(run / "evaluation" / f"{name}.json", record)
    found = report.headline(frame.load(run))
    assert found.verdict == verdict
    assert words in found.sentence
    assert "90 items" in found.sentence


def test_headline_knows_that_fewer_false_calls_are_better(run: Path) -> None:
    for name, value in (("base", 0.8), ("best", 0.1)):
        record = {"metrics": {"false_call_rate": estimate(value)}, "cases": {}, "examples": []}
        write_json(run / "evaluation" / f"{name}.json", record)
    assert report.headline(frame.load(run)).verdict == "better"


def test_headline_names_what_the_gain_cost(run: Path) -> None:
    for name, false_calls in (("base", 0.1), ("best", 0.6)):
        metrics = {"score": estimate(0.2 if name == "base" else 0.8), "false_call_rate": estimate(false_calls)}
        write_json(run / "evaluation" / f"{name}.json", {"metrics": metrics, "cases": {}, "examples": []})
    found = report.headline(frame.load(run))
    assert found.verdict == "better"
    assert "False calls got worse: 0.600" in found.sentence


def test_report_loads_nothing_and_runs_nothing(written: Path) -> None:
    source = (written / "report.html").read_text(encoding="utf-8")
    found = Page(source)
    assert all(link.startswith("#") for link in found.links)
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert not {"script", "link", "iframe", "img", "object"} & set(found.tags)
    assert not re.search(r"@import|url\((?!#)", source)
    assert found.tags.count("svg") >= 4 + 7 + 4
    assert not re.search(r"#0([1-9a-f])0\1(?:0\1)\b", source), "a stand-in colour was not replaced"


def test_report_shows_every_trial_and_what_it_rests_on(written: Path) -> None:
    words = Page((written / "report.html").read_text(encoding="utf-8")).words
    for expected in (
        "8 trials (5 complete, 1 pruned, 1 failed, 1 unfinished)",
        "An unfinished trial left no result.json",
        "The last row of the curve of t007 was half-written",
        "torch.OutOfMemoryError",
        "the score intervals of t000 overlap that of t003",
        "Not chosen although the score is higher: t000, t001 (see",
        "With this few trials the order is a hint",
        "python experiments/sweep.py --name mixtures",
        "89ef4567",
        "unknown tool",
        "0.740 [0.672, 0.808]",
    ):
        assert expected in words
    table = pd.read_csv(written / "trials.csv")
    assert list(table["trial"]) == [f"t{number:03d}" for number in range(8)]


def test_summary_holds_the_headline_and_the_trials(written: Path) -> None:
    summary = (written / "report.md").read_text(encoding="utf-8")
    assert "the 95 % intervals do not overlap" in summary
    assert "| t005 | search | failed |" in summary
    assert "    python experiments/sweep.py" in summary


def test_text_from_models_and_users_is_escaped(run: Path) -> None:
    attack = '<script>alert("x")</script><img src=x onerror=y> | $a_b$ </svg>'
    for path, keys in (
        ("sweep.json", ("command", "created")),
        ("trials/t005/result.json", ("error",)),
        ("evaluation/best.json", ("model", "protocol")),
    ):
        record = json.loads((run / path).read_text(encoding="utf-8"))
        write_json(run / path, record | dict.fromkeys(keys, attack))
    for name in ("base", "best"):
        record = json.loads((run / f"evaluation/{name}.json").read_text(encoding="utf-8"))
        record["examples"][0] |= {"query": attack, "reply": attack, "scores": {attack: attack}}
        record["metrics"][attack] = estimate(0.5)
        record["cases"][attack] = {attack: estimate(0.5)}
        write_json(run / f"evaluation/{name}.json", record)
    for number in range(4):
        result = run / f"trials/t{number:03d}/result.json"
        record = json.loads(result.read_text(encoding="utf-8"))
        record["parameters"][attack] = f"{attack}{number % 2}"
        record["realised"][attack] = 0.1
        write_json(result, record)
    found = Page(report.write(without_curves(run)).read_text(encoding="utf-8"))
    Path("/tmp/e/x.html").write_text((run / "report.html").read_text())
    assert not {"script", "img"} & set(found.tags)
    assert found.words.count(attack) >= 10
    summary = (run / "report.md").read_text(encoding="utf-8").splitlines()
    outside_code = [line.replace("\\<", "") for line in summary if not line.startswith("    ")]
    assert not any("<" in line for line in outside_code)


@pytest.mark.parametrize("absent", ["best_mixture.json", "evaluation/base.json", "evaluation/best.json"])
def test_an_interrupted_run_still_has_a_report(run: Path, absent: str) -> None:
    (run / absent).unlink()
    words = Page(report.write(without_curves(run)).read_text(encoding="utf-8")).words
    assert f"{absent} has not been written" in words


def test_a_run_whose_trials_all_failed_has_a_report(run: Path) -> None:
    (run / "best_mixture.json").unlink()
    for path in (run / "evaluation").iterdir():
        path.unlink()
    for path in (run / "trials").glob("*/*"):
        path.unlink()
    result = {"trial": "t000", "number": 0, "kind": "paper", "state": "failed", "error": "no space left"}
    write_json(run / "trials" / "t000" / "result.json", result)
    words = Page(report.write(run).read_text(encoding="utf-8")).words
    assert "8 trials (1 failed, 7 unfinished)" in words
    assert "no space left" in words


def test_time_that_no_phase_accounts_for_is_shown(run: Path) -> None:
    table = cost.time_table(frame.trials(run))
    assert list(table.columns) == ["startup", "train", "evaluate", "other", "total"]
    assert table.loc["t000", "other"] == pytest.approx(475 - 31 - 310 - 120)
    assert list(table["total"]) == sorted(table["total"], reverse=True)


def test_page_escapes_all_but_markup() -> None:
    assert page.element("td", "<b>", page.Html("<i>x</i>"), class_='a"b') == (
        '<td class="a&quot;b">&lt;b&gt;<i>x</i></td>'
    )


def test_drawing_is_deterministic_and_leaves_no_style_behind(run: Path) -> None:
    before = dict(mpl.rcParams)
    loaded = frame.load(run)
    assert plots.times(loaded.trials) == plots.times(loaded.trials)
    assert plots.losses(loaded.curves, "t003").keys() == {"all", *COMPONENTS}
    assert dict(mpl.rcParams) == before


def test_formats_and_several_sources_have_panels_of_their_own() -> None:
    step = {"loss": 2.0, "loss/reasoning": 2.0, "explicit_loss/format": 0.1, "explicit_loss/content": 0.5}
    rows = [{"trial": "t1", "tokens": 100 * n, "source_loss/toolbox": 1.0, **step} for n in (1, 2, 3)]
    one = plots.losses(pd.DataFrame(rows), "t1")
    assert list(one) == ["all", "reasoning", "a format's own tokens", "content within formats"]
    several = plots.losses(pd.DataFrame([{**row, "validation_source_loss/fireact": 1.5} for row in rows]), None)
    assert list(several) == [*one, "from fireact", "from toolbox"]


def test_analyse_needs_neither_ray_nor_torch() -> None:
    unwanted = {"ray", "torch", "transformers", "matplotlib.pyplot"}
    code = f"import sys, agentflan_ray.analyse.report; print(*{unwanted} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
