"""What a reply does in the main, its structure, and that garbage of any length is read."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from agentflan_ray.evaluate.benchmarks import when2call
from agentflan_ray.evaluate.hallucination import kind_of, read, read_structure

DATA = Path(os.environ.get("AGENTFLAN_DATA", Path(__file__).parents[2] / "../shared/data"))
NAMES = ("weather",)

KINDS = [
    ('Action: weather\nAction Input: {"city": "Oslo"}', "call"),
    ("Which city do you mean?", "ask"),
    ("To proceed I'll need the name of the city.", "ask"),
    ("I'm sorry, could you tell me which city?", "ask"),
    ("I'm sorry, I can't look that up. Could you try elsewhere?", "refuse"),
    ("None of my tools shows that.", "refuse"),
    ("I don\u2019t have access to that.", "refuse"),
    ("Unfortunately not.", "refuse"),
    ("It is 5 degrees in Oslo.", "answer"),
    ("4", "answer"),
    ("雨が降る", "answer"),
    ("", "empty"),
    ("{[}]\x00 ...", "empty"),
]


@pytest.mark.parametrize(("reply", "kind"), KINDS, ids=[row[0][:30] for row in KINDS])
def test_what_a_reply_does_in_the_main(reply: str, kind: str) -> None:
    assert kind_of(reply, NAMES) == kind


def test_structure_of_a_reply() -> None:
    call = read_structure('Thought: x\nAction: weather\nAction Input: {"city": "Oslo"}\nObservation: 5', NAMES)
    assert (call.called, call.unlisted, call.traces, call.invents, call.plain) == (
        ("weather",),
        False,
        True,
        True,
        False,
    )
    other = read_structure('<tool_call>{"name": "other", "arguments": {}}</tool_call>', NAMES)
    assert (other.called, other.unlisted, other.traces) == (("other",), True, False)
    announced = read_structure("I will use the weather tool.")
    assert (announced.announces, announced.plain) == (True, False)
    story = read_structure("Once upon a time. " * 20 + "I will use my boots, said the cat.")
    assert story.plain


GARBAGE = ["{" * 100_000, '{"a":' * 20_000, "[[" * 50_000, "I can't " * 20_000, "Action:\n" * 20_000, "\ud800" * 1_000]


@pytest.mark.parametrize("reply", GARBAGE, ids=[text[:8].encode("ascii", "replace").decode() for text in GARBAGE])
def test_garbage_is_read_in_bounded_time(reply: str) -> None:
    began = time.process_time()
    kind_of(reply, NAMES)
    read_structure(reply, NAMES)
    read(reply, NAMES)
    assert time.process_time() - began < 3.0


def test_reference_replies_are_read_as_what_they_are() -> None:
    records = when2call.load(str(DATA))
    if records is None:
        pytest.skip("real data is not there; set AGENTFLAN_DATA to its folder")
    meant = {"direct": "answer", "tool_call": "call", "request_for_info": "ask", "cannot_answer": "refuse"}
    read_as = Counter(
        (name, kind_of(text, [json.loads(tool)["name"] for tool in record["tools"]]) == meant[name])
        for record in records
        for name, text in record["answers"].items()
    )
    assert {name: read_as[name, True] for name in meant} == {
        "direct": 267, "tool_call": 300, "request_for_info": 299, "cannot_answer": 300,
    }  # fmt: skip
