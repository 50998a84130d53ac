"""GPUs by name, and how long a step takes on them: measured facts of the hardware, and priors that say so.

A prior is a number taken over from other people's measurements. It orders choices and gives the size of a bill; a
benchmark on the cluster itself replaces it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.shapes import ModelShape

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU. ``memory`` is what PyTorch reports as its total, in bytes: less than on the box, as ECC, firmware and
    the driver take theirs. ``peak_flops`` is of dense bf16 with float32 sums. Bandwidths are bytes/s in one direction:
    ``link_bandwidth`` to the other GPUs of a node, ``network_bandwidth`` the share of one GPU between nodes (of the
    maker's own systems where there are some). ``utilisation`` is a prior: the part of the peak that training reaches,
    counting recomputed operations too.
    """

    name: str
    memory: int
    peak_flops: float
    link: Literal["nvlink", "pcie"]
    link_bandwidth: float
    network_bandwidth: float
    utilisation: float


def _gpu(name: str, memory: float, teraflops: float, link: Literal["nvlink", "pcie"], *rest: float) -> tuple[str, Gpu]:
    link_gigabytes, network_gigabits, utilisation = rest
    return name, Gpu(
        name=name,
        memory=int(memory * GIB),
        peak_flops=teraflops * 1e12,
        link=link,
        link_bandwidth=link_gigabytes * 1e9,
        network_bandwidth=network_gigabits * 1e9 / 8,
        utilisation=utilisation,
    )


# Memory in GiB, dense bf16 TFLOP/s, link, link GB/s, network Gbit/s for each GPU, utilisation. Peaks, links and
# networks: NVIDIA's data sheets of the GPUs and of DGX A100, H100, H200, B200; for the three without NVLink a node of
# eight with one 100 Gbit/s card. Utilisation: MosaicML's llm-foundry (scripts/train/benchmarking, FSDP, bf16, 512 to
# 8,192 tokens) reached 52 to 76 % on A100 and 40 to 59 % on H100 with 1B to 70B parameters, recomputation counted;
# the low end is taken, because it counts attention twice (no causal halving) and its kernels are fused further than
# transformers' are. The last four are by analogy.
GPUS: Mapping[str, Gpu] = dict(
    (
        _gpu("a100-40g", 39.4, 312, "nvlink", 300, 200, 0.55),
        _gpu("a100-80g", 79.1, 312, "nvlink", 300, 200, 0.55),
        _gpu("h100-80g", 79.1, 989.4, "nvlink", 450, 400, 0.45),
        _gpu("h200-141g", 139.8, 989.4, "nvlink", 450, 400, 0.45),
        _gpu("b200-180g", 178.3, 2250, "nvlink", 900, 400, 0.40),
        _gpu("l40s-48g", 44.4, 362.05, "pcie", 32, 12.5, 0.45),
        _gpu("a10g-24g", 22.0, 70, "pcie", 16, 12.5, 0.50),
        _gpu("rtx4090-24g", 23.6, 165.2, "pcie", 16, 12.5, 0.50),
    )
)

_DEVICE_NAMES: tuple[tuple[str, str], ...] = (
    (r"A100-\S*40GB", "a100-40g"),
    (r"A100-\S*80GB|A100 80GB", "a100-80g"),
    # Not the H100 PCIe or NVL, whose peaks are lower.
    (r"H100 80GB HBM3", "h100-80g"),
    (r"H200$", "h200-141g"),
    (r"B200$", "b200-180g"),
    (r"L40S$", "l40s-48g"),
    (r"A10G$", "a10g-24g"),
    (r"RTX 4090$", "rtx4090-24g"),
)
"""Patterns of what drivers call them, and the names here."""


def gpu_of_device(device_name: str) -> Gpu | None:
    """The GPU that ``torch.cuda.get_device_name`` names, None for one that is not in :data:`GPUS`."""
    return next((GPUS[name] for pattern, name in _DEVICE_NAMES if re.search(pattern, device_name)), None)


BUS_EFFICIENCY = 0.7
"""Prior: the part of a link's bandwidth that collectives of many megabytes reach."""

HOST_BANDWIDTH = 20e9
"""Prior: bytes/s between pinned host memory and one GPU (PCIe 4.0 x16, 32e9 at most, all GPUs at once)."""

HOST_ADAM_SECONDS = 0.25e-9
"""Prior: seconds for each parameter that DeepSpeed's CPU Adam updates on a node (ZeRO-Offload, arXiv 2101.06840,
table 4: 0.2 to 0.26 s for each billion)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The machines of a training. ``host_memory`` is that of one node, in bytes."""

    gpu: Gpu
    num_gpus: int
    gpus_per_node: int
    host_memory: int

    def __post_init__(self) -> None:
        if self.num_gpus < 1 or self.gpus_per_node < 1:
            raise ValueError(f"{self.num_gpus} GPUs with {self.gpus_per_node} in a node: give at least 1 of each.")
        if self.num_gpus > self.gpus_per_node and self.num_gpus % self.gpus_per_node:
            raise ValueError(
                f"{self.num_gpus} GPUs do not fill nodes of {self.gpus_per_node}; make it a multiple, or give another "
                "number of GPUs in a node."
            )

    @property
    def workers_per_node(self) -> int:
        return min(self.num_gpus, self.gpus_per_node)

    @property
    def bandwidth(self) -> float:
        """Bytes/s of one GPU in a collective over all of them.

        Between nodes NCCL runs a ring through each network card, which carries its part of the data once for the whole
        node; so a GPU gets up to the bandwidth of all cards of a node, where the links within it allow that.
        """
        link = self.gpu.link_bandwidth
        if self.num_gpus > self.gpus_per_node:
            link = min(link, self.gpus_per_node * self.gpu.network_bandwidth)
        return BUS_EFFICIENCY * link


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of one optimizer step, by what they go to, and the rates that follow."""

    computing: float
    communicating: float
    offloading: float
    total: float
    tokens_per_second: float
    utilisation: float


def small_model_factor(parameters: int) -> float:
    """Prior: how much of a GPU's utilisation a small model reaches, whose matrices do not fill it.

    llm-foundry on A100 at 4,096 tokens: 46 % at 125M, 53 % at 350M, 56 % at 760M, 59 to 61 % at 1B and 3B.
    """
    return 0.77 if parameters < 0.25e9 else 0.9 if parameters < 1e9 else 1.0


def step_time(
    shape: ModelShape,
    recipe: TrainRecipe,
    placement: Placement,
    cluster: Cluster,
    *,
    attended: float,
    trained: int,
    weight_bytes: float,
) -> StepTime:
    """An estimate of one step. ``trained`` parameters have gradients; all weights together are ``weight_bytes``.

    Computing: operations of :meth:`ModelShape.flops_per_token` at the GPU's prior. Communicating, in each direction
    and for each GPU: gradients are summed, always in float32, once a step at stages 0 and 1 and after every forward
    pass from stage 2 on (DeepSpeed all-reduces them at stages up to 2: twice their bytes; stage 3 scatters them: once);
    updated weights are gathered once a step at stages 1 and 2, and twice in every forward pass at stage 3. That runs
    beside computing from stage 2 on (``overlap_comm``), so there the slower of both counts, below their sum. A
    secondary partition (ZeRO++, arXiv 2306.10209) gathers for the backward pass within a node; 8-bit gathering halves
    what is gathered. Offloading: gradients and weights over PCIe, and Adam on the host.
    """
    frozen = trained < shape.parameters
    passes = placement.accumulation(recipe)
    ranks = placement.num_workers
    tokens = recipe.blocks_per_step * recipe.block_length
    model_flops = shape.flops_per_token(attended, frozen=frozen) * tokens
    flops = shape.flops_per_token(attended, frozen=frozen, recomputed=recipe.activation_checkpointing) * tokens
    rate = cluster.gpu.peak_flops * cluster.gpu.utilisation * small_model_factor(shape.parameters)
    computing = flops / (ranks * rate)

    weights, gradients = weight_bytes, 4 * trained
    updated = (4 if recipe.precision == "fp32" else 2) * trained
    stage = recipe.zero_stage
    gathered = weights / 2 if recipe.quantised_gather else weights
    within_node = placement.secondary_partition > 1
    moved = {
        0: 2 * gradients,
        1: 2 * gradients + updated,
        2: 2 * gradients * passes + updated,
        3: (gathered + (0 if within_node else gathered) + gradients) * passes,
    }[stage]
    communicating = moved * (ranks - 1) / ranks / cluster.bandwidth
    if within_node:
        communicating += weights * passes / (BUS_EFFICIENCY * cluster.gpu.link_bandwidth)

    offloading = 0.0
    if recipe.offload != "none":
        # Each GPU sends its part of the gradients in float32 and takes its part of the weights back.
        offloading = (gradients + updated) / ranks / HOST_BANDWIDTH
        offloading += HOST_ADAM_SECONDS * trained * cluster.workers_per_node / ranks
    if recipe.offload == "parameters":
        offloading += 2 * weights * passes / ranks / HOST_BANDWIDTH
    total = (max(computing, communicating) if stage >= 2 else computing + communicating) + offloading
    return StepTime(
        computing=computing,
        communicating=communicating,
        offloading=offloading,
        total=total,
        tokens_per_second=tokens / total,
        utilisation=model_flops / (total * ranks * cluster.gpu.peak_flops),
    )
