"""Distances in the hierarchy: numbers of edges, the root (which is no label) counting as a node between the top labels.

In a DAG only ways up and down again count, not those through a common descendant.
"""

from torch import Tensor

from htc.hierarchy import Hierarchy


def distance_to_closed_set(sets: Tensor, hierarchy: Hierarchy) -> Tensor:
    """How far each node is from the closest member of its document's set.

    In a set that is closed under ancestors the closest member is the first one on the way up: any other is behind it.

    Args:
        sets: (B, N) bool, closed under ancestors, none empty.

    Returns:
        (B, N) float32, 0 for members.
    """
    outside = (~sets).float()
    top = hierarchy.levels[0]
    outside[:, top] *= 2  # by the root to a top label that is a member
    return hierarchy.sum_along_paths(outside)


def diameter(hierarchy: Hierarchy) -> int:
    """The largest distance between two nodes, at least 1; in a DAG the longest way up and down again."""
    height = [0] * (hierarchy.num_nodes + 1)  # the last one is the root's
    largest = 1
    for node in reversed(range(hierarchy.num_nodes)):
        for parent in hierarchy.parents[node] or [hierarchy.num_nodes]:
            largest = max(largest, height[parent] + height[node] + 1)
            height[parent] = max(height[parent], height[node] + 1)
    return largest
