"""Break trainings in eleven ways, on a real Ray, and see that each recovers or says why it stops.

Hypothesis: whatever dies or is spoilt, a training ends with the losses and weights of one that nothing happened to, or
stops with one sentence; no damaged checkpoint is ever gone on from. Metric: the largest relative difference of any
step's losses, and of the final weights. Stop: after each fault once, 13 minutes on two busy cores.

    python experiments/faults.py                     # all; exit status 1 where one did not end as it should
    python experiments/faults.py hang node-lost      # some

Two workers train the tiny random Llama with ZeRO-2 for ten steps, with a checkpoint every two. On Linux it starts
itself again in a mount namespace of its own, where the full disk is a real one, a tmpfs of a few megabytes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import ray
import ray.train
from ray.cluster_utils import Cluster
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agentflan_ray import cluster
from agentflan_ray.tokens.block import Block
from agentflan_ray.train.blocks import RandomBlocks
from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.trainer import make_trainer

RECIPE = TrainRecipe(
    model="tiny-llama",
    block_length=64,
    blocks_per_step=4,
    learning_rate=1e-2,
    weight_decay=0.1,
    clip_norm=0.5,
    zero_stage=2,
    checkpoint_every=2,
)
NUM_STEPS = 10
BLOCKS = RandomBlocks(num_blocks=NUM_STEPS * RECIPE.blocks_per_step, block_length=64, vocabulary_size=259)
STRUCK_STEP = 8
"""The step in which a fault strikes; by then the checkpoints of steps 4 and 6 are kept."""
TOLERANCE = 1e-4
"""Relative for losses, absolute for weights; equal numbers of workers differ by nothing."""
HANG_SECONDS = 10
DISK_MIB = 4
"""Two checkpoints of 1.5 MiB fit, and not the third that is written before the first is removed."""
LONGEST_SECONDS = 300
"""What takes longer than this has not recovered."""
OWN_MOUNTS = "AGENTFLAN_OWN_MOUNTS"
"""Set where this process may mount what it likes."""

console = Console(highlight=False, soft_wrap=True)


class Reports(ray.train.UserCallback):  # type: ignore[misc]  # ray is untyped
    """Appends each step's losses to a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "reports.jsonl"

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """One line a step."""
        del run_context, checkpoint
        kept = {name: value for name, value in metrics[0].items() if "loss" in name or name in ("step", "grad_norm")}
        with self.path.open("a") as file:
            file.write(json.dumps(kept) + "\n")

    def read(self) -> list[dict[str, float]]:
        """All lines so far."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []


@dataclass(frozen=True)
class FaultyBlocks:
    """The blocks, and what happens when one of the struck step is read for the first time."""

    folder: str
    fault: str = ""
    seconds_per_block: float = 0.0

    def __call__(self) -> FaultyBlocks:
        with (Path(self.folder) / f"starts-{_rank()}").open("a") as file:
            file.write(f"{ray.train.get_context().get_world_size()}\n")
        if self.fault == "nan":
            _lose_the_number_of(BLOCKS[(STRUCK_STEP - 1) * RECIPE.blocks_per_step])
        return self

    def __len__(self) -> int:
        return len(BLOCKS)

    def __getitem__(self, index: int) -> Block:
        time.sleep(self.seconds_per_block)
        if index // RECIPE.blocks_per_step == STRUCK_STEP - 1:
            self._strike()
        return BLOCKS[index]

    def _strike(self) -> None:
        marker = Path(self.folder) / f"struck-{_rank()}"
        strikes = {"kill-all": True, "kill-one": _rank() == 1, "hang": _rank() == 1, "power-cut": True}
        if marker.exists() or not strikes.get(self.fault, False):
            return
        marker.touch()
        while len(Reports(Path(self.folder)).read()) < STRUCK_STEP - 1:
            time.sleep(0.05)
        if self.fault == "hang":
            time.sleep(3600)
        os.kill(os.getpid(), signal.SIGKILL)


def _rank() -> int:
    return int(ray.train.get_context().get_world_rank())


def _lose_the_number_of(spoilt: Block) -> None:
    """Let the loss of this block be no number, as an overflow would."""
    from agentflan_ray.train.losses import ComponentLoss

    forward = ComponentLoss.forward

    def spoil(module: ComponentLoss, input_ids: Any, *rest: Any) -> Any:
        total, sums = forward(module, input_ids, *rest)
        lost = float("nan") if input_ids[0].tolist() == spoilt.input_ids.tolist() else 1.0
        return total * lost, sums * lost

    ComponentLoss.forward = spoil  # type: ignore[assignment, method-assign]


@dataclass(frozen=True)
class Bench:
    """One fault's folder, and the run that nothing happened to."""

    folder: Path
    undisturbed: Path

    def fit(self, fault: str = "", *, storage: Path | None = None, **rest: Any) -> None:
        """The training, started as its user would start it each time."""
        placement: Placement = rest.pop("placement", PLACEMENT)
        blocks = FaultyBlocks(str(self.folder), fault, rest.pop("seconds_per_block", 0.0))
        settings: dict[str, Any] = {"max_failures": 2, "hang_seconds": HANG_SECONDS, "card": {}, **rest}
        make_trainer(
            RECIPE,
            placement,
            blocks,
            storage_path=str(storage or self.folder),
            name="run",
            callbacks=[Reports(self.folder)],
            **settings,
        ).fit()

    def run_folder(self, storage: Path | None = None) -> Path:
        """Where Ray Train keeps the run."""
        return (storage or self.folder) / "run"

    def steps(self) -> list[int]:
        """The steps reported, in order."""
        return [int(row["step"]) for row in Reports(self.folder).read()]

    def recovered(self, storage: Path | None = None) -> str:
        """How far this run is from the undisturbed one; ``AssertionError`` where too far."""
        expected = {row["step"]: row for row in Reports(self.undisturbed).read()}
        rows = Reports(self.folder).read()
        assert {row["step"] for row in rows} == expected.keys(), f"steps {self.steps()}"
        losses = max(abs(row[n] / expected[row["step"]][n] - 1) for row in rows for n in row)
        weights = _largest_difference(self.run_folder(storage), self.undisturbed / "run")
        assert losses < TOLERANCE, f"a loss differs by {losses:.1e}"
        assert weights < TOLERANCE, f"a weight differs by {weights:.1e}"
        return f"recovered: losses differ by {losses:.0e}, final weights by {weights:.0e}"


def _largest_difference(run: Path, other: Path) -> float:
    from safetensors.torch import load_file

    mine, theirs = (load_file(max(each.glob("step_*/model/model.safetensors"))) for each in (run, other))
    return max(float((mine[name] - theirs[name]).abs().max()) for name in theirs)


PLACEMENT = Placement(num_workers=2, cpus_per_worker=1)


def worker_killed(bench: Bench) -> str:
    """SIGKILL of one worker."""
    bench.fit("kill-one")
    return _after_restart(bench)


def all_workers_killed(bench: Bench) -> str:
    """SIGKILL of all workers."""
    bench.fit("kill-all")
    return _after_restart(bench)


def worker_hangs(bench: Bench) -> str:
    """A worker that takes no part any more."""
    bench.fit("hang")
    return _after_restart(bench)


def _after_restart(bench: Bench) -> str:
    assert bench.steps() == [1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10], f"steps {bench.steps()}"
    return bench.recovered()


def nan_batch(bench: Bench) -> str:
    """A batch whose loss is no number."""
    sentence = _stopped(bench, FloatingPointError, "nan")
    starts = (bench.folder / "starts-0").read_text().split()
    assert len(starts) == 1, f"it was started {len(starts)} times"
    return sentence


def _stopped(bench: Bench, kind: type[Exception], fault: str = "", **rest: Any) -> str:
    try:
        bench.fit(fault, **rest)
    except kind as error:
        text = str(error.args[-1])
        assert "\n" not in text, f"many lines: {text}"
        return f"stopped with: {text}"
    raise AssertionError("it went on")


def disk_full(bench: Bench) -> str:
    """A full disk during a checkpoint; then room is made, and the same run started again."""
    disk = bench.folder / "disk"
    disk.mkdir()
    with _tmpfs(disk, DISK_MIB) as resize:
        sentence = _stopped(bench, OSError, storage=disk)
        last = bench.steps()[-1]
        resize(10 * DISK_MIB)
        bench.fit(storage=disk)
        return f"{sentence.replace(str(bench.folder), '...')} After step {last}, with room: {bench.recovered(disk)}"


@contextmanager
def _tmpfs(folder: Path, mebibytes: int) -> Iterator[Callable[[int], None]]:
    def mount(size: int, *options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}m", *options]), "tmpfs", str(folder)]
        subprocess.run(command, check=True)

    mount(mebibytes)
    try:
        yield lambda size: mount(size, "remount")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _cut_off(bench: Bench) -> Path:
    """A run that stopped after step 7, and the folder of its newest checkpoint, of step 6."""
    try:
        bench.fit("power-cut", max_failures=0)
    except ray.train.TrainingFailedError:
        newest = max(bench.run_folder().glob("step_*"))
        assert newest.name.startswith("step_000006"), newest.name
        return newest
    raise AssertionError("it went on")


def _goes_on_from_before(bench: Bench) -> str:
    bench.fit()
    assert bench.steps() == [1, 2, 3, 4, 5, 6, 7, 5, 6, 7, 8, 9, 10], f"steps {bench.steps()}"
    return f"{bench.recovered()}, from the checkpoint before"


def truncated(bench: Bench) -> str:
    """The newest checkpoint has a truncated file."""
    file = next(_cut_off(bench).rglob("*_model_states.pt"))
    os.truncate(file, file.stat().st_size // 2)
    return _goes_on_from_before(bench)


def missing(bench: Bench) -> str:
    """The newest checkpoint lacks all that one rank wrote."""
    newest = _cut_off(bench)
    next(newest.rglob("*rank_1_*_optim_states.pt")).unlink()
    next(newest.glob("manifest-00001-*")).unlink()
    return _goes_on_from_before(bench)


def flipped(bench: Bench) -> str:
    """The newest checkpoint has a flipped bit; and then the one before, too."""
    newest = _cut_off(bench)
    for folder in sorted(bench.run_folder().glob("step_*")):
        file = next(folder.rglob("*rank_0_*_optim_states.pt"))
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        if folder == newest:
            file.write_bytes(content)
        else:
            before, spoilt = file, bytes(content)
    whole = before.read_bytes()
    before.write_bytes(spoilt)
    sentence = _stopped(bench, ValueError)
    before.write_bytes(whole)
    sentence = sentence.replace(f"{bench.run_folder()}/", "")
    return f"Both: {sentence} The newest: {_goes_on_from_before(bench)}"


def driver_killed(bench: Bench) -> str:
    """SIGKILL of the driver; then the same command again."""
    command = [sys.executable, __file__, "--drive", str(bench.folder)]
    first = subprocess.Popen(command)
    while len(Reports(bench.folder).read()) < STRUCK_STEP - 1:
        assert first.poll() is None, "the driver ended by itself"
        time.sleep(0.05)
    first.kill()
    first.wait()
    subprocess.run(command, check=True)
    assert bench.steps()[-1] == NUM_STEPS
    assert len(bench.steps()) < 2 * NUM_STEPS, "it began anew"
    return bench.recovered()


def drive(folder: Path) -> None:
    """The driver that is killed."""
    cluster.connect()
    Bench(folder, folder).fit(seconds_per_block=0.1)


def node_lost(bench: Bench) -> str:
    """A node is lost, and another one added."""
    with two_nodes() as nodes:
        _fit_and_lose_one(bench, nodes, then_add=True)
    assert len((bench.folder / "starts-0").read_text().split()) > 1, "nothing was lost"
    return bench.recovered()


def node_gone(bench: Bench) -> str:
    """A node is lost for good, and the other one goes on alone."""
    with two_nodes() as nodes:
        _fit_and_lose_one(bench, nodes, then_add=False, placement=replace(PLACEMENT, min_workers=1))
    starts = (bench.folder / "starts-0").read_text().split()
    assert (starts[0], starts[-1]) == ("2", "1"), f"started with {starts} workers"
    return f"{bench.recovered()}, with one worker in place of two"


def _fit_and_lose_one(bench: Bench, nodes: Cluster, *, then_add: bool, **rest: Any) -> None:
    """Train in a thread, and kill a node without warning: only the main thread may start and end nodes."""
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(bench.fit, seconds_per_block=0.2, **rest)
        while len(Reports(bench.folder).read()) < STRUCK_STEP - 1 and not training.done():
            time.sleep(0.05)
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
        if then_add:
            nodes.add_node(num_cpus=1)
        training.result()


@contextmanager
def two_nodes() -> Iterator[Cluster]:
    """A simulated cluster that this process is connected to: a head without CPUs, and two nodes of one each."""
    ray.shutdown()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True})
    try:
        for _ in range(2):
            nodes.add_node(num_cpus=1)
        ray.init(address=nodes.address, log_to_driver=False, logging_level=logging.ERROR)
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


FAULTS: dict[str, Callable[[Bench], str]] = {
    "worker-killed": worker_killed,
    "all-workers-killed": all_workers_killed,
    "hang": worker_hangs,
    "nan": nan_batch,
    "disk-full": disk_full,
    "truncated": truncated,
    "missing": missing,
    "flipped": flipped,
    "driver-killed": driver_killed,
    "node-lost": node_lost,
    "node-gone": node_gone,
}


def main() -> None:
    """Run the faults asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", help=f"some of {', '.join(FAULTS)} (default: all)")
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        drive(arguments.drive)
        return
    if unknown := set(arguments.faults) - set(FAULTS):
        parser.error(f"there is no fault {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="agentflan-faults-") as folder:
        outcomes = list(strike(arguments.faults or list(FAULTS), Path(folder)))
    table = Table("fault", "what happened", title="Faults", show_lines=True)
    table.add_column("how it ended", overflow="fold")
    table.add_column("s", justify="right")
    for name, ended, seconds, is_good in outcomes:
        table.add_row(
            name, FAULTS[name].__doc__, escape(ended) if is_good else f"[red]WRONG: {escape(ended)}", f"{seconds:.0f}"
        )
    console.print(table)
    sys.exit(0 if all(is_good for *_, is_good in outcomes) else 1)


def strike(names: list[str], folder: Path) -> Iterator[tuple[str, str, float, bool]]:
    """Each fault's name, how it ended, its seconds, and whether it ended as it should."""

    def give_up(*_: object) -> NoReturn:
        raise TimeoutError(f"it took more than {LONGEST_SECONDS} seconds")

    signal.signal(signal.SIGALRM, give_up)
    # A group that is started with a node that is just gone is given up sooner than after a minute.
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "30"
    undisturbed = folder / "undisturbed"
    undisturbed.mkdir()
    cluster.connect()
    Bench(undisturbed, undisturbed).fit()
    for name in names:
        console.print(f"{name} ...", end=" ")
        began = time.monotonic()
        bench = Bench(folder / name, undisturbed)
        bench.folder.mkdir()
        if not ray.is_initialized():
            cluster.connect()
        signal.alarm(LONGEST_SECONDS)
        try:
            ended, is_good = FAULTS[name](bench), True
        except Exception as error:
            ended, is_good = f"{type(error).__name__}: {error}", False
        signal.alarm(0)
        console.print("as it should" if is_good else "NOT as it should", f"({time.monotonic() - began:.0f} s)")
        yield name, ended, time.monotonic() - began, is_good


def with_own_mounts() -> None:
    """Start this program again where what it mounts is seen by nobody else, and goes when it ends."""
    if OWN_MOUNTS not in os.environ:
        os.environ[OWN_MOUNTS] = "1"
        rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        os.execvp("unshare", ["unshare", *rights, "--mount", sys.executable, *sys.argv])


if __name__ == "__main__":
    with_own_mounts()
    main()
