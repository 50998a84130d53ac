"""AgentTuning's composite of the held-in tasks (Zeng et al., arXiv 2310.12823, section 3.1); Agent-FLAN reports it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from agentflan_ray.evaluate.compare import Result

HELD_IN: dict[str, float] = {
    "alfworld": 20,
    "webshop": 28,
    "mind2web": 9,
    "agentbench-kg": 16,
    "agentbench-os": 19,
    "agentbench-db": 12,
}
"""Benchmark to the weight that its headline, in percent, is divided by: the mean of models at the time, so that no task
outweighs the others. With these the eight published composites come out within 0.01."""


def held_in(results: Sequence[Result]) -> dict[str, Any]:
    """``{"model", "value", "low", "high", "missing"}`` of one model's results: the mean over the six tasks of headline
    over weight.

    Without all six there is no composite: ``value`` is None and ``missing`` names the others. The interval combines the
    tasks' own (Zou and Donner 2008), which are independent of each other.
    """
    rows = {result.benchmark: result.summary["metrics"][result.headline] for result in results}
    missing = [name for name in HELD_IN if rows.get(name, {}).get("value") is None]
    model = results[0].model if results else ""
    if missing:
        return {"model": model, "value": None, "low": None, "high": None, "missing": missing}
    parts = [(rows[name], rows[name]["scale"] / weight / len(HELD_IN)) for name, weight in HELD_IN.items()]
    value = sum(row["value"] * factor for row, factor in parts)
    below = math.sqrt(sum(((row["value"] - row["low"]) * factor) ** 2 for row, factor in parts))
    above = math.sqrt(sum(((row["high"] - row["value"]) * factor) ** 2 for row, factor in parts))
    return {"model": model, "value": value, "low": value - below, "high": value + above, "missing": []}
