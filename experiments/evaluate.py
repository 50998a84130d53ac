"""Score models on benchmarks, held-out ones first of all.

Hypothesis: a model tuned on the mix that a sweep found best beats its base on held-out agent tasks and hallucinates
fewer calls, while its general ability holds. Metric: each benchmark's first number, with its interval; models are
compared on the same items. Stop: when all items of the suites are run.

    python experiments/evaluate.py smollm2-135m-instruct --suite smoke
    python experiments/evaluate.py runs/one/model --suite hallucination --suite held-out --data DIR --limit 200
    ray job submit --working-dir . -- python experiments/evaluate.py MODEL --suite held-out --replicas 8 --out DIR
"""

from __future__ import annotations

import argparse

from agentflan_ray.cli import exit_on_user_error
from agentflan_ray.cli.evaluate import add_evaluate_flags, run


def main() -> None:
    """Evaluate, or go on with what an earlier call began."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_evaluate_flags(parser)
    arguments = parser.parse_args()
    with exit_on_user_error():
        run(arguments)


if __name__ == "__main__":
    main()
