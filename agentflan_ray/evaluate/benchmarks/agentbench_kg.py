"""AgentBench's knowledge graph questions (arXiv 2308.03688, section 3 and appendix; task files of THUDM/AgentBench).

Needs the questions (``agentbench/std.json`` or ``agentbench/std.json.gz``, Apache-2.0) and Freebase behind a SPARQL
endpoint (``sparql_url``), or any graph of its layout in a file (``graph``).
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from agentflan_ray import storage
from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.data import find, read_text
from agentflan_ray.evaluate.knowledge_graph import Endpoint, FileEndpoint, HttpEndpoint, KnowledgeGraph, Refused
from agentflan_ray.evaluate.prompts import read
from agentflan_ray.randomness import stable_hash

ROUNDS = 15
REPLY_TOKENS = 256
OBSERVATION_CHARACTERS = 3000
"""Longer lists of relations are cut: some entities of Freebase have hundreds."""

_ACTION = re.compile(
    r"\b(get_relations|get_neighbors|intersection|get_attributes|argmax|argmin|count)\(([^()\n]{0,300})\)"
)
_ANSWER = re.compile(r"Final Answer:\s*#(\d{1,4})")


@dataclass
class _Question:
    """A question being answered."""

    item: Item
    graph: KnowledgeGraph
    messages: list[dict[str, str]]
    rounds: int = 0
    answer: list[str] | None = None
    failed_calls: int = 0
    done: bool = False

    def ask(self) -> Request | None:
        if self.done or self.rounds == ROUNDS:
            return None
        return Request(tuple(self.messages), REPLY_TOKENS, stop=("\nObservation:",))

    def take(self, reply: Reply) -> None:
        self.rounds += 1
        self.done = reply.finish == "context"
        self.messages.append({"role": "assistant", "content": reply.text})
        final = _ANSWER.search(reply.text)
        action = _ACTION.search(reply.text)
        # Only what stands first counts: a model that writes on has made up the observation.
        if final and not (action and action.start() < final.start()):
            number = int(final[1])
            if number < len(self.graph.variables):
                self.answer = sorted(self.graph.values(number))
            self.done = True
            return
        self.messages.append({"role": "user", "content": self._observe(action)})

    def _observe(self, action: re.Match[str] | None) -> str:
        if action is None:
            return "There is no call of a tool in this. Write one action, or the final answer."
        tool, arguments = action[1], [part.strip() for part in action[2].split(",")]
        try:
            return f"Observation: {self.graph.call(tool, arguments)}"[:OBSERVATION_CHARACTERS]
        except Refused as refused:
            self.failed_calls += 1
            return f"{action[0]} cannot be executed. {refused}"

    def outcome(self) -> dict[str, Any]:
        return {"answer": self.answer, "rounds": self.rounds, "failed_calls": self.failed_calls}

    def close(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True)
class KnowledgeGraphQuestions:
    """The benchmark. ``endpoint_name`` says where the graph lies."""

    questions: tuple[Item, ...]
    endpoint: Endpoint
    endpoint_name: str
    name: str = "agentbench-kg"
    metrics: Sequence[Metric] = (
        Metric("f1", scale=100),
        Metric("exact_match", scale=100),
        Metric("executed", scale=100),
        Metric("failed_calls", better="low"),
    )
    identity: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        prompts = [read("agentbench_kg/instruction.txt"), read("agentbench_kg/example.json")]
        object.__setattr__(
            self,
            "identity",
            {
                "graph": self.endpoint_name,
                "questions": storage.fingerprint([dict(item.data) for item in self.questions]),
                "prompt": "agentbench_kg/instruction.txt with one example",
                "prompts": storage.fingerprint(prompts),
                "rounds": ROUNDS,
                "reply_tokens": REPLY_TOKENS,
            },
        )

    @property
    def protocol(self) -> str:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return (
            f"AgentBench knowledge graph, {len(self.questions)} questions, seven tools over {self.endpoint_name}, at "
            f"most {ROUNDS} rounds, one example of our own making and our own wording of the instruction, F1 of the "
            "answers' entities; relations come from the graph itself, not from AgentBench's list of them."
        )

    def items(self) -> Sequence[Item]:
        """Questions in the order of a hash of their ids."""
        return self.questions

    def open(self, item: Item) -> _Question:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        entities: dict[str, str] = dict(item.data["entities"])
        question = f"Question: {item.data['question']}\nEntities: [{', '.join(entities)}]"
        messages = [
            {"role": "system", "content": read("agentbench_kg/instruction.txt").strip()},
            *json.loads(read("agentbench_kg/example.json")),
            {"role": "user", "content": question},
        ]
        return _Question(item, KnowledgeGraph(self.endpoint, entities), messages)

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """F1 and exact match of the set of answers; without an answer both are 0."""
        gold = {_plain(value) for value in item.data["answers"]}
        made = {_plain(value) for value in outcome["answer"] or ()}
        shared = len(gold & made)
        return {
            "f1": 2 * shared / (len(gold) + len(made)) if shared else 0.0,
            "exact_match": float(made == gold),
            "executed": float(outcome["answer"] is not None),
            "failed_calls": float(outcome["failed_calls"]),
        }


def agentbench_kg(settings: Settings) -> KnowledgeGraphQuestions:
    """AgentBench's knowledge graph task; see the module."""
    missing = []
    file = find(settings.data, "agentbench/std.json.gz", "agentbench/std.json", "knowledgegraph/std.json")
    if file is None:
        missing.append(
            Missing(
                "The questions (agentbench/std.json) are not in the data folder.",
                "They are data/knowledgegraph/std.json of github.com/THUDM/AgentBench.",
            )
        )
    url, path = settings.options.get("sparql_url"), settings.options.get("graph")
    if url is None and path is None:
        missing.append(
            Missing(
                "There is no knowledge graph.",
                "Give the SPARQL endpoint of a Freebase server with --option sparql_url=http://HOST:8890/sparql "
                "(github.com/dki-lab/Freebase-Setup), or a file of triples with --option graph=FILE.nt.",
            )
        )
    if path is not None and importlib.util.find_spec("pyoxigraph") is None:
        missing.append(Missing("A graph in a file needs pyoxigraph.", "pip install 'agentflan-ray[evaluate]'."))
    if missing or file is None:
        raise Unavailable("agentbench-kg", missing)
    endpoint = HttpEndpoint(url) if url is not None else FileEndpoint(str(path))
    return KnowledgeGraphQuestions(tuple(_items(json.loads(read_text(file)))), endpoint, url or str(path))


def _items(rows: list[dict[str, Any]]) -> list[Item]:
    items = [
        Item(
            id=str(row["qid"]),
            group=str(row["qid"]),
            case=str(row["source"]),
            data={
                "question": row["question"],
                "entities": row["entities"],
                "answers": [str(each["answer_argument"]) for each in row["answer"]],
                "actions": row["actions"],
            },
        )
        for row in rows
    ]
    return sorted(items, key=lambda item: stable_hash("agentbench-kg", item.id))


def _plain(value: str) -> str | int | float:
    """A number as one, a date without its time: endpoints write them differently.

    All digits count. An integer and a number with a fraction of zeros compare equal, as numbers do.
    """
    text = re.sub(r"(?:T00:00:00)?(?:Z|\+00:00)?$", "", str(value).strip())
    with suppress(ValueError):
        return int(text)
    with suppress(ValueError):
        number = float(text)
        return number if math.isfinite(number) else text
    return text
