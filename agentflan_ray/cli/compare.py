"""The command ``compare``: evaluated models against each other, and beside the paper's table."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from agentflan_ray import storage
from agentflan_ray.cli.flags import check_writable
from agentflan_ray.evaluate import compare
from agentflan_ray.evaluate.composite import HELD_IN, held_in


def add_compare_command(commands: Any) -> None:
    """Add the command to the parser's subparsers."""
    parser = commands.add_parser("compare", help="evaluated models on common items, with intervals of the differences")
    add_compare_flags(parser)
    parser.set_defaults(run_command=run)


def add_compare_flags(parser: argparse.ArgumentParser) -> None:
    """Results to compare, and how much of them."""
    parser.add_argument("first", help="an output folder of `agentflan evaluate`, or one model's folder in it")
    parser.add_argument("second", nargs="?", help="another model's folder: first minus second, item by item")
    parser.add_argument("--all", action="store_true", help="every metric of each benchmark, not its headline alone")
    parser.add_argument("--html", metavar="FILE", help="write a page of all these results, with pictures")
    parser.add_argument("--json", metavar="FILE", help="write the rows there as well")


def run(arguments: argparse.Namespace) -> None:
    """Print a leaderboard of one folder, or the differences of two."""
    console = Console()
    if arguments.html is not None:
        check_writable(str(Path(arguments.html).absolute().parent), "--html")
    if arguments.json is not None:
        check_writable(storage.parent(storage.absolute(arguments.json)), "--json")
    shown = first = compare.load(Path(arguments.first))
    if arguments.second is None:
        board, beside = compare.leaderboard(first), compare.beside_paper(first)
        console.print(compare.leaderboard_table(board))
        if beside:
            console.print(paper_rows(beside))
            for line in paper_reasons(beside):
                console.print(line, highlight=False, markup=False)
        composites = [each for each in _composites(first) if len(each["missing"]) < len(HELD_IN)]
        for each in composites:
            console.print(composite_line(each))
        rows: dict[str, Any] = {"leaderboard": board, "paper": beside, "held_in": composites}
    else:
        second = compare.load(Path(arguments.second))
        shown = [*first, *second]
        for place, results in ((arguments.first, first), (arguments.second, second)):
            if len(models := {result.model for result in results}) > 1:
                raise ValueError(f"{place} holds {len(models)} models; name the folder of one, below its evaluation/.")
        found = compare.compare(first, second, every_metric=arguments.all)
        console.print(compare.comparison_table(found, first[0].model, second[0].model))
        rows = {"first": first[0].model, "second": second[0].model, "rows": [_row(row) for row in found]}
    if arguments.html is not None:
        from agentflan_ray.analyse.sections_evaluation import write

        write(shown, Path(arguments.html))
    if arguments.json is not None:
        storage.write_json(arguments.json, rows)


def composite_line(row: dict[str, Any]) -> str:
    """AgentTuning's composite of one model in words, with how it differs from the published one, or what it lacks."""
    if row["missing"]:
        return f"Held-in composite of {row['model']}: not without {', '.join(row['missing'])}."
    number = f"Held-in composite of {row['model']}: {row['value']:.3g} ({row['low']:.3g} … {row['high']:.3g})."
    return " ".join([number, *(["Not run as published."] if row["remarks"] else []), *row["remarks"]])


def _composites(results: list[compare.Result]) -> list[dict[str, Any]]:
    models = dict.fromkeys(result.model for result in results)
    return [held_in([result for result in results if result.model == model]) for model in models]


def paper_rows(rows: list[dict[str, Any]]) -> Table:
    """Our numbers beside the paper's untuned and tuned 7B model."""
    shown = ("Llama2-7B", "Agent-FLAN-7B")
    table = Table(title="Beside the paper", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("", "model", "value [95 %]", *shown, "comparable"):
        wraps = name in ("", "model")
        table.add_column(name, overflow="fold", justify="left" if wraps else "right", no_wrap=name == "value [95 %]")
    for row in rows:
        numbers = ["–" if row["paper"][name] is None else f"{row['paper'][name]:g}" for name in shown]
        limits = "" if row["low"] is None else f" \\[{row['low']:.3g}, {row['high']:.3g}]"
        verdict = "yes" if row["comparable"] else "no"
        name = f"{row['benchmark']} {row['metric']}"
        table.add_row(name, row["model"], f"{row['value']:.3g}{limits}", *numbers, verdict)
    return table


def paper_reasons(rows: list[dict[str, Any]]) -> list[str]:
    """Why numbers may or may not be compared, a line for each reason with the metrics and models that it is of."""
    whose: dict[str, dict[str, None]] = {}
    for row in rows:
        whose.setdefault(row["why"], {})[f"{row['benchmark']} {row['metric']}"] = None
    return [f"{', '.join(names)}: {why}" for why, names in whose.items()]


def _row(row: compare.Compared) -> dict[str, Any]:
    """As JSON values: an interval without end has no limits."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(row).items()
    }
