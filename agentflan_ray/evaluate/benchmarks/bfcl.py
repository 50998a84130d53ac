"""Berkeley Function Calling Leaderboard, version 4, single-turn categories, with the package's own checker.

Patil et al. 2025, "The Berkeley Function Calling Leaderboard (BFCL): From Tool Use to Agentic Evaluation of Large
Language Models". Replies are read without ``eval``: a list of Python calls, as the package's prompt asks for it, or
the calls of a chat template's form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from agentflan_ray.evaluate import bfcl_package
from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, OneRequest, Request, Settings, Unavailable
from agentflan_ray.evaluate.calls import MAX_CHARACTERS, call_expressions, outer_marks, read_calls
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.summary import Combined
from agentflan_ray.evaluate.tool_schemas import chat_template_tools, tool_of

SIMPLE = ("simple_python", "simple_java", "simple_javascript")
NON_LIVE = ("multiple", "parallel", "parallel_multiple")
LIVE = ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")
IRRELEVANCE = ("irrelevance", "live_irrelevance")
CATEGORIES = (*SIMPLE, *NON_LIVE, *LIVE, *IRRELEVANCE, "live_relevance")

PROMPTS = ("bfcl", "native")
_ARGUMENT = re.compile(r"\s*([A-Za-z_$][\w$]*)\s*=(?!=)\s*")
_CALLED = re.compile(r"\s*([\w$.]+)\s*\(")


@dataclass(frozen=True, slots=True)
class BfclProtocol:
    """Literals. ``prompt``: ``bfcl``, the package's own text, or ``native``, the chat template's tools."""

    prompt: str = "bfcl"
    max_new_tokens: int = 512


@dataclass(frozen=True)
class Bfcl:
    """The benchmark ``bfcl``."""

    settings: BfclProtocol
    version: str
    name: str = "bfcl"
    metrics: Sequence[Metric] = field(default_factory=lambda: _metrics())

    @property
    def protocol(self) -> str:
        """What is asked and how it is scored."""
        asked = "the package's own prompt" if self.settings.prompt == "bfcl" else "tools through the chat template"
        return (
            f"BFCL v4, 13 single-turn categories of bfcl-eval {self.version}, {asked}, one greedy reply of at most "
            f"{self.settings.max_new_tokens} tokens, the package's checker of call trees; single_turn is the mean of "
            "non-live, live and irrelevance, the shares with which these enter the leaderboard's overall score, whose "
            "multi-turn and agentic parts are left out."
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        """Literals and the package's version, which fixes its data."""
        return {"package": self.version, **asdict(self.settings)}

    def items(self) -> Sequence[Item]:
        """All 3,641 items, every case in even shares."""
        found = [_item(category, entry) for category in CATEGORIES for entry in bfcl_package.entries(category)]
        return in_fair_order(found)

    def open(self, item: Item) -> OneRequest:
        """One request."""
        functions = bfcl_package.hinted({"id": item.id, **item.data})
        conversation = list(item.data["messages"])
        if self.settings.prompt == "native":
            tools = chat_template_tools(map(tool_of, functions))
            return OneRequest(Request(tuple(conversation), self.settings.max_new_tokens, tools=tools))
        system = bfcl_package.system_prompt(functions)
        if conversation[0]["role"] == "system":
            system = f"{system}\n\n{conversation[0]['content']}"
            conversation = conversation[1:]
        messages = ({"role": "system", "content": system}, *conversation)
        return OneRequest(Request(messages, self.settings.max_new_tokens))

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """``accuracy``: right by the form that was asked for; ``any_form``: calls are also read in other forms."""
        if outcome.get("finish") == "context":  # never asked, hence not right where silence would be
            return {"accuracy": 0.0, "any_form": 0.0, "called": 0.0}
        functions, reply, category = item.data["function"], outcome["reply"], item.case
        asked, other = _as_listed(reply, category), _in_any_form(reply, functions)
        if self.settings.prompt == "native":
            asked = other
        if category in (*IRRELEVANCE, "live_relevance"):
            wanted = category == "live_relevance"
            return {
                "accuracy": float(bool(asked) == wanted),
                "any_form": float(bool(asked or other) == wanted),
                "called": float(bool(asked or other)),
            }
        answers = bfcl_package.gold(category)[item.id]
        right = bool(asked) and bfcl_package.checks(category, functions, asked, answers)
        lenient = right or (bool(other) and bfcl_package.checks(category, functions, _texts(other, category), answers))
        return {"accuracy": float(right), "any_form": float(lenient), "called": float(bool(asked or other))}


def bfcl(settings: Settings) -> Bfcl:
    """Raises :class:`~agentflan_ray.evaluate.benchmark.Unavailable` without the package ``bfcl-eval``, and for a prompt
    that it does not have."""
    if not bfcl_package.is_installed():
        raise Unavailable("bfcl", [bfcl_package.MISSING])
    prompt = settings.prompt or "bfcl"
    if prompt not in PROMPTS:
        what = f"It has the prompts {' and '.join(PROMPTS)}, not {prompt!r}."
        raise Unavailable("bfcl", [Missing(what, "Name one of them, or none for its own.")])
    return Bfcl(BfclProtocol(prompt=prompt), bfcl_package.package_version())


def _metrics() -> tuple[Metric, ...]:
    simple = Metric("simple", "accuracy", cases=SIMPLE, by_case=True, scale=100)
    others = [Metric(category, "accuracy", cases=(category,), scale=100) for category in NON_LIVE]
    non_live = Combined("non_live", parts=(simple, *others), scale=100)
    live = Metric("live", "accuracy", cases=LIVE, scale=100)
    irrelevance = Metric("irrelevance", "accuracy", cases=IRRELEVANCE, by_case=True, scale=100)
    return (
        Combined("single_turn", parts=(non_live, live, irrelevance), scale=100),
        non_live,
        live,
        irrelevance,
        Metric("relevance", "accuracy", cases=("live_relevance",), scale=100),
        Metric("accuracy", scale=100),
        Metric("any_form", scale=100),
        Metric("called_when_needed", "called", cases=(*SIMPLE, *NON_LIVE, *LIVE, "live_relevance"), scale=100),
    )


def group_of(entry: Mapping[str, Any]) -> str:
    """What items depend on each other by: the tool set of a user in the live sets, else the first function."""
    named = re.fullmatch(r"live_\w+?_\d+-(\d+)-\d+", entry["id"])
    if named:
        return f"live-{named.group(1)}"
    return str(entry["function"][0]["name"] if entry["function"] else entry["id"])


def _item(category: str, entry: Mapping[str, Any]) -> Item:
    [messages] = entry["question"]
    return Item(entry["id"], group_of(entry), category, {"messages": messages, "function": entry["function"]})


def _as_listed(reply: str, category: str) -> list[dict[str, Any]]:
    """Calls as the package's prompt asks for them, ``[f(x=1), g()]``; outer brackets, backticks and blanks may lack or
    stand too many. Positional arguments don't count. Empty where the reply is anything else."""
    text = reply[: MAX_CHARACTERS - 2].strip("`\n ")
    text = text if text.startswith("[") else "[" + text
    text = text if text.endswith("]") else text + "]"
    try:
        if category in SIMPLE[1:]:
            return [_source_call(text[1:-1])]
        calls = call_expressions(text.strip().strip("'"), words={})
    except ValueError:
        return []
    return [{name: {key: v for key, v in given.items() if not key.isdigit()}} for name, given in calls]


def _in_any_form(reply: str, functions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    names = [function["name"] for function in functions]
    return [{call.name: call.arguments or {}} for call in read_calls(reply, names)]


def _texts(calls: Sequence[Mapping[str, Any]], category: str) -> list[Any]:
    """Java's and JavaScript's values are compared as source text."""
    if category not in SIMPLE[1:]:
        return list(calls)
    return [
        {name: {key: v if isinstance(v, str) else json.dumps(v) for key, v in given.items()}}
        for call in calls
        for name, given in call.items()
    ]


def _source_call(text: str) -> dict[str, dict[str, str]]:
    """One call in Java or JavaScript with named arguments, values as source text, outer quotes of strings off.

    Raises ``ValueError`` where the text is anything else.
    """
    head = _CALLED.match(text)
    if head is None:
        raise ValueError("The text does not begin with a call.")
    arguments: dict[str, str] = {}
    pieces, rest = _split(text, head.end())
    if rest.strip(" ;\n"):
        raise ValueError("Text follows the call.")
    for piece in pieces:
        named = _ARGUMENT.match(piece)
        if named is None:
            continue
        value = piece[named.end() :].strip()
        quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
        arguments[named.group(1)] = value[1:-1] if quoted else value
    return {head.group(1): arguments}


def _split(text: str, start: int) -> tuple[list[str], str]:
    """What stands between commas from ``start`` to the closing bracket, and what follows; quotes and brackets are
    heeded. Raises ``ValueError`` where the bracket is not closed."""
    pieces: list[str] = []
    for place, mark in outer_marks(text, start, quotes="\"'`"):
        pieces.append(text[start:place])
        start = place + 1
        if mark != ",":
            return pieces, text[start:]
    raise ValueError("The call's bracket is not closed.")
