"""IFEval (Zhou et al. 2023, arXiv 2311.07911): prompts with instructions whose following can be checked by rules.

Data: ``ifeval/input_data.jsonl`` (or ``.gz``) as published (Apache-2.0): ``key``, ``prompt``, ``instruction_id_list``
and ``kwargs``, one for each instruction.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from agentflan_ray import storage
from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, OneRequest, Request, Settings, Unavailable
from agentflan_ray.evaluate.data import find, read_text
from agentflan_ray.evaluate.ifeval_rules import RULES, follows, loosened
from agentflan_ray.evaluate.order import in_fair_order

_KINDS = tuple(dict.fromkeys(name.partition(":")[0] for name in RULES))


@dataclass(frozen=True, slots=True)
class IfevalProtocol:
    """Literals."""

    max_new_tokens: int = 1280


@dataclass(frozen=True)
class Ifeval:
    """The benchmark ``ifeval``."""

    settings: IfevalProtocol
    prompts: tuple[Item, ...]
    data_fingerprint: str
    name: str = "ifeval"
    metrics: Sequence[Metric] = (
        Metric("prompt_strict", scale=100),
        Metric("instruction_strict", weight="instructions", scale=100),
        Metric("prompt_loose", scale=100),
        Metric("instruction_loose", weight="instructions", scale=100),
        *(Metric(kind, scale=100) for kind in _KINDS),
    )

    @property
    def protocol(self) -> str:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return (
            f"IFEval, {len(self.prompts)} prompts as published, one greedy reply of at most "
            f"{self.settings.max_new_tokens} tokens, rules of our own for the 25 instructions (sentences, languages "
            "and capital words are told without NLTK and langdetect); prompt: all instructions followed; instruction: "
            "the share of all instructions; loose: in any of eight variants of the reply. The nine kinds of "
            "instructions are scored strictly, as shares of a prompt's."
        )

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return {**asdict(self.settings), "prompts": self.data_fingerprint, "prompt": "the published prompts alone"}

    def items(self) -> Sequence[Item]:
        """Prompts; a case is the number of instructions."""
        return self.prompts

    def open(self, item: Item) -> OneRequest:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        message = {"role": "user", "content": item.data["prompt"]}
        return OneRequest(Request((message,), self.settings.max_new_tokens))

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """Strict and loose, of the whole prompt and of its instructions, and strictly by kind of instruction."""
        reply = outcome["reply"]
        variants = loosened(reply)
        strict, loose = [], []
        kinds: dict[str, list[float]] = defaultdict(list)
        for name, given in item.data["instructions"]:
            followed = follows(name, given, reply)
            strict.append(float(followed))
            loose.append(float(followed or any(follows(name, given, variant) for variant in variants[1:])))
            kinds[name.partition(":")[0]].append(float(followed))
        return {
            "prompt_strict": min(strict),
            "instruction_strict": fmean(strict),
            "prompt_loose": min(loose),
            "instruction_loose": fmean(loose),
            "instructions": float(len(strict)),
            **{kind: fmean(values) for kind, values in kinds.items()},
        }


def ifeval(settings: Settings) -> Ifeval:
    """The benchmark.

    Raises ``ValueError`` for a prompt with an instruction that is not known.
    """
    path = find(settings.data, *(f"ifeval/input_data.jsonl{ending}" for ending in ("", ".gz", ".xz")))
    if path is None:
        how = "Put IFEval's input_data.jsonl (Apache-2.0, google-research/instruction_following_eval) into ifeval/."
        raise Unavailable("ifeval", [Missing("The prompts are not there.", how)])
    rows = [json.loads(line) for line in read_text(path).splitlines() if line.strip()]
    items = []
    for row in rows:
        names = row["instruction_id_list"]
        if unknown := [name for name in names if name not in RULES]:
            raise ValueError(f"Prompt {row['key']} of {path.name} has the unknown instruction {unknown[0]!r}.")
        given = [{key: value for key, value in values.items() if value is not None} for values in row["kwargs"]]
        case = f"{len(names)} instruction{'s' * (len(names) > 1)}"
        data = {
            "prompt": row["prompt"],
            "instructions": [[name, values] for name, values in zip(names, given, strict=True)],
        }
        items.append(Item(f"ifeval/{row['key']}", f"ifeval/{row['key']}", case, data))
    return Ifeval(IfevalProtocol(), in_fair_order(items), storage.fingerprint(rows))
