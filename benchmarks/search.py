"""How quickly a search finds a good mixture: regret against compute, ours against Optuna's samplers and RegMix.

    python benchmarks/search.py --quick             # a few seeds of everything: some minutes on two cores
    python benchmarks/search.py                     # 48 made-up worlds and 50 replays
    python benchmarks/search.py --only worlds --seeds 24

Two grounds: made-up worlds (``search_worlds.py``), on which all settings of the sampler were chosen, and the replay of
RegMix's models (``search_replay.py``), on which none was. The replay needs AGENTFLAN_DATA, the folder of the project's
data, and LightGBM (``pip install lightgbm``). Intervals are 95 % bootstrap intervals of the mean over seeds.
"""

from __future__ import annotations

import os

# Set before NumPy starts its threads: many small factorisations on a busy machine are ten times slower with several.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import search_replay
import search_worlds
from matplotlib.figure import Figure
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table

from agentflan_ray.search.sampler import Fidelity, MixtureSampler

WORLD_BUDGETS = (3, 4, 6, 8, 12, 16, 20)
"""Compute, in trials at the target."""
SPENT = [10, 16, 32, 64, 102, 128, 256]
"""Compute in proxies, in 1M runs; 102 is a fifth of RegMix's 512."""
REGMIX_RUNS = [16, 32, 64, 102, 128, 256, 512]
PROXIES = [10, 16, 32, 64, 102]
LARGE = [1, 2, 4, 8, 16]
"""Numbers of 1B runs."""
_MOST_TRIALS = 160

_WORLD_CONTESTANTS = ("ours", "ours, tried", "ours, mean only", "ours, target only", "gp", "tpe", "random")
"""Ours as it is; with its best trial at the target in place of its recommendation; without the losses of the parts; and
with trials at the target only."""

Curve = dict[float, float]


# ---- made-up worlds ------------------------------------------------------------------------------------------------


def world_curves(contestant: str, seed: int) -> Curve:
    """Regret of what is recommended, by cost, relative to the median random mixture's."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    world = search_worlds.draw_world(seed)
    best, usual = search_worlds.scale(world)
    rng = np.random.default_rng([99, seed])
    mine = contestant.startswith("ours")
    box = world.space(with_fidelity=mine and contestant != "ours, target only")
    mixture = [name for name in box if name != "level"]
    sampler: Any
    if mine:
        sampler = MixtureSampler(
            box,
            mixture,
            world.weights,
            fidelities=[Fidelity("level", 1.0)] if "level" in box else [],
            parts=None if contestant == "ours, mean only" else "losses",
            cost=world.cost,
            seed=seed,
        )
    elif contestant == "random":
        sampler = optuna.samplers.RandomSampler(seed=seed)
    elif contestant == "tpe":
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    else:
        sampler = optuna.samplers.GPSampler(seed=seed)
    study = optuna.create_study(sampler=sampler)

    def regret() -> float:
        """Of what is recommended: by our model, of all mixtures; or the best trial that was run at the target."""
        if mine and contestant != "ours, tried":
            chosen = sampler.recommend(study)
        else:
            whole = [trial for trial in study.get_trials(states=[TrialState.COMPLETE]) if world.cost(trial.params) == 1]
            if not whole:
                return 1.0
            chosen = min(whole, key=lambda trial: trial.value).params
        truth = float(world.losses(np.array(list(world.weights(chosen).values()))).mean())
        return (truth - best) / (usual - best)

    curve: Curve = {}
    spent = 0.0
    waiting = list(WORLD_BUDGETS)
    for _ in range(_MOST_TRIALS):
        trial = study.ask(box)
        level, cost = float(trial.params.get("level", 1.0)), world.cost(trial.params)
        while waiting and spent + cost > waiting[0] + 1e-9:
            curve[waiting.pop(0)] = regret()
        if not waiting:
            break
        losses = world.trial(np.array(list(world.weights(trial.params).values())), level, rng)
        trial.set_user_attr("losses", {str(i): float(loss) for i, loss in enumerate(losses)})
        study.tell(trial, float(losses.mean()))
        spent += cost
    for budget in waiting:
        curve[budget] = regret()
    return curve


# ---- RegMix --------------------------------------------------------------------------------------------------------


def replay_curves(contestant: str, goal: str, seed: int, folder: str) -> Curve:
    """Regret of the recommended 1B mixture, in nats, by cost in 1M runs."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pool = search_replay.load(Path(folder))
    if contestant == "ours":
        return search_replay.ours(pool, goal, seed, ("1M", "60M"), SPENT, LARGE)
    if contestant == "ours 1M":
        return search_replay.ours(pool, goal, seed, ("1M",), PROXIES, [])
    if contestant == "regmix":
        return search_replay.regmix(pool, goal, seed, REGMIX_RUNS)
    name, level = contestant.split(" ")
    samplers: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
        "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
        "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True),
        "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    }
    marks = LARGE if level == "1B" else PROXIES
    return search_replay.optunas(samplers[name], level)(pool, goal, seed, marks)


# ---- together ------------------------------------------------------------------------------------------------------


def interval(values: Sequence[float] | npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and 95 % bootstrap interval."""
    array = np.array(values)
    draws = np.random.default_rng(0).choice(array, (4000, len(array))).mean(axis=1)
    return float(array.mean()), float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


def gather(job: Callable[[int], Curve], seeds: range, processes: int) -> dict[float, list[float]]:
    """Curves of all seeds, by cost."""
    if processes > 1:
        with ProcessPoolExecutor(processes) as pool:
            curves = list(pool.map(job, seeds))
    else:
        curves = [job(seed) for seed in seeds]
    return {cost: [curve[cost] for curve in curves] for cost in curves[0] if all(cost in curve for curve in curves)}


def show(console: Console, title: str, rows: dict[str, dict[float, list[float]]], digits: int) -> None:
    """A table of means and intervals: cost down, contestants across."""
    table = Table(title=title, title_justify="left")
    table.add_column("cost", justify="right")
    for name, curves in rows.items():
        table.add_column(f"{name} ({len(next(iter(curves.values())))})", justify="right")
    for cost in sorted({cost for curves in rows.values() for cost in curves}):
        cells = []
        for curves in rows.values():
            mean, low, high = interval(curves.get(cost, [0.0]))
            text = f"{mean:.{digits}f} [dim]{low:.{digits}f}–{high:.{digits}f}[/]"
            cells.append(text if cost in curves else "")
        table.add_row(f"{cost:,g}", *cells)
    console.print(table)


def compare(console: Console, title: str, rows: dict[str, dict[float, list[float]]], digits: int) -> None:
    """Ours less each other at the same cost, paired by seed: bold where the whole interval is below 0, which is
    better, and red where it is above."""
    others = {
        name: shared
        for name, curves in rows.items()
        if "ours" in rows and name != "ours" and (shared := [cost for cost in curves if cost in rows["ours"]])
    }
    if not others:
        return
    table = Table(title=title, title_justify="left")
    table.add_column("cost", justify="right")
    for name in others:
        table.add_column(f"- {name}", justify="right")
    for cost in sorted({cost for shared in others.values() for cost in shared}):
        cells = []
        for name, shared in others.items():
            if cost not in shared:
                cells.append("")
                continue
            theirs = rows[name][cost]
            mean, low, high = interval(np.subtract(rows["ours"][cost][: len(theirs)], theirs))
            style = "bold" if high < 0 else ("red" if low > 0 else "dim")
            cells.append(f"[{style}]{mean:+.{digits}f} ({low:+.{digits}f} {high:+.{digits}f})[/]")
        table.add_row(f"{cost:,g}", *cells)
    console.print(table)


def save(folder: Path | None, everything: dict[str, dict[str, dict[float, list[float]]]]) -> None:
    """Write the curves as JSON and as pictures, after each contestant."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "curves.json").write_text(json.dumps(everything))
    for name, rows in everything.items():
        unit = "trials at the target" if name == "worlds" else "1M runs"
        draw(folder / f"{name}.svg", f"Regret: {name}", rows, unit)


def draw(path: Path, title: str, rows: dict[str, dict[float, list[float]]], unit: str) -> None:
    """The curves with their intervals, as SVG."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for name, curves in rows.items():
        costs = sorted(curves)
        means, lows, highs = np.array([interval(curves[cost]) for cost in costs]).T
        (line,) = axes.plot(costs, means, marker="o", markersize=3, label=name)
        axes.fill_between(costs, lows, highs, alpha=0.15, color=line.get_color(), linewidth=0)
    axes.set(xscale="log", xlabel=f"compute, {unit}", ylabel="regret", title=title)
    axes.legend(frameon=False)
    figure.savefig(path, format="svg")


def summarise(everything: dict[str, dict[str, dict[float, list[float]]]]) -> dict[str, float]:
    """The numbers of the last line."""
    found: dict[str, float] = {}
    for name in ("gp", "tpe"):
        rows = everything.get("worlds", {})
        if "ours" in rows and name in rows:
            ours, theirs = (np.mean([np.mean(curve) for curve in rows[each].values()]) for each in ("ours", name))
            found[f"regret_vs_{name}"] = round(float(ours / theirs), 3)
    shares = []
    for goal in search_replay.GOALS:
        rows = everything.get(goal, {})
        if "ours 1M" in rows and "regmix" in rows:
            final = np.mean(rows["regmix"][512.0])
            enough = [runs for runs, regrets in sorted(rows["ours 1M"].items()) if np.mean(regrets) <= final]
            shares.append(enough[0] / 512 if enough else float("inf"))
            found[f"{goal}_regret_at_a_fifth"] = round(float(np.mean(rows["ours 1M"][102.0])), 5)
            found[f"{goal}_regret_of_regmix"] = round(float(final), 5)
    if shares:
        found["regmix_runs_fraction"] = round(max(shares), 3)
    return found


def main() -> None:
    """Run what is asked for, print tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 worlds and 5 replays")
    parser.add_argument("--seeds", type=int, help="worlds, and replays (default 48 and 50)")
    parser.add_argument("--first", type=int, default=16, help="first world; settings were chosen on 0 to 15")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", choices=("worlds", "replay"))
    parser.add_argument("--contestants", nargs="*", help="of the made-up worlds or the replay, by name")
    parser.add_argument("--save", type=Path, help="folder for the curves, as JSON and as pictures")
    arguments = parser.parse_args()
    console = Console(width=180)
    began = time.monotonic()
    everything: dict[str, dict[str, dict[float, list[float]]]] = {}
    summary: dict[str, Any] = {"benchmark": "search", "python": platform.python_version(), "optuna": optuna.__version__}
    if arguments.only != "replay":
        num = arguments.seeds or (8 if arguments.quick else 48)
        seeds = range(arguments.first, arguments.first + num)
        rows = everything["worlds"] = {}
        for name in arguments.contestants or _WORLD_CONTESTANTS:
            rows[name] = gather(partial(world_curves, name), seeds, arguments.processes)
            console.print(f"[dim]{time.monotonic() - began:6.0f} s  {name}[/]")
            save(arguments.save, everything)
        show(console, f"Made-up worlds: regret (1 = a median random mixture) by compute, {num} worlds", rows, 3)
        compare(console, "Made-up worlds: ours less each other, same worlds", rows, 3)
    if arguments.only != "worlds":
        folder = os.environ.get("AGENTFLAN_DATA")
        if not folder:
            raise SystemExit("The replay needs AGENTFLAN_DATA, the folder of the project's data; or --only worlds.")
        num = arguments.seeds or (5 if arguments.quick else 50)
        names = ("ours", "ours 1M", "regmix", "tpe 1M", "random 1M", "gp 1B", "tpe 1B", "random 1B", "gp 1M")
        for goal in search_replay.GOALS:
            rows = everything[goal] = {}
            for name in arguments.contestants or names:
                rows[name] = gather(partial(replay_curves, name, goal, folder=folder), range(num), arguments.processes)
                console.print(f"[dim]{time.monotonic() - began:6.0f} s  {goal}: {name}[/]")
                save(arguments.save, everything)
            show(console, f"RegMix, {goal}: regret in nats by cost in 1M runs, {num} seeds", rows, 4)
            compare(console, f"RegMix, {goal}: ours less each other, same seeds", rows, 4)
    summary |= summarise(everything)
    summary["seconds"] = round(time.monotonic() - began)
    print(json.dumps(summary))  # noqa: T201


if __name__ == "__main__":
    main()
