"""The numbers of an evaluation: every metric with n and a 95 % interval, by case, and what the replies were like.

A mean over items has the clustered interval of :func:`~agentflan_ray.evaluate.stats.mean_with_interval`. A number
made of several means (a mean of cases' means, the two sides of a score) has the interval that follows from theirs by
the method of variance estimates recovery (Zou and Donner 2008, "Construction of confidence limits about effect
measures: a general approach", Statistics in Medicine 27): unlike a bootstrap it stays honest where a case has a few
items that all agree. Means that share groups of items (the plan of a task in two forms, a tool in two cases) go up and
down together, and their intervals add up by as much.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from agentflan_ray.evaluate.benchmark import ENDED_BY, Metric, Sample
from agentflan_ray.evaluate.stats import Estimate, mean_with_interval, mean_with_t_interval

Floats = npt.NDArray[np.float64]

NUM_REASONS = 20
"""Reasons of errors that a summary lists, the most frequent first."""


@dataclass(frozen=True, slots=True)
class Combined(Metric):
    """A metric made of others, its ``parts``: their mean, or their harmonic mean, which is low where one part is.

    ``score``, ``cases``, ``by_case`` and ``weight`` are not used. All parts run from 0 (worst) upwards.
    """

    parts: tuple[Metric, ...] = ()
    how: Literal["mean", "harmonic"] = "mean"


def summarise(samples: Sequence[Sample], metrics: Sequence[Metric]) -> dict[str, Any]:
    """A benchmark's result as JSON values.

    ``{"items", "errors": {"items", "reasons": {sentence: items}}, "metrics": {name: row}, "cases": {case: {"items",
    "errors", "metrics": {name: row}}}, "replies": …}``; a row is ``{"value", "n", "low", "high", "better", "scale"}``
    with value and limits unscaled, and None for what can't be known. A metric's row over all items also says how it is
    computed, see :func:`definition`. Items with an error are counted and in no mean.
    """
    cases = list(dict.fromkeys(sample.item.case for sample in samples))
    plain = [metric for metric in metrics if not isinstance(metric, Combined)]
    by_case = {case: [sample for sample in samples if sample.item.case == case] for case in cases}
    alone = groups_are_cases(_pairs(samples))
    return {
        "items": len(samples),
        "errors": {"items": sum(sample.error is not None for sample in samples), "reasons": _reasons(samples)},
        "metrics": {
            metric.name: _row(estimate(samples, metric), metric) | {"definition": definition(metric)}
            for metric in metrics
        },
        "cases": {
            case: {
                "items": len(mine),
                "errors": sum(sample.error is not None for sample in mine),
                "metrics": {
                    metric.name: _row(_mean(mine, metric, alone).estimate, metric)
                    for metric in plain
                    if any(sample.error is None and metric.of in sample.scores for sample in mine)
                    and (not metric.cases or case in metric.cases)
                },
            }
            for case, mine in by_case.items()
        },
        "replies": _replies(samples),
    }


def definition(metric: Metric) -> dict[str, Any]:
    """How a metric is computed from scores, as JSON values: what a comparison of stored results goes by."""
    if isinstance(metric, Combined):
        return {"how": metric.how, "parts": [definition(part) for part in metric.parts]}
    return {"score": metric.of, "cases": list(metric.cases), "by_case": metric.by_case, "weight": metric.weight}


def estimate(samples: Sequence[Sample], metric: Metric) -> Estimate:
    """The metric's value over the samples without an error, with its interval; NaN where no sample has the score."""
    return _estimate(samples, metric).estimate


def weighted_sum(samples: Sequence[Sample], parts: Sequence[tuple[float, Metric]], constant: float = 0.0) -> Estimate:
    """``constant`` plus each metric times its weight, which may be below 0; n counts the samples without an error."""
    count = sum(sample.error is None for sample in samples)
    numbers = [_estimate(samples, metric) for _, metric in parts]
    if any(math.isnan(number.estimate.value) for number in numbers):
        return Estimate(math.nan, count, math.nan, math.nan)
    weighted = [
        _Number(_times(number.estimate, weight), {group: weight * by for group, by in number.moved.items()})
        for number, (weight, _) in zip(numbers, parts, strict=True)
    ]
    correlations = _correlations(weighted)
    values, lows, highs = (
        np.array([getattr(number.estimate, name) for number in weighted]) for name in ("value", "low", "high")
    )
    value = constant + float(values.sum())
    below, above = _length(values - lows, correlations), _length(highs - values, correlations)
    return Estimate(value, count, value - below, value + above)


def _times(number: Estimate, weight: float) -> Estimate:
    low, high = sorted((weight * number.low, weight * number.high))
    return Estimate(weight * number.value, number.n, low, high)


class _Number(NamedTuple):
    """An estimate, and by how much each group of items moved it off its expectation (its influence function)."""

    estimate: Estimate
    moved: Mapping[str, float]


def _estimate(samples: Sequence[Sample], metric: Metric) -> _Number:
    if isinstance(metric, Combined):
        return _together([_estimate(samples, part) for part in metric.parts], metric.how)
    if not metric.by_case:
        return _mean(samples, metric, items_count=False)
    chosen = [sample for sample in samples if not metric.cases or sample.item.case in metric.cases]
    cases = dict.fromkeys(sample.item.case for sample in chosen if sample.error is None and metric.of in sample.scores)
    alone = groups_are_cases(_pairs(chosen))
    return _together([_mean([s for s in chosen if s.item.case == case], metric, alone) for case in cases], "mean")


def _together(parts: Sequence[_Number], how: Literal["mean", "harmonic"]) -> _Number:
    values = [part.estimate.value for part in parts]
    found = combine(
        [part.estimate for part in parts], _harmonic if how == "harmonic" else _plain_mean, _correlations(parts)
    )
    moved: dict[str, float] = defaultdict(float)
    for part, value in zip(parts, values, strict=True):
        slope = 1 / len(parts)
        if how == "harmonic":
            slope *= (found.value / value) ** 2 if found.value > 0 else 0.0
        for group, by in part.moved.items():
            moved[group] += slope * by
    return _Number(found, moved)


def _correlations(parts: Sequence[_Number]) -> Floats:
    """How the parts go together, from the groups that they share. Where a part has none of its own variance, or goes
    against another one, 0: with few groups a correlation below 0 is most often chance, and would narrow."""
    groups = {
        group: place for place, group in enumerate(dict.fromkeys(group for part in parts for group in part.moved))
    }
    moved = np.zeros((len(parts), len(groups)))
    for number, part in enumerate(parts):
        for group, by in part.moved.items():
            moved[number, groups[group]] = by
    lengths = np.linalg.norm(moved, axis=1)
    unit = np.divide(moved, lengths[:, None], out=np.zeros_like(moved), where=lengths[:, None] > 0)
    found: Floats = np.clip(unit @ unit.T, 0.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return found


def combine(
    parts: Sequence[Estimate], value: Callable[[Sequence[float]], float], correlations: Floats | None = None
) -> Estimate:
    """``value`` of the parts' values, a function that rises with each part, and the interval from their intervals.

    ``correlations`` of the parts, (parts, parts); without them they are taken as independent. n is the sum of theirs.
    Parts without a value make a number without one.
    """
    middle = [part.value for part in parts]
    n = sum(part.n for part in parts)
    if not parts or any(math.isnan(number) for number in middle):
        return Estimate(math.nan, n, math.nan, math.nan)
    centre = value(middle)
    known = np.eye(len(parts)) if correlations is None else correlations

    def reach(limits: list[float]) -> float:
        """How far the value may move from where it is when parts move to their limits, each by itself."""
        corner = value(limits)
        # From the middle a part may move nothing where another holds the value (both sides of a harmonic mean at 0);
        # then what it moves is seen from the other parts' limits. The corner is the farthest there is.
        ahead = [value([*middle[:i], limit, *middle[i + 1 :]]) - centre for i, limit in enumerate(limits)]
        back = [corner - value([*limits[:i], number, *limits[i + 1 :]]) for i, number in enumerate(middle)]
        return min(max(_length(ahead, known), _length(back, known)), abs(corner - centre))

    low = centre - reach([part.low for part in parts])
    high = centre + reach([part.high for part in parts])
    return Estimate(centre, n, low, high)


def _length(moves: Sequence[float] | Floats, correlations: Floats) -> float:
    """How far a sum moves where its parts move so far, each as often as not with the others."""
    each = np.asarray(moves, dtype=np.float64)
    return math.sqrt(each @ correlations @ each)


def _plain_mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _harmonic(values: Sequence[float]) -> float:
    return 0.0 if min(values) <= 0 else len(values) / sum(1 / value for value in values)


def groups_are_cases(pairs: Collection[tuple[str, str]]) -> bool:
    """Whether the cases and groups of items are the same partition (a simulator's tasks): then items are the draws."""
    pairs = set(pairs)
    return len(pairs) == len({case for case, _ in pairs}) == len({group for _, group in pairs}) > 1


def _pairs(samples: Sequence[Sample]) -> set[tuple[str, str]]:
    return {(sample.item.case, sample.item.group) for sample in samples}


def values_of(samples: Sequence[Sample], metric: Metric, items_count: bool = False) -> tuple[list[float], list[str]]:
    """The scores that a metric is the mean of, and the group of each: the item's, or with ``items_count`` the item."""
    values: list[float] = []
    groups: list[str] = []
    for sample in samples:
        if (
            sample.error is None
            and metric.of in sample.scores
            and (not metric.cases or sample.item.case in metric.cases)
        ):
            # Items that are several things count so often, and what belongs together stays together.
            times = int(sample.scores[metric.weight]) if metric.weight else 1
            values += [float(sample.scores[metric.of])] * times
            groups += [sample.item.id if items_count else sample.item.group] * times
    return values, groups


def _mean(samples: Sequence[Sample], metric: Metric, items_count: bool) -> _Number:
    values, groups = values_of(samples, metric, items_count)
    if not values:
        return _Number(Estimate(math.nan, 0, math.nan, math.nan), {})
    shares = all(0 <= value <= 1 for value in values)
    found = (mean_with_interval if shares else mean_with_t_interval)(values, groups)
    moved: dict[str, float] = defaultdict(float)
    for value, group in zip(values, groups, strict=True):
        moved[group] += (value - found.value) / len(values)
    return _Number(found, moved)


def _row(number: Estimate, metric: Metric) -> dict[str, Any]:
    def known(value: float) -> float | None:
        return None if math.isnan(value) else value

    return {
        "value": known(number.value),
        "n": number.n,
        "low": known(number.low),
        "high": known(number.high),
        "better": metric.better,
        "scale": metric.scale,
    }


def _reasons(samples: Sequence[Sample]) -> dict[str, int]:
    return dict(Counter(sample.error for sample in samples if sample.error is not None).most_common(NUM_REASONS))


def _replies(samples: Sequence[Sample]) -> dict[str, Any]:
    """What the replies were like: how they ended, tokens, turns and seconds, and which limits cut items short. Choices
    that were weighed are no replies but count for the prompt's tokens."""
    replies = [reply for sample in samples for _, reply in sample.turns]
    written = [reply for reply in replies if reply.finish != "choice"]
    finishes = Counter(reply.finish for reply in replies)
    num_items = max(1, len(samples))
    return {
        "replies": len(written),
        "weighed": finishes["choice"],
        "finish": dict(sorted(finishes.items())),
        "items_cut": dict(Counter(s.outcome[ENDED_BY] for s in samples if ENDED_BY in s.outcome)),
        "share_cut": finishes["length"] / len(written) if written else None,
        "share_empty": sum(not reply.text.strip() for reply in written) / len(written) if written else None,
        "turns_per_item": len(replies) / num_items,
        "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
        "new_tokens": sum(reply.new_tokens for reply in replies),
        "new_tokens_per_reply": sum(reply.new_tokens for reply in written) / len(written) if written else None,
        "seconds": sum(sample.seconds for sample in samples),
        "seconds_per_item": sum(sample.seconds for sample in samples) / num_items,
    }
