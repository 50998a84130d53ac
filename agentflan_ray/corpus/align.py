"""A trajectory as training text: ordinary chat with elicit statements, or ReAct or JSON steps as they are.

Agent-FLAN section 3.1: each ``Thought / Action / Action Input`` block becomes turns of a conversation in which the
other side asks for the pieces one at a time, so that what is learnt (thought, tool name, arguments) stands apart
from the protocol that would carry it. The paper's wording is not published; these statements are our own.
"""

from __future__ import annotations

import json
import random
import re

from agentflan_ray.forms import (
    JSON_KEYS,
    REACT_KEYS,
    json_parts,
    json_system,
    observation,
    plain_system,
    react_parts,
    react_system,
    thought_of,
)
from agentflan_ray.randomness import stable_random
from agentflan_ray.sample import Capability, Form, Part, Sample, Turn
from agentflan_ray.trajectory import Message, ToolCall, Trajectory

ASK_TOOL = (
    "Which tool do you want to use?",
    "What tool fits this step?",
    "Name the tool for that.",
    "Which of your tools will help here?",
    "Which tool comes next?",
    "What do you want to call?",
)
ASK_NEXT_TOOL = ("Which other tool do you want to use now?", "And which tool besides that one?", "What else to call?")
ASK_ARGUMENTS = (
    "What arguments does it get?",
    "With which values?",
    "Give its arguments, one per line.",
    "What should be passed to it?",
    "Which values go in?",
    "List the arguments for it.",
)
ASK_THOUGHT = (
    "What do you make of it?",
    "What does that tell you?",
    "What follows from this?",
    "How do you go on?",
    "What now?",
    "Your thoughts?",
)
ASK_ANSWER = (
    "So what is the answer?",
    "Please answer the request now.",
    "What do you tell the user?",
    "Give your reply to the user.",
    "Put the answer in words.",
    "Then tell me the result.",
)
RESULT = ("The result: {}", "It returned: {}", "That gave: {}", "Here is what came back: {}", "Result: {}")
NO_ARGUMENTS = "none"

FORMAT_KEYWORD = re.compile(
    r"^\s*(Thought|Action|Action Input|Final Answer|Observation|Act|Think|THOUGHT|ACTION)\s*:", re.MULTILINE
)
"""The protocol words that must never be learnt in chat form (paper, figure 3: format tokens)."""


def write_arguments(arguments: str) -> str:
    """Arguments in plain lines, ``name: value``, each value as JSON so that :func:`read_arguments` is its inverse."""
    values = json.loads(arguments)
    if not values:
        return NO_ARGUMENTS
    return "\n".join(
        f"{json.dumps(k, ensure_ascii=False)[1:-1]}: {json.dumps(v, ensure_ascii=False)}" for k, v in values.items()
    )


def read_arguments(text: str) -> dict[str, object]:
    """Inverse of :func:`write_arguments`. A name that itself holds ``": "`` is read up to the value that parses."""
    if text == NO_ARGUMENTS:
        return {}
    values: dict[str, object] = {}
    for line in text.split("\n"):
        for match in re.finditer(": ", line):
            try:
                values[json.loads(f'"{line[: match.start()]}"')] = json.loads(line[match.end() :])
                break
            except ValueError:
                continue
        else:
            raise ValueError(f"No argument can be read from {line!r}; expected a line such as 'city: \"Paris\"'.")
    return values


def chat_form(trajectory: Trajectory, seed: int) -> Sample:
    """The decomposed conversation: thought, tool name and arguments as separate assistant turns.

    Every supervised word of the trajectory is in it, with its capability. Turns that are not learnt in the
    trajectory stay as context.
    """
    rng = stable_random(seed, "chat", trajectory.id)
    system, messages = _split_system(trajectory)
    turns = [Turn("system", (Part(_with_own(system, plain_system(trajectory.tools)) if trajectory.tools else system),))]
    if not turns[0].text:
        turns = []
    asked = ""
    has_called = False
    for message in messages:
        if message.role != "assistant":
            asked = _join(asked, _incoming(message, rng))
            continue
        said = _pieces(message, has_called, rng)
        has_called = has_called or bool(message.calls)
        for elicit, text, capability in said:
            turns.append(Turn("user", (Part(_join(asked, elicit)),)))
            turns.append(Turn("assistant", (Part(text, capability if message.loss else None),)))
            asked = ""
    return _sample(trajectory, "chat", "chat", turns)


def react_form(trajectory: Trajectory) -> Sample:
    """The trajectory in ReAct form under a system prompt that asks for it."""
    return _explicit_form(trajectory, "react")


def json_form(trajectory: Trajectory) -> Sample:
    """The trajectory as JSON steps under a system prompt that asks for them."""
    return _explicit_form(trajectory, "json")


def calls_of(sample: Sample) -> list[ToolCall]:
    """The calls of a chat-form sample, read back from its turns: the inverse of the decomposition."""
    calls: list[ToolCall] = []
    for turn in sample.turns:
        for part in turn.parts:
            if part.capability == "retrieval":
                calls.append(ToolCall(part.text, "{}"))
            elif part.capability == "understanding":
                calls[-1] = ToolCall(calls[-1].name, json.dumps(read_arguments(part.text), ensure_ascii=False))
    return calls


def format_keyword_in(sample: Sample) -> str | None:
    """The first protocol word that a chat-form sample would teach, or None.

    Arguments are not searched: one may well be named ``Action``, and a list of values is no protocol.
    """
    for turn in sample.turns:
        for part in turn.parts:
            if part.capability not in (None, "understanding") and (match := FORMAT_KEYWORD.search(part.text)):
                return match.group(0).strip()
    return None


def case_of(trajectory: Trajectory) -> str:
    """The grid case of a trajectory: what its adapter said, else by whether it calls tools."""
    if any(message.calls for message in trajectory.messages):
        return "tool"
    return trajectory.meta.get("case") or ("chat_with_tools" if trajectory.tools else "chat")


def _pieces(message: Message, has_called: bool, rng: random.Random) -> list[tuple[str, str, Capability]]:
    pieces: list[tuple[str, str, Capability]] = []
    thought = thought_of(message)
    if thought:
        pieces.append(("", thought, "reasoning"))
    for index, call in enumerate(message.calls):
        pieces.append((rng.choice(ASK_NEXT_TOOL if index else ASK_TOOL), call.name, "retrieval"))
        pieces.append((rng.choice(ASK_ARGUMENTS), write_arguments(call.arguments), "understanding"))
    if not message.calls and (content := message.content.strip()):
        # An answer drawn from results is reasoning; words before any call are ordinary talk.
        pieces.append((rng.choice(ASK_ANSWER) if thought else "", content, "reasoning" if has_called else "general"))
    return pieces


def _explicit_form(trajectory: Trajectory, form: Form) -> Sample:
    system, messages = _split_system(trajectory)
    ask = react_system(trajectory.tools) if form == "react" else json_system(trajectory.tools)
    turns = [Turn("system", (Part(_with_own(system, ask)),))]
    asked = ""
    for message in messages:
        if message.role != "assistant":
            asked = _join(asked, observation(message.content) if message.role == "tool" else message.content)
            continue
        turns.append(Turn("user", (Part(asked),)))
        parts = react_parts(message, REACT_KEYS) if form == "react" else json_parts(message, JSON_KEYS)
        turns.append(Turn("assistant", parts if message.loss else tuple(Part(part.text) for part in parts)))
        asked = ""
    return _sample(trajectory, form, form, turns)


def _sample(trajectory: Trajectory, kind: str, form: Form, turns: list[Turn]) -> Sample:
    return Sample(
        id=f"{trajectory.id}/{kind}",
        parent=trajectory.id,
        source=trajectory.source,
        form=form,
        case=case_of(trajectory),  # type: ignore[arg-type]  # adapters set cases of sample.CASES
        turns=tuple(turns),
    )


def _split_system(trajectory: Trajectory) -> tuple[str, tuple[Message, ...]]:
    """The trajectory's own system text and the rest. A system text that dictates a protocol is left out: the form
    that the sample is written in brings its own."""
    first = trajectory.messages[0]
    if first.role != "system":
        return "", trajectory.messages
    own = first.content.strip()
    return ("" if trajectory.tools and FORMAT_KEYWORD.search(own) else own), trajectory.messages[1:]


def _with_own(own: str, made: str) -> str:
    return f"{own}\n{made}" if own else made


def _incoming(message: Message, rng: random.Random) -> str:
    content = message.content.strip()
    if message.role != "tool":
        return content
    return f"{rng.choice(RESULT).format(content)}\n{rng.choice(ASK_THOUGHT)}"


def _join(before: str, after: str) -> str:
    return "\n".join(text for text in (before, after) if text)
