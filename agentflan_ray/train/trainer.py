"""The training loop on Ray Train: workers, failures and storage are Ray's.

A run is the folder ``storage_path/name``. What a worker finds there it goes on from: the newest checkpoint whose files
are all whole (:mod:`agentflan_ray.train.checkpoint`), whether Ray Train remembers it or not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import ray.train
from pyarrow import fs
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    CheckpointConsistencyMode,
    CheckpointUploadMode,
    ControllerError,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    UserCallback,
)
from ray.train.torch import TorchConfig, TorchTrainer

from agentflan_ray import storage
from agentflan_ray.tokens.block import Blocks
from agentflan_ray.train import watch
from agentflan_ray.train.environment import prepare_driver
from agentflan_ray.train.recipe import Placement, TrainRecipe

if TYPE_CHECKING:
    from agentflan_ray.train.checkpoint import Saved
    from agentflan_ray.train.loop import Finish, Rungs

MakeBlocks = Callable[[], Blocks]
"""Opens the blocks on a worker. A frozen dataclass with ``__call__``, because it travels there by pickling."""

MAX_FAILURES = 3
"""How often workers that died are started again from the last checkpoint."""

KEPT_CHECKPOINTS = 2
"""The newest, and the one before it to go back to where the newest is damaged."""

REPEATING = (ValueError, FloatingPointError)
"""What comes again with the same step, so that starting workers again would not help."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_CHECKPOINT_NAME = re.compile(r"step_(\d+)-[0-9a-f]+")

_logger = logging.getLogger(__name__)


def make_trainer(
    recipe: TrainRecipe,
    placement: Placement,
    make_blocks: MakeBlocks,
    *,
    storage_path: str,
    name: str,
    make_validation: MakeBlocks | None = None,
    resume_from: str | None = None,
    finish: Finish | None = None,
    rungs: Rungs | None = None,
    card: dict[str, Any] | None = None,
    tensorboard: str | None = None,
    max_failures: int = MAX_FAILURES,
    hang_seconds: int = watch.HANG_SECONDS,
    callbacks: Sequence[Any] = (),
) -> Trainer:
    """A trainer whose ``fit()`` runs :func:`loop.train` on the workers of a placement.

    Every step is reported; the folders of the loop become checkpoints under ``storage_path/name``, merged over ranks
    and copied while training goes on, and ``fit()`` returns the last one with its metrics. The
    :data:`KEPT_CHECKPOINTS` newest are kept.

    The run goes on from the newest checkpoint that is whole: after workers died or one made no step for
    ``hang_seconds`` (at most ``max_failures`` times), and where the same run is started again. Where it has none,
    it begins with ``resume_from``, the path of an earlier run's checkpoint. The number of workers may be another than
    before.

    A worker that hangs writes the stacks of its threads to its file in Ray's log folder and ends. ``hang_seconds``
    counts from the reading of a block to the report of its step: make it longer than a step and the writing of a
    checkpoint and of the exported model take together. Loading the model, copies to storage, ``finish`` and the scores
    of ``rungs`` take the time that they need.

    In a Tune trial pass ``callbacks=[TuneReportCallback()]``, so that schedulers see every step, and ask for a driver
    of 0.01 CPUs: with one whole CPU each, two drivers on two CPUs leave none for their workers.
    """
    prepare_driver()
    from ray.train.v2.api.config import LoggingConfig

    return Trainer(
        _train_on_worker,
        train_loop_config={
            "recipe": recipe,
            "placement": placement,
            "make_blocks": make_blocks,
            "make_validation": make_validation,
            "resume_from": resume_from,
            "finish": finish,
            "rungs": rungs,
            "card": card,
            "tensorboard": tensorboard,
            "hang_seconds": hang_seconds,
        },
        torch_config=TorchConfig(timeout_s=hang_seconds),
        scaling_config=ScalingConfig(
            num_workers=_num_workers(recipe, placement),
            use_gpu=placement.use_gpu,
            resources_per_worker={
                "CPU": placement.cpus_per_worker,
                **({"GPU": 1} if placement.use_gpu else {}),
                **dict(placement.resources_per_worker),
            },
        ),
        run_config=RunConfig(
            name=name,
            storage_path=storage_path,
            failure_config=FailureConfig(max_failures=max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
            callbacks=[*callbacks, _StopWhatRepeats()],
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )


def _num_workers(recipe: TrainRecipe, placement: Placement) -> int | tuple[int, int]:
    """As Ray Train takes it: a pair lets it start with, and go on with, any number in between."""
    placement.accumulation(recipe)
    return placement.num_workers if placement.min_workers is None else (placement.min_workers, placement.num_workers)


class Trainer(TorchTrainer):  # type: ignore[misc]  # ray is untyped
    """A :class:`TorchTrainer` that says why it stopped, and starts where an earlier start was killed."""

    def fit(self) -> ray.train.Result:
        """Train, or go on with what an earlier start of the same run left.

        Raises the workers' own ``ValueError`` or ``FloatingPointError``, which would come again; ``OSError`` where a
        disk is full; ``ray.train.TrainingFailedError`` where workers failed more often than they may.
        """
        self.train_loop_config["began"] = time.time()
        run = self.run_config.storage_context
        _forget_what_is_lost(run.storage_filesystem, run.checkpoint_manager_snapshot_path)
        try:
            return super().fit()
        except ControllerError as failure:
            _say_why(failure, run.experiment_fs_path)


class _StopWhatRepeats(UserCallback):  # type: ignore[misc]  # ray is untyped
    """Ends a run at an error that would only come again: Ray Train 2.60 takes all errors of workers alike."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raised here, in the controller, an error ends the run."""
        del run_context
        for error in worker_exceptions.values():
            if isinstance(error, REPEATING) or _is_disk_full(error):
                raise error


def _say_why(failure: ControllerError, run: str) -> NoReturn:
    error = failure.controller_failure
    if _is_disk_full(error):
        raise OSError(
            error.errno,
            f"No room is left for the checkpoints of {run} ({error.strerror or error}); make room, and start the same "
            "run again: it goes on from the last checkpoint that is whole",
        ) from failure
    if isinstance(error, REPEATING):
        raise error from failure
    raise failure


def _is_disk_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def _forget_what_is_lost(filesystem: fs.FileSystem, snapshot: str) -> None:
    """Remove Ray Train's list of a run's checkpoints where it can't be read or names folders that are gone.

    Ray Train 2.60 refuses to start with such a list. It writes the list in place, so that a driver killed meanwhile,
    or a full disk, leaves half of it.
    """
    if filesystem.get_file_info(snapshot).type == fs.FileType.NotFound:
        return
    with filesystem.open_input_stream(snapshot) as stream:
        content = stream.read()
    try:
        names = [each["checkpoint_dir_name"] for each in json.loads(content)["checkpoint_results"]]
    except (ValueError, KeyError, TypeError):
        names = [""]
    folder = snapshot.rpartition("/")[0]
    found = filesystem.get_file_info([f"{folder}/{name}" for name in names]) if all(names) else []
    if len(found) < len(names) or any(each.type == fs.FileType.NotFound for each in found):
        filesystem.delete_file(snapshot)


def _train_on_worker(config: dict[str, Any]) -> None:
    # By the clock on the wall, which is another machine's where workers stand on others.
    startup = {"workers": time.time() - config["began"]}
    began = time.perf_counter()
    from agentflan_ray.train.checkpoint import wait_for_all
    from agentflan_ray.train.loop import train

    startup["libraries"] = time.perf_counter() - began
    # Ray writes each report's metrics to every worker's log, whatever level its LoggingConfig says.
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    context = ray.train.get_context()
    run = context.get_storage()
    recipe: TrainRecipe = config["recipe"]
    placement = _placement_of(config["placement"], context.get_world_size())
    if context.get_world_rank() == 0:
        _warn_of_idle_passes(recipe, placement)
    hang_seconds: int = config["hang_seconds"]
    blocks = config["make_blocks"]()
    num_steps = recipe.num_steps(len(blocks))
    make_validation: MakeBlocks | None = config["make_validation"]
    key = storage.fingerprint([run.storage_filesystem.type_name, run.experiment_fs_path])
    with _scratch(key) as scratch, watch.watching_ends():
        saved = _newest_whole(run, scratch)
        if saved is not None:
            saved.check_recipe(recipe)
            # These workers may have been started again long after ``fit``.
            del startup["workers"]
            if saved.step == num_steps or "rung" in saved.metrics:
                # Said again for callbacks that were killed with the driver.
                ray.train.report(dict(saved.metrics))
            if saved.step == num_steps:
                return
        elif config["resume_from"]:
            saved = _read(Checkpoint(config["resume_from"]), scratch)
        train(
            recipe,
            placement,
            watch.Watched(blocks, hang_seconds),
            report=_Reporter(num_steps),
            validation=watch.Watched(make_validation(), hang_seconds) if make_validation else None,
            resume_from=saved,
            scratch=scratch,
            finish=watch.unwatched(config["finish"]) if config["finish"] else None,
            rungs=watch.unwatched_rungs(config["rungs"]) if config["rungs"] else None,
            card=config["card"],
            tensorboard=Path(config["tensorboard"]) if config["tensorboard"] else None,
            startup=startup,
        )
        wait_for_all()


def _placement_of(asked: Placement, num_workers: int) -> Placement:
    """The placement of as many workers as there are."""
    is_uneven = asked.allow_uneven or num_workers < asked.num_workers
    return dataclasses.replace(asked, num_workers=num_workers, min_workers=None, allow_uneven=is_uneven)


def _warn_of_idle_passes(recipe: TrainRecipe, placement: Placement) -> None:
    if idle := placement.idle_share(recipe):
        _logger.warning(
            "%d workers with a micro-batch of %d share the %d blocks of a step unevenly: %.0f %% of their work is on "
            "blocks that only fill up.",
            placement.num_workers,
            placement.micro_batch_size,
            recipe.blocks_per_step,
            100 * idle,
        )


@contextlib.contextmanager
def _scratch(key: str) -> Iterator[Path]:
    """This node's folder for what is not yet, or no longer, in storage; what killed workers left there is removed.

    It is named for the run, so that a run that starts again finds it.
    """
    from agentflan_ray.train.checkpoint import local_rank, wait_for_all

    folder = Path(tempfile.gettempdir(), f"agentflan-train-{key}")
    if local_rank() == 0:
        for left in folder.glob("rank_*"):
            shutil.rmtree(left)
        folder.mkdir(exist_ok=True)
    wait_for_all()
    yield folder
    if local_rank() == 0:
        shutil.rmtree(folder)


def _newest_whole(run: Any, scratch: Path) -> Saved | None:
    """The newest checkpoint of a run whose files are all whole; None where the run has none at all.

    Raises :class:`checkpoint.DamagedCheckpoint` where all are damaged: beginning anew is for the user to choose.
    """
    from agentflan_ray.train.checkpoint import DamagedCheckpoint, gathered

    is_first = ray.train.get_context().get_world_rank() == 0
    damage: list[DamagedCheckpoint] = []
    for path, is_known in gathered(_checkpoints_of(run) if is_first else [])[0]:
        place = Checkpoint(path, run.storage_filesystem)
        try:
            saved = _read(place, scratch)
        except DamagedCheckpoint as error:
            _logger.warning("%s", error)
            damage.append(error)
            continue
        if not is_known:
            # A worker or the driver died after the last file was there and before Ray Train noted it.
            ray.train.report(dict(saved.metrics), place, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD)
        return saved
    if damage:
        raise damage[0]
    return None


def _checkpoints_of(run: Any) -> list[tuple[str, bool]]:
    """Paths of a run's checkpoints, newest first, and whether Ray Train knows each; what it does not know and was cut
    off while it was written is removed."""
    from agentflan_ray.train.checkpoint import is_complete

    filesystem = run.storage_filesystem
    reported = ray.train.get_all_reported_checkpoints(consistency_mode=CheckpointConsistencyMode.COMMITTED)
    known = {Path(each.checkpoint.path).name for each in reported}
    found = []
    for info in filesystem.get_file_info(fs.FileSelector(run.experiment_fs_path)):
        step = _CHECKPOINT_NAME.fullmatch(info.base_name)
        if step is None:
            continue
        files = [each.base_name for each in filesystem.get_file_info(fs.FileSelector(info.path))]
        if info.base_name in known or is_complete(files):
            found.append((int(step[1]), info.path, info.base_name in known))
        else:
            filesystem.delete_dir(info.path)
    return [(path, is_known) for _, path, is_known in sorted(found, reverse=True)]


def _read(place: Checkpoint, scratch: Path) -> Saved:
    """Check a checkpoint, from a copy on each node where it is not on a disk that all share."""
    from agentflan_ray.train import checkpoint

    if isinstance(place.filesystem, fs.LocalFileSystem):
        return checkpoint.read(Path(place.path))
    folder = scratch / "fetched"
    if checkpoint.local_rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        fs.copy_files(place.path, str(folder), source_filesystem=place.filesystem)
    checkpoint.wait_for_all()
    return checkpoint.read(folder)


@dataclass
class _Reporter:
    """Hands metrics and this rank's folder to Ray; the same name on all ranks merges their folders into one.

    A checkpoint is copied to storage while the next steps are trained, one at a time: where the one before is still
    under way, training waits, so that no more than two take room on the node.
    """

    num_steps: int
    copying: Path | None = None

    def __call__(self, metrics: dict[str, Any], folder: Path | None) -> None:
        # Ray removes the folder once it is copied.
        is_copying = self.copying is not None and self.copying.exists()
        # Reports keep their order, so one that waits for its turn waits for the copy too.
        behind = is_copying if folder is None else not is_copying
        is_last = metrics["step"] == self.num_steps
        # Copying takes as long as the storage does. The next block that is read arms it again.
        watch.pause()
        ray.train.report(
            metrics,
            checkpoint=None if folder is None else Checkpoint.from_directory(str(folder)),
            # The name is the first rank's. It is new each time: Ray Train 2.60 removes old checkpoints by name.
            checkpoint_dir_name=f"step_{metrics['step']:06d}-{secrets.token_hex(3)}",
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC if behind and not is_last else CheckpointUploadMode.SYNC,
            delete_local_checkpoint_after_upload=folder is not None,
        )
        self.copying = folder or self.copying
