"""Laws of the decomposition: nothing lost, nothing invented, no protocol taught, and it can be undone."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings

from agentflan_ray.corpus.align import (
    FORMAT_KEYWORD,
    calls_of,
    chat_form,
    json_form,
    react_form,
    read_arguments,
    write_arguments,
)
from agentflan_ray.corpus.instruct import draw_keys, instruction_pair
from agentflan_ray.forms import parse_json, parse_react, thought_of
from agentflan_ray.sample import Sample
from agentflan_ray.trajectory import Message, Trajectory, validate
from tests.strategies import arguments, tool_trajectories


def taught(sample: Sample, *capabilities: str) -> list[str]:
    return [p.text for turn in sample.turns for p in turn.parts if p.capability in capabilities]


def learnt(trajectory: Trajectory) -> list[Message]:
    return [message for message in trajectory.messages if message.loss]


@given(tool_trajectories())
def test_every_learnt_word_survives_and_none_is_invented(trajectory: Trajectory) -> None:
    assert validate(trajectory) == []
    sample = chat_form(trajectory, seed=0)
    said = [t for m in learnt(trajectory) if (t := thought_of(m))]
    said += [m.content.strip() for m in learnt(trajectory) if not m.calls]
    assert Counter(taught(sample, "reasoning", "general")) == Counter(said)
    calls = [call for m in learnt(trajectory) for call in m.calls]
    assert taught(sample, "retrieval") == [call.name for call in calls]
    values = [json.loads(call.arguments) for call in calls]
    assert [read_arguments(text) for text in taught(sample, "understanding")] == values


@given(tool_trajectories())
def test_recomposing_gives_the_original_calls(trajectory: Trajectory) -> None:
    calls = [call for m in learnt(trajectory) for call in m.calls]
    read_back = calls_of(chat_form(trajectory, seed=3))
    assert [(c.name, json.loads(c.arguments)) for c in read_back] == [(c.name, json.loads(c.arguments)) for c in calls]


@given(tool_trajectories())
def test_chat_form_teaches_no_protocol_and_roles_alternate(trajectory: Trajectory) -> None:
    sample = chat_form(trajectory, seed=0)
    for text in taught(sample, "reasoning", "retrieval", "general", "instruction"):
        assert not FORMAT_KEYWORD.search(text)
    assert taught(sample, "instruction") == []
    roles = [turn.role for turn in sample.turns]
    assert roles[0] == "system"
    assert roles[1:] == ["user", "assistant"] * ((len(roles) - 1) // 2)


@given(tool_trajectories())
def test_context_holds_every_observation(trajectory: Trajectory) -> None:
    context = "\n".join(t.text for t in chat_form(trajectory, seed=0).turns if t.role == "user")
    for message in trajectory.messages:
        if message.role in ("user", "tool"):
            assert message.content in context


@pytest.mark.parametrize(("write", "read"), [(react_form, parse_react), (json_form, parse_json)])
@given(trajectory=tool_trajectories())
@settings(max_examples=50)
def test_explicit_forms_read_back(write, read, trajectory: Trajectory) -> None:  # type: ignore[no-untyped-def]
    replies = [turn.text for turn in write(trajectory).turns if turn.role == "assistant"]
    originals = [m for m in trajectory.messages if m.role == "assistant"]
    assert len(replies) == len(originals)
    for reply, message in zip(replies, originals, strict=True):
        step = read(reply)
        assert step is not None
        assert step.thought == thought_of(message)
        assert [c.name for c in step.calls] == [c.name for c in message.calls]
        assert [json.loads(c.arguments) for c in step.calls] == [json.loads(c.arguments) for c in message.calls]
        assert step.answer == (None if message.calls else message.content)


@given(tool_trajectories())
def test_an_instruction_pair_teaches_one_step_in_its_own_keys(trajectory: Trajectory) -> None:
    sample = instruction_pair(trajectory, seed=0)
    keys = draw_keys(0, trajectory.id)
    taught_turns = [t for t in sample.turns if any(p.capability for p in t.parts)]
    assert taught_turns == [sample.turns[-1]]
    step = (parse_react if sample.form == "react" else parse_json)(sample.turns[-1].text, keys)
    assert step is not None
    assert all(key in sample.turns[0].text for key in (keys.thought, keys.action, keys.arguments, keys.answer))


@given(arguments)
def test_arguments_in_plain_lines_are_invertible(text: str) -> None:
    assert read_arguments(write_arguments(text)) == json.loads(text)


@given(tool_trajectories())
def test_rows_are_invertible(trajectory: Trajectory) -> None:
    assert Trajectory.from_row(trajectory.to_row()) == trajectory
    sample = react_form(trajectory)
    assert Sample.from_row(sample.to_row()) == sample
