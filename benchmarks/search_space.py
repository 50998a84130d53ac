"""Which coordinates of a mixture a box search works best in: regret of Optuna's TPE and GP on made-up worlds.

    python benchmarks/search_space.py             # TPE on 64 worlds, GP on 16: 220 s of processor time, on two cores
    python benchmarks/search_space.py --gp 64

Four ways to make a mixture of n components from a box:

- **log-ratios**: n - 1 log2 ratios to the first component, from -4 to 4 (``agentflan_ray.search.space``);
- **weights**: n numbers in [0, 1], divided by their sum;
- **sticks**: n - 1 numbers in [0, 1], each the part that is broken off what is left of a stick;
- **even sticks**: the same, bent so that a uniform point of the box is a uniform mixture (a Beta quantile).

Each search has the worlds' noise and recommends its best trial. Regret is that mixture's true loss above the best of
the whole simplex, where 1 is that of the median of random log-ratios; the worlds are those of ``search_worlds.py`` with
6 and 12 components. Intervals are 95 % bootstrap intervals of the mean over worlds.
"""

from __future__ import annotations

import os

# Set before NumPy and torch start their threads: small problems on shared cores are slower with several.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import numpy as np
import numpy.typing as npt
import optuna
import search_worlds
from optuna.distributions import BaseDistribution, FloatDistribution
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

Floats = npt.NDArray[np.float64]

COORDINATES = ("log-ratios", "weights", "sticks", "even sticks")
BUDGETS = (12, 24, 40)
"""Trials after which the regret is taken."""
GP_BUDGETS = (12, 24)
SEEDS = tuple(seed for seed in range(48, 240) if search_worlds.NUM_COMPONENTS[seed % 4] in (6, 12))
"""Worlds that no setting was chosen on."""

Job = tuple[str, str, int]


def box_of(coordinates: str, num: int) -> dict[str, BaseDistribution]:
    """What is searched for a mixture of so many components."""
    if coordinates == "log-ratios":
        return {f"x{i}": FloatDistribution(-search_worlds.RATIO, search_worlds.RATIO) for i in range(num - 1)}
    # A weight of exactly 0 in all of them would be no mixture.
    return {f"x{i}": FloatDistribution(1e-6, 1.0) for i in range(num if coordinates == "weights" else num - 1)}


def mixture_of(coordinates: str, place: Floats) -> Floats:
    """The mixture of a point of the box."""
    if coordinates == "log-ratios":
        ratios = 2.0 ** np.concatenate([[0.0], place])
        return np.asarray(ratios / ratios.sum())
    if coordinates == "weights":
        return np.asarray(place / place.sum())
    if coordinates == "even sticks":
        # With n - i pieces to come, 1 - (1 - u) ** (1 / (n - i)) is Beta(1, n - i), which makes Dirichlet(1, ..., 1).
        place = 1 - (1 - place) ** (1 / np.arange(len(place), 0, -1))
    left = np.concatenate([[1.0], np.cumprod(1 - place)])
    return np.asarray(left * np.concatenate([place, [1.0]]))


@cache
def bounds_of(seed: int) -> tuple[float, float]:
    """The smallest loss of the whole simplex, and that of the median random mixture."""
    world = search_worlds.draw_world(seed)
    within, usual = search_worlds.scale(world)

    def objective(logs: Floats) -> float:
        weights = np.exp(logs - logs.max())
        return float(world.losses(weights / weights.sum()).mean())

    rng = np.random.default_rng(seed)
    starts = rng.normal(0, 2, (12, world.num_components))
    best = min(
        float(minimize(objective, start, method="L-BFGS-B", bounds=[(-12, 12)] * len(start)).fun) for start in starts
    )
    return min(best, within), usual


def regrets(job: Job) -> tuple[Job, dict[int, float]]:
    """Regret of the best trial after each budget."""
    sampler, coordinates, seed = job
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    world = search_worlds.draw_world(seed)
    best, usual = bounds_of(seed)
    box = box_of(coordinates, world.num_components)
    study = optuna.create_study(
        sampler=optuna.samplers.GPSampler(seed=seed)
        if sampler == "gp"
        else optuna.samplers.TPESampler(seed=seed, multivariate=True)
    )
    rng = np.random.default_rng([seed, 7])
    found: dict[int, float] = {}
    for number in range(1, max(GP_BUDGETS if sampler == "gp" else BUDGETS) + 1):
        trial = study.ask(box)
        study.tell(trial, float(world.trial(mixture_of(coordinates, _place(trial.params)), 1.0, rng).mean()))
        if number in BUDGETS:
            truth = float(world.losses(mixture_of(coordinates, _place(study.best_params))).mean())
            found[number] = (truth - best) / (usual - best)
    return job, found


def _place(parameters: dict[str, float]) -> Floats:
    return np.array([parameters[f"x{i}"] for i in range(len(parameters))])


def interval(values: Floats) -> str:
    """Mean and 95 % bootstrap interval."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Run all searches and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tpe", type=int, default=64, help="worlds for TPE")
    parser.add_argument("--gp", type=int, default=16, help="worlds for GP")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    console = Console()
    began = time.perf_counter()
    worlds = {"tpe": SEEDS[: arguments.tpe], "gp": SEEDS[: arguments.gp]}
    jobs: list[Job] = [(sampler, each, seed) for sampler in worlds for seed in worlds[sampler] for each in COORDINATES]
    with ProcessPoolExecutor(arguments.processes) as pool:
        found = dict(pool.map(regrets, jobs))
    summary: dict[str, float] = {}
    for sampler, seeds in worlds.items():
        budgets = GP_BUDGETS if sampler == "gp" else BUDGETS
        table = Table(title=f"{sampler.upper()}, regret over {len(seeds)} worlds", title_justify="left")
        for column in (
            "coordinates",
            *(f"{budget} trials" for budget in budgets),
            f"minus log-ratios at {budgets[-1]}",
        ):
            table.add_column(column, justify="left" if column == "coordinates" else "right")
        last = {each: np.array([found[sampler, each, seed][budgets[-1]] for seed in seeds]) for each in COORDINATES}
        for each in COORDINATES:
            values = [interval(np.array([found[sampler, each, seed][budget] for seed in seeds])) for budget in budgets]
            difference = "" if each == COORDINATES[0] else interval(last[each] - last[COORDINATES[0]])
            table.add_row(each, *values, difference)
            summary[f"{sampler}_regret_{each.replace(' ', '_').replace('-', '_')}"] = float(last[each].mean())
        console.print(table)
    console.print(f"{time.perf_counter() - began:.0f} s")
    print(json.dumps(summary))  # noqa: T201  # the line that programs read


if __name__ == "__main__":
    main()
