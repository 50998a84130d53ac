"""A trajectory as training text: decomposed chat, chain of thought, or steps in an explicit format.

Agent-FLAN section 3.1: each ``Thought / Action / Action Input`` block becomes turns of a conversation in which the
other side asks for the pieces one at a time, so that what is learnt (thought, tool name, arguments) stands apart
from the protocol that would carry it. A part of the trajectories gives thought and call in one turn of plain words
(chain of thought), and a part stays in ReAct form.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

from agentflan_ray.corpus.calls import call_parts, calls_in, read_arguments, write_arguments
from agentflan_ray.corpus.elicit import (
    ASK_ANSWER,
    ASK_ARGUMENTS,
    ASK_FIRST_THOUGHT,
    ASK_NEXT_TOOL,
    ASK_STEP,
    ASK_THOUGHT,
    ASK_TOOL,
    Asker,
)
from agentflan_ray.forms import FORMATS, ExplicitForm, json_text, observation, plain_system, thought_of
from agentflan_ray.randomness import stable_random
from agentflan_ray.sample import Capability, Form, Part, Sample, Turn
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory

FORMAT_KEYWORD = re.compile(
    r"^\s*(Thought|Action|Action Input|Final Answer|Observation|Act|Think|THOUGHT|ACTION)\s*:", re.MULTILINE
)
"""The protocol words that must never be learnt in chat form (paper, figure 3: format tokens)."""

ELICITED_THOUGHTS, ELICITED_FIRST_THOUGHTS, ELICITED_ANSWERS, ELICITED_STEPS = 0.8, 0.3, 0.6, 0.7
"""Shares of the places for a statement that get one: a conversation in which each turn is asked for would teach that
thoughts and answers come only when asked for. Chosen by reading; the paper does not say."""


def chat_form(trajectory: Trajectory, seed: int) -> Sample:
    """The decomposed conversation: thought, tool name and arguments as separate assistant turns.

    Every supervised word of the trajectory is in it, with its capability. Turns that are not learnt in the
    trajectory stay as context.
    """
    asker = Asker(stable_random(seed, "chat", trajectory.id))
    own, messages = split_system(trajectory)
    return _sample(trajectory, "chat", [*system_turns(own, trajectory.tools), *chat_turns(messages, asker)])


def cot_form(trajectory: Trajectory, seed: int) -> Sample:
    """The conversation with each step whole in one assistant turn: the thought, then the call in one of many shapes.

    No format is asked for and no protocol word is used (paper, section 3.1; 30 % of the released ToolBench part).
    """
    asker = Asker(stable_random(seed, "cot", trajectory.id))
    own, messages = split_system(trajectory)
    return _sample(trajectory, "cot", [*system_turns(own, trajectory.tools), *_cot_turns(messages, asker)])


def react_form(trajectory: Trajectory) -> Sample:
    """The trajectory in ReAct form under a system prompt that asks for it (the paper keeps 10 %)."""
    return explicit_form(trajectory, "react")


def explicit_form(trajectory: Trajectory, form: ExplicitForm) -> Sample:
    """The trajectory in ReAct, JSON or string steps under a system prompt that asks for them.

    A thought is asked for only where some step to learn has one: what is asked for is given.
    """
    written = FORMATS[form]
    own, messages = split_system(trajectory)
    ask = written.system(trajectory.tools, written.keys, has_thoughts(trajectory))
    turns = [Turn("system", (Part(f"{own}\n{ask}" if own else ask),))]
    turns += explicit_turns(messages, form)
    return _sample(trajectory, form, turns)


def explicit_turns(messages: Sequence[Message], form: ExplicitForm) -> Iterator[Turn]:
    """The messages after the system's as turns of an explicit format."""
    written = FORMATS[form]
    asked: list[str] = []
    for message in messages:
        if message.role != "assistant":
            content = message.content.strip()
            asked.append(observation(content).rstrip() if message.role == "tool" else content)
            continue
        yield Turn("user", (Part(_joined(*asked)),))
        parts = written.write(message, written.keys)
        yield Turn("assistant", parts if message.loss else unlearnt(parts))
        asked = []


def calls_of(sample: Sample) -> list[ToolCall]:
    """The learnt calls of a chat or chain-of-thought sample, read back from its turns: the inverse of both forms."""
    if sample.form == "cot":
        return [call for turn in sample.turns for call in calls_in(turn.parts)]
    calls: list[ToolCall] = []
    for turn in sample.turns:
        for part in turn.parts:
            if part.capability == "retrieval":
                calls.append(ToolCall(part.text, "{}"))
            elif part.capability == "understanding":
                calls[-1] = ToolCall(calls[-1].name, json_text(read_arguments(part.text)))
    return calls


def format_keyword_in(sample: Sample) -> str | None:
    """The first protocol word that a sample in natural language would teach, or None.

    Arguments are not searched: one may well be named ``Action``, and a list of values is no protocol.
    """
    for turn in sample.turns:
        for part in turn.parts:
            if part.capability not in (None, "understanding") and (match := FORMAT_KEYWORD.search(part.text)):
                return match.group(0).strip()
    return None


def has_thoughts(trajectory: Trajectory) -> bool:
    """Whether any turn that is learnt reasons (dialogues and recorded sessions often hold calls alone)."""
    return any(message.loss and thought_of(message) for message in trajectory.messages)


def case_of(trajectory: Trajectory) -> str:
    """The grid case of a trajectory: what its adapter said, else by whether it calls tools."""
    if any(message.calls for message in trajectory.messages):
        return "tool"
    return trajectory.meta.get("case") or ("chat_with_tools" if trajectory.tools else "chat")


def split_system(trajectory: Trajectory) -> tuple[str, tuple[Message, ...]]:
    """The trajectory's own system text and the rest. A system text that dictates a protocol is left out: the form
    that the sample is written in brings its own."""
    first = trajectory.messages[0]
    if first.role != "system":
        return "", trajectory.messages
    own = first.content.strip()
    return ("" if trajectory.tools and FORMAT_KEYWORD.search(own) else own), trajectory.messages[1:]


def system_turns(own: str, tools: tuple[Tool, ...]) -> list[Turn]:
    """The system turn of a conversation in natural language; none where there is nothing to say."""
    text = _joined(own, plain_system(tools) if tools else "")
    return [Turn("system", (Part(text),))] if text else []


def chat_turns(messages: Sequence[Message], asker: Asker) -> Iterator[Turn]:
    """The messages after the system's as a decomposed conversation."""
    incoming = _Incoming(asker)
    has_called = False
    for message in messages:
        if message.role != "assistant":
            incoming.hear(message)
            continue
        for elicit, text, capability in _pieces(message, incoming, has_called):
            yield Turn("user", (Part(_joined(incoming.take(), elicit)),))
            yield Turn("assistant", (Part(text, capability if message.loss else None),))
        has_called = has_called or bool(message.calls)
        incoming.expect(message.calls)


def unlearnt(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The same text as context."""
    return tuple(Part(part.text) for part in parts)


class _Incoming:
    """What was said since the assistant's last turn; tool results under the name of the tool that gave them."""

    def __init__(self, asker: Asker) -> None:
        self.asker = asker
        self.from_tool = False
        self._texts: list[str] = []
        self._waiting: list[str] = []
        self._is_first = True

    @property
    def at_start(self) -> bool:
        """Whether the assistant has not spoken yet."""
        return self._is_first

    def expect(self, calls: Sequence[ToolCall]) -> None:
        """The next results are those of these calls."""
        self._waiting = [call.name for call in calls]

    def hear(self, message: Message) -> None:
        """Take in a turn of the user or a tool."""
        content = message.content.strip()
        self.from_tool = message.role == "tool"
        if self.from_tool:
            content = self.asker.pass_on(content, self._waiting.pop(0) if self._waiting else "the tool")
        self._texts.append(content)

    def take(self) -> str:
        """All that was said; after this, nothing is waiting to be answered."""
        texts, self._texts, self._is_first = self._texts, [], False
        return _joined(*texts)


def _pieces(message: Message, incoming: _Incoming, has_called: bool) -> list[tuple[str, str, Capability]]:
    """The pieces of a step: what asks for each, its text and its capability."""
    asker = incoming.asker
    pieces: list[tuple[str, str, Capability]] = []
    thought = thought_of(message)
    if thought:
        elicit = ""
        if incoming.from_tool:
            elicit = asker.sometimes(ELICITED_THOUGHTS, ASK_THOUGHT)
        elif incoming.at_start:
            elicit = asker.sometimes(ELICITED_FIRST_THOUGHTS, ASK_FIRST_THOUGHT)
        pieces.append((elicit, thought, "reasoning"))
    for index, call in enumerate(message.calls):
        pieces.append((asker.ask(ASK_NEXT_TOOL if index else ASK_TOOL), call.name, "retrieval"))
        pieces.append((asker.ask(ASK_ARGUMENTS, call.name), write_arguments(call.arguments), "understanding"))
    if not message.calls and (content := message.content.strip()):
        elicit = ""
        if thought:
            elicit = asker.ask(ASK_ANSWER)
        elif incoming.from_tool:
            elicit = asker.sometimes(ELICITED_ANSWERS, ASK_ANSWER)
        # An answer drawn from results is reasoning; words before any call are ordinary talk.
        pieces.append((elicit, content, "reasoning" if has_called else "general"))
    return pieces


def _cot_turns(messages: Sequence[Message], asker: Asker) -> Iterator[Turn]:
    incoming = _Incoming(asker)
    has_called = False
    for message in messages:
        if message.role != "assistant":
            incoming.hear(message)
            continue
        # Statements ask for the reasoning, too: asked for where there is none they would teach to pass over it.
        is_place = thought_of(message) and (incoming.from_tool or incoming.at_start)
        elicit = asker.sometimes(ELICITED_STEPS, ASK_STEP) if is_place else ""
        yield Turn("user", (Part(_joined(incoming.take(), elicit)),))
        parts = _cot_parts(message, asker.rng, has_called)
        yield Turn("assistant", parts if message.loss else unlearnt(parts))
        has_called = has_called or bool(message.calls)
        incoming.expect(message.calls)


def _cot_parts(message: Message, rng: random.Random, has_called: bool) -> tuple[Part, ...]:
    parts: list[Part] = []
    if thought := thought_of(message):
        parts.append(Part(thought, "reasoning"))
    for call in message.calls:
        parts += call_parts(call, rng, at_start=not parts)
    if not message.calls and (content := message.content.strip()):
        capability: Capability = "reasoning" if has_called else "general"
        parts += [Part("\n", capability)] if parts else []
        parts.append(Part(content, capability))
    return tuple(parts)


def _sample(trajectory: Trajectory, form: Form, turns: list[Turn]) -> Sample:
    return Sample(
        id=f"{trajectory.id}/{form}",
        parent=trajectory.id,
        source=trajectory.source,
        form=form,
        case=case_of(trajectory),  # type: ignore[arg-type]  # adapters set cases of sample.CASES
        turns=tuple(turns),
    )


def _joined(*texts: str) -> str:
    return "\n".join(text for text in texts if text)
