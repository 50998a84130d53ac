"""Laws of packing: every sample in one block, no block over its length."""

from __future__ import annotations

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


def test_short_samples_fill_blocks() -> None:
    lengths = np.random.default_rng(0).integers(40, 300, 2000)
    blocks = pack(lengths, 512, 0)
    assert lengths.sum() / (512 * (blocks.max() + 1)) > 0.98


def test_a_sample_longer_than_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="A sample has 600 tokens, but a block holds 512"):
        pack(np.array([10, 600]), 512, 0)
