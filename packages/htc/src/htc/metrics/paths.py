"""F1 metrics that count a label only together with its path."""

from typing import Literal

import torch
from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import LabelSets, both_label_sets
from htc.labels.sparse_sets import SparseSets
from htc.metrics.counts import average_over_classes, by_class


def constrained_counts(true: SparseSets, predicted: SparseSets, hierarchy: Hierarchy) -> Tensor:
    """Counts by class; a true positive needs true positives as ancestors. Returns: (3, N)."""
    counts = by_class(true, predicted)
    counts[0] = _with_all_ancestors(true.common(predicted), hierarchy).sum(0)
    return counts


def path_counts(true: SparseSets, predicted: SparseSets, hierarchy: Hierarchy) -> Tensor:
    """Counts of paths, by the class where they end. Returns: (3, N), see `path_f1`."""
    true_ends, predicted_ends = hierarchy.most_specific(true), hierarchy.most_specific(predicted)
    counts = by_class(true_ends, predicted_ends)
    counts[0] = true_ends.common(predicted_ends).common(_with_all_ancestors(predicted, hierarchy)).sum(0)
    return counts


def _with_all_ancestors(sets: SparseSets, hierarchy: Hierarchy) -> SparseSets:
    """Keep members whose ancestors are all members."""
    row, ancestor, _ = hierarchy.ancestors_of(sets.node)
    missing = ~sets.find(sets.document[row], ancestor)[1]
    return sets.keep(torch.ones_like(sets.node, dtype=torch.bool).index_fill_(0, row[missing], False))


def path_constrained_f1(
    y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy, average: Literal["micro", "macro"] = "micro"
) -> float:
    """C-F1: as flat F1, but a label is a true positive only if all its ancestors are.

    Equal to flat F1 for coherent predictions. Sets are not closed under ancestors: this metric penalises labels that are
    predicted without their parents.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"]])
    >>> path_constrained_f1([[1, 1]], [[0, 1]], hierarchy)  # Music without Arts
    0.0

    Args:
        y_true, y_pred: label sets of D documents.
        average: `micro` pools over labels; `macro` is the mean over the N labels, 0 for a label that is never true or
            predicted.

    Source: Yu et al., "Constrained Sequence-to-Tree Generation for Hierarchical Text Classification", SIGIR 2022.
    """
    true, predicted = both_label_sets(y_true, y_pred, hierarchy)
    return average_over_classes(constrained_counts(true, predicted, hierarchy), average)[2]


def path_f1(y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy, average: Literal["micro", "macro"] = "micro") -> float:
    """P-F1: F1 of whole paths. A path is identified by its last label, which has no descendant in the set.

    A predicted path is right if a true path ends at the same label and all labels above it are predicted.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"]])
    >>> path_f1([["Arts", "Music"]], [["Arts", "Film"]], hierarchy)  # Arts alone is worth nothing
    0.0

    Args:
        y_true, y_pred: label sets of D documents; y_pred as predicted, not closed.
        average: `micro` pools over paths; `macro` is the mean over the N labels where a path could end.

    Source: Ji et al., "Hierarchical Verbalizer for Few-Shot Hierarchical Text Classification", ACL 2023.
    """
    true, predicted = both_label_sets(y_true, y_pred, hierarchy)
    return average_over_classes(path_counts(true, predicted, hierarchy), average)[2]
