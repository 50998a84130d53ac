"""What a step is divided into: losses by component, source and piece of format, and the hardware's use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from agentflan_ray.sample import COMPONENTS
from agentflan_ray.tokens.block import PIECES, Group
from agentflan_ray.train.hardware import gpu_of_device
from agentflan_ray.train.recipe import TrainRecipe
from agentflan_ray.train.shapes import ModelShape, from_config


def mean_losses(
    groups: Sequence[Group], sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], prefix: str = ""
) -> dict[str, float]:
    """Mean losses of what occurs: ``loss/<component>``, ``source_loss/<source>``, ``explicit_loss/<piece>``.

    ``sums`` and ``counts`` (groups,) are the losses and numbers of the supervised tokens of each group. The last is the
    paper's first observation (arXiv 2403.12881): in explicit formats, the loss of the format's own tokens
    and of the content between them.
    """
    sources = sorted({group.source for group in groups} - {""})
    divisions: list[tuple[str, str, Sequence[str]]] = [
        ("loss", "component", COMPONENTS),
        ("source_loss", "source", sources),
        ("explicit_loss", "piece", PIECES[1:]),
    ]
    losses = {}
    for name, attribute, values in divisions:
        of_groups = np.array([getattr(group, attribute) for group in groups])
        for value in values:
            chosen = of_groups == value
            if (count := counts[chosen].sum()) > 0:
                losses[f"{prefix}{name}/{value}"] = float(sums[chosen].sum() / count)
    return losses


class Utilisation:
    """The model's operations of a step, as a share of what the hardware could do.

    Counted as :meth:`~agentflan_ray.train.shapes.ModelShape.flops_per_token` does, with the keys that each token really
    attends to and the head where a token is learnt, so it is lower than by PaLM's formula (arXiv 2204.02311, appendix
    B); what activation checkpointing computes again is not counted.
    """

    def __init__(self, recipe: TrainRecipe, config: Any, device_name: str | None) -> None:
        self._recipe = recipe
        self._shape = _shape(recipe, config)
        gpu = gpu_of_device(device_name) if device_name else None
        # The peaks are of bfloat16.
        self._peak_flops = gpu.peak_flops if gpu and recipe.precision == "bf16" else None

    def metrics(
        self, *, tokens: int, attended: float, supervised: float, seconds: float, num_workers: int
    ) -> dict[str, float]:
        """``tflops`` (10^12 operations/s of one worker) where the model's family is known, and ``mfu`` (0 to 1) where
        the GPU is too.

        ``tokens`` of all workers, the sum of their ``attended`` keys, and how many are ``supervised``.
        """
        if self._shape is None:
            return {}
        per_token = self._shape.flops_per_token(
            attended / tokens, supervised=supervised / tokens, frozen=self._recipe.lora is not None
        )
        per_second = per_token * tokens / seconds / num_workers
        rates = {"tflops": per_second / 1e12}
        return rates if self._peak_flops is None else {**rates, "mfu": per_second / self._peak_flops}


def _shape(recipe: TrainRecipe, config: Any) -> ModelShape | None:
    try:
        return from_config(recipe.model, config.to_dict())
    except ValueError:  # a family whose operations are not counted
        return None
