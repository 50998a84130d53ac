"""Tasks in a browser: the loop over a process that only plays one, and MiniWoB++ in Chromium where it is at hand."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.evaluate.benchmark import EnvironmentDied, Item, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks.web import MINIWOB_TASKS, WebTasks, miniwob, webarena
from agentflan_ray.evaluate.web_session import WebSession

WORKER = f"""#!{sys.executable}
import json, sys, time
print("noise of a library", file=sys.stderr, flush=True)
for line in sys.stdin:
    step = json.loads(line).get("step", "")
    page = dict(goal="Press Go", page="[1] button Go", url="http://own", error="", reward=0.0, done=False)
    if step == "click('1')":
        page.update(reward=1.0, done=True)
    elif step.startswith("press"):
        sys.exit("the browser crashed")
    elif step.startswith("scroll"):
        time.sleep(60)
    elif step:
        page["error"] = "no such element"
    print(json.dumps(page), flush=True)
"""


@pytest.fixture
def python(tmp_path: Path) -> str:
    script = tmp_path / "python"
    script.write_text(WORKER)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


@pytest.fixture
def tasks(python: str) -> WebTasks:
    return WebTasks("own", "pages of our own", (Item("go", "go", "go", {"task": "own.go", "seed": 0}),), python, 4, {})


def play(tasks: WebTasks, item: Item, answer: Callable[[Request], str]) -> tuple[dict[str, float], dict[str, Any], str]:
    episode = tasks.open(item)
    shown = ""
    try:
        while (request := episode.ask()) is not None:
            shown = request.messages[-1]["content"]
            episode.take(Reply(answer(request)))
    finally:
        episode.close()
    outcome = json.loads(json.dumps(episode.outcome()))
    return tasks.score(item, outcome), outcome, shown


def test_the_goal_is_reached_by_an_action(tasks: WebTasks) -> None:
    scores, outcome, shown = play(tasks, tasks.items()[0], lambda _: "Thought: go.\nAction: click('1')")
    assert scores == {"success": 1.0, "steps": 1.0, "fault_rate": 0.0}
    assert outcome["actions"] == ["click('1')"]
    assert shown.startswith("Goal: Press Go\nAddress: http://own\nActions so far:\nnone\nPage:\n[1] button Go")


def test_faults_are_told_and_counted(tasks: WebTasks) -> None:
    replies = iter(["Action: click('7')", "I would click the button.", "Action: fill('3', 'it''s (1)')"])
    scores, _, shown = play(tasks, tasks.items()[0], lambda _: next(replies, ""))
    assert scores == {"success": 0.0, "steps": 4.0, "fault_rate": 1.0}
    assert "The last action could not be done: " in shown
    assert "click('7')" in shown


@pytest.mark.parametrize("garbage", ["", "click(" * 20_000, "Action: click('" + "\\" * 50_000, "\x00\ud7ff" * 50_000])
def test_garbage_is_a_fault(tasks: WebTasks, garbage: str) -> None:
    assert play(tasks, tasks.items()[0], lambda _: garbage)[0]["fault_rate"] == 1


def test_no_code_is_taken_for_an_action(tasks: WebTasks) -> None:
    replies = iter(["Action: __import__('os').system('id')", "Action: click(open('x'))", "Action: exec('1')"])
    _, outcome, _ = play(tasks, tasks.items()[0], lambda _: next(replies, ""))
    assert outcome["actions"] == []


def test_a_browser_that_dies_or_hangs_is_said(tasks: WebTasks, python: str) -> None:
    with pytest.raises(EnvironmentDied, match="process has ended: the browser crashed"):
        play(tasks, tasks.items()[0], lambda _: "Action: press('1', 'Enter')")
    session = WebSession(python, {}, seconds=1.0)
    session.reset("own.go", 0)
    with pytest.raises(EnvironmentDied, match="no answer within 1 s"):
        session.step("scroll(0, 1)")
    session.close()
    with pytest.raises(EnvironmentDied, match="could not be started"):
        WebSession("/nowhere/python", {})


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MINIWOB_URL", "WA_SHOPPING", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Unavailable, match="browsergym-miniwob is not there"):
        miniwob(Settings(options={"browsergym_python": "/nowhere/python"}))
    with pytest.raises(Unavailable) as caught:
        webarena(Settings(options={"browsergym_python": "/nowhere/python"}))
    assert len(caught.value.missing) == 3
    assert "WA_SHOPPING, WA_SHOPPING_ADMIN" in str(caught.value)
    assert len(MINIWOB_TASKS) == len(set(MINIWOB_TASKS)) == 125


def oracle(request: Request) -> str:
    """Solves some kinds of MiniWoB++ task by reading goal and page."""
    text = request.messages[-1]["content"]
    goal = text.split("\n", 1)[0]

    def element(pattern: str) -> str:
        found = re.search(rf"\[(\w+)\] {pattern}", text)
        return found[1] if found else "0"

    done = text.split("Actions so far:\n", 1)[1].split("\nPage:", 1)[0]
    if "Click the button" in goal:
        return f"Action: click('{element('button')}')"
    if typed := re.search(r'Enter "([^"]*)" into the text field and press Submit', goal):
        return (
            f"Action: click('{element('button')}')"
            if "fill(" in done
            else f"Action: fill('{element('textbox')}', '{typed[1]}')"
        )
    return "Action: noop()"


@pytest.mark.slow
@pytest.mark.skipif(
    not {"BROWSERGYM_PYTHON", "MINIWOB_URL"} <= os.environ.keys(),
    reason="needs BrowserGym: set BROWSERGYM_PYTHON to an interpreter that has browsergym-miniwob, and MINIWOB_URL",
)
def test_an_oracle_solves_miniwob_in_chromium() -> None:
    tasks = miniwob(Settings(options={"browsergym_python": os.environ["BROWSERGYM_PYTHON"]}))
    chosen = [item for item in tasks.items() if item.group in ("click-test", "click-button", "enter-text")]
    assert len(chosen) == 3
    for item in chosen:
        if item.group == "click-button":
            continue  # its goal names one of several buttons; the two others have one way each
        scores, outcome, _ = play(tasks, item, oracle)
        assert scores["success"] == 1, (item.id, outcome)
    idle = play(tasks, chosen[0], lambda _: "Action: noop()")[0]
    assert idle["success"] == 0
    alive = subprocess.run(["pgrep", "-f", "browsergym_worker"], capture_output=True, check=False)
    assert alive.returncode != 0, "no worker is left behind"
