import networkx as nx
import numpy as np
import pytest
import torch

from htc import Hierarchy, InputError


def graph_of(hierarchy):
    graph = nx.DiGraph()
    graph.add_nodes_from(range(hierarchy.num_nodes))
    graph.add_edges_from(hierarchy.edges.T.tolist())
    return graph


@pytest.mark.parametrize("kind", ["tree", "dag"])
@pytest.mark.parametrize("seed", range(5))
def test_structure_agrees_with_networkx(kind, seed, make_tree, make_dag):
    h = {"tree": make_tree, "dag": make_dag}[kind](seed)
    graph = graph_of(h)
    assert [n for n in graph if graph.out_degree(n) == 0] == h.leaves.tolist()
    for node in graph:
        closed = h.ancestors[1][h.ancestors[0] == node].tolist()
        assert set(closed) == nx.ancestors(graph, node) | {node}
        roots = [n for n in graph if graph.in_degree(n) == 0]
        longest = max(len(p) for r in roots for p in nx.all_simple_paths(graph, r, node)) if graph.in_degree(node) else 1
        assert h.depth[node] == longest
    assert (h.edges[0] < h.edges[1]).all(), "parents come before children"
    assert torch.cat([torch.arange(h.num_nodes)[level] for level in h.levels]).tolist() == list(range(h.num_nodes))


def test_siblings_are_contiguous(make_tree):
    h = make_tree(3, 60)
    group = h.sibling_group.tolist()
    assert group == sorted(group)
    assert all((h.parent[h.sibling_group == g].unique().numel() == 1) for g in set(group))


@pytest.mark.parametrize("kind", ["tree", "dag"])
def test_close_is_a_closure(kind, make_tree, make_dag):
    h = {"tree": make_tree, "dag": make_dag}[kind](1)
    sets = torch.rand(20, h.num_nodes) < 0.1
    closed = h.close(sets)
    graph = graph_of(h)
    for row, closed_row in zip(sets, closed, strict=True):
        members = set(row.nonzero().flatten().tolist())
        assert set(closed_row.nonzero().flatten().tolist()) == members.union(*(nx.ancestors(graph, m) for m in members))
    assert torch.equal(h.close(closed), closed)
    assert h.is_coherent(closed).all()
    assert torch.equal(h.is_coherent(sets), (sets == closed).all(1))


@pytest.mark.parametrize("kind", ["tree", "dag"])
def test_sums_and_maxima_follow_their_definitions(kind, make_tree, make_dag):
    h = {"tree": make_tree, "dag": make_dag}[kind](2)
    values = torch.rand(4, h.num_nodes, dtype=torch.double)
    leaf_values = values[:, h.leaves]
    node, ancestor = h.ancestors
    below = torch.zeros(h.num_nodes, h.num_nodes, dtype=torch.bool)
    below[ancestor, node] = True  # below[a, n]: n is at or below a
    torch.testing.assert_close(h.sum_over_leaves(leaf_values), leaf_values @ below[:, h.leaves].double().T)
    expected = torch.stack([values[:, below[a]].amax(1) for a in range(h.num_nodes)], 1)
    torch.testing.assert_close(h.max_over_descendants(values), expected)
    if kind == "tree":
        torch.testing.assert_close(h.sum_along_paths(values), values @ below.double())
    else:
        expected = torch.empty_like(values)
        for node, parents in enumerate(h.parents):
            expected[:, node] = values[:, node] + (expected[:, list(parents)].amin(1) if parents else 0)
        torch.testing.assert_close(h.sum_along_paths(values), expected)


def test_encode_and_decode_are_inverse(small):
    paths = [["Arts", "Music", "Opera"], ["Science", "Basics"], ["Arts"]]
    assert small.decode(small.encode(paths)) == [[tuple(path)] for path in paths]
    several = small.encode([[["Arts", "Film"], ["Science", "Physics", "Heat"]]])
    assert small.decode(several) == [[("Arts", "Film"), ("Science", "Physics", "Heat")]]
    assert several.sum() == 5, "ancestors are added"


def test_a_set_of_names_needs_no_order(small):
    assert torch.equal(small.encode([["Opera", "Music", "Arts"]]), small.encode([["Arts", "Music", "Opera"]]))
    assert torch.equal(small.encode([["Opera"]]), small.encode([["Arts", "Music", "Opera"]]))


def test_an_ambiguous_name_is_resolved_by_its_parent_or_refused(small):
    assert small.decode(small.encode([["Basics", "Arts"]])) == [[("Arts", "Basics")]]
    with pytest.raises(InputError, match=r"document 1: the label 'Basics' stands in 2 places.*\['Science', 'Basics'\]"):
        small.encode([["Arts"], ["Basics"]])
    with pytest.raises(InputError, match="stands in 2 places"):
        small.encode([["Arts", "Science", "Basics"]])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["Art"], "'Art' is not in the taxonomy; did you mean 'Arts'"),
        (["zzzzzz"], "'zzzzzz' is not in the taxonomy"),
        ([["Arts", "Physics"]], "'Physics' is not a child of 'Arts'"),
        ([["Music", "Opera"]], "'Music' is not a top label"),
        ([[]], "a label path is empty"),
        ([], "no label is given"),
        ("Arts", "must be a list"),
    ],
)
def test_wrong_labels_are_named(small, labels, message):
    with pytest.raises(InputError, match=message):
        small.encode([labels])


def test_a_node_of_a_dag_is_found_by_any_of_its_paths():
    h = Hierarchy.from_pairs([("Root", "A"), ("Root", "B"), ("A", "C"), ("B", "C"), ("C", "D")])
    assert h.names == ("A", "B", "C", "D")
    assert not h.is_tree
    assert h.node(["A", "C", "D"]) == h.node(["B", "C", "D"]) == 3
    assert h.encode([["D"]]).all()


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("A", "B"), ("B", "A")], "has a cycle: A > B > A|has a cycle: B > A > B"),
        ([("A", "A")], "its own parent"),
        ([], "at least one node"),
    ],
)
def test_pairs_that_are_no_hierarchy(pairs, message):
    with pytest.raises(InputError, match=message):
        Hierarchy.from_pairs(pairs)


@pytest.mark.parametrize("path", [[], [""], ["A", " ", "B"], ["A", None, "B"], [None, None]])
def test_empty_paths_are_refused(path):
    with pytest.raises(InputError, match="empty"):
        Hierarchy.from_paths([path])


@pytest.mark.parametrize("kind", ["tree", "dag"])
def test_saving_keeps_everything(kind, make_tree, make_dag, tmp_path):
    h = {"tree": make_tree, "dag": make_dag}[kind](4)
    h.save(tmp_path / "h.json")
    loaded = Hierarchy.load(tmp_path / "h.json")
    assert loaded == h
    assert loaded.fingerprint == h.fingerprint
    assert make_tree(5).fingerprint != h.fingerprint


def test_two_siblings_of_one_name_are_refused():
    with pytest.raises(InputError, match="two siblings have the same path 'A > B'"):
        Hierarchy(["A", "B", "B"], [[], [0], [0]])


def test_a_deep_chain_needs_no_recursion():
    h = Hierarchy.from_paths([[f"n{i}" for i in range(3000)]])
    assert h.max_depth == 3000


def test_what_is_no_hierarchy():
    with pytest.raises(InputError, match="a label path must be a list of names, not the text 'Arts'"):
        Hierarchy.from_paths(["Arts", "Music"])
    with pytest.raises(InputError, match="parents must be positions of nodes, from 0 to 1"):
        Hierarchy(["A", "B"], [[], [5]])
    for parents in ([-1, 0], [None, [0]], np.array([-1, 0])):
        with pytest.raises(InputError, match=r"parents must be a list for each node, \[\] for a root, but one is"):
            Hierarchy(["A", "B"], parents)
    with pytest.raises(InputError, match="parents must be positions of nodes"):
        Hierarchy(["A", "B"], [[-1], [0]])
    with pytest.raises(InputError, match="pair 0: labels are texts, but 1 is a number"):
        Hierarchy.from_pairs([(1, 2)])


def test_the_most_specific_labels_have_none_below_them_near_or_far():
    h = Hierarchy.from_paths([["A", "B", "C"], ["D"]])
    sets = torch.tensor([[True, False, False, True]])  # A, D, B, C
    assert h.decode(sets) == [[("A", "B", "C")]]
