"""Each metric of the embedded suite as a weighted sum of means over items: what resampling and weighing need to know.

``toolbox.summarise`` says what a model scored. Here the same numbers are functions of a table of items, so that a
bootstrap can draw items again, models can be compared item by item, and several metrics be weighed into one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agentflan_ray.evaluate.benchmark import Item, Metric, Sample
from agentflan_ray.evaluate.stats import Difference, Estimate, drawn_groups, missed, swaps, told_apart
from agentflan_ray.evaluate.summary import weighted_sum
from agentflan_ray.toolbox import ITEM_CASES

Floats = npt.NDArray[np.float64]

_PLAIN = tuple(case for case in ITEM_CASES if case != "tool")

WEIGHTED = "weighted_score"
"""Name of a weighted sum of metrics in a trial's report, see :func:`weighted`."""


@dataclass(frozen=True, slots=True)
class ItemScores:
    """What one model got on one item: its case, its group (the unit that is drawn again), and scores by name."""

    id: str
    case: str
    group: str
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Part:
    """``weight`` times the mean of the score ``score`` over the items of ``cases`` that have it."""

    weight: float
    score: str
    cases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measure:
    """``constant`` plus the sum of its parts."""

    parts: tuple[Part, ...]
    constant: float = 0.0

    def is_measured_on(self, cases: Collection[str]) -> bool:
        """Whether items of these cases give it a value: each score that it is made of has items."""
        measured = {part.score for part in self.parts if set(part.cases) & set(cases)}
        return measured == {part.score for part in self.parts}

    def on(self, cases: Sequence[str]) -> Measure:
        """The same where only these cases have items: of the two-sided score a case without any leaves its weight to
        the other plain cases, as in ``toolbox.summarise``."""
        kept = tuple(part for part in self.parts if set(part.cases) & set(cases))
        return replace(self, parts=tuple(_regained(part, kept, self.parts) for part in kept))


def _mean(score: str, *cases: str) -> Measure:
    return Measure((Part(1.0, score, cases),))


MEASURES: dict[str, Measure] = {
    "score": Measure(
        (Part(0.5, "tool_score", ("tool",)), *(Part(0.5 / len(_PLAIN), "correct", (case,)) for case in _PLAIN))
    ),
    "tool_score": _mean("tool_score", "tool"),
    "right_tool": _mean("right_tool", "tool"),
    "right_arguments": _mean("right_arguments", "tool"),
    "right_answer": _mean("right_answer", "tool"),
    "missed_call_rate": _mean("missed_call", "tool"),
    "false_call_rate": _mean("false_call", *_PLAIN),
    "leak_rate": _mean("leak", *_PLAIN),
    "over_refusal_rate": _mean("over_refusal", "tool", "chat", "chat_with_tools"),
    "sensible_rate": _mean("sensible", "chat", "chat_with_tools"),
    "h_react": _mean("h_react", *_PLAIN),
    "h_general": _mean("h_general", *_PLAIN),
    "hscore": Measure((Part(-0.5, "h_react", _PLAIN), Part(-0.5, "h_general", _PLAIN)), constant=1.0),
}
"""By the names that ``toolbox.summarise`` gives them."""


def weighted(weights: Mapping[str, float]) -> Measure:
    """The sum of the named metrics, each times its weight.

    Raises ``ValueError`` for a name that is no metric of the suite.
    """
    if unknown := sorted(set(weights) - set(MEASURES)):
        raise ValueError(f"{unknown[0]!r} is no metric that can be weighed; there are {', '.join(MEASURES)}.")
    parts = [
        replace(part, weight=part.weight * weight) for name, weight in weights.items() for part in MEASURES[name].parts
    ]
    return Measure(tuple(parts), sum(MEASURES[name].constant * weight for name, weight in weights.items()))


@dataclass(frozen=True)
class Table:
    """Sums of scores by part and group: all that is left of the items once a measure is chosen.

    ``sums``: (models, parts, groups); ``counts``: (parts, groups), the same for all models as the items are.
    """

    measure: Measure
    sums: Floats
    counts: Floats

    @property
    def num_groups(self) -> int:
        """Groups of items."""
        return int(self.counts.shape[1])

    def values(self, drawn: Floats | None = None) -> Floats:
        """The measure of each model, (models,); with ``drawn`` (draws, groups), how often each group is drawn, of each
        draw, (draws, models). A draw that misses every item of a part is NaN."""
        times = np.ones((1, self.num_groups)) if drawn is None else drawn
        with np.errstate(invalid="ignore"):
            means = np.einsum("dg,mpg->dmp", times, self.sums) / (times @ self.counts.T)[:, None, :]
        values: Floats = self.measure.constant + means @ np.array([part.weight for part in self.measure.parts])
        return values if drawn is not None else values[0]

    def swapped(self, flips: npt.NDArray[np.bool_]) -> Floats:
        """The first model's measure minus the second's, (draws,), where the two exchange their scores in the groups
        that ``flips`` (draws, groups) names."""
        weights = np.array([part.weight for part in self.measure.parts]) / self.counts.sum(axis=1)
        by_group = weights @ (self.sums[0] - self.sums[1])
        return np.asarray((1.0 - 2.0 * flips) @ by_group)


def tabulate(measure: Measure, models: Sequence[Sequence[ItemScores]]) -> Table:
    """The table of a measure over models that answered the same items.

    Raises ``ValueError`` where the models' items are not the same, or the measure has no item.
    """
    first = {item.id: item for item in models[0]}
    for number, items in enumerate(models):
        if {item.id for item in items} != first.keys():
            odd = sorted({item.id for item in items} ^ first.keys())
            raise ValueError(f"The models were asked different items: {odd[0]!r} is not among those of model {number}.")
    measure = measure.on([item.case for item in models[0]])
    if not measure.parts:
        raise ValueError(f"None of the {len(first)} items belongs to the measure.")
    names = {group: place for place, group in enumerate(sorted({item.group for item in first.values()}))}
    sums = np.zeros((len(models), len(measure.parts), len(names)))
    counts = np.zeros((len(measure.parts), len(names)))
    for place, part in enumerate(measure.parts):
        for model, items in enumerate(models):
            for item in items:
                if item.case in part.cases and part.score in item.scores:
                    sums[model, place, names[item.group]] += item.scores[part.score]
                    counts[place, names[item.group]] += model == 0
    return Table(measure, sums, counts)


def estimate(measure: Measure, items: Sequence[ItemScores]) -> Estimate:
    """The measure of one model with its 95 % interval (:func:`~agentflan_ray.evaluate.summary.weighted_sum`)."""
    measure = measure.on([item.case for item in items])
    samples = [Sample(Item(item.id, item.group, item.case, {}), (), {}, item.scores, 0.0) for item in items]
    parts = [(part.weight, Metric(part.score, cases=part.cases)) for part in measure.parts]
    return weighted_sum(samples, parts, measure.constant)


def difference(
    measure: Measure, ours: Sequence[ItemScores], theirs: Sequence[ItemScores], seed: int = 0, draws: int = 10_000
) -> Difference:
    """Our measure minus theirs on the same items, see :func:`~agentflan_ray.evaluate.stats.told_apart`.

    Raises ``ValueError`` where the items differ.
    """
    table = tabulate(measure, [ours, theirs])
    mine, other = table.values()
    drawn = table.values(drawn_groups(table.num_groups, draws, seed))
    apart = drawn[:, 0] - drawn[:, 1]
    swapped = table.swapped(swaps(table.num_groups, draws, seed)) if len(table.measure.parts) == 1 else None
    _, sizes = np.unique([item.group for item in ours], return_counts=True)
    weights = [abs(part.weight) for part in table.measure.parts]
    unseen = math.hypot(*(weight * missed(counts) for weight, counts in zip(weights, table.counts, strict=True)))
    found = told_apart(float(mine - other), apart[np.isfinite(apart)], swapped, sizes.astype(np.float64), unseen)
    # Scores of the suite are shares, so no difference is larger than the weights together.
    most = sum(weights)
    return found._replace(n=len(ours), low=max(-most, found.low), high=min(most, found.high))


def _regained(part: Part, kept: Sequence[Part], all_parts: Sequence[Part]) -> Part:
    """A part of the two-sided score with its share of the weight of plain cases that have no item."""
    if part.score != "correct":
        return part
    total = sum(each.weight for each in all_parts if each.score == "correct")
    return replace(part, weight=part.weight * total / sum(each.weight for each in kept if each.score == "correct"))
