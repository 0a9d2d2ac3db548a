"""`table`: your own documents from one CSV or TSV file, with a column for the text and one for each level of the labels.

    text,area,topic
    The violin sings.,Arts,Music
    Heat flows.,Science,

The hierarchy is built from the labels in the file. Cells at the end of a path may be empty: the path then ends at an inner
node.

A path may also be in one cell, and with `path_separator` several paths:

    text,category
    The violin sings.,Arts > Music
"""

import logging
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from htc.datasets.cells import FEW, MISSING, Cells, read_cells
from htc.datasets.dataset import Dataset, split_by_group
from htc.datasets.paths_in_cells import LIST, mark_between_paths, separator_in, split_cell
from htc.labels.hierarchy import Hierarchy
from htc.labels.names import clean
from htc.labels.taxonomy import PATH_SEPARATOR
from htc.labels.text_files import read_text
from rlkl_htc_common.errors import InputError

log = logging.getLogger(__name__)

MAY_BE_MISSING = ("NA", "N/A", "n/a", "#N/A", "None", "NULL", "null")  # missing values of R, Excel, Python and SQL; or names
SPLITS = {"train": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev", "test": "test"}


def load_table(
    file: str | Path,
    *,
    text: str = "text",
    levels: Sequence[str] | None = None,
    path: str | None = None,
    separator: str | None = PATH_SEPARATOR,
    path_separator: str | None = None,
    split: str | None = None,
    dev_fraction: float = 0.1,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    name: str | None = None,
) -> Dataset:
    """Read a table.

    Args:
        file: its name ends in .csv (separated by commas or semicolons) or .tsv (by tabs). The first line names the columns;
            unused columns need no name.
        text: the column of the texts.
        levels: the label columns from the top level down; default: all other columns with names, in order.
        path: the label column if one cell holds the whole path, from the top down; instead of `levels`.
        separator: the separator of the labels in a path; white space around it is ignored. Without `path`, cells that look like
            paths are refused; with None (or "") they are taken as labels.
        path_separator: the separator of several paths in one cell; default: one path.
        split: the column with train, dev (or val, validation) or test; default: splits are drawn.
        dev_fraction, test_fraction, split_seed: for drawn splits. Rows with the same text stay together.
        name: the dataset's name in reports; default: the file's name.

    Raises:
        InputError: with file and line.
    """
    file = Path(file)
    table = read_cells(read_text(file, "the table"), str(file), tabs=file.suffix.lower() == ".tsv")
    text_column = table.column(text, "dataset.text")
    split_column = None if split is None else table.column(split, "dataset.split")
    taken = [text_column] if split_column is None else [text_column, split_column]
    label_columns = _label_columns(table, taken, levels, path)
    _refuse_twice(table, [*taken, *label_columns])
    table.refuse_short_rows([*taken, *label_columns])
    texts, places, named = [], [], []
    for line, cells in table.rows:
        place = f"{file}:{line}"
        texts.append(table.text(line, cells, text_column))
        places.append(place)
        if split_column is not None:
            named.append(_split(place, cells[split_column]))
    if path is None:
        labels = _paths_over_columns(table, label_columns, separator, chosen=levels is not None)
    else:
        labels = _paths_in_cells(table, label_columns[0], separator, path_separator)
    _refuse_missing(places, labels)
    hierarchy = Hierarchy.from_paths(each for paths in labels for each in paths)
    if split_column is None:
        splits = split_by_group(texts, dev_fraction, test_fraction, split_seed)
    else:
        splits = _given_splits(file, named)
    return Dataset(name or file.stem, hierarchy, texts, hierarchy.encode_sparse(labels), splits, places)


def _label_columns(table: Cells, taken: list[int], levels: Sequence[str] | None, path: str | None) -> list[int]:
    if path is not None:
        if levels is not None:
            raise InputError("dataset.levels and dataset.path are both given; give the columns of levels, or the one of paths.")
        return [table.column(path, "dataset.path")]
    columns = table.other_columns(taken) if levels is None else [table.column(level, "dataset.levels") for level in levels]
    if not columns:
        text = table.header[taken[0]]
        raise InputError(f"{table.source}:{table.line}: there is no column of labels beside {text!r}; give one for each level.")
    return columns


def _refuse_twice(table: Cells, used: list[int]) -> None:
    twice = next((column for column in used if used.count(column) > 1), None)
    if twice is not None:
        raise InputError(
            f"{table.source}:{table.line}: the column {table.header[twice]!r} is given twice; text, split and each level need "
            "their own."
        )


def _paths_over_columns(table: Cells, columns: list[int], separator: str | None, chosen: bool) -> list[list[list[str]]]:
    """The path of each row, with one column per label. Args: chosen: whether the user named the columns."""
    names = [table.header[i] for i in columns]
    paths = [_path(f"{table.source}:{line}", [cells[i] for i in columns], names) for line, cells in table.rows]
    if not chosen and len(columns) > 1 and len({path[0] for path in paths}) == len(paths) >= FEW:
        others = _option("levels", f"[{','.join(names[1:])}]")
        raise InputError(
            f"{table.source}: every row has a label of its own in the column {names[0]!r}; if these are no labels, name the "
            f"columns that are: {others}."
        )
    if separator:
        for name, column in zip(names, columns, strict=True):
            _refuse_paths(table, column, name)
    return [[path] for path in paths]


def _refuse_missing(places: list[str], labels: list[list[list[str]]]) -> None:
    """Raise InputError for missing values as labels; warn of labels that may be missing values. Args: labels: per row."""
    known = {label for paths in labels for path in paths for label in path}
    for missing in (each for each in MISSING if each in known):
        place = next(place for place, paths in zip(places, labels, strict=True) for path in paths if missing in path)
        raise InputError(f"{place}: a label is {missing!r}, as pandas writes what is missing; leave it out.")
    for label in sorted(known.intersection(MAY_BE_MISSING)):
        log.warning("%r is taken for a label; if it stands for none, leave it out of the table", label)


def _refuse_lists(labels: Counter[str], table: Cells, name: str) -> None:
    """Raise InputError for cells that are lists in Python's or JSON's notation."""
    lists = [label for label in labels if LIST.fullmatch(label)]
    if sum(labels[label] for label in lists) * 2 > labels.total():
        raise InputError(
            f"{table.source}: the labels in the column {name!r} are lists, such as {lists[0]!r}; write paths as "
            f"Arts{PATH_SEPARATOR}Music and read them with {_option('path', name)}, or take a folder with JSON lines "
            "(dataset=custom)."
        )


def _refuse_paths(table: Cells, column: int, name: str) -> None:
    """Raise InputError for labels that look like paths, with the options to read them as paths or as labels."""
    labels = Counter(cells[column] for _, cells in table.rows if cells[column])
    _refuse_lists(labels, table, name)
    whole = next((label for label in labels if PATH_SEPARATOR in label), None)
    mark = separator_in(labels) if whole is None else PATH_SEPARATOR.strip()
    if mark is None:
        return
    example = whole or next(label for label in labels if len(split_cell(label, mark)) > 1)
    line = next(line for line, cells in table.rows if cells[column] == example)
    raise InputError(
        f"{table.source}:{line}: the label {example!r} (column {name!r}) looks like several in one cell, with {mark!r} between "
        f"them. Read a path with {_option('path', name)} {_option('separator', mark)}, several labels with "
        f"{_option('path', name)} {_option('path_separator', mark)}, or take the label as it is with dataset.separator=''."
    )


def _paths_in_cells(table: Cells, column: int, separator: str | None, path_separator: str | None) -> list[list[list[str]]]:
    """The paths of each row, from one cell."""
    name, several = table.header[column], path_separator or None
    if separator:
        _refuse_lists(Counter(cells[column] for _, cells in table.rows if cells[column]), table, name)
    found = []
    for line, cells in table.rows:
        place = f"{table.source}:{line}"
        parts = [cells[column]] if several is None else split_cell(cells[column], several)
        paths = [split_cell(part, separator) if separator else [part] for part in parts if part]
        if not paths or not all(paths):
            raise InputError(f"{place}: the row has no label.")
        for path in paths:
            if not all(path):
                raise InputError(f"{place}: the path {cells[column]!r} has an empty label between two {separator!r}.")
            _refuse_own_separator(place, path, name)
        found.append(paths)
    _refuse_separators_that_do_not_fit(table, found, name, separator, several)
    return found


def _refuse_own_separator(place: str, path: list[str], name: str) -> None:
    label = next((label for label in path if PATH_SEPARATOR in label), None)
    if label is not None:
        raise InputError(
            f"{place}: the label {label!r} (column {name!r}) holds {PATH_SEPARATOR!r}, which stands between labels of a path; "
            f"read it as a path with {_option('separator', PATH_SEPARATOR.strip())}, or write it otherwise."
        )


def _refuse_separators_that_do_not_fit(
    table: Cells, found: list[list[list[str]]], name: str, separator: str | None, several: str | None
) -> None:
    paths = [path for of_row in found for path in of_row]
    if separator and several is None and all(len(path) == 1 for path in paths):
        mark = separator_in(Counter(path[0] for path in paths))
        hint = "give another with dataset.separator=..." if mark is None else f"is it {_option('separator', mark)}?"
        raise InputError(
            f"{table.source}: no cell of the column {name!r} holds the separator {separator!r}; {hint} Single labels are read "
            f"with {_option('levels', f'[{name}]')}."
        )
    mark = mark_between_paths(paths) if several is None else None
    if mark is not None:
        raise InputError(
            f"{table.source}: some cells of the column {name!r} hold several paths, with {mark!r} between them; read them with "
            f"{_option('path_separator', mark)}."
        )


def _path(place: str, cells: list[str], columns: list[str]) -> list[str]:
    cells = [clean(cell) for cell in cells]
    path = [cell for cell in cells if cell]
    if not path:
        raise InputError(f"{place}: the row has no label.")
    if cells[: len(path)] != path:
        gap = cells.index("")
        raise InputError(
            f"{place}: the label in column {columns[gap]!r} is empty, but there is one below it ({cells[gap + 1 :]})."
        )
    return path


def _split(place: str, cell: str) -> str:
    if cell.lower() not in SPLITS:
        raise InputError(f"{place}: the split must be one of train, dev, test, not {cell!r}.")
    return SPLITS[cell.lower()]


def _given_splits(file: Path, named: list[str]) -> dict[str, torch.Tensor]:
    splits = {name: torch.tensor([i for i, split in enumerate(named) if split == name]) for name in ("train", "dev", "test")}
    empty = [name for name, documents in splits.items() if not len(documents)]
    if empty:
        raise InputError(f"{file}: no row is marked as {empty[0]}; mark some, or leave dataset.split out to draw all splits.")
    return splits


def _option(key: str, value: str) -> str:
    """An option, quoted for a shell."""
    if not set(value).intersection("\n\t\r"):
        return shlex.quote(f"dataset.{key}={value}")
    escapes = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t", "\r": "\\r"})
    return f"dataset.{key}=$'{value.translate(escapes)}'"
