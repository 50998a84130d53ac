"""The targets of packed blocks, and random blocks for benchmarks and tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agentflan_ray.sample import COMPONENTS
from agentflan_ray.tokens.block import COMPONENT_GROUPS, Block, Group

NUM_COMPONENTS = len(COMPONENTS)


@dataclass(frozen=True, slots=True)
class RandomBlocks:
    """Blocks of random tokens, two samples in each, about five tags in six supervised: for benchmarks and tests.

    Calling it returns it, so that it is also a factory of blocks.
    """

    num_blocks: int
    block_length: int
    vocabulary_size: int
    seed: int = 0

    @property
    def groups(self) -> tuple[Group, ...]:
        """The components."""
        return COMPONENT_GROUPS

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
            tags=random.integers(-1, NUM_COMPONENTS, size=self.block_length, dtype=np.int8).astype(np.int16),
        )


def targets(position_ids: npt.NDArray[np.int32], tags: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """The group of the *next* token of each position, -1 where it is no target. Both arguments are (..., L).

    Position t predicts token t + 1, so the last position has no target, and neither has the last token of a packed
    sample: the token after it has position 0.
    """
    shifted = np.full_like(tags, -1)
    shifted[..., :-1] = np.where(position_ids[..., 1:] == 0, -1, tags[..., 1:])
    return shifted


def count_targets(block_targets: npt.NDArray[np.int16], num_groups: int = NUM_COMPONENTS) -> npt.NDArray[np.int64]:
    """Number of supervised tokens of each group, (num_groups,)."""
    return np.bincount(block_targets[block_targets >= 0], minlength=num_groups).astype(np.int64)
