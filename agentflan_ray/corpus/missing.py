"""Requests that lack an argument: from real dialogues, those in which the assistant had to ask before it could call.

Beyond Agent-FLAN section 3.4. Nothing is made up: the tools, the request and the question are the dialogue's own. That
the question was needed is checked: the value of a required argument of the call that follows is said only afterwards.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable

from agentflan_ray.corpus.align import split_system, system_turns
from agentflan_ray.corpus.negatives import is_environment, make_negative
from agentflan_ray.sample import Part, Sample, Turn
from agentflan_ray.trajectory import Message, Trajectory


def missing_argument(trajectory: Trajectory) -> Sample | str:
    """The dialogue up to the question for what is missing; a reason where it holds no such question.

    The turns before are context; the question alone is learnt.
    """
    if is_environment(trajectory):
        return "environment_task"
    own, messages = split_system(trajectory)
    first_call = next(index for index, message in enumerate(messages) if message.calls)
    before = list(itertools.takewhile(lambda index: not messages[index].calls, range(first_call)))
    for index in before:
        question = messages[index]
        if question.role == "assistant" and question.loss and "?" in question.content:
            known = _said(messages[:index])
            told = _said(messages[index + 1 : first_call])
            if any(
                value in told and value not in known for value in _required_values(trajectory, messages[first_call])
            ):
                turns = [*system_turns(own, trajectory.tools), *_as_turns(messages[:index])]
                turns.append(Turn("assistant", (Part(question.content.strip(), "general"),)))
                return make_negative(trajectory, "missing_argument", turns)
    return "nothing_was_asked_for"


def _as_turns(messages: Iterable[Message]) -> list[Turn]:
    return [
        Turn("user" if message.role == "user" else "assistant", (Part(message.content.strip()),))
        for message in messages
    ]


def _required_values(trajectory: Trajectory, message: Message) -> list[str]:
    """The texts and numbers that the calls give to required parameters, as they would be said."""
    required = {tool.name: tool.required for tool in trajectory.tools}
    return [
        _plain(str(value))
        for call in message.calls
        for name, value in json.loads(call.arguments).items()
        if name in required[call.name] and isinstance(value, str | int | float) and _plain(str(value)).strip()
    ]


def _said(messages: Iterable[Message]) -> str:
    return _plain(" ".join(message.content for message in messages if message.role == "user"))


def _plain(text: str) -> str:
    """Words and numbers only, with a blank on either side, so that a value is found as a whole word."""
    words = " ".join(re.findall(r"[^\W_]+", text.casefold()))
    return f" {words} "
