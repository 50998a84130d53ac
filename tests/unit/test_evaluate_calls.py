"""Calls read from replies in every form, and from garbage in bounded time."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agentflan_ray.evaluate.calls import call_expressions, read_calls

TOOLS = ("weather", "shop.search", "calculate_bmi")

READ: list[tuple[str, list[tuple[str, Any]], str | None]] = [
    # reply, calls (name, arguments), form
    ("It is sunny.", [], None),
    ('Thought: x\nAction: weather\nAction Input: {"city": "Oslo"}', [("weather", {"city": "Oslo"})], "react"),
    ("Thought: nothing fits\nAction: None\nAction Input: {}", [], None),
    ("Action: `weather`\nAction Input: Oslo", [("weather", None)], "react"),
    ('{"name": "weather", "arguments": {"city": "Oslo"}}', [("weather", {"city": "Oslo"})], "json"),
    ('{"name": "weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}', [("weather", {"city": "Oslo"})], "json"),
    ('{"thought": "x", "name": "other", "args": {}}', [("other", {})], "json"),
    ('[{"function": "weather", "parameters": {"a": 1}}]', [("weather", {"a": 1})], "json"),
    ('{"tool_calls": [{"function": {"name": "a", "arguments": {}}}]}', [("a", {})], "json"),
    ('{"name": "Ada", "age": 36}', [], None),
    ('{"name": "weather"}', [("weather", {})], "json"),
    ('<tool_call>{"name": "weather", "arguments": {}}</tool_call>', [("weather", {})], "tags"),
    ("<tool_call>weather Oslo", [("", None)], "tags"),
    ("<function=weather><parameter=city>Oslo</parameter></function>", [("weather", {"city": "Oslo"})], "tags"),
    ('<function=weather>{"city": "Oslo"}</function>', [("weather", {"city": "Oslo"})], "tags"),
    (
        '[weather(city="Oslo"), shop.search(q="a", n=-2)]',
        [("weather", {"city": "Oslo"}), ("shop.search", {"q": "a", "n": -2})],
        "code",
    ),
    ('```python\nweather(city="Oslo")\n```', [("weather", {"city": "Oslo"})], "code"),
    ('Let me ask: weather(city="O(s)lo") and see.', [("weather", {"city": "O(s)lo"})], "code"),
    ("Call weather(city=", [("weather", None)], "code"),
    ('invented(city="Oslo")', [("invented", {"city": "Oslo"})], "code"),
    ('print("hello")', [], None),
    ("```python\ndef f(x):\n    return sorted(x, key=len)\n```", [], None),
    ("```python\ndef weather(city):\n    return 5\n```", [], None),
    ("The weather (in Oslo) is fine.", [], None),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "calls", "form"), READ, ids=[row[0][:40] for row in READ])
def test_calls_of_a_reply(reply: str, calls: list[tuple[str, Any]], form: str | None) -> None:
    found = read_calls(reply, TOOLS)
    assert [(call.name, call.arguments) for call in found] == calls
    assert {call.form for call in found} == ({form} if form else set())


def test_values_of_call_expressions() -> None:
    [(name, values)] = call_expressions('f(1, a=-2.5, b=[true, None], c={"x": (1, 2)}, d=2*3, e=word, g="a" "b")')
    assert name == "f"
    assert values == {
        "0": 1, "a": -2.5, "b": [True, None], "c": {"x": (1, 2)}, "d": 6, "e": "word", "g": "ab",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "1 + 1", "f(x=1", "x = f(1)", "f(x=1); g()", "(lambda: 1)(x=2)", "f()()"])
def test_what_is_no_call_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no call|no Python|no name"):
        call_expressions(text)


def test_nothing_is_evaluated_and_no_number_grows() -> None:
    [(_, values)] = call_expressions('f(a=__import__("os").getcwd(), b=9**9**9, c=10**14*10**14, d=1/0)')
    assert values == {"a": "__import__('os').getcwd()", "b": "9 ** 9 ** 9", "c": "10 ** 14 * 10 ** 14", "d": "1 / 0"}


GARBAGE = {
    "empty": "",
    "blanks": " \n\t" * 30_000,
    "braces": "{" * 100_000,
    "brackets": "[" * 100_000,
    "nested objects": '{"a":' * 20_000,
    "nested calls": "weather(" * 12_000,
    "minus": "weather(a=" + "-" * 100_000,
    "attributes": "a" + ".a" * 50_000 + "(x=1)",
    "names": '{"name": "weather", ' * 5_000,
    "actions": "Action: weather\n" * 6_000,
    "tags": "<tool_call>" * 10_000,
    "function tags": "<function=a>" * 9_000,
    "quotes": "weather(city='" * 7_000,
    "surrogates": "\ud800weather(\udfff" * 1_000,
    "null bytes": "weather(a=1)\x00" * 5_000,
}


@pytest.mark.parametrize("reply", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_read_in_bounded_time(reply: str) -> None:
    began = time.process_time()
    read_calls(reply, TOOLS)
    assert time.process_time() - began < 1.0
