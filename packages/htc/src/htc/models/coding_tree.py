"""HiTIN's coding tree: labels grouped by greedy minimisation of the structural entropy of the label hierarchy.

The hierarchy is taken as an undirected graph, an edge for each parent and child; the root, which is no label, is left out, so
that top labels are not linked. The labels are the leaves of the coding tree, all at the same distance K from its root: K is its
height, and its layers are numbered from 0, the labels, to K, the root alone.

>>> from htc import Hierarchy
>>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science", "Physics"], ["Science", "Biology"]])
>>> tree = coding_tree(hierarchy)
>>> tree.sizes, tree.parents[0]  # Arts, Science; Music, Film; Physics, Biology: each domain with its children
((6, 2, 1), tensor([0, 1, 0, 0, 1, 1]))

How the greedy search goes, with vol(a) the sum of the degrees of the labels below a, g(a) the edges that leave them:

1. the two linked groups whose union lowers the entropy most become one, until no linked groups are left;
2. of the binary tree that this gives, the groups that cost least are taken out, until those left are side by side;
3. for more than two layers, either every lowest group is split so, or the groups below the root are joined so: whichever lowers
   the entropy more, by node.

It is a heuristic: two triangles joined by an edge get an entropy of 2.0211 where 1.6995 is possible.

Source: Zhu et al., "HiTIN: Hierarchy-aware Tree Isomorphism Network for Hierarchical Text Classification", ACL 2023; structural
entropy: Li and Pan, IEEE Transactions on Information Theory 62, 2016. As in the authors' code, ties go to the group that came
first; here labels come in the order of their paths, so that the tree does not depend on how they are numbered.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.models.entropy_groups import Edge, partition
from rlkl_htc_common.errors import InputError


@dataclass(frozen=True)
class CodingTree:
    """Labels in groups, groups in groups, up to one root.

    Attributes:
        parents: K tensors; that of layer k, (N_k,) int64, holds the position in layer k + 1 of the parent of each node. Layer 0
            is the labels in the hierarchy's node order; the nodes above come in the order of their first children.
    """

    parents: tuple[Tensor, ...]

    @property
    def height(self) -> int:
        """K, the edges from a label to the root."""
        return len(self.parents)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of nodes in each layer, K + 1 of them: N_0 labels, ..., N_K = 1."""
        return (*(len(parent) for parent in self.parents), 1)


def coding_tree(hierarchy: Hierarchy, height: int = 2) -> CodingTree:
    """The coding tree of a label hierarchy: a tree, a forest or a DAG.

    Args:
        hierarchy: its labels and their parents.
        height: K, at least 2.

    Raises:
        InputError: for a height below 2.
    """
    if height < 2:
        raise InputError(f"the height of a coding tree must be at least 2, not {height}: labels, groups of them, and a root.")
    by_path = sorted(range(hierarchy.num_nodes), key=hierarchy.paths.__getitem__)
    rank = {node: position for position, node in enumerate(by_path)}
    edges = [(rank[parent], rank[child]) for parent, child in hierarchy.edges.T.tolist()]
    layers = _grouped(hierarchy.num_nodes, edges, height)
    layers[0] = [layers[0][rank[node]] for node in range(hierarchy.num_nodes)]
    return CodingTree(tuple(torch.tensor(layer) for layer in _in_order_of_children(layers)))


def structural_entropy(tree: CodingTree, hierarchy: Hierarchy) -> float:
    """The structural entropy of a coding tree, in bits: what a step of a random walk along the hierarchy's edges costs.

    H = - sum over all nodes a but the root of g(a) / vol(root) log2(vol(a) / vol(parent of a)); a node without edges adds 0.
    """
    ends = hierarchy.edges  # (2, E)
    volume = torch.bincount(ends.flatten(), minlength=hierarchy.num_nodes).double()
    total, entropy = float(volume.sum()), 0.0
    for parent, size in zip(tree.parents, tree.sizes[1:], strict=True):
        apart = ends[0] != ends[1]
        leaving = torch.bincount(ends[:, apart].flatten(), minlength=len(parent)).double()
        above = torch.zeros(size, dtype=torch.double).index_add(0, parent, volume)
        counts = leaving > 0
        entropy -= float((leaving / total * (volume / above[parent]).log2())[counts].sum())
        ends, volume = parent[ends], above
    return entropy


def _grouped(num_nodes: int, edges: Sequence[tuple[int, int]], height: int) -> list[list[int]]:
    """The parents of each layer; see `CodingTree`."""
    weighted = [(a, b, 1.0) for a, b in edges]
    volume = [0.0] * num_nodes
    for end in (end for edge in edges for end in edge):
        volume[end] += 1
    total = sum(volume)
    groups = partition(volume, volume, weighted, total)
    layers = [groups, [0] * (max(groups) + 1)]
    split = joined = None  # what either way would give, and by how much it lowers the entropy; kept until it is used
    while len(layers) < height:
        split = split or _split_lowest(layers[0], volume, weighted, total)
        joined = joined or _join_highest(layers, volume, weighted, total)
        if split[0] < joined[0]:
            layers[-1:] = [joined[1], [0] * (max(joined[1]) + 1)]
            joined = None
        else:
            layers[:1] = [split[1], split[2]]
            split = None
    return layers


def _split_lowest(
    group: Sequence[int], volume: Sequence[float], edges: Sequence[Edge], total: float
) -> tuple[float, list[int], list[int]]:
    """Split every lowest group by the edges inside it; one of fewer than three labels gets a group of its own for each.

    Returns: the gain in entropy by label; the new group of each label; the old group of each new one.
    """
    members: list[list[int]] = [[] for _ in range(max(group) + 1)]
    inside: list[list[Edge]] = [[] for _ in members]
    position = [0] * len(group)
    for node, of_node in enumerate(group):
        position[node] = len(members[of_node])
        members[of_node].append(node)
    for a, b, weight in edges:
        if group[a] == group[b]:
            inside[group[a]].append((position[a], position[b], weight))
    gain, new_group, old_group = 0.0, [0] * len(group), list[int]()
    for of_members, (nodes, links) in enumerate(zip(members, inside, strict=True)):
        parts = list(range(len(nodes)))
        if len(nodes) >= 3:
            degree = [0.0] * len(nodes)
            for a, b, weight in links:
                degree[a] += weight
                degree[b] += weight
            parts = partition(degree, degree, links, sum(degree))
            volumes = [volume[node] for node in nodes]
            gain += _gain(parts, volumes, volumes, links, total)
        for node, part in zip(nodes, parts, strict=True):
            new_group[node] = len(old_group) + part
        old_group += [of_members] * (max(parts) + 1)
    return gain / len(group), new_group, old_group


def _join_highest(
    layers: Sequence[Sequence[int]], volume: Sequence[float], edges: Sequence[Edge], total: float
) -> tuple[float, list[int]]:
    """Join the nodes below the root; with fewer than three, each gets a node of its own above it.

    Returns: the gain in entropy by node; the new node above each.
    """
    count = len(layers[-1])
    if count < 3:
        return 0.0, list(range(count))
    top = list(range(len(volume)))
    for layer in layers[:-1]:
        top = [layer[node] for node in top]
    volumes, leaving, between = [0.0] * count, [0.0] * count, dict[tuple[int, int], float]()
    for node, of_node in zip(top, volume, strict=True):
        volumes[node] += of_node
    for a, b, weight in edges:
        pair = min(top[a], top[b]), max(top[a], top[b])
        if pair[0] != pair[1]:
            between[pair] = between.get(pair, 0.0) + weight
            leaving[pair[0]] += weight
            leaving[pair[1]] += weight
    links = [(*pair, weight) for pair, weight in between.items()]
    parts = partition(volumes, leaving, links, total)
    return _gain(parts, volumes, leaving, links, total) / count, parts


def _gain(
    parts: Sequence[int], volume: Sequence[float], leaving: Sequence[float], edges: Sequence[Edge], total: float
) -> float:
    """By how much the entropy falls where the nodes below one parent are put into groups.

    A node below the parent costs -g log2(vol(node) / vol(parent)), and now vol(group) in the place of vol(parent); a group
    costs what a node does.
    """
    of_parent = sum(volume)
    of_group, leaving_group = [0.0] * (max(parts) + 1), [0.0] * (max(parts) + 1)
    for part, vol, g in zip(parts, volume, leaving, strict=True):
        of_group[part] += vol
        leaving_group[part] += g
    for a, b, weight in edges:
        if parts[a] == parts[b]:
            leaving_group[parts[a]] -= 2 * weight
    gain = 0.0
    for part, g in zip(parts, leaving, strict=True):
        gain += g * math.log2(of_parent / of_group[part]) if g else 0.0
    for vol, g in zip(of_group, leaving_group, strict=True):
        gain -= g * math.log2(of_parent / vol) if g else 0.0
    return gain / total if total else 0.0


def _in_order_of_children(layers: Sequence[list[int]]) -> list[list[int]]:
    """Renumber the nodes above the labels by their first children."""
    ordered = [list(layers[0]), *layers[1:]]
    for below, layer in pairwise(range(len(ordered))):
        new = {old: position for position, old in enumerate(dict.fromkeys(ordered[below]))}
        ordered[below] = [new[parent] for parent in ordered[below]]
        order = sorted(new, key=new.__getitem__)
        ordered[layer] = [ordered[layer][old] for old in order]
    return ordered
