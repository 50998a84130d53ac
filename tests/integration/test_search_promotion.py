"""Three real trials of a tiny model on a real Ray, with rungs: one goes on, one loses its worker between two of them,
one is stopped."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from optuna.trial import TrialState
from ray.tune import Callback

from agentflan_ray import storage
from agentflan_ray.analyse.cost import account
from agentflan_ray.analyse.frame import load
from agentflan_ray.corpus.build import Order, ToolboxDraw, build
from agentflan_ray.mixture import make_plan, proportional_weights
from agentflan_ray.search.promotion import Promotion
from agentflan_ray.search.record import Ending, Recorder, saved_compute
from agentflan_ray.search.runner import run
from agentflan_ray.search.searcher import TRIAL_NUMBER, Objective, StudySearcher
from agentflan_ray.search.space import Space, named_mixes, to_mixture
from agentflan_ray.search.trial import TrialSetup, run_trial, trial_name
from agentflan_ray.tokens.blocks import write_validation_plan
from agentflan_ray.tokens.tokenise import to_index, tokenise
from agentflan_ray.tokens.tokenizer import load_tokenizer
from agentflan_ray.toolbox import ITEM_CASES
from agentflan_ray.train.models import resolve
from agentflan_ray.train.recipe import Placement, TrainRecipe

RECIPE = TrainRecipe(
    model="tiny-llama", block_length=2048, blocks_per_step=1, learning_rate=1e-2, validate_every=4, checkpoint_every=1
)
BUDGET = 40_000
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray"),
]


class KillAWorker(Callback):  # type: ignore[misc]  # ray is untyped
    """Kills the worker of trial 1 once, at its second step after the first rung."""

    def __init__(self) -> None:
        self.killed_after: int | None = None
        self._rung: int | None = None

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if trial.config[TRIAL_NUMBER] != 1 or self.killed_after is not None or "step" not in result:
            return
        if result.get("rung") == 0.25:
            self._rung = result["step"]
        elif self._rung is not None and result["step"] >= self._rung + 2:
            self.killed_after = result["step"]
            for process in psutil.Process().children(recursive=True):
                if process.name().startswith("ray::RayTrainWo") or "RayTrainWorker" in " ".join(process.cmdline()):
                    os.kill(process.pid, signal.SIGKILL)


def ending(searcher: StudySearcher, trial: Any) -> Ending:
    known = searcher.trial_of(trial.trial_id)
    kind, reason = known.user_attrs.get("mix", "search"), known.user_attrs.get("reason")
    return Ending(trial_name(known.number), kind, STATES[known.state], reason, known.user_attrs.get("rungs", ()))


def test_trials_go_on_or_stop_at_rungs_and_never_begin_again(tmp_path: Path) -> None:
    corpus = build(Order((ToolboxDraw.of_size(160),)), str(tmp_path / "store"))
    tokens = tokenise(corpus, resolve("tiny-llama"), RECIPE.block_length)
    setup = TrialSetup(
        run_uri=str(tmp_path / "runs/promoted"),
        tokens=tokens,
        train=RECIPE,
        placement=Placement(cpus_per_worker=0.9),
        budget=BUDGET,
        max_repeats=8,
        items=tuple(dict.fromkeys(ITEM_CASES, 2).items()),
        pad_token_id=load_tokenizer(resolve("tiny-llama")).pad_token_id,
        evaluation_batch=12,
        rungs=(0.25, 0.5, 1.0),
        rung_items=tuple(dict.fromkeys(ITEM_CASES, 1).items()),
    )
    write_validation_plan(tokens, 4_000, RECIPE.block_length, setup.validation.plan_uri)
    index = to_index(tokens.index_table(validation=False))
    mixes = named_mixes(proportional_weights(index))
    del mixes["uniform"]
    space = Space(fraction=1.0).including(mixes)
    searcher = StudySearcher(
        space,
        [Objective("score", "max")],
        storage=storage.join(setup.run_uri, "study.db"),
        study_name="promoted",
        num_trials=3,
        sampler="mixture",
        mixes={name: space.complete(mix) for name, mix in mixes.items()},
    )
    killer = KillAWorker()
    run(
        partial(run_trial, setup=setup, seed=0),
        searcher,
        name="search",
        storage_path=storage.join(setup.run_uri, "tune"),
        # Nobody is so surely among the best but the first one seen and the named mixes.
        early_stopping=Promotion(threshold=0.999, min_trials=2),
        callbacks=[
            Recorder(setup.run_uri, lambda trial: trial_name(trial.config[TRIAL_NUMBER]), partial(ending, searcher)),
            killer,
        ],
    )

    trials = searcher.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED]
    assert [[each["rung"] for each in trial.user_attrs["rungs"]] for trial in trials] == [[0.25, 0.5]] * 2 + [[0.25]]
    decisions = [[each["promotion"]["decision"] for each in trial.user_attrs["rungs"]] for trial in trials]
    assert decisions == [["go on", "go on"], ["go on", "go on"], ["stop"]]
    assert killer.killed_after is not None

    results = [json.loads(Path(setup.folder(trial_name(n)), "result.json").read_text()) for n in range(3)]
    for number, result in enumerate(results):
        folder = Path(setup.folder(trial_name(number)))
        curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
        last = result["metrics"]["step"]
        assert [row["step"] for row in curve] == list(range(1, last + 1)), "each step once, also after a worker died"
        rungs = {row["step"]: row["rung"] for row in curve if "rung" in row}
        planned = {each["step"]: each["rung"] for each in result["rungs"] if each["step"] <= last}
        assert rungs == planned
        for row in curve:
            if "rung" in row:
                assert {"validation_loss", "score", "standard_error/score", "evaluate_seconds"} <= row.keys()
        for each, entry in zip(result["promotion"], trials[number].user_attrs["rungs"], strict=True):
            assert each["tokens"] == each["step"] * RECIPE.block_length
            assert each["decision"] == entry["promotion"]["decision"]
            scores = json.loads((folder / f"rung-{each['rung']:g}.json").read_text())
            assert scores["metrics"]["score"]["n"] == 6
            assert pq.read_metadata(folder / f"rung-{each['rung']:g}-samples.parquet").num_rows == 6
        # The plan of a trial begins with that of its first rung alone.
        plan = pq.read_table(folder / "plan.parquet").to_pydict()
        mixture = to_mixture({**result["parameters"], "fraction": 0.25}, BUDGET, setup.max_repeats)
        first = tokens.index_table(validation=False)["id"].take(make_plan(index, mixture).rows).to_pylist()
        until = result["rungs"][0]["step"]
        assert sorted(first) == sorted(i for i, block in zip(plan["id"], plan["block"], strict=True) if block < until)
    assert results[2]["metrics"]["step"] < results[2]["steps"]
    assert results[2]["state"] == "pruned"

    saved = saved_compute(results)
    assert (saved.num_trials, saved.num_stopped) == (3, 1)
    assert saved.tokens_spent < saved.tokens_to_the_end
    storage.write_json(storage.join(setup.run_uri, "sweep.json"), {"name": "promoted", "command": "none"})
    cost = account(load(Path(setup.run_uri)))
    assert not isinstance(cost, str)
    assert cost.saved_share is not None
    assert 0 < cost.saved_share < 0.5
