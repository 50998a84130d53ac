"""What a trial plans and scores at its rungs, and what is written of it: no Ray, no model."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agentflan_ray import storage
from agentflan_ray.analyse.cost import account
from agentflan_ray.analyse.frame import load
from agentflan_ray.evaluate.items import select_items
from agentflan_ray.evaluate.stats import standard_error
from agentflan_ray.evaluate.toolbox import Scored, summarise
from agentflan_ray.sample import CAPABILITIES
from agentflan_ray.search import trial as trial_module
from agentflan_ray.search.record import Ending, Recorder, saved_compute
from agentflan_ray.search.searcher import TRIAL_NUMBER
from agentflan_ray.search.space import from_weights
from agentflan_ray.search.trial import ScoreAtRung, TrialSetup, prepare, run_trial, standard_errors
from agentflan_ray.toolbox import ITEM_CASES, EvaluationItem
from agentflan_ray.train.recipe import Placement, TrainRecipe

WEIGHTS = {
    "reasoning": 0.3,
    "retrieval": 0.1,
    "understanding": 0.2,
    "instruction": 0.1,
    "general": 0.2,
    "negative": 0.1,
}
KINDS = [("chat", "tool"), ("react", "tool"), ("chat", "irrelevant_tool"), ("chat", "chat")]


@dataclass(frozen=True)
class FewTokens:
    """An index of made-up samples, and what a trial's facts say of a token store."""

    uri: str
    shards_uri: str = "unused"
    fingerprint: str = "t1"
    manifest: dict[str, Any] = field(default_factory=lambda: {"corpus": "c1", "buckets": {}})

    def index_table(self, validation: bool) -> pa.Table:
        assert not validation
        rng = np.random.default_rng(0)
        num = 800
        kinds = [KINDS[number % 4] for number in range(num)]
        columns: dict[str, Any] = {
            "id": [f"s{number}" for number in range(num)],
            "key": np.sort(rng.integers(0, 2**63, num)),
            "source": ["made"] * num,
            "form": [form for form, _ in kinds],
            "case": [case for _, case in kinds],
            "shard": ["shard"] * num,
            "row": pa.array(range(num), pa.int32()),
            "num_tokens": pa.array(rng.integers(40, 90, num), pa.int32()),
        }
        for capability in CAPABILITIES:
            general = np.array([case == "chat" for _, case in kinds])
            counts = np.where(general == (capability == "general"), rng.integers(2, 9, num), 0)
            columns[capability] = pa.array(counts, pa.int32())
        return pa.table(columns)


def make(folder: Path, **changes: Any) -> TrialSetup:
    recipe = TrainRecipe(model="tiny-llama", block_length=128, blocks_per_step=4, learning_rate=1e-3)
    settings: dict[str, Any] = {
        "run_uri": str(folder),
        "tokens": FewTokens(str(folder / "tokens")),
        "train": recipe,
        "placement": Placement(),
        "budget": 20_000,
        "max_repeats": 4,
        "items": tuple(dict.fromkeys(ITEM_CASES, 4).items()),
        "pad_token_id": 0,
        "evaluation_batch": 8,
    }
    return TrialSetup(**{**settings, **changes})


# ---- the plan ------------------------------------------------------------------------------------------------------


def test_a_rung_ends_with_the_last_step_that_holds_its_data(tmp_path: Path) -> None:
    setup = make(tmp_path, rungs=(0.25, 0.5, 1.0))
    facts = prepare(setup, "0000", from_weights(WEIGHTS), seed=1)
    assert [each["rung"] for each in facts["rungs"]] == [0.25, 0.5]
    assert all(each["tokens"] == each["step"] * 4 * 128 for each in facts["rungs"])
    assert facts["rungs"][0]["step"] < facts["rungs"][1]["step"] < facts["steps"]
    assert facts["rungs"][0]["step"] == pytest.approx(facts["steps"] / 4, abs=2)
    plan = pq.read_table(tmp_path / "trials/0000/plan.parquet").to_pydict()
    whole = dict(
        zip(
            FewTokens("").index_table(False)["id"].to_pylist(),
            FewTokens("").index_table(False)["key"].to_pylist(),
            strict=True,
        )
    )
    steps = np.array(plan["block"]) // 4
    keys = np.array([whole[each] for each in plan["id"]]) / 2**63
    for rung in facts["rungs"]:
        # With four blocks in a step its last one may hold some of the next rung's.
        assert keys[steps < rung["step"] - 1].max() < rung["rung"]
        assert keys[steps >= rung["step"]].size
    assert json.loads((tmp_path / "trials/0000/trial.json").read_text()) == storage.as_json(facts)


def test_the_shares_hold_at_each_rung_and_a_trial_without_rungs_has_none(tmp_path: Path) -> None:
    nested = prepare(make(tmp_path, rungs=(0.25, 1.0)), "0000", from_weights(WEIGHTS), seed=1)
    plain = prepare(make(tmp_path), "0001", from_weights(WEIGHTS), seed=1)
    assert plain["rungs"] == []
    for facts in (nested, plain):
        assert facts["realised"] == pytest.approx(WEIGHTS, abs=0.03)
        assert facts["tokens"] <= 20_000
    assert nested["steps"] == pytest.approx(plain["steps"], abs=1)


def test_several_epochs_are_read_between_two_rungs(tmp_path: Path) -> None:
    setup = make(tmp_path, rungs=(0.5, 1.0))
    facts = prepare(setup, "0000", {**from_weights(WEIGHTS), "epochs": 2}, seed=1)
    assert facts["epochs"] == 2
    assert len(facts["rungs"]) == 1
    assert facts["rungs"][0]["step"] == pytest.approx(facts["steps"] / 2, abs=1)


def test_rungs_that_end_together_are_refused(tmp_path: Path) -> None:
    setup = make(tmp_path, rungs=(0.5, 0.6, 1.0), budget=4_000)
    with pytest.raises(ValueError, match=r"The rungs 0.5 and 0.6 of a trial both end at its step \d+ of \d+; raise"):
        prepare(setup, "0000", from_weights(WEIGHTS), seed=1)
    with pytest.raises(ValueError, match="Rungs must ascend from above 0 to 1"):
        prepare(make(tmp_path, rungs=(0.5,)), "0000", from_weights(WEIGHTS), seed=1)
    with pytest.raises(ValueError, match="rung_items asks for 5 items of the case tool at a rung, but items for 4"):
        make(tmp_path, rung_items=(("tool", 5),))


# ---- the scores ----------------------------------------------------------------------------------------------------


@cache
def items_that_choose() -> list[EvaluationItem]:
    return select_items("choose", dict.fromkeys(ITEM_CASES, 8))  # seconds: it draws many more


def scored(right: float) -> list[Scored]:
    """Replies to the items that choose, every ``1 / right``-th right, or none."""
    found = []
    for number, item in enumerate(items_that_choose()):
        good = float(bool(right) and number % round(1 / right) == 0)
        names = ["tool_score", "right_tool", "right_arguments", "right_answer", "missed_call", "over_refusal"]
        if item.case != "tool":
            names = ["correct", "false_call", "leak", "h_react", "h_general", "sensible", "over_refusal"]
        found.append(Scored(item, "none", ("",), dict.fromkeys(names, good)))
    return found


def test_the_error_of_the_score_is_that_of_its_cases() -> None:
    replies = scored(0.5)
    errors = standard_errors(summarise(replies))
    assert set(errors) == set(summarise(replies)["metrics"])
    by_case = {}
    for case in ITEM_CASES:
        chosen = [each for each in replies if each.item.case == case]
        name = "tool_score" if case == "tool" else "correct"
        by_case[case] = standard_error([each.scores[name] for each in chosen], [each.item.group for each in chosen])
    plain = [error for case, error in by_case.items() if case != "tool"]
    expected = math.hypot(0.5 * by_case["tool"], 0.5 * math.sqrt(sum(e**2 for e in plain)) / len(plain))
    assert errors["score"] == pytest.approx(expected)
    assert 0.05 < errors["score"] < 0.15


def test_no_score_is_sure_however_alike_the_replies() -> None:
    """Of a model that gets nothing right no item tells how much another one would differ."""
    summary = summarise(scored(0))
    assert summary["metrics"]["score"]["high"] > 0.05
    errors = standard_errors(summary)
    assert errors["score"] > 0.03
    assert errors["hscore"] > 0.02


def test_a_rung_that_was_scored_is_not_scored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def score(setup: TrialSetup, items: Any, model: Any, tokenizer: Any) -> tuple[list[Scored], float]:
        asked.append(items)
        return scored(0.5), 3.0

    monkeypatch.setattr(trial_module, "_score_here", score)
    monkeypatch.setattr(trial_module, "_is_first_rank", lambda: True)
    setup = make(tmp_path, rung_items=(("tool", 2), ("chat", 1)))
    at_rung = ScoreAtRung(setup, "0000", "plan and recipe")
    first = at_rung(None, None, 0.25)
    assert first["evaluate_seconds"] == 3.0
    assert first["standard_error/score"] > 0
    assert "trial_state" not in first
    again = at_rung(None, None, 0.25)
    assert again == {**first, "evaluate_seconds": 0.0}
    assert asked == [(("tool", 2), ("chat", 1))]
    assert pq.read_metadata(tmp_path / "trials/0000/rung-0.25-samples.parquet").num_rows == 48
    at_rung(None, None, 0.5)
    replace(at_rung, made_of="another plan")(None, None, 0.25)
    assert len(asked) == 3
    monkeypatch.setattr(trial_module, "_is_first_rank", lambda: False)
    assert at_rung(None, None, 0.75) == {}


# ---- the record ----------------------------------------------------------------------------------------------------


def test_what_would_come_again_ends_a_trial_of_a_lane_without_another_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*arguments: Any, **settings: Any) -> None:
        raise FloatingPointError("the loss of step 3 is not finite")

    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(trial_module, "train_trial", train)
    monkeypatch.setattr(trial_module, "tune", SimpleNamespace(report=reports.append))
    run_trial({TRIAL_NUMBER: 1}, make(tmp_path), seed=0)
    assert reports == [{"trial_state": "failed", "reason": "FloatingPointError: the loss of step 3 is not finite"}]
    with pytest.raises(FloatingPointError):  # Ray Train starts nothing again for these
        run_trial({TRIAL_NUMBER: 1}, make(tmp_path, placement=Placement(num_workers=2)), seed=0)


def report(recorder: Recorder, trial: Any, **result: Any) -> None:
    recorder.on_trial_result(0, [], trial, result)


def test_the_curve_has_each_step_once_and_the_result_says_what_was_decided(tmp_path: Path) -> None:
    entry: dict[str, Any] = {"rung": 0.25, "step": 2, "tokens": 200, "values": [0.4], "losses": {"general": 1.0}}
    entry |= {"promotion": {"decision": "stop", "probability": 0.1, "estimate": [0.3], "sd": [0.1]}}
    trial = SimpleNamespace(trial_id="a", config={"trial_number": 3})
    recorder = Recorder(str(tmp_path), lambda _: "0003", lambda _: Ending("0003", "search", "pruned", None, [entry]))
    recorder.on_trial_start(0, [], trial)
    for step in (1, 2, 3):
        report(recorder, trial, step=step, tokens=100 * step, seconds=1.0 + 0.1 * step)
    report(recorder, trial, step=2, tokens=200, seconds=1.2, rung=0.25, evaluate_seconds=4.0)  # after a worker died
    report(recorder, trial, step=3, tokens=300, seconds=1.5)
    report(recorder, trial, score=0.5, evaluate_seconds=2.0)  # by a task of its own
    recorder.on_trial_complete(0, [], trial)
    curve = [json.loads(line) for line in (tmp_path / "trials/0003/curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve] == [1, 2, 3]
    assert curve[1]["rung"] == 0.25
    assert (curve[2]["score"], curve[2]["seconds"]) == (0.5, 1.5)
    result = json.loads((tmp_path / "trials/0003/result.json").read_text())
    assert result["metrics"]["step"] == 3
    assert result["seconds"]["evaluate"] == 6.0
    assert result["seconds"]["train"] == pytest.approx(1.1 + 1.2 + 1.3 + 1.2 + 1.5)
    (decision,) = result["promotion"]
    assert decision == {"rung": 0.25, "step": 2, "tokens": 200, "values": [0.4], **entry["promotion"]}


def test_a_trial_that_fails_before_its_first_step_has_a_result_and_no_curve(tmp_path: Path) -> None:
    trial = SimpleNamespace(trial_id="a", config={"trial_number": 3})
    recorder = Recorder(str(tmp_path), lambda _: "0003", lambda _: Ending("0003", "search", "failed", "too scarce", ()))
    recorder.on_trial_start(0, [], trial)
    report(recorder, trial, trial_state="failed", reason="too scarce", time_total_s=0.1)
    recorder.on_trial_complete(0, [], trial)
    assert not (tmp_path / "trials/0003/curve.jsonl").exists()
    result = json.loads((tmp_path / "trials/0003/result.json").read_text())
    assert (result["state"], result["error"]) == ("failed", "too scarce")


def ended(state: str, step: int, rungs: tuple[int, ...], *, steps: int = 40, number: int | None = 1) -> dict[str, Any]:
    return {
        "number": number,
        "state": state,
        "steps": steps,
        "metrics": {"step": step, "tokens": 100 * step, "score": 0.5},
        "promotion": [{"step": each} for each in rungs],
        "seconds": {
            "total": 10.0 + step + 5.0 * (len(rungs) + (state == "complete")),
            "train": float(step),
            "evaluate": 5.0 * (len(rungs) + (state == "complete")),
        },
    }


def test_what_promotion_saved(tmp_path: Path) -> None:
    results = [
        ended("complete", 40, (10, 20)),
        ended("complete", 40, (10, 20)),
        ended("pruned", 10, (10,)),
        ended("pruned", 22, (10, 20)),
        ended("failed", 7, ()),
        ended("complete", 40, (10, 20), number=None),
    ]
    saved = saved_compute(results)
    assert (saved.num_trials, saved.num_stopped) == (4, 2)
    assert saved.tokens_spent == 100 * (40 + 40 + 10 + 22)
    assert saved.tokens_to_the_end == 100 * 160
    assert saved.tokens_restarting == 100 * (70 + 70 + 10 + 32)
    assert saved.share == pytest.approx(0.3)
    assert saved.seconds_spent == sum(each["seconds"]["total"] for each in results[:4])
    expected = sum(each["seconds"]["total"] for each in results[:4]) + 30 + 18 + (15 - 5) + (15 - 10)
    assert saved.seconds_spent is not None
    assert saved.seconds_to_the_end == pytest.approx(expected)
    assert str(saved).startswith(
        "2 of 4 trials were stopped at rungs: 11,200 tokens trained, 30% less than the 16,000 of all trials to their "
        "ends, and 18,200 had each rung begun anew; "
    )
    # The report reads the same saving from the same files.
    storage.write_json(tmp_path / "sweep.json", {"name": "promoted", "command": "none"})
    for number, result in enumerate(results[:4]):
        facts = {"trial": f"{number:04d}", "kind": "search", "error": None}
        storage.write_json(tmp_path / f"trials/{number:04d}/result.json", {**result, **facts, "number": number})
        curve = json.dumps({"step": 1, "tokens": 100, "loss": 1.0})
        storage.write_bytes(tmp_path / f"trials/{number:04d}/curve.jsonl", f"{curve}\n".encode())
    cost = account(load(tmp_path))
    assert not isinstance(cost, str)
    assert cost.saved_seconds == pytest.approx(expected - saved.seconds_spent)
    untimed = saved_compute([{**each, "seconds": {}} for each in results])
    assert (untimed.seconds_spent, untimed.seconds_to_the_end) == (None, None)
    assert str(untimed).endswith("had each rung begun anew.")
    assert saved_compute([]).share == 0
