"""Cross entropy at supervised tokens only, of every token by itself, in the forward pass that trains.

The output head is about a fifth of the work of SmolLM2-135M and its float32 logits are the peak of memory, so hidden
states are gathered where the next token is supervised *before* the head, and the head runs in chunks. Where its weight
is at hand, each chunk's gradient is formed while its logits are there, so that they are computed once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from agentflan_ray.train.attention import packed_arguments
from agentflan_ray.train.blocks import NUM_COMPONENTS

HEAD_CHUNK = 1024
"""Positions for which logits exist at once: 128 MB in float32 for each 32k entries of the vocabulary."""

_CHANGED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Settings of architectures whose logits are not just the head's output (Gemma 2, Cohere, Granite)."""


class TokenLosses(NamedTuple):
    """The cross entropies of a batch's supervised tokens, one by one, in the order of the batch.

    ``values`` (n,) float32 without gradient. ``places`` (n,) int64: where in the flattened (rows, L) batch the state
    stands that predicts the token; the token itself stands at ``places + 1``.
    """

    values: torch.Tensor
    places: torch.Tensor


class ComponentLoss(nn.Module):
    """A causal language model with the loss inside, so that one forward call of an engine gives both.

    The sum, not the mean, is returned: the loop divides by the number of supervised tokens of the *global* batch.
    ``token_losses`` holds the losses of the latest batch token by token.
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
        self.token_losses: TokenLosses | None = None

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        targets: torch.Tensor,
        num_groups: int = NUM_COMPONENTS,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of the cross entropies, a scalar with gradient, and the sums by group, (num_groups,) float64.

        The tensors are (rows, L); ``targets`` as of :func:`blocks.targets`, each below ``num_groups``.
        """
        # Before the model, because the host waits here for all that the GPU was given so far.
        places = torch.nonzero(targets.flatten() >= 0).flatten()
        hidden = self.model.base_model(
            input_ids=input_ids,
            position_ids=position_ids,
            use_cache=False,
            **packed_arguments(self.model, position_ids),
        ).last_hidden_state
        states = hidden.flatten(0, 1).index_select(0, places)
        labels = input_ids.flatten().index_select(0, places + 1)
        head = self.model.get_output_embeddings()
        if _is_whole(head):
            total, each = head_cross_entropy(states, head.weight, labels)
        else:
            # The number of chunks depends on the shape of the batch, never on its content: under ZeRO-3 every call of
            # the head is a collective, so all ranks must make the same number of calls. A chunk may therefore be empty.
            total, each = _called_cross_entropy(head, states, labels, num_chunks=-(-input_ids.numel() // HEAD_CHUNK))
        self.token_losses = TokenLosses(each, places)
        return total, group_sums(each, targets.flatten().index_select(0, places), num_groups)


def group_sums(losses: torch.Tensor, groups: torch.Tensor, num_groups: int) -> torch.Tensor:
    """Sums of the losses (n,) of each group (n,) int64, as (num_groups,) float64."""
    sums = torch.zeros(num_groups, dtype=torch.float64, device=losses.device)
    return sums.index_add_(0, groups, losses.double())


def head_cross_entropy(
    states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy of ``states @ weight.T`` against ``labels``: the sum with its gradient, and each one without.

    ``states`` (n, hidden), ``weight`` (vocabulary, hidden), ``labels`` (n,); returns a scalar and (n,), both float32.
    The gradient of a sum of cross entropies is (softmax - one-hot) times the other factor, and any later factor only
    scales it (as in Cut Cross-Entropy, arXiv 2411.09009, and Liger, arXiv 2410.10989). So both gradients are formed
    chunk by chunk in the forward pass, the weight's summed in float32, and the backward pass multiplies by a number.
    """
    if torch.is_grad_enabled():
        total, each = _HeadCrossEntropy.apply(states, weight, labels)  # type: ignore[no-untyped-call]
        return total, each
    each = torch.cat(
        [
            functional.cross_entropy((some @ weight.T).float(), wanted, reduction="none")
            for some, wanted in zip(torch.split(states, HEAD_CHUNK), torch.split(labels, HEAD_CHUNK), strict=True)
        ]
    )
    return each.sum(), each


class _HeadCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        needs_states, needs_weight, _ = ctx.needs_input_grad
        each = torch.empty(len(states), dtype=torch.float32, device=states.device)
        of_states = torch.empty_like(states) if needs_states else None
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        for start in range(0, len(states), HEAD_CHUNK):
            chunk = slice(start, start + HEAD_CHUNK)
            log_probabilities = torch.log_softmax((states[chunk] @ weight.T).float(), dim=-1)
            wanted = labels[chunk, None]
            each[chunk] = -log_probabilities.gather(1, wanted)[:, 0]
            of_logits = log_probabilities.exp_()
            of_logits.scatter_add_(1, wanted, of_logits.new_full(wanted.shape, -1.0))
            of_logits = of_logits.to(weight.dtype)
            if of_states is not None:
                torch.mm(of_logits, weight, out=of_states[chunk])
            if of_weight is not None and weight.dtype == torch.float32:
                of_weight.addmm_(of_logits.T, states[chunk])
            elif of_weight is not None:
                of_weight += of_logits.T @ states[chunk]
        ctx.save_for_backward(of_states, of_weight)
        ctx.weight_dtype = weight.dtype
        ctx.mark_non_differentiable(each)
        return each.sum(), each

    @staticmethod
    def backward(
        ctx: Any, of_total: torch.Tensor, _of_each: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        of_states, of_weight = ctx.saved_tensors
        # In place: a copy of the weight's gradient would be the peak of memory. A second backward pass fails loudly.
        if of_states is not None:
            of_states.mul_(of_total)
        if of_weight is not None:
            of_weight = of_weight.mul_(of_total).to(ctx.weight_dtype)
        return of_states, of_weight, None


def _is_whole(head: Any) -> bool:
    """Whether a head is a plain matrix that lies here whole: no adapter around it, and not partitioned by ZeRO-3."""
    is_matrix = type(head) is nn.Linear
    return is_matrix and head.bias is None and not hasattr(head.weight, "ds_id")


def _called_cross_entropy(
    head: Any, states: torch.Tensor, labels: torch.Tensor, num_chunks: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by calling the head as a module; with several chunks each is computed again in the backward pass."""

    def losses_of(some: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(head(some).float(), wanted, reduction="none")

    losses = []
    for some, wanted in zip(states.tensor_split(num_chunks), labels.tensor_split(num_chunks), strict=True):
        if num_chunks > 1 and torch.is_grad_enabled():
            losses.append(checkpoint(losses_of, some, wanted, use_reentrant=False))
        else:
            losses.append(losses_of(some, wanted))
    each = torch.cat(losses)
    return each.sum(), each.detach()
