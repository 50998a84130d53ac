"""Each rule of the one validator: what breaks it, and the sentence that it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory, validate

TOOL = Tool("weather", "Weather of a city.", {"type": "object", "properties": {"city": {"type": "string"}}})
GOOD = Trajectory(
    id="a",
    source="unit",
    tools=(TOOL,),
    messages=(
        Message("system", "Help."),
        Message("user", "Is it raining in Oslo?"),
        Message("assistant", thought="Look it up.", calls=(ToolCall("weather", '{"city": "Oslo"}'),), loss=True),
        Message("tool", "rain"),
        Message("assistant", "Yes, it rains.", loss=True),
    ),
)


def with_message(index: int, **changes: object) -> Trajectory:
    messages = list(GOOD.messages)
    messages[index] = replace(messages[index], **changes)  # type: ignore[arg-type]
    return replace(GOOD, messages=tuple(messages))


def test_a_good_trajectory_has_no_fault() -> None:
    assert validate(GOOD) == []


def test_a_call_may_have_several_results() -> None:
    result = GOOD.messages[3]
    assert validate(replace(GOOD, messages=(*GOOD.messages[:4], result, *GOOD.messages[4:]))) == []


CASES = [
    ("no_id", replace(GOOD, id=""), "has no id"),
    ("no_messages", replace(GOOD, messages=()), "has no messages"),
    ("unknown_role", with_message(1, role="narrator"), "Message 1 of 'a' has the role 'narrator'; known roles are"),
    ("system_not_first", replace(GOOD, messages=(*GOOD.messages[1:], GOOD.messages[0])), "after the first message"),
    ("no_user_first", replace(GOOD, messages=GOOD.messages[2:]), "must start with a user message, but starts with"),
    ("no_assistant_last", replace(GOOD, messages=GOOD.messages[:-1]), "must end with an assistant message"),
    (
        "roles_do_not_alternate",
        replace(GOOD, messages=(*GOOD.messages[:2], Message("user", "Hello?"), *GOOD.messages[2:])),
        "turn 1 is user after user; expected assistant",
    ),
    (
        "result_without_call",
        with_message(2, calls=()),
        "Message 3 of 'a' is a tool's result, but the assistant turn before it has no call",
    ),
    ("empty_user_message", with_message(1, content=" \n"), "Message 1 of 'a' is a user turn without any text"),
    ("empty_assistant_message", with_message(4, content=" "), "Message 4 of 'a' is an assistant turn without any text"),
    (
        "nothing_to_learn",
        replace(GOOD, messages=tuple(replace(message, loss=False) for message in GOOD.messages)),
        "marked for learning",
    ),
    ("loss_outside_assistant", with_message(1, loss=True), "Message 1 of 'a' is a user turn with loss=true"),
    ("call_outside_assistant", with_message(1, thought="hm"), "Message 1 of 'a' is a user turn with a call or thought"),
    ("tool_without_name", replace(GOOD, tools=(TOOL, replace(TOOL, name=""))), "lists a tool without a name"),
    ("duplicate_tool", replace(GOOD, tools=(TOOL, TOOL)), "lists the tool 'weather' 2 times"),
    ("unlisted_tool", replace(GOOD, tools=()), "Message 2 of 'a' calls 'weather', but the listed tools are: none"),
    (
        "arguments_not_json",
        with_message(2, calls=(ToolCall("weather", "city=Oslo"),)),
        "arguments that are not a JSON object: 'city=Oslo'",
    ),
    ("arguments_not_json", with_message(2, calls=(ToolCall("weather", '["Oslo"]'),)), "not a JSON object"),
    ("message_too_long", with_message(3, content="x" * 10_000_000), "has 10,000,000 characters; at most 1,000,000"),
    ("not_unicode", with_message(4, content="half \ud83d"), "half of a surrogate pair"),
]


@pytest.mark.parametrize(("reason", "trajectory", "sentence"), CASES, ids=[case[0] for case in CASES])
def test_each_rule_says_what_is_wrong(reason: str, trajectory: Trajectory, sentence: str) -> None:
    faults = {fault.reason: fault.sentence for fault in validate(trajectory)}
    assert sentence in faults[reason]
