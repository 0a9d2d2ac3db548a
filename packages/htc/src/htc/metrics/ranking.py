"""Metrics of node probabilities, over all thresholds at once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import CELLS, LabelSets, Scores, as_scores, as_sparse_sets, check_as_many, in_parts
from htc.labels.sparse_sets import SparseSets
from htc.metrics.counts import divide, precision_recall_f
from htc.metrics.reached import reached_by_true, reached_in_rows
from rlkl_htc_common.errors import InputError


def hf1_auc(y_true: LabelSets, y_score: Scores, hierarchy: Hierarchy) -> float:
    """The area under each document's hierarchical precision-recall curve, averaged over documents.

    A document's thresholds are its distinct scores. At each, the prediction is closed under ancestors: this equals giving every
    node the largest score of it and its descendants. The curve starts at recall 0 and precision 1. It has a point wherever
    recall grows and one just before, connected by straight lines. Only growth of recall adds area, and every true node adds an
    equal share of recall. So the area is a mean over the true nodes, of the mean of two precisions: at the node's score and
    just above it. No sorting is needed.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> hf1_auc([["Arts", "Music"]], [[0.9, 0.1, 0.8, 0.2]], hierarchy)  # Arts, Science, Music, Film
    1.0

    Args:
        y_true: the label sets of D documents, at least one label each; closed under ancestors here.
        y_score: (D, N); any scores; only their order within a document matters.
        hierarchy: a tree or a DAG.

    Raises:
        InputError: for a document without a true label.

    Source: Plaud et al., CoNLL 2024, section 4.2.
    """
    return float(hf1_auc_per_document(y_true, y_score, hierarchy).mean())


def hf1_auc_per_document(y_true: LabelSets, y_score: Scores, hierarchy: Hierarchy) -> Tensor:
    """The area of each document, for intervals over documents. Args: as `hf1_auc`. Returns: (D,) float64."""
    targets, scores = true_and_scores(y_true, y_score, hierarchy)
    areas = []
    for true, some in in_parts(targets, scores, CELLS):
        closed = hierarchy.max_over_descendants(some)
        areas.append(areas_of(true, closed, reached_in_rows(true, closed)))
    return torch.cat(areas)


def areas_of(true: SparseSets, scores: Tensor, reached: tuple[Tensor, Tensor]) -> Tensor:
    """The area of each document.

    Args: true: of d documents, closed; scores (d, N) of `max_over_descendants`; reached: their `reached_in_rows`.

    Returns:
        (d,) float64.
    """
    at, above = reached
    true_at, true_above = reached_by_true(true, scores)
    precision_at, precision_above = divide(true_at, at), divide(true_above, above)
    precision_above[above == 0] = 1.0  # the start of the curve
    share = 1 / true.sum(1).double()[true.document]
    return share.new_zeros(len(true)).index_add(0, true.document, (precision_at + precision_above) / 2 * share)


def true_and_scores(y_true: LabelSets, y_score: Scores, hierarchy: Hierarchy) -> tuple[SparseSets, Tensor]:
    """True label sets, closed under ancestors, and node scores (D, N)."""
    targets, scores = hierarchy.close(as_sparse_sets(y_true, hierarchy, "y_true")), as_scores(y_score, hierarchy)
    check_as_many(targets, scores)
    empty = targets.sum(1) == 0
    if bool(empty.any()):
        raise InputError(f"y_true: document {int(empty.nonzero()[0])} has no label, and so no recall.")
    return targets, scores


class Curve(NamedTuple):
    """Micro-averaged hierarchical precision, recall and F1 at each threshold, all (T,)."""

    thresholds: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor


def micro_curve(y_true: LabelSets, y_score: Scores, hierarchy: Hierarchy, thresholds: Sequence[float] | Tensor) -> Curve:
    """Micro hP, hR and hF1 at each of the given thresholds, in one pass.

    Args: y_true: label sets of D documents; y_score (D, N); thresholds (T,) ascending. Returns: a `Curve`.

    Raises:
        InputError: if the thresholds are not ascending.
    """
    thresholds = ascending(thresholds)
    targets, scores = true_and_scores(y_true, y_score, hierarchy)
    parts = in_parts(targets, scores)
    counts = [curve_counts(true, hierarchy.max_over_descendants(some), thresholds) for true, some in parts]
    return Curve(thresholds, *precision_recall_f(torch.stack(counts).sum(0)))


def ascending(thresholds: Sequence[float] | Tensor) -> Tensor:
    """Thresholds as a tensor (T,). Raises: InputError: unless they are ascending."""
    tensor = torch.as_tensor(thresholds)
    if tensor.ndim != 1 or bool((tensor.diff() < 0).any()):
        raise InputError("thresholds must be one list of ascending numbers.")
    return tensor


def curve_counts(targets: SparseSets, scores: Tensor, thresholds: Tensor) -> Tensor:
    """Pooled counts at each threshold.

    Args: targets: of D documents; scores (D, N) of `max_over_descendants`; thresholds (T,). Returns: (3, T) int64.
    """
    thresholds = thresholds.to(scores)

    def reaching(values: Tensor) -> Tensor:
        """The number of values that reach each threshold: (T,)."""
        reached = torch.searchsorted(thresholds, values.contiguous(), right=True)  # thresholds at or below each value
        return torch.bincount(reached, minlength=len(thresholds) + 1).flip(0).cumsum(0).flip(0)[1:]

    predicted, true_positives = reaching(scores.flatten()), reaching(scores[targets.document, targets.node])
    return torch.stack([true_positives, predicted, torch.full_like(predicted, len(targets.node))])
