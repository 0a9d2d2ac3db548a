"""Precision, recall and F over the labels between predictions and truth, through their lowest common ancestors."""

from typing import NamedTuple

import torch
from torch import Tensor

from htc.labels.distances import edges_up
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import LabelSets, both_label_sets, in_parts
from htc.metrics.counts import average_over_documents, by_document

FAR = 2**30  # an infinite distance


class _Ways(NamedTuple):
    """All (most specific label, ancestor) pairs, with the root (N) as an ancestor; all (m,)."""

    document: Tensor
    label: Tensor  # the index of the label among the labels of all documents, ascending
    start: Tensor  # its node
    ancestor: Tensor
    edges: Tensor


def lca_precision_recall_f(
    y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy, beta: float = 1.0
) -> tuple[float, float, float]:
    """LCA precision, recall and F_beta, averaged over documents.

    Each most specific predicted label is connected to the nearest true one, and each true one to the nearest predicted one, by
    the shortest way through a common ancestor. The labels on the predictions' side of these ways, meeting points included, are
    compared with those on the truth's side. Unlike in hP and hR, ancestors above a meeting point do not count: an error deep in
    the hierarchy has the same weight as one near the top.

    As in all metrics, the root is not counted: labels that meet only there have nothing in common. Of meeting points at equal
    distance, the deepest is used; of true labels at equal distance below it, and of shortest ways in a DAG, all are used. With
    one true and one predicted label, the results equal those of HEMKit, the authors' program. With several, they can differ:
    HEMKit leaves out common ancestors that it finds redundant, by rules that depend on the numbering of nodes.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music", "Jazz"], ["Arts", "Music", "Opera"]])
    >>> y_true, y_pred = [["Arts", "Music", "Jazz"]], [["Arts", "Music", "Opera"]]
    >>> lca_precision_recall_f(y_true, y_pred, hierarchy)  # Music is right, of Music and Opera
    (0.5, 0.5, 0.5)

    Args:
        y_true, y_pred: label sets of D documents.
        hierarchy: a tree or a DAG.

    Returns:
        Means over documents of precision, recall and F; all 0 for a document without predictions.

    Source: Kosmopoulos et al., "Evaluation measures for hierarchical classification: a unified view and novel approaches",
    Data Mining and Knowledge Discovery, 2015.
    """
    return average_over_documents(lca_counts(*both_label_sets(y_true, y_pred, hierarchy), hierarchy), beta)


def lca_counts(true: Tensor, predicted: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Counts over the two graphs of each document. Args: true, predicted (D, N) bool. Returns: (3, D) int64."""
    return torch.cat([_lca_counts(*part, hierarchy) for part in in_parts(true, predicted)], dim=1)


def _lca_counts(true: Tensor, predicted: Tensor, hierarchy: Hierarchy) -> Tensor:
    shape = (len(true), hierarchy.num_nodes + 1)
    of_true, of_predicted = (_ways_up(sets, hierarchy) for sets in (true, predicted))
    near_true, near_predicted = _nearest(of_true, shape), _nearest(of_predicted, shape)
    meet_predicted = _meeting(of_predicted, near_true, hierarchy)  # where each prediction meets the nearest truth
    meet_true = _meeting(of_true, near_predicted, hierarchy)
    graphs = []
    for ways, own_meeting, near, other, other_meeting in (
        (of_true, meet_true, near_true, of_predicted, meet_predicted),
        (of_predicted, meet_predicted, near_predicted, of_true, meet_true),
    ):
        met = torch.zeros(shape, dtype=torch.bool, device=true.device)
        met[other.document[other_meeting], other.ancestor[other_meeting]] = True
        called = met[ways.document, ways.ancestor] & (ways.edges == near[ways.document, ways.ancestor])
        graphs.append(_graph(ways, own_meeting | called, shape, hierarchy))
    return by_document(*graphs)


def _ways_up(sets: Tensor, hierarchy: Hierarchy) -> _Ways:
    document, node = hierarchy.most_specific(sets).nonzero(as_tuple=True)
    label, ancestor, edges = hierarchy.ancestors_of(node)
    label = torch.cat([label, torch.arange(len(node), device=node.device)])
    ancestor = torch.cat([ancestor, torch.full_like(node, hierarchy.num_nodes)])
    edges = torch.cat([edges, hierarchy.distance_to_root.to(node.device)[node]])
    return _Ways(document[label], label, node[label], ancestor, edges)


def _nearest(ways: _Ways, shape: tuple[int, int]) -> Tensor:
    """The number of edges from each node down to the nearest label below it. Returns: (D, N + 1)."""
    near = torch.full((shape[0] * shape[1],), FAR, device=ways.edges.device)
    near.scatter_reduce_(0, ways.document * shape[1] + ways.ancestor, ways.edges, "amin")
    return near.view(shape)


def _meeting(ways: _Ways, near: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Whether a way ends where its label meets the nearest label of the other side. Returns: (m,) bool."""
    labels = int(ways.label.max()) + 1 if len(ways.label) else 0
    total = ways.edges + near[ways.document, ways.ancestor]
    least = torch.full((labels,), FAR, device=total.device).scatter_reduce(0, ways.label, total, "amin")
    shortest = (total == least[ways.label]) & (total < FAR)
    depth = torch.cat([hierarchy.depth, hierarchy.depth.new_zeros(1)]).to(total.device)[ways.ancestor].where(shortest, -1)
    deepest = torch.full((labels,), -1, device=total.device).scatter_reduce(0, ways.label, depth, "amax")
    return shortest & (depth == deepest[ways.label])


def _graph(ways: _Ways, chosen: Tensor, shape: tuple[int, int], hierarchy: Hierarchy) -> Tensor:
    """All nodes on the chosen ways, without the root. Returns: (D, N) bool."""
    row, node, up = hierarchy.ancestors_of(ways.start[chosen])
    on_way = up + edges_up(node, ways.ancestor[chosen][row], hierarchy, FAR) == ways.edges[chosen][row]
    graph = torch.zeros(shape, dtype=torch.bool, device=chosen.device)
    graph[ways.document[chosen][row[on_way]], node[on_way]] = True
    return graph[:, :-1]
