"""A report: one HTML file with everything inside, readable on a phone and in the dark.

Tables are Jinja's, from a template that escapes all that it is given. pandas' `to_html` and Styler would bring pandas, set
formats by column instead of by cell, and a Styler escapes only where it is told to; what others wrote has to be made
`printable` cell by cell all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from rlkl_htc_common.runs.directory import write_atomically
from rlkl_htc_common.terminal import printable


@dataclass
class Table:
    """A table, which a reader can sort: `best` are the (row, column) cells to stress, `texts` columns of running text, `codes`
    columns of commands."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    best: set[tuple[int, int]] = field(default_factory=set)
    texts: set[int] = field(default_factory=set)
    codes: set[int] = field(default_factory=set)


@dataclass
class Picture:
    """A figure as an `<svg>` or another element, and what it shows; `wide` ones have a row of their own."""

    svg: str
    caption: str
    wide: bool = False

    @property
    def markup(self) -> Markup:
        """The figure as trusted markup; everything else in a report is escaped."""
        return Markup(printable(self.svg))


@dataclass
class Section:
    """A part of a report: a heading, paragraphs, then tables and figures; of `folded` ones the heading, until it is clicked."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    folded: bool = False


def write_report(file: Path, title: str, lead: str, sections: Sequence[Section], facts: Sequence[tuple[str, str]]) -> None:
    """Render a report.

    Args:
        file: the HTML file.
        title, lead: the heading and the sentence under it.
        sections: the content.
        facts: what it rests on (commit, versions, command), as name and value.
    """
    template = files("rlkl_htc_common.report").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    page = environment.from_string(template)
    write_atomically(file, page.render(title=title, lead=lead, sections=sections, facts=facts))


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
