"""Models against each other on the same items, and beside the paper's table.

A difference is computed on the items that both models have, so that what makes an item hard falls out, by whole groups
of items (:mod:`~agentflan_ray.evaluate.paired`); where every score is 0 or 1 McNemar's exact test of the items stands
beside it. All differences that are shown together are tested together (Holm).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich import box
from rich.table import Table

from agentflan_ray.evaluate.paired import PairedMetric
from agentflan_ray.evaluate.stats import holm

LEVEL = 0.05


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

    ``left_out``: items that only one has or that failed for either. ``p`` is that of the groups of items,
    ``p_together`` adjusted for all rows of the comparison, ``p_items`` McNemar's, which takes items as independent;
    None where scores are not 0 or 1.
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
            try:
                summary = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(
                    f"{path} is no JSON ({error}); run agentflan evaluate again: it writes it from the stored episodes."
                ) from error
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
        # Without a common item nothing tells them apart.
        pairs = [_compare(known[0], other, every_metric=False) for other in known[1:]]
        behind = [rows_of_pair[0].p if rows_of_pair else 1.0 for rows_of_pair in pairs]
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
            asked, errors = result.summary["asked"], result.summary["errors"]["items"]
            remarks = []
            if asked["items"] != asked["of"]:
                remarks.append(f"Only the first {asked['items']} of {asked['of']} items were run. ")
            if errors:
                remarks.append(f"{errors} items ended with an error and are in no mean. ")
            identity = result.summary["identity"]
            for name, demanded in column.get("requires", {}).items():
                if identity.get(name) != demanded:
                    remarks.append(f"{name} is {identity.get(name)!r}, and {demanded!r} is needed. ")
            rows.append(
                {
                    "benchmark": result.benchmark,
                    "metric": column["metric"],
                    "model": result.model,
                    **{name: _scaled(named, name) for name in ("value", "low", "high")},
                    "n": named["n"],
                    "paper": {name: values[column["name"]] for name, values in paper["models"].items()},
                    "comparable": column["comparable"] and not remarks,
                    "why": "".join(remarks) + column["why"],
                }
            )
    return rows


def paper_table() -> dict[str, Any]:
    """Numbers that the paper publishes, with source and protocol: ``evaluate/paper.json``."""
    read: dict[str, Any] = json.loads(files("agentflan_ray.evaluate").joinpath("paper.json").read_text("utf-8"))
    return read


def comparison_table(rows: Sequence[Compared], first: str, second: str) -> Table:
    """Rows of :func:`compare` for a terminal."""
    title = (
        f"{first} minus {second}, on common items; p tests all rows together: ↑ better, ↓ worse, else not told apart"
    )
    some_left_out = any(row.left_out for row in rows)
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold", min_width=14)
    for name in ("first", "second", "difference [95 %]", "n", *(["left out"] if some_left_out else []), "p", "McNemar"):
        table.add_column(name, justify="right", no_wrap=name != "left out")
    for row in rows:
        scale = row.scale
        table.add_row(
            f"{row.benchmark} {row.metric}",
            f"{scale * row.first:.3g}",
            f"{scale * row.second:.3g}",
            f"{_verdict(row)} {scale * row.difference:+.3g} \\[{scale * row.low:+.3g}, {scale * row.high:+.3g}]",
            str(row.n),
            *([str(row.left_out)] if some_left_out else []),
            f"{row.p_together:.1g}",
            "–" if row.p_items is None else f"{row.p_items:.1g}",
        )
    return table


def leaderboard_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows of :func:`leaderboard` for a terminal."""
    table = Table(title="Headline of each benchmark; * among the best")
    for name in ("benchmark", "metric", "model", "value", "95 %", "n", "errors"):
        table.add_column(name, justify="left" if name in ("benchmark", "metric", "model") else "right", overflow="fold")
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
        pair = PairedMetric(row["definition"], [mine[key] for key in whole], [theirs[key] for key in whole])
        if math.isnan(pair.first) or math.isnan(pair.second):
            continue
        found = pair.difference()
        rows.append(
            Compared(
                ours.benchmark,
                name,
                pair.first,
                pair.second,
                pair.n,
                left_out,
                found.value,
                found.low,
                found.high,
                found.p,
                found.p,
                pair.items_test(),
                row["better"],
                row["scale"],
            )
        )
    return rows


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
        return ""
    return "↑" if (row.difference > 0) == (row.better == "high") else "↓"


def _names(results: Sequence[Result]) -> str:
    return ", ".join(result.benchmark for result in results) or "none"
