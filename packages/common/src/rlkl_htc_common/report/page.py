"""A report: one HTML file with everything inside, readable on a phone and in the dark.

Tables are Jinja's, from a template that escapes all that it is given. pandas' `to_html` and Styler would bring pandas, set
formats by column instead of by cell, and a Styler escapes only where it is told to; what others wrote has to be made
`printable` cell by cell all the same.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from rlkl_htc_common.report.styles import DASHES, MARKERS, Style
from rlkl_htc_common.report.svg import dark_rules
from rlkl_htc_common.runs.directory import write_atomically
from rlkl_htc_common.terminal import csv_line, printable

TEMPLATES = files("rlkl_htc_common.report").joinpath("templates")
FILES = ("report.html.j2", "report.css", "report.js")
SPREAD = re.compile(r"(?P<value>.+?)(?P<spread> ± \S+| \(\S+ to \S+\))")


@dataclass
class Table:
    """A table, which a reader can sort.

    Attributes:
        best: the (row, column) cells in bold.
        texts: columns of running text.
        codes: columns of commands.
        csv: the name of a file beside the page with all rows; "" for none.
        shown: the rows that the page shows; None for all.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    best: set[tuple[int, int]] = field(default_factory=set)
    texts: set[int] = field(default_factory=set)
    codes: set[int] = field(default_factory=set)
    csv: str = ""
    shown: Sequence[int] | None = None


@dataclass
class Picture:
    """A figure as an `<svg>` or another element, and what it shows; `wide` ones have a row of their own; `file`: as a file."""

    svg: str
    caption: str
    wide: bool = False
    file: str = ""

    @property
    def markup(self) -> Markup:
        """The figure as trusted markup; everything else in a report is escaped."""
        return Markup(printable(self.svg))


@dataclass
class Section:
    """A part of a report: a heading, paragraphs, then tables and figures; of `folded` ones the heading, until it is clicked.

    Attributes:
        legend: what the lines of its figures look like, by name.
    """

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    folded: bool = False
    legend: Mapping[str, Style] = field(default_factory=dict)


@dataclass
class First:
    """The first screen: the finding in a sentence or two with numbers, its caveat, a figure beside it, and their table."""

    verdict: str
    caveat: str
    hero: Picture | None
    table: Table
    legend: Mapping[str, Style] = field(default_factory=dict)


def write_report(
    file: Path,
    title: str,
    lead: str,
    sections: Sequence[Section],
    facts: Sequence[tuple[str, str]],
    first: First | None = None,
    styles: Mapping[str, Style] | None = None,
) -> None:
    """Render a report, and write the CSV files of its tables beside it.

    Args:
        file: the HTML file.
        title, lead: the heading and the sentence under it.
        sections: the content.
        facts: what it rests on (commit, versions, command), as name and value.
        styles: of the methods, whose names have a mark in tables.
    """
    page, style, script = (TEMPLATES.joinpath(name).read_text(encoding="utf-8") for name in FILES)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    environment.filters |= {"halves": halves, "dashes": _dashes, "shape": _shape}
    parts = [*([Section("The result", tables=[first.table])] if first else []), *sections]
    text = environment.from_string(page).render(
        title=title,
        lead=lead,
        first=first,
        sections=list(zip(_anchors([section.title for section in sections]), sections, strict=True)),
        facts=facts,
        styles=styles or {},
        script=Markup(script),
    )
    write_atomically(file, text.replace("/* style sheet */", style + dark_rules(text), 1))
    for table in (table for section in parts for table in section.tables if table.csv):
        lines = [csv_line(row) for row in (table.columns, *table.rows)]
        write_atomically(file.parent / table.csv, "\n".join(lines) + "\n")


def write_pictures(folder: Path, pictures: Mapping[str, Picture]) -> None:
    """Write each figure into a file of its own, `NAME.svg`."""
    for name, picture in pictures.items():
        write_atomically(folder / f"{name}.svg", printable(picture.file or picture.svg))


def halves(cell: str) -> tuple[str, str]:
    """A number and what follows it: its interval, which a page shows smaller."""
    found = SPREAD.fullmatch(cell)
    return (found["value"], found["spread"]) if found else (cell, "")


def _anchors(titles: Sequence[str]) -> list[str]:
    """An id for each section, of its title's words."""
    found: list[str] = []
    for title in titles:
        words = "-".join(re.findall(r"[a-z0-9]+", title.lower())) or "section"
        found.append(words if words not in found else f"{words}-{len(found)}")
    return found


def _dashes(style: Style) -> str:
    return DASHES[style.dash]


def _shape(style: Style) -> str:
    return MARKERS[style.marker]


def _shown(value: object) -> object:
    return printable(value) if type(value) is str else value


def markdown_table(table: Table) -> str:
    """The same table for a README; the best cells in bold."""
    lines = [_markdown_row(table.columns), "|---" + "|--:" * (len(table.columns) - 1) + "|"]
    for r, row in enumerate(table.rows):
        lines.append(_markdown_row([f"**{cell}**" if (r, c) in table.best else cell for c, cell in enumerate(row)]))
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(printable(" ".join(cell.split())).replace("|", "\\|") for cell in cells) + " |"
