"""Two models on the same items, leaderboards, and the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from agentflan_ray.evaluate.benchmark import Item, Metric, OneRequest, Sample
from agentflan_ray.evaluate.compare import (
    Result,
    beside_paper,
    compare,
    comparison_table,
    leaderboard,
    leaderboard_table,
    load,
    paper_table,
)
from agentflan_ray.evaluate.results import Model, ResultFolder
from agentflan_ray.evaluate.summary import Combined, estimate

SIDES = (Metric("calls", "right", cases=("call",)), Metric("holds", "right", cases=("hold", "chat"), by_case=True))
METRICS = (Combined("two_sided", parts=SIDES, how="harmonic", scale=100), *SIDES, Metric("steps", better="low"))


@dataclass(frozen=True)
class Made:
    """A benchmark that exists to write results of."""

    name: str = "made"
    version: int = 1
    metrics: Sequence[Metric] = METRICS
    protocol: str = "made up"
    embedder: str = ""

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"version": self.version, "embedder": self.embedder}

    def items(self) -> Sequence[Item]:
        return []

    def open(self, item: Item) -> OneRequest:
        raise AssertionError

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        raise AssertionError


def write(
    out: Path, model: str, samples: Sequence[Sample], benchmark: Made | None = None, limit: int | None = None
) -> list[Result]:
    folder = ResultFolder(out, Model(model, f"sha256@{model}"))
    folder.write(benchmark or Made(), {"engine": "none"}, samples, limit, len(samples) if limit is None else 2 * limit)
    return load(folder.place)


def drawn(rate: float, seed: int = 0, num: int = 60, error_at: int | None = None) -> list[Sample]:
    """Items in 20 groups of each of three cases; hard items are hard for every model, a better one gets more right."""
    hard = np.random.default_rng(7).random(3 * num)
    noise = np.random.default_rng(seed).normal(0, 0.05, 3 * num)
    found = []
    for i in range(3 * num):
        case = ("call", "hold", "chat")[i % 3]
        item = Item(f"i{i}", f"{case}{i // 3 % 20}", case, {})
        scores = {"right": float(hard[i] + noise[i] < rate), "steps": 2.0 + (hard[i] > rate)}
        failed = i == error_at
        found.append(Sample(item, (), {}, {} if failed else scores, 0.1, "died" if failed else None))
    return found


def test_a_difference_is_that_of_the_metrics_on_common_items(tmp_path: Path) -> None:
    ours, theirs = drawn(0.7, 1), drawn(0.5, 2)
    rows = compare(write(tmp_path, "a", ours), write(tmp_path, "b", theirs), every_metric=True)
    assert [row.metric for row in rows] == [metric.name for metric in METRICS]
    for row, metric in zip(rows, METRICS, strict=True):
        assert row.first == pytest.approx(estimate(ours, metric).value)
        assert row.second == pytest.approx(estimate(theirs, metric).value)
        assert row.difference == pytest.approx(row.first - row.second)
        assert row.low < row.difference < row.high
        assert row.p <= row.p_together
    assert (rows[0].n, rows[1].n, rows[2].n, rows[0].left_out) == (180, 60, 120, 0)
    assert [row.p_items is None for row in rows] == [True, False, False, True]
    # Of three tests with p near 0 the smallest is multiplied by four.
    assert rows[0].p_together < 0.05
    assert (rows[3].difference < 0, rows[3].better) == (True, "low")


def test_pairing_is_what_shows_it(tmp_path: Path) -> None:
    """Ten points of difference on 60 items: not to be seen from the two intervals, plain when items are paired."""
    ours, theirs = drawn(0.6, 1), drawn(0.5, 1)
    row = compare(write(tmp_path, "a", ours), write(tmp_path, "b", theirs))[0]
    assert estimate(ours, METRICS[0]).low < estimate(theirs, METRICS[0]).high
    assert row.low > 0


def test_a_model_is_not_told_apart_from_itself(tmp_path: Path) -> None:
    samples = drawn(0.5)
    rows = compare(write(tmp_path, "a", samples), write(tmp_path, "b", samples), every_metric=True)
    assert {(row.difference, row.p) for row in rows} == {(0.0, 1.0)}
    # 60 groups without a difference may hide one in 6 % of all (Wilson), 20 groups one in 16 %; for two cases of 20
    # 20 groups without a difference may hide one in 16 % of all (Wilson); for the mean of two cases of 20 groups
    # each it is 16 % by the square root of two, and of steps, which are no share, nothing can be said.
    limits = [3.8415 / (20 + 3.8415), 3.8415 / (20 + 3.8415) / 2**0.5]
    expected = [max(limits), limits[0], limits[1], 0.0]
    assert [row.high for row in rows] == pytest.approx(expected, abs=1e-4)
    assert [row.low for row in rows] == pytest.approx([-each for each in expected], abs=1e-4)
    assert [row.p_items for row in rows] == [None, 1.0, 1.0, None]


def test_items_that_failed_or_that_one_lacks_are_left_out(tmp_path: Path) -> None:
    ours, theirs = drawn(0.7, error_at=4), drawn(0.5)[:-3]
    row = compare(write(tmp_path, "a", ours), write(tmp_path, "b", theirs))[0]
    assert (row.n, row.left_out) == (176, 4)


def test_equally_good_models_are_rarely_told_apart(tmp_path: Path) -> None:
    """Of 40 pairs of models that are as good about 2 differ at 5 %; more than 6 do once in 300 such tests."""
    rng = np.random.default_rng(3)
    told = 0
    for pair in range(40):
        results = []
        for name in "ab":
            values = (rng.random(60) < 0.5).astype(float)
            samples = [
                Sample(Item(f"i{i}", f"g{i // 2}", "call", {}), (), {}, {"right": value}, 0.0)
                for i, value in enumerate(values)
            ]
            results.append(write(tmp_path / str(pair), name, samples, Made(metrics=(Metric("right"),))))
        told += compare(results[0], results[1])[0].p < 0.05
    assert told <= 6


def test_what_was_run_otherwise_is_not_compared(tmp_path: Path) -> None:
    ours, theirs = write(tmp_path, "a", drawn(0.5)), write(tmp_path, "b", drawn(0.5), Made(version=2))
    with pytest.raises(ValueError, match=r"made was run otherwise .* version is 1 and 2; run one of them again"):
        compare(ours, theirs)
    other = write(tmp_path / "other", "c", drawn(0.5), Made(name="another"))
    with pytest.raises(ValueError, match="no benchmark in common: made of the first, another of the second"):
        compare(ours, other)
    with pytest.raises(ValueError, match="no results of an evaluation"):
        load(tmp_path / "nothing")


def test_tasks_that_are_cases_and_groups_are_drawn_by_item(tmp_path: Path) -> None:
    def run(shift: float) -> list[Sample]:
        rng = np.random.default_rng(5)
        return [
            Sample(Item(f"t{t}-{e}", f"t{t}", f"t{t}", {}), (), {}, {"score": min(1.0, rng.random() + shift)}, 0.0)
            for t in range(6)
            for e in range(8)
        ]

    made = Made(metrics=(Metric("score", by_case=True),))
    row = compare(write(tmp_path, "a", run(0.1), made), write(tmp_path, "b", run(0.0), made))[0]
    assert 0 < row.low < row.difference < row.high < 0.11


def test_many_small_cases_are_compared_by_case(tmp_path: Path) -> None:
    """As MMLU's subjects with --limit: hardly a draw holds an item of each."""
    metric = Metric("right", by_case=True)
    benchmark = Made(metrics=(metric,))

    def answered(shift: int) -> list[Sample]:
        items = [Item(f"i{i}", f"i{i}", f"subject{i % 57}", {}) for i in range(171)]
        return [Sample(item, (), {}, {"right": float((i + shift) % 3 > 0)}, 0.1) for i, item in enumerate(items)]

    ours, theirs = write(tmp_path, "a", answered(0), benchmark), write(tmp_path, "b", answered(1), benchmark)
    (row,) = compare(ours, theirs)
    assert row.difference == pytest.approx(row.first - row.second)
    assert -1 < row.low < row.difference < row.high < 1


def test_one_group_has_no_end(tmp_path: Path) -> None:
    made = Made(metrics=(Metric("right"),))

    def run(value: float) -> list[Sample]:
        return [Sample(Item(f"i{i}", "g", "call", {}), (), {}, {"right": value}, 0.0) for i in range(5)]

    row = compare(write(tmp_path, "a", run(1.0), made), write(tmp_path, "b", run(0.0), made))[0]
    assert (row.difference, row.low, row.high, row.p) == (1.0, -1.0, 1.0, 1.0)


def test_a_leaderboard_says_who_may_be_best(tmp_path: Path) -> None:
    for name, rate in {"weak": 0.3, "good": 0.7, "close": 0.69}.items():
        write(tmp_path, name, drawn(rate, 1))
    rows = leaderboard(load(tmp_path))
    assert [(row["model"].split("-")[0], row["among_best"]) for row in rows] == [
        ("good", True), ("close", True), ("weak", False),
    ]  # fmt: skip
    assert rows[0]["metric"] == "two_sided"
    assert rows[0]["low"] < rows[0]["value"] < rows[0]["high"] <= 100


def test_less_is_better_where_a_metric_says_so(tmp_path: Path) -> None:
    made = Made(metrics=(Metric("steps", better="low"),))
    for name, rate in {"slow": 0.2, "fast": 0.9}.items():
        write(tmp_path, name, drawn(rate), made)
    assert [row["model"].split("-")[0] for row in leaderboard(load(tmp_path))] == ["fast", "slow"]


def test_tables_show_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = write(tmp_path, "a", drawn(0.8, 1)), write(tmp_path, "b", drawn(0.4, 2))
    console = Console(width=160)
    console.print(comparison_table(compare(ours, theirs), "a", "b"))
    console.print(leaderboard_table(leaderboard([*ours, *theirs])))
    text = capsys.readouterr().out
    assert "a minus b" in text
    assert " ↑ +" in text
    assert "two_sided" in text
    assert "a-a *" in text


def test_the_papers_numbers_stand_beside_ours_with_a_reason(tmp_path: Path) -> None:
    demanded = next(each for each in paper_table()["columns"] if each["benchmark"] == "teval")["requires"]["embedder"]
    made = Made(name="teval", metrics=(Metric("overall", "right", scale=100),), embedder=demanded)
    [row] = beside_paper(write(tmp_path, "a", drawn(0.5), made))
    assert row["paper"]["Agent-FLAN-7B"] == 66.0
    assert row["comparable"]
    [row] = beside_paper(write(tmp_path, "a", drawn(0.5), made, limit=180))
    assert not row["comparable"]
    assert row["why"].startswith("Only the first 180 of 360 items were run.")
    words = Made(name="teval", metrics=made.metrics, embedder="words")
    [row] = beside_paper(write(tmp_path / "w", "a", drawn(0.5), words))
    assert not row["comparable"]
    assert row["why"].startswith("embedder is 'words', and 'mean over tokens")
    [row] = beside_paper(write(tmp_path / "e", "a", drawn(0.5, error_at=4), made))
    assert not row["comparable"]
    assert row["why"].startswith("1 items ended with an error and are in no mean.")
    made = Made(name="agent-h-1845", metrics=(Metric("hscore", "right"),))
    [row] = beside_paper(write(tmp_path / "h", "a", drawn(0.5), made))
    assert not row["comparable"]
    assert "not released" in row["why"]


def test_every_model_of_the_papers_table_has_every_column() -> None:
    table = paper_table()
    names = [column["name"] for column in table["columns"]]
    assert all(list(values) == names for values in table["models"].values())
    flan = table["models"]["Agent-FLAN-7B"]
    # HScore follows from its two parts (section 4.1).
    assert flan["HScore"] == pytest.approx(100 - (flan["H_ReAct"] + flan["H_General"]) / 2, abs=0.051)


def test_models_without_an_item_in_common_are_not_told_apart(tmp_path: Path) -> None:
    ours, theirs = drawn(0.9)[:90], drawn(0.5)[90:]
    rows = leaderboard([*write(tmp_path, "a", ours), *write(tmp_path, "b", theirs)])
    assert [row["among_best"] for row in rows] == [True, True]


def test_a_hundred_rows_still_show_what_is_plain(tmp_path: Path) -> None:
    """A p-value that could not fall below one in as many draws would not survive so many tests."""
    metrics = tuple(Metric(f"m{number}", "right") for number in range(120))
    results = []
    for name, value in (("a", 1.0), ("b", 0.0)):
        samples = [Sample(Item(f"i{i}", f"g{i}", "call", {}), (), {}, {"right": value}, 0.0) for i in range(60)]
        results.append(write(tmp_path, name, samples, Made(metrics=metrics)))
    assert {row.p_together < 0.001 for row in compare(results[0], results[1], every_metric=True)} == {True}
