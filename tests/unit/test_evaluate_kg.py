"""The seven tools over a graph of the tests' own, and episodes over them."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.evaluate.benchmark import Benchmark, EnvironmentDied, Item, Reply, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks.agentbench_kg import KnowledgeGraphQuestions, agentbench_kg
from agentflan_ray.evaluate.knowledge_graph import NAMESPACE, FileEndpoint, HttpEndpoint, KnowledgeGraph, Refused

pytest.importorskip("pyoxigraph", reason="the graph of the tests lies in a file, which needs pyoxigraph")

FACTS = """
m.arbent town.rivers m.lune
m.arbent town.rivers m.tay
m.solm town.rivers m.tay
m.solm town.rivers m.exe
m.solm town.bridges m.oldbridge
m.solm type.object.type m.town
m.lune river.flows_into m.sea
"""
LENGTHS = {"m.lune": "12.5", "m.tay": "90", "m.exe": "90"}
TYPES = {"town.rivers": "geography.river", "town.bridges": "transport.bridge", "river.flows_into": "geography.sea"}

QUESTIONS = [
    ("both", "Which river is in both?", ["m.tay"], ["get_neighbors(m.arbent,town.rivers)",
     "get_neighbors(m.solm,town.rivers)", "intersection(#0,#1)"]),
    ("many", "How many rivers has Solm?", ["2"], ["get_neighbors(m.solm,town.rivers)", "count(#0)"]),
    ("long", "Which rivers of Solm are the longest?", ["m.tay", "m.exe"], ["get_neighbors(m.solm,town.rivers)",
     "get_attributes(#0)", "argmax(#0,river.length)"]),
    ("short", "Which river of Arbent is the shortest?", ["m.lune"], ["get_neighbors(m.arbent,town.rivers)",
     "argmin(#0,river.length)"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def graph_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def iri(name: str) -> str:
        return f"<{NAMESPACE}{name}>"

    lines = [" ".join(map(iri, line.split())) + " ." for line in FACTS.split("\n") if line]
    decimal = "<http://www.w3.org/2001/XMLSchema#decimal>"
    lines += [f'{iri(river)} {iri("river.length")} "{value}"^^{decimal} .' for river, value in LENGTHS.items()]
    lines += [f"{iri(name)} {iri('type.property.expected_type')} {iri(kind)} ." for name, kind in TYPES.items()]
    path = tmp_path_factory.mktemp("graph") / "graph.nt"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def benchmark(graph_file: Path, tmp_path: Path) -> KnowledgeGraphQuestions:
    rows = [
        {
            "question": question,
            "qid": name,
            "source": "own",
            "entities": {"Arbent": "m.arbent", "Solm": "m.solm"},
            "actions": actions,
            "answer": [{"answer_type": "Entity", "answer_argument": answer} for answer in answers],
        }
        for name, question, answers, actions in QUESTIONS
    ]
    (tmp_path / "agentbench").mkdir()
    (tmp_path / "agentbench" / "std.json").write_text(json.dumps(rows))
    return agentbench_kg(Settings(str(tmp_path), options={"graph": str(graph_file)}))


def run(benchmark: Benchmark, item: Item, replies: Iterator[str]) -> tuple[dict[str, float], dict[str, Any], str]:
    """Scores, outcome and everything that the model was shown last."""
    episode = benchmark.open(item)
    shown = ""
    while (request := episode.ask()) is not None:
        shown = "\n".join(message["content"] for message in request.messages)
        episode.take(Reply(next(replies)))
    outcome = json.loads(json.dumps(episode.outcome()))
    return benchmark.score(item, outcome), outcome, shown


def gold(item: Item) -> Iterator[str]:
    made = -1
    for action in item.data["actions"]:
        made += not action.startswith(("get_relations", "get_attributes"))
        yield f"Thought: next.\nAction: {action}"
    yield f"Thought: that is it.\nFinal Answer: #{made}"


def test_gold_actions_reach_the_gold_answers(benchmark: KnowledgeGraphQuestions) -> None:
    for item in benchmark.items():
        scores, outcome, _ = run(benchmark, item, gold(item))
        assert scores == {"f1": 1.0, "exact_match": 1.0, "executed": 1.0, "failed_calls": 0.0}, (item.id, outcome)


def test_a_partly_right_answer_is_worth_its_f1(benchmark: KnowledgeGraphQuestions) -> None:
    both = next(item for item in benchmark.items() if item.id == "both")
    replies = iter(["Action: get_neighbors(Arbent, town.rivers)", "Final Answer: #0"])
    scores, outcome, shown = run(benchmark, both, replies)
    assert outcome["answer"] == ["m.lune", "m.tay"]
    assert scores["f1"] == pytest.approx(2 / 3)
    assert scores["exact_match"] == 0
    assert shown.endswith("Observation: variable #0, which are instances of geography.river")


@pytest.mark.parametrize(
    ("made", "gold_answer", "same"),
    [
        ("1234567", "1234568", False),
        ("1234567.25", "1234567.5", False),
        ("12345678901234567890", "12345678901234567891", False),
        ("0.30000000000000004", "0.3", False),
        ("90", "90.0", True),
        ("1.25E1", "12.50", True),
        ("2012-08-05T00:00:00Z", "2012-08-05", True),
        ("inf", "Infinity", False),
        ("m.0abc", "m.0abc", True),
        ("9" * 5000, "9" * 5000, True),
        ("9" * 5000, "8" * 5000, False),
    ],
)
def test_numbers_are_equal_with_all_their_digits(
    benchmark: KnowledgeGraphQuestions, made: str, gold_answer: str, same: bool
) -> None:
    item = Item("q", "q", "own", {"answers": [gold_answer]})
    found = benchmark.score(item, {"answer": [made], "failed_calls": 0})
    assert (found["f1"], found["exact_match"]) == (float(same), float(same))


@pytest.mark.parametrize(
    "garbage",
    ["", "get_neighbors(", "Final Answer: #99", "Final Answer: #abc", "\x00\ud7ff" * 50_000, "count((((" * 20_000,
     "Action: get_relations(Solm) } DROP GRAPH <x> #)"],
    ids=["empty", "open", "absent", "letters", "binary", "nested", "injected"],
)  # fmt: skip
def test_garbage_scores_nothing_and_ends(benchmark: KnowledgeGraphQuestions, garbage: str) -> None:
    scores, outcome, _ = run(benchmark, benchmark.items()[0], iter([garbage] * 20))
    assert scores["f1"] == 0
    assert scores["executed"] == 0
    assert outcome["rounds"] <= 15


def test_the_tools_list_and_refuse(graph_file: Path) -> None:
    graph = KnowledgeGraph(FileEndpoint(str(graph_file)), {"Solm": "m.solm"})
    assert graph.call("get_relations", ["Solm"]) == "[town.bridges, town.rivers]"
    assert graph.call("get_neighbors", ["Solm", "town.rivers"]) == (
        "variable #0, which are instances of geography.river"
    )
    assert graph.call("get_attributes", ["#0"]) == "[river.length]"
    graph.call("get_neighbors", ["Solm", "town.bridges"])
    for tool, arguments, sentence in [
        ("intersection", ["#0", "#1"], "not of the same type: geography.river and transport.bridge"),
        ("get_neighbors", ["Solm", "town.mayors"], "There is no relation town.mayors."),
        ("get_neighbors", ["Solm"], "takes 2 arguments, but got 1"),
        ("get_relations", ["Elsewhere"], "neither a variable nor an entity"),
        ("get_relations", ["#7"], "There is no variable #7 yet."),
        ("argmax", ["#0", "x } UNION { ?s ?p ?o"], "is no relation"),
    ]:
        with pytest.raises(Refused, match=sentence.replace("(", r"\(")):
            graph.call(tool, arguments)
    graph.call("count", ["#0"])
    with pytest.raises(Refused, match="#2 is a number"):
        graph.call("get_relations", ["#2"])


def test_an_endpoint_over_http(graph_file: Path) -> None:
    local = FileEndpoint(str(graph_file))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            rows = local.select(urllib.parse.parse_qs(body)["query"][0])
            bindings = [{name: {"type": "uri", "value": value} for name, value in row.items()} for row in rows]
            answer = json.dumps({"results": {"bindings": bindings}}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/sparql"
        graph = KnowledgeGraph(HttpEndpoint(url), {"Solm": "m.solm"})
        graph.call("get_neighbors", ["Solm", "town.rivers"])
        assert graph.values(0) == {"m.tay", "m.exe"}
        server.shutdown()
        thread.join()
    with pytest.raises(EnvironmentDied, match=r"The SPARQL endpoint http://127\.0\.0\.1"):
        graph.values(0)


def test_what_is_missing_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        agentbench_kg(Settings(str(tmp_path)))
    assert len(caught.value.missing) == 2
    assert "THUDM/AgentBench" in str(caught.value)
    assert "sparql_url" in str(caught.value)
