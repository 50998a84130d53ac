"""Conformity: runs that go in circles, and calls that break the schema of the tool they call.

The paper keeps only records that fit Thought-Action-ActionInput, reach an answer and are no restarts (Agent-FLAN,
section 3; ToolBench's own marks of these are read in ``sources``). These rules look at the runs of every source.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory


class Verdict(NamedTuple):
    """Why a trajectory is removed: a short reason to count by and a sentence for a person."""

    reason: str
    sentence: str


class Step(NamedTuple):
    """An assistant turn that calls, and the results it got."""

    words: str
    calls: tuple[ToolCall, ...]
    results: tuple[str, ...]


LOOP_TIMES = 3
"""The same steps so often in a row are a loop; the same call with the same failure so often is one anywhere."""

LOOP_STEPS = 3
"""Loops of one to so many steps are looked for."""

STALLED_STEPS = 5
"""So many results in a row that are the very same failure: the run makes no headway, whatever it calls."""

_FAILURE = re.compile(
    r"""
    ^[\W_]{0,20}
        (?!\w+["']\s*:)                                      # a key of JSON: the last line looks at its value
        (?:error|exception|traceback|fail(?:ed|ure)|invalid|illegal|syntax\ error|could\ not|couldn't|cannot|can't
        |unable\ to|unknown|no\ such|not\ found|access\ denied|permission\ denied|command\ not\ found|nothing\ happen
        |no\ change|no\ known\ action|time[d-]?\ ?out)
    | ^\d{4}\ \(\w{5}\):                                     # MySQL
    | ^\w+:\ .{0,200}(?:no\ such\ file|not\ found|permission\ denied|invalid\ option|missing\ argument)
    | ["'](?:error|exception|detail)["']\s*:\s*(?:"[^"\s]|'[^'\s]|\{\s*["']|true)
    """,
    re.IGNORECASE | re.VERBOSE,
)


def steps_of(messages: Sequence[Message]) -> list[Step]:
    """The steps of a conversation, in order."""
    steps: list[Step] = []
    for message in messages:
        if message.calls:
            steps.append(Step(f"{message.thought}\n{message.content}", message.calls, ()))
        elif message.role == "tool" and steps:
            steps[-1] = steps[-1]._replace(results=(*steps[-1].results, message.content))
    return steps


def failed(result: str) -> bool:
    """Whether a tool's result reports a failure, as far as its beginning says."""
    return _FAILURE.search(result[:1_000]) is not None


def going_in_circles(trajectory: Trajectory) -> Verdict | None:
    """One of three signs that a run got nowhere.

    ``loop``: the same one to three steps (words, calls, results) three times in a row. ``repeated_failure``: the same
    call met the same failure three times, in a row or not. ``stalled``: five results in a row are the same failure.
    A call that is repeated with other thoughts and no failure is none of these: who crosses a large room or crafts
    eight pieces does the same thing again and again, and sees the same (67 runs of BabyAI and TextCraft).
    """
    if sum(1 for message in trajectory.messages if message.calls) < LOOP_TIMES:
        return None
    steps = steps_of(trajectory.messages)
    for size in range(1, LOOP_STEPS + 1):
        if _repeats(steps, size):
            return Verdict(
                "loop", f"Record {trajectory.id!r} goes through the same {size} step(s) {LOOP_TIMES} times in a row."
            )
    failures = [step.results if step.results and all(map(failed, step.results)) else () for step in steps]
    counts = Counter((step.calls, results) for step, results in zip(steps, failures, strict=True) if results)
    for (calls, results), times in counts.items():
        if times >= LOOP_TIMES:
            return Verdict(
                "repeated_failure",
                f"Record {trajectory.id!r} makes the same call of {calls[0].name!r} {times} times, and each time the "
                f"result is {results[0][:80]!r}.",
            )
    for results, run in itertools.groupby(failures):
        if results and (times := len(list(run))) >= STALLED_STEPS:
            return Verdict(
                "stalled", f"Record {trajectory.id!r} gets {times} times in a row the result {results[0][:80]!r}."
            )
    return None


def _repeats(steps: Sequence[Step], size: int) -> bool:
    """Whether ``size`` steps stand LOOP_TIMES times one after another."""
    matches = 0
    for before, after in zip(steps, steps[size:], strict=False):
        matches = matches + 1 if before == after else 0
        if matches == size * (LOOP_TIMES - 1):
            return True
    return False


def breaking_the_schema(trajectory: Trajectory) -> Verdict | None:
    """A learnt call with an argument that its tool does not declare, without a required one, or of a wrong type.

    Checked directly (17 µs a trajectory; the validators of jsonschema take 60 µs): the names of the arguments, and
    each argument's own ``type`` and ``enum``; nested schemas are not entered. Published schemas are loose, so a number
    written as text passes for a number and the other way round, null passes for any type, type names outside JSON
    schema allow anything, letter case in an ``enum`` does not matter, and a tool that declares no properties takes any
    argument.
    """
    tools = {tool.name: tool for tool in trajectory.tools}
    for index, message in enumerate(trajectory.messages):
        if message.loss:
            for call in message.calls:
                if fault := _call_fault(call, tools[call.name]):
                    reason, words = fault
                    return Verdict(reason, f"Message {index} of {trajectory.id!r} calls {call.name!r} {words}.")
    return None


def _call_fault(call: ToolCall, tool: Tool) -> tuple[str, str] | None:
    properties = tool.properties
    arguments: dict[str, Any] = json.loads(call.arguments)
    for name in tool.required:
        if name not in arguments:
            return "missing_argument", f"without the argument {name!r} that it requires"
    if not properties:
        return None
    open_ended = bool(tool.parameters.get("additionalProperties", False))
    for name, value in arguments.items():
        if name not in properties:
            if open_ended:
                continue
            known = ", ".join(properties)
            return "unknown_argument", f"with the argument {name!r}, but it takes {known}"
        schema = properties[name]
        if not isinstance(schema, dict):
            continue
        if not _has_type(value, schema.get("type")):
            return "wrong_type", f"with {name} = {str(value)[:60]!r}, but that is of type {schema['type']}"
        choices = schema.get("enum")
        if isinstance(choices, list) and choices and not _is_chosen(value, choices):
            return "unknown_choice", f"with {name} = {str(value)[:60]!r}, but the choices are {str(choices)[:200]}"
    return None


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str | int | float),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or float(value).is_integer()),
    "boolean": lambda value: isinstance(value, bool) or str(value).casefold() in ("true", "false", "0", "1"),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def _has_type(value: Any, kind: Any) -> bool:
    """Whether a value is of a JSON schema type, or of one of several; null, said of an optional argument, passes."""
    kinds = kind if isinstance(kind, list) else [kind]
    return value is None or any(
        not isinstance(name, str) or name not in _TYPES or _TYPES[name](value) for name in kinds
    )


def _is_chosen(value: Any, choices: list[Any]) -> bool:
    allowed = {str(choice).casefold() for choice in choices}
    values = value if isinstance(value, list) else [value]
    return value is None or all(str(item).casefold() in allowed for item in values)
