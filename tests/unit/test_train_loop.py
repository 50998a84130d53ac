"""The training loop on one worker: what it reports, and that runs which must agree do."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentflan_ray.sample import COMPONENTS
from agentflan_ray.tokens.block import COMPONENT_GROUPS, Block
from agentflan_ray.train import checkpoint
from agentflan_ray.train.blocks import RandomBlocks
from agentflan_ray.train.engine import Engine
from agentflan_ray.train.export import export
from agentflan_ray.train.loop import METRICS_FILE, MODEL_FOLDER, Rungs, train
from agentflan_ray.train.recipe import Placement, TrainRecipe

RECIPE = TrainRecipe(
    model="tiny-llama",
    block_length=64,
    blocks_per_step=4,
    learning_rate=1e-2,
    weight_decay=0.1,
    warmup_fraction=0.4,
    clip_norm=0.5,
)
BLOCKS = RandomBlocks(num_blocks=14, block_length=64, vocabulary_size=259)
VALIDATION = RandomBlocks(num_blocks=3, block_length=64, vocabulary_size=259, seed=1)


class Reports:
    """Keeps what a training reports."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []
        self.folders: dict[int, Path] = {}

    def __call__(self, metrics: dict[str, float], folder: Path | None) -> None:
        self.metrics.append(metrics)
        if folder is not None:
            self.folders[int(metrics["step"])] = folder

    def series(self, name: str) -> list[float]:
        return [metrics[name] for metrics in self.metrics]


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loop's temporary folders die with the test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def run(recipe: TrainRecipe = RECIPE, placement: Placement = Placement(), blocks: Any = BLOCKS, **rest: Any) -> Reports:  # noqa: B008
    reports = Reports()
    train(recipe, placement, blocks, report=reports, **rest)
    return reports


def test_what_is_reported(tmp_path: Path) -> None:
    reports = run(validation=VALIDATION, tensorboard=tmp_path / "board")
    assert reports.series("step") == [1, 2, 3, 4]
    assert reports.series("tokens") == [256, 512, 768, 1024]
    first, last = reports.metrics[0], reports.metrics[-1]
    # Two samples in each of 14 blocks: 62 targets at most; a tag is -1 one time in seven.
    assert 14 * 62 * 0.8 < last["supervised_tokens"] < 14 * 62 * 0.92
    assert first["loss"] == pytest.approx(math.log(259), rel=0.05)
    assert {name for name in first if name.startswith("loss/")} == {f"loss/{name}" for name in COMPONENTS}
    assert first["learning_rate"] == pytest.approx(5e-3)
    assert all(
        value > 0
        for name in ("grad_norm", "tokens_per_second", "tflops", "seconds", "memory_gib")
        for value in reports.series(name)
    )
    started = [name.partition("/")[2] for name in first if name.startswith("startup_seconds/")]
    assert started == ["DeepSpeed", "model", "engine", "first step"]
    assert not any(name.startswith("startup_seconds/") for name in last)
    assert "validation_loss" not in first
    assert "mfu" not in first  # a CPU has no peak to compare with
    parts = [last[f"validation_loss/{name}"] for name in COMPONENTS]
    assert last["validation_loss"] == pytest.approx(sum(parts) / len(parts))
    assert list(reports.folders) == [4]
    assert json.loads((reports.folders[4] / METRICS_FILE).read_text()) == last
    assert len(list((tmp_path / "board").iterdir())) == 1


def test_components_are_the_means_of_their_tokens() -> None:
    """The mean loss is the mean of the components', weighted by their supervised tokens."""

    class OneComponent:
        groups = COMPONENT_GROUPS

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Block:
            block = BLOCKS[index]
            return dataclasses.replace(block, tags=(block.tags >= 0).astype("int16") * 3 - 1)

    mixed, single = run(), run(blocks=OneComponent())
    assert single.metrics[0]["loss"] == pytest.approx(mixed.metrics[0]["loss"], rel=1e-6)
    assert single.metrics[0]["loss/understanding"] == single.metrics[0]["loss"]
    assert "loss/reasoning" not in single.metrics[0]


def bare_losses(num_steps: int) -> list[float]:
    """The same training written as a plain PyTorch loop, one global batch at a time."""
    from agentflan_ray.tokens.loader import Loader
    from agentflan_ray.train import models

    model = models.load_model("tiny-llama").train()
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": RECIPE.weight_decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=RECIPE.betas)
    losses = []
    for step in range(num_steps):
        total, count = torch.zeros(()), 0
        for block in itertools.chain(*Loader(BLOCKS, 64, 4)[step]):
            ids, positions = (torch.from_numpy(each).long()[None] for each in (block.input_ids, block.position_ids))
            logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[0, :-1]
            learnt = (torch.from_numpy(block.tags)[1:] >= 0) & (positions[0, 1:] > 0)
            total = total + torch.nn.functional.cross_entropy(logits[learnt], ids[0, 1:][learnt], reduction="sum")
            count += int(learnt.sum())
        loss = total / count
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, RECIPE.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = RECIPE.learning_rate_at(step, num_steps)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_every_zero_stage_trains_as_plain_pytorch_does(stage: Any) -> None:
    reports = run(dataclasses.replace(RECIPE, zero_stage=stage))
    assert reports.series("loss") == pytest.approx(bare_losses(4), rel=2e-5)


def test_bf16_agrees_roughly() -> None:
    reports = run(dataclasses.replace(RECIPE, zero_stage=1, precision="bf16"))
    assert reports.series("loss") == pytest.approx(bare_losses(4), rel=5e-3)


def test_the_micro_batch_and_activation_checkpointing_change_nothing() -> None:
    plain = run().series("loss")
    assert run(placement=Placement(micro_batch_size=4)).series("loss") == pytest.approx(plain, rel=2e-5)
    checkpointed = run(dataclasses.replace(RECIPE, activation_checkpointing=True))
    assert checkpointed.series("loss") == pytest.approx(plain, rel=2e-5)


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_a_resumed_run_is_the_uninterrupted_one(stage: Any) -> None:
    recipe = dataclasses.replace(RECIPE, zero_stage=stage, checkpoint_every=2)
    whole = run(recipe, validation=VALIDATION)
    assert list(whole.folders) == [2, 4]
    resumed = run(recipe, validation=VALIDATION, resume_from=checkpoint.read(whole.folders[2]))
    assert [learnt_of(each) for each in resumed.metrics] == [learnt_of(each) for each in whole.metrics[2:]]
    assert "startup_seconds/checkpoint" in resumed.metrics[0]


def learnt_of(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics without what was measured of the machine."""
    measured = ("seconds", "tokens_per_second", "tflops", "memory_gib")
    return {k: v for k, v in metrics.items() if k not in measured and not k.startswith("startup_seconds/")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 1e-3}, r"was trained with learning_rate=0.01, but the recipe says 0.001"),
        ({"seed": 5}, r"was trained with seed=0, but the recipe says 5"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused(change: dict[str, Any], words: str) -> None:
    recipe = dataclasses.replace(RECIPE, checkpoint_every=2)
    saved = checkpoint.read(run(recipe, blocks=RandomBlocks(8, 64, 259)).folders[2])
    with pytest.raises(ValueError, match=words):
        run(dataclasses.replace(recipe, **change), resume_from=saved)
    with pytest.raises(ValueError, match="The checkpoint is at step 2, but the plan has only 2 steps"):
        run(recipe, blocks=RandomBlocks(8, 64, 259), resume_from=saved)


@pytest.mark.parametrize("stage", [0, 2])
def test_a_loss_that_is_not_finite_stops_before_the_step(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    learn = Engine.update

    def spoil(engine: Engine, learning_rate: float) -> float:
        norm = learn(engine, learning_rate)
        with torch.no_grad():
            engine.model.get_output_embeddings().weight.fill_(math.nan)
        updates.append(learning_rate)
        return norm

    updates: list[float] = []
    monkeypatch.setattr(Engine, "update", spoil)
    with pytest.raises(FloatingPointError, match=r"The loss of step 2 \(blocks 4 to 7\) is not finite in reasoning, "):
        run(dataclasses.replace(RECIPE, zero_stage=stage))
    assert len(updates) == 1


@pytest.mark.parametrize("stage", [0, 2])
def test_a_gradient_that_is_not_finite_stops_before_the_step(stage: Any) -> None:
    recipe = dataclasses.replace(RECIPE, zero_stage=stage, learning_rate=1e30, warmup_fraction=0.0, clip_norm=0.0)
    with pytest.raises(FloatingPointError, match=r"The gradient of step 2 \(blocks 4 to 7\) is not finite; nothing"):
        run(recipe)


def test_blocks_that_teach_nothing_are_refused() -> None:
    class Prompts:
        groups = COMPONENT_GROUPS

        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Block:
            block = BLOCKS[index]
            return dataclasses.replace(block, tags=block.tags * 0 - 1)

    with pytest.raises(ValueError, match=r"Step 1 \(blocks 0 to 3\) has no supervised token"):
        run(blocks=Prompts())
    with pytest.raises(ValueError, match="None of the 5 validation blocks has a supervised token"):
        run(blocks=RandomBlocks(4, 64, 259), validation=Prompts())
    with pytest.raises(ValueError, match="The plan holds no blocks"):
        run(blocks=RandomBlocks(0, 64, 259))
    with pytest.raises(ValueError, match="Block 0 has 32 tokens, but the recipe's block_length is 64"):
        run(blocks=RandomBlocks(4, 32, 259))


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_the_export_is_the_trained_model(stage: Any) -> None:
    recipe = dataclasses.replace(RECIPE, zero_stage=stage)
    reports = run(recipe, validation=VALIDATION, card={"data": {"reasoning": "0123abcd"}})
    folder = reports.folders[4] / MODEL_FOLDER
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert AutoModelForCausalLM.from_pretrained(folder).config.tie_word_embeddings
    readme = (folder / "README.md").read_text()
    assert '"reasoning": "0123abcd"' in readme
    assert '"learning_rate": 0.01' in readme
    # Zero further steps on the exported weights: their validation loss is that of the training's end.
    engine = Engine(dataclasses.replace(recipe, model=str(folder), zero_stage=0), Placement())
    from agentflan_ray.train.loop import validate

    again = validate(engine, VALIDATION)
    assert again["validation_loss"] == pytest.approx(reports.metrics[-1]["validation_loss"], rel=1e-6)
    with pytest.raises(ValueError, match="exists already; give a new directory"):
        export(engine, engine.tokenizer, folder, {})


def test_finish_gets_the_trained_model() -> None:
    seen: list[float] = []

    def finish(model: Any, tokenizer: Any) -> dict[str, float]:
        assert not model.training
        ids = torch.tensor([tokenizer.encode("Thought:")])
        seen.append(float(model(input_ids=ids).logits.detach().sum()))
        return {"score": 0.5}

    reports = run(blocks=RandomBlocks(8, 64, 259), finish=finish)
    assert len(seen) == 1
    assert [metrics.get("score") for metrics in reports.metrics] == [None, 0.5]
    with pytest.raises(ValueError, match="zero_stage is 3, which leaves no rank with a whole model"):
        run(dataclasses.replace(RECIPE, zero_stage=3), finish=finish)


class ScoreThere:
    """Scores by the model's own numbers, and meddles with what it may meddle with."""

    def __init__(self) -> None:
        self.rungs: list[float] = []

    def __call__(self, model: Any, tokenizer: Any, rung: float) -> dict[str, Any]:
        assert not model.training
        self.rungs.append(rung)
        torch.set_float32_matmul_precision("medium")
        ids = torch.tensor([tokenizer.encode("Thought:")])
        return {"score": float(model(input_ids=ids).logits.detach().abs().mean())}


def test_a_rung_is_scored_and_validated_and_changes_nothing() -> None:
    score = ScoreThere()
    plain, measured = run(), run(validation=VALIDATION, rungs=Rungs({1: 0.25, 3: 0.75}, score))
    assert score.rungs == [0.25, 0.75]
    assert [metrics.get("rung") for metrics in measured.metrics] == [0.25, None, 0.75, None]
    scores = [metrics.get("score") for metrics in measured.metrics]
    assert scores[0] != scores[2]
    assert [number is None for number in scores] == [False, True, False, True]
    assert ["validation_loss" in metrics for metrics in measured.metrics] == [True, False, True, True]
    assert measured.series("loss") == plain.series("loss")
    assert measured.series("grad_norm") == plain.series("grad_norm")
    assert torch.get_float32_matmul_precision() == "highest"
    assert list(measured.folders) == [4], "a training that keeps no states keeps none at a rung"


def test_a_training_that_is_cut_off_after_a_rung_does_not_score_it_again() -> None:
    recipe = dataclasses.replace(RECIPE, checkpoint_every=100)
    first = ScoreThere()
    whole = run(recipe, validation=VALIDATION, rungs=Rungs({2: 0.5, 3: 0.75}, first))
    saved = checkpoint.read(whole.folders[2])
    assert saved.metrics["rung"] == 0.5
    assert saved.metrics["score"] == whole.metrics[1]["score"]
    again = ScoreThere()
    resumed = run(recipe, validation=VALIDATION, rungs=Rungs({2: 0.5, 3: 0.75}, again), resume_from=saved)
    assert again.rungs == [0.75]
    assert resumed.series("step") == [3, 4]
    assert resumed.metrics[0]["score"] == whole.metrics[2]["score"]


def test_a_training_that_is_cut_off_while_a_rung_is_scored_scores_it_then() -> None:
    recipe = dataclasses.replace(RECIPE, checkpoint_every=1)

    def cut_off(model: Any, tokenizer: Any, rung: float) -> dict[str, Any]:
        raise KeyboardInterrupt

    reports = Reports()
    with pytest.raises(KeyboardInterrupt):
        train(recipe, Placement(), BLOCKS, report=reports, rungs=Rungs({2: 0.5}, cut_off))
    assert list(reports.folders) == [1]
    score = ScoreThere()
    resumed = run(recipe, rungs=Rungs({2: 0.5}, score), resume_from=checkpoint.read(reports.folders[1]))
    assert score.rungs == [0.5]
    assert resumed.series("loss") == run().series("loss")[1:]


def test_rungs_without_scores_report_losses_and_wrong_ones_are_refused() -> None:
    recipe = dataclasses.replace(RECIPE, zero_stage=3)
    reports = run(recipe, validation=VALIDATION, rungs=Rungs({2: 0.5}))
    assert reports.metrics[1]["rung"] == 0.5
    assert "validation_loss" in reports.metrics[1]
    with pytest.raises(ValueError, match="zero_stage is 3, which leaves no rank with a whole model to score at a rung"):
        run(recipe, rungs=Rungs({2: 0.5}, ScoreThere()))
    for step in (0, 4):
        with pytest.raises(ValueError, match=f"A rung lies after step {step}, but must lie between the steps 1 and 3"):
            run(rungs=Rungs({step: 0.5}, ScoreThere()))


def test_the_wrong_number_of_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="The placement asks for 2 workers, but 1 run"):
        run(placement=Placement(num_workers=2))
