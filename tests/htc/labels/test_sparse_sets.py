"""Label sets as pairs equal label sets as cells, for everything that is done with them."""

import pytest
import torch

from htc import Hierarchy
from htc.labels.label_sets import as_label_sets, as_sparse_sets, documents_per_label, in_parts, labels_per_document
from htc.labels.sparse_sets import SparseSets

from ..conftest import random_dag, random_tree

CASES = [
    (make, share, documents) for make in (random_tree, random_dag) for share in (0.0, 0.05, 0.4, 1.0) for documents in (1, 23)
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].__name__}-{case[1]}-{case[2]}")
def case(request):
    make, share, documents = request.param
    generator = torch.Generator().manual_seed(documents)
    sets = torch.rand(documents, 30, generator=generator) < share
    sets[::5] = False  # empty sets, among them the first
    return make(3), sets


def test_operations_along_the_hierarchy(case):
    hierarchy, sets = case
    sparse = SparseSets.of(sets)
    assert torch.equal(hierarchy.close(sparse).dense(), hierarchy.close(sets))
    assert torch.equal(hierarchy.most_specific(sparse).dense(), hierarchy.most_specific(sets))
    parent, child = hierarchy.edges
    coherent = ~(sets[:, child] & ~sets[:, parent]).any(1)
    assert torch.equal(hierarchy.is_coherent(sparse), coherent)
    assert torch.equal(hierarchy.is_coherent(sets), coherent)
    assert hierarchy.decode(sparse) == hierarchy.decode(sets)


def test_rows_counts_and_parts(case):
    _, sets = case
    sparse = SparseSets.of(sets)
    documents = torch.randint(len(sets), (40,))
    for which in (
        documents,
        documents[:0],
        -1 - documents,
        sets.any(1),
        slice(None),
        slice(2, 9),
        slice(5, 2),
        slice(-3, None),
        slice(0, 20, 3),
    ):
        assert torch.equal(sparse[which], sets[which])
        assert torch.equal(sparse.select(which).dense(), sets[which])
    assert torch.equal(sparse[0], sets[0])
    assert torch.equal(sparse[-1], sets[-1])
    assert torch.equal(torch.stack(list(sparse)), sets)
    assert torch.equal(sparse.nonzero(), sets.nonzero())
    assert torch.equal(sparse.sum(0), sets.sum(0))
    assert torch.equal(documents_per_label(sets), sets.sum(0))
    assert torch.equal(sparse.sum(1), sets.sum(1))
    assert torch.equal(labels_per_document(sets), sets.sum(1))
    for part, dense in in_parts(sparse, sets, cells=4 * 30):
        assert torch.equal(part.dense(), dense)
    assert SparseSets.joined(list(sparse.split(7))) == sparse


def test_two_sets_of_each_document(case):
    _, sets = case
    other = sets.roll(1, dims=1) | sets.roll(1, dims=0)
    sparse, of_other = SparseSets.of(sets), SparseSets.of(other)
    assert torch.equal(sparse.common(of_other).dense(), sets & other)
    _, found = of_other.find(sparse.document, sparse.node)
    assert torch.equal(sparse.keep(~found).dense(), sets & ~other)
    assert bool(sparse == of_other) == torch.equal(sets, other)


def test_pairs_in_any_order_count_once():
    document, node = torch.tensor([2, 0, 2, 0]), torch.tensor([1, 3, 1, 0])
    sets = SparseSets.of_pairs(document, node, (4, 5))
    assert sets.nonzero().tolist() == [[0, 0], [0, 3], [2, 1]]


def test_a_document_without_labels_and_no_document(small):
    assert small.encode_sparse([["Arts"], []], allow_empty=True).dense().sum(1).tolist() == [1, 0]
    none = small.encode_sparse([])
    assert none.dense().shape == (0, small.num_nodes)
    assert small.decode(none) == []


def test_forms_of_labels_become_pairs_without_cells(small):
    scipy = pytest.importorskip("scipy.sparse")
    cells = small.encode([["Arts", "Film"], [["Arts", "Music"], ["Science"]], ["Science"]])
    cells[2] = False
    for form in (
        cells,
        cells.int(),
        cells.numpy(),
        scipy.csr_matrix(cells.numpy()),
        scipy.coo_array(cells.numpy().astype(float)),
    ):
        assert torch.equal(as_sparse_sets(form, small).dense(), cells)
        assert torch.equal(as_label_sets(form, small), cells)
    for form in (SparseSets.of(cells), small.decode(cells)):
        assert torch.equal(as_label_sets(form, small), cells)


def test_sizes_for_which_there_is_no_room_for_cells():
    hierarchy = Hierarchy([f"n{i}" for i in range(20_000)], [[]] + [[(i - 1) // 10] for i in range(1, 20_000)])
    leaf = int(hierarchy.leaves[-1])
    sets = hierarchy.closed_sets([[leaf]] * 200_000)  # 4 GB as cells
    assert sets.sum(1).unique().tolist() == [len(hierarchy.paths[leaf])]
    assert hierarchy.most_specific(sets).sum(0)[leaf] == 200_000
    assert sets[torch.tensor([199_999])].sum() == len(hierarchy.paths[leaf])
