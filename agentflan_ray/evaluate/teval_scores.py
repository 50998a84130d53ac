"""T-Eval's scores (Chen et al. 2024, arXiv 2312.14033, section 3 and its evaluators, version 2), quirks kept.

All are pure functions of a reply and a truth. Two things differ from the published evaluators, and in no score of a
sensible reply: the marks of the string format are plain text, not patterns, and at most :data:`MAX_CHARACTERS` of a
reply are read, which bounds the time.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from agentflan_ray.evaluate.embedding import Embedder

MAX_CHARACTERS = 20_000
NAME_WEIGHT = 0.75
ARGUMENTS_WEIGHT = 0.25
MATCH_THRESHOLD = 0.8
LEAST_MATCHED = 1
"""Steps of a plan that count as matched where fewer do. As published, 1: a plan without any match has a score."""

_ENDS = (
    *("<eoa>", "<TOKENS_UNUSED_1>", "<|im_end|>", "\nuser", "\nassistant", "\nUSER", "[INST]", "<|user|>"),
)  # what the published code takes for the end of a turn
_DOTTED = re.compile(r"(?<!\w)\w+\.\w+")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_KNOWN_ESCAPES = frozenset("\\'\"abfnrtv01234567xNuU\n")
_UNREADABLE = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)

Step = Mapping[str, Any]


def cut(reply: str) -> str:
    """A reply up to the first sign that a model went on with the next turn, without a code fence round it."""
    text = reply[:MAX_CHARACTERS]
    for end in _ENDS:
        text = text.partition(end)[0]
    return text.strip().removeprefix("```json").strip("`")


def load(text: Any, first: str = "", last: str = "") -> Any:
    """A Python literal or JSON, between the first ``first`` and the last ``last``.

    Raises ``ValueError`` where it is neither.
    """
    if not isinstance(text, str):
        return text
    if "```json" in text:
        text = text.partition("```json")[2].strip("`")
    if first:
        text = text[text.find(first) :]  # the last character alone where there is none, which is no literal of use
    if last:
        text = text[: text.rfind(last) + len(last)]
    readers: tuple[tuple[Callable[[str], Any], str], ...] = (
        (ast.literal_eval, _python_escapes(text)),
        (json.loads, text),
        (json.loads, text.replace("'", '"')),
    )
    for reader, written in readers:
        try:
            return reader(written)
        except _UNREADABLE:
            continue
    raise ValueError("The text is no literal and no JSON.")


def instruct_json(reply: str, template: Mapping[str, str], gold: Mapping[str, Any]) -> dict[str, float]:
    """The format (an object with the template's three keys) and the exact arguments, a half each."""
    try:
        value = load(reply)
        _, action, arguments = (value[template[key]] for key in ("thought", "action", "args"))
    except (ValueError, KeyError, TypeError, IndexError):
        return {"instruct": 0.0, "parsed": 0.0}
    return _instructed(action, arguments, gold)


def instruct_string(reply: str, template: Mapping[str, str], gold: Mapping[str, Any]) -> dict[str, float]:
    """The format (the template's marks in their order) and the exact arguments, a half each."""
    parts = between(
        reply,
        template["thought_start"],
        template["thought_end"] + template["action_start"],
        template["action_end"] + template["args_start"],
        template["args_end"],
    )
    if parts is None:
        return {"instruct": 0.0, "parsed": 0.0}
    try:
        # As published a Python literal only: JSON's true, false and null are not read.
        arguments = ast.literal_eval(_python_escapes(parts[2].strip()))
    except _UNREADABLE:
        arguments = {}
    return _instructed(parts[1].strip(), arguments, gold)


def between(text: str, first: str, second: str, third: str, fourth: str) -> tuple[str, str, str] | None:
    """What stands between four marks: the earliest first, then each as late as those behind it allow.

    This is what the pattern ``first(.*)second(.*)third(.*)fourth`` finds, in linear time.
    """
    end = text.rfind(fourth)
    place3 = text.rfind(third, 0, max(end, 0))
    place2 = text.rfind(second, 0, max(place3, 0))
    place1 = text.find(first, 0, max(place2, 0))
    if min(end, place3, place2, place1) < 0:
        return None
    return (
        text[place1 + len(first) : place2],
        text[place2 + len(second) : place3],
        text[place3 + len(third) : end],
    )


def plan_of_json(text: Any) -> list[Step]:
    """A plan as a list of steps with ``name``, ``id`` and ``args``; empty where any step lacks one."""
    try:
        steps = load(text, "[", "]")
        if not isinstance(steps, list):
            return []
        return [{"name": str(s["name"]), "id": int(s["id"]), "args": str(s["args"])} for s in steps]
    except (ValueError, KeyError, TypeError, IndexError, OverflowError):
        return []


def plan_of_text(text: str, apis: Sequence[str]) -> list[Step]:
    """A plan as sentences: each names the API that stands first in it, and is its arguments."""
    steps: list[Step] = []
    for line in text.replace(". ", "\n").split("\n"):
        places = {api: place for api in apis if (place := line.find(api)) >= 0}
        if places:
            steps.append({"name": min(places, key=places.__getitem__), "id": len(steps), "args": line})
    return steps


def plan(
    made: Sequence[Step], gold: Sequence[Step], embedder: Embedder, least_matched: int = LEAST_MATCHED
) -> dict[str, float]:
    """F1 of the steps that match in order.

    Steps are matched one to one by the likeness of names (0.75) and arguments (0.25) above 0.8, and the longest run in
    the gold order counts, as at least ``least_matched`` steps.
    """
    parsed = float(bool(made) and bool(gold))
    steps, true = (_without_finish(sorted(each, key=lambda step: step["id"])) for each in (made, gold))
    if not steps or not true:
        return {"plan": 0.0, "plan_precision": 0.0, "plan_recall": 0.0, "parsed": parsed}
    likeness = sum(
        weight * np.maximum(embedder.cosines([s[key] for s in steps], [s[key] for s in true]), 0)
        for key, weight in (("name", NAME_WEIGHT), ("args", ARGUMENTS_WEIGHT))
    )
    weights = np.where(likeness > MATCH_THRESHOLD, likeness, 0.0)
    rows, columns = linear_sum_assignment(weights, maximize=True)
    matched = [int(column) for row, column in zip(rows, columns, strict=True) if weights[row, column] > 0]
    right = max(_longest_increasing(matched), least_matched)
    precision, recall = right / len(steps), right / len(true)
    return {
        "plan": 2 * right / (len(steps) + len(true)),
        "plan_precision": precision,
        "plan_recall": recall,
        "parsed": parsed,
    }


def reason(reply: str, thought: str, embedder: Embedder) -> dict[str, float]:
    """The cosine of the thoughts, 0 where it is negative."""
    return {"reason": _alike(reply, thought, embedder)}


def retrieve(reply: str, name: str, listed: Collection[str] = ()) -> dict[str, float]:
    """1 where the name stands in the reply, and neither another dotted name nor ``FinishAction`` does.

    ``listed`` are further names that must not stand in it, for tools whose names have no dot.
    """
    others = set(_DOTTED.findall(reply)) | {other for other in listed if _stands(other, reply)}
    if "FinishAction" in reply:
        others.add("FinishAction")
    return {"retrieve": float(name in reply and not others - {name})}


def understand(reply: str, arguments: str) -> dict[str, float]:
    """Equality once quotes are off the reply."""
    return {"understand": float(reply.strip("'").strip('"') == arguments)}


def reason_retrieve_understand(reply: str, gold: Mapping[str, Any], embedder: Embedder) -> dict[str, float]:
    """Thought, name and arguments of one JSON object, a score each."""
    try:
        made = load(reply, "{", "}")
    except ValueError:
        made = None
    if not isinstance(made, dict):
        return {"reason": 0.0, "retrieve": 0.0, "understand": 0.0, "parsed": 0.0}
    arguments = made["args"] if isinstance(made.get("args"), dict) else {}
    true: Mapping[str, Any] = gold["args"] if isinstance(gold.get("args"), Mapping) else {}
    same = sum(key in arguments and str(arguments[key]) == str(value) for key, value in true.items())
    return {
        "reason": _alike(str(made.get("thought", "")), str(gold.get("thought", "")), embedder),
        "retrieve": float(str(made.get("name", "")) == str(gold.get("name", ""))),
        "understand": same / (len(true) + 1e-5) if true else float(not arguments),
        "parsed": 1.0,
    }


def review(reply: str, answer: str) -> dict[str, float]:
    """The letter that stands behind the first colon, or at the beginning where there is none."""
    letter = reply[reply.find(":") + 1 :].strip()[:1]
    parsed = bool(letter) and letter in "ABCDE"
    return {"review": float(parsed and letter == answer), "parsed": float(parsed)}


def _instructed(action: Any, arguments: Any, gold: Mapping[str, Any]) -> dict[str, float]:
    given = arguments if isinstance(arguments, dict) else {}
    true: Mapping[str, Any] = gold["args"]
    right = (action == gold["action"]) + sum(given.get(key, "") == value for key, value in true.items())
    return {"instruct": 0.5 + 0.5 * right / (1 + len(true)), "parsed": 1.0}


def _without_finish(steps: Sequence[Step]) -> Sequence[Step]:
    return steps[:-1] if steps and steps[-1]["name"] == "FinishAction" else steps


def _python_escapes(text: str) -> str:
    """The text as a literal: Python keeps the backslash of an escape that it does not know, and warns."""
    return _ESCAPE.sub(lambda match: match[0] if match[1] in _KNOWN_ESCAPES else "\\" + match[0], text)


def _stands(name: str, reply: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", reply) is not None


def _longest_increasing(numbers: Sequence[int]) -> int:
    lengths: list[int] = []
    for place, number in enumerate(numbers):
        lengths.append(1 + max((lengths[i] for i in range(place) if numbers[i] < number), default=0))
    return max(lengths, default=0)


def _alike(first: str, second: str, embedder: Embedder) -> float:
    # Rounding can put the cosine of equal vectors a little above 1.
    return float(np.clip(embedder.cosines([first], [second])[0, 0], 0.0, 1.0))
