"""Which trajectories are kept out of every mixture: one rule for training, exports and cards."""

from __future__ import annotations

from agentflan_ray.randomness import stable_share

VALIDATION_SHARE = 0.05
"""Share of trajectories kept for validation, so that all trials are measured on the same unseen text."""


def is_validation(parent: str) -> bool:
    """Whether samples of the trajectory with this id are validation text: a stable hash decides, on every machine."""
    return stable_share("validation", parent) < VALIDATION_SHARE
