"""The command ``compare`` on results that were written as an evaluation writes them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from agentflan_ray.cli.compare import add_compare_command
from agentflan_ray.evaluate.benchmark import Metric
from tests.unit.test_evaluate_compare import Made, drawn, write


def run(*words: str) -> None:
    parser = argparse.ArgumentParser()
    add_compare_command(parser.add_subparsers())
    arguments = parser.parse_args(["compare", *words])
    arguments.run_command(arguments)


def test_one_folder_gives_a_leaderboard_and_the_papers_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    made = Made(name="teval", metrics=(Metric("overall", "right", scale=100),))
    for name, rate in {"weak": 0.2, "good": 0.8}.items():
        write(tmp_path, name, drawn(rate), made)
    run(str(tmp_path), "--json", str(tmp_path / "rows.json"), "--html", str(tmp_path / "page.html"))
    assert "Beside the paper" in (tmp_path / "page.html").read_text("utf-8")
    text = capsys.readouterr().out
    assert "good-good *" in text
    assert "Agent-FLAN-7B" in text
    reasons = [line for line in text.splitlines() if line.startswith("teval overall: ")]
    assert len(reasons) == 1  # the same for both models
    assert "embedder is" in reasons[0]
    rows = json.loads((tmp_path / "rows.json").read_text("utf-8"))
    assert [row["model"] for row in rows["leaderboard"]] == ["good-good", "weak-weak"]
    assert len(rows["paper"]) == 2


def test_two_folders_give_differences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for name, rate in {"weak": 0.2, "good": 0.8}.items():
        write(tmp_path / name, name, drawn(rate))
    run(str(tmp_path / "good"), str(tmp_path / "weak"), "--all", "--json", str(tmp_path / "rows.json"))
    assert "good-good minus weak-weak" in capsys.readouterr().out
    rows = json.loads((tmp_path / "rows.json").read_text("utf-8"))["rows"]
    assert [row["metric"] for row in rows] == ["two_sided", "calls", "holds", "steps"]
    assert all(row["p_together"] < 0.05 for row in rows)
    with pytest.raises(ValueError, match="holds 2 models; name the folder of one"):
        run(str(tmp_path), str(tmp_path / "weak"))


@pytest.mark.parametrize("flag", ["--html", "--json"])
def test_what_can_not_be_written_is_said_first(tmp_path: Path, flag: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=f"Nothing can be written to {flag}"):
        run(str(tmp_path), flag, str(tmp_path / "file" / "rows"))


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    [result] = write(tmp_path, "model", drawn(0.5))
    path = result.samples.with_name("made.json")
    path.write_text('{"benchmark":')
    with pytest.raises(ValueError, match=r"made\.json is no JSON .* run agentflan evaluate again"):
        run(str(tmp_path))
