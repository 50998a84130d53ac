"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168) with a chain of thought and eight examples (Wei et al. 2022).

Data: ``gsm8k/test.jsonl`` (or ``.gz``) as openai/grade-school-math publishes it: ``question``, and ``answer`` that ends
with ``#### N``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from agentflan_ray import storage
from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, OneRequest, Request, Settings, Unavailable
from agentflan_ray.evaluate.data import find, read_text
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.prompts import read

# At most 30 digits: a longer run is no answer, and matching stays linear.
_NUMBER = re.compile(r"(?<![\d.])-?\$?\d[\d,]{0,30}(?:\.\d{1,30})?")
_STATED = re.compile(rf"answer is:?\s{{0,3}}({_NUMBER.pattern})", re.IGNORECASE)
_MOST_STEPS = 7


@dataclass(frozen=True, slots=True)
class GsmProtocol:
    """Literals."""

    shots: int = 8
    max_new_tokens: int = 320


@dataclass(frozen=True)
class Gsm8k:
    """The benchmark ``gsm8k``."""

    settings: GsmProtocol
    problems: tuple[Item, ...]
    prompt: tuple[Mapping[str, str], ...]
    data_fingerprint: str
    name: str = "gsm8k"
    metrics: Sequence[Metric] = (Metric("correct", scale=100), Metric("stated", scale=100))

    @property
    def protocol(self) -> str:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return (
            f"GSM8K, {len(self.problems)} test problems, {self.settings.shots} examples with chain of thought (of our "
            "own making, in the structure of the published ones) as turns of a chat, one greedy reply of at most "
            f"{self.settings.max_new_tokens} tokens; correct if its last number equals the answer, stated if the "
            "number behind 'The answer is' does."
        )

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return {
            **asdict(self.settings),
            "problems": self.data_fingerprint,
            "prompt": "gsm8k/instruction.txt with gsm8k/examples.json",
            "prompts": storage.fingerprint([dict(message) for message in self.prompt]),
        }

    def items(self) -> Sequence[Item]:
        """Problems; their case is the number of lines of the published solution."""
        return self.problems

    def open(self, item: Item) -> OneRequest:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        asked = {"role": "user", "content": f"Question: {item.data['question']}"}
        return OneRequest(Request((*self.prompt, asked), self.settings.max_new_tokens, stop=("\nQuestion:",)))

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """``correct`` by the last number, ``stated`` by the one behind "The answer is"."""
        gold = Decimal(item.data["answer"])
        return {
            "correct": float(last_number(outcome["reply"]) == gold),
            "stated": float(stated_number(outcome["reply"]) == gold),
        }


def gsm8k(settings: Settings) -> Gsm8k:
    """The benchmark."""
    path = find(settings.data, *(f"gsm8k/test.jsonl{ending}" for ending in ("", ".gz", ".xz")))
    if path is None:
        how = "Put gsm8k/test.jsonl of github.com/openai/grade-school-math (MIT) into the data folder."
        raise Unavailable("gsm8k", [Missing("The test problems are not there.", how)])
    rows = [json.loads(line) for line in read_text(path).splitlines() if line.strip()]
    items = [_item(number, row) for number, row in enumerate(rows)]
    protocol = GsmProtocol()
    prompt = [{"role": "system", "content": read("gsm8k/instruction.txt").strip()}]
    for example in json.loads(read("gsm8k/examples.json"))[: protocol.shots]:
        prompt.append({"role": "user", "content": f"Question: {example['question']}"})
        prompt.append({"role": "assistant", "content": example["answer"]})
    return Gsm8k(protocol, in_fair_order(items), tuple(prompt), storage.fingerprint(rows))


def last_number(text: str) -> Decimal | None:
    """The last number of a text; None where there is none."""
    last = None
    for match in _NUMBER.finditer(text):
        last = match
    return _decimal(last[0]) if last else None


def stated_number(text: str) -> Decimal | None:
    """The number behind the last "answer is"; None where there is none."""
    last = None
    for match in _STATED.finditer(text):
        last = match
    return _decimal(last[1]) if last else None


def _decimal(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace("$", ""))


def _item(number: int, row: Mapping[str, str]) -> Item:
    solution, _, answer = row["answer"].rpartition("####")
    steps = min(len(solution.strip().splitlines()), _MOST_STEPS)
    gold = str(_decimal(answer.strip()))
    case = f"{steps} steps" if steps < _MOST_STEPS else f"{steps} or more steps"
    return Item(f"gsm8k/{number}", f"gsm8k/{number}", case, {"question": row["question"], "answer": gold})
