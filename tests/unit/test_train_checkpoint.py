"""Checkpoints: what is wrong with one is found before anything of it is loaded."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow import fs

from agentflan_ray.train import checkpoint
from agentflan_ray.train.checkpoint import DamagedCheckpoint, is_complete, read, seal, weights_only, write
from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.trainer import (
    _forget_what_is_lost,
    _num_workers,
    _placement_of,
    _read,
    _Reporter,
    _say_why,
    _StopWhatRepeats,
    _warn_of_idle_passes,
)

RECIPE = TrainRecipe(model="tiny-llama", block_length=64, blocks_per_step=4, learning_rate=1e-2)
METRICS = {"step": 6, "supervised_tokens": 120, "loss": 2.5}
SHARD = "state/deepspeed/shard_1.pt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What two ranks wrote, merged."""
    merged = tmp_path / "merged"
    for rank in (0, 1):
        part = tmp_path / f"rank_{rank}"
        (part / "state/deepspeed").mkdir(parents=True)
        (part / f"state/deepspeed/shard_{rank}.pt").write_bytes(bytes([rank + 1]) * 1000)
        write(part, RECIPE, METRICS, rank=rank, num_workers=2)
        shutil.copytree(part, merged, dirs_exist_ok=True)
    return merged


def test_what_is_whole_is_read(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.json",
        "manifest-00000-of-00002.json",
        "manifest-00001-of-00002.json",
        "state",
    ]
    saved = read(folder)
    assert (saved.step, saved.supervised_tokens, saved.num_workers, saved.metrics) == (6, 120, 2, METRICS)
    assert saved.has_state
    saved.check(RECIPE, num_steps=7)
    assert read(folder).digest == saved.digest


def truncate(folder: Path) -> None:
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:400])


def flip(folder: Path) -> None:
    content = bytearray((folder / SHARD).read_bytes())
    content[777] ^= 1
    (folder / SHARD).write_bytes(content)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def rewrite(name: str, text: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_text(text)

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, rf"{SHARD} has 400 bytes, but 1,000 were written"),
        (flip, rf"{SHARD} has the SHA-256 [0-9a-f]{{12}}\.\.\., but [0-9a-f]{{12}}\.\.\. was written"),
        (remove(SHARD), rf"{SHARD} is missing \(1,000 bytes were written\)"),
        (remove("checkpoint.json"), r"checkpoint\.json is missing"),
        (remove("manifest-00001-of-00002.json"), r"manifest-00001-of-00002\.json is missing"),
        (remove("manifest-00000-of-00002.json"), r"manifest-00000-of-00002\.json is missing"),
        (
            rewrite("manifest-00001-of-00002.json", '{"files": {"a": {"bytes": 3}}}'),
            r"manifest-00001-of-00002\.json can't be read",
        ),
        (rewrite("manifest-00001-of-00002.json", '{"files"'), r"manifest-00001-of-00002\.json can't be read"),
    ],
)
def test_damage_is_named(folder: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(folder)
    with pytest.raises(DamagedCheckpoint, match=rf"The checkpoint in .* is damaged: {words}.*; go on from an earlier"):
        read(folder)


def test_every_flipped_bit_is_found(folder: Path) -> None:
    """In every file, at places all over it, the manifests themselves included."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 40)):
            content = bytearray(whole)
            content[place] ^= 1 << place % 8
            path.write_bytes(content)
            if path.name.startswith("manifest-") and same_files(whole, bytes(content)):
                continue  # blanks
            with pytest.raises(DamagedCheckpoint):
                read(folder)
        path.write_bytes(whole)
    assert read(folder).step == 6


def same_files(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one)["files"] == json.loads(other)["files"])
    except (ValueError, KeyError):
        return False


def test_the_ranks_of_a_node_share_the_reading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_by: dict[str, list[str]] = {}
    for rank in ("0", "1"):
        seen = read_by.setdefault(rank, [])
        monkeypatch.setattr(checkpoint, "_fault_of_file", lambda _folder, name, *_, seen=seen: seen.append(name) or "")
        monkeypatch.setenv("LOCAL_RANK", rank)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        read(folder)
    assert sorted(read_by["0"] + read_by["1"]) == ["checkpoint.json", "state/deepspeed/shard_0.pt", SHARD]
    assert min(map(len, read_by.values())) == 1


@pytest.mark.parametrize(
    ("names", "complete"),
    [
        ([], False),
        (["state", "checkpoint.json"], False),
        (["manifest-00000-of-00002.json"], False),
        (["manifest-00000-of-00002.json", "manifest-00001-of-00002.json", "state"], True),
        (["manifest-00000-of-00001.json"], True),
    ],
)
def test_what_was_cut_off_is_told_by_names(names: list[str], complete: bool) -> None:
    assert is_complete(names) is complete


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match=r"There is no checkpoint in .*: it holds no checkpoint\.json"):
        read(tmp_path)


def test_a_model_without_state_is_no_place_to_go_on_from(tmp_path: Path) -> None:
    write(tmp_path, RECIPE, METRICS, rank=0, num_workers=1)
    with pytest.raises(ValueError, match="holds a model, but no state to go on from"):
        read(tmp_path).check(RECIPE, num_steps=7)


class Harmful:
    """What a pickle can do to who loads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harm"),)


def test_loading_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"module": Harmful()}, "state.pt")
    with weights_only(), pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load("state.pt", weights_only=False)
    assert not Path("harm").exists()
    torch.load("state.pt", weights_only=False)
    assert Path("harm").exists()


def test_ray_forgets_a_list_that_it_could_not_start_with(tmp_path: Path) -> None:
    snapshot = tmp_path / "checkpoint_manager_snapshot.json"
    (tmp_path / "step_000002-aa").mkdir()
    good = json.dumps({"checkpoint_results": [{"checkpoint_dir_name": "step_000002-aa"}]})
    gone = good.replace("000002", "000004")
    for content, stays in ((good, True), (gone, False), (good[:30], False), ("", False), ("[]", False)):
        snapshot.write_text(content)
        _forget_what_is_lost(fs.LocalFileSystem(), str(snapshot))
        assert snapshot.exists() is stays, content
    _forget_what_is_lost(fs.LocalFileSystem(), str(snapshot))


def test_a_checkpoint_elsewhere_is_fetched_before_it_is_checked(folder: Path, tmp_path: Path) -> None:
    """From a file system that is no folder of this machine, each time anew."""
    from ray.train import Checkpoint

    bucket = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    place = Checkpoint(folder.name, bucket)
    assert _read(place, scratch).folder == scratch / "fetched"
    flip(folder)
    with pytest.raises(DamagedCheckpoint, match=f"{SHARD} has the SHA-256"):
        _read(place, scratch)


@pytest.mark.parametrize(
    ("error", "stops"),
    [
        (FloatingPointError("The loss of step 2 is not finite"), True),
        (ValueError("Step 1 has no supervised token"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (RuntimeError("Connection closed by peer"), False),
    ],
)
def test_what_would_come_again_ends_a_run(error: Exception, stops: bool) -> None:
    failures = {0: RuntimeError("Connection closed by peer"), 1: error}
    if not stops:
        _StopWhatRepeats().after_exception(None, failures)
        return
    with pytest.raises(type(error)) as raised:
        _StopWhatRepeats().after_exception(None, failures)
    assert raised.value is error


def test_the_driver_says_why() -> None:
    from ray.train import ControllerError

    with pytest.raises(
        OSError, match=r"No room is left for the checkpoints of runs/a \(No space left.*start the same run"
    ):
        _say_why(ControllerError(OSError(errno.ENOSPC, "No space left on device")), "runs/a")
    with pytest.raises(FloatingPointError, match=r"^The loss of step 2$"):
        _say_why(ControllerError(FloatingPointError("The loss of step 2")), "runs/a")
    with pytest.raises(ControllerError, match="a bug"):
        _say_why(ControllerError(KeyError("a bug")), "runs/a")


def test_seal_covers_all_that_lies_there(tmp_path: Path) -> None:
    (tmp_path / "model/deep").mkdir(parents=True)
    (tmp_path / "model/deep/weights.bin").write_bytes(b"123")
    seal(tmp_path)
    manifest = json.loads((tmp_path / "manifest-00000-of-00001.json").read_text())
    digest = "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"
    assert manifest["files"] == {"model/deep/weights.bin": {"bytes": 3, "sha256": digest}}


def test_a_checkpoint_is_copied_behind_the_next_steps_but_not_two_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray.train

    modes: list[str] = []
    monkeypatch.setattr(
        ray.train, "report", lambda *_, checkpoint_upload_mode, **__: modes.append(checkpoint_upload_mode.name)
    )
    first, second, last = (tmp_path / name for name in ("2", "4", "7"))
    report = _Reporter(num_steps=7)

    def step(number: int, folder: Path | None = None) -> str:
        if folder is not None:
            folder.mkdir()
        report({"step": number}, folder)
        return modes[-1]

    assert [step(1), step(2, first), step(3)] == ["SYNC", "ASYNC", "ASYNC"]
    assert step(4, second) == "SYNC", "the first one is still being copied"
    shutil.rmtree(first)
    shutil.rmtree(second)
    assert [step(5), step(7, last)] == ["SYNC", "SYNC"]


def test_only_the_number_of_workers_asked_for_has_to_share_a_step_evenly(caplog: pytest.LogCaptureFixture) -> None:
    assert _num_workers(RECIPE, Placement(num_workers=2)) == 2
    assert _num_workers(RECIPE, Placement(num_workers=4, min_workers=1)) == (1, 4)
    for least in (None, 1):
        with pytest.raises(ValueError, match=r"blocks_per_step is 4, which 3 workers .* can't share evenly"):
            _num_workers(RECIPE, Placement(num_workers=3, min_workers=least))
    asked = Placement(num_workers=4, min_workers=1)
    for number in (4, 2, 3):
        assert not caplog.messages
        _warn_of_idle_passes(RECIPE, _placement_of(asked, number))
    assert caplog.messages == [
        "3 workers with a micro-batch of 1 share the 4 blocks of a step unevenly: 33 % of their work is on blocks that "
        "only fill up."
    ]
    with pytest.raises(ValueError, match="min_workers is 3; it must lie between 1 and num_workers, which is 2"):
        Placement(num_workers=2, min_workers=3)
