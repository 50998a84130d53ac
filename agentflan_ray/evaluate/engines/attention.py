"""Attention of many conversations in one forward pass, each over its own keys and values in a pool.

Tokens of all rows stand one after the other in a batch of one: a new prompt's beside the single last tokens of rows
that are being answered. Linear layers see no padding, and every row attends to what it has in the pool. That is what
transformers' own continuous batching does too; there, on a CPU, each layer first gathers all keys and values and forms
one mask over all rows (transformers 5.23 with SmolLM2-135M: 12 tokens/s, against 15 of a static batch of 16).

The function is registered with transformers under :data:`POOLED`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

POOLED = "pooled_rows"
"""The name of this attention in transformers."""

_CHANGED_SCORES = ("softcap", "s_aux", "position_bias")
"""What some architectures hand to their attention to change its scores (Gemma 2, gpt-oss, T5)."""

# PyTorch 2.11 takes fewer key heads than query heads without being asked; from 2.12 on they have to be allowed.
_GROUPED: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}


@dataclass(frozen=True, slots=True)
class Span:
    """A row's part in a forward pass: ``count`` tokens from position ``begin`` of the row on.

    Its keys and values lie in the pool from ``start`` on, those of position 0 first.
    """

    start: int
    begin: int
    count: int

    @property
    def end(self) -> int:
        """Positions that the row has after this pass."""
        return self.begin + self.count


@dataclass
class Pool:
    """Keys and values of all layers: layer number to a tensor (places, key heads, size). Made as layers first ask."""

    places: int
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)
    _clean: int = 0

    def reach(self, end: int) -> None:
        """Let all places below ``end`` hold numbers: what is read beside a row's own must not be a NaN."""
        if end > self._clean:
            for tensor in (*self.keys.values(), *self.values.values()):
                tensor[self._clean : end] = 0
            self._clean = end

    def write(self, layer: int, where: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keep keys and values, (tokens, key heads, size), at these places."""
        if layer not in self.keys:
            # On a CPU empty pages take memory only once they are written to.
            self.keys[layer] = key.new_empty(self.places, *key.shape[1:])
            self.values[layer] = value.new_empty(self.places, *value.shape[1:])
            for tensor in (self.keys[layer], self.values[layer]):
                tensor[: self._clean] = 0
        self.keys[layer].index_copy_(0, where, key)
        self.values[layer].index_copy_(0, where, value)

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy a stretch of places that does not overlap its target."""
        self.reach(target + length)
        for tensors in (self.keys, self.values):
            for tensor in tensors.values():
                tensor[target : target + length] = tensor[source : source + length]

    def bytes_per_place(self) -> int:
        """Of all layers that have asked so far."""
        tensors = [*self.keys.values(), *self.values.values()]
        return sum(tensor[0].numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True, slots=True)
class Couple:
    """One or two rows of which a pass takes one token each: ``length`` places from ``place`` on, and from ``place +
    stride`` on. Where the first row is shorter, ``mask`` (2, 1, 1, length) is minus infinity beyond its end."""

    rows: int
    place: int
    stride: int
    length: int
    mask: torch.Tensor | None

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Their keys or values, (rows, key heads, length, size), where they lie."""
        token, head, each = tensor.stride()
        shape = (self.rows, tensor.shape[1], self.length, tensor.shape[2])
        return tensor.as_strided(shape, (self.stride * token, head, token, each), self.place * token)


class Step:
    """What one forward pass computes: the spans of its rows, in the order of their tokens."""

    def __init__(self, pool: Pool, spans: Sequence[Span], device: torch.device) -> None:
        self.pool = pool
        self.spans = spans
        self.device = device
        offsets = [torch.arange(span.begin, span.end) for span in spans]
        self.positions = torch.cat(offsets).to(device)
        self.where = torch.cat([o + s.start for o, s in zip(offsets, spans, strict=True)]).to(device)
        pool.reach(min(pool.places, max(span.start for span in spans) + max(span.end for span in spans)))
        self._masks: dict[tuple[int, int, int | None], torch.Tensor] = {}
        self._couples: dict[int | None, tuple[torch.Tensor, list[Couple]]] = {}
        self._borders: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def mask(self, span: Span, window: int | None) -> torch.Tensor:
        """What the span's tokens see, (count, end) of booleans; made once for all layers."""
        key = (span.begin, span.count, window)
        if key not in self._masks:
            query = torch.arange(span.begin, span.end, device=self.device)[:, None]
            past = torch.arange(span.end, device=self.device)[None]
            seen = past <= query
            self._masks[key] = seen if window is None else seen & (past > query - window)
        return self._masks[key]

    def couples(self, window: int | None, dtype: torch.dtype) -> tuple[torch.Tensor, list[Couple]]:
        """The rows with one token in this pass, two by two, and which tokens of the pass are theirs.

        Two rows lie at a regular distance, whichever they are, so attention takes both in one call without a copy. Of
        two threads each then has the same to do (a row of SmolLM2 has 3 key heads), and neighbours in length are
        coupled, so little is read in vain.
        """
        if window not in self._couples:
            singles: list[tuple[int, int, int]] = []
            at = 0
            for span in self.spans:
                if span.count == 1:
                    length = span.end if window is None else min(span.end, window)
                    singles.append((length, span.start + span.end - length, at))
                at += span.count
            singles.sort()
            couples: list[Couple] = []
            tokens: list[int] = []
            while singles:
                pair = sorted(singles[-2:], key=lambda single: single[1])
                length = max(each for each, _, _ in pair)
                if pair[-1][1] + length > self.pool.places:
                    pair = singles[-1:]
                    length = pair[0][0]
                del singles[-len(pair) :]
                tokens += [token for _, _, token in pair]
                mask = None
                if pair[0][0] != pair[-1][0]:
                    lengths = torch.tensor([each for each, _, _ in pair])[:, None, None, None]
                    mask = torch.zeros(len(pair), 1, 1, length, dtype=dtype)
                    mask = mask.masked_fill(torch.arange(length) >= lengths, float("-inf")).to(self.device)
                couples.append(Couple(len(pair), pair[0][1], pair[-1][1] - pair[0][1], length, mask))
            self._couples[window] = (torch.tensor(tokens, dtype=torch.int64, device=self.device), couples)
        return self._couples[window]

    def borders(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Offsets of the rows' queries and of their keys, and the places of all keys, row after row."""
        if self._borders is None:
            queries, keys = [0], [0]
            for span in self.spans:
                queries.append(queries[-1] + span.count)
                keys.append(keys[-1] + span.end)
            places = torch.cat([torch.arange(span.start, span.start + span.end) for span in self.spans])
            offsets = [torch.tensor(each, dtype=torch.int32, device=self.device) for each in (queries, keys)]
            self._borders = (offsets[0], offsets[1], places.to(self.device))
        return self._borders


def pooled_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    step: Step,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function that transformers calls in every layer.

    ``query`` is (1, heads, tokens, size), ``key`` and ``value`` (1, key heads, tokens, size); returns (1, tokens,
    heads, size) and no weights. The pool says what is seen, so the mask is None.
    """
    assert attention_mask is None
    assert dropout == 0.0
    changed = [name for name in _CHANGED_SCORES if others.get(name) is not None]
    if changed:
        raise ValueError(
            f"{type(module).__name__} changes its attention scores ({', '.join(changed)}), which this engine does not "
            "do; use --engine vllm."
        )
    layer: int = module.layer_idx  # type: ignore[assignment]
    queries, new_keys, new_values = (each[0].transpose(0, 1) for each in (query, key, value))
    step.pool.write(layer, step.where, new_keys, new_values)
    keys, values = step.pool.keys[layer], step.pool.values[layer]
    if _kernel_takes(queries, values):
        query_borders, key_borders, places = step.borders()
        output = varlen_attn(
            queries.contiguous(),
            keys[places],
            values[places],
            query_borders,
            key_borders,
            max(span.count for span in step.spans),
            max(span.end for span in step.spans),
            scale=scaling,
            window_size=(-1, 0) if sliding_window is None else (sliding_window - 1, 0),
            **_GROUPED,
        )
        assert isinstance(output, torch.Tensor)
        return output[None], None
    return _row_by_row(queries, keys, values, step, scaling, sliding_window)[None], None


def _kernel_takes(query: torch.Tensor, value: torch.Tensor) -> bool:
    """FlashAttention computes in half precision, on heads of a multiple of 8 up to 256."""
    size = query.shape[-1]
    half = query.dtype in (torch.bfloat16, torch.float16)
    return query.is_cuda and half and size % 8 == 0 and size <= 256 and value.shape[-1] == size


def _row_by_row(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    step: Step,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    tokens, heads, _ = queries.shape
    key_heads, size = values.shape[1:]
    groups = heads // key_heads
    output = queries.new_empty(tokens, heads, size)
    queries = queries.contiguous()
    tokens_of_couples, couples = step.couples(window, queries.dtype)
    if couples:
        # One token sees all that is there, so the query heads of a key head may stand as its queries: no key is
        # repeated.
        asked = queries[tokens_of_couples].view(-1, key_heads, groups, queries.shape[-1])
        seen = asked.new_empty(len(asked), key_heads, groups, size)
        at = 0
        for couple in couples:
            seen[at : at + couple.rows] = functional.scaled_dot_product_attention(
                asked[at : at + couple.rows],
                couple.of(keys),
                couple.of(values),
                attn_mask=couple.mask,
                scale=scaling,
            )
            at += couple.rows
        output[tokens_of_couples] = seen.view(-1, heads, size)
    at = 0
    for span in step.spans:
        if span.count > 1:
            row_keys = keys[span.start : span.start + span.end].transpose(0, 1)[None]
            row_values = values[span.start : span.start + span.end].transpose(0, 1)[None]
            plain = span.begin == 0 and (window is None or span.end <= window)
            result = functional.scaled_dot_product_attention(
                queries[at : at + span.count].transpose(0, 1)[None],
                row_keys,
                row_values,
                attn_mask=None if plain else step.mask(span, window),
                is_causal=plain,
                scale=scaling,
                enable_gqa=groups > 1,
            )
            output[at : at + span.count] = result[0].transpose(0, 1)
        at += span.count
    return output


AttentionInterface.register(POOLED, pooled_attention)
