"""When2Call: call, ask, or say that it can't be done (Ross et al. 2025, "When2Call: When (not) to Call Tools").

Two benchmarks on the same requests: ``when2call`` reads what a model writes, ``when2call-mcq`` weighs the four
reference replies of each request by their likelihood, which needs no reading.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, OneRequest, Request, Settings, Unavailable
from agentflan_ray.evaluate.calls import read_calls
from agentflan_ray.evaluate.data import find, read_text
from agentflan_ray.evaluate.hallucination import Kind, kind_of
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.prompts import read
from agentflan_ray.evaluate.summary import Combined
from agentflan_ray.evaluate.tool_schemas import parsed_tools, tools_from_json, tools_to_json
from agentflan_ray.storage import fingerprint
from agentflan_ray.trajectory import Tool

JUDGE_FILES = ("when2call/when2call_test_llm_judge.jsonl", "when2call/when2call_test_llm_judge.jsonl.gz")
CHOICE_FILES = ("when2call/when2call_test_mcq.jsonl", "when2call/when2call_test_mcq.jsonl.gz", *JUDGE_FILES)
ANSWERS = ("direct", "tool_call", "request_for_info", "cannot_answer")
"""The four reference replies of a request, in the order in which they are weighed."""

_KINDS: dict[Kind, str] = {
    "call": "tool_call",
    "ask": "request_for_info",
    "refuse": "cannot_answer",
    "answer": "direct",
    "empty": "none",
}


@dataclass(frozen=True, slots=True)
class When2CallProtocol:
    """Literals: whether replies are weighed, and tokens of a written one."""

    weigh: bool
    max_new_tokens: int = 256


@dataclass(frozen=True)
class When2Call:
    """The benchmarks ``when2call`` and ``when2call-mcq``."""

    literals: When2CallProtocol
    records: Sequence[Mapping[str, Any]]
    data_fingerprint: str
    metrics: Sequence[Metric] = field(default_factory=lambda: _metrics())

    @property
    def name(self) -> str:
        """``when2call-mcq`` where replies are weighed."""
        return "when2call-mcq" if self.literals.weigh else "when2call"

    @property
    def weighs_choices(self) -> bool:
        """See :class:`~agentflan_ray.evaluate.benchmark.Weighing`."""
        return self.literals.weigh

    @property
    def protocol(self) -> str:
        """What is asked and how it is scored."""
        how = (
            "four reference replies weighed by log-likelihood divided by their bytes"
            if self.literals.weigh
            else f"one greedy reply of at most {self.literals.max_new_tokens} tokens read by rules for call, question, "
            "refusal or answer in place of the published judge, a model"
        )
        return (
            f"When2Call, {len(self.records)} requests whose right reply is a call, a question for what is missing, or "
            f"that it can't be done; a prompt of this project lists the functions; {how}; macro_accuracy is the mean "
            "over the three right replies, where the paper has macro F1."
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        """Literals, prompt and data."""
        prompt = fingerprint(read("when2call/system.txt"))
        return {"data": self.data_fingerprint, "prompt": prompt, **asdict(self.literals)}

    def items(self) -> Sequence[Item]:
        """All requests, every case in even shares."""
        found = [
            Item(
                record["uuid"],
                group_of(record),
                record["correct_answer"],
                {
                    "question": record["question"],
                    "tools": tools_to_json(tools_of(record)),
                    "answers": [record["answers"][name] for name in ANSWERS],
                },
            )
            for record in self.records
        ]
        return in_fair_order(found)

    def open(self, item: Item) -> OneRequest:
        """One request, to write or to weigh."""
        listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in item.data["tools"]) or "(none)"
        messages = (
            {"role": "system", "content": read("when2call/system.txt").strip().replace("{tools}", listed)},
            {"role": "user", "content": item.data["question"]},
        )
        if self.literals.weigh:
            return OneRequest(Request(messages, choices=tuple(item.data["answers"])))
        return OneRequest(Request(messages, self.literals.max_new_tokens))

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """``accuracy``, and what went wrong: a call where none is due, of an unlisted tool, a missed call."""
        tools = tools_from_json(item.data["tools"])
        names = [tool.name for tool in tools]
        if self.literals.weigh:
            weights = outcome["logprobs"]
            if len(weights) != len(ANSWERS):  # the prompt did not fit into the model's context
                return {"accuracy": 0.0}
            lengths = [max(1, len(answer.encode())) for answer in item.data["answers"]]
            chosen = max(range(len(ANSWERS)), key=lambda i: weights[i] / lengths[i])
            did = ANSWERS[chosen]
            called = [call.name for call in read_calls(item.data["answers"][chosen], names)]
        else:
            did = _KINDS[kind_of(outcome["reply"], names)]
            called = [call.name for call in read_calls(outcome["reply"], names)]
        due = item.case
        scores = {"accuracy": float(did == due)}
        if due == "tool_call":
            scores["missed_call"] = float(did != "tool_call")
        else:
            scores["false_call"] = float(did == "tool_call")
            scores["held"] = float(did not in ("tool_call", "none"))
        if not tools:
            scores["call_without_tools"] = float(did == "tool_call")
        if did == "tool_call":
            scores["unlisted_call"] = float(any(name not in names for name in called))
        return scores


def when2call(settings: Settings) -> When2Call:
    """Replies written and read. Raises :class:`~agentflan_ray.evaluate.benchmark.Unavailable` without the data."""
    return _when2call(settings, When2CallProtocol(weigh=False), JUDGE_FILES)


def when2call_mcq(settings: Settings) -> When2Call:
    """Reference replies weighed. Raises :class:`~agentflan_ray.evaluate.benchmark.Unavailable` without the data."""
    return _when2call(settings, When2CallProtocol(weigh=True), CHOICE_FILES)


def load(data: str | None) -> list[dict[str, Any]] | None:
    """The requests of the judged test set as published; None where the file is not there."""
    path = find(data, *JUDGE_FILES)
    return None if path is None else _lines(read_text(path))


def tools_of(record: Mapping[str, Any]) -> tuple[Tool, ...]:
    """The functions that a published record lists, each a JSON text."""
    return tuple(tool for text in record["tools"] for tool in parsed_tools(f"[{text}]"))


def _when2call(settings: Settings, literals: When2CallProtocol, files: Sequence[str]) -> When2Call:
    path = find(settings.data, *files)
    if path is None:
        how = "Take them from github.com/NVIDIA/When2Call or the hub's nvidia/When2Call, data CC BY 4.0."
        name = "when2call-mcq" if literals.weigh else "when2call"
        raise Unavailable(name, [Missing(f"There is no {files[0]} below the data folder.", how)])
    text = read_text(path)
    return When2Call(literals, _lines(text), fingerprint(text))


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def group_of(record: Mapping[str, Any]) -> str:
    """Requests made of one user's tool set in BFCL's live sets depend on each other."""
    named = re.fullmatch(r"(live_\w+?)_\d+-(\d+)-\d+", record["source_id"])
    return f"live-{named.group(2)}" if named else str(record["source_id"])


def _metrics() -> tuple[Metric, ...]:
    calls = Metric("right_call", "accuracy", cases=("tool_call",), scale=100)
    holds = Metric("right_hold", "held", cases=("request_for_info", "cannot_answer"), by_case=True, scale=100)
    return (
        Metric("macro_accuracy", "accuracy", by_case=True, scale=100),
        Metric("accuracy", scale=100),
        Combined("two_sided", parts=(calls, holds), how="harmonic", scale=100),
        Metric("false_call", better="low", scale=100),
        Metric("missed_call", better="low", scale=100),
        Metric("call_without_tools", better="low", scale=100),
        Metric("unlisted_call", better="low", scale=100),
    )
