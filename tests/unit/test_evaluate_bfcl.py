"""BFCL: gold answers, always calling, never calling and garbage, through reading and the package's checker."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from typing import Any

import pytest

from agentflan_ray.evaluate import bfcl_package
from agentflan_ray.evaluate.benchmark import Item, Reply, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks import bfcl as module
from agentflan_ray.evaluate.benchmarks.bfcl import Bfcl, bfcl

needs_package = pytest.mark.skipif(not bfcl_package.is_installed(), reason="the package bfcl-eval is not installed")


@functools.cache
def benchmark(prompt: str = "bfcl") -> Bfcl:
    return bfcl(Settings(prompt=prompt))


@functools.cache
def items() -> dict[str, list[Item]]:
    by_case: dict[str, list[Item]] = defaultdict(list)
    for item in benchmark().items():
        by_case[item.case].append(item)
    return by_case


def first(possible: Any) -> Any:
    """The first of the possible answers, all the way down; one that may be left out is left out."""
    if isinstance(possible, dict):
        return {key: chosen for key, values in possible.items() if (chosen := first_of(values)) != ""}
    return [first(value) for value in possible] if isinstance(possible, list) else possible


def first_of(values: Any) -> Any:
    return next((first(value) for value in values if value != ""), "") if isinstance(values, list) else values


def gold_calls(item: Item) -> list[tuple[str, dict[str, Any]]]:
    answers = bfcl_package.gold(item.case)[item.id]
    return [(name, first(given)) for call in answers for name, given in call.items()]


def source(value: Any, kind: str) -> str:
    """A gold value as Java or JavaScript writes it; names of variables are gold values too and stand as they are."""
    if isinstance(value, str):
        return json.dumps(value) if kind == "String" else value
    if kind == "ArrayList":
        return f"new ArrayList<>(Arrays.asList({', '.join(map(source_part, value))}))"
    if kind == "Array":
        return f"new Object[]{{{', '.join(map(source_part, value))}}}"
    return json.dumps(value) + ("L" if kind == "long" else "")


def source_part(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)  # the checker compares text with its quotes


def listed(item: Item) -> str:
    calls = []
    for name, given in gold_calls(item):
        [kinds] = [f["parameters"]["properties"] for f in item.data["function"] if f["name"] == name]
        in_source = item.case in module.SIMPLE[1:]
        written = [f"{k}={source(v, kinds[k]['type']) if in_source else repr(v)}" for k, v in given.items()]
        calls.append(f"{name}({', '.join(written)})")
    return f"[{', '.join(calls)}]"


def share(case: str, reply: Any, score: str = "accuracy", prompt: str = "bfcl") -> tuple[int, int]:
    chosen = items()[case]
    return int(sum(benchmark(prompt).score(item, {"reply": reply(item)})[score] for item in chosen)), len(chosen)


GOLD = {
    "simple_python": (400, 400),
    "simple_java": (92, 100),
    "simple_javascript": (50, 50),
    "multiple": (200, 200),
    "parallel": (200, 200),
    "parallel_multiple": (198, 200),
    "live_simple": (256, 258),
    "live_multiple": (1050, 1053),
    "live_parallel": (16, 16),
    "live_parallel_multiple": (24, 24),
}
"""Right gold answers of bfcl-eval 2026.3.23. The rest are possible answers that its own checker refuses (a parameter
that the function does not have, a required one left out), and in Java maps, which are not written as source here."""


@needs_package
@pytest.mark.parametrize("case", GOLD)
def test_gold_answers_are_right(case: str) -> None:
    assert share(case, listed) == GOLD[case]


@needs_package
def test_gold_answers_in_json_are_right_in_any_form_and_for_native() -> None:
    def reply(item: Item) -> str:
        calls = [json.dumps({"name": name, "arguments": given}) for name, given in gold_calls(item)]
        return "\n".join(f"<tool_call>{call}</tool_call>" for call in calls)

    assert share("parallel_multiple", reply, "any_form") == (198, 200)
    assert share("parallel_multiple", reply, "accuracy") == (0, 200)
    assert share("parallel_multiple", reply, "accuracy", "native") == (198, 200)


@needs_package
def test_a_model_that_never_calls_is_right_where_no_tool_fits_and_only_there() -> None:
    for case in (*module.IRRELEVANCE, "live_relevance", "multiple", "live_parallel"):
        right, n = share(case, lambda item: "None of these functions can do that.")
        assert right == (n if case in module.IRRELEVANCE else 0)


@needs_package
def test_a_prompt_that_did_not_fit_is_right_nowhere() -> None:
    for case in ("irrelevance", "multiple"):
        scores = benchmark().score(items()[case][0], {"reply": "", "finish": "context"})
        assert set(scores.values()) == {0.0}


@needs_package
def test_a_model_that_always_calls_fails_irrelevance() -> None:
    def reply(item: Item) -> str:
        name = item.data["function"][0]["name"] if item.data["function"] else "search"
        return f"[{name}(query='it')]"

    assert share("irrelevance", reply) == (0, 240)
    assert share("live_irrelevance", reply) == (0, 884)
    assert share("live_relevance", reply) == (16, 16)
    assert share("live_multiple", reply)[0] < 20


@needs_package
def test_requests_hold_tools_and_question() -> None:
    [item, *_] = [item for item in items()["live_simple"] if item.data["messages"][0]["role"] == "system"]
    request = benchmark().open(item).ask()
    assert request is not None
    assert [message["role"] for message in request.messages] == ["system", "user"]
    assert item.data["function"][0]["name"] in request.messages[0]["content"]
    assert request.messages[0]["content"].endswith(item.data["messages"][0]["content"])
    native = benchmark("native").open(item).ask()
    assert native is not None
    assert native.tools[0]["function"]["name"] == item.data["function"][0]["name"]
    java = benchmark().open(items()["simple_java"][0]).ask()
    assert java is not None
    assert "Java" in java.messages[0]["content"]


@needs_package
def test_every_item_can_be_asked_in_both_forms() -> None:
    chosen = benchmark().items()
    assert len(chosen) == len({item.id for item in chosen}) == 3641
    for prompt in module.PROMPTS:
        for item in chosen[::7]:
            episode = benchmark(prompt).open(item)
            assert episode.ask() is not None
            episode.take(Reply("no"))
            assert benchmark(prompt).score(item, episode.outcome()).keys() == {"accuracy", "any_form", "called"}


GARBAGE = [
    "",
    " ",
    "\x00\ud800",
    "{" * 100_000,
    "[" * 100_000,
    "f(" * 50_000,
    "f(x=" + "-" * 100_000,
    "x" * 100_000,
    '{"name": {"name"',
    "[f(a={1: 2}, b=[[[]]], c=None, d=..., e=1e999)]",
    "f(**{'a': 1}, *[1])",
]


@needs_package
def test_garbage_is_scored() -> None:
    for case in module.CATEGORIES:
        item = items()[case][0]
        named = (
            [f"{item.data['function'][0]['name']}(a={{}}, b=[1, [2, {{}}]], c=None)"] if item.data["function"] else []
        )
        for reply in [*GARBAGE, *named]:
            for prompt in module.PROMPTS:
                assert set(benchmark(prompt).score(item, {"reply": reply}).values()) <= {0.0, 1.0}


def test_java_calls_are_read_as_source_text() -> None:
    call = module._source_call('A.b(list=new ArrayList<>(Arrays.asList("x, y", 2)), on=true, text="a=b", 5)')
    assert call == {"A.b": {"list": 'new ArrayList<>(Arrays.asList("x, y", 2))', "on": "true", "text": "a=b"}}
    for text in ("f(x=1", "no call", "f(x=1) and more"):
        with pytest.raises(ValueError, match="call"):
            module._source_call(text)


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfcl_package, "is_installed", lambda: False)
    with pytest.raises(Unavailable, match="pip install --no-deps bfcl-eval"):
        bfcl(Settings())


@needs_package
def test_a_prompt_that_it_does_not_have_is_refused() -> None:
    with pytest.raises(Unavailable, match="bfcl and native, not 'react'"):
        bfcl(Settings(prompt="react"))
