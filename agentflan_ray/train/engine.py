"""DeepSpeed behind five verbs: forward, backward, update, save, load."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from agentflan_ray import storage
from agentflan_ray.train import models
from agentflan_ray.train.environment import prepare_worker
from agentflan_ray.train.losses import ComponentLoss
from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.zero import deepspeed_config

_TAG, _POSITION = "deepspeed", "position.json"


class Engine:
    """A model under training on this rank. Gradients are those of sum / global number of supervised tokens."""

    def __init__(self, recipe: TrainRecipe, placement: Placement) -> None:
        self.recipe, self.placement = recipe, placement
        config = deepspeed_config(recipe, placement)
        prepare_worker(use_gpu=placement.use_gpu, num_threads=placement.num_threads)
        _join_process_group(placement)
        import deepspeed

        torch.set_float32_matmul_precision("highest" if recipe.matmul == "exact" else "medium")
        torch.manual_seed(recipe.seed)
        self.tokenizer = models.load_tokenizer(recipe.model, recipe.template)
        self.model: Any = _load_partitioned(recipe, config) if recipe.zero_stage == 3 else _load(recipe)
        if recipe.activation_checkpointing:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        self.module = ComponentLoss(self.model)
        groups = parameter_groups(self.model, recipe.weight_decay)
        optimizer = None
        if recipe.offload == "none":
            optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, eps=1e-8, fused=True)
        self._engine, *_ = deepspeed.initialize(
            model=self.module, optimizer=optimizer, model_parameters=groups, config=config
        )
        self.rank: int = torch.distributed.get_rank()
        self.world_size: int = torch.distributed.get_world_size()
        self._device = self._engine.device

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of the losses, and sums by component: see :class:`losses.ComponentLoss`."""
        outputs: tuple[torch.Tensor, torch.Tensor] = self._engine(
            *(each.to(self._device) for each in (input_ids, position_ids, targets))
        )
        return outputs

    def backward(self, total: torch.Tensor, *, num_targets: float) -> None:
        """Add the gradient of ``total / num_targets``, where ``num_targets`` counts the whole global batch.

        DeepSpeed averages gradients over ranks, so each rank's part is multiplied by their number first; its division
        by the accumulation steps is switched off.
        """
        self._engine.backward(total * (self.world_size / num_targets), scale_wrt_gas=False)

    def next_micro_batch(self) -> None:
        """Tell DeepSpeed that another micro-batch of the same step follows."""
        self._engine.step()

    def update(self, learning_rate: float) -> float:
        """Take the optimizer step unless the gradient is not finite; returns its norm before clipping.

        With ZeRO, DeepSpeed leaves such a step out itself, and gives the norm only afterwards.
        """
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        if self.recipe.zero_stage > 0:
            self._engine.step()
            return float(self._engine.get_global_grad_norm())
        # Without ZeRO DeepSpeed clips but keeps no norm. The gradients are already summed over ranks.
        norm = float(torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None]))
        if math.isfinite(norm):
            self._engine.step()
        return norm

    def sum_over_ranks(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a small tensor over all ranks, on the CPU."""
        values = values.to(self._device)
        torch.distributed.all_reduce(values)
        return values.cpu()

    def save(self, folder: Path, position: dict[str, int]) -> None:
        """Write this rank's part of the state to a folder of its own; all ranks call it."""
        self._engine.save_checkpoint(str(folder), tag=_TAG, save_latest=False)
        if self.rank == 0:
            identity = {"recipe": self.recipe.to_json(), "num_workers": self.world_size}
            storage.write_json(folder / _POSITION, {**position, **identity})

    def load(self, folder: Path) -> dict[str, Any]:
        """Continue from a folder that holds the parts of all ranks; returns the position given to :meth:`save`."""
        if not (folder / _POSITION).is_file():
            raise ValueError(f"There is no checkpoint in {folder}: it holds no {_POSITION}.")
        position: dict[str, Any] = storage.read_json(folder / _POSITION)
        recipe = self.recipe.to_json()
        for name, stored in position["recipe"].items():
            if recipe[name] != stored:
                raise ValueError(
                    f"The checkpoint in {folder} was trained with {name}={stored!r}, but the recipe says "
                    f"{recipe[name]!r}; resume with the recipe that it was started with."
                )
        if position["num_workers"] != self.world_size:
            raise ValueError(
                f"The checkpoint in {folder} holds the shards of {position['num_workers']} workers, but "
                f"{self.world_size} run; resume with as many."
            )
        self._engine.load_checkpoint(str(folder), tag=_TAG)
        return position


def _load(recipe: TrainRecipe) -> Any:
    return models.load_model(recipe.model, recipe.precision)


def _load_partitioned(recipe: TrainRecipe, config: dict[str, Any]) -> Any:
    """Load each weight straight into its ZeRO-3 partition: no rank ever holds the whole model."""
    from transformers.integrations import HfDeepSpeedConfig

    partitioned = HfDeepSpeedConfig(config)  # transformers partitions while this object lives
    model = _load(recipe)
    del partitioned
    return model


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; vectors (norms, biases) do not, as in the Hugging Face trainer."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Under ZeRO-3 a partitioned parameter is a flat piece and keeps its shape in `ds_shape`.
    matrices = [p for p in parameters if len(getattr(p, "ds_shape", p.shape)) > 1]
    vectors = [p for p in parameters if len(getattr(p, "ds_shape", p.shape)) <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _join_process_group(placement: Placement) -> None:
    """Let DeepSpeed use the process group that Ray Train made, or make one of this process alone."""
    import deepspeed

    if not torch.distributed.is_initialized():
        os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks for it even of one process
        store = torch.distributed.HashStore()  # type: ignore[attr-defined]
        backend = "nccl" if placement.use_gpu else "gloo"
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    size = torch.distributed.get_world_size()
    if size != placement.num_workers:
        raise ValueError(f"The placement asks for {placement.num_workers} workers, but {size} run.")
    deepspeed.init_distributed(auto_mpi_discovery=False, dist_init_required=False)
