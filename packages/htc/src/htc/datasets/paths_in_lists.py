"""Label paths in a column of lists: a path as a list of labels; several as a list of lists, or of texts as `Arts > Music`."""

import shlex
from collections import Counter
from collections.abc import Iterable
from typing import Any

from htc.datasets.cells import Cells
from htc.datasets.paths_in_cells import separator_in, split_cell
from htc.datasets.rows import Shared
from htc.labels.names import read_paths
from rlkl_htc_common.errors import InputError


def list_columns(table: Cells, columns: Iterable[int]) -> list[int]:
    """Those columns whose cells are lists of texts, or lists of such lists."""
    return [column for column in columns if any(_of_texts(cells[column]) for _, cells in table.rows if column < len(cells))]


def _of_texts(cell: Any) -> bool:
    if not isinstance(cell, list):
        return False
    while isinstance(cell, list):
        cell = next((each for each in cell if each not in ("", [])), None)
    return isinstance(cell, str)


def paths_in_lists(table: Cells, column: int, separator: str | None) -> list[list[list[str]]]:
    """The paths of each row.

    A list of lists holds paths. A list of texts holds paths if some text of the column has the separator; else it is one path
    from the top down.

    Args:
        separator: of the labels of a path in one text; None or "": each text of a list is a label without others above it.

    Raises:
        InputError: with the place of a row that has no label, an empty one, or one that is no text; for lists of texts that
            have no order.
    """
    rows = [[cells[column]] if isinstance(cells[column], str) else cells[column] for _, cells in table.rows]
    texts = [row for row in rows if _is_flat(row)]
    split = bool(separator) and any(len(split_cell(text, separator)) > 1 for row in texts for text in row if separator)
    if separator and not split:
        _refuse_other_separator(table, column, texts)
        _refuse_sets(table, column, rows)
    found, shared = [], Shared()
    for (place, _), row in zip(table.rows, rows, strict=True):
        try:
            paths = _paths_of(row, separator if split else None, each_alone=not separator)
            found.append(shared(tuple(map(tuple, paths)), paths))
        except InputError as error:
            raise InputError(f"{place}: {str(error).rstrip('.')} (column {table.header[column]!r}).") from error
    return found


def _is_flat(cell: Any) -> bool:
    return isinstance(cell, list) and all(isinstance(each, str) for each in cell)


def _paths_of(cell: Any, separator: str | None, each_alone: bool) -> list[list[str]]:
    if isinstance(cell, list) and _is_flat(cell) and (separator or each_alone):
        cell = [split_cell(text, separator) if separator else [text] for text in cell if text]
    paths = [list(path) for path in read_paths(cell)]
    if not paths:
        raise InputError("the row has no label")
    return paths


def _refuse_other_separator(table: Cells, column: int, rows: list[list[str]]) -> None:
    """Raise InputError if the texts look like paths with another separator."""
    mark = separator_in(Counter(text for row in rows for text in row))
    if mark is not None:
        raise InputError(
            f"{table.source}: the texts in the lists of the column {table.header[column]!r} look like paths, with {mark!r} "
            f"between their labels; read them with dataset.separator={shlex.quote(mark)}, or take them as labels with "
            "dataset.separator=''."
        )


def _refuse_sets(table: Cells, column: int, cells: list[Any]) -> None:
    """Raise InputError if most lists hold labels that stand first in one and later in another, as those of a set do."""
    rows = [cell for cell in cells if _is_flat(cell)]
    paths = [row for row in rows if len(row) > 1]
    firsts, later = Counter(row[0] for row in rows if row), {text for row in paths for text in row[1:]}
    mixed = [row for row in paths if any(text in firsts and text in later for text in row)]
    if len(mixed) * 2 > len(paths):
        example = table.rows[cells.index(mixed[0])][0]
        raise InputError(
            f"{example}: lists such as {mixed[0]!r:.80} (column {table.header[column]!r}) look like sets of labels, not like "
            "paths from the top down: a label stands first in one, and later in another. Read each as a label by itself with "
            "dataset.separator='', or write paths as 'Arts > Music', or as lists in the list."
        )
