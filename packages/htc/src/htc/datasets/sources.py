"""Tables as people have them, as `Cells`: CSV, Parquet and JSON files, pandas' DataFrames, Hugging Face's data sets.

Parquet needs pyarrow, a saved data set `datasets`; both are in the extra `htc[data]`. Each cell keeps its type, so that a
column may hold lists. Class numbers with names (ClassLabel) are read as these names. Rows are counted from 0 where they have no
lines. They are read one by one, or some at a time, and their texts may go to disk (`htc.datasets.stored_texts`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from htc.datasets.cells import STORED, Cells, is_text, joined, stream_cells
from htc.datasets.jsonlines import read_records
from htc.datasets.rows import Rows
from htc.datasets.stored_texts import StoredTexts, TextList, TextStorage
from htc.labels.names import clean, is_blank
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import require

JSON = (".json", ".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
SPLITS = {"train": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev", "test": "test"}
CLASSES = "ClassLabel"
IN_MEMORY = 0  # bytes of what is in memory anyway
PART = 1024  # rows of a Parquet file or a data set that are read at a time
BUFFER = 2**16  # bytes of a column of a Parquet file that are read at a time
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


@dataclass(frozen=True)
class Wanted:
    """What is read of a table.

    Attributes:
        text: the column of texts, which are kept apart from the rows (`Cells.texts`).
        others: the other columns; None for all. Cells of columns that are not wanted are read as missing values.
        storage: where the texts are kept.
    """

    text: str = "text"
    others: tuple[str | None, ...] | None = None
    storage: TextStorage = field(default_factory=TextStorage)

    def columns(self, header: Sequence[str]) -> tuple[list[int], list[int]]:
        """The columns of texts, one unless several have its name; and those that are not wanted. Args: header: clean names."""
        text, others = clean(self.text), None if self.others is None else {clean(name) for name in self.others if name}
        texts = [number for number, name in enumerate(header) if name == text]
        return texts, [n for n, name in enumerate(header) if others is not None and n not in texts and name not in others]


def read_splits(data: Any, dev: Any = None, test: Any = None, wanted: Wanted | None = None) -> dict[str, Cells]:
    """Tables by split: `train`, and those of `dev` and `test` that are given.

    Args:
        data: a table, or one for each split, see `READABLE`.
        dev, test: a table each; None: as in `data`.
        wanted: what is read of them; default: the column `text`, and all others.

    Raises:
        InputError: with the place, for what cannot be read; for a split that is given twice, has another name, or is missing.
    """
    wanted = wanted or Wanted()
    found = _by_split(data, wanted)
    for split, other in (("dev", dev), ("test", test)):
        if other is None:
            continue
        if split in found:
            raise InputError(f"{split} is given twice: as a split of the data, and by itself; leave one of them out.")
        read = _tables(other, wanted, f" of {split}")
        if not isinstance(read, Cells):
            raise InputError(f"{split} must be one table, not several splits ({', '.join(read)}); give one of them.")
        found[split] = read
    return found


def _by_split(data: Any, wanted: Wanted) -> dict[str, Cells]:
    read = _tables(data, wanted)
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


def _tables(data: Any, wanted: Wanted, of: str = "") -> Cells | dict[str, Cells]:
    """A table, or several by the names of their splits. Args: of: what follows the name of one in memory, in errors."""
    if isinstance(data, Cells):
        return data
    if isinstance(data, str | Path):
        return _of_path(Path(data), wanted)
    if isinstance(data, Mapping):
        read = {}
        for name, table in data.items():
            one = _tables(table, wanted, f" of {name}")
            if not isinstance(one, Cells):
                raise InputError(f"the split {str(name)!r} must be one table, not several splits.")
            read[str(name)] = one
        return read
    library = type(data).__module__.partition(".")[0]
    if library == "pandas" and hasattr(data, "iloc") and getattr(data, "ndim", None) == 2:
        return _of_frame(data, f"the DataFrame{of}", wanted)
    if library == "datasets" and hasattr(data, "num_rows"):
        return _of_dataset(data, f"the Dataset{of}", wanted)
    if library == "pyarrow" and hasattr(data, "column_names"):
        source, names = f"the Table{of}", _class_names(data.schema.metadata)
        rows = _rows_of_arrow(data.to_batches(max_chunksize=PART), source, names)
        return _collected(_named_table(source, _names(data.schema)), rows, wanted, data.nbytes)
    if isinstance(data, Sequence) and data and all(isinstance(each, Mapping) for each in data):
        records = ((f"the record {number}{of}", each) for number, each in enumerate(data))
        return _of_records(records, f"the records{of}", wanted, IN_MEMORY)
    kind = f"{type(data).__module__}.{type(data).__name__}".removeprefix("builtins.")
    hint = "; load it without streaming" if library == "datasets" else ""
    raise InputError(f"data of the type {kind} cannot be read{hint}; give {READABLE}.")


def _of_path(path: Path, wanted: Wanted) -> Cells | dict[str, Cells]:
    ending = path.suffix.lower()
    if path.is_dir():
        return _of_folder(path, wanted)
    if ending in JSON:
        return _of_records(read_records(path), str(path), wanted, _size(path))
    if ending in PARQUET:
        return _of_parquet(path, wanted)
    with _opened(path) as lines:
        table, rows = stream_cells(lines, str(path), tabs=ending == ".tsv")
        return _collected(table, rows, wanted, _size(path))


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        with file.open("rb") as opened:
            yield opened
    except OSError as error:
        raise InputError(f"{file}: cannot read the table: {error.strerror or error}.") from error


def _of_parquet(file: Path, wanted: Wanted) -> Cells:
    with _opened(file) as opened:
        parquet = _parquet_file(opened, str(file))
        schema, groups = parquet.schema_arrow, range(parquet.num_row_groups)
        rows = _rows_of_arrow(_batches(parquet, str(file)), str(file), _class_names(schema.metadata))
        size = sum(parquet.metadata.row_group(group).total_byte_size for group in groups)  # before it was compressed
        return _collected(_named_table(str(file), _names(schema)), rows, wanted, size)


def stream_parquet(file: BinaryIO, source: str) -> tuple[Cells, Any, Iterator[tuple[str, list[Any]]]]:
    """The rows of a Parquet file, with the values as they are, None for a missing one; some are in memory at a time.

    Returns:
        The table without rows, its schema (of pyarrow), and its rows, each a place and its values.

    Raises:
        InputError: for a file that is not Parquet, or damaged.
    """
    parquet = _parquet_file(file, source)
    schema = parquet.schema_arrow
    if not schema.names:
        raise InputError(f"{source}: the table is empty.")
    return _named_table(source, schema.names), schema, _rows_of_parquet(parquet, source)


def _parquet_file(file: BinaryIO, source: str) -> Any:
    require("htc[data]", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(f"{source}: this is no Parquet file, or a damaged one: {_first_line(error)}") from error


def _batches(parquet: Any, source: str) -> Iterator[Any]:
    """PART rows at a time."""
    import pyarrow

    row = 0
    batches = parquet.iter_batches(PART)
    while True:
        try:
            batch = next(batches, None)
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise InputError(f"{source}: the Parquet file is damaged after row {row}: {_first_line(error)}") from error
        if batch is None:
            return
        yield batch
        row += len(batch)


def _rows_of_parquet(parquet: Any, source: str) -> Iterator[tuple[str, list[Any]]]:
    row = 0
    for batch in _batches(parquet, source):
        columns = [column.to_pylist() for column in batch.columns]
        for values in zip(*columns, strict=True):
            yield f"{source}, row {row}", list(values)
            row += 1


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _of_folder(folder: Path, wanted: Wanted) -> Cells | dict[str, Cells]:
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
        return {name: _of_dataset(part, str(folder / name), wanted) for name, part in loaded.items()}
    return _of_dataset(loaded, str(folder), wanted)


def _of_dataset(dataset: Any, source: str, wanted: Wanted) -> Cells:
    table, size = _named_table(source, _names(dataset.features.arrow_schema)), dataset.data.nbytes
    texts = _as_they_are(dataset, wanted) if wanted.storage.is_disk(size) else None
    classes = {name: _names_in(kind) for name, kind in dataset.features.to_dict().items()}
    rows = _rows_of_arrow(
        dataset.with_format("arrow").iter(PART), source, classes, stored=None if texts is None else clean(wanted.text)
    )
    return _collected(table, rows, wanted, size, texts)


def _as_they_are(dataset: Any, wanted: Wanted) -> StoredTexts | None:
    """The texts of a data set that is in files and mapped into memory already; None unless every one can be taken as it is."""
    names = [name for name in dataset.column_names if clean(name) == clean(wanted.text)]
    if len(names) != 1 or not dataset.cache_files or dataset._indices is not None:  # these reorder rows
        return None
    texts = StoredTexts(dataset.data.column(names[0]), wanted.storage.folder)
    return texts if all(is_text(text) and text == text.strip() for text in texts) else None


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


def _names(schema: Any) -> list[str]:
    return [name for name in schema.names if not _is_index(name)]


def _is_index(name: str) -> bool:
    """Whether a column is pandas' index."""
    return name.startswith("__index_level_")


def _rows_of_arrow(
    batches: Iterable[Any], source: str, classes: Mapping[str, list[str] | None], stored: str | None = None
) -> Iterator[tuple[str, list[Any]]]:
    """Rows of pyarrow, some at a time.

    Args: batches: Tables or RecordBatches; classes: the names of classes by column; stored: the column whose texts are stored.
    """
    row = 0
    for batch in batches:
        columns = [
            repeat(STORED, len(batch)) if clean(field.name) == stored else _values(column, field.type, classes.get(field.name))
            for field, column in zip(batch.schema, batch.columns, strict=True)
            if not _is_index(field.name)
        ]
        for cells in zip(*columns, strict=True):
            yield f"{source}, row {row}", list(cells)
            row += 1


def _values(column: Any, kind: Any, classes: list[str] | None) -> Iterable[Any]:
    """Args: column, kind: of pyarrow; classes: the names of classes, if the column holds their numbers."""
    if _leaf(kind) is None:
        return repeat(Unread(str(kind)), len(column))
    values = map(plain, column.to_pylist())
    return values if classes is None else (_named(value, classes) for value in values)


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


def _of_frame(frame: Any, source: str, wanted: Wanted) -> Cells:
    """A pandas DataFrame."""
    columns = []
    for number in range(frame.shape[1]):
        column = frame.iloc[:, number]
        missing = column.isna().to_numpy()
        columns.append(["" if gone else plain(value) for value, gone in zip(column.tolist(), missing, strict=True)])
    index = frame.index.tolist()
    counted = index == list(range(len(index)))
    place = (lambda row: f"{source}, row {row}") if counted else (lambda row: f"{source}, row {row} (index {index[row]!r:.40})")
    rows = ((place(row), list(cells)) for row, cells in enumerate(zip(*columns, strict=True)))
    return _collected(_named_table(source, list(map(str, frame.columns))), rows, wanted, IN_MEMORY)


def _of_records(records: Iterable[tuple[str, Mapping[str, Any]]], source: str, wanted: Wanted, size: int) -> Cells:
    """Objects with their places; what one of them lacks is missing."""
    keys: dict[str, None] = {}
    table = _named_table(source, [])

    def rows() -> Iterator[tuple[str, list[Any]]]:
        for place, record in records:
            new = [key for key in record if key not in keys]
            keys.update(dict.fromkeys(new))
            table.header.extend(clean(str(key)) for key in new)
            yield place, [plain(record.get(key)) for key in keys]

    found = _collected(table, rows(), wanted, size)
    for cells in found.rows.cells:
        cells += [""] * (len(found.header) - len(cells))
    return found


def _collected(
    table: Cells, rows: Iterable[tuple[str, list[Any]]], wanted: Wanted, size: int, stored: StoredTexts | None = None
) -> Cells:
    """A table with its rows, and its texts by themselves.

    Args:
        table: without rows; its header may grow with them.
        size: of all of it, in bytes.
        stored: its texts, if they are not in the rows.
    """
    found, texts = Rows(), wanted.storage.new(size) if stored is None else TextList()
    known, columns = len(table.header), wanted.columns(table.header)
    for place, cells in rows:
        if known < len(table.header):
            known, columns = len(table.header), wanted.columns(table.header)
        of_texts, unwanted = ([column for column in some if column < len(cells)] for some in columns)
        for column in unwanted:
            cells[column] = ""
        for column in of_texts:
            text = joined(cells[column])
            if is_text(text):
                texts.add(text)
                cells[column] = STORED
        found.append(place, cells)
    if not table.header:
        raise InputError(f"{table.source}: the table is empty.")
    if not found:
        raise InputError(f"{table.source}: the table has columns but no row.")
    return replace(table, rows=found, texts=texts.finish() if stored is None else stored)


def _named_table(source: str, names: list[str]) -> Cells:
    return Cells(source, "", source, list(map(clean, names)))


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
