"""The forms in which metrics take label sets, and what they say to other forms."""

import numpy as np
import pytest
import scipy.sparse
import torch

from htc import InputError, metrics
from htc.metrics import as_label_sets

from .conftest import random_dag, random_tree
from .test_metric_definitions import drawn


@pytest.mark.parametrize("make", [random_tree, random_dag])
def test_every_form_gives_the_same_score(make):
    h, true, predicted = drawn(make, 0)
    predicted = h.close(predicted)
    expected = metrics.hierarchical_precision_recall_f(true, predicted, h)
    forms = [
        (true.numpy(), predicted.numpy()),
        (true.int(), predicted.double()),
        (true.tolist(), predicted.int().tolist()),
        (scipy.sparse.csr_array(true.numpy()), scipy.sparse.csr_array(predicted.numpy())),
        (h.decode(true), h.decode(predicted)),
        (h.decode(true), predicted.numpy()),
    ]
    for y_true, y_pred in forms:
        assert metrics.hierarchical_precision_recall_f(y_true, y_pred, h) == expected


def test_names_and_paths_and_nothing(small):
    sets = as_label_sets([["Arts", "Film"], [["Arts", "Music"], ["Science", "Physics", "Heat"]], []], small)
    assert small.decode(sets) == [[("Arts", "Film")], [("Arts", "Music"), ("Science", "Physics", "Heat")], []]
    assert as_label_sets([], small).shape == (0, small.num_nodes)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 3)), r"y_pred must have a column for each of the \d+ nodes"),
        (np.zeros(5), "its shape is \\(5,\\)"),
        ([["Arts", "Fiml"], ["Arts"]], "y_pred: document 0: the label 'Fiml' is not in the taxonomy; did you mean 'Film'"),
        (["Arts", "Film"], "y_pred: document 0: labels must be a list"),
    ],
)
def test_what_is_no_label_set(small, labels, message):
    with pytest.raises(InputError, match=message):
        metrics.exact_match(small.encode([["Arts"], ["Arts"]]), labels, small)


def test_probabilities_are_no_label_sets(small):
    targets = small.encode([["Arts"], ["Arts"]])
    with pytest.raises(InputError, match="y_pred must hold 0 and 1 only; decode probabilities"):
        metrics.exact_match(targets, torch.rand(targets.shape), small)
    with pytest.raises(InputError, match="y_true must hold 0 and 1 only"):  # arguments in the wrong order
        metrics.hf1_auc(torch.rand(targets.shape), targets.float(), small)


def test_as_many_on_both_sides_and_not_none(small):
    targets = small.encode([["Arts"], ["Arts"]])
    with pytest.raises(InputError, match="y_true has 2 documents, but there are predictions for 1"):
        metrics.exact_match(targets, targets[:1], small)
    with pytest.raises(InputError, match="there is no document to score"):
        metrics.exact_match(targets[:0], targets[:0], small)
    with pytest.raises(InputError, match="y_true has 2 documents"):
        metrics.hf1_auc(targets, torch.rand(3, small.num_nodes), small)


def test_scores_that_are_none(small):
    targets = small.encode([["Arts"], ["Arts"]])
    scores = torch.rand(targets.shape)
    scores[1, 2] = torch.nan
    with pytest.raises(InputError, match="y_score holds NaN for document 1"):
        metrics.hf1_auc(targets, scores, small)
    targets[1] = False
    with pytest.raises(InputError, match="document 1 has no label, and so no recall"):
        metrics.hf1_auc(targets, torch.rand(targets.shape), small)
