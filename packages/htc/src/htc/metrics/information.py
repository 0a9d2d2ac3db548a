"""The information contrast model: similarity of label sets, with more weight on rare labels."""

import torch
from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import LabelSets
from htc.labels.sparse_sets import SparseSets, spread
from htc.metrics.counts import by_class
from htc.metrics.hierarchical import closed_label_sets

ALPHA_1, ALPHA_2, BETA = 2.0, 2.0, 3.0  # the paper's


def icm(y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy) -> float:
    """ICM: 2 I(prediction) + 2 I(truth) - 3 I(union), in bits, mean over documents; higher is better, may be negative.

    I of a set closed under ancestors is a sum over its nodes: -log2 of the share of documents with the node, among the
    documents with all its parents. In a tree this is the information content of the paper, where a node has -log2 of its share
    of all documents. Shares are from `y_true`; a node without documents counts as one with one document.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> y_true = [["Arts", "Music"], ["Arts", "Film"], ["Science"], ["Science"]]  # one bit for Arts, one more for Film
    >>> icm(y_true, y_true, hierarchy)
    1.5
    >>> icm(y_true, [["Arts", "Film"], ["Arts", "Film"], ["Science"], ["Science"]], hierarchy)
    0.75

    Args:
        y_true, y_pred: label sets of D documents; both are closed here.
        hierarchy: a tree or a DAG.

    Source: Amigo and Delgado, "Evaluating Extreme Hierarchical Multi-label Classification", ACL 2022; in a DAG, the conditional
    information of Clark and Radivojac, "Information-theoretic evaluation of predicted ontological annotations", 2013.
    """
    true, predicted = closed_label_sets(y_true, y_pred, hierarchy)
    return icm_of_counts(by_class(true, predicted), parent_counts(true, hierarchy), len(true))


def icm_norm(y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy) -> float:
    """ICM, scaled linearly so that the truth's ICM becomes 1 and its negative becomes 0, and cut at 0.

    0 if the truth has no information, because every document has the same labels.

    Args and source: as `icm`.
    """
    true, predicted = closed_label_sets(y_true, y_pred, hierarchy)
    return icm_norm_of_counts(by_class(true, predicted), parent_counts(true, hierarchy), len(true))


def parent_counts(true: SparseSets, hierarchy: Hierarchy) -> Tensor:
    """The number of documents with all parents of each node (top node: all). Args: true, closed. Returns: (N,) int64."""
    parent, child = hierarchy.edges.to(true.node.device)
    parents = torch.bincount(child, minlength=hierarchy.num_nodes)
    total = torch.full_like(parents, len(true)).index_copy_(0, child, true.sum(0)[parent])
    several = parents[child] > 1
    if several.any():
        total[child[several]] = _with_several(true, parent[several], child[several], parents)[child[several]]
    return total


def _with_several(true: SparseSets, parent: Tensor, child: Tensor, parents: Tensor) -> Tensor:
    """`parent_counts` of nodes with several parents. Args: parent, child: their edges; parents (N,) how many each has."""
    parent, order = parent.sort(stable=True)
    below, counts = child[order], torch.bincount(parent, minlength=len(parents))
    pair, edge = spread((counts.cumsum(0) - counts)[true.node], counts[true.node])
    keys, found = torch.unique(true.document[pair] * len(parents) + below[edge], return_counts=True)
    node = keys % len(parents)
    return torch.bincount(node[found == parents[node]], minlength=len(parents))


def icm_of_counts(counts: Tensor, with_parents: Tensor, documents: int) -> float:
    """ICM. Args: counts (3, N) of closed sets, see `htc.metrics.counts`; with_parents (N,) from `parent_counts`."""
    both, predicted, true = counts.double()
    information = (with_parents.double().clamp(min=1) / true.clamp(min=1)).log2()  # (N,)
    contrast = ALPHA_1 * predicted + ALPHA_2 * true - BETA * (predicted + true - both)
    return float((information * contrast).sum()) / documents


def icm_norm_of_counts(counts: Tensor, with_parents: Tensor, documents: int) -> float:
    """ICM-norm. Args: as `icm_of_counts`."""
    of_truth = icm_of_counts(counts[2].expand(3, -1), with_parents, documents)
    if of_truth == 0:
        return 0.0
    return max(0.0, (icm_of_counts(counts, with_parents, documents) + of_truth) / (2 * of_truth))
