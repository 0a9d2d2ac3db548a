"""Figures in one style, as SVG text: colours that colour-blind readers can tell apart, bands for intervals."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlkl_htc_common.report.statistics import over_seeds

# Okabe and Ito's palette without its yellow, which is hard to see on white, a grey and a brown.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F", "#8C510A")

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small files, searchable
    "svg.hashsalt": "figures",  # the same figure gives the same file
}


def new_figure(width: float = 6.0, height: float = 3.6) -> tuple[Figure, Axes]:
    """A figure with one set of axes; sizes in inches."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.add_subplot()


def to_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element, to be put into a page or a file."""
    legends = [*figure.legends, *(legend for axes in figure.axes if (legend := axes.get_legend()) is not None)]
    for name in (name for legend in legends for name in legend.get_texts()):
        name.set_parse_math(False)  # it may hold dollars and backslashes
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def line_with_interval(
    axes: Axes, x: Sequence[float], curves: Sequence[Sequence[float]], label: str, color: str, marker: str | None = None
) -> None:
    """The mean of several curves over the same x, with its 95% interval over them as a band, from three on."""
    intervals = [over_seeds(values) for values in zip(*curves, strict=True)]
    axes.plot(x, [i.mean for i in intervals], label=label, color=color, marker=marker, markersize=4, linewidth=1.6)
    low, high = [i.low for i in intervals], [i.high for i in intervals]
    axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)


def line_with_band(
    axes: Axes, x: Sequence[float], curves: Sequence[Sequence[float]], label: str, color: str, marker: str | None = None
) -> None:
    """The mean of several curves over the same x, with the range from the lowest to the highest as a band."""
    values = np.asarray(curves, dtype=float)  # (curves, points)
    axes.plot(x, np.nanmean(values, axis=0), label=label, color=color, marker=marker, markersize=4, linewidth=1.6)
    axes.fill_between(x, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=color, alpha=0.18, linewidth=0)
