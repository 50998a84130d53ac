"""The figures of a run: models compared, shares, losses, importances, parameters, times; see :mod:`drawing`."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from agentflan_ray.analyse import cost, frame
from agentflan_ray.analyse.drawing import COLOUR, STYLE, as_svg, bar_axes, log_axis, new_figure, short
from agentflan_ray.analyse.frame import Goal

MODEL_HUES: tuple[str, ...] = ("orange", "blue", "green", "pink", "sky", "red")
"""Hues of the evaluated models in their order: base, best, then the others."""
MODEL_MARKERS = "osD^vP"
MODEL_SIGNS = "●■◆▲▼✚"
"""The same shapes as text, for legends."""

KIND_MARKERS: dict[str, str] = {
    "paper": "D",
    "proportional": "s",
    "uniform": "^",
    "search": "o",
    "confirm": "X",
    "ablation": "P",
}
KIND_SIGNS: dict[str, str] = {
    "paper": "◆",
    "proportional": "■",
    "uniform": "▲",
    "search": "●",
    "recommended": "★",
    "confirm": "✖",
    "proof": "✱",
    "ablation": "✚",
}
TIME_HUES: dict[str, str] = {"startup": "orange", "train": "blue", "evaluate": "green", "other": "line"}
TIME_UNITS: tuple[tuple[str, int], ...] = (("hours", 3600), ("minutes", 60), ("seconds", 1))

MAX_THIN_POINTS = 60
"""Points of one background curve: at 360 px more cannot be seen, and 500 trials stay a few megabytes."""
MAX_TIME_ROWS = 40
MAX_DRAWN = 300
"""Marks of one picture: more cover each other, and 2,000 trials would make a page of tens of megabytes."""
MANY = 80
"""From here marks are small, and without their intervals."""
MAX_CURVES = 150
"""Background curves of a panel."""


def is_share(estimate: dict[str, Any]) -> bool:
    """Whether an estimate with its interval lies within 0 to 1, so that it fits the axis of :func:`comparison`."""
    return all(0 <= estimate[key] <= 1 for key in ("value", "low", "high"))


def comparison(evaluations: dict[str, dict[str, dict[str, float]]]) -> str:
    """Metrics by row, each model's value with its 95 % interval. ``evaluations``: model -> metric -> value, low, high.

    Only metrics for which :func:`is_share` holds in every model belong here.
    """
    names = list(dict.fromkeys(name for metrics in evaluations.values() for name in metrics))
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(540, 60 + 20 * max(2, len(evaluations)) * len(names))
        offsets = np.linspace(-0.18, 0.18, len(evaluations)) if len(evaluations) > 1 else [0.0]
        for index, (offset, metrics) in enumerate(zip(offsets, evaluations.values(), strict=True)):
            rows = [names.index(name) for name in metrics]
            values = np.array([metrics[name]["value"] for name in metrics])
            low = np.array([metrics[name]["low"] for name in metrics])
            high = np.array([metrics[name]["high"] for name in metrics])
            axes.errorbar(
                values,
                np.array(rows) + offset,
                xerr=np.maximum([values - low, high - values], 0.0),
                fmt=MODEL_MARKERS[index % len(MODEL_MARKERS)],
                color=COLOUR[MODEL_HUES[index % len(MODEL_HUES)]],
                markersize=7,
                elinewidth=2,
                capsize=4,
                clip_on=False,
            )
        arrows = {"higher": " ↑", "lower": " ↓", None: ""}
        axes.set_yticks(range(len(names)), [frame.metric(n).label + arrows[frame.metric(n).better] for n in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.tick_params(axis="y", length=0, labelsize=12, labelcolor=COLOUR["ink"])
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        for row in range(1, len(names)):
            axes.axhline(row - 0.5, color=COLOUR["line"], linewidth=0.6)
        axes.set_xlabel("share, with 95 % interval")
        return as_svg(figure, "comparison")


def shares(asked: dict[str, float], realised: dict[str, float]) -> str:
    """Asked and realised share of supervised tokens by component, as pairs of bars with their numbers."""
    names = list(dict.fromkeys([*asked, *realised]))
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(540, 50 + 46 * len(names))
        for offset, hue, values in ((-0.19, "orange", asked), (0.19, "blue", realised)):
            heights = [values.get(name, 0.0) for name in names]
            positions = [row + offset for row in range(len(names))]
            axes.barh(positions, heights, height=0.34, color=COLOUR[hue])
            for position, value in zip(positions, heights, strict=True):
                axes.annotate(
                    f"{value:.1%}",
                    (value, position),
                    xytext=(5, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=11,
                    color=COLOUR["ink"],
                )
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1.15 * max([*asked.values(), *realised.values(), 0.01]))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        bar_axes(axes)
        return as_svg(figure, "shares")


def losses(curves: pd.DataFrame, best: str | None) -> dict[str, str]:
    """One panel per component (and ``all``): training and validation loss against tokens seen; then of explicit formats
    their own tokens and their content, and each source where there are several.

    The trial ``best`` is drawn thick, the others thin, and of very many only every n-th. Training losses are running
    means over a fifteenth of the steps, because a step's loss swings with its few sequences; validation losses are as
    measured.
    """
    panels: dict[str, str] = {}
    groups = list(curves.groupby("trial", sort=False))
    stride = max(1, math.ceil(len(groups) / MAX_CURVES))
    groups = [(trial, rows) for place, (trial, rows) in enumerate(groups) if place % stride == 0 or trial == best]
    with mpl.rc_context(STYLE):
        for measured, name in _panels(curves):
            figure, axes = new_figure(360, 240)
            tops = []
            for trial, rows in groups:
                for column, hue in ((measured, "blue"), (f"validation_{measured}", "orange")):
                    drawn = _draw_loss(axes, rows, column, hue, is_best=trial == best)
                    tops.extend(drawn)
            if not tops:
                continue
            # The first steps may start far above everything of interest; 1.15 x the 98th percentile keeps the rest
            # readable, and what leaves the panel leaves it upwards.
            axes.set_ylim(0, 1.15 * float(np.quantile(tops, 0.98)))
            axes.set_xlim(left=0)
            axes.set_title("all components" if name == "all" else name)
            axes.set_xlabel("tokens seen")
            axes.xaxis.set_major_formatter(lambda value, _: short(value))
            axes.xaxis.set_major_locator(MaxNLocator(5))
            panels[name] = as_svg(figure, f"loss-{len(panels)}")
    return panels


def _panels(curves: pd.DataFrame) -> list[tuple[str, str]]:
    """Columns of training losses that are drawn, each with the title of its panel."""
    columns = sorted({str(column).removeprefix("validation_") for column in curves.columns})
    sources = [column for column in columns if column.startswith("source_loss/")]
    return [
        *((column, "all") for column in columns if column == "loss"),
        *((column, column.removeprefix("loss/")) for column in columns if column.startswith("loss/")),
        *(
            (f"explicit_loss/{piece}", title)
            for piece, title in (("format", "a format's own tokens"), ("content", "content within formats"))
            if f"explicit_loss/{piece}" in columns
        ),
        *((column, f"from {column.partition('/')[2]}") for column in sources if len(sources) > 1),
    ]


def importances(values: dict[str, float], identity: str = "importances") -> str:
    """Parameter importances as bars, the largest on top."""
    names = sorted(values, key=lambda name: -values[name])
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(540, 50 + 26 * len(names))
        axes.barh(range(len(names)), [values[name] for name in names], height=0.6, color=COLOUR["blue"])
        for row, name in enumerate(names):
            axes.annotate(
                f"{values[name]:.0%}",
                (values[name], row),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=11,
            )
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1.12 * max(values.values()) or 1.0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        bar_axes(axes)
        return as_svg(figure, identity)


def parameter_scores(trials: pd.DataFrame, goal: Goal, best: str | None) -> dict[str, str]:
    """One panel per parameter that varies: the objective against its value, one mark per scored trial, the best ringed.

    A parameter that is positive and spans a factor of 30 or more gets a logarithmic axis; text and flags get one
    place per value. Of very many trials those of :func:`drawn` are shown.
    """
    scored = drawn(trials.dropna(subset=[goal.column]), goal) if goal.column in trials else trials.iloc[:0]
    label = frame.metric(goal.metric).label.lower()
    panels: dict[str, str] = {}
    with mpl.rc_context(STYLE):
        for column in parameter_columns(scored):
            rows = scored.dropna(subset=[column])
            figure, axes = new_figure(360, 240)
            positions, labels = _positions(rows[column])
            rows = rows.copy().assign(position=positions)
            _draw_intervals(axes, rows, goal)
            for (kind, state), group in rows.groupby(["kind", "state"], sort=False):
                hue = "orange" if kind in frame.NAMED_MIXES else "blue"
                axes.scatter(
                    group["position"],
                    group[goal.column].astype(float),
                    s=48 if len(rows) <= MANY else 14,
                    marker=KIND_MARKERS.get(kind, "o"),
                    facecolor=COLOUR[hue] if state == "complete" else COLOUR["paper"],
                    edgecolor=COLOUR[hue],
                    zorder=3,
                )
            ringed = rows[rows["trial"] == best]
            axes.scatter(
                ringed["position"],
                ringed[goal.column].astype(float),
                s=190,
                facecolor="none",
                edgecolor=COLOUR["ink"],
                zorder=4,
            )
            if labels is not None:
                axes.set_xticks(range(len(labels)), labels)
                axes.set_xlim(-0.6, len(labels) - 0.4)
            elif min(positions) > 0 and max(positions) / min(positions) >= 30:
                log_axis(axes, min(positions), max(positions))
            else:
                axes.xaxis.set_major_locator(MaxNLocator(5))
                axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_major_locator(MaxNLocator(6))
            axes.margins(0.08)
            axes.set_title(column.removeprefix("parameters."))
            axes.set_ylabel(label)
            panels[column.removeprefix("parameters.")] = as_svg(figure, f"parameter-{len(panels)}")
    return panels


def drawn(rows: pd.DataFrame, goal: Goal) -> pd.DataFrame:
    """The trials that a picture shows, in the order of the table.

    All of them, or of more than :data:`MAX_DRAWN` the best, which make a third, and every n-th of the rest.
    """
    if len(rows) <= MAX_DRAWN:
        return rows
    ranked = (-goal.sign * rows[goal.column].astype(float)).sort_values(kind="stable").index
    top = MAX_DRAWN // 3
    places = np.linspace(top, len(ranked) - 1, MAX_DRAWN - top).astype(int)
    return rows.loc[rows.index.isin(ranked[:top].append(ranked[places]))]


def _draw_intervals(axes: Axes, rows: pd.DataFrame, goal: Goal) -> None:
    columns = [f"intervals.{goal.metric}.{end}" for end in ("low", "high")]
    if set(columns) <= set(rows.columns) and len(rows) <= MANY:
        known = rows.dropna(subset=columns)
        axes.vlines(
            known["position"], known[columns[0]], known[columns[1]], color=COLOUR["line"], linewidth=2, zorder=1
        )


def parameter_columns(trials: pd.DataFrame) -> list[str]:
    """The parameters, and the data fraction, that take more than one value among the trials."""
    columns = [column for column in trials.columns if str(column).startswith("parameters.") or column == "fraction"]
    return [column for column in columns if trials[column].dropna().map(str).nunique() > 1]


def times(trials: pd.DataFrame) -> str:
    """Seconds of each trial by phase, stacked, the longest on top; at most :data:`MAX_TIME_ROWS` trials."""
    rows = cost.time_table(trials).head(MAX_TIME_ROWS)
    longest = rows["total"].max()
    unit, scale = next((unit, size) for unit, size in TIME_UNITS if longest > 2 * size or size == 1)
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(540, 60 + 24 * len(rows))
        left = np.zeros(len(rows))
        for phase, hue in TIME_HUES.items():
            width = rows[phase].to_numpy() / scale
            axes.barh(range(len(rows)), width, left=left, height=0.66, color=COLOUR[hue])
            left += width
        axes.set_yticks(range(len(rows)), list(rows.index))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(unit)
        bar_axes(axes)
        return as_svg(figure, "times")


def _draw_loss(axes: Axes, rows: pd.DataFrame, column: str, hue: str, is_best: bool) -> list[float]:
    if column not in rows:
        return []
    rows = rows.dropna(subset=[column])
    values = rows[column]
    if not column.startswith("validation_"):
        values = values.rolling(max(1, len(rows) // 15), min_periods=1).mean()
    x, y = rows["tokens"].to_numpy(), values.to_numpy()
    if not is_best:
        stride = max(1, math.ceil(len(x) / MAX_THIN_POINTS))
        axes.plot(x[::stride], y[::stride], color=COLOUR[hue], linewidth=0.9, alpha=0.3)
    elif not column.startswith("validation_"):
        axes.plot(x, y, color=COLOUR[hue], linewidth=2, zorder=3)
    else:
        axes.plot(x, y, color=COLOUR[hue], linewidth=2, marker="o", markersize=4.5, zorder=4)
    return [float(value) for value in y]


def _positions(values: pd.Series) -> tuple[list[float], list[str] | None]:
    if all(isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_) for value in values):
        return [float(value) for value in values], None
    labels = sorted({str(value) for value in values})
    return [float(labels.index(str(value))) for value in values], labels
