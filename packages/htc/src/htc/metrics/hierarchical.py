"""Metrics of predicted label sets that look at the hierarchy."""

from typing import Literal

import torch
from torch import Tensor

from htc.hierarchy import Hierarchy
from htc.metrics.flat import count, divide


def hierarchical_precision_recall_f(
    predictions: Tensor,
    targets: Tensor,
    hierarchy: Hierarchy,
    average: Literal["micro", "samples"] = "micro",
    beta: float = 1.0,
) -> tuple[float, float, float]:
    """hP, hR and hF_beta: precision, recall and F of label sets that have been closed under ancestors.

    Args:
        predictions, targets: (D, N) bool; both are closed here, so they may be given as predicted.
        hierarchy: the hierarchy.
        average: `micro` pools the intersections and sizes over documents; `samples` takes each measure per document and
            averages it over documents (hiclass calls that one "macro").
        beta: the weight of recall.

    Returns:
        (hP, hR, hF).

    Source: Kiritchenko, Matwin and Famili, 2005; Plaud et al., CoNLL 2024, section 4.
    """
    both, predicted, true = _counts(predictions, targets, hierarchy, (0, 1) if average == "micro" else (1,))
    f = divide((1 + beta**2) * both, beta**2 * true + predicted)
    return float(divide(both, predicted).mean()), float(divide(both, true).mean()), float(f.mean())


def hierarchical_f_per_document(predictions: Tensor, targets: Tensor, hierarchy: Hierarchy, beta: float = 1.0) -> Tensor:
    """hF_beta of each document: the values that the `samples` average is the mean of, for intervals over documents.

    Args: as `hierarchical_precision_recall_f`. Returns: (D,) float64.
    """
    both, predicted, true = _counts(predictions, targets, hierarchy, (1,))
    return divide((1 + beta**2) * both, beta**2 * true + predicted)


def _counts(predictions: Tensor, targets: Tensor, hierarchy: Hierarchy, dims: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """How many labels are predicted and true, predicted, and true, after closing both sets under ancestors."""
    predictions, targets = hierarchy.close(predictions), hierarchy.close(targets)
    return count(predictions & targets, dims), count(predictions, dims), count(targets, dims)


def accuracy_per_level(predictions: Tensor, targets: Tensor, hierarchy: Hierarchy) -> list[float]:
    """For each depth, the share of the documents with a true label there whose labels at that depth are all right.

    Args: predictions, targets (D, N) bool. Returns: one number per depth from 1; NaN where no document has a label.
    """
    accuracies = []
    for level in range(1, hierarchy.max_depth + 1):
        nodes = hierarchy.depth == level
        has_label = targets[:, nodes].any(1)
        right = (predictions[:, nodes] == targets[:, nodes]).all(1)
        accuracies.append(float(right[has_label].double().mean()) if has_label.any() else float("nan"))
    return accuracies


def incoherence_rate(predictions: Tensor, hierarchy: Hierarchy) -> float:
    """The share of documents whose predicted set lacks a parent of one of its members. Args: predictions (D, N) bool."""
    return 1.0 - float(torch.mean(hierarchy.is_coherent(predictions).double()))
