"""Cells of a table, with their places; and how those of a CSV or TSV file are read."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from io import StringIO
from itertools import chain, pairwise
from typing import Any, Final, TypeGuard

from htc.datasets.rows import Rows
from htc.labels.names import clean
from htc.labels.text_files import decoded_lines
from rlkl_htc_common.errors import InputError

SEPARATOR_LINE = re.compile(r'"?sep=([^\r\n]*?)"?(?:\r\n?|\n|$)', re.IGNORECASE)  # Excel's line that names the separator
FEW = 10  # with fewer rows, columns are not judged
MISSING = ("nan", "NaN", "NaT", "<NA>")  # missing values as NumPy and pandas write them
STORED: Final = object()  # stands for a text that is kept apart from its row
UNNAMED = re.compile(r"(Unnamed: \d+(\.\d+)?)?")  # pandas' name for a column without one


@dataclass(frozen=True)
class Cells:
    """A table as read.

    Attributes:
        source: the name of the file in errors.
        delimiter: the separator of cells; "" where there is none.
        head: the place of the header: file:line, or the source.
        header: the column names, cleaned as in `htc.labels.names`; some may be empty or occur twice.
        rows: for each row that is not blank, its place and its cells; a short row has fewer cells than columns. Cells of a file
            are stripped texts. Those of other tables may be of other types (`htc.datasets.sources`); "" is a missing value.
            Equal cells are one list.
        texts: the texts of the rows whose cell of the text column is `STORED`, in their order; empty if they are in the rows.
    """

    source: str
    delimiter: str
    head: str
    header: list[str]
    rows: Rows = field(default_factory=Rows)
    texts: Sequence[str] = ()

    def column(self, name: str, key: str) -> int:
        """The index of a column. Args: key: the option that names it. Raises InputError unless exactly one has the name."""
        wanted = clean(name)
        if self.header.count(wanted) == 1:
            return self.header.index(wanted)
        if wanted in self.header:
            several = f"{self.header.count(wanted)} are called {wanted!r} ({key})"
            raise InputError(f"{self.head}: the columns must have names, each its own, but {several}; rename them.")
        near = get_close_matches(wanted, self.header, n=1)
        named = ", ".join(repr(each) for each in self.header if each)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it has {named}."
        raise InputError(f"{self.head}: there is no column {name!r} ({key}){hint}")

    def other_columns(self, taken: Sequence[int]) -> list[int]:
        """All columns with names, except those that are taken.

        A column without a name is skipped if it is empty (a separator at the end of each line) or an index (numbers, or a
        different value in each row). Any other may be a label column.

        Raises:
            InputError: for a column without a name that may be a label column, or for two columns with one name.
        """
        others = [i for i in range(len(self.header)) if i not in taken]
        named = [i for i in others if not UNNAMED.fullmatch(self.header[i])]
        nameless = next((i for i in others if i not in named and not self._is_empty_or_index(i)), None)
        names = [self.header[i] for i in named]
        twice = next((name for name in names if names.count(name) > 1), None)
        if nameless is None and twice is None:
            return named
        problem = f"column {nameless + 1} has none" if nameless is not None else f"{twice!r} is there twice"
        raise InputError(
            f"{self.head}: the columns must have names, each its own, but {problem}; mend that, or name those of "
            "the labels with dataset.levels=[...]."
        )

    def _is_empty_or_index(self, column: int) -> bool:
        found = [str(cells[column]) for _, cells in self.rows if column < len(cells) and cells[column] != ""]
        numbers = [int(float(cell)) for cell in found if re.fullmatch(r"\d{1,15}(\.0)?", cell)]
        if len(numbers) < len(found):
            return len(set(found)) == len(found) >= FEW
        starts = [after for before, after in pairwise([-1, *numbers]) if after != before + 1]
        counts_up = len(numbers) > FEW * len(starts) and not any(starts)  # several tables may be concatenated
        return counts_up or len(set(found)) == len(found)

    def text(self, place: str, cells: Sequence[Any], column: int) -> str:
        """The text of a row; texts in a list are joined with blanks.

        Raises:
            InputError: if it is empty, no text, or a missing value as pandas writes it.
        """
        cell = joined(cells[column])
        if is_text(cell):
            return cell
        if not isinstance(cell, str):
            problem = f"is {cell!r:.60}, not a text"
        elif cell in MISSING:
            problem = f"is {cell!r}, as pandas writes what is missing; leave such rows out"
        else:
            problem = "holds half a character (a lone surrogate); encode it anew" if cell else "is empty"
        raise InputError(f"{place}: the text (column {self.header[column]!r}) {problem}.")

    def refuse_short_rows(self, columns: Sequence[int]) -> None:
        """Raise InputError for a row that is too short for these columns."""
        for place, cells in self.rows:
            self.refuse_short_row(place, cells, columns)

    def refuse_short_row(self, place: str, cells: Sequence[Any], columns: Sequence[int]) -> None:
        """Raise InputError if a row is too short for these columns."""
        if len(cells) <= max(columns):
            raise InputError(_ragged(place, list(cells), self.header, self.delimiter))

    def only(self, columns: Sequence[int]) -> "Cells":
        """The same rows with these columns alone, in this order. None of them may be too short for it."""
        header = [self.header[column] for column in columns]
        rows = Rows((place, [cells[column] for column in columns]) for place, cells in self.rows)
        return replace(self, header=header, rows=rows)


def joined(cell: Any) -> Any:
    """Texts in a list as one text, joined with blanks; any other cell as it is."""
    is_list = isinstance(cell, list) and cell and all(isinstance(part, str) for part in cell)
    return " ".join(cell).strip() if is_list else cell


def is_text(cell: Any) -> TypeGuard[str]:
    """Whether a cell is the text of a document: not empty, no missing value as pandas writes it, and Unicode."""
    return isinstance(cell, str) and bool(cell) and cell not in MISSING and is_unicode(cell)


def stream_cells(lines: Iterable[bytes], source: str, tabs: bool = False) -> tuple[Cells, Iterator[tuple[str, list[str]]]]:
    """Parse a table row by row.

    Args:
        lines: its lines, with their ends; a first line such as `sep=;` may name the separator.
        source: its name in errors.
        tabs: whether tabs are the default separator; else it is the comma or the semicolon, whichever is more frequent in the
            first line.

    Returns:
        The table without rows, and its rows as they are read.

    Raises:
        InputError: with file and line, for an empty table, a malformed row, or a row with more cells than columns; for input
            that is no text.
    """
    decoded = decoded_lines(lines, source, "the table")
    return _stream_cells((piece for _, line in decoded for piece in StringIO(line, newline="")), source, tabs)


def _stream_cells(lines: Iterator[str], source: str, tabs: bool) -> tuple[Cells, Iterator[tuple[str, list[str]]]]:
    head: list[str] = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    delimiter, begins = _delimiter("".join(head), source, tabs)
    read = _rows(chain(StringIO(begins, newline=""), lines), source, delimiter)
    place, header = next(read, ("", []))
    if not place:
        raise InputError(f"{source}: the table is empty.")
    return Cells(source, delimiter, place, list(map(clean, header))), _checked(read, source, header, delimiter)


def _checked(
    rows: Iterator[tuple[str, list[str]]], source: str, header: list[str], delimiter: str
) -> Iterator[tuple[str, list[str]]]:
    number = 0
    for number, (place, cells) in enumerate(rows, start=1):  # noqa: B007 - how many there are
        if any(cells[len(header) :]):
            raise InputError(_ragged(place, cells, header, delimiter))
        yield place, cells
    if not number:
        raise InputError(f"{source}: the table has columns but no row.")


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded: it holds no half character (a lone surrogate)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _ragged(place: str, cells: list[str], header: list[str], delimiter: str) -> str:
    shown = "a tab" if delimiter == "\t" else repr(delimiter)
    hint = f"put texts that hold {shown} between double quotes." if len(cells) > len(header) else "is it cut off?"
    return f"{place}: the row has {len(cells)} cells, but there are {len(header)} columns; {hint}"


def _delimiter(content: str, source: str, tabs: bool) -> tuple[str, str]:
    """The separator, and the content without the line that names it."""
    given = SEPARATOR_LINE.match(content)
    if given:
        delimiter = given[1] or ","
        if len(delimiter) != 1 or delimiter == '"':
            raise InputError(f"{source}:1: sep= must name the one character that separates cells, not {delimiter[:20]!r}.")
        return delimiter, "\n" + content[given.end() :]  # so that lines keep their numbers
    if tabs:
        return "\t", content
    header = next((line for line in content.splitlines() if line.strip()), "")
    unquoted = "".join(header.split('"')[::2])
    if not any(unquoted.count(mark) for mark in ",;") and any(mark in unquoted for mark in "\t|"):
        raise InputError(f"{source}: the columns are separated by neither commas nor semicolons; with tabs, name it .tsv.")
    return max(",;", key=unquoted.count), content


def _rows(lines: Iterable[str], source: str, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    begins = 1
    try:
        for cells in reader:
            begins = reader.line_num + 1
            if any(cell.strip() for cell in cells):
                yield f"{source}:{reader.line_num}", [cell.strip() for cell in cells]
    except csv.Error as error:
        raise InputError(f"{source}:{begins}: the row that begins here is malformed: {error}; is a quote left open?") from error
