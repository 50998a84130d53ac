"""Cross entropy at supervised tokens only, summed by component in the forward pass that trains.

The output head is about a fifth of the work of SmolLM2-135M and its float32 logits are the peak of memory, so hidden
states are gathered where the next token is supervised *before* the head, and the head runs in chunks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from agentflan_ray.train.blocks import NUM_COMPONENTS

HEAD_CHUNK = 1024
"""Positions for which logits exist at once: 128 MB in float32 for each 32k entries of the vocabulary."""

_CHANGED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Settings of architectures whose logits are not just the head's output (Gemma 2, Cohere, Granite)."""


class ComponentLoss(nn.Module):
    """A causal language model with the loss inside, so that one forward call of an engine gives both.

    The sum, not the mean, is returned: the loop divides by the number of supervised tokens of the *global* batch.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        changed = [name for name in _CHANGED_LOGITS if getattr(model.config, name, None) is not None]
        if changed:
            raise ValueError(
                f"{type(model).__name__} changes its logits after the head ({', '.join(changed)}), which the component "
                "loss does not do; train a Llama-like model."
            )
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of the cross entropies, a scalar with gradient, and the sums by component, (NUM_COMPONENTS,) float64.

        All arguments are (rows, L); ``targets`` as of :func:`blocks.targets`. There is no attention mask and no cache
        on purpose: only then does transformers read the borders of packed samples from the position ids.
        """
        hidden = self.model.base_model(
            input_ids=input_ids, position_ids=position_ids, use_cache=False
        ).last_hidden_state
        rows, columns = torch.nonzero(targets >= 0, as_tuple=True)
        hidden, labels, components = hidden[rows, columns], input_ids[rows, columns + 1], targets[rows, columns]
        # The number of chunks depends on the shape of the batch, never on its content: under ZeRO-3 every call of the
        # head is a collective, so all ranks must make the same number of calls. A chunk may therefore be empty.
        num_chunks = -(-input_ids.numel() // HEAD_CHUNK)
        losses = []
        for states, wanted in zip(hidden.tensor_split(num_chunks), labels.tensor_split(num_chunks), strict=True):
            if num_chunks > 1 and torch.is_grad_enabled():
                losses.append(checkpoint(self._cross_entropies, states, wanted, use_reentrant=False))
            else:
                losses.append(self._cross_entropies(states, wanted))
        each = torch.cat(losses)
        kinds = torch.arange(NUM_COMPONENTS, device=each.device)
        sums = (components == kinds[:, None]).double() @ each.detach().double()
        return each.sum(), sums

    def _cross_entropies(self, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = self.model.get_output_embeddings()(states).float()
        return functional.cross_entropy(logits, labels, reduction="none")
