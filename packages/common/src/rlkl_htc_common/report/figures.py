"""Figures in one style: each method as `styles` has it, bands for intervals, axes that no outlier stretches."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rlkl_htc_common.report.page import Picture
from rlkl_htc_common.report.statistics import Interval, over_seeds
from rlkl_htc_common.report.styles import HUES, SOFT, Style, category, oklch
from rlkl_htc_common.report.svg import STYLE, Drawing, to_svg

COLORS = tuple(category(number) for number in range(len(HUES)))
PLAIN = Style(COLORS[0])
ON_CELLS = "#101114"  # of text on coloured cells, which are the same on light and dark pages
MOST_BANDS = 8  # in one figure; more of them hide each other and the lines
STRETCHED = 12  # times the median: a value that a linear axis would be stretched by


def new_figure(width: float = 6.0, height: float = 3.6) -> tuple[Figure, Axes]:
    """A figure with one set of axes; sizes in inches."""
    with mpl.rc_context(STYLE):
        figure = Drawing(width, height)
        return figure, figure.add_subplot()


def note(axes: Axes, x: float, y: float, text: str) -> None:
    """Tell a text where a pointer rests near a point of a figure of `new_figure`."""
    if isinstance(axes.figure, Drawing):
        axes.figure.notes.append((axes, x, y, text))


def picture(figure: Figure, title: str, caption: str, *, wide: bool = False) -> Picture:
    """A figure for a page, whose legend is the section's, and for a file of its own, with a legend."""
    (axes, *_), shown = figure.axes, None
    svg = to_svg(figure, title, caption)
    names = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if len(names) > 1 and axes.get_legend() is None:
        with mpl.rc_context(STYLE):
            shown = figure.legend(names.values(), names, loc="outside upper center", ncols=min(3, len(names)), fontsize=8)
        figure.set_figheight(figure.get_figheight() + 0.2 * -(-len(names) // 3))
    file = to_svg(figure, title, caption, alone=True)
    if shown is not None:
        shown.remove()
    return Picture(svg, caption, wide, file)


def legend(axes: Axes, **how: Any) -> None:
    """A legend inside a figure, where its names are not those of methods."""
    with mpl.rc_context(STYLE):
        axes.legend(fontsize=8, **how)


def line(axes: Axes, x: Sequence[float], y: Sequence[float], name: str, style: Style, *, markers: bool = False) -> None:
    """A line, with a note at each of its points."""
    axes.plot(
        x, y, label=name, color=style.color, linestyle=style.dash, marker=style.marker if markers else None, markersize=4,
        linewidth=1.8,
    )  # fmt: skip
    for each, value in zip(x, y, strict=True):
        note(axes, each, value, f"{name}: {value:.3g} at {each:g}")


def band(axes: Axes, x: Sequence[float], low: Sequence[float], high: Sequence[float], style: Style) -> None:
    """A faint area between two curves."""
    axes.fill_between(x, low, high, color=style.color, alpha=0.13, linewidth=0)


def line_with_interval(
    axes: Axes,
    x: Sequence[float],
    intervals: Sequence[Interval],
    name: str,
    style: Style = PLAIN,
    *,
    markers: bool = False,
    of: int = 1,
) -> None:
    """Means over the same x, with their intervals as a band, from three values on. Args: of: how many lines there are."""
    line(axes, x, [each.mean for each in intervals], name, style, markers=markers)
    if of <= MOST_BANDS:
        band(axes, x, [each.low for each in intervals], [each.high for each in intervals], style)


def line_with_band(
    axes: Axes, x: Sequence[float], curves: Sequence[Sequence[float]], name: str, style: Style = PLAIN, *, markers: bool = False
) -> None:
    """The mean of several curves over the same x, with the range from the lowest to the highest as a band."""
    values = np.asarray(curves, dtype=float)  # (curves, points)
    line(axes, x, np.nanmean(values, axis=0).tolist(), name, style, markers=markers)
    band(axes, x, np.nanmin(values, axis=0).tolist(), np.nanmax(values, axis=0).tolist(), style)


def over(curves: Sequence[Sequence[float]], average: object = over_seeds) -> list[Interval]:
    """The interval over several curves at each of their points."""
    assert callable(average)
    return [average(values) for values in zip(*curves, strict=True)]


def dots(figure_of: Mapping[str, tuple[Interval, Sequence[float]]], styles: Mapping[str, Style], x_label: str) -> Figure:
    """A row for each name: its values as faint dots, their mean with its interval. Args: figure_of: by name mean and values."""
    figure, axes = new_figure(6.0, 0.8 + 0.27 * len(figure_of))
    for row, (name, (interval, values)) in enumerate(figure_of.items()):
        style = styles.get(name, PLAIN)
        if not interval.few:
            axes.plot([interval.low, interval.high], [row, row], color=style.color, linewidth=2.2, solid_capstyle="butt")
        axes.scatter(values, [row] * len(values), s=14, color=style.color, alpha=0.35, linewidths=0)
        axes.plot([interval.mean], [row], marker=style.marker, color=style.color, markersize=6, linestyle="none")
        note(axes, interval.mean, row, f"{name}: {interval}")
    axes.set_yticks(range(len(figure_of)), list(figure_of), parse_math=False)
    axes.set_ylim(len(figure_of) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(x_label)
    return figure


def heat_map(rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]]) -> Figure:
    """A table whose cells are coloured by their values, the larger the stronger. Args: values: by row; NaN for no value."""
    figure, axes = new_figure(1.9 + 0.95 * len(columns), 0.7 + 0.36 * len(rows))
    table = np.asarray(values, dtype=float)  # (rows, columns)
    low, span = np.nanmin(table), max(float(np.ptp(table[~np.isnan(table)])), 1e-9)
    for row, column in np.argwhere(~np.isnan(table)).tolist():
        value = float(table[row, column])
        place, color = (column - 0.5, row - 0.5), oklch(0.97 - 0.25 * (value - low) / span, 0.11 * (value - low) / span, 160)
        axes.add_patch(Rectangle(place, 1, 1, facecolor=color, edgecolor="none"))
        axes.text(column, row, f"{value:.3f}", ha="center", va="center", fontsize=9, color=ON_CELLS)
        note(axes, column, row, f"{rows[row]}, {columns[column]}: {value:.4f}")
    for row, column in np.argwhere(np.isnan(table)).tolist():
        axes.text(column, row, "–", ha="center", va="center", fontsize=9, color=SOFT)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), [name.replace(" ", "\n", 1) for name in columns], parse_math=False)
    axes.set_yticks(range(len(rows)), list(rows), parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


def bars(axes: Axes, names: Sequence[str], heights: Mapping[str, Sequence[float]], styles: Mapping[str, Style]) -> None:
    """A bar of each line of `heights` at each name, beside each other. Args: heights: by what has the style; NaN for none."""
    width = 0.8 / max(1, len(heights))
    for number, (name, values) in enumerate(heights.items()):
        places = [at + (number - (len(heights) - 1) / 2) * width for at in range(len(names))]
        style = styles.get(name, PLAIN)
        axes.bar(places, values, width, label=name, color=style.color)
        for place, label, value in zip(places, names, values, strict=True):
            note(axes, place, value, f"{name}, {label}: {value:.3g}")
    axes.set_xticks(range(len(names)), list(names), parse_math=False)
    axes.grid(axis="x", visible=False)


def without_outliers(axes: Axes, points: Sequence[tuple[float, Interval, str, Style]]) -> bool:
    """Let the y axis fit most points with their intervals, and put arrows with values at its edges for those far outside.

    Far is three times the distance of the quartiles from them (Tukey's outer fences).

    Args:
        points: x, interval, name and style.

    Returns:
        Whether there are arrows.
    """
    values = np.array([interval.mean for _, interval, _, _ in points])
    first, third = np.quantile(values, [0.25, 0.75])
    reach = 3 * max(third - first, 0.02 * np.ptp(values))
    is_far = (values < first - reach) | (values > third + reach)
    if not is_far.any():
        return False
    near = [interval for (_, interval, _, _), far in zip(points, is_far, strict=True) if not far]
    ends = [end for interval in near for end in (interval.mean, interval.low, interval.high)]
    room = 0.08 * max(np.nanmax(ends) - np.nanmin(ends), 0.01)
    low, high = np.nanmin(ends) - 2.5 * room, np.nanmax(ends) + room
    axes.set_ylim(low, high)
    for x, interval, name, style in (point for point, far in zip(points, is_far, strict=True) if far):
        edge, arrow, above = (low, "v", 6) if interval.mean < low else (high, "^", -12)
        axes.plot([x], [edge], marker=arrow, color=style.color, markersize=6, clip_on=False)
        text = f"{interval.mean:.2f}"
        axes.annotate(text, (x, edge), (0, above), textcoords="offset points", ha="center", fontsize=7, color=SOFT)
        note(axes, x, edge, f"{name}: {interval}")
    return True


def spread_out(axes: Axes) -> None:
    """A logarithmic y axis where a line would stretch a linear one: where the largest value is far above most.

    Bands of few seeds may reach to 0 and below, where such an axis does not.
    """
    values = np.concatenate([np.asarray(each.get_ydata(), dtype=float) for each in axes.get_lines()])
    positive = values[values > 0]
    if len(positive) and positive.max() > STRETCHED * np.median(positive):
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(np.quantile(positive, 0.02) / 2, positive.max() * 2)
    else:
        axes.set_ylim(bottom=min(0.0, values.min()))
