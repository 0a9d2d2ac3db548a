import math

import pytest
import torch
from torch import nn

from htc import Hierarchy, InputError
from htc.losses import BCE, ConditionalSigmoid
from htc.models import HGCLR, LabelGraph, TokenGate, nt_xent
from htc.models.hgclr import distances, straight_through

from ..conftest import random_dag, random_tree, reordered

DIM, WORDS = 16, 6


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def forest():
    return Hierarchy.from_paths([["Arts", "Music", "Jazz"], ["Arts", "Film"], ["Science", "Physics"]])


def graph(hierarchy):
    return LabelGraph(hierarchy, DIM, heads=4)


def test_distances_by_hand(forest):
    assert forest.names == ("Arts", "Science", "Music", "Film", "Physics", "Jazz")
    assert distances(forest).tolist() == [
        [0, 2, 1, 1, 3, 2],
        [2, 0, 3, 3, 1, 4],
        [1, 3, 0, 2, 4, 1],
        [1, 3, 2, 0, 4, 3],
        [3, 1, 4, 4, 0, 5],
        [2, 4, 1, 3, 5, 0],
    ]


def test_the_bias_is_of_the_distance_and_of_the_edges_on_the_way(forest):
    made = graph(forest)
    bias, b, w = made.bias(), made.distance_bias, made.edge_weight
    arts, science, music, film, physics, jazz = range(6)
    for one, other, way in [
        (jazz, film, [jazz, music, film]),
        (jazz, arts, [jazz, music]),
        (arts, science, [arts, science]),
        (physics, jazz, [physics, science, jazz, music, arts]),
    ]:
        expected = b[len(way)] + w[way].mean()
        torch.testing.assert_close(bias[one, other], expected)
    torch.testing.assert_close(bias.diagonal(), b[0].expand(6))


@pytest.mark.parametrize("make", [random_tree, random_dag], ids=["tree", "dag"])
@pytest.mark.parametrize("seed", range(3))
def test_the_bias_against_sets_of_ancestors(make, seed):
    hierarchy = make(seed)
    made = graph(hierarchy)
    node, ancestor = hierarchy.ancestors
    above = [set(ancestor[node == n].tolist()) for n in range(hierarchy.num_nodes)]
    bias = made.bias()
    assert torch.equal(bias, bias.T)
    assert bias.isfinite().all()
    for one in range(hierarchy.num_nodes):
        for other in range(one):
            way = sorted(above[one] ^ above[other])
            assert len(way) == made.distance[one, other]
            expected = made.distance_bias[len(way)] + made.edge_weight[way].mean()
            torch.testing.assert_close(bias[one, other], expected, atol=1e-6, rtol=1e-4)


def test_a_constant_on_the_bias_changes_nothing(forest):
    made, names = graph(forest).eval(), torch.randn(6, DIM)
    before = made(names)
    made.distance_bias.data += 3.0
    torch.testing.assert_close(made(names), before)


def test_attention_is_that_of_the_formula(forest):
    made, names = graph(forest).eval(), torch.randn(6, DIM)
    features = names + made.id_embedding.weight
    query, key, value = made.attention_in(features).chunk(3, 1)
    heads = []
    for head in range(4):
        part = slice(4 * head, 4 * head + 4)
        heads.append((query[:, part] @ key[:, part].T / 2 + made.bias()).softmax(1) @ value[:, part])
    expected = made.norm(features + made.attention_out(torch.cat(heads, 1)))
    torch.testing.assert_close(made(names), expected)


@pytest.mark.parametrize("make", [random_tree, random_dag], ids=["tree", "dag"])
def test_numbering_the_labels_otherwise_renumbers_their_features(make):
    hierarchy = make(1)
    other, new_number = reordered(hierarchy, 2)
    one, two = graph(hierarchy).eval(), graph(other).eval()
    order, state = new_number.argsort(), one.state_dict()
    two.load_state_dict(state | {name: state[name][order] for name in ("edge_weight", "id_embedding.weight")})
    names = torch.randn(hierarchy.num_nodes, DIM)
    torch.testing.assert_close(one(names)[order], two(names[order]))


def gate_inputs(documents=5, labels=7):
    words, features = torch.randn(documents, WORDS, DIM, requires_grad=True), torch.randn(labels, DIM, requires_grad=True)
    targets = torch.rand(documents, labels) < 0.4
    targets[:, 0] = True
    return words, features, targets


def test_the_gate_is_0_or_1_and_passes_gradients_where_it_keeps():
    shares = torch.tensor([0.1, 0.3, 0.0, 0.9, 0.3], requires_grad=True)
    gate = straight_through(shares, 0.3)
    assert gate.tolist() == [0.0, 1.0, 0.0, 1.0, 1.0]
    gate.sum().backward()
    assert shares.grad.tolist() == [0.0, 1.0, 0.0, 1.0, 1.0]


def test_the_gate_learns():
    words, features, targets = gate_inputs()
    made = TokenGate(DIM, heads=4, threshold=0.3)
    gate = made(words, features, targets)
    assert set(gate.unique().tolist()) == {0.0, 1.0}
    (gate * torch.randn_like(gate)).sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())
    assert made.query.weight.grad.abs().sum() > 0
    assert words.grad.abs().sum() > 0


def test_a_threshold_of_0_keeps_every_word():
    assert (TokenGate(DIM, heads=4, threshold=0.0)(*gate_inputs()) == 1).all()


def test_shares_of_all_labels_are_1():
    words, features, targets = gate_inputs()
    shares = TokenGate(DIM, heads=4).shares(words, features, torch.ones_like(targets))
    torch.testing.assert_close(shares, torch.ones(5, WORDS))


def by_loops(views, temperature):
    unit = [view / view.norm() for view in views]
    total = 0.0
    for i, one in enumerate(unit):
        partner = (i + len(unit) // 2) % len(unit)
        others = [float(one @ other) / temperature for j, other in enumerate(unit) if j != i]
        total += -float(one @ unit[partner]) / temperature + math.log(sum(math.exp(value) for value in others))
    return total / len(unit)


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("documents", [2, 5])
def test_nt_xent_against_loops(documents, temperature):
    views = torch.randn(2 * documents, DIM)
    assert float(nt_xent(views, temperature)) == pytest.approx(by_loops(views, temperature), rel=1e-5)


def test_nt_xent_does_not_depend_on_the_order_of_documents():
    first, second, order = torch.randn(5, DIM), torch.randn(5, DIM), torch.randperm(5)
    same = nt_xent(torch.cat([first[order], second[order]]))
    torch.testing.assert_close(nt_xent(torch.cat([first, second])), same)


def test_nt_xent_of_one_document_is_0():
    assert float(nt_xent(torch.randn(2, DIM))) == 0


class Toy(nn.Module):
    """An encoder: word embeddings, and the mean of a layer on them."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30, DIM)
        self.layer = nn.Linear(DIM, DIM)

    def forward(self, words):
        return self.layer(words).tanh().mean(1)


@pytest.mark.parametrize("make", [random_tree, random_dag], ids=["tree", "dag"])
@pytest.mark.parametrize("objective", [BCE, ConditionalSigmoid])
def test_the_term_trains_everything(make, objective, make_targets):
    hierarchy = make(0)
    objective, toy, head = objective(hierarchy), Toy(), nn.Linear(DIM, hierarchy.num_nodes)
    model = HGCLR(hierarchy, [[1, 2 + n % 20] for n in range(hierarchy.num_nodes)], DIM, graph_heads=4, threshold=0.05)
    words = toy.words(torch.randint(0, 30, (4, WORDS)))
    targets = make_targets(hierarchy, 4)
    term = model(toy(words), words, targets, toy.words, toy, lambda vectors: objective.loss(head(vectors), targets))
    term.backward()
    for module in (model, toy, head):
        assert not [name for name, parameter in module.named_parameters() if parameter.grad is None]
    assert model.graph.edge_weight.grad.abs().sum() > 0


def test_a_weight_of_0_still_learns_from_the_second_view(forest):
    toy, targets = Toy(), torch.eye(6, dtype=torch.bool)[:3]
    model = HGCLR(forest, [[1]] * 6, DIM, weight=0.0, graph_heads=4, threshold=0.0, dropout=0.0)
    words = toy.words(torch.randint(0, 30, (3, WORDS)))
    term = model(toy(words), words, targets, toy.words, toy, lambda vectors: vectors.square().sum())
    torch.testing.assert_close(term, toy(words).square().sum())


def test_names_are_averaged_without_padding(forest):
    model = HGCLR(forest, [[1], [2, 3], [4], [5], [6], [7, 8, 9]], DIM, graph_heads=4).eval()
    seen = []
    model.graph.forward = lambda names: seen.append(names) or names
    words = nn.Embedding(30, DIM)
    model.label_features(words)
    torch.testing.assert_close(seen[0][1], words.weight[[2, 3]].mean(0))
    torch.testing.assert_close(seen[0][5], words.weight[[7, 8, 9]].mean(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gate_heads": 5}, "cannot be divided among 5 heads"),
        ({"graph_heads": 5}, "cannot be divided among 5 heads"),
        ({"threshold": 1.0}, r"threshold in \[0, 1\)"),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"weight": -1.0}, "not negative"),
        ({"similarity_temperature": 0.0}, "similarity temperature"),
        ({"name_ids": [[1]] * 5}, "6 names"),
        ({"name_ids": [[1]] * 5 + [[]]}, "none of them empty"),
    ],
)
def test_settings_that_cannot_be(forest, settings, message):
    with pytest.raises(InputError, match=message):
        HGCLR(forest, **{"name_ids": [[1]] * 6, "dim": DIM, "graph_heads": 4} | settings)


def test_too_many_labels():
    with pytest.raises(InputError, match="at most 20000"):
        graph(random_tree(0, 20_001))
