"""The figures of a search: mixes in parallel and in triangles, fronts, responses, scaling; see :mod:`drawing`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from agentflan_ray.analyse import frame
from agentflan_ray.analyse.drawing import COLOUR, STYLE, as_svg, bar_axes, log_axis, new_figure
from agentflan_ray.analyse.fidelity import Agreement
from agentflan_ray.analyse.frame import Goal
from agentflan_ray.analyse.pareto import Front
from agentflan_ray.analyse.response import Trace
from agentflan_ray.analyse.scaling import Law
from agentflan_ray.analyse.surrogate import Array

FIFTHS = 5
MAX_DOTS = 300
SIZE_HUES: tuple[str, ...] = ("blue", "orange", "green", "pink", "sky", "red")
SIZE_MARKERS = "os^DvP"
SIZE_SIGNS = "●■▲◆▼✚"


def fifths(values: Array, goal: Goal) -> Array:
    """The fifth of each value by rank, 0 for the worst to 4 for the best; equal values share one."""
    ranks = pd.Series(goal.sign * values).rank(method="average", pct=True).to_numpy(float)
    result: Array = np.minimum((ranks * FIFTHS - 1e-9).astype(int), FIFTHS - 1)
    return result


def fifth_entries(values: Array, goal: Goal) -> list[tuple[str, str, str]]:
    """Legend of the fifths that occur, with the range of values in each."""
    group = fifths(values, goal)
    entries = []
    for fifth in range(FIFTHS):
        inside = values[group == fifth]
        if len(inside):
            words = {0: "worst fifth ", FIFTHS - 1: "best fifth "}.get(fifth, "")
            entries.append(("■", f"fifth-{fifth + 1}", f"{words}{_range(inside)}"))
    return entries


def parallel(mixes: pd.DataFrame, values: Array, goal: Goal, best: int | None) -> str:
    """Shares by component, one line a trial, coloured by the fifth of its value; the row ``best`` is drawn in ink."""
    table = mixes.to_numpy(float)
    group = fifths(values, goal)
    places = np.arange(table.shape[1])
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(540, 300)
        for fifth in range(FIFTHS):
            lines = [np.column_stack([places, row]) for row in table[group == fifth]]
            thin = len(table) > 60
            axes.add_collection(
                LineCollection(
                    lines,
                    colors=COLOUR[f"fifth-{fifth + 1}"],
                    linewidths=0.8 if thin else 1.5,
                    alpha=0.7,
                    zorder=2 + fifth,
                )
            )
        if best is not None:
            axes.plot(places, table[best], color=COLOUR["ink"], linewidth=2.4, marker="o", markersize=5, zorder=9)
        axes.set_xlim(-0.15, len(places) - 0.85)
        axes.set_ylim(0, 1.05 * float(table.max()))
        axes.set_xticks(places, list(mixes.columns))
        axes.tick_params(axis="x", labelcolor=COLOUR["ink"])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.yaxis.set_major_locator(MaxNLocator(6))
        return as_svg(figure, "parallel")


def ternary(parts: pd.DataFrame, values: Array, goal: Goal, best: int | None, name: str) -> str:
    """Three shares, scaled to sum 1, in a triangle: each corner is all of one, the side opposite none of it."""
    table = parts.to_numpy(float)
    known = table.sum(axis=1) > 0
    table = table / np.where(known, table.sum(axis=1), 1.0)[:, None]
    group = fifths(values, goal)
    x, y = _flat(table)
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(360, 345)
        for share in (0.2, 0.4, 0.6, 0.8):
            for turn in range(3):
                ends = np.roll([[share, 1 - share, 0], [share, 0, 1 - share]], turn, axis=1)
                axes.plot(*_flat(ends), color=COLOUR["line"], linewidth=0.8, zorder=1)
        corners = np.vstack([np.eye(3), np.eye(3)[:1]])
        axes.plot(*_flat(corners), color=COLOUR["muted"], linewidth=1, zorder=1)
        for fifth in range(FIFTHS):
            chosen = (group == fifth) & known
            axes.scatter(
                x[chosen],
                y[chosen],
                s=46 if len(table) <= 80 else 14,
                color=COLOUR[f"fifth-{fifth + 1}"],
                edgecolor=COLOUR["paper"],
                linewidth=0.5,
                zorder=2 + fifth,
            )
        if best is not None and known[best]:
            axes.scatter(x[best], y[best], s=170, facecolor="none", edgecolor=COLOUR["ink"], linewidth=1.6, zorder=9)
        for place, (label, height) in enumerate(zip(parts.columns, ("bottom", "top", "top"), strict=True)):
            left, up = (float(each[0]) for each in _flat(np.eye(3)[place : place + 1]))
            axes.annotate(
                str(label),
                (left, up),
                xytext=(0, 6 if height == "bottom" else -6),
                textcoords="offset points",
                ha=("center", "left", "right")[place],
                va=height,
                color=COLOUR["ink"],
            )
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.11, 0.96)
        axes.set_aspect("equal")
        axes.set_axis_off()
        return as_svg(figure, name)


def front(of: Front, shown: Sequence[int], name: str) -> str:
    """Two objectives: the front in ink, trials that break a constraint as crosses. ``shown`` are rows of the table."""
    first, second = of.goals
    values = np.array(of.values)[list(shown)]
    broken = np.array([of.feasible[row] is False for row in shown])
    on_front = np.array([of.trials[row] in set(of.front) for row in shown])
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(540, 340)
        for chosen, marker, hue, size, order in (
            (broken, "x", "red", 34, 3),
            (~broken & ~on_front, "o", "blue", 26, 2),
            (on_front, "o", "ink", 56, 5),
        ):
            axes.scatter(values[chosen, 0], values[chosen, 1], s=size, marker=marker, color=COLOUR[hue], zorder=order)
        line = values[on_front]
        line = line[np.argsort(line[:, 0])]
        # A point between two of the front is as good as both of its neighbours nowhere: the edge goes by steps.
        axes.step(
            line[:, 0],
            line[:, 1],
            where="pre" if first.direction == "max" else "post",
            color=COLOUR["ink"],
            linewidth=1.3,
            zorder=4,
        )
        named = {of.values[row]: of.trials[row] for row in shown}
        for left, up in _apart(line, values):
            axes.annotate(
                named[(left, up)], (left, up), xytext=(6, 6), textcoords="offset points", fontsize=10, zorder=6
            )
        for label, goal in ((axes.set_xlabel, first), (axes.set_ylabel, second)):
            label(
                frame.metric(goal.metric).label.lower()
                + (" (more is better)" if goal.direction == "max" else " (less is better)")
            )
        axes.margins(0.08)
        _numbers(axes)
        return as_svg(figure, name)


def reach(traces: Sequence[Trace]) -> tuple[float, float]:
    """The values that panels beside each other share as their axis, or a flat line would look as steep as any.

    Bands may be far wider than the scores where trials are few: they widen the axis by no more than half.
    """
    values = np.concatenate([[*trace.mean, *trace.trials] for trace in traces])
    bands = np.concatenate([[*trace.low, *trace.high] for trace in traces])
    low, high = float(values.min()), float(values.max())
    more = 0.5 * max(high - low, 1e-9)
    return min(low, max(float(bands.min()), low - more)), max(high, min(float(bands.max()), high + more))


def trace(of: Trace, ends: tuple[float, float], name: str, label: str) -> str:
    """A response with its band, and the trials around it; ``ends`` are those of the axis."""
    stride = max(1, math.ceil(len(of.trials) / MAX_DOTS))
    at, values = np.array(of.trials_at)[::stride], np.array(of.trials)[::stride]
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(360, 240)
        axes.scatter(at, values, s=26 if len(at) <= 80 else 9, color=COLOUR["muted"], alpha=0.45, linewidth=0, zorder=2)
        axes.fill_between(of.at, of.low, of.high, color=COLOUR["blue"], alpha=0.2, linewidth=0, zorder=1)
        axes.plot(of.at, of.mean, color=COLOUR["blue"], linewidth=2, zorder=3)
        edge = 0.03 * (ends[1] - ends[0])
        axes.set_ylim(ends[0] - edge, ends[1] + edge)
        if of.log:
            log_axis(axes, of.at[0], of.at[-1])
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(
                (lambda value, _: f"{value:.0%}") if of.kind == "share" else (lambda value, _: f"{value:g}")
            )
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.set_title(of.name)
        axes.set_ylabel(label)
        return as_svg(figure, name)


def law(of: Law, name: str) -> str:
    """The points of a scaling law with its line, which goes on dotted to the next size."""
    sizes = sorted({point.size or 0.0 for point in of.points})
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(540, 320)
        for index, (size, line) in enumerate(zip(sizes, of.curve.values(), strict=True)):
            hue = COLOUR[SIZE_HUES[index % 6]]
            points = [(point.fraction, point.value) for point in of.points if (point.size or 0.0) == size]
            x, y = zip(*points, strict=True)
            axes.scatter(x, y, s=48, marker=SIZE_MARKERS[index % 6], color=hue, zorder=3)
            largest = max(fraction for fraction, _ in points)
            for dashes, inside in (("-", True), (":", False)):
                part = [pair for pair in line if (pair[0] <= largest * 1.0001) == inside]
                if part:
                    axes.plot(*zip(*part, strict=True), linestyle=dashes, color=hue, linewidth=1.8, zorder=2)
        label, estimate = next(iter(of.next_sizes.items()))
        del label
        end = of.curve[list(of.curve)[-1]][-1][0]
        hue = COLOUR[SIZE_HUES[(len(sizes) - 1) % 6]]
        if estimate.low is not None and estimate.high is not None:
            axes.vlines(end, estimate.low, estimate.high, color=hue, linewidth=2.5, alpha=0.6)
        axes.scatter([end], [estimate.value], s=60, marker="o", facecolor=COLOUR["paper"], edgecolor=hue, zorder=4)
        line = next(iter(of.curve.values()))
        log_axis(axes, line[0][0], line[-1][0])
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.margins(0.08)
        axes.set_xlabel("data fraction")
        axes.set_ylabel(of.outcome)
        return as_svg(figure, name)


def agreement(of: Agreement, name: str) -> str:
    """The same mixes at two fidelities."""
    values = np.array(of.values)
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(360, 260)
        axes.scatter(values[:, 0], values[:, 1], s=40 if len(values) <= 80 else 12, color=COLOUR["blue"], zorder=3)
        ends = [float(values.min()), float(values.max())]
        axes.plot(ends, ends, color=COLOUR["muted"], linewidth=1, linestyle=":", zorder=2)
        axes.set_xlabel(of.cheap)
        axes.set_ylabel(of.dear)
        axes.margins(0.08)
        _numbers(axes)
        return as_svg(figure, name)


def _range(values: Array) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


def _apart(points: Array, values: Array) -> list[tuple[float, float]]:
    """Points of a front whose names do not cover each other: from its far end, each a good step from the last."""
    span = np.maximum(np.ptp(values, axis=0), 1e-12)
    kept: list[tuple[float, float]] = []
    for point in points[::-1]:
        if not kept or np.abs((point - kept[-1]) / span).max() > 0.12:
            kept.append((float(point[0]), float(point[1])))
    return kept


def _flat(shares: Array) -> tuple[Array, Array]:
    """Shares (n, 3) as points of a triangle: the first on top, the second at the left, the third at the right."""
    return shares[:, 2] + 0.5 * shares[:, 0], shares[:, 0] * math.sqrt(3) / 2


def _numbers(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(6))


def differences(proof: dict[str, Any]) -> str:
    """What the winner of a proof gains over each other mix and the base model, with 95 % intervals; a line at 0."""
    against = [*proof["comparisons"], *([proof["against_base"]] if proof.get("against_base") else [])]
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(540, 70 + 32 * len(against))
        axes.axvline(0, color=COLOUR["muted"], linewidth=1.2)
        for row, each in enumerate(against):
            hue = "blue" if each["low"] > 0 else "red" if each["high"] < 0 else "muted"
            axes.errorbar(
                each["value"],
                row,
                xerr=[[each["value"] - each["low"]], [each["high"] - each["value"]]],
                fmt="o",
                color=COLOUR[hue],
                markersize=7,
                elinewidth=2,
                capsize=4,
            )
        axes.set_yticks(range(len(against)), [f"over {each['theirs']}" for each in against])
        axes.set_ylim(len(against) - 0.5, -0.5)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.2g}" if value else "0")
        axes.set_xlabel(f"gain in {frame.metric(proof['metric']).label.lower()}, with 95 % interval")
        bar_axes(axes)
        return as_svg(figure, "differences")
