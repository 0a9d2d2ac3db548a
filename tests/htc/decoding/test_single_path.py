import math

import pytest
import torch

from htc import Hierarchy, InputError, metrics
from htc.decoding.expected import end_probabilities, expected_cost
from htc.decoding.rules import top_down
from htc.decoding.similarity_search import most_similar
from htc.decoding.single_path import (
    expected_tree_distance,
    expected_wu_palmer,
    expected_zhao,
    hie_self,
    information,
    information_weighted,
    most_probable,
    most_specific,
    plurality,
)
from htc.labels.distances import tree_distance_matrix
from htc.losses import ConditionalSoftmax

from ..conftest import random_dag, random_tree, reordered

RULES = {
    "information_weighted": information_weighted,
    "most_specific": most_specific,
    "most_probable": lambda p, h: most_probable(p, h, 1.0),
    "plurality": plurality,
    "hie_self": hie_self,
    "expected_tree_distance": expected_tree_distance,
    "expected_wu_palmer": expected_wu_palmer,
    "expected_zhao": expected_zhao,
}
ON_DAGS = ("information_weighted", "most_specific", "most_probable", "plurality")


def one_path(hierarchy, documents, seed, sharp=3, leaves_only=False):
    """Probabilities of one path, (D, N) float64: some flat, some nearly sure."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.rand(documents, hierarchy.num_nodes, generator=generator).double() ** sharp
    if leaves_only:
        ends[:, ~hierarchy.is_leaf] = 0
    ends /= ends.sum(1, keepdim=True)
    node, ancestor = hierarchy.ancestors
    return torch.zeros_like(ends).index_add(1, ancestor, ends[:, node])


def ends_of(sets, hierarchy):
    """The deepest member of each set, N for none."""
    depth = (sets * hierarchy.depth).amax(1, keepdim=True)
    return torch.where(depth[:, 0] > 0, (sets & (hierarchy.depth == depth)).int().argmax(1), hierarchy.num_nodes)


def likeness(hierarchy, measure):
    """(N, N) by definition: 2 m(lca) / (m(n) + m(e)), 0 for 0 / 0."""
    node, ancestor = hierarchy.ancestors
    above = [set(ancestor[node == n].tolist()) for n in range(hierarchy.num_nodes)]
    m = measure.tolist()
    rows = [[max((m[a] for a in one & other), default=0.0) for other in above] for one in above]
    both = measure[:, None] + measure
    return torch.where(both > 0, 2 * torch.tensor(rows, dtype=torch.double) / both.clamp(min=1e-300), 0.0)


def test_information_is_counted_in_leaves(small):
    for n in range(small.num_nodes):
        node, ancestor = small.ancestors
        below = sum(bool(small.is_leaf[d]) for d in node[ancestor == n])
        assert float(information(small)[n]) == pytest.approx(math.log2(len(small.leaves) / below))


@pytest.mark.parametrize("leaves_only", [False, True])
@pytest.mark.parametrize("sharp", [1, 4, 16])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rule", [expected_wu_palmer, expected_zhao])
def test_the_most_similar_node_by_brute_force_with_bounds_and_without(rule, seed, sharp, leaves_only):
    hierarchy = random_tree(seed, 8 + 9 * seed)
    measure = hierarchy.depth.double() if rule is expected_wu_palmer else information(hierarchy)
    probabilities = one_path(hierarchy, 40, seed, sharp, leaves_only)
    expected = end_probabilities(probabilities, hierarchy) @ likeness(hierarchy, measure).T
    first_of_best = (expected >= expected.amax(1, keepdim=True) - 1e-11).int().argmax(1)
    found = rule(probabilities, hierarchy)
    assert torch.equal(ends_of(found, hierarchy), first_of_best)
    assert hierarchy.is_coherent(found).all()
    assert torch.equal(most_similar(probabilities, hierarchy, measure, prune=False), first_of_best)


@pytest.mark.parametrize("documents_in_a_part", [1, 7])
def test_parts_of_documents_give_the_same(documents_in_a_part, monkeypatch):
    hierarchy = random_tree(1, 60)
    probabilities = one_path(hierarchy, 20, 1)
    whole = expected_zhao(probabilities, hierarchy)
    monkeypatch.setattr("htc.decoding.similarity_search.CELLS", documents_in_a_part * 60)
    assert torch.equal(expected_zhao(probabilities, hierarchy), whole)


def test_the_bounds_prune(monkeypatch):
    """Of 2,000 nodes and 30 documents, whose probabilities are those of an untrained model, few pairs are evaluated."""
    hierarchy = random_tree(0, 2000)
    probabilities = ConditionalSoftmax(hierarchy).probabilities(
        torch.randn(30, 2000, generator=torch.Generator().manual_seed(0))
    )
    evaluated = []
    from htc.decoding import similarity_search

    evaluate = similarity_search._evaluate

    def counting(pairs, row, *rest):
        evaluated.append(len(row))
        return evaluate(pairs, row, *rest)

    monkeypatch.setattr(similarity_search, "_evaluate", counting)
    expected_wu_palmer(probabilities, hierarchy)
    pruned = sum(evaluated)
    evaluated.clear()
    most_similar(probabilities, hierarchy, hierarchy.depth.double(), prune=False)
    assert sum(evaluated) == 30 * 2000
    assert pruned < 0.1 * sum(evaluated)


@pytest.mark.parametrize("seed", range(4))
def test_wu_palmer_is_best_for_its_metric(seed):
    """Over documents drawn from the probabilities, no single node would have scored higher."""
    hierarchy = random_tree(seed, 15)
    probabilities = one_path(hierarchy, 1, seed)
    ends = end_probabilities(probabilities, hierarchy)[0]
    paths = hierarchy.close(torch.eye(hierarchy.num_nodes, dtype=torch.bool))

    def score(node):
        weighted = [
            float(p) * metrics.wu_palmer(t[None], paths[node][None], hierarchy) for p, t in zip(ends, paths, strict=True)
        ]
        return sum(weighted)

    found = int(ends_of(expected_wu_palmer(probabilities, hierarchy), hierarchy)[0])
    assert score(found) == pytest.approx(max(score(node) for node in range(hierarchy.num_nodes)))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sharp", [1, 8])
def test_tree_distance_by_brute_force_over_all_nodes_and_the_root(seed, sharp):
    hierarchy = random_tree(seed, 25)
    probabilities = one_path(hierarchy, 60, seed, sharp)
    ends = end_probabilities(probabilities, hierarchy)
    expected = torch.cat([ends @ tree_distance_matrix(hierarchy).double().T, ends @ hierarchy.depth.double()[:, None]], 1)
    found = ends_of(expected_tree_distance(probabilities, hierarchy), hierarchy)
    torch.testing.assert_close(expected.gather(1, found[:, None])[:, 0], expected.amin(1))
    without_root = expected_cost(probabilities, hierarchy, tree_distance_matrix(hierarchy))
    assert torch.equal(found[found < 25], ends_of(without_root, hierarchy)[found < 25])


def rooted(value, hierarchy):
    return hierarchy.num_nodes if value is None else value


@pytest.mark.parametrize("make", [random_tree, random_dag], ids=["tree", "dag"])
@pytest.mark.parametrize("seed", range(4))
def test_rules_by_information_by_brute_force(make, seed):
    hierarchy = make(seed)
    probabilities = torch.rand(30, hierarchy.num_nodes, generator=torch.Generator().manual_seed(seed)).double()
    bits, depth = information(hierarchy), hierarchy.depth
    for trade_off in (0.0, 0.5, 20.0):
        gain = probabilities * (bits + trade_off)
        best = torch.where(gain.amax(1) >= trade_off, gain.argmax(1), hierarchy.num_nodes)
        expected = hierarchy.close(torch.nn.functional.one_hot(best, hierarchy.num_nodes + 1)[:, :-1].bool())
        assert torch.equal(information_weighted(probabilities, hierarchy, trade_off), expected)
    for value in (0.2, 0.97, 1.1):
        for row, found in zip(probabilities, most_specific(probabilities, hierarchy, value), strict=True):
            allowed = [n for n in range(hierarchy.num_nodes) if row[n] >= value]
            best = max(allowed, key=lambda n: (float(bits[n]), int(depth[n]), float(row[n]), -n), default=None)
            chosen = torch.zeros(1, hierarchy.num_nodes + 1, dtype=torch.bool)
            chosen[0, rooted(best, hierarchy)] = True
            assert torch.equal(found, hierarchy.close(chosen[:, :-1])[0])
    for asked in (0.0, 1.0, float(bits.max())):
        for row, found in zip(probabilities, most_probable(probabilities, hierarchy, asked), strict=True):
            best = max((n for n in range(hierarchy.num_nodes) if bits[n] >= asked), key=lambda n: (float(row[n]), -n))
            assert found[best]
            assert int(found.sum()) == int(hierarchy.closure_size[best])


@pytest.mark.parametrize("seed", range(6))
def test_plurality_by_the_book(seed):
    hierarchy = random_tree(seed, 40)
    probabilities = ConditionalSoftmax(hierarchy).probabilities(
        torch.randn(30, 40, generator=torch.Generator().manual_seed(seed))
    )
    for row, found in zip(probabilities, plurality(probabilities, hierarchy), strict=True):
        at, rejected, chosen = -1, -1.0, set()
        while True:
            children = [n for n in range(40) if int(hierarchy.parent[n]) == at]
            best = max(children, key=lambda n: (float(row[n]), -n), default=None)
            if best is None or float(row[best]) <= rejected:
                break
            rejected = max([rejected, *(float(row[n]) for n in children if n != best)])
            at = best
            chosen.add(best)
        assert set(found.nonzero().flatten().tolist()) == chosen


def test_plurality_goes_no_further_than_top_down():
    hierarchy = random_tree(2, 40)
    probabilities = torch.rand(30, 40)
    assert not (plurality(probabilities, hierarchy) & ~top_down(probabilities, hierarchy)).any()


@pytest.mark.parametrize("seed", range(3))
def test_hie_self_by_brute_force(seed):
    hierarchy = random_tree(seed)
    probabilities = torch.rand(20, hierarchy.num_nodes)
    for row, found in zip(probabilities, hie_self(probabilities, hierarchy), strict=True):
        above = [float(row[p]) if p >= 0 else 1.0 for p in hierarchy.parent.tolist()]
        best = max(hierarchy.leaves.tolist(), key=lambda n: float(row[n]) * above[n])
        assert found[best]
        assert int(found.sum()) == int(hierarchy.depth[best])


@pytest.mark.parametrize("rule", RULES)
def test_rules_do_not_depend_on_the_order_of_labels_or_documents(rule):
    hierarchy = random_tree(3, 40)
    other, new_number = reordered(hierarchy, 1)
    probabilities = one_path(hierarchy, 25, 3)
    order = torch.randperm(25)
    found = RULES[rule](probabilities, hierarchy)
    assert torch.equal(RULES[rule](probabilities[order], hierarchy), found[order])
    assert torch.equal(RULES[rule](probabilities[:, new_number.argsort()], other)[:, new_number], found)


@pytest.mark.parametrize("rule", RULES)
def test_rules_give_one_path_and_take_arrays_and_nothing(rule):
    hierarchy = random_tree(4, 40)
    probabilities = one_path(hierarchy, 25, 4)
    found = RULES[rule](probabilities, hierarchy)
    assert found.dtype == torch.bool
    assert torch.equal(found.sum(1), (found * hierarchy.depth).amax(1))
    assert torch.equal(RULES[rule](probabilities.numpy(), hierarchy), found)
    assert RULES[rule](probabilities[:0], hierarchy).shape == (0, 40)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in ON_DAGS])
def test_rules_that_need_a_tree_say_so(rule):
    hierarchy = random_dag(0)
    with pytest.raises(InputError, match="needs a tree"):
        RULES[rule](torch.rand(3, hierarchy.num_nodes), hierarchy)


@pytest.mark.parametrize("rule", ON_DAGS)
def test_rules_that_take_a_dag(rule):
    hierarchy = random_dag(1)
    found = RULES[rule](torch.rand(10, hierarchy.num_nodes), hierarchy)
    assert hierarchy.is_coherent(found).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "hierarchy",
    [Hierarchy(["one"], [[]]), Hierarchy.from_paths([["a", "b", "c"]]), Hierarchy(["a", "b", "c"], [[], [], []])],
    ids=["one node", "a chain", "flat"],
)
def test_rules_on_tiny_hierarchies(rule, hierarchy):
    if RULES[rule] is RULES["most_probable"] and float(information(hierarchy).max()) < 1:
        with pytest.raises(InputError, match=r"no node has 1.0 bits of information; leaves have the most, 0.0000"):
            RULES[rule](torch.ones(1, hierarchy.num_nodes), hierarchy)
        return
    found = RULES[rule](one_path(hierarchy, 4, 0), hierarchy)
    assert hierarchy.is_coherent(found).all()


def test_a_negative_trade_off(small):
    with pytest.raises(InputError, match="must not be negative"):
        information_weighted(torch.rand(1, small.num_nodes), small, -0.1)
