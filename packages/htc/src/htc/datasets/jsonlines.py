"""The document format: JSON objects `{"token": ["text"], "label": [...]}`, one per line (JSON lines) or in one array.

- `token` is a text, or a list of texts that are joined with blanks. Other names for it: `text`, `doc_token`.
- `label` is one path from a top label down, a set of names, or a list of paths (`Hierarchy.resolve`). Another name for it:
  `doc_label`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from htc.datasets.json_values import json_values_in
from htc.datasets.rows import Places, Shared
from htc.datasets.stored_texts import TextStorage
from htc.labels.hierarchy import Hierarchy
from htc.labels.names import is_blank
from rlkl_htc_common.errors import InputError


@dataclass(frozen=True, slots=True)
class Document:
    """One document as read: its place for messages, its text, and the nodes of its labels."""

    place: str
    text: str
    nodes: list[int]


def read_documents(file: str | Path, hierarchy: Hierarchy) -> Iterator[Document]:
    """Read a file of documents and resolve their labels, one by one.

    Raises:
        InputError: with file and line, for a missing file, malformed JSON, a missing, empty or wrongly typed field, or an
            unknown label.
    """
    place = ""
    for place, record in read_records(Path(file)):
        try:
            yield Document(place, document_text(record), hierarchy.resolve(_labels(record)))
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
    if not place:
        raise InputError(f"{file}: the file holds no document.")


class Documents:
    """Documents as they are collected from files, in little memory.

    Attributes:
        places: of each.
        nodes: the nodes of its labels.
        sizes: how many documents each split has.
    """

    def __init__(self, storage: TextStorage, files: Iterable[Path]) -> None:
        """Args: storage: where the texts are kept; files: that they are read from."""
        self.places, self.nodes, self.sizes = Places(), list[list[int]](), dict[str, int]()
        self._texts = storage.new(sum(file.stat().st_size for file in files if file.exists()))
        self._shared = Shared()

    def add(self, split: str, documents: Iterable[Document]) -> None:
        """Documents of a split, after all others."""
        before = len(self.nodes)
        for document in documents:
            self._texts.add(document.text)
            self.places.append(document.place)
            self.nodes.append(self._shared(tuple(document.nodes), document.nodes))
        self.sizes[split] = len(self.nodes) - before

    def texts(self) -> Sequence[str]:
        """All texts, when all documents are there."""
        return self._texts.finish()

    def splits(self) -> dict[str, Tensor]:
        """The documents of each split, (n,) int64."""
        ends = list(accumulate(self.sizes.values(), initial=0))
        return {split: torch.arange(*span) for split, span in zip(self.sizes, pairwise(ends), strict=True)}


def read_records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects in a file, one per line or in one array, each with its place `file:line`."""
    for place, record in read_values(file):
        if not isinstance(record, dict):
            raise InputError(
                f'{place}: expected one JSON object a line, or one array of them: {{"token": [...], "label": [...]}}.'
            )
        yield place, record


def read_values(file: Path) -> Iterator[tuple[str, Any]]:
    """The JSON values in a file, each with its place (`json_values_in`). Raises InputError if the file cannot be read."""
    try:
        with file.open("rb") as lines:
            yield from json_values_in(lines, str(file))
    except OSError as error:
        raise InputError(f"{file}: cannot read the documents: {error.strerror}.") from error


def document_text(record: dict[str, Any]) -> str:
    """The text of a record. Raises InputError if there is none."""
    token = record.get("token", record.get("text", record.get("doc_token")))
    if token is None:
        lists = (key for key, value in record.items() if value and isinstance(value, list) and isinstance(value[0], dict))
        key = next(lists, None)
        hint = "" if key is None else f"; if documents are in its list {key!r}, write that list alone"
        raise InputError(f"the document has neither 'token' nor 'text'{hint}.")
    return joined_text(token, "token")


def joined_text(token: Any, key: str) -> str:
    """A text, or a list of texts joined with blanks. Args: key: its name in errors. Raises InputError for anything else."""
    if isinstance(token, dict):
        raise InputError("the object holds a table by columns; write it by rows, as to_json(orient='records') of pandas does.")
    parts = [token] if isinstance(token, str) else token
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise InputError(f"{key!r} must be a text or a list of texts.")
    text = " ".join(parts).strip()
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError("the document's text holds half a character (a lone surrogate); encode it anew.") from error
    if not text:
        raise InputError("the document's text is empty.")
    return text


def _labels(record: dict[str, Any]) -> list[Any]:
    labels = record.get("label", record.get("doc_label"))
    if labels is None:
        raise InputError("the document has no 'label'.")
    if not isinstance(labels, list):
        raise InputError(f"'label' must be a list of names or of paths, not {json.dumps(labels)[:60]}.")
    if not labels:
        raise InputError("the document has no label: 'label' is an empty list.")
    if len({isinstance(label, list) for label in labels if not is_blank(label)}) > 1:
        raise InputError("'label' must hold names only, or paths (lists of names) only.")
    return labels
