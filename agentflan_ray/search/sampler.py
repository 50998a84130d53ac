"""An Optuna sampler for mixtures: what it proposes next is the trial that teaches most about the best mixture for its
cost.

Optuna's own samplers see a box of numbers and trials of one price. This one knows which point of the box is which
mixture, that a trial on a quarter of the data costs a quarter, and that what happens there says much, but not all,
about the whole. It keeps a surrogate of each objective and constraint (:mod:`agentflan_ray.search.laws`), and weighs
each possible trial by the knowledge gradient (Frazier, Powell and Dayanik 2009): by how much would the best expected
loss *at the target fidelity* fall, on average, if this trial's result were known? That per unit of cost is the
cost-aware form for several sources of information of Poloczek, Wang and Frazier (arXiv 1603.00389). Expected
improvement has no answer to what a cheap trial is worth that cannot win itself. The gradient looks one trial ahead and
knows no budget, so a trial below the target may cost no more than all trials before it: whenever the search ends, no
more than half of its price went into the last step up.

A trial that was scored at rungs on its way (:mod:`agentflan_ray.search.promotion`) is evidence there too, at the
fidelity of the part of its data that it had read: what promotion has stopped still teaches.

State: none but the study. The same study, seed and settings give the same proposal, in any process.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr
from scipy.stats import norm, qmc

from agentflan_ray.search.laws import Floats, Points, Surrogate

Parameters = Mapping[str, Any]

_QUANTILES = norm.ppf((np.arange(33) + 0.5) / 33)
"""Outcomes of an observation that the knowledge gradient averages over, in standard deviations."""
_NUM_DRAWS = 512
"""Points of the whole space among which candidates are sought, a power of 2 for the Sobol sequence."""
_NUM_KEPT = 48
"""Of these and of variations of the best, so many with the best means are weighed, so many with the best optimistic
ones (two standard deviations below), and so many at random: the best means alone lie all in one place."""
_ROUNDS = 4
"""Rounds in which the best candidates are varied, with steps that get smaller."""
_FIDELITIES = 4
"""Steps between the lowest and the highest fidelity where its parameter is a number, not a choice."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """What makes a trial cheaper and less telling than the real thing: a fraction of the data, a size of the model.

    Attributes:
        name: A parameter of the space, which the sampler then chooses; or a user attribute of trials, which it reads
            (evidence from a smaller model, added to the study). A trial without it counts as one at the target.
        target: The value at which the best mixture is wanted, above 0. Larger values cost more.
    """

    name: str
    target: float

    def __post_init__(self) -> None:
        if not self.target > 0:
            raise ValueError(f"The target of the fidelity {self.name} must be above 0, but is {self.target}.")


RUNGS = "rungs"
"""User attribute of a trial: what it has shown at each rung before its end, with ``rung``, ``values``, ``deviations``,
``constraints`` and ``constraint_deviations`` as of :meth:`StudySearcher.scores_in`."""

_RUNG = Fidelity("rung", 1.0)
"""What an observation at a rung lacks to one at the end."""


@dataclass(frozen=True)
class Observation:
    """Values that a trial has shown, at its end or at a rung.

    Attributes:
        trial: The trial.
        rung: The part of its data that it had read.
        values: Of the objectives.
        deviations: Their standard errors, as far as they are known; else 0.
        constraints: By how much each is broken.
        constraint_deviations: Their standard errors.
    """

    trial: FrozenTrial
    rung: float
    values: Sequence[float]
    deviations: Sequence[float]
    constraints: Mapping[str, float]
    constraint_deviations: Mapping[str, float]


def observations_of(trial: FrozenTrial) -> list[Observation]:
    """What a trial has shown, rung by rung, the end last; values that are not finite are left out.

    A trial that failed is none: most failures are the machine's, but some are of what it has learnt.
    """
    found = []
    if trial.state != TrialState.FAIL:
        for each in trial.user_attrs.get(RUNGS, []):
            if "values" in each:
                errors = (each["deviations"], each["constraints"], each["constraint_deviations"])
                found.append(Observation(trial, each["rung"], each["values"], *errors))
    if trial.state == TrialState.COMPLETE:
        deviations = trial.user_attrs.get("deviations", [0.0] * len(trial.values))
        limits = trial.user_attrs.get("constraint_deviations", {})
        found.append(Observation(trial, _RUNG.target, trial.values, deviations, trial.constraints, limits))
    return [each for each in found if np.isfinite([*each.values, *each.constraints.values()]).all()]


def share_of_target(fidelities: Sequence[Fidelity]) -> Callable[[Parameters], float]:
    """The usual cost of a trial: the product of its fidelities, each as a share of its target."""

    def cost(parameters: Parameters) -> float:
        return math.prod(float(parameters.get(each.name, each.target)) / each.target for each in fidelities)

    return cost


class MixtureSampler(BaseSampler):  # type: ignore[misc]  # optuna is not checked
    """Proposes mixtures, and the fidelity to try them at.

    Every parameter is modelled: those that make the mixture as the weights they stand for, the others (a learning
    rate, a choice) beside them. Complete trials are evidence, and so is what a trial has shown at rungs, complete,
    pruned or still running. Running trials, and pruned ones without rungs, whose last value is not the objective's,
    count as tried with just the result that was to be expected: nothing is learnt from them, and nothing is proposed
    beside them for the sake of learning. Failed trials are left out, as Optuna's samplers do.

    Several objectives are drawn together by a Chebyshev scalarisation with weights drawn anew for each proposal
    (Knowles 2006): each proposal is after another part of the Pareto front, which a weighted sum cannot reach where
    the front is not convex. Constraints (``trial.set_constraint``) weigh a proposal by the probability that it keeps
    them, and a mean that breaks them is no best mean.

    Args:
        space: The searched parameters.
        mixture: Names of those that make the mixture.
        to_weights: Mixture weights of a trial's parameters, by component; it gets the searched ones.
        fidelities: See :class:`Fidelity`; none where all trials are alike.
        cost: Cost of a trial, from its parameters; :func:`share_of_target` by default.
        parts: User attribute of a trial with the losses, by name, whose mean its only objective is. With it rungs are
            not looked at: they show no parts.
        num_startup: Trials, enqueued mixes among them, before the first proposal that is not from the space-filling
            design; by default one more than there are components, but at most 10.
        seed: Seed of all that is drawn.
        shares: Of trials, by number, whose data has changed since: the share that has not. The rest of such a trial is
            taken to say nothing, so its values get an error, on top of their own, of that part of all values' variance.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        mixture: Sequence[str],
        to_weights: Callable[[Parameters], Mapping[str, float]],
        *,
        fidelities: Sequence[Fidelity] = (),
        cost: Callable[[Parameters], float] | None = None,
        parts: str | None = None,
        num_startup: int | None = None,
        seed: int = 0,
        shares: Mapping[int, float] | None = None,
    ) -> None:
        self._shares = shares or {}
        self._space = _Box(space, mixture, to_weights, (*fidelities, _RUNG))
        self._cost = cost or share_of_target(fidelities)
        self._parts = parts
        self._num_startup = num_startup
        self._seed = seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, from the first trial on."""
        del study, trial
        return dict(self._space.searched)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters of the next trial."""
        if search_space.keys() <= trial.system_attrs.get("fixed_params", {}).keys():
            return {}  # enqueued
        trials = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        evidence = self._evidence(trials)
        known = {each.trial.number for each in evidence}
        pending = [
            other
            for other in trials
            if search_space.keys() <= other.params.keys()
            and (other.state == TrialState.RUNNING or (other.state == TrialState.PRUNED and other.number not in known))
        ]
        rng = np.random.default_rng([self._seed, trial.number])
        needed = self._num_startup
        if needed is None:
            needed = min(10, self._space.num_components + 1)
        # What runs will be known soon; half of the design must be known to go on from.
        tried = _trials_of(evidence) + [other for other in pending if other.number not in known]
        if len(tried) < needed or len(known) < max(2, needed / 2):
            return self._fill(tried, rng)
        return self._propose(study, evidence, pending, rng)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A parameter that the space does not name: drawn at random."""
        seed = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
        return RandomSampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)

    def recommend(self, study: Study) -> dict[str, Any]:
        """The parameters with the smallest expected loss at the target, tried there or not (with several objectives,
        for equal weights).

        Raises:
            ValueError: The study has fewer than two trials to learn from.
        """
        evidence = self._evidence(study.get_trials(deepcopy=False))
        if (num := len(_trials_of(evidence))) < 2:
            raise ValueError(f"A recommendation needs two complete trials, but the study has {num}.")
        rng = np.random.default_rng([self._seed, len(evidence)])
        belief = self._belief(study, evidence, None)
        candidates = self._candidates(belief, evidence, rng)
        best = candidates[int(belief.mean(self._space.points(candidates).at_target()).argmin())]
        return {**best, **self._space.target}

    # ---- within ----------------------------------------------------------------------------------------------------

    def _evidence(self, trials: Sequence[FrozenTrial]) -> list[Observation]:
        """What was observed of trials that have a value for every searched parameter."""
        names = self._space.searched.keys()
        found = [each for trial in trials if names <= trial.params.keys() for each in observations_of(trial)]
        if self._parts is not None:
            found = [each for each in found if each.rung == _RUNG.target]
        return self._doubted(found) if self._shares else found

    def _doubted(self, evidence: Sequence[Observation]) -> list[Observation]:
        """The same with the errors of trials whose data has changed."""
        spreads = np.std([each.values for each in evidence], axis=0) if evidence else []
        found = []
        for each in evidence:
            if (share := self._shares.get(each.trial.number, 1.0)) < 1:
                errors = [
                    math.hypot(error, math.sqrt(1 - share) * spread)
                    for error, spread in zip(each.deviations, spreads, strict=True)
                ]
                each = replace(each, deviations=errors)
            found.append(each)
        return found

    def _fill(self, tried: Sequence[FrozenTrial], rng: np.random.Generator) -> dict[str, Any]:
        """Of some random points, at the lowest fidelity, the one farthest from all that were tried, on the simplex
        (Mitchell's best candidate: the farthest point of all would lie in a corner)."""
        draws = self._space.draw(64, rng)
        if tried:
            known, new = self._space.points([trial.params for trial in tried]), self._space.points(draws)
            chosen = draws[int(_distances(new, known).min(axis=1).argmax())]
        else:
            chosen = draws[0]
        return {**chosen, **self._space.lowest}

    def _propose(
        self, study: Study, evidence: list[Observation], pending: list[FrozenTrial], rng: np.random.Generator
    ) -> dict[str, Any]:
        blend = rng.dirichlet(np.ones(len(study.directions)))
        belief = self._belief(study, evidence, blend)
        candidates = self._candidates(belief, evidence, rng)
        where = self._space.points(candidates)
        means = belief.mean(where)
        order = np.argsort(means, kind="stable")
        hopeful = np.argsort(means - 2 * belief.deviation(where), kind="stable")
        chance = rng.integers(len(candidates), size=_NUM_KEPT)
        kept = np.unique(np.concatenate([order[:_NUM_KEPT], hopeful[:_NUM_KEPT], chance]))
        spent = sum(self._cost(trial.params) for trial in [*_trials_of(evidence), *pending])
        priced = [
            (option, cost)
            for row in kept
            for level in self._space.levels
            if (cost := self._cost(option := {**candidates[row], **level})) <= spent or level == self._space.target
        ]
        options, costs = [option for option, _ in priced], np.array([cost for _, cost in priced])
        points = self._space.points(options)
        worth = belief.worth(where[kept], points, self._space.points_of(pending)) / costs
        if worth.max() <= 0:  # nothing would change what is believed best: try that for real
            return {**candidates[order[0]], **self._space.target}
        return options[int(worth.argmax())]

    def _belief(self, study: Study, evidence: Sequence[Observation], blend: Floats | None) -> Belief:
        points = self._space.points_of_observations(evidence)
        signs = [1.0 if direction == StudyDirection.MINIMIZE else -1.0 for direction in study.directions]
        values = np.array([each.values for each in evidence]) * signs
        deviations = np.array([each.deviations for each in evidence], dtype=np.float64)
        parts = self._parts_of(_trials_of(evidence)) if self._parts is not None and len(signs) == 1 else None
        names = sorted({name for each in evidence for name in each.constraints})
        bounded = [each for each in evidence if all(name in each.constraints for name in names)]
        limits = [
            Surrogate(
                self._space.points_of_observations(bounded),
                np.array([each.constraints[name] for each in bounded]),
                None,
                ("process",),
                np.array([each.constraint_deviations.get(name, 0.0) for each in bounded]),
            )
            for name in names
            if len(bounded) >= 2
        ]
        if parts is not None:
            parts = parts * signs[0]
        objectives = [
            Surrogate(points, column, parts, deviations=errors)
            for column, errors in zip(values.T, deviations.T, strict=True)
        ]
        weights = np.full(len(signs), 1 / len(signs)) if blend is None else blend
        return Belief(objectives, limits, weights, points)

    def _parts_of(self, evidence: Sequence[FrozenTrial]) -> Floats:
        rows: list[Mapping[str, float]] = []
        for trial in evidence:
            found = trial.user_attrs.get(self._parts)
            if not isinstance(found, Mapping) or not found:
                raise ValueError(
                    f"Trial {trial.number} has no user attribute {self._parts!r} with the losses that its objective "
                    "is the mean of; set it in every trial, or give the sampler no parts."
                )
            if rows and found.keys() != rows[0].keys():
                raise ValueError(
                    f"Trial {trial.number} has the parts {sorted(found)}, but the trials before it "
                    f"{sorted(rows[0])}; report the same in every trial."
                )
            mean = sum(found.values()) / len(found)
            if not math.isclose(mean, trial.value, rel_tol=1e-6, abs_tol=1e-9):
                raise ValueError(
                    f"The objective of trial {trial.number} is {trial.value}, but the mean of its {self._parts!r} is "
                    f"{mean}; give the sampler parts only where the objective is their mean."
                )
            rows.append(found)
        return np.array([[row[name] for name in sorted(row)] for row in rows], dtype=np.float64)

    def _candidates(
        self, belief: Belief, evidence: Sequence[Observation], rng: np.random.Generator
    ) -> list[dict[str, Any]]:
        """Points of the space: what was tried, draws from everywhere, and variations of the best of them."""
        found = [dict(trial.params) for trial in _trials_of(evidence)] + self._space.draw(_NUM_DRAWS, rng)
        means = belief.mean(self._space.points(found))
        for step in 0.3 * 0.4 ** np.arange(_ROUNDS):
            best = np.argsort(means, kind="stable")[:16]
            fresh = [self._space.vary(found[row], float(step), rng) for row in np.repeat(best, 8)]
            found += fresh
            means = np.concatenate([means, belief.mean(self._space.points(fresh))])
        return found


class Belief:
    """What is believed about all objectives and constraints, drawn together into one loss.

    Args:
        objectives: A surrogate of each, to be minimised.
        limits: A surrogate of each constraint, kept where it is at most 0.
        blend: Weights of the objectives, summing to 1.
        points: The trials, for the scale of each objective.
    """

    def __init__(
        self,
        objectives: Sequence[Surrogate],
        limits: Sequence[Surrogate],
        blend: Floats,
        points: Points,
    ) -> None:
        self._objectives = objectives
        self._limits = limits
        self._blend = blend
        expected = np.stack([surrogate.mean(points) for surrogate in objectives], axis=1)
        self._ideal = expected.min(axis=0)
        self._span = np.maximum(np.ptp(expected, axis=0), 1e-12)
        self._penalty = 1.0 if len(objectives) > 1 else float(self._span[0])

    def feasible(self, points: Points) -> Floats:
        """Probability that all constraints are kept at the target, taken as independent, (n,)."""
        kept = np.ones(len(points))
        for limit in self._limits:
            kept *= ndtr(-limit.mean(points) / limit.deviation(points))
        return kept

    def mean(self, points: Points) -> Floats:
        """The expected loss of all objectives together, with a penalty for what likely breaks a constraint, (n,)."""
        means = np.stack([surrogate.mean(points) for surrogate in self._objectives], axis=1)
        return self._together(means)[0] + self._penalty * (1 - self.feasible(points))

    def deviation(self, points: Points) -> Floats:
        """About how uncertain that is, (n,): the objectives as independent, constraints left aside."""
        shares = self._together(np.stack([surrogate.mean(points) for surrogate in self._objectives], axis=1))[1]
        deviations = np.stack([surrogate.deviation(points) for surrogate in self._objectives], axis=1)
        return np.asarray(np.sqrt(((shares * deviations) ** 2).sum(axis=1)), dtype=np.float64)

    def worth(self, targets: Points, options: Points, pending: Points) -> Floats:
        """The knowledge gradient of each option: the expected fall of the best mean of the targets, (options,)."""
        gains = [surrogate.gains(targets, options, pending) for surrogate in self._objectives]
        means, shares = self._together(np.stack([gain.means for gain in gains], axis=1))
        shifts = sum(share * gain.shifts for share, gain in zip(shares.T, gains, strict=True))
        kept = self.feasible(options.at_target())
        means = means + self._penalty * (1 - self.feasible(targets))
        return knowledge_gradient(means, np.asarray(shifts)) * np.maximum(kept, 1e-6)

    def _together(self, means: Floats) -> tuple[Floats, Floats]:
        """The scalarised loss, (n,), and how much it follows each objective, (n, objectives)."""
        if means.shape[1] == 1:
            return means[:, 0], np.ones_like(means)
        scaled = self._blend * (means - self._ideal) / self._span
        leading = np.equal.outer(scaled.argmax(axis=1), np.arange(means.shape[1]))
        # The small sum keeps points apart that are equal in the leading objective (Knowles 2006).
        shares = (leading + 0.05) * self._blend / self._span
        return scaled.max(axis=1) + 0.05 * scaled.sum(axis=1), shares


def knowledge_gradient(means: Floats, shifts: Floats) -> Floats:
    """Expected fall of the smallest mean for each possible observation, (options,).

    Args:
        means: (targets,) now.
        shifts: (options, targets) for an observation one standard deviation above what is expected.
    """
    now = means.min()
    falls = np.zeros(len(shifts))
    for quantile in _QUANTILES:
        falls += now - (means + quantile * shifts).min(axis=1)
    return falls / len(_QUANTILES)


class _Box:
    """The searched parameters: as Optuna has them, in a unit box, and as points of the surrogates."""

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        mixture: Sequence[str],
        to_weights: Callable[[Parameters], Mapping[str, float]],
        fidelities: Sequence[Fidelity],
    ) -> None:
        self.searched = dict(space)
        self._to_weights = to_weights
        self._fidelities = tuple(fidelities)
        chosen = [each.name for each in fidelities if each.name in space]
        if unknown := [name for name in mixture if name not in space or name in chosen]:
            raise ValueError(f"{unknown[0]} cannot make the mixture: it is no searched parameter, or a fidelity.")
        self._free = {name: kind for name, kind in space.items() if name not in chosen}
        self._others = {name: kind for name, kind in self._free.items() if name not in mixture}
        steps = [_steps(name, space[name]) for name in chosen]
        self.levels = [dict(zip(chosen, values, strict=True)) for values in itertools.product(*steps)]
        self.lowest = dict(zip(chosen, (min(values) for values in steps), strict=True))
        self.target = {each.name: each.target for each in fidelities if each.name in space}
        for name, values in zip(chosen, steps, strict=True):
            if self.target[name] not in values:
                raise ValueError(f"The target {self.target[name]} of {name} is not among its values {values}.")
        self.num_components = len(to_weights(self._point(np.full(len(self._free), 0.5))))

    def draw(self, num: int, rng: np.random.Generator) -> list[dict[str, Any]]:
        """Points spread over the space, without fidelities; ``num`` is a power of 2."""
        if not self._free:
            return [{}]
        return [self._point(row) for row in qmc.Sobol(len(self._free), rng=rng).random(num)]

    def vary(self, point: Parameters, step: float, rng: np.random.Generator) -> dict[str, Any]:
        """The point with some parameters moved by about so much of their range."""
        moved = rng.random(len(self._free)) < min(1.0, 5 / max(1, len(self._free)))
        place = np.array([_to_unit(kind, point[name]) for name, kind in self._free.items()])
        place = np.clip(place + moved * step * rng.standard_normal(len(place)), 0, 1)
        fresh = self._point(place)
        for name, kind in self._free.items():
            if isinstance(kind, CategoricalDistribution):
                fresh[name] = kind.choices[rng.integers(len(kind.choices))] if rng.random() < step else point[name]
        return fresh

    def points(self, parameters: Sequence[Parameters], attributes: Sequence[Parameters] | None = None) -> Points:
        """Points of the surrogates; a fidelity that is neither a parameter nor an attribute is at its target."""
        weights = np.array([list(self._to_weights(each).values()) for each in parameters], dtype=np.float64)
        others = [
            [part for name, kind in self._others.items() for part in _encode(kind, each[name])] for each in parameters
        ]
        known = [{**more, **each} for each, more in zip(parameters, attributes or [{}] * len(parameters), strict=True)]
        fidelity = [
            [math.log(float(each.get(level.name, level.target)) / level.target) for level in self._fidelities]
            for each in known
        ]
        num = len(parameters)
        return Points(
            weights.reshape(num, self.num_components),
            np.array(others, dtype=np.float64).reshape(num, -1 if num and self._others else 0),
            np.array(fidelity, dtype=np.float64).reshape(num, len(self._fidelities)),
        )

    def points_of(self, trials: Sequence[FrozenTrial]) -> Points:
        """Where trials end."""
        return self.points([trial.params for trial in trials], [trial.user_attrs for trial in trials])

    def points_of_observations(self, observations: Sequence[Observation]) -> Points:
        """Where observations were made."""
        return self.points(
            [each.trial.params for each in observations],
            [{**each.trial.user_attrs, _RUNG.name: each.rung} for each in observations],
        )

    def _point(self, place: Floats) -> dict[str, Any]:
        return {
            name: _from_unit(kind, float(each)) for (name, kind), each in zip(self._free.items(), place, strict=True)
        }


def _trials_of(observations: Sequence[Observation]) -> list[FrozenTrial]:
    """The trials of observations, each once, in their order."""
    return list({each.trial.number: each.trial for each in observations}.values())


def _steps(name: str, kind: BaseDistribution) -> list[float]:
    """The values of a fidelity that are proposed."""
    if isinstance(kind, CategoricalDistribution):
        values = list(kind.choices)
    else:
        values = sorted({_from_unit(kind, unit) for unit in np.linspace(0, 1, _FIDELITIES)})
    if not all(isinstance(value, int | float) and value > 0 for value in values):
        raise ValueError(f"The values of the fidelity {name} must be numbers above 0, but are {values}.")
    return [float(value) for value in values]


def _to_unit(kind: BaseDistribution, value: Any) -> float:
    """A value as a place in [0, 1]; of a choice, the middle of its part."""
    if isinstance(kind, CategoricalDistribution):
        return float((kind.choices.index(value) + 0.5) / len(kind.choices))
    ends = (kind.low, kind.high, value)
    low, high, at = (math.log(each) if kind.log else float(each) for each in ends)
    place: float = (at - low) / (high - low) if high > low else 0.5
    return place


def _from_unit(kind: BaseDistribution, place: float) -> Any:
    if isinstance(kind, CategoricalDistribution):
        return kind.choices[min(int(place * len(kind.choices)), len(kind.choices) - 1)]
    if kind.log:
        value = math.exp(math.log(kind.low) + place * (math.log(kind.high) - math.log(kind.low)))
    else:
        value = kind.low + place * (kind.high - kind.low)
    if kind.step is not None and not kind.log:
        value = kind.low + round((value - kind.low) / kind.step) * kind.step
    value = min(max(value, kind.low), kind.high)
    return round(value) if isinstance(kind, IntDistribution) else float(value)


def _encode(kind: BaseDistribution, value: Any) -> list[float]:
    """Coordinates of a parameter that is no weight: its place in [0, 1], or one for each choice."""
    if isinstance(kind, CategoricalDistribution):
        return [float(value == choice) / math.sqrt(2) for choice in kind.choices]
    return [_to_unit(kind, value)]


def _distances(first: Points, second: Points) -> Floats:
    """Distances for the space-filling design: Hellinger on the simplex and Euclidean beside it."""
    weights = 2 - 2 * np.sqrt(first.weights) @ np.sqrt(second.weights).T
    others = ((first.others[:, None] - second.others[None]) ** 2).sum(axis=2)
    return np.asarray(np.sqrt(np.maximum(weights + others, 0.0)), dtype=np.float64)
