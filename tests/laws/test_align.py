"""Laws of the forms: nothing lost, nothing invented, no protocol taught, and each can be undone."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflan_ray.corpus import elicit
from agentflan_ray.corpus.align import (
    FORMAT_KEYWORD,
    calls_of,
    chat_form,
    cot_form,
    explicit_form,
    format_keyword_in,
    has_thoughts,
    react_form,
)
from agentflan_ray.corpus.calls import CONNECTIVES, read_arguments, write_arguments
from agentflan_ray.corpus.instruct import draw_keys, instruction_pair
from agentflan_ray.forms import (
    FORMATS,
    ExplicitForm,
    are_identifiers,
    parse_string,
    python_arguments,
    read_python_arguments,
    thought_of,
    tool_list,
)
from agentflan_ray.sample import Sample
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory, validate
from tests.strategies import arguments, json_values, names, tool_trajectories

few = settings(max_examples=40)
EXPLICIT: tuple[ExplicitForm, ...] = ("react", "json", "string")
STATEMENTS = {name: value for name, value in vars(elicit).items() if name.startswith(("ASK_", "RESULT"))}


def taught(sample: Sample, *capabilities: str) -> list[str]:
    return [p.text for turn in sample.turns for p in turn.parts if p.capability in capabilities]


def learnt(trajectory: Trajectory) -> list[Message]:
    return [message for message in trajectory.messages if message.loss]


def said(trajectory: Trajectory) -> list[str]:
    """The learnt thoughts and answers, word for word."""
    thoughts = [thought for message in learnt(trajectory) if (thought := thought_of(message))]
    return thoughts + [message.content.strip() for message in learnt(trajectory) if not message.calls]


def calls(messages: list[Message]) -> list[tuple[str, object]]:
    return [(call.name, json.loads(call.arguments)) for message in messages for call in message.calls]


@given(tool_trajectories())
@few
def test_chat_teaches_every_learnt_word_and_no_other(trajectory: Trajectory) -> None:
    assert validate(trajectory) == []
    sample = chat_form(trajectory, seed=0)
    assert Counter(taught(sample, "reasoning", "general")) == Counter(said(trajectory))
    made = calls(learnt(trajectory))
    assert taught(sample, "retrieval") == [name for name, _ in made]
    assert [read_arguments(text) for text in taught(sample, "understanding")] == [values for _, values in made]
    assert taught(sample, "instruction") == []


@given(tool_trajectories())
@few
def test_chain_of_thought_adds_only_connectives(trajectory: Trajectory) -> None:
    sample = cot_form(trajectory, seed=0)
    spoken = [text for text in taught(sample, "reasoning", "general") if text != "\n"]
    assert Counter(spoken) == Counter(said(trajectory))
    around = [text.removeprefix("\n") for text in taught(sample, "retrieval")]
    found = calls_of(sample)
    assert [text for text in around if text not in CONNECTIVES] == [call.name for call in found]
    given_values = [text for text in taught(sample, "understanding") if text not in CONNECTIVES]
    assert len(given_values) == sum(call.arguments != "{}" for call in found)
    assert taught(sample, "instruction") == []


@pytest.mark.parametrize("form", [chat_form, cot_form])
@given(trajectory=tool_trajectories(), seed=st.integers(0, 5))
@few
def test_recomposing_gives_the_original_calls(form, trajectory: Trajectory, seed: int) -> None:  # type: ignore[no-untyped-def]
    read_back = [(call.name, json.loads(call.arguments)) for call in calls_of(form(trajectory, seed))]
    assert read_back == calls(learnt(trajectory))


@pytest.mark.parametrize("form", [chat_form, cot_form])
@given(trajectory=tool_trajectories())
@few
def test_no_protocol_is_taught_and_roles_alternate(form, trajectory: Trajectory) -> None:  # type: ignore[no-untyped-def]
    sample = form(trajectory, 0)
    assert format_keyword_in(sample) is None
    roles = [turn.role for turn in sample.turns]
    assert roles[0] == "system"
    assert roles[1:] == ["user", "assistant"] * ((len(roles) - 1) // 2)
    for turn in sample.turns:
        assert turn.text == turn.text.strip()


@pytest.mark.parametrize("form", [chat_form, cot_form])
@given(trajectory=tool_trajectories())
@few
def test_context_holds_every_observation(form, trajectory: Trajectory) -> None:  # type: ignore[no-untyped-def]
    context = "\n".join(t.text for t in form(trajectory, 0).turns if t.role == "user")
    for message in trajectory.messages:
        if message.role in ("user", "tool"):
            assert message.content.strip() in context


@given(tool_trajectories(), st.integers(0, 3))
@few
def test_what_is_not_learnt_stays_as_context(trajectory: Trajectory, seed: int) -> None:
    for sample in (chat_form(trajectory, seed), cot_form(trajectory, seed), react_form(trajectory)):
        text = "\n".join(turn.text for turn in sample.turns if turn.role == "assistant")
        for message in trajectory.messages:
            for call in message.calls:
                assert call.name in text
            if thought := thought_of(message):
                assert thought in text


@pytest.mark.parametrize("form", EXPLICIT)
@given(trajectory=tool_trajectories())
@few
def test_explicit_forms_read_back(form: ExplicitForm, trajectory: Trajectory) -> None:
    written = FORMATS[form]
    sample = explicit_form(trajectory, form)
    assert all(turn.text == turn.text.strip() for turn in sample.turns)
    replies = [turn for turn in sample.turns if turn.role == "assistant"]
    originals = [m for m in trajectory.messages if m.role == "assistant"]
    assert len(replies) == len(originals)
    for reply, message in zip(replies, originals, strict=True):
        assert written.reads_back(message, written.keys, reply.text)
        step = written.parse(reply.text, written.keys)
        assert step is not None
        assert step.thought == thought_of(message)
        assert [(c.name, json.loads(c.arguments)) for c in step.calls] == calls([message])
        assert step.answer == (None if message.calls else message.content)
        assert all((part.capability is not None) == message.loss for part in reply.parts)


@given(tool_trajectories(), st.integers(0, 3))
@few
def test_an_instruction_pair_teaches_one_step_in_its_own_keys(trajectory: Trajectory, seed: int) -> None:
    sample = instruction_pair(trajectory, seed)
    assert isinstance(sample, Sample)
    assert sample.form in EXPLICIT
    keys = draw_keys(seed, trajectory.id)
    assert [t for t in sample.turns if any(p.capability for p in t.parts)] == [sample.turns[-1]]
    step = FORMATS[sample.form].parse(sample.turns[-1].text, keys)
    assert step is not None
    asked_for = [keys.action, keys.answer] + ([] if sample.form == "string" else [keys.arguments])
    assert all(key in sample.turns[0].text for key in asked_for)
    thinks = has_thoughts(trajectory)
    assert bool(step.thought) == thinks
    if thinks:
        assert keys.thought in sample.turns[0].text


def without_thoughts(trajectory: Trajectory) -> Trajectory:
    """The same trajectory with calls and answers alone."""
    silent = (replace(m, thought="", content="" if m.calls else m.content) for m in trajectory.messages)
    return replace(trajectory, messages=tuple(silent))


@given(tool_trajectories(), st.integers(0, 3))
@few
def test_no_thought_is_asked_for_where_none_is_given(trajectory: Trajectory, seed: int) -> None:
    silent = without_thoughts(trajectory)
    for form in EXPLICIT:
        asked = explicit_form(silent, form).turns[0].text
        assert FORMATS[form].keys.thought not in asked
        assert asked == FORMATS[form].system(silent.tools, FORMATS[form].keys, False)
    pair = instruction_pair(silent, seed)
    assert isinstance(pair, Sample)
    assert not re.search(r"reasoning|why|{thought}", pair.turns[0].text.replace(tool_list(silent.tools), ""))
    heard = "\n".join(turn.text for turn in cot_form(silent, seed).turns if turn.role == "user")
    assert not any(statement in heard for statement in elicit.ASK_STEP)


@given(tool_trajectories(), st.integers(0, 3))
@few
def test_the_own_system_text_stands_before_every_request_for_a_format(trajectory: Trajectory, seed: int) -> None:
    told = replace(trajectory, messages=(Message("system", "Speak of fjords."), *trajectory.messages))
    for sample in (explicit_form(told, "json"), instruction_pair(told, seed)):
        assert isinstance(sample, Sample)
        assert sample.turns[0].text.startswith("Speak of fjords.\n")


def test_pairs_are_a_third_of_each_form() -> None:
    tool = Tool("look", "Look.", {"type": "object", "properties": {}})
    step = Message("assistant", "", "See.", (ToolCall("look", "{}"),), loss=True)
    talk = (
        Message("user", "What is there?"),
        step,
        Message("tool", "a cat"),
        Message("assistant", "A cat.", loss=True),
    )
    made = [instruction_pair(Trajectory(str(index), "law", (tool,), talk), seed=0) for index in range(600)]
    forms = Counter(sample.form for sample in made if isinstance(sample, Sample))
    assert sum(forms.values()) == 600
    assert all(abs(forms[form] - 200) < 40 for form in EXPLICIT), forms


@given(arguments)
@few
def test_arguments_in_plain_lines_are_invertible(text: str) -> None:
    assert read_arguments(write_arguments(text)) == json.loads(text)


def test_a_name_that_begins_with_a_blank_survives_trimming() -> None:
    text = write_arguments('{" ": null, " x": 1}')
    assert text == "\\u0020: null\n\\u0020x: 1"
    assert read_arguments(text.strip()) == {" ": None, " x": 1}


@given(st.dictionaries(names, json_values, max_size=4))
@few
def test_arguments_of_a_python_call_are_invertible(values: dict[str, object]) -> None:
    assert read_python_arguments(python_arguments(values)) == values


def test_argument_names_that_python_would_not_take_are_told_apart() -> None:
    assert are_identifiers(["city", "days_2"])
    assert not are_identifiers(["from"])
    assert not are_identifiers(["a b"])
    step = parse_string('Call = send({"from": "Ann", "a b": [1, 2]})')
    assert step is not None
    assert json.loads(step.calls[0].arguments) == {"from": "Ann", "a b": [1, 2]}


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_statements_are_many_different_and_free_of_protocol(name: str) -> None:
    statements = STATEMENTS[name]
    assert len(set(statements)) == len(statements) >= 20
    for statement in statements:
        assert not FORMAT_KEYWORD.search(statement)
        assert not re.search(r"\b(?:Thought|Action|Action Input|Observation|Final Answer)\b", statement)
        assert statement.strip() == statement


def test_connectives_neither_announce_a_tool_nor_hold_a_protocol_word() -> None:
    for text in CONNECTIVES:
        assert not FORMAT_KEYWORD.search(text)
        assert not re.search(r"I will use|I need to call|Thought:|Action:", text, re.IGNORECASE)


@given(tool_trajectories())
@few
def test_rows_are_invertible(trajectory: Trajectory) -> None:
    assert Trajectory.from_row(trajectory.to_row()) == trajectory
    for sample in (react_form(trajectory), cot_form(trajectory, 0), explicit_form(trajectory, "string")):
        assert Sample.from_row(sample.to_row()) == sample
