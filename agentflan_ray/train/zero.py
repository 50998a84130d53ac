"""The DeepSpeed configuration of a recipe and placement: the one place where it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentflan_ray.train.recipe import Placement, TrainRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """How many parameters are trained, and how many the largest of their tensors has."""

    parameters: int
    largest: int

    @property
    def bucket(self) -> int:
        """Elements of gradients that are summed at once (``reduce_bucket_size``).

        DeepSpeed allocates them whole, twice where sums run beside the backward pass, and copies them to sum them: its
        5e8 elements take 4 to 5 GB of a GPU in bfloat16, whatever is trained. 4e7, as in Megatron-Core up to 40
        workers (``DistributedDataParallelConfig.bucket_size``), are 160 MB in float32, enough to fill a link. Never
        less than the largest tensor (131 million elements at 7B, 262 at 70B): one that does not fit is summed outside
        of the bucket, at stage 2 by DeepSpeed 0.19.8 on a second stream of which the allocator is not told
        (``record_stream``), so that its memory may be given to others meanwhile. Never more than is trained.
        """
        return min(self.parameters, max(40_000_000, self.largest))


def deepspeed_config(recipe: TrainRecipe, placement: Placement, trained: Trained | None = None) -> dict[str, Any]:
    """The configuration for ``deepspeed.initialize``; without ``trained``, for ``deepspeed.zero.Init`` alone.

    Raises ``ValueError`` for combinations that DeepSpeed, transformers or a CPU cannot run, with the reason, and for
    batches and partitions that the workers cannot share evenly.

    Prefetching of ZeRO-3 stays DeepSpeed's: its prefetch bucket of 5e7 elements fetches one matrix ahead,
    and one matrix of Llama-2 70B (8,192 x 28,672, 470 MB) takes longer to gather between machines at 50 GB/s than to
    multiply with 4,096 tokens, so fetching more at once would only take memory. ``max_live_parameters`` of 1e9 holds
    one of its layers (8.6e8). ``allgather_bucket_size`` has no effect where PyTorch gathers into one tensor, as it does
    with NCCL and gloo (``all_gather_dp_groups``). ``contiguous_gradients`` stays on: without it the gradients of a
    bucket are kept one by one, which takes as much, and are put together when they are summed all the same.
    """
    _refuse_what_deepspeed_cannot(recipe)
    _refuse_what_cpus_cannot(recipe, placement)
    config: dict[str, Any] = {
        # DeepSpeed checks this product; it is above the recipe's batch where fewer workers share that unevenly.
        "train_batch_size": placement.micro_batch_size * placement.accumulation(recipe) * placement.num_workers,
        "train_micro_batch_size_per_gpu": placement.micro_batch_size,
        "gradient_accumulation_steps": placement.accumulation(recipe),
        # At stage 0 the engine clips, which needs the norm anyway.
        "gradient_clipping": recipe.clip_norm if recipe.zero_stage else 0.0,
        "zero_optimization": _zero(recipe, placement, trained),
    }
    if recipe.precision == "bf16":
        config["bf16"] = {"enabled": True}
        config["data_types"] = {"grad_accum_dtype": "fp32"}
        # DeepSpeed would send gradients between workers in bfloat16 and round at every addition on the way, the
        # float32 sums of stage 1 included. Added up as a ring does, gradients of SmolLM2 were off by 0.2 % of their
        # norm from 2 workers, 0.6 % from 32 and 1.2 % from 128, where rounding each of them once costs 0.05 %. After
        # 20 steps of a tiny model on 4 workers some weights lay twice the learning rate from those of one worker;
        # summed in float32 they are the same (tests/unit/test_train_zero.py). It doubles the bytes of the gradients
        # that are sent, not those of weights. Megatron-LM and OLMo sum in float32 too.
        config["communication_data_type"] = "fp32"
    if recipe.offload != "none":
        # Only by name does DeepSpeed take its own CPU Adam, which reads gradients where offloading puts them.
        config["optimizer"] = {
            "type": "AdamW",
            "params": {
                "lr": recipe.learning_rate,
                "betas": list(recipe.betas),
                "eps": 1e-8,
                "weight_decay": recipe.weight_decay,
            },
        }
    return config


def _zero(recipe: TrainRecipe, placement: Placement, trained: Trained | None) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": recipe.zero_stage}
    if trained is not None:
        zero["reduce_bucket_size"] = trained.bucket
    if recipe.zero_stage == 3:
        # A parameter smaller than this stays whole on every rank. The default of 100,000 would keep small models
        # almost unpartitioned, so that tests of stage 3 would test little.
        zero["stage3_param_persistence_threshold"] = 10_000
    if recipe.zero_stage == 2 and placement.use_gpu:
        # Sums of gradients run beside the backward pass. At stage 3 that is DeepSpeed's default, at stage 2 it is not.
        zero["overlap_comm"] = True
    if recipe.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": placement.use_gpu}
    if recipe.offload == "parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": placement.use_gpu}
    if recipe.quantised_gather:
        zero["zero_quantized_weights"] = True
    if placement.secondary_partition > 1:
        if recipe.zero_stage != 3:
            raise ValueError(
                f"secondary_partition is {placement.secondary_partition}, which needs zero_stage 3, but zero_stage is "
                f"{recipe.zero_stage}; set secondary_partition=1."
            )
        if placement.num_workers % placement.secondary_partition:
            raise ValueError(
                f"secondary_partition is {placement.secondary_partition}, which does not divide the "
                f"{placement.num_workers} workers; make it the number of workers on one machine."
            )
        zero["zero_hpz_partition_size"] = placement.secondary_partition
    return zero


def _refuse_what_deepspeed_cannot(recipe: TrainRecipe) -> None:
    # DeepSpeed's documentation, "ZeRO-Offload".
    needed = {"none": 0, "optimizer": 1, "parameters": 3}[recipe.offload]
    if recipe.zero_stage < needed:
        raise ValueError(
            f"offload={recipe.offload!r} needs zero_stage {needed} or above, but zero_stage is {recipe.zero_stage}; "
            f"set zero_stage={needed} or offload='none'."
        )
    if recipe.precision == "bf16" and recipe.zero_stage == 0:
        raise ValueError(
            "precision='bf16' needs zero_stage 1 or above, because at stage 0 DeepSpeed sums gradients in bfloat16, "
            "where small ones vanish; set zero_stage=1 (it also runs on one worker) or precision='fp32'."
        )
    # ZeRO++ also has quantised gradients (qgZ). There is no setting for them: the kernel of DeepSpeed 0.19.8 reads
    # gradients as float16 whatever they are (ds_swizzle_quant), so those of bfloat16 would be taken for other numbers.
    if recipe.quantised_gather and recipe.zero_stage != 3:
        raise ValueError(
            f"quantised_gather needs zero_stage 3, the only one that gathers weights, but zero_stage is "
            f"{recipe.zero_stage}; set quantised_gather=False."
        )
    if recipe.lora is not None and recipe.lora.quantise == "4bit":
        if recipe.precision != "bf16":
            raise ValueError(
                f"quantise='4bit' multiplies in bfloat16, but precision is {recipe.precision!r}; set precision='bf16'."
            )
        if recipe.zero_stage not in (1, 2):
            raise ValueError(
                f"quantise='4bit' needs zero_stage 1 or 2, but zero_stage is {recipe.zero_stage}: transformers loads "
                "the quantised weights whole on every worker, so partitioning them saves nothing; set zero_stage=2."
            )


def _refuse_what_cpus_cannot(recipe: TrainRecipe, placement: Placement) -> None:
    if placement.use_gpu:
        return
    if recipe.quantised_gather:
        raise ValueError(
            "quantised_gather needs GPUs, because DeepSpeed quantises with CUDA kernels alone, but use_gpu is False; "
            "set quantised_gather=False."
        )
    if recipe.lora is not None and recipe.lora.quantise == "4bit":
        raise ValueError(
            "quantise='4bit' needs GPUs, whose memory it saves and where bitsandbytes multiplies such weights quickly, "
            "but use_gpu is False; set quantise='none'."
        )
