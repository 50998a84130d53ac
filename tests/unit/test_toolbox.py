"""The embedded world: its tools, their errors, its file tree, and how answers are compared."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from agentflan_ray.toolbox import TOOLS, World, domain_of, execute, irrelevant_tools
from agentflan_ray.toolbox.answers import answer_appears
from agentflan_ray.toolbox.arithmetic import MAX_CHARACTERS, evaluate, plain_number
from agentflan_ray.toolbox.catalogue import BROAD_DOMAINS
from agentflan_ray.toolbox.files import MAX_FILES, FileTree
from agentflan_ray.toolbox.tool import ToolFault
from agentflan_ray.trajectory import ToolCall

WORLD = World(7)


def do(name: str, world: World | None = None, **arguments: Any) -> tuple[str, bool]:
    return execute(world or WORLD.copy(), ToolCall(name, json.dumps(arguments)))


def test_there_are_enough_tools_and_held_out_ones_share_no_parameter_name() -> None:
    train = {p for tool in TOOLS.values() if not tool.held_out for p in tool.spec.properties}
    held_out = {p for tool in TOOLS.values() if tool.held_out for p in tool.spec.properties}
    assert sum(not tool.held_out for tool in TOOLS.values()) >= 30
    assert sum(tool.held_out for tool in TOOLS.values()) >= 10
    assert not train & held_out
    train_domains = {tool.domain for tool in TOOLS.values() if not tool.held_out}
    assert len({tool.domain for tool in TOOLS.values()} - train_domains) >= 5


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_is_described_in_few_words(name: str) -> None:
    spec = TOOLS[name].spec
    assert spec.name == name
    assert 2 < len(spec.description.split()) <= 12
    assert set(spec.required) <= set(spec.properties)
    assert all(schema["type"] in ("string", "integer", "number", "array") for schema in spec.properties.values())


def test_the_same_seed_gives_the_same_world_and_others_differ() -> None:
    def content(world: World) -> list[str]:
        return [*world.database.iterdump(), *sorted(world.files.files), str(world.today)]

    assert content(World(3)) == content(World(3)) == content(World(3).copy())
    assert content(World(3)) != content(World(4))


def test_a_world_is_cheap() -> None:
    start = time.process_time()
    for seed in range(20):
        World(seed)
    assert (time.process_time() - start) / 20 < 0.03


def test_changing_a_copy_leaves_the_world_alone() -> None:
    world = World(1)
    order = world.rows("SELECT id FROM orders WHERE status = 'processing'")[0]["id"]
    copy = world.copy()
    assert do("cancel_order", copy, order_id=order)[1]
    assert do("write_file", copy, path="reports/new.txt", text="x")[1]
    assert do("order_status", copy, order_id=order)[0].count("cancelled") == 1
    assert do("order_status", world, order_id=order)[0].count("processing") == 1
    assert not do("read_file", world, path="reports/new.txt")[1]


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("no_such_tool", "{}", "There is no tool called 'no_such_tool'."),
        ("get_weather", "Paris", "The arguments are not valid JSON."),
        ("get_weather", '"Paris"', "The arguments are not a JSON object."),
        ("get_weather", "[" * 3000, "The arguments are not valid JSON."),
        ("get_weather", '{"city": "A"' + " " * 5000 + "}", "The arguments have more than 4000 characters."),
        ("get_weather", "{}", "The parameter 'city' is missing."),
        ("get_weather", '{"city": "A", "country": "B"}', "The tool get_weather has no parameter 'country'."),
        ("get_weather", '{"city": 3}', "The parameter 'city' must be a string."),
        ("get_weather", '{"city": "A", "day": "monday"}', "The parameter 'day' must be one of today, tomorrow."),
        ("get_weather", '{"city": "Nowhere"}', "The city 'Nowhere' is not known."),
        ("add_days", '{"date": "2027-01-01", "days": 1.5}', "The parameter 'days' must be an integer."),
        ("add_days", '{"date": "2027-01-01", "days": true}', "The parameter 'days' must be an integer."),
        ("add_days", '{"date": "1 May", "days": 1}', "The date '1 May' is not in the form YYYY-MM-DD."),
        ("convert_units", '{"value": NaN, "from_unit": "m", "to_unit": "km"}', "The arguments are not valid JSON."),
        ("convert_units", '{"value": 1e99, "from_unit": "m", "to_unit": "km"}', "The parameter 'value' is too large."),
        ("number_summary", '{"numbers": [], "measure": "sum"}', "The list of numbers is empty."),
        ("number_summary", '{"numbers": [1, "2"], "measure": "sum"}', "The parameter 'numbers' must be a number."),
        ("find_person", '{"name": "\\ud800"}', "The parameter 'name' must be a text of at most 2000 characters."),
        ("order_status", '{"order_id": "R1"}', "There is no order with the id 'R1'."),
        ("read_file", '{"path": "../secret"}', "outside the folder"),
        ("create_event", '{"title": "x", "date": "2027-01-01", "time": "9"}', "The time '9' is not in the form HH:MM."),
    ],
)
def test_a_wrong_call_gets_one_sentence(name: str, arguments: str, sentence: str) -> None:
    observation = execute(WORLD.copy(), ToolCall(name, arguments))
    assert not observation.ok
    assert sentence in observation.text


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("calculate", {"expression": "2 * (3 + 4)"}, "14"),
        ("number_summary", {"numbers": [1, 2, 6], "measure": "mean"}, "3"),
        ("number_summary", {"numbers": [1, 2, 6, 7], "measure": "median"}, "4"),
        ("convert_units", {"value": 5, "from_unit": "km", "to_unit": "miles"}, "3.11 miles"),
        ("convert_units", {"value": 2, "from_unit": "hours", "to_unit": "minutes"}, "120 minutes"),
        ("convert_temperature", {"degrees": 100, "scale": "celsius"}, "212 F"),
        ("convert_temperature", {"degrees": 32, "scale": "fahrenheit"}, "0 C"),
        ("convert_currency", {"amount": 5, "source": "EUR", "target": "EUR"}, "5.00 EUR"),
        ("split_bill", {"total": 90, "guests": 3, "tip_percent": 10}, '{"per_guest": "33.00"}'),
        ("weekday_of", {"date": "2027-03-14"}, "Sunday"),
        ("days_between", {"first_date": "2027-03-14", "second_date": "2027-03-01"}, '{"days": 13}'),
        ("add_days", {"date": "2028-02-28", "days": 2}, "1 March 2028"),
        ("add_days", {"date": "2028-02-28", "days": 2.0}, "1 March 2028"),
        ("count_words", {"text": "one  two three"}, '{"words": 3}'),
        ("count_letter", {"text": "Anna", "letter": "a"}, '{"letter": "a", "count": 2}'),
    ],
)
def test_tools_that_need_no_world_give_known_results(name: str, arguments: dict[str, Any], text: str) -> None:
    assert do(name, **arguments) == (text, True)


@pytest.mark.parametrize(
    ("expression", "value"),
    [("1 + 2 * 3", "7"), ("-(2 ** 3)", "-8"), ("7 // 2 + 7 % 2", "4"), ("1 / 3", "0.3333"), ("-0.00001", "0")],
)
def test_arithmetic(expression: str, value: str) -> None:
    assert plain_number(evaluate(expression)) == value


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os')",
        "(1).__class__",
        "a + 1",
        "'a' * 9",
        "True + 1",
        "2j",
        "[1]",
        "1 if 1 else 2",
        "9 ** 9 ** 9",
        "2 ** 65",
        "(-8) ** 0.5",
        "1 / 0",
        "0 ** -1",
        "1e400",
        "9" * 30,
        "1 +",
        "\0",
        "(" * 60,
        "1" * (MAX_CHARACTERS + 1),
    ],
)
def test_arithmetic_refuses_what_is_none(expression: str) -> None:
    with pytest.raises(ToolFault):
        evaluate(expression)


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "/proc/self/root/x",
        "~/x",
        "C:/x",
        "..\\x",
        "a/..",
        "x\0y",
        "file:x",
        "a" * 200,
    ],
)
def test_no_path_leaves_the_file_tree(path: str) -> None:
    tree = FileTree({"a/b.txt": "text"})
    for use in (tree.read, tree.names_in, lambda p: tree.write(p, "x")):
        with pytest.raises(ToolFault):
            use(path)
    assert tree.files == {"a/b.txt": "text"}


def test_the_file_tree_keeps_files_and_folders_apart() -> None:
    tree = FileTree({"a/b.txt": "text"})
    assert tree.read("./a//b.txt") == "text"
    assert (tree.names_in(""), tree.names_in("a/")) == (["a/"], ["b.txt"])
    for path in ("a", "a/b.txt", "a/b.txt/c", ""):
        with pytest.raises(ToolFault):
            tree.write(path, "x")
    for number in range(MAX_FILES - 1):
        tree.write(f"n/{number}", "")
    with pytest.raises(ToolFault, match="at most"):
        tree.write("n/more", "")


def test_irrelevant_tools_come_from_elsewhere_and_never_leak_held_out_ones() -> None:
    rng = random.Random(0)
    for name, tool in TOOLS.items():
        for _ in range(5):
            chosen = irrelevant_tools({name}, rng, 4)
            assert len({spec.name for spec in chosen}) == 4
            domains = {domain_of(spec.name) for spec in chosen}
            assert tool.domain not in domains
            assert not domains & BROAD_DOMAINS
            assert tool.held_out or not any(TOOLS[spec.name].held_out for spec in chosen)


@pytest.mark.parametrize(
    ("answer", "reply", "right"),
    [
        (["1250"], "It costs 1,250 euros.", True),
        (["1250"], "It costs 1250.00 euros.", True),
        (["24.90"], "That is 24.9 EUR.", True),
        (["1250"], "It costs 12500 euros.", False),
        (["25"], "It costs 1,250 or 0.25 euros.", False),
        (["-5"], "It is -5 C.", True),
        (["5"], "It is -5 C.", False),
        (["3"], "There are three of them.", True),
        (["512"], "The train is IC512.", False),
        (["14"], "It starts at 14:30.", False),
        (["42"], "The answer is 42.", True),
        (["14 March 2027"], "It is due on March 14, 2027.", True),
        (["14 March 2027"], "It is due on the 14th of March.", True),
        (["14 March 2027"], "It is due on 2027-03-14.", True),
        (["4 March 2027"], "It is due on 14 March 2027.", False),
        (["14:05"], "It starts at 2:05 pm.", True),
        (["14:05"], "It starts at 14.05.", True),
        (["02:05"], "It starts at 2:05 pm.", False),
        (["12:00"], "It starts at 12 pm.", True),
        (["Ana Novak"], "it is ANA  NOVAK, I think", True),
        (["Ana"], "It is Anabel.", False),
        (["can't|cannot"], "I can’t do that.", True),
        (["a", "b"], "only a", False),
        (["a.b@example.org"], "Write to a.b@example.org.", True),
    ],
)
def test_answers_are_compared_as_a_person_would(answer: list[str], reply: str, right: bool) -> None:
    assert answer_appears(answer, reply) is right
