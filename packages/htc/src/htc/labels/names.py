"""Read names of labels, in one way everywhere.

- A name is a text. Numbers and bytes are refused, with advice how to convert them: a 3 could mean "3" or "03", and an array of
  numbers is an array of 0 and 1 (`htc.labels.label_sets`).
- White space around a name is removed. A non-breaking space is a space. Invisible characters (zero-width space, word joiner,
  byte order mark, soft hyphen, marks of writing direction) are removed; so are joiners at the ends.
- Composed and decomposed Unicode are one name (NFC). Case and spaces inside a name are kept.
- None, NaN, pandas' NA, masked values of NumPy and texts of white space are blanks, not names: they pad rows, and a blank
  parent means the root.
- A path is a row of names from the top down, maybe padded at the end; a blank in the middle is an error.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any

import numpy as np

from rlkl_htc_common.errors import InputError

UNSEEN = dict.fromkeys(
    map(
        ord,
        "\N{ZERO WIDTH SPACE}\N{WORD JOINER}\N{ZERO WIDTH NO-BREAK SPACE}\N{SOFT HYPHEN}"
        "\N{LEFT-TO-RIGHT MARK}\N{RIGHT-TO-LEFT MARK}\N{ARABIC LETTER MARK}",
    )
)
JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"  # they change how the letters around them are drawn
SPACES = dict.fromkeys(map(ord, "\N{NO-BREAK SPACE}\N{FIGURE SPACE}\N{NARROW NO-BREAK SPACE}"), " ")
SHOWN = 80  # characters of a value in an error


def clean(text: str) -> str:
    """Clean a text to a name; empty for white space.

    >>> clean(" Caf\\u00e9 ") == clean("Cafe\\u0301")
    True
    """
    text = str.__str__(text)  # the plain text of NumPy's texts and of enumerations
    if not text.isascii():
        text = unicodedata.normalize("NFC", text.translate(UNSEEN | SPACES)).strip().strip(JOINERS)
    return text.strip()


def is_blank(value: object) -> bool:
    """Whether a value is not a name: None, NaN, NaT, pandas' NA, a masked value, or a text of white space."""
    if isinstance(value, str):
        return not clean(value)
    if value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating | np.datetime64) and bool(np.isnan(value))


def read_name(value: Any) -> str:
    """Read a value as a name.

    Raises:
        InputError: for a value that is not a text, with advice how to convert it, and for a blank.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    name = clean(value) if isinstance(value, str) else ""
    if not name:
        problem = (
            f"a label needs a name, but {value!r} is empty" if is_blank(value) else f"labels are texts, but {no_text(value)}"
        )
        raise InputError(f"{problem}.")
    if isinstance(value, np.str_) and name == "nan":
        raise InputError("an array of texts holds 'nan', which NumPy makes of NaN; give blanks in an array of dtype=object.")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"the label {name!r} holds half a character (a lone surrogate); encode it anew.") from error
    return name


def no_text(value: Any) -> str:
    """The type of a value that is not a text, and how to convert it, for errors."""
    if getattr(value, "ndim", None) == 0:  # of NumPy or torch
        value = value.item()
    shown = _shown(value)
    if isinstance(value, int):
        return f"{shown} is a number; give the text {str(value)!r}, as map(str, ...) and an array's astype(str) make it"
    if isinstance(value, float):
        return f"{shown} is a number; give texts: where pandas reads them from a table, with dtype=str"
    if isinstance(value, bytes):
        return f"{shown} is bytes; give the text, as value.decode() makes it"
    return f"{shown} is of the type {type(value).__name__}"


def read_path(names: Any) -> tuple[str, ...]:
    """Read a row of names from the top down, without padding at the end.

    >>> read_path(["Arts", " Music ", None])
    ('Arts', 'Music')

    Raises:
        InputError: if it is not a row, has no name, or has a blank in the middle.
    """
    if isinstance(names, str):
        raise InputError(f"a label path must be a list of names, not the text {str(names)!r}.")
    if isinstance(names, Mapping | Set):
        raise InputError(f"a label path must be a list of names from the top down, not {_shown(names)}, which has no order.")
    cells = _listed(names, "a label path must be a list of names, and labels are texts")
    while cells and is_blank(cells[-1]):
        cells.pop()
    if not cells:
        raise InputError("a label path is empty.")
    if any(map(is_blank, cells)):
        raise InputError(f"the label path {_shown(tuple(cells))} has an empty name in its middle.")
    return tuple(map(read_name, cells))


def read_labels(labels: Any) -> list[str | tuple[str, ...]]:
    """Read the labels of one document, names as texts and paths as tuples, without padding.

    Args:
        labels: a list, set, array, Series or iterator of names, of paths, or of both; a blank for none.

    Raises:
        InputError: for a text, a dictionary, or invalid names.
    """
    if is_blank(labels):
        return []
    if isinstance(labels, str):
        text = str(labels)
        raise InputError(f"labels must be a list of names or of paths, not the text {text!r}; write [{text!r}] for one name.")
    if isinstance(labels, Mapping):
        raise InputError(
            f"labels must be a list of names or of paths, not the dictionary {_shown(labels)}; of scores, keep the labels that "
            "are true: [label for label, score in scores.items() if score >= 0.5]."
        )
    cells = _listed(labels, "labels must be a list of names or of paths, and labels are texts")
    read = [read_path(cell) if _is_row(cell) else read_name(cell) for cell in cells if not _fills_up(cell)]
    return sorted(read, key=lambda label: (label,) if isinstance(label, str) else label) if isinstance(labels, Set) else read


def read_paths(labels: Any) -> list[tuple[str, ...]]:
    """Read the labels of one document without a hierarchy: one path, or several.

    Args:
        labels: a path, or a list of paths; a blank for none.

    Raises:
        InputError: as `read_labels`, and for several names without an order.
    """
    labels = list(labels) if isinstance(labels, Iterator) else labels
    read = read_labels(labels)
    if not read or any(isinstance(label, tuple) for label in read):
        return [read_path(label) for label in read]
    if not isinstance(labels, Set):
        return [read_path(labels)]
    if len(read) > 1:
        raise InputError(
            f"the set {_shown(labels)} has no order, so that it is no path; give a path as a list from the top down, several "
            "labels as a list of paths, or the hierarchy."
        )
    return [read_path(read)]


def read_pairs(pairs: Any) -> Iterator[tuple[str | None, str]]:
    """(parent, child) of each pair, None for a blank parent.

    Args:
        pairs: rows of two names: lists, tuples, or rows of an array or a DataFrame; or `{parent: [child, ...]}`.

    Raises:
        InputError: with the number of the pair (from 0).
    """
    rows = _pairs_of(pairs) if isinstance(pairs, Mapping) else rows_of(pairs, "pairs")
    for number, pair in enumerate(rows):
        try:
            yield _read_pair(pair)
        except InputError as error:
            raise InputError(f"pair {number}: {error}") from error


def _pairs_of(children_of: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """The pairs of a dictionary of parents and lists of children; a parent without children is a single name."""
    for parent, children in children_of.items():
        if isinstance(children, str | Mapping):
            raise InputError(
                f"a dictionary must give each parent a list of its children, but has {parent!r}: {_shown(children)}; for "
                "{child: parent} give [(parent, child) for child, parent in it.items()], for nested levels use from_paths."
            )
        below = [] if is_blank(children) else _listed(children, f"the children of {parent!r} must be a list of names")
        yield from ((parent, child) for child in (sorted(below, key=repr) if isinstance(children, Set) else below))
        if not below and not is_blank(parent):
            yield None, parent


def _read_pair(pair: Any) -> tuple[str | None, str]:
    cells = [] if isinstance(pair, str | Mapping | Set) else _listed(pair, "a pair must be (parent, child)")
    if len(cells) != 2:
        raise InputError(f"a pair must be (parent, child), not {_shown(pair)}.")
    parent, child = cells
    if is_blank(child):
        raise InputError(f"{_shown((parent, child))} has no child; a blank parent makes the child a top label.")
    return None if is_blank(parent) else read_name(parent), read_name(child)


def rows_of(rows: Any, what: str, ordered: bool = False) -> Iterable[Any]:
    """The rows of a list, an array, a table or an iterator.

    Args:
        what: their name in errors.
        ordered: whether a set is refused; else it is sorted, so that equal sets give the same order.

    Raises:
        InputError: for a text, a dictionary, or a value without rows.
    """
    if isinstance(rows, str | bytes | Mapping) or (ordered and isinstance(rows, Set)):
        raise InputError(f"{what} must be in a list, one after another, not in {_shown(rows)}.")
    if isinstance(rows, Set):
        return sorted(rows, key=repr)
    to_numpy: Callable[[], Any] | None = getattr(rows, "to_numpy", None)  # list(DataFrame) would give its columns
    rows = to_numpy() if to_numpy else rows
    return rows if isinstance(rows, list | Iterator) else _listed(rows, f"{what} must be in a list")


def _listed(values: Any, problem: str) -> list[Any]:
    """Any iterable as a list. Raises InputError, which starts with `problem`, for other values."""
    if isinstance(values, bytes):
        raise InputError(f"{problem}, but {no_text(values)}.")
    values = values.to_numpy() if hasattr(values, "to_numpy") else values
    try:
        return list(values)
    except TypeError as error:
        raise InputError(f"{problem}, but {no_text(values)}.") from error


def _is_row(cell: Any) -> bool:
    return isinstance(cell, Iterable) and not isinstance(cell, str | bytes) and getattr(cell, "ndim", 1) > 0


def _fills_up(cell: Any) -> bool:
    """Whether a cell of a document's row is padding: a blank, or a row of blanks."""
    if isinstance(cell, list | tuple | np.ndarray) and _is_row(cell):
        return len(cell) > 0 and all(map(is_blank, cell))
    return is_blank(cell)


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
