"""Made-up worlds in which the loss of every mixture is known: what the settings of the sampler were chosen on.

A world has 3 to 20 components and as many validation losses, whose mean is the objective. Each loss follows one of two
published forms, drawn by the seed: the exponential mixing law (arXiv 2403.16952), or a power law of the effective
tokens that help it (as in BiMix, arXiv 2405.14908). In both,

- a component helps its own loss most, others somewhat, a few do harm;
- pairs of components interact;
- a component holds so many tokens and no more: repeating them is worth less and less (arXiv 2305.16264, equation 5);
- a lower fidelity has a higher loss, another spread over the mixtures, and exponents of its own (the bias);
- a trial has noise, the more the lower its fidelity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from scipy.optimize import minimize

Floats = npt.NDArray[np.float64]

FRACTIONS = (0.25, 0.5, 0.75, 1.0)
SIZES = (0.03, 0.2, 1.0)
OVERHEAD = 0.05
"""Cost of a trial that does not shrink with its fidelity: start-up and evaluation."""
NUM_COMPONENTS = (3, 6, 12, 20)
RATIO = 4.0
"""Bound of log2 of a component's weight over the first one's, as in the project's own space."""
_REPEATS_WORTH = 5.0


@dataclass(frozen=True)
class World:
    """One world; see the module. ``levels`` are its fidelities."""

    levels: tuple[float, ...]
    sizes: bool
    """Whether the fidelity is the size of the model, not the amount of data."""
    power: bool
    floors: Floats
    heights: Floats
    helps: Floats
    """(losses, components), by level."""
    biased: Floats
    supply: Floats
    decay: Floats
    pairs: Floats
    noise: float

    @property
    def num_components(self) -> int:
        """How many components a mixture has."""
        return len(self.supply)

    def space(self, with_fidelity: bool) -> dict[str, BaseDistribution]:
        """The box that every contestant searches."""
        box: dict[str, BaseDistribution] = {
            f"log2_{i}": FloatDistribution(-RATIO, RATIO) for i in range(1, self.num_components)
        }
        return box | ({"level": CategoricalDistribution(self.levels)} if with_fidelity else {})

    def cost(self, parameters: Any) -> float:
        """Cost of a trial; 1 at the target."""
        return OVERHEAD + (1 - OVERHEAD) * float(parameters.get("level", 1.0))

    def weights(self, parameters: Any) -> dict[str, float]:
        """The mixture of a point of the box."""
        ratios = [1.0] + [2.0 ** parameters[f"log2_{i}"] for i in range(1, self.num_components)]
        return {str(i): ratio / sum(ratios) for i, ratio in enumerate(ratios)}

    def losses(self, weights: Floats, level: float = 1.0) -> Floats:
        """Losses without noise: (losses,), of one mixture, or (n, losses) of several."""
        data = 1.0 if self.sizes else level
        asked = np.atleast_2d(weights) * data / self.supply
        worth = np.where(
            asked > 1, 1 + _REPEATS_WORTH * (1 - np.exp(-(np.maximum(asked, 1) - 1) / _REPEATS_WORTH)), asked
        )
        tokens = worth * self.supply
        helps = self.helps + (1 - level) * self.biased
        heights = self.heights * level ** (-self.decay) if self.sizes or not self.power else self.heights
        if self.power:
            useful = np.maximum(tokens @ np.abs(helps).T, 0) + 0.01
            found = self.floors + heights * useful ** (-self.decay)
        else:
            found = self.floors + heights * np.exp(-(tokens / data) @ helps.T)
        mixed = np.atleast_2d(weights)
        found = found + np.einsum("ni,ij,nj->n", mixed, self.pairs, mixed)[:, None]
        return np.asarray(found if np.ndim(weights) == 2 else found[0], dtype=np.float64)

    def trial(self, weights: Floats, level: float, rng: np.random.Generator) -> Floats:
        """Losses of a trial: with noise, some of it common to all."""
        noise = 0.7 * rng.standard_normal(len(self.floors)) + 0.7 * rng.standard_normal()
        return np.asarray(self.losses(weights, level) + self.noise * level**-0.25 * noise, dtype=np.float64)


def draw_world(seed: int) -> World:
    """The world of a seed: the number of components goes round, the rest is random."""
    rng = np.random.default_rng([20240, seed])
    num = NUM_COMPONENTS[seed % len(NUM_COMPONENTS)]
    power = bool(rng.random() < 0.5)
    sizes = bool(rng.random() < 0.5)
    helps = rng.gamma(0.5, 0.6, (num, num)) * (1 if power else rng.choice([1, 1, 1, -1], (num, num)))
    helps = helps / (10 if power else 1) + np.diag(np.ones(num) if power else rng.uniform(1, 5, num))
    biased = rng.choice([0.1, 0.2, 0.4]) * rng.standard_normal((num, num)) * helps
    world = World(
        levels=SIZES if sizes else FRACTIONS,
        sizes=sizes,
        power=power,
        floors=rng.uniform(1, 3, num),
        heights=rng.uniform(0.3, 1.5, num) * (0.5 if power else 1),
        helps=helps,
        biased=biased,
        supply=rng.dirichlet(np.full(num, 2.0)) * rng.uniform(0.5, 3),
        decay=rng.uniform(0.1, 0.35, num),
        pairs=np.triu(rng.standard_normal((num, num)), 1) * 0.3,
        noise=0.0,
    )
    spread = float(np.std(world.losses(_random_weights(world, rng, 512)).mean(axis=1)))
    return World(**{**world.__dict__, "noise": spread * float(rng.choice([0.02, 0.05, 0.15]))})


def scale(world: World) -> tuple[float, float]:
    """The smallest objective of the box, and that of the median random mixture."""
    rng = np.random.default_rng(0)
    some = world.losses(_random_weights(world, rng, 4096)).mean(axis=1)

    def objective(logs: Floats) -> float:
        ratios = 2.0 ** np.concatenate([[0.0], logs])
        return float(world.losses(ratios / ratios.sum()).mean())

    best = np.inf
    for _ in range(12):
        start = rng.uniform(-RATIO, RATIO, world.num_components - 1)
        found = minimize(objective, start, method="L-BFGS-B", bounds=[(-RATIO, RATIO)] * len(start))
        best = min(best, float(found.fun))
    return min(best, float(some.min())), float(np.median(some))


def _random_weights(world: World, rng: np.random.Generator, num: int) -> Floats:
    ratios = 2.0 ** np.concatenate(
        [np.zeros((num, 1)), rng.uniform(-RATIO, RATIO, (num, world.num_components - 1))], axis=1
    )
    return np.asarray(ratios / ratios.sum(axis=1, keepdims=True), dtype=np.float64)
