"""Models against each other on the same items, and beside the paper's table.

A difference is computed on the items that both models have, so that what makes an item hard falls out; its interval
and p-value come from a paired bootstrap over groups of items, and where every score is 0 or 1 McNemar's exact test of
the items stands beside them. All differences that are shown together are tested together (Holm).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from rich.table import Table

from agentflan_ray.evaluate.stats import drawn_groups, holm, mcnemar, two_sided

DRAWS = 4000
_CHUNK = 250
"""Draws at once: of a benchmark with 14,000 groups they take 28 MB."""
LEVEL = 0.05

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """A benchmark's result of one model, as an evaluation wrote it: its JSON, and where its samples lie."""

    summary: Mapping[str, Any]
    samples: Path

    @property
    def benchmark(self) -> str:
        """The benchmark's name."""
        return str(self.summary["benchmark"])

    @property
    def model(self) -> str:
        """The model's label."""
        return str(self.summary["model"]["label"])

    @property
    def headline(self) -> str:
        """The name of its first metric."""
        return str(next(iter(self.summary["metrics"])))


@dataclass(frozen=True)
class Compared:
    """One metric of two models on ``n`` common items: first minus second, unscaled.

    ``left_out``: items that only one has or that failed for either. ``p`` is the bootstrap's, ``p_together`` adjusted
    for all rows of the comparison, ``p_items`` McNemar's, which takes items as independent; None where scores are not
    0 or 1.
    """

    benchmark: str
    metric: str
    first: float
    second: float
    n: int
    left_out: int
    difference: float
    low: float
    high: float
    p: float
    p_together: float
    p_items: float | None
    better: str
    scale: float


def load(place: Path) -> list[Result]:
    """All results below a folder: an output folder of ``evaluate``, its ``evaluation/``, or one model's folder there.

    Raises ``ValueError`` where there is none.
    """
    found = results_below(place)
    if not found:
        raise ValueError(f"There are no results of an evaluation below {place}; agentflan evaluate --out writes them.")
    return found


def results_below(place: Path) -> list[Result]:
    """As :func:`load`, where there may be none."""
    found = []
    for path in sorted(place.rglob("*.json")):
        samples = path.with_name(f"{path.stem}-samples.parquet")
        if samples.exists():
            summary = json.loads(path.read_text(encoding="utf-8"))
            if {"benchmark", "model", "metrics"} <= summary.keys():
                found.append(Result(summary, samples))
    return found


def compare(first: Sequence[Result], second: Sequence[Result], every_metric: bool = False) -> list[Compared]:
    """Each benchmark that both models have: its headline, or every metric, first minus second.

    Raises ``ValueError`` where they have no benchmark in common, or one of them was run otherwise (its identity).
    """
    theirs = {result.benchmark: result for result in second}
    pairs = [(result, theirs[result.benchmark]) for result in first if result.benchmark in theirs]
    if not pairs:
        raise ValueError(
            f"The models have no benchmark in common: {_names(first)} of the first, {_names(second)} of the second."
        )
    rows = [row for ours, other in pairs for row in _compare(ours, other, every_metric)]
    adjusted = holm([row.p for row in rows])
    return [_with_family(row, p) for row, p in zip(rows, adjusted, strict=True)]


def leaderboard(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each benchmark's headline and model, best first: value, interval, n, errors, and whether it is among
    the best: those whose difference to the best one, tested together with the others', can be chance."""
    rows: list[dict[str, Any]] = []
    for benchmark in dict.fromkeys(result.benchmark for result in results):
        mine = [result for result in results if result.benchmark == benchmark]
        known = [result for result in mine if _headline(result)["value"] is not None]
        sign = -1 if known and _headline(known[0])["better"] == "low" else 1
        known.sort(key=lambda result: -sign * _headline(result)["value"])
        behind = [_compare(known[0], other, every_metric=False)[0].p for other in known[1:]]
        among = [True, *(p > LEVEL for p in holm(behind))]
        for result, best in zip(known, among, strict=True) if known else ():
            row = _headline(result)
            rows.append(
                {
                    "benchmark": benchmark,
                    "metric": result.headline,
                    "model": result.model,
                    **{name: _scaled(row, name) for name in ("value", "low", "high")},
                    "n": row["n"],
                    "errors": result.summary["errors"]["items"],
                    "of": result.summary["asked"]["of"],
                    "among_best": best,
                }
            )
    return rows


def beside_paper(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each result that the paper has a number of: ours with interval, the paper's, and whether the two may
    be compared, with the reason."""
    paper = paper_table()
    rows = []
    for result in results:
        for column in paper["columns"]:
            named = result.summary["metrics"].get(column["metric"]) if result.benchmark == column["benchmark"] else None
            if named is None or named["value"] is None:
                continue
            asked = result.summary["asked"]
            whole = asked["items"] == asked["of"]
            part = "" if whole else f"Only the first {asked['items']} of {asked['of']} items were run. "
            rows.append(
                {
                    "benchmark": result.benchmark,
                    "metric": column["metric"],
                    "model": result.model,
                    **{name: _scaled(named, name) for name in ("value", "low", "high")},
                    "n": named["n"],
                    "paper": {name: values[column["name"]] for name, values in paper["models"].items()},
                    "comparable": column["comparable"] and whole,
                    "why": part + column["why"],
                }
            )
    return rows


def paper_table() -> dict[str, Any]:
    """Numbers that the paper publishes, with source and protocol: ``evaluate/paper.json``."""
    read: dict[str, Any] = json.loads(files("agentflan_ray.evaluate").joinpath("paper.json").read_text("utf-8"))
    return read


def comparison_table(rows: Sequence[Compared], first: str, second: str) -> Table:
    """Rows of :func:`compare` for a terminal."""
    table = Table(title=f"{first} minus {second}, on common items; p tests all rows together")
    for name in ("benchmark", "metric", "first", "second", "difference", "95 %", "n", "p", "McNemar", ""):
        table.add_column(name, justify="left" if name in ("benchmark", "metric", "") else "right")
    for row in rows:
        scale = row.scale
        table.add_row(
            row.benchmark,
            row.metric,
            f"{scale * row.first:.3g}",
            f"{scale * row.second:.3g}",
            f"{scale * row.difference:+.3g}",
            f"{scale * row.low:+.3g} … {scale * row.high:+.3g}",
            str(row.n),
            f"{row.p_together:.2g}",
            "–" if row.p_items is None else f"{row.p_items:.2g}",
            _verdict(row),
        )
    return table


def leaderboard_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows of :func:`leaderboard` for a terminal."""
    table = Table(title="Headline of each benchmark; * among the best")
    for name in ("benchmark", "metric", "model", "value", "95 %", "n", "errors"):
        table.add_column(name, justify="left" if name in ("benchmark", "metric", "model") else "right")
    before = ""
    for row in rows:
        if before and before != row["benchmark"]:
            table.add_section()
        same, before = row["benchmark"] == before, row["benchmark"]
        limits = "–" if row["low"] is None else f"{row['low']:.3g} … {row['high']:.3g}"
        table.add_row(
            "" if same else row["benchmark"],
            "" if same else row["metric"],
            row["model"] + (" *" if row["among_best"] else ""),
            f"{row['value']:.3g}",
            limits,
            f"{row['n']} of {row['of']}" if row["n"] != row["of"] else str(row["n"]),
            str(row["errors"]),
        )
    return table


def _compare(ours: Result, other: Result, every_metric: bool) -> list[Compared]:
    if ours.summary["identity"] != other.summary["identity"]:
        first, second = ours.summary["identity"], other.summary["identity"]
        odd = sorted(key for key in {*first, *second} if first.get(key) != second.get(key))
        raise ValueError(
            f"{ours.benchmark} was run otherwise for {ours.model} than for {other.model}: {odd[0]} is "
            f"{first.get(odd[0])!r} and {second.get(odd[0])!r}; run one of them again as the other."
        )
    mine, theirs = _scores(ours.samples), _scores(other.samples)
    common = sorted(mine.keys() & theirs.keys())
    whole = [name for name in common if not mine[name]["error"] and not theirs[name]["error"]]
    left_out = len(mine.keys() | theirs.keys()) - len(whole)
    names = list(ours.summary["metrics"]) if every_metric else [ours.headline]
    rows = []
    for name in names:
        row = ours.summary["metrics"][name]
        pair = _Pair(row["definition"], [mine[key] for key in whole], [theirs[key] for key in whole])
        if not math.isnan(pair.first) and not math.isnan(pair.second):
            rows.append(pair.compared(ours.benchmark, name, left_out, row))
    return rows


class _Pair:
    """A metric of two models over the same items, and over draws of their groups."""

    def __init__(self, how: Mapping[str, Any], ours: Sequence[Any], theirs: Sequence[Any]) -> None:
        self._how = how
        self._models = (ours, theirs)
        pairs = {(item["case"], item["group"]) for item in ours}
        cases, groups = ({pair[place] for pair in pairs} for place in (0, 1))
        # Where groups are the cases (a simulator's tasks), a case's items are what is drawn.
        unit = "id" if len(pairs) == len(cases) == len(groups) > 1 else "group"
        self._units = {name: place for place, name in enumerate(sorted({item[unit] for item in ours}))}
        self._members = np.array([self._units[item[unit]] for item in ours], dtype=np.int64)
        once = np.ones((1, len(self._units)))
        self.first, self.second = (float(self._value(how, model, once)[0]) for model in self._models)
        self.n = sum(_has(how, item) for item in ours)

    def compared(self, benchmark: str, metric: str, left_out: int, row: Mapping[str, Any]) -> Compared:
        """The difference with its interval; one group has an interval without end."""
        difference, num = self.first - self.second, len(self._units)
        low, high, p = -math.inf, math.inf, 1.0
        if num > 1:
            drawn = np.concatenate([self._draw(seed) for seed in range(DRAWS // _CHUNK)])
            drawn = difference + math.sqrt(num / (num - 1)) * (drawn[~np.isnan(drawn)] - difference)
            low, high = (float(limit) for limit in np.quantile(drawn, [0.025, 0.975]))
            p = 1.0 if not drawn.any() else two_sided(drawn)
        return Compared(
            benchmark,
            metric,
            self.first,
            self.second,
            self.n,
            left_out,
            difference,
            low,
            high,
            p,
            p,
            self._items_test(),
            row["better"],
            row["scale"],
        )

    def _draw(self, seed: int) -> Floats:
        times = drawn_groups(len(self._units), _CHUNK, seed)
        values = [self._value(self._how, model, times) for model in self._models]
        return values[0] - values[1]

    def _value(self, how: Mapping[str, Any], items: Sequence[Any], times: Floats) -> Floats:
        """The metric of each draw, (draws,), from how often each unit is drawn, (draws, units)."""
        if "parts" in how:
            parts = np.stack([self._value(part, items, times) for part in how["parts"]])
            if how["how"] == "mean":
                return np.asarray(parts.mean(axis=0))
            with np.errstate(divide="ignore", invalid="ignore"):
                harmonic = len(parts) / (1 / parts).sum(axis=0)
            return np.where((parts <= 0).any(axis=0), 0.0, harmonic)
        cases = dict.fromkeys(item["case"] for item in items if _has(how, item))
        strata = [(case,) for case in cases] if how["by_case"] else [tuple(cases)]
        means = [self._mean(how, items, stratum, times) for stratum in strata if stratum]
        if not means:
            return np.full(len(times), np.nan)
        # A draw without any item of a case is a mean of the other cases: with many small cases no draw has all.
        stacked = np.ma.masked_invalid(np.stack(means))
        return np.asarray(stacked.mean(axis=0).filled(np.nan))

    def _mean(self, how: Mapping[str, Any], items: Sequence[Any], cases: Sequence[str], times: Floats) -> Floats:
        score, weight = how["score"], how["weight"]
        chosen = [i for i, item in enumerate(items) if item["case"] in cases and score in item["scores"]]
        members = self._members[chosen]
        values = np.array([items[i]["scores"][score] for i in chosen], dtype=np.float64)
        weights = np.array([items[i]["scores"][weight] if weight else 1.0 for i in chosen], dtype=np.float64)
        num = len(self._units)
        sums = np.bincount(members, weights=weights * values, minlength=num)
        counts = np.bincount(members, weights=weights, minlength=num)
        with np.errstate(invalid="ignore"):
            return np.asarray((times @ sums) / (times @ counts))

    def _items_test(self) -> float | None:
        if "parts" in self._how or self._how["weight"]:
            return None
        both = [
            (first["scores"][self._how["score"]], second["scores"][self._how["score"]])
            for first, second in zip(*self._models, strict=True)
            if _has(self._how, first) and _has(self._how, second)
        ]
        if not all(value in (0.0, 1.0) for pair in both for value in pair):
            return None
        return mcnemar([pair[0] == 1 for pair in both], [pair[1] == 1 for pair in both])


def _has(how: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    if "parts" in how:
        return any(_has(part, item) for part in how["parts"])
    return how["score"] in item["scores"] and (not how["cases"] or item["case"] in how["cases"])


def _scores(path: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(path, columns=["id", "group", "case", "scores", "error"]).to_pylist()
    return {row["id"]: {**row, "scores": dict(row["scores"])} for row in rows}


def _headline(result: Result) -> Mapping[str, Any]:
    row: Mapping[str, Any] = result.summary["metrics"][result.headline]
    return row


def _scaled(row: Mapping[str, Any], name: str) -> float | None:
    return None if row[name] is None else row["scale"] * row[name]


def _with_family(row: Compared, p: float) -> Compared:
    return replace(row, p_together=p)


def _verdict(row: Compared) -> str:
    if row.p_together > LEVEL:
        return "not told apart"
    return "better" if (row.difference > 0) == (row.better == "high") else "worse"


def _names(results: Sequence[Result]) -> str:
    return ", ".join(result.benchmark for result in results) or "none"
