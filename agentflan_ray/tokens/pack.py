"""Packing: samples into blocks of one length, best fit decreasing."""

from __future__ import annotations

import bisect

import numpy as np
import numpy.typing as npt


def pack(lengths: npt.NDArray[np.int64], block_length: int, seed: int) -> npt.NDArray[np.int64]:
    """The block of each sample: longest first, each into the block with the least room that still takes it.

    Best fit decreasing wastes at most 2/9 of the blocks against the optimum (Johnson 1973) and a few per cent on
    conversations. Blocks come in random order drawn from ``seed``, so that no step holds only long samples.

    Raises ``ValueError`` where a sample is longer than a block.
    """
    if len(lengths) and lengths.max() > block_length:
        raise ValueError(
            f"A sample has {lengths.max()} tokens, but a block holds {block_length}; tokenise for that length."
        )
    blocks = np.full(len(lengths), -1, dtype=np.int64)
    rooms: list[tuple[int, int]] = []  # (room left, block), sorted
    num_blocks = 0
    for sample in np.argsort(-lengths, kind="stable"):
        length = int(lengths[sample])
        place = bisect.bisect_left(rooms, (length, -1))
        if place < len(rooms):
            room, block = rooms.pop(place)
        else:
            room, block = block_length, num_blocks
            num_blocks += 1
        blocks[sample] = block
        bisect.insort(rooms, (room - length, block))
    order = np.random.default_rng(seed).permutation(num_blocks)
    return order[blocks] if num_blocks else blocks
