"""Laws of the embedded world: whatever a model writes, ``execute`` answers with text and the tree stays closed."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentflan_ray.toolbox import TOOLS, World, execute
from agentflan_ray.toolbox.answers import answer_appears
from agentflan_ray.toolbox.arithmetic import evaluate, plain_number
from agentflan_ray.toolbox.files import FileTree, inside
from agentflan_ray.toolbox.tool import ToolFault
from agentflan_ray.trajectory import ToolCall

WORLD = World(11)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
known_words = st.sampled_from(
    [row[0] for table in ("cities", "rooms", "books", "clubs") for row in WORLD.rows(f"SELECT * FROM {table}")]
    + [row["id"] for row in WORLD.rows("SELECT id FROM orders")]
    + ["2027-03-14", "10:00", "km", "miles", "EUR", "today", "sunrise", "reports", "", "%", "'; DROP TABLE orders; --"]
)


@st.composite
def fitting_calls(draw: st.DrawFn) -> ToolCall:
    """Calls whose arguments mostly have the right names and types."""
    tool = TOOLS[draw(st.sampled_from(sorted(TOOLS)))].spec
    arguments: dict[str, Any] = {}
    for name, schema in tool.properties.items():
        if name not in tool.required and draw(st.booleans()):
            continue
        fitting: st.SearchStrategy[Any] = {
            "string": st.sampled_from(schema.get("enum", [""])) | known_words | st.text(max_size=20),
            "integer": st.integers(-(10**13), 10**13),
            "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
            "array": st.lists(st.floats(-1e12, 1e12), max_size=60),
        }[schema["type"]]
        arguments[name] = draw(fitting | json_values if draw(st.integers(0, 9)) == 0 else fitting)
    return ToolCall(tool.name, json.dumps(arguments))


wild_calls = st.builds(
    ToolCall,
    st.sampled_from(sorted(TOOLS)) | st.text(max_size=20),
    json_values.map(json.dumps) | st.text(max_size=60) | st.text(alphabet="[{\"':,0e-", max_size=400),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(fitting_calls() | wild_calls, min_size=1, max_size=4))
def test_execute_answers_every_call(calls: list[ToolCall]) -> None:
    world, twin = WORLD.copy(), WORLD.copy()
    for call in calls:
        observation = execute(world, call)
        assert observation.text
        assert observation.text.encode()
        assert execute(twin, call) == observation


@given(st.text(alphabet="a./~\\: \0", max_size=20))
def test_a_path_is_inside_or_refused(path: str) -> None:
    try:
        plain = inside(path)
    except ToolFault:
        return
    assert not plain.startswith("/")
    assert not {"..", ".", ""} & set(plain.split("/")) or plain == ""
    assert inside(plain) == plain


@given(st.dictionaries(st.text(alphabet="ab/.", min_size=1, max_size=8), st.text(max_size=5), max_size=5))
def test_what_is_written_can_be_read_and_listed(files: dict[str, str]) -> None:
    tree = FileTree({})
    for path, text in files.items():
        try:
            tree.write(path, text)
        except ToolFault:
            continue
        assert tree.read(path) == text
        folder, _, name = inside(path).rpartition("/")
        assert name in tree.names_in(folder)


expressions = st.recursive(
    st.integers(0, 999).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=5,
)


@given(expressions, expressions)
def test_arithmetic_adds_up(first: str, second: str) -> None:
    assert evaluate(f"{first} + {second}") == evaluate(first) + evaluate(second)


@given(st.text(max_size=150))
def test_arithmetic_gives_a_number_or_a_sentence(text: str) -> None:
    try:
        value = evaluate(text)
    except ToolFault:
        return
    assert isinstance(value, int | float)


@given(st.decimals(-(10**9), 10**9, places=2), st.text(max_size=20))
def test_a_stated_number_is_found_however_it_is_written(number: Any, tail: str) -> None:
    value = plain_number(float(number))
    for written in (value, f"{number:,.2f}", f"{number:.2f}"):
        assert answer_appears([value], f"It is {written} euros {tail}")
