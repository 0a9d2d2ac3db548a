"""The document format: JSON lines, each `{"token": ["text"], "label": [...]}`.

- `token` is a text, or a list of texts that are joined with blanks; `text` or `doc_token` may stand in its place.
- `label` is one path from a top label down, or a set of names, or a list of paths (`Hierarchy.resolve`); `doc_label` may
  stand in its place.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from htc.errors import InputError
from htc.hierarchy import Hierarchy
from htc.names import is_blank


@dataclass(frozen=True)
class Document:
    """One document as read: its place for messages, its text, and the nodes of its labels."""

    place: str
    text: str
    nodes: list[int]


def read_documents(file: str | Path, hierarchy: Hierarchy) -> list[Document]:
    """Read a file of documents, resolving their labels.

    Raises:
        InputError: with file and line, for a missing file, malformed JSON, a missing, empty or wrongly typed field, or a label
            that is not in the hierarchy.
    """
    documents = []
    for place, record in read_records(Path(file)):
        try:
            documents.append(Document(place, document_text(record), hierarchy.resolve(_labels(record))))
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
    if not documents:
        raise InputError(f"{file}: the file holds no document.")
    return documents


def targets_of(documents: list[Document], hierarchy: Hierarchy) -> Tensor:
    """Multi-hot targets of documents, closed under ancestors: (D, N) bool."""
    targets = torch.zeros(len(documents), hierarchy.num_nodes, dtype=torch.bool)
    for row, document in enumerate(documents):
        targets[row, document.nodes] = True
    return hierarchy.close(targets)


def read_records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON object of each line that is not blank, with its place `file:line`."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot read the documents: {error.strerror}.") from error
    for number, raw in enumerate(content.split(b"\n"), start=1):
        place = f"{file}:{number}"
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if not raw.strip():
            continue
        try:
            record = json.loads(raw)
        except UnicodeDecodeError as error:
            raise InputError(f"{place}: the line is not UTF-8 text.") from error
        except json.JSONDecodeError as error:
            raise InputError(f"{place}: malformed JSON: {error.msg} (column {error.colno}).") from error
        except (RecursionError, ValueError) as error:
            raise InputError(f"{place}: the JSON holds lists too deep, or a number too long, to be read.") from error
        if not isinstance(record, dict):
            raise InputError(f'{place}: expected one JSON object a line, {{"token": [...], "label": [...]}}.')
        yield place, record


def document_text(record: dict[str, Any]) -> str:
    """The text of a record. Raises InputError where there is none."""
    token = record.get("token", record.get("text", record.get("doc_token")))
    if token is None:
        raise InputError("the document has neither 'token' nor 'text'.")
    parts = [token] if isinstance(token, str) else token
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise InputError("'token' must be a text or a list of texts.")
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
