"""Laws of the exports: what is written is read back as what it was, by this project's own sources."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentflan_ray.corpus.export.hub import hub_row
from agentflan_ray.corpus.export.records import (
    JOINED,
    LEARNT_IN_PART,
    agentflan_sample,
    openai_sample,
    openai_trajectory,
    sharegpt_sample,
    sharegpt_trajectory,
)
from agentflan_ray.forms import thought_of
from agentflan_ray.sample import CAPABILITIES, CASES, FORMS, Part, Sample, Turn
from agentflan_ray.sources import agentflan, openai_messages, sharegpt
from agentflan_ray.sources.base import Where
from agentflan_ray.trajectory import Message, Tool, Trajectory, validate
from tests.strategies import names, sentences, tool_trajectories

parts = st.builds(Part, sentences, st.none() | st.sampled_from(CAPABILITIES))


@st.composite
def samples(draw: st.DrawFn, forms: tuple[str, ...] = FORMS) -> Sample:
    """A sample of one to three exchanges, its assistant turns of one to four parts."""
    turns = [Turn("system", (Part(draw(sentences)),))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns.append(Turn("user", (Part(draw(sentences)),)))
        turns.append(Turn("assistant", tuple(draw(st.lists(parts, min_size=1, max_size=4)))))
    turns[-1] = Turn("assistant", (*turns[-1].parts, Part(draw(sentences), "general")))
    parent = draw(names)
    form, case = draw(st.sampled_from(forms)), draw(st.sampled_from(CASES))
    return Sample(f"{parent}/{form}", parent, "law", form, case, tuple(turns))  # type: ignore[arg-type]


def in_a_file(record: dict[str, Any]) -> dict[str, Any]:
    """The record as it comes back from its line of JSON."""
    return dict(json.loads(json.dumps(record, ensure_ascii=False)))


def tools_of(trajectory: Trajectory) -> list[tuple[str, str, dict[str, Any], tuple[str, ...]]]:
    return [(tool.name, tool.description, tool.properties, tool.required) for tool in trajectory.tools]


def calls_of(message: Message) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in message.calls]


def turns_of(sample: Sample) -> list[tuple[str, str, bool]]:
    return [(turn.role, turn.text, any(part.capability for part in turn.parts)) for turn in sample.turns]


@given(tool_trajectories())
def test_a_trajectory_survives_the_openai_format(trajectory: Trajectory) -> None:
    record = in_a_file(openai_trajectory(trajectory, Counter()))
    (read,) = openai_messages.parse(record, Where("law.jsonl", 1))
    assert isinstance(read, Trajectory)
    assert validate(read) == []
    assert (read.id, read.source, tools_of(read)) == (trajectory.id, trajectory.source, tools_of(trajectory))
    for one, other in zip(read.messages, trajectory.messages, strict=True):
        assert (one.role, one.content, one.thought, one.loss) == (other.role, other.content, other.thought, other.loss)
        assert calls_of(one) == calls_of(other)


@given(tool_trajectories())
def test_every_result_names_the_call_that_it_answers(trajectory: Trajectory) -> None:
    messages = openai_trajectory(trajectory, Counter())["messages"]
    made = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    assert len(set(made)) == len(made)
    assert [message["tool_call_id"] for message in messages if message["role"] == "tool"] == made


@given(tool_trajectories())
def test_a_trajectory_survives_the_sharegpt_format(trajectory: Trajectory) -> None:
    notes: Counter[str] = Counter()
    record = in_a_file(sharegpt_trajectory(trajectory, notes))
    sides = ["user" if turn["from"] in ("human", "observation") else "model" for turn in record["conversations"]]
    assert sides == ["user", "model"] * (len(sides) // 2)
    # Thoughts stand in <think> before what is said; they are taken out here, and the source reads the rest.
    thoughts: list[str] = []
    for turn in record["conversations"]:
        if turn["from"] in ("gpt", "function_call"):
            found = re.match(r"<think>\n(.*?)\n</think>\n\n", turn["value"], re.DOTALL)
            thoughts.append(found.group(1) if found else "")
            turn["value"] = turn["value"][found.end() :] if found else turn["value"]
    (read,) = sharegpt.parse(record, Where("law.jsonl", 1))
    assert validate(read) == []
    assert (read.id, tools_of(read)) == (trajectory.id, tools_of(trajectory))
    originals = [message for message in trajectory.messages if message.role == "assistant"]
    again = [message for message in read.messages if message.role == "assistant"]
    assert thoughts == [thought_of(message) for message in originals]
    assert [calls_of(message) for message in again] == [calls_of(message) for message in originals]
    assert [message.loss for message in again] == [message.loss for message in originals]
    assert [m.content for m in again if not m.calls] == [m.content for m in originals if not m.calls]
    results = [[m.content for m in t.messages if m.role == "tool"] for t in (trajectory, read)]
    assert "\n".join(results[0]) == "\n".join(results[1])
    assert len(results[0]) - len(results[1]) == notes[JOINED]


@given(samples())
def test_a_sample_survives_the_sharegpt_and_openai_formats(sample: Sample) -> None:
    (read,) = sharegpt.parse(in_a_file(sharegpt_sample(sample, Counter())), Where("law.jsonl", 1))
    assert read.id == sample.id
    assert [(m.role, m.content, m.loss) for m in read.messages] == turns_of(sample)
    messages = in_a_file(openai_sample(sample, Counter()))["messages"]
    assert [(m["role"], m["content"], m.get("weight", 0) == 1) for m in messages] == turns_of(sample)


@given(samples(("chat", "cot")))
def test_a_chat_sample_survives_the_agentflan_format(sample: Sample) -> None:
    record = in_a_file(agentflan_sample(sample, Counter()))
    (read,) = agentflan.parse(record, Where("agentflan_tflan.jsonl", 1))
    assert isinstance(read, Trajectory)
    assert read.id.endswith(sample.id)
    assert [(m.role, m.content, m.loss) for m in read.messages] == turns_of(sample)


@given(samples())
def test_turns_that_only_parts_of_are_learnt_are_counted(sample: Sample) -> None:
    mixed = sum(len({part.capability is None for part in turn.parts}) == 2 for turn in sample.turns)
    for write in (agentflan_sample, sharegpt_sample, openai_sample):
        notes: Counter[str] = Counter()
        write(sample, notes)
        assert notes[LEARNT_IN_PART] == mixed


@given(samples())
def test_a_hub_row_holds_every_part(sample: Sample) -> None:
    row = hub_row(sample)
    turns = []
    for message in row["messages"]:
        learnt = [(message["content"][s["start"] : s["end"]], s["capability"]) for s in message["spans"]]
        turns.append((message["role"], message["content"], learnt))
        assert message["loss"] == bool(learnt)
    assert turns == [(t.role, t.text, [(p.text, p.capability) for p in t.parts if p.capability]) for t in sample.turns]


def test_tools_keep_their_schemas() -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Örtchen"}, "days": {"type": "integer"}},
        "required": ["city"],
    }
    said = (Message("user", "Rain?"), Message("assistant", "No.", loss=True))
    trajectory = Trajectory("t", "law", (Tool("weather", "Forecast.", schema),), said)
    (first,) = openai_messages.parse(in_a_file(openai_trajectory(trajectory, Counter())), Where("f", 1))
    (second,) = sharegpt.parse(in_a_file(sharegpt_trajectory(trajectory, Counter())), Where("f", 1))
    assert isinstance(first, Trajectory)
    assert first.tools == second.tools == trajectory.tools
