"""Attention within packed samples: the same as alone, the same as with a mask, and no mask."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from agentflan_ray.train import attention, models
from agentflan_ray.train.attention import PACKED, attend_within_samples, packed_arguments, packed_attention

LENGTHS = [40, 7, 1, 16, 1, 5]
LENGTH = sum(LENGTHS)
"""70: no width of the tiny models, so that a tensor with two such sides is a mask or the scores."""

KINDS: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 4},
    "llama, grouped": {"num_key_value_heads": 2},
    "llama, one key head": {"num_key_value_heads": 1},
    "mistral, window": {"num_key_value_heads": 2, "sliding_window": 6},
    "qwen2, biases": {"num_key_value_heads": 2},
}


def tiny(kind: str) -> Any:
    """A random model with weights large enough that attention decides what comes out."""
    config = AutoConfig.for_model(
        kind.partition(",")[0],
        vocab_size=256,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        **KINDS[kind],
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).train()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    attend_within_samples(model)
    return model


def batch(rows: int = 1, lengths: Sequence[int] = LENGTHS) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 250, (rows, sum(lengths)), generator=generator)
    return ids, torch.cat([torch.arange(length) for length in lengths]).expand(rows, -1)


def samples(ids: torch.Tensor, positions: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """The samples of one row, each by itself."""
    return list(zip(torch.split(ids, LENGTHS, dim=1), torch.split(positions, LENGTHS, dim=1), strict=True))


def hidden_states(model: Any, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    outputs = model.base_model(
        input_ids=ids, position_ids=positions, use_cache=False, **packed_arguments(model, positions)
    )
    states: torch.Tensor = outputs.last_hidden_state
    return states


def states_and_gradients(model: Any, parts: Sequence[tuple[torch.Tensor, ...]]) -> tuple[Any, Any]:
    """Hidden states of all parts in a row, and the gradients of a fixed weighting of them."""
    model.zero_grad()
    states = torch.cat([hidden_states(model, *part).flatten(0, 1) for part in parts])
    weights = torch.linspace(-1, 1, states.numel()).view_as(states)
    (states * weights).sum().backward()  # type: ignore[no-untyped-call]
    return states.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-4)
    assert found[1].keys() == expected[1].keys()
    largest = max(float(each.abs().max()) for each in expected[1].values())
    for name, gradient in found[1].items():
        scale = float(expected[1][name].abs().max()) + 0.1 * largest
        torch.testing.assert_close(gradient, expected[1][name], rtol=1e-4, atol=1e-5 * scale, msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 3])
def test_packed_is_one_by_one_and_is_the_mask(kind: str, rows: int) -> None:
    """In float32: states of unit scale to 1e-4, gradients to 1e-4 and 1e-5 of their largest and 1e-6 of all."""
    model = tiny(kind)
    assert model.config._attn_implementation == PACKED
    ids, positions = batch(rows)
    packed = states_and_gradients(model, [(ids, positions)])
    alone = [(part, place) for row in range(rows) for part, place in samples(ids[row : row + 1], positions[:1])]
    assert_same(packed, states_and_gradients(model, alone))
    model.set_attn_implementation("sdpa")
    assert packed_arguments(model, positions) == {}
    assert_same(packed, states_and_gradients(model, [(ids, positions)]))


def test_attention_across_the_borders_would_be_seen() -> None:
    """The test above has power: as one sample the states are others."""
    model = tiny("llama, grouped")
    ids, positions = batch()
    packed = hidden_states(model, ids, positions)
    one = hidden_states(model, ids, torch.arange(LENGTH)[None])
    assert torch.allclose(packed[:, : LENGTHS[0]], one[:, : LENGTHS[0]], atol=1e-4)
    assert (packed - one)[:, LENGTHS[0] :].abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_changes_nothing_in_other_samples(kind: str) -> None:
    model = tiny(kind)
    ids, positions = batch(rows=2)
    before = hidden_states(model, ids, positions)
    changed = ids.clone()
    changed[0, 42] = 3 if ids[0, 42] != 3 else 4  # third token of the second sample, at 40 to 46
    after = hidden_states(model, changed, positions)
    differs = (before != after).any(dim=2)
    assert differs[0].nonzero().flatten().tolist() == list(range(42, 47))
    assert not differs[1].any()


@pytest.mark.parametrize("lengths", [[70], [1] * 70, [69, 1], [30, 30, 10]], ids=lambda lengths: str(len(lengths)))
def test_every_way_to_fill_a_block(lengths: list[int]) -> None:
    """One sample, only samples of one token, and padding at the end, which is a sample of its own."""
    model = tiny("llama, grouped")
    ids, positions = batch(2, lengths)
    packed = states_and_gradients(model, [(ids, positions)])
    model.set_attn_implementation("sdpa")
    assert_same(packed, states_and_gradients(model, [(ids, positions)]))


def test_the_borders() -> None:
    model = tiny("llama")
    positions = torch.tensor([[0, 1, 2, 0, 0, 1], [0, 1, 2, 3, 4, 5], [4, 5, 0, 1, 0, 1]])
    arguments = packed_arguments(model, positions)
    assert arguments["sample_lengths"] == [3, 1, 2, 6, 2, 2, 2]
    assert arguments["attention_mask"].dtype == torch.int32
    assert arguments["attention_mask"].tolist() == [[[[0, 3, 4, 6, 12, 14, 16, 18]]]]


class _Squares(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts results whose last two sides are both :data:`LENGTH`: masks, or all scores at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, torch.Tensor) and each.ndim > 1 and each.shape[-2:] == (LENGTH, LENGTH):
                self.count += 1
        return result


def test_no_mask_is_made() -> None:
    model = tiny("llama, grouped")
    ids, positions = batch()
    with _Squares() as squares:
        hidden_states(model, ids, positions).sum().backward()  # type: ignore[no-untyped-call]
    assert squares.count == 0
    model.set_attn_implementation("sdpa")
    with _Squares() as squares:
        hidden_states(model, ids, positions).sum().backward()  # type: ignore[no-untyped-call]
    assert squares.count > 0


@pytest.mark.parametrize("kind", ["llama, grouped", "mistral, window"])
def test_layers_that_are_computed_again_know_the_borders(kind: str) -> None:
    model = tiny(kind)
    plain = states_and_gradients(model, [batch(2)])
    models.checkpoint_activations(model)
    assert_same(states_and_gradients(model, [batch(2)]), plain)


CONVERSATIONS = [
    [{"role": "user", "content": text}] for text in ("Hello", "What is the weather in Oslo today?", "Call the tool.")
]


def generate(model: Any, tokenizer: Any, conversations: list[list[dict[str, str]]]) -> list[str]:
    prompts = [
        tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=True) for each in conversations
    ]
    batch = tokenizer(prompts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
    with torch.inference_mode():
        output = model.generate(**batch, max_new_tokens=12, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    texts: list[str] = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :])
    return texts


def test_generation_goes_on_as_with_sdpa() -> None:
    """With a cache and prompts of unequal length, padded on the left; also by a copy."""
    model: Any = models.load_model("tiny-llama").train()
    tokenizer = models.load_tokenizer("tiny-llama")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    model.eval()
    replies = generate(copy.deepcopy(model), tokenizer, CONVERSATIONS)
    one_by_one = [generate(model, tokenizer, [each])[0] for each in CONVERSATIONS]
    assert model.config._attn_implementation == PACKED
    model.set_attn_implementation("sdpa")
    assert replies == generate(model, tokenizer, CONVERSATIONS)
    assert replies == one_by_one
    assert len(set(replies)) > 1


def test_a_call_without_borders_finds_them_in_the_positions() -> None:
    """A plain call of the model, as anyone would write it, is right too: it builds a mask."""
    model = tiny("llama, grouped")
    ids, positions = batch(2)
    plain = model.base_model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
    torch.testing.assert_close(plain, hidden_states(model, ids, positions), rtol=1e-4, atol=1e-4)


def test_a_saved_configuration_names_no_attention(tmp_path: Path) -> None:
    tiny("llama").save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    assert PACKED not in config
    assert not [name for name in json.loads(config) if "attn" in name]
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


OTHER_KINDS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_positions": 256},
    "gpt_neox": {},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64},
    "phi3": {"pad_token_id": 0},
    "gemma3_text": {"sliding_window": 6, "head_dim": 16, "layer_types": ["sliding_attention", "full_attention"]},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_architectures(kind: str) -> None:
    """Packed is one by one; OPT with a mask of its own is not, as it leaves the positions out."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=256, **sizes, **OTHER_KINDS[kind])
    model = AutoModelForCausalLM.from_config(config).eval()
    attend_within_samples(model)
    ids, positions = batch()
    alone = [hidden_states(model, *part) for part in samples(ids, positions)]
    torch.testing.assert_close(hidden_states(model, ids, positions), torch.cat(alone, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("mamba", {"state_size": 4}, "carry a state along the text"),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, "carry a state along the text"),
        ("bloom", {"n_head": 4}, "BloomForCausalLM has an attention of its own"),
        ("falcon", {"num_attention_heads": 4}, "FalconForCausalLM has an attention of its own"),
    ],
)
def test_a_model_that_would_mix_samples_is_refused(kind: str, settings: dict[str, Any], reason: str) -> None:
    config = AutoConfig.for_model(kind, vocab_size=64, hidden_size=64, num_hidden_layers=2, **settings)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ValueError, match=rf"{reason}, so packed samples would not be kept apart; train a model like"):
        attend_within_samples(model)


def test_changed_scores_are_refused() -> None:
    model = tiny("llama")
    arguments = packed_arguments(model, torch.arange(4)[None])
    with pytest.raises(ValueError, match=r"LlamaAttention changes its attention scores \(softcap\)"):
        packed_attention(model.model.layers[0].self_attn, *random_heads(), **arguments, softcap=30.0)


def random_heads(**settings: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value of two rows of 4 positions; heads of 16, four to two."""
    return tuple(torch.randn(2, heads, 4, 16, **settings) for heads in (4, 2, 2))  # type: ignore[return-value]


def by_the_book(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool = False,
) -> torch.Tensor:
    """What the documentation of ``torch.nn.attention.varlen.varlen_attn`` says, with masks."""
    assert torch.equal(cu_seq_q, cu_seq_k)
    assert cu_seq_q.dtype == torch.int32
    assert max_q == max_k == int(cu_seq_q.diff().max())
    assert enable_gqa
    outputs = []
    for start, end in zip(cu_seq_q.tolist()[:-1], cu_seq_q.tolist()[1:], strict=True):
        queries, keys, values = (each[start:end].transpose(0, 1)[None] for each in (query, key, value))
        seen = torch.ones(end - start, end - start, dtype=torch.bool).tril(window_size[1])
        if window_size[0] >= 0:
            seen = seen.triu(-window_size[0])
        outputs.append(
            functional.scaled_dot_product_attention(
                queries, keys, values, attn_mask=seen, scale=scale, enable_gqa=True
            )[0].transpose(0, 1)
        )
    return torch.cat(outputs)


@pytest.mark.parametrize("kind", ["llama, grouped", "mistral, window"])
def test_the_kernel_for_cuda_is_called_as_documented(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(kind)
    expected = states_and_gradients(model, [batch(2)])
    monkeypatch.setattr(attention, "_kernel_takes", lambda *_: True)
    monkeypatch.setattr(attention, "varlen_attn", by_the_book)
    assert_same(states_and_gradients(model, [batch(2)]), expected)


def test_the_kernel_for_cuda_takes_these_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own checks and shapes, without computing: on tensors without content."""
    monkeypatch.setattr(attention, "_kernel_takes", lambda *_: True)
    model = tiny("llama, grouped")
    heads = random_heads(device="meta", dtype=torch.bfloat16)
    arguments = packed_arguments(model, torch.tensor([[0, 1, 0, 1], [0, 1, 2, 3]]))
    arguments["attention_mask"] = arguments["attention_mask"].to("meta")
    output, _ = packed_attention(model.model.layers[0].self_attn, *heads, **arguments, scaling=0.25)
    assert output.shape == (2, 4, 4, 16)
    assert output.dtype == torch.bfloat16


def test_what_the_kernel_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cuda:
        is_cuda = True

        def __init__(self, dtype: torch.dtype, size: int) -> None:
            self.dtype, self.shape = dtype, (1, 4, 8, size)

    def taken(query: Any, value: Any, dropout: float = 0.0) -> bool:
        return bool(attention._kernel_takes(query, value, dropout))

    half = Cuda(torch.bfloat16, 128)
    assert taken(half, half)
    assert not taken(half, half, dropout=0.1)
    assert not taken(half, Cuda(torch.bfloat16, 64))
    assert not taken(Cuda(torch.float32, 128), Cuda(torch.float32, 128))
    assert not taken(Cuda(torch.bfloat16, 100), Cuda(torch.bfloat16, 100))
    assert not taken(Cuda(torch.bfloat16, 512), Cuda(torch.bfloat16, 512))
    assert not taken(*random_heads()[:2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", ["llama, grouped", "mistral, window"])
def test_on_cuda(kind: str, dtype: torch.dtype) -> None:
    """The states of the CPU in float32, to the precision of the type."""
    torch.set_float32_matmul_precision("highest")
    model = tiny(kind)
    ids, positions = batch(3)
    expected = hidden_states(model, ids, positions)
    model.to("cuda", dtype)
    found = hidden_states(model, ids.to("cuda"), positions.to("cuda")).float().cpu()
    if dtype == torch.float32:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    else:
        assert (found - expected).norm() / expected.norm() < 0.05
