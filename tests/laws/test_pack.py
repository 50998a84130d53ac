"""Laws of packing: every sample in one block, no block over its length."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflan_ray.tokens.pack import pack


@given(st.lists(st.integers(1, 512), max_size=300), st.integers(0, 5))
def test_every_sample_is_in_one_block_that_holds_it(lengths: list[int], seed: int) -> None:
    blocks = pack(np.array(lengths, dtype=np.int64), 512, seed)
    assert len(blocks) == len(lengths)
    if lengths:
        filled = np.bincount(blocks, weights=lengths)
        assert filled.max() <= 512
        assert filled.min() > 0
        assert len(filled) <= np.ceil(11 / 9 * np.ceil(sum(lengths) / 512)) + len([n for n in lengths if n > 256])


def one_by_one(lengths: list[int], block_length: int) -> list[int]:
    """Best fit decreasing as it is told: how full each block is, ascending."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms.remove(min(fitting))
        rooms.append((min(fitting) if fitting else block_length) - length)
    return sorted(block_length - room for room in rooms)


@given(st.integers(1, 60), st.lists(st.floats(0.01, 1), max_size=80))
def test_it_is_best_fit_decreasing(block_length: int, parts: list[float]) -> None:
    lengths = [max(1, int(part * block_length)) for part in parts]
    blocks = pack(np.array(lengths, dtype=np.int64), block_length, 0)
    assert sorted(np.bincount(blocks, weights=lengths).tolist()) == one_by_one(lengths, block_length)


def test_the_order_of_blocks_is_drawn_from_the_seed() -> None:
    lengths = np.random.default_rng(0).integers(40, 300, 2000)
    first, again, other = pack(lengths, 512, 0), pack(lengths, 512, 0), pack(lengths, 512, 1)
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()
    # The longest samples do not come first.
    assert abs(np.corrcoef(first, lengths)[0, 1]) < 0.1


def test_a_million_samples_take_a_second() -> None:
    lengths = np.random.default_rng(0).lognormal(6, 1, 1_000_000).astype(np.int64).clip(1, 4096)
    began = time.perf_counter()
    blocks = pack(lengths, 4096, 0)
    assert time.perf_counter() - began < 10  # 0.3 s on one idle core; quadratic packing takes minutes
    assert lengths.sum() / (4096 * (blocks.max() + 1)) > 0.99


def test_short_samples_fill_blocks() -> None:
    lengths = np.random.default_rng(0).integers(40, 300, 2000)
    blocks = pack(lengths, 512, 0)
    assert lengths.sum() / (512 * (blocks.max() + 1)) > 0.98


def test_a_sample_longer_than_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="A sample has 600 tokens, but a block holds 512"):
        pack(np.array([10, 600]), 512, 0)
