import pytest
import torch
from torch import nn

from htc import InputError
from htc.losses import BCE, ConditionalSoftmax, LeafSoftmax
from htc.models import HiTIN, coding_tree
from htc.models.hitin import MatrixMixing, ScaleMixing

from ..conftest import random_dag, random_tree, reordered

DIM = 12


def model(hierarchy, outputs=5, height=2, **settings):
    torch.manual_seed(0)
    return HiTIN(coding_tree(hierarchy, height), DIM, outputs, **settings)


def settled(hierarchy, **settings):
    """In evaluation, with running statistics that are not those of the start."""
    made = model(hierarchy, **settings)
    made(torch.randn(8, DIM))
    return made.eval()


MADE = [random_tree, random_dag]
SETTINGS = [{}, {"height": 4}, {"mixing": "scale"}, {"pooling": "mean"}, {"pooling": "max"}, {"pooling": "root"}, {"hidden": 7}]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("make", MADE, ids=["tree", "dag"])
def test_scores_do_not_depend_on_the_batch(make, settings):
    made, vectors = settled(make(1), **settings), torch.randn(6, DIM)
    together = made(vectors)
    alone = torch.cat([made(vector[None]) for vector in vectors])
    order = torch.randperm(6)
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together[order], made(vectors[order]))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_parameter_learns(settings):
    made = model(random_tree(2), **settings)
    made(torch.randn(6, DIM)).square().sum().backward()
    assert not [name for name, parameter in made.named_parameters() if parameter.grad is None]
    assert made.leaves[1].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch_trains(batch):
    made = model(random_tree(0))
    assert made(torch.randn(batch, DIM)).isfinite().all()
    assert all(buffer.isfinite().all() for buffer in made.buffers())


@pytest.mark.parametrize("objective", [BCE, LeafSoftmax, ConditionalSoftmax])
def test_any_objective_reads_it(objective, make_targets):
    hierarchy = random_tree(3)
    objective = objective(hierarchy)
    made = model(hierarchy, objective.num_outputs)
    logits = made(torch.randn(4, DIM))
    assert objective.probabilities(logits).shape == (4, hierarchy.num_nodes)
    assert objective.loss(logits, make_targets(hierarchy, 4)).isfinite()


def test_children_are_summed_by_0_1_matrices_with_one_1_a_column():
    made = model(random_tree(4), height=3)
    for layer in made.layers:
        matrix = torch.zeros(layer.size, len(layer.parent))
        matrix[layer.parent, torch.arange(len(layer.parent))] = 1
        assert (matrix.sum(0) == 1).all()
        nodes = torch.randn(2, len(layer.parent), DIM)
        layer.eval()
        expected = layer.outer(layer.second(layer.inner(layer.first(torch.matmul(matrix, nodes).flatten(0, 1))).relu())).relu()
        torch.testing.assert_close(layer(nodes), expected.view(2, -1, DIM))


def test_leaves_have_rank_two_in_evaluation_and_more_in_training():
    made = settled(random_tree(5))
    vector = torch.randn(1, DIM)
    assert torch.linalg.matrix_rank(made.leaves(vector)[0]) == 2
    assert torch.linalg.matrix_rank(made.train().leaves(vector)[0]) > 2


def test_mixing_without_dropout_is_the_matrix_itself():
    mixing, vectors = MatrixMixing(9, dropout=0.1).eval(), torch.randn(3, DIM)
    copies = vectors[:, None].expand(-1, 9, -1)
    expected = mixing.along_labels(copies.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(mixing(vectors), expected)
    in_training = torch.stack([mixing.train()(vectors) for _ in range(2000)]).mean(0)
    torch.testing.assert_close(in_training, expected, atol=0.1, rtol=0.0)


def test_scale_can_be_all_that_a_matrix_is():
    matrix, scale = MatrixMixing(9, dropout=0.1).eval(), ScaleMixing(9, dropout=0.1).eval()
    scale.scale.data, scale.shift.data = matrix.along_labels.weight.sum(1), matrix.along_labels.bias.data
    vectors = torch.randn(3, DIM)
    torch.testing.assert_close(matrix(vectors), scale(vectors))


@pytest.mark.parametrize("training", [True, False])
def test_before_training_a_base_is_left_as_it_is_bit_for_bit(training):
    base = nn.Sequential(nn.Dropout(0.1), nn.Linear(DIM, 5))
    made, vectors = model(random_tree(6), base=base), torch.randn(6, DIM)
    made.train(training)
    torch.manual_seed(1)
    logits = made(vectors)
    torch.manual_seed(1)
    assert torch.equal(logits, base(vectors))
    logits.sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in made.output_weights)


def test_numbering_the_labels_otherwise_changes_nothing():
    hierarchy = random_tree(7)
    other, new_number = reordered(hierarchy, 3)
    one, two = settled(hierarchy, height=3).double(), settled(other, height=3).double()
    state = one.state_dict()
    weight, bias = "leaves.2.along_labels.weight", "leaves.2.along_labels.bias"
    order = new_number.argsort()
    state |= {weight: state[weight][order][:, order], bias: state[bias][order]}
    two.load_state_dict(state)
    vectors = torch.randn(3, DIM).double()
    torch.testing.assert_close(one(vectors), two(vectors))


@pytest.mark.parametrize(
    ("settings", "message"), [({"mixing": "rows"}, "matrix or scale"), ({"pooling": "first"}, "sum, mean, max or root")]
)
def test_unknown_settings(settings, message):
    with pytest.raises(InputError, match=message):
        model(random_tree(0), **settings)


def test_a_mixing_matrix_that_would_not_fit():
    with pytest.raises(InputError, match="mixing 'scale'"):
        HiTIN(coding_tree(random_tree(0, 20_001)), DIM, 5)
