"""HumanEval in the sandbox: what counts as a solution, what can't pass, what can't do harm."""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.evaluate import sandbox
from agentflan_ray.evaluate.benchmark import Missing, Reply, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks.humaneval import HumanEval, HumanEvalProtocol, humaneval, programs, run

DATA = Path(os.environ.get("AGENTFLAN_DATA", Path(__file__).parents[3] / "shared/data"))
PROMPT = 'import math\n\n\ndef helper(x):\n    return 2 * x\n\n\ndef twice(n: int) -> int:\n    """Double it."""\n'
PROBLEM = {
    "prompt": PROMPT,
    "test": "def check(candidate):\n    assert candidate(3) == 6\n    assert candidate(0) == 0\n",
    "entry_point": "twice",
}
QUICK = HumanEvalProtocol(seconds=2.0, memory_mb=256)

needs_sandbox = pytest.mark.skipif(sandbox.available() is not None, reason=str(sandbox.available()))


@needs_sandbox
@pytest.mark.parametrize(
    ("reply", "result"),
    [
        ("```python\ndef twice(n):\n    return helper(n)\n```", "passed"),
        ("Here:\n```\nimport os\ndef twice(n):\n    return 2 * n\n```\nIt doubles.", "passed"),
        ("def twice(n):\n    return math.floor(2 * n)", "passed"),
        ("return n + n", "passed"),
        ("m = n\n    return m + n", "passed"),
        ("m = n\nreturn m + n", "passed"),
        ("return 2 * n\n\nprint(twice(4))", "passed"),
        ("```python\n    return 2 * n\n```", "passed"),
        ("return n", "failed"),
        ("", "failed"),
        ("return (", "syntax"),
        ("import sys; sys.exit(0)", "failed"),
        ("def twice(n):\n    pass\nimport os; os._exit(0)", "failed"),
        ("def twice(n):\n    while True: pass", "time"),
        ("def twice(n):\n    return 2 * n\nopen('/usr/x', 'w')", "failed"),
        (
            "def twice(n):\n    import socket\n    socket.create_connection(('1.1.1.1', 80), 1)\n    return 2 * n",
            "failed",
        ),
        ("x" * 100_000, "failed"),
        ("((((" * 20_000, "syntax"),
        ("\x00\udcff", "syntax"),
        ("```" * 30_000, "syntax"),
    ],
    ids=lambda value: str(value)[:30].encode("unicode_escape").decode(),
)
def test_results(reply: str, result: str) -> None:
    assert run(PROBLEM, reply, QUICK) == result


def test_a_whole_function_follows_the_prompt_and_its_helpers() -> None:
    [program] = programs(PROMPT, "```python\ndef twice(n):\n    return 1\n```", "twice")
    assert program == f"{PROMPT}\ndef twice(n):\n    return 1\n\n"


def write(folder: Path) -> Settings:
    (folder / "humaneval").mkdir()
    row: dict[str, Any] = {"task_id": "HumanEval/0", "canonical_solution": "    return 2 * n\n", **PROBLEM}
    (folder / "humaneval/HumanEval.jsonl").write_text(json.dumps(row) + "\n")
    return Settings(str(folder))


@needs_sandbox
def test_an_episode(tmp_path: Path) -> None:
    benchmark = humaneval(write(tmp_path))
    [item] = benchmark.items()
    episode = benchmark.open(item)
    request = episode.ask()
    assert request is not None
    assert request.messages[0]["content"].endswith('def twice(n: int) -> int:\n    """Double it."""\n```')
    episode.take(Reply("return 2 * n"))
    assert episode.ask() is None
    assert episode.outcome() == {"reply": "return 2 * n", "result": "passed"}
    assert benchmark.score(item, episode.outcome()) == {"passed": 1.0, "compiled": 1.0, "out_of_time": 0.0}
    assert benchmark.score(item, {"result": "time"}) == {"passed": 0.0, "compiled": 1.0, "out_of_time": 1.0}


def test_without_data_or_a_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "available", lambda: Missing("No sandbox.", "Get one."))
    with pytest.raises(Unavailable, match=r"problems are not there.*No sandbox\. Get one\."):
        humaneval(Settings(str(tmp_path)))
    with pytest.raises(Unavailable, match=r"^humaneval can't run here: No sandbox\. Get one\.$"):
        humaneval(write(tmp_path))


def _real() -> tuple[HumanEval, dict[str, str]]:
    path = DATA / "eval/humaneval/HumanEval.jsonl.gz"
    if not path.exists():
        pytest.skip(f"HumanEval is not at {DATA}; set AGENTFLAN_DATA")
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    return humaneval(Settings(str(DATA))), {row["task_id"]: row["canonical_solution"] for row in rows}


@needs_sandbox
def test_published_solutions_pass_and_empty_ones_fail() -> None:
    benchmark, solutions = _real()
    for item in benchmark.items()[:6]:
        assert run(item.data, solutions[item.id].strip(), benchmark.settings) == "passed", item.id
        assert run(item.data, "pass", benchmark.settings) == "failed", item.id


@needs_sandbox
@pytest.mark.slow
def test_every_published_solution_passes() -> None:
    benchmark, solutions = _real()
    began = time.perf_counter()
    results = {item.id: run(item.data, solutions[item.id].strip(), benchmark.settings) for item in benchmark.items()}
    assert len(results) == 164
    assert {name: result for name, result in results.items() if result != "passed"} == {}
    assert time.perf_counter() - began < 600
