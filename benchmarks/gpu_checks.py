"""What ``benchmarks/gpu.py`` checks, each in a process of its own; every function returns rows of values.

A row with a ``tolerance`` says in ``within`` whether what it measured lies below. Differences of losses are the largest
relative ones of any step's loss, its parts and the gradient's norm. Differences of weights are the norm of the
difference over the norm of what training changed.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from gpu_speed import Values, clock, device_of

HEADS = {
    "llama2-7b": (32, 32, 128, None),
    "llama2-70b": (64, 8, 128, None),
    "smollm2-135m": (9, 3, 64, None),
    "a window of 256": (32, 8, 128, 256),
}
"""Query heads, key heads, size, sliding window."""

LENGTHS = (1500, 1, 700, 64, 129, 1, 900, 801)
"""4,096 positions."""

ATTENTION_TOLERANCE = {"bf16": 1e-2, "fp32": 1e-5}
"""Of ||found - reference|| / ||reference||: bfloat16 keeps 8 bits of an operand."""

LOSS_TOLERANCE = {"fp32": 1e-4, "bf16": 1e-2}
WEIGHT_TOLERANCE = {"fp32": 1e-3, "bf16": 0.1}


def attention(*, use_gpu: bool, heads: dict[str, list[Any]], lengths: list[int]) -> list[Values]:
    """``train/attention.py`` against float64, sample by sample, with its gradients, and its time beside a mask's."""
    return [
        _attention(name, precision, tuple(each), lengths, use_gpu)
        for precision in ("bf16", "fp32")
        for name, each in heads.items()
    ]


def _attention(
    name: str, precision: str, heads: tuple[int, int, int, int | None], lengths: list[int], use_gpu: bool
) -> Values:
    import torch

    from agentflan_ray.train.attention import PACKED, _kernel_takes, packed_arguments, packed_attention

    query_heads, key_heads, size, window = heads
    device = device_of(use_gpu)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    torch.manual_seed(0)
    shapes = [(1, count, sum(lengths), size) for count in (query_heads, key_heads, key_heads)]
    leaves = [torch.randn(shape, device=device).to(dtype).requires_grad_() for shape in shapes]
    weighting = torch.randn(1, sum(lengths), query_heads, size, device=device).to(dtype)
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])[None]
    packed = SimpleNamespace(config=SimpleNamespace(_attn_implementation=PACKED))
    arguments = packed_arguments(packed, positions)

    def ours() -> Any:
        output, _ = packed_attention(
            torch.nn.Identity(), *leaves, **arguments, scaling=size**-0.5, sliding_window=window
        )
        return output

    found = _with_gradients(ours(), leaves, weighting)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    borders = np.cumsum([0, *lengths]).tolist()
    expected = _with_gradients(_by_the_book(exact, borders, window), exact, weighting.double())
    across = _by_the_book([each.detach() for each in exact], [0, borders[-1]], window)
    errors = [_relative(one, other) for one, other in zip(found, expected, strict=True)]
    mask = _mask(borders, window, device)

    def masked() -> Any:
        # As transformers' own attention: with a mask it repeats the keys.
        query, *rest = leaves
        key, value = (each.repeat_interleave(query_heads // key_heads, dim=1) for each in rest)
        output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=size**-0.5)
        return output.transpose(1, 2)

    row: Values = {
        "heads": name,
        "precision": precision,
        "kernel": "varlen" if _kernel_takes(leaves[0], leaves[2], 0.0) else "one by one",
        **dict(zip(("output", "of_query", "of_key", "of_value"), errors, strict=True)),
        "if_borders_were_ignored": _relative(across, expected[0]),
        "tolerance": ATTENTION_TOLERANCE[precision],
        "within": max(errors) < ATTENTION_TOLERANCE[precision],
    }
    for what, make in (("milliseconds", ours), ("milliseconds_with_mask", masked)):
        row[what] = 1000 * _seconds(lambda make=make: _with_gradients(make(), leaves, weighting), use_gpu)
    return row


def _with_gradients(output: Any, leaves: list[Any], weighting: Any) -> list[Any]:
    import torch

    return [output.detach(), *torch.autograd.grad((output * weighting).sum(), leaves)]


def _by_the_book(leaves: list[Any], borders: list[int], window: int | None) -> Any:
    """softmax(q k / sqrt(size)) v of each sample, all scores written out; (1, positions, heads, size)."""
    import torch

    query, key, value = (each[0] for each in leaves)
    key, value = (each.repeat_interleave(len(query) // len(key), dim=0) for each in (key, value))
    outputs = []
    for start, end in itertools.pairwise(borders):
        part = slice(start, end)
        scores = query[:, part] @ key[:, part].transpose(1, 2) / math.sqrt(query.shape[-1])
        seen = _mask([0, end - start], window, query.device)
        outputs.append(scores.masked_fill(~seen, -math.inf).softmax(dim=-1) @ value[:, part])
    return torch.cat(outputs, dim=1).transpose(0, 1)[None]


def _mask(borders: list[int], window: int | None, device: Any) -> Any:
    """What each position sees, (positions, positions)."""
    import torch

    total = borders[-1]
    sample = torch.zeros(total, dtype=torch.long, device=device)
    for border in borders[1:-1]:
        sample[border:] += 1
    at = torch.arange(total, device=device)
    back = at[:, None] - at
    seen = (sample[:, None] == sample) & (back >= 0)
    return seen if window is None else seen & (back < window)


def _relative(found: Any, expected: Any) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def _seconds(do: Any, use_gpu: bool) -> float:
    seconds = []
    for _ in range(7):
        began = clock(use_gpu)
        do()
        seconds.append(clock(use_gpu) - began)
    return sorted(seconds[2:])[2]


@dataclass(frozen=True)
class Sizes:
    """Of the small model that trainings are compared on."""

    hidden: int
    layers: int
    vocabulary: int
    block_length: int


@dataclass(frozen=True)
class Trained:
    """What a training left: losses of each step, final weights, and the folders that it reported."""

    losses: list[dict[str, float]]
    weights: dict[str, Any]
    folders: dict[int, Path]


NUM_STEPS = 6


def sameness(*, use_gpu: bool, precision: str, sizes: dict[str, int]) -> list[Values]:
    """The same training in other ways: losses and final weights beside the first one's."""
    from agentflan_ray.train.recipe import Placement

    small = Sizes(**sizes)
    with tempfile.TemporaryDirectory(prefix="agentflan-gpu-") as name:
        folder = Path(name)
        recipe = _small_recipe(small, precision, folder)
        stage = recipe.zero_stage
        blocks = _random_blocks(small, 4 * NUM_STEPS)
        placement = Placement(use_gpu=use_gpu)
        first = _train(recipe, placement, blocks, folder / "first")
        others: dict[str, tuple[Any, Any, Any]] = {
            "the same once more": (recipe, placement, blocks),
            **{
                f"ZeRO-{other}": (dataclasses.replace(recipe, zero_stage=other), placement, blocks)
                for other in range(stage + 1, 4)
            },
            "one pass a step, not four": (recipe, Placement(use_gpu=use_gpu, micro_batch_size=4), blocks),
            "activations computed again": (
                dataclasses.replace(recipe, activation_checkpointing=True),
                placement,
                blocks,
            ),
            "a sample in each block": (
                dataclasses.replace(recipe, blocks_per_step=8),
                placement,
                _OneSampleEach(blocks),
            ),
        }
        base = _weights_of(folder / "model")
        return [
            _compared(what, _train(*how, folder / "other"), first, base, precision, f"ZeRO-{stage}, four passes")
            for what, how in others.items()
        ]


def resume(*, use_gpu: bool, precision: str, sizes: dict[str, int]) -> list[Values]:
    """From a checkpoint in the middle on: the losses and weights of the training that was not interrupted."""
    from agentflan_ray.train import checkpoint
    from agentflan_ray.train.recipe import Placement

    small = Sizes(**sizes)
    rows = []
    with tempfile.TemporaryDirectory(prefix="agentflan-gpu-") as name:
        folder = Path(name)
        recipe = dataclasses.replace(_small_recipe(small, precision, folder), checkpoint_every=NUM_STEPS // 2)
        blocks, placement = _random_blocks(small, 4 * NUM_STEPS), Placement(use_gpu=use_gpu)
        for stage in range(recipe.zero_stage, 4):
            staged = dataclasses.replace(recipe, zero_stage=stage)
            whole = _train(staged, placement, blocks, folder / f"whole-{stage}")
            saved = checkpoint.read(whole.folders[NUM_STEPS // 2])
            rest = _train(staged, placement, blocks, folder / f"rest-{stage}", resume_from=saved)
            base = _weights_of(folder / "model")
            rows.append(_compared(f"resumed, ZeRO-{stage}", rest, whole, base, precision, "uninterrupted"))
    return rows


def _small_recipe(sizes: Sizes, precision: str, folder: Path) -> Any:
    """Makes the model in ``folder / "model"``. bf16 begins at stage 1, as stage 0 is refused."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from agentflan_ray.train import models
    from agentflan_ray.train.recipe import TrainRecipe

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        intermediate_size=sizes.hidden * 11 // 4,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.hidden // 16 if sizes.hidden < 512 else sizes.hidden // 64,
        num_key_value_heads=2,
        max_position_embeddings=sizes.block_length,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    models.load_tokenizer("tiny-llama").save_pretrained(folder / "model")
    return TrainRecipe(
        model=str(folder / "model"),
        block_length=sizes.block_length,
        blocks_per_step=4,
        learning_rate=1e-3,
        weight_decay=0.1,
        precision=precision,  # type: ignore[arg-type]
        zero_stage=1 if precision == "bf16" else 0,
    )


def _random_blocks(sizes: Sizes, num_blocks: int) -> Any:
    from agentflan_ray.train.blocks import RandomBlocks

    return RandomBlocks(num_blocks, sizes.block_length, sizes.vocabulary)


class _OneSampleEach:
    """The two samples of each block in blocks of their own, filled up with padding."""

    def __init__(self, blocks: Any) -> None:
        self._blocks = blocks
        self.groups = blocks.groups

    def __len__(self) -> int:
        return 2 * len(self._blocks)

    def __getitem__(self, number: int) -> Any:
        block = self._blocks[number // 2]
        border = int(np.flatnonzero(block.position_ids == 0)[-1])
        part = slice(0, border) if number % 2 == 0 else slice(border, None)
        missing = len(block.tags) - len(block.tags[part])
        return dataclasses.replace(
            block,
            input_ids=np.pad(block.input_ids[part], (0, missing)),
            position_ids=np.concatenate([block.position_ids[part], np.arange(missing, dtype=np.int32)]),
            tags=np.pad(block.tags[part], (0, missing), constant_values=-1),
        )


def _train(recipe: Any, placement: Any, blocks: Any, scratch: Path, **rest: Any) -> Trained:
    from agentflan_ray.train.loop import MODEL_FOLDER, train

    losses: list[dict[str, float]] = []
    folders: dict[int, Path] = {}

    def report(metrics: Values, folder: Path | None) -> None:
        losses.append({name: value for name, value in metrics.items() if "loss" in name or name == "grad_norm"})
        if folder is not None:
            folders[metrics["step"]] = folder

    train(recipe, placement, blocks, report=report, scratch=scratch, card={}, **rest)
    return Trained(losses, _weights_of(folders[max(folders)] / MODEL_FOLDER), folders)


def _weights_of(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    weights: dict[str, Any] = load_file(folder / "model.safetensors")
    return weights


def _compared(
    what: str, found: Trained, expected: Trained, base: dict[str, Any], precision: str, beside: str
) -> Values:
    same_steps = expected.losses[-len(found.losses) :]
    of_losses = max(
        abs(one[name] / other[name] - 1) for one, other in zip(found.losses, same_steps, strict=True) for name in other
    )
    apart = math.hypot(*(float((found.weights[n].double() - w.double()).norm()) for n, w in expected.weights.items()))
    moved = math.hypot(*(float((w.double() - base[n].double()).norm()) for n, w in expected.weights.items()))
    return {
        "what": what,
        "beside": beside,
        "precision": precision,
        "losses": of_losses,
        "weights": apart / moved,
        "tolerance": f"{LOSS_TOLERANCE[precision]:.2g}, {WEIGHT_TOLERANCE[precision]:.2g}",
        "within": of_losses < LOSS_TOLERANCE[precision] and apart / moved < WEIGHT_TOLERANCE[precision],
    }


def quantised_gather(*, use_gpu: bool, sizes: dict[str, int]) -> list[Values]:
    """ZeRO++'s 8-bit weights: DeepSpeed's kernels compiled, a weight there and back, and a training beside a plain one.

    One GPU has nothing to gather, and DeepSpeed 0.19.8 then sends nothing through the kernels
    (``partition_parameters.py``, ``all_gather_coalesced``): the training shows only that it runs and changes nothing.
    """
    import torch

    from agentflan_ray.train.environment import prepare_worker
    from agentflan_ray.train.recipe import Placement

    prepare_worker(use_gpu=use_gpu, num_threads=2)
    from deepspeed.runtime.zero.partition_parameters import CUDAQuantizer

    began = time.perf_counter()
    quantizer = CUDAQuantizer()
    compiling = time.perf_counter() - began
    weight = torch.randn(4096, 11008, device=device_of(use_gpu), dtype=torch.bfloat16)
    back = quantizer.dequantize(*quantizer.quantize(weight), dtype=torch.bfloat16).view_as(weight)
    error = _relative(back, weight)
    # 8 bits for 256 steps between -max and max of a piece of 2,048 weights, where max is some 3.5 deviations:
    # a step of 0.027 and an error of 0.027 / sqrt(12), about 0.8 %.
    rows: list[Values] = [
        {"what": "a weight in 8 bits and back", "compile_seconds": compiling, "error": error, "tolerance": 0.02,
         "within": error < 0.02}
    ]  # fmt: skip
    small = Sizes(**sizes)
    with tempfile.TemporaryDirectory(prefix="agentflan-gpu-") as name:
        folder = Path(name)
        recipe = dataclasses.replace(_small_recipe(small, "bf16", folder), zero_stage=3)
        blocks, placement = _random_blocks(small, 4 * NUM_STEPS), Placement(use_gpu=use_gpu)
        plain = _train(recipe, placement, blocks, folder / "plain")
        quantised = _train(dataclasses.replace(recipe, quantised_gather=True), placement, blocks, folder / "quantised")
        base = _weights_of(folder / "model")
        rows.append(_compared("quantised_gather", quantised, plain, base, "bf16", "ZeRO-3"))
    return rows


def export(*, use_gpu: bool, model: str, block_length: int, precision: str, keep: str) -> list[Values]:
    """Train two steps, export, load with transformers: the logits of the model that was trained.

    All weights, and adapters merged into them, whose sum is rounded once more. The first export stays in ``keep``.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from agentflan_ray.train.adapters import LoraRecipe
    from agentflan_ray.train.blocks import RandomBlocks
    from agentflan_ray.train.loop import MODEL_FOLDER, train
    from agentflan_ray.train.recipe import Placement, TrainRecipe
    from agentflan_ray.train.shapes import shape_of

    device, vocabulary = device_of(use_gpu), shape_of(model).vocabulary
    ids = torch.randint(vocabulary, (2, 64), generator=torch.Generator().manual_seed(0)).to(device)
    rows = []
    for name, lora in (("all weights", None), ("LoRA, merged", LoraRecipe(rank=8, alpha=16))):
        logits: dict[str, Any] = {}

        def finish(trained: Any, _tokenizer: Any, logits: dict[str, Any] = logits) -> Values:
            with torch.no_grad():
                logits["trained"] = trained(input_ids=ids, use_cache=False).logits.float()
            return {}

        recipe = TrainRecipe(
            model=model,
            block_length=block_length,
            blocks_per_step=1,
            learning_rate=1e-4,
            precision=precision,  # type: ignore[arg-type]
            zero_stage=2,
            lora=lora,
        )
        folders: list[Path | None] = []
        scratch = Path(keep, name.split(",")[0].replace(" ", "-").lower())
        train(
            recipe,
            Placement(use_gpu=use_gpu),
            RandomBlocks(2, block_length, vocabulary),
            report=lambda _metrics, folder, folders=folders: folders.append(folder),
            scratch=scratch,
            finish=finish,
            card={},
        )
        exported = folders[-1] / MODEL_FOLDER  # type: ignore[operator]
        loaded = AutoModelForCausalLM.from_pretrained(exported, dtype="auto").to(device).eval()
        AutoTokenizer.from_pretrained(exported)
        with torch.no_grad():
            found = loaded(input_ids=ids, use_cache=False).logits.float()
        difference = _relative(found, logits["trained"])
        tolerance = 0.0 if lora is None else {"bf16": 2e-2, "fp32": 1e-5}[precision]
        rows.append(
            {
                "what": name,
                "precision": precision,
                "logits": difference,
                "same_first_choice": float((found.argmax(-1) == logits["trained"].argmax(-1)).float().mean()),
                "tolerance": tolerance,
                "within": difference <= tolerance,
                "folder": str(exported),
            }
        )
        del loaded
    return rows


def vllm(*, use_gpu: bool, keep: str) -> list[Values]:
    """Greedy replies of vLLM and of transformers from the exported model, in float32: shares of equal tokens."""
    import torch
    from transformers import AutoModelForCausalLM
    from vllm import LLM, SamplingParams

    (folder,) = Path(keep, "all-weights").glob("rank_*/step_*/model")
    random = torch.Generator().manual_seed(0)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device_of(use_gpu)).eval()
    prompts = torch.randint(3, model.config.vocab_size, (4, 32), generator=random)
    with torch.no_grad():
        replies = model.generate(
            prompts.to(model.device),
            attention_mask=torch.ones_like(prompts, device=model.device),
            max_new_tokens=16,
            min_new_tokens=16,
            do_sample=False,
        )[:, 32:].tolist()
    del model
    engine = LLM(model=str(folder), dtype="float32", enforce_eager=True, gpu_memory_utilization=0.3, max_model_len=64)
    sampling = SamplingParams(temperature=0.0, max_tokens=16, min_tokens=16)
    outputs = engine.generate([{"prompt_token_ids": prompt} for prompt in prompts.tolist()], sampling)
    equal = [list(output.outputs[0].token_ids) == reply for output, reply in zip(outputs, replies, strict=True)]
    share = sum(equal) / len(equal)
    return [{"what": "greedy replies of vLLM", "equal_replies": share, "tolerance": 1.0, "within": share == 1.0}]
