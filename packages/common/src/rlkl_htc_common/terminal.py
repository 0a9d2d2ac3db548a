"""Make foreign text safe to show: on a terminal, in a log, in a report, in a spreadsheet.

Texts, labels and file names are data. On a terminal, their control characters would move the cursor, clear the screen or rename
the window, and bidirectional overrides would change the order of the characters.
"""

import csv
import io
import logging
import re
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType

# C0, DEL and C1; line and paragraph separators; bidirectional embeddings, overrides and isolates; half characters.
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LAYOUT = "\n\t"
FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r]")
NUMBER = re.compile(r"[+-]?(\d[\d.,]*|\.\d+)(e[+-]?\d+)?%?", re.IGNORECASE)


def printable(text: str, keep: str = LAYOUT) -> str:
    r"""Escape all characters that a terminal would act on, such as `\x1b` or `\u202e`.

    >>> print(printable("red \x1b[31m\nnext line"))
    red \x1b[31m
    next line

    Args:
        keep: control characters to keep, by default line feeds and tabs; "" gives one line.
    """
    return UNSAFE.sub(lambda match: match[0] if match[0] in keep else _escape(match[0]), text)


def _escape(character: str) -> str:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character) or (
        f"\\x{ord(character):02x}" if ord(character) < 0x100 else f"\\u{ord(character):04x}"
    )


class PrintableFormatter(logging.Formatter):
    """Escapes log messages and their tracebacks with `printable` (used in `commands.hydra_defaults`)."""

    def format(self, record: logging.LogRecord) -> str:
        """The escaped message."""
        return printable(super().format(record))


def show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A `sys.excepthook` that escapes exceptions with `printable`."""
    sys.stderr.write(printable("".join(traceback.format_exception(kind, error, trace))))


def csv_line(cells: Sequence[str]) -> str:
    """One row of a CSV file, without its line end, and without formulas for a spreadsheet.

    >>> print(csv_line(["=1+1", "-5", "a, b"]))
    '=1+1,-5,"a, b"

    A spreadsheet takes a cell for a formula if it begins with =, +, -, @, a tab or a carriage return, and is not a number.
    Such a cell gets an apostrophe in front, which marks a text in spreadsheets.
    """
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_as_text(cell) for cell in cells])
    return line.getvalue().removesuffix("\n")


def _as_text(cell: str) -> str:
    formula = FORMULA.match(cell) and not NUMBER.fullmatch(cell)
    return printable(f"'{cell}" if formula else cell)
