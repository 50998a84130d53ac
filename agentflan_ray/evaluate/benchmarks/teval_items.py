"""Items of T-Eval's six abilities, made by rules from other published sets. Not T-Eval.

Data: ``nestful/*-data.json`` with ``*-spec.json`` (IBM/NESTFUL, Apache-2.0), ``single-call/{apibank_l1,sealtool}.json``
(MadeAgents/Hammer, Apache-2.0; a list, or one object a line) and ``metatool`` with ``all_clean_data.csv``,
``plugin_des.json`` and ``big_tool_des.json`` (HowieHwong/MetaTool, MIT), each plain or compressed.

Truths are the published calls and tools. There are no published thoughts: the truth of a thought is the published
description of the tool to be called. What a tool returned is published where it succeeded; three kinds of failure are
written by rules, and a response that has nothing to do with the call is that of a tool of another kind.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentflan_ray.evaluate.benchmark import Item, Missing, Unavailable
from agentflan_ray.evaluate.data import find, read_text
from agentflan_ray.evaluate.prompts import read
from agentflan_ray.evaluate.teval_scores import load
from agentflan_ray.randomness import stable_hash, stable_random

PER_CASE = 150
"""Items of each case, drawn by a hash of their ids; T-Eval's subset has about as many."""

LISTED_TOOLS = 8
"""Tools listed with a plan: those that it needs, and others of the same set."""

LISTED_PLUGINS = 10
"""Tools to choose from, as in MetaTool's own second task."""

_NESTFUL = ("executable", "non-executable-glaive", "non-executable-sgd")
_PARAMETERS = ("parameters", "query_parameters", "path_parameters", "arguments")
_REVIEWS = ("A", "B", "C", "D", "E")


@dataclass(frozen=True)
class Task:
    """A published task: what is asked, with which tools, and the calls that do it."""

    id: str
    query: str
    tools: tuple[Mapping[str, Any], ...]
    calls: tuple[tuple[str, Mapping[str, Any]], ...]

    def tool(self, name: str) -> Mapping[str, Any]:
        """The listed tool of this name."""
        return next(tool for tool in self.tools if tool["name"] == name)


@dataclass(frozen=True)
class Returned:
    """A call of a published dialogue and what the tool returned."""

    id: str
    said: str
    name: str
    arguments: Mapping[str, Any]
    response: str


def open_items(data: str | None) -> list[Item]:
    """All items, in no order.

    Raises :class:`~agentflan_ray.evaluate.benchmark.Unavailable` where a file is missing.
    """
    asked = {
        **{f"nestful/{part}-{kind}.json": None for part in _NESTFUL for kind in ("data", "spec")},
        **{f"single-call/{part}.json": None for part in ("apibank_l1", "sealtool")},
        **{f"metatool/{part}": None for part in ("all_clean_data.csv", "plugin_des.json", "big_tool_des.json")},
    }
    found = {name: find(data, *(f"{name}{ending}" for ending in ("", ".gz", ".xz"))) for name in asked}
    if absent := [name for name, path in found.items() if path is None]:
        how = "Put them into the data folder; docs/evaluation.md names the repositories (MIT and Apache-2.0)."
        raise Unavailable("teval-open", [Missing(f"{', '.join(absent)} are not there.", how)])
    text = {name: read_text(path) for name, path in found.items() if path is not None}
    plans = [
        task
        for part in _NESTFUL
        for task in _nestful(part, _rows(text[f"nestful/{part}-data.json"]), _rows(text[f"nestful/{part}-spec.json"]))
    ]
    apibank = _rows(text["single-call/apibank_l1.json"])
    calls = [*_apibank(apibank), *_sealtool(_rows(text["single-call/sealtool.json"]))]
    plugins = {**json.loads(text["metatool/plugin_des.json"]), **json.loads(text["metatool/big_tool_des.json"])}
    queries = list(csv.DictReader(io.StringIO(text["metatool/all_clean_data.csv"])))
    made = [
        *_instruct(calls),
        *_plan(plans),
        *_reason(plans),
        *_first_call(plans),
        *_retrieve(queries, plugins),
        *_understand(calls),
        *_review(apibank),
    ]
    return _drawn(made)


def _instruct(tasks: Iterable[Task]) -> Iterator[Item]:
    """The call is spelt out; what counts is the form."""
    formats = json.loads(read("teval_open/formats.json"))
    for task in tasks:
        [(name, arguments)] = task.calls
        # T-Eval reads the string form's arguments as a Python literal, which true, false and null are not.
        only_json = any(value is None or isinstance(value, bool | list | dict) for value in arguments.values())
        form = "json" if only_json or stable_hash("form", task.id) % 2 else "string"
        template = stable_random("format", task.id).choice(formats[form])
        given = ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
        asked = f"Call {name} with {given}." if given else f"Call {name} without arguments."
        system = _system(f"instruct_{form}", [task.tool(name)], **template)
        data = {
            "messages": _messages(system, asked),
            "template": template,
            "gold": {"action": name, "args": arguments},
        }
        yield _item(f"instruct_{form}", task.id, name, data)


def _plan(tasks: Iterable[Task]) -> Iterator[Item]:
    for task in tasks:
        # The longest names first: where a name begins another one, the longer is the one that was written.
        apis = sorted((tool["name"] for tool in task.tools), key=lambda name: (-len(name), name))
        gold = [
            {"name": name, "id": place, "args": json.dumps(arguments, ensure_ascii=False)}
            for place, (name, arguments) in enumerate(task.calls)
        ]
        for case in ("plan_json", "plan_str"):
            data = {"messages": _messages(_system(case, task.tools), task.query), "apis": apis, "gold": gold}
            yield _item(case, task.id, task.id, data)


def _reason(tasks: Iterable[Task]) -> Iterator[Item]:
    """The next step after some that were done."""
    for task in tasks:
        done = stable_hash("steps done", task.id) % len(task.calls)
        lines = [f"{name}({json.dumps(arguments, ensure_ascii=False)})" for name, arguments in task.calls[:done]]
        asked = f"{task.query}\n\nCalls so far:\n" + ("\n".join(lines) or "none")
        gold = {"thought": task.tool(task.calls[done][0])["description"]}
        data = {"messages": _messages(_system("reason_str", task.tools), asked), "gold": gold}
        yield _item("reason_str", task.id, task.id, data)


def _first_call(tasks: Iterable[Task]) -> Iterator[Item]:
    case = "reason_retrieve_understand_json"
    for task in tasks:
        name, arguments = task.calls[0]
        gold = {"thought": task.tool(name)["description"], "name": name, "args": arguments}
        data = {"messages": _messages(_system(case, task.tools), task.query), "gold": gold}
        yield _item(case, task.id, task.id, data)


def _retrieve(queries: Sequence[Mapping[str, str]], plugins: Mapping[str, str]) -> Iterator[Item]:
    """At most two requests of each tool, so that the five that most requests are of do not decide."""
    seen: Counter[str] = Counter()
    names = sorted(plugins)
    for row in sorted(queries, key=lambda row: stable_hash("metatool", row["Query"], row["Tool"])):
        name = row["Tool"]
        seen[name] += 1
        if seen[name] > 2 or name not in plugins:
            continue
        random = stable_random("plugins", row["Query"])
        others = random.sample([other for other in names if other != name], LISTED_PLUGINS - 1)
        listed = random.sample([name, *others], LISTED_PLUGINS)
        tools = [{"name": each, "description": plugins[each], "parameters": {}} for each in listed]
        data = {
            "messages": _messages(_system("retrieve_str", tools), row["Query"]),
            "names": others,
            "gold": {"name": name},
        }
        yield _item("retrieve_str", f"{name}/{seen[name]}", name, data)


def _understand(tasks: Iterable[Task]) -> Iterator[Item]:
    """One argument, of those whose value the request holds word for word."""
    for task in tasks:
        [(name, arguments)] = task.calls
        held = {
            key: str(value)
            for key, value in arguments.items()
            if isinstance(value, str | int) and not isinstance(value, bool) and str(value) in task.query
        }
        values = {key: value for key, value in held.items() if value.strip("'").strip('"') == value != ""}
        if not values:
            continue
        argument = stable_random("argument", task.id).choice(sorted(values))
        system = _system("understand_str", [task.tool(name)], name=name, argument=argument)
        data = {"messages": _messages(system, task.query), "gold": {"args": values[argument]}}
        yield _item("understand_str", task.id, name, data)


def _review(rows: Sequence[Mapping[str, Any]]) -> Iterator[Item]:
    """One kind of result for each call in turn; a failed input is the call itself without one argument."""
    texts = json.loads(read("teval_open/responses.json"))
    returned = _returned(rows)
    foreign = _foreign(returned, [{tool["name"] for tool in row["tools"]} for row in rows])
    ordered = sorted(returned, key=lambda each: stable_hash("review", each.id))
    for place, each in enumerate(ordered):
        answer, random = _REVIEWS[place % len(_REVIEWS)], stable_random("response", each.id)
        arguments, response = dict(each.arguments), each.response
        if answer == "B":
            response = random.choice(texts["internal"])
        elif answer == "C":
            argument = random.choice(sorted(arguments))
            del arguments[argument]
            response = random.choice(texts["input"]).format(argument=argument)
        elif answer == "D":
            if not foreign[each.name]:
                continue
            response = random.choice(foreign[each.name])
        elif answer == "E":
            response = random.choice(texts["unable"])
        call = json.dumps({"name": each.name, "args": arguments}, ensure_ascii=False)
        asked = f"{each.said}\n\nCall: {call}\nReturned: {response}"
        system = read("teval_open/review_str.txt").strip()
        data = {"messages": _messages(system, asked), "gold": {"answer": answer}}
        yield _item("review_str", each.id, each.name, data)


def _foreign(returned: Iterable[Returned], listed: Iterable[set[str]]) -> dict[str, list[str]]:
    """By tool, the responses of others that it could not have given itself.

    They say more than one thing, since ``success``, a number or ``{'token': …}`` could come from any tool. The tool
    that gave them has no word in common with it, of its name, of its arguments and of its responses' keys (of their
    kind where they have none), and no dialogue lists both: such are of one domain, as health data and diseases are.
    """
    together: dict[str, set[str]] = defaultdict(set)
    for names in listed:
        for name in names:
            together[name] |= names
    words: dict[str, set[str]] = defaultdict(set)
    told: dict[str, set[str]] = defaultdict(set)
    for each in returned:
        parts = list(_parts(_value(each.response)))
        keys = [str(key) for part in parts if isinstance(part, dict) for key in part] or [type(parts[0]).__name__]
        words[each.name].update(_words(each.name, *each.arguments, *keys))
        if sum(not isinstance(part, dict | list) for part in parts) > 1:
            told[each.name].add(each.response)
    return {
        name: sorted(
            response for other in told.keys() - together[name] if not words[other] & own for response in told[other]
        )
        for name, own in words.items()
    }


def _parts(value: Any) -> Iterator[Any]:
    """A value and all that is nested in it."""
    yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts(each)


def _words(*names: str) -> Iterator[str]:
    """The words of names such as ``QueryStock`` and ``stock_code``, small."""
    for name in names:
        yield from (word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name))


def _nestful(part: str, rows: Sequence[Mapping[str, Any]], spec: Sequence[Mapping[str, Any]]) -> Iterator[Task]:
    """Tasks whose tools are all described; the last entry of each says what is shown and is no call."""
    tools = {tool["name"]: _tool(tool) for tool in spec}
    for number, row in enumerate(rows):
        calls = tuple((call["name"], call["arguments"]) for call in row["output"] if call["name"] != "var_result")
        needed = list(dict.fromkeys(name for name, _ in calls))
        if not calls or any(name not in tools for name in needed):
            continue
        name = f"nestful-{part}/{number}"
        random = stable_random("tools", name)
        spare = sorted(tools.keys() - set(needed))
        others = random.sample(spare, min(max(LISTED_TOOLS - len(needed), 0), len(spare)))
        listed = random.sample([*needed, *others], len(needed) + len(others))
        yield Task(name, row["input"], tuple(tools[each] for each in listed), calls)


def _apibank(rows: Sequence[Mapping[str, Any]]) -> Iterator[Task]:
    for number, row in enumerate(rows):
        tools = tuple(_tool(tool) for tool in row["tools"])
        [call] = row["answers"]
        said = [turn for turn in row["query"] if turn["role"] in ("user", "agent")]
        if any(tool["name"] == call["name"] for tool in tools):
            yield Task(f"apibank/{number}", _dialogue(said), tools, ((call["name"], call["arguments"]),))


def _sealtool(rows: Sequence[Mapping[str, Any]]) -> Iterator[Task]:
    for number, row in enumerate(rows):
        [call] = row["answers"]
        tools = tuple(_tool(tool) for tool in row["tools"])
        yield Task(f"sealtool/{number}", row["query"], tools, ((call["tool"], call["parameters"]),))


def _returned(rows: Sequence[Mapping[str, Any]]) -> list[Returned]:
    """Calls of API-Bank's dialogues with what came back, each once, without failures and calls without arguments.

    Its tools return values. A sentence says that the tool could not do it ("The question is too difficult to answer.").
    """
    found: dict[str, Returned] = {}
    for row in rows:
        turns = row["query"]
        for place in range(len(turns) - 1):
            if turns[place]["role"] != "assistant" or turns[place + 1]["role"] != "tool":
                continue
            try:
                [call] = json.loads(turns[place]["content"].strip().strip("`"))
            except ValueError:
                continue
            response = _without_cue(turns[place + 1]["content"])
            if not call["arguments"] or _value(response) is None:
                continue
            if any(word in response.lower() for word in ("fail", "error", "none", "invalid")):
                continue
            key = json.dumps([call, response])
            said = _dialogue([turn for turn in turns[:place] if turn["role"] in ("user", "agent")])
            found.setdefault(
                key, Returned(f"apibank/{stable_hash(key):x}", said, call["name"], call["arguments"], response)
            )
    return list(found.values())


def _dialogue(turns: Iterable[Mapping[str, str]]) -> str:
    speakers = {"user": "User", "agent": "Assistant"}
    return "\n".join(f"{speakers[turn['role']]}: {_without_cue(turn['content'])}" for turn in turns)


def _without_cue(text: str) -> str:
    """Some turns of API-Bank end with the words that asked its annotators for the next call."""
    return text.partition("Generate API Request:")[0].strip()


def _value(response: str) -> Any:
    """A literal, or one word as it stands; None for text of several words."""
    try:
        return load(response)
    except ValueError:
        return response if len(response.split()) == 1 else None


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Name, description and parameters, each with its type and description."""
    parameters: dict[str, Any] = {}
    for key in _PARAMETERS:
        if isinstance(tool.get(key), Mapping):
            parameters.update(tool[key])
    return {
        "name": tool["name"],
        "description": str(tool.get("description", "")),
        "parameters": {
            name: {key: value[key] for key in ("type", "description", "required") if key in value}
            for name, value in parameters.items()
            if isinstance(value, Mapping)
        },
    }


def _system(case: str, tools: Iterable[Mapping[str, Any]], **values: str) -> str:
    lines = [f"Tool {tool['name']}: {_described(tool)}" for tool in tools]
    return read(f"teval_open/{case}.txt").strip().format(tools="\n".join(lines), **values)


def _described(tool: Mapping[str, Any]) -> str:
    text = _plain(tool["description"])
    if tool["parameters"]:
        text += f" Arguments: {json.dumps(tool['parameters'], ensure_ascii=False)}"
    return text


def _plain(description: str) -> str:
    """Some of MetaTool's descriptions are Python lists of sentences, written as text."""
    if description.startswith("["):
        try:
            parts = ast.literal_eval(description)
        except (ValueError, SyntaxError):
            return description
        return " ".join(dict.fromkeys(str(part) for part in parts))
    return description


def _messages(system: str, user: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _item(case: str, key: str, group: str, data: Mapping[str, Any]) -> Item:
    return Item(f"{case}/{key}", group, case, data)


def _drawn(items: Iterable[Item]) -> list[Item]:
    kept: Counter[str] = Counter()
    drawn = []
    for item in sorted(items, key=lambda item: stable_hash("drawn", item.id)):
        kept[item.case] += 1
        if kept[item.case] <= PER_CASE:
            drawn.append(item)
    return drawn


def _rows(text: str) -> list[dict[str, Any]]:
    """A JSON list, or one object a line."""
    if text.lstrip().startswith("["):
        rows = json.loads(text)
        return list(rows)
    return [json.loads(line) for line in text.splitlines() if line.strip()]
