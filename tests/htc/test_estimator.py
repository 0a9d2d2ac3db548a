"""HierarchicalClassifier: scikit-learn's own checks, and what it promises besides."""

import warnings
from functools import partial

import numpy as np
import pandas
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from htc import Hierarchy, InputError, decoding, metrics
from htc.estimator import HierarchicalClassifier
from htc.losses import OBJECTIVES

from .conftest import random_dag, random_tree, single_paths

MARGINALS = "a binary objective gives the probability of each label by itself: they do not sum to one"


def expected_failures(estimator):
    return {"check_classifiers_train": MARGINALS} if estimator.objective == "bce" else {}


@parametrize_with_checks(
    [HierarchicalClassifier(), HierarchicalClassifier(objective="bce")], expected_failed_checks=expected_failures
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def data(hierarchy, documents=150, noise=0.4, seed=0):
    """Features that predict paths, roughly."""
    rng = np.random.default_rng(seed)
    targets = single_paths(hierarchy, documents, seed).numpy()
    return targets @ rng.normal(size=(hierarchy.num_nodes, 12)) + noise * rng.normal(size=(documents, 12)), targets


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_learns(objective):
    h = random_tree(1, nodes=15)
    X, y = data(h)
    model = HierarchicalClassifier(h, objective).fit(X, y)
    assert model.score(X, y) > 0.9
    assert model.predict_proba(X).shape == y.shape
    assert model.score(X, y) == pytest.approx(metrics.hierarchical_precision_recall_f(y, model.predict(X), h)[2])


@pytest.mark.parametrize("decoder", ["top_down", "argmax_leaf", "expected_hf", "crm", "threshold"])
def test_every_form_of_labels_trains_the_same_model(decoder):
    h = random_tree(1, nodes=15)
    X, y = data(h)
    paths = [labels[0] for labels in h.decode(metrics.as_label_sets(y, h))]
    rows = np.array([list(path) + [""] * (h.max_depth - len(path)) for path in paths])
    names = np.array([path[-1] for path in paths])
    forms = {"multi-hot": y, "sparse": scipy.sparse.csr_array(y), "paths": paths, "rows": rows, "names": names}
    models = {form: HierarchicalClassifier(h, decoder=decoder).fit(X, labels) for form, labels in forms.items()}
    for form, model in models.items():
        np.testing.assert_allclose(model.coef_, models["multi-hot"].coef_)
        assert model.score(X, forms[form]) == models["multi-hot"].score(X, y)
    assert (
        models["paths"].predict(X)
        == models["rows"].predict(X)
        == h.decode(metrics.as_label_sets(models["sparse"].predict(X), h))
    )
    if decoder in ("top_down", "argmax_leaf", "crm"):
        assert [labels[0][-1] for labels in models["paths"].predict(X)] == models["names"].predict(X).tolist()


def test_the_flat_softmax_is_logistic_regression():
    X, y = make_classification(200, n_classes=4, n_informative=6, random_state=0)
    theirs = LogisticRegression(C=1 / (0.01 * len(X)), tol=1e-8, max_iter=1000).fit(X, y)
    ours = HierarchicalClassifier(C=1 / (0.01 * len(X)), tol=1e-8, max_iter=1000).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y))


def test_several_paths_and_a_dag():
    h = random_dag(2, nodes=12)
    rng = np.random.default_rng(0)
    y = h.close(single_paths(h, 80, 1) | single_paths(h, 80, 2)).numpy()
    X = y @ rng.normal(size=(12, 12)) + 0.1 * rng.normal(size=(80, 12))
    for objective in ("bce", "conditional_sigmoid"):
        model = HierarchicalClassifier(h, objective, C=100.0).fit(X, y)
        assert model.score(X, y) > 0.95
        assert h.is_coherent(model.predict_sets(X)).all()


def test_labels_that_end_at_inner_nodes_with_a_stop_event():
    h = random_tree(1, nodes=15)
    rng = np.random.default_rng(0)
    y = single_paths(h, 150, leaves_only=False).numpy()
    X = y @ rng.normal(size=(15, 12)) + 0.1 * rng.normal(size=(150, 12))
    model = HierarchicalClassifier(h, objective_params={"stop": True}).fit(X, y)
    assert metrics.exact_match(y, model.predict(X), h) > 0.9


def test_the_recursive_penalty_draws_children_to_their_parents():
    h = random_tree(1, nodes=15)
    X, y = data(h)
    parent, child = h.edges.numpy()
    apart = [
        np.abs(coef[child] - coef[parent]).mean()
        for coef in (HierarchicalClassifier(h, recursive_regularization=c).fit(X, y).coef_ for c in (0.0, 10.0))
    ]
    assert apart[1] < 0.5 * apart[0]


def test_in_a_pipeline_over_sparse_features_with_a_grid_search():
    texts = ["a violin sings", "an opera is sung", "a film is shown", "atoms and waves", "heat flows", "waves of light"] * 5
    y = [["Arts", "Music"], ["Arts", "Music"], ["Arts", "Film"], ["Science"], ["Science"], ["Science"]] * 5
    model = make_pipeline(TfidfVectorizer(), HierarchicalClassifier(Hierarchy.from_paths(y)))
    search = GridSearchCV(model, {"hierarchicalclassifier__objective": ["leaf_softmax", "bce"]}, cv=KFold(2)).fit(texts, y)
    assert search.best_score_ > 0.9
    assert search.predict(["the violin is sung", "waves"]) == [[("Arts", "Music")], [("Science",)]]


def test_a_hierarchy_survives_cloning_and_a_name_in_two_places_is_a_path():
    h = Hierarchy.from_paths([["Arts", "Basics"], ["Science", "Basics"]])
    model = clone(HierarchicalClassifier(h)).fit([[0.0], [1.0]] * 5, [["Arts", "Basics"], ["Science", "Basics"]] * 5)
    assert model.classes_.tolist() == ["Arts", "Science", "Arts > Basics", "Science > Basics"]
    assert model.predict([[0.0]]) == [[("Arts", "Basics")]]


@pytest.mark.parametrize(
    ("arguments", "y", "message"),
    [
        ({"objective": "softmax"}, [["Arts"], ["Science"]], "the objective must be one of bce, "),
        ({"decoder": "best"}, [["Arts"], ["Science"]], "decoder must be one of threshold, "),
        ({"decoder": "tuned_threshold"}, [["Arts"], ["Science"]], "documents that were not trained on"),
        ({"objective": "bce", "decoder": "expected_hf"}, [["Arts"], ["Science"]], "takes the probabilities of one path"),
        ({"objective": "leaf_softmax"}, [["Arts"], [["Arts"], ["Science"]]], "document 1: leaf softmax needs exactly one leaf"),
        ({"objective": "leaf_softmax", "recursive_regularization": 0.1}, [["Arts"], ["Science"]], None),
        ({"C": float("nan")}, [["Arts"], ["Science"]], "C must be a number above 0, not nan"),
        ({"max_iter": 0}, [["Arts"], ["Science"]], "max_iter must be at least 1 and tol positive, not 0"),
        ({"C": 0.0}, [["Arts"], ["Science"]], "C must be a number above 0, not 0.0"),
        (
            {"hierarchy": Hierarchy.from_paths([["Arts"]])},
            [["Arts"], ["Science"]],
            "the label 'Science' is not in the taxonomy",
        ),
        ({"hierarchy": Hierarchy.from_paths([["Arts"]])}, ["Arts", "Art"], "did you mean 'Arts'"),
        ({"hierarchy": Hierarchy.from_paths([["Arts"]])}, [1, 2], "the label 1 is none of the hierarchy's"),
    ],
)
def test_bad_input(arguments, y, message):
    model = HierarchicalClassifier(**arguments)
    if message is None:  # a flat hierarchy has as many leaves as nodes: nothing is wrong
        model.fit([[0.0], [1.0]], y)
        return
    with pytest.raises(InputError, match=message):
        model.fit([[0.0], [1.0]], y)


def test_one_name_each_needs_a_decoder_of_one_label():
    model = HierarchicalClassifier(decoder=partial(decoding.threshold, value=0.0)).fit([[0.0], [1.0], [2.0]], ["a", "b", "c"])
    with pytest.raises(InputError, match="labels, but y held one name each; fit on label sets"):
        model.predict([[1.0]])


def test_labels_that_training_has_not_seen_are_missed():
    model = HierarchicalClassifier().fit([[0.0], [1.0], [0.0], [1.0]], ["a", "b"] * 2)
    assert model.score([[0.0], [1.0], [1.0]], ["a", "b", "c"]) == pytest.approx(2 / 3)
    assert HierarchicalClassifier().fit([[0.0], [1.0]], [0, 1]).score([[0.0], [1.0]], [0, 2]) == pytest.approx(0.5)
    paths = HierarchicalClassifier().fit([[0.0], [1.0]], [["Arts"], ["Science"]])
    assert paths.score([[0.0], [1.0]], [["Arts", "Music"], ["Science"]]) == pytest.approx(2 * 2 / (2 + 3))
    given = HierarchicalClassifier(Hierarchy.from_paths([["Arts"], ["Science"]])).fit([[0.0], [1.0]], ["Arts", "Science"])
    with pytest.raises(InputError, match="the label 'Sciense' is not in the taxonomy; did you mean 'Science'"):
        given.score([[0.0]], ["Sciense"])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_one_name_each_may_end_at_an_inner_node(objective):
    h = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    X, y = np.repeat([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], 20, 0), ["Arts"] * 20 + ["Science"] * 20 + ["Film"] * 20
    model = HierarchicalClassifier(h, objective, C=100.0).fit(X, y)
    assert model.predict([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).tolist() == ["Arts", "Science", "Film"]
    assert model.score(X, y) == 1


def test_one_name_each_goes_down_to_where_labels_end():
    """However unsure the model is, it does not predict an inner node that no document ever had as its label."""
    h = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    model = HierarchicalClassifier(h, "bce", C=0.01).fit([[0.0], [1.0], [2.0]], ["Music", "Film", "Science"])
    assert model.predict_proba([[1.0]]).max() < 0.7
    assert set(model.predict(np.linspace(-5, 5, 30)[:, None])) <= {"Music", "Film", "Science"}


def test_a_leaf_softmax_on_a_dag_predicts():
    h = Hierarchy.from_pairs([("Science", "Bio"), ("Health", "Bio"), ("Science", "Phys")])
    model = HierarchicalClassifier(h, "leaf_softmax").fit([[0.0], [1.0]] * 5, ["Bio", "Phys"] * 5)
    assert not model.objective_.one_path
    assert model.predict([[0.0], [1.0]]).tolist() == ["Bio", "Phys"]
    with pytest.raises(InputError, match="takes the probabilities of one path"):
        HierarchicalClassifier(h, "leaf_softmax", "expected_hf").fit([[0.0], [1.0]], ["Bio", "Phys"])


def test_documents_without_labels_for_objectives_that_take_them():
    h = random_tree(1, nodes=15)
    X, y = data(h)
    y[::5] = False
    lists = h.decode(metrics.as_label_sets(y, h))
    of_lists, of_rows = HierarchicalClassifier(h, "bce").fit(X, lists), HierarchicalClassifier(h, "bce").fit(X, y)
    np.testing.assert_allclose(of_lists.coef_, of_rows.coef_)
    assert of_lists.score(X, lists) == of_rows.score(X, y)
    assert of_lists.score(X, of_lists.predict(X)) == 1
    with pytest.raises(InputError, match="document 0: it has no label"):
        HierarchicalClassifier(h).fit(X, lists)


def test_frames():
    h = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    X, y = data(h)
    frame = pandas.DataFrame(y, columns=h.names)
    expected = HierarchicalClassifier(h).fit(X, y).coef_
    for form in (frame, frame[["Music", "Film", "Arts", "Science"]], frame.astype("Int64"), frame.astype(object)):
        np.testing.assert_allclose(HierarchicalClassifier(h).fit(X, form).coef_, expected)
    with pytest.raises(InputError, match="y: its columns are names of labels, 'Arts' for one, but not those of all nodes"):
        HierarchicalClassifier(h).fit(X, frame.rename(columns={"Film": "Films"}))
    ragged = pandas.DataFrame([labels[0] for labels in h.decode(metrics.as_label_sets(y, h))])  # filled up with None
    np.testing.assert_allclose(HierarchicalClassifier(h).fit(X, ragged).coef_, expected)


@pytest.mark.parametrize(
    "texts",
    [
        ["Arts > Music", "Arts > Film"],
        [["Arts > Music"], ["Arts > Film"]],
        ["Arts/Music", "Arts/Film", "Science/Physics", "Science/Biology"],
        ["['Arts', 'Music']", "['Arts', 'Film']"],
        ["('Arts', 'Music')", "('Arts', 'Film')"],
        np.array([["Arts|Music"], ["Arts|Film"], ["Science|Physics"], ["Science|Biology"]]),
    ],
)
def test_several_labels_in_one_text_are_reported_where_there_is_no_hierarchy(texts):
    X = np.eye(len(texts))
    with pytest.warns(
        UserWarning, match=r"looks like several labels in one text, but is taken for one class; give a path as a"
    ):
        model = HierarchicalClassifier().fit(X, texts)
    assert len(model.classes_) == len(texts)


@pytest.mark.parametrize(
    "names", [["and/or", "either/or"], ["R&B", "Soul"], ["(none)", "(other)"], [1, 2], [["a", "b"], ["a"]]]
)
def test_ordinary_names_are_no_news(names):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HierarchicalClassifier().fit(np.eye(len(names)), names)


def test_numbers_that_overflow_are_reported():
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        HierarchicalClassifier().fit(np.array([[0.0], [1e200]] * 3), [0, 1] * 3)


def test_too_few_iterations_are_reported():
    h = random_tree(1, nodes=15)
    X, y = data(h)
    with pytest.warns(ConvergenceWarning, match="did not converge in 2 iterations.*max_iter=2"):
        HierarchicalClassifier(h, max_iter=2).fit(X, y)
