"""The sweep without a cluster: what its recipe refuses, which trial it chooses, what it recommends and compares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from agentflan_ray import storage
from agentflan_ray.evaluate.engine import Conversation
from agentflan_ray.evaluate.items import select_items
from agentflan_ray.evaluate.measures import MEASURES, WEIGHTED, ItemScores, estimate, tabulate, weighted
from agentflan_ray.evaluate.toolbox import Scored, run, samples_of, summarise
from agentflan_ray.search.goals import Bound
from agentflan_ray.search.searcher import Objective, StudySearcher
from agentflan_ray.search.space import Space
from agentflan_ray.sweep import SweepRecipe, cluster_sweep, laptop_sweep, rehearsal_sweep
from agentflan_ray.sweep.choose import choose
from agentflan_ray.sweep.proof import measured, read_items
from agentflan_ray.sweep.search import RECOMMENDED, RECOMMENDED_AFTER, is_same_point, recommend
from agentflan_ray.toolbox import ITEM_CASES

SCORE, FALSE_CALLS = Objective("score", "max"), Objective("false_call_rate", "min")
LIMIT = "over_refusal_rate <= 0.5"


def trial(
    number: int,
    values: Sequence[float],
    *,
    fraction: float = 1.0,
    excess: float | None = None,
    state: TrialState = TrialState.COMPLETE,
) -> FrozenTrial:
    is_complete = state == TrialState.COMPLETE
    made = optuna.trial.create_trial(
        values=list(values) if is_complete else None,
        state=state,
        user_attrs={"config": {"fraction": fraction}},
    )
    made.number = number
    if excess is not None:
        made.set_constraint(LIMIT, excess)
    return made


def test_the_best_is_the_best_of_most_of_the_data_that_keeps_the_constraints() -> None:
    trials = [
        trial(0, [0.5], excess=-0.2),
        trial(1, [0.9], excess=0.1),
        trial(2, [0.8], fraction=0.5, excess=-0.2),
        trial(3, [0.6], excess=0.0),
        trial(4, [0.0], state=TrialState.PRUNED),
        trial(5, [0.0], state=TrialState.FAIL),
    ]
    choice = choose(trials, [SCORE])
    assert choice.best.number == 3
    assert choice.is_feasible
    assert [each.number for each in choice.pareto] == [3]
    assert choice.rule == "the best score among the trials that keep the constraints"


def test_where_no_trial_keeps_the_constraints_the_best_of_all_is_taken_and_said() -> None:
    choice = choose([trial(0, [0.5], excess=0.2), trial(1, [0.9], excess=0.1)], [SCORE])
    assert choice.best.number == 1
    assert not choice.is_feasible
    assert choice.rule.endswith("; no trial keeps all constraints")


def test_of_a_pareto_set_the_first_objective_decides() -> None:
    trials = [
        trial(0, [0.5, 0.1], excess=-1),
        trial(1, [0.7, 0.3], excess=-1),
        trial(2, [0.7, 0.2], excess=-1),
        trial(3, [0.6, 0.25], excess=-1),
        trial(4, [0.9, 0.0], excess=1),
    ]
    choice = choose(trials, [SCORE, FALSE_CALLS])
    assert [each.number for each in choice.pareto] == [2, 0]
    assert choice.best.number == 2
    assert choice.rule == (
        "the best score among the trials that keep the constraints and that none beats in score, false_call_rate"
    )
    turned = [trial(each.number, each.values[::-1], excess=-1) for each in trials[:4]]
    assert choose(turned, [FALSE_CALLS, SCORE]).best.number == 0


def test_without_a_complete_trial_there_is_no_best() -> None:
    with pytest.raises(RuntimeError, match="No trial of the search was completed"):
        choose([trial(0, [0.0], state=TrialState.FAIL)], [SCORE])


SPACE = Space(fraction=1.0, log2_retrieval=-2.0, log2_understanding=-0.5, log2_instruction=-1.0)


def searcher_of(path: Path, num_trials: int = 3) -> StudySearcher:
    return StudySearcher(
        SPACE, [SCORE], storage=path / "study.db", study_name="known", num_trials=num_trials, sampler="mixture"
    )


def tell(searcher: StudySearcher, negative: float, general: float, score: float, **attributes: Any) -> None:
    distributions: dict[str, BaseDistribution] = SPACE.distributions()
    assert searcher.study is not None
    searcher.study.add_trial(
        optuna.trial.create_trial(
            params={"negative_share": negative, "general_share": general},
            distributions=distributions,
            value=score,
            user_attrs=attributes,
        )
    )


def test_the_recommended_mix_is_enqueued_once_for_each_number_of_trials(tmp_path: Path) -> None:
    said: list[str] = []
    searcher = searcher_of(tmp_path)
    tell(searcher, 0.1, 0.2, 0.3)
    assert not recommend(searcher, 3, said.append)  # one trial teaches nothing
    assert "two complete trials" in said[-1]
    for negative, general in ((0.3, 0.2), (0.1, 0.6), (0.38, 0.65), (0.0, 0.4), (0.2, 0.1)):
        tell(searcher, negative, general, 0.6 - 4 * (negative - 0.25) ** 2 - (general - 0.33) ** 2)
    assert recommend(searcher, 3, said.append)
    waiting = [each for each in searcher.trials() if each.state == TrialState.WAITING]
    assert [each.user_attrs for each in waiting] == [{"mix": RECOMMENDED, RECOMMENDED_AFTER: 3}]
    wanted = waiting[0].system_attrs["fixed_params"]
    assert set(wanted) == {"negative_share", "general_share"}
    assert abs(wanted["negative_share"] - 0.25) < 0.15
    # A driver that was killed before the trial began comes back to the same one, and one killed after it to none.
    assert recommend(searcher_of(tmp_path), 3, said.append)
    assert len(searcher.trials()) == 7
    assert searcher.study is not None
    asked = searcher.study.ask()
    for name, distribution in SPACE.distributions().items():
        assert isinstance(distribution, FloatDistribution)
        asked.suggest_float(name, distribution.low, distribution.high)
    searcher.study.tell(asked, 0.61)
    assert not recommend(searcher, 3, said.append)
    # With more trials more is known: another one.
    recommend(searcher, 8, said.append)
    known = [each.user_attrs.get(RECOMMENDED_AFTER) for each in searcher.trials()]
    assert known.count(3) == 1


def test_points_are_the_same_up_to_rounding() -> None:
    assert is_same_point({"a": 0.1, "b": 1}, {"a": 0.1 + 1e-12, "b": 1.0})
    assert not is_same_point({"a": 0.1}, {"a": 0.11})
    assert not is_same_point({"a": 0.1}, {"a": 0.1, "b": 1})


def test_recipes_are_checked_before_anything_is_started() -> None:
    recipe = rehearsal_sweep()
    with pytest.raises(ValueError, match="The objective 'scor' is in no report"):
        recipe.aiming_at(["scor:max"])
    with pytest.raises(ValueError, match="The constraint 'over_refusal' is in no report"):
        recipe.aiming_at(constraints=["over_refusal<=0.3"])
    with pytest.raises(ValueError, match="go together"):
        replace(recipe, weights=(("score", 1.0),))
    with pytest.raises(ValueError, match="they must rise from above 0 to 1"):
        replace(recipe, rungs=(0.5, 0.25, 1.0))
    with pytest.raises(ValueError, match="'tool_score' can't be measured"):
        replace(recipe, choose_items={"chat": 4}, objectives=(Objective("tool_score", "max"),))


def test_a_recipe_aims_at_what_a_user_writes_and_is_kept_as_json() -> None:
    recipe = cluster_sweep("llama2-7b").aiming_at(
        ["score=1,false_call_rate=-0.5", "validation_loss:min"], ["sensible_rate>=base-0.05"]
    )
    assert recipe.objectives == (Objective(WEIGHTED, "max"), Objective("validation_loss", "min"))
    assert recipe.constraints == (Bound("sensible_rate", ">=", -0.05, True),)
    assert recipe.aiming_at() == recipe
    kept = json.loads(json.dumps(storage.as_json(asdict(recipe))))
    assert kept["weights"] == [["score", 1.0], ["false_call_rate", -0.5]]
    assert kept["constraints"][0]["is_relative"] is True


@pytest.mark.parametrize("recipe", [laptop_sweep(), rehearsal_sweep(), cluster_sweep("llama2-7b")])
def test_named_recipes_can_be_proven(recipe: SweepRecipe) -> None:
    assert len(recipe.proof_seeds) >= 2
    assert set(recipe.confirm_seeds) <= set(recipe.proof_seeds)
    assert recipe.objectives == (SCORE,)


def test_what_is_compared_is_the_first_objective() -> None:
    recipe = rehearsal_sweep()
    assert measured(recipe) == ("score", "max", MEASURES["score"])
    assert measured(recipe.aiming_at(["false_call_rate:min"]))[:2] == ("false_call_rate", "min")
    assert measured(recipe.aiming_at(["validation_loss:min"])) == ("score", "max", MEASURES["score"])
    name, direction, measure = measured(recipe.aiming_at(["score=1,h_react=-2"]))
    assert (name, direction) == (WEIGHTED, "max")
    assert measure == weighted({"score": 1.0, "h_react": -2.0})


@pytest.fixture(scope="module")
def scored() -> list[Scored]:
    """Replies of every kind to a few items of each case."""
    rng = np.random.default_rng(5)
    texts = (
        "Sorry, I can't look that up.",
        "Which one do you mean?",
        'Thought: hm\nAction: get_weather\nAction Input: {"city": "Oslo"}',
        "Water, sleep and a dog in the garden.",
        "",
    )

    def generate(conversations: Sequence[Conversation], max_new_tokens: int) -> list[str]:
        del max_new_tokens
        return [texts[rng.integers(len(texts))] for _ in conversations]

    return run(select_items("judge", dict.fromkeys(ITEM_CASES, 7)), generate)


def as_items(scored: Sequence[Scored]) -> list[ItemScores]:
    return [ItemScores(each.item.id, each.item.case, each.item.group, each.scores) for each in scored]


@pytest.mark.parametrize("cases", [ITEM_CASES, ("tool", "chat", "irrelevant_tool")])
def test_measures_are_the_metrics_of_the_suite(scored: list[Scored], cases: tuple[str, ...]) -> None:
    chosen = [each for each in scored if each.item.case in cases]
    metrics = summarise(chosen)["metrics"]
    assert set(metrics) == set(MEASURES)
    for name, measure in MEASURES.items():
        assert tabulate(measure, [as_items(chosen)]).values()[0] == pytest.approx(metrics[name]["value"]), name
        assert measure.is_measured_on(cases)


def test_a_weighted_sum_has_the_value_and_the_interval_of_its_sum(scored: list[Scored]) -> None:
    metrics = summarise(scored)["metrics"]
    found = estimate(weighted({"score": 1.0, "false_call_rate": -0.5, "hscore": 0.1}), as_items(scored))
    wanted = metrics["score"]["value"] - 0.5 * metrics["false_call_rate"]["value"] + 0.1 * metrics["hscore"]["value"]
    assert found.value == pytest.approx(wanted)
    assert found.low < found.value < found.high
    alone = estimate(MEASURES["score"], as_items(scored))
    assert (alone.low, alone.high) == pytest.approx((metrics["score"]["low"], metrics["score"]["high"]), abs=0.03)
    with pytest.raises(ValueError, match="'validation_loss' is no metric that can be weighed"):
        weighted({"validation_loss": 1.0})


def test_item_scores_come_back_from_a_file_of_samples(scored: list[Scored], tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(samples_of(scored)), tmp_path / "judge-samples.parquet")
    assert read_items(str(tmp_path / "judge-samples.parquet")) == as_items(scored)


def test_a_sweep_of_no_trials_is_refused_before_a_corpus_is_built() -> None:
    with pytest.raises(ValueError, match="num_trials must be at least 1, but is 0"):
        replace(laptop_sweep(), num_trials=0)
