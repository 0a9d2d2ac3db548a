"""Inference rules that are optimal for a metric if the probabilities are right: exact, for one true path in a tree.

A document's true path ends at a leaf, or at an inner node if the probabilities leave mass there. It ends at node n with
probability P(n) minus the sum over n's children (`end_probabilities`).

Only `expected_cost` may predict the empty set, which means the root. For the other rules it is never better: its hF is 0
(`expected_hf`), no path ends at the root (`argmax_end`), and its lowest common ancestor is the highest (`crm`).

Notation for shapes: B documents, N nodes, H the height of the hierarchy.
"""

import torch
from torch import Tensor

from htc.decoding.rules import argmax_leaf
from htc.labels.distances import tree_distance_matrix
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import Scores, as_scores
from rlkl_htc_common.errors import InputError

CELLS = 2**19  # documents x nodes x depths at a time: fits into a processor's cache, and limits memory
CANDIDATES = 64  # nodes to try first
TIE = 1e-12  # smaller differences in expected hF, or relative ones in expected cost, count as ties


def end_probabilities(probabilities: Scores, hierarchy: Hierarchy) -> Tensor:
    """The probability that a document's path ends at each node: P(node) minus the sum over its children.

    Args:
        probabilities: (B, N) coherent, of one path: the children of a node do not sum to more than the node.

    Returns:
        (B, N), clamped at 0 against rounding.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    ends = probabilities.clone()
    child = hierarchy.parent.to(probabilities.device) >= 0
    ends.index_add_(1, hierarchy.parent.to(probabilities.device)[child], -probabilities[:, child])
    return ends.clamp_min(0.0)


def expected_hf(probabilities: Scores, hierarchy: Hierarchy, beta: float = 1.0) -> Tensor:
    """The set with the largest expected hF_beta of a document, over all sets closed under ancestors.

    Among the sets of k nodes, the best one has the k nodes with the largest

        delta_k(n) = sum over ends e at or below n of P(path ends at e) (1 + beta^2) / (k + beta^2 depth(e)),

    which never grows on the way down, so the set is closed. All k are tried, up to a bound beyond which not even a set with
    every true label could be better. Only the depth of an end matters in the sum, and for most documents only the most probable
    nodes matter: other nodes are tried only if they could be in the set. (If nearly all nodes have similar probabilities, large
    sets are best, and the time grows with the square of their size.)

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
        candidates: the number of most probable nodes to choose from, per document; at least H.

    Returns:
        (B, N) bool, and (B,) bool: whether the set is certainly the best over all nodes.
    """
    depths = torch.arange(1, hierarchy.max_depth + 1, device=mass.device).double()  # (H,)
    candidates = min(candidates, hierarchy.num_nodes)
    probability, nodes = mass.sum(2).topk(min(candidates + 1, hierarchy.num_nodes))
    left_out = probability[:, candidates] if candidates < hierarchy.num_nodes else torch.zeros_like(probability[:, 0])
    nodes = nodes[:, :candidates]  # (B, C)
    depth_of_end = mass[:, hierarchy.levels[0]].sum(1)  # (B, H)
    mass = mass.gather(1, nodes[:, :, None].expand(-1, -1, len(depths)))  # (B, C, H)
    tie = TIE * hierarchy.depth.to(mass.device)[nodes]  # a parent comes before its only child, despite rounding
    best = mass.new_full((len(mass),), -1.0)
    chosen = torch.zeros(len(mass), hierarchy.num_nodes, dtype=torch.bool, device=mass.device)
    sure = torch.ones(len(mass), dtype=torch.bool, device=mass.device)
    for k in range(1, hierarchy.num_nodes + 1):
        weight = (1 + beta2) / (k + beta2 * depths)  # (H,)
        # A set of k nodes shares at most min(k, depth) nodes with a path. For k >= H, no larger k can beat this bound.
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
    """The probability of ends at or below each node, by depth of the end. Args: ends (B, N). Returns: (B, N, H)."""
    node, ancestor = hierarchy.ancestors.to(ends.device)
    cell = ancestor * hierarchy.max_depth + hierarchy.depth.to(ends.device)[node] - 1
    mass = ends.new_zeros(hierarchy.num_nodes * hierarchy.max_depth, len(ends))
    mass.index_add_(0, cell, ends.T[node])
    return mass.view(hierarchy.num_nodes, hierarchy.max_depth, len(ends)).permute(2, 0, 1)


def argmax_end(probabilities: Scores, hierarchy: Hierarchy) -> Tensor:
    """The most probable whole path, ending anywhere: optimal for exact match. If all paths end at leaves: `argmax_leaf`.

    Args: probabilities (B, N) coherent, of one path. Returns: (B, N) bool, one path each; ties go to the first node.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    best = end_probabilities(probabilities, hierarchy).argmax(1, keepdim=True)
    return hierarchy.close(torch.zeros_like(probabilities, dtype=torch.bool).scatter_(1, best, True))


def expected_cost(probabilities: Scores, hierarchy: Hierarchy, cost: Tensor) -> Tensor:
    """The node with the smallest expected cost, and everything above it; the empty set if the root is cheapest.

    Any node may be predicted, inner ones too. Two available costs are `lca_heights` and
    `htc.labels.distances.tree_distance_matrix`.

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
        cost: (N, N) or (N + 1, N): the cost of predicting a node (row) if the path ends at another (column). Row N + 1 is the
            root, i.e. the empty set. Rows of infinity exclude nodes, for example all inner nodes. With N rows, the root's cost
            is known only for the tree distance (in any unit): the depth of the end. With any other cost of N rows, a node is
            always predicted.

    Returns:
        (B, N) bool, one path each or the empty set; ties go to the first node, and to the root last.

    Raises:
        InputError: if the shape is wrong, or no row has only finite costs.
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
    """Costs with a row for the root, infinite if unknown. Args: cost (N, N) or (N + 1, N). Returns: (N + 1, N)."""
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

    The height starts at the root's. Each node that the leaf's path shares with the true path lowers it from the height of the
    parent to the height of the node. So the expected decrease is a sum along the path, and no cost matrix is needed.

    Args: probabilities (B, N) coherent, of one path; the hierarchy must be a tree. Returns: (B, N) bool, one path each.

    Source: Karthik et al., "No Cost Likelihood Manipulation at Test Time for Making Better Mistakes", ICLR 2021.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    parent = hierarchy.parent
    height_above = torch.where(parent >= 0, hierarchy.height[parent], hierarchy.max_depth)
    fall = (height_above - hierarchy.height).to(probabilities)
    return argmax_leaf(hierarchy.sum_along_paths(probabilities * fall), hierarchy)


def lca_heights(hierarchy: Hierarchy) -> Tensor:
    """(N, N) float32: the height of the lowest common ancestor of each pair of nodes; 0 for a leaf with itself, H for the root.

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
