"""Convert the inputs of metrics, inference rules and estimators, label sets and node scores, to tensors."""

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.labels.names import clean, is_blank, no_text, rows_of
from htc.labels.sparse_sets import SparseSets
from htc.labels.taxonomy import PATH_SEPARATOR
from rlkl_htc_common.errors import InputError

LabelSets = Any
"""The labels of D documents:

- a (D, N) array of 0 and 1, in the hierarchy's node order: of torch, NumPy or SciPy (sparse), nested lists, or a DataFrame. If
  its columns are the names of the nodes, or their paths joined by " > ", they are put in order;
- `htc.labels.sparse_sets.SparseSets`;
- D label sets as for `Hierarchy.resolve`: a path, a set of names, or several paths; empty for a document without labels;
- D rows of names, padded with "", None or NaN;
- D names, blank for a document without labels.

Names are cleaned as in `htc.labels.names`. Class numbers must be texts, because numbers mean 0 and 1 here.
"""

Part = TypeVar("Part", Tensor, SparseSets)
Other = TypeVar("Other", Tensor, SparseSets)
CLASS_NUMBERS = "labels are texts, so give numbers of classes as texts: map(str, ...), or an array's astype(str)"
CELLS = 2**21  # documents x nodes at a time: fits into a processor's cache, and limits memory
NUMBERS = (int, float, np.number, np.bool_)
Scores = Any
"""(D, N) probabilities or other scores of nodes: an array of torch or NumPy, nested lists, or a DataFrame, whose columns are
put in order if they are the names of the nodes, or their paths joined by " > "."""


def as_label_sets(labels: LabelSets, hierarchy: Hierarchy, name: str = "labels") -> Tensor:
    """Convert label sets to a tensor; those given as names or paths are closed under ancestors.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> as_label_sets([["Arts", "Film"], []], hierarchy).int()
    tensor([[1, 0, 0, 1],
            [0, 0, 0, 0]], dtype=torch.int32)

    Args:
        labels: see `LabelSets`.
        name: their name in errors.

    Returns:
        (D, N) bool.

    Raises:
        InputError: for a wrong shape, values other than 0 and 1, or unknown labels.
    """
    sets = _as_sets(labels, hierarchy, name)
    return sets.dense() if isinstance(sets, SparseSets) else sets


def as_sparse_sets(labels: LabelSets, hierarchy: Hierarchy, name: str = "labels") -> SparseSets:
    """The same as pairs of document and label. Names and SciPy's sparse arrays are never made dense."""
    return SparseSets.of(_as_sets(labels, hierarchy, name))


def _as_sets(labels: LabelSets, hierarchy: Hierarchy, name: str) -> Tensor | SparseSets:
    if isinstance(labels, SparseSets):
        _check_shape(labels, hierarchy, name)
        return labels
    if hasattr(labels, "tocoo"):  # SciPy's sparse arrays
        return _of_scipy(labels, hierarchy, name)
    if isinstance(labels, Tensor):
        return _as_zero_one(labels, hierarchy, name)
    labels = as_rows(labels, name)
    numbers = as_numbers(labels, hierarchy, name)
    if numbers is not None:
        return _as_zero_one(_as_tensor(numbers), hierarchy, name)
    try:
        return hierarchy.encode_sparse(as_lists(labels, name), allow_empty=True)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _of_scipy(labels: Any, hierarchy: Hierarchy, name: str) -> SparseSets:
    _check_shape(labels, hierarchy, name, f"; {CLASS_NUMBERS}")
    pairs = labels.tocsr().tocoo()  # of cells that are given twice, the sum
    values, document = torch.from_numpy(pairs.data), torch.from_numpy(pairs.row.astype(np.int64))
    true = _checked(values, document, name)
    return SparseSets.of_pairs(document[true], torch.from_numpy(pairs.col.astype(np.int64))[true], labels.shape)


def as_rows(labels: LabelSets, name: str) -> Any:
    """Label sets that can be iterated more than once: arrays and tables unchanged, others as lists of lists and sets."""
    if hasattr(labels, "__array__") or hasattr(labels, "toarray"):
        return labels
    rows = list(rows_of(labels, name, ordered=True))
    return [list(row) if isinstance(row, Iterator) else row.tolist() if isinstance(row, Tensor) else row for row in rows]


def as_numbers(labels: LabelSets, hierarchy: Hierarchy | None, name: str) -> np.ndarray | None:
    """The array of label sets that are given as numbers; None for names."""
    if hasattr(labels, "toarray"):  # SciPy's sparse matrices
        return labels.toarray()
    if hasattr(labels, "columns") and hierarchy is not None:
        labels = _in_node_order(labels, hierarchy, name)
    if not hasattr(labels, "__array__"):
        if not isinstance(_first_value(labels), NUMBERS):
            return None
        try:
            labels = np.asarray(labels)
        except ValueError as error:
            raise InputError(f"{name}: the rows of numbers are not all of one length; {CLASS_NUMBERS}.") from error
    array = np.asarray(labels)
    if array.dtype.kind in "biuf":
        return _filled(labels, array)
    return _numbers_of(array)


def _filled(given: Any, array: np.ndarray) -> np.ndarray:
    """An array of numbers, with NaN for masked values."""
    return np.where(np.ma.getmaskarray(given), np.nan, array) if np.ma.is_masked(given) else array


def _numbers_of(array: np.ndarray) -> np.ndarray | None:
    """Numbers from an object array, with NaN for blanks; None for anything else."""
    if array.dtype.kind != "O" or not any(isinstance(value, NUMBERS) and not is_blank(value) for value in array.flat):
        return None
    if not all(isinstance(value, NUMBERS) or (is_blank(value) and not isinstance(value, str)) for value in array.flat):
        return None
    return np.array([np.nan if is_blank(value) else float(value) for value in array.flat]).reshape(array.shape)


def _first_value(labels: list[Any]) -> Any:
    """The first value of all rows that is not blank; None if there is none."""
    for row in labels:
        values = row if isinstance(row, list | tuple) or getattr(row, "shape", None) else [row]
        value = next((value for value in values if not is_blank(value)), None)
        if value is not None:
            return value
    return None


def _in_node_order(frame: Any, hierarchy: Hierarchy, name: str) -> Any:
    """A DataFrame with a column for each node, in node order; a DataFrame of names is unchanged."""
    if len(frame.columns) != hierarchy.num_nodes or not all(isinstance(column, str | tuple) for column in frame.columns):
        return frame
    position = {_column_name(column): number for number, column in enumerate(frame.columns)}
    nodes = list(map(clean, hierarchy.names))
    for names in (nodes, [PATH_SEPARATOR.join(map(clean, path)) for path in hierarchy.paths]):
        if position.keys() == set(names) and len(position) == len(names):
            return np.asarray(frame)[:, [position[name] for name in names]]
    known = sorted(position.keys() & nodes, key=position.__getitem__)
    if known:
        raise InputError(
            f"{name}: its columns are names of labels, {known[0]!r} for one, but not those of all nodes once; give a column "
            "for each node, or an array in node order."
        )
    return frame


def _column_name(column: str | tuple[Any, ...]) -> str:
    """The name or path of a column. Args: column: a name, or a tuple from the top down (MultiIndex)."""
    if isinstance(column, str):
        return clean(column)
    return PATH_SEPARATOR.join(clean(str(name)) for name in column if not is_blank(name))


def as_lists(labels: LabelSets, name: str = "labels") -> list[Any]:
    """Names, rows of names and label sets as a list for `Hierarchy.encode`: a single name becomes a list of one."""
    rows = rows_of(labels, name, ordered=True)
    return [[row] if isinstance(row, str) else row for row in rows]


def _as_zero_one(array: Tensor, hierarchy: Hierarchy, name: str) -> Tensor:
    _check_shape(array, hierarchy, name, f"; {CLASS_NUMBERS}")
    if array.dtype == torch.bool:
        return array
    return _checked(array, torch.arange(len(array), device=array.device)[:, None].expand(array.shape), name)


def _checked(values: Tensor, document: Tensor, name: str) -> Tensor:
    """Numbers as bool. Args: document: of each value. Raises InputError unless all are 0 or 1."""
    missing = values.isnan()
    if not bool(((values == 0) | (values == 1) | missing).all()):
        raise InputError(
            f"{name} must hold 0 and 1 only; decode probabilities into label sets first (htc.decoding.rules); {CLASS_NUMBERS}."
        )
    if bool(missing.any()):
        raise InputError(
            f"{name} must hold 0 and 1 only, but document {int(document[missing].min())} has a blank; say 0 where a label is "
            "not true."
        )
    return values.bool()


def as_scores(scores: Scores, hierarchy: Hierarchy, name: str = "y_score") -> Tensor:
    """Convert node scores to a float tensor. Raises: InputError: for a wrong shape, values that are not numbers, or NaN."""
    array = scores if isinstance(scores, Tensor) else _as_tensor(_score_array(scores, hierarchy, name))
    _check_shape(array, hierarchy, name)
    if not array.is_floating_point():
        return array.double()
    if bool(array.isnan().any()):
        raise InputError(f"{name} holds NaN for document {int(array.isnan().any(1).nonzero()[0])}.")
    return array


def _score_array(scores: Scores, hierarchy: Hierarchy, name: str) -> np.ndarray:
    if hasattr(scores, "columns"):
        scores = _in_node_order(scores, hierarchy, name)
    array = np.asarray(scores)
    numbers = _numbers_of(array)
    if numbers is not None:
        return numbers
    if array.dtype.kind in "biuf":
        return _filled(scores, array)
    value = next(iter(array.flat), None)
    raise InputError(f"{name} must be an array of numbers, a column for each node, but {no_text(value)}.")


def _as_tensor(array: np.ndarray) -> Tensor:
    """A tensor of the same numbers; shares memory if torch can."""
    sharable = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if sharable else array.copy())


def _check_shape(array: Any, hierarchy: Hierarchy, name: str, hint: str = "") -> None:
    if len(array.shape) != 2 or array.shape[1] != hierarchy.num_nodes:
        raise InputError(
            f"{name} must have a column for each of the {hierarchy.num_nodes} nodes of the hierarchy, but its shape is "
            f"{tuple(array.shape)}{hint}."
        )


def both_label_sets(y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy) -> tuple[SparseSets, SparseSets]:
    """True and predicted label sets of as many documents. Raises: InputError: as `as_label_sets`; for no document."""
    true, predicted = as_sparse_sets(y_true, hierarchy, "y_true"), as_sparse_sets(y_pred, hierarchy, "y_pred")
    check_as_many(true, predicted)
    return true, predicted


def labels_per_document(sets: Tensor | SparseSets) -> Tensor:
    """The sizes of the sets. Args: sets (D, N) bool, dense or sparse. Returns: (D,) int64."""
    return SparseSets.of(sets).sum(1)


def documents_per_label(sets: Tensor | SparseSets) -> Tensor:
    """The number of sets with each label. Args: sets (D, N) bool, dense or sparse. Returns: (N,) int64."""
    return SparseSets.of(sets).sum(0)


def in_parts(one: Part, other: Other, cells: int = CELLS) -> Iterator[tuple[Part, Other]]:
    """Split both into parts of a few documents. Args: one, other (D, N), dense or sparse; cells: per part."""
    rows = max(1, cells // one.shape[1])
    return zip(one.split(rows), other.split(rows), strict=True)


def check_as_many(true: Tensor | SparseSets, predicted: Tensor | SparseSets) -> None:
    """Raise InputError unless both have the same number of documents, and at least one."""
    if len(true) != len(predicted):
        raise InputError(f"y_true has {len(true)} documents, but there are predictions for {len(predicted)}.")
    if not len(true):
        raise InputError("there is no document to score.")
