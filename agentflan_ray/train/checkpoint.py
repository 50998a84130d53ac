"""Checkpoints that are found whole before anything of them is loaded.

A checkpoint is a folder: ``checkpoint.json`` (where the training stood), ``state/`` (DeepSpeed's files, a part of each
rank), at the end of a training also ``model/`` and ``metrics.json``, and a manifest of each rank with size and SHA-256
of every file that it wrote. The manifest is written last. The folder counts where the manifests of all ranks are there
and every file is what they say; else :class:`DamagedCheckpoint` names the file.

DeepSpeed 0.19.8 loads its files with ``torch.load(weights_only=False)``, which runs what a file says. Here they are
loaded with PyTorch's ``TORCH_FORCE_WEIGHTS_ONLY_LOAD``, so that only tensors and the few types named below are made.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed

from agentflan_ray import storage
from agentflan_ray.train.recipe import TrainRecipe

STATE_FOLDER = "state"
"""Where in a checkpoint the state to go on from lies."""

TAG = "deepspeed"
"""Where in the state DeepSpeed's files lie."""

POSITION_FILE = "checkpoint.json"

_MANIFEST = "manifest-{rank:05d}-of-{num_workers:05d}.json"

_FORCE_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"

_Agreed = TypeVar("_Agreed")


class DamagedCheckpoint(ValueError):
    """A checkpoint's files are not what was written."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint whose files were all found whole."""

    folder: Path
    step: int
    """Steps that were done."""
    supervised_tokens: int
    num_workers: int
    recipe: Mapping[str, Any]
    metrics: Mapping[str, Any]
    """What was reported with it."""
    digest: str
    """Twelve hexadecimal digits that identify the content."""

    @property
    def has_state(self) -> bool:
        """Whether a training can go on from it; the last one of a training may hold the model only."""
        return (self.folder / STATE_FOLDER).is_dir()

    def check_recipe(self, recipe: TrainRecipe) -> None:
        """``ValueError`` where it comes of a training with another recipe."""
        asked = storage.as_json(recipe.to_json())
        for name, stored in self.recipe.items():
            if asked.get(name) != stored:
                raise ValueError(
                    f"The checkpoint in {self.folder} was trained with {name}={stored!r}, but the recipe says "
                    f"{asked.get(name)!r}; resume with the recipe that it was started with."
                )

    def check(self, recipe: TrainRecipe, num_steps: int) -> None:
        """``ValueError`` where a training with this recipe and so many steps can't go on from here."""
        self.check_recipe(recipe)
        if self.step >= num_steps:
            raise ValueError(f"The checkpoint is at step {self.step}, but the plan has only {num_steps} steps.")
        if not self.has_state:
            raise ValueError(f"The checkpoint in {self.folder} holds a model, but no state to go on from.")


def write(
    folder: Path,
    recipe: TrainRecipe,
    metrics: Mapping[str, Any],
    *,
    rank: int,
    num_workers: int,
) -> None:
    """Complete this rank's part of a checkpoint: call it last, in a folder that holds nothing but what it wrote.

    ``metrics`` are those of the report that comes with it, ``step`` and ``supervised_tokens`` among them.
    """
    if rank == 0:
        position = {
            "step": metrics["step"],
            "supervised_tokens": metrics["supervised_tokens"],
            "num_workers": num_workers,
            "recipe": recipe.to_json(),
            "metrics": dict(metrics),
        }
        storage.write_json(folder / POSITION_FILE, position)
    seal(folder, rank, num_workers)


def seal(folder: Path, rank: int = 0, num_workers: int = 1) -> None:
    """Write the manifest of all files that lie in a folder, as one of ``num_workers``."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda name: _digest(folder / name), names))
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": digest}
        for name, digest in zip(names, digests, strict=True)
    }
    manifest = _MANIFEST.format(rank=rank, num_workers=num_workers)
    storage.write_json(folder / manifest, {"files": files})


def is_complete(names: list[str]) -> bool:
    """Whether the names in a folder hold the manifest of every rank. Where not, its writing was cut off."""
    present = [name for name in names if name.startswith("manifest-")]
    return bool(present) and any(
        set(present) >= {_MANIFEST.format(rank=rank, num_workers=size) for rank in range(size)}
        for size in {_num_workers_in(name) for name in present}
    )


def read(folder: Path) -> Saved:
    """Check every file of a checkpoint, then say what it is. All ranks call it, each node with its own copy.

    The ranks of a node share the reading. Raises :class:`DamagedCheckpoint` on all ranks where one found a file that
    is missing, has another size or another SHA-256, or where the folder holds no checkpoint at all.
    """
    if not any(folder.glob("*.json")):
        raise DamagedCheckpoint(f"There is no checkpoint in {folder}: it holds no {POSITION_FILE}.")
    fault = next((each for each in gathered(_fault(folder)) if each), "")
    if fault:
        raise DamagedCheckpoint(
            f"The checkpoint in {folder} is damaged: {fault}; go on from an earlier one, or begin anew."
        )
    position: dict[str, Any] = storage.read_json(folder / POSITION_FILE)
    content = b"".join(path.read_bytes() for path in sorted(folder.glob("manifest-*.json")))
    return Saved(
        folder=folder,
        step=position["step"],
        supervised_tokens=position["supervised_tokens"],
        num_workers=position["num_workers"],
        recipe=position["recipe"],
        metrics=position["metrics"],
        digest=hashlib.sha256(content).hexdigest()[:12],
    )


def universal(saved: Saved, work: Path) -> Path:
    """The state of a checkpoint as DeepSpeed's universal checkpoint, which any number of workers can load.

    All ranks call it; on each node the first rank converts, once for a checkpoint: the result stays in ``work``, with
    a manifest of its own. It takes as much room as the state, and memory for one rank's part.
    """
    target = work / f"universal-{saved.digest}"
    if local_rank() == 0 and (not target.is_dir() or _fault(target, whole=True)):
        shutil.rmtree(target, ignore_errors=True)
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _convert(saved.folder / STATE_FOLDER / TAG, partial / TAG)
        seal(partial)
        partial.rename(target)
    wait_for_all()
    return target


def _convert(source: Path, target: Path) -> None:
    from deepspeed.checkpoint import ds_to_universal

    arguments = argparse.Namespace(
        input_folder=str(source),
        output_folder=str(target),
        # One process: more would be forked from one that holds threads and a process group.
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    target.mkdir(parents=True)
    silence = io.StringIO()
    with weights_only(), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        ds_to_universal.main(arguments)


@contextlib.contextmanager
def weights_only() -> Iterator[None]:
    """Let every ``torch.load`` inside make tensors, plain values and DeepSpeed's own types, and run nothing."""
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    before = os.environ.get(_FORCE_WEIGHTS_ONLY)
    os.environ[_FORCE_WEIGHTS_ONLY] = "1"
    try:
        with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
            yield
    finally:
        if before is None:
            del os.environ[_FORCE_WEIGHTS_ONLY]
        else:
            os.environ[_FORCE_WEIGHTS_ONLY] = before


def local_rank() -> int:
    """This process's number on its node, which Ray Train and torchrun set."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def wait_for_all() -> None:
    """Return when all ranks have come here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def gathered(value: _Agreed) -> list[_Agreed]:
    """A small value of each rank, on all of them."""
    if not torch.distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def _fault(folder: Path, *, whole: bool = False) -> str:
    """What is wrong with this rank's share of a folder's files, or with all of them; empty where nothing is."""
    manifests = sorted(folder.glob("manifest-*.json"))
    if not manifests:
        return "it has no manifest"
    written: dict[str, tuple[int, str]] = {}
    size = _num_workers_in(manifests[0].name)
    for rank in range(size):
        path = folder / _MANIFEST.format(rank=rank, num_workers=size)
        if not path.is_file():
            return f"{path.name} is missing"
        try:
            files = storage.read_json(path)["files"]
            written |= {name: (each["bytes"], each["sha256"]) for name, each in files.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"{path.name} can't be read"
    share, num_shares = (0, 1) if whole else (local_rank(), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    mine = sorted(written.items())[share % num_shares :: num_shares]
    with ThreadPoolExecutor() as pool:
        faults = pool.map(lambda item: _fault_of_file(folder, item[0], *item[1]), mine)
        return next((fault for fault in faults if fault), "")


def _fault_of_file(folder: Path, name: str, size: int, digest: str) -> str:
    path = folder / name
    if not path.is_file():
        return f"{name} is missing ({size:,} bytes were written)"
    if (found := path.stat().st_size) != size:
        return f"{name} has {found:,} bytes, but {size:,} were written"
    if (now := _digest(path)) != digest:
        return f"{name} has the SHA-256 {now[:12]}..., but {digest[:12]}... was written"
    return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _num_workers_in(manifest: str) -> int:
    return int(manifest.removesuffix(".json").rpartition("-of-")[2])
