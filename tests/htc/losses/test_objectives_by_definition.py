"""CHAMP, focal, conditional sigmoid and parameter-sharing softmax against what their definitions say, node by node."""

import itertools
import math

import networkx
import pytest
import torch

from htc import Hierarchy, InputError
from htc.labels.distances import diameter, distance_to_closed_set, leaf_diameter, tree_distance_matrix
from htc.losses import (
    BCE,
    CHAMP,
    ConditionalSigmoid,
    Focal,
    LeafSoftmax,
    ParameterSharingSoftmax,
    recursive_regularization,
)
from htc.losses.base import UnsuitableTargetsError

seeds = pytest.mark.parametrize("seed", range(4))


def graph_of(hierarchy):
    """The hierarchy as an undirected graph, its root as node -1."""
    graph = networkx.Graph()
    graph.add_nodes_from(range(-1, hierarchy.num_nodes))
    for node, parents in enumerate(hierarchy.parents):
        graph.add_edges_from((parent, node) for parent in parents or [-1])
    return graph


def several_paths(hierarchy, documents, seed):
    """Targets with one to three paths each, ending anywhere."""
    generator = torch.Generator().manual_seed(seed)
    sets = torch.zeros(documents, hierarchy.num_nodes, dtype=torch.bool)
    for row in sets:
        row[torch.randint(hierarchy.num_nodes, (int(torch.randint(1, 4, (), generator=generator)),), generator=generator)] = (
            True
        )
    return hierarchy.close(sets)


def all_distances(hierarchy):
    found = dict(networkx.all_pairs_shortest_path_length(graph_of(hierarchy)))
    return torch.tensor([[found[a][b] for b in range(hierarchy.num_nodes)] for a in range(hierarchy.num_nodes)]).float()


@seeds
def test_distances_in_a_tree_are_those_of_the_graph(seed, make_tree):
    h = make_tree(seed)
    distances, sets = all_distances(h), several_paths(h, 12, seed)
    expected = torch.stack([distances[:, row].amin(1) for row in sets])
    assert torch.equal(distance_to_closed_set(sets, h), expected)
    assert diameter(h) == distances.max()


@seeds
def test_distances_in_a_dag_go_up_to_the_closest_member(seed, make_dag):
    h = make_dag(seed)
    sets = several_paths(h, 12, seed)
    upward = networkx.DiGraph([(node, parent) for node, parents in enumerate(h.parents) for parent in parents or [-1]])
    for row, found in zip(sets, distance_to_closed_set(sets, h), strict=True):
        members = set(row.nonzero().flatten().tolist())
        for node in range(h.num_nodes):
            ways = networkx.single_source_shortest_path_length(upward, node)
            up = min((steps for other, steps in ways.items() if other in members), default=math.inf)
            assert found[node] == min(up, ways[-1] + 1)
    assert diameter(h) >= distance_to_closed_set(sets, h).max()


@pytest.mark.parametrize("seed", range(10))
def test_the_root_ends_no_way(seed, make_tree):
    """Below a single top label, too, where the longest way does not go by the root."""
    below = make_tree(seed, nodes=12)
    parents = [[], *([1 + p for p in above] or [0] for above in below.parents)]
    h = Hierarchy([f"n{i}" for i in range(13)], parents)
    assert diameter(h) == tree_distance_matrix(h).max()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 1.0, 2.0])
def test_focal_has_a_gradient_for_sure_logits(gamma):
    h = Hierarchy.from_paths([["a"], ["b"], ["c"], ["d"]])
    logits = torch.tensor([[200.0, -200.0, 200.0, -200.0]], requires_grad=True)
    Focal(h, gamma).loss(logits, torch.tensor([[True, True, False, False]])).backward()
    assert logits.grad.isfinite().all()


def test_a_single_node_has_a_diameter_that_can_be_divided_by():
    assert diameter(Hierarchy.from_paths([["alone"]])) == 1


@seeds
@pytest.mark.parametrize("beta", [0.0, 1e-4, 0.5])
def test_champ_by_its_definition(seed, beta, make_tree):
    h = make_tree(seed)
    targets, logits = several_paths(h, 6, seed), torch.randn(6, h.num_nodes, dtype=torch.double, requires_grad=True)
    distances = all_distances(h).double()
    cost = logits.new_zeros(())
    for row in range(6):
        for node in range(h.num_nodes):
            p = logits[row, node].sigmoid()
            if targets[row, node]:
                cost = cost - p.log()
            else:
                nearest = distances[node, targets[row]].min() / distances.max()
                cost = cost - (1 - p).log() * (1 + beta * ((nearest + 1) ** 2 - 1))
    expected = cost / targets.numel()
    loss = CHAMP(h, beta=beta).loss(logits, targets)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], torch.autograd.grad(expected, logits)[0])


@seeds
def test_champ_as_a_sum_over_labels_is_n_times_the_mean(seed, make_dag):
    h = make_dag(seed)
    targets, logits = several_paths(h, 6, seed), torch.randn(6, h.num_nodes, dtype=torch.double)
    mean, total = CHAMP(h, beta=0.5).loss(logits, targets), CHAMP(h, beta=0.5, reduction="sum").loss(logits, targets)
    torch.testing.assert_close(total, h.num_nodes * mean)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_with_alpha_by_its_definition(small, alpha, gamma):
    targets, logits = several_paths(small, 5, 0), torch.randn(5, small.num_nodes)
    right = torch.where(targets, logits.sigmoid(), 1 - logits.sigmoid())
    weight = torch.where(targets, alpha, 1 - alpha)
    found = Focal(small, gamma, alpha).loss(logits, targets)
    torch.testing.assert_close(found, (-right.log() * (1 - right) ** gamma * weight).mean())
    if alpha == 0.5:
        torch.testing.assert_close(found, Focal(small, gamma).loss(logits, targets) / 2)


@seeds
def test_the_relative_margin_by_its_definition(seed, make_tree, make_targets):
    """alpha (edges + 1) / max(edges + 1) between leaves, and nothing for the true one."""
    h = make_tree(seed)
    targets, logits = make_targets(h, 6, seed), torch.randn(6, h.num_nodes, dtype=torch.double)
    edges = all_distances(h).double()[h.leaves][:, h.leaves]
    assert leaf_diameter(h) == edges.max()
    margins = 0.7 * (edges + 1).fill_diagonal_(0) / (edges.max() + 1)
    column = torch.tensor([h.leaves.tolist().index(int(h.leaves[row[h.leaves]])) for row in targets])
    scores = h.sum_along_paths(logits)[:, h.leaves] + margins[column]
    objective = ParameterSharingSoftmax(h, 0.7, "relative")
    torch.testing.assert_close(objective.loss(logits, targets), torch.nn.functional.cross_entropy(scores, column))


def test_the_largest_distance_between_leaves():
    """Not that between nodes: of a chain below a single top label it is the way between its branches."""
    for paths, expected in (
        (["a"], 0),
        (["a/b/c"], 0),
        (["a", "b"], 2),
        (["a/b/c/x", "a/b/c/y"], 2),
        (["a/b/c/d/x", "a/b/c/d/y", "a/z"], 5),
        (["a/b", "c/d/e"], 5),
    ):
        h = Hierarchy.from_paths([path.split("/") for path in paths])
        assert leaf_diameter(h) == expected
        targets = h.encode([paths[0].split("/")])
        assert ParameterSharingSoftmax(h, 1.0, "relative").loss(torch.zeros(1, h.num_nodes), targets).isfinite()


@seeds
def test_champ_without_beta_and_focal_without_gamma_are_bce(seed, make_dag):
    h = make_dag(seed)
    targets, logits = several_paths(h, 6, seed), torch.randn(6, h.num_nodes)
    bce = BCE(h).loss(logits, targets)
    torch.testing.assert_close(CHAMP(h, beta=0.0).loss(logits, targets), bce)
    torch.testing.assert_close(Focal(h, gamma=0.0).loss(logits, targets), bce)
    assert CHAMP(h, beta=0.3).loss(logits, targets) > bce > Focal(h, gamma=1.0).loss(logits, targets)


def test_focal_by_its_definition(small):
    targets, logits = several_paths(small, 5, 0), torch.randn(5, small.num_nodes)
    right = torch.where(targets, logits.sigmoid(), 1 - logits.sigmoid())
    torch.testing.assert_close(Focal(small, gamma=2.0).loss(logits, targets), (-right.log() * (1 - right) ** 2).mean())


@seeds
@pytest.mark.parametrize("kind", ["tree", "dag"])
def test_conditional_sigmoid_by_its_definition(seed, kind, make_tree, make_dag):
    h = {"tree": make_tree, "dag": make_dag}[kind](seed)
    targets, logits = several_paths(h, 5, seed), torch.randn(5, h.num_nodes, dtype=torch.double)
    expected, marginal = 0.0, torch.zeros(5, h.num_nodes, dtype=torch.double)
    for row, node in itertools.product(range(5), range(h.num_nodes)):
        p = logits[row, node].sigmoid()
        if all(targets[row, parent] for parent in h.parents[node]):
            expected -= (p if targets[row, node] else 1 - p).log().item() / 5
        marginal[row, node] = p * min((marginal[row, parent].item() for parent in h.parents[node]), default=1.0)
    objective = ConditionalSigmoid(h)
    assert objective.loss(logits, targets).item() == pytest.approx(expected)
    torch.testing.assert_close(objective.probabilities(logits), marginal)


@seeds
@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_parameter_sharing_softmax_by_its_definition(seed, margin, make_tree, make_targets):
    h = make_tree(seed)
    targets, logits = make_targets(h, 6, seed), torch.randn(6, h.num_nodes, dtype=torch.double)
    distances = all_distances(h).double()
    node, ancestor = h.ancestors
    scores = torch.stack([logits[:, ancestor[node == leaf]].sum(1) for leaf in h.leaves], 1)
    true = [int(h.leaves[row[h.leaves]]) for row in targets]
    with_margin = scores + margin * distances[true][:, h.leaves]
    column = torch.tensor([h.leaves.tolist().index(leaf) for leaf in true])
    objective = ParameterSharingSoftmax(h, margin=margin)
    torch.testing.assert_close(objective.loss(logits, targets), torch.nn.functional.cross_entropy(with_margin, column))
    torch.testing.assert_close(objective.probabilities(logits), h.sum_over_leaves(scores.softmax(1)))


@pytest.mark.parametrize("make", [LeafSoftmax, ParameterSharingSoftmax])
def test_one_leaf_and_nothing_but_its_ancestors(small, make):
    objective = make(small)
    objective.check_targets(small.encode([["Arts", "Film"]]))
    for labels, message in (
        ([["Arts", "Film"], ["Science", "Basics"]], "exactly one leaf, and it has 2"),
        ([["Arts"]], "exactly one leaf, and it has 0"),
        ([["Arts", "Film"], ["Science", "Physics"]], "one leaf and its ancestors"),
    ):
        with pytest.raises(UnsuitableTargetsError, match=f"document 1: .*{message}"):
            objective.check_targets(small.encode([["Arts", "Film"], labels]))


def test_recursive_regularization_by_its_definition(small):
    weight = torch.randn(small.num_nodes, 4, requires_grad=True)
    expected = sum(
        0.5 * (weight[node] - weight[parent]).square().sum() for node, above in enumerate(small.parents) for parent in above
    )
    torch.testing.assert_close(recursive_regularization(weight, small), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda h: CHAMP(h, beta=-1.0), "beta must not be negative"),
        (lambda h: Focal(h, gamma=-1.0), "gamma must not be negative"),
        (lambda h: ParameterSharingSoftmax(h, margin=-1.0), "margin must not be negative"),
        (lambda h: Focal(h, alpha=1.5), "alpha must be between 0 and 1, not 1.5"),
        (lambda h: CHAMP(h, reduction="none"), "reduction must be one of mean, sum, not 'none'"),
        (lambda h: ParameterSharingSoftmax(h, margin_form="relativ"), "margin_form must be one of edges, relative, not"),
    ],
)
def test_strengths_are_not_negative(small, make, message):
    with pytest.raises(InputError, match=message):
        make(small)


def test_sharing_along_paths_needs_a_tree(make_dag):
    with pytest.raises(InputError, match="needs a tree"):
        ParameterSharingSoftmax(make_dag(0))
