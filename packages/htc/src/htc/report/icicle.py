"""A hierarchy as an icicle: one row for each level, a label as wide as it has documents, coloured by its F1.

A pointer that rests on a label shows its name; a click shows what is below it as wide as the page, another click all again.
"""

import math
from collections.abc import Sequence

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


def icicle(nodes: Sequence[Node], title: str, description: str) -> str:
    """The figure as an element with an `<svg>`, as wide as a phone needs it to be readable."""
    deepest = max(node.depth for node in nodes)
    height = deepest * ROW + 34
    drawn = "".join(_label(node) for node in nodes)
    bar = _bar(deepest * ROW + 8)
    start = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" class="icicle"'
    return f'<div class="scroll" tabindex="0">{start}{spoken(title, description)}{drawn}{bar}</svg></div>'


def _label(node: Node) -> str:
    x, y, width = WIDTH * node.left, (node.depth - 1) * ROW, WIDTH * node.width
    name = printable(node.name, keep="")
    unknown = math.isnan(node.f1)
    said = f"{name}: {'neither true nor predicted' if unknown else f'F1 {node.f1:.2f}'}"
    color = GRID if unknown else to_hex(MAP(node.f1))
    ink = "#ffffff" if not unknown and sum(MAP(node.f1)[:3]) <= 1.5 else INK
    text = ""
    if width > READABLE:
        fits = int(width / LETTER)
        shown = name if len(name) <= fits else name[: fits - 1] + "…"
        text = f'<text x="{x + width / 2:.1f}" y="{y + ROW / 2 + 3:.1f}">{escape(shown)}</text>'
    box = f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{ROW - GAP}" fill="{color}"/>'
    return f'<g fill="{ink}"><title>{escape(said)}</title>{box}{text}</g>'


def _bar(y: float) -> str:
    """What the colours stand for."""
    stops = "".join(f'<stop offset="{i / (STOPS - 1)}" stop-color="{to_hex(MAP(i / (STOPS - 1)))}"/>' for i in range(STOPS))
    names = "".join(f'<text x="{60 + 200 * share}" y="{y + 24}">{share:g}</text>' for share in (0, 0.5, 1))
    box = f'<rect x="60" y="{y}" width="200" height="10" fill="url(#f1-colors)"/>'
    label = f'<text x="20" y="{y + 10}">F1</text>'
    return f'<defs><linearGradient id="f1-colors">{stops}</linearGradient></defs>{box}<g class="bar">{label}{names}</g>'
