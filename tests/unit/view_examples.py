"""Cards for the viewer's tests: one of every status, and one that tries to break out of the page and the terminal."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from agentflan_ray import storage
from agentflan_ray.corpus.store import DERIVED_SCHEMA, KEPT_SCHEMA, REMOVED_SCHEMA, Corpus, open_corpus, write_table
from agentflan_ray.sample import Part, Sample, Turn
from agentflan_ray.sources.ingest import INGEST_SCHEMA
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory
from agentflan_ray.view.cards import Card, NotMade

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><!-- $title"

WEATHER = Tool("get_weather", "Weather of a city.", {"type": "object", "properties": {"city": {"type": "string"}}})


def trajectory(identity: str, source: str = "toolbench", query: str = "Is it raining in Lyon?") -> Trajectory:
    """A call between a greeting that is not learnt and an answer."""
    return Trajectory(
        identity,
        source,
        (WEATHER,),
        (
            Message("user", "Hello."),
            Message("assistant", "Hi there."),
            Message("user", query),
            Message("assistant", "", "The forecast will tell.", (ToolCall("get_weather", '{"city": "Lyon"}'),), True),
            Message("tool", "rain, 12 °C 🌧"),
            Message("assistant", "Yes, it is raining.", loss=True),
        ),
        {"task": "weather"},
    )


def chat_sample(t: Trajectory) -> Sample:
    """The decomposition of :func:`trajectory`."""
    turns = (
        Turn("user", (Part("Hello."),)),
        Turn("assistant", (Part("Hi there."),)),
        Turn("user", (Part(t.messages[2].content),)),
        Turn("assistant", (Part("The forecast will tell.", "reasoning"),)),
        Turn("user", (Part("Which tool?"),)),
        Turn("assistant", (Part("get_weather", "retrieval"),)),
        Turn("user", (Part("With which values?"),)),
        Turn("assistant", (Part('city: "Lyon"', "understanding"),)),
        Turn("user", (Part("It returned: rain, 12 °C 🌧"),)),
        Turn("assistant", (Part("Yes, it is raining.", "reasoning"),)),
    )
    return Sample(f"{t.id}/chat", t.id, t.source, "chat", "tool", turns)


def react_sample(t: Trajectory) -> Sample:
    """Its call in ReAct form."""
    parts = (
        Part("Action: ", "instruction"),
        Part("get_weather", "retrieval"),
        Part("\nAction Input: ", "instruction"),
        Part('{"city": "Lyon"}', "understanding"),
    )
    turns = (Turn("user", (Part(t.messages[2].content),)), Turn("assistant", parts))
    return Sample(f"{t.id}/react", t.id, t.source, "react", "tool", turns)


def near_miss_sample(t: Trajectory) -> Sample:
    """A negative made of its query."""
    turns = (
        Turn("user", (Part(t.messages[2].content),)),
        Turn("assistant", (Part("None of my tools knows the weather.", "general"),)),
    )
    return Sample(f"{t.id}/near_miss", t.id, t.source, "chat", "near_miss", turns)


def kept(number: int, source: str, near_miss: bool, query: str = "Is it raining in Lyon?") -> Card:
    """A kept record with two or three samples."""
    t = trajectory(f"{source}/{number}", source, query)
    samples = (chat_sample(t), react_sample(t))
    if near_miss:
        return Card("kept", source, f"{source}.jsonl:{number}", t, samples=(*samples, near_miss_sample(t)))
    not_made = (NotMade("near_miss", "no_near_tool"),)
    return Card("kept", source, f"{source}.jsonl:{number}", t, samples=samples, not_made=not_made)


def example_cards() -> list[Card]:
    """Eight cards: five kept, and one each that was removed, dropped and quarantined."""
    return [
        kept(1, "toolbench", near_miss=True),
        kept(2, "toolbench", near_miss=True, query="Do I need an umbrella in Lyon?"),
        kept(3, "toolbench", near_miss=False, query="Will Lyon get snow?"),
        kept(4, "sgd", near_miss=True),
        kept(5, "sgd", near_miss=False, query=f"Look: {HOSTILE}"),
        Card(
            "removed",
            "sgd",
            "sgd.jsonl:6",
            trajectory("sgd/6", "sgd"),
            reason="near_duplicate",
            sentence="It says the same as 'sgd/4'.",
        ),
        Card(
            "dropped",
            "toolbench",
            "toolbench.jsonl:7",
            reason="no_final_answer",
            sentence="Record 'x' ends without a final answer.",
            raw='{"id": "x"}',
        ),
        Card(
            "quarantined",
            "toolbench",
            "toolbench.jsonl:8",
            reason="not_json",
            sentence=f"Line 8 is not JSON: {HOSTILE}",
            raw=HOSTILE,
        ),
    ]


def write_corpus(folder: Path, cards: list[Card]) -> Corpus:
    """The cards as a corpus on disk: a kept file for each source, one file of what was set aside."""
    parts: dict[str, list[str]] = {"kept": [], "set_aside": ["records@r/set_aside/part-0.parquet"], "samples": []}
    removed = []
    for source in dict.fromkeys(card.origin for card in cards if card.trajectory):
        here = [card for card in cards if card.trajectory and card.origin == source]
        parts["kept"].append(f"records@r/kept/{source}.parquet")
        parts["samples"].append(f"samples@s/{source}.parquet")
        records, samples = [], []
        for card in here:
            assert card.trajectory
            records.append({**card.trajectory.to_row(), "where": card.where, "origin": card.origin})
            samples += [{**sample.to_row(), "omitted": None} for sample in card.samples]
            samples += [
                {
                    **dict.fromkeys(DERIVED_SCHEMA.names),
                    "id": f"{card.trajectory.id}/{kind}",
                    "parent": card.trajectory.id,
                    "case": kind,
                    "omitted": reason,
                }
                for kind, reason in card.not_made
            ]
            if card.status == "removed":
                place = {"part": parts["kept"][-1], "where": card.where, "id": card.trajectory.id, "origin": source}
                removed.append({**place, "reason": card.reason, "sentence": card.sentence})
        write_table(str(folder / parts["kept"][-1]), pa.Table.from_pylist(records, KEPT_SCHEMA))
        write_table(str(folder / parts["samples"][-1]), pa.Table.from_pylist(samples, DERIVED_SCHEMA))
    aside = [
        {
            **dict.fromkeys(INGEST_SCHEMA.names),
            "status": card.status,
            "reason": card.reason,
            "sentence": card.sentence,
            "where": card.where,
            "record": card.where,
            "origin": card.origin,
            "raw": card.raw,
        }
        for card in cards
        if card.status in ("dropped", "quarantined")
    ]
    write_table(str(folder / parts["set_aside"][0]), pa.Table.from_pylist(aside, INGEST_SCHEMA))
    write_table(str(folder / "corpus@c" / "removed.parquet"), pa.Table.from_pylist(removed, REMOVED_SCHEMA))
    storage.write_json(folder / "corpus@c" / "manifest.json", {"fingerprint": "c", "parts": parts})
    return open_corpus(str(folder / "corpus@c"))
