"""What the training loop reads: packed blocks of equal length, by index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from agentflan_ray.sample import COMPONENTS

NUM_COMPONENTS = len(COMPONENTS)


@dataclass(frozen=True, slots=True)
class Block:
    """``block_length`` (L) tokens of one or more packed samples.

    ``input_ids`` (L,) int32. ``position_ids`` (L,) int32, 0 at the first token of each packed sample and rising by
    one inside it: attention stays inside a sample by them. ``tags`` (L,) int8: the index in ``sample.COMPONENTS``
    of the component that a supervised token counts for, -1 where nothing is learnt (prompts, padding). A tag on the
    first token of a sample is never a target, because nothing stands before it to predict it from.
    """

    input_ids: npt.NDArray[np.int32]
    position_ids: npt.NDArray[np.int32]
    tags: npt.NDArray[np.int8]


class Blocks(Protocol):
    """The blocks of a plan, in the order they are trained on."""

    def __len__(self) -> int:
        """Number of blocks."""
        ...

    def __getitem__(self, index: int) -> Block:
        """Block ``index``; the same one every time and on every worker."""
        ...


@dataclass(frozen=True, slots=True)
class RandomBlocks:
    """Blocks of random tokens, two samples in each, about five tags in six supervised: for benchmarks and tests.

    Calling it returns it, so that it is also a factory of blocks.
    """

    num_blocks: int
    block_length: int
    vocabulary_size: int
    seed: int = 0

    def __call__(self) -> RandomBlocks:
        return self

    def __len__(self) -> int:
        return self.num_blocks

    def __getitem__(self, index: int) -> Block:
        random = np.random.default_rng((self.seed, index))
        border = int(random.integers(1, self.block_length))
        return Block(
            input_ids=random.integers(self.vocabulary_size, size=self.block_length, dtype=np.int32),
            position_ids=np.concatenate([np.arange(border), np.arange(self.block_length - border)]).astype(np.int32),
            tags=random.integers(-1, NUM_COMPONENTS, size=self.block_length, dtype=np.int8),
        )


def padding_block(length: int) -> Block:
    """A block without targets: what fills the last global batch up, so that all ranks run the same number of passes."""
    return Block(
        input_ids=np.zeros(length, dtype=np.int32),
        position_ids=np.arange(length, dtype=np.int32),
        tags=np.full(length, -1, dtype=np.int8),
    )


def targets(position_ids: npt.NDArray[np.int32], tags: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """The component of the *next* token of each position, -1 where it is no target. Both arguments are (..., L).

    Position t predicts token t + 1, so the last position has no target, and neither has the last token of a packed
    sample: the token after it has position 0.
    """
    shifted = np.full_like(tags, -1)
    shifted[..., :-1] = np.where(position_ids[..., 1:] == 0, -1, tags[..., 1:])
    return shifted


def count_targets(block_targets: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Number of supervised tokens of each component, (NUM_COMPONENTS,)."""
    return np.bincount(block_targets[block_targets >= 0], minlength=NUM_COMPONENTS).astype(np.int64)
