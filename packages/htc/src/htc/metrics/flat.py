"""Multi-label metrics that ignore the hierarchy; equal to scikit-learn's with `zero_division=0`."""

from typing import Literal

from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import LabelSets, both_label_sets
from htc.metrics.counts import all_right, average_over_classes, average_over_documents, by_class, by_document, check_average


def f1(y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy, average: Literal["micro", "macro", "samples"]) -> float:
    """F1: pooled over all cells (micro), mean over the N labels (macro), or mean over the D documents (samples).

    A label that is neither true nor predicted anywhere counts as 0 in the macro average.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"]])
    >>> f1([["Arts", "Music"]], [["Arts", "Film"]], hierarchy, average="micro")
    0.5
    """
    check_average(average, ("micro", "macro", "samples"))
    true, predicted = both_label_sets(y_true, y_pred, hierarchy)
    if average == "samples":
        return average_over_documents(by_document(true, predicted))[2]
    return average_over_classes(by_class(true, predicted), average)[2]


def hamming_loss(y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy) -> float:
    """The share of wrong cells among D x N."""
    true, predicted = both_label_sets(y_true, y_pred, hierarchy)
    wrong = len(true.node) + len(predicted.node) - 2 * len(true.common(predicted).node)
    return wrong / (true.shape[0] * true.shape[1])


def exact_match(y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy) -> float:
    """The share of documents with an entirely right label set (scikit-learn's `accuracy_score` of multi-hot arrays)."""
    true, predicted = both_label_sets(y_true, y_pred, hierarchy)
    return float(all_right(true, predicted).double().mean())
