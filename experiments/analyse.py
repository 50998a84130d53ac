"""Analyse a search: what mattered, how sure that is, and what to try next.

Hypothesis: the shares that moved the score in this search are told apart from noise by its trials. Metric: the interval
of each share's change, and the part of the held-out trials' variance that the surrogate explains. Stop: after one pass.

    python experiments/analyse.py runs/laptop
    python experiments/analyse.py postgresql://user@host/studies#mixtures --out report --price 2.5
    ray job submit --working-dir . -- python experiments/analyse.py /shared/runs/big
"""

from __future__ import annotations

import argparse

from agentflan_ray.cli import exit_on_user_error
from agentflan_ray.cli.report import add_report_flags, run_report


def main() -> None:
    """Write the report of one place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_report_flags(parser)
    arguments = parser.parse_args()
    with exit_on_user_error():
        run_report(arguments)


if __name__ == "__main__":
    main()
