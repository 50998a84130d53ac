"""TRL's SFTTrainer as the benchmarks run it beside ours: its defaults, on the very samples that ours learns."""

from __future__ import annotations

from typing import Any

from samples import Samples


def plain_model(name: str, dtype: Any, *, device: Any = None, attention: str = "sdpa") -> Any:
    """A model as transformers makes it, without our attention; of a ``random-`` name with random weights."""
    import contextlib

    from transformers import AutoConfig, AutoModelForCausalLM

    from agentflan_ray.train.models import RANDOM, resolve

    place = resolve(name)
    with device or contextlib.nullcontext():
        if not name.startswith(RANDOM):
            return AutoModelForCausalLM.from_pretrained(place, dtype=dtype, attn_implementation=attention)
        config = AutoConfig.from_pretrained(place)
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)


VARLEN = "trl_varlen"


def register_varlen() -> str:
    """An attention for TRL's packed samples by PyTorch's own FlashAttention kernel, and its name in transformers.

    TRL recommends packing with FlashAttention; its package is not on PyPI as a wheel. This gives TRL the same kernel
    that ours has, from the borders that TRL's collator hands to every layer.
    """
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface

    from agentflan_ray.train.attention import packed_attention

    def attention(
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        _mask: Any,
        *,
        cu_seq_lens_q: Any,
        max_length_q: int,
        scaling: float,
        **_others: Any,
    ) -> Any:
        if query.is_cuda:  # rotation makes float32 of queries and keys under autocast
            query, key, value = (each.to(torch.bfloat16) for each in (query, key, value))
        # On CUDA the longest is all that is asked of the lengths; reading them would make every layer wait.
        lengths = [max_length_q] if query.is_cuda else cu_seq_lens_q.diff().tolist()
        borders = cu_seq_lens_q[None, None, None]
        return packed_attention(module, query, key, value, borders, scaling=scaling, sample_lengths=lengths)

    AttentionInterface.register(VARLEN, attention)
    AttentionMaskInterface.register(VARLEN, lambda *_arguments, **_rest: None)
    return VARLEN


def sft_trainer(model: Any, name: str, samples: Samples, folder: str, **settings: Any) -> Any:
    """An SFTTrainer with our optimizer's settings and no reports; ``settings`` are of ``SFTConfig``."""
    import datasets
    import trl

    from agentflan_ray.train.models import load_tokenizer

    datasets.disable_progress_bars()
    rows = samples.labelled(model.config.vocab_size)
    return trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(
            output_dir=folder,
            lr_scheduler_type="constant",
            adam_beta2=0.95,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **settings,
        ),
        train_dataset=datasets.Dataset.from_dict(
            {"input_ids": [ids for ids, _ in rows], "labels": [labels for _, labels in rows]}
        ),
        processing_class=load_tokenizer(name),
    )
