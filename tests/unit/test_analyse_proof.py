"""The proof in the report: what it says, shows and gives to machines."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.analyse import frame, plots_search, report
from agentflan_ray.analyse import proof as proving
from agentflan_ray.analyse.headline import headline
from agentflan_ray.search.proof import prove
from tests.unit.test_analyse import write_json, write_run
from tests.unit.test_search_proof import RIGHT, runs_of


@pytest.fixture(scope="module")
def proof() -> dict[str, Any]:
    runs = runs_of(4, {"winner": 0.25, "uniform": -0.2})
    base = runs_of(5, {"paper": -0.3})["paper"][1]
    found = prove(RIGHT, runs, "winner", metric="score", base=base, draws=2000)
    return dict(json.loads(json.dumps({"seeds": [1, 2, 3], "trial": "0003", **asdict(found)})))


def test_sentences_and_rows_say_what_was_found(proof: dict[str, Any]) -> None:
    mixes, comparisons = proving.mixes(proof), proving.comparisons(proof)
    assert "each trained with 3 seeds, on 120 items of 30 groups" in mixes.sentences[0]
    assert mixes.sentences[1] == "winner is the best mix: every other one is told from it."
    assert [row[0] for row in mixes.rows] == ["winner", "paper", "proportional", "uniform"]
    assert [row[-1] for row in mixes.rows] == ["yes", "no", "no", "no"]
    assert len(mixes.rows[0][2].split(", ")) == 3
    assert [row[0] for row in comparisons.rows] == ["paper", "proportional", "uniform", "base"]
    assert all(row[1].startswith("+0.") for row in comparisons.rows)
    assert comparisons.rows[-1][-1] == "–"
    assert "Regret of the winner against the best named mix" in comparisons.sentences[1]


def test_mixes_that_are_not_told_apart_are_a_set(proof: dict[str, Any]) -> None:
    together = {**proof, "mixes": [{**mix, "is_among_best": mix["mix"] != "uniform"} for mix in proof["mixes"]]}
    assert proving.mixes(together).sentences[1] == "Best is a set: winner, paper, proportional are not told apart."


def test_the_picture_names_each_mix_and_differs_by_outcome(proof: dict[str, Any]) -> None:
    drawn = plots_search.differences(proof)
    for name in ("over paper", "over proportional", "over uniform", "over base", "gain in score"):
        assert name in drawn
    lost = {
        **proof,
        "comparisons": [{**each, "low": -0.3, "value": -0.2, "high": -0.1} for each in proof["comparisons"]],
    }
    assert plots_search.differences(lost).count("var(--red)") > drawn.count("var(--red)")


def test_page_summary_and_json_hold_it(tmp_path: Path, proof: dict[str, Any]) -> None:
    run = write_run(tmp_path / "runs" / "proven")
    write_json(run / "proof.json", proof)
    page = report.write(run).read_text(encoding="utf-8")
    assert "Is it the best?" in page
    assert "winner is the best mix" in page
    summary = (run / "report.md").read_text(encoding="utf-8")
    assert "## Is it the best?" in summary
    assert "| paper | +0." in summary
    assert json.loads((run / "report.json").read_text(encoding="utf-8"))["proof"]["winner"] == "winner"


def test_without_a_proof_the_page_has_no_such_section(tmp_path: Path) -> None:
    page = report.write(write_run(tmp_path / "runs" / "open")).read_text(encoding="utf-8")
    assert "Is it the best?" not in page


def test_a_broken_proof_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "broken")
    write_json(run / "proof.json", {"winner": "paper"})
    with pytest.raises(
        ValueError, match=r"proof\.json: the fields metric, num_items, mixes, comparisons, regrets are missing"
    ):
        frame.load(run)


def with_items(run: Path, gain: float) -> Path:
    """Both evaluations of a run with items of their own: 30 groups of 4, half tool items, the best right more often."""
    for model, right in (("base", 0.3), ("best", 0.3 + gain)):
        path = run / "evaluation" / f"{model}.json"
        kept = json.loads(path.read_text(encoding="utf-8"))
        kept["examples"] = [
            {
                "id": f"{group}/{item}",
                "case": "tool" if group % 2 else "chat",
                "group": str(group),
                "query": "?",
                "reply": "!",
                "scores": {"tool_score" if group % 2 else "correct": float((group * 4 + item) % 10 < 10 * right)},
            }
            for group in range(30)
            for item in range(4)
        ]
        write_json(path, kept)
    return run


@pytest.mark.parametrize(
    ("gain", "verdict", "sentence"),
    [
        (0.3, "better", "On the same items the difference is +0.300 ["),
        (-0.2, "worse", "that is worse."),
        (0.0, "overlap", "the difference is +0.000 [−0.144,\u00a0+0.144]"),
    ],
)
def test_the_headline_compares_the_same_items(tmp_path: Path, gain: float, verdict: str, sentence: str) -> None:
    top = headline(frame.load(with_items(write_run(tmp_path / "runs" / "paired"), gain)))
    assert top.verdict == verdict
    assert sentence in top.sentence


def test_other_items_are_compared_by_their_intervals(tmp_path: Path) -> None:
    run = with_items(write_run(tmp_path / "runs" / "apart"), 0.3)
    path = run / "evaluation" / "base.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    kept["examples"] = kept["examples"][1:]
    write_json(path, kept)
    top = headline(frame.load(run))
    assert "On the same items" not in top.sentence
    assert "intervals do not overlap" in top.sentence
