"""Tables as people have them, as `Cells`: CSV, Parquet and JSON files, pandas' DataFrames, Hugging Face's data sets.

Parquet needs pyarrow, a saved data set `datasets`; both are in the extra `htc[data]`. Each cell keeps its type, so that a
column may hold lists. Class numbers with names (ClassLabel) are read as these names. Rows are counted from 0 where they have no
lines.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from htc.datasets.cells import Cells, read_cells
from htc.datasets.jsonlines import read_records
from htc.labels.names import clean, is_blank
from htc.labels.text_files import read_text
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import require

JSON = (".json", ".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
SPLITS = {"train": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev", "test": "test"}
CLASSES = "ClassLabel"
PART = 1024  # rows of a Parquet file that are read at a time
READABLE = (
    "a file (.csv, .tsv, .parquet, .jsonl, .json), a folder saved by save_to_disk, a pandas DataFrame, a Dataset or "
    "DatasetDict of the library datasets, a pyarrow Table, a list of records, or a dictionary of these with the keys train, "
    "dev and test"
)


class Unread:
    """A value that is neither a text, a number nor a list of these; its columns are not read. Args: kind: what it is."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def read_splits(data: Any, dev: Any = None, test: Any = None) -> dict[str, Cells]:
    """Tables by split: `train`, and those of `dev` and `test` that are given.

    Args:
        data: a table, or one for each split, see `READABLE`.
        dev, test: a table each; None: as in `data`.

    Raises:
        InputError: with the place, for what cannot be read; for a split that is given twice, has another name, or is missing.
    """
    found = _by_split(data)
    for split, other in (("dev", dev), ("test", test)):
        if other is None:
            continue
        if split in found:
            raise InputError(f"{split} is given twice: as a split of the data, and by itself; leave one of them out.")
        read = _tables(other, f" of {split}")
        if not isinstance(read, Cells):
            raise InputError(f"{split} must be one table, not several splits ({', '.join(read)}); give one of them.")
        found[split] = read
    return found


def _by_split(data: Any) -> dict[str, Cells]:
    read = _tables(data)
    if isinstance(read, Cells):
        return {"train": read}
    found: dict[str, Cells] = {}
    for name, table in read.items():
        split = SPLITS.get(name.lower())
        if split is None:
            raise InputError(
                f"the split {name!r} is none of train, dev (or val, validation) and test; rename it, or leave it out."
            )
        if split in found:
            raise InputError(f"two splits are read as {split}; leave one of {', '.join(read)} out.")
        found[split] = table
    if "train" not in found:
        raise InputError(f"there is no split 'train', but {', '.join(read) or 'none at all'}.")
    return {split: found[split] for split in ("train", "dev", "test") if split in found}


def _tables(data: Any, of: str = "") -> Cells | dict[str, Cells]:
    """A table, or several by the names of their splits. Args: of: what follows the name of one in memory, in errors."""
    if isinstance(data, Cells):
        return data
    if isinstance(data, str | Path):
        return _of_path(Path(data))
    if isinstance(data, Mapping):
        read = {}
        for name, table in data.items():
            one = _tables(table, f" of {name}")
            if not isinstance(one, Cells):
                raise InputError(f"the split {str(name)!r} must be one table, not several splits.")
            read[str(name)] = one
        return read
    library = type(data).__module__.partition(".")[0]
    if library == "pandas" and hasattr(data, "iloc") and getattr(data, "ndim", None) == 2:
        return _of_frame(data, f"the DataFrame{of}")
    if library == "datasets" and hasattr(data, "num_rows"):
        return _of_dataset(data, f"the Dataset{of}")
    if library == "pyarrow" and hasattr(data, "column_names"):
        return _of_arrow(data, f"the Table{of}", _class_names(data.schema.metadata))
    if isinstance(data, Sequence) and data and all(isinstance(each, Mapping) for each in data):
        return _of_records(((f"the record {number}{of}", each) for number, each in enumerate(data)), f"the records{of}")
    kind = f"{type(data).__module__}.{type(data).__name__}".removeprefix("builtins.")
    hint = "; load it without streaming" if library == "datasets" else ""
    raise InputError(f"data of the type {kind} cannot be read{hint}; give {READABLE}.")


def _of_path(path: Path) -> Cells | dict[str, Cells]:
    ending = path.suffix.lower()
    if path.is_dir():
        return _of_folder(path)
    if ending in JSON:
        return _of_records(read_records(path), str(path))
    if ending in PARQUET:
        return _of_parquet(path)
    return read_cells(read_text(path, "the table"), str(path), tabs=ending == ".tsv")


def _of_parquet(file: Path) -> Cells:
    require("htc[data]", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    try:
        with file.open("rb") as opened:
            table = pyarrow.parquet.read_table(opened)
            return _of_arrow(table, str(file), _class_names(table.schema.metadata))
    except OSError as error:
        raise InputError(f"{file}: cannot read the table: {error.strerror or error}.") from error
    except (pyarrow.ArrowException, ValueError) as error:
        raise InputError(f"{file}: this is no Parquet file, or a damaged one: {_first_line(error)}") from error


def stream_parquet(file: BinaryIO, source: str) -> tuple[Cells, Any, Iterator[tuple[str, list[Any]]]]:
    """The rows of a Parquet file, with the values as they are, None for a missing one; some are in memory at a time.

    Returns:
        The table without rows, its schema (of pyarrow), and its rows, each a place and its values.

    Raises:
        InputError: for a file that is not Parquet, or damaged.
    """
    require("htc[data]", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    try:
        parquet = pyarrow.parquet.ParquetFile(file)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(f"{source}: this is no Parquet file, or a damaged one: {_first_line(error)}") from error
    schema = parquet.schema_arrow
    return _checked_names(source, schema.names), schema, _rows_of_parquet(parquet, source)


def _rows_of_parquet(parquet: Any, source: str) -> Iterator[tuple[str, list[Any]]]:
    import pyarrow

    row = 0
    try:
        for batch in parquet.iter_batches(PART):
            columns = [column.to_pylist() for column in batch.columns]
            for values in zip(*columns, strict=True):
                yield f"{source}, row {row}", list(values)
                row += 1
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(f"{source}: the Parquet file is damaged after row {row}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _of_folder(folder: Path) -> Cells | dict[str, Cells]:
    """A data set that `datasets` has saved, or several by split."""
    if not any((folder / name).is_file() for name in ("dataset_dict.json", "dataset_info.json")):
        raise InputError(
            f"{folder}: the folder holds no data set that save_to_disk of the library datasets saved; a folder with documents "
            "and a taxonomy is read with dataset=custom dataset.dir=FOLDER."
        )
    require("htc[data]", "datasets", "pyarrow")
    import datasets
    import pyarrow

    try:
        loaded = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, pyarrow.ArrowException) as error:
        raise InputError(f"{folder}: the saved data set is damaged ({type(error).__name__}: {str(error)[:200]}).") from error
    if isinstance(loaded, datasets.DatasetDict):
        return {name: _of_dataset(part, str(folder / name)) for name, part in loaded.items()}
    return _of_dataset(loaded, str(folder))


def _of_dataset(dataset: Any, source: str) -> Cells:
    features = dataset.features.to_dict()
    return _of_arrow(dataset.with_format("arrow")[:], source, {name: _names_in(kind) for name, kind in features.items()})


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str] | None]:
    """The names of classes by column, as `datasets` writes them into a file. Args: metadata: of its schema."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {name: _names_in(kind) for name, kind in features.items()}
    except (LookupError, ValueError, TypeError, AttributeError):
        return {}


def _names_in(kind: Any) -> list[str] | None:
    """The names of the classes of a feature, or of the elements of its lists; None if it has none."""
    while isinstance(kind, list) and len(kind) == 1:
        kind = kind[0]
    if not isinstance(kind, Mapping):
        return None
    return list(kind["names"]) if kind.get("_type") == CLASSES else _names_in(kind.get("feature"))


def _of_arrow(table: Any, source: str, classes: Mapping[str, list[str] | None]) -> Cells:
    """A pyarrow Table. Args: classes: the names of classes by column."""
    names, columns = [], []
    for field, column in zip(table.schema, table.columns, strict=True):
        if field.name.startswith("__index_level_"):  # pandas' index
            continue
        kind = _leaf(field.type)
        if kind is None:
            values: Iterable[Any] = [Unread(str(field.type))] * len(column)
        else:
            values = map(plain, column.to_pylist())
        if (known := classes.get(field.name)) is not None:
            values = [_named(value, known) for value in values]
        names.append(field.name)
        columns.append(values)
    return _cells(names, columns, source, lambda row: f"{source}, row {row}")


def _leaf(kind: Any) -> Any:
    """The type of a column's values, or of the elements of its lists; None if it is not read."""
    import pyarrow.types as types

    depth = 0
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    if types.is_dictionary(kind):
        kind = kind.value_type
    names = ("is_string", "is_large_string", "is_string_view", "is_null", "is_integer", "is_boolean")
    reads = names if depth else (*names, "is_floating", "is_temporal", "is_decimal")
    return kind if any(getattr(types, name)(kind) for name in reads if hasattr(types, name)) else None


def _of_frame(frame: Any, source: str) -> Cells:
    """A pandas DataFrame."""
    columns = []
    for number in range(frame.shape[1]):
        column = frame.iloc[:, number]
        missing = column.isna().to_numpy()
        columns.append(["" if gone else plain(value) for value, gone in zip(column.tolist(), missing, strict=True)])
    index = frame.index.tolist()
    counted = index == list(range(len(index)))
    place = (lambda row: f"{source}, row {row}") if counted else (lambda row: f"{source}, row {row} (index {index[row]!r:.40})")
    return _cells(list(map(str, frame.columns)), columns, source, place)


def _of_records(records: Iterable[tuple[str, Mapping[str, Any]]], source: str) -> Cells:
    """Objects with their places; what one of them lacks is missing."""
    read = list(records)
    header = list(dict.fromkeys(key for _, record in read for key in record))
    rows = [(place, [plain(record.get(key)) for key in header]) for place, record in read]
    return _checked(source, list(map(str, header)), rows)


def _cells(names: list[str], columns: Sequence[Iterable[Any]], source: str, place: Callable[[int], str]) -> Cells:
    rows = [(place(row), list(cells)) for row, cells in enumerate(zip(*columns, strict=True))]
    return _checked(source, names, rows)


def _checked(source: str, names: list[str], rows: list[tuple[str, list[Any]]]) -> Cells:
    table = _checked_names(source, names)
    if not rows:
        raise InputError(f"{source}: the table has columns but no row.")
    return replace(table, rows=rows)


def _checked_names(source: str, names: list[str]) -> Cells:
    if not names:
        raise InputError(f"{source}: the table is empty.")
    return Cells(source, "", source, list(map(clean, names)), [])


def _named(value: Any, names: list[str]) -> Any:
    """Class numbers as names; -1 stands for a missing one."""
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    if type(value) is int and -1 <= value < len(names):
        return "" if value == -1 else names[value]
    return value


def plain(value: Any) -> Any:
    """A value as a stripped text, a list of such, or as it is; "" where it is missing."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return "" if is_blank(value) else value
