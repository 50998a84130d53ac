"""What a search is after, as a user writes it: objectives, weighted sums and constraints, read without any ``eval``.

- ``score:max`` or ``false_call_rate:min``: an objective. Several make a Pareto set.
- ``score=1,false_call_rate=-0.5``: a weighted sum of metrics, to be as large as possible. Its value stands in each
  trial's report as ``weighted_score``.
- ``missed_call_rate<=0.4``: a constraint. ``sensible_rate>=base-0.05`` is relative to the model before training.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from agentflan_ray.evaluate.measures import MEASURES, WEIGHTED
from agentflan_ray.search.searcher import Constraint, Objective

_UNSIGNED = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER = rf"[-+]?{_UNSIGNED}"
_OBJECTIVE = re.compile(r"\s*([^\s:=<>]+)\s*:\s*(max|min)\s*")
_WEIGHT = re.compile(rf"\s*([^\s:=<>]+)\s*=\s*({_NUMBER})\s*")
_CONSTRAINT = re.compile(rf"\s*([^\s:=<>]+)\s*(<=|>=)\s*(?:(base)\s*([-+]\s*{_UNSIGNED})?|({_NUMBER}))\s*")


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound on a metric: ``number`` itself, or that much above the base model's value (below it where negative)."""

    metric: str
    sign: Literal["<=", ">="]
    number: float
    is_relative: bool = False

    def __str__(self) -> str:
        if not self.is_relative:
            return f"{self.metric} {self.sign} {self.number:g}"
        return f"{self.metric} {self.sign} base" + (f" {self.number:+g}" if self.number else "")

    def resolve(self, base: Mapping[str, float]) -> Constraint:
        """The constraint in numbers, rounded to four digits; ``base`` are the metrics of the base model."""
        limit = round(self.number + base[self.metric], 4) if self.is_relative else self.number
        if self.sign == "<=":
            return Constraint(self.metric, at_most=limit)
        return Constraint(self.metric, at_least=limit)


def parse_objectives(texts: Sequence[str]) -> tuple[tuple[Objective, ...], tuple[tuple[str, float], ...]]:
    """Objectives, and the weights of the weighted sum among them (empty where there is none).

    Raises:
        ValueError: A text is neither ``NAME:max|min`` nor ``NAME=WEIGHT,...``, or there are two weighted sums.
    """
    objectives: list[Objective] = []
    weights: dict[str, float] = {}
    for text in texts:
        if match := _OBJECTIVE.fullmatch(text):
            objectives.append(Objective(match[1], "max" if match[2] == "max" else "min"))
            continue
        terms = [_WEIGHT.fullmatch(term) for term in text.split(",")]
        if not all(terms):
            raise ValueError(
                f"The objective {text!r} can't be read; write NAME:max, NAME:min, or a weighted sum such as "
                "score=1,false_call_rate=-0.5."
            )
        if weights:
            raise ValueError(f"{text!r} is a second weighted sum; one search has one, so write all terms into one.")
        for term in terms:
            assert term is not None
            if term[1] in weights:
                raise ValueError(f"The weighted sum {text!r} names {term[1]} twice; name each metric once.")
            weights[term[1]] = float(term[2])
        objectives.append(Objective(WEIGHTED, "max"))
    return tuple(objectives), tuple(weights.items())


def parse_bound(text: str) -> Bound:
    """A constraint as written: ``missed_call_rate<=0.4``, ``sensible_rate>=base-0.05``.

    Raises:
        ValueError: It can't be read.
    """
    match = _CONSTRAINT.fullmatch(text)
    if match is None:
        raise ValueError(
            f"The constraint {text!r} can't be read; write NAME<=NUMBER or NAME>=NUMBER, or with base, base+NUMBER or "
            "base-NUMBER in the number's place."
        )
    name, sign, base, offset, number = match.groups()
    value = float((offset or "0").replace(" ", "")) if base else float(number)
    return Bound(name, "<=" if sign == "<=" else ">=", value, is_relative=bool(base))


def check_names(
    objectives: Sequence[Objective],
    weights: Sequence[tuple[str, float]],
    bounds: Sequence[Bound],
    cases: Collection[str],
    trained: Collection[str],
) -> None:
    """See that every metric will stand in a complete report, before the first trial is paid for.

    Args:
        objectives: What is searched for.
        weights: Terms of the weighted sum.
        bounds: The constraints.
        cases: Cases of the items that choose.
        trained: Metrics that training reports at its end.

    Raises:
        ValueError: A name that no report has, or whose value the chosen items can't give; a bound relative to the base
            model on a metric of training, which the base model has none of.
    """
    evaluated = [*MEASURES, *([WEIGHTED] if weights else [])]
    known = [*evaluated, *trained]
    wanted = [("objective", each.metric, known) for each in objectives]
    wanted += [("constraint", each.metric, evaluated if each.is_relative else known) for each in bounds]
    wanted += [("term of the weighted sum", name, list(MEASURES)) for name, _ in weights]
    for what, name, names in wanted:
        if name not in names:
            relative = " relative to the base model" if what == "constraint" and names is evaluated else ""
            raise ValueError(f"The {what} {name!r}{relative} is in no report; there are {', '.join(names)}.")
        if name in MEASURES and not MEASURES[name].is_measured_on(cases):
            raise ValueError(
                f"The {what} {name!r} can't be measured on the items that choose, which are of the cases "
                f"{', '.join(sorted(cases))} only; ask for more in choose_items."
            )
