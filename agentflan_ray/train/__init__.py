"""Fine-tuning on Ray Train with DeepSpeed: models, recipes, losses, the loop, checkpoints and export."""
