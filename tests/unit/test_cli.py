"""What the command line says to wrong input: one sentence and status 1, before anything starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agentflan_ray import cli

WRONG = [
    (["build", "--source", "toolbox=many", "--out", "store"], "toolbox takes the number of conversations to draw"),
    (["build", "--source", "toolbench", "--out", "store"], "'toolbench' is not of the form name=URI"),
    (["view", "absent"], "absent' (no manifest.json); build it with: agentflan build"),
    (["export", "absent", "--format", "openai", "--out", "x.jsonl"], "(no manifest.json)"),
    (["sources", "absent"], "There is no source 'absent'; known sources are agentflan, agentinstruct"),
    (["build", "--source", "absent=x.json", "--out", "store"], "There is no source 'absent'"),
    (["build", "--source", "toolbox=80", "--recipe", "best", "--out", "store"], "There is no recipe 'best'; choose"),
    (
        ["build", "--source", "toolbox=80", "--near-duplicates", "some", "--out", "s"],
        "neither a number such as 0.9 nor",
    ),
    (["build", "--source", "toolbox=80", "--near-duplicates", "0.1", "--out", "s"], "must lie between 0.8 and 1"),
    (["build", "--source", "toolbox=80", "--personal-data", "shoe", "--out", "s"], "There is no pattern 'shoe'"),
    (["build", "--source", "toolbox=80", "--language", "klingon", "--out", "s"], "The language 'klingon' is not one"),
    (["build", "--source", "toolbox=80", "--against", "dev.json", "--out", "s"], "is not of the form name=URI"),
    (["build", "--source", "toolbox=80", "--against", "dev=absent.json", "--out", "s"], "absent.json"),
    (
        ["build", "--source", "toolbox=80", "--teacher", "m", "--teacher-url", "example", "--out", "s"],
        "The teacher's URL is 'example'",
    ),
    (
        ["build", "--out=s", "--source=toolbox=80", "--teacher=m", "--teacher-url=http://x", "--teacher-prices=1"],
        "is not of the form IN,OUT",
    ),
    (
        ["build", "--source", "toolbox=80", "--teacher-share", "0.5", "--out", "s"],
        "name its model with --teacher MODEL",
    ),
    (
        ["build", "--source", "toolbox=80", "--teacher", "m", "--teacher-prices", "1,2", "--out", "s"],
        "but a model of this cluster has none",
    ),
    (["build", "--source", "toolbox=80", "--block-length", "0", "--out", "s"], "a window holds at least one token"),
    (["build", "--source", "toolbox=80", "--model", "absent", "--out", "s"], "'absent' is no model: give one of"),
    (
        ["build", "--source", "toolbox=80", "--model", "tiny-llama", "--template", "absent", "--out", "s"],
        "There is no chat template 'absent'; choose one of chatml",
    ),
    (
        ["build", "--source", "toolbox=80", "--model", "tiny-llama", "--out", "file/store"],
        "file/store (Not a directory); name a folder that you may write into.",
    ),
    (["train", "absent", "--out", "o", "--weights", "general=1", "--budget", "9"], "absent' (no manifest.json)"),
    (
        ["train", "c", "--out", "o", "--recipe", "best", "--weights", "drop"],
        "There is no training recipe 'best'; choose",
    ),
    (["train", "c", "--out", "o", "--set", "learning_rate=fast", "--weights", "drop"], "learning_rate is a number."),
    (["train", "c", "--out", "o", "--set", "activation_checkpointing=1.5", "--weights", "drop"], "is true or false."),
    (["train", "c", "--out", "o", "--set", "zero_stage=4", "--weights", "drop"], "zero_stage is 4; choose one of"),
    (["train", "c", "--out", "o", "--set", "speed=4", "--weights", "drop"], "with one of the fields activation_check"),
    (["train", "c", "--out", "o", "--track", "paper", "--weights", "drop"], "--track paper names no tracker"),
    (["plan", "absent", "--weights", "drop", "--budget", "10"], "leave --budget out too"),
    (["plan", "absent", "--weights", "general=0.5,general=0.5", "--budget", "10"], "names a component twice"),
    (["plan", "absent", "--weights", "general=1"], "--budget 100000"),
    (["plan", "absent", "--weights", "temperature=warm", "--budget", "10"], "is not of the form"),
    (["plan", "absent", "--weights", "0.5:general=1", "--budget", "10"], "The phases' shares must sum to 1"),
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
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["agentflan", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("Error: ")
    assert sentence in said
    assert "Traceback" not in said
