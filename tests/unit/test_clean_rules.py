"""Loops and broken schemas: own examples of each rule, and of what looks like one but is sound."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentflan_ray.corpus.clean import CleanRecipe, examine
from agentflan_ray.corpus.clean.rules import breaking_the_schema, failed, going_in_circles
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory

OPEN = Tool("open_door", "Opens a door.", {"type": "object", "properties": {"door": {"type": "string"}}})


def run(*steps: tuple[str, dict[str, Any], str], tool: Tool = OPEN) -> Trajectory:
    """A run of (thought, arguments, result) steps of one tool."""
    messages = [Message("user", "Leave the house.")]
    for thought, arguments, result in steps:
        call = ToolCall(tool.name, json.dumps(arguments))
        messages += [Message("assistant", "", thought, (call,), loss=True), Message("tool", result)]
    messages.append(Message("assistant", "Done.", loss=True))
    return Trajectory("r1", "test", (tool,), tuple(messages))


def step(number: int, result: str, door: str = "hall") -> tuple[str, dict[str, Any], str]:
    return f"Try number {number}.", {"door": door}, result


CIRCLES = [
    ("same step thrice", "loop", [("Once more.", {"door": "hall"}, "It is stuck.")] * 3),
    (
        "two steps thrice",
        "loop",
        [("Left.", {"door": "a"}, "A corridor."), ("Right.", {"door": "b"}, "A room.")] * 3,
    ),
    ("same step twice", None, [("Once more.", {"door": "hall"}, "It is stuck.")] * 2),
    ("other thoughts, no failure", None, [step(number, "You go on.") for number in range(8)]),
    ("other results", None, [("Walk.", {"door": "hall"}, f"Room {number}.") for number in range(5)]),
    ("same failure thrice", "repeated_failure", [step(number, "Error: no key.") for number in range(3)]),
    (
        "same failure thrice, not in a row",
        "repeated_failure",
        [step(n, "Error: no key.") if n % 2 else step(n, "Fine.", "back") for n in range(6)],
    ),
    ("same failure twice", None, [step(1, "Error: no key."), step(2, "Error: no key."), step(3, "Open.")]),
    (
        "one failure after another",
        "stalled",
        [step(number, "Nothing happens.", f"door {number}") for number in range(5)],
    ),
    ("four failures, then a way", None, [step(n, "Nothing happens." if n < 4 else "Open.", str(n)) for n in range(5)]),
    ("different failures", None, [step(n, f"Error: door {n} is locked.", str(n)) for n in range(6)]),
]


@pytest.mark.parametrize(("steps", "reason"), [case[:0:-1] for case in CIRCLES], ids=[case[0] for case in CIRCLES])
def test_circles(steps: list[tuple[str, dict[str, Any], str]], reason: str | None) -> None:
    verdict = going_in_circles(run(*steps))
    assert (verdict.reason if verdict else None) == reason
    if verdict:
        assert verdict.sentence.startswith("Record 'r1' ")


def test_a_loop_says_what_it_repeats() -> None:
    verdict = going_in_circles(run(*[step(number, "Error: no key.") for number in range(4)]))
    assert verdict is not None
    assert verdict.sentence == (
        "Record 'r1' makes the same call of 'open_door' 4 times, and each time the result is 'Error: no key.'."
    )


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("Error executing query: Unknown column 'x'", True),
        ("1054 (42S22): Unknown column 'Product'", True),
        ("bash: foo: command not found", True),
        ("find: '/x': No such file or directory", True),
        ('{"error": "API key missing", "response": ""}', True),
        ('{"error": "", "response": "[1, 2]"}', False),
        ('{"error": null, "data": []}', False),
        ("Nothing happens.", True),
        ("The report counts 3 errors.", False),
        ("[]", False),
        ("", False),
    ],
)
def test_failures_are_told_by_their_wording(result: str, expected: bool) -> None:
    assert failed(result) is expected


BOOK = Tool(
    "book",
    "Books a room.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "nights": {"type": "integer"},
            "price": {"type": ["number", "null"]},
            "stars": {"type": "string", "enum": ["3", "4"]},
            "guests": {"type": "array"},
            "pets": {"type": "boolean"},
            "when": {"type": "DATE (YYYY-MM-DD)"},
        },
        "required": ["city"],
    },
)

CALLS = [
    ({"city": "Bern"}, None, ""),
    ({"city": "Bern", "nights": "2", "price": None, "stars": 4, "pets": "true", "when": [1]}, None, ""),
    ({"city": "Bern", "nights": None, "price": 9.5, "guests": []}, None, ""),
    ({"nights": 2}, "missing_argument", "without the argument 'city' that it requires"),
    ({"city": "Bern", "color": "red"}, "unknown_argument", "with the argument 'color', but it takes city, nights, "),
    ({"city": ["Bern"]}, "wrong_type", "with city = \"['Bern']\", but that is of type string"),
    ({"city": "Bern", "nights": 2.5}, "wrong_type", "with nights = '2.5', but that is of type integer"),
    ({"city": "Bern", "nights": True}, "wrong_type", "with nights = 'True'"),
    ({"city": "Bern", "price": "cheap"}, "wrong_type", "with price = 'cheap'"),
    ({"city": "Bern", "guests": {"a": 1}}, "wrong_type", "but that is of type array"),
    ({"city": "Bern", "pets": "maybe"}, "wrong_type", "but that is of type boolean"),
    ({"city": "Bern", "stars": "5"}, "unknown_choice", "with stars = '5', but the choices are ['3', '4']"),
]


@pytest.mark.parametrize(("arguments", "reason", "words"), CALLS)
def test_schema(arguments: dict[str, Any], reason: str | None, words: str) -> None:
    verdict = breaking_the_schema(run(("", arguments, "Ok."), tool=BOOK))
    assert (verdict.reason if verdict else None) == reason
    if verdict:
        assert verdict.sentence.startswith("Message 1 of 'r1' calls 'book' ")
        assert words in verdict.sentence


def test_a_tool_that_declares_nothing_takes_anything() -> None:
    assert breaking_the_schema(run(("", {"any": 1}, "Ok."), tool=Tool("free", "Takes anything."))) is None
    more = Tool("more", "", {"properties": {"a": {"type": "string"}}, "additionalProperties": True})
    assert breaking_the_schema(run(("", {"b": 1}, "Ok."), tool=more)) is None


def test_calls_that_are_not_learnt_may_break_the_schema() -> None:
    wrong = run(("", {"nights": 2}, "Ok."), tool=BOOK)
    shown = [Message(m.role, m.content, m.thought, m.calls, loss=m.loss and not m.calls) for m in wrong.messages]
    assert breaking_the_schema(Trajectory("r1", "test", (BOOK,), tuple(shown))) is None


def test_a_recipe_turns_rules_off() -> None:
    looping = run(*[("Once more.", {"door": "hall"}, "It is stuck.")] * 3)
    verdict = examine(looping, CleanRecipe(), None)
    assert verdict is not None
    assert verdict.reason == "loop"
    assert examine(looping, CleanRecipe(loops=False), None) is None
    wrong = run(("", {"nights": 2}, "Ok."), tool=BOOK)
    assert examine(wrong, CleanRecipe(), None) is not None
    assert examine(wrong, CleanRecipe(schema=False), None) is None
