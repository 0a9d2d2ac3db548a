"""Ranking metrics, as in extreme multi-label classification.

All labels are ranked, inner nodes and leaves. Label sets are not closed, except those given as names or paths
(`htc.labels.label_sets`). To rank only leaves, see `htc.metrics.hierarchical_distance_at_k`.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import LabelSets, Scores, as_scores, as_sparse_sets, check_as_many, in_parts
from htc.labels.sparse_sets import SparseSets
from htc.metrics.counts import check_average, divide
from htc.metrics.reached import ReachedInColumns, ReachedOverall, ranks, reached_by_true, reached_in_rows
from rlkl_htc_common.errors import InputError

Average = Literal["micro", "macro", "samples"]


def precision_at_k(y_true: LabelSets, y_score: Scores, hierarchy: Hierarchy, k: int = 1) -> float:
    """The share of true labels among the k with the highest scores, mean over documents.

    A document with fewer than k labels cannot reach 1.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> precision_at_k([["Arts", "Music"]], [[0.9, 0.1, 0.3, 0.8]], hierarchy, k=2)  # Arts, Science, Music, Film
    0.5

    Args:
        y_true: the label sets of D documents.
        y_score: (D, N).
        k: from 1 to N; of equal scores, the first label ranks higher.

    Raises:
        InputError: for an impossible k.
    """
    if not 1 <= k <= hierarchy.num_nodes:
        raise InputError(f"k must be from 1 to {hierarchy.num_nodes}, the number of labels, not {k}.")
    return _ranks(y_true, y_score, hierarchy).precision_at_k(k)


def r_precision(y_true: LabelSets, y_score: Scores, hierarchy: Hierarchy) -> float:
    """Precision at R, the number of true labels of each document (there it equals recall); mean over documents.

    A document without labels counts as 0.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> r_precision([["Arts", "Music"], ["Science"]], [[0.9, 0.1, 0.3, 0.8], [0.1, 0.9, 0.0, 0.0]], hierarchy)
    0.75

    Args: y_true: the label sets of D documents; y_score (D, N); of equal scores, the first label ranks higher.
    """
    return _ranks(y_true, y_score, hierarchy).r_precision()


def average_precision(y_true: LabelSets, y_score: Scores, hierarchy: Hierarchy, average: Average) -> float:
    """The area under the precision-recall curve (AUPRC), as a step function: precision times the increase of recall.

    Equal to scikit-learn's `average_precision_score` but for rounding: over all cells (micro), mean over the N labels (macro),
    or mean over the D documents (samples). A label without documents, or a document without labels, counts as 0.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> average_precision([["Arts", "Music"]], [[0.9, 0.1, 0.8, 0.3]], hierarchy, average="samples")
    1.0
    >>> average_precision([["Arts", "Music"]], [[0.9, 0.8, 0.1, 0.0]], hierarchy, average="micro")  # (1 + 2 / 3) / 2
    0.8333333333333333

    Args: y_true: the label sets of D documents; y_score (D, N).
    """
    check_average(average, ("micro", "macro", "samples"))
    true, scores = _true_and_scores(y_true, y_score, hierarchy)
    if average == "samples":
        return _ranks(true, scores, hierarchy).average_precision()
    precision = AveragePrecisions((average,))
    precision.update(true, scores)
    precision.count(scores)
    return precision.compute()[average]


def _true_and_scores(y_true: LabelSets, y_score: Scores, hierarchy: Hierarchy) -> tuple[SparseSets, Tensor]:
    true, scores = as_sparse_sets(y_true, hierarchy, "y_true"), as_scores(y_score, hierarchy)
    check_as_many(true, scores)
    return true, scores


def _ranks(y_true: LabelSets, y_score: Scores, hierarchy: Hierarchy) -> "RankScores":
    ranks = RankScores()
    for part in in_parts(*_true_and_scores(y_true, y_score, hierarchy)):
        ranks.update(*part, reached_in_rows(*part))
    return ranks


class RankScores:
    """Accumulates the ranks of true labels in their documents; gives the metrics of ranks over all documents so far."""

    def __init__(self) -> None:
        self._documents = 0
        self._rank: list[Tensor] = []
        self._document: list[Tensor] = []
        self._precisions: list[Tensor] = []

    def update(self, true: SparseSets, scores: Tensor, reached: tuple[Tensor, Tensor]) -> None:
        """Add documents. Args: true: of d documents; scores (d, N); reached: `reached_in_rows` of these."""
        self._rank.append(ranks(true, scores, *reached).cpu())
        self._document.append(true.document.cpu() + self._documents)
        self._precisions.append(_per_document(true, scores, reached[0]).cpu())
        self._documents += len(true)

    def precision_at_k(self, k: int) -> float:
        """See the function of that name."""
        hits = torch.bincount(torch.cat(self._document)[torch.cat(self._rank) < k], minlength=self._documents)
        return float(hits.double().mean()) / k

    def r_precision(self) -> float:
        """See the function of that name."""
        document = torch.cat(self._document)
        labels = torch.bincount(document, minlength=self._documents)
        hits = torch.bincount(document[torch.cat(self._rank) < labels[document]], minlength=self._documents)
        return float(divide(hits, labels).mean())

    def average_precision(self) -> float:
        """See the function of that name, of samples."""
        return float(torch.cat(self._precisions).mean())


def _per_document(true: SparseSets, scores: Tensor, at: Tensor) -> Tensor:
    """The average precision of each document. Args: at (M,), see `reached_in_rows`. Returns: (d,) float64."""
    order = scores[true.document, true.node].argsort(descending=True)
    order = order[true.document[order].argsort(stable=True)]
    precision = reached_by_true(true, scores)[0].double() / at
    total = precision.new_zeros(len(true)).index_add(0, true.document[order], precision[order])
    return divide(total, true.sum(1))


class AveragePrecisions:
    """`average_precision` over labels (macro) and over all cells (micro), in two passes over the documents.

    First `update` collects the scores of true labels, then `count` counts all cells, in the same parts or others.

    Args: averages: which of them.
    """

    def __init__(self, averages: Sequence[Average] = ("micro", "macro")) -> None:
        self._averages = averages
        self._nodes = 0
        self._node: list[Tensor] = []
        self._score: list[Tensor] = []
        self._columns: ReachedInColumns | None = None
        self._cells: ReachedOverall | None = None

    def update(self, true: SparseSets, scores: Tensor) -> None:
        """The first pass. Args: true: of d documents; scores (d, N)."""
        self._nodes = true.shape[1]
        self._node.append(true.node)
        self._score.append(scores[true.document, true.node])

    def count(self, scores: Tensor) -> None:
        """The second pass. Args: scores (d, N)."""
        if self._columns is None or self._cells is None:
            node, score = torch.cat(self._node), torch.cat(self._score)
            score, order = score.sort(descending=True)
            self._cells, node = ReachedOverall(score), node[order]
            order = node.argsort(stable=True)
            node, score = node[order], score[order]
            self._node, self._score = [node], [score]
            self._columns = ReachedInColumns(node, score, self._nodes)
        if "macro" in self._averages:
            self._columns.count(scores)
        if "micro" in self._averages:
            self._cells.count(scores)

    def compute(self) -> dict[Average, float]:
        """The averages. Raises ValueError before the second pass."""
        if self._columns is None or self._cells is None:
            raise ValueError("nothing was counted yet; call count for all documents first.")
        node, score = self._node[0].cpu(), self._score[0].cpu()
        found: dict[Average, float] = {}
        if "micro" in self._averages:
            one = torch.zeros_like(node)
            found["micro"] = float(_of_rows(one, score.sort(descending=True).values, self._cells.at(), 1).mean())
        if "macro" in self._averages:
            found["macro"] = float(_of_rows(node, score, self._columns.at().cpu(), self._nodes).mean())
        return found


def _of_rows(row: Tensor, score: Tensor, at: Tensor, rows: int) -> Tensor:
    """Average precisions. Args: row, score, at (M,), sorted by row, then by score from the highest. Returns: (rows,)."""
    labels = torch.bincount(row, minlength=rows)
    place = torch.arange(len(row))
    is_last = torch.ones_like(row, dtype=torch.bool)  # of the true labels of a row with the same score
    is_last[:-1] = (score[1:] != score[:-1]) | (row[1:] != row[:-1])
    last = place.where(is_last, len(row)).flip(0).cummin(0).values.flip(0)
    true_at = last + 1 - (labels.cumsum(0) - labels)[row]
    total = torch.zeros(rows, dtype=torch.double).index_add(0, row, true_at.double() / at)
    return divide(total, labels)
