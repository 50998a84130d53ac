"""Agent-H, rebuilt openly: does a model call tools where it should, and nowhere else, in the form that is asked for.

Chen et al. 2024, "Agent-FLAN", section 4.1: hallucination at the level of formats, and at the level of actions in a
grid of four cells, whether a query needs tools and whether tools are given. Its 1,845 items (drawn from
glaive-function-calling) are not released, so these are other items by the same grid:

=====================  ==========================================  ======================================
case                   cell                                        right
=====================  ==========================================  ======================================
``tool``               needs tools, the right one is listed        its call comes first
``irrelevant_tool``    needs tools, others are listed              no call
``missing_argument``   needs a tool, a required value is missing   a question
``no_tool_request``    needs tools, none is listed                 no call
``chat_with_tools``    needs none, some are listed                 no call, no refusal
``chat``               needs none, none is listed                  no call, no refusal
``chat_format``        needs none, a form of reply is asked for    that form, no call
=====================  ==========================================  ======================================

The paper's HScore counts two pairs of strings and is one-sided: a model that never calls gets 100. ``two_sided`` is
the harmonic mean of the share of right calls and of the mean, over the six cases that want no call, of the share of
right replies. A model that never calls gets 0, one that always calls gets 0, and both sides have to be good for a good
score; a plain mean would give either of them 50.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from agentflan_ray.evaluate.benchmark import Item, Metric, OneRequest, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks.agent_h_queries import MAX_TOOL_TEXT, SOURCES, Query, absent_sources, queries
from agentflan_ray.evaluate.calls import MAX_CHARACTERS, read_calls
from agentflan_ray.evaluate.hallucination import kind_of, read, read_structure
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.prompts import read as read_prompt
from agentflan_ray.evaluate.summary import Combined
from agentflan_ray.evaluate.tool_prompts import FORMS, ask, form_of
from agentflan_ray.evaluate.tool_schemas import tools_from_json, tools_to_json
from agentflan_ray.forms import parse_json, parse_react, parse_string
from agentflan_ray.randomness import stable_hash
from agentflan_ray.storage import fingerprint

PLAIN_CASES = (
    "irrelevant_tool",
    "missing_argument",
    "no_tool_request",
    "chat_with_tools",
    "chat",
    "chat_format",
)
CASES = ("tool", *PLAIN_CASES)
MIXED = ("react", "json", "string", "plain")
"""Forms that items with tools are dealt among, by a hash, where no prompt is named. Plain ones list tools and name no
form of a call, so items that want one are dealt the others."""

PAPER_ITEMS = 1845
_OPENING = 200
_MARKUP = re.compile(r"^\s*(?:[#*\-+|>]|\d+[.)]\s|```|\{)|\*\*\w", re.MULTILINE)
_NUMBERED = re.compile(r"\d+[.)]\s+\S")


@dataclass(frozen=True, slots=True)
class AgentHProtocol:
    """Literals. ``num_items`` of None takes every item at hand."""

    prompt: str
    num_items: int | None = None
    max_new_tokens: int = 256


@dataclass(frozen=True)
class AgentH:
    """The benchmarks ``agent-h`` and ``agent-h-1845``."""

    literals: AgentHProtocol
    asked: Sequence[Query]
    absent: Sequence[str] = ()
    metrics: Sequence[Metric] = field(default_factory=lambda: _metrics())

    @property
    def name(self) -> str:
        """``agent-h-1845`` with the paper's number of items."""
        return "agent-h" if self.literals.num_items is None else f"agent-h-{self.literals.num_items}"

    @property
    def protocol(self) -> str:
        """Which items, from where, and how they are scored."""
        sources = ", ".join(f"{name} {n}" for name, n in sorted(Counter(q.source for q in self.asked).items()))
        lacking = f" (not there: {', '.join(self.absent)})" if self.absent else ""
        return (
            f"Agent-H rebuilt: {len(self.asked)} queries in the cells of the paper's grid ({sources}{lacking}), each "
            f"once, prompt {self.literals.prompt}, one greedy reply of at most {self.literals.max_new_tokens} tokens; "
            "H_ReAct, H_General and HScore by the paper's strings, the rest by structure. The paper's items are not "
            "released: its numbers are of other queries."
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        """Literals, items by case and source, and a fingerprint of their ids."""
        ids = [f"{query.case} {query.source}/{query.id}" for query in self.asked]
        counts = Counter(f"{query.case} {query.source}" for query in self.asked)
        return {
            **asdict(self.literals),
            "dealt": "tool items no plain prompt" if self.literals.prompt == "mixed" else "",
            "ids": fingerprint(ids),
            "formats": fingerprint(read_prompt("agent_h/formats.json")),
            "max_tool_text": MAX_TOOL_TEXT,
            "counts": dict(sorted(counts.items())),
        }

    def items(self) -> Sequence[Item]:
        """Every prefix has about the whole's shares of cases and sources."""
        items = (self._item(query) for query in self.asked)
        return in_fair_order(items, lambda item: f"{item.case} {item.id.partition('/')[0]}")

    def open(self, item: Item) -> OneRequest:
        """One request."""
        messages = item.data["messages"]
        if item.data["format"]:
            wish = json.loads(read_prompt("agent_h/formats.json"))[item.data["format"]]
            messages = [{"role": "system", "content": wish}, *messages]
        tools = tools_from_json(item.data["tools"])
        return OneRequest(ask(item.data["prompt"], tools, messages, self.literals.max_new_tokens))

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """Scores of the item's side; ``right`` is in all of them."""
        reply = outcome["reply"][:MAX_CHARACTERS]
        names = [tool["name"] for tool in item.data["tools"]]
        return _call_scores(item, reply, names) if item.case == "tool" else _plain_scores(item, reply, names)

    def _item(self, query: Query) -> Item:
        name = f"{query.source}/{query.id}"
        fixed = self.literals.prompt != "mixed"
        forms = [form for form in MIXED if (query.case, form) != ("tool", "plain")]
        prompt = self.literals.prompt if fixed else forms[stable_hash("agent-h prompt", name) % len(forms)]
        formats = sorted(json.loads(read_prompt("agent_h/formats.json")))
        wish = formats[stable_hash("agent-h format", name) % len(formats)] if query.case == "chat_format" else ""
        data = {
            "messages": [dict(message) for message in query.messages],
            "tools": tools_to_json(query.tools),
            "right": list(query.right),
            "prompt": prompt if query.tools else "none",
            "format": wish,
        }
        return Item(name, f"{query.source}/{query.group}", query.case, data)


def agent_h(settings: Settings) -> AgentH:
    """All queries at hand: the embedded toolbox's always, those of published sets where they are there.

    Raises :class:`~agentflan_ray.evaluate.benchmark.Unavailable` for an unknown prompt.
    """
    prompt = _prompt("agent-h", settings)
    return AgentH(AgentHProtocol(prompt), dealt(queries(settings)), absent_sources(settings))


def agent_h_1845(settings: Settings) -> AgentH:
    """As many items as the paper's, the same for everyone: all sources but a user's glaive file have to be there.

    Cases take turns, and within a case its sources, each in the order of a hash of its ids, until there are 1,845.
    Raises :class:`~agentflan_ray.evaluate.benchmark.Unavailable` where a source or the prompt is not there.
    """
    prompt = _prompt("agent-h-1845", settings)
    published = Settings(settings.data)
    if lacking := [SOURCES[name][1] for name in absent_sources(published) if name != "glaive"]:
        raise Unavailable("agent-h-1845", lacking)
    return AgentH(AgentHProtocol(prompt, PAPER_ITEMS), dealt(queries(published))[:PAPER_ITEMS])


def dealt(found: Iterable[Query]) -> list[Query]:
    """Cases take turns, within a case its sources, within a source the order is a hash's: the first are balanced."""
    by_source: dict[str, dict[str, list[Query]]] = {case: defaultdict(list) for case in CASES}
    for query in sorted(found, key=lambda query: stable_hash("agent-h", query.source, query.id)):
        by_source[query.case][query.source].append(query)
    cases = [_in_turns([mine[name] for name in sorted(mine)]) for mine in by_source.values()]
    return _in_turns(cases)


def follows(reply: str, form: str) -> bool:
    """Whether a reply has the form that an item of ``chat_format`` asks for."""
    text = re.sub(r"^```[a-z]*\n?|```$", "", reply.strip()).strip()
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return False
    if form == "json":
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict) and list(value) == ["answer"] and isinstance(value["answer"], str)
    if form == "answer_line":
        return lines[-1].lstrip().startswith("Answer:")
    if form == "numbered":
        return bool(re.match(r"1[.)]\s", lines[0])) and all(
            _NUMBERED.match(line) or line[0].isspace() for line in lines
        )
    assert form == "prose"
    return not _MARKUP.search(reply)


def _call_scores(item: Item, reply: str, names: Sequence[str]) -> dict[str, float]:
    structure = read_structure(reply, names)
    kind = kind_of(reply, names)
    accepted = item.data["right"] or names
    right = bool(structure.called) and structure.called[0] in accepted
    scores = {
        "right": float(right),
        "missed_call": float(not structure.called),
        "wrong_ask": float(kind == "ask"),
        "over_refusal": float(kind == "refuse"),
        "invented_result": float(structure.invents),
    }
    if structure.called:
        scores["unlisted_call"] = float(structure.unlisted)
        if item.data["prompt"] != "plain":
            scores["format"] = float(_is_in_form(reply, item.data["prompt"]))
    return scores


def _plain_scores(item: Item, reply: str, names: Sequence[str]) -> dict[str, float]:
    reading, structure = read(reply, names), read_structure(reply, names)
    kind = kind_of(reply, names)
    held = structure.plain and kind != "empty"
    scores = {
        "h_react": float(reading.paper_react),
        "h_general": float(reading.paper_general),
        "hscore": 1 - 0.5 * (reading.paper_react + reading.paper_general),
        "false_call": float(bool(structure.called)),
        "trace": float(not structure.plain),
        "invented_result": float(structure.invents),
    }
    if structure.called:
        scores["unlisted_call"] = float(structure.unlisted)
    if item.case in ("chat", "chat_with_tools"):
        # Later on, "I can't" stands in stories and advice.
        refuses = read(reply[:_OPENING]).refuses
        scores |= {"right": float(held and not refuses), "over_refusal": float(refuses)}
    elif item.case == "chat_format":
        form = follows(reply, item.data["format"])
        scores |= {"right": float(held and form), "format": float(form)}
    else:
        honest = held and kind in ("ask", "refuse")
        right = held and kind == "ask" if item.case == "missing_argument" else held
        scores |= {"right": float(right), "honest": float(honest)}
    return scores


def _is_in_form(reply: str, prompt: str) -> bool:
    """Whether a reply that calls does so in the form that its prompt asks for."""
    if prompt == "native":
        return read_calls(reply)[0].form in ("tags", "json") if read_calls(reply) else False
    parse = {"react": parse_react, "json": parse_json, "string": parse_string}[prompt]
    try:
        step = parse(reply)
    except RecursionError:  # brackets nested by the thousand
        return False
    return bool(step and step.calls)


def _prompt(name: str, settings: Settings) -> str:
    return form_of(name, settings.prompt, "mixed", ("mixed", *FORMS))


def _in_turns(queues: Sequence[Sequence[Query]]) -> list[Query]:
    return [query for turn in itertools.zip_longest(*queues) for query in turn if query is not None]


def _metrics() -> tuple[Metric, ...]:
    calls = Metric("right_call", "right", cases=("tool",), scale=100)
    holds = Metric("right_hold", "right", cases=PLAIN_CASES, by_case=True, scale=100)

    def rate(name: str, score: str = "", cases: tuple[str, ...] = ()) -> Metric:
        return Metric(name, score, cases, better="low", scale=100)

    return (
        Combined("two_sided", parts=(calls, holds), how="harmonic", scale=100),
        calls,
        holds,
        Metric("hscore", scale=100),
        rate("h_react"),
        rate("h_general"),
        Metric("format", scale=100),
        Metric("honest", scale=100),
        rate("false_call"),
        rate("missed_call"),
        rate("trace"),
        rate("unlisted_call"),
        rate("invented_result"),
        rate("wrong_ask"),
        rate("over_refusal"),
    )
