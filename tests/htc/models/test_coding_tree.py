import math
from itertools import pairwise

import pytest
import torch

from htc import Hierarchy, InputError
from htc.models import CodingTree, coding_tree, structural_entropy
from htc.models.entropy_groups import partition

from ..conftest import random_dag, random_tree, reordered

STARS = [(center, f"{center}{leaf}") for center in "ab" for leaf in range(3)]
PATH = [(f"n{i}", f"n{i + 1}") for i in range(5)]
BINARY = [("r", "a"), ("r", "b"), ("a", "a1"), ("a", "a2"), ("b", "b1"), ("b", "b2")]
BARBELL = [("a", "b"), ("a", "c"), ("b", "c"), ("c", "d"), ("d", "e"), ("d", "f"), ("e", "f")]
WOS = [17, 53, 11, 16, 9, 9, 19]  # areas of each domain of Web of Science


def groups(tree, hierarchy):
    members = [set() for _ in range(tree.sizes[1])]
    for name, group in zip(hierarchy.names, tree.parents[0].tolist(), strict=True):
        members[group].add(name)
    return {frozenset(names) for names in members}


def one_group(size):
    """All labels in one group below the root."""
    return CodingTree((torch.zeros(size, dtype=torch.long), torch.zeros(1, dtype=torch.long)))


@pytest.mark.parametrize(
    ("pairs", "entropy", "expected"),
    [
        (STARS, 1.7925, ["a a0 a1 a2", "b b0 b1 b2"]),
        (PATH, 1.5628, ["n0 n1", "n2 n3", "n4 n5"]),
        (BINARY, 1.7838, ["r", "a a1 a2", "b b1 b2"]),
        (BARBELL, 2.0211, ["a b c d", "e f"]),  # the greedy search's own answer; {a b c}, {d e f} has 1.6995
    ],
    ids=["stars", "path", "binary", "barbell"],
)
def test_groups_and_entropy_of_small_graphs(pairs, entropy, expected):
    hierarchy = Hierarchy.from_pairs(pairs)
    tree = coding_tree(hierarchy)
    assert structural_entropy(tree, hierarchy) == pytest.approx(entropy, abs=1e-4)
    assert groups(tree, hierarchy) == {frozenset(names.split()) for names in expected}


def test_entropy_of_given_trees():
    stars, barbell = Hierarchy.from_pairs(STARS), Hierarchy.from_pairs(BARBELL)
    assert structural_entropy(one_group(8), stars) == pytest.approx(2.7925, abs=1e-4)
    triangles = torch.tensor([name in "def" for name in barbell.names]).long()
    best = CodingTree((triangles, torch.zeros(2, dtype=torch.long)))
    assert structural_entropy(best, barbell) == pytest.approx(1.6995, abs=1e-4)


@pytest.mark.parametrize(("height", "sizes"), [(2, (141, 7, 1)), (3, (141, 79, 7, 1))])
def test_the_shape_of_web_of_science(height, sizes):
    hierarchy = Hierarchy.from_paths([[f"d{d}", f"d{d}a{a}"] for d, areas in enumerate(WOS) for a in range(areas)])
    tree = coding_tree(hierarchy, height)
    assert tree.sizes == sizes
    domain = torch.where(hierarchy.parent < 0, torch.arange(141), hierarchy.parent)
    top = tree.parents[0] if height == 2 else tree.parents[1][tree.parents[0]]
    assert len(torch.unique(torch.stack([domain, top]), dim=1).T) == 7  # each domain with its areas


@pytest.mark.parametrize("height", [2, 3, 4, 6])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", [random_tree, random_dag], ids=["tree", "dag"])
def test_every_label_is_as_deep_as_the_tree_is_high(make, seed, height):
    tree = coding_tree(make(seed), height)
    assert tree.height == height
    assert tree.sizes[0] == 30
    assert tree.sizes[-1] == 1
    for parent, (below, above) in zip(tree.parents, pairwise(tree.sizes), strict=True):
        assert len(parent) == below
        assert parent.unique().tolist() == list(range(above))
        assert parent.flip(0).unique(sorted=True).numel() == above
        first = [parent.tolist().index(node) for node in range(above)]
        assert first == sorted(first)  # nodes come in the order of their first children


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("make", [random_tree, random_dag], ids=["tree", "dag"])
@pytest.mark.parametrize("height", [2, 3])
def test_the_numbering_of_labels_does_not_matter(make, seed, height):
    hierarchy = make(seed)
    other, new_number = reordered(hierarchy, seed + 1)
    one, two = coding_tree(hierarchy, height), coding_tree(other, height)
    assert one.sizes == two.sizes
    groups_of_one, groups_of_two = torch.arange(one.sizes[0]), new_number
    for parent_one, parent_two in zip(one.parents, two.parents, strict=True):
        groups_of_one, groups_of_two = parent_one[groups_of_one], parent_two[groups_of_two]
        pairs = torch.unique(torch.stack([groups_of_one, groups_of_two]), dim=1)
        assert pairs.shape[1] == int(groups_of_one.max()) + 1


@pytest.mark.parametrize(
    "hierarchy",
    [
        Hierarchy(["one"], [[]]),
        Hierarchy(["one", "two"], [[], [0]]),
        Hierarchy(["one", "two", "three"], [[], [], []]),
        Hierarchy(["one", "two", "three", "alone"], [[], [0], [0], []]),
    ],
    ids=["one", "two", "no edges", "one alone"],
)
@pytest.mark.parametrize("height", [2, 3, 4])
def test_tiny_hierarchies(hierarchy, height):
    tree = coding_tree(hierarchy, height)
    assert (tree.height, tree.sizes[0], tree.sizes[-1]) == (height, hierarchy.num_nodes, 1)
    assert math.isfinite(structural_entropy(tree, hierarchy)) or not hierarchy.edges.numel()


def test_a_height_below_two():
    with pytest.raises(InputError, match="at least 2, not 1"):
        coding_tree(Hierarchy(["one"], [[]]), 1)


def by_definition(volume, leaving, edges, total):
    """Both steps as they are described: all links looked at for each merge, all inner nodes for each that is taken out."""
    size = len(volume)
    volume, leaving, alive, children = list(volume), list(leaving), set(range(size)), {}
    cut = {frozenset(edge[:2]): edge[2] for edge in edges}
    inside = {}

    def delta(a, b):
        both = volume[a] + volume[b]
        own = (volume[a] - leaving[a]) * math.log2(both / volume[a]) + (volume[b] - leaving[b]) * math.log2(both / volume[b])
        return (own - 2 * cut[frozenset((a, b))] * math.log2(total / both)) / total

    while cut:
        a, b = min((tuple(sorted(pair)) for pair in cut), key=lambda pair: (delta(*pair), *pair))
        new = len(volume)
        weight = cut.pop(frozenset((a, b)))
        volume.append(volume[a] + volume[b])
        leaving.append(leaving[a] + leaving[b] - 2 * weight)
        children[new], inside[new] = {a, b}, weight
        alive = alive - {a, b} | {new}
        for other in alive - {new}:
            links = [cut.pop(frozenset((part, other)), 0) for part in (a, b)]
            if sum(links):
                cut[frozenset((new, other))] = sum(links)
    root = max(children) if len(alive) == 1 and children else len(volume)
    if root == len(volume):
        volume.append(total)
        children[root], inside[root] = set(alive), 0

    def parent(node):
        return next(above for above, below in children.items() if node in below)

    while True:
        free = [n for n in children if n != root and (parent(n) != root or any(c in children for c in children[n]))]
        if not free:
            break
        node = min(free, key=lambda n: (inside[n] * math.log(volume[parent(n)] / volume[n]), n))
        above = parent(node)
        inside[above] += inside[node]
        children[above] = children[above] - {node} | children.pop(node)
    return {frozenset(children.get(n, {n})) for n in children[root]}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("make", [random_tree, random_dag], ids=["tree", "dag"])
def test_groups_against_their_definition(make, seed):
    hierarchy = make(seed, 8 + seed)
    edges = [(parent, child, 1.0) for parent, child in hierarchy.edges.T.tolist()]
    volume = torch.bincount(hierarchy.edges.flatten(), minlength=hierarchy.num_nodes).double().tolist()
    found = {}
    for node, group in enumerate(partition(volume, volume, edges, sum(volume))):
        found.setdefault(group, set()).add(node)
    assert {frozenset(group) for group in found.values()} == by_definition(volume, volume, edges, sum(volume))


@pytest.mark.parametrize("parents", [[[]] + [[0]] * 19_999, [[]] * 20 + [[i % 20] for i in range(19_980)]], ids=["1", "20"])
def test_thousands_of_children_of_one_label(parents):
    tree = coding_tree(Hierarchy([f"n{i}" for i in range(len(parents))], parents), 3)
    assert tree.sizes[0] == 20_000
