"""Precision, recall and F of label sets closed under ancestors, and metrics per level."""

from typing import Literal

import torch
from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import LabelSets, as_sparse_sets, both_label_sets, check_as_many
from htc.labels.sparse_sets import SparseSets
from htc.metrics.counts import (
    average_over_classes,
    average_over_documents,
    by_class,
    by_document,
    check_average,
    divide,
    precision_recall_f,
)
from rlkl_htc_common.errors import InputError


def closed_label_sets(y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy) -> tuple[SparseSets, SparseSets]:
    """True and predicted label sets with all their ancestors."""
    true, predicted = both_label_sets(y_true, y_pred, hierarchy)
    return hierarchy.close(true), hierarchy.close(predicted)


def hierarchical_precision_recall_f(
    y_true: LabelSets,
    y_pred: LabelSets,
    hierarchy: Hierarchy,
    average: Literal["micro", "macro", "samples"] = "micro",
    beta: float = 1.0,
) -> tuple[float, float, float]:
    """hP, hR and hF_beta: precision, recall and F of label sets closed under ancestors.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> y_true, y_pred = [["Arts", "Music"], ["Science"]], [["Arts", "Film"], ["Science"]]
    >>> hierarchical_precision_recall_f(y_true, y_pred, hierarchy)  # Arts and Science are right, of three
    (0.6666666666666666, 0.6666666666666666, 0.6666666666666666)
    >>> hierarchical_precision_recall_f(y_true, y_pred, hierarchy, average="samples")[2]  # the mean of 1/2 and 1
    0.75

    Args:
        y_true, y_pred: label sets of D documents; both are closed here.
        hierarchy: a tree or a DAG.
        average: `micro` pools intersections and sizes over documents; `samples` averages each measure over documents (hiclass
            calls this "macro"); `macro` averages each measure over nodes.
        beta: the weight of recall.

    Returns:
        (hP, hR, hF).

    Source: Kiritchenko, Matwin and Famili, 2005; Plaud et al., CoNLL 2024, section 4.
    """
    check_average(average, ("micro", "macro", "samples"))
    true, predicted = closed_label_sets(y_true, y_pred, hierarchy)
    if average == "samples":
        return average_over_documents(by_document(true, predicted), beta)
    return average_over_classes(by_class(true, predicted), average, beta)


def hierarchical_f_per_document(y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy, beta: float = 1.0) -> Tensor:
    """hF_beta of each document, for intervals over documents; its mean is the `samples` average.

    Args: as `hierarchical_precision_recall_f`. Returns: (D,) float64.
    """
    return precision_recall_f(by_document(*closed_label_sets(y_true, y_pred, hierarchy)), beta)[2]


def by_level(true: SparseSets, predicted: SparseSets, hierarchy: Hierarchy) -> Tensor:
    """Counts of the labels of each level and document. Args: true, predicted: of D documents. Returns: (3, H, D) int64."""
    level = (hierarchy.depth - 1).to(true.node.device)
    shape = hierarchy.max_depth, len(true)
    counts = [
        torch.bincount(level[sets.node] * shape[1] + sets.document, minlength=shape[0] * shape[1]).view(shape)
        for sets in (true.common(predicted), predicted, true)
    ]
    return torch.stack(counts)


def class_at_depth_counts(true: SparseSets, predicted: SparseSets, hierarchy: Hierarchy) -> Tensor:
    """For each node, pooled counts over the documents that truly have it, of labels down to the node's depth.

    Args: true, predicted: closed under ancestors. Returns: (3, N) int64, see `htc.metrics.counts`.
    """
    down_to = by_level(true, predicted, hierarchy).cumsum(1)
    pooled = torch.zeros(3, hierarchy.num_nodes, dtype=torch.long, device=true.node.device)
    depth = hierarchy.depth.to(true.node.device)[true.node]
    return pooled.index_add_(1, true.node, down_to[:, depth - 1, true.document])


def average_at_depth(counts: Tensor, hierarchy: Hierarchy, depth: int) -> tuple[float, float, float]:
    """Means of precision and recall over the nodes of a depth that occur in a document, and the F1 of these means."""
    level = counts[:, hierarchy.levels[depth - 1]]
    precision, recall, _ = precision_recall_f(level[:, level[2] > 0])
    if not len(precision):
        return 0.0, 0.0, 0.0
    p, r = precision.mean(), recall.mean()
    return float(p), float(r), float(divide(2 * p * r, p + r))


def macro_precision_recall_f_at_depth(
    y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy, depth: int
) -> tuple[float, float, float]:
    """Hierarchical precision and recall by class at one depth; rare classes count as much as frequent ones.

    For each node at the depth, precision and recall are computed over the documents that truly have it, pooled: over their
    labels (closed under ancestors) from the top down to that depth. Both are averaged over the nodes that occur in a document.

    Args:
        y_true, y_pred, hierarchy: as `hierarchical_precision_recall_f`.
        depth: from 1 to `hierarchy.max_depth`.

    Returns:
        The mean precision, the mean recall, and the F1 of these two; zeros if no document reaches the depth.

    Raises:
        InputError: for a depth that the hierarchy does not have.

    Source: Plaud et al., CoNLL 2024, section 4 (macro-averaging over classes).
    """
    if not 1 <= depth <= hierarchy.max_depth:
        raise InputError(f"depth must be from 1 to {hierarchy.max_depth}, not {depth}.")
    true, predicted = closed_label_sets(y_true, y_pred, hierarchy)
    return average_at_depth(class_at_depth_counts(true, predicted, hierarchy), hierarchy, depth)


def level_counts(true: SparseSets, predicted: SparseSets, hierarchy: Hierarchy) -> Tensor:
    """Per level, the numbers of documents with all labels right and with a label. Returns: (2, H) int64."""
    both, of_predicted, of_true = by_level(true, predicted, hierarchy)
    has_label = of_true > 0
    return torch.stack([((both == of_predicted) & (both == of_true) & has_label).sum(1), has_label.sum(1)])


def accuracies(counts: Tensor) -> list[float]:
    """Right by total. Args: counts (2, H). Returns: H numbers, NaN where the total is 0."""
    return (counts[0].double() / counts[1]).tolist()


def accuracy_per_level(y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy) -> list[float]:
    """For each depth, among the documents with a true label there, the share whose labels at that depth are all right.

    Returns: one number per depth from 1; NaN where no document has a label.
    """
    return accuracies(level_counts(*both_label_sets(y_true, y_pred, hierarchy), hierarchy))


def incoherence_rate(y_pred: LabelSets, hierarchy: Hierarchy) -> float:
    """The share of documents whose predicted set lacks a parent of one of its members."""
    predicted = as_sparse_sets(y_pred, hierarchy, "y_pred")
    check_as_many(predicted, predicted)
    return float((~hierarchy.is_coherent(predicted)).double().mean())
