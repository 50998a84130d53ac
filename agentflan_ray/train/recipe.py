"""What is trained and how (:class:`TrainRecipe`), and where it runs (:class:`Placement`).

The fields of a recipe identify a training; those of a placement never change its losses beyond rounding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from agentflan_ray.train.adapters import LoraRecipe

Precision = Literal["fp32", "bf16"]
Matmul = Literal["exact", "fast"]
Offload = Literal["none", "optimizer", "parameters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe:
    """The identity of a training.

    ``blocks_per_step`` is the global batch, in blocks of ``block_length`` tokens. The learning rate rises from
    ``warmup_start_ratio`` to 1 over ``warmup_fraction`` of the steps and falls along a cosine to ``minimum_ratio``,
    all times ``learning_rate``. ``clip_norm`` 0 does not clip. ``matmul`` "fast" lets products of
    float32 be computed from bfloat16 or TF32 inputs where the hardware has them (1.3 times the tokens/s on a CPU with
    AMX). ``validate_every`` and ``checkpoint_every`` count
    steps; 0 validates at the end only, and keeps no state to resume from. ``template`` names a chat template
    (:mod:`agentflan_ray.tokens.templates`) for a base model that has none; the exported model carries it.

    With ``lora`` only low-rank adapters are trained. ``quantised_gather`` sends the weights that ZeRO-3 gathers in 8
    bits (ZeRO++, arXiv 2306.10209, section 3.1): half the traffic, and rounded weights in every product.
    """

    model: str
    block_length: int
    blocks_per_step: int
    learning_rate: float
    warmup_fraction: float = 0.02
    warmup_start_ratio: float = 0.0
    minimum_ratio: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    precision: Precision = "fp32"
    matmul: Matmul = "exact"
    activation_checkpointing: bool = False
    seed: int = 0
    zero_stage: Literal[0, 1, 2, 3] = 0
    offload: Offload = "none"
    validate_every: int = 0
    checkpoint_every: int = 0
    template: str | None = None
    lora: LoraRecipe | None = None
    quantised_gather: bool = False

    def __post_init__(self) -> None:
        _at_least("block_length", self.block_length, 2)
        _at_least("blocks_per_step", self.blocks_per_step, 1)
        _at_least("validate_every", self.validate_every, 0)
        _at_least("checkpoint_every", self.checkpoint_every, 0)
        _one_of("precision", self.precision, get_args(Precision))
        _one_of("matmul", self.matmul, get_args(Matmul))
        _one_of("offload", self.offload, get_args(Offload))
        _one_of("zero_stage", self.zero_stage, (0, 1, 2, 3))
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0.")
        for name in ("warmup_fraction", "warmup_start_ratio", "minimum_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1.")

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; :meth:`from_json` reads them."""
        fields = {**dataclasses.asdict(self), "betas": list(self.betas)}
        if self.lora is not None and isinstance(self.lora.targets, tuple):
            fields["lora"]["targets"] = list(self.lora.targets)
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> TrainRecipe:
        """The recipe that :meth:`to_json` wrote."""
        lora = None if fields["lora"] is None else LoraRecipe.from_json(fields["lora"])
        return cls(**{**fields, "betas": tuple(fields["betas"]), "lora": lora})

    def num_steps(self, num_blocks: int) -> int:
        """Optimizer steps that a plan of ``num_blocks`` takes; the last may hold fewer blocks."""
        return math.ceil(num_blocks / self.blocks_per_step)

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """The learning rate of a step, counted from 0: a pure function, so that nothing has to be stored for it.

        Linear warm-up, then cosine, as AgentTuning (arXiv 2310.12823, section 2.3) and Agent-FLAN train.
        """
        num_warmup = math.ceil(self.warmup_fraction * num_steps)
        if step < num_warmup:
            start = self.warmup_start_ratio
            return self.learning_rate * (start + (1 - start) * (step + 1) / num_warmup)
        progress = (step - num_warmup) / max(num_steps - num_warmup, 1)
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * (self.minimum_ratio + (1 - self.minimum_ratio) * cosine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a training runs. ``micro_batch_size`` is in blocks, of one worker in one forward pass.

    With ``min_workers`` a training that lost workers, or can't have all at first, goes on with as many as there are,
    down to these; it takes more again where they come back. The number that is asked for has to share a step evenly.
    One in between need not, by ``allow_uneven``, which the trainer sets where fewer run: then the last pass of each
    step is filled up with blocks that teach nothing (:meth:`idle_share`), which changes no loss.

    ``cpus_per_worker`` may be a little below a whole number, to leave room for a driver that asks for 0.01; PyTorch
    gets as many threads as it rounds to.

    ``secondary_partition`` above 1 makes that many workers in a row, those of one machine, keep ZeRO-3's weights a
    second time among them, so that backward passes gather them within the machine (hpZ of ZeRO++, arXiv 2306.10209,
    section 3.2). It costs 2 bytes a parameter over so many GPUs: 17.5 GB on each of 8 at 70B.
    """

    num_workers: int = 1
    min_workers: int | None = None
    use_gpu: bool = False
    cpus_per_worker: float = 1
    micro_batch_size: int = 1
    resources_per_worker: tuple[tuple[str, float], ...] = ()
    secondary_partition: int = 1
    allow_uneven: bool = False

    def __post_init__(self) -> None:
        _at_least("num_workers", self.num_workers, 1)
        if self.min_workers is not None and not 1 <= self.min_workers <= self.num_workers:
            raise ValueError(
                f"min_workers is {self.min_workers}; it must lie between 1 and num_workers, which is "
                f"{self.num_workers}."
            )
        _at_least("micro_batch_size", self.micro_batch_size, 1)
        _at_least("secondary_partition", self.secondary_partition, 1)
        if self.secondary_partition > 1 and self.min_workers not in (None, self.num_workers):
            raise ValueError(
                f"min_workers is {self.min_workers}, with which any number up to {self.num_workers} may run, but "
                f"secondary_partition is {self.secondary_partition}, which has to divide it; set min_workers=None or "
                "secondary_partition=1."
            )
        if not self.cpus_per_worker > 0:
            raise ValueError(f"cpus_per_worker is {self.cpus_per_worker}; it must be above 0.")

    @property
    def num_threads(self) -> int:
        """PyTorch threads of a worker."""
        return max(1, round(self.cpus_per_worker))

    def accumulation(self, recipe: TrainRecipe) -> int:
        """Forward passes of each worker in one step.

        Raises ``ValueError`` where the workers can't share a step evenly, unless ``allow_uneven``.
        """
        blocks_at_once = self.num_workers * self.micro_batch_size
        if recipe.blocks_per_step % blocks_at_once and not self.allow_uneven:
            raise ValueError(
                f"blocks_per_step is {recipe.blocks_per_step}, which {self.num_workers} workers with a micro-batch of "
                f"{self.micro_batch_size} can't share evenly; make it a multiple of {blocks_at_once}."
            )
        return math.ceil(recipe.blocks_per_step / blocks_at_once)

    def idle_share(self, recipe: TrainRecipe) -> float:
        """The part of each step's forward passes that is on blocks which only fill up, as workers share it unevenly."""
        return 1 - recipe.blocks_per_step / (self.accumulation(recipe) * self.num_workers * self.micro_batch_size)


def laptop() -> TrainRecipe:
    """SmolLM2-135M on a CPU: float32 (bfloat16 was ten times slower on a CPU without it), short blocks, small steps.

    A budget of some 12k tokens makes some 24 steps; with ten larger ones at a learning rate of 1e-4 the model learnt
    to call no tool.
    """
    return TrainRecipe(
        model="smollm2-135m-instruct",
        block_length=512,
        blocks_per_step=1,
        learning_rate=3e-4,
        warmup_fraction=0.1,
        minimum_ratio=0.1,
        matmul="fast",
    )


def agentflan_llama2_7b() -> TrainRecipe:
    """Agent-FLAN's Llama-2-7B (arXiv 2403.12881, appendix): batch 32, learning rate 2e-5, warm-up from 4e-6, cosine.

    Length, optimizer, decay, clipping and warm-up length are not published there: these are AgentTuning's
    (arXiv 2310.12823), which it builds on. Precision, ZeRO stage and checkpointing are our choice.
    """
    return TrainRecipe(
        model="llama2-7b-chat",
        block_length=4096,
        blocks_per_step=32,
        learning_rate=2e-5,
        warmup_fraction=0.02,
        warmup_start_ratio=0.2,
        weight_decay=0.1,
        betas=(0.9, 0.95),
        clip_norm=1.0,
        precision="bf16",
        activation_checkpointing=True,
        zero_stage=3,
        validate_every=100,
        checkpoint_every=200,
    )


def agentflan_llama2_13b() -> TrainRecipe:
    """As 7B: the paper's batch and learning rate are the same."""
    return dataclasses.replace(agentflan_llama2_7b(), model="llama2-13b-chat")


def agentflan_llama2_70b() -> TrainRecipe:
    """As 7B with the paper's batch of 128."""
    return dataclasses.replace(agentflan_llama2_7b(), model="llama2-70b-chat", blocks_per_step=128)


def agenttuning_llama2_7b() -> TrainRecipe:
    """AgentTuning's AgentLM-7B (arXiv 2310.12823, section 2.3): batch 64, learning rate 5e-5, 2 %
    warm-up, AdamW (0.9, 0.95), decay 0.1, clipping at 1. Precision, ZeRO stage and checkpointing are our choice.
    """
    return dataclasses.replace(
        agentflan_llama2_7b(), blocks_per_step=64, learning_rate=5e-5, warmup_fraction=0.02, warmup_start_ratio=0.0
    )


def agenttuning_llama2_13b() -> TrainRecipe:
    """As 7B: batch and learning rate are the same."""
    return dataclasses.replace(agenttuning_llama2_7b(), model="llama2-13b-chat")


def agenttuning_llama2_70b() -> TrainRecipe:
    """As 7B at a learning rate of 1e-5."""
    return dataclasses.replace(agenttuning_llama2_7b(), model="llama2-70b-chat", learning_rate=1e-5)


def with_lora(recipe: TrainRecipe, *, large: bool = False, quantise: bool = False) -> TrainRecipe:
    """A recipe for full fine-tuning as one for LoRA, or with ``quantise`` for QLoRA.

    Rank 64, alpha 16, all linear layers and no decay are those of QLoRA's Guanaco models (arXiv 2305.14314, appendix
    B.2 and the scripts published with it), as are dropout 0.1 and learning rate 2e-4 up to 13B, and 0.05 and 1e-4 for
    ``large`` models (33B and above). Batch and schedule stay the recipe's. ZeRO-2 keeps the frozen weights whole on
    each GPU, so that none are sent in a step; the 140 GB of 70B in bfloat16 need ZeRO-3.
    """
    return dataclasses.replace(
        recipe,
        lora=LoraRecipe(rank=64, alpha=16, dropout=0.05 if large else 0.1, quantise="4bit" if quantise else "none"),
        learning_rate=1e-4 if large else 2e-4,
        weight_decay=0.0,
        zero_stage=3 if large and not quantise else 2,
    )


RECIPES: dict[str, Callable[[], TrainRecipe]] = {
    "laptop": laptop,
    "agent-flan-7b": agentflan_llama2_7b,
    "agent-flan-13b": agentflan_llama2_13b,
    "agent-flan-70b": agentflan_llama2_70b,
    "agent-flan-7b-lora": lambda: with_lora(agentflan_llama2_7b()),
    "agent-flan-13b-lora": lambda: with_lora(agentflan_llama2_13b()),
    "agent-flan-70b-lora": lambda: with_lora(agentflan_llama2_70b(), large=True),
    "agent-flan-7b-qlora": lambda: with_lora(agentflan_llama2_7b(), quantise=True),
    "agent-flan-13b-qlora": lambda: with_lora(agentflan_llama2_13b(), quantise=True),
    "agent-flan-70b-qlora": lambda: with_lora(agentflan_llama2_70b(), large=True, quantise=True),
    "agenttuning-7b": agenttuning_llama2_7b,
    "agenttuning-13b": agenttuning_llama2_13b,
    "agenttuning-70b": agenttuning_llama2_70b,
    "agenttuning-7b-lora": lambda: with_lora(agenttuning_llama2_7b()),
    "agenttuning-13b-lora": lambda: with_lora(agenttuning_llama2_13b()),
    "agenttuning-70b-lora": lambda: with_lora(agenttuning_llama2_70b(), large=True),
}
"""Named recipes, as the command line takes them."""


def recipe_named(name: str) -> TrainRecipe:
    """The recipe of :data:`RECIPES`; ``ValueError`` for a name that there is not."""
    if name not in RECIPES:
        raise ValueError(f"There is no training recipe {name!r}; choose {', '.join(RECIPES)}.")
    return RECIPES[name]()


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least}.")


def _one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, known))}.")
