"""The DeepSpeed configuration of a recipe and placement: the one place where it is written."""

from __future__ import annotations

from typing import Any

from agentflan_ray.train.recipe import Placement, TrainRecipe


def deepspeed_config(recipe: TrainRecipe, placement: Placement) -> dict[str, Any]:
    """The configuration for ``deepspeed.initialize``.

    Raises ``ValueError`` for combinations that DeepSpeed cannot run (DeepSpeed documentation, "ZeRO-Offload"):
    optimizer offload needs a stage of 1 or above, parameter offload needs stage 3; bf16 needs a stage of 1 or above to
    sum gradients in float32.
    """
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
    zero: dict[str, Any] = {"stage": recipe.zero_stage}
    if recipe.zero_stage == 3:
        # A parameter smaller than this stays whole on every rank. The default of 100,000 would keep small models
        # almost unpartitioned, so that tests of stage 3 would test little.
        zero["stage3_param_persistence_threshold"] = 10_000
    if recipe.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": placement.use_gpu}
    if recipe.offload == "parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": placement.use_gpu}
    config: dict[str, Any] = {
        "train_batch_size": recipe.blocks_per_step,
        "train_micro_batch_size_per_gpu": placement.micro_batch_size,
        "gradient_accumulation_steps": placement.accumulation(recipe),
        "gradient_clipping": recipe.clip_norm,
        "zero_optimization": zero,
    }
    if recipe.precision == "bf16":
        config["bf16"] = {"enabled": True}
        config["data_types"] = {"grad_accum_dtype": "fp32"}
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
