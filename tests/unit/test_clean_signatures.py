"""Signatures: what counts as the same conversation, and what as nearly the same."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from agentflan_ray.corpus.clean.signatures import BANDS, SIGNATURE_SCHEMA, signature_columns
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory

FIND = Tool("find", "Finds things.", {"type": "object", "properties": {"what": {"type": "string"}}})
REQUEST = (
    "I am looking for a quiet place near the old harbour where a small group could sit outside in the evening and "
    "listen to some music, and it would be good if the kitchen had something without meat for two of my friends who "
    "will come by the late train from Bern."
)
THOUGHT = (
    "The user wants a quiet place with music and a kitchen, so I should look for a garden near the harbour first and "
    "ask about the food afterwards, because the place matters most to the group and the rest can be arranged later."
)
REPLY = (
    "There is a garden near the old harbour with music in the evening, and its kitchen has several dishes without meat "
    "so that your friends from Bern will find something to eat even when they come by the late train, at table 12."
)


def record(
    request: str = REQUEST,
    thought: str = THOUGHT,
    reply: str = REPLY,
    what: str = "garden",
    *,
    system: str = "You help.",
    result: str = "A garden.",
    tools: tuple[Tool, ...] = (FIND,),
    identity: str = "a",
) -> Trajectory:
    call = ToolCall("find", json.dumps({"what": what}))
    messages = (
        Message("system", system),
        Message("user", request),
        Message("assistant", "", thought, (call,), loss=True),
        Message("tool", result),
        Message("assistant", reply, loss=True),
    )
    return Trajectory(identity, "test", tools, messages)


def likeness(first: Trajectory, second: Trajectory) -> tuple[bool, float]:
    """Whether the conversation is the same, and the estimated similarity: 0 where no band brings the two together."""
    rows = signature_columns([first, second]).to_pylist()
    meets = any(rows[0][band] == rows[1][band] for band in BANDS)
    signatures = np.frombuffer(b"".join(row["signature"] for row in rows), "<u2").reshape(2, -1)
    return rows[0]["content"] == rows[1]["content"], float((signatures[0] == signatures[1]).mean()) if meets else 0.0


def others(number: int) -> tuple[Tool, ...]:
    return (FIND, *(Tool(f"tool_{number}_{index}", "Other.") for index in range(20)))


def test_the_id_source_and_loss_are_no_part_of_a_conversation() -> None:
    other = replace(record(identity="b"), source="else", meta={"case": "tool"})
    unlearnt = replace(other, messages=tuple(replace(message, loss=False) for message in other.messages))
    assert likeness(record(), other) == (True, 1.0)
    assert likeness(record(), unlearnt) == (True, 1.0)


@pytest.mark.parametrize(
    "other",
    [
        record(system="You help a lot."),
        record(result="Another garden."),
        record(tools=(replace(FIND, description="Looks for things."),)),
        record(reply=REPLY.replace(",", ";")),
        record(reply=REPLY.replace("There", "there")),
    ],
)
def test_system_prompts_tool_texts_results_and_signs_are_not_compared(other: Trajectory) -> None:
    assert likeness(record(), other) == (False, 1.0)


@pytest.mark.parametrize(
    "other",
    [
        record(reply=REPLY.replace("several dishes", "various dishes")),
        record(thought=THOUGHT.replace("first and", "and")),
        record(request="Hello, i hope that you are well. " + REQUEST),
    ],
)
def test_slightly_other_words_are_nearly_the_same(other: Trajectory) -> None:
    same, similarity = likeness(record(), other)
    assert not same
    assert 0.88 <= similarity < 1


@pytest.mark.parametrize(
    "other",
    [
        record(reply=REPLY.replace("12", "14")),
        record(reply=REPLY.replace("12", "12 or 14")),
        record(what="garden, large"),
        record(request=REQUEST.replace("Bern", "Basel"), reply=REPLY.replace("Bern", "Basel")),
        record(reply=REPLY.replace("at table 12", "at table 12 (B)")),
        record(reply=REPLY.replace("at table 12", "at table 12 of hall G")),
    ],
)
def test_other_numbers_names_and_calls_are_never_nearly_the_same(other: Trajectory) -> None:
    assert likeness(record(), other) == (False, 0.0)


def test_a_capital_at_the_start_of_a_sentence_is_no_name() -> None:
    assert likeness(record(), record(reply=f"Certainly. {REPLY}"))[1] >= 0.88


def test_a_short_question_with_other_tools_is_another_sample() -> None:
    question = "What is a fjord? A long inlet of the sea between steep cliffs, made by a glacier."
    messages = (Message("user", question[:16]), Message("assistant", question[17:], loss=True))
    first, second = (Trajectory("a", "test", others(number), messages) for number in (1, 2))
    same, similarity = likeness(first, second)
    assert not same
    assert similarity < 0.8
    shuffled = replace(first, tools=first.tools[::-1])
    assert likeness(first, shuffled) == (False, 1.0)


def test_a_long_tool_list_makes_no_two_texts_alike() -> None:
    tools = tuple(Tool(f"tool_{index}", "Some.") for index in range(200))
    texts = ("Please turn off every lamp in the house now", "Please turn off every fan in the house now")
    first, second = (
        Trajectory("a", "test", tools, (Message("user", text), Message("assistant", "Done.", loss=True)))
        for text in texts
    )
    assert likeness(first, second)[1] < 0.8


def test_operators_are_words() -> None:
    text = "Either x is small or y is, so we get in the end that x < y must hold for all of these at once, as asked"
    first, second = (
        Trajectory("a", "test", (), (Message("user", "Why?"), Message("assistant", said, loss=True)))
        for said in (text, text.replace("<", ">"))
    )
    assert likeness(first, second)[1] < 0.8


def test_texts_without_words_are_like_nothing_but_themselves() -> None:
    def say(text: str) -> Trajectory:
        return Trajectory("a", "test", (), (Message("user", text), Message("assistant", "!", loss=True)))

    assert likeness(say("?"), say("?")) == (True, 1.0)
    assert likeness(say("?"), say("??"))[1] < 0.1


def test_columns_do_not_depend_on_the_batch() -> None:
    records = [record(), record(what="park"), record(reply="No."), record(request="?")]
    whole = signature_columns(records)
    assert whole.schema.names == SIGNATURE_SCHEMA.names[4:]
    assert whole.schema.types == SIGNATURE_SCHEMA.types[4:]
    for index, one in enumerate(records):
        assert signature_columns([one]).equals(whole.slice(index, 1).combine_chunks())
    assert signature_columns([]).num_rows == 0


def test_the_numbers_stay_what_they_are() -> None:
    """Signatures of earlier builds are read again: a library that hashes otherwise must not go unseen."""
    row = signature_columns([record()]).to_pylist()[0]
    assert row["content"] == -6661856460294549106
    assert row["band_00"] == 143358594398199296
    assert row["signature"][:8].hex() == "aeef72bc58de6410"
