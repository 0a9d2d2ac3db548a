"""Predictions as a file: JSON lines, CSV or Parquet, with the columns of the input before them.

The file appears once it is complete: until then its rows are in a temporary file beside it.
"""

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, time
from decimal import Decimal
from itertools import tee
from pathlib import Path
from typing import Any

from htc.datasets.cells import is_unicode
from htc.datasets.texts import Row
from htc.predictor import LABELS, PROBABILITY, LabelPath, Predictor, ends, path_texts
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import require
from rlkl_htc_common.terminal import csv_line

ROW_GROUP = 8192  # rows that are written to a Parquet file at once


def as_record(paths: list[LabelPath]) -> list[list[dict[str, Any]]]:
    """Predicted paths as JSON: lists of `{"label", "probability"}` from the top down."""
    return [[step._asdict() for step in path] for path in paths]


def labelled(model: Predictor, rows: Iterator[Row], coverage: float | None = None) -> Iterator[tuple[Row, list[LabelPath]]]:
    """Each row with the paths of its text; the rows that are being labelled, and no others, are in memory."""
    rows, to_label = tee(rows)
    answers = model.stream((row.text for row in to_label), coverage=coverage)
    for row, (_, paths) in zip(rows, answers, strict=True):
        yield row, paths


class Writer(ABC):
    """Writes predictions into a new file. Args: prefix: what the names of their columns begin with."""

    def __init__(self, file: Path, prefix: str) -> None:
        self.file, self.prefix = file, prefix
        self.new = [prefix + LABELS, prefix + PROBABILITY]

    @abstractmethod
    def write(self, row: Row, paths: list[LabelPath]) -> None:
        """Write a row. Raises InputError for one that does not fit into the file."""

    def finish(self) -> None:  # noqa: B027 - most have nothing left
        """Write what is left."""

    @abstractmethod
    def close(self) -> None:
        """Close the file, complete or not."""

    def refuse_same_names(self, row: Row, new: Sequence[str]) -> None:
        """Raise InputError if the predictions would have the name of a column of the input, or two of these one name."""
        taken = next((name for name in new if name in row.columns), None)
        if taken is not None:
            raise InputError(
                f"{row.place}: the input has a column {taken!r} of its own; put something in front of the names of the "
                "predictions' columns, such as prefix=predicted_."
            )
        twice = next((name for name in row.columns if row.columns.count(name) > 1), None)
        if twice is not None:
            raise InputError(
                f"{row.place}: the input has several columns {twice!r}; rename them, so that each has its own name."
            )


class JsonLines(Writer):
    """One object a line, with the predicted paths as in `htc-predict format=jsonl`."""

    def __init__(self, file: Path, prefix: str) -> None:
        super().__init__(file, prefix)
        self._out = file.open("w", encoding="utf-8")

    def write(self, row: Row, paths: list[LabelPath]) -> None:
        """See `Writer`."""
        self.refuse_same_names(row, self.new[:1])
        record = {name: _json_value(row, value) for name, value in zip(row.columns, row.values, strict=True)}
        record[self.new[0]] = as_record(paths)
        line = json.dumps(record, ensure_ascii=False)
        self._out.write((line if is_unicode(line) else json.dumps(record)) + "\n")

    def close(self) -> None:
        """See `Writer`."""
        self._out.close()


class Csv(Writer):
    """A table for spreadsheets, as `htc-predict format=csv`: several paths of a row are separated by semicolons."""

    def __init__(self, file: Path, prefix: str) -> None:
        super().__init__(file, prefix)
        self._out = file.open("w", encoding="utf-8", newline="")
        self._columns: list[str] | None = None

    def write(self, row: Row, paths: list[LabelPath]) -> None:
        """See `Writer`."""
        if self._columns is None:
            self.refuse_same_names(row, self.new)
            self._columns = row.columns
            self._out.write(csv_line([*row.columns, *self.new]) + "\n")
        values = _in_columns(row, self._columns)
        cells = [_cell(row, value) for value in values]
        self._out.write(csv_line([*cells, "; ".join(path_texts(paths)), "; ".join(map(str, ends(paths)))]) + "\n")

    def close(self) -> None:
        """See `Writer`."""
        self._out.close()


class Parquet(Writer):
    """A Parquet file: predicted paths as a list of texts, their probabilities as a list of numbers.

    Columns of another Parquet file keep their types. Those of JSON have the types of the first `ROW_GROUP` rows.
    """

    def __init__(self, file: Path, prefix: str) -> None:
        require("htc[data]", "pyarrow")
        super().__init__(file, prefix)
        self._rows: list[Row] = []
        self._paths: list[list[LabelPath]] = []
        self._writer: Any = None
        self._schema: Any = None

    def write(self, row: Row, paths: list[LabelPath]) -> None:
        """See `Writer`."""
        if self._schema is None and not self._rows:
            self.refuse_same_names(row, self.new)
        self._rows.append(row)
        self._paths.append(paths)
        if len(self._rows) == ROW_GROUP:
            self._write_group()

    def finish(self) -> None:
        """See `Writer`."""
        if self._rows:
            self._write_group()

    def close(self) -> None:
        """See `Writer`."""
        if self._writer is not None:
            self._writer.close()

    def _write_group(self) -> None:
        import pyarrow
        import pyarrow.parquet

        if self._schema is None:
            self._schema = self._schema_of_input()
        names = self._schema.names
        try:
            values = [_in_columns(row, names) for row in self._rows]
            columns = [pyarrow.array([row[i] for row in values], self._schema.field(i).type) for i in range(len(names))]
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{self._rows[0].place}: from here on, {len(self._rows)} rows do not fit into the columns of a Parquet file "
                f"({str(error).partition(chr(10))[0]}); write JSON lines."
            ) from error
        labels = pyarrow.array(list(map(path_texts, self._paths)), pyarrow.list_(pyarrow.string()))
        probability = pyarrow.array(list(map(ends, self._paths)), pyarrow.list_(pyarrow.float64()))
        table = pyarrow.table([*columns, labels, probability], names=[*names, *self.new])
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self.file, table.schema)
        self._writer.write_table(table)
        self._rows, self._paths = [], []

    def _schema_of_input(self) -> Any:
        import pyarrow

        names = list(dict.fromkeys(name for row in self._rows for name in row.columns))
        if self._rows[0].types is not None:
            return pyarrow.schema(list(zip(names, self._rows[0].types, strict=True)))
        types = []
        for name in names:
            values = [_in_columns(row, names)[names.index(name)] for row in self._rows]
            try:
                kind = pyarrow.array(values).type
            except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise InputError(
                    f"{self._rows[0].place}: the values of {name!r} are of different types, so that they are no column of a "
                    "Parquet file; write JSON lines."
                ) from error
            types.append(pyarrow.string() if pyarrow.types.is_null(kind) else kind)
        return pyarrow.schema(list(zip(names, types, strict=True)))


WRITERS: dict[str, type[Writer]] = {".jsonl": JsonLines, ".ndjson": JsonLines, ".csv": Csv, ".parquet": Parquet, ".pq": Parquet}


@contextmanager
def writing(file: Path, prefix: str = "", overwrite: bool = False) -> Iterator[Writer]:
    """A writer for a file, by its ending. After an error, no file is left, and an older one is as it was.

    Raises:
        InputError: for another ending; for a file that exists, unless it may be overwritten, or cannot be written.
    """
    check_output(file, overwrite)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        writer = WRITERS[file.suffix.lower()](temporary, prefix)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()
        temporary.replace(file)
    except OSError as error:
        raise InputError(f"{file}: cannot write the predictions: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_output(file: Path, overwrite: bool) -> None:
    """Raise InputError for a file that predictions cannot be written to, see `writing`."""
    if file.suffix.lower() not in WRITERS:
        raise InputError(f"{file}: predictions are written as {', '.join(WRITERS)}; let the output end in one of these.")
    if file.exists() and not overwrite:
        raise InputError(f"{file} exists; choose another output, or replace it with overwrite=true.")
    if file.is_dir():
        raise InputError(f"{file} is a folder; choose another output.")
    if file.suffix.lower() in (".parquet", ".pq"):
        require("htc[data]", "pyarrow")


def _in_columns(row: Row, columns: Sequence[str]) -> list[Any]:
    """The values of a row in the order of columns, None where it has none. Raises InputError for a column that is not there."""
    if row.columns == columns:
        return row.values
    found = dict(zip(row.columns, row.values, strict=True))
    more = next((name for name in found if name not in columns), None)
    if more is not None:
        raise InputError(f"{row.place}: {more!r} is in no row before, so that it has no column; write JSON lines.")
    return [found.get(name) for name in columns]


def _json_value(row: Row, value: Any) -> Any:
    """A value of Parquet or JSON for JSON: dates as texts, NaN as null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [_json_value(row, each) for each in value]
    if isinstance(value, dict):
        return {str(key): _json_value(row, each) for key, each in value.items()}
    if isinstance(value, date | time):
        return value.isoformat()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Decimal):
        return str(value)
    kind = type(value).__name__
    raise InputError(f"{row.place}: a value of the type {kind} can be written neither as JSON nor as CSV; write .parquet.")


def _cell(row: Row, value: Any) -> str:
    if isinstance(value, str):
        return value
    value = _json_value(row, value)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
