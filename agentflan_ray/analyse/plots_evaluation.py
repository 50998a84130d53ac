"""The figures of an evaluation: models over benchmarks, and a benchmark's cases; see :mod:`drawing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

from agentflan_ray.analyse.drawing import COLOUR, STYLE, as_svg, bar_axes, new_figure
from agentflan_ray.analyse.plots import MODEL_HUES, MODEL_MARKERS

MAX_MODELS = len(MODEL_HUES)
"""Models that a figure tells apart."""


def radar(models: Mapping[str, Mapping[str, float]]) -> str:
    """Shares of several axes, 0 in the middle and 1 at the rim, one line for each model. ``models``: model -> axis ->
    share; all models have the same three or more axes."""
    axes_names = list(next(iter(models.values())))
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(axes_names)) / len(axes_names)
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(460, 400)
        axes.set_axis_off()
        axes.set_aspect("equal")
        rim = np.linspace(0, 2 * np.pi, 181)
        for share in (0.25, 0.5, 0.75, 1.0):
            axes.plot(share * np.cos(rim), share * np.sin(rim), color=COLOUR["line"], linewidth=0.8)
            between = angles[0] - np.pi / len(axes_names)
            place = (share * np.cos(between), share * np.sin(between))
            axes.annotate(f"{100 * share:g}", place, fontsize=9, color=COLOUR["muted"], ha="center", va="center")
        for angle, name in zip(angles, axes_names, strict=True):
            x, y = np.cos(angle), np.sin(angle)
            axes.plot([0, x], [0, y], color=COLOUR["line"], linewidth=0.8)
            side = "center" if abs(x) < 0.1 else "left" if x > 0 else "right"
            axes.annotate(name, (1.08 * x, 1.08 * y), ha=side, va="center", fontsize=11, color=COLOUR["ink"])
        for index, values in enumerate(models.values()):
            shares = np.array([values[name] for name in axes_names])
            x, y = (np.append(part, part[0]) for part in (shares * np.cos(angles), shares * np.sin(angles)))
            hue, marker = COLOUR[MODEL_HUES[index % MAX_MODELS]], MODEL_MARKERS[index % MAX_MODELS]
            axes.plot(x, y, color=hue, marker=marker, markersize=6, linewidth=2)
        axes.set_xlim(-1.7, 1.7)
        axes.set_ylim(-1.2, 1.25)
        return as_svg(figure, "radar")


def cases(names: Sequence[str], models: Mapping[str, Mapping[str, Mapping[str, Any]]], number: int) -> str:
    """A benchmark's cases by row, each model's share with its 95 % interval. ``models``: model -> case -> value, low,
    high, where a case may lack; ``number`` tells figures of one page apart."""
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(540, 60 + (14 + 14 * len(models)) * len(names))
        offsets = np.linspace(-0.25, 0.25, len(models)) if len(models) > 1 else [0.0]
        for index, (offset, rows) in enumerate(zip(offsets, models.values(), strict=True)):
            there = [name for name in names if name in rows]
            values, low, high = (np.array([rows[name][key] for name in there]) for key in ("value", "low", "high"))
            axes.errorbar(
                values,
                np.array([names.index(name) for name in there]) + offset,
                xerr=np.maximum([values - low, high - values], 0.0),
                fmt=MODEL_MARKERS[index % MAX_MODELS],
                color=COLOUR[MODEL_HUES[index % MAX_MODELS]],
                markersize=6,
                elinewidth=2,
                capsize=3,
                clip_on=False,
            )
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        bar_axes(axes)
        axes.set_xlabel("share, with 95 % interval")
        return as_svg(figure, f"cases-{number}")
