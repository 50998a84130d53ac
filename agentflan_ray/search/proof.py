"""Is the mixture that the search found better than the mixes it started from? Pure functions on tables of item scores.

Each mix is trained over several seeds, and each of these models answers the same items, which chose nothing. Two
things make a mean uncertain: which items were asked (items of one group, a template or a topic, go together), and
which seed a model was trained with. A bootstrap draws both: groups of items with replacement, the same for all models,
so that what makes an item hard falls out of a difference; and runs. With three seeds a mix can't tell its own spread,
so the spread is taken as the same for all mixes: each draw adds to a mix the mean of so many residuals of runs from
their mixes' means, drawn from all mixes together. They are scaled to the variance between seeds (Davison and Hinkley
1997, *Bootstrap Methods and their Application*, section 3.8: residuals of hierarchical data have the wrong one), less
what chance in the items has in it, which the draw of the items counts already; and to the tails of the t-distribution
with as many degrees of freedom as there are residuals.

On 400 sets of made-up models each (120 items of 30 groups, four equal mixes, three seeds; as in
tests/unit/test_search_proof.py) the 95 % intervals held the truth in 96.5, 94.1 and 94.3 % where a seed's standard
deviation was 0, 0.04 and 0.10, and any of the three comparisons was wrongly shown in 3.3, 4.8 and 4.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agentflan_ray.evaluate.measures import ItemScores, Measure, tabulate
from agentflan_ray.evaluate.stats import drawn_groups, holm, two_sided

Floats = npt.NDArray[np.float64]

DRAWS = 10_000
LEVEL = 0.05
MIN_SEEDS = 2
"""With one seed nothing is known of the spread between seeds."""


@dataclass(frozen=True, slots=True)
class MixScore:
    """A mix on the items that judge, in the metric's own scale: the mean over its seeds with a 95 % interval, and each
    seed's own."""

    mix: str
    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    is_among_best: bool
    """Not told from the mix with the best mean."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """By how much ``ours`` is better than ``theirs`` (less than 0: worse), with a 95 % interval of its own; ``p_holm``
    counts all comparisons of the table."""

    ours: str
    theirs: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float

    @property
    def is_shown(self) -> bool:
        """Whether the difference is told from 0 beside all others that were looked at."""
        return self.p_holm < LEVEL


@dataclass(frozen=True, slots=True)
class Regret:
    """What one loses by using this mix instead of the best of the others; below 0 where it is the best itself."""

    mix: str
    instead_of: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Proof:
    """What was found. Differences and regrets are gains: above 0 is better for whom they are of (a regret: worse),
    whatever the direction of the metric."""

    metric: str
    direction: str
    winner: str
    num_items: int
    num_groups: int
    num_seeds: int
    seed_deviation: float
    """Standard deviation between runs of one mix that differ in their seed. A part of it is chance in the items."""
    mixes: tuple[MixScore, ...]
    comparisons: tuple[Comparison, ...]
    """The winner against each other mix."""
    regrets: tuple[Regret, ...]
    """Of the winner, and of the best of the others."""
    against_base: Comparison | None
    """The winner against the model before training, apart from the comparisons of mixes."""


def prove(
    measure: Measure,
    runs: Mapping[str, Mapping[int, Sequence[ItemScores]]],
    winner: str,
    *,
    metric: str,
    direction: str = "max",
    base: Sequence[ItemScores] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Proof:
    """Compare the winner with every other mix.

    Args:
        measure: What is compared.
        runs: Item scores by mix and training seed; every mix has the same seeds, every run the same items.
        winner: The mix that the search chose, one of ``runs``.
        metric: Its name, for the record.
        direction: ``max``, or ``min`` where a small value is good.
        base: The model before training on the same items.

    Raises:
        ValueError: There is no other mix, seeds differ between mixes or are fewer than two, or items differ.
    """
    names = [winner, *(name for name in runs if name != winner)]
    if winner not in runs or len(names) < 2:
        raise ValueError(f"A proof compares the winner {winner!r} with other mixes, but there are {sorted(runs)}.")
    seeds = sorted(runs[winner])
    for name in names:
        if sorted(runs[name]) != seeds:
            raise ValueError(
                f"The mix {name!r} was trained with the seeds {sorted(runs[name])}, but {winner!r} with {seeds}; train "
                "both with the same."
            )
    if len(seeds) < MIN_SEEDS:
        raise ValueError(f"A proof needs at least {MIN_SEEDS} seeds, but the mixes were trained with {seeds}.")
    models = [runs[name][each] for name in names for each in seeds]
    table = tabulate(measure, [*models, *([base] if base is not None else [])])
    sign = 1.0 if direction == "max" else -1.0
    rng = np.random.default_rng(seed)
    values = sign * table.values()
    drawn = sign * table.values(drawn_groups(table.num_groups, draws, seed))
    # As bootstrap draws of few groups vary too little.
    stretch = math.sqrt(table.num_groups / max(table.num_groups - 1, 1))
    drawn = values + stretch * (drawn - values)
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    by_seed = values[: len(models)].reshape(len(names), len(seeds))
    centre = by_seed.mean(axis=1)
    deviation = _seed_deviation(by_seed)
    of_runs = drawn[:, : len(models)].reshape(-1, len(names), len(seeds))
    of_seeds = math.sqrt(max(deviation**2 - _deviation_by_items(of_runs) ** 2, 0.0))
    of_mixes = of_runs.mean(axis=2) + _seed_draws(by_seed, of_seeds, len(drawn), rng)
    leader = int(centre.argmax())
    against_leader = _compared(names, centre, of_mixes, leader)
    comparisons = _compared(names, centre, of_mixes, 0)
    best_other = 1 + int(centre[1:].argmax())
    against_base = None
    if base is not None:
        of_base = of_mixes[:, 0] - drawn[:, -1]
        against_base = _comparison(winner, "base", float(centre[0] - values[-1]), of_base)
    return Proof(
        metric=metric,
        direction=direction,
        winner=winner,
        num_items=len(models[0]),
        num_groups=table.num_groups,
        num_seeds=len(seeds),
        seed_deviation=deviation,
        mixes=tuple(
            MixScore(
                name,
                sign * float(centre[place]),
                *_interval(sign * of_mixes[:, place]),
                tuple(sign * float(value) for value in by_seed[place]),
                place == leader or not next(each for each in against_leader if each.theirs == name).is_shown,
            )
            for place, name in enumerate(names)
        ),
        comparisons=comparisons,
        regrets=(
            Regret(
                winner,
                names[best_other],
                float(centre[best_other] - centre[0]),
                *_interval(of_mixes[:, 1:].max(axis=1) - of_mixes[:, 0]),
            ),
            Regret(
                names[best_other],
                winner,
                float(centre[0] - centre[best_other]),
                *_interval(of_mixes[:, 0] - of_mixes[:, best_other]),
            ),
        ),
        against_base=against_base,
    )


def _compared(names: Sequence[str], centre: Floats, drawn: Floats, ours: int) -> tuple[Comparison, ...]:
    """One mix against each of the others, with Holm's correction over them."""
    found = [
        _comparison(names[ours], name, float(centre[ours] - centre[place]), drawn[:, ours] - drawn[:, place])
        for place, name in enumerate(names)
        if place != ours
    ]
    corrected = holm([each.p for each in found])
    return tuple(
        Comparison(each.ours, each.theirs, each.value, each.low, each.high, each.p, p)
        for each, p in zip(found, corrected, strict=True)
    )


def _comparison(ours: str, theirs: str, value: float, drawn: Floats) -> Comparison:
    p = two_sided(drawn)
    return Comparison(ours, theirs, value, *_interval(drawn), p, p)


def _interval(drawn: Floats) -> tuple[float, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _seed_deviation(by_seed: Floats) -> float:
    """The pooled standard deviation within mixes of (mixes, seeds)."""
    num_mixes, num_seeds = by_seed.shape
    residuals = by_seed - by_seed.mean(axis=1, keepdims=True)
    return math.sqrt(float((residuals**2).sum()) / (num_mixes * (num_seeds - 1)))


def _deviation_by_items(drawn: Floats) -> float:
    """As :func:`_seed_deviation`, as much of it as the draw of the items makes; of (draws, mixes, seeds)."""
    residuals = drawn - drawn.mean(axis=2, keepdims=True)
    num_mixes, num_seeds = drawn.shape[1:]
    return math.sqrt(float(residuals.var(axis=0).sum()) / (num_mixes * (num_seeds - 1)))


def _seed_draws(by_seed: Floats, deviation: float, draws: int, rng: np.random.Generator) -> Floats:
    """What other seeds would have added to each mix's mean, (draws, mixes): ``deviation`` is that of one run."""
    num_mixes, num_seeds = by_seed.shape
    freedom = num_mixes * (num_seeds - 1)
    residuals = (by_seed - by_seed.mean(axis=1, keepdims=True)).ravel()
    if deviation == 0 or not residuals.any():
        return np.zeros((draws, num_mixes))
    residuals *= deviation / float(residuals.std())
    picked = rng.choice(residuals, size=(draws, num_mixes, num_seeds)).mean(axis=2)
    # A variance that is known from few residuals only: with a normal mean this makes the t-distribution.
    tails = np.sqrt(freedom / rng.chisquare(freedom, size=(draws, 1)))
    added: Floats = picked * tails
    return added
