"""Is the best mix of a finished sweep better than the mixes that it began with?

Hypothesis: the winner's gain over the paper's, the proportional and the uniform mix is not the luck of its seed, nor of
the items that chose it. Metric: the first objective on the items that judge, differences on the same items, intervals
by a bootstrap over groups of items and seeds, Holm's correction over the three. Stop: after each mix was trained with
every seed of the recipe's proof_seeds.

    python experiments/prove.py          # after make sweep; takes the flags of experiments/sweep.py
"""

from __future__ import annotations

from sweep import job_of, parse, recipe_of, sources_or_embedded

from agentflan_ray.cli import exit_on_user_error
from agentflan_ray.sweep import prove_best


def main() -> None:
    """Run the proof, or what is left of it."""
    args = parse()
    with exit_on_user_error():
        prove_best(recipe_of(args), sources_or_embedded(args), job_of(args))


if __name__ == "__main__":
    main()
