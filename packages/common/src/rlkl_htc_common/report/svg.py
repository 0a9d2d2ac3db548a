"""Figures of Matplotlib as SVG for light pages and dark ones, for readers that listen, and for a pointer that rests on a point.

In the file colours are those of a light page, so that every program shows them; a style sheet replaces them where a reader
prefers dark pages.
"""

import io
import json
import re
from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlkl_htc_common.report.styles import DARK, GRID, INK

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small files, searchable
    "svg.hashsalt": "figures",  # the same figure gives the same file
}
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
FONT = "system-ui, sans-serif"
GEOMETRY = re.compile(r'\b(?:d|x|y|x1|x2|y1|y2|width|height|transform|points)="[^"]*"')
DECIMALS = re.compile(r"(\.\d\d)\d+")


class Drawing(Figure):
    """A figure with notes: what a pointer is told near a place."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained", dpi=72)
        self.notes: list[tuple[Axes, float, float, str]] = []


def to_svg(figure: Figure, title: str = "", description: str = "", *, alone: bool = False) -> str:
    """The figure as an `<svg>` element, to be put into a page, or with a style sheet of its own into a file.

    Args:
        title, description: for readers that listen.
        alone: whether it is for a file.
    """
    legends = [*figure.legends, *(legend for axes in figure.axes if (legend := axes.get_legend()) is not None)]
    for name in (name for legend in legends for name in legend.get_texts()):
        name.set_parse_math(False)  # it may hold dollars and backslashes
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = _tidied(buffer.getvalue())
    _, _, rest = drawn.partition(">")
    width, height = (72 * size for size in figure.get_size_inches())
    viewed = f'<svg {NAMESPACES} viewBox="0 0 {width:g} {height:g}"'
    size = f' width="{width:g}" height="{height:g}"' if alone else ""
    notes = "" if alone else _notes(figure, height)
    style = f"<style>svg *{{stroke-linejoin:round;stroke-linecap:butt}}{dark_rules(rest)}</style>" if alone else ""
    return f"{viewed}{size}{notes}{spoken(title, description)}{style}{rest}"


def spoken(title: str, description: str) -> str:
    """The end of an `<svg>` tag, with what it is called and shows."""
    if not title:
        return ' role="img">'
    return f' role="img" aria-label="{escape(title)}"><title>{escape(title)}</title><desc>{escape(description)}</desc>'


def dark_rules(markup: str) -> str:
    """The style sheet that gives the colours of some markup those of a dark page."""
    rules = "".join(
        f'[style*="{kind}:{light}"]{{{kind}:{dark}!important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
        if f"{kind}:{light}" in markup
    )
    return f"@media(prefers-color-scheme:dark){{{rules}}}" if rules else ""


def _tidied(text: str) -> str:
    """From `<svg` on, without comments, metadata, ids that nothing refers to, and digits that no one sees."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    text = GEOMETRY.sub(lambda found: DECIMALS.sub(r"\1", " ".join(found[0].split())), text)
    text = re.sub(r'style="[^"]*"', lambda found: re.sub("([:;]) ", r"\1", found[0]), text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", FONT, text)
    return re.sub(r">\s+<", "><", text).strip()


def _notes(figure: Figure, height: float) -> str:
    if not isinstance(figure, Drawing) or not figure.notes:
        return ""
    places: Iterable[tuple[float, float, str]] = (
        (*axes.transData.transform((x, y)).tolist(), text) for axes, x, y, text in figure.notes
    )
    listed = json.dumps([[round(x, 1), round(height - y, 1), text] for x, y, text in places], ensure_ascii=False)
    return f' data-notes="{escape(listed)}"'
