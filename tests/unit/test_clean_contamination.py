"""Evaluation items in training data: what is read of a set, what is looked for, and what counts as an overlap."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pickle
import re
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agentflan_ray.corpus.clean import CONTAMINATED, CleanRecipe, EvaluationGrams, EvaluationSet, examine
from agentflan_ray.corpus.clean.contamination import COMMON_ITEMS, searched_texts
from agentflan_ray.corpus.clean.evaluation_sets import evaluation_items, texts_of
from agentflan_ray.sources.files import SourceSpec, plan_slices
from agentflan_ray.sources.ingest import read_slices
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory

DATA = Path(os.environ.get("AGENTFLAN_DATA", Path(__file__).parents[2] / "../shared/data"))

LONG = "Which of the two rivers that meet below the old mill carries more water in spring, the Aare or the Emme?"
MIDDLE = "Who built the old mill below the weir?"
SHORT = "Who built it?"


def write(path: Path, *questions: str) -> EvaluationSet:
    path.write_text("\n".join(json.dumps({"question": question}) for question in questions))
    return EvaluationSet(path.stem, str(path))


def asked(question: str, *, tools: bool = True, reply: str = "The Aare.", result: str = "") -> Trajectory:
    call = (ToolCall("look", "{}"),) if tools else ()
    messages = [Message("user", question)]
    if tools:
        messages += [Message("assistant", calls=call, loss=True), Message("tool", result)]
    messages.append(Message("assistant", reply, loss=True))
    return Trajectory("r1", "test", (Tool("look", "Looks."),) if tools else (), tuple(messages))


def test_parse() -> None:
    assert EvaluationSet.parse("a=s3://b/c.json") == EvaluationSet("a", "s3://b/c.json")
    assert EvaluationSet.parse("a = x.csv#q, text") == EvaluationSet("a", "x.csv", ("q", "text"))
    for wrong in ("a", "=x", "a=", "a=x#", "a=#q"):
        with pytest.raises(ValueError, match="is not of the form name=URI"):
            EvaluationSet.parse(wrong)


@pytest.mark.parametrize(
    ("record", "texts"),
    [
        ({"question": "Q", "answer": "A", "context": [["title", ["question of text"]]]}, ["Q"]),
        ({"Instructions": ["I1", "I2"], "Documentation": "D"}, ["I1", "I2"]),
        ({"id": 1, "turns": ["T1", "T2"]}, ["T1", "T2"]),
        ({"choices": [{"index": 0, "turns": ["T"]}], "model": "m"}, ["T"]),
        ({"description": "D", "sql": {"query": "S"}}, ["D"]),
        ({"query": [{"role": "user", "content": "U"}, {"role": "agent", "content": "A"}], "tools": []}, ["U"]),
        ({"messages": [{"from": "human", "value": "H"}, {"from": "gpt", "value": "G"}]}, ["H"]),
        ({"instruction": "I", "input": "X", "output": "O"}, ["I", "X"]),
        ({"0": ["a", "b"]}, ["a", "b"]),
        ("plain", ["plain"]),
        ({"question": " "}, []),
    ],
)
def test_what_an_item_asks(record: object, texts: list[str]) -> None:
    assert texts_of(record) == texts


def test_named_fields_are_found_at_any_depth() -> None:
    assert texts_of({"question": "Q", "list": [{"note": "N"}, {"note": ["M"]}]}, ("note",)) == ["N", "M"]


def test_every_format_gives_the_same_items(tmp_path: Path) -> None:
    rows = [{"question": LONG, "answer": "Aare"}, {"question": MIDDLE, "answer": "Ann"}]
    lines = "\n\n".join(map(json.dumps, rows))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["answer", "question"])
    writer.writeheader()
    writer.writerows(rows)
    bare = io.StringIO(newline="")
    csv.writer(bare).writerows([[row["question"], row["answer"]] for row in rows])
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "b.json").write_text(json.dumps({str(number): row for number, row in enumerate(rows)}))
    (tmp_path / "c.jsonl").write_text(lines)
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(lines.encode("utf-8-sig")))
    (tmp_path / "e.csv").write_text(text.getvalue())
    (tmp_path / "f.csv.gz").write_bytes(gzip.compress(bare.getvalue().encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "g.parquet")
    with zipfile.ZipFile(tmp_path / "h.zip", "w") as archive:
        archive.writestr("in/h.csv", bare.getvalue())
    (tmp_path / "LICENSE").write_text("Do what you like.")
    items = evaluation_items(EvaluationSet("all", str(tmp_path)))
    files = ["a.json", "b.json", "c.jsonl", "d.jsonl.gz", "e.csv", "f.csv.gz", "g.parquet", "h.zip/in/h.csv"]
    assert items == [(f"{file}:{row}", text) for file in files for row, text in ((1, LONG), (2, MIDDLE))]


def test_a_set_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no file or folder .*nowhere"):
        evaluation_items(EvaluationSet("a", str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match=r"holds no file that ends in \.json, "):
        evaluation_items(EvaluationSet("a", str(tmp_path)))
    (tmp_path / "x.jsonl").write_text('{"question": "ok"}\n{"question"')
    with pytest.raises(ValueError, match=r"The evaluation file x\.jsonl:2 is not JSON"):
        evaluation_items(EvaluationSet("a", str(tmp_path)))
    (tmp_path / "x.jsonl").write_text('{"question": "ok"}')
    with pytest.raises(ValueError, match="has no item with note"):
        evaluation_items(EvaluationSet("a", str(tmp_path), ("note",)))


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85"], ids=["U+2028", "U+2029", "U+0085"])
def test_line_ends_of_unicode_end_no_line(tmp_path: Path, character: str) -> None:
    rows = [{"question": f"{LONG}{character}{MIDDLE}"}, {"question": MIDDLE}]
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    for name in ("a.jsonl", "b.json"):
        (tmp_path / name).write_bytes(lines.encode())
        items = evaluation_items(EvaluationSet("a", str(tmp_path / name)))
        assert items == [(f"{name}:{row}", each["question"]) for row, each in enumerate(rows, start=1)]


def test_json_with_a_value_on_each_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(f"\n{json.dumps({'question': LONG})}\n\n{json.dumps({'question': MIDDLE})}\n")
    assert evaluation_items(EvaluationSet("a", str(path))) == [("a.json:1", LONG), ("a.json:2", MIDDLE)]
    path.write_text('{"question": "ok"}\n{"question"')
    with pytest.raises(ValueError, match=r"The evaluation file a\.json:2 is not JSON"):
        evaluation_items(EvaluationSet("a", str(path)))
    path.write_text('[\n{"question": "ok"},\n{"question"')
    with pytest.raises(ValueError, match=r"The evaluation file a\.json is not JSON: .* line 3"):
        evaluation_items(EvaluationSet("a", str(path)))


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    long = f"{LONG} " * 2000  # 200,000 characters; the csv module takes 131,072 unless told otherwise
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["question", "answer"], [MIDDLE, "Ann"], [long, "Aare"]])
    (tmp_path / "a.csv").write_text(text.getvalue())
    before = csv.field_size_limit(131_072)
    try:
        items = evaluation_items(EvaluationSet("a", str(tmp_path / "a.csv")))
    finally:
        csv.field_size_limit(before)
    assert [item.text for item in items] == [MIDDLE, long]


def test_a_damaged_archive_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match=r"The evaluation file a\.zip of the set 'a' is damaged"):
        evaluation_items(EvaluationSet("a", str(tmp_path / "a.zip")))


def test_long_items_are_found_by_thirteen_words(tmp_path: Path) -> None:
    grams = EvaluationGrams.of([write(tmp_path / "rivers.jsonl", MIDDLE, LONG)], 13)
    words = LONG.split()
    for start in range(len(words) - 12):
        part = " ".join(words[start : start + 13])
        overlap = grams.overlap(["Hello!", f"I wonder: {part.upper()} - or not"])
        assert overlap is not None
        assert overlap.set == "rivers"
        assert overlap.item == "rivers.jsonl:2"
    assert grams.overlap([" ".join(words[:12]), " ".join(words[12:])]) is None
    assert grams.overlap([]) is None


def test_short_items_are_found_whole_and_as_sentences(tmp_path: Path) -> None:
    grams = EvaluationGrams.of([write(tmp_path / "mill.jsonl", MIDDLE, SHORT)], 13)
    assert [(report.items, report.grams, report.unmatched) for report in grams.reports] == [(2, 1, 1)]
    for text in (MIDDLE, f"Question: {MIDDLE.lower()}", f'Hi.\n"{MIDDLE}" That is all.', MIDDLE.strip("?")):
        assert grams.overlap(["first", text]) == ("mill", "mill.jsonl:1", "who built the old mill below the weir")
    for text in (f"Tell me {MIDDLE}", MIDDLE.replace("?", " and the bridge?"), MIDDLE[4:], SHORT):
        assert grams.overlap([text]) is None


def test_wording_that_a_set_shares_is_not_looked_for(tmp_path: Path) -> None:
    frame = "Below you find a question about our valley, please answer it in one word only:"
    short = "Which of these is the longest?"
    questions = [f"{frame} {short} {number} {number + 1}" for number in range(COMMON_ITEMS + 1)]
    grams = EvaluationGrams.of([write(tmp_path / "framed.jsonl", *questions, short)], 13)
    assert grams.overlap([frame]) is None
    assert grams.overlap([short]) is None
    assert grams.reports[0].unmatched == 1
    assert grams.overlap([questions[3]]) is not None
    few = EvaluationGrams.of([write(tmp_path / "few.jsonl", *questions[:COMMON_ITEMS], short)], 13)
    assert few.overlap([frame]) is not None


def test_copies_of_an_item_are_not_its_sets_wording(tmp_path: Path) -> None:
    copies = [LONG] * (COMMON_ITEMS + 1)
    grams = EvaluationGrams.of([write(tmp_path / "copies.jsonl", MIDDLE, *copies)], 13)
    assert grams.overlap([LONG]) == ("copies", "copies.jsonl:2", " ".join(re.findall(r"\w+", LONG.lower())[:13]))
    assert (grams.reports[0].items, grams.reports[0].unmatched) == (COMMON_ITEMS + 2, 0)
    # What recurs whole in few words is a phrase ("Which of the following statements is correct?").
    phrases = EvaluationGrams.of([write(tmp_path / "phrases.jsonl", LONG, *[MIDDLE] * (COMMON_ITEMS + 1))], 13)
    assert phrases.overlap([MIDDLE]) is None
    assert phrases.reports[0].unmatched == COMMON_ITEMS + 1
    # An instruction that items share is wording, though it is a text of its own.
    rows = [{"instruction": LONG, "input": f"{MIDDLE} Was it number {number}?"} for number in range(COMMON_ITEMS + 1)]
    (tmp_path / "framed.json").write_text(json.dumps(rows))
    framed = EvaluationGrams.of([EvaluationSet("framed", str(tmp_path / "framed.json"))], 13)
    assert framed.overlap([LONG]) is None


def test_loops_over_indices_are_no_overlap(tmp_path: Path) -> None:
    code = "for i in range n for j in range m if a i b j a i 1 b j 1 x 0 1 0 0 1"
    assert EvaluationGrams.of([write(tmp_path / "code.jsonl", code)], 13).overlap([code]) is None


def test_each_set_is_reported_once(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.jsonl", MIDDLE, LONG), write(tmp_path / "b.jsonl", LONG, LONG)
    grams = EvaluationGrams.of([first, second, EvaluationSet("a", second.uri)], 13)
    assert grams.sets == ("a", "b")
    assert [(overlap.set, overlap.item) for overlap in grams.overlaps([LONG, MIDDLE])] == [
        ("a", "a.jsonl:1"),
        ("b", "b.jsonl:1"),
    ]
    copy = pickle.loads(pickle.dumps(grams))  # noqa: S301 - as Ray sends it
    assert copy.overlaps([LONG]) == grams.overlaps([LONG])


def test_where_is_searched(tmp_path: Path) -> None:
    grams = EvaluationGrams.of([write(tmp_path / "rivers.jsonl", LONG)], 13)
    recipe = CleanRecipe()
    verdict = examine(asked(f"Please: {LONG}"), recipe, grams)
    assert verdict is not None
    assert verdict.reason == f"{CONTAMINATED}rivers"
    assert "rivers.jsonl:1 of the set 'rivers': 'which of the two rivers that" in verdict.sentence
    assert examine(asked("Rivers?", result=LONG), recipe, grams) is None
    assert examine(asked("Rivers?", reply=LONG), recipe, grams) is None
    assert examine(asked("Rivers?", reply=LONG, tools=False), recipe, grams) is not None
    assert examine(asked(LONG), recipe, None) is None
    assert searched_texts(asked("Q", reply="R", tools=False)) == ["Q", "R"]
    with pytest.raises(ValueError, match="have 13 words, but the recipe asks for 10"):
        examine(asked(LONG), CleanRecipe(ngram=10), grams)


def test_the_known_overlap_of_fireact_and_hotpotqa() -> None:
    hotpotqa = DATA / "eval/hotpotqa/with-paragraphs"
    if not hotpotqa.exists():
        pytest.skip("real data is not there; set AGENTFLAN_DATA to its folder")
    grams = EvaluationGrams.of([EvaluationSet("hotpotqa", str(hotpotqa))], 13)
    found = []
    for _, trajectory in read_slices(
        plan_slices([SourceSpec("fireact", str(DATA / "train/fireact/multitask_multimethod.jsonl.gz"))])
    ):
        if trajectory is not None:
            found += grams.overlaps(searched_texts(trajectory))
    files = [overlap.item.split(".")[0] for overlap in found]
    assert (files.count("easy"), files.count("medium"), files.count("hard")) == (16, 28, 0)
    assert len({overlap.item for overlap in found}) == 44
