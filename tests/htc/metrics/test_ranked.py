import warnings
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from htc import InputError
from htc.labels.label_sets import in_parts
from htc.metrics import ranked
from htc.metrics.ranked import average_precision, precision_at_k, r_precision

from ..conftest import random_dag, random_tree, reordered

AVERAGES = ("micro", "macro", "samples")


def case(seed, ties=False, make=random_tree, documents=25):
    hierarchy = make(seed, 20)
    generator = torch.Generator().manual_seed(seed)
    true = hierarchy.close(torch.rand(documents, 20, generator=generator) < 0.1)
    scores = torch.rand(documents, 20, generator=generator) + 0.3 * true
    return hierarchy, true, (scores * 4).round() / 4 if ties else scores


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", [random_tree, random_dag], ids=["tree", "dag"])
def test_average_precision_is_scikit_learns(make, seed, ties, average):
    hierarchy, true, scores = case(seed, ties, make)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # labels without documents
        expected = average_precision_score(true.numpy(), scores.numpy(), average=average)
    assert average_precision(true, scores, hierarchy, average) == pytest.approx(expected)


@pytest.mark.parametrize("average", AVERAGES)
def test_average_precision_part_by_part(average, monkeypatch):
    hierarchy, true, scores = case(1)
    whole = average_precision(true, scores, hierarchy, average)
    monkeypatch.setattr(ranked, "in_parts", partial(in_parts, cells=60))
    assert average_precision(true, scores, hierarchy, average) == pytest.approx(whole)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_precision_at_k_by_the_book(k, ties):
    hierarchy, true, scores = case(2, ties)
    best = [sorted(range(20), key=lambda n, row=row: (-float(row[n]), n))[:k] for row in scores]
    expected = np.mean([float(labels[top].float().mean()) for labels, top in zip(true, best, strict=True)])
    assert precision_at_k(true, scores, hierarchy, k) == pytest.approx(expected)


@pytest.mark.parametrize("ties", [False, True])
def test_r_precision_by_the_book(ties):
    hierarchy, true, scores = case(3, ties)
    assert not true.any(1).all()  # one document has no label, and counts as 0
    expected = []
    for labels, row in zip(true, scores, strict=True):
        count = int(labels.sum())
        best = sorted(range(20), key=lambda n, row=row: (-float(row[n]), n))[:count]
        expected.append(float(labels[best].float().mean()) if count else 0.0)
    assert r_precision(true, scores, hierarchy) == pytest.approx(np.mean(expected))


def every_metric(true, scores, hierarchy):
    averages = [average_precision(true, scores, hierarchy, average) for average in AVERAGES]
    return [*averages, r_precision(true, scores, hierarchy), *(precision_at_k(true, scores, hierarchy, k) for k in (1, 5))]


def test_the_order_of_documents_and_labels_does_not_matter():
    hierarchy, true, scores = case(4)
    other, new_number = reordered(hierarchy, 1)
    order, documents = new_number.argsort(), torch.randperm(len(true))
    expected = every_metric(true, scores, hierarchy)
    assert every_metric(true[documents][:, order], scores[documents][:, order], other) == pytest.approx(expected)


def test_only_the_order_of_scores_matters():
    hierarchy, true, scores = case(5)
    assert every_metric(true, 3 * scores - 7, hierarchy) == pytest.approx(every_metric(true, scores, hierarchy))


def test_the_truth_itself_is_best():
    hierarchy, true, _ = case(6)
    true = true[true.any(1)]
    assert r_precision(true, true.double(), hierarchy) == 1
    assert average_precision(true, true.double(), hierarchy, "micro") == 1
    assert average_precision(true, true.double(), hierarchy, "samples") == 1


def test_names_and_arrays_are_taken(small):
    true = [["Arts", "Film"], ["Science", "Physics", "Heat"]]
    scores = torch.rand(2, small.num_nodes)
    assert every_metric(true, scores.numpy(), small) == every_metric(small.encode(true).numpy(), scores, small)


def test_no_labels_at_all(small):
    assert every_metric(torch.zeros(2, small.num_nodes), torch.rand(2, small.num_nodes), small) == [0.0] * 6


@pytest.mark.parametrize("k", [0, 21])
def test_an_impossible_k(k):
    hierarchy, true, scores = case(0)
    with pytest.raises(InputError, match=f"k must be from 1 to 20, the number of labels, not {k}"):
        precision_at_k(true, scores, hierarchy, k)


def test_an_unknown_average(small):
    with pytest.raises(InputError, match="micro, macro, samples"):
        average_precision(torch.zeros(1, small.num_nodes), torch.rand(1, small.num_nodes), small, "weighted")
