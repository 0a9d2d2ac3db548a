"""Distances in the hierarchy, as numbers of edges. The root is not a label, but counts as a node between top labels.

In a DAG, only ways through a common ancestor count, not through a common descendant.
"""

import torch
from torch import Tensor

from htc.labels.hierarchy import Hierarchy


def distance_to_closed_set(sets: Tensor, hierarchy: Hierarchy) -> Tensor:
    """The distance of each node to the closest member of its document's set.

    In a set that is closed under ancestors, the closest member is the first one on the way up: all other ways go through it.

    Args:
        sets: (B, N) bool, closed under ancestors, none empty.

    Returns:
        (B, N) float32, 0 for members.
    """
    sets = sets.bool()
    outside = (~sets).float()
    top = hierarchy.levels[0]
    outside[:, top] *= 2  # through the root to another top label
    return hierarchy.sum_along_paths(outside)


def diameter(hierarchy: Hierarchy) -> int:
    """The largest distance between two nodes, at least 1; in a DAG, the longest way up and down."""
    height = [0] * (hierarchy.num_nodes + 1)  # the last one is the root's
    largest = 1
    for node in reversed(range(hierarchy.num_nodes)):
        for parent in hierarchy.parents[node] or [hierarchy.num_nodes]:
            if parent < hierarchy.num_nodes or height[parent]:  # the root is not a label: a way may pass it but not end there
                largest = max(largest, height[parent] + height[node] + 1)
            height[parent] = max(height[parent], height[node] + 1)
    return largest


def leaf_diameter(hierarchy: Hierarchy) -> int:
    """The largest distance between two leaves, 0 for a single leaf; in a DAG, the longest way up and down."""
    down: list[int | None] = [None] * (hierarchy.num_nodes + 1)  # the longest way seen so far; the last one is the root's
    largest = 0
    for node in reversed(range(hierarchy.num_nodes)):
        way = (down[node] or 0) + 1
        for parent in hierarchy.parents[node] or [hierarchy.num_nodes]:
            other = down[parent]
            largest = largest if other is None else max(largest, other + way)
            down[parent] = max(other or 0, way)
    return largest


def edges_up(nodes: Tensor, ancestors: Tensor, hierarchy: Hierarchy, absent: int) -> Tensor:
    """The number of edges on the shortest way from each node up to its paired ancestor.

    Args:
        nodes: (n,) int64.
        ancestors: (n,) int64; N means the root.
        absent: the value for pairs that are neither equal nor node and ancestor.

    Returns:
        (n,) int64.
    """
    node, ancestor, edges = hierarchy.closure.to(nodes.device)
    keys, wanted = node * hierarchy.num_nodes + ancestor, nodes * hierarchy.num_nodes + ancestors
    at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    found = (keys[at] == wanted) & (ancestors < hierarchy.num_nodes)
    to_root = hierarchy.distance_to_root.to(nodes.device)[nodes]
    return torch.where(ancestors == hierarchy.num_nodes, to_root, torch.where(found, edges[at], absent))


def distance_through_common_ancestor(first: Tensor, second: Tensor, hierarchy: Hierarchy) -> Tensor:
    """The number of edges between the two nodes of each pair, by the shortest way up and down.

    Args: first, second (n,) int64; N means the root. Returns: (n,) int64.
    """
    to_root = torch.cat([hierarchy.distance_to_root, hierarchy.distance_to_root.new_zeros(1)]).to(first.device)
    nearest = to_root[first] + to_root[second]  # through the root
    below_root = ((first < hierarchy.num_nodes) & (second < hierarchy.num_nodes)).nonzero().squeeze(1)
    row, ancestor, up = hierarchy.ancestors_of(first[below_root])
    down = edges_up(second[below_root][row], ancestor, hierarchy, absent=2 * hierarchy.num_nodes)
    return nearest.scatter_reduce(0, below_root[row], up + down, "amin")


def tree_distance_matrix(hierarchy: Hierarchy) -> Tensor:
    """(N, N) float32: the number of edges between each pair of nodes of a tree; a cost for `expected.expected_cost`.

    >>> tree_distance_matrix(Hierarchy.from_paths([["Arts", "Music"], ["Science"]]))  # Arts, Science, Music
    tensor([[0., 2., 1.],
            [2., 0., 3.],
            [1., 3., 0.]])
    """
    hierarchy.parent  # noqa: B018  raises unless this is a tree
    node, ancestor = hierarchy.ancestors
    above = torch.zeros(hierarchy.num_nodes, hierarchy.num_nodes)
    above[node, ancestor] = 1.0
    return hierarchy.depth[:, None] + hierarchy.depth - 2 * (above @ above.T)
