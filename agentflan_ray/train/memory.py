"""How much memory a training takes on each GPU and host, counted from what DeepSpeed and PyTorch allocate.

A step has moments at which different things are held at once; each is summed by name, and the largest is the peak.
The sizes follow DeepSpeed 0.19 (``runtime/zero/stage_1_and_2.py``, ``stage3.py``, ``bf16_optimizer.py``) with the
settings of :mod:`agentflan_ray.train.zero`, and the tensors that PyTorch keeps for the backward pass of transformers'
decoder layers. On a CPU what is counted is touched memory (resident set); on a GPU a buffer counts whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from agentflan_ray.train.adapters import LoraRecipe
from agentflan_ray.train.hardware import GIB, Cluster, StepTime, step_time
from agentflan_ray.train.recipe import Offload, Placement, TrainRecipe
from agentflan_ray.train.shapes import ModelShape
from agentflan_ray.train.zero import Trained, deepspeed_config

HEAD_CHUNK = 1024
"""As :data:`agentflan_ray.train.losses.HEAD_CHUNK`, which a test compares: that module imports PyTorch."""

CUDA_CONTEXT = 1.5 * GIB
"""Prior: the CUDA context, kernels, cuBLAS workspaces and NCCL's buffers of one process, not PyTorch's to count."""

FRAGMENTATION = 0.06
"""Prior: what PyTorch's caching allocator reserves above what is allocated at the peak."""

HOST_PROCESS = 4 * GIB
"""Prior: what a worker with CUDA takes on its host before it holds any weight (libraries, context, NCCL)."""

ALL_REDUCE = 500_000_000
"""Elements that DeepSpeed's engine sums at once: without ZeRO, and of its optimizer for bf16 at stage 1
(``runtime/engine.py``, ``MEMORY_OPT_ALLREDUCE_SIZE``)."""

PREFETCH, REUSE, SUB_GROUP = 50_000_000, 1_000_000_000, 1_000_000_000
"""Elements: DeepSpeed's ``stage3_prefetch_bucket_size``, ``stage3_max_reuse_distance`` and ``sub_group_size``."""

NF4_BYTES = 4.127 / 8
"""Of a weight in 4-bit NormalFloat with doubly quantised constants (QLoRA, arXiv 2305.14314, section 3)."""

Parts = dict[str, float]
"""Bytes by what they hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes at the worst moment of a step. ``moments`` holds all of them; ``host`` is of one worker."""

    moments: Mapping[str, Parts]
    host: Parts
    reserve: float

    @property
    def moment(self) -> str:
        """The moment of the peak."""
        return max(self.moments, key=lambda name: sum(self.moments[name].values()))

    @property
    def parts(self) -> Parts:
        """What is held at the peak, and the reserve."""
        return {**self.moments[self.moment], "reserve": self.reserve}

    @property
    def allocated(self) -> float:
        """Bytes that PyTorch holds at the peak (``torch.cuda.max_memory_allocated``)."""
        return sum(self.moments[self.moment].values())

    @property
    def worker(self) -> float:
        """Bytes of one GPU (of one process on a CPU), reserve included."""
        return self.allocated + self.reserve

    @property
    def host_per_worker(self) -> float:
        return sum(self.host.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How many parameters a recipe trains and freezes, and the bytes that the frozen ones take."""

    trained: int
    frozen: int
    trained_bytes: float
    frozen_bytes: float
    trained_at_once: int
    """The largest gradient of one parameter."""

    @property
    def total_bytes(self) -> float:
        return self.trained_bytes + self.frozen_bytes

    @property
    def sizes(self) -> Trained:
        """What the DeepSpeed configuration is made for."""
        return Trained(parameters=self.trained, largest=self.trained_at_once)


def weights_of(shape: ModelShape, recipe: TrainRecipe) -> Weights:
    """What is trained: everything, or the adapters of ``recipe.lora``; 4-bit weights are those of the layers."""
    size = 4 if recipe.precision == "fp32" else 2
    if recipe.lora is None:
        return Weights(
            trained=shape.parameters,
            frozen=0,
            trained_bytes=size * shape.parameters,
            frozen_bytes=0,
            trained_at_once=shape.largest_matrix,
        )
    targets = None if recipe.lora.targets == "all-linear" else recipe.lora.targets
    trained = shape.lora_parameters(recipe.lora.rank, targets)
    quantised = shape.layers * shape.matrix_parameters_per_layer if recipe.lora.quantise == "4bit" else 0
    return Weights(
        trained=trained,
        frozen=shape.parameters,
        trained_bytes=size * trained,
        frozen_bytes=size * (shape.parameters - quantised) + NF4_BYTES * quantised,
        trained_at_once=recipe.lora.rank * max(shape.intermediate, shape.query_width),
    )


def predict(shape: ModelShape, recipe: TrainRecipe, placement: Placement) -> Memory:
    """The memory of a training.

    Raises ``ValueError`` where DeepSpeed cannot run the recipe (:func:`zero.deepspeed_config`) or the workers cannot
    share its blocks.
    """
    count = _Count(shape, recipe, placement)
    moments = {
        "DeepSpeed starts": count.start(),
        "the forward pass ends": count.always() | count.earlier_gradients() | count.kept() | count.head(),
        "the backward pass begins": count.always() | count.first_gradients() | count.kept() | count.one_layer(),
        "the first gradients are summed": count.always() | count.first_reduction() | count.kept() | count.one_layer(),
        "the backward pass ends": count.always() | count.last_gradients() | count.last_kept() | count.one_layer(),
        "gradients are summed": count.always() | count.reduction(),
        "weights are updated": count.always() | count.update(),
    }
    allocated = max(sum(parts.values()) for parts in moments.values())
    reserve = CUDA_CONTEXT + FRAGMENTATION * allocated if placement.use_gpu else 0.0
    return Memory(moments=moments, host=count.host(), reserve=reserve)


class _Count:
    """Bytes by what they hold at the moments of a step; parts of one name do not meet at one moment."""

    def __init__(self, shape: ModelShape, recipe: TrainRecipe, placement: Placement) -> None:
        self.weights = weights_of(shape, recipe)
        self.zero: dict[str, Any] = deepspeed_config(recipe, placement, self.weights.sizes)["zero_optimization"]
        self.shape, self.recipe, self.placement = shape, recipe, placement
        self.stage = recipe.zero_stage
        self.ranks = placement.num_workers
        self.size = 4 if recipe.precision == "fp32" else 2
        self.several = placement.accumulation(recipe) > 1
        self.tokens = placement.micro_batch_size * recipe.block_length
        self.offload = recipe.offload != "none"
        self.flat_bf16 = self.stage == 1 and self.size == 2 and not self.offload
        """DeepSpeed has an optimizer of its own for bf16 at stage 1 (``BF16_Optimizer``)."""
        self.bucket: int = self.zero["reduce_bucket_size"]
        self.one_bucket = self.weights.trained <= self.bucket

    def always(self) -> Parts:
        """Weights, their float32 copy and Adam's moments, and what DeepSpeed allocates once."""
        weights, trained, ranks = self.weights, self.weights.trained, self.ranks
        share = ranks if self.stage == 3 else 1
        parts: Parts = {}
        if self.recipe.offload != "parameters":
            parts["weights"] = weights.total_bytes / share
        if not self.offload:
            if self.stage:
                # A float32 model has them twice: stage 3 would share them, but takes the device "cpu" or "cuda:0" for
                # another than itself (stage3.py, _create_fp32_partitions compares a torch.device with a str).
                parts["float32 weights"] = 4 * trained / ranks
            parts["Adam's moments"] = 8 * trained / (ranks if self.stage else 1)
        elif self.stage in (1, 2):
            parts["offload staging"] = self.size * weights.trained_at_once
        if self.flat_bf16:
            parts["float32 gradients"] = 4 * trained
        if self.stage == 3:
            if not self.offload:
                parts["float32 gradients"] = 4 * trained / ranks
            parts["gradient buckets"] = 4 * self.bucket
            secondary = self.placement.secondary_partition
            if secondary > 1:
                parts["secondary weights"] = weights.total_bytes / secondary
        return parts

    def start(self) -> Parts:
        """Its optimizer for bf16 copies the weights into one flat tensor; at stage 2 that goes over the host where the
        GPU is too small for it, and at stage 3 always."""
        if not self.flat_bf16:
            return {}
        return {"weights": self.weights.total_bytes, "flat copy": self.weights.trained_bytes}

    def earlier_gradients(self) -> Parts:
        """Gradients of earlier forward passes of the same step."""
        return self._gradients() if self.several else {}

    def first_gradients(self) -> Parts:
        """Earlier gradients and that of the head, which comes first, in its bucket."""
        head = 0 if self.weights.frozen or self.stage == 3 else self.shape.vocabulary * self.shape.hidden
        buckets = self._buckets() if self.placement.use_gpu else {}
        return self.earlier_gradients() | buckets | {"head's gradient": self.size * head}

    def first_reduction(self) -> Parts:
        """From stage 2 on a bucket that is full is summed during the backward pass; the head's gradient can fill it.

        Stage 2 then makes the sums of bf16, all of them; those of float32, and on a CPU, take memory as they come.
        """
        if self.stage < 2 or self.one_bucket:
            return self.first_gradients()
        whole = self.stage == 2 and self.size == 2 and self.placement.use_gpu
        return self.reduction() | ({} if whole else {"gradients": 0.0} | self.earlier_gradients())

    def last_gradients(self) -> Parts:
        """All gradients, at the end of a backward pass; from stage 2 on those that fit into one bucket are in it."""
        if self.stage >= 2 and not self.one_bucket:
            return self.reduction()
        buckets = self._buckets() if self.placement.use_gpu or self.stage == 2 else {}
        return (self._gradients() if self.stage < 2 else self.earlier_gradients()) | buckets

    def _buckets(self) -> Parts:
        """Buffers that are made with the first gradient and go when all are summed; on a CPU they fill up slowly."""
        if self.stage in (0, 3) or self.flat_bf16:
            return {}
        buffers = 2 if self.zero.get("overlap_comm") else 1
        size = 4 if self.stage == 1 else self.size
        return {"gradient buckets": buffers * size * self.bucket}

    def _gradients(self) -> Parts:
        trained, ranks = self.weights.trained, self.ranks
        if self.stage == 3:
            return {}
        if self.stage == 2:
            return {"gradients": 4 * trained / ranks}
        if self.stage == 1 and self.offload:
            return {"gradients": 4 * trained}
        return {"gradients": self.size * trained}

    def reduction(self) -> Parts:
        """While ranks sum gradients: all of them at stages 0 and 1, from stage 2 on those of a bucket."""
        trained, ranks = self.weights.trained, self.ranks
        parts = self._gradients() | self._buckets()
        gradient = self.size * self.weights.trained_at_once
        if self.stage == 0:
            # One rank alone has nothing to sum (train/engine.py).
            return parts | ({"bucket copies": 4 * min(trained, ALL_REDUCE)} if ranks > 1 else {})
        if self.flat_bf16:
            # Each gradient becomes float32 on its way into the sums, which then go as they are. Where matrices and
            # vectors together are few enough to go at once, they are put together first; adapters have no vectors.
            together = trained <= ALL_REDUCE and not self.weights.frozen
            return parts | {"bucket copies": 4 * (trained if together else self.weights.trained_at_once)}
        if self.stage == 3:
            # Put together by rank; gloo copies all of that once more.
            times = 1 if self.placement.use_gpu else 2
            return {"bucket copies": times * 4 * self.bucket, "a gradient": gradient}
        # One rank alone gets a view where the pieces of a bucket lie together, which they do in float32.
        copies = 4.0 * self.bucket if ranks > 1 or self.size == 2 else 0.0
        if self.stage == 1:
            # Each gradient moves into the bucket; when that is summed, its owner copies it out. In bf16, so with
            # offloading, DeepSpeed 0.19.8 also makes the float32 sums that stage 2 would use.
            owned = self.size * trained / ranks
            sums = 4 * trained / ranks if self.size == 2 else 0
            return parts | {"gradients": 4 * (trained - self.bucket) + sums, "bucket copies": max(copies, owned)}
        if self.size == 2:
            copies += self.size * self.bucket  # put together in bf16, then made float32
        elif self.several:
            parts["gradients"] *= 2  # the sums so far and those of this pass
        elif self.one_bucket:
            copies = max(0.0, copies - parts["gradients"])  # the copy is gone when the gradients are taken out
        return parts | {"bucket copies": copies, "a gradient": 0 if self.one_bucket else gradient}

    def update(self) -> Parts:
        trained, ranks = self.weights.trained, self.ranks
        if self.offload:
            return {}
        if self.stage == 0:
            return {"gradients": self.size * trained}
        if self.stage == 3:
            return {"gradient copies": 4 * min(trained / ranks, SUB_GROUP)}
        if self.flat_bf16:
            return {"gradients": self.size * trained}
        if self.size == 2:
            return {"gradients": 4 * trained / ranks}
        return {"gradients": 4 * trained / ranks, "gradient copies": 4 * trained / ranks}

    def kept(self) -> Parts:
        """What the forward pass keeps for the backward pass."""
        if not self.recipe.activation_checkpointing:
            return {"activations": self.tokens * self.shape.layers * self._layer_bytes() + self._after_layers()}
        inputs = self.tokens * self.shape.layers * self.shape.hidden * self.size
        return {"activations": inputs + self._after_layers()}

    def last_kept(self) -> Parts:
        """What is left of it when the backward pass has come to the first layer."""
        checkpointed = self.recipe.activation_checkpointing
        return {"activations": self.tokens * (self.shape.hidden * self.size if checkpointed else self._layer_bytes())}

    def one_layer(self) -> Parts:
        """Gradients within a layer, its own activations where they are computed again, and its gathered weights.

        The most at once is in the MLP: gradients of the activated gate and of the other half, and the residual's.
        """
        shape = self.shape
        parts: Parts = {"layer": self.tokens * self.size * (2 * shape.intermediate + shape.hidden)}
        if self.recipe.activation_checkpointing:
            parts["layer"] += self.tokens * self._layer_bytes()
        if self.weights.frozen and self.recipe.lora is not None and self.recipe.lora.quantise == "4bit":
            parts["dequantised weights"] = 2 * shape.intermediate * shape.hidden
        return parts | self._gathered()

    def _gathered(self) -> Parts:
        """Weights that ZeRO-3 holds whole: DeepSpeed keeps what is used again within the reuse distance.

        At the turn from forward to backward that is what lies within half of it from the end, or a third where
        checkpointing runs each layer three times; and of the rest what is fetched ahead, twice while its pieces are
        put together. One worker has nothing to gather.
        """
        if self.stage != 3 or (self.ranks == 1 and self.recipe.offload != "parameters"):
            return {}
        runs = 3 if self.recipe.activation_checkpointing else 2
        ahead = PREFETCH + self.shape.largest_matrix
        kept = min(self.shape.parameters, REUSE / runs)
        fetched = min(self.shape.parameters - kept, ahead)
        return {"gathered weights": self.size * (kept + fetched * (2 if self.ranks > 1 else 1))}

    def head(self) -> Parts:
        """The loss: states and their gradient, logits of a chunk, and the gradient of the head's weight."""
        shape = self.shape
        chunk = min(HEAD_CHUNK, self.tokens) * shape.vocabulary
        states = 2 * self.tokens * shape.hidden * self.size
        weight = 0 if self.weights.frozen else shape.vocabulary * shape.hidden
        if self.stage == 3:
            # The head is called as a module: logits again in the backward pass, gradients of two chunks at once.
            gradients = min(2, -(-self.tokens // HEAD_CHUNK)) * self.size * weight
            return {"head": states + 12 * chunk + gradients} | self._gathered()
        # In bf16 the gradient of a chunk is added to the float32 sum: on a CPU by way of a float32 copy.
        added = 0 if self.size == 4 else 2 * weight if self.placement.use_gpu else 6 * weight
        return {"head": states + max(8 * chunk, (4 + self.size) * chunk + added) + 4 * weight}

    def _layer_bytes(self) -> float:
        """Bytes that one decoder layer keeps for each token.

        Each norm keeps its input (in float32: a copy where the model is bf16), the normalised input unless its weight
        is frozen, and its output, which the projections share. Attention keeps queries, keys, values and output, and
        float32 statistics of each head; on a CPU keys and values are repeated for each query head, and the outputs of
        samples are put together in a copy. The MLP keeps gate, activated gate, other half and product.
        """
        shape, size = self.shape, self.size
        norms = 2 * shape.hidden * (4 + size * (1 if self.weights.frozen else 2))
        if self.placement.use_gpu and size == 2:
            attention = size * 2 * (shape.query_width + shape.key_value_width) + 4 * shape.heads
        else:
            attention = size * 5 * shape.query_width + 4 * shape.heads
        adapters = 0
        lora = self.recipe.lora
        if lora is not None:
            adapted = shape.matrices if lora.targets == "all-linear" else lora.targets
            adapters = size * lora.rank * len(adapted)
            if lora.dropout:
                adapters += sum((size + 1) * shape.matrices[name][1] for name in adapted)
        return norms + attention + size * 4 * shape.intermediate + adapters

    def _after_layers(self) -> float:
        """The last norm."""
        return self.tokens * self.shape.hidden * (4 + 2 * self.size)

    def host(self) -> Parts:
        """Host memory of one worker; pinned buffers are rounded up to powers of two, as PyTorch's allocator does."""
        if not self.placement.use_gpu:
            return {}
        parts: Parts = {"process": HOST_PROCESS}
        share = self.weights.trained / self.ranks
        if self.offload:
            parts["Adam's moments"] = 8 * share
            if self.stage == 3:
                parts["float32 weights"] = 4 * share
                parts["gradients"] = 2 * _pinned(4 * share)
            else:
                parts["float32 weights"] = _pinned(4 * share)
                parts["gradients"] = _pinned(4 * share) + _pinned(self.size * self.weights.trained_at_once)
                parts["weights to send"] = _pinned(self.size * share)
        if self.recipe.offload == "parameters":
            parts["weights"] = _pinned(self.weights.trained_bytes / self.ranks) + self.weights.frozen_bytes / self.ranks
        return parts


def _pinned(size: float) -> float:
    return float(1 << max(int(size) - 1, 0).bit_length())


LORA = LoraRecipe(rank=64, alpha=16)
"""The adapters that are planned beside full fine-tuning: QLoRA's (arXiv 2305.14314, appendix B.2)."""

Mode = tuple[Literal[0, 1, 2, 3], Offload]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to run a recipe on a cluster, what it takes, and whether it fits."""

    recipe: TrainRecipe
    placement: Placement
    memory: Memory
    time: StepTime
    cluster: Cluster

    @property
    def host_bytes(self) -> float:
        """Of one node."""
        return self.cluster.workers_per_node * self.memory.host_per_worker

    @property
    def fits_gpu(self) -> bool:
        return self.memory.worker <= self.cluster.gpu.memory

    @property
    def fits_host(self) -> bool:
        return self.host_bytes <= self.cluster.host_memory

    @property
    def fits(self) -> bool:
        return self.fits_gpu and self.fits_host


def options(
    shape: ModelShape, recipe: TrainRecipe, cluster: Cluster, *, micro_batch_size: int, attended: float
) -> list[Option]:
    """Every ZeRO stage and offload for a recipe, and LoRA and QLoRA where it trains all weights.

    Stage, offload and checkpointing of the recipe itself are disregarded: each option keeps activations where they
    fit and computes them again where they do not. Raises ``ValueError`` where the GPUs can't share the recipe's blocks.
    """
    found = []
    for each in _methods(recipe):
        for (stage, offload), secondary in _modes(each, cluster):
            placement = Placement(
                num_workers=cluster.num_gpus,
                use_gpu=True,
                micro_batch_size=micro_batch_size,
                secondary_partition=secondary,
            )
            mode = replace(each, zero_stage=stage, offload=offload)
            kept, again = (
                _option(shape, replace(mode, activation_checkpointing=again), placement, cluster, attended)
                for again in (False, True)
            )
            found.append(kept if kept.fits else again)
    return found


def recommend(found: Sequence[Option], lora: LoraRecipe | None) -> Option | None:
    """The quickest option that fits and trains as ``lora`` says; of equals the one listed first, with less to tell
    other GPUs. ``None`` where nothing fits."""
    fitting = [option for option in found if option.fits and option.recipe.lora == lora]
    return max(fitting, key=lambda option: option.time.tokens_per_second, default=None)


def smallest_cluster(
    shape: ModelShape, recipe: TrainRecipe, cluster: Cluster, *, micro_batch_size: int, attended: float
) -> int | None:
    """The smallest number of these GPUs on which some option of the recipe fits, among those that share its blocks."""
    for number in range(1, recipe.blocks_per_step // micro_batch_size + 1):
        in_nodes = number <= cluster.gpus_per_node or number % cluster.gpus_per_node == 0
        if recipe.blocks_per_step % (number * micro_batch_size) or not in_nodes:
            continue
        smaller = replace(cluster, num_gpus=number)
        found = options(shape, recipe, smaller, micro_batch_size=micro_batch_size, attended=attended)
        if recommend(found, recipe.lora) is not None:
            return number
    return None


def refusal(found: Sequence[Option], lora: LoraRecipe | None, smallest: int | None) -> str:
    """Why nothing fits, with the numbers of the option that comes nearest."""
    own = [option for option in found if option.recipe.lora == lora]
    cluster = own[0].cluster
    nearest = min(own, key=lambda option: (not option.fits_gpu, option.memory.worker, option.host_bytes))
    if nearest.fits_gpu:
        needs, has = nearest.host_bytes, cluster.host_memory
        place = f"the host memory of a node of {cluster.workers_per_node} GPUs"
    else:
        needs, has, place = nearest.memory.worker, cluster.gpu.memory, f"a GPU of the kind {cluster.gpu.name}"
    blocks = nearest.recipe.blocks_per_step
    number = (
        f"no number of them up to the {blocks} blocks of a step fits"
        if smallest is None
        else f"the smallest number of these GPUs that fits is {smallest}"
    )
    return (
        f"{nearest.recipe.model} does not fit on {cluster.num_gpus} GPUs: with {mode_name(nearest)} {place} needs "
        f"{needs / GIB:.1f} GiB and has {has / GIB:.1f}; {number}."
    )


def mode_name(option: Option) -> str:
    """Stage, offload and partition of an option in words."""
    offload = {"none": "", "optimizer": ", optimizer on the host", "parameters": ", optimizer and weights on the host"}
    secondary = option.placement.secondary_partition
    hierarchy = f", weights also split within {secondary}" if secondary > 1 else ""
    return f"ZeRO-{option.recipe.zero_stage}{offload[option.recipe.offload]}{hierarchy}"


def _methods(recipe: TrainRecipe) -> list[TrainRecipe]:
    if recipe.lora is not None or recipe.precision == "fp32":
        return [recipe]
    return [recipe, replace(recipe, lora=LORA), replace(recipe, lora=replace(LORA, quantise="4bit"))]


def _modes(recipe: TrainRecipe, cluster: Cluster) -> list[tuple[Mode, int]]:
    """Stages, offloads and ZeRO++'s secondary partition, those that communicate least first.

    Adapters have next to no optimizer state, so offloading it would save nothing.
    """
    plain: list[Mode] = [(1, "none"), (2, "none"), (3, "none")]
    if recipe.precision == "fp32":
        plain = [(0, "none"), *plain]
    if recipe.lora is not None:
        if recipe.lora.quantise == "4bit":
            plain = [(2, "none")]
        return [(mode, 1) for mode in plain]
    modes = [(mode, 1) for mode in plain]
    if cluster.num_gpus > cluster.gpus_per_node:
        modes.append(((3, "none"), cluster.gpus_per_node))
    return [*modes, ((2, "optimizer"), 1), ((3, "optimizer"), 1), ((3, "parameters"), 1)]


def _option(shape: ModelShape, recipe: TrainRecipe, placement: Placement, cluster: Cluster, attended: float) -> Option:
    weights = weights_of(shape, recipe)
    time = step_time(
        shape,
        recipe,
        placement,
        cluster,
        attended=attended,
        trained=weights.trained,
        weight_bytes=weights.total_bytes,
    )
    memory = predict(shape, recipe, placement)
    return Option(recipe=recipe, placement=placement, memory=memory, time=time, cluster=cluster)
