"""What the command line says to wrong input: one sentence and status 1, before anything starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agentflan_ray import cli

WRONG = [
    (["build", "--source", "toolbox=many", "--out", "store"], "toolbox takes the number of conversations to draw"),
    (["build", "--source", "toolbench", "--out", "store"], "'toolbench' is not of the form name=URI"),
    (["view", "absent"], "No complete corpus at 'absent'"),
    (["plan", "absent", "--weights", "reasoning", "--budget", "10"], "is not of the form reasoning=0.4,general=0.6"),
    (["plan", "absent", "--weights", "reasoning=0.4", "--budget", "10"], "must sum to 1"),
    (["plan", "absent", "--weights", "wisdom=1", "--budget", "10"], "Unknown component 'wisdom'"),
    (["plan", "absent", "--weights", "general=1", "--budget", "10", "--fraction", "2"], "must lie in (0, 1]"),
    (["report", "absent"], "absent"),
]


@pytest.mark.parametrize(("arguments", "sentence"), WRONG, ids=[" ".join(case[0])[:40] for case in WRONG])
def test_wrong_input_gets_one_sentence(
    arguments: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["agentflan", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("Error: ")
    assert sentence in said
    assert "Traceback" not in said
