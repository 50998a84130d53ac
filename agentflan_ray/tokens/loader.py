"""The order in which training reads blocks: global batches, shared among ranks, that a resumed run goes on with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from agentflan_ray.tokens.block import Block, Blocks, empty_block


@dataclass
class Loader:
    """This rank's blocks of each global batch, a micro-batch at a time.

    Batch b holds the blocks ``b * batch_size`` to ``(b + 1) * batch_size`` of a plan, whatever the number of ranks: a
    run that goes on with other workers reads the same. In each pass of all ranks, rank r reads the r-th
    ``micro_batch_size`` of them. The last batch, and each one that the ranks can't share evenly, is filled up with
    blocks that hold no target, so that all ranks run alike. There is no order of its own and no seed:
    :func:`~agentflan_ray.tokens.blocks.write_plan` draws the order of the blocks within each phase, and a text that is
    read again stands in the plan again.
    """

    blocks: Blocks
    block_length: int
    batch_size: int
    rank: int = 0
    world_size: int = 1
    micro_batch_size: int = 1
    _next: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"The rank is {self.rank}, but must lie between 0 and {self.world_size - 1}.")

    def __len__(self) -> int:
        """The number of global batches."""
        return math.ceil(len(self.blocks) / self.batch_size)

    def __getitem__(self, batch: int) -> list[list[Block]]:
        """This rank's micro-batches of a global batch, the same on every call.

        Raises ``IndexError`` beyond the last batch, and ``ValueError`` where a block has another length.
        """
        if not 0 <= batch < len(self):
            raise IndexError(batch)
        size, at_once = self.micro_batch_size, self.micro_batch_size * self.world_size
        first, end = batch * self.batch_size, min((batch + 1) * self.batch_size, len(self.blocks))
        # Every rank makes as many passes as a whole batch takes, whether or not any of its own blocks are left.
        passes = range(first + self.rank * size, first + self.batch_size + self.rank * size, at_once)
        return [[self._block(number, end) for number in range(start, start + size)] for start in passes]

    def __iter__(self) -> Iterator[list[list[Block]]]:
        """The batches from the one that is next on; each counts as read once it is asked for the one after it."""
        while self._next < len(self):
            yield self[self._next]
            self._next += 1

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON values: the next batch, and what numbers it."""
        return {"next_batch": self._next, "batch_size": self.batch_size, "num_blocks": len(self.blocks)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken; rank, number of ranks and micro-batch may have changed since.

        Raises ``ValueError`` where it was taken of another plan or batch size.
        """
        for name, now in (("batch_size", self.batch_size), ("num_blocks", len(self.blocks))):
            if state[name] != now:
                raise ValueError(
                    f"The state was taken with {name}={state[name]}, but now it is {now}; go on with the plan and the "
                    "batch size that the run was begun with."
                )
        self._next = state["next_batch"]

    def _block(self, number: int, end: int) -> Block:
        if number >= end:
            return empty_block(self.block_length)
        block = self.blocks[number]
        if block.input_ids.shape != (self.block_length,):
            raise ValueError(
                f"Block {number} has {block.input_ids.shape[0]} tokens, but the recipe's block_length is "
                f"{self.block_length}; pack with the same length."
            )
        return block
