"""`table`: your own documents from a table, with a column for the text and one for each level of the labels.

It is a CSV or TSV file, a Parquet or JSON file, or what a Python program holds (`htc.datasets.sources`).

    text,area,topic
    The violin sings.,Arts,Music
    Heat flows.,Science,

The hierarchy is built from the labels in the file. Cells at the end of a path may be empty: the path then ends at an inner
node.

A path may also be in one cell, and with `path_separator` several paths:

    text,category
    The violin sings.,Arts > Music

and, where cells may be lists, in a list (`htc.datasets.paths_in_lists`).
"""

import logging
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from htc.datasets.cells import FEW, MISSING, STORED, Cells
from htc.datasets.dataset import Dataset, split_by_group
from htc.datasets.paths_in_cells import LIST, mark_between_paths, separator_in, split_cell
from htc.datasets.paths_in_lists import list_columns, paths_in_lists
from htc.datasets.rows import Rows, Shared
from htc.datasets.sources import SPLITS, Wanted, read_splits
from htc.datasets.stored_texts import AUTO, StoredTexts, TextStorage
from htc.labels.hierarchy import Hierarchy
from htc.labels.names import clean, no_text
from htc.labels.taxonomy import PATH_SEPARATOR
from rlkl_htc_common.errors import InputError

log = logging.getLogger(__name__)

MAY_BE_MISSING = ("NA", "N/A", "n/a", "#N/A", "None", "NULL", "null")  # missing values of R, Excel, Python and SQL; or names


def load_table(
    file: Any,
    *,
    text: str = "text",
    levels: Sequence[str] | None = None,
    path: str | None = None,
    separator: str | None = PATH_SEPARATOR,
    path_separator: str | None = None,
    split: str | None = None,
    dev: Any = None,
    test: Any = None,
    dev_fraction: float = 0.1,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    name: str | None = None,
    texts: str = AUTO,
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Read a table.

    Args:
        file: a file whose name ends in .csv (separated by commas or semicolons; the first line names the columns; unused
            columns need no name), .tsv (by tabs), .parquet, .jsonl or .json; a folder that `datasets` has saved; or a table in
            memory, or one for each split (`htc.datasets.sources`).
        text: the column of the texts.
        levels: the label columns from the top level down; default: the only one with lists, else all other columns with names,
            in order.
        path: the label column if one cell holds the whole path, from the top down, or a list; instead of `levels`.
        separator: the separator of the labels in a path; white space around it is ignored. Without `path`, cells that look like
            paths are refused; with None (or "") they are taken as labels.
        path_separator: the separator of several paths in one cell; default: one path.
        split: the column with train, dev (or val, validation) or test; default: splits are drawn.
        dev, test: the tables of these splits, as `file`; default: those that `file` has, else they are drawn from it.
        dev_fraction, test_fraction, split_seed: for drawn splits. Rows with the same text stay together.
        name: the dataset's name in reports; default: the file's name, `table` of one in memory.
        texts, cache_dir: where the texts are kept, `htc.datasets.stored_texts.TextStorage`.

    Raises:
        InputError: with file and line, or row.
    """
    others = None if levels is None and path is None else (*(levels or ()), path, split)
    tables = read_splits(file, dev, test, Wanted(text, others, TextStorage(texts, cache_dir)))
    first = tables["train"]
    if split is not None and len(tables) > 1:
        raise InputError("dataset.split names a column of splits, but dev or test is a table of its own; give one of them.")
    text_column = first.column(text, "dataset.text")
    taken = [text_column] if split is None else [text_column, first.column(split, "dataset.split")]
    label_columns, in_path = _label_columns(first, taken, levels, path)
    _refuse_twice(first, [*taken, *label_columns])
    parts = {each: _only(table, first, [*taken, *label_columns]) for each, table in tables.items()}
    table = replace(parts["train"], rows=Rows(row for part in parts.values() for row in part.rows))
    named = []
    for place, cells in table.rows:
        if cells[0] is not STORED:
            table.text(place, cells, 0)  # raises
            raise ValueError(f"{place}: the table was read for the texts of another column.")
        if split is not None:
            named.append(_split(place, cells[1]))
    labels = _labels(table, len(taken), in_path, separator, path_separator, chosen=levels is not None)
    _refuse_missing(table.rows.places, labels)
    hierarchy = Hierarchy.from_paths(each for paths in labels for each in paths)
    found = StoredTexts.joined([part.texts for part in parts.values()])
    if split is None:
        sizes = {each: len(part.rows) for each, part in parts.items()}
        splits = _completed(sizes, found, dev_fraction, test_fraction, split_seed)
    else:
        splits = _given_splits(table.source, named)
    name = name or (Path(file).stem if isinstance(file, str | Path) else "table")
    return Dataset(name, hierarchy, found, hierarchy.encode_sparse(labels), splits, table.rows.places)


def _labels(
    table: Cells, begin: int, in_path: bool, separator: str | None, path_separator: str | None, chosen: bool
) -> list[list[list[str]]]:
    """The paths of each row. Args: begin: the first column of labels; in_path: whether it holds paths, as cells or lists."""
    columns = range(begin, len(table.header))
    if in_path and list_columns(table, columns):
        return _paths_in_lists(table, begin, separator, path_separator)
    _refuse_no_texts(table, columns)
    if in_path:
        return _paths_in_cells(table, begin, separator, path_separator)
    return _paths_over_columns(table, columns, separator, chosen)


def _only(table: Cells, first: Cells, columns: list[int]) -> Cells:
    """A table with these columns alone. Args: columns: their numbers in the first table; in others they have the same names."""
    if table is not first:
        columns = [table.column(first.header[column], f"as in {first.source}") for column in columns]
    table.refuse_short_rows(columns)
    return table.only(columns)


def _completed(
    sizes: Mapping[str, int], texts: Sequence[str], dev_fraction: float, test_fraction: float, seed: int
) -> dict[str, torch.Tensor]:
    """The splits. Args: sizes: of those that are given, in the order of their documents; others are drawn from train."""
    if "dev" not in sizes or "test" not in sizes:
        drawn = split_by_group(texts[: sizes["train"]], dev_fraction, test_fraction, seed)
    else:
        drawn = {"train": torch.arange(sizes["train"])}
    splits, start = {}, 0
    for name in ("train", "dev", "test"):
        size = sizes.get(name, 0)
        splits[name] = torch.arange(start, start + size) if name in sizes and name != "train" else drawn[name]
        start += size
    unused = [drawn[name] for name in ("dev", "test") if name in drawn and name in sizes]
    return splits | {"train": torch.cat([splits["train"], *unused]).sort().values}


def _label_columns(table: Cells, taken: list[int], levels: Sequence[str] | None, path: str | None) -> tuple[list[int], bool]:
    """The columns of labels, and whether it is one that holds paths."""
    if path is not None:
        if levels is not None:
            raise InputError("dataset.levels and dataset.path are both given; give the columns of levels, or the one of paths.")
        return [table.column(path, "dataset.path")], True
    if levels is None:
        lists = list_columns(table, (i for i in range(len(table.header)) if i not in taken))
        if len(lists) > 1:
            names = ", ".join(repr(table.header[i]) for i in lists)
            raise InputError(f"{table.source}: the columns {names} hold lists; name that of the labels with dataset.path=NAME.")
        if lists:
            return lists, True
    columns = table.other_columns(taken) if levels is None else [table.column(level, "dataset.levels") for level in levels]
    if not columns:
        text = table.header[taken[0]]
        raise InputError(f"{table.head}: there is no column of labels beside {text!r}; give one for each level.")
    return columns, False


def _refuse_twice(table: Cells, used: list[int]) -> None:
    twice = next((column for column in used if used.count(column) > 1), None)
    if twice is not None:
        raise InputError(
            f"{table.head}: the column {table.header[twice]!r} is given twice; text, split and each level need their own."
        )


def _refuse_no_texts(table: Cells, columns: Sequence[int]) -> None:
    """Raise InputError for labels that are no texts."""
    for place, cells in table.rows:
        for column in columns:
            if not isinstance(cells[column], str):
                name = table.header[column]
                given = f"{place}: labels are texts, but "
                if isinstance(cells[column], list):
                    raise InputError(f"{given}the column {name!r} holds a list; read lists with {_option('path', name)}.")
                others = "; if it holds none, name the columns that do: dataset.levels=[...]."
                raise InputError(f"{given}{no_text(cells[column])} (column {name!r}){others}")


def _paths_in_lists(table: Cells, column: int, separator: str | None, path_separator: str | None) -> list[list[list[str]]]:
    if path_separator:
        raise InputError(
            f"{table.source}: the column {table.header[column]!r} holds lists, and dataset.path_separator is for several paths "
            "in one text; leave it out."
        )
    return paths_in_lists(table, column, separator)


def _paths_over_columns(table: Cells, columns: Sequence[int], separator: str | None, chosen: bool) -> list[list[list[str]]]:
    """The path of each row, with one column per label. Args: chosen: whether the user named the columns."""
    names = [table.header[i] for i in columns]
    shared = Shared()
    paths = []
    for place, cells in table.rows:
        path = _path(place, [cells[i] for i in columns], names)
        paths.append(shared(tuple(path), path))
    if not chosen and len(columns) > 1 and len({path[0] for path in paths}) == len(paths) >= FEW:
        others = _option("levels", f"[{','.join(names[1:])}]")
        raise InputError(
            f"{table.source}: every row has a label of its own in the column {names[0]!r}; if these are no labels, name the "
            f"columns that are: {others}."
        )
    if separator:
        for name, column in zip(names, columns, strict=True):
            _refuse_paths(table, column, name)
    return [shared((tuple(path),), [path]) for path in paths]


def _refuse_missing(places: Sequence[str], labels: list[list[list[str]]]) -> None:
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
    place = next(place for place, cells in table.rows if cells[column] == example)
    raise InputError(
        f"{place}: the label {example!r} (column {name!r}) looks like several in one cell, with {mark!r} between "
        f"them. Read a path with {_option('path', name)} {_option('separator', mark)}, several labels with "
        f"{_option('path', name)} {_option('path_separator', mark)}, or take the label as it is with dataset.separator=''."
    )


def _paths_in_cells(table: Cells, column: int, separator: str | None, path_separator: str | None) -> list[list[list[str]]]:
    """The paths of each row, from one cell."""
    name, several = table.header[column], path_separator or None
    if separator:
        _refuse_lists(Counter(cells[column] for _, cells in table.rows if cells[column]), table, name)
    found, shared = [], Shared()
    for place, cells in table.rows:
        parts = [cells[column]] if several is None else split_cell(cells[column], several)
        paths = [split_cell(part, separator) if separator else [part] for part in parts if part]
        if not paths or not all(paths):
            raise InputError(f"{place}: the row has no label.")
        for path in paths:
            if not all(path):
                raise InputError(f"{place}: the path {cells[column]!r} has an empty label between two {separator!r}.")
            _refuse_own_separator(place, path, name)
        found.append(shared(cells[column], paths))
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


def _split(place: str, cell: Any) -> str:
    if not isinstance(cell, str) or cell.lower() not in SPLITS:
        raise InputError(f"{place}: the split must be one of train, dev, test, not {cell!r}.")
    return SPLITS[cell.lower()]


def _given_splits(source: str, named: list[str]) -> dict[str, torch.Tensor]:
    splits = {name: torch.tensor([i for i, split in enumerate(named) if split == name]) for name in ("train", "dev", "test")}
    empty = [name for name, documents in splits.items() if not len(documents)]
    if empty:
        raise InputError(f"{source}: no row is marked as {empty[0]}; mark some, or leave dataset.split out to draw all splits.")
    return splits


def _option(key: str, value: str) -> str:
    """An option, quoted for a shell."""
    if not set(value).intersection("\n\t\r"):
        return shlex.quote(f"dataset.{key}={value}")
    escapes = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t", "\r": "\\r"})
    return f"dataset.{key}=$'{value.translate(escapes)}'"
