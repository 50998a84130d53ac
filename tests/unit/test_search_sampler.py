"""What the mixture sampler proposes, on made-up losses whose best mixture is known."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from agentflan_ray.search.laws import Floats, Points, Surrogate
from agentflan_ray.search.sampler import Belief, Fidelity, MixtureSampler, knowledge_gradient, observations_of
from agentflan_ray.search.space import MIXTURE_PARAMETERS, Space, to_weights

RATIOS = ("a", "b", "c")
BOX: dict[str, BaseDistribution] = {name: FloatDistribution(-4.0, 4.0) for name in RATIOS}
FRACTION = {"fraction": CategoricalDistribution((0.25, 0.5, 1.0))}
BEST = np.array([0.45, 0.25, 0.2, 0.1])


def weights(parameters: Mapping[str, Any]) -> dict[str, float]:
    """Four components; the box has log2 of three of them over the first."""
    ratios = [1.0] + [2.0 ** parameters[name] for name in RATIOS]
    return {str(i): ratio / sum(ratios) for i, ratio in enumerate(ratios)}


def array(parameters: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(list(weights(parameters).values()))


def loss(parameters: Mapping[str, Any]) -> float:
    """1 at its best mixture; 1.3 for the median random one."""
    return float(1 + 1.5 * ((np.sqrt(array(parameters)) - np.sqrt(BEST)) ** 2).sum())


def make(box: Mapping[str, BaseDistribution] | None = None, seed: int = 0, **more: Any) -> MixtureSampler:
    if "fidelities" not in more and "fraction" in (box or {}):
        more["fidelities"] = [Fidelity("fraction", 1.0)]
    return MixtureSampler(BOX if box is None else box, RATIOS, weights, seed=seed, **more)


def search(
    sampler: optuna.samplers.BaseSampler,
    objective: Callable[[Mapping[str, Any]], float | list[float]],
    num: int,
    box: Mapping[str, BaseDistribution] | None = None,
    directions: tuple[str, ...] = ("minimize",),
) -> optuna.Study:
    study = optuna.create_study(sampler=sampler, directions=directions)
    for _ in range(num):
        trial = study.ask(dict(BOX if box is None else box))
        study.tell(trial, objective(trial.params))
    return study


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_beats_random_search_three_times_over(seed: int) -> None:
    noise = np.random.default_rng(seed)

    def noisy(parameters: Mapping[str, Any]) -> float:
        return loss(parameters) + float(noise.normal(0, 0.005))

    sampler = make(seed=seed)
    study = search(sampler, noisy, 20)
    random = search(optuna.samplers.RandomSampler(seed=seed), noisy, 20)
    regret, regret_of_random = loss(sampler.recommend(study)) - 1, loss(random.best_params) - 1
    assert regret < 0.01
    assert regret < regret_of_random / 3


def test_cheap_trials_come_first_and_find_the_best_of_the_dear_ones() -> None:
    """A quarter of the data costs a quarter and ranks mixtures almost as all of it does."""
    box = BOX | FRACTION

    def staged(parameters: Mapping[str, Any]) -> float:
        fraction = float(parameters["fraction"])
        tilt = 0.02 * (1 - fraction) * array(parameters)[1]
        return float(loss(parameters) * fraction**-0.2 + tilt)

    sampler = make(box, seed=1)
    study = search(sampler, staged, 24, box)
    fractions = [trial.params["fraction"] for trial in study.trials]
    assert set(fractions[:5]) == {0.25}, "the design that fills the simplex"
    assert np.mean(np.array(fractions) == 0.25) > 0.5
    chosen = sampler.recommend(study)
    assert chosen["fraction"] == 1.0
    assert loss(chosen) - 1 < 0.01


def test_no_proxy_costs_more_than_all_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much a trial of the second size is worth, it waits until as much has been spent on the first."""

    def worth(self: Belief, targets: Points, options: Points, pending: Points) -> Floats:
        return np.where(np.isclose(options.fidelity[:, 0], math.log(0.03)), 1.0, 1e-9)

    monkeypatch.setattr(Belief, "worth", worth)
    box = BOX | {"size": CategoricalDistribution((0.004, 0.03, 1.0))}
    sampler = MixtureSampler(box, RATIOS, weights, fidelities=[Fidelity("size", 1.0)])
    study = search(sampler, loss, 11, box)
    assert [trial.params["size"] for trial in study.trials] == [0.004] * 8 + [0.03] * 3


def test_cheap_trials_that_say_nothing_are_given_up() -> None:
    """At a quarter of the data the losses have nothing to do with those at the whole, and the study has seen it."""
    box = BOX | FRACTION
    rng = np.random.default_rng(3)
    sampler = make(box, seed=2)
    study = optuna.create_study(sampler=sampler)
    for number in range(24):
        parameters = {name: float(rng.uniform(-4, 4)) for name in RATIOS} | {"fraction": (0.25, 1.0)[number % 2]}
        value = loss(parameters) if number % 2 else float(rng.normal(1.3, 0.1))
        study.add_trial(create_trial(params=parameters, distributions=box, value=value))
    for _ in range(4):
        trial = study.ask(box)
        assert trial.params["fraction"] > 0.25
        study.tell(trial, loss(trial.params) if trial.params["fraction"] == 1.0 else 1.3)


def test_a_dear_trial_must_be_worth_its_price() -> None:
    """The same study; only what the whole costs differs."""
    box = BOX | FRACTION

    def choose(price: float) -> float:
        sampler = make(box, seed=4, cost=lambda parameters: 1.0 if parameters["fraction"] < 1 else price)
        study = optuna.create_study(sampler=sampler)
        rng = np.random.default_rng(5)
        for number in range(16):
            parameters = {name: float(rng.uniform(-4, 4)) for name in RATIOS} | {"fraction": (0.25, 1.0)[number % 2]}
            study.add_trial(create_trial(params=parameters, distributions=box, value=loss(parameters)))
        return float(study.ask(box).params["fraction"])

    assert choose(1.0) == 1.0
    assert choose(1000.0) < 1.0


def test_running_trials_push_the_next_proposals_elsewhere() -> None:
    study = search(make(seed=6), lambda parameters: loss(parameters) + 0.01 * math.sin(50 * parameters["a"]), 10)
    batch = [study.ask(BOX).params for _ in range(4)]
    mixes = np.array([array(parameters) for parameters in batch])
    apart = np.abs(mixes[:, None] - mixes[None]).sum(axis=2)[np.triu_indices(4, 1)]
    assert apart.min() > 0.005


def test_a_sampler_made_anew_goes_on_the_same(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=url, study_name="mixes", sampler=make(seed=7))
    for _ in range(8):
        trial = study.ask(BOX)
        study.tell(trial, loss(trial.params))
    expected = study.ask(BOX)
    study.tell(expected, state=TrialState.FAIL)
    fresh = optuna.load_study(storage=url, study_name="mixes", sampler=make(seed=7))
    again = optuna.create_study(sampler=make(seed=7))
    for trial in fresh.get_trials()[:8]:
        again.add_trial(trial)
    assert again.ask(BOX).params == expected.params
    assert fresh.ask(BOX).params == study.sampler.sample_relative(study, study.trials[-1], BOX), "the same at trial 9"
    other = optuna.create_study(sampler=make(seed=8))
    for trial in fresh.get_trials()[:8]:
        other.add_trial(trial)
    assert other.ask(BOX).params != expected.params


def test_constraints_steer() -> None:
    """The best mixture has 0.45 of the first component, but at most 0.3 is allowed."""
    sampler = make(seed=9)
    study = optuna.create_study(sampler=sampler)
    for _ in range(24):
        trial = study.ask(BOX)
        trial.set_constraint("first <= 0.3", float(array(trial.params)[0]) - 0.3)
        study.tell(trial, loss(trial.params))
    late = np.array([array(trial.params)[0] for trial in study.trials[12:]])
    assert np.mean(late <= 0.32) > 0.7
    chosen = sampler.recommend(study)
    assert array(chosen)[0] < 0.32
    bounded = min(1 + 1.5 * ((np.sqrt(mix) - np.sqrt(BEST)) ** 2).sum() for mix in _allowed())
    assert loss(chosen) < bounded + 0.02


def _allowed() -> np.ndarray[Any, np.dtype[np.float64]]:
    mixes = np.random.default_rng(0).dirichlet(np.ones(4), 20_000)
    return mixes[mixes[:, 0] <= 0.3]


def test_two_objectives_give_a_front() -> None:
    """Each objective wants another component; the front lies between, and every part of it is found."""

    def two(parameters: Mapping[str, Any]) -> list[float]:
        mix = array(parameters)
        return [float(np.exp(-3 * mix[0])), float(-np.sqrt(mix[1]))]

    directions = ("minimize", "minimize")
    study = search(make(seed=10), two, 20, directions=directions)
    random = search(optuna.samplers.RandomSampler(seed=10), two, 20, directions=directions)
    reference = np.array([1.0, 0.0])
    volumes = [_volume(np.array([trial.values for trial in each.best_trials]), reference) for each in (study, random)]
    assert volumes[0] > 1.1 * volumes[1]
    shares = [array(trial.params)[0] for trial in study.best_trials]
    assert min(shares) < 0.25
    assert max(shares) > 0.6


def _volume(front: np.ndarray[Any, np.dtype[np.float64]], reference: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    area, height = 0.0, reference[1]
    for first, second in front[np.argsort(front[:, 0])]:
        area += (reference[0] - first) * max(0.0, height - second)
        height = min(height, second)
    return float(area)


def test_a_score_to_be_maximised_is() -> None:
    sampler = make(seed=11)
    study = search(sampler, lambda parameters: -loss(parameters), 18, directions=("maximize",))
    assert loss(sampler.recommend(study)) - 1 < 0.015


def test_other_parameters_are_searched_too() -> None:
    """A learning rate, a number of epochs and a choice, beside the mixture."""
    box = BOX | {
        "rate": FloatDistribution(1e-6, 1e-3, log=True),
        "epochs": IntDistribution(1, 5),
        "form": CategoricalDistribution(("chat", "react")),
    }

    def objective(parameters: Mapping[str, Any]) -> float:
        rate = 0.1 * (math.log10(float(parameters["rate"])) + 4.5) ** 2
        return (
            loss(parameters)
            + rate
            + 0.02 * abs(int(parameters["epochs"]) - 3)
            + 0.1 * float(parameters["form"] == "chat")
        )

    sampler = make(box, seed=12)
    study = search(sampler, objective, 24, box)
    chosen = sampler.recommend(study)
    assert chosen["form"] == "react"
    assert chosen["epochs"] == 3
    assert abs(math.log10(chosen["rate"]) + 4.5) < 0.4
    assert objective(chosen) < 1.06
    assert min(trial.value for trial in study.trials) < 1.1


def test_failed_pruned_infinite_and_foreign_trials_do_no_harm() -> None:
    sampler = make(seed=13)
    study = search(sampler, loss, 12)
    rng = np.random.default_rng(14)
    for state in (TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE, TrialState.COMPLETE):
        parameters = {name: float(rng.uniform(-4, 4)) for name in RATIOS}
        study.add_trial(
            create_trial(
                params=parameters,
                distributions=BOX,
                state=state,
                value=math.inf if state == TrialState.COMPLETE else None,
                intermediate_values={1: 0.0} if state == TrialState.PRUNED else {},
            )
        )
    study.add_trial(create_trial(params={"a": 0.0}, distributions={"a": BOX["a"]}, value=-5.0))
    trial = study.ask(BOX)
    assert set(trial.params) == set(BOX)
    with pytest.warns(UserWarning, match="nan is not acceptable"):
        study.tell(trial, math.nan)
    assert study.trials[-1].state == TrialState.FAIL
    for _ in range(6):
        trial = study.ask(BOX)
        study.tell(trial, loss(trial.params))
    assert loss(sampler.recommend(study)) - 1 < 0.02


def test_a_failed_trial_leaves_the_search_as_it_was() -> None:
    study = search(make(seed=15), loss, 10)
    failed = study.ask(BOX)
    study.tell(failed, state=TrialState.FAIL)
    plain = optuna.create_study(sampler=make(seed=15))
    for trial in study.trials[:10]:
        plain.add_trial(trial)
    plain.add_trial(create_trial(params={}, distributions={}, state=TrialState.FAIL))
    assert plain.ask(BOX).params == study.ask(BOX).params


def test_parts_whose_mean_is_the_objective_are_used_and_checked() -> None:
    def parts(parameters: Mapping[str, Any]) -> dict[str, float]:
        return {str(i): float(1 + math.exp(-6 * share)) for i, share in enumerate(array(parameters))}

    def run(with_parts: bool) -> float:
        sampler = make(seed=16, parts="losses" if with_parts else None)
        study = optuna.create_study(sampler=sampler)
        for _ in range(12):
            trial = study.ask(BOX)
            trial.set_user_attr("losses", parts(trial.params))
            study.tell(trial, float(np.mean(list(parts(trial.params).values()))))
        found = sampler.recommend(study)
        return float(np.mean(list(parts(found).values())) - 1 - math.exp(-1.5))

    assert run(True) < 0.003

    study = search(make(seed=16, parts="losses"), loss, 5)
    with pytest.raises(ValueError, match="Trial 0 has no user attribute 'losses'"):
        study.ask(BOX)
    wrong = optuna.create_study(sampler=make(seed=16, parts="losses"))
    for trial in study.trials:
        trial.user_attrs["losses"] = {"x": 1.0, "y": 3.0}
        wrong.add_trial(trial)
    with pytest.raises(ValueError, match="but the mean of its 'losses' is 2"):
        wrong.ask(BOX)


def test_evidence_of_a_smaller_model_is_read_from_user_attributes() -> None:
    """Trials of a model of a tenth of the size, added to the study, say where the best mixture is."""
    fidelities = [Fidelity("parameters", 7e9)]
    sampler = make(seed=17, fidelities=fidelities)
    study = optuna.create_study(sampler=sampler)
    rng = np.random.default_rng(18)
    for _ in range(40):
        parameters = {name: float(rng.uniform(-4, 4)) for name in RATIOS}
        study.add_trial(
            create_trial(
                params=parameters, distributions=BOX, value=2 * loss(parameters), user_attrs={"parameters": 7e8}
            )
        )
    assert set(study.ask(BOX).params) == set(BOX), "the size of the model is not searched"
    assert loss(sampler.recommend(study)) < 1.03


def test_it_searches_the_space_of_the_project() -> None:
    space = Space(learning_rate=None)
    sampler = MixtureSampler(
        space.distributions(), MIXTURE_PARAMETERS, to_weights, fidelities=[Fidelity("fraction", 1.0)], seed=19
    )
    study = optuna.create_study(sampler=sampler)
    for number in range(12):
        if number == 0:
            study.enqueue_trial(dict.fromkeys(MIXTURE_PARAMETERS, 0.2) | {"fraction": 1.0})
        trial = study.ask()
        parameters = space.suggest(trial)
        if number == 0:
            assert parameters["fraction"] == 1.0
        mix = to_weights(parameters)
        study.tell(trial, (mix["negative"] - 0.1) ** 2 + (mix["general"] - 0.4) ** 2 + 0.1 / parameters["fraction"])
    chosen = to_weights(sampler.recommend(study))
    assert chosen["negative"] == pytest.approx(0.1, abs=0.08)
    assert chosen["general"] == pytest.approx(0.4, abs=0.12)


def test_the_knowledge_gradient_is_what_the_best_mean_falls_by() -> None:
    """Of two equal means of which one may move by a standard deviation of 1: E[min(0, z)] = -1 / sqrt(2 pi)."""
    found = knowledge_gradient(np.zeros(2), np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))
    assert found == pytest.approx([1 / math.sqrt(2 * math.pi), 0.0, 0.0], abs=0.01)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"mixture": ("a", "x")}, "x cannot make the mixture"),
        ({"fidelities": [Fidelity("fraction", 0.8)]}, "The target 0.8 of fraction is not among its values"),
        ({"fidelities": [Fidelity("form", 1.0)]}, "The values of the fidelity form must be numbers above 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(more: dict[str, Any], sentence: str) -> None:
    box = BOX | FRACTION | {"form": CategoricalDistribution(("chat", "react"))}
    with pytest.raises(ValueError, match=sentence):
        MixtureSampler(box, more.get("mixture", RATIOS), weights, fidelities=more.get("fidelities", ()))


def test_a_target_must_be_above_nothing() -> None:
    with pytest.raises(ValueError, match="must be above 0, but is 0"):
        Fidelity("fraction", 0.0)


def test_nothing_can_be_recommended_of_an_empty_study() -> None:
    with pytest.raises(ValueError, match="needs two complete trials"):
        make().recommend(optuna.create_study())


@pytest.mark.slow
def test_a_proposal_takes_less_than_a_second_of_a_core_up_to_300_trials() -> None:
    box = BOX | FRACTION
    sampler = make(box, seed=20)
    study = optuna.create_study(sampler=sampler)
    rng = np.random.default_rng(21)
    for _ in range(300):
        parameters = {name: float(rng.uniform(-4, 4)) for name in RATIOS} | {"fraction": float(rng.choice([0.25, 1.0]))}
        study.add_trial(create_trial(params=parameters, distributions=box, value=loss(parameters)))
    began = time.process_time()
    study.ask(box)
    assert time.process_time() - began < 1.0


def rung(at: float, value: float, error: float = 0.02) -> dict[str, Any]:
    return {"rung": at, "values": [value], "deviations": [error], "constraints": {}, "constraint_deviations": {}}


def promoted(sampler: MixtureSampler, num: int, seed: int, *, keeps_rungs: bool) -> optuna.Study:
    """A search in which each trial shows its loss at a quarter of its data, and the worse half is stopped there."""
    study = optuna.create_study(sampler=sampler)
    rng = np.random.default_rng(seed)
    seen: list[float] = []
    for _ in range(num):
        trial = study.ask(dict(BOX))
        seen.append(1.3 * loss(trial.params) + 0.1 + float(rng.normal(0, 0.02)))
        if keeps_rungs:
            trial.set_user_attr("rungs", [rung(0.25, seen[-1])])
        if len(seen) > 3 and seen[-1] > np.median(seen):
            study.tell(trial, state=TrialState.PRUNED)
        else:
            trial.set_user_attr("deviations", [0.02])
            study.tell(trial, loss(trial.params) + float(rng.normal(0, 0.02)))
    return study


@pytest.mark.slow
def test_what_was_stopped_at_a_rung_still_teaches() -> None:
    """Mean regret over five searches of 14 trials, half of them stopped; the median random mixture's is 0.3."""

    def regret(keeps_rungs: bool) -> float:
        regrets = []
        for seed in range(5):
            sampler = make(seed=seed)
            study = promoted(sampler, 14, seed, keeps_rungs=keeps_rungs)
            regrets.append(loss(sampler.recommend(study)) - 1)
        return float(np.mean(regrets))

    with_rungs, without = regret(True), regret(False)
    assert with_rungs < 0.02
    assert with_rungs < 0.6 * without


def test_a_trial_counts_once_however_many_rungs_it_has_shown() -> None:
    """Of five trials that the start takes, two with two rungs each are two: the simplex is still being filled."""
    rng = np.random.default_rng(1)
    tried = [{name: float(rng.uniform(-4, 4)) for name in RATIOS} for _ in range(5)]

    def next_after(num: int, rungs: bool) -> dict[str, Any]:
        study = optuna.create_study(sampler=make(seed=7, num_startup=5))
        for parameters in tried[:num]:
            shown = [rung(0.25, 1.3 * loss(parameters)), rung(0.5, 1.1 * loss(parameters))] if rungs else []
            attributes = {"rungs": shown}
            study.add_trial(
                create_trial(params=parameters, distributions=BOX, state=TrialState.PRUNED, user_attrs=attributes)
            )
        return dict(study.ask(dict(BOX)).params)

    assert next_after(2, rungs=True) == next_after(2, rungs=False)
    assert next_after(5, rungs=True) != next_after(5, rungs=False)


def test_only_finite_values_of_trials_that_did_not_fail_are_observed() -> None:
    attributes = {"rungs": [rung(0.25, 1.0), rung(0.5, math.nan), {"rung": 0.75, "losses": {}}]}
    parameters = dict.fromkeys(RATIOS, 0.0)
    more: dict[str, Any] = {"params": parameters, "distributions": BOX, "user_attrs": attributes}
    assert [each.rung for each in observations_of(create_trial(value=1.0, **more))] == [0.25, 1.0]
    assert observations_of(create_trial(state=TrialState.FAIL, **more)) == []


def test_known_errors_make_a_better_surrogate() -> None:
    """Half of 40 losses are sure, half are noise; told which, the surrogate errs by half."""
    errors = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        weights_of = rng.dirichlet(np.ones(4), 240)
        truth = 1 + 1.5 * ((np.sqrt(weights_of) - np.sqrt(BEST)) ** 2).sum(axis=1)
        points = Points(weights_of, np.zeros((240, 0)), np.zeros((240, 1)))
        deviations = np.where(np.arange(40) % 2, 0.3, 0.003)
        seen = truth[:40] + deviations * rng.standard_normal(40)
        errors.append(
            [
                float(np.abs(Surrogate(points[:40], seen, deviations=each).mean(points[40:]) - truth[40:]).mean())
                for each in (deviations, None)
            ]
        )
    told, untold = np.mean(errors, axis=0)
    assert told < 0.5 * untold
    assert told < 0.02
