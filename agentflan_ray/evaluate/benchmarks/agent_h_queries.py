"""Queries for Agent-H from published sets and the embedded toolbox, each for one cell of the paper's grid.

A query counts once, whatever sets it stands in: When2Call is made of BFCL's live sets, and MetaTool's second task
repeats queries of its first. The first set that has it keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentflan_ray.evaluate import bfcl_package
from agentflan_ray.evaluate.benchmark import Missing, Settings
from agentflan_ray.evaluate.benchmarks import bfcl, toolbench_choice, when2call
from agentflan_ray.evaluate.benchmarks.metatool import listed_tools
from agentflan_ray.evaluate.data import find, read_text
from agentflan_ray.evaluate.hallucination import kind_of
from agentflan_ray.evaluate.items import select_items
from agentflan_ray.evaluate.tool_schemas import parsed_tools, schema_of, tool_of
from agentflan_ray.forms import tool_list
from agentflan_ray.randomness import stable_hash
from agentflan_ray.trajectory import Tool

MAX_TOOL_TEXT = 6000
"""Characters of a tool list. Longer ones, of BFCL's live sets, leave no room for a reply in a context of 2,048."""

_CHATS = ("chat", "chat_with_tools", "chat_format")
_TOOLBOX_ITEMS = 48
Turn = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Query:
    """A query for one cell. ``right``: names of which the first call must be one (any listed one where empty)."""

    source: str
    id: str
    group: str
    case: str
    messages: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    right: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What it has in common with the same query in another set."""
        return " ".join(self.messages[-1]["content"].casefold().split())


def _user(text: str) -> tuple[Turn, ...]:
    return ({"role": "user", "content": text},)


def _when2call(settings: Settings) -> Iterator[Query] | None:
    records = when2call.load(settings.data)
    return None if records is None else map(_of_when2call, records)


def _of_when2call(record: Mapping[str, Any]) -> Query:
    tools = when2call.tools_of(record)
    case = {"tool_call": "tool", "request_for_info": "missing_argument"}.get(
        record["correct_answer"], "irrelevant_tool"
    )
    case = case if tools else "no_tool_request"
    right = (json.loads(record["target_tool"])["name"],) if case == "tool" else ()
    return Query("when2call", record["uuid"], when2call.group_of(record), case, _user(record["question"]), tools, right)


def _bfcl(_: Settings) -> Iterator[Query] | None:
    return _of_bfcl() if bfcl_package.is_installed() else None


def _of_bfcl() -> Iterator[Query]:
    for category in (*bfcl.IRRELEVANCE, "live_relevance", "simple_python", *bfcl.NON_LIVE, *bfcl.LIVE):
        gold = bfcl_package.gold(category)
        for entry in bfcl_package.entries(category):
            tools = tuple(map(tool_of, entry["function"]))
            case = "irrelevant_tool" if category in bfcl.IRRELEVANCE else "tool"
            right = tuple(dict.fromkeys(name for call in gold.get(entry["id"], ()) for name in call))
            yield Query(
                "bfcl",
                entry["id"],
                bfcl.group_of(entry),
                case if tools else "no_tool_request",
                tuple(entry["question"][0]),
                tools,
                right,
            )


def _metatool(settings: Settings) -> Iterator[Query] | None:
    need = find(settings.data, "metatool/Task1.json", "metatool/Task1.json.gz")
    select = find(settings.data, "metatool/Task2-Subtask3.json", "metatool/Task2-Subtask3.json.gz")
    return _of_metatool(need, select) if need and select else None


def _of_metatool(need: Path, select: Path) -> Iterator[Query]:
    for number, record in enumerate(json.loads(read_text(select))):
        name = f"task2-{number}"
        tools = tuple(Tool(name, text.strip("[]'\" ")) for name, text in listed_tools(record["action_prompt"]))
        yield Query("metatool", name, f"task2-{record['tool']}", "irrelevant_tool", _user(record["query"]), tools)
    for number, record in enumerate(json.loads(read_text(need))):
        name = f"task1-{number}"
        case = "no_tool_request" if record["label"] == "positive" else _chat_case(name)
        group = f"task1-{record.get('tool', number)}"
        yield Query("metatool", name, group, case, _user(record["query"]))


def _toolbench(settings: Settings) -> Iterator[Query] | None:
    records = toolbench_choice.load(settings.data)
    return None if records is None else _of_toolbench(records)


def _of_toolbench(records: list[tuple[str, dict[str, Any]]]) -> Iterator[Query]:
    for group, record in records:
        name = f"{group}-{record['query_id']}"
        tools, relevant = toolbench_choice.tools_and_relevant(record)
        if stable_hash("agent-h toolbench", name) % 3 == 0:
            yield Query("stabletoolbench", name, name, "no_tool_request", _user(record["query"]))
        else:
            yield Query("stabletoolbench", name, name, "tool", _user(record["query"]), tools, relevant)


def _single_calls(settings: Settings) -> Iterator[Query] | None:
    paths = {
        name: find(settings.data, f"single-call/{name}.json", f"single-call/{name}.json.gz")
        for name in ("toolalpaca", "sealtool")
    }
    return _of_single_calls({name: path for name, path in paths.items() if path}) if all(paths.values()) else None


def _of_single_calls(paths: Mapping[str, Path]) -> Iterator[Query]:
    for name, path in paths.items():
        for number, record in enumerate(json.loads(read_text(path))):
            # The listing of output formats that ToolAlpaca appends is no tool.
            tools = tuple(_flat_tool(tool) for tool in record["tools"] if tool["name"] != "components")
            right = tuple(dict.fromkeys(answer.get("name", answer.get("tool")) for answer in record["answers"]))
            yield Query(name, str(number), str(number), "tool", _user(record["query"]), tools, right)


def _flat_tool(tool: Mapping[str, Any]) -> Tool:
    """A tool whose parameters are ``{name: {type, description, required}}``."""
    given: Mapping[str, Any] = tool.get("parameters") or {}
    properties = {
        name: schema_of({key: value for key, value in schema.items() if key != "required"})
        for name, schema in given.items()
    }
    required = tool.get("required") or [name for name, schema in given.items() if schema.get("required") is True]
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return Tool(tool["name"], tool.get("description") or "", schema)


def _chats(settings: Settings) -> Iterator[Query] | None:
    names = ("question", "vicuna_bench-question", "seed_tasks", "user_oriented_instructions")
    paths = {name: find(settings.data, f"chat/{name}.jsonl", f"chat/{name}.jsonl.gz") for name in names}
    return _of_chats({name: path for name, path in paths.items() if path}) if all(paths.values()) else None


def _of_chats(paths: Mapping[str, Path]) -> Iterator[Query]:
    sources = {"question": "mt-bench", "vicuna_bench-question": "vicuna"}
    for file, path in paths.items():
        for number, line in enumerate(filter(str.strip, read_text(path).splitlines())):
            record = json.loads(line)
            if "turns" in record:
                text = record["turns"][0]
            else:
                given = record["instances"][0]["input"].strip()
                text = record["instruction"].strip() + (f"\n\n{given}" if given else "")
            name = f"{file}-{number}"
            yield Query(sources.get(file, "self-instruct"), name, name, _chat_case(name), _user(text))


def _glaive(settings: Settings) -> Iterator[Query] | None:
    place = settings.options.get("glaive")
    return None if place is None else _of_glaive(Path(place))


def _of_glaive(path: Path) -> Iterator[Query]:
    """Records as LLaMA-Factory writes them; the first turn alone, its case by what the record does next."""
    for number, record in enumerate(json.loads(read_text(path))):
        turns = record["conversations"]
        tools = parsed_tools(record.get("tools") or "")
        if len(turns) < 2 or turns[0]["from"] != "human":
            continue
        calls = [turn["value"] for turn in turns if turn["from"] == "function_call"]
        right: tuple[str, ...] = ()
        if turns[1]["from"] == "function_call":
            called = json.loads(calls[0])
            case, right = "tool", (called["name"],) if isinstance(called, dict) else ()
        elif not tools:
            case = "chat"
        elif calls:
            case = "missing_argument"
        else:
            case = "irrelevant_tool" if kind_of(turns[1]["value"]) == "refuse" else "chat_with_tools"
        yield Query("glaive", str(number), str(number), case, _user(turns[0]["value"]), tools, right)


def _toolbox(_: Settings) -> Iterator[Query]:
    cases = ("tool", "no_tool_request", "irrelevant_tool", "chat_with_tools", "missing_argument", "chat")
    for item in select_items("judge", dict.fromkeys(cases, _TOOLBOX_ITEMS)):
        right = tuple(call.name for call in item.gold_calls[:1])
        yield Query("toolbox", item.id, item.group, item.case, _user(item.query), item.tools, right)


_PUBLISHED = "Lay it out as docs/evaluation.md says, below the data folder."
SOURCES: Mapping[str, tuple[Callable[[Settings], Iterator[Query] | None], Missing]] = {
    "when2call": (_when2call, Missing("When2Call (when2call/) is not there.", _PUBLISHED)),
    "bfcl": (_bfcl, bfcl_package.MISSING),
    "metatool": (_metatool, Missing("MetaTool (metatool/) is not there.", _PUBLISHED)),
    "stabletoolbench": (_toolbench, Missing("StableToolBench (stabletoolbench/) is not there.", _PUBLISHED)),
    "single-call": (_single_calls, Missing("ToolAlpaca and Seal-Tools (single-call/) are not there.", _PUBLISHED)),
    "chat": (_chats, Missing("MT-bench, Vicuna and self-instruct (chat/) are not there.", _PUBLISHED)),
    "glaive": (_glaive, Missing("No glaive file is named.", "Name one by --option glaive=FILE.")),
    "toolbox": (_toolbox, Missing("", "")),
}
"""In order of precedence for a query that several have."""


def absent_sources(settings: Settings) -> list[str]:
    """Names of the sources that are not there."""
    return [name for name, (read, _) in SOURCES.items() if read(settings) is None]


def queries(settings: Settings) -> list[Query]:
    """Every query at hand, each once."""
    found: dict[str, Query] = {}
    for read, _ in SOURCES.values():
        for query in read(settings) or ():
            # Six records of ToolAlpaca want a tool that they do not list.
            is_whole = query.key and set(query.right) <= {tool.name for tool in query.tools}
            if is_whole and len(tool_list(query.tools)) <= MAX_TOOL_TEXT:
                found.setdefault(query.key, query)
    return _with_lists(list(found.values()))


def _chat_case(name: str) -> str:
    return _CHATS[stable_hash("agent-h chat", name) % len(_CHATS)]


def _with_lists(found: list[Query]) -> list[Query]:
    """Chat with tools gets the list of another query, drawn by a hash; there the tools are those of a real request."""
    lists = [query.tools for query in found if query.case == "tool" and 2 <= len(query.tools) <= 8]
    return [
        replace(query, tools=lists[stable_hash("agent-h list", query.source, query.id) % len(lists)])
        if query.case == "chat_with_tools" and not query.tools
        else query
        for query in found
    ]
