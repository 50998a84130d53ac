"""Whether cheap trials rank mixes as dear ones do: the same mixes at two fidelities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from agentflan_ray.analyse import frame
from agentflan_ray.analyse.frame import Goal, Run

MIN_MIXES = 4
"""Three mixes have six orders: one of them agrees perfectly by chance alone in one of six."""
MIN_MIXES_FOR_AN_INTERVAL = 10
"""The interval below is for large samples."""
MAX_LEVELS = 12


@dataclass(frozen=True)
class Agreement:
    """Two fidelities, compared on the mixes that were tried at both.

    ``correlation`` is Spearman's, with an interval of 95 % where there are enough mixes for one (Bonett and Wright,
    *Sample size requirements for estimating Pearson, Kendall and Spearman correlations*, 2000). ``lost`` is what one
    gives up at the dear fidelity by taking the mix that was best at the cheap one, in units of the objective, 0 or
    more.
    """

    goal: Goal
    cheap: str
    dear: str
    num_mixes: int
    correlation: float
    low: float | None
    high: float | None
    lost: float
    values: list[tuple[float, float]]


def agreements(run: Run, goal: Goal) -> list[Agreement] | str:
    """Each fidelity against the dearest that has enough mixes in common with it, or why there is none."""
    rows = run.scored(goal)
    levels = level_columns(rows)
    if not levels:
        return "All complete trials have the same data fraction and model size."
    labels = rows[levels].apply(lambda row: level_name(row.to_dict()), axis=1)
    order = rows[levels].assign(label=labels).drop_duplicates().sort_values(levels)["label"].tolist()[-MAX_LEVELS:]
    table = pd.DataFrame({"mix": mix_keys(rows), "label": labels, "value": rows[goal.column].astype(float)})
    means = table.pivot_table(index="mix", columns="label", values="value", aggfunc="mean")
    found = []
    most = 0
    for place, cheap in enumerate(order):
        for dear in reversed(order[place + 1 :]):
            both = means[[cheap, dear]].dropna().to_numpy(float)
            most = max(most, len(both))
            if len(both) >= MIN_MIXES and (np.ptp(both, axis=0) > 0).all():
                found.append(_agreement(goal, cheap, dear, both))
                break
    if found:
        return found
    return (
        f"No two of the fidelities {', '.join(order)} have {MIN_MIXES} mixes in common (at most {most}), so nothing "
        "can be said of whether cheap trials rank mixes as dear ones do."
    )


def level_columns(rows: pd.DataFrame) -> list[str]:
    """The fidelities that the trials vary: data fraction, model size."""
    return [name for name in (frame.MODEL_SIZE, frame.FRACTION) if name in rows and rows[name].dropna().nunique() > 1]


def level_name(values: dict[str, float]) -> str:
    """A fidelity in words."""
    words = []
    if frame.MODEL_SIZE in values:
        words.append(f"{short_size(values[frame.MODEL_SIZE])} parameters")
    if frame.FRACTION in values:
        share = values[frame.FRACTION]
        words.append("all of the data" if share == 1 else f"{share:.3g} of the data")
    return ", ".join(words)


def mix_keys(rows: pd.DataFrame) -> pd.Series:
    """What makes two trials the same but for their fidelity: the shares asked for and all other parameters."""
    fidelities = {f"parameters.{name}" for name in (frame.FRACTION, frame.MODEL_SIZE)}
    columns = [
        column
        for column in rows.columns
        if (str(column).startswith("parameters.") and column not in fidelities) or str(column).startswith("asked.")
    ]
    kept = rows[columns].map(lambda value: f"{value:.5g}" if isinstance(value, float) else str(value))
    return kept.agg("|".join, axis=1) if columns else pd.Series("", index=rows.index)


def _agreement(goal: Goal, cheap: str, dear: str, both: np.ndarray) -> Agreement:
    correlation = float(spearmanr(both[:, 0], both[:, 1]).statistic)
    low = high = None
    if len(both) >= MIN_MIXES_FOR_AN_INTERVAL:
        # A perfect agreement has no finite arc tangent; one swapped pair of neighbours less than that is taken for it.
        bound = 1 - 12 / (len(both) * (len(both) ** 2 - 1))
        centre = math.atanh(min(max(correlation, -bound), bound))
        reach = 1.96 * math.sqrt((1 + correlation**2 / 2) / (len(both) - 3))
        low, high = math.tanh(centre - reach), math.tanh(centre + reach)
    dear_values = goal.sign * both[:, 1]
    lost = float(dear_values.max() - dear_values[np.argmax(goal.sign * both[:, 0])])
    pairs = [(float(left), float(right)) for left, right in both]
    return Agreement(goal, cheap, dear, len(both), correlation, low, high, lost, pairs)


def short_size(value: float) -> str:
    """A number of parameters with k, M or B."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
