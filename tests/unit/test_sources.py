"""Each published format: tiny records and the turns that they must become."""

from __future__ import annotations

import fnmatch
import json
from typing import Any

import pytest

from agentflan_ray.sources import SOURCES, Dropped, MalformedRecord, Where
from agentflan_ray.sources.base import arguments_text, parse_literal, record_id, schema_type
from agentflan_ray.sources.ingest import read_record
from agentflan_ray.sources.think_tags import read_reply
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


def parse(source: str, row: dict[str, Any], where: Where = HERE) -> list[Trajectory | Dropped | MalformedRecord]:
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
        "movie_1-*",
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
        "demo_file-*",
        "tool",
        [*WEATHER_TALK, ("assistant*", "Now I can answer.", "Sunny.")],
    ),
    ("toolbench", 2, "demo_file-*", "tool", [*WEATHER_TALK, ("assistant*", "I know.", "Sunny.")]),
    ("toolbench", 3, "demo_file-*", "tool", [*WEATHER_TALK, ("assistant*", "I know.", "Sunny.")]),
    ("toolbench", 4, "STEP 1: Weather in Rome?", "tool", [*WEATHER_TALK, ("assistant*", "I know.", "Sunny.")]),
    (
        "agentflan",
        0,
        "demo_file-af_1",
        "tool",
        [
            ("user", "", "How many rows?"),
            ("assistant*", "Count.", "", 'execute_sql {"query": "SELECT COUNT(*) FROM t"}'),
        ],
    ),
    ("agentflan", 1, "demo_file-af_2", "tool", [*WEATHER_TALK, ("assistant*", "Done.", "Sunny.")]),
    (
        "sharegpt",
        0,
        "demo_file-*",
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
        "demo_file-*",
        "tool",
        [
            ("user", "", "who?"),
            ("assistant*", "search.", "", 'search {"query": "who"}'),
            ("tool", "", "he"),
            ("assistant*", "he.", "He"),
        ],
    ),
    (
        "fireact",
        1,
        "demo_file-*",
        "tool",
        [
            ("user", "", "who?\nA. he\nB. she"),
            ("assistant*", "search.", "", 'search {"query": "who"}'),
            ("tool", "", "he"),
            ("assistant*", "he.", "A"),
        ],
    ),
    (
        "intercode",
        0,
        "ic_bash_1",
        "tool",
        [("user", "", "How many files?"), ("assistant*", "", "", 'bash {"command": "ls | wc -l"}')],
    ),
    (
        "knowagent",
        0,
        "k1",
        "tool",
        [
            ("user", "", "Put the mug away."),
            ("assistant*", "plan.\ngo.", "", 'go_to {"place": "shelf 1"}'),
            ("tool", "", "You see nothing."),
            ("assistant*", "", "", 'take {"object": "mug 1", "place": "shelf 1"}'),
        ],
    ),
    (
        "think_tags",
        0,
        "demo_file-*",
        "tool",
        [
            ("user", "", "Weather in <b>Rome</b>?"),
            ("assistant", "", "", WEATHER_CALL),
            ("tool", "", "sunny"),
            ("assistant", "Mine.", "Sunny."),
            ("user", "", "And Oslo?"),
            ("assistant*", "Look it up with <tool_call> again.", "Wait.", 'get_weather {"city": "Oslo"}', "Say it {}"),
        ],
    ),
    (
        "think_tags",
        1,
        "h1",
        "tool",
        [
            ("user", "", "Weather in Rome and Oslo?"),
            ("assistant*", "Look them up.", "One moment.", WEATHER_CALL, 'get_weather {"city": "Oslo"}'),
            ("tool", "", "sunny"),
            ("tool", "", "snow"),
            ("assistant*", "", "Sun and snow."),
        ],
    ),
    (
        "toolverifier",
        0,
        "demo_file-*",
        "tool",
        [
            ("user", "", "Weather in Rome?"),
            ("assistant*", "It tells the weather.\n\nNot the news.", "", "Weather {}"),
        ],
    ),
    (
        "toolalpaca",
        0,
        "demo_file-*-1",
        "tool",
        [
            ("user", "", "Weather here?"),
            ("assistant*", "A city is missing.", "Where are you?"),
            ("user", "", "In Rome."),
            ("assistant*", "Look it up.", "", 'getWeather {"city": "Rome"}'),
            ("tool", "", "Status Code: 200. Response: sunny"),
            ("assistant*", "I know.", "It is sunny."),
        ],
    ),
    (
        "alpaca",
        0,
        "demo_file-*",
        "chat",
        [
            ("user", "", "Hi."),
            ("assistant*", "", "Hello."),
            ("user", "", "Translate.\n\ncasa"),
            ("assistant*", "", "house"),
        ],
    ),
]


@pytest.mark.parametrize(("source", "index", "identity", "case", "turns"), EXPECTED)
def test_records_become_turns(source: str, index: int, identity: str, case: str, turns: list[tuple[str, ...]]) -> None:
    (trajectory,) = parse(source, RECORDS[source][index])
    assert isinstance(trajectory, Trajectory)
    assert fnmatch.fnmatchcase(trajectory.id, identity)
    assert trajectory.meta["case"] == case
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
    assert tool.properties == {
        "movie_name": {"type": "string", "description": "The name."},
        "kind": {"type": "array", "enum": ["a", "b"]},
    }


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


def test_every_thought_of_a_reply_is_kept() -> None:
    reply = "Well.\nThought: one.\nThought: two.\nAction: get_weather\nAction Input: {}"
    (trajectory,) = _trajectories(
        "toolbench", toolbench_row(("user", "q"), ("assistant", reply), ("function", "x"), FINISHED)
    )
    assert brief(trajectory)[1] == ("assistant*", "Well.\none.\ntwo.", "", "get_weather {}")


AGENTFLAN_FILES = [
    ("agent_instruct_tflan.jsonl", {"case": "tool", "aligned": "tflan"}),
    ("toolbench_tflan_60p_r10r5u7.jsonl", {"case": "tool", "aligned": "tflan"}),
    ("toolbench_tflan_cot_30p.jsonl", {"case": "tool", "aligned": "cot"}),
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
    assert trajectory.id == f"{file.removesuffix('.jsonl')}-1"
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
        {
            "id": "db_4",
            "conversations": native(
                (DB_INSTRUCTION, None),
                ("Ok.", False),
                ("Add Ann.", None),
                ('The record has been added.\nAction: Answer\nFinal Answer: ["INSERT INTO people VALUES (1)"]', True),
            ),
        },
        "no_action",
    ),
    (
        "agentinstruct",
        {"id": "db_3", "conversations": native((DB_INSTRUCTION, None), ("Ok.", False))},
        "nothing_after_demonstration",
    ),
    ("agentinstruct", {"id": "kg_2", "conversations": renamed(KG_INSTRUCTION, "Ok.")}, "nothing_after_demonstration"),
    (
        "toolverifier",
        {"text": 'User: q\n###\nTool Choices: A = a.\n###\nThought: t\nAct: CALLTOOL["B"]'},
        "invented_tool",
    ),
    ("toolalpaca", {"Function_Description": None, "Instances": [{}]}, "no_documentation"),
    ("toolalpaca", {"Function_Description": {}, "Instances": []}, "no_call"),
    ("toolalpaca", {"Function_Description": {}, "Instances": [{"input": "q", "output": "a"}]}, "no_call"),
    (
        "toolalpaca",
        {"Function_Description": {}, "Instances": [{"output": "Agent stopped due to iteration limit or time limit."}]},
        "no_final_answer",
    ),
]


@pytest.mark.parametrize(("source", "row", "reason"), DROPPED)
def test_published_filters_drop_with_a_reason(source: str, row: dict[str, Any], reason: str) -> None:
    (outcome,) = parse(source, row)
    assert isinstance(outcome, Dropped)
    assert outcome.reason == reason
    assert outcome.sentence.endswith(".")


def test_the_databases_word_for_nothing_to_say_is_not_learnt_as_an_answer() -> None:
    turns = native(
        (DB_INSTRUCTION, None),
        ("Ok.", False),
        ("Add Ann.", None),
        ("Insert it.\nAction: Operation\n```sql\nINSERT INTO people VALUES ('Ann')\n```", True),
        ("[]", None),
        ('Ann was added.\nAction: Answer\nFinal Answer: ["none"]', True),
    )
    (trajectory,) = _trajectories("agentinstruct", {"id": "db_5", "conversations": turns})
    assert brief(trajectory)[-1] == ("assistant*", "", "Ann was added.")
    silent = [*turns[:-1], {**turns[-1], "value": 'Action: Answer\nFinal Answer: ["none"]'}]
    (trajectory,) = _trajectories("agentinstruct", {"id": "db_6", "conversations": silent})
    assert brief(trajectory)[-1] == ("assistant", "", '["none"]')


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
    ("fireact", {"instruction": "q", "output": "Action: finish[a]"}, "no_steps"),
    ("think_tags", {"conversations": [{"from": "gpt", "value": "<think> a"}]}, "unpaired_tag"),
    ("think_tags", {"conversations": [{"from": "gpt", "value": "a</think> b"}]}, "unpaired_tag"),
    ("think_tags", {"conversations": [{"from": "gpt", "value": "<tool_call>call it</tool_call>"}]}, "call_not_json"),
    ("think_tags", {"instruction": "x", "input": "Hi.", "output": "x"}, "text_outside_tags"),
    ("think_tags", {"instruction": "x", "input": "<user>Hi.</user>", "output": "x"}, "no_tool_list"),
    ("toolverifier", {"text": "User: q"}, "not_a_choice"),
    ("toolalpaca", {"Function_Description": "x"}, "not_an_object"),
    ("alpaca", {"instruction": "q", "output": react("t", "search", {"q": "x"})}, "steps_without_tools"),
    ("alpaca", {"instruction": "q", "output": "a", "history": [["only one"]]}, "history_not_pairs"),
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
    (
        {"tools": [WEATHER, {**WEATHER, "description": "x"}], "messages": [{"role": "assistant", "content": "x"}]},
        "duplicate_tool",
    ),
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


@pytest.mark.parametrize("character", ["\u2028", "\x85"], ids=["U+2028", "U+0085"])
def test_calls_on_lines_end_at_line_feeds_only(character: str) -> None:
    said = json.dumps({"text": f"a{character}b"}, ensure_ascii=False)
    calls = "\r\n".join(f'{{"name": "say", "arguments": {said}}}' for _ in range(2))
    message = read_reply(f"<tool_call>\n{calls}\n</tool_call>", True, "output")
    assert [call.name for call in message.calls] == ["say", "say"]
    assert [json.loads(call.arguments) for call in message.calls] == [{"text": f"a{character}b"}] * 2


def test_tools_of_toolrl_say_what_is_required_by_what_its_calls_leave_out() -> None:
    (trajectory,) = _trajectories("think_tags", RECORDS["think_tags"][0])
    weather, say = trajectory.tools
    assert (weather.name, weather.description, say.name, say.properties) == (
        "get_weather",
        "Weather of a city.",
        "Say it",
        {},
    )
    assert weather.required == ("city",)
    assert weather.properties == {
        "city": {"type": "string", "description": "Where."},
        "days": {"type": "integer", "description": "How many."},
        "unit": {"type": "string", "description": "Which.", "default": "C"},
        "hours": {"type": "array", "description": "When."},
    }


def test_a_hermes_system_turn_keeps_its_own_words_and_gives_its_tools() -> None:
    (trajectory,) = _trajectories("think_tags", RECORDS["think_tags"][1])
    assert trajectory.messages[0].content == "Be brief."
    assert [tool.name for tool in trajectory.tools] == ["get_weather"]
    assert trajectory.tools[0].required == ("city",)


def test_tools_of_toolalpaca_are_read_from_prose() -> None:
    (trajectory,) = _trajectories("toolalpaca", RECORDS["toolalpaca"][0])
    (tool,) = trajectory.tools
    assert (tool.name, tool.description, tool.required) == ("getWeather", "Weather of a city.", ("city",))
    assert tool.properties == {
        "city": {"type": "string", "description": "The city"},
        "unit": {"type": "string", "description": "One of: [C, F]. The unit", "enum": ["C", "F"]},
        "hours": {"type": "array", "description": 'Array[integer]. When, e.g. "noon"'},
    }


def test_a_bad_instance_does_not_take_the_others_with_it() -> None:
    record = RECORDS["toolalpaca"][0]
    good = record["Instances"][0]
    invented = {**good, "intermediate_steps": [[["fly", "{}", "x"], "`fly` is not a valid action."]]}
    broken = {**good, "intermediate_steps": [["x"]]}
    outcomes = parse("toolalpaca", {**record, "Instances": [good, "error", invented, broken, good]})
    assert [getattr(outcome, "reason", "kept") for outcome in outcomes] == [
        "kept",
        "not_an_object",
        "invented_tool",
        "step_not_readable",
        "kept",
    ]
    rows = read_record(SOURCES["toolalpaca"], HERE, {**record, "Instances": ["error", good]})
    assert [(row["status"], row["where"]) for row, _ in rows] == [("quarantined", str(HERE)), ("kept", f"{HERE}#2")]


def test_a_tool_listed_twice_in_the_same_words_is_listed_once() -> None:
    (trajectory,) = _trajectories("sharegpt", {**RECORDS["sharegpt"][0], "tools": [WEATHER, WEATHER]})
    assert [tool.name for tool in trajectory.tools] == ["get_weather"]


def test_ids_come_from_the_record_not_from_its_row() -> None:
    row = {"b": 1, "a": "x"}
    identity = record_id(row, HERE)
    assert fnmatch.fnmatchcase(identity, "demo_file-" + "[0-9a-f]" * 16)
    assert record_id({"a": "x", "b": 1}, Where(HERE.file, 8)) == identity
    assert record_id({**row, "b": 2}, HERE) != identity
    assert record_id({"id": 5}, HERE) == "5"


TYPES = {
    "string": "string",
    "str, optional": "string",
    "List[int]": "array",
    "Tuple[float, float]": "array",
    "['string', 'null']": "string",
    "float": "number",
    "bool": "boolean",
    "Dict": "object",
    "Callable[[float], float]": "any",
    "": "any",
}


def test_types_of_other_notations_are_json_schema_types() -> None:
    assert {text: schema_type(text) for text in TYPES} == TYPES


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": true}', {"a": True}),
        ("{'a': True, 'b': None}", {"a": True, "b": None}),
        ("('a', 1)", ["a", 1]),
        ("{'a': {1, 2}}", None),
        ("f(x)", None),
        ("{[]: 1}", None),
        ("[" * 5_000, None),
        (r"'\d'", r"\d"),
    ],
)
def test_literals_are_json_or_python_that_json_can_say(text: str, value: Any) -> None:
    assert parse_literal(text) == value


def test_arguments_printed_by_python_become_json() -> None:
    assert json.loads(arguments_text("{'city': 'Rome', 'now': True}")) == {"city": "Rome", "now": True}
    assert arguments_text("{city: Rome}") == "{city: Rome}"


def test_a_record_nested_to_the_limit_is_quarantined() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    ((row, _),) = read_record(SOURCES["alpaca"], HERE, {"instruction": "q", "output": "a", "extra": deep})
    assert (row["status"], row["reason"]) == ("quarantined", "nested_too_deeply")


def test_a_run_that_the_harness_ended_teaches_nothing() -> None:
    messages = [
        {"role": "user", "content": "How many files?"},
        {"role": "assistant", "content": "Action: execute[ls]"},
        {"role": "user", "content": "Observation: a"},
        {"role": "assistant", "content": "Thought: EXCEEDED MAX TURNS: submit\nAction: submit"},
    ]
    (outcome,) = SOURCES["intercode"].parse({"id": "ic_bash_9", "messages": messages}, Where("a.jsonl", 1))
    assert isinstance(outcome, Dropped)
    assert outcome.reason == "out_of_turns"
