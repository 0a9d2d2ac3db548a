"""The forms in which metrics take label sets, and what they say to other forms."""

import warnings

import numpy as np
import pandas
import pytest
import scipy.sparse
import torch

from htc import Hierarchy, InputError, metrics
from htc.labels.label_sets import as_scores
from htc.metrics import as_label_sets

from ..conftest import random_dag, random_tree
from ..metrics.test_metric_definitions import drawn


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


@pytest.mark.parametrize(
    "form",
    [
        np.array([["Arts", "Film"], ["Science", ""]]),
        [["Arts", "Film"], ["Science", ""]],
        [{"Arts", "Film"}, {"Science"}],
        pandas.Series([["Arts", "Film"], ["Science"]]),
        np.array([["Arts", "Film"], ["Science"]], dtype=object),
        pandas.DataFrame([["Arts", "Film"], ["Science", None]]),
        pandas.DataFrame([["Arts", "Film"], ["Science", float("nan")]]),
        ["Film", "Science"],
        np.array(["Film", "Science"]),
        pandas.Series(["Film", "Science"]),
        pandas.DataFrame({"a": ["Arts", "Science"], "b": ["Film", pandas.NA]}, dtype="string"),
        [[["Arts", "Film", None]], [["Science", ""]]],
        (("Arts", "Film"), ("Science",)),
    ],
    ids=lambda form: type(form).__name__,
)
def test_names_in_all_their_forms(small, form):
    expected = small.encode([["Arts", "Film"], ["Science"]])
    assert torch.equal(as_label_sets(form, small), expected)


def test_arrays_in_all_their_forms(small):
    expected = small.encode([["Arts", "Film"], ["Science"]])
    array = expected.numpy().astype(int)
    backwards = np.ascontiguousarray(array[::-1])[::-1]  # with a negative stride
    fixed = array.copy()
    fixed.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for form in (backwards, fixed, array.astype(object), list(array), [list(row) for row in array.astype(bool)]):
            assert torch.equal(as_label_sets(form, small), expected)


@pytest.mark.parametrize("paths", [False, True])
@pytest.mark.parametrize("several_lines", [False, True])
def test_frames_with_a_column_for_each_node_in_any_order(paths, several_lines):
    h = Hierarchy.from_paths([["Arts", "Film"], ["Arts", "Music"], ["Science", "Heat"]])
    expected = h.encode([["Arts", "Film"], ["Science"]])
    names = [path if paths else path[-1:] for path in h.paths]
    columns = [(*name, "", float("nan"))[:3] if several_lines else " > ".join(name) for name in names]
    frame = pandas.DataFrame(expected.int().numpy())
    frame.columns = pandas.MultiIndex.from_tuples(columns) if several_lines else columns
    for given in (frame, frame.iloc[:, ::-1]):
        assert torch.equal(as_label_sets(given, h), expected)
        assert torch.equal(as_scores(given / 2, h), expected.double() / 2)


BLANK = [[1, 0, None], [0, 1, 0]]


@pytest.mark.parametrize(
    "make",
    [
        lambda array: pandas.DataFrame(array).astype("Int64"),
        lambda array: pandas.DataFrame(array).astype("boolean"),
        lambda array: pandas.DataFrame(array).astype(object),
        lambda array: array.astype(float),
        lambda array: array.astype(float).tolist(),
        lambda array: np.ma.masked_invalid(array.astype(float)),
        lambda array: np.ma.array(np.ones(array.shape, int), mask=np.equal(array, None)),
    ],
)
def test_a_blank_among_numbers_is_neither_0_nor_1(make):
    flat = Hierarchy.from_paths([["Arts"], ["Film"], ["Science"]])
    labels = make(np.array(BLANK, dtype=object))
    with pytest.raises(InputError, match="y must hold 0 and 1 only, but document 0 has a blank"):
        as_label_sets(labels, flat, "y")
    with pytest.raises(InputError, match="y holds NaN for document 0"):
        as_scores(labels, flat, "y")


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
        (
            ["Arts", 3],
            "y_pred: document 1: labels must be a list of names or of paths, and labels are texts, but 3 is a number",
        ),
        ([1, 2], "its shape is \\(2,\\)"),
    ],
)
def test_what_is_no_label_set(small, labels, message):
    with pytest.raises(InputError, match=message):
        metrics.exact_match(small.encode([["Arts"], ["Arts"]]), labels, small)


def test_what_is_read_but_once_and_what_is_ragged(small):
    expected = small.encode([["Arts", "Film"], ["Science"]])
    assert torch.equal(as_label_sets(iter([["Arts", "Film"], ["Science"]]), small), expected)
    with pytest.raises(InputError, match="labels: the rows of numbers are not all of one length"):
        as_label_sets([[1, 0, 0], [1]], small)


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


@pytest.mark.parametrize(
    ("metric", "average"),
    [
        ("f1", "weighted"),
        ("hierarchical_precision_recall_f", "sample"),
        ("path_f1", "samples"),
        ("path_constrained_f1", "samples"),
    ],
)
def test_an_average_that_a_metric_does_not_have(small, metric, average):
    with pytest.raises(InputError, match=f"average must be one of micro, macro.*, not '{average}'"):
        getattr(metrics, metric)([["Arts"]], [["Arts"]], small, average=average)


def test_whole_numbers_are_scores_too(small):
    targets = small.encode([["Arts", "Film"], ["Science"]])
    thresholds = [0.25, 0.5, 0.75]
    for found, expected in zip(
        metrics.micro_curve(targets, targets.int(), small, thresholds),
        metrics.micro_curve(targets, targets.float(), small, thresholds),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, check_dtype=False)
    with pytest.raises(InputError, match="ascending"):
        metrics.micro_curve(targets, targets.float(), small, [0.5, 0.25])


def test_an_incoherence_rate_of_nothing(small):
    with pytest.raises(InputError, match="there is no document to score"):
        metrics.incoherence_rate(torch.zeros(0, small.num_nodes), small)
