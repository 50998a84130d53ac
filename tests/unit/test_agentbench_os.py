"""AgentBench's operating system tasks: the loop in a real shell, with gold commands and with nonsense."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from agentflan_ray.evaluate.benchmark import Item, Reply, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks.agentbench_os import Action, AgentBenchOs, agentbench_os, os_small, parse
from agentflan_ray.evaluate.sandbox import available

MISSING = available()
sandboxed = pytest.mark.skipif(MISSING is not None, reason=MISSING.what if MISSING else "")
GARBAGE = [
    "",
    "x" * 100_000,
    "Act:" * 25_000,
    "```bash\n" * 20_000,
    "Act: answer(" + "(" * 50_000,
    "\x00\ud800",
    "Act: answer)(",
]


def play(benchmark: AgentBenchOs, item: Item, replies: list[str]) -> dict[str, float]:
    episode = benchmark.open(item)
    try:
        for text in replies:
            if episode.ask() is None:
                break
            episode.take(Reply(text))
        assert episode.ask() is None
        return benchmark.score(item, json.loads(json.dumps(episode.outcome())))
    finally:
        episode.close()


def oracle(benchmark: AgentBenchOs, item: Item) -> float:
    """Runs the gold commands, and answers what they print."""
    episode = benchmark.open(item)
    try:
        episode.ask()
        episode.take(Reply(f"Think: gold.\n\nAct: bash\n\n```bash\n{item.data['gold']}\n```"))
        request = episode.ask()
        assert request is not None
        said = request.messages[-1]["content"]
        printed = said.removeprefix("The output of the OS:").strip()
        episode.take(Reply("Act: finish" if said.endswith("is empty.") else f"Think: so.\n\nAct: answer({printed})"))
        return benchmark.score(item, episode.outcome())["success"]
    finally:
        episode.close()


@sandboxed
def test_gold_commands_solve_all_and_guesses_none() -> None:
    benchmark = os_small(Settings())
    assert len(benchmark.items()) == 13
    assert {item.id: oracle(benchmark, item) for item in benchmark.items()} == {i.id: 1 for i in benchmark.items()}


@sandboxed
def test_idle_agents_solve_nothing() -> None:
    benchmark = os_small(Settings())
    for item in benchmark.items():
        assert play(benchmark, item, ["Act: finish"])["success"] == 0
    scores = play(benchmark, benchmark.items()[0], ["Act: bash\n\n```bash\ntrue\n```"] * 9)
    assert (scores["success"], scores["out_of_rounds"], scores["rounds"]) == (0, 1, 8)


@sandboxed
def test_a_random_agent_is_at_chance() -> None:
    """It runs commands that have nothing to do with the task, and answers with a number below a hundred."""
    benchmark = os_small(Settings())
    draw = random.Random(0)
    commands = [
        "ls -a",
        "touch new",
        "mkdir -p a/b",
        "echo 1 > out.txt",
        "cat *",
        "wc -l *",
        "rm -f *.txt",
        "chmod 600 *",
    ]
    solved = 0.0
    for item in [*benchmark.items()] * 3:
        some = [f"Act: bash\n\n```bash\n{draw.choice(commands)}\n```" for _ in range(draw.randrange(5))]
        ends = [f"Act: answer({draw.randrange(100)})", "Act: finish"]
        solved += play(benchmark, item, [*some, draw.choice(ends)])["success"]
    assert solved <= 2, "of 39"


@sandboxed
@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_is_scored_in_time(text: str) -> None:
    benchmark = os_small(Settings())
    start = time.monotonic()
    for reply in (text, f"Act: bash\n```bash\n{text[:400]}\n```", f"Act: answer({text})"):
        assert play(benchmark, benchmark.items()[0], [reply] * 8)["success"] == 0
    assert time.monotonic() - start < 20


@sandboxed
def test_what_a_model_breaks_is_told_and_bounded() -> None:
    benchmark = os_small(Settings())
    item = next(item for item in benchmark.items() if item.id == "largest-value")
    episode = benchmark.open(item)
    episode.take(Reply("Act: bash\n```bash\nyes\n```"))
    request = episode.ask()
    assert request is not None
    assert len(request.messages[-1]["content"]) < 900
    assert request.messages[-1]["content"].endswith("[truncated because the output is too long]")
    episode.take(Reply("Act: bash\n```bash\nrm -rf /root /etc /usr/bin /tmp 2>/dev/null; echo ok\n```"))
    request = episode.ask()
    assert request is not None
    assert request.messages[-1]["content"] == "The output of the OS:\n\nok\n"
    episode.take(Reply("Act: answer(airport)"))
    assert benchmark.score(item, episode.outcome())["success"] == 1
    episode.close()


def test_forms() -> None:
    assert parse("Think: a\n\nAct: bash\n\n```bash\nls\n```\n```bash\npwd\n```") == Action("bash", "ls\n\npwd")
    assert parse("Think: a\n\nAct: finish") == Action("finish")
    assert parse("Act: answer(f(x))") == Action("answer", "f(x)")
    assert parse("Act: answer 5") == Action()
    assert parse("Act: bash\nAct: finish") == Action("finish")
    assert parse("ls -l") == Action()


@sandboxed
def test_the_published_layout_is_read(tmp_path: Path) -> None:
    base = tmp_path / "os_interaction"
    (base / "data" / "1").mkdir(parents=True)
    (base / "scripts" / "1" / "check").mkdir(parents=True)
    (base / "scripts" / "1" / "check" / "same.py").write_text("import sys\nsys.exit(sys.argv[1] != sys.argv[2])\n")
    check = [None, {"language": "python", "file": "check/same.py"}]
    items = [
        {
            "description": "How many?",
            "create": {"init": {"code": "mkdir /data; touch /data/a /data/b"}},
            "evaluation": {"check": check, "example": {"code": "ls /data | wc -l | tr -d '\\n'"}},
        },
        {"description": "Which?", "evaluation": {"match": {"regex": "^y"}}},
        {"description": "Lost.", "create": {"init": {"file": "init/x.sh"}}, "evaluation": {"match": "1"}},
    ]
    (base / "data" / "1" / "own.json").write_text(json.dumps(items))
    benchmark = agentbench_os(Settings(data=str(tmp_path)))
    assert benchmark.left_out == ("part 1/own-2",)
    assert "1 items whose scripts are not there" in benchmark.protocol
    by_name = {item.id: item for item in benchmark.items()}
    assert play(benchmark, by_name["part 1/own-0"], ["Act: answer(2)"])["success"] == 1
    assert play(benchmark, by_name["part 1/own-0"], ["Act: answer(3)"])["success"] == 0
    assert play(benchmark, by_name["part 1/own-1"], ["Act: answer(yes)"])["success"] == 1


def test_what_is_missing_is_said() -> None:
    with pytest.raises(Unavailable, match="os_interaction"):
        agentbench_os(Settings(data="/nowhere"))
