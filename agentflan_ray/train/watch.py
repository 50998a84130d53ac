"""What ends a process that hangs in training, so that whoever started it can start it again."""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentflan_ray.tokens.block import Block, Blocks, Group

if TYPE_CHECKING:
    from agentflan_ray.train.loop import Rungs

HANG_SECONDS = 1800
"""How long a worker may make no step, or let others wait, before all are started again; PyTorch's own default."""


@dataclass(frozen=True)
class Watched:
    """Blocks that end the process where ``hang_seconds`` pass after one was read, unless a step is reported.

    The process group notices a worker that lets others wait, but neither a worker alone that hangs nor all of them at
    once. Python's ``faulthandler`` waits in a thread of its own that needs no lock of the interpreter, so it also ends
    a process that hangs within a kernel; Ray then starts it again. Validation reads blocks too, so it may take longer;
    loading a model reads none.
    """

    blocks: Blocks
    hang_seconds: int

    @property
    def groups(self) -> tuple[Group, ...]:
        return self.blocks.groups

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, number: int, /) -> Block:
        faulthandler.dump_traceback_later(self.hang_seconds, exit=True)
        return self.blocks[number]


def pause() -> None:
    """Wait for nothing until the next block is read: what follows may take long."""
    faulthandler.cancel_dump_traceback_later()


def unwatched(score: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """What reads no blocks and may take long."""

    def call(*arguments: Any) -> dict[str, Any]:
        pause()
        return score(*arguments)

    return call


def unwatched_rungs(rungs: Rungs) -> Rungs:
    """Rungs whose scoring may take long."""
    return rungs if rungs.score is None else dataclasses.replace(rungs, score=unwatched(rungs.score))


@contextlib.contextmanager
def watching_ends() -> Iterator[None]:
    """However a training ends, nothing is left that would end the process."""
    try:
        yield
    finally:
        pause()
