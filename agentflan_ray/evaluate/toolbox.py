"""The embedded evaluation: held-out tools and questions, calls really executed, hallucination measured on both sides.

Protocol, by case:

- ``tool``: ReAct prompt; the model's calls run in the item's world, results come back as ``Observation:`` turns, for
  at most one step more than the gold solution takes.
- ``irrelevant_tool``, ``chat_with_tools``, ``missing_argument``: one reply; tools are listed under a ReAct prompt in
  every second item and under a prompt that asks for no format in the others.
- ``no_tool_request``, ``chat``: one reply, no tools listed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentflan_ray.evaluate.benchmark import Item, Metric, Sample
from agentflan_ray.evaluate.engine import Conversation, Generator
from agentflan_ray.evaluate.hallucination import Reading, read
from agentflan_ray.evaluate.stats import standard_error
from agentflan_ray.evaluate.summary import Combined, estimate, values_of
from agentflan_ray.forms import observation, parse_react, plain_system, react_system
from agentflan_ray.toolbox import ITEM_CASES, EvaluationItem, World, answer_is_right, execute
from agentflan_ray.trajectory import ToolCall

PLAIN_CASES = tuple(case for case in ITEM_CASES if case != "tool")
REPLY_TOKENS = 72
"""Room for one reply. Most gold steps of the embedded tasks take 40 to 65 tokens of the default model."""


@dataclass
class Episode:
    """One item being run: the conversation so far, what the model did, and whether it goes on."""

    item: EvaluationItem
    prompt: str
    conversation: Conversation
    replies: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    answer: str | None = None
    world: World | None = None
    done: bool = False


@dataclass(frozen=True)
class Scored:
    """An item's replies and scores, each in [0, 1]; a score that does not apply is absent."""

    item: EvaluationItem
    prompt: str
    replies: tuple[str, ...]
    scores: dict[str, float]


def run(items: Sequence[EvaluationItem], generate: Generator) -> list[Scored]:
    """Run all items, a round of replies at a time, and score them."""
    episodes = [start(item, number) for number, item in enumerate(items)]
    while running := [episode for episode in episodes if not episode.done]:
        replies = generate([episode.conversation for episode in running], REPLY_TOKENS)
        for episode, reply in zip(running, replies, strict=True):
            advance(episode, reply)
    return [Scored(e.item, e.prompt, tuple(e.replies), score(e)) for e in episodes]


def score(episode: Episode) -> dict[str, float]:
    """The scores of a finished episode. Pure: the same replies give the same scores."""
    item = episode.item
    names = {tool.name for tool in item.tools}
    reading = read(episode.replies[0], names)
    if item.case == "tool":
        return _tool_scores(episode, reading)
    scores = {
        "false_call": float(reading.calls),
        "leak": float(not reading.plain),
        "h_react": float(reading.paper_react),
        "h_general": float(reading.paper_general),
    }
    if item.case in ("chat", "chat_with_tools"):
        sensible = answer_is_right(item, episode.replies[0])
        scores["over_refusal"] = float(reading.refuses and not sensible)
        scores["sensible"] = float(sensible)
        scores["correct"] = float(reading.plain and sensible)
    elif item.case == "missing_argument":
        scores["correct"] = float(reading.plain and reading.asks)
    else:
        # A made-up result is a hallucination too: the honest reply says that it can't be done, or asks.
        scores["correct"] = float(reading.plain and (reading.refuses or reading.asks))
    return scores


def with_hscore(scores: Mapping[str, float]) -> dict[str, float]:
    """An item's scores and its part of the HScore (Agent-FLAN section 4.1: 0.5 * ((1 - H_ReAct) + (1 - H_General)),
    over items whose truth is a plain reply)."""
    if "h_react" not in scores:
        return dict(scores)
    return {**scores, "hscore": 1 - 0.5 * (scores["h_react"] + scores["h_general"])}


_CHATS = ("chat", "chat_with_tools")
METRICS = (
    Combined(
        "score", parts=(Metric("tool_score", cases=("tool",)), Metric("correct", cases=PLAIN_CASES, by_case=True))
    ),
    Metric("tool_score", cases=("tool",)),
    Metric("right_tool", cases=("tool",)),
    Metric("right_arguments", cases=("tool",)),
    Metric("right_answer", cases=("tool",)),
    Metric("missed_call_rate", "missed_call", cases=("tool",)),
    Metric("false_call_rate", "false_call", cases=PLAIN_CASES),
    Metric("leak_rate", "leak", cases=PLAIN_CASES),
    Metric("over_refusal_rate", "over_refusal", cases=("tool", *_CHATS)),
    Metric("sensible_rate", "sensible", cases=_CHATS),
    Metric("h_react", cases=PLAIN_CASES),
    Metric("h_general", cases=PLAIN_CASES),
    Metric("hscore", cases=PLAIN_CASES),
)
"""Of a search's trials; :mod:`~agentflan_ray.evaluate.measures` knows them by the same names."""


def summarise(scored: Sequence[Scored]) -> dict[str, dict[str, Any]]:
    """``{"metrics": {name: row}, "cases": {case: {name: row}}}``, each row value, n, low, high, and the standard error
    (``error``) where it is a mean over items.

    ``score`` is two-sided: half from tool items (mean of right tool, right arguments, right answer), half from the
    mean over the other cases of the share of right replies. A model that never calls gets at most 0.5, and so does
    one that always calls.
    """
    samples = [_as_sample(each) for each in scored]
    cases: dict[str, Any] = {
        case: {name: _row(samples, Metric(name, cases=(case,))) for name in _names(scored, case)}
        for case in ITEM_CASES
        if any(s.item.case == case for s in scored)
    }
    return {"metrics": {metric.name: _row(samples, metric) for metric in METRICS}, "cases": cases}


def samples_of(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """One row for each item, to be kept beside the summary."""
    return [
        {
            "id": s.item.id,
            "case": s.item.case,
            "group": s.item.group,
            "prompt": s.prompt,
            "query": s.item.query,
            "gold": "; ".join(f"{call.name}({call.arguments})" for call in s.item.gold_calls),
            "reply": "\n⏎\n".join(s.replies),
            "scores": json.dumps(s.scores),
        }
        for s in scored
    ]


def start(item: EvaluationItem, number: int) -> Episode:
    """Begin an item. Its ``number`` in the list of all items chooses its prompt where tools are listed in vain."""
    if not item.tools:
        system, prompt = None, "none"
    elif item.case == "tool" or number % 2 == 0:
        system, prompt = react_system(item.tools), "react"
    else:
        system, prompt = plain_system(item.tools), "plain"
    conversation: Conversation = [{"role": "system", "content": system}] if system else []
    conversation.append({"role": "user", "content": item.query})
    return Episode(item, prompt, conversation, world=World(item.world_seed) if item.case == "tool" else None)


def advance(episode: Episode, reply: str) -> None:
    """Take a reply: run the call that it makes, or end the episode."""
    episode.replies.append(reply)
    if episode.world is None:
        episode.done = True
        return
    step = parse_react(reply)
    if step is None or not step.calls:
        episode.answer = reply if step is None else step.answer
        episode.done = True
        return
    # Only the first call runs: what a model writes after it stands on results that it made up.
    call = step.calls[0]
    episode.calls.append(call)
    if len(episode.replies) > len(episode.item.gold_calls) + 1:
        episode.done = True
        return
    listed = {tool.name for tool in episode.item.tools}
    text = execute(episode.world, call).text if call.name in listed else f"There is no tool named {call.name!r}."
    episode.conversation += [
        {"role": "assistant", "content": reply},
        {"role": "user", "content": observation(text)},
    ]


def _tool_scores(episode: Episode, reading: Reading) -> dict[str, float]:
    gold, made = episode.item.gold_calls, episode.calls
    right_tool = bool(made) and made[0].name == gold[0].name
    right_arguments = right_tool and _same_arguments(made[0].arguments, gold[0].arguments)
    right_answer = bool(made) and episode.answer is not None and answer_is_right(episode.item, episode.answer)
    return {
        "right_tool": float(right_tool),
        "right_arguments": float(right_arguments),
        "right_answer": float(right_answer),
        "tool_score": (right_tool + right_arguments + right_answer) / 3,
        "missed_call": float(not made),
        "over_refusal": float(not made and reading.refuses),
    }


def _same_arguments(made: str, gold: str) -> bool:
    try:
        values = json.loads(made)
    except ValueError:
        return False
    return isinstance(values, dict) and _plain(values) == _plain(json.loads(gold))


def _plain(value: Any) -> Any:
    """Equal for what means the same: case and outer blanks of text, 3 and 3.0."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return value.strip().casefold()
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _names(scored: Sequence[Scored], case: str) -> list[str]:
    return list(next(s.scores for s in scored if s.item.case == case))


def _as_sample(scored: Scored) -> Sample:
    item = scored.item
    return Sample(Item(item.id, item.group, item.case, {}), (), {}, with_hscore(scored.scores), 0.0)


def _row(samples: Sequence[Sample], metric: Metric) -> dict[str, Any]:
    found = estimate(samples, metric)
    row = {"value": found.value, "n": found.n, "low": found.low, "high": found.high}
    if isinstance(metric, Combined):
        return row
    return row | {"error": standard_error(*values_of(samples, metric))}
