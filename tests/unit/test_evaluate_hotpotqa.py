"""HotpotQA's loop over a closed pool and over a Wikipedia of the tests' own."""

from __future__ import annotations

import http.server
import importlib.util
import json
import os
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.evaluate.benchmark import EnvironmentDied, Item, Reply, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks.hotpotqa import HotpotQA, action_of, f1, hotpotqa, normal
from agentflan_ray.evaluate.passages import ClosedPool, LiveWikipedia
from agentflan_ray.randomness import stable_random

DATA = Path(os.environ.get("AGENTFLAN_DATA", Path(__file__).parents[3] / "shared/data"))

pytestmark = pytest.mark.skipif(importlib.util.find_spec("bm25s") is None, reason="needs the package bm25s")

ROWS: list[dict[str, Any]] = [
    {
        "id": "one", "type": "bridge", "level": "easy", "question": "Which river runs through the town of Arbent?",
        "answer": "the Lune",
        "context": [["Arbent", ["Arbent is a town on the Lune.", " It has a mill."]], ["Lune", ["A river."]]],
    },
    {
        "id": "two", "type": "comparison", "level": "medium", "question": "Is Solm older than Arbent?",
        "answer": "yes", "context": {"title": ["Solm"], "sentences": [["It was founded in 900.", " It has a wall."]]},
    },
    {
        "id": "three", "type": "bridge", "level": "hard", "question": "When was the mill of Solm built?",
        "answer": "1871", "context": [["Mill (Solm)", ["The mill was built in 1871."]]],
    },
]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "eval/hotpotqa/with-paragraphs"
    folder.mkdir(parents=True)
    for row in ROWS:
        (folder / f"{row['level']}.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


@pytest.fixture
def benchmark(data: Path) -> HotpotQA:
    return hotpotqa(Settings(str(data)))


def played(benchmark: HotpotQA, item: Item, replies: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The outcome, and what the user said last before each reply."""
    episode, left, seen = benchmark.open(item), iter(replies), []
    while (request := episode.ask()) is not None:
        seen.append(request.messages[-1]["content"])
        episode.take(Reply(next(left)))
    return episode.outcome(), seen


def item_of(benchmark: HotpotQA, name: str) -> Item:
    return next(item for item in benchmark.items() if item.id == name)


def test_search_lookup_and_finish(benchmark: HotpotQA) -> None:
    replies = [
        "Thought: first\nAction: Search[arbent]",
        "Action: Lookup[mill]",
        "Action: Lookup[mill]",
        "Action: Search[the mill of Solm]",
        "I wonder.",
        "Action: Finish[Lune]",
    ]
    outcome, seen = played(benchmark, item_of(benchmark, "one"), replies)
    assert outcome == {"answer": "Lune", "steps": 6, "invalid": 1}
    assert seen[0] == "Question: Which river runs through the town of Arbent?"
    assert seen[1] == "Observation: Arbent is a town on the Lune. It has a mill."
    assert seen[2] == "Observation: (Result 1 / 1) It has a mill."
    assert seen[3] == "Observation: No more results for mill."
    assert seen[4].startswith("Observation: Could not find the mill of Solm. Similar: Mill (Solm)")
    assert seen[5] == "Observation: There is no action in this. An action is Search, Lookup or Finish."
    scores = benchmark.score(item_of(benchmark, "one"), outcome)
    assert scores == {"f1": 1.0, "exact_match": 1.0, "answered": 1.0, "steps": 6.0, "invalid_steps": 1.0}


def test_steps_are_bounded_and_no_answer_is_no_score(benchmark: HotpotQA) -> None:
    outcome, seen = played(benchmark, item_of(benchmark, "two"), ["Action: Lookup[wall]"] * 20)
    assert len(seen) == 10
    assert seen[1] == "Observation: There is no article yet. Search for one first."
    scores = benchmark.score(item_of(benchmark, "two"), outcome)
    assert (scores["f1"], scores["exact_match"], scores["answered"]) == (0.0, 0.0, 0.0)


def test_a_prompt_that_does_not_fit_ends_the_episode(benchmark: HotpotQA) -> None:
    episode = benchmark.open(benchmark.items()[0])
    assert episode.ask() is not None
    episode.take(Reply("", finish="context"))
    assert episode.ask() is None
    assert episode.outcome()["answer"] is None


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        ("Thought 1: x\nAction 1: Search[Mill (Solm)]", ("Search", "Mill (Solm)")),
        ("search[a [b] c]", ("Search", "a [b] c")),
        ("Action: Finish[1871", ("Finish", "1871")),
        ("Action: Search\nAction Input: Mill of Solm", ("Search", "Mill of Solm")),
        ('Action: Search\nAction Input: {"title": "Solm"}', ("Search", "Solm")),
        ('{"thought": "t", "name": "Lookup", "args": {"word": "mill"}}', ("Lookup", "mill")),
        ('<tool_call>{"name": "Finish", "arguments": {"answer": 7}}</tool_call>', ("Finish", "7")),
        ("I will look it up.", None),
        ("", None),
    ],
)
def test_actions_in_every_form(reply: str, action: tuple[str, str] | None) -> None:
    assert action_of(reply) == action


def test_f1_is_the_official_one() -> None:
    assert f1("The Lune!", "lune") == 1.0
    assert f1("river Lune", "Lune") == pytest.approx(2 / 3)
    assert f1("yes it is", "yes") == 0.0
    assert f1("no", "yes") == 0.0
    assert f1("", "Lune") == 0.0
    assert normal("An  Answer, (the) best") == "answer best"


@pytest.mark.parametrize(
    "reply",
    ["", "x" * 100_000, "[" * 50_000, "Search[" * 20_000, "{" * 50_000, "\x00\udcff\n" * 9_000, "Action:" * 9_000],
)
def test_garbage_is_an_outcome(benchmark: HotpotQA, reply: str) -> None:
    began = time.perf_counter()
    outcome, _ = played(benchmark, benchmark.items()[0], [reply] * 10)
    assert benchmark.score(benchmark.items()[0], outcome)["f1"] == 0.0
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize("prompt", ["react", "json", "native"])
def test_every_prompt_says_the_tools_and_its_examples_are_valid(data: Path, prompt: str) -> None:
    benchmark = hotpotqa(Settings(str(data), prompt=prompt))
    request = benchmark.open(benchmark.items()[0]).ask()
    assert request is not None
    assert "Finish" in request.messages[0]["content"]
    assert "10 turns" in request.messages[0]["content"]
    said = [message["content"] for message in request.messages if message["role"] == "assistant"]
    assert all(action_of(text) is not None for text in said)
    assert bool(said) == (prompt != "native") == (not request.tools)
    assert benchmark.identity["prompt"] == prompt


def test_what_is_missing_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"levels easy, medium, hard are not there"):
        hotpotqa(Settings(str(tmp_path)))
    with pytest.raises(Unavailable, match="It has the prompts react, json, native, not 'xml'"):
        hotpotqa(Settings(str(tmp_path), prompt="xml"))


class _Wikipedia(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        if asked.get("list") == "search":
            value: Any = {"query": {"search": [{"title": "Lune (river)"}, {"title": "Lune"}]}}
        elif asked["titles"] == "broken":
            value = {"error": {"code": "badvalue", "info": "no"}}
        elif asked["titles"] == "Lune":
            value = {
                "query": {"pages": [{"title": "Lune", "extract": "The Lune is a river. It is 85 km long.\n\nSee."}]}
            }
        else:
            value = {"query": {"pages": [{"title": asked["titles"], "missing": True}]}}
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def wikipedia() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Wikipedia)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/w/api.php"
    server.shutdown()
    server.server_close()
    thread.join()


def test_live_wikipedia(data: Path, wikipedia: str) -> None:
    benchmark = hotpotqa(Settings(str(data), options={"wikipedia": "live", "wikipedia_url": wikipedia}))
    assert benchmark.identity["search"] == "live Wikipedia"
    replies = ["Action: Search[Lune]", "Action: Lookup[85]", "Action: Search[nowhere]", "Action: Finish[85 km]"]
    outcome, seen = played(benchmark, benchmark.items()[0], replies)
    assert seen[1] == "Observation: The Lune is a river. It is 85 km long. See."
    assert seen[2] == "Observation: (Result 1 / 1) It is 85 km long."
    assert seen[3] == "Observation: Could not find nowhere. Similar: Lune (river), Lune."
    assert outcome["answer"] == "85 km"


def test_a_wikipedia_that_fails_is_no_fault_of_the_model(wikipedia: str) -> None:
    with pytest.raises(EnvironmentDied, match="refused a query"):
        LiveWikipedia(wikipedia).page("broken")
    with pytest.raises(EnvironmentDied, match="did not answer"):
        LiveWikipedia("http://127.0.0.1:9/w/api.php", seconds=2).page("Lune")


def test_real_questions_oracle_and_random() -> None:
    if not (DATA / "eval/hotpotqa/with-paragraphs/easy.jsonl.gz").exists():
        pytest.skip(f"HotpotQA is not at {DATA}; set AGENTFLAN_DATA")
    benchmark = hotpotqa(Settings(str(DATA)))
    items = benchmark.items()
    assert len(items) == 300
    assert isinstance(benchmark.library, ClosedPool)
    assert len(benchmark.library) == 2957
    assert {case: sum(i.case == case for i in items[:30]) for case in ("easy", "medium", "hard")} == {
        "easy": 10, "medium": 10, "hard": 10,
    }  # fmt: skip
    oracle = [
        benchmark.score(item, played(benchmark, item, [f"Action: Finish[{item.data['answer']}]"])[0]) for item in items
    ]
    assert all(scores["f1"] == scores["exact_match"] == 1.0 for scores in oracle)
    random_f1 = []
    for item in items[:60]:
        random = stable_random("random agent", item.id)
        titles = benchmark.library.similar(item.data["question"], 5)
        replies = [f"Action: Search[{random.choice(titles)}]" for _ in range(3)]
        outcome, _ = played(benchmark, item, [*replies, f"Action: Finish[{random.choice(titles)}]"])
        random_f1.append(benchmark.score(item, outcome)["f1"])
    assert sum(random_f1) / len(random_f1) < 0.2
