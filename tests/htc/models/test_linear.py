"""Linear models: parts found, fitted by themselves, equal to a fit of all at once."""

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.linear_model import LogisticRegression
from tests.htc.conftest import random_dag, random_tree, single_paths

from htc import Hierarchy
from htc.estimator import HierarchicalClassifier
from htc.losses import BCE, StopEvent, objective_by_name
from htc.models.linear import Solver, assembled, fit_jointly, fit_part, parts_of

SEPARABLE = {
    "bce": {},
    "bce_prior_bias": {},
    "leaf_softmax": {},
    "conditional_softmax": {},
    "conditional_softmax_la": {"tau": 0.5},
    "conditional_sigmoid": {},
}


def case(hierarchy, documents=60, features=5, seed=0):
    rng = np.random.default_rng(seed)
    targets = single_paths(hierarchy, documents, seed)
    noise = rng.normal(size=(documents, features))
    return targets.double().numpy() @ rng.normal(size=(hierarchy.num_nodes, features)) + noise, targets


@pytest.mark.parametrize("as_sparse", [False, True])
@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("name", SEPARABLE)
def test_parts_have_the_optimum_of_the_whole(name, stop, as_sparse):
    if stop and "softmax" not in name:
        pytest.skip("takes inner endings as it is")
    h = random_tree(3, nodes=14)
    features, targets = case(h)
    if stop:
        targets[::3] = h.close(
            torch.nn.functional.one_hot(
                h.parent.clamp_min(0)[h.most_specific(targets[::3]).to(torch.uint8).argmax(1)], h.num_nodes
            ).bool()
        )
    objective = objective_by_name(name, h, targets, **SEPARABLE[name], **({"stop": True} if stop else {}))
    weight, solver = np.random.default_rng(1).choice([0.5, 2.0], len(features)), Solver(C=0.1, tol=1e-6, max_iter=300)
    rows = scipy.sparse.csr_array(features) if as_sparse else features
    parts = parts_of(objective, targets)
    fits = [fit_part(part, rows[part.documents], weight[part.documents], solver) for part in parts]
    weights, intercepts = assembled(parts, fits, (objective.num_outputs, features.shape[1]), as_sparse)
    assert scipy.sparse.issparse(weights) == as_sparse
    whole = fit_jointly(objective, rows, targets, weight, solver)
    found, expected = (
        objective.probabilities(torch.from_numpy(features @ w.T + b))
        for w, b in ((weights.toarray() if as_sparse else weights, intercepts), (whole.weights, whole.intercepts))
    )
    unsure = ~((expected < 1e-3) | (expected > 1 - 1e-3))  # intercepts of what never occurs run away without end
    torch.testing.assert_close(
        found[unsure], expected[unsure], atol=2e-3, rtol=0, msg=f"parts_of, in htc.models.linear, has another loss than {name}"
    )


def test_what_shares_weights_has_no_parts():
    h = random_tree(1, nodes=12)
    targets = single_paths(h, 20, 0)
    for name in ("focal", "champ", "parameter_sharing_softmax"):
        assert parts_of(objective_by_name(name, h, targets), targets) is None
    assert parts_of(StopEvent(h, lambda extended: objective_by_name("parameter_sharing_softmax", extended)), targets) is None


def test_a_part_has_the_documents_below_the_parent():
    h = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science", "Physics"], ["Science", "Maths"]])
    targets = h.encode([["Arts", "Film"], ["Science", "Maths"], ["Arts", "Music"]])
    of = {
        tuple(h.names[n] for n in part.outputs): part for part in parts_of(objective_by_name("conditional_softmax", h), targets)
    }
    assert {names: part.documents.tolist() for names, part in of.items()} == {
        ("Arts", "Science"): [0, 1, 2],
        ("Music", "Film"): [0, 2],
        ("Physics", "Maths"): [1],
    }
    assert of["Music", "Film"].truth.tolist() == [1, 0]


def test_in_a_dag_a_node_counts_where_all_its_parents_are_true():
    h = Hierarchy.from_pairs([("A", "B"), ("C", "B"), ("A", "D"), ("C", "E")])
    targets = h.encode([[["A", "B"], ["C", "B"]], [["A", "D"]], [["A", "D"], ["C", "E"]]])
    parts = parts_of(objective_by_name("conditional_sigmoid", h), targets)
    of = {tuple(h.names[n] for n in part.outputs): part.documents.tolist() for part in parts}
    assert of == {("A", "C"): [0, 1, 2], ("B",): [0, 2], ("D",): [0, 1, 2], ("E",): [0, 2]}


@pytest.mark.parametrize("strength", [0.01, 1.0, 10.0])
def test_c_is_that_of_logistic_regression(strength):
    h = random_dag(2, nodes=10)
    features, targets = case(h)
    model = HierarchicalClassifier(h, "bce", C=strength, tol=1e-6, max_iter=1000).fit(features, targets.numpy().astype(int))
    for node in range(h.num_nodes):
        truth = targets[:, node].numpy()
        if 5 < truth.sum() < len(truth) - 5:
            theirs = LogisticRegression(C=strength, tol=1e-9, max_iter=5000).fit(features, truth)
            np.testing.assert_allclose(model.coef_[node], theirs.coef_[0], atol=2e-3 * max(1, abs(theirs.coef_).max()))


@pytest.mark.parametrize("objective", ["conditional_softmax", "bce", "champ", "focal", "conditional_sigmoid"])
def test_a_document_of_weight_two_counts_as_two(objective):
    h = random_tree(5, nodes=9)
    features, targets = case(h, 40)
    y = targets.numpy().astype(int)
    weight = np.where(np.arange(len(features)) % 3 == 0, 2, 1)
    fitted = HierarchicalClassifier(h, objective, C=0.1, tol=1e-6, max_iter=300).fit(features, y, sample_weight=weight)
    again = np.repeat(np.arange(len(features)), weight)
    repeated = HierarchicalClassifier(h, objective, C=0.1, tol=1e-6, max_iter=300).fit(features[again], y[again])
    np.testing.assert_allclose(fitted.predict_proba(features), repeated.predict_proba(features), atol=1e-3)


def test_class_weights_are_those_of_the_lowest_labels():
    h = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    y = ["Music"] * 6 + ["Film"] * 2 + ["Science"] * 4
    features = np.random.default_rng(0).normal(size=(12, 3))
    settings = {"C": 0.1, "tol": 1e-7, "max_iter": 300}
    given = HierarchicalClassifier(h, class_weight={"Film": 3.0}, **settings).fit(features, y)
    weight = np.where(np.array(y) == "Film", 3.0, 1.0)
    np.testing.assert_allclose(given.coef_, HierarchicalClassifier(h, **settings).fit(features, y, weight).coef_)
    balanced = HierarchicalClassifier(h, class_weight="balanced", **settings).fit(features, y)
    weight = np.array([{"Music": 12 / 18, "Film": 12 / 6, "Science": 12 / 12}[label] for label in y])
    np.testing.assert_allclose(balanced.coef_, HierarchicalClassifier(h, **settings).fit(features, y, weight).coef_)


def test_processes_find_the_same():
    h = random_tree(1, nodes=15)
    features, targets = case(h)
    one, two = (HierarchicalClassifier(h, n_jobs=n).fit(features, targets.numpy().astype(int)) for n in (1, 2))
    np.testing.assert_array_equal(one.coef_, two.coef_)


def test_the_scale_of_every_objective_is_a_sum_over_labels():
    h = random_tree(4, nodes=8)
    targets = single_paths(h, 5, 0)
    logits = torch.zeros(5, h.num_nodes)
    each = np.log(2) * h.num_nodes
    for name in ("bce", "focal", "champ"):
        params = {"focal": {"gamma": 0.0}, "champ": {"beta": 0.0}}.get(name, {})
        objective = objective_by_name(name, h, targets, **params)
        assert float(objective.loss(logits, targets)) * objective.per_document == pytest.approx(each, rel=1e-5)
    assert BCE(h).per_document == h.num_nodes
