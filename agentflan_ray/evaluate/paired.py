"""A metric of two models on the same items: by how much they differ, and whether that can be chance.

A metric is a tree: means of a score over items at its leaves, and above them the mean or the harmonic mean of these
(:func:`agentflan_ray.evaluate.summary.definition`). Each leaf is taken over the items on which both models have the
score: one that exists only for replies with a call is compared where both called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from agentflan_ray.evaluate.stats import Difference, drawn_groups, mcnemar, missed, swaps, told_apart
from agentflan_ray.evaluate.summary import groups_are_cases

DRAWS = 4000
_CHUNK = 250
"""Draws at once: of a benchmark with 14,000 groups they take 28 MB."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Leaf:
    """Sums of a score by unit for both models, (2, units), and weights of the items, (units,)."""

    sums: Floats
    counts: Floats


@dataclass(frozen=True)
class _Node:
    """``cases``: a mean of those cases that a draw has items of."""

    how: Literal["mean", "harmonic", "cases"]
    parts: Sequence[_Node | _Leaf]


class PairedMetric:
    """One metric over items that both models have, each a mapping with ``id``, ``case``, ``group`` and ``scores``.

    ``first`` and ``second`` are the models' values (NaN where no item has the score for both), ``n`` the items in them.
    """

    def __init__(self, how: Mapping[str, Any], ours: Sequence[Any], theirs: Sequence[Any]) -> None:
        self._how = how
        self._models = (ours, theirs)
        # Where groups are the cases (a simulator's tasks), a mean over cases has their items drawn.
        same = _is_by_case(how) and groups_are_cases([(item["case"], item["group"]) for item in ours])
        unit = "id" if same else "group"
        places = {name: place for place, name in enumerate(sorted({item[unit] for item in ours}))}
        self._members = np.array([places[item[unit]] for item in ours], dtype=np.int64)
        self._used: set[int] = set()
        self._are_shares = True
        self._tree = self._grow(how)
        self.n = len(self._used)
        sizes = np.bincount(self._members[sorted(self._used)], minlength=len(places)).astype(np.float64)
        self._kept = np.flatnonzero(sizes)
        self._sizes = sizes[self._kept]
        self.first, self.second = self._measured(0), self._measured(1)

    def difference(self) -> Difference:
        """First minus second with its interval and p-value (:func:`~agentflan_ray.evaluate.stats.told_apart`)."""
        num = len(self._kept)
        drawn = []
        for seed in range(DRAWS // _CHUNK):
            times = drawn_groups(num, _CHUNK, seed)
            drawn.append(self._drawn(times, 0) - self._drawn(times, 1))
        draws = np.concatenate(drawn)
        swapped = self._swapped(self._tree) if isinstance(self._tree, _Leaf) else None
        value, unseen = self.first - self.second, self._unseen(self._tree)
        found = told_apart(value, draws[~np.isnan(draws)], swapped, self._sizes, unseen)
        if not self._are_shares:
            return found._replace(n=self.n)
        return found._replace(n=self.n, low=max(-1.0, found.low), high=min(1.0, found.high))

    def items_test(self) -> float | None:
        """McNemar's test, which takes items as independent; None where scores are not 0 or 1."""
        if "parts" in self._how or self._how["weight"]:
            return None
        score = self._how["score"]
        both = [(self._models[0][i]["scores"][score], self._models[1][i]["scores"][score]) for i in sorted(self._used)]
        if not all(value in (0.0, 1.0) for pair in both for value in pair):
            return None
        return mcnemar([pair[0] == 1 for pair in both], [pair[1] == 1 for pair in both])

    def _grow(self, how: Mapping[str, Any]) -> _Node | _Leaf:
        if "parts" in how:
            return _Node(how["how"], [self._grow(part) for part in how["parts"]])
        score = how["score"]
        chosen = [
            i
            for i, (mine, other) in enumerate(zip(*self._models, strict=True))
            if score in mine["scores"]
            and score in other["scores"]
            and (not how["cases"] or mine["case"] in how["cases"])
        ]
        if not how["by_case"]:
            return self._leaf(how, chosen)
        by_case: dict[str, list[int]] = {}
        for i in chosen:
            by_case.setdefault(self._models[0][i]["case"], []).append(i)
        return _Node("cases", [self._leaf(how, mine) for mine in by_case.values()])

    def _leaf(self, how: Mapping[str, Any], chosen: Sequence[int]) -> _Leaf:
        self._used.update(chosen)
        score, weight = how["score"], how["weight"]
        values = np.array([[items[i]["scores"][score] for i in chosen] for items in self._models], dtype=np.float64)
        weights = np.array([self._models[0][i]["scores"][weight] if weight else 1.0 for i in chosen], dtype=np.float64)
        self._are_shares &= bool(((values >= 0) & (values <= 1)).all())
        members, num = self._members[list(chosen)], int(self._members.max(initial=-1)) + 1
        sums = [np.bincount(members, weights=weights * each, minlength=num) for each in values]
        return _Leaf(np.stack(sums), np.bincount(members, weights=weights, minlength=num).astype(np.float64))

    def _measured(self, model: int) -> float:
        return float(_value(self._tree, lambda leaf: np.array([_share(leaf.sums[model], leaf.counts)]))[0])

    def _drawn(self, times: Floats, model: int) -> Floats:
        """The metric of a model in each draw, from how often each unit is drawn, (draws, units)."""

        def mean(leaf: _Leaf) -> Floats:
            with np.errstate(invalid="ignore"):
                return np.asarray((times @ leaf.sums[model, self._kept]) / (times @ leaf.counts[self._kept]))

        return _value(self._tree, mean)

    def _swapped(self, leaf: _Leaf) -> Floats:
        """The difference where the models exchange their scores in units, (draws,)."""
        num = len(self._kept)
        apart = (leaf.sums[0] - leaf.sums[1])[self._kept] / leaf.counts.sum()
        if 2**num <= DRAWS:
            return np.asarray((1.0 - 2.0 * swaps(num, DRAWS)) @ apart)
        return np.concatenate([(1.0 - 2.0 * swaps(num, _CHUNK, seed)) @ apart for seed in range(DRAWS // _CHUNK)])

    def _unseen(self, tree: _Node | _Leaf) -> float:
        """How large a difference may be that shows on none of the items; 0 for scores that are no shares."""
        if not self._are_shares:
            return 0.0
        if isinstance(tree, _Leaf):
            return missed(tree.counts)
        parts = [self._unseen(part) for part in tree.parts]
        return max(parts) if tree.how == "harmonic" else math.hypot(*parts) / len(parts)


def _is_by_case(how: Mapping[str, Any]) -> bool:
    return all(map(_is_by_case, how["parts"])) if "parts" in how else bool(how["by_case"])


def _share(sums: Floats, counts: Floats) -> float:
    return float(sums.sum() / counts.sum()) if counts.any() else math.nan


def _value(tree: _Node | _Leaf, mean: Callable[[_Leaf], Floats]) -> Floats:
    """The tree's value, (draws,), from what ``mean`` makes of each leaf."""
    if isinstance(tree, _Leaf):
        return mean(tree)
    if not tree.parts:
        return np.array([math.nan])
    parts = np.stack([_value(part, mean) for part in tree.parts])
    if tree.how == "mean":
        return np.asarray(parts.mean(axis=0))
    if tree.how == "cases":
        # A draw without any item of a case is a mean of the other cases: with many small cases no draw has all.
        return np.asarray(np.ma.masked_invalid(parts).mean(axis=0).filled(np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        harmonic = len(parts) / (1 / parts).sum(axis=0)
    return np.where((parts <= 0).any(axis=0), 0.0, harmonic)
