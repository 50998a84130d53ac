"""Attention within packed samples: a position sees the earlier positions of its own sample, and nothing else.

Left to itself, transformers builds a mask of (rows, 1, L, L) for packed samples and every layer reads it. Here the
borders between samples take the mask's place, and each sample is attended to by itself: on CUDA in half precision by
PyTorch's FlashAttention kernel for samples of unequal length (``torch.nn.attention.varlen``), elsewhere by scaled dot
product attention, one sample after the other. The work is the sum of the squares of the lengths, not the square of the
sum.

The function is registered with transformers under :data:`PACKED`. What is not packed, such as generation with a cache
and padding on the left, goes on to transformers' own ``sdpa``.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED = "packed_samples"
"""The name of this attention in transformers. An exported configuration does not hold it."""

_ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
"""Kinds of layers that see what their attention shows them. Others carry a state on from one position to the next
(linear attention, convolutions), or look only within fixed chunks."""

_CHANGED_SCORES = ("softcap", "s_aux", "position_bias")
"""What some architectures hand to their attention to change its scores (Gemma 2, gpt-oss, T5)."""

# PyTorch 2.11 takes fewer key heads than query heads without being asked; from 2.12 on they have to be allowed.
_GROUPED: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}


def attend_within_samples(model: Any) -> None:
    """Set a model's attention to the one of this module.

    Raises ``ValueError`` for a model in which packed samples would see each other: one that carries a state along the
    text (Mamba, Qwen3-Next, …), or one whose class has an attention of its own. Some of the latter leave the positions
    out of their masks without a word (Falcon, Bloom, MPT, XGLM in transformers 5.23).
    """
    name = type(model).__name__
    kinds = set(getattr(model.config, "layer_types", None) or ())
    if model._is_stateful or kinds - _ATTENTION_LAYERS:
        reason = "has layers that do not attend to all that stands before, or carry a state along the text"
    elif not model.is_backend_compatible():
        reason = "has an attention of its own"
    else:
        model.set_attn_implementation(PACKED)
        return
    raise ValueError(
        f"{name} {reason}, so packed samples would not be kept apart; train a model like Llama, Mistral, Qwen or Gemma."
    )


def packed_arguments(model: Any, position_ids: torch.Tensor) -> dict[str, Any]:
    """What a model is called with besides ids and positions, so that its layers know the borders of packed samples.

    ``position_ids`` is (rows, L); a sample begins with each row, and wherever a position does not follow on the one
    before it. Empty for a model with another attention, which has to find the borders itself.

    A mask of four dimensions is handed through to every layer as it is: transformers takes it for one made by the
    caller. So the borders travel as an int32 tensor (1, 1, 1, samples + 1) of the offsets of all samples in the
    flattened batch, also where a layer runs a second time under activation checkpointing; and their differences as
    numbers beside it, because reading them from a GPU in every layer would make it wait.
    """
    if model.config._attn_implementation != PACKED:
        return {}
    begins = torch.ones_like(position_ids, dtype=torch.bool)
    begins[:, 1:] = position_ids.diff(dim=1) != 1
    borders = functional.pad(begins.flatten().nonzero().flatten(), (0, 1), value=begins.numel()).int()
    return {"attention_mask": borders[None, None, None], "sample_lengths": borders.diff().tolist()}


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    sample_lengths: list[int] | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function that transformers calls in every layer.

    ``query`` is (rows, heads, L, size), ``key`` and ``value`` (rows, key heads, L, size); returns (rows, L, heads,
    size) and no weights. Without ``sample_lengths`` it is transformers' ``sdpa``.
    """
    if sample_lengths is None:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    changed = [name for name in _CHANGED_SCORES if others.get(name) is not None]
    if changed:
        raise ValueError(
            f"{type(module).__name__} changes its attention scores ({', '.join(changed)}), which the attention of "
            "packed samples does not do; train a Llama-like model."
        )
    assert attention_mask is not None, "the lengths of samples without their borders"
    rows, _, length, _ = query.shape
    q, k, v = (each.transpose(1, 2).flatten(0, 1) for each in (query, key, value))  # (rows * L, heads, size)
    if _kernel_takes(query, value, dropout):
        borders, longest = attention_mask.flatten(), max(sample_lengths)
        window = (-1, 0) if sliding_window is None else (sliding_window - 1, 0)
        output = varlen_attn(q, k, v, borders, borders, longest, longest, scale=scaling, window_size=window, **_GROUPED)
    else:
        output = _one_by_one(q, k, v, sample_lengths, dropout, scaling, sliding_window)
    assert isinstance(output, torch.Tensor)
    return output.view(rows, length, *output.shape[1:]), None


def _kernel_takes(query: torch.Tensor, value: torch.Tensor, dropout: float) -> bool:
    """FlashAttention computes in half precision, on heads of a multiple of 8 up to 256, and here without dropout."""
    size = query.shape[-1]
    half = query.dtype in (torch.bfloat16, torch.float16)
    return query.is_cuda and half and size % 8 == 0 and size <= 256 and value.shape[-1] == size and not dropout


def _one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: list[int],
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """Scaled dot product attention of each sample; all tensors are (positions, heads, size)."""
    # The kernels for float32 on CUDA want as many key heads as query heads; asked for groups, PyTorch would form all
    # scores instead. The one for CPUs takes groups, 10 to 20 % faster than repeated heads.
    grouped = not query.is_cuda
    if not grouped:
        key, value = (each.repeat_interleave(query.shape[1] // each.shape[1], dim=1) for each in (key, value))
    outputs = []
    for parts in zip(*(torch.split(each, lengths) for each in (query, key, value)), strict=True):
        queries, keys, values = (part.transpose(0, 1)[None] for part in parts)
        length = queries.shape[2]
        band = None if window is None or length <= window else _band(length, window, query.device)
        outputs.append(
            functional.scaled_dot_product_attention(
                queries,
                keys,
                values,
                attn_mask=band,
                dropout_p=dropout,
                is_causal=band is None,
                scale=scaling,
                enable_gqa=grouped,
            )[0].transpose(0, 1)
        )
    return torch.cat(outputs)


def _band(length: int, window: int, device: torch.device) -> torch.Tensor:
    """What a position of a sample longer than the sliding window sees: itself and the ``window - 1`` before it."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril().triu(1 - window)


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
