"""Counts of true positives, predicted and true labels, by class or by document; and precision, recall and F from them.

Counts are (3, ...) tensors: true positives, predicted labels, true labels. Counts by class are sums over documents.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from htc.labels.sparse_sets import SparseSets
from rlkl_htc_common.errors import InputError


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator in float64, 0 where the denominator is 0."""
    denominator = denominator.double()
    return torch.where(denominator > 0, numerator.double() / denominator.clamp(min=1e-300), 0.0)


def count(mask: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The number of true values along dimensions, in int32: several times faster than the default int64."""
    return mask.sum(dims, dtype=torch.int32)


def by_class(true: Tensor | SparseSets, predicted: Tensor | SparseSets) -> Tensor:
    """Args: true, predicted (D, N) bool, dense or sparse. Returns: (3, N) int64."""
    true, predicted = SparseSets.of(true), SparseSets.of(predicted)
    return torch.stack([sets.sum(0) for sets in (true.common(predicted), predicted, true)])


def by_document(true: SparseSets, predicted: SparseSets) -> Tensor:
    """Args: true, predicted: of D documents. Returns: (3, D) int64."""
    return torch.stack([sets.sum(1) for sets in (true.common(predicted), predicted, true)])


def all_right(true: SparseSets, predicted: SparseSets) -> Tensor:
    """Whether the labels of each document are all right. Args: true, predicted: of D documents. Returns: (D,) bool."""
    both, of_predicted, of_true = by_document(true, predicted)
    return (both == of_predicted) & (both == of_true)


def check_average(average: str, allowed: Sequence[str]) -> None:
    """Raise InputError for an average that a metric does not support."""
    if average not in allowed:
        raise InputError(f"average must be one of {', '.join(allowed)}, not {average!r}.")


def precision_recall_f(counts: Tensor, beta: float = 1.0) -> Tensor:
    """Args: counts (3, ...). Returns: (3, ...) float64: precision, recall and F_beta, 0 where the denominator is 0."""
    both, predicted, true = counts
    f = divide((1 + beta**2) * both, beta**2 * true + predicted)
    return torch.stack([divide(both, predicted), divide(both, true), f])


def average_over_classes(counts: Tensor, average: Literal["micro", "macro"], beta: float = 1.0) -> tuple[float, float, float]:
    """Precision, recall and F_beta of pooled counts (micro), or their means over all classes (macro). Args: counts (3, N)."""
    check_average(average, ("micro", "macro"))
    if average == "micro":
        counts = counts.sum(1, keepdim=True)
    precision, recall, f = precision_recall_f(counts, beta).mean(1).tolist()
    return precision, recall, f


def average_over_documents(counts: Tensor, beta: float = 1.0) -> tuple[float, float, float]:
    """The means over documents of precision, recall and F_beta. Args: counts (3, D)."""
    precision, recall, f = precision_recall_f(counts, beta).mean(1).tolist()
    return precision, recall, f
