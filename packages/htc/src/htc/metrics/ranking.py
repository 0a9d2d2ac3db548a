"""Metrics of node probabilities, over all thresholds at once."""

from typing import NamedTuple

import torch
from torch import Tensor

from htc.hierarchy import Hierarchy
from htc.metrics.flat import count, divide


def hf1_auc(probabilities: Tensor, targets: Tensor, hierarchy: Hierarchy, chunk: int = 1024) -> float:
    """The area under each document's hierarchical precision-recall curve, averaged over documents.

    A document's thresholds are its distinct scores; at each, the prediction is closed under ancestors, which comes to giving
    every node the largest score among it and its descendants. The curve starts at recall 0 and precision 1 and has a point
    wherever recall grows and one just before, joined by straight lines. Area arises only where recall grows, and every true
    node that enters adds an equal share of recall: so the area is the mean, over the true nodes, of the mean of two precisions,
    that at the node's score and that just above it. No sorting is needed.

    Args:
        probabilities: (D, N); any scores, only their order within a document matters.
        targets: (D, N) bool, closed under ancestors, at least one per document.
        hierarchy: the hierarchy.
        chunk: documents at a time; bounds memory.

    Source: Plaud et al., CoNLL 2024, section 4.2.
    """
    total = 0.0
    for rows, true in zip(probabilities.split(chunk), targets.split(chunk), strict=True):
        scores = hierarchy.max_over_descendants(rows)
        doc, node = true.nonzero(as_tuple=True)
        score = scores[doc, node][:, None]  # (M, 1), one row for each true node
        others, is_true = scores[doc], true[doc]  # (M, N)
        at, above = others >= score, others > score
        precision_at = divide(count(at & is_true, (1,)), count(at, (1,)))
        predicted_above = count(above, (1,))
        precision_above = divide(count(above & is_true, (1,)), predicted_above)
        precision_above[predicted_above == 0] = 1.0  # the start of the curve
        share = 1 / true.sum(1).double()[doc]
        total += float(((precision_at + precision_above) / 2 * share).sum())
    return total / len(probabilities)


class Curve(NamedTuple):
    """Micro-averaged hierarchical precision, recall and F1 at each threshold, all (T,)."""

    thresholds: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor


def micro_curve(probabilities: Tensor, targets: Tensor, hierarchy: Hierarchy, thresholds: Tensor) -> Curve:
    """Micro hP, hR and hF1 of thresholding at each of the given values, in one pass.

    Args: probabilities (D, N); targets (D, N) bool, closed under ancestors; thresholds (T,) ascending. Returns: a `Curve`.
    """
    scores = hierarchy.max_over_descendants(probabilities)
    thresholds = thresholds.to(scores)

    def reaching(values: Tensor) -> Tensor:
        """How many of the values reach each threshold: (T,)."""
        reached = torch.searchsorted(thresholds, values.contiguous(), right=True)  # thresholds at or below each value
        return torch.bincount(reached, minlength=len(thresholds) + 1).flip(0).cumsum(0).flip(0)[1:]

    predicted, true_positives, true = reaching(scores.flatten()), reaching(scores[targets]), targets.sum()
    return Curve(
        thresholds,
        divide(true_positives, predicted),
        divide(true_positives, true.expand_as(predicted)),
        divide(2 * true_positives, predicted + true),
    )
