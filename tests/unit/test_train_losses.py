"""The component loss: which tokens count, packing, chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers.masking_utils
from torch.nn import functional

from agentflan_ray.tokens.block import empty_block
from agentflan_ray.train import losses, models
from agentflan_ray.train.blocks import NUM_COMPONENTS, RandomBlocks, count_targets, targets
from agentflan_ray.train.losses import ComponentLoss

LENGTHS = [40, 7, 1, 16]


@pytest.mark.parametrize(
    ("position_ids", "tags", "expected"),
    [
        ([0, 1, 2, 3], [-1, -1, 2, 0], [-1, 2, 0, -1]),
        ([0, 1, 0, 1], [3, 3, 3, 3], [3, -1, 3, -1]),  # the first token of a sample is never a target
        ([0, 0, 0, 0], [1, 1, 1, 1], [-1, -1, -1, -1]),
        ([0, 1, 2, 3], [-1, -1, -1, -1], [-1, -1, -1, -1]),
    ],
)
def test_targets(position_ids: list[int], tags: list[int], expected: list[int]) -> None:
    found = targets(np.array([position_ids], dtype=np.int32), np.array([tags], dtype=np.int8))
    assert found.tolist() == [expected]
    assert count_targets(found).sum() == sum(tag >= 0 for tag in expected)


def test_a_padding_block_has_no_target() -> None:
    block = empty_block(16)
    assert count_targets(targets(block.position_ids, block.tags)).tolist() == [0] * NUM_COMPONENTS


@pytest.fixture
def module() -> ComponentLoss:
    """A tiny Llama with weights large enough that attention changes the losses."""
    model: Any = models.load_model("tiny-llama")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return ComponentLoss(model).train()


def packed(rows: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of samples of :data:`LENGTHS`, as ids, positions and targets."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 250, (rows, sum(LENGTHS)), generator=generator)
    tags = torch.randint(-1, NUM_COMPONENTS, ids.shape, generator=generator)
    positions = torch.cat([torch.arange(length) for length in LENGTHS]).expand(rows, -1)
    wanted = targets(positions.numpy().astype(np.int32), tags.numpy().astype(np.int8))
    return ids, positions, torch.from_numpy(wanted).long()


def sums_and_gradients(module: ComponentLoss, batches: list[tuple[torch.Tensor, ...]]) -> tuple[Any, Any]:
    module.zero_grad()
    sums = torch.zeros(NUM_COMPONENTS, dtype=torch.float64)
    for batch in batches:
        total, by_component = module(*batch)
        total.backward()
        sums += by_component
    return sums, {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def one_by_one() -> list[tuple[torch.Tensor, ...]]:
    return list(zip(*(torch.split(each, LENGTHS, dim=1) for each in packed()), strict=True))


def test_packed_samples_give_the_losses_and_gradients_of_single_ones(module: ComponentLoss) -> None:
    together, gradients = sums_and_gradients(module, [packed()])
    apart, expected = sums_and_gradients(module, one_by_one())
    assert torch.allclose(together, apart, rtol=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-4), name


def test_without_the_packing_mask_the_losses_differ(module: ComponentLoss, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above has power: attention across samples changes losses far more than its tolerance."""
    apart, _ = sums_and_gradients(module, one_by_one())
    monkeypatch.setattr(transformers.masking_utils, "find_packed_sequence_indices", lambda _position_ids: None)
    together, _ = sums_and_gradients(module, [packed()])
    assert (together / apart - 1).abs().max() > 1e-2


def test_rows_of_a_micro_batch_are_independent(module: ComponentLoss) -> None:
    rows = packed(rows=3)
    together, _ = sums_and_gradients(module, [rows])
    apart, _ = sums_and_gradients(module, list(zip(*(torch.split(each, 1) for each in rows), strict=True)))
    assert torch.allclose(together, apart, rtol=1e-5)


def test_it_is_the_cross_entropy_of_the_models_own_logits(module: ComponentLoss) -> None:
    ids, positions, wanted = packed()
    logits = module.model(input_ids=ids, position_ids=positions, use_cache=False).logits.detach()
    each = functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none").double()
    expected = [float(each[wanted[0, :-1] == component].sum()) for component in range(NUM_COMPONENTS)]
    total, sums = module(ids, positions, wanted)
    assert sums.tolist() == pytest.approx(expected, rel=1e-5)
    assert total.item() == pytest.approx(sum(expected), rel=1e-5)


def test_chunks_of_the_head_change_nothing(module: ComponentLoss, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, expected = sums_and_gradients(module, [packed()])
    monkeypatch.setattr(losses, "HEAD_CHUNK", 10)
    chunked, gradients = sums_and_gradients(module, [packed()])
    assert torch.allclose(whole, chunked, rtol=1e-6)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-5), name


def test_a_batch_without_targets_has_a_zero_gradient(module: ComponentLoss) -> None:
    ids, positions, wanted = packed()
    sums, gradients = sums_and_gradients(module, [(ids, positions, torch.full_like(wanted, -1))])
    assert sums.tolist() == [0.0] * NUM_COMPONENTS
    assert all(float(gradient.abs().max()) == 0 for gradient in gradients.values())


def test_a_model_that_changes_its_logits_is_refused() -> None:
    model = models.load_model("tiny-llama")
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(ValueError, match="changes its logits after the head"):
        ComponentLoss(model)


def test_random_blocks_are_the_same_every_time() -> None:
    blocks = RandomBlocks(3, 32, 100)
    assert np.array_equal(blocks[2].input_ids, RandomBlocks(3, 32, 100)[2].input_ids)
    assert not np.array_equal(blocks[1].input_ids, blocks[2].input_ids)
    assert blocks() is blocks
