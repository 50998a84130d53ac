"""What training reads: packed blocks of tokens, by number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from agentflan_ray.sample import COMPONENTS, Component

Piece = Literal["", "format", "content"]
PIECES: tuple[Piece, ...] = ("", "format", "content")


class Group(NamedTuple):
    """What a learnt token's loss counts for.

    ``source`` is the name of the data that it comes from, "" where there is none. ``piece`` divides the explicit
    formats (ReAct, JSON, strings) as the paper's first observation does: the format's own words and marks, and the
    thoughts, names and values between them; "" in natural language.
    """

    component: Component
    source: str = ""
    piece: Piece = ""


COMPONENT_GROUPS: tuple[Group, ...] = tuple(Group(component) for component in COMPONENTS)  # type: ignore[arg-type]
"""The groups of blocks that say no more than each token's component."""


@dataclass(frozen=True)
class Block:
    """Samples laid end to end.

    ``input_ids`` (L,) int32. ``position_ids`` (L,) int32, starting again at 0 with each sample: that is where
    attention must not cross. ``tags`` (L,) int16: the index in :attr:`Blocks.groups` of a token that is learnt, -1 for
    every other token and for padding. A tag on the first token of a sample is never a target: nothing stands before it.
    """

    input_ids: npt.NDArray[np.int32]
    position_ids: npt.NDArray[np.int32]
    tags: npt.NDArray[np.int16]


class Blocks(Protocol):
    """Blocks by number, the same on every machine and in every order of asking."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """What the tags of all blocks stand for."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Block: ...


def empty_block(block_length: int, pad_token_id: int = 0) -> Block:
    """A block without targets: what a partial global batch is filled up with, so that all ranks run alike."""
    return Block(
        input_ids=np.full(block_length, pad_token_id, dtype=np.int32),
        position_ids=np.arange(block_length, dtype=np.int32),
        tags=np.full(block_length, -1, dtype=np.int16),
    )
