"""The space of mixtures that a search walks: one number for each degree of freedom, in a plain box.

A mixture over the six components has five degrees of freedom. They are split as the paper states its recipe
(sections 3.1 to 3.4): how much is negatives, how much of the rest is general chat, and how the agent part divides.
The agent part is given by additive log-ratios (Aitchison, *The Statistical Analysis of Compositional Data*, 1986)
against reasoning, in base 2: "half the retrieval" is one step down, wherever one stands. Two other ways were left
aside. Six weights that are normalised afterwards have one number too many: infinitely many points mean one mixture,
and a surrogate model wastes trials on telling them apart. Raw shares with "sum to one" as a side condition are no
box, which is all that TPE and Gaussian processes know how to search.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from agentflan_ray.sample import COMPONENTS

RATIOS: dict[str, str] = {
    "log2_retrieval": "retrieval",
    "log2_understanding": "understanding",
    "log2_instruction": "instruction",
}
"""Ratio parameter to its component; each is ``log2(weight of the component / weight of reasoning)``."""

MIXTURE_PARAMETERS: tuple[str, ...] = ("negative_share", "general_share", *RATIOS)

MAX_LOG2_RATIO = 20.0
"""A ratio beyond one to a million is no mixture any more."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed interval to search, uniformly or in the logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"An interval needs finite bounds with low < high, but got {self.low} and {self.high}.")
        if self.log and self.low <= 0:
            raise ValueError(f"An interval in the logarithm needs a low above 0, but got {self.low}.")

    def including(self, value: float) -> Interval:
        """The smallest interval that holds this one and the value."""
        return Interval(min(self.low, value), max(self.high, value), self.log)


@dataclass(frozen=True)
class Space:
    """What is searched, and between which bounds. A plain number in place of an interval fixes that part.

    Attributes:
        negative_share: Share of negatives in all supervised tokens.
        general_share: Share of general chat in the tokens that the negatives leave, so the paper's agent : general
            of 1 : 1 is 0.5 whatever the negatives take, and every corner of the box is a mixture.
        log2_retrieval: log2 of retrieval : reasoning; likewise the next two. Fixed at ``-inf`` it leaves the
            component out.
        fraction: Choices for the fraction of the data, a fidelity (paper, section 4.3: 25 % to 100 %).
        learning_rate: Searched in the logarithm where given; None leaves it to the training configuration.
    """

    negative_share: Interval | float = Interval(0.0, 0.4)
    general_share: Interval | float = Interval(0.1, 0.7)
    log2_retrieval: Interval | float = Interval(-4.0, 1.0)
    log2_understanding: Interval | float = Interval(-4.0, 1.0)
    log2_instruction: Interval | float = Interval(-4.0, 1.0)
    fraction: tuple[float, ...] | float = (0.25, 0.5, 0.75, 1.0)
    learning_rate: Interval | float | None = None

    def __post_init__(self) -> None:
        for name in ("negative_share", "general_share"):
            low, high = _bounds(getattr(self, name))
            if not (0 <= low <= high < 1):
                raise ValueError(f"{name} must lie in [0, 1), but its bounds are {low} and {high}.")
        for name in RATIOS:
            low, high = _bounds(getattr(self, name))
            if not (low == high == -math.inf or -MAX_LOG2_RATIO <= low <= high <= MAX_LOG2_RATIO):
                raise ValueError(
                    f"{name} must lie within {MAX_LOG2_RATIO:g} of 0, or be fixed at -inf to leave the component "
                    f"out, but its bounds are {low} and {high}."
                )
        choices = _choices(self.fraction)
        if not choices or len(set(choices)) != len(choices) or not all(0 < choice <= 1 for choice in choices):
            raise ValueError(f"fraction must be different numbers in (0, 1], but got {choices}.")
        if self.learning_rate is not None and _bounds(self.learning_rate)[0] <= 0:
            raise ValueError(f"learning_rate must be above 0, but its bounds are {_bounds(self.learning_rate)}.")

    @property
    def names(self) -> tuple[str, ...]:
        """Every parameter that :meth:`suggest` gives, searched or fixed."""
        return tuple(f.name for f in dataclasses.fields(self) if getattr(self, f.name) is not None)

    @property
    def mixture(self) -> tuple[str, ...]:
        """The searched parameters that make the mixture."""
        return tuple(name for name in MIXTURE_PARAMETERS if isinstance(getattr(self, name), Interval))

    def weights(self, searched: Mapping[str, Any]) -> dict[str, float]:
        """Mixture weights (:func:`to_weights`) of the searched parameters, with the fixed ones as they are."""
        return to_weights({**{name: getattr(self, name) for name in MIXTURE_PARAMETERS}, **searched})

    def distributions(self) -> dict[str, BaseDistribution]:
        """The searched parameters as Optuna knows them."""
        found: dict[str, BaseDistribution] = {}
        for name in self.names:
            part = getattr(self, name)
            if isinstance(part, tuple):
                found[name] = CategoricalDistribution(part)
            elif isinstance(part, Interval):
                found[name] = FloatDistribution(part.low, part.high, log=part.log or name == "learning_rate")
        return found

    def suggest(self, trial: optuna.trial.Trial) -> dict[str, float]:
        """All parameters of a trial: the searched ones from Optuna, the fixed ones as they are."""
        parameters: dict[str, float] = {}
        for name in self.names:
            part = getattr(self, name)
            if isinstance(part, tuple):
                parameters[name] = trial.suggest_categorical(name, part)
            elif isinstance(part, Interval):
                log = part.log or name == "learning_rate"
                parameters[name] = trial.suggest_float(name, part.low, part.high, log=log)
            else:
                parameters[name] = part
        return parameters

    def including(self, mixes: Mapping[str, Mapping[str, float]]) -> Space:
        """This space with its bounds widened to hold every given mix, so that enqueueing a mix is exact.

        Raises:
            ValueError: A mix leaves out a component whose ratio is searched: it has no finite log-ratio.
        """
        wider: dict[str, Any] = {}
        for name in MIXTURE_PARAMETERS:
            part = getattr(self, name)
            for mix_name, mix in mixes.items():
                if isinstance(part, Interval):
                    if not math.isfinite(mix[name]):
                        raise ValueError(
                            f"The mix {mix_name!r} has no {RATIOS[name]}, but {name} is searched from {part.low} to "
                            f"{part.high}; give it a share, or leave the component out with {name}=-inf."
                        )
                    part = part.including(mix[name])
            wider[name] = part
        return dataclasses.replace(self, **wider)

    def complete(self, mix: Mapping[str, float]) -> dict[str, float]:
        """A mix as a point of this space: the searched parameters only, ready to be enqueued.

        A fixed part overrides the mix's own value. What a mix does not say is the same for every mix, so that the
        named mixes can be compared: the largest data fraction, and the geometric middle of the learning rates.
        """
        point = {name: mix[name] for name in MIXTURE_PARAMETERS if isinstance(getattr(self, name), Interval)}
        if isinstance(self.fraction, tuple):
            point["fraction"] = max(self.fraction)
        if isinstance(self.learning_rate, Interval):
            point["learning_rate"] = math.sqrt(self.learning_rate.low * self.learning_rate.high)
        return point


def to_weights(parameters: Mapping[str, float]) -> dict[str, float]:
    """Mixture weights (shares of supervised tokens, summing to 1) of a point; other parameters are not looked at."""
    negative, general_share = parameters["negative_share"], parameters["general_share"]
    for name, share in (("negative_share", negative), ("general_share", general_share)):
        if not 0 <= share < 1:
            raise ValueError(f"{name} must lie in [0, 1), but is {share}.")
    ratios = {"reasoning": 1.0} | {component: 2.0 ** parameters[name] for name, component in RATIOS.items()}
    agent = (1 - negative) * (1 - general_share) / sum(ratios.values())
    weights = {component: agent * ratio for component, ratio in ratios.items()}
    weights |= {"general": (1 - negative) * general_share, "negative": negative}
    return {component: weights[component] for component in COMPONENTS}


def from_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """The inverse of :func:`to_weights`, up to rounding. A component of share 0 has the log-ratio ``-inf``.

    Raises:
        ValueError: The components are not :data:`~agentflan_ray.sample.COMPONENTS`, a weight is negative, they do
            not sum to 1, or reasoning, to which the ratios refer, is 0.
    """
    if set(weights) != set(COMPONENTS):
        raise ValueError(f"A mixture needs the components {sorted(COMPONENTS)}, but has {sorted(weights)}.")
    if not all(weight >= 0 for weight in weights.values()):
        raise ValueError(f"Mixture weights must not be negative, but are {dict(weights)}.")
    if abs(sum(weights.values()) - 1) > 1e-6:
        raise ValueError(f"Mixture weights must sum to 1, but sum to {sum(weights.values())}: {dict(weights)}.")
    reasoning = weights["reasoning"]
    if reasoning == 0:
        raise ValueError("A mixture needs a share of reasoning above 0: the ratios refer to it.")
    agent = reasoning + sum(weights[component] for component in RATIOS.values())
    parameters = {
        "negative_share": weights["negative"],
        "general_share": weights["general"] / (weights["general"] + agent),
    }
    for name, component in RATIOS.items():
        weight = weights[component]
        parameters[name] = math.log2(weight) - math.log2(reasoning) if weight > 0 else -math.inf
    return parameters


def named_mixes(
    proportional: Mapping[str, float], *, instruction_share: float = 0.10, negative_share: float = 0.03
) -> dict[str, dict[str, float]]:
    """The mixtures that every search tries first.

    ``paper`` is reasoning : retrieval : understanding = 1 : 0.25 : 0.75 and agent : general = 1 : 1 (section 3.3).
    For the two small parts the paper gives counts of samples, not shares of tokens, so both are our choice:
    its 761 negatives beside 24,703 trajectories are 3 %, and 10 % of ToolBench stays in explicit form. A model of
    135M parameters needed about 30 % negatives to stop answering chat with tool calls.

    Args:
        proportional: Supervised tokens of the corpus for each component, in any unit.
        instruction_share: Share of instruction following in the agent part of ``paper``.
        negative_share: Share of negatives in the whole of ``paper``.
    """
    total = sum(proportional.values())
    if total <= 0:
        raise ValueError(f"The proportional mix needs supervised tokens, but the corpus has {dict(proportional)}.")
    scale = (1 - instruction_share) / (1 + 0.25 + 0.75)
    agent = {
        "reasoning": scale,
        "retrieval": 0.25 * scale,
        "understanding": 0.75 * scale,
        "instruction": instruction_share,
    }
    half = (1 - negative_share) / 2
    paper = {name: half * share for name, share in agent.items()} | {"general": half, "negative": negative_share}
    return {
        "paper": from_weights(paper),
        "proportional": from_weights({name: tokens / total for name, tokens in proportional.items()}),
        "uniform": from_weights(dict.fromkeys(COMPONENTS, 1 / len(COMPONENTS))),
    }


def _bounds(part: Interval | float) -> tuple[float, float]:
    return (part.low, part.high) if isinstance(part, Interval) else (part, part)


def _choices(part: tuple[float, ...] | float) -> tuple[float, ...]:
    return part if isinstance(part, tuple) else (part,)
