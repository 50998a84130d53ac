"""Training with several workers: plain processes, and Ray Train with a worker that dies."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import multiprocessing.forkserver
import os
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import ray.train
import torch
import torch.multiprocessing
from ray.train.v2.api.callback import UserCallback
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from agentflan_ray.sample import COMPONENTS
from agentflan_ray.tokens.block import COMPONENT_GROUPS, Block, Blocks
from agentflan_ray.train import checkpoint
from agentflan_ray.train.adapters import LoraRecipe
from agentflan_ray.train.blocks import RandomBlocks
from agentflan_ray.train.environment import prepare_worker
from agentflan_ray.train.loop import MODEL_FOLDER, train
from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.trainer import _Reporter, make_trainer
from agentflan_ray.train.watch import Watched, unwatched, watching_ends

RECIPE = TrainRecipe(
    model="tiny-llama", block_length=64, blocks_per_step=4, learning_rate=1e-2, weight_decay=0.1, clip_norm=0.5
)
Stage = Literal[0, 1, 2, 3]
STAGES: tuple[Stage, ...] = (0, 1, 2, 3)
BLOCKS = RandomBlocks(num_blocks=18, block_length=64, vocabulary_size=259)
NUM_STEPS = 5
LORA = LoraRecipe(rank=4, alpha=8)
VALIDATION = RandomBlocks(num_blocks=3, block_length=64, vocabulary_size=259, seed=1)

Metrics = list[dict[str, float]]


@dataclass(frozen=True)
class OneSampleEach:
    """The samples of :data:`BLOCKS`, which are two to a block, in blocks of their own, filled up with padding."""

    groups = COMPONENT_GROUPS

    def __len__(self) -> int:
        return 2 * len(BLOCKS)

    def __getitem__(self, index: int) -> Block:
        block = BLOCKS[index // 2]
        border = int(np.flatnonzero(block.position_ids == 0)[-1])
        part = slice(0, border) if index % 2 == 0 else slice(border, None)
        missing = len(block.tags) - len(block.tags[part])
        return Block(
            input_ids=np.pad(block.input_ids[part], (0, missing)),
            position_ids=np.concatenate([block.position_ids[part], np.arange(missing, dtype=np.int32)]),
            tags=np.pad(block.tags[part], (0, missing), constant_values=-1),
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of several that the same processes do, and the folder that all it leaves lies in."""

    out: str
    recipe: TrainRecipe
    placement: Placement
    blocks: Blocks = BLOCKS
    resume_from: str | None = None

    @property
    def folder(self) -> Path:
        return Path(self.out)

    def saved_at(self, step: int) -> Path:
        """The checkpoint of a step, all ranks' parts together."""
        return self.folder / f"step_{step}"

    def metrics(self) -> Metrics:
        found: Metrics = json.loads((self.folder / "metrics.json").read_text())
        return found

    def weights(self) -> dict[str, torch.Tensor]:
        """The trained model's."""
        found: dict[str, torch.Tensor] = load_file(self.saved_at(NUM_STEPS) / MODEL_FOLDER / "model.safetensors")
        return found


def do(run: Run, rank: int = 0) -> None:
    metrics: Metrics = []

    def report(each: dict[str, float], folder: Path | None) -> None:
        metrics.append(losses(each))
        if folder is not None:
            shutil.copytree(folder, run.saved_at(int(each["step"])), dirs_exist_ok=True)

    train(
        run.recipe,
        run.placement,
        run.blocks,
        validation=VALIDATION,
        report=report,
        card={},
        scratch=run.folder / "scratch",
        resume_from=checkpoint.read(Path(run.resume_from)) if run.resume_from else None,
    )
    checkpoint.wait_for_all()
    if rank == 0:
        (run.folder / "metrics.json").write_text(json.dumps(metrics))


def losses(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if "loss" in name or name == "grad_norm"}


def assert_close(found: Metrics, expected: Metrics) -> None:
    assert [each.keys() for each in found] == [each.keys() for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def assert_same_training(found: Run, expected: Run) -> None:
    """Losses and norms agree within a relative 1e-4, final weights within 2e-4: a fiftieth of one of Adam's steps."""
    assert_close(found.metrics(), expected.metrics()[-len(found.metrics()) :])
    assert weight_difference(found, expected) < 2e-4


def loss_difference(found: Run, expected: Run) -> float:
    """The largest relative difference of any step's loss, its parts and the gradient's norm."""
    pairs = zip(found.metrics(), expected.metrics()[-len(found.metrics()) :], strict=True)
    return max(abs(one[name] / other[name] - 1) for one, other in pairs for name in other)


def weight_difference(found: Run, expected: Run) -> float:
    """The largest absolute difference of any final weight."""
    one, other = found.weights(), expected.weights()
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in other)


def run_rank(rank: int, size: int, port: int, cache: str | None, runs: Sequence[Run]) -> None:
    """One of several processes that do the runs one after the other."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    if cache is not None:
        os.environ["AGENTFLAN_CACHE"] = cache
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    for run in runs:
        do(run, rank)
    torch.distributed.destroy_process_group()


def do_with(size: int, runs: Sequence[Run]) -> None:
    """Do runs with several workers, in one group of processes, forked from :func:`server`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(  # type: ignore[attr-defined, no-untyped-call]
        run_rank, (size, port, os.environ.get("AGENTFLAN_CACHE"), runs), nprocs=size, start_method="forkserver"
    )


@pytest.fixture(scope="module")
def server() -> None:
    """Start the process that others are forked from, with all imported that they need, beside the first test.

    Each spawned one would spend five seconds on that; this process holds threads, so it can't be forked itself. The
    server keeps the environment that it is started in.
    """
    prepare_worker(use_gpu=False, num_threads=1)
    multiprocessing.get_context("forkserver").set_forkserver_preload(
        [__name__, "deepspeed", "peft", "transformers.models.llama.modeling_llama"]
    )
    multiprocessing.forkserver.ensure_running()


def single(folder: Path, name: str, **changes: Any) -> Run:
    recipe = dataclasses.replace(RECIPE, checkpoint_every=2, **changes)
    return Run(out=str(folder / name), recipe=recipe, placement=Placement())


def with_several(run: Run, name: str, size: int = 2, **changes: Any) -> Run:
    placement = Placement(num_workers=size, allow_uneven=True)
    return dataclasses.replace(run, out=str(run.folder.with_name(name)), placement=placement, **changes)


def check_other_numbers(folder: Path, settings: dict[str, dict[str, Any]], uneven: Sequence[str]) -> None:
    """Two workers train as one does, and each goes on with what the other wrote.

    Those named in ``uneven`` are also trained by three, which can't share a step of four blocks evenly; three go on
    with what two wrote, and one with what three wrote.
    """
    ones = {name: single(folder, f"one-{name}", **changes) for name, changes in settings.items()}
    for one in ones.values():
        do(one)
    twos = {name: with_several(one, f"two-{name}") for name, one in ones.items()}
    grown = {name: with_several(one, f"grown-{name}", resume_from=str(one.saved_at(2))) for name, one in ones.items()}
    do_with(2, [*twos.values(), *grown.values()])
    for name, one in ones.items():
        assert_same_training(twos[name], one)
        assert_goes_on(grown[name], one)
        shrunk = dataclasses.replace(one, out=str(folder / f"shrunk-{name}"), resume_from=str(twos[name].saved_at(2)))
        do(shrunk)
        assert_goes_on(shrunk, one)
    if uneven:
        threes = {name: with_several(ones[name], f"three-{name}", 3) for name in uneven}
        later = {
            name: with_several(ones[name], f"later-{name}", 3, resume_from=str(twos[name].saved_at(2)))
            for name in uneven
        }
        do_with(3, [*threes.values(), *later.values()])
        for name in uneven:
            assert_same_training(threes[name], ones[name])
            assert_goes_on(later[name], ones[name])
            saved = str(threes[name].saved_at(2))
            back = dataclasses.replace(ones[name], out=str(folder / f"back-{name}"), resume_from=saved)
            do(back)
            assert_goes_on(back, ones[name])


def assert_goes_on(found: Run, expected: Run) -> None:
    """It began with the checkpoint of step 2, and ended as the uninterrupted one."""
    assert len(found.metrics()) == NUM_STEPS - 2
    assert_same_training(found, expected)


@pytest.mark.usefixtures("server")
def test_any_number_of_workers_trains_as_one_and_goes_on_with_the_others_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZeRO-2 and 3. Two also come at once to an empty cache, where one of them has to make the model."""
    monkeypatch.setenv("AGENTFLAN_CACHE", str(tmp_path / "cache"))
    check_other_numbers(tmp_path, {"2": {"zero_stage": 2}, "3": {"zero_stage": 3}}, uneven=["2"])


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_any_number_of_workers_trains_as_one_at_the_other_zero_stages(tmp_path: Path) -> None:
    stages = {str(stage): {"zero_stage": stage} for stage in (0, 1)}
    check_other_numbers(tmp_path, stages, uneven=["0", "1"])
    check_other_numbers(tmp_path, {"uneven-3": {"zero_stage": 3}}, uneven=["uneven-3"])


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_the_number_of_workers_may_change_with_offload_and_adapters(tmp_path: Path) -> None:
    """Both hold less or other state than a plain training: Adam's on the host, and that of the adapters alone."""
    settings: dict[str, dict[str, Any]] = {
        "optimizer-1": {"zero_stage": 1, "offload": "optimizer"},
        "optimizer-2": {"zero_stage": 2, "offload": "optimizer"},
        "optimizer-3": {"zero_stage": 3, "offload": "optimizer"},
        "parameters-3": {"zero_stage": 3, "offload": "parameters"},
        **{f"lora-{stage}": {"zero_stage": stage, "lora": LORA} for stage in STAGES},
        "lora-optimizer-2": {"zero_stage": 2, "lora": LORA, "offload": "optimizer"},
        "lora-parameters-3": {"zero_stage": 3, "lora": LORA, "offload": "parameters"},
    }
    check_other_numbers(tmp_path, settings, uneven=["parameters-3", "lora-2"])


def test_a_converted_state_is_kept_and_checked(tmp_path: Path) -> None:
    """It is converted once; where a file of it was altered since, once more."""
    one = single(tmp_path, "one", zero_stage=2)
    do(one)
    saved = checkpoint.read(one.saved_at(2))
    made = checkpoint.universal(saved, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in sorted(made.rglob("*.pt"))}
    assert checkpoint.universal(saved, tmp_path) == made
    assert {path: path.stat().st_mtime_ns for path in sorted(made.rglob("*.pt"))} == files
    spoilt = next(path for path in files if path.name == "exp_avg.pt")
    content = bytearray(spoilt.read_bytes())
    content[-100] ^= 1
    spoilt.write_bytes(content)
    checkpoint.universal(saved, tmp_path)
    assert spoilt.read_bytes() != bytes(content)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", made.name]


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_sameness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table of what must not matter, against one worker with ZeRO-0, packed samples and four micro-batches."""
    reference = single(tmp_path, "reference")
    runs = {f"ZeRO-{stage}": single(tmp_path, f"zero-{stage}", zero_stage=stage) for stage in STAGES[1:]}
    runs["one micro-batch of four blocks"] = dataclasses.replace(
        single(tmp_path, "whole-batch"), placement=Placement(micro_batch_size=4)
    )
    runs["activation checkpointing"] = single(tmp_path, "recomputed", activation_checkpointing=True)
    runs["a sample in each block"] = dataclasses.replace(
        single(tmp_path, "unpacked", blocks_per_step=8), blocks=OneSampleEach()
    )
    for run in (reference, *runs.values()):
        do(run)
    twos = {
        f"two workers, ZeRO-{stage}": with_several(dataclasses.replace(reference, recipe=recipe), f"two-{stage}")
        for stage, recipe in ((stage, dataclasses.replace(reference.recipe, zero_stage=stage)) for stage in STAGES)
    }
    do_with(2, list(twos.values()))
    threes = {
        f"three workers, ZeRO-{run.recipe.zero_stage}": with_several(run, f"three-{run.recipe.zero_stage}", 3)
        for run in twos.values()
    }
    do_with(3, list(threes.values()))
    runs |= twos | threes
    with capsys.disabled():
        print("\nlargest difference of".ljust(34), "losses (relative)   final weights")  # noqa: T201
        for name, run in runs.items():
            found = f"{loss_difference(run, reference):.1e}", f"{weight_difference(run, reference):.1e}"
            print(name.ljust(34), found[0].ljust(19), found[1])  # noqa: T201
    for run in runs.values():
        assert_same_training(run, reference)


def hang_in_a_step(blocks: Blocks, log: Path) -> None:
    blocks[1]
    log.write_text("It hangs.\n")
    time.sleep(60)


def train_slowly_and_hang(log: str, later: str) -> None:
    """A process in which all that may take long takes 1.2 s, and a step may take one."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    ray.train.report = lambda *_, **__: time.sleep(1.2)
    blocks = Watched(RandomBlocks(4, 8, 259), hang_seconds=1)
    with watching_ends():
        blocks[0]
        _Reporter(num_steps=9)({"step": 1}, None)
        blocks[0]
        unwatched(lambda model, tokenizer: time.sleep(1.2))(None, None)  # type: ignore[arg-type, return-value]
        blocks[0]
    time.sleep(1.2)
    hang_in_a_step(blocks, Path(later))


@pytest.mark.usefixtures("server")
def test_a_process_that_hangs_in_a_step_says_where_and_ends(tmp_path: Path) -> None:
    """And not while it copies a checkpoint, evaluates, or has left the training."""
    log, later = tmp_path / "log", tmp_path / "later"
    arguments = (str(log), str(later))
    process = multiprocessing.get_context("forkserver").Process(target=train_slowly_and_hang, args=arguments)
    process.start()
    process.join(30)
    assert process.exitcode == 1
    assert later.exists(), log.read_text()
    assert "Timeout (0:00:01)!" in log.read_text()
    assert "in hang_in_a_step" in log.read_text()


@dataclass(frozen=True)
class FragileBlocks:
    """Blocks whose reader dies once, when it comes to a given block and three steps have been reported."""

    groups = COMPONENT_GROUPS

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
def test_a_worker_that_dies_recovers_and_repeats_the_losses(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two Ray Train workers, ZeRO-2; rank 1 dies at step 4, after the checkpoint of step 2.

    Then the same run, its newest checkpoint damaged, is started again: it goes on from the one before.
    """
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
    one = single(tmp_path_factory.mktemp("undisturbed"), "one")
    do(one)
    assert_close([losses(ranks[0]) for ranks in [*reports[:2], *reports[3:]]], one.metrics())
    assert result.metrics is not None
    assert {f"loss/{name}" for name in COMPONENTS} | {"validation_loss"} <= result.metrics.keys()
    with result.checkpoint.as_directory() as folder:
        model = AutoModelForCausalLM.from_pretrained(Path(folder) / MODEL_FOLDER)
        assert checkpoint.read(Path(folder)).step == NUM_STEPS
    assert model.dtype == torch.float32
    run = tmp_path / "results/fragile"
    kept = sorted(run.glob("step_*"))
    assert [path.name.partition("-")[0] for path in kept] == ["step_000004", "step_000005"]
    shard = next(kept[1].rglob("*rank_1_*_optim_states.pt"))
    shard.write_bytes(shard.read_bytes()[:-1])
    trainer = make_trainer(
        recipe,
        Placement(num_workers=2),
        BLOCKS,
        storage_path=str(tmp_path / "results"),
        name="fragile",
        make_validation=VALIDATION,
        card={"data": "0123abcd"},
        callbacks=[Recorder(tmp_path / "again.jsonl")],
    )
    trainer.fit()
    again = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()]
    assert [ranks[0]["step"] for ranks in again] == [5]
    assert losses(again[0][0]) == losses(reports[-1][0])
