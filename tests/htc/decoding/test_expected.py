"""Optimal inference rules against brute force over every set that is closed under ancestors."""

import itertools

import networkx
import pytest
import torch

from htc import Hierarchy, InputError, decoding
from htc.decoding.by_name import ALL_RULES
from htc.decoding.expected import argmax_end, crm, end_probabilities, expected_cost, expected_hf, lca_heights
from htc.labels.distances import tree_distance_matrix

from ..conftest import random_dag, random_tree

seeds = pytest.mark.parametrize("seed", range(6))


def distribution(hierarchy, documents, seed, inner, peaked=3.0):
    """Coherent node probabilities of one path, ending at leaves only or anywhere."""
    generator = torch.Generator().manual_seed(seed)
    scores = peaked * torch.randn(documents, hierarchy.num_nodes, generator=generator, dtype=torch.double)
    if not inner:
        scores[:, ~hierarchy.is_leaf] = -torch.inf
    ends = scores.softmax(1)
    node, ancestor = hierarchy.ancestors
    return torch.zeros_like(ends).index_add_(1, ancestor, ends[:, node]), ends


def closed_sets(hierarchy):
    """Every non-empty set that is closed under ancestors, (S, N) bool."""
    sets = torch.tensor(list(itertools.product([False, True], repeat=hierarchy.num_nodes)))
    return sets[hierarchy.is_coherent(sets) & sets.any(1)]


def expected_hf_of(sets, ends, hierarchy, beta):
    """(S,) the expected hF_beta of each set for one document."""
    paths = torch.zeros(hierarchy.num_nodes, hierarchy.num_nodes, dtype=torch.bool)
    paths[tuple(hierarchy.ancestors)] = True  # (end, members of its path)
    both = (sets[:, None] & paths).sum(2)  # (S, ends)
    f = (1 + beta**2) * both.double() / (sets.sum(1)[:, None] + beta**2 * paths.sum(1))
    return f @ ends


@seeds
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("peaked", [1.0, 4.0])
def test_no_closed_set_is_better(seed, inner, beta, peaked):
    h = random_tree(seed, nodes=5 + seed)
    probabilities, ends = distribution(h, 4, seed, inner, peaked)
    chosen, sets = expected_hf(probabilities, h, beta), closed_sets(h)
    assert h.is_coherent(chosen).all()
    for row, of_row in zip(chosen, ends, strict=True):
        best = expected_hf_of(sets, of_row, h, beta).max()
        assert expected_hf_of(row[None], of_row, h, beta).item() == pytest.approx(best.item(), abs=1e-9)


def test_fourteen_nodes():
    h = random_tree(7, nodes=14)
    probabilities, ends = distribution(h, 3, 0, inner=True, peaked=2.0)
    sets = closed_sets(h)
    for row, of_row in zip(expected_hf(probabilities, h), ends, strict=True):
        best = expected_hf_of(sets, of_row, h, 1.0).max()
        assert expected_hf_of(row[None], of_row, h, 1.0).item() == pytest.approx(best.item(), abs=1e-9)


@seeds
def test_no_other_rule_expects_more(seed):
    h = random_tree(seed, nodes=40)
    probabilities, ends = distribution(h, 20, seed, inner=False)
    ours = expected_hf(probabilities, h)
    others = [
        decoding.top_down(probabilities, h),
        decoding.argmax_leaf(probabilities, h),
        decoding.top_down_threshold(probabilities, h, 0.5),
        decoding.top_down_threshold(probabilities, h, 0.2),
        decoding.top_down_until(probabilities, h, 0.4),
        crm(probabilities, h),
    ]
    for row in range(20):
        best = expected_hf_of(ours[row][None], ends[row], h, 1.0)
        for other in others:
            assert expected_hf_of(other[row][None], ends[row], h, 1.0) <= best + 1e-9


@seeds
@pytest.mark.parametrize("inner", [False, True])
def test_ends_are_what_is_not_passed_on(seed, inner):
    h = random_tree(seed)
    probabilities, ends = distribution(h, 5, seed, inner)
    torch.testing.assert_close(end_probabilities(probabilities, h), ends, atol=1e-12, rtol=0)


def test_documents_are_decoded_by_themselves_whatever_their_number(monkeypatch):
    h = random_tree(0)
    monkeypatch.setattr("htc.decoding.expected.CELLS", 4 * h.num_nodes * h.max_depth)  # four at a time
    probabilities, _ = distribution(h, 9, 0, inner=True)
    whole = expected_hf(probabilities, h)
    assert torch.equal(whole, torch.cat([expected_hf(row[None], h) for row in probabilities]))


def test_certainty_is_taken_at_its_word(make_targets):
    h = random_tree(1)
    targets = make_targets(h, 20, leaves_only=False)
    assert torch.equal(expected_hf(targets.double(), h), targets)


@seeds
def test_the_cheapest_node_by_definition(seed):
    h = random_tree(seed, nodes=12)
    probabilities, ends = distribution(h, 6, seed, inner=True)
    cost = torch.rand(12, 12, dtype=torch.double)
    cost[::3] = torch.inf
    chosen = expected_cost(probabilities, h, cost)
    for row in range(6):
        best = min(range(12), key=lambda node: float((cost[node] * ends[row]).sum()))
        only = torch.zeros(1, 12, dtype=torch.bool)
        only[0, best] = True
        assert torch.equal(chosen[row], h.close(only)[0])


@pytest.mark.parametrize(
    ("paths", "probabilities", "answer"),
    [
        (["a", "b", "c"], [0.4, 0.3, 0.3], ""),  # the root costs 1.0, a 1.2
        (["a", "b", "c"], [0.6, 0.3, 0.1], "a"),
        (["a", "b"], [0.5, 0.5], "a"),  # a tie, and the root comes last
        (["a", "b", "c", "d"], [0.25, 0.25, 0.25, 0.25], ""),
        (["a"], [1.0], "a"),
        (["a/x", "a/y", "b/z", "c"], [0.4, 0.3, 0.3, 0.2, 0.2, 0.3], ""),  # a, b, c, x, y, z
        (["a/x", "a/y", "b/z", "c"], [0.6, 0.2, 0.2, 0.3, 0.3, 0.2], "a"),
        (["a/x", "a/y", "b/z", "c"], [0.8, 0.1, 0.1, 0.7, 0.1, 0.1], "a/x"),
        (["r/a", "r/b", "r/c"], [1.0, 0.4, 0.3, 0.3], "r"),  # one top label: it is never worse than the root
    ],
)
@pytest.mark.parametrize("unit", [1.0, 0.125, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_the_root_is_cheapest_nothing_is_predicted(paths, probabilities, answer, unit, dtype):
    h = Hierarchy.from_paths([path.split("/") for path in paths])
    chosen = expected_cost(torch.tensor([probabilities], dtype=dtype), h, unit * tree_distance_matrix(h).to(dtype))
    assert h.decode(chosen) == [[tuple(answer.split("/"))] if answer else []]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("peaked", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("kind", ["tree distance", "any cost", "a costly root"])
def test_no_node_and_not_the_root_is_cheaper(seed, peaked, kind, monkeypatch):
    h = random_tree(seed, nodes=4 + seed)
    probabilities, ends = distribution(h, 30, seed, inner=seed % 2 == 0, peaked=peaked)
    if kind == "tree distance":
        given = tree_distance_matrix(h)
        cost = torch.cat([given, h.depth[None].float()]).double()
    else:
        given = cost = torch.rand(h.num_nodes + 1, h.num_nodes, dtype=torch.double)
        if kind == "a costly root":
            given, cost = given[:-1], torch.cat([cost[:-1], torch.full_like(cost[:1], torch.inf)])
    chosen = expected_cost(probabilities, h, given)
    for row, of_row in zip(chosen, ends, strict=True):
        end = int(h.most_specific(row[None])[0].nonzero()[0]) if row.any() else h.num_nodes
        expected = [float(torch.where(of_row > 0, of_row * costs, 0.0).sum()) for costs in cost]  # of every node, and the root
        assert expected[end] == pytest.approx(min(expected), abs=1e-9)
    assert torch.equal(chosen, torch.cat([expected_cost(row[None], h, given) for row in probabilities]))
    monkeypatch.setattr("htc.decoding.expected.CELLS", 7 * (h.num_nodes + 1))  # seven at a time
    assert torch.equal(chosen, expected_cost(probabilities, h, given))
    assert torch.equal(chosen, expected_cost(probabilities.numpy(), h, given.numpy()))
    if kind == "tree distance":
        assert torch.equal(chosen, expected_cost(probabilities, h, cost)), "as when the root's row is given"
    if kind == "a costly root":
        assert chosen.any(1).all()


def test_the_root_may_be_all_that_is_left():
    h = Hierarchy.from_paths([["a"], ["b"]])
    cost = torch.full((3, 2), torch.inf)
    cost[2] = 1.0
    assert not expected_cost(torch.tensor([[0.9, 0.1]]), h, cost).any()


@pytest.mark.parametrize("rule", [argmax_end, expected_hf, crm, decoding.top_down, decoding.argmax_leaf])
def test_the_other_optimal_rules_always_predict_a_label(rule):
    h = Hierarchy.from_paths([["a"], ["b"], ["c"], ["d"]])
    assert rule(torch.full((1, 4), 0.25), h).any()
    assert rule(torch.zeros(1, 4), h).any()


@seeds
def test_heights_of_common_ancestors(seed):
    h = random_tree(seed, nodes=15)
    graph = networkx.DiGraph([(parent, node) for node, above in enumerate(h.parents) for parent in above or [-1]])
    deepest = {node: max(networkx.single_source_shortest_path_length(graph, node).values()) for node in graph}
    heights = lca_heights(h)
    for a, b in itertools.product(range(15), repeat=2):
        assert heights[a, b] == deepest[networkx.lowest_common_ancestor(graph, a, b)]


def test_crm_gives_one_leaf_with_small_expected_mistakes():
    h = Hierarchy.from_paths([["a", "x"], ["a", "y"], ["a", "z"], ["b"]])
    probabilities = torch.tensor([[0.65, 0.35, 0.25, 0.2, 0.2]], dtype=torch.double)  # a, b, x, y, z
    assert h.decode(decoding.argmax_leaf(probabilities, h)) == [[("b",)]]
    assert h.decode(crm(probabilities, h))[0][0][0] == "a"


@seeds
@pytest.mark.parametrize("inner", [False, True])
def test_crm_costs_by_heights(seed, inner):
    h = random_tree(seed)
    probabilities, _ = distribution(h, 20, seed, inner, peaked=1.0)
    cost = lca_heights(h).double()
    cost[~h.is_leaf] = torch.inf
    assert torch.equal(crm(probabilities, h), expected_cost(probabilities, h, cost))


@seeds
@pytest.mark.parametrize("inner", [False, True])
def test_the_most_probable_end(seed, inner):
    h = random_tree(seed, nodes=12)
    probabilities, ends = distribution(h, 20, seed, inner)
    only = torch.zeros(20, 12, dtype=torch.bool)
    only[torch.arange(20), ends.argmax(1)] = True
    assert torch.equal(argmax_end(probabilities, h), h.close(only))
    assert inner or torch.equal(argmax_end(probabilities, h), decoding.argmax_leaf(probabilities, h))


@seeds
def test_a_threshold_of_one_half_minimises_the_expected_tree_distance(seed):
    h = random_tree(seed, nodes=15)
    probabilities, ends = distribution(h, 20, seed, inner=True)
    distance = tree_distance_matrix(h).double()
    for row, chosen in enumerate(decoding.top_down_threshold(probabilities, h)):
        end = int(h.most_specific(chosen[None])[0].nonzero()[-1]) if chosen.any() else None
        expected = distance[end] @ ends[row] if end is not None else h.depth.double() @ ends[row]
        best = min((distance @ ends[row]).min(), h.depth.double() @ ends[row])
        assert float(expected) == pytest.approx(float(best))


@pytest.mark.parametrize("peaked", [0.0, 1.0, 4.0])
def test_few_candidates_are_enough_or_more_are_tried(peaked, monkeypatch):
    h = random_tree(3, nodes=300)
    probabilities, _ = distribution(h, 30, 0, inner=True, peaked=peaked)
    probabilities += 1e-9 * torch.rand_like(probabilities)  # no two sets are equally good
    few = expected_hf(probabilities, h)
    monkeypatch.setattr("htc.decoding.expected.CANDIDATES", 300)
    assert torch.equal(few, expected_hf(probabilities, h))
    assert h.is_coherent(few).all()


def test_bad_input():
    h = random_tree(0)
    with pytest.raises(InputError, match="beta must be positive"):
        expected_hf(torch.rand(1, h.num_nodes), h, beta=0.0)
    with pytest.raises(InputError, match="a row and a column for each of the 30 nodes"):
        expected_cost(torch.rand(1, h.num_nodes), h, torch.zeros(3, 3))
    with pytest.raises(InputError, match="one row more for no label, but its shape is"):
        expected_cost(torch.rand(1, h.num_nodes), h, torch.zeros(31, 31))
    with pytest.raises(InputError, match="there is no node to predict"):
        expected_cost(torch.rand(1, h.num_nodes), h, torch.full((h.num_nodes, h.num_nodes), torch.inf))
    with pytest.raises(InputError, match="needs a tree"):
        lca_heights(random_dag(0))


@pytest.mark.parametrize("rule", ALL_RULES)
def test_rules_take_arrays_of_numpy_too(rule):
    h = random_tree(0)
    probabilities, _ = distribution(h, 5, 0, inner=True)
    assert torch.equal(ALL_RULES[rule](probabilities.numpy(), h, 0.4), ALL_RULES[rule](probabilities, h, 0.4))
    with pytest.raises(InputError, match="probabilities must have a column for each of the 30 nodes"):
        ALL_RULES[rule](torch.rand(2, 31), h, 0.4)
