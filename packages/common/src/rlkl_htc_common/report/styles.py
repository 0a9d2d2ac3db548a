"""What each method looks like, everywhere: a colour for light pages and one for dark ones, a dash and a marker.

The words before the first comma of a name are its family, which has a hue; what follows has a dash, or where it is a number
(alpha 0.2) a shade, in its order. Where families are numbers themselves (beta 10), their hues run through an ordered palette.
Every colour has a contrast of at least 3 to its page (WCAG 2.2, 1.4.11); no two methods have the same colour and dash.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

NUMBERED = re.compile(r"(?P<key>.*\D)\s(?P<value>-?\d+(?:\.\d+)?(?:e-?\d+)?)", re.IGNORECASE)
PAGES = {"light": "#ffffff", "dark": "#16181b"}
LIGHTNESS = {"light": (0.36, 0.64), "dark": (0.92, 0.64)}  # of ordered colours, from the first to the last, in OKLCH
HUES = (250, 45, 160, 345, 85, 300, 200, 25)  # degrees: blue, orange, green, pink, ochre, violet, teal, red
SWEEP = (300, 60)  # degrees: the hues of the ordered palette
DASHES = {"-": "", "--": "6 3", ":": "1.5 2", "-.": "7 2.5 1.5 2.5"}  # Matplotlib's names and SVG's
MARKERS = {  # Matplotlib's names, and paths for a mark in a legend, around (13, 5)
    "o": "M9.5 5a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0",
    "s": "M10 2h6v6h-6z",
    "^": "M13 1l4 7h-8z",
    "D": "M13 1l4 4l-4 4l-4-4z",
    "v": "M13 9l4-7h-8z",
    "<": "M9.5 5l7-4v8z",
    ">": "M16.5 5l-7-4v8z",
    "P": "M11.5 1h3v2.5h2.5v3h-2.5v2.5h-3v-2.5h-2.5v-3h2.5z",
}
SPARE = (0.05, 0.25, 0.7, 0.97)  # where in the order the shades are that a family has when its dashes are used up


class Style(NamedTuple):
    """How a method is drawn. Attributes: color: on a light page; dash: Matplotlib's name of it; marker: likewise."""

    color: str
    dash: str = "-"
    marker: str = "o"


INK, SOFT, GRID = "#1c1e21", "#5c6470", "#c9ced6"
DARK: dict[str, str] = {INK: "#e6e8ea", SOFT: "#9aa3ad", GRID: "#3a4047"}
"""For each colour of a light page the one of a dark page."""


def oklch(lightness: float, chroma: float, hue: float) -> str:
    """A colour of OKLCH (Ottosson, 2020) as #rrggbb, clipped to sRGB. Args: lightness from 0 to 1; hue in degrees."""
    a, b = chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))
    cone = np.array([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]])
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_rgb @ (cone @ [lightness, a, b]) ** 3, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * part):02x}" for part in encoded)


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, from 1 to 21 (WCAG 2.2)."""
    first, second = sorted((_luminance(one), _luminance(other)))
    return (second + 0.05) / (first + 0.05)


def _luminance(color: str) -> float:
    parts = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _color(at: float, hue: float) -> str:
    """A colour of a hue at a place in an order, from 0 (strong) to 1, known to `DARK`."""
    light, dark = (
        oklch(first + at * (last - first), 0.13 - 0.03 * (page == "dark"), hue) for page, (first, last) in LIGHTNESS.items()
    )
    DARK[light] = dark
    return light


def category(number: int) -> str:
    """The colour of the nth of things without an order."""
    return _color((0.55, 0.85)[number % 2], HUES[number % len(HUES)])


def ordered(count: int) -> list[str]:
    """Colours of things in an order, through several hues."""
    places = np.linspace(0, 1, count) if count > 1 else np.array([0.5])
    return [_color(at, SWEEP[0] + at * (SWEEP[1] - SWEEP[0])) for at in places.tolist()]


def styles_of(names: Iterable[str]) -> dict[str, Style]:
    """A style for each method of a report."""
    split = {name: tuple(name.partition(", ")[::2]) for name in names}
    families = list(dict.fromkeys(family for family, _ in split.values()))
    colors = _colors_of(families)
    tails = list(dict.fromkeys(tail for family, tail in split.values() if not _in_order(_tails(split, family))))
    found: dict[str, Style] = {}
    for name, (family, tail) in split.items():
        number, of_family = families.index(family), _tails(split, family)
        color, dash = colors[family], (number // len(HUES) if len(families) > len(set(colors.values())) else 0)
        if _in_order(of_family):
            order = sorted(of_family, key=lambda each: -_value(each))
            color = _color(order.index(tail) / max(1, len(order) - 1), HUES[number % len(HUES)])
        else:
            dash += tails.index(tail) if len(tails) > 1 else 0
        shades = [color, *(_color(at, HUES[number % len(HUES)]) for at in SPARE)]
        used = {(style.color, style.dash) for style in found.values()}
        dashes = list(DASHES)[dash % len(DASHES) :] + list(DASHES)[: dash % len(DASHES)]
        free = ((shade, kind) for shade in shades for kind in dashes if (shade, kind) not in used)
        found[name] = Style(*next(free, (color, "-")), list(MARKERS)[(number + 3 * dash) % len(MARKERS)])
    return found


def _colors_of(families: Sequence[str]) -> dict[str, str]:
    if len(families) > 2 and _in_order(families):
        by_value = sorted(families, key=_value)
        return dict(zip(by_value, ordered(len(families)), strict=True))
    return {family: category(number) for number, family in enumerate(families)}


def _tails(split: Mapping[str, tuple[str, ...]], family: str) -> list[str]:
    return [tail for name, (head, tail) in split.items() if head == family]


def _in_order(names: Sequence[str]) -> bool:
    """Whether these are values of one quantity; one of them may be without."""
    found = [NUMBERED.fullmatch(name) for name in names if name]
    return len(found) > 1 and all(found) and len({match["key"] for match in found if match}) == 1


def _value(name: str) -> float:
    found = NUMBERED.fullmatch(name)
    return float(found["value"]) if found else float("inf")
