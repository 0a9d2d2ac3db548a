"""Metrics of one predicted and one true path per document, ending anywhere; the empty set means the root."""

import torch
from torch import Tensor

from htc.labels.distances import distance_through_common_ancestor
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import CELLS, LabelSets, Scores, as_scores, as_sparse_sets, check_as_many
from htc.labels.sparse_sets import SparseSets
from htc.metrics.counts import divide
from htc.metrics.hierarchical import closed_label_sets
from htc.metrics.reached import best_columns
from rlkl_htc_common.errors import InputError


def single_ends(sets: SparseSets, hierarchy: Hierarchy, name: str) -> Tensor:
    """The one most specific label of each document, N for none. Args: sets: closed. Returns: (D,) int64.

    Raises:
        InputError: with the first document that has several.
    """
    ends = hierarchy.most_specific(sets)
    several = ends.sum(1) > 1
    if several.any():
        raise InputError(
            f"{name}: document {int(several.nonzero()[0])} has several labels that are no ancestors of each other, and this "
            "metric is of one; for several use hierarchical_precision_recall_f or lca_precision_recall_f."
        )
    return torch.full((len(sets),), hierarchy.num_nodes, device=ends.node.device).index_copy(0, ends.document, ends.node)


def lowest_common_height(true: SparseSets, predicted: SparseSets, hierarchy: Hierarchy) -> Tensor:
    """The height of the lowest common ancestor of two labels: the smallest height of their common ancestors.

    Args: true, predicted: closed. Returns: (D,) int64; the root's is the height of the hierarchy.
    """
    common = true.common(predicted)
    of_root = torch.full((len(true),), hierarchy.max_depth, device=common.node.device)
    return of_root.scatter_reduce(0, common.document, hierarchy.height.to(of_root.device)[common.node], "amin")


def mistake_severities(true: SparseSets, predicted: SparseSets, hierarchy: Hierarchy) -> Tensor:
    """The severity of each mistake. Args: true, predicted: closed. Returns: (mistakes,) int64."""
    mistake = single_ends(true, hierarchy, "y_true") != single_ends(predicted, hierarchy, "y_pred")
    return lowest_common_height(true, predicted, hierarchy)[mistake]


def mistake_severity(y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy) -> float:
    """Mean height of the lowest common ancestor of predicted and true label, over the documents where they differ.

    A leaf has height 0, the root the height of the hierarchy. 0 if there is no mistake.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> mistake_severity([["Arts", "Music"]] * 3, [["Arts", "Music"], ["Arts", "Film"], ["Science"]], hierarchy)
    1.5

    Raises:
        InputError: for a document with several labels.

    Source: Bertinetto et al., "Making Better Mistakes", CVPR 2020.
    """
    severities = mistake_severities(*closed_label_sets(y_true, y_pred, hierarchy), hierarchy)
    return float(severities.double().mean()) if len(severities) else 0.0


def hierarchical_distance_at_k(y_true: LabelSets, y_score: Scores, hierarchy: Hierarchy, k: int = 1) -> float:
    """Mean height of the lowest common ancestor of the true label and each of the k leaves with the highest scores.

    Unlike in `mistake_severity`, right answers count too, with the height of the true label.

    Args:
        y_true: the labels of D documents, one each.
        y_score: (D, N), node probabilities or other scores; only those of leaves matter.
        k: from 1 to the number of leaves; ties go to the first leaf.

    Raises:
        InputError: for a document with several labels, or an impossible k.

    Source: Bertinetto et al., "Making Better Mistakes", CVPR 2020.
    """
    return float(leaf_heights(y_true, y_score, hierarchy, k).double().mean())


def leaf_heights(y_true: LabelSets, y_score: Scores, hierarchy: Hierarchy, k: int) -> Tensor:
    """The heights of the lowest common ancestors of the true label and the k leaves with the highest scores, best first.

    Args and errors: as `hierarchical_distance_at_k`. Returns: (D, k) int64.
    """
    true = hierarchy.close(as_sparse_sets(y_true, hierarchy, "y_true"))
    single_ends(true, hierarchy, "y_true")
    scores = as_scores(y_score, hierarchy)
    check_as_many(true, scores)
    if not 1 <= k <= len(hierarchy.leaves):
        raise InputError(f"k must be from 1 to {len(hierarchy.leaves)}, the number of leaves, not {k}.")
    leaves = hierarchy.leaves.to(scores.device)
    parts = scores[:, leaves].split(max(1, CELLS // len(leaves)))
    best = leaves[torch.cat([best_columns(part, k) for part in parts])]  # (D, k)
    row, ancestor, _ = hierarchy.ancestors_of(best.flatten())
    common = true.find(row // k, ancestor)[1]
    height = torch.where(common, hierarchy.height.to(scores.device)[ancestor], hierarchy.max_depth)
    lowest = torch.full((best.numel(),), hierarchy.max_depth, device=height.device).scatter_reduce(0, row, height, "amin")
    return lowest.view(-1, k)


def tree_distances(true: SparseSets, predicted: SparseSets, hierarchy: Hierarchy) -> Tensor:
    """The tree distance of each document. Args: true, predicted: closed. Returns: (D,) int64."""
    ends = single_ends(true, hierarchy, "y_true"), single_ends(predicted, hierarchy, "y_pred")
    return distance_through_common_ancestor(*ends, hierarchy)


def tree_distance(y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy) -> float:
    """Mean number of edges between predicted and true label, up to a common ancestor and down; the root is a node.

    In a DAG, ways through a common descendant do not count. Without a prediction, it is the distance from the root.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> tree_distance([["Arts", "Music"]] * 2, [["Arts", "Film"], ["Science"]], hierarchy)
    2.5

    Raises:
        InputError: for a document with several labels.
    """
    return float(tree_distances(*closed_label_sets(y_true, y_pred, hierarchy), hierarchy).double().mean())


def wu_palmer_similarities(true: SparseSets, predicted: SparseSets, hierarchy: Hierarchy) -> Tensor:
    """Wu-Palmer's similarity of each document. Args: true, predicted: closed. Returns: (D,) float64."""
    depth = torch.cat([hierarchy.depth, hierarchy.depth.new_zeros(1)]).to(true.node.device)
    of_true = depth[single_ends(true, hierarchy, "y_true")]
    of_predicted = depth[single_ends(predicted, hierarchy, "y_pred")]
    common = true.common(predicted)
    deepest = torch.zeros_like(of_true).scatter_reduce(0, common.document, depth[common.node], "amax")
    return divide(2 * deepest, of_true + of_predicted)


def wu_palmer(y_true: LabelSets, y_pred: LabelSets, hierarchy: Hierarchy) -> float:
    """Mean of 2 depth(lowest common ancestor) / (depth(prediction) + depth(truth)); the root has depth 0.

    In a tree this is the mean hF1 over documents. WordNet's variant gives the root depth 1, so it is never 0.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> wu_palmer([["Arts", "Music"]] * 2, [["Arts", "Film"], ["Science"]], hierarchy)
    0.25

    Raises:
        InputError: for a document with several labels.

    Source: Wu and Palmer, "Verb Semantics and Lexical Selection", ACL 1994.
    """
    return float(wu_palmer_similarities(*closed_label_sets(y_true, y_pred, hierarchy), hierarchy).mean())
