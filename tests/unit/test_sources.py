"""Each published format: tiny records and the turns that they must become."""

from __future__ import annotations

from typing import Any

import pytest

from agentflan_ray.sources import SOURCES, Dropped, MalformedRecord, Where
from agentflan_ray.sources.toolbench import read_tool_list
from agentflan_ray.trajectory import Trajectory, validate
from tests.unit.sources_examples import (
    CALL,
    DB_INSTRUCTION,
    FINISH,
    KG_INSTRUCTION,
    RECORDS,
    V0_PROMPT,
    WEATHER,
    native,
    react,
    renamed,
    toolbench_system,
)

HERE = Where("data/demo_file.jsonl.gz", 7)


def parse(source: str, row: dict[str, Any], where: Where = HERE) -> list[Trajectory | Dropped]:
    return list(SOURCES[source].parse(row, where))


def _trajectories(source: str, row: dict[str, Any]) -> list[Trajectory]:
    return [outcome for outcome in parse(source, row) if isinstance(outcome, Trajectory)]


def brief(trajectory: Trajectory) -> list[tuple[str, ...]]:
    """Role, thought, words and calls of each turn, with a star where it is learnt; without the system turn."""
    lines = []
    for message in trajectory.messages:
        if message.role != "system":
            calls = tuple(f"{call.name} {call.arguments}" for call in message.calls)
            role = message.role + ("*" if message.loss else "")
            lines.append((role, message.thought, message.content, *calls))
    return lines


WEATHER_CALL = 'get_weather {"city": "Rome"}'
WEATHER_TALK = [
    ("user", "", "Weather in Rome?"),
    ("assistant*", "Look it up.", "", WEATHER_CALL),
    ("tool", "", "sunny"),
]

EXPECTED: list[tuple[str, int, str, str, list[tuple[str, ...]]]] = [
    (
        "agentinstruct",
        0,
        "os_1",
        "tool",
        [
            ("user", "", "Make a folder x."),
            ("assistant*", "use mkdir.", "", 'bash {"command": "mkdir x"}'),
            ("tool", "", ""),
            ("assistant*", "", "It is made."),
        ],
    ),
    (
        "agentinstruct",
        1,
        "os_2",
        "tool",
        [
            ("user", "", "How many processes run?"),
            ("assistant*", "count.", "", 'bash {"command": "ps | wc -l"}'),
            ("tool", "", "7"),
            ("assistant*", "Seven.", "7 (seven)"),
        ],
    ),
    (
        "agentinstruct",
        2,
        "db_1",
        "tool",
        [
            ("user", "", "How many rows? The table is t."),
            ("assistant*", "Count them.", "", 'execute_sql {"query": "SELECT COUNT(*) FROM t"}'),
            ("tool", "", "[(3,)]"),
            ("assistant*", "Three rows.", '["3"]'),
        ],
    ),
    (
        "agentinstruct",
        3,
        "alfworld_1",
        "tool",
        [
            ("user", "", "Here is your task. Put a mug on the desk 1."),
            ("assistant*", "The mug may be on the shelf.", "", 'take {"object": "mug 1", "place": "shelf 1"}'),
            ("tool", "", "You pick up the mug 1."),
            ("assistant*", "", "", 'put {"object": "mug 1", "place": "desk 1"}'),
        ],
    ),
    (
        "agentinstruct",
        4,
        "webshop_1",
        "tool",
        [
            ("user", "", "WebShop [SEP] Instruction: [SEP] a red cup [SEP] Search"),
            ("assistant*", "I should search.", "", 'search {"keywords": "red cup"}'),
            ("tool", "", "Page 1 [SEP] B01"),
            ("assistant*", "This one.", "", 'click {"value": "B01"}'),
        ],
    ),
    (
        "agentinstruct",
        5,
        "kg_1",
        "tool",
        [
            ("user", "", "who made it?\nEntities: [Engine, inc. (A)]"),
            (
                "assistant*",
                "see relations.",
                "",
                'get_neighbors {"variable": "Engine, inc. (A)", "relation": "made.by"}',
            ),
            ("tool", "", "variable #0"),
            ("assistant*", "both.", "", 'intersection {"variable1": "#0", "variable2": "#1"}'),
            ("tool", "", "variable #2"),
            ("assistant*", "found.", "#2"),
        ],
    ),
    (
        "agenttraj",
        0,
        "babyai_1-a2dffb0d",
        "tool",
        [
            ("user", "", "Your goal: pick up the box"),
            ("assistant*", "It is near.", "", 'pick_up {"object": "box 1"}'),
        ],
    ),
    (
        "agenttraj",
        1,
        "movie_1-e8a2c8f8",
        "tool",
        [
            ("user", "", "Who?"),
            ("assistant*", "Search.", "", 'get_search_movie {"movie_name": "Up"}'),
            ("tool", "", "[1]"),
            ("assistant*", "Done.", "7"),
        ],
    ),
    (
        "toolbench",
        0,
        "Step 3: weather",
        "tool",
        [
            *WEATHER_TALK[:2],
            ("tool", "", '{"error": "", "response": "sunny"}'),
            ("assistant*", "Done.", "Sunny."),
        ],
    ),
    (
        "toolbench",
        1,
        "demo_file-7",
        "tool",
        [*WEATHER_TALK, ("assistant*", "Now I can answer.", "Sunny.")],
    ),
    ("toolbench", 2, "demo_file-7", "tool", [*WEATHER_TALK, ("assistant*", "I know.", "Sunny.")]),
    ("toolbench", 3, "demo_file-7", "tool", [*WEATHER_TALK, ("assistant*", "I know.", "Sunny.")]),
    ("toolbench", 4, "STEP 1: Weather in Rome?", "tool", [*WEATHER_TALK, ("assistant*", "I know.", "Sunny.")]),
    (
        "agentflan",
        0,
        "af_1",
        "tool",
        [
            ("user", "", "How many rows?"),
            ("assistant*", "Count.", "", 'execute_sql {"query": "SELECT COUNT(*) FROM t"}'),
        ],
    ),
    ("agentflan", 1, "af_2", "tool", [*WEATHER_TALK, ("assistant*", "Done.", "Sunny.")]),
    (
        "sharegpt",
        0,
        "demo_file-7",
        "tool",
        [
            ("user", "", "Hello.\n\nWeather in Rome?"),
            ("assistant*", "", "", WEATHER_CALL),
            ("tool", "", "sunny"),
            ("assistant*", "", "Sunny."),
        ],
    ),
    ("sharegpt", 1, "5", "chat", [("user", "", "Hi."), ("assistant*", "", "Hello.")]),
    ("openai_messages", 0, "m1", "tool", [*WEATHER_TALK, ("assistant*", "", "Sunny.")]),
    (
        "openai_messages",
        1,
        "m2",
        "tool",
        [
            ("user", "", "Weather in Rome?"),
            ("assistant*", "", "", WEATHER_CALL),
            ("tool", "", "sunny"),
            ("assistant", "", "Sunny."),
        ],
    ),
    ("openai_messages", 2, "m3", "tool", [*WEATHER_TALK, ("assistant*", "Good.", "Sunny.")]),
    (
        "openai_messages",
        3,
        "ic_sql_1",
        "tool",
        [
            ("user", "", "How many?"),
            ("assistant*", "Count.", "", 'execute_sql {"query": "SELECT COUNT(*) FROM t"}'),
            ("tool", "", "[(3,)]"),
            ("assistant*", "", "It is right."),
        ],
    ),
    (
        "openai_messages",
        4,
        "k1",
        "tool",
        [("user", "", "Put the mug away."), ("assistant*", "plan.\ngo.", "", 'go_to {"place": "shelf 1"}')],
    ),
    ("openai_messages", 5, "c1", "chat", [("user", "", "Hi."), ("assistant*", "", "Hello.")]),
    (
        "fireact",
        0,
        "demo_file-7",
        "tool",
        [
            ("user", "", "who?"),
            ("assistant*", "search.", "", 'search {"query": "who"}'),
            ("tool", "", "he"),
            ("assistant*", "he.", "He"),
        ],
    ),
]


@pytest.mark.parametrize(("source", "index", "identity", "case", "turns"), EXPECTED)
def test_records_become_turns(source: str, index: int, identity: str, case: str, turns: list[tuple[str, ...]]) -> None:
    (trajectory,) = parse(source, RECORDS[source][index])
    assert isinstance(trajectory, Trajectory)
    assert (trajectory.id, trajectory.meta["case"]) == (identity, case)
    assert brief(trajectory) == turns
    assert validate(trajectory) == []
    assert Trajectory.from_row(trajectory.to_row()) == trajectory


def test_mind2web_names_the_element_by_its_letter() -> None:
    (trajectory,) = parse("agentinstruct", RECORDS["agentinstruct"][6])
    assert isinstance(trajectory, Trajectory)
    assert brief(trajectory)[1] == ("assistant*", "log in.", "", 'type {"choice": "B", "value": "me"}')
    assert [tool.name for tool in trajectory.tools] == ["click", "type", "select"]


def test_instructions_about_the_format_are_replaced() -> None:
    (trajectory,) = parse("agentinstruct", RECORDS["agentinstruct"][2])
    assert isinstance(trajectory, Trajectory)
    assert trajectory.messages[0].role == "system"
    assert "```" not in trajectory.messages[0].content
    assert trajectory.meta["task"] == "db"


def test_tools_listed_in_an_instruction_are_read() -> None:
    (trajectory,) = parse("agenttraj", RECORDS["agenttraj"][1])
    assert isinstance(trajectory, Trajectory)
    (tool,) = trajectory.tools
    assert (tool.name, tool.description) == ("get_search_movie", "Search.")
    assert tool.properties == {"movie_name": {"type": "string", "description": "The name."}}


def test_ways_through_one_item_have_ids_of_their_own() -> None:
    first = RECORDS["agenttraj"][0]
    other = {**first, "conversations": [*first["conversations"], {"from": "human", "loss": None, "value": "x"}]}
    ids = {trajectory.id for row in (first, dict(first), other) for trajectory in _trajectories("agenttraj", row)}
    assert len(ids) == 2


def test_finish_is_no_tool() -> None:
    (trajectory,) = parse("toolbench", RECORDS["toolbench"][0])
    assert isinstance(trajectory, Trajectory)
    assert [tool.name for tool in trajectory.tools] == ["get_weather"]


def test_what_is_cut_is_counted() -> None:
    (trajectory,) = parse("sharegpt", RECORDS["sharegpt"][0])
    assert isinstance(trajectory, Trajectory)
    assert trajectory.meta == {"case": "tool", "trailing_turns_cut": "1", "leading_turns_cut": "1"}


AGENTFLAN_FILES = [
    ("agent_instruct_tflan.jsonl", {"case": "tool", "aligned": "tflan"}),
    ("toolbench_tflan_60p_r10r5u7.jsonl", {"case": "tool", "aligned": "tflan"}),
    ("toolbench_instruct_j1s1_3k.jsonl", {"case": "tool", "aligned": "instruct"}),
    ("toolbench_negative.jsonl", {"case": "irrelevant_tool"}),
]


@pytest.mark.parametrize(("file", "meta"), AGENTFLAN_FILES)
def test_agentflan_files_are_told_apart_by_name(file: str, meta: dict[str, str]) -> None:
    row = {
        "id": "1",
        "conversation": [
            {"role": "system", "content": toolbench_system([WEATHER])},
            {"role": "user", "content": "Hi."},
            {"role": "assistant", "content": "Hello.", "loss": False},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "Nothing."},
        ],
    }
    (trajectory,) = parse("agentflan", row, Where(f"s3://bucket/{file}", 1))
    assert isinstance(trajectory, Trajectory)
    assert trajectory.meta == meta
    assert [message.loss for message in trajectory.messages if message.role == "assistant"] == [False, True]


def toolbench_row(*turns: tuple[str, str]) -> dict[str, Any]:
    system = {"from": "system", "value": toolbench_system([WEATHER, FINISH])}
    return {"id": "1", "conversations": [system, *({"from": role, "value": text} for role, text in turns)]}


FINISHED = ("assistant", react("Done.", "Finish", {"return_type": "give_answer", "final_answer": "Sunny."}))

DROPPED: list[tuple[str, dict[str, Any], str]] = [
    (
        "toolbench",
        toolbench_row(("user", "q"), ("assistant", react("t", "get_weather", {"city": "Rome"}))),
        "no_final_answer",
    ),
    (
        "toolbench",
        toolbench_row(("user", "q"), ("assistant", react("t", "Finish", {"return_type": "give_up_and_restart"}))),
        "gave_up",
    ),
    (
        "toolbench",
        toolbench_row(("user", "q"), ("assistant", react("t", "Finish", {"return_type": "give_answer"}))),
        "no_final_answer",
    ),
    (
        "toolbench",
        toolbench_row(
            ("user", "q"), ("user", "This is not the first time you try this task, all previous failed."), FINISHED
        ),
        "retried",
    ),
    (
        "toolbench",
        toolbench_row(
            ("user", "q"),
            ("assistant", react("t", "invalid_hallucination_function_name", {})),
            ("function", "error"),
            FINISHED,
        ),
        "invented_tool",
    ),
    ("toolbench", {"win": False, "answer_generation": {"valid_data": False}}, "no_final_answer"),
    ("toolbench", {"query": "q", "steps": []}, "no_tool_list"),
    ("toolbench", {"prompt": V0_PROMPT, "query": "q", "chains": [], "answer": "No Answer, sorry."}, "no_final_answer"),
    (
        "agentinstruct",
        {
            "id": "db_2",
            "conversations": native((DB_INSTRUCTION, None), ("Ok.", False), ("q?", None), ("I do not know.", True)),
        },
        "unreadable_action",
    ),
    (
        "agentinstruct",
        {"id": "db_3", "conversations": native((DB_INSTRUCTION, None), ("Ok.", False))},
        "nothing_after_demonstration",
    ),
    ("agentinstruct", {"id": "kg_2", "conversations": renamed(KG_INSTRUCTION, "Ok.")}, "nothing_after_demonstration"),
]


@pytest.mark.parametrize(("source", "row", "reason"), DROPPED)
def test_published_filters_drop_with_a_reason(source: str, row: dict[str, Any], reason: str) -> None:
    (outcome,) = parse(source, row)
    assert isinstance(outcome, Dropped)
    assert outcome.reason == reason
    assert outcome.sentence.endswith(".")


MALFORMED: list[tuple[str, dict[str, Any], str]] = [
    ("sharegpt", {}, "not_a_list"),
    ("sharegpt", {"conversations": "text"}, "not_a_list"),
    ("sharegpt", {"conversations": ["text"]}, "not_an_object"),
    ("sharegpt", {"conversations": [{"from": "narrator", "value": "x"}]}, "unknown_role"),
    ("sharegpt", {"conversations": [{"from": "human", "value": 3}]}, "not_text"),
    ("sharegpt", {"conversations": [], "tools": "{broken"}, "tools_not_json"),
    ("sharegpt", {"conversations": [], "tools": [{"name": "a", "parameters": {"required": 3}}]}, "tool_not_readable"),
    ("sharegpt", {"conversations": [{"from": "function_call", "value": "call it"}]}, "call_not_json"),
    ("openai_messages", {"messages": [{"role": "bot", "content": "x"}]}, "unknown_role"),
    ("openai_messages", {"messages": [{"role": "user", "content": "x", "loss": "yes"}]}, "loss_not_boolean"),
    ("openai_messages", {"id": ["a"], "messages": []}, "id_not_text"),
    (
        "openai_messages",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "content_not_text",
    ),
    (
        "openai_messages",
        {"messages": [{"role": "assistant", "content": react("t", "search", {"q": "x"})}]},
        "steps_without_tools",
    ),
    ("agentinstruct", {"id": "x", "conversations": renamed("Something else.", "Ok.")}, "unknown_task"),
    ("agentinstruct", {"id": "x", "conversations": []}, "no_messages"),
    (
        "agentinstruct",
        {"id": "x", "conversations": [*renamed(DB_INSTRUCTION, "Ok."), {"role": "system", "content": "x"}]},
        "system_not_first",
    ),
    ("toolbench", {"id": "x"}, "unknown_form"),
    ("toolbench", {"id": "x", "conversations": [{"from": "user", "value": "q"}]}, "no_tool_list"),
    ("toolbench", {"answer_generation": {"valid_data": True}}, "no_chain"),
    (
        "toolbench",
        toolbench_row(("user", "q"), ("assistant", "Action: Finish\nAction Input: {broken")),
        "arguments_not_json",
    ),
    ("agentflan", {"conversation": [{"role": "user", "content": "q"}]}, "unknown_task"),
]


@pytest.mark.parametrize(("source", "row", "reason"), MALFORMED)
def test_broken_records_say_what_is_wrong(source: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(MalformedRecord) as caught:
        parse(source, row)
    assert caught.value.reason == reason


FAULTS: list[tuple[dict[str, Any], str]] = [
    (
        {"tools": [WEATHER], "messages": [{"role": "assistant", "tool_calls": [{"function": {**CALL, "name": "f"}}]}]},
        "unlisted_tool",
    ),
    (
        {
            "tools": [WEATHER],
            "messages": [{"role": "assistant", "tool_calls": [{"function": {**CALL, "arguments": "{city: Rome}"}}]}],
        },
        "arguments_not_json",
    ),
    (
        {"tools": [WEATHER], "messages": [{"role": "assistant", "content": react("t", "get_time", {})}]},
        "unlisted_tool",
    ),
    ({"tools": [WEATHER, WEATHER], "messages": [{"role": "assistant", "content": "x"}]}, "duplicate_tool"),
    ({"messages": [{"role": "assistant", "content": "x", "loss": False}]}, "nothing_to_learn"),
    ({"messages": [{"role": "assistant", "content": ""}]}, "empty_assistant_message"),
    ({"messages": [{"role": "assistant", "content": "x" * 1_000_001}]}, "message_too_long"),
    ({"messages": [{"role": "assistant", "content": "half \ud800 pair"}]}, "not_unicode"),
]


@pytest.mark.parametrize(("row", "reason"), FAULTS)
def test_what_the_validator_refuses_passes_the_parser(row: dict[str, Any], reason: str) -> None:
    row = {**row, "messages": [{"role": "user", "content": "q"}, *row["messages"]]}
    (trajectory,) = parse("openai_messages", row)
    assert isinstance(trajectory, Trajectory)
    assert [fault.reason for fault in validate(trajectory)] == [reason]


def test_tool_lists_are_read_as_json_and_as_literals() -> None:
    as_literal = read_tool_list("You have access to the following APIs: [{'name': 'f', 'parameters': {}}]")
    as_json = read_tool_list('You have access of the following tools:\n[{"name": "f", "parameters": null}]')
    assert [tool.name for tool in as_literal] == [tool.name for tool in as_json] == ["f"]
    assert read_tool_list("You are helpful.") == ()
    with pytest.raises(MalformedRecord):
        read_tool_list("access to the following APIs: [f(x)]")


def test_every_source_has_a_data_sheet() -> None:
    for name, source in SOURCES.items():
        module = __import__(source.parse.__module__, fromlist=["__doc__"])
        assert source.name == name
        assert "Data sheet" in (module.__doc__ or "")
