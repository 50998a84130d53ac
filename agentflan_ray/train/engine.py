"""DeepSpeed behind five verbs: forward, backward, update, save, load."""

from __future__ import annotations

import errno
import math
import os
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from agentflan_ray.train import checkpoint, models
from agentflan_ray.train.adapters import add_adapters
from agentflan_ray.train.blocks import NUM_COMPONENTS
from agentflan_ray.train.environment import prepare_worker
from agentflan_ray.train.losses import ComponentLoss
from agentflan_ray.train.partitioned import is_converted, load_partitioned
from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.zero import Trained, deepspeed_config


class Engine:
    """A model under training on this rank. Gradients are those of sum / global number of supervised tokens.

    ``seconds``: what making it took, by what it went to. ``device_name``: the GPU's, None on a CPU.

    With ``load_universal`` it loads a state that other numbers of workers wrote: see :func:`checkpoint.universal`.
    """

    def __init__(self, recipe: TrainRecipe, placement: Placement, *, load_universal: bool = False) -> None:
        self.recipe, self.placement = recipe, placement
        self.seconds: dict[str, float] = {}
        clock = _Clock(self.seconds)
        config = deepspeed_config(recipe, placement)
        prepare_worker(use_gpu=placement.use_gpu, num_threads=placement.num_threads)
        _join_process_group(placement)
        import deepspeed

        clock.lap("DeepSpeed")
        torch.set_float32_matmul_precision("highest" if recipe.matmul == "exact" else "medium")
        torch.manual_seed(recipe.seed)
        self.tokenizer = models.load_tokenizer(recipe.model, recipe.template)
        self.model: Any = _make_model(recipe, placement, config)
        if recipe.activation_checkpointing:
            models.checkpoint_activations(self.model)
        config = deepspeed_config(recipe, placement, _trained(self.model))
        if load_universal:
            config["checkpoint"] = {"load_universal": True}
        self.module = ComponentLoss(self.model)
        clock.lap("model")
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
        self.device_name: str | None = torch.cuda.get_device_name() if placement.use_gpu else None
        clock.lap("engine")
        if self.world_size == 1 and recipe.zero_stage == 0:
            # DeepSpeed 0.19.8 would copy all gradients to sum them with nobody's: a tenth of a step of SmolLM2 on CPU.
            self._engine.enable_backward_allreduce = False

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        targets: torch.Tensor,
        num_groups: int = NUM_COMPONENTS,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of the losses, and sums by group: see :class:`losses.ComponentLoss`."""
        outputs: tuple[torch.Tensor, torch.Tensor] = self._engine(
            *(each.to(self._device) for each in (input_ids, position_ids, targets)), num_groups
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
        # Without ZeRO DeepSpeed clips but keeps no norm, so both are done here. The gradients are summed over ranks.
        learnt = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in learnt])
        if math.isfinite(norm):
            if self.recipe.clip_norm > 0:
                torch.nn.utils.clip_grads_with_norm_(learnt, self.recipe.clip_norm, norm)
            self._engine.step()
        return float(norm)

    def peak_memory(self) -> int:
        """The most bytes so far: allocated by PyTorch on this worker's GPU, or resident of its process on a CPU."""
        if self.placement.use_gpu:
            return int(torch.cuda.max_memory_allocated())
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def sum_over_ranks(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a small tensor over all ranks, on the CPU."""
        values = values.to(self._device)
        torch.distributed.all_reduce(values)
        return values.cpu()

    def save(self, folder: Path) -> None:
        """Write this rank's part of the state to a folder of its own; all ranks call it.

        Raises ``OSError`` where the disk is full.
        """
        try:
            # Frozen weights are the base model's, which is there anyway.
            self._engine.save_checkpoint(
                str(folder),
                tag=checkpoint.TAG,
                save_latest=False,
                exclude_frozen_parameters=self.recipe.lora is not None,
            )
        except RuntimeError as error:
            # PyTorch 2.13 says of a full disk no more than where its writer of files failed.
            if "inline_container" not in str(error):
                raise
            free = shutil.disk_usage(folder).free
            sentence = f"The state could not be written to {folder}, where {free / 2**20:,.0f} MiB are free"
            raise OSError(errno.ENOSPC, sentence) from error

    def load(self, folder: Path) -> None:
        """Continue from a folder that holds the parts of all ranks, or what :func:`checkpoint.universal` made of them.

        The latter needs an engine made with ``load_universal``.
        """
        groups = self._engine.optimizer.param_groups
        decays = [group["weight_decay"] for group in groups]
        with checkpoint.weights_only():
            self._engine.load_checkpoint(str(folder), tag=checkpoint.TAG, load_module_strict=self.recipe.lora is None)
        # From a universal checkpoint DeepSpeed 0.19.8 gives, at stage 3, every group the first one's settings, so that
        # norms and biases would decay too, and one and the same step counter, which each group would raise.
        for group, decay in zip(groups, decays, strict=True):
            group["weight_decay"] = decay
        for state in self._engine.optimizer.state.values():
            if torch.is_tensor(state.get("step")):
                state["step"] = state["step"].clone()


class _Clock:
    """Fills in the seconds of each part of a row of work."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._began = seconds, time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._seconds[name], self._began = now - self._began, now


def _make_model(recipe: TrainRecipe, placement: Placement, config: dict[str, Any]) -> Any:
    """The model with the adapters of a recipe; at stage 3 in partitions, else whole where it will be trained."""
    if recipe.zero_stage == 3:
        model = load_partitioned(recipe.model, recipe.precision, config)
    else:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if placement.use_gpu else None
        quantise = recipe.lora is not None and recipe.lora.quantise == "4bit"
        model = models.load_model(recipe.model, recipe.precision, device=device, quantise=quantise)
    if recipe.lora is not None:
        if is_converted(model):
            raise ValueError(
                f"lora adapts linear layers, but {type(model).__name__} holds weights that transformers joins while it "
                "loads them, such as experts; train all weights with lora=None, or train a dense model."
            )
        add_adapters(model, recipe.lora, recipe.seed)
    return model


def _trained(model: torch.nn.Module) -> Trained:
    # Under ZeRO-3 a partitioned parameter is a flat piece and keeps its whole size in `ds_numel`.
    sizes = [int(getattr(each, "ds_numel", each.numel())) for each in model.parameters() if each.requires_grad]
    return Trained(parameters=sum(sizes), largest=max(sizes))


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
