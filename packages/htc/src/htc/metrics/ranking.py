"""Metrics of node probabilities, over all thresholds at once."""

from typing import NamedTuple

import torch
from torch import Tensor

from htc.hierarchy import Hierarchy
from htc.metrics.flat import divide


def hf1_auc(probabilities: Tensor, targets: Tensor, hierarchy: Hierarchy, chunk: int = 1024) -> float:
    """The area under each document's hierarchical precision-recall curve, averaged over documents.

    A document's thresholds are its distinct scores; at each, the prediction is closed under ancestors, which comes to giving
    every node the largest score among it and its descendants. The curve starts at recall 0 and precision 1. Area arises only
    where recall grows, between the point there and the point just before, so it is a sum over the scores at which a true node
    enters: (recall gained) x (mean of the precisions before and after).

    Args:
        probabilities: (D, N); any scores, only their order within a document matters.
        targets: (D, N) bool, closed under ancestors, at least one per document.
        hierarchy: the hierarchy.
        chunk: documents sorted at a time; bounds memory.

    Source: Plaud et al., CoNLL 2024, section 4.2.
    """
    total = 0.0
    for rows, true in zip(probabilities.split(chunk), targets.split(chunk), strict=True):
        scores, order = hierarchy.max_over_descendants(rows).sort(dim=1, descending=True)
        true_positives = true.gather(1, order).cumsum(1)  # (B, N)
        predicted = torch.arange(1, scores.shape[1] + 1, device=scores.device)
        last_of_its_value = torch.ones_like(scores, dtype=torch.bool)
        last_of_its_value[:, :-1] = scores[:, 1:] < scores[:, :-1]
        precision = true_positives.double() / predicted
        recall = true_positives.double() / true.sum(1, keepdim=True)
        # For each place the last earlier place where a tie ends: its precision and recall are those "just before".
        ends = torch.where(last_of_its_value, predicted, 0)
        before = torch.cat([ends.new_zeros(len(ends), 1), ends.cummax(1).values[:, :-1]], dim=1)
        start = precision.new_ones(len(precision), 1)
        precision_before = torch.cat([start, precision], 1).gather(1, before)
        recall_before = torch.cat([0 * start, recall], 1).gather(1, before)
        area = (recall - recall_before) * (precision + precision_before) / 2
        total += float(torch.where(last_of_its_value, area, 0.0).sum())
    return total / len(probabilities)


class Curve(NamedTuple):
    """Micro-averaged hierarchical precision, recall and F1 at each threshold, all (T,)."""

    thresholds: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor


def micro_curve(probabilities: Tensor, targets: Tensor, hierarchy: Hierarchy, thresholds: Tensor) -> Curve:
    """Micro hP, hR and hF1 of thresholding at each of the given values, from one sort.

    Args: probabilities (D, N); targets (D, N) bool, closed under ancestors; thresholds (T,). Returns: a `Curve`.
    """
    scores, order = hierarchy.max_over_descendants(probabilities).flatten().sort()
    true_above = torch.cat([targets.flatten()[order].flip(0).cumsum(0).flip(0), order.new_zeros(1)])
    first = torch.searchsorted(scores, thresholds.to(scores.dtype))  # the first score that reaches the threshold
    predicted, true_positives = len(scores) - first, true_above[first]
    true = targets.sum()
    return Curve(
        thresholds,
        divide(true_positives, predicted),
        divide(true_positives, true.expand_as(predicted)),
        divide(2 * true_positives, predicted + true),
    )
