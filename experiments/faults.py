"""Break trainings in twelve ways, on a real Ray, and see that each recovers or says why it stops.

Hypothesis: whatever dies or is spoilt, a training ends with the losses and weights of one that nothing happened to, or
stops with one sentence; no damaged checkpoint is ever gone on from. Metric: the largest relative difference of any
step's losses, and of the final weights. Stop: after each fault once, eight minutes on two busy cores.

    python experiments/faults.py                     # all; exit status 1 where one did not end as it should
    python experiments/faults.py hang node-lost      # some

Two workers train the tiny random Llama with ZeRO-2 for ten steps, with a checkpoint every two. Two faults at a time
share one Ray, as most of a training so short is starting processes; those of nodes come after them, on a simulated
cluster. On Linux it starts itself again in a mount namespace of its own, where the full disk is a real one, a tmpfs of
a few megabytes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ray
import ray.train
from ray.cluster_utils import Cluster
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agentflan_ray import cluster
from agentflan_ray.tokens.block import COMPONENT_GROUPS, Block
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
HANG_SECONDS = 15
"""Above what one worker's imports may take longer than the other's, for which it waits as long."""
DISK_MIB = 4
"""Two checkpoints of 1.5 MiB fit, and not the third that is written before the first is removed."""
LONGEST_SECONDS = 300
"""Where no fault has ended for this long, those under way have not recovered."""
AT_ONCE = 2
"""Faults under way at a time, on half a CPU for each worker."""
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

    groups = COMPONENT_GROUPS

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
        is_second = _rank() == 1
        strikes = {"kill-all": True, "kill-one": is_second, "hang": is_second, "hang-alone": True, "power-cut": True}
        if marker.exists() or not strikes.get(self.fault, False):
            return
        marker.touch()
        while len(Reports(Path(self.folder)).read()) < STRUCK_STEP - 1:
            time.sleep(0.05)
        if self.fault.startswith("hang"):
            # Where Ray keeps what this process writes to stderr.
            (Path(self.folder) / "stderr").symlink_to(os.readlink("/proc/self/fd/2"))
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
    cut_off: Path
    """A run that stopped in the struck step."""

    def fit(self, fault: str = "", *, storage: Path | None = None, **rest: Any) -> None:
        """The training, started as its user would start it each time."""
        placement: Placement = rest.pop("placement", PLACEMENT)
        blocks = FaultyBlocks(str(self.folder), fault, rest.pop("seconds_per_block", 0.0))
        settings: dict[str, Any] = {"max_failures": 2, "card": {}, **rest}
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


PLACEMENT = Placement(num_workers=2, cpus_per_worker=1 / AT_ONCE)


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
    bench.fit("hang", hang_seconds=HANG_SECONDS)
    return f"{_after_restart(bench)}; {_where_it_hung(bench)}"


def only_worker_hangs(bench: Bench) -> str:
    """A worker that hangs where there is no other to notice it."""
    bench.fit("hang-alone", placement=replace(PLACEMENT, num_workers=1), hang_seconds=HANG_SECONDS)
    return f"{_after_restart(bench)}; {_where_it_hung(bench)}"


def _where_it_hung(bench: Bench) -> str:
    said = (bench.folder / "stderr").read_text()
    assert f"Timeout (0:00:{HANG_SECONDS})!" in said, f"its log ends: {said[-300:]}"
    assert " in _strike" in said, f"its log ends: {said[-300:]}"
    return "its log says where"


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
    """A copy of the run that stopped after step 7 as this bench's own, and the folder of its newest checkpoint."""
    shutil.copytree(bench.cut_off, bench.folder, dirs_exist_ok=True)
    newest = max(bench.run_folder().glob("step_*"))
    assert newest.name.startswith("step_000006"), newest.name
    return newest


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
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    first = subprocess.Popen(command, env=environment)
    _wait_until_struck(bench, lambda: first.poll() is not None)
    assert first.poll() is None, "the driver ended by itself"
    first.kill()
    first.wait()
    subprocess.run(command, check=True, env=environment, timeout=LONGEST_SECONDS)
    assert bench.steps()[-1] == NUM_STEPS
    assert len(bench.steps()) < 2 * NUM_STEPS, "it began anew"
    return bench.recovered()


def _wait_until_struck(bench: Bench, has_ended: Callable[[], bool]) -> None:
    """Return before the step that a fault strikes in, or when the training has ended."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while len(Reports(bench.folder).read()) < STRUCK_STEP - 1 and not has_ended():
        if time.monotonic() > deadline:
            raise TimeoutError(f"only steps {bench.steps()} were done after {LONGEST_SECONDS} seconds")
        time.sleep(0.05)


def drive(folder: Path) -> None:
    """The driver that is killed."""
    cluster.connect()
    Bench(folder, folder, folder).fit(seconds_per_block=0.1)


def node_lost(bench: Bench, nodes: Cluster) -> str:
    """A node is lost, and another one added."""
    _fit_and_lose_one(bench, nodes, then_add=True)
    assert len((bench.folder / "starts-0").read_text().split()) > 1, "nothing was lost"
    return bench.recovered()


def node_gone(bench: Bench, nodes: Cluster) -> str:
    """A node is lost for good, and the other one goes on alone."""
    _fit_and_lose_one(bench, nodes, then_add=False, min_workers=1)
    starts = (bench.folder / "starts-0").read_text().split()
    assert (starts[0], starts[-1]) == ("2", "1"), f"started with {starts} workers"
    return f"{bench.recovered()}, with one worker in place of two"


def _fit_and_lose_one(bench: Bench, nodes: Cluster, *, then_add: bool, min_workers: int | None = None) -> None:
    """Train in a thread, and kill a node without warning: only the main thread may start and end nodes."""
    placement = replace(PLACEMENT, cpus_per_worker=1, min_workers=min_workers)
    training = _beside(partial(bench.fit, seconds_per_block=0.2, placement=placement))
    _wait_until_struck(bench, training.done)
    nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
    if then_add:
        nodes.add_node(num_cpus=1)
    training.result(timeout=LONGEST_SECONDS)


def _beside(work: Callable[[], None]) -> Future[None]:
    """Do it in a daemon thread, so that what never ends keeps nobody from reading the table."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, daemon=True).start()
    return done


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
    "driver-killed": driver_killed,
    "worker-killed": worker_killed,
    "hang": worker_hangs,
    "hang-alone": only_worker_hangs,
    "all-workers-killed": all_workers_killed,
    "nan": nan_batch,
    "disk-full": disk_full,
    "truncated": truncated,
    "missing": missing,
    "flipped": flipped,
}
OF_CUT_OFF = {"truncated", "missing", "flipped"}
"""Those that go on with a copy of a run that was cut off."""
NODE_FAULTS: dict[str, Callable[[Bench, Cluster], str]] = {"node-lost": node_lost, "node-gone": node_gone}
"""In this order: the first leaves two nodes to the second."""


class Outcome(NamedTuple):
    """How a fault ended."""

    name: str
    ended: str
    seconds: float
    is_good: bool


def main() -> None:
    """Run the faults asked for."""
    known = [*FAULTS, *NODE_FAULTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", help=f"some of {', '.join(known)} (default: all)")
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        drive(arguments.drive)
        return
    if unknown := set(arguments.faults) - set(known):
        parser.error(f"there is no fault {', '.join(sorted(unknown))}")
    chosen = [name for name in known if name in (arguments.faults or known)]
    began = time.monotonic()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="agentflan-faults-") as folder:
        for outcome in strike(chosen, Path(folder)):
            outcomes.append(outcome)
            said = "as it should" if outcome.is_good else "NOT as it should"
            console.print(f"{time.monotonic() - began:4.0f} s  {outcome.name} ended {said}")
    table = Table("fault", "what happened", title=f"Faults, {time.monotonic() - began:.0f} s in all", show_lines=True)
    table.add_column("how it ended", overflow="fold")
    table.add_column("s", justify="right")
    for name, ended, seconds, is_good in sorted(outcomes, key=lambda outcome: known.index(outcome.name)):
        happened = FAULTS[name].__doc__ if name in FAULTS else NODE_FAULTS[name].__doc__
        table.add_row(name, happened, escape(ended) if is_good else f"[red]WRONG: {escape(ended)}", f"{seconds:.0f}")
    console.print(table)
    sys.exit(0 if all(outcome.is_good for outcome in outcomes) else 1)


def strike(names: list[str], folder: Path) -> Iterator[Outcome]:
    """How each fault ended, as they end."""
    # A group that is started with a node that is just gone is given up sooner than after a minute.
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "30"
    cluster.connect()
    undisturbed, cut_off = (Bench(folder / name, folder, folder) for name in ("undisturbed", "cut-off"))
    first = [lambda: _begin(undisturbed).fit(), lambda: _cut(_begin(cut_off))]
    for each in [_beside(prepare) for prepare in (first if OF_CUT_OFF & set(names) else first[:1])]:
        each.result(timeout=LONGEST_SECONDS)

    def bench(name: str) -> Bench:
        return _begin(Bench(folder / name, undisturbed.folder, cut_off.folder))

    waiting = deque(name for name in names if name in FAULTS)
    ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    def go_through() -> None:
        with suppress(IndexError):
            while True:
                name = waiting.popleft()
                ended.put(_outcome(name, partial(FAULTS[name], bench(name))))

    expected = set(waiting)
    for _ in range(AT_ONCE):
        _beside(go_through)
    while expected:
        try:
            outcome = ended.get(timeout=LONGEST_SECONDS)
        except queue.Empty:
            yield from (Outcome(name, "it never ended", LONGEST_SECONDS, False) for name in expected)
            break
        expected.remove(outcome.name)
        yield outcome
    if any(name in NODE_FAULTS for name in names):
        with two_nodes() as nodes:
            for name in names:
                if name in NODE_FAULTS:
                    yield _outcome(name, partial(NODE_FAULTS[name], bench(name), nodes))


def _begin(bench: Bench) -> Bench:
    bench.folder.mkdir()
    return bench


def _cut(bench: Bench) -> None:
    """Leave a run that stopped after step 7, its newest checkpoint that of step 6."""
    try:
        bench.fit("power-cut", max_failures=0)
    except ray.train.TrainingFailedError:
        return
    raise AssertionError("it went on")


def _outcome(name: str, fault: Callable[[], str]) -> Outcome:
    began = time.monotonic()
    try:
        ended, is_good = fault(), True
    except Exception as error:
        ended, is_good = f"{type(error).__name__}: {error}", False
    return Outcome(name, ended, time.monotonic() - began, is_good)


def with_own_mounts() -> None:
    """Start this program again where what it mounts is seen by nobody else, and goes when it ends."""
    if OWN_MOUNTS not in os.environ:
        os.environ[OWN_MOUNTS] = "1"
        rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        os.execvp("unshare", ["unshare", *rights, "--mount", sys.executable, *sys.argv])


if __name__ == "__main__":
    with_own_mounts()
    main()
