"""What an evaluation found, as a page: a leaderboard, each benchmark by metric and case, and the paper's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentflan_ray.analyse import plots_evaluation
from agentflan_ray.analyse.page import Html, document, element, figure, join, legend, table
from agentflan_ray.analyse.plots import MODEL_HUES, MODEL_SIGNS, is_share
from agentflan_ray.evaluate.compare import Result, beside_paper, leaderboard, results_below

FILE = "evaluation.html"
MAX_CASES = 24
"""Cases of a figure; a benchmark with more (MMLU's 57 subjects) has them in its table alone."""


def write(results: Sequence[Result], path: Path) -> Path:
    """Write one page of all results; the page needs no network and no script."""
    body: list[object] = [
        element("div", "agentflan-ray · evaluation", class_="eyebrow"),
        element("h1", "Evaluation"),
        *sections(results),
    ]
    path.write_text(document("Evaluation", body), encoding="utf-8")
    return path


def of_run(folder: Path) -> list[Html]:
    """The same for a section of a run's report: what was evaluated into its folder; nothing where nothing was."""
    results = results_below(folder / "evaluation")
    return sections(results, heading="h3") if results else []


def sections(results: Sequence[Result], heading: str = "h2") -> list[Html]:
    """A leaderboard, the benchmarks one by one, and the paper's numbers where there are any."""
    models = list(dict.fromkeys(result.model for result in results))
    parts = [element(heading, "Leaderboard"), _legend(models), *_leaderboard(results, models)]
    for number, benchmark in enumerate(dict.fromkeys(result.benchmark for result in results)):
        parts += _benchmark([result for result in results if result.benchmark == benchmark], models, number, heading)
    return [*parts, *_paper(results, heading)]


def _leaderboard(results: Sequence[Result], models: Sequence[str]) -> list[Html]:
    rows = leaderboard(results)
    cells = [
        [
            row["benchmark"],
            row["metric"],
            row["model"],
            f"{row['value']:.3g}",
            _limits(row["low"], row["high"]),
            row["n"],
            row["errors"],
            element("span", "among the best", class_="tag best") if row["among_best"] else "",
        ]
        for row in rows
    ]
    headers = ["benchmark", "headline", "model", "value", "95 % interval", "n", "errors", ""]
    note = (
        "Among the best: the best one, and models whose difference to it on the same items can be chance (by whole "
        "groups of items, Holm over the models of a benchmark, 5 %). Items with an error are in no mean."
    )
    parts = [table(headers, cells, numbers=(3, 4, 5, 6)), element("p", note, class_="note")]
    drawn = _radar(results, models)
    return [drawn, *parts] if drawn else parts


def _radar(results: Sequence[Result], models: Sequence[str]) -> Html | None:
    """Headlines that are shares and that every model has; None of fewer than three, or of too many models."""
    values: dict[str, dict[str, float]] = {model: {} for model in models}
    for result in results:
        row = result.summary["metrics"][result.headline]
        if row["value"] is not None and row["better"] == "high" and 0 <= row["value"] <= 1:
            values[result.model][result.benchmark] = row["value"]
    common = set.intersection(*(set(mine) for mine in values.values()))
    if len(common) < 3 or len(models) > plots_evaluation.MAX_MODELS:
        return None
    drawn = {model: {name: mine[name] for name in sorted(common)} for model, mine in values.items()}
    label = "Headlines of the benchmarks that every model has, from 0 in the middle to 100 at the rim"
    return figure(plots_evaluation.radar(drawn), label, label + "; intervals stand in the table.")


def _benchmark(results: Sequence[Result], models: Sequence[str], number: int, heading: str) -> list[Html]:
    first = results[0].summary
    parts = [element(heading, first["benchmark"]), element("p", first["protocol"], class_="note")]
    drawn, names = _cases(results, models)
    if 1 < len(names) <= MAX_CASES and len(models) <= plots_evaluation.MAX_MODELS:
        label = f"Cases of {first['benchmark']} with 95 % intervals"
        parts.append(figure(plots_evaluation.cases(names, drawn, number), label))
    rows = [
        [name, *(_estimate(result.summary["metrics"].get(name)) for result in results), _arrow(row)]
        for name, row in first["metrics"].items()
    ]
    parts.append(table(["metric", *(result.model for result in results), "better"], rows))
    cases = [
        [case, name, *(_estimate(_of(result, case, name)) for result in results)]
        for case, of_case in first["cases"].items()
        for name in of_case["metrics"]
    ]
    if cases:
        headers = ["case", "metric", *(result.model for result in results)]
        by_case = table(headers, cases)
        parts.append(element("details", element("summary", "By case"), by_case))
    replies = [
        [
            result.model,
            result.summary["errors"]["items"],
            *(_share(result.summary["replies"][name]) for name in ("share_cut", "share_empty")),
            f"{result.summary['replies']['turns_per_item']:.3g}",
            f"{result.summary['replies']['new_tokens']:,}",
            f"{result.summary['replies']['seconds_per_item']:.3g}",
        ]
        for result in results
    ]
    headers = ["model", "errors", "cut at the limit", "empty", "turns an item", "new tokens", "seconds an item"]
    parts.append(table(headers, replies, numbers=range(1, len(headers))))
    return parts


def _cases(
    results: Sequence[Result], models: Sequence[str]
) -> tuple[dict[str, dict[str, Mapping[str, Any]]], list[str]]:
    """The first metric of each case that is a share, by model in the page's order, and the cases' names."""
    names: dict[str, None] = {}
    drawn: dict[str, dict[str, Mapping[str, Any]]] = {model: {} for model in models}
    for result in results:
        for case, of_case in result.summary["cases"].items():
            name, row = next(iter(of_case["metrics"].items()), ("", None))
            if row is None or row["value"] is None or row["low"] is None or not is_share(row):
                continue
            label = f"{case} ({name})"
            names[label] = None
            drawn[result.model][label] = row
    return drawn, list(names)


def _paper(results: Sequence[Result], heading: str) -> list[Html]:
    rows = beside_paper(results)
    if not rows:
        return []
    papers = list(rows[0]["paper"])
    cells = [
        [
            row["benchmark"],
            row["metric"],
            row["model"],
            f"{row['value']:.3g}",
            _limits(row["low"], row["high"]),
            *("–" if row["paper"][name] is None else f"{row['paper'][name]:g}" for name in papers),
            "yes" if row["comparable"] else "no",
            row["why"],
        ]
        for row in rows
    ]
    headers = ["benchmark", "metric", "model", "value", "95 % interval", *papers, "comparable", "why"]
    note = "Agent-FLAN's published numbers have no intervals. Compare only where it says so."
    return [
        element(heading, "Beside the paper"),
        table(headers, cells, numbers=range(3, 5 + len(papers))),
        element("p", note, class_="note"),
    ]


def _legend(models: Sequence[str]) -> Html:
    signs = plots_evaluation.MAX_MODELS
    return legend((MODEL_SIGNS[i % signs], MODEL_HUES[i % signs], model) for i, model in enumerate(models))


def _of(result: Result, case: str, metric: str) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = result.summary["cases"].get(case, {}).get("metrics", {}).get(metric)
    return found


def _estimate(row: Mapping[str, Any] | None) -> object:
    if row is None or row["value"] is None:
        return "–"
    scale = row["scale"]
    limits = "" if row["low"] is None else f" {_limits(scale * row['low'], scale * row['high'])}"
    return join([f"{scale * row['value']:.3g}", element("small", f"{limits}, n {row['n']}")])


def _limits(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:.3g} to {high:.3g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _arrow(row: Mapping[str, Any]) -> str:
    return "↑" if row["better"] == "high" else "↓"
