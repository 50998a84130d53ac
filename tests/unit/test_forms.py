"""The explicit forms: what is written is read back, and what a model gets wrong is read as far as it goes."""

from __future__ import annotations

import json

import pytest

from agentflan_ray.forms import (
    FORMATS,
    STRING_KEYS,
    Keys,
    Step,
    json_text,
    parse_react,
    parse_string,
    read_python_arguments,
    string_parts,
    string_system,
)
from agentflan_ray.trajectory import Message, Tool, ToolCall

STEP = Message("assistant", "", "Look it up.", (ToolCall("get_weather", '{"city": "Paris", "days": 3}'),))


def text_of(message: Message, keys: Keys = STRING_KEYS) -> str:
    return "".join(part.text for part in string_parts(message, keys))


def test_a_string_step_is_a_plan_and_a_python_call() -> None:
    assert text_of(STEP) == 'Plan = Look it up.\nCall = get_weather(city="Paris", days=3)'
    assert text_of(Message("assistant", "It rains.", "Enough.")) == "Plan = Enough.\nAnswer = It rains."


def test_no_arguments_and_odd_names_have_a_shape_of_their_own() -> None:
    assert text_of(Message("assistant", calls=(ToolCall("look", "{}"),))) == "Call = look()"
    odd = Message("assistant", calls=(ToolCall("look", '{"a b": true}'),))
    assert text_of(odd) == 'Call = look({"a b": true})'
    for message in (odd, Message("assistant", calls=(ToolCall("look", '{"from": null}'),))):
        assert FORMATS["string"].reads_back(message, STRING_KEYS, text_of(message))


def test_a_string_prompt_names_its_keys_and_tools() -> None:
    tool = Tool("look", "Look around.", {"type": "object", "properties": {"at": {"type": "string"}}})
    prompt = string_system((tool,), Keys("Why", "Do", "", "Say"))
    for expected in ("- look(at?: string): Look around.", "Why = ", "Do = tool_name(argument=value)", "Say = "):
        assert expected in prompt


@pytest.mark.parametrize(
    ("reply", "calls", "answer"),
    [
        ('Call = f(x=1, y="a, b)")', [("f", {"x": 1, "y": "a, b)"})], None),
        ("Plan = see\nCall = f()\nCall = g(n=[1, 2])", [("f", {}), ("g", {"n": [1, 2]})], None),
        ("Answer = two\nlines", [], "two\nlines"),
    ],
)
def test_strings_are_read(reply: str, calls: list[tuple[str, object]], answer: str | None) -> None:
    step = parse_string(reply)
    assert step is not None
    assert [(call.name, json.loads(call.arguments)) for call in step.calls] == calls
    assert step.answer == answer


def test_what_is_no_step_is_none_and_bad_arguments_stay_as_they_stand() -> None:
    assert parse_string("I am happy to help.") is None
    assert parse_string("Plan = only a thought") is None
    assert parse_string("Call = f(x=oops)") == Step("", (ToolCall("f", "x=oops"),), None)
    assert parse_string("Call = f(x=1)\nObservation: made up\nAnswer = no") == Step(
        "", (ToolCall("f", '{"x": 1}'),), None
    )


@pytest.mark.parametrize("text", ["x", "x=", "x=1 y=2", "=1"])
def test_text_that_is_no_arguments_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"argument|comma|Expecting value"):
        read_python_arguments(text)


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_a_text_that_holds_a_key_does_not_read_back(form: str) -> None:
    written = FORMATS[form]  # type: ignore[index]
    text = "".join(part.text for part in written.write(STEP, written.keys))
    assert written.reads_back(STEP, written.keys, text)
    assert not written.reads_back(STEP, written.keys, text.replace("Paris", "Rome"))
    line = {"react": "Action: x", "string": "Call = x()", "json": "Action: x"}[form]
    message = Message("assistant", f"First.\n{line}")
    marked = "".join(part.text for part in written.write(message, written.keys))
    assert written.reads_back(message, written.keys, marked) == (form == "json")


def test_half_of_a_surrogate_pair_stays_escaped() -> None:
    assert json_text({"a": "\ud800"}) == '{"a": "\\ud800"}'
    assert json_text({"a": "é"}) == '{"a": "é"}'
    assert json_text({"a": "é"}).encode()


def test_react_keeps_what_a_model_wrote_for_arguments() -> None:
    assert parse_react("Action: f\nAction Input: not json") == Step("", (ToolCall("f", "not json"),), None)
