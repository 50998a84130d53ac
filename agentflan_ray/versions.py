"""The software that a result was made with."""

from __future__ import annotations

import importlib.metadata
import platform

PACKAGES = ("agentflan-ray", "ray", "torch", "transformers", "deepspeed", "optuna", "pyarrow")
"""What decides a result beside its literals."""


def versions() -> dict[str, str]:
    """Python's version and those of :data:`PACKAGES`."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}
