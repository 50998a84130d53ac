"""MetaTool: whether a tool is needed, and which one (Huang et al. 2024, "MetaTool Benchmark").

Task 1 asks whether a query needs a tool. Of task 2 the third subtask is published with its data: the right tool has
been taken out of the list, so that "None" is right. A model that always says so would score 100, hence each such list
is also asked with the right tool put back in, in place of one of the ten.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, OneRequest, Request, Settings, Unavailable
from agentflan_ray.evaluate.calls import MAX_CHARACTERS
from agentflan_ray.evaluate.data import find, read_text
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.summary import Combined
from agentflan_ray.randomness import stable_hash
from agentflan_ray.storage import fingerprint

_HOW = "Take the folder dataset/ of github.com/HowieHwong/MetaTool (MIT) as metatool/ of the data folder."
_LISTED = re.compile(r"^(\d+)\. tool name: (.*?), tool description: (.*)$", re.MULTILINE)
_YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_NONE = re.compile(r"\bnone\b|\bno (?:suitable |applicable |appropriate |such )?tool\b", re.IGNORECASE)
_OPENING = 300
"""Characters of a reply in which the verdict stands; an explanation may follow and name anything."""


@dataclass(frozen=True, slots=True)
class MetaToolProtocol:
    """Literals."""

    task: str
    max_new_tokens: int = 64


@dataclass(frozen=True)
class MetaTool:
    """The benchmarks ``metatool-need`` (task 1) and ``metatool-select`` (task 2)."""

    literals: MetaToolProtocol
    found: Sequence[Item]
    data_fingerprint: str
    metrics: Sequence[Metric]

    @property
    def name(self) -> str:
        """``metatool-need`` or ``metatool-select``."""
        return f"metatool-{self.literals.task}"

    @property
    def protocol(self) -> str:
        """What is asked and how it is scored."""
        what = {
            "need": "MetaTool task 1: does the query need a tool, yes or no",
            "select": "MetaTool task 2, subtask 3 (ten tools listed, the right one left out, truth None) and, made "
            "from it, the same list with the right tool in it",
        }[self.literals.task]
        return (
            f"{what}; the published prompt with its five examples; one greedy reply of at most "
            f"{self.literals.max_new_tokens} tokens, its opening read."
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        """Literals and data."""
        return {"data": self.data_fingerprint, **asdict(self.literals)}

    def items(self) -> Sequence[Item]:
        """All items, every case in even shares."""
        return in_fair_order(self.found)

    def open(self, item: Item) -> OneRequest:
        """One request, the published prompt as the user's turn."""
        message = {"role": "user", "content": item.data["prompt"]}
        return OneRequest(Request((message,), self.literals.max_new_tokens))

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """``accuracy``, and ``unread`` where the reply holds no verdict."""
        reply = outcome["reply"][:MAX_CHARACTERS]
        if self.literals.task == "need":
            verdict = _YES_NO.search(reply[:_OPENING])
            said = verdict.group(1).lower() if verdict else ""
            return {"accuracy": float(said == item.data["answer"]), "unread": float(not said)}
        said = chosen_tool(reply, item.data["listed"])
        return {"accuracy": float(said == item.data["answer"]), "unread": float(said is None)}


def metatool_need(settings: Settings) -> MetaTool:
    """Task 1. Raises :class:`~agentflan_ray.evaluate.benchmark.Unavailable` without the data."""
    path = find(settings.data, "metatool/Task1.json", "metatool/Task1.json.gz")
    if path is None:
        raise Unavailable("metatool-need", [Missing("There is no metatool/Task1.json below the data folder.", _HOW)])
    found = [
        Item(
            f"task1-{number}",
            f"task1-{record.get('tool', number)}",
            "needs_a_tool" if record["label"] == "positive" else "needs_none",
            {"prompt": record["thought_prompt"].strip(), "answer": "yes" if record["label"] == "positive" else "no"},
        )
        for number, record in enumerate(json.loads(read_text(path)))
    ]
    yes = Metric("needs_a_tool", "accuracy", cases=("needs_a_tool",), scale=100)
    no = Metric("needs_none", "accuracy", cases=("needs_none",), scale=100)
    metrics = (
        Metric("accuracy", scale=100),
        Combined("two_sided", parts=(yes, no), how="harmonic", scale=100),
        yes,
        no,
        Metric("unread", better="low", scale=100),
    )
    return MetaTool(MetaToolProtocol("need"), found, fingerprint(read_text(path)), metrics)


def metatool_select(settings: Settings) -> MetaTool:
    """Task 2. Raises :class:`~agentflan_ray.evaluate.benchmark.Unavailable` without the data."""
    paths = {
        name: find(settings.data, f"metatool/{name}", f"metatool/{name}.gz")
        for name in ("Task2-Subtask3.json", "plugin_des.json", "big_tool_des.json")
    }
    missing = [
        Missing(f"There is no metatool/{name} below the data folder.", _HOW) for name, path in paths.items() if not path
    ]
    if missing:
        raise Unavailable("metatool-select", missing)
    subtask, plugins, big_tools = (path for path in paths.values() if path)
    described = {**json.loads(read_text(plugins)), **json.loads(read_text(big_tools))}
    found = [
        item
        for number, record in enumerate(json.loads(read_text(subtask)))
        for item in _selections(number, record, described[record["tool"]])
    ]
    none = Metric("left_out", "accuracy", cases=("left_out",), scale=100)
    one = Metric("listed", "accuracy", cases=("listed",), scale=100)
    metrics = (
        Combined("two_sided", parts=(none, one), how="harmonic", scale=100),
        none,
        one,
        Metric("unread", better="low", scale=100),
    )
    return MetaTool(MetaToolProtocol("select"), found, fingerprint(read_text(subtask)), metrics)


def listed_tools(prompt: str) -> list[tuple[str, str]]:
    """Names and descriptions of the tools that a published prompt lists."""
    return [(name, description) for _, name, description in _LISTED.findall(prompt)]


def chosen_tool(reply: str, listed: Sequence[str]) -> str | None:
    """The tool that the opening of a reply names first, ``"None"`` where it says that there is none, else None."""
    opening = reply[:_OPENING]
    # Some tools are called Now or search: a word written otherwise counts only where no name stands as listed.
    return _first_named(opening, listed, re.NOFLAG) or _first_named(opening, listed, re.IGNORECASE)


def _first_named(opening: str, listed: Sequence[str], flags: re.RegexFlag) -> str | None:
    places = {
        name: match.start()
        for name in listed
        if (match := re.search(rf"(?<!\w){re.escape(name)}(?!\w)", opening, flags))
    }
    if none := _NONE.search(opening):
        places["None"] = none.start()
    # Of two names that begin at one place the longer one is meant.
    return min(places, key=lambda name: (places[name], -len(name))) if places else None


def _selections(number: int, record: Mapping[str, Any], description: str) -> list[Item]:
    prompt, right = record["action_prompt"].strip(), record["tool"]
    name = f"task2-{number}"
    lines = list(_LISTED.finditer(prompt))
    listed = [line.group(2) for line in lines]
    place = stable_hash("metatool", name) % len(lines)
    start, end = lines[place].span()
    put_in = f"{prompt[:start]}{place + 1}. tool name: {right}, tool description: {description}{prompt[end:]}"
    group = f"task2-{right}"
    with_right = [right if i == place else other for i, other in enumerate(listed)]
    return [
        Item(name, group, "left_out", {"prompt": prompt, "answer": "None", "listed": listed}),
        Item(f"{name}-in", group, "listed", {"prompt": put_in, "answer": right, "listed": with_right}),
    ]
