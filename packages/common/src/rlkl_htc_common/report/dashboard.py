"""A workspace of wandb as a picture: the panels that it defines, with the numbers of offline runs."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import escape
from matplotlib.axes import Axes
from omegaconf import MISSING

from rlkl_htc_common.report.figures import bars, line, line_with_band, new_figure
from rlkl_htc_common.report.styles import DASHES, INK, MARKERS, SOFT, Style, styles_of
from rlkl_htc_common.report.svg import FONT, NAMESPACES, dark_rules, spoken, to_svg
from rlkl_htc_common.runs.offline import OfflineRun

COLUMNS = 3  # panels beside each other
WIDTH, HEIGHT = 360, 216  # of a panel's picture
GAP = 24  # between panels
TITLE, HEADING = 22, 40  # heights of their lines
FOOT = re.compile(r"<svg\b[^>]*>")
PLACED = re.compile(r'\s(?:x|y|width|height)="[^"]*"')


@dataclass
class PanelConfig:
    """A panel. `kind`: `line` of metrics over steps, `bars` of their last numbers, or `page` of HTML that runs log."""

    title: str = MISSING
    metrics: list[str] = MISSING
    kind: str = "line"


@dataclass
class SectionConfig:
    """Panels under a heading."""

    name: str = MISSING
    panels: list[PanelConfig] = MISSING


@dataclass
class DashboardConfig:
    """A workspace. `group_by`: keys of the run's config; runs with the same values are drawn as one line."""

    name: str = MISSING
    project: str = MISSING
    group_by: list[str] = field(default_factory=list)
    sections: list[SectionConfig] = MISSING


Groups = Mapping[str, Sequence[OfflineRun]]
Styles = Mapping[str, Style]


def draw_dashboard(dashboard: DashboardConfig, runs: Sequence[OfflineRun]) -> str | None:
    """The panels of a workspace as one `<svg>`; those are left out for which no run has numbers.

    Args:
        runs: of any kind; a workspace shows those whose configs have the keys that it groups by.

    Returns:
        None where no run has numbers for any panel.
    """
    groups = _grouped(dashboard.group_by, runs)
    styles = styles_of(groups)
    sections = [
        (section.name, [(panel.title, svg) for panel in section.panels if (svg := _drawn(panel, groups, styles))])
        for section in dashboard.sections
    ]
    sections = [(name, panels) for name, panels in sections if panels]
    names = {name: styles[name] for name, of_group in groups.items() if any(run.summary for run in of_group)}
    return _sheet(dashboard.name, names, sections) if sections else None


def _grouped(keys: Sequence[str], runs: Sequence[OfflineRun]) -> Groups:
    """The runs by their values of some keys; the groups' names leave out what all runs have in common."""
    plain = [key.removeprefix("config.") for key in keys]
    shown = [run for run in runs if all(key in run.config for key in plain)]
    telling = [key for key in plain if len({str(run.config[key]) for run in shown}) > 1] or plain
    found: dict[str, list[OfflineRun]] = {}
    for run in shown:
        found.setdefault(" · ".join(str(run.config[key]) for key in telling), []).append(run)
    return found


def _drawn(panel: PanelConfig, groups: Groups, styles: Styles) -> str | None:
    """A panel as an `<svg>`; None where no run has its numbers."""
    if panel.kind == "page":
        pages = [
            run.pages[name] for of_group in groups.values() for run in of_group for name in panel.metrics if name in run.pages
        ]
        return next((page for page in pages if page.startswith("<svg")), None)
    figure, axes = new_figure(WIDTH / 72, HEIGHT / 72)
    draw: Callable[[Axes, PanelConfig, Groups, Styles], bool] = _bars if panel.kind == "bars" else _lines
    return to_svg(figure, panel.title, ", ".join(panel.metrics)) if draw(axes, panel, groups, styles) else None


def _lines(axes: Axes, panel: PanelConfig, groups: Groups, styles: Styles) -> bool:
    """The mean of each group's runs over steps, with their range. Returns: whether there is any."""
    for name, of_group in groups.items():
        for metric in panel.metrics:
            curves = [{step: row[metric] for step, row in run.steps.items() if metric in row} for run in of_group]
            curves = [curve for curve in curves if curve]
            steps = sorted({step for curve in curves for step in curve})
            values = [[curve.get(step, np.nan) for step in steps] for curve in curves]
            if len(values) > 1:
                line_with_band(axes, steps, values, name, styles[name])
            elif values:
                line(axes, steps, values[0], name, styles[name])
    axes.set_xlabel("Step")
    return bool(axes.lines)


def _bars(axes: Axes, panel: PanelConfig, groups: Groups, styles: Styles) -> bool:
    """The mean of the last numbers of each group's runs. Returns: whether there is any."""
    heights = {}
    for name, of_group in groups.items():
        found = [[run.summary.get(metric, np.nan) for metric in panel.metrics] for run in of_group]
        if not np.isnan(found).all():
            heights[name] = [_mean(values) for values in zip(*found, strict=True)]
    bars(axes, _short(panel.metrics), heights, styles)
    if len(panel.metrics) > 3:
        for tick in axes.get_xticklabels():
            tick.set(rotation=25, ha="right", rotation_mode="anchor", fontsize=8)
    return bool(heights)


def _mean(values: Sequence[float]) -> float:
    """Over those that are there; NaN where none is."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan


def _short(names: Sequence[str]) -> list[str]:
    """Names without the words that all of them begin and end with."""
    if len(names) < 2:
        return list(names)
    split = [re.split("[/_]", name) for name in names]
    start, end = (_in_common(each) for each in (split, [words[::-1] for words in split]))
    return [" ".join(words[start : len(words) - end]) for words in split]


def _in_common(split: Sequence[Sequence[str]]) -> int:
    """With how many equal words all of some names begin."""
    return next((at for at, words in enumerate(zip(*split, strict=False)) if len(set(words)) > 1), 0)


def _sheet(title: str, names: Styles, sections: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> str:
    """Sections of named panels under each other, below a legend."""
    width, parts, y = COLUMNS * (WIDTH + GAP) + GAP, _legend(names), 30.0
    for name, panels in sections:
        y += HEADING
        parts.append(_text(GAP, y - 14, name, INK, 16, "600"))
        for number, (of_panel, svg) in enumerate(panels):
            x = GAP + number % COLUMNS * (WIDTH + GAP)
            top = y + number // COLUMNS * (HEIGHT + TITLE + GAP)
            parts += [_text(x, top + 14, of_panel, SOFT, 12, "400"), _placed(svg, x, top + TITLE)]
        y += -(-len(panels) // COLUMNS) * (HEIGHT + TITLE + GAP)
    drawn = "".join(parts)
    style = f"<style>svg *{{stroke-linejoin:round;stroke-linecap:butt}}{dark_rules(drawn)}</style>"
    said = spoken(f"The workspace {title}", ", ".join(name for name, _ in sections))
    return f'<svg {NAMESPACES} viewBox="0 0 {width} {y:g}" width="{width}" height="{y:g}"{said}{style}{drawn}</svg>'


def _legend(names: Styles) -> list[str]:
    """A mark and a name for each group, in a line."""
    parts, x = [], float(GAP)
    for name, style in names.items():
        parts.append(
            f'<g transform="translate({x:g} 17)"><path d="M0 5H26" style="fill:none;stroke:{style.color}" stroke-width="2.6" '
            f'stroke-dasharray="{DASHES[style.dash]}"/><path d="{MARKERS[style.marker]}" style="fill:{style.color}"/></g>'
        )
        parts.append(_text(x + 32, 27, name, INK, 12, "400"))
        x += 56 + 7 * len(name)
    return parts


def _text(x: float, y: float, text: str, color: str, size: int, weight: str) -> str:
    style = f"fill:{color};font:{weight} {size}px {FONT}"
    return f'<text x="{x:g}" y="{y:g}" style="{style}">{escape(text)}</text>'


def _placed(svg: str, x: float, y: float) -> str:
    """An `<svg>` inside another one, in a panel's place."""
    found = FOOT.match(svg)
    assert found is not None
    head = PLACED.sub("", found[0]).removeprefix("<svg")
    return f'<svg x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}"{head}{svg[found.end() :]}'
