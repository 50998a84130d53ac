"""``agentflan report``: tables, pictures and one page of a search, without Ray."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console


def add_report_flags(parser: argparse.ArgumentParser) -> None:
    """The place, and where the report goes."""
    parser.add_argument(
        "place",
        metavar="PLACE",
        help="a run folder, a folder of Ray Tune's results, or an Optuna study: its SQLite file or SQLAlchemy URL, "
        "with #NAME where it holds several",
    )
    parser.add_argument("--study", metavar="NAME", help="the study, in place of #NAME")
    parser.add_argument(
        "--out", type=Path, help="folder of the report (default: the run folder; for other places NAME-report, here)"
    )
    parser.add_argument("--price", type=float, help="price of one device hour, to add up what the trials cost")


def run_report(arguments: argparse.Namespace) -> None:
    """Read the place and write the report.

    Raises:
        ValueError: The place holds no search, a file in it is broken, or the price is negative.
    """
    from agentflan_ray.analyse import places, report

    if arguments.price is not None and not arguments.price >= 0:
        raise ValueError(f"--price is {arguments.price:g}, but an hour costs 0 or more.")
    run = places.load(arguments.place, arguments.study)
    folder = arguments.out or places.output_folder(run)
    path = report.write_to(run, folder, arguments.price)
    Console().print(f"Report: {path} (beside it {', '.join(report.FILES[1:])})", soft_wrap=True, markup=False)
