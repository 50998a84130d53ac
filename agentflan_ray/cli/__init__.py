"""The command ``agentflan`` and what it can do; the sweep is ``experiments/sweep.py``."""

from __future__ import annotations

import argparse

from agentflan_ray.cli.compare import add_compare_command
from agentflan_ray.cli.corpus import add_commands
from agentflan_ray.cli.evaluate import add_evaluate_command
from agentflan_ray.cli.flags import add_source_flags, exit_on_user_error, sources_of
from agentflan_ray.cli.report import add_report_flags, run_report
from agentflan_ray.cli.train import add_command

__all__ = ["add_source_flags", "exit_on_user_error", "main", "sources_of"]


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="agentflan", description="Tune chat models into agents, and measure it.")
    commands = parser.add_subparsers(dest="command", required=True)
    add_commands(commands)
    add_command(commands)
    add_evaluate_command(commands)
    add_compare_command(commands)

    report = commands.add_parser("report", help="analyse a run folder, Ray Tune's results or an Optuna study")
    add_report_flags(report)
    report.set_defaults(run_command=run_report)

    arguments = parser.parse_args()
    with exit_on_user_error():
        arguments.run_command(arguments)
