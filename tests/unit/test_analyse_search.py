"""What is computed of a search, on studies whose law is known."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from agentflan_ray.analyse import (
    cost,
    fidelity,
    findings,
    frame,
    importance,
    pareto,
    places,
    plots_search,
    response,
    scaling,
    speed,
    surrogate,
)
from agentflan_ray.analyse.frame import Goal, Run
from agentflan_ray.search.space import to_weights

SCORE = Goal("score", "max")
FRACTIONS = (0.25, 0.5, 0.75, 1.0)
SIZES = (135e6, 1.7e9)
OFFSET, FACTOR, EXPONENT, SMALLER = 1.0, 0.5, 0.5, 0.3
NOISE = 0.003
CONSTRAINT = "over_refusal_rate <= 0.2"
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "negative_share": FloatDistribution(0.0, 0.4),
    "general_share": FloatDistribution(0.1, 0.7),
    "log2_retrieval": FloatDistribution(-4.0, 1.0),
    "log2_understanding": FloatDistribution(-4.0, 1.0),
    "log2_instruction": FloatDistribution(-4.0, 1.0),
    "learning_rate": FloatDistribution(1e-6, 1e-3, log=True),
    "fraction": CategoricalDistribution(FRACTIONS),
    "model_size": CategoricalDistribution(SIZES),
}


def gain(weights: dict[str, float]) -> float:
    """What a mix is worth: reasoning helps, and negatives are best at a fifth."""
    return 0.25 * math.sqrt(weights["reasoning"]) - 0.5 * abs(weights["negative"] - 0.2)


def make_study(path: Path, num_trials: int = 40, name: str = "known") -> Path:
    """Five mixes and more, each at four fractions and two sizes; some pruned, some failed.

    The held-out loss is ``1 + 0.5 / fraction^0.5``, 0.3 more of the small model, less the mix's worth. The score rises
    with the mix's worth, false calls fall with negatives, and a share of negatives above 0.2 breaks the constraint.
    """
    generator = np.random.default_rng(3)
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    study = optuna.create_study(storage=storage, study_name=name, directions=["maximize", "minimize"])
    study.set_user_attr("search", {"objectives": [["score", "max"], ["false_call_rate", "min"]]})
    cells = [(fraction, size) for fraction in FRACTIONS for size in SIZES]
    mix: dict[str, Any] = {}
    trials = []
    for number in range(num_trials):
        if number % len(cells) == 0:
            ranges = [DISTRIBUTIONS[key] for key in list(DISTRIBUTIONS)[:5]]
            mix = {
                key: float(generator.uniform(each.low, each.high))
                for key, each in zip(DISTRIBUTIONS, ranges, strict=False)
            }
            mix["learning_rate"] = float(10 ** generator.uniform(-5.5, -3.5))
        fraction, size = cells[number % len(cells)]
        parameters = mix | {"fraction": fraction, "model_size": size}
        weights = to_weights(parameters)
        small = SMALLER if size < 1e9 else 0.0
        loss = OFFSET + FACTOR * fraction**-EXPONENT + small - gain(weights) + NOISE * generator.standard_normal()
        score = 0.75 - 0.2 * fraction**-0.5 - small / 3 + gain(weights) + NOISE * generator.standard_normal()
        false = max(0.0, 0.5 - weights["negative"] + NOISE * generator.standard_normal())
        state = {12: TrialState.PRUNED, 7: TrialState.FAIL}.get(number % 13, TrialState.COMPLETE)
        trials.append(frozen(number, state, parameters, score, false, loss))
        if state == TrialState.COMPLETE:
            trials[-1].set_constraint(CONSTRAINT, weights["negative"] - 0.2)
    study.add_trials(trials)
    storage.remove_session()
    storage.engine.dispose()
    return path


def frozen(
    number: int, state: TrialState, parameters: dict[str, Any], score: float, false: float, loss: float
) -> FrozenTrial:
    """A trial as this package's search leaves it in its study."""
    is_complete = state == TrialState.COMPLETE
    tokens = int(10_000 * parameters["fraction"] * (1 if is_complete else 0.5))
    metrics = {"tokens": tokens, "validation_loss": loss, "evaluate_seconds": 30.0 if is_complete else 0.0}
    if is_complete:
        metrics |= {"score": score, "false_call_rate": false}
    began = datetime.datetime(2026, 1, 1) + datetime.timedelta(minutes=5 * number)
    seconds = 400 * parameters["fraction"] * (1 if is_complete else 0.5)
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=None,
        values=[score, false] if is_complete else None,
        datetime_start=began,
        datetime_complete=began + datetime.timedelta(seconds=seconds),
        params=parameters,
        distributions=DISTRIBUTIONS,
        user_attrs={
            "config": parameters | {"trial_number": number},
            "curve": [[tokens * step // 8, loss + 2 * math.exp(-step)] for step in range(1, 9)],
            "metrics": metrics,
            **({"reason": "OutOfMemoryError: 2 GiB"} if state == TrialState.FAIL else {}),
        },
        system_attrs={},
        intermediate_values={},
    )


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Run:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return places.load(str(make_study(tmp_path_factory.mktemp("studies") / "known.db")))


@pytest.fixture(scope="module")
def model(known: Run) -> response.Model:
    found = response.model(known, SCORE)
    assert isinstance(found, response.Model)
    return found


def a_run(trials: list[dict[str, Any]], curves: list[dict[str, Any]] | None = None, **more: Any) -> Run:
    """A run made of records; what they do not name is filled in."""
    full = [
        {"trial": f"t{n:03d}", "number": n, "kind": "search", "state": "complete"} | t for n, t in enumerate(trials)
    ]
    return Run(Path(), {"name": "made"}, frame.tidy(full), frame.as_curves(curves or []), **more)


def test_a_study_alone_has_everything_but_replies_and_corpus(known: Run) -> None:
    assert known.origin == "Optuna study"
    assert known.goals == (SCORE, Goal("false_call_rate", "min"))
    assert known.trials["state"].value_counts().to_dict() == {"complete": 34, "pruned": 3, "failed": 3}
    row = known.trials.iloc[0]
    assert sum(frame.part(row, "asked").values()) == pytest.approx(1.0)
    assert row["model_size"] == 135e6
    assert row[f"constraints.{CONSTRAINT}"] == pytest.approx(row["asked.negative"] - 0.2)
    assert known.trials.loc[7, "error"] == "OutOfMemoryError: 2 GiB"
    assert known.curves.groupby("trial").size().eq(8).all()


def test_a_gaussian_process_predicts_what_it_was_not_shown() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.uniform(size=(60, 3))

    def truth(points: surrogate.Array) -> surrogate.Array:
        result: surrogate.Array = 2 + np.sin(3 * points[:, 0]) + points[:, 1] ** 2
        return result

    fitted = surrogate.fit(inputs, truth(inputs) + 0.02 * generator.standard_normal(60))
    others = generator.uniform(size=(300, 3))
    mean, spread = fitted.predict(others)
    errors = mean - truth(others)
    assert np.sqrt(np.mean(errors**2)) < 0.03
    assert 0.85 < np.mean(np.abs(errors) < 1.96 * spread) <= 1.0
    assert fitted.lengths[2] > 3 * fitted.lengths[0], "the third input does nothing"
    assert math.sqrt(fitted.noise) * fitted.scale == pytest.approx(0.02, rel=0.5)
    held_out = fitted.held_out()
    assert held_out.r_squared > 0.98
    assert 0.85 < held_out.coverage <= 1.0


def test_the_gradient_of_the_likelihood_is_its_slope() -> None:
    generator = np.random.default_rng(1)
    points = generator.uniform(size=(12, 2))
    squares = (points[:, None] - points[None]) ** 2
    targets, middle, width = generator.standard_normal(12), np.array([-0.5, 0.1, 0.0, -2.0]), np.ones(4)
    at = middle + 0.3
    _, gradient = surrogate._cost(at, squares, targets, middle, width)
    for place in range(4):
        step = np.eye(4)[place] * 1e-5
        ends = [surrogate._cost(at + turn * step, squares, targets, middle, width)[0] for turn in (1, -1)]
        assert gradient[place] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-6)


def test_equal_scores_are_refused_with_a_reason() -> None:
    rows = [{"metrics": {"score": 0.5}, "parameters": {"x": float(n)}} for n in range(8)]
    assert response.model(a_run(rows), SCORE) == (
        "Not fitted to score: all trials have the same value, so there is nothing to explain."
    )
    few = response.model(a_run(rows[:3]), SCORE)
    assert few == "3 different points among the 3 complete trials with a score, and at least 6 are needed."


def mixture_run(num_trials: int, seed: int = 0) -> Run:
    """Random mixes whose score is their worth."""
    generator = np.random.default_rng(seed)
    records = []
    for weights in generator.dirichlet(np.full(3, 2.0), num_trials):
        asked = dict(zip(("reasoning", "general", "negative"), weights.tolist(), strict=True))
        score = 0.5 + gain(asked) + 0.01 * float(generator.standard_normal())
        records.append({"asked": asked, "parameters": {"w": asked["negative"]}, "metrics": {"score": score}})
    run = a_run(records)
    return Run(run.folder, run.sweep, run.trials.drop(columns="parameters.w"), run.curves)


def test_responses_find_what_helps_and_the_best_mix_lies_where_it_should() -> None:
    model = response.model(mixture_run(60), SCORE)
    assert isinstance(model, response.Model)
    found = response.response(model)
    assert found.caution is None
    assert found.held_out.r_squared > 0.9
    traces = {trace.name: trace for trace in found.traces}
    assert traces["reasoning"].change_low > 0
    negative = traces["negative"]
    peak = negative.at[int(np.argmax(negative.mean))]
    assert 0.1 < peak < 0.3
    predicted = response.predict(model)
    assert isinstance(predicted, response.Prediction)
    assert abs(predicted.weights["negative"].value - 0.2) < 0.08
    assert predicted.weights["negative"].low <= 0.2 <= predicted.weights["negative"].high
    assert sum(spread.value for spread in predicted.weights.values()) == pytest.approx(1.0)
    # Reasoning is best at all that the negatives leave: 0.5 + 0.25 · √0.8 = 0.724.
    assert predicted.score.low <= 0.724 <= predicted.score.high + 0.02


def test_few_trials_are_called_unreliable_with_the_number_wanted(model: response.Model) -> None:
    found = response.response(model)
    assert found.caution == "Unreliable: 34 trials for 8 degrees of freedom, and about 80 are wanted."
    by_name = {trace.name: trace for trace in found.traces}
    # From a quarter of the data to all of it the score rises by 0.2 times 2 less 1.
    assert by_name["fraction"].change_low < 0.2 < by_name["fraction"].change_high
    assert by_name["model_size"].change == pytest.approx(0.1, abs=0.03)
    # Trials stand around the line by no more than their noise.
    rest = np.array(by_name["fraction"].trials) - np.interp(
        by_name["fraction"].trials_at, by_name["fraction"].at, by_name["fraction"].mean
    )
    assert np.std(rest) < 3 * NOISE


def test_a_prediction_is_made_for_the_largest_fidelity_and_holds_the_constraint(model: response.Model) -> None:
    predicted = response.predict(model)
    assert isinstance(predicted, response.Prediction)
    assert predicted.fidelity == {"fraction": 1.0, "model_size": 1.7e9}
    assert predicted.num_trials_there < predicted.num_trials == 34
    assert predicted.constraints == [CONSTRAINT]
    assert predicted.weights["negative"].value < 0.21
    sentences = " ".join(findings.prediction(predicted).sentences)
    assert "A prediction: nobody has trained this mix." in sentences
    assert "at data fraction 1, model size 1.7e+09" in sentences


def test_a_scaling_law_recovers_its_numbers(known: Run) -> None:
    found = scaling.laws(known)
    assert isinstance(found, list)
    law = next(law for law in found if law.outcome == "validation loss")
    assert law.formula == "E + A / D^a"
    assert law.exponent.value == pytest.approx(EXPONENT, abs=0.06)
    assert law.factor.value == pytest.approx(FACTOR, abs=0.06)
    assert law.smaller["135M parameters"].value == pytest.approx(SMALLER, abs=0.005)
    for estimate, truth in ((law.exponent, EXPONENT), (law.factor, FACTOR)):
        assert estimate.low is not None and estimate.high is not None  # noqa: PT018
        assert estimate.low < truth < estimate.high
    (check,) = law.checks
    assert check.what == "data fraction 1"
    assert abs(check.error) < 0.01
    assert check.is_within
    mean_gain = float(np.mean([gain(w) for w in shares_of(known).values()]))
    at_twice = OFFSET + FACTOR * 2**-EXPONENT - mean_gain
    assert law.next_sizes["2 × the data, 1.7B parameters"].value == pytest.approx(at_twice, abs=0.01)
    assert "5 mixes, each trained at several sizes" in law.basis


def shares_of(run: Run) -> dict[str, dict[str, float]]:
    """Each of a study's mixes."""
    rows = run.scored(SCORE)
    return {
        key: frame.part(row, "asked") for key, (_, row) in zip(fidelity.mix_keys(rows), rows.iterrows(), strict=True)
    }


def test_with_four_sizes_the_exponent_of_the_size_is_recovered_too() -> None:
    generator = np.random.default_rng(4)
    sizes = (1e8, 3e8, 1e9, 3e9)
    rows = [
        {
            "fraction": fraction,
            "model_size": size,
            "parameters": {"mix": mix},
            "metrics": {
                "validation_loss": 0.8
                + 0.02 * mix
                + 0.4 * fraction**-0.6
                + 0.7 * (size / 1e8) ** -0.3
                + 0.001 * float(generator.standard_normal())
            },
        }
        for mix in range(3)
        for fraction in FRACTIONS
        for size in sizes
    ]
    found = scaling.laws(a_run(rows))
    assert isinstance(found, list)
    (law,) = found
    assert law.formula == "E + A / D^a + B / N^b"
    assert law.exponent.value == pytest.approx(0.6, abs=0.05)
    assert law.size_exponent is not None
    assert law.size_exponent.value == pytest.approx(0.3, abs=0.03)
    assert [check.what for check in law.checks] == ["data fraction 1", "the model of 3B parameters"]
    assert all(abs(check.error) < 0.01 for check in law.checks)


def test_too_few_sizes_are_refused_with_what_is_needed() -> None:
    rows = [{"fraction": f, "metrics": {"validation_loss": 1 + f}} for f in (0.25, 0.5, 1.0) for _ in range(3)]
    assert scaling.laws(a_run(rows)) == (
        "Not fitted to validation loss: the complete trials have 3 different data fractions (0.25, 0.5, 1), and a "
        "power law with an offset needs 4, one of them to check it on."
    )
    assert scaling.laws(a_run([{"metrics": {"validation_loss": 1.0}}])) == "The trials record no data fraction."


def test_different_mixes_are_not_passed_off_as_a_law_of_the_size() -> None:
    generator = np.random.default_rng(8)
    rows = [
        {
            "fraction": fraction,
            "parameters": {"x": float(generator.uniform())},
            "metrics": {"validation_loss": 1 + 0.5 * fraction**-0.5 + 0.2 * float(generator.standard_normal())},
        }
        for fraction in FRACTIONS
        for _ in range(6)
    ]
    found = scaling.laws(a_run(rows))
    assert isinstance(found, list)
    assert "what they differ by is in the fit and in its intervals" in found[0].basis
    low, high = found[0].next_sizes["2 × the data"][1:]
    assert low is not None and high is not None  # noqa: PT018
    assert high - low > 0.1


def test_fidelities_are_compared_on_the_mixes_that_both_have(known: Run) -> None:
    found = fidelity.agreements(known, SCORE)
    assert isinstance(found, list)
    assert found[0].cheap == "135M parameters, 0.25 of the data"
    assert all(each.dear.startswith("1.7B parameters") for each in found)
    assert all(each.correlation > 0.5 for each in found)
    assert all(each.low is None for each in found), "five mixes are too few for an interval"
    one = a_run([{"fraction": 1.0, "metrics": {"score": 0.1 * n}} for n in range(5)])
    assert fidelity.agreements(one, SCORE) == "All complete trials have the same data fraction and model size."


def test_a_reversed_order_costs_what_is_lost_by_it() -> None:
    rows = [
        {"fraction": fraction, "parameters": {"x": n}, "metrics": {"score": (n if fraction == 1 else 11 - n) / 20}}
        for n in range(12)
        for fraction in (0.5, 1.0)
    ]
    found = fidelity.agreements(a_run(rows), SCORE)
    assert isinstance(found, list)
    (only,) = found
    assert only.correlation == pytest.approx(-1.0)
    assert only.lost == pytest.approx(11 / 20)
    assert only.low is not None and only.high is not None  # noqa: PT018
    assert -1 < only.low < only.high < -0.9


def test_the_front_holds_what_nothing_beats_and_no_broken_constraint(known: Run) -> None:
    found = pareto.fronts(known)
    assert isinstance(found, list)
    (front,) = found
    broken = {trial for trial, held in zip(front.trials, front.feasible, strict=True) if held is False}
    excess = known.trials.set_index("trial")[f"constraints.{CONSTRAINT}"]
    assert broken == set(excess[excess > 0].index)
    assert broken
    values = dict(zip(front.trials, front.values, strict=True))
    for trial in set(front.trials) - broken:
        beaten = any(
            values[other][0] >= values[trial][0]
            and values[other][1] <= values[trial][1]
            and values[other] != values[trial]
            for other in set(front.trials) - broken
        )
        assert beaten != (trial in front.front)


def test_undominated_keeps_equals() -> None:
    values = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.5, 0.4]])
    assert pareto.undominated(values).tolist() == [True, True, True, False, True]


def test_one_objective_is_shown_against_false_calls_and_says_whose_choice_that_is() -> None:
    run = a_run([{"metrics": {"score": 0.5, "false_call_rate": 0.2}}, {"metrics": {"score": 0.4}}])
    found = pareto.fronts(run)
    assert isinstance(found, list)
    assert found[0].trials == ["t000"]
    assert any("this report's choice" in sentence for sentence in findings.front(found[0], run).sentences)
    assert isinstance(pareto.fronts(a_run([{"metrics": {"score": 0.5}}])), str)


def learning_curves(scales: dict[str, float], num_trials: int, noise: float) -> list[dict[str, Any]]:
    """Training losses that fall exponentially, each component with a scale of its own in steps of 100 tokens."""
    generator = np.random.default_rng(5)
    return [
        {
            "trial": f"t{trial:03d}",
            "tokens": 100 * step,
            **{
                f"loss/{name}": 0.5 + 2 * math.exp(-step / scale) + noise * float(generator.standard_normal())
                for name, scale in scales.items()
            },
            "loss/flat": 1.0 + noise * float(generator.standard_normal()),
        }
        for trial in range(num_trials)
        for step in range(151)
    ]


def test_learning_speed_recovers_the_scales_and_their_order() -> None:
    curves = learning_curves({"reasoning": 30.0, "instruction": 5.0}, num_trials=4, noise=0.02)
    found = speed.speeds(a_run([{}] * 4, curves))
    assert isinstance(found, list)
    assert [each.component for each in found] == ["instruction", "reasoning", "flat"]
    reasoning = found[1]
    for share, at in zip((0.5, 0.8), reasoning.reached, strict=False):
        assert at.share == share
        assert at.low <= at.median <= at.high
        # A fall of exp(-t / 30 steps) has done a share of itself after -30 · ln(1 - share) steps.
        assert at.median == pytest.approx(-3000 * math.log(1 - share), rel=0.25)
    assert (found[2].num_trials, found[2].num_flat) == (0, 4)
    sentence = speed.order_sentence(found)
    assert sentence is not None
    assert "order: instruction, reasoning." in sentence
    assert "quicker than reasoning in 4 of 4 trials" in sentence


def test_shares_of_a_drop_are_interpolated_exactly_on_a_straight_line() -> None:
    tokens = np.linspace(0, 1000, 11)
    found = speed.tokens_to_shares(tokens, 3 - tokens / 1000)
    assert found is not None
    assert found[0] == pytest.approx([500, 800, 950])
    assert found[1] == pytest.approx(1.0)
    assert speed.tokens_to_shares(tokens, tokens / 1000) is None


def test_unfinished_and_smaller_trials_are_in_no_speed() -> None:
    curves = learning_curves({"reasoning": 10.0}, num_trials=3, noise=0.0)
    run = a_run([{"fraction": 1.0}, {"fraction": 0.5}, {"fraction": 1.0, "state": "pruned"}], curves)
    found = speed.speeds(run)
    assert isinstance(found, list)
    assert found[0].by_trial.keys() == {"t000"}
    assert speed.speeds(a_run([{"state": "failed"}], curves)) == (
        "No trial is complete, so there is no final drop to take shares of."
    )


def test_costs_add_up_and_early_stopping_saves_what_was_not_trained() -> None:
    done = {"seconds": {"startup": 10.0, "train": 80.0, "evaluate": 20.0, "total": 120.0}, "steps": 40}
    stopped = {
        "state": "pruned",
        "steps": 40,
        "metrics": {"step": 10},
        "seconds": {"startup": 10.0, "train": 20.0, "evaluate": 0.0, "total": 30.0},
    }
    run = a_run([done | {"metrics": {"step": 40}}, stopped, {"state": "failed", "error": "out of memory"}])
    run.sweep["placement"] = {"num_workers": 4, "use_gpu": True}
    found = cost.account(run, price=2.0)
    assert isinstance(found, cost.Cost)
    assert found.seconds["complete"]["other"] == 10.0
    assert found.seconds["pruned"]["total"] == 30.0
    assert (found.num_timed, found.num_untimed) == (2, 1)
    assert found.hours == pytest.approx(150 * 4 / 3600)
    assert found.money == pytest.approx(2 * 150 * 4 / 3600)
    # Three quarters of the training are missing, 60 s at its own speed, and an evaluation of 20 s.
    assert found.saved_seconds == pytest.approx(80.0)
    assert found.saved_share == pytest.approx(80 / 230)
    words = " ".join(findings.costs(found).sentences)
    assert "A trial holds 4 GPUs." in words
    assert "0.33 for all trials" in words
    assert cost.account(a_run([{}])) == "No trial has recorded its time."


def test_importances_are_given_for_each_objective_with_their_n(known: Run) -> None:
    found = importance.importances(known)
    pedanova = [each for each in found if each.method == "PED-ANOVA"]
    assert [each.goal.metric for each in pedanova] == ["score", "false_call_rate"]
    assert all(each.num_trials == 34 for each in pedanova)
    assert all(sum(each.shares.values()) == pytest.approx(1.0) for each in pedanova)
    fanova = [each for each in found if each.method == "fANOVA"]
    assert len(fanova) == 2
    assert all(each.shares or "needs scikit-learn" in each.basis for each in fanova)


def test_importances_find_the_parameter_that_matters_in_either_direction() -> None:
    generator = np.random.default_rng(2)
    for direction in ("max", "min"):
        rows = []
        for _ in range(60):
            x, y = generator.uniform(size=2)
            parameters = {"matters": float(x), "idle": float(y), "word": "ab"[int(y * 2)]}
            rows.append({"parameters": parameters, "metrics": {"value": float((x - 0.3) ** 2)}})
        goal = Goal("value", "max" if direction == "max" else "min")
        shares = importance.importances(a_run(rows, goals=(goal,)))[0].shares
        assert max(shares, key=shares.__getitem__) == "matters"


def test_fifths_put_the_best_on_top_in_either_direction() -> None:
    values = np.arange(10.0)
    assert plots_search.fifths(values, SCORE).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert plots_search.fifths(values, Goal("loss", "min")).tolist() == [4, 4, 3, 3, 2, 2, 1, 1, 0, 0]
