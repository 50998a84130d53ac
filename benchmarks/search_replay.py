"""Replay of RegMix's models: real losses of 1M, 60M and 1B parameter models on mixtures of 17 domains.

The data (sail-sg/regmix, MIT) are 512 + 256 mixtures at 1M parameters, the 256 at 60M too, and 64 others at 1B; 13
validation losses each. What is wanted is the best of the 64 for the 1B model. A trial costs 6 * parameters * tokens
(1B tokens for the small ones, 25B for the 1B models), in units of one 1M run: 1, 60 and 25,000.

Nothing can be trained here, so every contestant chooses from the pool. Ours weighs all of it and takes the best.
Optuna's samplers propose weights in [0, 1]^17, which are divided by their sum; the nearest mixture (Hellinger) of the
level that has not been tried is taken in its place, and is what the sampler is told.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from agentflan_ray.search.laws import Points, Surrogate
from agentflan_ray.search.sampler import Belief

Floats = npt.NDArray[np.float64]
COSTS = {"1M": 1.0, "60M": 60.0, "1B": 25_000.0}
PARAMETERS = {"1M": 1e6, "60M": 6e7, "1B": 1e9}
GOALS = ("mean", "pile_cc")
_BATCH = 4
"""Proposals of ours between two fits, as of four trials at a time."""
_START = 10


@dataclass(frozen=True)
class Pool:
    """Mixtures and their losses by level: ``weights`` (n, 17), ``losses`` (n, 13)."""

    weights: dict[str, Floats]
    losses: dict[str, Floats]
    pile_cc: int

    def goal(self, goal: str, level: str) -> Floats:
        """The objective of every mixture of a level."""
        losses = self.losses[level]
        return losses.mean(axis=1) if goal == "mean" else losses[:, self.pile_cc]

    def regret(self, goal: str, row: int) -> float:
        """How much worse than the best of the 1B models one is."""
        objective = self.goal(goal, "1B")
        return float(objective[row] - objective.min())


def load(folder: Path) -> Pool:
    """Read ``replay/regmix`` below the folder of the project's data."""
    place = folder / "replay" / "regmix"
    files = {"1M": ("train_{}_1m", "test_{}_1m"), "60M": ("test_{}_60m",), "1B": ("test_{}_1B",)}
    weights, losses = {}, {}
    for level, stems in files.items():
        mixtures = pd.concat(
            [pd.read_csv(place / f"{stem.format('mixture')}.csv", index_col="index") for stem in stems]
        )
        scores = pd.concat(
            [pd.read_csv(place / f"{stem.format('pile_loss')}.csv", index_col="index") for stem in stems]
        )
        raw = mixtures.to_numpy(dtype=np.float64)
        weights[level], losses[level] = raw / raw.sum(axis=1, keepdims=True), scores.to_numpy(dtype=np.float64)
        names = list(scores.columns)
    return Pool(weights, losses, names.index("metric/the_pile_pile_cc_val_loss"))


def ours(
    pool: Pool, goal: str, seed: int, proxies: tuple[str, ...], marks: list[float], large: list[int]
) -> dict[float, float]:
    """Regret of what our surrogate recommends, by cost: trials of the proxies' levels by the knowledge gradient per
    cost, none of which costs more than all before it, until the last of the marks is spent, then so many 1B trials,
    chosen the same way."""
    rng = np.random.default_rng([7, seed])
    points = {level: _points(pool.weights[level], level) for level in COSTS}
    # As in the sampler: a start that fills the simplex, the farthest of some at random.
    tried: dict[str, list[int]] = {"1M": [int(rng.integers(len(pool.weights["1M"])))], "60M": [], "1B": []}
    while len(tried["1M"]) < _START:
        some = rng.choice(len(pool.weights["1M"]), 64, replace=False)
        apart = _hellinger(pool.weights["1M"][some], pool.weights["1M"][tried["1M"]]).min(axis=1)
        tried["1M"].append(int(some[apart.argmax()]))
    spent = float(_START)
    curve = [(spent, _recommended(pool, goal, tried, points))]
    while spent < max(marks):
        batch = _choose(pool, goal, tried, points, tuple(level for level in proxies if COSTS[level] <= spent), _BATCH)
        for level, row in batch:
            tried[level].append(row)
        spent += sum(COSTS[level] for level, _ in batch)
        curve.append((spent, _recommended(pool, goal, tried, points)))
    found = {float(mark): [regret for cost, regret in curve if cost <= mark][-1] for mark in marks}
    for number in range(1, max(large, default=0) + 1):
        tried["1B"] += [row for _, row in _choose(pool, goal, tried, points, ("1B",), 1)]
        if number in large:
            found[number * COSTS["1B"]] = _recommended(pool, goal, tried, points)
    return found


def _choose(
    pool: Pool, goal: str, tried: dict[str, list[int]], points: dict[str, Points], levels: tuple[str, ...], num: int
) -> list[tuple[str, int]]:
    """The trials of the pool that are worth most for their cost, each given that those before it are running."""
    belief = _belief(pool, goal, tried, points)
    chosen: list[tuple[str, int]] = []
    for _ in range(num):
        options = [
            (level, row)
            for level in levels
            for row in range(len(pool.weights[level]))
            if row not in tried[level] and (level, row) not in chosen
        ]
        worth = belief.worth(points["1B"], _gather(points, options), _gather(points, chosen))
        chosen.append(options[int((worth / np.array([COSTS[level] for level, _ in options])).argmax())])
    return chosen


def _recommended(pool: Pool, goal: str, tried: dict[str, list[int]], points: dict[str, Points]) -> float:
    """Regret of the 1B mixture with the smallest expected loss."""
    return pool.regret(goal, int(_belief(pool, goal, tried, points).mean(points["1B"]).argmin()))


def optunas(
    sampler: Callable[[int], optuna.samplers.BaseSampler], level: str
) -> Callable[[Pool, str, int, list[int]], dict[float, float]]:
    """One of Optuna's samplers on the trials of one level; it recommends its best trial, or the 1B mixture nearest
    to that."""

    def contest(pool: Pool, goal: str, seed: int, marks: list[int]) -> dict[float, float]:
        weights, objective = pool.weights[level], pool.goal(goal, level)
        names = [f"w{i}" for i in range(weights.shape[1])]
        box = {name: FloatDistribution(0.0, 1.0) for name in names}
        study = optuna.create_study(sampler=sampler(seed))
        tried: list[int] = []
        found: dict[float, float] = {}
        for number in range(1, max(marks) + 1):
            asked = study.ask(box)
            proposal = np.array([asked.params[name] for name in names]) + 1e-9
            apart = _hellinger(proposal[None] / proposal.sum(), weights)[0]
            apart[tried] = np.inf
            row = int(apart.argmin())
            tried.append(row)
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
            params = dict(zip(names, map(float, weights[row]), strict=True))
            study.add_trial(create_trial(params=params, distributions=box, value=float(objective[row])))
            if number in marks:
                best = tried[int(objective[tried].argmin())]
                nearest = _hellinger(weights[[best]], pool.weights["1B"])[0].argmin()
                found[number * COSTS[level]] = pool.regret(goal, best if level == "1B" else int(nearest))
        return found

    return contest


def regmix(pool: Pool, goal: str, seed: int, marks: list[int]) -> dict[float, float]:
    """RegMix's own way (arXiv 2407.01492): LightGBM on so many 1M runs, then the best prediction of the 64."""
    try:
        import lightgbm
    except ImportError as error:
        raise ValueError("RegMix's own way needs LightGBM: pip install lightgbm, or leave it out.") from error
    rng = np.random.default_rng([8, seed])
    order = rng.permutation(512)
    settings = {"objective": "regression", "learning_rate": 0.01, "verbosity": -1, "num_threads": 1, "seed": seed}
    found = {}
    for mark in marks:
        rows = order[:mark]
        data = lightgbm.Dataset(pool.weights["1M"][rows], pool.goal(goal, "1M")[rows])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few rows leave nothing to split, and it says so
            model = lightgbm.train(settings, data, num_boost_round=1000)
        found[float(mark)] = pool.regret(goal, int(np.argmin(model.predict(pool.weights["1B"]))))
    return found


def _belief(pool: Pool, goal: str, tried: dict[str, list[int]], points: dict[str, Points]) -> Belief:
    chosen = [(level, row) for level in COSTS for row in tried[level]]
    losses = np.array([pool.losses[level][row] for level, row in chosen])
    where = _gather(points, chosen)
    if goal == "mean":
        surrogate = Surrogate(where, losses.mean(axis=1), losses)
    else:
        surrogate = Surrogate(where, losses[:, pool.pile_cc])
    return Belief([surrogate], [], np.ones(1), where)


def _points(weights: Floats, level: str) -> Points:
    num = len(weights)
    return Points(weights, np.zeros((num, 0)), np.full((num, 1), np.log(PARAMETERS[level] / PARAMETERS["1B"])))


def _gather(points: dict[str, Points], chosen: list[tuple[str, int]]) -> Points:
    if not chosen:
        return points["1B"][slice(0, 0)]
    return Points(
        np.array([points[level].weights[row] for level, row in chosen]),
        np.zeros((len(chosen), 0)),
        np.array([points[level].fidelity[row] for level, row in chosen]),
    )


def _hellinger(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.sqrt(np.maximum(2 - 2 * np.sqrt(first) @ np.sqrt(second).T, 0.0)), dtype=np.float64)
