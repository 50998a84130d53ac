"""The component loss: which tokens count, packing, chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from agentflan_ray.tokens.block import empty_block
from agentflan_ray.train import losses, models
from agentflan_ray.train.attention import packed_arguments
from agentflan_ray.train.blocks import NUM_COMPONENTS, RandomBlocks, count_targets, targets
from agentflan_ray.train.losses import ComponentLoss, head_cross_entropy

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


def test_without_the_borders_the_losses_differ(module: ComponentLoss, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above has power: attention across samples changes losses far more than its tolerance."""
    apart, _ = sums_and_gradients(module, one_by_one())

    def as_one(model: Any, positions: torch.Tensor) -> dict[str, Any]:
        return packed_arguments(model, torch.arange(positions.shape[1]).expand_as(positions))

    monkeypatch.setattr(losses, "packed_arguments", as_one)
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


class _Head(nn.Linear):
    """A head that is not a plain ``nn.Linear``, as one with an adapter is: it can only be called."""


def with_called_head(module: ComponentLoss) -> ComponentLoss:
    head = module.model.lm_head
    called = _Head(head.in_features, head.out_features, bias=False)
    called.weight = head.weight
    module.model.lm_head = called
    return module


def test_a_head_that_can_only_be_called_gives_the_same(module: ComponentLoss, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, expected = sums_and_gradients(module, [packed(rows=2)])
    for chunk in (1024, 10):
        monkeypatch.setattr(losses, "HEAD_CHUNK", chunk)
        sums, gradients = sums_and_gradients(with_called_head(module), [packed(rows=2)])
        assert torch.allclose(sums, whole, rtol=1e-6)
        assert gradients.keys() == expected.keys()
        for name, gradient in gradients.items():
            assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-5), name


def test_each_token_has_its_loss_and_its_place(module: ComponentLoss) -> None:
    ids, positions, wanted = packed(rows=2)
    logits = module.model(input_ids=ids, position_ids=positions, use_cache=False).logits.detach()
    each = functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    expected = functional.pad(each.view(2, -1), (0, 1)).flatten()
    total, sums = module(ids, positions, wanted)
    assert module.token_losses is not None
    values, places = module.token_losses
    assert places.tolist() == (wanted.flatten() >= 0).nonzero().flatten().tolist()
    assert torch.allclose(values, expected[places], rtol=1e-4)
    assert not values.requires_grad
    assert total.item() == pytest.approx(values.double().sum().item(), rel=1e-6)
    assert sums.sum().item() == pytest.approx(total.item(), rel=1e-6)


def heads(num: int = 37, hidden: int = 24, vocabulary: int = 211) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States, weight and labels in float64, with losses between 0 and 20."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(num, hidden, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocabulary, hidden, generator=generator, dtype=torch.float64)
    return states, weight, torch.randint(vocabulary, (num,), generator=generator)


def plain_cross_entropy() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each loss, and 0.37 times the gradients of their sum, in float64."""
    states, weight, labels = heads()
    states.requires_grad_()
    weight.requires_grad_()
    each = functional.cross_entropy(states @ weight.T, labels, reduction="none")
    (each.sum() * 0.37).backward()  # type: ignore[no-untyped-call]
    assert states.grad is not None
    assert weight.grad is not None
    return each.detach(), states.grad, weight.grad


@pytest.mark.parametrize("chunk", [8, 37, 1024])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)], ids=str)
def test_the_gradient_of_the_head_is_exact(
    dtype: torch.dtype, tolerance: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against plain cross entropy in float64; relative to the whole tensor's norm."""
    monkeypatch.setattr(losses, "HEAD_CHUNK", chunk)
    states, weight, labels = heads()
    states, weight = (each.to(dtype).requires_grad_() for each in (states, weight))
    total, each = head_cross_entropy(states, weight, labels)
    (total * 0.37).backward()  # type: ignore[no-untyped-call]
    for found, expected in zip((each, states.grad, weight.grad), plain_cross_entropy(), strict=True):
        assert found is not None
        assert (found.double() - expected).norm() / expected.norm() < tolerance
    assert weight.grad is not None
    assert weight.grad.dtype == dtype
    assert each.dtype == total.dtype == torch.float32
    with torch.no_grad():
        again = head_cross_entropy(states, weight, labels)
    assert torch.allclose(again[1], each, rtol=1e-5)
    assert torch.allclose(again[0], total, rtol=1e-5)


def test_the_sum_over_chunks_is_kept_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one position to a chunk a sum in bfloat16 would lose most of the small terms."""
    monkeypatch.setattr(losses, "HEAD_CHUNK", 1)
    _, weight, _ = heads()
    states = torch.full((100, 24), 1e-2, dtype=torch.bfloat16)
    weight = weight.bfloat16().requires_grad_()
    labels = torch.zeros(100, dtype=torch.int64)
    head_cross_entropy(states, weight, labels)[0].backward()  # type: ignore[no-untyped-call]
    exact = weight.detach().double().requires_grad_()
    functional.cross_entropy(states.double() @ exact.T, labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert exact.grad is not None
    assert (weight.grad.double() - exact.grad).norm() / exact.grad.norm() < 1e-2


@pytest.mark.parametrize("frozen", [0, 1])
def test_what_is_frozen_costs_no_gradient(frozen: int) -> None:
    states, weight, labels = heads()
    tensors = [states.float().requires_grad_(), weight.float().requires_grad_()]
    tensors[frozen].requires_grad_(False)
    with _Products() as products:
        head_cross_entropy(tensors[0], tensors[1], labels)[0].backward()  # type: ignore[no-untyped-call]
    expected = plain_cross_entropy()[2 - frozen] / 0.37
    found = tensors[1 - frozen].grad
    assert tensors[frozen].grad is None
    assert found is not None
    assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert products.count == 2


def test_the_gradient_is_given_once() -> None:
    states, weight, labels = heads()
    total, _ = head_cross_entropy(states.float().requires_grad_(), weight.float(), labels)
    total.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()  # type: ignore[no-untyped-call]


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts matrix products, and keeps the largest number of elements of any result."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = self.largest = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.count += function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_)
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


def test_logits_exist_once_and_for_one_chunk_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three products for each of four chunks: logits, and the two gradients. No result is larger than the weight."""
    monkeypatch.setattr(losses, "HEAD_CHUNK", 10)
    states, weight, labels = heads()
    with _Products() as products:
        total, _ = head_cross_entropy(states.float().requires_grad_(), weight.float().requires_grad_(), labels)
        total.backward()  # type: ignore[no-untyped-call]
    assert products.count == 12
    assert products.largest == weight.numel()
