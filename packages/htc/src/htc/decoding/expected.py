"""Inference rules that are optimal for a metric, when the probabilities are right: exact, for one true path.

A document's true path ends somewhere: at a leaf, or, where the probabilities leave mass to it, at an inner node. Its end is at
node n with probability P(n) minus that of n's children (`end_probabilities`); a tree is needed.

Only `expected_cost` may answer nothing, which stands for the root. The other rules never do: nothing has an hF of 0
(`expected_hf`), no path ends at the root (`argmax_end`), and with no label is the lowest common ancestor higher (`crm`).

Notation for shapes: B documents, N nodes, H the height of the hierarchy.
"""

import torch
from torch import Tensor

from htc.decoding.rules import argmax_leaf
from htc.labels.distances import tree_distance_matrix
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import Scores, as_scores
from rlkl_htc_common.errors import InputError

CELLS = 2**24  # of nodes by depth, at a time; bounds memory
CANDIDATES = 64  # nodes that are tried first
TIE = 1e-12  # a difference in expected hF, or in the expected cost relative to it, that is none


def end_probabilities(probabilities: Scores, hierarchy: Hierarchy) -> Tensor:
    """The probability that a document's path ends at each node: its own less that of its children.

    Args:
        probabilities: (B, N) coherent, of one path: the children of a node do not sum to more than the node.

    Returns:
        (B, N), 0 where rounding would make it negative.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    ends = probabilities.clone()
    child = hierarchy.parent.to(probabilities.device) >= 0
    ends.index_add_(1, hierarchy.parent.to(probabilities.device)[child], -probabilities[:, child])
    return ends.clamp_min(0.0)


def expected_hf(probabilities: Scores, hierarchy: Hierarchy, beta: float = 1.0) -> Tensor:
    """The set with the largest expected hF_beta of a document, over all sets closed under ancestors.

    Of the sets of k nodes, the best one holds the k nodes with the largest

        delta_k(n) = sum over ends e at or below n of P(e ends it) (1 + beta^2) / (k + beta^2 depth(e)),

    which never grows on the way down, so that the set is closed. The best k is found by trying them all, up to where even a set
    that held every true label could not be better. The ends' depth is all that matters in the sum, and the most probable nodes
    are all that matter for most documents: others are tried only where they could have come in. (Where nearly all nodes are as
    probable as each other, large sets are best, and the time grows with the square of their number.)

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> probabilities = torch.tensor([[0.9, 0.1, 0.6, 0.3]])  # Arts, Science, Music, Film
    >>> hierarchy.decode(expected_hf(probabilities, hierarchy))
    [[('Arts', 'Music')]]
    >>> hierarchy.decode(expected_hf(probabilities, hierarchy, beta=2.0))  # recall weighs more: both
    [[('Arts', 'Music'), ('Arts', 'Film')]]

    Args:
        probabilities: (B, N) coherent, of one path.
        hierarchy: a tree.
        beta: the weight of recall.

    Returns:
        (B, N) bool, closed under ancestors; ties go to fewer and to higher nodes.

    Raises:
        InputError: if the hierarchy is not a tree, or beta is not positive.

    Source: Plaud et al., "To Each Metric Its Decoding", ICML 2025.
    """
    if beta <= 0:
        raise InputError(f"beta must be positive, not {beta}.")
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    rows = max(1, CELLS // (hierarchy.num_nodes * hierarchy.max_depth))
    return torch.cat([_expected_hf(part, hierarchy, beta**2) for part in probabilities.split(rows)])


def _expected_hf(probabilities: Tensor, hierarchy: Hierarchy, beta2: float) -> Tensor:
    mass = _mass_by_depth(end_probabilities(probabilities.double(), hierarchy), hierarchy)  # (B, N, H)
    candidates = max(CANDIDATES, hierarchy.max_depth)
    chosen, sure = _best_sets(mass, hierarchy, beta2, candidates)
    while not sure.all():
        candidates *= 8
        unsure = (~sure).nonzero().squeeze(1)
        chosen[unsure], sure[unsure] = _best_sets(mass[unsure], hierarchy, beta2, candidates)
    return chosen


def _best_sets(mass: Tensor, hierarchy: Hierarchy, beta2: float, candidates: int) -> tuple[Tensor, Tensor]:
    """The best sets of the most probable nodes.

    Args:
        mass: (B, N, H), see `_mass_by_depth`.
        candidates: how many nodes of each document to choose from; not fewer than H.

    Returns:
        (B, N) bool, and (B,) bool: whether no set with another node could be better.
    """
    depths = torch.arange(1, hierarchy.max_depth + 1, device=mass.device).double()  # (H,)
    candidates = min(candidates, hierarchy.num_nodes)
    probability, nodes = mass.sum(2).topk(min(candidates + 1, hierarchy.num_nodes))
    left_out = probability[:, candidates] if candidates < hierarchy.num_nodes else torch.zeros_like(probability[:, 0])
    nodes = nodes[:, :candidates]  # (B, C)
    depth_of_end = mass[:, hierarchy.levels[0]].sum(1)  # (B, H)
    mass = mass.gather(1, nodes[:, :, None].expand(-1, -1, len(depths)))  # (B, C, H)
    tie = TIE * hierarchy.depth.to(mass.device)[nodes]  # a parent comes before its only child, also after rounding
    best = mass.new_full((len(mass),), -1.0)
    chosen = torch.zeros(len(mass), hierarchy.num_nodes, dtype=torch.bool, device=mass.device)
    sure = torch.ones(len(mass), dtype=torch.bool, device=mass.device)
    for k in range(1, hierarchy.num_nodes + 1):
        weight = (1 + beta2) / (k + beta2 * depths)  # (H,)
        # A set of k nodes shares at most min(k, depth) with a path: no larger k can beat this either, once k >= H.
        rows = (best < depth_of_end @ (weight * depths.clamp(max=k))).nonzero().squeeze(1)
        if k > candidates:
            sure[rows] = False
        if k > candidates or (k > hierarchy.max_depth and len(rows) == 0):
            break
        values, order = (mass[rows] @ weight - tie[rows]).topk(k, dim=1)
        sure[rows[values[:, -1] <= left_out[rows] * weight[0] + TIE]] &= candidates == hierarchy.num_nodes
        value = values.sum(1)
        better = value > best[rows] + TIE
        rows = rows[better]
        best[rows] = value[better]
        chosen[rows] = False
        chosen[rows[:, None], nodes[rows[:, None], order[better]]] = True
    return chosen, sure


def _mass_by_depth(ends: Tensor, hierarchy: Hierarchy) -> Tensor:
    """How much of the ends at or below each node is at each depth. Args: ends (B, N). Returns: (B, N, H)."""
    node, ancestor = hierarchy.ancestors.to(ends.device)
    cell = ancestor * hierarchy.max_depth + hierarchy.depth.to(ends.device)[node] - 1
    mass = ends.new_zeros(hierarchy.num_nodes * hierarchy.max_depth, len(ends))
    mass.index_add_(0, cell, ends.T[node])
    return mass.view(hierarchy.num_nodes, hierarchy.max_depth, len(ends)).permute(2, 0, 1)


def argmax_end(probabilities: Scores, hierarchy: Hierarchy) -> Tensor:
    """The most probable whole path, ending anywhere: optimal for exact match. Where paths end at leaves, `argmax_leaf`.

    Args: probabilities (B, N) coherent, of one path. Returns: (B, N) bool, one path each; ties go to the first node.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    best = end_probabilities(probabilities, hierarchy).argmax(1, keepdim=True)
    return hierarchy.close(torch.zeros_like(probabilities, dtype=torch.bool).scatter_(1, best, True))


def expected_cost(probabilities: Scores, hierarchy: Hierarchy, cost: Tensor) -> Tensor:
    """The node whose prediction has the smallest expected cost, and everything above it; nothing, where the root is cheapest.

    Any node may be predicted, inner ones too, whatever cost their prediction has; `lca_heights` and
    `htc.labels.distances.tree_distance_matrix` are two that are available.

    >>> from htc.labels.distances import tree_distance_matrix
    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> probabilities = torch.tensor([[0.7, 0.3, 0.4, 0.3]])  # Arts, Science, Music, Film
    >>> hierarchy.decode(expected_cost(probabilities, hierarchy, tree_distance_matrix(hierarchy)))
    [[('Arts',)]]
    >>> flat = Hierarchy.from_paths([["Arts"], ["Science"], ["Sports"]])
    >>> expected_cost(torch.tensor([[0.4, 0.3, 0.3]]), flat, tree_distance_matrix(flat))  # the root costs 1.0, Arts 1.2
    tensor([[False, False, False]])

    Args:
        probabilities: (B, N) coherent, of one path.
        hierarchy: a tree.
        cost: (N, N) or (N + 1, N) what it costs to predict a node (row) where the path ends at another (column); the row after
            the last node is that of the root, of predicting nothing. Rows of infinity leave nodes out, those of all inner nodes
            for example. Of N rows, the root's cost is known for the tree distance (in any unit), where it is the depth of the
            end; with any other cost of N rows a node is always predicted.

    Returns:
        (B, N) bool, one path each or nothing; ties go to the first node, and to the root last.

    Raises:
        InputError: if the costs are not as many as needed, or no row has finite costs only.
    """
    cost = _with_root(torch.as_tensor(cost), hierarchy)
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    candidates = cost.isfinite().all(1).nonzero().squeeze(1)
    if not len(candidates):
        raise InputError("cost has no row without infinity or NaN: there is no node to predict.")
    of_candidates = cost[candidates].T.to(probabilities.device, torch.double)  # (N, candidates)
    candidates = candidates.to(probabilities.device)
    chosen = torch.zeros(len(probabilities), hierarchy.num_nodes + 1, dtype=torch.bool, device=probabilities.device)
    rows = max(1, CELLS // (hierarchy.num_nodes + 1))
    for part, of_part in zip(probabilities.split(rows), chosen.split(rows), strict=True):
        expected = end_probabilities(part.double(), hierarchy) @ of_candidates  # (b, candidates)
        least = expected.amin(1, keepdim=True)
        first = (expected <= least + TIE * least.abs().clamp_min(1.0)).to(torch.uint8).argmax(1, keepdim=True)
        of_part.scatter_(1, candidates[first], True)
    return hierarchy.close(chosen[:, :-1])


def _with_root(cost: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Costs with a row for the root, infinite where it is not known. Args: cost (N, N) or (N + 1, N). Returns: (N + 1, N)."""
    nodes = hierarchy.num_nodes
    if cost.shape == (nodes + 1, nodes):
        return cost
    if cost.shape != (nodes, nodes):
        raise InputError(
            f"cost must have a row and a column for each of the {nodes} nodes, and may have one row more for no label, but its "
            f"shape is {tuple(cost.shape)}."
        )
    cost, distance = cost.double(), tree_distance_matrix(hierarchy).to(cost.device, torch.double)
    unit = cost.max() / distance.max().clamp_min(1.0)
    of_root = hierarchy.depth.to(distance) * unit
    return torch.cat([cost, of_root[None] if torch.allclose(cost, distance * unit) else torch.full_like(cost[:1], torch.inf)])


def crm(probabilities: Scores, hierarchy: Hierarchy) -> Tensor:
    """Conditional risk minimisation: the leaf with the smallest expected height of the lowest common ancestor with the truth.

    That height falls from the root's by one step for each node on the leaf's path that is on the truth's path too, from the
    height of the parent to its own: so the expected fall is a sum along the path, and no matrix of costs is needed.

    Args: probabilities (B, N) coherent, of one path; the hierarchy must be a tree. Returns: (B, N) bool, one path each.

    Source: Karthik et al., "No Cost Likelihood Manipulation at Test Time for Making Better Mistakes", ICLR 2021.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    parent = hierarchy.parent
    height_above = torch.where(parent >= 0, hierarchy.height[parent], hierarchy.max_depth)
    fall = (height_above - hierarchy.height).to(probabilities)
    return argmax_leaf(hierarchy.sum_along_paths(probabilities * fall), hierarchy)


def lca_heights(hierarchy: Hierarchy) -> Tensor:
    """(N, N) float32: the height of the lowest common ancestor of each two nodes, 0 for a leaf and itself; the root's is H.

    Raises:
        InputError: if the hierarchy is not a tree.
    """
    hierarchy.parent  # noqa: B018  raises unless this is a tree
    heights = torch.full((hierarchy.num_nodes, hierarchy.num_nodes), float(hierarchy.max_depth))
    node, ancestor = hierarchy.ancestors
    is_below = torch.zeros(hierarchy.num_nodes, hierarchy.num_nodes, dtype=torch.bool)
    is_below[ancestor, node] = True
    for above in range(hierarchy.num_nodes):  # parents before children: the lowest common ancestor is written last
        inside = is_below[above].nonzero().squeeze(1)
        heights[inside[:, None], inside] = float(hierarchy.height[above])
    return heights
