"""What metrics take: multi-hot arrays, or lists of label paths."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from htc.errors import InputError
from htc.hierarchy import Hierarchy

LabelSets = Any
"""The labels of D documents: a (D, N) array of 0 and 1 (torch, NumPy or SciPy sparse) in the hierarchy's node order, or a
sequence of D label sets as `Hierarchy.resolve` takes them: a path, a set of names, or several paths. A document may be without
labels."""


Scores = Any
"""(D, N) probabilities or other scores of nodes: an array of torch or NumPy."""


def as_label_sets(labels: LabelSets, hierarchy: Hierarchy, name: str = "labels") -> Tensor:
    """Label sets as a tensor; those given as names or paths are closed under ancestors.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> as_label_sets([["Arts", "Film"], []], hierarchy).int()
    tensor([[1, 0, 0, 1],
            [0, 0, 0, 0]], dtype=torch.int32)

    Args:
        labels: see `LabelSets`.
        name: what to call them in an error.

    Returns:
        (D, N) bool.

    Raises:
        InputError: for a wrong shape, other values than 0 and 1, or unknown labels.
    """
    if isinstance(labels, Sequence) and not _is_row_of_numbers(labels):
        try:
            return hierarchy.encode(labels, allow_empty=True)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    if hasattr(labels, "toarray"):  # SciPy's sparse matrices
        labels = labels.toarray()
    array = as_scores(labels, hierarchy, name)
    if array.dtype == torch.bool:
        return array
    if not bool(((array == 0) | (array == 1)).all()):
        raise InputError(f"{name} must hold 0 and 1 only; decode probabilities into label sets first (htc.decoding).")
    return array.bool()


def _is_row_of_numbers(labels: Sequence[Any]) -> bool:
    """Whether nested sequences are a multi-hot array and not names."""
    first = next((row for row in labels if not isinstance(row, Sequence) or len(row)), None)
    if first is None or isinstance(first, str):
        return False
    return not isinstance(first, Sequence) or isinstance(first[0], (int, float, np.number, np.bool_))


def both_label_sets(y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy) -> tuple[Tensor, Tensor]:
    """True and predicted label sets as tensors of one shape. Raises: InputError: see `as_label_sets`; for no document."""
    true, predicted = as_label_sets(y_true, hierarchy, "y_true"), as_label_sets(y_pred, hierarchy, "y_pred")
    check_as_many(true, predicted)
    return true, predicted


def as_scores(scores: Scores, hierarchy: Hierarchy, name: str = "y_score") -> Tensor:
    """Node scores as a tensor. Args: scores: a (D, N) array of torch or NumPy. Raises: InputError: for a wrong shape or NaN."""
    array = scores if isinstance(scores, Tensor) else torch.from_numpy(np.asarray(scores))
    if array.ndim != 2 or array.shape[1] != hierarchy.num_nodes:
        raise InputError(
            f"{name} must have a column for each of the {hierarchy.num_nodes} nodes of the hierarchy, but its shape is "
            f"{tuple(array.shape)}."
        )
    if bool(array.isnan().any()):
        raise InputError(f"{name} holds NaN for document {int(array.isnan().any(1).nonzero()[0])}.")
    return array


def check_as_many(true: Tensor, predicted: Tensor) -> None:
    """Raise InputError unless there are as many documents on both sides, and any at all."""
    if len(true) != len(predicted):
        raise InputError(f"y_true has {len(true)} documents, but there are predictions for {len(predicted)}.")
    if not len(true):
        raise InputError("there is no document to score.")
