"""Attention of many rows over one pool: each row sees its own, however rows lie beside each other."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from agentflan_ray.evaluate.engines.attention import Pool, Span, Step, pooled_attention

HEADS, KEY_HEADS, SIZE = 6, 2, 8


class Layer(torch.nn.Module):
    layer_idx = 0


def attend(pool: Pool, spans: list[Span], window: int | None = None) -> torch.Tensor:
    """(tokens, heads, size), of random queries, keys and values."""
    tokens = sum(span.count for span in spans)
    query = torch.randn(1, HEADS, tokens, SIZE)
    key, value = (torch.randn(1, KEY_HEADS, tokens, SIZE) for _ in range(2))
    step = Step(pool, spans, torch.device("cpu"))
    found = pooled_attention(Layer(), query, key, value, None, step=step, sliding_window=window)[0][0]
    borders = [0]
    for span in spans:
        borders.append(borders[-1] + span.count)
    expected = torch.cat(
        [_alone(pool, span, query[0, :, a:b], window) for span, (a, b) in zip(spans, pairwise(borders), strict=True)]
    )
    torch.testing.assert_close(found, expected)
    return found


def _alone(pool: Pool, span: Span, query: torch.Tensor, window: int | None) -> torch.Tensor:
    """The definition: a softmax over what each token sees."""
    place = slice(span.start, span.start + span.end)
    groups = HEADS // KEY_HEADS
    keys, values = (
        each[0][place].repeat_interleave(groups, dim=1).transpose(0, 1) for each in (pool.keys, pool.values)
    )
    past, now = torch.arange(span.end)[None], torch.arange(span.begin, span.end)[:, None]
    seen = (past <= now) & (past > now - (window or span.end))
    weights = (query @ keys.transpose(1, 2) / SIZE**0.5).masked_fill(~seen, float("-inf")).softmax(-1)
    result: torch.Tensor = (weights @ values).transpose(0, 1)
    return result


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("lengths", [[9], [9, 9], [9, 4], [4, 9, 7], [30, 1, 12, 12]], ids=str)
def test_rows_see_their_own_and_nothing_else(lengths: list[int], window: int | None) -> None:
    torch.manual_seed(0)
    pool = Pool(places=100)
    starts = [40, 0, 87, 20][: len(lengths)]  # the third row's range ends with the pool
    attend(pool, [Span(start, 0, length) for start, length in zip(starts, lengths, strict=True)], window)
    attend(pool, [Span(start, length, 1) for start, length in zip(starts, lengths, strict=True)][::-1], window)


def test_new_prompts_stand_beside_rows_that_are_answered() -> None:
    torch.manual_seed(0)
    pool = Pool(places=64)
    attend(pool, [Span(0, 0, 6), Span(20, 0, 11)])
    attend(pool, [Span(0, 6, 1), Span(40, 0, 8), Span(20, 11, 1)])
    attend(pool, [Span(40, 8, 5), Span(0, 7, 1)])


def test_memory_that_was_never_written_does_no_harm() -> None:
    """The shorter of two rows reads beyond its end, where anything may stand, and NaN times nothing is NaN."""
    torch.manual_seed(0)
    pool = Pool(places=64)
    attend(pool, [Span(0, 0, 12), Span(20, 0, 3)])
    for tensor in (pool.keys[0], pool.values[0]):
        tensor[pool._clean :] = float("nan")
    assert torch.isfinite(attend(pool, [Span(0, 12, 1), Span(20, 3, 1)])).all()
    pool.copy(0, 50, 10)
    assert torch.isfinite(attend(pool, [Span(0, 13, 1), Span(50, 10, 1)])).all()
