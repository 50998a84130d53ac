"""The memory planner against DeepSpeed's estimators, against measured peaks, and what it recommends and refuses."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.multiprocessing
from transformers import LlamaConfig, LlamaForCausalLM

from agentflan_ray import cli
from agentflan_ray.train import losses, memory, models, partitioned
from agentflan_ray.train.adapters import LoraRecipe
from agentflan_ray.train.blocks import RandomBlocks
from agentflan_ray.train.environment import prepare_worker
from agentflan_ray.train.hardware import GIB, GPUS, Cluster, step_time
from agentflan_ray.train.loop import train
from agentflan_ray.train.memory import Memory, options, predict, recommend, refusal, smallest_cluster, weights_of
from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.shapes import BUILT_IN, ModelShape, from_config
from tests.unit.shape_examples import config_of

LLAMA2 = {size: BUILT_IN[f"llama2-{size}"] for size in ("7b", "13b", "70b")}

RECIPE = TrainRecipe(
    model="llama2-7b", block_length=4096, blocks_per_step=128, learning_rate=2e-5, precision="bf16", zero_stage=2
)


def gpu_memory(size: str, num_workers: int, **changes: Any) -> Memory:
    placement = Placement(num_workers=num_workers, use_gpu=True)
    return predict(LLAMA2[size], dataclasses.replace(RECIPE, **changes), placement)


def estimators() -> tuple[Any, Any]:
    """DeepSpeed's, of stages 2 and 3; each gives bytes of a host and of a GPU first."""
    prepare_worker(use_gpu=False, num_threads=1)
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    return estimate_zero2_model_states_mem_needs, estimate_zero3_model_states_mem_needs


def states(prediction: Memory) -> float:
    """What DeepSpeed calls model states: weights, gradients and Adam's, without buffers."""
    names = ("weights", "float32 weights", "Adam's moments", "gradients", "float32 gradients")
    return sum(prediction.moments["the backward pass ends"].get(name, 0) for name in names)


def test_the_chunk_of_the_head_is_that_of_the_loss() -> None:
    assert memory.HEAD_CHUNK == losses.HEAD_CHUNK


@pytest.mark.parametrize("num_workers", [8, 32, 128])
@pytest.mark.parametrize("size", ["7b", "13b", "70b"])
def test_model_states_on_gpus_are_those_of_deepspeeds_estimators(size: str, num_workers: int) -> None:
    """Its sum for each parameter has 18 bytes in parts: 2 of them are 16-bit gradients, which DeepSpeed no longer
    keeps beside the float32 ones (they live in a bucket, counted by itself here)."""
    stage2_needs, stage3_needs = estimators()
    parameters = LLAMA2[size].parameters
    one_layer = 4 * LLAMA2[size].largest_matrix
    nodes = {"num_gpus_per_node": 8, "num_nodes": num_workers // 8}
    _, stage2 = stage2_needs(parameters, cpu_offload=False, **nodes)
    found = states(gpu_memory(size, num_workers, zero_stage=2))
    assert found == pytest.approx(stage2 - 2 * parameters / num_workers, rel=1e-6)
    assert found == pytest.approx(stage2, rel=0.1)
    _, stage3, _ = stage3_needs(
        parameters, LLAMA2[size].largest_matrix, cpu_offload=False, cpu_offload_params=False, **nodes
    )
    found = states(gpu_memory(size, num_workers, zero_stage=3))
    # Here theirs leaves the 16-bit gradients out too; the largest layer is a buffer, counted by itself here.
    assert found == pytest.approx(stage3 - one_layer, rel=1e-6)


@pytest.mark.parametrize("size", ["7b", "13b", "70b"])
def test_host_memory_of_offloading_is_near_that_of_deepspeeds_estimators(size: str) -> None:
    """They multiply by 1.5 for buffers; ours counts the buffers, of which the pinned ones are powers of two.

    Stage 3 alone: for stage 2 theirs counts a float32 model of each GPU of all nodes in every node.
    """
    _, stage3_needs = estimators()
    parameters = LLAMA2[size].parameters
    for offload in ("optimizer", "parameters"):
        found = gpu_memory(size, 32, zero_stage=3, offload=offload)
        unpinned = sum(size for name, size in found.host.items() if name in ("Adam's moments", "process"))
        assert unpinned == 8 * parameters / 32 + memory.HOST_PROCESS
        expected, _, _ = stage3_needs(
            parameters,
            0,
            cpu_offload=True,
            cpu_offload_params=offload == "parameters",
            num_gpus_per_node=8,
            num_nodes=4,
        )
        needed = 8 * (found.host_per_worker - memory.HOST_PROCESS)
        assert expected / 1.5 < needed < 1.25 * expected


def test_model_states_by_hand() -> None:
    """bf16 with float32 sums: 2 + 4 + 8 + 4 bytes for each parameter, parted as ZeRO says (arXiv 1910.02054)."""
    parameters = LLAMA2["7b"].parameters
    assert states(gpu_memory("7b", 16, zero_stage=1)) == pytest.approx((2 + 2 + 4 + 12 / 16) * parameters)
    assert states(gpu_memory("7b", 16, zero_stage=2)) == pytest.approx((2 + 16 / 16) * parameters)
    assert states(gpu_memory("7b", 16, zero_stage=3)) == pytest.approx(18 / 16 * parameters)
    offloaded = gpu_memory("7b", 16, zero_stage=3, offload="optimizer")
    assert states(offloaded) == pytest.approx(2 / 16 * parameters)
    assert "weights" not in gpu_memory("7b", 16, zero_stage=3, offload="parameters").parts


def test_adapters_leave_little_to_train() -> None:
    lora = LoraRecipe(rank=64, alpha=16)
    whole = weights_of(LLAMA2["70b"], RECIPE)
    adapted = weights_of(LLAMA2["70b"], dataclasses.replace(RECIPE, lora=lora))
    assert adapted.frozen_bytes == whole.trained_bytes
    assert adapted.trained == LLAMA2["70b"].lora_parameters(64)
    quantised = weights_of(LLAMA2["70b"], dataclasses.replace(RECIPE, lora=dataclasses.replace(lora, quantise="4bit")))
    # QLoRA's paper (section 1) trains 65 billion parameters on one GPU of 48 GB.
    assert 33 * GIB < quantised.frozen_bytes < 36 * GIB
    four_bit = LoraRecipe(rank=16, alpha=16, quantise="4bit")
    one = gpu_memory("70b", 1, lora=four_bit, activation_checkpointing=True, block_length=512)
    assert 36 * GIB < one.worker < 48 * GIB


def test_activations_by_hand() -> None:
    """One layer of Llama-2 7B in bf16: norms 2 * (4 + 2 + 2) h, attention 8 h and 4 bytes a head, MLP 8 f."""
    kept = gpu_memory("7b", 8).moments["the forward pass ends"]["activations"]
    again = gpu_memory("7b", 8, activation_checkpointing=True).moments["the forward pass ends"]["activations"]
    layer = 16 * 4096 + 8 * 4096 + 4 * 32 + 8 * 11_008
    after = 8 * 4096
    assert kept == 4096 * (32 * layer + after)
    assert again == 4096 * (32 * 2 * 4096 + after)


def test_gradients_that_are_summed_by_hand() -> None:
    """A bucket b is as large as the head. At stage 2 there are two in bf16, and one is put together and made float32;
    at stage 3 it is float32 and put together."""
    bucket = 32_000 * 4096
    stage2 = gpu_memory("7b", 8, zero_stage=2).moments["the first gradients are summed"]
    assert (stage2["gradient buckets"], stage2["bucket copies"]) == (2 * 2 * bucket, (2 + 4) * bucket)
    assert stage2["gradients"] == 4 * LLAMA2["7b"].parameters / 8
    stage3 = gpu_memory("7b", 8, zero_stage=3).moments["the first gradients are summed"]
    assert (stage3["gradient buckets"], stage3["bucket copies"]) == (4 * bucket, 4 * bucket)
    # The float32 sums of stage 1 go as they are; those of a small model are put together first.
    stage1 = gpu_memory("7b", 8, zero_stage=1).moments["gradients are summed"]
    assert stage1["bucket copies"] == 4 * bucket
    small = predict(SMALL, dataclasses.replace(RECIPE, zero_stage=1), Placement(num_workers=8, use_gpu=True))
    assert small.moments["gradients are summed"]["bucket copies"] == 4 * SMALL.parameters


def test_adapters_need_small_buckets() -> None:
    lora = gpu_memory("7b", 8, zero_stage=2, lora=LoraRecipe(rank=8, alpha=16))
    trained = LLAMA2["7b"].lora_parameters(8)
    assert trained < 40_000_000
    assert lora.moments["gradients are summed"]["gradient buckets"] == 2 * 2 * trained


@pytest.mark.parametrize(("stage", "bytes_each"), [(1, 2 * 4 + 2), (2, 2 * 4 + 2), (3, 2 + 2 + 4)])
def test_communication_by_hand(stage: Literal[1, 2, 3], bytes_each: int) -> None:
    """One pass of 7B: gradients are sent in float32, twice where they are all-reduced, and weights in bf16."""
    recipe = dataclasses.replace(RECIPE, zero_stage=stage, blocks_per_step=8)
    shape = LLAMA2["7b"]
    placement = Placement(num_workers=8, use_gpu=True)
    size = 2 * shape.parameters
    found = step_time(shape, recipe, placement, cluster(8), attended=2048, trained=shape.parameters, weight_bytes=size)
    assert found.communicating == pytest.approx(bytes_each * shape.parameters * 7 / 8 / (0.7 * 450e9))


def cluster(num_gpus: int, gpu: str = "h100-80g", **changes: Any) -> Cluster:
    return Cluster(**{"gpu": GPUS[gpu], "num_gpus": num_gpus, "gpus_per_node": 8, "host_memory": 1024 * GIB, **changes})


def plan(size: str, where: Cluster, **changes: Any) -> list[memory.Option]:
    recipe = dataclasses.replace(RECIPE, model=f"llama2-{size}", **changes)
    return options(LLAMA2[size], recipe, where, micro_batch_size=1, attended=2048)


def test_the_quickest_that_fits_is_recommended() -> None:
    found = plan("7b", cluster(8))
    best = recommend(found, None)
    assert best is not None
    assert best.fits
    assert best.recipe.lora is None
    quicker = [each for each in found if each.time.tokens_per_second > best.time.tokens_per_second]
    assert all(not each.fits or each.recipe.lora for each in quicker)
    assert best.recipe.offload == "none"
    # On the 16 GPUs of the paper 7B keeps its weights whole; 70B on 32 has to split them.
    huge = recommend(plan("70b", cluster(32)), None)
    assert huge is not None
    assert (huge.recipe.zero_stage, huge.recipe.offload) == (3, "none")
    assert huge.recipe.activation_checkpointing


def test_more_gpus_take_less_of_each() -> None:
    for each, more in zip(plan("13b", cluster(16)), plan("13b", cluster(64)), strict=True):
        if each.recipe == more.recipe:
            assert each.memory.worker >= more.memory.worker
        assert each.host_bytes >= more.host_bytes


def test_what_cannot_fit_is_refused_with_numbers() -> None:
    where = cluster(8, "a10g-24g", host_memory=192 * GIB)
    found = plan("70b", where)
    assert recommend(found, None) is None
    recipe = dataclasses.replace(RECIPE, model="llama2-70b")
    smallest = smallest_cluster(LLAMA2["70b"], recipe, where, micro_batch_size=1, attended=2048)
    sentence = refusal(found, None, smallest)
    assert sentence.startswith("llama2-70b does not fit on 8 GPUs: with ZeRO-3")
    assert smallest is not None
    assert smallest > 8
    assert sentence.endswith(f"the smallest number of these GPUs that fits is {smallest}.")
    assert recommend(plan("70b", dataclasses.replace(where, num_gpus=smallest)), None) is not None
    assert "no number of them up to the 128 blocks of a step fits" in refusal(found, None, None)


@pytest.mark.parametrize(("gpus", "words"), [(12, "12 GPUs do not fill nodes of 8"), (0, "give at least 1 of each")])
def test_impossible_clusters(gpus: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cluster(gpus)


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["agentflan", "plan", *arguments])
    cli.main()


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    run_command(
        monkeypatch,
        *("--model", "llama2-70b", "--gpus", "32", "--gpu", "h100-80g", "--tokens", "20e6"),
        *("--price-per-gpu-hour", "2.5"),
    )
    said = capsys.readouterr().out
    assert "llama2-70b: 68,976,648,192 parameters; 32 x h100-80g" in said
    rows = [line for line in said.splitlines() if line.lstrip().startswith(("all weights", "LoRA", "QLoRA"))]
    assert len(rows) >= 10
    assert any("no: GPU" in row for row in rows)
    assert "Recommended, as the quickest that fits: ZeRO-3" in said
    assert "39 steps" in said
    settings = json.loads(said[said.index("DeepSpeed: ") + len("DeepSpeed: ") :])
    assert settings["zero_optimization"]["stage"] == 3
    assert settings["gradient_accumulation_steps"] == 4


def test_built_in_shapes_need_neither_torch_nor_ray() -> None:
    command = ["--model", "llama2-70b", "--gpus", "32", "--gpu", "h100-80g"]
    program = (
        "import sys; from agentflan_ray import cli; cli.main(); "
        "assert not {'torch', 'ray', 'transformers', 'deepspeed'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, "plan", *command], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpus", "8"], "Give both --gpus and --gpu"),
        (["--gpus", "8", "--gpu", "h100"], "There is no GPU 'h100'; choose a100-40g"),
        (["--gpus", "8", "--gpu", "h100-80g"], "Say what is trained"),
        (["corpus", "--gpus", "8", "--gpu", "h100-80g"], "are two uses of"),
        (["--gpus", "8", "--gpu", "h100-80g", "--model", "llama2-7b", "--recipe", "none"], "no training recipe 'none'"),
        (["--gpus", "8", "--gpu", "h100-80g", "--model", "llama2-7b", "--host-memory", "much"], "of the form 512GiB"),
        (["--gpus", "8", "--gpu", "h100-80g", "--model", "llama2-7b", "--sample-length", "0"], "1 to 4096 tokens"),
        (["--gpus", "8", "--gpu", "h100-80g", "--model", "llama2-7b", "--block-length", "8192"], "4096 positions"),
        (["--gpus", "6", "--gpu", "h100-80g", "--model", "llama2-7b"], "make it a multiple of 6"),
        (["--gpus", "1", "--gpu", "rtx4090-24g", "--model", "llama2-70b"], "llama2-70b does not fit on 1 GPUs"),
        ([], "Give a corpus and the shares of a mixture"),
    ],
)
def test_what_the_command_refuses(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(monkeypatch, *arguments)
    assert ended.value.code == 1
    assert words in " ".join(capsys.readouterr().err.split())


SMALL = ModelShape(
    name="small",
    vocabulary=8192,
    hidden=512,
    intermediate=1408,
    layers=8,
    heads=8,
    key_value_heads=4,
    head_size=64,
    max_positions=2048,
)
"""33 million parameters: 16 bytes of states for each are 530 MB, activations of 1,024 tokens 400 MB."""

M_MMAP_THRESHOLD = -3
"""Of malloc.h."""


def make_model(shape: ModelShape, folder: Path) -> None:
    """Random weights and a tokenizer in a Hugging Face directory."""
    models.load_tokenizer("tiny-llama").save_pretrained(folder)
    LlamaForCausalLM(config_of(shape)).save_pretrained(folder)


def resident() -> int:
    """Bytes of this process that no file backs: pages of a mapped weight file stay, but the system may take them."""
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


class Peak(threading.Thread):
    """Looks at the resident memory every few milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0

    def run(self) -> None:
        while True:
            self.most = max(self.most, resident())
            time.sleep(0.002)


def give_back() -> None:
    """Return freed memory to the system now, and from here on what is freed of 64 kB or more as soon as it is.

    glibc keeps freed pieces otherwise, and 350 MB that no tensor held any longer would be resident.
    """
    gc.collect()
    libc = ctypes.CDLL(None)
    assert libc.mallopt(M_MMAP_THRESHOLD, 65_536) == 1
    libc.malloc_trim(0)


def measure(rank: int, port: int, recipe: TrainRecipe, placement: Placement, folder: str) -> None:
    """One worker: a tiny training first, for all that is imported and started late, then steps 2 and 3 of another."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(placement.num_workers)}
    if placement.num_workers > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=placement.num_workers
        )

    def run(each: TrainRecipe, vocabulary: int) -> None:
        blocks = RandomBlocks(3 * each.blocks_per_step, each.block_length, vocabulary)
        train(each, placement, blocks, report=report, scratch=Path(folder, f"scratch-{each.block_length}"))

    def report(metrics: dict[str, Any], _folder: Path | None) -> None:
        if metrics["step"] == 1:
            peak.start()

    # It would tell glibc to keep freed memory again once the model is loaded.
    partitioned.returning_memory = contextlib.nullcontext  # type: ignore[assignment]
    give_back()
    peak = Peak()  # of the tiny training, never looked at
    run(dataclasses.replace(recipe, model="tiny-llama", block_length=64), 259)
    give_back()
    before, peak = resident(), Peak()
    run(recipe, SMALL.vocabulary)
    Path(folder, f"rank-{rank}.json").write_text(json.dumps(peak.most - before))


RECOMPUTED = {"activation_checkpointing": True}
BF16 = {"precision": "bf16", "block_length": 256}
TWO = {"blocks_per_step": 2}

CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "stage 0": (1, {}),
    "stage 0, recomputed": (1, RECOMPUTED),
    "stage 0, two passes": (1, TWO),
    "stage 1": (1, {"zero_stage": 1}),
    "stage 2, recomputed": (1, {"zero_stage": 2, **RECOMPUTED}),
    "stage 2, two passes, recomputed": (1, {"zero_stage": 2, **TWO, **RECOMPUTED}),
    "stage 2, LoRA": (1, {"zero_stage": 2, "lora": LoraRecipe(rank=8, alpha=16)}),
    "stage 3": (1, {"zero_stage": 3}),
    "stage 2 on two": (2, {"zero_stage": 2, **TWO}),
    "stage 2 on two, recomputed": (2, {"zero_stage": 2, **TWO, **RECOMPUTED}),
    "stage 3 on two": (2, {"zero_stage": 3, **TWO}),
    "stage 3 on two, recomputed": (2, {"zero_stage": 3, **TWO, **RECOMPUTED}),
    "bf16, stage 1": (1, {"zero_stage": 1, **BF16}),
    "bf16, stage 2": (1, {"zero_stage": 2, **BF16}),
    "bf16, stage 3": (1, {"zero_stage": 3, **BF16}),
    "bf16, stage 1 on two": (2, {"zero_stage": 1, **TWO, **BF16}),
    "bf16, stage 2 on two": (2, {"zero_stage": 2, **TWO, **BF16}),
    "bf16, stage 3 on two": (2, {"zero_stage": 3, **TWO, **BF16}),
}


@pytest.mark.slow
@pytest.mark.parametrize(("num_workers", "changes"), CASES.values(), ids=CASES.keys())
def test_measured_peaks_on_a_cpu(
    num_workers: int, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resident memory of a fresh process, at most, above what it had after imports and a tiny training."""
    # For bf16 on AMX oneDNN compiles kernels for each shape that it meets and keeps them: 0.6 MiB for a product, 3.6
    # for an attention and its gradient, so 55 MiB in these three steps of samples of many lengths. They are no tensors.
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    make_model(SMALL, tmp_path / "model")
    plain = {"precision": "fp32", "zero_stage": 0, "block_length": 1024, "blocks_per_step": 1}
    recipe = dataclasses.replace(RECIPE, model=str(tmp_path / "model"), **{**plain, **changes})
    placement = Placement(num_workers=num_workers)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (port, recipe, placement, str(tmp_path))
    torch.multiprocessing.spawn(measure, args=arguments, nprocs=num_workers)  # type: ignore[attr-defined, no-untyped-call]
    measured = max(json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(num_workers))
    shape = from_config("small", LlamaConfig.from_pretrained(tmp_path / "model").to_dict())
    # Frozen weights stay pages of their file.
    measured += int(weights_of(shape, recipe).frozen_bytes)
    predicted = predict(shape, recipe, placement)
    print(f"predicted {predicted.worker / 2**20:.0f} MiB when {predicted.moment}, measured {measured / 2**20:.0f} MiB")  # noqa: T201
    assert predicted.worker == pytest.approx(measured, rel=0.1)
