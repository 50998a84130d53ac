"""Choice of tools on StableToolBench's solvable queries: the first turn only, against the APIs that are relevant.

Guo et al. 2024, "StableToolBench", whose 765 queries come from ToolBench (Qin et al. 2023). Its pass rate needs a
server that plays the APIs and a model that judges; which APIs a model turns to first needs neither.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, OneRequest, Settings, Unavailable
from agentflan_ray.evaluate.calls import FoundCall, read_calls
from agentflan_ray.evaluate.data import find, read_text
from agentflan_ray.evaluate.hallucination import kind_of
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.tool_prompts import ask, form_of
from agentflan_ray.evaluate.tool_schemas import schema_of, tools_from_json, tools_to_json
from agentflan_ray.storage import fingerprint
from agentflan_ray.trajectory import Tool

GROUPS = ("G1_instruction", "G1_category", "G1_tool", "G2_instruction", "G2_category", "G3_instruction")


@dataclass(frozen=True, slots=True)
class ChoiceProtocol:
    """Literals."""

    prompt: str
    max_new_tokens: int = 256


@dataclass(frozen=True)
class ToolBenchChoice:
    """The benchmark ``toolbench-choice``."""

    literals: ChoiceProtocol
    records: Sequence[tuple[str, Mapping[str, Any]]]
    data_fingerprint: str
    name: str = "toolbench-choice"
    metrics: Sequence[Metric] = field(default_factory=lambda: _metrics())

    @property
    def protocol(self) -> str:
        """What is asked and how it is scored."""
        return (
            f"StableToolBench, {len(self.records)} solvable queries of six groups with their API lists, prompt "
            f"{self.literals.prompt}, first reply only (at most {self.literals.max_new_tokens} tokens): is the first "
            "API called one of the relevant ones; a listed API drawn by chance is in 57 % of cases, as lists are "
            "short. No API is run and nothing is judged by a model, so that these numbers are no pass rates."
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        """Literals and data."""
        return {"data": self.data_fingerprint, **asdict(self.literals)}

    def items(self) -> Sequence[Item]:
        """All queries, every case in even shares."""
        found = [_item(group, record) for group, record in self.records]
        return in_fair_order(found)

    def open(self, item: Item) -> OneRequest:
        """One request."""
        messages = [{"role": "user", "content": item.data["query"]}]
        return OneRequest(
            ask(self.literals.prompt, tools_from_json(item.data["tools"]), messages, self.literals.max_new_tokens)
        )

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """``hit``: the first call is of a relevant API. Shares of calls are absent where there is none."""
        tools = {tool.name: tool for tool in tools_from_json(item.data["tools"])}
        relevant = set(item.data["relevant"])
        calls = read_calls(outcome["reply"], tools)
        called = [call.name for call in calls]
        scores = {
            "hit": float(bool(called) and called[0] in relevant),
            "recall": len(relevant & set(called)) / len(relevant),
            "called": float(bool(called)),
            "gave_up": float(kind_of(outcome["reply"], tools) == "refuse"),
        }
        if called:
            scores["precision"] = sum(name in relevant for name in called) / len(called)
            scores["invented"] = sum(name not in tools for name in called) / len(called)
            scores["valid_arguments"] = sum(are_valid(call, tools) for call in calls) / len(calls)
        return scores


def toolbench_choice(settings: Settings) -> ToolBenchChoice:
    """Raises :class:`~agentflan_ray.evaluate.benchmark.Unavailable` without the data or for an unknown prompt."""
    prompt = form_of("toolbench-choice", settings.prompt, "react")
    records = load(settings.data)
    if records is None:
        raise Unavailable(
            "toolbench-choice",
            [
                Missing(
                    "There is no stabletoolbench/G1_instruction.json and so on below the data folder.",
                    "Take solvable_queries/test_instruction of github.com/THUNLP-MT/StableToolBench (Apache-2.0).",
                )
            ],
        )
    return ToolBenchChoice(ChoiceProtocol(prompt), records, fingerprint(records))


def load(data: str | None) -> list[tuple[str, dict[str, Any]]] | None:
    """Group and record of every query as published; None where a group's file is not there."""
    paths = [find(data, f"stabletoolbench/{group}.json", f"stabletoolbench/{group}.json.gz") for group in GROUPS]
    if not all(paths):
        return None
    return [
        (group, record)
        for group, path in zip(GROUPS, paths, strict=True)
        if path is not None
        for record in json.loads(read_text(path))
    ]


def tools_and_relevant(record: Mapping[str, Any]) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """The listed APIs, named ``api_for_tool`` as ToolBench names them, and the names of the relevant ones."""
    names = _distinct(f"{api['api_name']}_for_{api['tool_name']}" for api in record["api_list"])
    tools = []
    relevant = []
    wanted = {tuple(pair) for pair in record["relevant APIs"]}
    for name, api in zip(names, record["api_list"], strict=True):
        required, optional = api["required_parameters"], api["optional_parameters"]
        parameters = {
            "type": "object",
            "properties": {
                each["name"]: {**schema_of({"type": each["type"]}), "description": each["description"]}
                for each in [*required, *optional]
            },
            "required": [each["name"] for each in required],
        }
        tools.append(Tool(name, " ".join((api["api_description"] or "").split())[:300], parameters))
        if (api["tool_name"], api["api_name"]) in wanted:
            relevant.append(name)
    return tuple(tools), tuple(relevant)


def are_valid(call: FoundCall, tools: Mapping[str, Tool]) -> bool:
    """Whether a call is of a listed tool, gives every required argument, and none that the tool does not have."""
    tool = tools.get(call.name)
    return (
        tool is not None
        and call.arguments is not None
        and set(tool.required) <= call.arguments.keys()
        and call.arguments.keys() <= tool.properties.keys()
    )


def _item(group: str, record: Mapping[str, Any]) -> Item:
    tools, relevant = tools_and_relevant(record)
    # Queries about the same tool set were written together.
    cluster = "+".join(sorted({api["tool_name"] for api in record["api_list"]}))
    data = {"query": record["query"], "tools": tools_to_json(tools), "relevant": list(relevant)}
    return Item(f"{group}-{record['query_id']}", cluster, group, data)


def _distinct(names: Iterable[str]) -> list[str]:
    """Names as identifiers, numbered where two are the same."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:64]
        plain = f"api_{plain}" if plain[:1].isdigit() else plain
        seen[plain] = seen.get(plain, 0) + 1
        distinct.append(plain if seen[plain] == 1 else f"{plain}_{seen[plain]}")
    return distinct


def _metrics() -> tuple[Metric, ...]:
    return (
        Metric("hit", by_case=True, scale=100),
        Metric("precision", scale=100),
        Metric("recall", scale=100),
        Metric("valid_arguments", scale=100),
        Metric("invented", better="low", scale=100),
        Metric("called", scale=100),
        Metric("gave_up", better="low", scale=100),
    )
