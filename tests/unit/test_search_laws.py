"""What is learnt from trials: mixing laws, Gaussian processes on the simplex, and fidelities."""

from __future__ import annotations

import numpy as np
import pytest

from agentflan_ray.search.laws import Floats, Points, Surrogate, find_levels, fit_law, join


def points(weights: Floats, fidelity: float = 0.0) -> Points:
    return Points(weights, np.zeros((len(weights), 0)), np.full((len(weights), 1), fidelity))


def mixtures(seed: int, num: int, components: int) -> Floats:
    return np.random.default_rng(seed).dirichlet(np.ones(components), num)


@pytest.mark.parametrize("components", [3, 6, 12])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_law_is_recovered_from_noisy_losses(components: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    exponents = rng.uniform(-2.0, 2.0, components)
    exponents -= exponents.mean()
    weights = mixtures(seed, 200, components)
    truth = 2.0 + 0.7 * np.exp(weights @ exponents)
    law = fit_law(weights, truth + rng.normal(0, 0.005, 200))
    assert abs(law.exponents.mean()) < 1e-9
    assert np.abs(law.predict(weights) - truth).max() < 0.03
    assert np.sqrt(np.mean((law.predict(weights) - truth) ** 2)) < 0.005
    assert np.corrcoef(law.exponents, exponents)[0, 1] > 0.98


def test_the_parameters_of_a_law_are_found_where_the_losses_reach_its_floor() -> None:
    exponents = np.array([-4.0, 1.0, 3.0])
    weights = mixtures(0, 300, 3)
    losses = 1.5 + 0.5 * np.exp(weights @ exponents) + np.random.default_rng(1).normal(0, 0.002, 300)
    law = fit_law(weights, losses)
    assert law.floor == pytest.approx(1.5, abs=0.05)
    assert law.scale == pytest.approx(0.5, abs=0.05)
    assert law.exponents == pytest.approx(exponents, abs=0.25)


def test_runs_that_went_wrong_do_not_pull_a_law() -> None:
    weights = mixtures(0, 60, 4)
    truth = 2.0 + 0.5 * np.exp(weights @ np.array([-1.0, 0.5, 1.0, -0.5]))
    losses = truth + np.random.default_rng(2).normal(0, 0.005, 60)
    losses[[5, 17, 40]] += 1.5
    assert np.abs(fit_law(weights, losses).predict(weights) - truth).max() < 0.05


@pytest.mark.parametrize("losses", [[1.0], [1.0, np.nan, 2.0]])
def test_a_law_needs_finite_losses(losses: list[float]) -> None:
    with pytest.raises(ValueError, match="at least two finite losses"):
        fit_law(mixtures(0, len(losses), 3), np.array(losses))


def test_a_surrogate_goes_through_trials_without_noise() -> None:
    weights = mixtures(3, 40, 4)
    losses = np.sin(4 * np.sqrt(weights[:, 0])) + weights[:, 1] * weights[:, 2]
    surrogate = Surrogate(points(weights), losses)
    assert np.abs(surrogate.mean(points(weights)) - losses).max() < 0.05 * losses.std()
    new = mixtures(4, 500, 4)
    truth = np.sin(4 * np.sqrt(new[:, 0])) + new[:, 1] * new[:, 2]
    assert np.sqrt(np.mean((surrogate.mean(points(new)) - truth) ** 2)) < 0.1 * truth.std()


def test_the_uncertainty_is_as_large_as_the_errors() -> None:
    """Over 20 draws of smooth functions, the standardised errors at new mixtures have a root mean square near 1."""
    squares = []
    for seed in range(20):
        rng = np.random.default_rng([5, seed])
        anchors, heights = mixtures(100 + seed, 12, 5), rng.normal(0, 1, 12)

        def truth(weights: Floats, anchors: Floats = anchors, heights: Floats = heights) -> Floats:
            apart = 2 - 2 * np.sqrt(weights) @ np.sqrt(anchors).T
            return np.asarray(np.exp(-2 * apart) @ heights, dtype=np.float64)

        seen, new = mixtures(seed, 40, 5), mixtures(200 + seed, 200, 5)
        spread = float(truth(new).std())
        surrogate = Surrogate(points(seen), truth(seen) + rng.normal(0, 0.1 * spread, 40))
        errors = surrogate.mean(points(new)) - truth(new)
        squares.append(np.mean((errors / surrogate.deviation(points(new))) ** 2))
    assert 0.6 < np.sqrt(np.mean(squares)) < 1.5


def test_the_family_is_chosen_by_its_errors_on_what_was_left_out() -> None:
    weights, new = mixtures(6, 60, 5), mixtures(7, 400, 5)
    exponents = np.array([-8.0, 4.0, 1.0, -1.0, 4.0])

    def steep(weights: Floats) -> Floats:
        return np.asarray(1.0 + 0.5 * np.exp(weights @ exponents), dtype=np.float64)

    def dented(weights: Floats) -> Floats:
        return np.asarray(-np.exp(-20 * ((weights[:, 0] - 0.3) ** 2 + (weights[:, 1] - 0.3) ** 2)), dtype=np.float64)

    for truth, family in ((steep, "law"), (dented, "process")):
        surrogate = Surrogate(points(weights), truth(weights))
        other = Surrogate(points(weights), truth(weights), families=("process" if family == "law" else "law",))
        assert surrogate.family == family
        assert surrogate.errors[surrogate.family] == min(surrogate.errors.values())
        error, worse = (np.abs(each.mean(points(new)) - truth(new)).mean() for each in (surrogate, other))
        assert error < worse


def test_laws_of_the_parts_foresee_their_mean_better_than_a_law_of_the_mean() -> None:
    rng = np.random.default_rng(8)
    seen, new = mixtures(8, 24, 4), mixtures(9, 400, 4)
    exponents = -6.0 * np.eye(4) + rng.normal(0, 0.3, (4, 4))

    def parts(weights: Floats) -> Floats:
        return np.asarray(1.0 + np.exp(weights @ exponents.T), dtype=np.float64)

    apart = Surrogate(points(seen), parts(seen).mean(axis=1), parts(seen), ("law",))
    whole = Surrogate(points(seen), parts(seen).mean(axis=1), None, ("law",))
    truth = parts(new).mean(axis=1)
    errors = [float(np.abs(each.mean(points(new)) - truth).mean()) for each in (apart, whole)]
    assert errors[0] < 0.5 * errors[1]


def test_one_wild_trial_is_not_believed() -> None:
    seen = mixtures(10, 50, 4)
    losses = 2 + seen @ np.array([1.0, 0.5, 0.0, -0.5]) + np.random.default_rng(3).normal(0, 0.01, 50)
    worst = int(losses.argmax())
    losses[worst] -= 3.0
    surrogate = Surrogate(points(seen), losses)
    assert surrogate.mean(points(seen[[worst]]))[0] == pytest.approx(losses[worst] + 3.0, abs=0.2)


def test_levels_are_mapped_onto_each_other() -> None:
    cheap, dear = mixtures(11, 60, 5), mixtures(12, 12, 5)
    slope = np.array([2.0, 0.5, -1.0, 0.0, 1.0])
    where = join([points(cheap, -4.0), points(dear)])
    values = np.concatenate([5 + cheap @ slope, 2 + 0.2 * (dear @ slope)])[:, None]
    levels = find_levels(where, values)
    assert levels.fidelity[:, 0] == pytest.approx([-4.0, 0.0])
    assert levels.reference == 0
    assert levels.slopes[:, 0] == pytest.approx([1.0, 0.2], abs=0.2)
    aligned = levels.to_reference(values)[60:, 0]
    assert np.corrcoef(aligned, dear @ slope)[0, 1] > 0.999


def test_cheap_trials_foretell_dear_ones_on_the_scale_of_the_dear_ones() -> None:
    """Of 60 trials of a small model and 4 of a large one, whose losses lie elsewhere and are closer together."""
    rng = np.random.default_rng(13)
    cheap, dear, new = mixtures(13, 60, 5), mixtures(14, 4, 5), mixtures(15, 300, 5)

    def truth(weights: Floats) -> Floats:
        return np.asarray(np.exp(-3 * weights[:, 0]) + weights[:, 1], dtype=np.float64)

    small = 5 + truth(cheap) + rng.normal(0, 0.02, 60)
    large = 2 + 0.4 * truth(dear) + rng.normal(0, 0.01, 4)
    surrogate = Surrogate(join([points(cheap, -4.0), points(dear)]), np.concatenate([small, large]))
    alone = Surrogate(points(dear), large)
    wanted = 2 + 0.4 * truth(new)
    error, error_alone = (np.abs(each.mean(points(new)) - wanted).mean() for each in (surrogate, alone))
    assert np.corrcoef(surrogate.mean(points(new)), wanted)[0, 1] > 0.97
    assert error < 0.5 * error_alone


def test_an_observation_moves_most_what_lies_beside_it_and_less_from_afar() -> None:
    weights = mixtures(16, 30, 3)
    losses = np.sin(6 * weights[:, 0]) + np.random.default_rng(4).normal(0, 0.05, 30)
    surrogate = Surrogate(join([points(weights[:20], -2.0), points(weights[20:])]), losses)
    spot = np.array([[0.98, 0.01, 0.01], [0.01, 0.01, 0.98]])
    none = points(spot[:0])
    here = surrogate.gains(points(spot), points(spot[:1]), none).shifts[0]
    assert abs(here[0]) > 2 * abs(here[1])
    cheap = surrogate.gains(points(spot), points(spot[:1], -2.0), none).shifts[0]
    assert abs(cheap[0]) < abs(here[0])
    pending = surrogate.gains(points(spot), points(spot[:1]), points(spot[:1])).shifts[0]
    assert abs(pending[0]) < 0.8 * abs(here[0]), "a running trial at the same place leaves less to learn"


def test_equal_losses_are_no_error() -> None:
    weights = mixtures(17, 5, 3)
    surrogate = Surrogate(points(weights), np.full(5, 1.25))
    assert surrogate.mean(points(weights)) == pytest.approx(np.full(5, 1.25))
    assert np.isfinite(surrogate.deviation(points(weights))).all()


def test_many_trials_of_one_mixture_are_no_error() -> None:
    """300 trials at three mixtures, noiseless: every row of the kernel stands there a hundred times."""
    weights = np.repeat(mixtures(18, 3, 4), 100, axis=0)
    losses = 2 + weights @ np.array([1.0, 0.0, -1.0, 0.5])
    surrogate = Surrogate(points(weights), losses)
    assert surrogate.mean(points(weights)) == pytest.approx(losses, abs=0.01)
    none = points(weights[:0])
    assert np.isfinite(surrogate.gains(points(weights[:5]), points(weights[:5]), none).shifts).all()
