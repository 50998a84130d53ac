"""The loader: which blocks each rank gets, in which order, and how a run goes on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflan_ray.tokens.block import COMPONENT_GROUPS, Block
from agentflan_ray.tokens.loader import Loader

LENGTH = 4


class Numbered:
    """Blocks whose every token is one more than their number."""

    groups = COMPONENT_GROUPS

    def __init__(self, num_blocks: int, length: int = LENGTH) -> None:
        self.num_blocks = num_blocks
        self.length = length

    def __len__(self) -> int:
        return self.num_blocks

    def __getitem__(self, number: int, /) -> Block:
        ids = np.full(self.length, number + 1, dtype=np.int32)
        return Block(ids, np.arange(self.length, dtype=np.int32), np.zeros(self.length, dtype=np.int8))


def numbers(micro_batches: list[list[Block]]) -> list[int]:
    return [int(block.input_ids[0]) for blocks in micro_batches for block in blocks]


@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 3), st.integers(1, 20))
def test_the_ranks_share_each_batch_and_all_blocks_are_read_once(
    num_blocks: int, world_size: int, micro_batch_size: int, batch_size: int
) -> None:
    passes = -(-batch_size // (world_size * micro_batch_size))
    loaders = [
        Loader(Numbered(num_blocks), LENGTH, batch_size, rank, world_size, micro_batch_size)
        for rank in range(world_size)
    ]
    alone = Loader(Numbered(num_blocks), LENGTH, batch_size)
    read: list[int] = []
    for batch, parts in enumerate(zip(*loaders, strict=True)):
        assert all([len(blocks) for blocks in part] == [micro_batch_size] * passes for part in parts)
        together = sorted(number for part in parts for number in numbers(part) if number)
        assert together == sorted(number for number in numbers(alone[batch]) if number)
        read += together
    assert read == list(range(1, num_blocks + 1))
    assert len(alone) == len(loaders[0]) == -(-num_blocks // batch_size)


def test_what_fills_up_the_last_batch_teaches_nothing() -> None:
    loader = Loader(Numbered(5), LENGTH, 4)
    *_, last = loader
    assert [block.tags.tolist() for blocks in last for block in blocks] == [[0] * 4, [-1] * 4, [-1] * 4, [-1] * 4]
    assert all(block.position_ids.tolist() == [0, 1, 2, 3] for blocks in last for block in blocks)


def test_a_batch_that_ranks_cannot_share_evenly_takes_nothing_of_the_next() -> None:
    ranks = [Loader(Numbered(8), LENGTH, 4, rank, 3) for rank in range(3)]
    assert [numbers(rank[0]) for rank in ranks] == [[1, 4], [2, 0], [3, 0]]
    assert [block.tags.tolist() for blocks in ranks[1][0] for block in blocks] == [[0] * 4, [-1] * 4]


@given(st.integers(0, 5), st.sampled_from([1, 2, 3, 4]))
def test_a_run_goes_on_with_any_number_of_ranks(read: int, world_size: int) -> None:
    first = Loader(Numbered(22), LENGTH, 4, rank=1, world_size=2)
    batches = iter(first)
    for _ in range(read):
        next(batches)
    # The batch that is being trained on is not read yet: a checkpoint is taken after it.
    state = json.loads(json.dumps(first.state()))
    assert state["next_batch"] == max(0, read - 1)
    rest = []
    for rank in range(world_size):
        loader = Loader(Numbered(22), LENGTH, 4, rank, world_size)
        loader.restore(state)
        rest.append([number for batch in loader for number in numbers(batch)])
    expected = list(range(4 * max(0, read - 1) + 1, 23))
    assert sorted(number for numbers_of in rest for number in numbers_of if number) == expected


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (Loader(Numbered(22), LENGTH, 2), r"taken with batch_size=4, but now it is 2"),
        (Loader(Numbered(21), LENGTH, 4), r"taken with num_blocks=22, but now it is 21"),
    ],
)
def test_the_state_of_another_plan_is_refused(changed: Loader, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        changed.restore(Loader(Numbered(22), LENGTH, 4).state())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"The rank is 2, but must lie between 0 and 1"):
        Loader(Numbered(5), LENGTH, 2, rank=2, world_size=2)
    with pytest.raises(ValueError, match=r"Block 0 has 4 tokens, but the recipe's block_length is 8"):
        Loader(Numbered(5), 8, 2)[0]
    with pytest.raises(IndexError):
        Loader(Numbered(5), LENGTH, 2)[3]
