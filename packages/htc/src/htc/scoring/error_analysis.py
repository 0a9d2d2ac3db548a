"""Error analysis: confused siblings, the worst documents, calibration, and F1 per node."""

from typing import NamedTuple

import torch
from torch import Tensor

from htc.labels.hierarchy import Hierarchy, Sets
from htc.labels.sparse_sets import SparseSets, spread
from htc.metrics.counts import by_class, divide, precision_recall_f
from htc.scoring.parts import Probabilities, with_targets

BINS = 10
FREQUENCIES = (0, 5, 20, 100)  # training documents of a label: none, up to 5, up to 20, up to 100, more


class Confusion(NamedTuple):
    """How often a label was predicted instead of its sibling."""

    true: int
    predicted: int
    documents: int
    of: int  # documents that truly have the label


def confused_siblings(true: Sets, predicted: Sets, hierarchy: Hierarchy, most: int = 20) -> list[Confusion]:
    """The most frequently confused pairs of siblings: one is true and missed, the other predicted and wrong.

    Args:
        true, predicted: (D, N) bool, dense or sparse.
        hierarchy: a tree.
        most: the largest number of pairs.

    Returns:
        Most frequent first.
    """
    of_true, of_predicted = SparseSets.of(true), SparseSets.of(predicted)
    document, missed = _without(of_true, of_predicted)
    other_document, wrong = _without(of_predicted, of_true)
    groups = int(hierarchy.sibling_group[-1]) + 1
    keys = other_document * groups + hierarchy.sibling_group[wrong]  # ascending: nodes of a group are adjacent
    wanted = document * groups + hierarchy.sibling_group[missed]
    first, end = torch.searchsorted(keys, wanted), torch.searchsorted(keys, wanted, right=True)
    row, at = spread(first, end - first)
    pair = missed[row] * hierarchy.num_nodes + wrong[at]
    pairs, counts = pair.unique(return_counts=True)
    order = counts.argsort(descending=True, stable=True)[:most]
    with_label = of_true.sum(0)
    return [
        Confusion(int(pairs[i]) // hierarchy.num_nodes, int(pairs[i]) % hierarchy.num_nodes, int(counts[i]), int(with_label[n]))
        for i in order.tolist()
        for n in (int(pairs[i]) // hierarchy.num_nodes,)
    ]


def _without(sets: SparseSets, others: SparseSets) -> tuple[Tensor, Tensor]:
    """The pairs of document and label that are not in the others."""
    other = sets.keep(~others.find(sets.document, sets.node)[1])
    return other.document, other.node


class Calibration(NamedTuple):
    """Predicted probability and true frequency of the labels of one level, by bins of probability; all (BINS,)."""

    confidence: Tensor
    frequency: Tensor
    cells: Tensor
    error: float  # the expected calibration error: mean gap, bins weighted by their counts


def calibration_per_level(probabilities: Probabilities, true: Tensor | SparseSets, hierarchy: Hierarchy) -> list[Calibration]:
    """Calibration of the node probabilities at each depth.

    Cells with a probability below 1% are left out: they are nearly all cells, and nearly all of them are right.

    Args: probabilities (D, N), or in parts; true (D, N) bool, dense or sparse. Returns: one for each depth from 1.

    Source of the error: Naeini, Cooper and Hauskrecht, 2015.
    """
    total = torch.zeros(hierarchy.max_depth, BINS, dtype=torch.double)
    counts = torch.zeros(hierarchy.max_depth, 2, BINS, dtype=torch.long)  # cells, and true ones
    for some, of_them in with_targets(probabilities, SparseSets.of(true)):
        dense = of_them.dense()
        for depth, level in enumerate(hierarchy.levels):
            p, t = some[:, level].flatten().double(), dense[:, level].flatten()
            p, t = p[p >= 0.01], t[p >= 0.01]
            which = (p * BINS).long().clamp(max=BINS - 1)
            total[depth].index_add_(0, which, p)
            counts[depth] += torch.stack([torch.bincount(bins, minlength=BINS) for bins in (which, which[t])])
    levels = []
    for of_level, (count, of_true) in zip(total, counts, strict=True):
        confidence, frequency = divide(of_level, count), divide(of_true, count)
        error = float(divide(((confidence - frequency).abs() * count).sum(), count.sum()))
        levels.append(Calibration(confidence, frequency, count, error))
    return levels


def f1_per_node(true: Sets, predicted: Sets) -> Tensor:
    """F1 of each label, NaN if it is never true or predicted. Args: (D, N) bool, dense or sparse. Returns: (N,) float64."""
    counts = by_class(true, predicted)
    return torch.where(counts[1:].any(0), precision_recall_f(counts)[2], torch.nan)


def f1_by_frequency(counts: Tensor, training_counts: Tensor) -> list[dict[str, float | int | None]]:
    """Macro F1 by the frequency of labels in training.

    Args:
        counts: (3, N), see `htc.metrics.counts`.
        training_counts: (N,) the number of training documents with each label.

    Returns:
        For each range of counts: `most`, its upper limit (None for no limit); `labels`, the number of labels that occur in the
        documents; `f1`, their mean.
    """
    f1 = precision_recall_f(counts)[2]
    occurs = counts[2] > 0
    rows: list[dict[str, float | int | None]] = []
    at_least = 0
    for most in (*FREQUENCIES, None):
        inside = occurs & (training_counts >= at_least)
        if most is not None:
            inside &= training_counts <= most
            at_least = most + 1
        rows.append({"most": most, "labels": int(inside.sum()), "f1": float(f1[inside].mean()) if inside.any() else None})
    return rows


def worst_documents(
    f_per_document: Tensor, probabilities: Probabilities, predicted: Tensor | SparseSets, most: int = 12
) -> list[int]:
    """The documents with the lowest scores; of equal scores, those with the most confident predictions first.

    Args: f_per_document (D,); probabilities (D, N), or in parts; predicted (D, N) bool, dense or sparse. Returns: indices of
    documents.
    """
    predicted = SparseSets.of(predicted)
    total = [(some * sets.dense()).sum(1) for some, sets in with_targets(probabilities, predicted)]
    sureness = divide(torch.cat(total), predicted.sum(1))
    order = sorted(range(len(predicted)), key=lambda i: (float(f_per_document[i]), -float(sureness[i])))
    return order[:most]
