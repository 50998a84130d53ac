"""The space of mixtures that a search walks: one number for each degree of freedom, in a plain box.

A mixture over the six components has five degrees of freedom. They are split as the paper states its recipe
(sections 3.1 to 3.4): how much is negatives, how much of the rest is general chat, and how the agent part divides.
The agent part is given by additive log-ratios (Aitchison, *The Statistical Analysis of Compositional Data*, 1986)
against reasoning, in base 2: "half the retrieval" is one step down, wherever one stands. Two other ways were left
aside. Six weights that are normalised afterwards have one number too many: infinitely many points mean one mixture,
so that a mixture has no point of its own, and no single component can be fixed or left out. Raw shares with "sum to
one" as a side condition are no box, which is all that TPE and Gaussian processes know how to search.

TPE and Gaussian processes work well in it: every point of the box is another mixture and every mixture within bounds
is a point, so that named mixes are enqueued exactly; a step of a coordinate is a factor of one component, wherever one
stands; and a coordinate acts much by itself, as TPE's densities of single parameters assume. Measured
(``benchmarks/search_space.py``; the numbers stand in ``docs/search.md``), both find as good mixtures in it as with
normalised weights, no difference being sure after 24 and 40 trials, and clearly better ones than with sticks that are
broken. Weights are ahead in the first dozen trials, as their random points lie near the middle.

Below the components the same rule goes on, where it is asked for (:data:`DIVISIONS`): log-ratios of the explicit forms
against ReAct, of chain of thought against chat, of each negative case against the irrelevant tool. A ratio within the
negatives means nothing where the negatives have no share. The box stays a box all the same: parameters that come and
go with the value of another leave TPE without joint densities and Optuna's Gaussian process without a proposal for
them, for the sake of an edge of the box that a continuous share never hits. Our own sampler sees weights, where such
points are one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from agentflan_ray.mixture import Mixture
from agentflan_ray.sample import COMPONENTS, NEGATIVE_CASES

RATIOS: dict[str, str] = {
    "log2_retrieval": "retrieval",
    "log2_understanding": "understanding",
    "log2_instruction": "instruction",
}
"""Ratio parameter to its component; each is ``log2(weight of the component / weight of reasoning)``."""

MIXTURE_PARAMETERS: tuple[str, ...] = ("negative_share", "general_share", *RATIOS)


@dataclass(frozen=True, slots=True)
class Division:
    """A way to divide components by form or case: log2 ratios against one reference, all of them or none.

    Attributes:
        reference: The form or case that the ratios refer to.
        ratios: Ratio parameter to its form or case.
        components: What is divided, each in the same shares.
    """

    reference: str
    ratios: Mapping[str, str]
    components: tuple[str, ...]

    def shares(self, parameters: Mapping[str, float]) -> dict[str, float] | None:
        """Shares of the forms or cases, summing to 1; None where no parameter divides.

        Raises:
            ValueError: Only some of the ratios are there.
        """
        given = [name for name in self.ratios if name in parameters]
        if not given:
            return None
        if missing := [name for name in self.ratios if name not in parameters]:
            raise ValueError(
                f"{given[0]} is given, but {missing[0]} is not; give all of {', '.join(self.ratios)} (-inf leaves one "
                "out), or none of them to read what the corpus has."
            )
        ratios = {self.reference: 1.0} | {part: 2.0 ** parameters[name] for name, part in self.ratios.items()}
        return {part: ratio / sum(ratios.values()) for part, ratio in ratios.items()}

    def point(self, parts: Mapping[str, float]) -> dict[str, float]:
        """The ratios of a corpus, from its tokens by form or case as ``negative/near_miss``; empty where it does not
        hold the reference. What it does not hold has the log-ratio ``-inf``."""
        held = {part: sum(parts.get(f"{each}/{part}", 0.0) for each in self.components) for part in self._parts}
        if not held[self.reference]:
            return {}
        return {name: _log2_ratio(held[part], held[self.reference]) for name, part in self.ratios.items()}

    @property
    def _parts(self) -> tuple[str, ...]:
        return (self.reference, *self.ratios.values())


EXPLICIT = Division("react", {"log2_json": "json", "log2_string": "string"}, ("instruction",))
NATURAL = Division("chat", {"log2_cot": "cot"}, ("reasoning", "retrieval", "understanding"))
NEGATIVES = Division(
    "irrelevant_tool",
    {f"log2_{case}": case for case in NEGATIVE_CASES if case != "irrelevant_tool"},
    ("negative",),
)
DIVISIONS: tuple[Division, ...] = (EXPLICIT, NATURAL, NEGATIVES)

PART_PARAMETERS: tuple[str, ...] = tuple(name for division in DIVISIONS for name in division.ratios)
"""The ratios of forms and cases, which a space may have or not."""

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
        epochs: How often the data is read within the same budget, a number or choices; None is once.
        log2_json: log2 of json : react within the explicit formats; ``log2_string`` likewise. These two, and the cases
            below, are given all or none: None takes forms or cases as the corpus has them, ``-inf`` leaves one out.
        log2_cot: log2 of chain of thought : chat, within reasoning, retrieval and understanding alike.
        log2_no_tool_request: log2 of that negative case : irrelevant_tool; likewise the other cases.
    """

    negative_share: Interval | float = Interval(0.0, 0.4)
    general_share: Interval | float = Interval(0.1, 0.7)
    log2_retrieval: Interval | float = Interval(-4.0, 1.0)
    log2_understanding: Interval | float = Interval(-4.0, 1.0)
    log2_instruction: Interval | float = Interval(-4.0, 1.0)
    fraction: tuple[float, ...] | float = (0.25, 0.5, 0.75, 1.0)
    learning_rate: Interval | float | None = None
    epochs: tuple[int, ...] | int | None = None
    log2_json: Interval | float | None = None
    log2_string: Interval | float | None = None
    log2_cot: Interval | float | None = None
    log2_no_tool_request: Interval | float | None = None
    log2_near_miss: Interval | float | None = None
    log2_chat_with_tools: Interval | float | None = None
    log2_missing_argument: Interval | float | None = None
    log2_tool_error: Interval | float | None = None

    def __post_init__(self) -> None:
        for name in ("negative_share", "general_share"):
            low, high = _bounds(getattr(self, name))
            if not (0 <= low <= high < 1):
                raise ValueError(f"{name} must lie in [0, 1), but its bounds are {low} and {high}.")
        parts = {name: getattr(self, name) for name in PART_PARAMETERS if getattr(self, name) is not None}
        for division in DIVISIONS:
            division.shares(dict.fromkeys(parts, 0.0))  # all or none
        for name in (*RATIOS, *parts):
            low, high = _bounds(getattr(self, name))
            if not (low == high == -math.inf or -MAX_LOG2_RATIO <= low <= high <= MAX_LOG2_RATIO):
                raise ValueError(
                    f"{name} must lie within {MAX_LOG2_RATIO:g} of 0, or be fixed at -inf to leave its part "
                    f"out, but its bounds are {low} and {high}."
                )
        for fixed, nothing, division in (
            ("negative_share", 0.0, NEGATIVES),
            ("log2_instruction", -math.inf, EXPLICIT),
        ):
            searched = [name for name in division.ratios if isinstance(getattr(self, name), Interval)]
            if searched and getattr(self, fixed) == nothing:
                raise ValueError(
                    f"{searched[0]} is searched, but {fixed} is fixed at {nothing}, which leaves nothing to divide; "
                    f"fix {searched[0]} or set it to None."
                )
        choices = _choices(self.fraction)
        if not choices or len(set(choices)) != len(choices) or not all(0 < choice <= 1 for choice in choices):
            raise ValueError(f"fraction must be different numbers in (0, 1], but got {choices}.")
        if self.learning_rate is not None and _bounds(self.learning_rate)[0] <= 0:
            raise ValueError(f"learning_rate must be above 0, but its bounds are {_bounds(self.learning_rate)}.")
        epochs = () if self.epochs is None else _choices(self.epochs)
        if self.epochs == () or len(set(epochs)) != len(epochs) or not all(each >= 1 for each in epochs):
            raise ValueError(f"epochs must be different numbers from 1 on, but got {epochs}.")

    @classmethod
    def wide(cls) -> Space:
        """Everything that can be told apart in any corpus is searched: capabilities, general chat, negatives and their
        cases, explicit formats, fraction, epochs and learning rate (of full training and adapters).

        Fifteen parameters take many trials; the small default space is for few. See :meth:`holding` for corpora that
        lack a form or case.
        """
        ratio = Interval(-3.0, 3.0)
        return cls(
            learning_rate=Interval(5e-6, 5e-4, log=True),
            epochs=(1, 2),  # the usual cap of four repeats leaves a scarce part two of them in each pass
            log2_json=ratio,
            log2_string=ratio,
            log2_no_tool_request=ratio,
            log2_near_miss=ratio,
            log2_chat_with_tools=ratio,
            log2_missing_argument=ratio,
            log2_tool_error=ratio,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Every parameter that :meth:`suggest` gives, searched or fixed."""
        return tuple(f.name for f in dataclasses.fields(self) if getattr(self, f.name) is not None)

    @property
    def mixture(self) -> tuple[str, ...]:
        """The searched parameters that make the mixture."""
        names = (*MIXTURE_PARAMETERS, *PART_PARAMETERS)
        return tuple(name for name in names if isinstance(getattr(self, name), Interval))

    def weights(self, searched: Mapping[str, Any]) -> dict[str, float]:
        """Mixture weights (:func:`to_part_weights`) of the searched parameters, with the fixed ones as they are."""
        names = (*MIXTURE_PARAMETERS, *PART_PARAMETERS)
        return to_part_weights({name: getattr(self, name) for name in names if name in self.names} | {**searched})

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
            ValueError: A mix leaves out a component, form or case whose ratio is searched: it has no finite log-ratio.
        """
        wider: dict[str, Any] = {}
        for name in self.mixture:
            part = getattr(self, name)
            for mix_name, mix in mixes.items():
                if name in PART_PARAMETERS and name not in mix:
                    continue  # complete takes the middle
                if not math.isfinite(mix[name]):
                    raise ValueError(
                        f"The mix {mix_name!r} has no {_part_of(name)}, but {name} is searched from {part.low} to "
                        f"{part.high}; give it a share, or leave it out with {name}=-inf."
                    )
                part = part.including(mix[name])
            wider[name] = part
        return dataclasses.replace(self, **wider)

    def holding(self, parts: Mapping[str, float]) -> Space:
        """This space without the forms and cases that a corpus does not hold: their ratios are fixed at ``-inf``.

        Args:
            parts: Supervised tokens or shares of the corpus by form or case
                (:func:`~agentflan_ray.mixture.proportional_parts`).

        Raises:
            ValueError: The corpus does not hold the form or case that ratios of this space refer to.
        """
        without: dict[str, Any] = {}
        for division in DIVISIONS:
            if not division.ratios.keys() & set(self.names):
                continue
            held = division.point(parts)
            if not held:
                raise ValueError(
                    f"The ratios {', '.join(division.ratios)} refer to {division.reference}, but the corpus holds no "
                    f"supervised token of it in {' or '.join(division.components)}; add it, or set them to None."
                )
            without |= {name: value for name, value in held.items() if value == -math.inf}
        return dataclasses.replace(self, **without)

    def complete(self, mix: Mapping[str, float]) -> dict[str, float]:
        """A mix as a point of this space: the searched parameters only, ready to be enqueued.

        A fixed part overrides the mix's own value. What a mix does not say is the same for every mix, so that the
        named mixes can be compared: the middle of the log-ratios of forms and cases, the largest data fraction, the
        fewest epochs, and the geometric middle of the learning rates.
        """
        point: dict[str, float] = {}
        for name in self.mixture:
            part = getattr(self, name)
            middle = name in PART_PARAMETERS and name not in mix
            point[name] = (part.low + part.high) / 2 if middle else mix[name]
        if isinstance(self.fraction, tuple):
            point["fraction"] = max(self.fraction)
        if isinstance(self.learning_rate, Interval):
            point["learning_rate"] = math.sqrt(self.learning_rate.low * self.learning_rate.high)
        if isinstance(self.epochs, tuple):
            point["epochs"] = min(self.epochs)
        return point


def to_mixture(
    parameters: Mapping[str, float],
    budget: int,
    max_repeats: int = 4,
    when_short: Literal["fail", "cap"] = "fail",
) -> Mixture:
    """What a point of the space reads: weights, forms, cases, fraction and epochs of all its parameters.

    Args:
        parameters: As :meth:`Space.suggest` gives them; without a fraction all data, without epochs once.
        budget: Tokens at fraction 1.
        max_repeats: See :class:`~agentflan_ray.mixture.Schedule`; likewise ``when_short``.

    Raises:
        ValueError: The parameters are no mixture, or give only some ratios of a division.
    """
    forms = {**(EXPLICIT.shares(parameters) or {}), **(NATURAL.shares(parameters) or {})}
    return Mixture(
        to_weights(parameters),
        budget,
        float(parameters.get("fraction", 1.0)),
        max_repeats,
        when_short,
        forms=forms or None,
        cases=NEGATIVES.shares(parameters),
        epochs=int(parameters.get("epochs", 1)),
    )


def to_part_weights(parameters: Mapping[str, float]) -> dict[str, float]:
    """The weights of :func:`to_weights`, each divided component by form or case as ``instruction/json``."""
    divided = {
        component: shares
        for division in DIVISIONS
        if (shares := division.shares(parameters)) is not None
        for component in division.components
    }
    return {
        f"{component}/{part}" if part else component: weight * share
        for component, weight in to_weights(parameters).items()
        for part, share in divided.get(component, {"": 1.0}).items()
    }


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
        parameters[name] = _log2_ratio(weights[component], reasoning)
    return parameters


def named_mixes(
    proportional: Mapping[str, float],
    *,
    instruction_share: float = 0.10,
    negative_share: float = 0.03,
    parts: Mapping[str, float] | None = None,
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
        parts: Supervised tokens or shares of the corpus by form or case
            (:func:`~agentflan_ray.mixture.proportional_parts`), for spaces that search these: ``paper`` and
            ``proportional`` have the corpus's own forms and cases, ``uniform`` equal parts of those that it holds.
            Without it the mixes do not say, and :meth:`Space.complete` takes the middle.
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
    own = {name: value for division in DIVISIONS for name, value in division.point(parts or {}).items()}
    even = {name: 0.0 if math.isfinite(value) else value for name, value in own.items()}
    return {
        "paper": from_weights(paper) | own,
        "proportional": from_weights({name: tokens / total for name, tokens in proportional.items()}) | own,
        "uniform": from_weights(dict.fromkeys(COMPONENTS, 1 / len(COMPONENTS))) | even,
    }


def _log2_ratio(value: float, reference: float) -> float:
    return math.log2(value) - math.log2(reference) if value > 0 else -math.inf


def _part_of(name: str) -> str:
    """The component, form or case that a ratio is of."""
    return {**RATIOS, **{ratio: part for division in DIVISIONS for ratio, part in division.ratios.items()}}[name]


def _bounds(part: Interval | float) -> tuple[float, float]:
    return (part.low, part.high) if isinstance(part, Interval) else (part, part)


def _choices(part: tuple[float, ...] | float) -> tuple[float, ...]:
    return part if isinstance(part, tuple) else (part,)
