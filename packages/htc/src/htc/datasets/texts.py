"""Texts to label, in the formats of training documents (tables, JSON) and as plain text with one text per line."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from htc.datasets.cells import SEPARATOR_LINE, read_cells
from htc.datasets.json_values import json_values_in
from htc.datasets.jsonlines import document_text
from htc.labels.text_files import UTF16_MARKS, decoded, lines_of
from rlkl_htc_common.errors import InputError

NAMES = {"lines": "lines", "json": "json", "jsonl": "json", "csv": "csv", "tsv": "tsv"}  # option -> format
ENDINGS = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".tsv": "tsv", ".txt": "lines", "": "lines"}
READABLE = "tables (.csv, .tsv), JSON (.json, .jsonl) and plain text with one text a line (.txt)"
COLUMN_NAME = re.compile(r"[^\W\d]([\w .-]{0,38}\w)?")
CLASS_NUMBER = re.compile(r"\d{1,3}")
MARKUP_BEGINS = re.compile(r"<(\?xml|!|[a-z][\w:.-]*(\s[^<>]*)?/?>)", re.IGNORECASE)
JSON_BEGINS = re.compile(r'\{\s*("|$)|\[\s*(["{\[]|$)')


def format_named(name: str) -> str:
    """The format for the option `input_format`. Raises InputError for an unknown one."""
    if name not in NAMES:
        raise InputError(f"input_format must be one of {', '.join(NAMES)}, not {name!r}.")
    return NAMES[name]


def format_of(file: Path) -> str:
    """The format of a file by its ending. Raises InputError for an unknown ending."""
    ending = file.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(
            f"{file}: cannot tell what a {ending!r} file holds; texts are read from {READABLE}. Save it as one, or say "
            f"which it is: input_format={'|'.join(NAMES)}."
        )
    return ENDINGS[ending]


def texts_in(lines: Iterable[bytes], source: str, format: str, column: str, sure: bool) -> Iterator[str]:
    """The texts in a file or a stream, in order; plain lines and JSON lines are streamed.

    Args:
        lines: its lines, with line ends.
        source: its name in errors.
        format: lines, json, csv or tsv.
        column: the text column of a table.
        sure: whether the user named the format; else plain text that looks like a table or JSON is refused.

    Raises:
        InputError: with the line, for input that is not text or not in this format, and for an empty text.
    """
    if format == "lines":
        return _plain(lines, source, None if sure else column)
    if format == "json":
        return _of_json(lines, source)
    return _of_table(decoded(b"".join(lines), source, "the table"), source, column, tabs=format == "tsv")


def _of_table(content: str, source: str, name: str, tabs: bool) -> Iterator[str]:
    table = read_cells(content, source, tabs)
    column = table.column(name, "text_column")
    table.refuse_short_rows([column])
    for line, cells in table.rows:
        yield table.text(line, cells, column)


def _of_json(lines: Iterable[bytes], source: str) -> Iterator[str]:
    for place, value in json_values_in(lines, source):
        try:
            yield document_text(_as_record(value))
        except InputError as error:
            raise InputError(f"{place}: {error}") from error


def _as_record(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"text": value}
    if not isinstance(value, dict):
        raise InputError('expected a JSON object with a text, {"text": "..."}, or a text.')
    return value


def _plain(lines: Iterable[bytes], source: str, column: str | None) -> Iterator[str]:
    """Lines that are not blank. Args: column: if the first lines contain it, this is a table; None: do not check."""
    texts = ((number, text) for number, line in _numbered(lines, source) if (text := line.strip()))
    head = list(islice(texts, 0 if column is None else 2))
    if head and column is not None:
        other = _other_form([text for _, text in head], column)
        if other is not None:
            raise InputError(
                f"{source}:{head[0][0]}: this looks like {other}, not like plain text with one text a line; say which it is: "
                f"input_format={'|'.join(NAMES)}."
            )
    yield from (text for _, text in chain(head, texts))


def _numbered(lines: Iterable[bytes], source: str) -> Iterator[tuple[int, str]]:
    """Decoded lines, numbered from 1."""
    lines = iter(lines)
    first = next(lines, b"")
    if first.startswith(UTF16_MARKS):  # other line ends
        yield from enumerate(lines_of(decoded(first + b"".join(lines), source, "the text")), start=1)
        return
    yield from enumerate(lines_of(decoded(first, source, "the line")), start=1)  # several lines if the file has no line feed
    for number, line in enumerate(lines, start=2):
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{source}:{number}: the line is not UTF-8 text; save it as UTF-8.") from error
        if "\0" in text:
            raise InputError(f"{source}:{number}: the line holds a NUL character, so that it is no text.")
        yield number, text


def _other_form(head: list[str], column: str) -> str | None:
    """The format of the first lines if it is not plain text. Args: head: one or two lines; column: a table's text column."""
    first = head[0]
    if JSON_BEGINS.match(first):
        return "JSON"
    if MARKUP_BEGINS.match(first):
        return "XML or HTML"
    if first.startswith("__label__"):
        return "fastText's format, in which labels stand before a text"
    if "\t" in first:
        return "a table with tabs between its cells"
    if SEPARATOR_LINE.fullmatch(first):
        return "a table of Excel, whose first line says what separates cells"
    if first.startswith('"') and first.count('"') % 2:
        return "a table, in which a quoted text goes on in the next line"
    for mark in ",;|":
        cells = [cell.strip().strip('"') for cell in first.split(mark)]
        in_prose = f"{mark} " in first
        goes_on = any(line.startswith('"') or _unquoted(line).count(mark) == len(cells) - 1 for line in head[1:])
        if column.lower() in map(str.lower, cells) and (goes_on or not in_prose):
            return f"a table with a column {column!r}"
        if len(cells) > 1 and goes_on and not in_prose and all(map(COLUMN_NAME.fullmatch, cells)):
            return "a table with the columns " + ", ".join(map(repr, cells))
        if len(head) == 2 and _are_rows(list(map(_unquoted, head)), mark):
            return f"a table with {mark!r} between its cells and without a header"
    return None


def _are_rows(lines: list[str], mark: str) -> bool:
    """Whether lines look like rows that end in a label or a quoted text. Args: lines: without quoted parts."""
    counts = {line.count(mark) for line in lines}
    if counts == {0} or len(counts) > 1 or any(f"{mark} " in line for line in lines):
        return False
    befores, _, ends = zip(*(line.rpartition(mark) for line in lines), strict=True)
    labels = all(not end or COLUMN_NAME.fullmatch(end) or CLASS_NUMBER.fullmatch(end) for end in ends)
    return labels and not any(before[-1:].isdigit() and end[:1].isdigit() for before, end in zip(befores, ends, strict=True))


def _unquoted(line: str) -> str:
    return "".join(line.split('"')[::2])
