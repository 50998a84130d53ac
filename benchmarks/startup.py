"""Where the time between ``fit()`` and a training's first step goes, and what our settings of Ray Train take off it.

    python benchmarks/startup.py            # some minutes on two free cores
    python benchmarks/startup.py --runs 5

One worker on a CPU, SmolLM2-135M-Instruct from its package, blocks of 512 random tokens, three steps, on one Ray that
runs already. Trainings with our settings (``train/environment.py``) and with Ray's own come in turn; medians. ``end``
is from the last step to the return of ``fit()``: Ray asks its workers for news at an interval, and each report and the
end wait for it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import ray
from rich.console import Console
from rich.table import Table

from agentflan_ray import cluster
from agentflan_ray.train.blocks import RandomBlocks
from agentflan_ray.train.environment import DRIVER_SETTINGS
from agentflan_ray.train.progress import CurveWriter, read_curve
from agentflan_ray.train.recipe import laptop
from agentflan_ray.train.trainer import make_trainer

RAYS_OWN = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "2", "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1"}
NUM_STEPS = 3


def main() -> None:
    """Print a table, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="trainings of each kind")
    arguments = parser.parse_args()
    cluster.connect()
    measured: dict[str, list[dict[str, float]]] = {"ours": [], "Ray's own": []}
    for _ in range(arguments.runs):
        measured["ours"].append(start(DRIVER_SETTINGS))
        measured["Ray's own"].append(start(RAYS_OWN))
    medians = {
        name: {what: statistics.median(run[what] for run in runs) for what in runs[0]}
        for name, runs in measured.items()
    }
    table = Table("seconds", *medians, title=f"ray {ray.__version__}, {os.cpu_count()} cores", title_justify="left")
    for what in medians["ours"]:
        table.add_row(what, *(f"{values[what]:.2f}" for values in medians.values()))
    Console().print(table)
    print(json.dumps(medians))  # noqa: T201  # the line that programs read


def start(settings: dict[str, str]) -> dict[str, float]:
    """The seconds of one training, by what they went to, and all of it."""
    os.environ.update(settings)
    recipe = dataclasses.replace(laptop(), blocks_per_step=1)
    with tempfile.TemporaryDirectory(prefix="agentflan-startup-") as folder:
        curve = Path(folder, "curve.jsonl")
        trainer = make_trainer(
            recipe,
            cluster.placement(1, None, 0, alone=True),
            RandomBlocks(NUM_STEPS, recipe.block_length, 49_000),
            storage_path=folder,
            name="run",
            callbacks=[CurveWriter(str(curve))],
        )
        began = time.perf_counter()
        trainer.fit()
        total = time.perf_counter() - began
        rows = read_curve(curve)
    prefix = "startup_seconds/"
    parts = {name.removeprefix(prefix): value for name, value in rows[0].items() if name.startswith(prefix)}
    steps = sum(row["seconds"] for row in rows[1:])
    return {**parts, "further steps": steps, "end": total - steps - sum(parts.values()), "all": total}


if __name__ == "__main__":
    main()
