"""A trained model as a Hugging Face directory, which transformers and vLLM load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed

from agentflan_ray.train import models

if TYPE_CHECKING:
    from agentflan_ray.train.engine import Engine

_CARD = """---
library_name: transformers
pipeline_tag: text-generation
base_model: {base}
---

# {title}

{base} (content `{fingerprint}`), fine-tuned with agentflan-ray.

What it was trained on and how, as JSON:

```json
{details}
```
"""


def export(engine: Engine, tokenizer: Any, directory: Path, card: dict[str, Any]) -> None:
    """Write weights as safetensors, tokenizer, chat template, generation configuration and a README with ``card``.

    All ranks call it; rank 0 writes, and returns with the others. Works for every ZeRO stage: at stage 3 one parameter
    at a time is gathered, so rank 0 needs memory for the whole model. The directory appears whole or not at all;
    ``ValueError`` where it exists already. ``card`` holds JSON values: fingerprints of the data, the recipe, metrics.
    """
    if engine.rank == 0 and directory.exists():
        raise ValueError(f"{directory} exists already; give a new directory for the exported model.")
    weights = _gathered_weights(engine) if engine.recipe.zero_stage == 3 else None
    if engine.rank == 0:
        partial = directory.with_name(directory.name + ".partial")
        engine.model.save_pretrained(partial, state_dict=weights)
        tokenizer.save_pretrained(partial)
        base = engine.recipe.model
        readme = _CARD.format(
            base=models.HUB_NAMES.get(base, base),
            title=directory.name,
            fingerprint=models.fingerprint(base),
            details=json.dumps(card, ensure_ascii=False, indent=2),
        )
        (partial / "README.md").write_text(readme)
        partial.rename(directory)
    torch.distributed.barrier()


def _gathered_weights(engine: Engine) -> dict[str, torch.Tensor]:
    """The whole weights on rank 0, tied ones once; empty on the other ranks."""
    import deepspeed

    weights = {}
    for name, parameter in engine.model.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter]):
            if engine.rank == 0:
                weights[name] = parameter.detach().cpu().clone()
    return weights
