"""T-Eval (Chen et al. 2024, arXiv 2312.14033): six abilities of a tool user, each in JSON and as plain text.

Data: ``teval/*_v2.json`` (Apache-2.0; Hugging Face ``lovesnowbest/T-Eval``), each a dictionary of ids to
``origin_prompt``, ``ground_truth``, ``meta_data`` or ``meta``, and ``template``. Agent-FLAN reports the overall score.
``teval-open`` asks for the same abilities with data of other sets (:mod:`~.teval_items`): it is not T-Eval.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from agentflan_ray import storage
from agentflan_ray.evaluate import teval_scores as scores
from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, OneRequest, Request, Settings, Unavailable
from agentflan_ray.evaluate.data import find, read_text
from agentflan_ray.evaluate.embedding import Embedder, embedder_of
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.summary import Combined

ABILITIES = ("instruct", "plan", "reason", "retrieve", "understand", "review")
CASES = (
    *("instruct_json", "instruct_string", "plan_json", "plan_str", "reason_str", "retrieve_str", "understand_str"),
    *("reason_retrieve_understand_json", "review_str"),
)
FILES = (
    *("instruct", "plan_json", "plan_str", "reason_str", "retrieve_str", "understand_str"),
    *("reason_retrieve_understand_json", "review_str"),
)

_ROLES = {"system": "system", "user": "user", "assistant": "assistant", "function": "user"}


@dataclass(frozen=True, slots=True)
class TevalProtocol:
    """Literals."""

    max_new_tokens: int = 512
    name_weight: float = scores.NAME_WEIGHT
    arguments_weight: float = scores.ARGUMENTS_WEIGHT
    match_threshold: float = scores.MATCH_THRESHOLD
    least_matched: int = scores.LEAST_MATCHED


def metrics() -> tuple[Metric, ...]:
    """Overall is the plain mean of six abilities, and an ability that of its JSON and its string form."""
    parts = tuple(Metric(ability, by_case=True, scale=100) for ability in ABILITIES)
    return (Combined("overall", parts=parts, scale=100), *parts, Metric("parsed", scale=100))


@dataclass(frozen=True)
class Teval:
    """T-Eval, or the open set of like items; ``origin`` says in the protocol which."""

    name: str
    origin: str
    embedder: Embedder
    questions: tuple[Item, ...]
    settings: TevalProtocol = field(default_factory=TevalProtocol)
    metrics: Sequence[Metric] = field(default_factory=metrics)

    @property
    def protocol(self) -> str:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return (
            f"{self.origin}, one greedy reply of at most {self.settings.max_new_tokens} tokens, the scores of T-Eval's "
            f"evaluators (version 2), sentences and steps compared by {self.embedder.description}; an ability is the "
            "mean of its JSON and its string items, overall the mean of the six abilities."
        )

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        questions = storage.fingerprint([[item.id, item.case, dict(item.data)] for item in self.questions])
        return {**asdict(self.settings), **self.embedder.identity, "items": questions, "prompt": "each item's own"}

    def items(self) -> Sequence[Item]:
        """All items; a case is an ability in one form."""
        return self.questions

    def open(self, item: Item) -> OneRequest:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return OneRequest(Request(tuple(item.data["messages"]), self.settings.max_new_tokens))

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """The scores of the item's case; ``data["names"]`` are names that a reply of retrieval must not hold."""
        reply, gold = scores.cut(outcome["reply"]), item.data["gold"]
        match item.case:
            case "instruct_json":
                return scores.instruct_json(reply, item.data["template"], gold)
            case "instruct_string":
                return scores.instruct_string(reply, item.data["template"], gold)
            case "plan_json":
                return self._plan(scores.plan_of_json(reply), gold)
            case "plan_str":
                return self._plan(scores.plan_of_text(reply, item.data["apis"]), gold)
            case "reason_str":
                return scores.reason(reply, gold["thought"], self.embedder)
            case "retrieve_str":
                return scores.retrieve(reply, gold["name"], item.data.get("names", ()))
            case "understand_str":
                return scores.understand(reply, gold["args"])
            case "reason_retrieve_understand_json":
                return scores.reason_retrieve_understand(reply, gold, self.embedder)
            case "review_str":
                return scores.review(reply, gold["answer"])
        raise AssertionError(item.case)

    def _plan(self, made: Sequence[scores.Step], gold: Sequence[scores.Step]) -> dict[str, float]:
        return scores.plan(made, gold, self.embedder, self.settings.least_matched)


def teval(settings: Settings) -> Teval:
    """T-Eval itself; option ``embedder`` names the folder of a sentence-transformers model.

    Raises ``ValueError`` for a file that is not laid out as T-Eval's are.
    """
    files = {name: find(settings.data, f"teval/{name}_v2.json", f"teval/{name}_v2.json.gz") for name in FILES}
    if absent := [name for name, path in files.items() if path is None]:
        raise Unavailable(
            "teval",
            [
                Missing(
                    f"T-Eval's files {', '.join(f'{name}_v2.json' for name in absent)} are not there.",
                    "Download lovesnowbest/T-Eval (Apache-2.0) from Hugging Face and put its *_v2.json into teval/ of "
                    "the data folder; teval-open asks for like abilities without them.",
                )
            ],
        )
    items = [item for name, path in files.items() if path is not None for item in _items(name, path)]
    origin = f"T-Eval, English, version 2, {len(items)} items with the published prompts"
    return Teval("teval", origin, embedder_of(settings.options.get("embedder")), in_fair_order(items))


def teval_open(settings: Settings) -> Teval:
    """Items of T-Eval's kinds from other published sets; options as for :func:`teval`."""
    from agentflan_ray.evaluate.benchmarks.teval_items import open_items

    items = open_items(settings.data)
    origin = (
        f"Not T-Eval: {len(items)} items of its six abilities, made by rules from NESTFUL (plans, next steps), "
        "API-Bank and Seal-Tools (calls, arguments, reviews) and MetaTool (retrieval) with prompts of our own, and not "
        "to be compared with T-Eval's numbers (a plan without any step of the truth has 0, for which T-Eval counts one)"
    )
    # NESTFUL's plans are short: with T-Eval's one step for nothing, any plan of one made-up step had 59 in plan_json.
    protocol = TevalProtocol(least_matched=0)
    return Teval("teval-open", origin, embedder_of(settings.options.get("embedder")), in_fair_order(items), protocol)


def _items(name: str, path: Path) -> Iterator[Item]:
    for key, row in json.loads(read_text(path)).items():
        try:
            yield _item(name, key, row)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"Item {key!r} of {path.name} is not laid out as T-Eval's are: {type(error).__name__} {error}."
            ) from error


def _item(name: str, key: str, row: Mapping[str, Any]) -> Item:
    meta = row.get("meta_data") or row.get("meta") or {}
    gold = row["ground_truth"]
    case = name
    data: dict[str, Any] = {"messages": _messages(row["origin_prompt"])}
    if name == "instruct":
        case = "instruct_json" if meta["response_format"] == "json" else "instruct_string"
        data["template"] = dict(row["template"])
        gold = {"action": gold["action"], "args": gold["args"]}
    elif name in ("plan_json", "plan_str"):
        gold = scores.plan_of_json(gold)
        if name == "plan_str":
            data["apis"] = list(meta["API_list"])
    elif name in ("reason_str", "retrieve_str", "understand_str"):
        loaded = scores.load(gold, "{", "}")
        gold = {part: str(loaded.get(part, "")) for part in ("thought", "name", "args")}
    elif name == "reason_retrieve_understand_json":
        gold = dict(scores.load(gold, "{", "}"))
    elif name == "review_str":
        gold = {"answer": gold["answer"]}
    return Item(f"{name}/{key}", f"{name}/{key}", case, {**data, "gold": gold})


def _messages(prompt: Any) -> list[dict[str, str]]:
    """Turns for a chat template: what a function returned is said by the user, turns of one speaker are joined.

    Templates such as Llama-2's take no other role, no two turns of one speaker, and a system turn at the start only.
    """
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    said: list[dict[str, str]] = []
    for number, turn in enumerate(turns):
        role = "user" if turn["role"] == "system" and number > 0 else _ROLES[turn["role"]]
        if said and said[-1]["role"] == role:
            said[-1]["content"] += f"\n{turn['content']}"
        else:
            said.append({"role": role, "content": str(turn["content"])})
    return said
