"""The best mixture against the base model in one sentence."""

from __future__ import annotations

from typing import Any, NamedTuple

from agentflan_ray.analyse import frame
from agentflan_ray.analyse.cells import estimate_cell, spread_cell
from agentflan_ray.analyse.frame import Run
from agentflan_ray.evaluate.measures import MEASURES, ItemScores, difference
from agentflan_ray.evaluate.stats import Difference

HEADLINE_METRICS: tuple[str, ...] = ("score", "tool_score", "false_call_rate", "missed_call_rate", "hscore")
"""The first one that both models have carries the headline; the first four make the cards."""


class Headline(NamedTuple):
    """``verdict`` is ``better``, ``worse``, ``overlap`` (the intervals overlap) or ``open`` (nothing to compare)."""

    verdict: str
    sentence: str


def headline(run: Run) -> Headline:
    """The best mixture against the base model in one sentence, honest when the intervals overlap or the best is worse.

    Where both answered the same items, which are kept with their groups, the difference on these items decides: what
    makes an item hard falls out of it. Else the intervals are each model's own; two that do not overlap differ by more
    than this evaluation's noise, while two that overlap leave the question open rather than proving them equal.
    """
    missing = [name for name in ("base", "best") if name not in run.evaluations]
    if run.origin != "run folder":
        return Headline("open", _leader(run))
    if run.best is None or missing:
        absent = "best_mixture.json" if run.best is None else f"evaluation/{missing[0]}.json"
        return Headline("open", f"There is no comparison with the base model yet: {absent} has not been written.")
    base, best = (run.evaluations[name]["metrics"] for name in ("base", "best"))
    name = next((name for name in HEADLINE_METRICS if name in base and name in best), None)
    if name is None:
        return Headline("open", "There is no comparison: the two evaluations share none of the headline metrics.")
    ours, theirs = best[name], base[name]
    verdict, outcome = _outcome(run, name, theirs, ours)
    lost = [other for other in base if other in best and _verdict(other, base[other], best[other])[0] == "worse"]
    price = "".join(
        f" {frame.metric(other).label} got worse: {estimate_cell(best[other])} after {estimate_cell(base[other])}."
        for other in lost
        if other != name
    )
    return Headline(
        verdict,
        f"{frame.metric(name).label} of the best mixture (trial {run.best['trial']}): {estimate_cell(ours)} on "
        f"{ours['n']} items; of the base model: {estimate_cell(theirs)} on {theirs['n']}. {outcome}{price}",
    )


def _outcome(run: Run, name: str, base: dict[str, Any], best: dict[str, Any]) -> tuple[str, str]:
    """The verdict on the metric, and a sentence."""
    paired = _on_the_same_items(run, name)
    if paired is None:
        verdict, gain = _verdict(name, base, best)
        if verdict != "overlap":
            return verdict, f"That is {verdict}, and the 95 % intervals do not overlap."
        if gain >= 0:
            return verdict, "The 95 % intervals overlap, so this evaluation does not show a difference."
        return verdict, "It came out worse, and the 95 % intervals overlap, so no improvement is shown."
    apart = spread_cell((paired.value, paired.low, paired.high), "{:+.3f}").replace("-", "−")
    where = f"On the same items the difference is {apart} (95 % interval over groups of items, of this one training)"
    if paired.low <= 0 <= paired.high:
        return "overlap", f"{where}: not told from none."
    verdict = "better" if (paired.value > 0) == (frame.metric(name).better == "higher") else "worse"
    return verdict, f"{where}: that is {verdict}."


def _on_the_same_items(run: Run, name: str) -> Difference | None:
    """The best model's metric minus the base's; None where the evaluations keep no groups, or other items."""
    if name not in MEASURES:
        return None
    kept = {model: run.evaluations[model]["examples"] for model in ("base", "best")}
    if not all(examples and all("group" in each for each in examples) for examples in kept.values()):
        return None
    base, best = (
        [ItemScores(each["id"], each["case"], each["group"], each["scores"]) for each in kept[model]]
        for model in ("base", "best")
    )
    if {each.id for each in base} != {each.id for each in best}:
        return None
    return difference(MEASURES[name], best, base)


def _leader(run: Run) -> str:
    """The best trial, where there is no base model to compare it with."""
    if not run.goals:
        return "No trial reported an objective that is known, so none is the best."
    goal = run.goals[0]
    scored = run.scored(goal)
    if scored.empty:
        return f"None of the {len(run.trials)} trials is complete with a {goal.metric}, so none is the best."
    place = (goal.sign * scored[goal.column].astype(float)).idxmax()
    way = "highest" if goal.direction == "max" else "lowest"
    return (
        f"Trial {scored.at[place, 'trial']} has the {way} {goal.metric.replace('_', ' ')} of {len(scored)} complete "
        f"trials: {float(scored.at[place, goal.column]):.4g}. There is no comparison with a base model: only a run "
        "folder holds one."
    )


def _verdict(name: str, base: dict[str, Any], best: dict[str, Any]) -> tuple[str, float]:
    """``better``, ``worse`` or ``overlap``, and by how much the best gains; a metric of unknown direction overlaps."""
    better = frame.metric(name).better
    gain = (best["value"] - base["value"]) * (-1 if better == "lower" else 1)
    if better is None or (best["low"] <= base["high"] and base["low"] <= best["high"]):
        return "overlap", gain
    return "better" if gain > 0 else "worse", gain
