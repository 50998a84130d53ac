"""Fine-tune a model on one mixture of a corpus.

Hypothesis: the mix that a sweep found best on a small model serves a large one too. Metric: held-out losses by
component, and the scores of ``make sweep``'s evaluation on the exported model. Stop: at the end of the plan.

    python experiments/train.py store/corpus@... --out runs/one --weights reasoning=0.5,general=0.3,negative=0.2 \\
        --budget 100000
    ray job submit --working-dir . -- python experiments/train.py s3://bucket/store/corpus@... --recipe agent-flan-7b \\
        --out s3://bucket/runs/7b --weights drop --num-workers 8
"""

from __future__ import annotations

import argparse

from agentflan_ray.cli import exit_on_user_error
from agentflan_ray.cli.train import add_train_flags, run


def main() -> None:
    """Train, or go on with what an earlier call began."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_train_flags(parser)
    arguments = parser.parse_args()
    with exit_on_user_error():
        run(arguments)


if __name__ == "__main__":
    main()
