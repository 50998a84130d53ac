"""AgentTuning's composite of the held-in tasks (Zeng et al., arXiv 2310.12823, section 3.1); Agent-FLAN reports it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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

PUBLISHED_ITEMS: dict[str, int] = {
    "alfworld": 50,
    "webshop": 200,
    "agentbench-kg": 150,
    "agentbench-os": 144,
    "agentbench-db": 300,
}
"""Items of AgentBench's test sets (Liu et al., arXiv 2308.03688), which AgentTuning takes. Of Mind2Web it takes
a part of ``test_domain``, whose tasks are named nowhere but in its container."""

_REQUIRED: dict[str, Mapping[str, Any]] = {
    "mind2web": {"ranker": "the published ranker"},
    "agentbench-db": {"server": "mysql"},
}
"""What a benchmark's identity holds where it was run as published, for what a run can choose."""


def held_in(results: Sequence[Result]) -> dict[str, Any]:
    """``{"model", "value", "low", "high", "missing", "remarks"}`` of one model's results: the mean over the six tasks
    of headline over weight.

    Without all six there is no composite: ``value`` is None and ``missing`` names the others. The interval combines the
    tasks' own (Zou and Donner 2008), which are independent of each other. ``remarks`` are sentences, one for each way
    in which a task was run otherwise than published; prompts and examples are of our own wording in all of them.
    """
    found = {result.benchmark: result for result in results}
    rows = {name: result.summary["metrics"][result.headline] for name, result in found.items()}
    missing = [name for name in HELD_IN if rows.get(name, {}).get("value") is None]
    model = results[0].model if results else ""
    if missing:
        return {"model": model, "value": None, "low": None, "high": None, "missing": missing, "remarks": []}
    parts = [(rows[name], rows[name]["scale"] / weight / len(HELD_IN)) for name, weight in HELD_IN.items()]
    value = sum(row["value"] * factor for row, factor in parts)
    below = math.sqrt(sum(((row["value"] - row["low"]) * factor) ** 2 for row, factor in parts))
    above = math.sqrt(sum(((row["high"] - row["value"]) * factor) ** 2 for row, factor in parts))
    remarks = [remark for name in HELD_IN for remark in _remarks(name, found[name].summary)]
    return {
        "model": model,
        "value": value,
        "low": value - below,
        "high": value + above,
        "missing": [],
        "remarks": remarks,
    }


def _remarks(name: str, summary: Mapping[str, Any]) -> Iterator[str]:
    asked, errors = summary["asked"], summary["errors"]["items"]
    if asked["items"] < asked["of"]:
        yield f"{name}: only {asked['items']} of {asked['of']} items were run."
    if errors:
        yield f"{name}: {errors} items ended with an error and are in no mean."
    if name not in PUBLISHED_ITEMS:
        yield f"{name}: {asked['of']} items, where AgentTuning takes a part of test_domain."
    elif asked["of"] != PUBLISHED_ITEMS[name]:
        yield f"{name}: {asked['of']} items, where AgentBench has {PUBLISHED_ITEMS[name]}."
    for key, published in _REQUIRED.get(name, {}).items():
        if (ours := summary["identity"].get(key)) != published:
            yield f"{name}: {key} is {ours!r}, where {published!r} is published."
