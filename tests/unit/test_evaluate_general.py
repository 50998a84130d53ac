"""GSM8K and MMLU, on rows of the tests' own and on the real ones."""

from __future__ import annotations

import json
import os
import time
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest

from agentflan_ray.evaluate.benchmark import Item, Reply, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks.gsm8k import gsm8k, last_number, stated_number
from agentflan_ray.evaluate.benchmarks.mmlu import LETTERS, mmlu
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.randomness import stable_random

DATA = Path(os.environ.get("AGENTFLAN_DATA", Path(__file__).parents[3] / "shared/data"))
GARBAGE = ["", "x" * 100_000, "1" * 100_000, "1,1" * 30_000, "answer is " * 10_000, "\x00\udcff-$", "{[" * 40_000]

needs_data = pytest.mark.skipif(not (DATA / "eval").exists(), reason=f"no data at {DATA}; set AGENTFLAN_DATA")


def test_every_prefix_of_the_fair_order_holds_each_case_by_its_share() -> None:
    sizes = {"a": 60, "b": 30, "c": 10}
    items = [Item(f"{case}{n}", "g", case, {}) for case, size in sizes.items() for n in range(size)]
    ordered = in_fair_order(items)
    assert ordered == in_fair_order(reversed(items))
    assert {item.id for item in ordered} == {item.id for item in items}
    for length in range(1, 101):
        for case, size in sizes.items():
            assert abs(sum(item.case == case for item in ordered[:length]) - length * size / 100) <= 1.0
    assert [item.id for item in ordered if item.case == "a"] != [f"a{n}" for n in range(60)]


@pytest.mark.parametrize(
    ("text", "last", "stated"),
    [
        ("3 + 4 = 7. The answer is 7.", "7", "7"),
        ("The answer is $1,234.50. Is it 3?", "3", "1234.50"),
        ("so the answer is: -12", "-12", "-12"),
        ("It took 2 hours.", "2", None),
        ("none", None, None),
    ],
)
def test_numbers_of_a_reply(text: str, last: str | None, stated: str | None) -> None:
    assert last_number(text) == (Decimal(last) if last else None)
    assert stated_number(text) == (Decimal(stated) if stated else None)


def test_gsm8k_asks_with_eight_examples(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    rows = [{"question": f"What is {n} + 1000?", "answer": f"{n} + 1000.\n#### {n + 1000:,}"} for n in range(4)]
    (tmp_path / "gsm8k/test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    benchmark = gsm8k(Settings(str(tmp_path)))
    item = next(item for item in benchmark.items() if item.id == "gsm8k/2")
    assert (item.case, item.data["answer"]) == ("1 steps", "1002")
    request = benchmark.open(item).ask()
    assert request is not None
    assert [message["role"] for message in request.messages] == ["system", *["user", "assistant"] * 8, "user"]
    for message in request.messages:
        if message["role"] == "assistant":
            assert last_number(message["content"]) == stated_number(message["content"])
    assert benchmark.score(item, {"reply": "It is 1,002. The answer is 1002."}) == {"correct": 1.0, "stated": 1.0}
    assert benchmark.score(item, {"reply": "It is 1002, I think of $1002.0"}) == {"correct": 1.0, "stated": 0.0}
    for reply in GARBAGE:
        began = time.perf_counter()
        assert benchmark.score(item, {"reply": reply}) == {"correct": 0.0, "stated": 0.0}
        assert time.perf_counter() - began < 2
    with pytest.raises(Unavailable, match="test problems are not there"):
        gsm8k(Settings(str(tmp_path / "gsm8k")))


@needs_data
def test_gsm8k_oracle_and_random_on_real_problems() -> None:
    benchmark = gsm8k(Settings(str(DATA)))
    items = benchmark.items()
    assert len(items) == 1319
    for item in items:
        assert benchmark.score(item, {"reply": f"The answer is {item.data['answer']}."})["correct"] == 1.0
    hits = [benchmark.score(i, {"reply": str(stable_random(i.id).randrange(1, 200))})["correct"] for i in items]
    assert sum(hits) / len(hits) < 0.03


def write_mmlu(folder: Path, with_dev: bool) -> None:
    header = "question,A,B,C,D,answer\n"
    (folder / "mmlu/test").mkdir(parents=True)
    (folder / "mmlu/test/old_maps_test.csv").write_text('"Which, of these?",one,two,three,four,C\nNext?,a,b,c,d,A\n')
    (folder / "mmlu/test/tides_test.csv").write_text(header + "When?,w,x,y,z,3\n")
    if with_dev:
        (folder / "mmlu/dev").mkdir()
        (folder / "mmlu/dev/old_maps_dev.csv").write_text("".join(f"Example {n}?,a,b,c,d,B\n" for n in range(5)))
        (folder / "mmlu/dev/tides_dev.csv").write_text("One?,a,b,c,d,A\n")


def test_mmlu_asks_in_the_published_wording_and_drops_examples_that_do_not_fit(tmp_path: Path) -> None:
    write_mmlu(tmp_path, with_dev=True)
    benchmark = mmlu(Settings(str(tmp_path)))
    items = {item.id: item for item in benchmark.items()}
    assert set(items) == {"old_maps/0", "old_maps/1", "tides/0"}
    episode = benchmark.open(items["old_maps/0"])
    request = episode.ask()
    assert request is not None
    assert request.choices == LETTERS
    text = request.messages[0]["content"]
    assert text.startswith(
        "The following are multiple choice questions (with answers) about old maps.\n\n"
        "Example 0?\nA. a\nB. b\nC. c\nD. d\nAnswer: B\n\nExample 1?"
    )
    assert text.endswith("\n\nWhich, of these?\nA. one\nB. two\nC. three\nD. four\nAnswer:")
    episode.take(Reply("", finish="context"))
    shorter = episode.ask()
    assert shorter is not None
    assert shorter.messages[0]["content"].count("Answer: B") == 4
    episode.take(Reply("C", finish="choice", logprobs=(-3.0, -2.0, -1.0, -9.0)))
    assert episode.ask() is None
    assert episode.outcome() == {"logprobs": [-3.0, -2.0, -1.0, -9.0], "shots": 4}
    assert benchmark.score(items["old_maps/0"], episode.outcome()) == {"correct": 1.0}
    assert benchmark.score(items["tides/0"], {"logprobs": [0.0, 0.0, 0.0, 0.0]}) == {"correct": 0.0}
    assert benchmark.score(items["tides/0"], {"logprobs": []}) == {"correct": 0.0}


def test_mmlu_without_dev_says_so_and_zips_are_read(tmp_path: Path) -> None:
    write_mmlu(tmp_path, with_dev=False)
    plain = mmlu(Settings(str(tmp_path)))
    assert "no examples" in plain.protocol
    assert plain.identity["shots"] == 0
    zipped = tmp_path / "zipped/mmlu"
    zipped.mkdir(parents=True)
    with zipfile.ZipFile(zipped / "mmlu.zip", "w") as archive:
        for path in (tmp_path / "mmlu/test").glob("*.csv"):
            archive.write(path, f"data/test/{path.name}")
    assert mmlu(Settings(str(tmp_path / "zipped"))).identity == plain.identity
    with pytest.raises(Unavailable, match="test questions are not there"):
        mmlu(Settings(str(tmp_path / "nowhere")))
    (tmp_path / "mmlu/test/tides_test.csv").write_text("When?,w,x,y,z,3\nWhy?,w,x,y,z,E\n")
    with pytest.raises(ValueError, match=r"Row 2 of mmlu/test/tides_test\.csv ends with 'E' after 6 columns"):
        mmlu(Settings(str(tmp_path)))


@needs_data
def test_mmlu_oracle_and_random_on_real_questions() -> None:
    benchmark = mmlu(Settings(str(DATA)))
    items = benchmark.items()
    assert len(items) == 14_042
    assert len({item.case for item in items}) == 57
    assert all(len(examples) == 5 for examples in benchmark.examples.values())
    for item in items:
        gold = [float(letter == item.data["answer"]) for letter in LETTERS]
        assert benchmark.score(item, {"logprobs": gold}) == {"correct": 1.0}
    random = [
        benchmark.score(item, {"logprobs": [stable_random(item.id, letter).random() for letter in LETTERS]})["correct"]
        for item in items
    ]
    assert abs(sum(random) / len(random) - 0.25) < 0.011  # three standard errors
