"""Texts on disk: an Arrow file that is mapped into memory and read as a list is, for data larger than memory.

The file has no name: it is in a folder, takes room there, and is gone with the last process that has it open, however that
ends. So nothing is left behind, no process reads what another one writes, and no file is older than the data.
"""

import hashlib
import logging
import mmap
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Protocol, overload

import numpy as np
import torch
from torch import Tensor

from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import MissingExtraError, require

log = logging.getLogger(__name__)

CHOICES = (AUTO, MEMORY, DISK) = ("auto", "memory", "disk")
LARGE = 2**28  # bytes of a file whose texts `auto` keeps on disk
WRITTEN = 2**22  # characters that are written at a time
READ = 512  # texts that are read at a time
OF_A_TEXT = 64  # bytes that a text takes besides its characters


class StoredTexts(Sequence[str]):
    """D texts in a column of Arrow. A slice is a view, too, and copies nothing.

    Args:
        column: a pyarrow ChunkedArray of texts.
        folder: where what is made of the texts may be kept; None for the system's folder of temporary files.
        rows: the rows of the column that are the texts, in their order: a range or (D,) int64; default: all.
        mapped: the memory maps behind the column, whose pages are given back once they are read.
    """

    def __init__(
        self,
        column: Any,
        folder: str | Path | None = None,
        rows: "range | np.ndarray | None" = None,
        mapped: Sequence[mmap.mmap] = (),
    ) -> None:
        self.folder = folder
        self._column, self._mapped = column, mapped
        self._rows = range(len(column)) if rows is None else rows

    @classmethod
    def joined(cls, parts: "Sequence[Sequence[str]]") -> "Sequence[str]":
        """The texts of all parts, one part after another; a list if all of them are."""
        stored = [part for part in parts if isinstance(part, StoredTexts)]
        if not stored:
            return parts[0] if len(parts) == 1 else [text for part in parts for text in part]
        if len(parts) == 1:
            return parts[0]
        import pyarrow

        kind, chunks = pyarrow.large_string(), []
        for part in parts:
            if isinstance(part, StoredTexts) and isinstance(part._rows, range) and part._rows.step == 1:
                chunks += part._column.slice(part._rows.start, len(part)).cast(kind).chunks
            else:
                chunks.append(pyarrow.array(list(part), kind))
        mapped = [each for part in stored for each in part._mapped]
        return cls(pyarrow.chunked_array(chunks, kind), stored[0].folder, mapped=mapped)

    def select(self, documents: Tensor) -> "StoredTexts":
        """A view of some texts. Args: documents (n,) int64."""
        return StoredTexts(self._column, self.folder, np.asarray(self._rows)[documents.numpy()], self._mapped)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> "StoredTexts": ...
    def __getitem__(self, key: int | slice) -> "str | StoredTexts":
        if isinstance(key, slice):
            return StoredTexts(self._column, self.folder, self._rows[key], self._mapped)
        return self._column[int(self._rows[key])].as_py()

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), READ):
            rows = self._rows[first : first + READ]
            if isinstance(rows, range) and rows.step == 1:
                texts = self._column.slice(rows.start, len(rows)).to_pylist()
            else:
                texts = [self._column[int(row)].as_py() for row in rows]
            for mapped in self._mapped:  # else every page that was read counts as this process's memory
                mapped.madvise(mmap.MADV_DONTNEED)
            yield from texts

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type["StoredTexts"], tuple[Any, ...]]:
        return StoredTexts, (self._column, self.folder, self._rows)  # another process gets a copy in its memory

    def __repr__(self) -> str:
        return f"StoredTexts({len(self):,} texts)"


class Texts(Protocol):
    """Texts as they are collected, one by one."""

    def add(self, text: str) -> None:
        """Another text."""

    def finish(self) -> Sequence[str]:
        """All of them; no more may be added."""


class TextList:
    """Texts in memory."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self.add = self._texts.append

    def finish(self) -> list[str]:
        """The list."""
        return self._texts


class TextFile:
    """Texts in a file without a name. Args: folder: of it. Raises InputError if it cannot be written."""

    def __init__(self, folder: str | Path | None) -> None:
        import pyarrow

        self._arrow, self._folder = pyarrow, folder
        self._schema = pyarrow.schema([("text", pyarrow.large_string())])
        self._file = unnamed_file(folder)
        with written(folder):
            self._writer = pyarrow.ipc.new_file(self._file, self._schema)
        self._waiting: list[str] = []
        self._size = 0

    def add(self, text: str) -> None:
        """Another text; it must hold no half character."""
        self._waiting.append(text)
        self._size += len(text) + OF_A_TEXT
        if self._size >= WRITTEN:
            self._write()

    def _write(self) -> None:
        encoded = [text.encode("utf-8") for text in self._waiting]
        ends = np.fromiter(accumulate(map(len, encoded), initial=0), np.int64, len(encoded) + 1)
        buffers = map(self._arrow.py_buffer, (ends, b"".join(encoded)))  # pyarrow.array would import pandas
        texts = self._arrow.LargeStringArray.from_buffers(len(encoded), *buffers)
        with written(self._folder):
            self._writer.write_batch(self._arrow.RecordBatch.from_arrays([texts], schema=self._schema))
        self._waiting, self._size = [], 0

    def finish(self) -> StoredTexts:
        """The texts, mapped into memory."""
        if self._waiting:
            self._write()
        with written(self._folder), self._file:
            self._writer.close()
            self._file.flush()
            mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        table = self._arrow.ipc.open_file(self._arrow.py_buffer(mapped)).read_all()
        return StoredTexts(table.column(0), self._folder, mapped=[mapped])


@dataclass(frozen=True)
class TextStorage:
    """Where the texts of a dataset are kept.

    Attributes:
        choice: `memory`; `disk`; or `auto`: on disk where a file is at least `LARGE`, if pyarrow is installed.
        folder: for texts on disk; None for the system's folder of temporary files, which may be in memory.
    """

    choice: str = AUTO
    folder: str | Path | None = None

    def __post_init__(self) -> None:
        if self.choice not in CHOICES:
            raise InputError(f"dataset.texts must be one of {', '.join(CHOICES)}, not {self.choice!r}.")

    def is_disk(self, size: int) -> bool:
        """Whether texts are kept on disk. Args: size: of the data, in bytes. Raises InputError if pyarrow is not installed."""
        if self.choice == MEMORY or (self.choice == AUTO and size < LARGE):
            return False
        try:
            require("htc[data]", "pyarrow")
        except MissingExtraError:
            if self.choice == DISK:
                raise
            return False
        return True

    def new(self, size: int) -> Texts:
        """Where texts are collected. Args, raises: as `is_disk`."""
        return TextFile(self.folder) if self.is_disk(size) else TextList()


def unnamed_file(folder: str | Path | None) -> IO[bytes]:
    """A new file that is gone once it is closed. Args: folder: of it; it is made. Raises InputError if it cannot be made."""
    with written(folder):
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)


@contextmanager
def written(folder: str | Path | None) -> Iterator[None]:
    """Raise InputError for what cannot be written into a folder."""
    try:
        yield
    except OSError as error:
        where = tempfile.gettempdir() if folder is None else folder
        raise InputError(
            f"{where}: cannot write the texts there: {error.strerror or error}; choose another folder with cache_dir=FOLDER, "
            "or keep texts in memory with dataset.texts=memory."
        ) from error


def same_texts(texts: Sequence[str]) -> np.ndarray:
    """Number texts so that equal ones have the same number; one after another in the order of their first occurrence.

    Args: texts: D texts; one after another is in memory. Returns: (D,) int64.
    """
    digests = np.empty((len(texts), 16), np.uint8)
    for digest, text in zip(digests, texts, strict=True):
        digest.data[:] = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    _, first, number = np.unique(digests.view("V16")[:, 0], return_index=True, return_inverse=True)
    return first.argsort().argsort()[number]


def stored_numbers(parts: Iterator[Tensor], folder: str | Path | None) -> Tensor:
    """Numbers in a file without a name, mapped into memory. Args: parts: (n,) int32 each. Returns: their concatenation."""
    with unnamed_file(folder) as file:
        with written(folder):
            for part in parts:
                file.write(part.numpy().data)
            file.flush()
        if not file.tell():
            return torch.empty(0, dtype=torch.int32)
        return torch.from_numpy(np.memmap(file, np.int32, mode="c"))
