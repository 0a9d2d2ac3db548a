"""A hierarchy as an icicle: one row for each level, a label as wide as it has documents, coloured by its F1.

A pointer that rests on a label shows its name; a click shows what is below it as wide as the page, another click all again.
`draw` is for other widths and colours: `htc.demo` colours labels by their probabilities for one text.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import escape
from matplotlib import colormaps
from matplotlib.colors import to_hex

from htc.report.records import Node
from rlkl_htc_common.report.styles import GRID, INK
from rlkl_htc_common.report.svg import spoken
from rlkl_htc_common.terminal import printable

WIDTH, ROW, GAP, LETTER = 1000, 34, 2, 6.2  # in units of the figure; a letter as wide as most are
MAP = colormaps["cividis"]
STOPS = 6  # of the colour bar
READABLE = 45  # units: a narrower label has no text


class Cell(NamedTuple):
    """A label: its depth from 1, where it begins and how wide it is, and its value, all three in [0, 1].

    Attributes:
        value: NaN where it has none; `said` is then said in its place.
        said: what a pointer is told, after the name.
        chosen: whether it is framed.
    """

    name: str
    depth: int
    left: float
    width: float
    value: float
    said: str
    chosen: bool = False


def icicle(nodes: Sequence[Node], title: str, description: str) -> str:
    """The figure of labels coloured by their F1."""
    cells = [Cell(node.name, node.depth, node.left, node.width, node.f1, _said(node)) for node in nodes]
    return draw(cells, title, description, "F1")


def _said(node: Node) -> str:
    return "neither true nor predicted" if math.isnan(node.f1) else f"F1 {node.f1:.2f}"


def draw(cells: Sequence[Cell], title: str, description: str, measure: str) -> str:
    """The figure as an element with an `<svg>`, as wide as a phone needs it to be readable. Args: measure: of the colours."""
    deepest = max(cell.depth for cell in cells)
    height = deepest * ROW + 34
    drawn = "".join(_label(cell) for cell in cells)
    bar = _bar(deepest * ROW + 8, measure)
    start = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" class="icicle"'
    return f'<div class="scroll" tabindex="0">{start}{spoken(title, description)}{drawn}{bar}</svg></div>'


def color_of(value: float) -> str:
    """The colour of a value in [0, 1], as #rrggbb."""
    return to_hex(MAP(value))


def _label(cell: Cell) -> str:
    x, y, width = WIDTH * cell.left, (cell.depth - 1) * ROW, WIDTH * cell.width
    name = printable(cell.name, keep="")
    unknown = math.isnan(cell.value)
    color = GRID if unknown else color_of(cell.value)
    ink = "#ffffff" if not unknown and sum(MAP(cell.value)[:3]) <= 1.5 else INK
    text = ""
    if width > READABLE:
        fits = int(width / LETTER)
        shown = name if len(name) <= fits else name[: fits - 1] + "…"
        text = f'<text x="{x + width / 2:.1f}" y="{y + ROW / 2 + 3:.1f}">{escape(shown)}</text>'
    box = f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{ROW - GAP}" fill="{color}"/>'
    chosen = ' class="chosen"' if cell.chosen else ""
    return f'<g fill="{ink}"{chosen}><title>{escape(f"{name}: {cell.said}")}</title>{box}{text}</g>'


def _bar(y: float, measure: str) -> str:
    """What the colours stand for."""
    left = max(60, 30 + round(LETTER * len(measure)))
    stops = "".join(f'<stop offset="{i / (STOPS - 1)}" stop-color="{color_of(i / (STOPS - 1))}"/>' for i in range(STOPS))
    names = "".join(f'<text x="{left + 200 * share}" y="{y + 24}">{share:g}</text>' for share in (0, 0.5, 1))
    box = f'<rect x="{left}" y="{y}" width="200" height="10" fill="url(#f1-colors)"/>'
    label = f'<text x="{left // 3}" y="{y + 10}">{measure}</text>'
    return f'<defs><linearGradient id="f1-colors">{stops}</linearGradient></defs>{box}<g class="bar">{label}{names}</g>'
