"""Evaluating a model directory on the embedded suite, in a Ray task of its own."""

from __future__ import annotations

import time
from typing import Any

from agentflan_ray.evaluate.engine import TransformersGenerator, generation_dtype
from agentflan_ray.evaluate.items import Split, select_items
from agentflan_ray.evaluate.toolbox import Scored, run


def score_model(
    path: str,
    split: Split,
    num_per_case: dict[str, int],
    batch_size: int,
    num_threads: int,
    template: str | None = None,
) -> tuple[list[Scored], float]:
    """Scores of every item and the seconds they took, model loading left out.

    ``template`` names a chat template for a model without one.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from agentflan_ray.tokens.tokenizer import load_tokenizer

    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        torch.set_num_threads(num_threads)  # Ray starts a task with one thread where it is given one CPU
    model: Any = AutoModelForCausalLM.from_pretrained(
        path, dtype=generation_dtype(on_gpu), use_safetensors=True, trust_remote_code=False
    )
    model = model.to("cuda" if on_gpu else "cpu")
    began = time.perf_counter()
    generator = TransformersGenerator(model, load_tokenizer(path, template), batch_size)
    scored = run(select_items(split, num_per_case), generator)
    return scored, time.perf_counter() - began
