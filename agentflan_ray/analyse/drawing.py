"""How figures are drawn as inline SVG.

Matplotlib draws with stand-in colours that are replaced by CSS variables, and text stays text: one drawing follows the
reader's light or dark theme and font. One SVG unit is one CSS pixel at full size. Nothing touches pyplot's state, and
no figure holds a legend: the page writes it beside the figure, where it covers no data.
"""

from __future__ import annotations

import io
import math
import re
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

VARIABLES: dict[str, str] = {
    "#010101": "--ink",
    "#020202": "--muted",
    "#030303": "--line",
    "#040404": "--paper",
    "#050505": "--blue",
    "#060606": "--orange",
    "#070707": "--green",
    "#080808": "--pink",
    "#090909": "--sky",
    "#0a0a0a": "--red",
    "#0b0b0b": "--fifth-1",
    "#0c0c0c": "--fifth-2",
    "#0d0d0d": "--fifth-3",
    "#0e0e0e": "--fifth-4",
    "#0f0f0f": "--fifth-5",
}
"""Stand-in colour to CSS variable. The six hues are Okabe and Ito's colour-blind safe set, adapted to each theme; the
fifths are a ramp of one hue from what is worst to what is best."""

COLOUR: dict[str, str] = {variable.removeprefix("--"): stand_in for stand_in, variable in VARIABLES.items()}

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a "$" in a user's name is a dollar
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.edgecolor": COLOUR["line"],
    "axes.labelcolor": COLOUR["muted"],
    "axes.labelsize": 12,
    "axes.titlesize": 13,
    "axes.titlecolor": COLOUR["ink"],
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": COLOUR["line"],
    "grid.linewidth": 0.8,
    "text.color": COLOUR["ink"],
    "xtick.color": COLOUR["line"],
    "ytick.color": COLOUR["line"],
    "xtick.labelcolor": COLOUR["muted"],
    "ytick.labelcolor": COLOUR["muted"],
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.frameon": False,
}


def bar_axes(axes: Axes) -> None:
    """Axes of horizontal bars: names on the left, lines from above to below only."""
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0, labelsize=12, labelcolor=COLOUR["ink"])


def log_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis from low to high, labelled in plain numbers whatever it spans.

    Matplotlib's own labels are powers of ten as TeX, which is shown as it stands where text stays text.
    """
    axes.set_xscale("log")
    ticks = np.geomspace(low, high, 4)
    axes.set_xticks(ticks, [short(float(f"{tick:.2g}")) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def short(value: float) -> str:
    """A number with k, M or G."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def new_figure(width: int, height: int) -> tuple[Figure, Axes]:
    """An empty figure of so many pixels."""
    # The SVG backend always draws at 72 dots an inch, so inches are pixels / 72.
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    axes = figure.subplots()
    axes.patch.set_visible(False)
    return figure, axes


def as_svg(figure: Figure, name: str) -> str:
    """The figure as an ``<svg>`` element with ids of its own, theme colours, and no date; ``name`` begins its ids."""
    assert re.fullmatch(r"[a-z]+(-\d+)*", name), name
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    width, height = (math.ceil(float(size)) for size in re.findall(r"[\d.]+", text[text.index("viewBox=") :])[2:4])
    text = re.sub(r"<svg[^>]*>", f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px">', text, count=1)
    for stand_in, variable in VARIABLES.items():
        text = text.replace(stand_in, f"var({variable})")
    return text.replace("xlink:href", "href")
