"""Texts to label, with their rows: in the formats of training documents (tables, JSON), and as plain text, one a line."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from htc.datasets.cells import SEPARATOR_LINE, stream_cells
from htc.datasets.json_values import json_values_in
from htc.datasets.jsonlines import document_text, joined_text
from htc.datasets.sources import plain, stream_parquet
from htc.labels.text_files import decoded_lines
from rlkl_htc_common.errors import InputError

NAMES = {
    "lines": "lines",
    "json": "json",
    "jsonl": "json",
    "csv": "csv",
    "tsv": "tsv",
    "parquet": "parquet",
}  # option -> format
ENDINGS = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "lines",
    "": "lines",
}
READABLE = "tables (.csv, .tsv, .parquet), JSON (.json, .jsonl) and plain text with one text a line (.txt)"
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


class Row(NamedTuple):
    """What is to be labelled.

    Attributes:
        place: where it is, for errors.
        text: the text.
        columns: the names of the input's columns, the text's among them.
        values: their values.
        types: their types, of pyarrow; None if the input has no types.
    """

    place: str
    text: str
    columns: list[str]
    values: list[Any]
    types: list[Any] | None = None


def rows_in(lines: BinaryIO, source: str, format: str, column: str, sure: bool, named: bool = False) -> Iterator[Row]:
    """The texts in a file or a stream, in order, each with its row; they are read as they are asked for.

    An array of JSON, and text in UTF-16, is read as a whole.

    Args:
        lines: its lines, with line ends.
        source: its name in errors.
        format: lines, json, csv, tsv or parquet.
        column: the text column of a table, or the key of the text in JSON if a record has it; else see `document_text`.
        named: whether the user named this column, so that JSON must have it.
        sure: whether the user named the format; else plain text that looks like a table or JSON is refused.

    Raises:
        InputError: with the line, for input that is not text or not in this format, and for an empty text.
    """
    if format == "lines":
        return _plain(lines, source, None if sure else column)
    if format == "parquet":
        return _of_parquet(lines, source, column)
    if format == "json":
        return _of_json(lines, source, column, named)
    return _of_table(lines, source, column, tabs=format == "tsv")


def _of_table(lines: Iterable[bytes], source: str, name: str, tabs: bool) -> Iterator[Row]:
    table, rows = stream_cells(lines, source, tabs)
    column = table.column(name, "text_column")
    columns = [each or f"column {number}" for number, each in enumerate(table.header, start=1)]
    for place, cells in rows:
        table.refuse_short_row(place, cells, [column])
        cells += [""] * (len(columns) - len(cells))
        yield Row(place, table.text(place, cells, column), columns, cells[: len(columns)])


def _of_parquet(file: BinaryIO, source: str, name: str) -> Iterator[Row]:
    table, schema, rows = stream_parquet(file, source)
    column = table.column(name, "text_column")
    of_text, columns, types = table.only([column]), list(schema.names), list(schema.types)
    for place, values in rows:
        yield Row(place, of_text.text(place, [plain(values[column])], 0), columns, values, types)


def _text_of(record: dict[str, Any], column: str, named: bool) -> str:
    token = record.get(column)
    if token is None and named:
        raise InputError(f"the document has no {column!r} (text_column).")
    return document_text(record) if token is None or (column == "text" and not named) else joined_text(token, column)


def _of_json(lines: Iterable[bytes], source: str, column: str, named: bool) -> Iterator[Row]:
    for place, value in json_values_in(lines, source):
        try:
            record = _as_record(value)
            yield Row(place, _text_of(record, column, named), list(record), list(record.values()))
        except InputError as error:
            raise InputError(f"{place}: {error}") from error


def _as_record(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"text": value}
    if not isinstance(value, dict):
        raise InputError('expected a JSON object with a text, {"text": "..."}, or a text.')
    return value


def _plain(lines: Iterable[bytes], source: str, column: str | None) -> Iterator[Row]:
    """Lines that are not blank. Args: column: if the first lines contain it, this is a table; None: do not check."""
    numbered = decoded_lines(lines, source, "the line")
    texts = ((number, text) for number, line in numbered if (text := line.strip()))
    head = list(islice(texts, 0 if column is None else 2))
    if head and column is not None:
        other = _other_form([text for _, text in head], column)
        if other is not None:
            raise InputError(
                f"{source}:{head[0][0]}: this looks like {other}, not like plain text with one text a line; say which it is: "
                f"input_format={'|'.join(NAMES)}."
            )
    yield from (Row(f"{source}:{number}", text, ["text"], [text]) for number, text in chain(head, texts))


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
