"""Training with several workers: plain processes, and Ray Train with a worker that dies."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.multiprocessing
from ray.train.v2.api.callback import UserCallback
from transformers import AutoModelForCausalLM

from agentflan_ray.sample import COMPONENTS
from agentflan_ray.tokens.block import Block
from agentflan_ray.train.blocks import RandomBlocks
from agentflan_ray.train.loop import train
from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.trainer import make_trainer

RECIPE = TrainRecipe(
    model="tiny-llama", block_length=64, blocks_per_step=4, learning_rate=1e-2, weight_decay=0.1, clip_norm=0.5
)
STAGES: tuple[Literal[0, 1, 2, 3], ...] = (0, 1, 2, 3)
BLOCKS = RandomBlocks(num_blocks=18, block_length=64, vocabulary_size=259)
VALIDATION = RandomBlocks(num_blocks=3, block_length=64, vocabulary_size=259, seed=1)


def run(recipe: TrainRecipe, placement: Placement, **rest: Any) -> list[dict[str, float]]:
    """The losses of every step."""
    metrics: list[dict[str, float]] = []

    def report(each: dict[str, float], _folder: Path | None) -> None:
        metrics.append(losses(each))

    train(recipe, placement, BLOCKS, validation=VALIDATION, report=report, **rest)
    return metrics


def losses(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if "loss" in name or name == "grad_norm"}


def assert_close(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert [each.keys() for each in found] == [each.keys() for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def run_rank(rank: int, port: int, out: str) -> None:
    """One of two processes: every ZeRO stage after the other."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found: list[list[dict[str, float]]] = []
    for stage in STAGES:
        recipe = dataclasses.replace(RECIPE, zero_stage=stage)
        found.append(run(recipe, Placement(num_workers=2), card={}))
    if rank == 0:
        Path(out).write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def test_two_workers_train_as_one_at_every_zero_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both also come at once to an empty cache, where one of them has to make the model."""
    monkeypatch.setenv("AGENTFLAN_CACHE", str(tmp_path / "cache"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(run_rank, args=(port, str(tmp_path / "found.json")), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    expected = run(RECIPE, Placement())
    for stage, found in zip(STAGES, json.loads((tmp_path / "found.json").read_text()), strict=True):
        assert len(found) == 5, stage
        assert_close(found, expected)


@dataclass(frozen=True)
class FragileBlocks:
    """Blocks whose reader dies once, when it comes to a given block and three steps have been reported."""

    reports: str
    marker: str
    fatal_block: int

    def __call__(self) -> FragileBlocks:
        return self

    def __len__(self) -> int:
        return len(BLOCKS)

    def __getitem__(self, index: int) -> Block:
        if index == self.fatal_block and not Path(self.marker).exists():
            while len(Path(self.reports).read_text().splitlines()) < 3:
                time.sleep(0.05)
            Path(self.marker).touch()
            os._exit(1)
        return BLOCKS[index]


class Recorder(UserCallback):  # type: ignore[misc]
    """Appends what every worker reports to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def after_report(self, run_context: Any, metrics: list[dict[str, float]], checkpoint: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(metrics) + "\n")


# Ray's own DataContext warns about its own defaults when a trainer starts.
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray")
@pytest.mark.usefixtures("local_ray")
def test_a_worker_that_dies_recovers_and_repeats_the_losses(tmp_path: Path) -> None:
    """Two Ray Train workers, ZeRO-2; rank 1 dies at step 4, after the checkpoint of step 2."""
    recipe = dataclasses.replace(RECIPE, zero_stage=2, checkpoint_every=2)
    trainer = make_trainer(
        recipe,
        Placement(num_workers=2),
        FragileBlocks(reports=str(tmp_path / "reports.jsonl"), marker=str(tmp_path / "died"), fatal_block=13),
        storage_path=str(tmp_path / "results"),
        name="fragile",
        make_validation=VALIDATION,
        card={"data": "0123abcd"},
        max_failures=1,
        callbacks=[Recorder(tmp_path / "reports.jsonl")],
    )
    result = trainer.fit()
    assert (tmp_path / "died").exists()
    reports = [json.loads(line) for line in (tmp_path / "reports.jsonl").read_text().splitlines()]
    assert [ranks[0]["step"] for ranks in reports] == [1, 2, 3, 3, 4, 5]
    assert all(losses(ranks[0]) == losses(ranks[1]) for ranks in reports)
    assert losses(reports[2][0]) == losses(reports[3][0])
    expected = run(RECIPE, Placement())
    assert_close([losses(ranks[0]) for ranks in [*reports[:2], *reports[3:]]], expected)
    assert result.metrics is not None
    assert {f"loss/{name}" for name in COMPONENTS} | {"validation_loss"} <= result.metrics.keys()
    with result.checkpoint.as_directory() as folder:
        model = AutoModelForCausalLM.from_pretrained(Path(folder) / "model")
        assert sorted(path.name for path in Path(folder).iterdir()) == ["metrics.json", "model", "state"]
    assert model.dtype == torch.float32
