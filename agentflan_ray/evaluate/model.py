"""Evaluating a model directory on the embedded suite, in a Ray task of its own."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial

from agentflan_ray.evaluate.engine import ask_all
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

    from agentflan_ray.evaluate.engines.transformers import TransformersPlan, TransformersSettings

    if not torch.cuda.is_available():
        torch.set_num_threads(num_threads)  # Ray starts a task with one thread where it is given one CPU
    settings = TransformersSettings(template=template, num_slots=batch_size)
    with closing(TransformersPlan(path, path, settings).open()) as engine:
        began = time.perf_counter()
        scored = run(select_items(split, num_per_case), partial(ask_all, engine))
        return scored, time.perf_counter() - began
