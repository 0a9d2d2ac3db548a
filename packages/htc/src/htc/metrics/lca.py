"""Precision, recall and F over the labels between predictions and truth, through their lowest common ancestors."""

from typing import NamedTuple

import torch
from torch import Tensor

from htc.labels.distances import edges_up
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import LabelSets, both_label_sets, in_parts
from htc.labels.sparse_sets import SparseSets
from htc.metrics.counts import average_over_documents, by_document

FAR = 2**30  # an infinite distance


class _Ways(NamedTuple):
    """All (most specific label, ancestor) pairs, with the root (N) as an ancestor; all (m,)."""

    document: Tensor
    label: Tensor  # the index of the label among the labels of all documents, ascending
    start: Tensor  # its node
    ancestor: Tensor
    edges: Tensor
    place: Tensor  # document * (N + 1) + ancestor


class _Nearest(NamedTuple):
    """The number of edges from each place down to the nearest label below it, FAR elsewhere."""

    places: Tensor  # ascending
    edges: Tensor

    def __call__(self, places: Tensor) -> Tensor:
        if not len(self.places):
            return torch.full_like(places, FAR)
        at = torch.searchsorted(self.places, places).clamp_(max=len(self.places) - 1)
        return self.edges[at].where(self.places[at] == places, FAR)


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


def lca_counts(true: SparseSets, predicted: SparseSets, hierarchy: Hierarchy) -> Tensor:
    """Counts over the two graphs of each document. Args: true, predicted: of D documents. Returns: (3, D) int64."""
    return torch.cat([_lca_counts(*part, hierarchy) for part in in_parts(true, predicted)], dim=1)


def _lca_counts(true: SparseSets, predicted: SparseSets, hierarchy: Hierarchy) -> Tensor:
    of_true, of_predicted = (_ways_up(sets, hierarchy) for sets in (true, predicted))
    near_true, near_predicted = _nearest(of_true), _nearest(of_predicted)
    meet_predicted = _meeting(of_predicted, near_true, hierarchy)  # where each prediction meets the nearest truth
    meet_true = _meeting(of_true, near_predicted, hierarchy)
    graphs = []
    for ways, own_meeting, near, other, other_meeting in (
        (of_true, meet_true, near_true, of_predicted, meet_predicted),
        (of_predicted, meet_predicted, near_predicted, of_true, meet_true),
    ):
        called = torch.isin(ways.place, other.place[other_meeting]) & (ways.edges == near(ways.place))
        graphs.append(_graph(ways, own_meeting | called, true.shape, hierarchy))
    return by_document(*graphs)


def _ways_up(sets: SparseSets, hierarchy: Hierarchy) -> _Ways:
    ends = hierarchy.most_specific(sets)
    node = ends.node
    label, ancestor, edges = hierarchy.ancestors_of(node)
    label = torch.cat([label, torch.arange(len(node), device=node.device)])
    ancestor = torch.cat([ancestor, torch.full_like(node, hierarchy.num_nodes)])
    edges = torch.cat([edges, hierarchy.distance_to_root.to(node.device)[node]])
    document = ends.document[label]
    return _Ways(document, label, node[label], ancestor, edges, document * (hierarchy.num_nodes + 1) + ancestor)


def _nearest(ways: _Ways) -> _Nearest:
    places, which = torch.unique(ways.place, return_inverse=True)
    return _Nearest(places, torch.full_like(places, FAR).scatter_reduce(0, which, ways.edges, "amin"))


def _meeting(ways: _Ways, near: _Nearest, hierarchy: Hierarchy) -> Tensor:
    """Whether a way ends where its label meets the nearest label of the other side. Returns: (m,) bool."""
    labels = int(ways.label.max()) + 1 if len(ways.label) else 0
    total = ways.edges + near(ways.place)
    least = torch.full((labels,), FAR, device=total.device).scatter_reduce(0, ways.label, total, "amin")
    shortest = (total == least[ways.label]) & (total < FAR)
    depth = torch.cat([hierarchy.depth, hierarchy.depth.new_zeros(1)]).to(total.device)[ways.ancestor].where(shortest, -1)
    deepest = torch.full((labels,), -1, device=total.device).scatter_reduce(0, ways.label, depth, "amax")
    return shortest & (depth == deepest[ways.label])


def _graph(ways: _Ways, chosen: Tensor, shape: tuple[int, int], hierarchy: Hierarchy) -> SparseSets:
    """All nodes on the chosen ways, without the root."""
    row, node, up = hierarchy.ancestors_of(ways.start[chosen])
    on_way = up + edges_up(node, ways.ancestor[chosen][row], hierarchy, FAR) == ways.edges[chosen][row]
    return SparseSets.of_pairs(ways.document[chosen][row[on_way]], node[on_way], shape)
