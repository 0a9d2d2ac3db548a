"""How many scores reach the scores of true labels, in a row, in a column or overall, without sorting all cells at once.

Average precision and the best threshold read a precision-recall curve only where recall grows: at the scores of true labels.
There are few of these, so they are kept; all other cells are only counted, part by part. Rows are counted in one pass. Columns
and all cells take two: the first to collect the scores of true labels, the second to count.

Notation for shapes: D documents, N nodes, M true labels, d documents of a part.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from htc.labels.label_sets import CELLS
from htc.labels.sparse_sets import SparseSets, spread
from htc.metrics.counts import count

WIDTHS = (0, 4, 16, 64, 256, 1024, 4096)  # labels with so many documents are counted together
SORTED = 2**24  # cells that are sorted at a time


def reached_in_rows(true: SparseSets, scores: Tensor) -> tuple[Tensor, Tensor]:
    """For each true label, the labels of its document with at least its score, and with a higher one.

    Args: true: of d documents; scores (d, N). Returns: (M,) and (M,) int32.
    """
    of_label = scores[true.document, true.node][:, None]
    at, above = [], []
    for pairs in torch.arange(len(true.node), device=scores.device).split(max(1, CELLS // scores.shape[1])):
        others = scores[true.document[pairs]]
        at.append(count(others >= of_label[pairs], (1,)))
        above.append(count(others > of_label[pairs], (1,)))
    empty = true.node.new_empty(0, dtype=torch.int32)
    return torch.cat([empty, *at]), torch.cat([empty, *above])


def reached_by_true(true: SparseSets, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The same among the true labels of the document alone. Args: scores (d, N). Returns: (M,) and (M,) int64."""
    score = scores[true.document, true.node]
    label, other = spread(true.starts[true.document], true.sum(1)[true.document])
    at, above = (reaches(score[other], score[label]) for reaches in (torch.ge, torch.gt))
    return torch.bincount(label[at], minlength=len(score)), torch.bincount(label[above], minlength=len(score))


def ranks(true: SparseSets, scores: Tensor, at: Tensor, above: Tensor) -> Tensor:
    """The rank of each true label in its document, from 0; of equal scores, the first label ranks higher.

    Args: at, above: from `reached_in_rows`. Returns: (M,) int64.
    """
    rank = above.long()
    tied = (at - above > 1).nonzero().squeeze(1)
    column = torch.arange(scores.shape[1], device=scores.device)
    for pairs in tied.split(max(1, CELLS // scores.shape[1])):
        document, node = true.document[pairs], true.node[pairs]
        earlier = (scores[document] == scores[document, node][:, None]) & (column < node[:, None])
        rank[pairs] += count(earlier, (1,))
    return rank


def best_columns(scores: Tensor, k: int) -> Tensor:
    """The k columns with the highest scores of each row, best first; of equal scores, the first. Returns: (d, k) int64."""
    found = SparseSets.of(scores >= scores.topk(k, dim=1).values[:, -1:])  # at least k in each row
    order = scores[found.document, found.node].sort(descending=True, stable=True).indices
    order = order[found.document[order].sort(stable=True).indices]
    place = torch.arange(len(order), device=order.device) - found.starts[found.document]
    return found.node[order[place < k]].view(-1, k)


class ReachedInColumns:
    """For each true label of each document, the documents in which this label has at least that score.

    Args: node, score: (M,) of true labels, sorted by node, then by score from the highest; nodes: N.
    """

    def __init__(self, node: Tensor, score: Tensor, nodes: int) -> None:
        self._counts = torch.bincount(node, minlength=nodes)
        self._starts = self._counts.cumsum(0) - self._counts
        self._groups: list[tuple[Tensor, Tensor, Tensor]] = []  # labels (n,), ascending scores (n, T), histograms (n, T + 1)
        for low, high in pairwise((*WIDTHS, len(node) + 1)):
            labels = ((self._counts > low) & (self._counts <= high)).nonzero().squeeze(1)
            if len(labels):
                width = int(self._counts[labels].max())
                scores = score.new_full((len(labels), width), torch.inf)
                row, at = spread(self._starts[labels], self._counts[labels])
                scores[row, (self._starts + self._counts)[labels][row] - 1 - at] = score[at]
                self._groups.append((labels, scores, torch.zeros(len(labels), width + 1, dtype=torch.long, device=node.device)))

    def count(self, scores: Tensor) -> None:
        """Count the cells of some documents. Args: scores (d, N)."""
        for part in scores.split(max(1, CELLS // scores.shape[1])):
            for labels, of_true, histogram in self._groups:
                reached = torch.searchsorted(of_true, part[:, labels].T.contiguous(), right=True)  # (n, d)
                reached = torch.minimum(reached, self._counts[labels][:, None])
                first = torch.arange(len(labels), device=labels.device)[:, None] * histogram.shape[1]
                cells = (reached + first).flatten()
                histogram.view(-1).scatter_add_(0, cells, torch.ones_like(cells))

    def at(self) -> Tensor:
        """(M,) int64, in the order of the true labels."""
        at = self._counts.new_zeros(int(self._counts.sum()))
        for labels, _, histogram in self._groups:
            reached = histogram.flip(1).cumsum(1).flip(1)[:, 1:]  # (n, T), by ascending score
            row, place = spread(self._starts[labels], self._counts[labels])
            at[place] = reached[row, (self._starts + self._counts)[labels][row] - 1 - place]
        return at


class ReachedOverall:
    """For each true label, the cells of all documents with at least its score. Args: score: (M,), from the highest."""

    def __init__(self, score: Tensor) -> None:
        self._score = score.cpu().numpy()
        self._lowest = self._score.min(initial=np.inf)
        self._at = np.zeros(len(score), dtype=np.int64)

    def count(self, scores: Tensor) -> None:
        """Count the cells of some documents. Args: scores (d, N)."""
        for part in scores.cpu().contiguous().flatten().split(SORTED):
            cells = part.numpy()
            cells = np.sort(cells[cells >= self._lowest])
            self._at += len(cells) - np.searchsorted(cells, self._score, side="left")

    def at(self) -> Tensor:
        """(M,) int64, in the order of the true labels."""
        return torch.from_numpy(self._at)
