"""What the negatives do: the best mix of a finished sweep, trained and judged once more without them.

Hypothesis: without negatives the model uses tools as well, and calls them where none is needed. Metric: false calls
and missed calls on the items that judge. Stop: after one training with the seed of the kept model.

    python experiments/ablate.py          # after make sweep; takes the flags of experiments/sweep.py
"""

from __future__ import annotations

from sweep import job_of, parse, recipe_of, sources_or_embedded

from agentflan_ray.cli import exit_on_user_error
from agentflan_ray.sweep import ablate_negatives


def main() -> None:
    """Run the ablation, or what is left of it."""
    args = parse()
    with exit_on_user_error():
        ablate_negatives(recipe_of(args), sources_or_embedded(args), job_of(args))


if __name__ == "__main__":
    main()
