"""`table`: the user's own documents from one CSV or TSV file, with a column for the text and one for each level of the labels.

    text,area,topic
    The violin sings.,Arts,Music
    Heat flows.,Science,

The hierarchy is that of the labels in the file. Cells at the end of a path may be empty: labels then end at an inner node.
"""

import csv
import io
import logging
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

import torch

from htc.datasets.dataset import Dataset, split_by_group
from htc.errors import InputError
from htc.hierarchy import Hierarchy
from htc.names import clean
from htc.text_files import read_text

log = logging.getLogger(__name__)

SPLITS = {"train": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev", "test": "test"}


def load_table(
    file: str | Path,
    *,
    text: str = "text",
    levels: Sequence[str] | None = None,
    split: str | None = None,
    dev_fraction: float = 0.1,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    name: str | None = None,
) -> Dataset:
    """Read a table.

    Args:
        file: its name ends in .csv (cells separated by commas or semicolons) or .tsv (by tabs); the first line names the
            columns.
        text: the column of the texts.
        levels: the columns of the labels from the top level down; by default all others, in their order.
        split: the column that says train, dev (or val, validation) or test; by default splits are drawn.
        dev_fraction, test_fraction, split_seed: of that draw. Rows with the same text stay together.
        name: what reports call the dataset; by default the file's name.

    Raises:
        InputError: with file and line.
    """
    file = Path(file)
    header, rows = _read(file)
    text_column = _column(file, header, text, "dataset.text")
    split_column = None if split is None else _column(file, header, split, "dataset.split")
    if levels is None:
        level_columns = [i for i in range(len(header)) if i not in (text_column, split_column)]
    else:
        level_columns = [_column(file, header, level, "dataset.levels") for level in levels]
    used = [text_column, *([] if split_column is None else [split_column]), *level_columns]
    twice = next((column for column in used if used.count(column) > 1), None)
    if twice is not None:
        raise InputError(f"{file}:1: the column {header[twice]!r} is given twice; text, split and each level need their own.")
    if not level_columns:
        raise InputError(f"{file}:1: there is no column of labels beside {text!r}; give one for each level.")
    texts, paths, places, named = [], [], [], []
    for line, cells in rows:
        place = f"{file}:{line}"
        if not cells[text_column]:
            raise InputError(f"{place}: the text (column {header[text_column]!r}) is empty.")
        texts.append(cells[text_column])
        paths.append(_path(place, [cells[i] for i in level_columns], [header[i] for i in level_columns]))
        places.append(place)
        if split_column is not None:
            named.append(_split(place, cells[split_column]))
    hierarchy = Hierarchy.from_paths(paths)
    if split_column is None:
        splits = split_by_group(texts, dev_fraction, test_fraction, split_seed)
    else:
        splits = _given_splits(file, named)
    return Dataset(name or file.stem, hierarchy, texts, hierarchy.encode([path] for path in paths), splits, places)


def _read(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The column names, and the cells of each row that is not blank, with the line where it ends."""
    content = read_text(file, "the table")
    delimiter, content = _delimiter(file, content)
    lines = list(_rows(file, content, delimiter))
    if not lines:
        raise InputError(f"{file}: the table is empty.")
    (_, header), rows = lines[0], lines[1:]
    if len(set(header)) < len(header) or not all(header):
        raise InputError(f"{file}:1: the columns must have names, each its own, but they are {', '.join(map(repr, header))}.")
    if not rows:
        raise InputError(f"{file}: the table has columns but no row.")
    for line, cells in rows:
        if len(cells) != len(header):
            raise InputError(
                f"{file}:{line}: the row has {len(cells)} cells, but there are {len(header)} columns; put texts that hold "
                f"{'a tab' if delimiter == chr(9) else repr(delimiter)} between double quotes."
            )
    return header, rows


def _delimiter(file: Path, content: str) -> tuple[str, str]:
    """What separates cells: in a .tsv tabs, else what the first line that is not blank has most of. And the content."""
    if content.startswith("sep="):  # Excel's way to say so
        first, _, rest = content.partition("\n")
        delimiter = first.strip()[4:] or ","
        if len(delimiter) != 1 or delimiter == '"':
            raise InputError(f"{file}:1: sep= must name the one character that separates cells, not {delimiter[:20]!r}.")
        return delimiter, "\n" + rest  # so that lines keep their numbers
    if file.suffix.lower() == ".tsv":
        return "\t", content
    header = next((line for line in content.splitlines() if line.strip()), "")
    unquoted = "".join(header.split('"')[::2])
    if not any(unquoted.count(mark) for mark in ",;") and any(mark in unquoted for mark in "\t|"):
        raise InputError(f"{file}: the columns are separated by neither commas nor semicolons; with tabs, name it .tsv.")
    return max(",;", key=unquoted.count), content


def _rows(file: Path, content: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    begins = 1
    try:
        for cells in reader:
            begins = reader.line_num + 1
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise InputError(f"{file}:{begins}: the row that begins here is malformed: {error}; is a quote left open?") from error


def _column(file: Path, header: list[str], name: str, key: str) -> int:
    if name in header:
        return header.index(name)
    near = get_close_matches(name, header, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(map(repr, header))}."
    raise InputError(f"{file}:1: there is no column {name!r} ({key}){hint}")


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
