"""What promotion by data fraction is worth: regret at equal compute, and compute saved at equal quality.

    python benchmarks/search_promotion.py              # 24 made-up worlds
    python benchmarks/search_promotion.py --first 1000 # the worlds that the settings of Promotion were chosen on

The worlds are those of ``search_worlds.py``, as searches over the data fraction, with an agent score on top: what a
trial shows at a rung is the validation loss of each component, hardly noisy, and a score, noisy as a few dozen items
are. The score is a half of one case and a half of five others. Each is an S-curve of what some of the losses say, other
losses for each case, and of something that no loss shows. So neither the mean validation loss nor the noisy score is
what is wanted. Half of the noise of a trial's scores is the same at all its rungs, as the items are.

Mixtures are proposed at random or by ``MixtureSampler``. Compute is counted in whole trainings: 0.05 for starting a
trial, 0.9 for all of its data, 0.05 for each scoring (ASHA on the validation loss, with a reduction factor of 2, scores
at the end only). Regret is that of the complete trial with the best score, of the sampler's recommendation where there
is one; 1 is the median mixture's. Intervals are 95 % bootstrap intervals over worlds.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import dataclasses
import json
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import optuna
import search_worlds
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table

from agentflan_ray.search.promotion import Promotion, Scored, Shown, decide
from agentflan_ray.search.sampler import MixtureSampler

Floats = npt.NDArray[np.float64]

RUNGS = (0.25, 0.5, 1.0)
BUDGETS = (4, 8, 16, 24)
NUM_TRIALS = 24
"""For the compute that is saved at equal quality."""
ITEMS = (8, 20, 60)
"""Effective items of a case: independent groups rather than items."""
NUM_CASES = 6
START, TRAIN, SCORE = 0.05, 0.9, 0.05
CONTESTANTS = (
    "random",
    "random, ASHA on loss",
    "random, promotion",
    "sampler",
    "sampler, ASHA on loss",
    "sampler, promotion, ends only",
    "sampler, promotion",
)
"""Who proposes, and who stops. "Ends only" has a sampler that does not look at rungs, as Optuna's do not."""


class Result(NamedTuple):
    """Of one contestant in one world: regret by budget, and regret and cost after :data:`NUM_TRIALS`."""

    regrets: dict[float, float]
    regret: float
    cost: float


class ScoredWorld:
    """A made-up world with an agent score."""

    def __init__(self, seed: int) -> None:
        world = search_worlds.draw_world(seed)
        self.world = dataclasses.replace(world, sizes=False, levels=search_worlds.FRACTIONS)
        rng = np.random.default_rng([7, seed])
        self._some = self._draw(rng, 2048)
        losses = self.world.losses(self._some)
        self._centre, self._spread = losses.mean(axis=0), losses.std(axis=0) + 1e-9
        num = self.world.num_components
        self._reads = rng.dirichlet(np.full(num, 0.4), NUM_CASES)
        self._hidden = rng.standard_normal((NUM_CASES, num)) * rng.choice([0.0, 0.5, 1.0])
        self._middle = np.zeros(NUM_CASES)
        self._middle = -np.median(self._logits(self._some, losses), axis=0) + rng.uniform(-1, 0.5, NUM_CASES)
        self.items = int(rng.choice(ITEMS))
        self.shares = np.array([0.5] + [0.5 / (NUM_CASES - 1)] * (NUM_CASES - 1))
        found = self.truth(self._some)
        self.usual = float(np.median(found))
        best = self._some[np.argsort(-found)[:32]]
        for step in (0.3, 0.1, 0.03, 0.01):
            tried = np.repeat(best, 32, axis=0)
            tried = tried * np.exp(step * rng.standard_normal(tried.shape))
            tried = np.concatenate([best, tried / tried.sum(axis=1, keepdims=True)])
            best = tried[np.argsort(-self.truth(tried))[:32]]
        self.best = float(self.truth(best).max())

    def _draw(self, rng: np.random.Generator, num: int) -> Floats:
        logs = rng.uniform(-search_worlds.RATIO, search_worlds.RATIO, (num, self.world.num_components))
        logs[:, 0] = 0
        return np.asarray(2.0**logs / (2.0**logs).sum(axis=1, keepdims=True), dtype=np.float64)

    def _logits(self, weights: Floats, losses: Floats) -> Floats:
        scaled = (losses - self._centre) / self._spread
        roots = np.sqrt(np.atleast_2d(weights))
        hidden = np.sin(3 * (roots - roots.mean()) @ self._hidden.T)
        return np.asarray(-1.2 * np.clip(scaled, -4, 6) @ self._reads.T * 2 + hidden + self._middle, dtype=np.float64)

    def cases(self, weights: Floats, losses: Floats) -> Floats:
        """Share of right replies by case, (n, cases)."""
        return np.asarray(1 / (1 + np.exp(-self._logits(weights, losses))), dtype=np.float64)

    def truth(self, weights: Floats) -> Floats:
        """Score of mixtures at the end, (n,)."""
        return np.asarray(self.cases(weights, self.world.losses(weights)) @ self.shares, dtype=np.float64)

    def regret(self, weights: Floats) -> float:
        """0 for the best mixture, 1 for the median random one."""
        return (self.best - float(self.truth(weights[None])[0])) / (self.best - self.usual)


class Trial:
    """A trial that is trained from rung to rung."""

    def __init__(self, world: ScoredWorld, number: int, weights: Floats, seed: int) -> None:
        self.number, self.weights = number, weights
        self._world = world
        self._rng = np.random.default_rng([seed, number])
        self._luck = self._rng.standard_normal(NUM_CASES)
        self._noise = 0.7 * self._rng.standard_normal(world.world.num_components) + 0.7 * self._rng.standard_normal()

    def losses(self, rung: float) -> Floats:
        """Validation losses at a rung; a run's luck stays with it."""
        world = self._world.world
        return np.asarray(world.losses(self.weights, rung) + world.noise * rung**-0.25 * self._noise, dtype=np.float64)

    def score(self, rung: float) -> tuple[float, float]:
        """Score at a rung and its standard error, to be maximised."""
        right = self._world.cases(self.weights, self.losses(rung))[0]
        spread = np.sqrt(right * (1 - right) / self._world.items)
        noise = np.sqrt(0.5) * (self._luck + self._rng.standard_normal(NUM_CASES))
        seen = np.clip(right + spread * noise, 0, 1)
        # As from a Wilson interval, which is never 0.
        error = np.sqrt(seen * (1 - seen) / self._world.items + 0.96 / self._world.items**2)
        shares = self._world.shares
        return float(seen @ shares), float(np.sqrt(((shares * error) ** 2).sum()))


def race(contestant: str, seed: int, settings: Promotion | None = None) -> Result:
    """Trials one after the other until the largest budget is spent."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    world = ScoredWorld(seed)
    box = world.world.space(with_fidelity=False)
    proposes = contestant.startswith("sampler")
    sampler: Any = (
        MixtureSampler(box, list(box), world.world.weights, seed=seed)
        if proposes
        else optuna.samplers.RandomSampler(seed=seed)
    )
    study = optuna.create_study(sampler=sampler, direction="maximize")
    seen: dict[float, list[Any]] = {rung: [] for rung in RUNGS}
    spent, regrets, waiting, after = 0.0, {}, list(BUDGETS), (1.0, 0.0)

    def regret() -> float:
        complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        if len(complete) < 2:
            return 1.0
        chosen = sampler.recommend(study) if proposes else max(complete, key=lambda trial: trial.value).params
        return world.regret(np.array(list(world.world.weights(chosen).values())))

    for number in range(10 * max(BUDGETS)):
        asked = study.ask(box)
        trial = Trial(world, number, np.array(list(world.world.weights(asked.params).values())), seed)
        spent += START
        before, shown = 0.0, []
        scores: dict[float, Scored] = {}  # grows; what was seen of a trial before grows with it
        for rung in RUNGS:
            spent += TRAIN * (rung - before)
            before = rung
            losses = trial.losses(rung)
            score, error = trial.score(rung)
            if rung == 1 or "promotion" in contestant:
                spent += SCORE
            while waiting and spent > waiting[0] + 1e-9:  # what was known before this rung was paid
                regrets[waiting.pop(0)] = regret()
            scores[rung] = Scored((-score,), (error,))
            if rung == 1:
                asked.set_user_attr("deviations", [error])
                study.tell(asked, score)
            elif "ASHA" in contestant:
                seen[rung].append(float(losses.mean()))
                if float(losses.mean()) > np.quantile(seen[rung], 1 / 2):
                    study.tell(asked, state=TrialState.PRUNED)
                    break
            elif "promotion" in contestant:
                named = {str(i): float(loss) for i, loss in enumerate(losses)}
                seen[rung].append(Shown(number, named, scores))
                shown.append(
                    {
                        "rung": rung,
                        "values": [score],
                        "deviations": [error],
                        "constraints": {},
                        "constraint_deviations": {},
                    }
                )
                if "ends only" not in contestant:
                    asked.set_user_attr("rungs", shown)
                if not decide(settings or Promotion(), number, seen[rung]).goes_on:
                    study.tell(asked, state=TrialState.PRUNED)
                    break
        if number + 1 == NUM_TRIALS:
            after = (regret(), spent)
        if not waiting and number + 1 >= NUM_TRIALS:
            break
    return Result(regrets, *after)


def main() -> None:
    """Race all contestants and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=24)
    parser.add_argument("--first", type=int, default=0, help="the settings were chosen on worlds 1000 to 1039")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    began = time.perf_counter()
    seeds = range(chosen.first, chosen.first + chosen.worlds)
    with ProcessPoolExecutor(chosen.processes) as pool:
        found = {each: list(pool.map(partial(race, each), seeds)) for each in CONTESTANTS}
    console = Console(width=160)
    table = Table(title=f"Regret at equal compute, {chosen.worlds} worlds")
    for heading in ("", *(f"{budget} trainings" for budget in BUDGETS)):
        table.add_column(heading)
    for contestant, results in found.items():
        table.add_row(contestant, *(_with_interval([each.regrets[budget] for each in results]) for budget in BUDGETS))
    console.print(table)
    pairs = [
        ("random, promotion", "random"),
        ("random, promotion", "random, ASHA on loss"),
        ("sampler, promotion", "sampler"),
        ("sampler, promotion", "sampler, ASHA on loss"),
        ("sampler, promotion", "sampler, promotion, ends only"),
    ]
    table = Table(title="Differences of regret, paired by world")
    for heading in ("", *(f"{budget} trainings" for budget in BUDGETS)):
        table.add_column(heading)
    for ours, theirs in pairs:
        differences = [_gaps(found[ours], found[theirs], lambda each, b=budget: each.regrets[b]) for budget in BUDGETS]
        table.add_row(f"{ours} minus {theirs}", *(_with_interval(each) for each in differences))
    console.print(table)
    table = Table(title=f"The same {NUM_TRIALS} trials")
    for heading in ("", "compute", "regret", "regret minus that of all to the end"):
        table.add_column(heading)
    for contestant in CONTESTANTS:
        results, whole = found[contestant], found[contestant.split(",")[0]]
        table.add_row(
            contestant,
            _with_interval([each.cost for each in results]),
            _with_interval([each.regret for each in results]),
            _with_interval(_gaps(results, whole, lambda each: each.regret)),
        )
    console.print(table)
    console.print(f"{time.perf_counter() - began:.0f} s")

    def mean(contestant: str, of: Callable[[Result], float]) -> float:
        return float(np.mean([of(each) for each in found[contestant]]))

    last = BUDGETS[-1]
    summary = {
        f"promotion_compute_saved_{who}": 1 - mean(f"{who}, promotion", lambda r: r.cost) / mean(who, lambda r: r.cost)
        for who in ("random", "sampler")
    }
    summary |= {
        f"regret_{contestant.replace(', ', '_').replace(' ', '_')}": mean(contestant, lambda r: r.regrets[last])
        for contestant in CONTESTANTS
    }
    print(json.dumps({name: round(value, 4) for name, value in summary.items()}))  # noqa: T201


def _gaps(ours: Sequence[Result], theirs: Sequence[Result], of: Callable[[Result], float]) -> list[float]:
    return [of(mine) - of(other) for mine, other in zip(ours, theirs, strict=True)]


def _with_interval(values: Sequence[float]) -> str:
    rng = np.random.default_rng(0)
    numbers = np.array(values)
    means = numbers[rng.integers(0, len(numbers), (4000, len(numbers)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{numbers.mean():.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
