"""What is compared: an adapter for each library, one function for each way to train.

An adapter fits a model to features (n, F), dense or CSR, and targets (n, N) bool, closed under ancestors, and returns its
prediction: from features to label sets (m, N) bool, closed, too. Libraries that know no hierarchy learn the lowest labels.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from htc.labels.hierarchy import Hierarchy

Predict = Callable[[Any], Tensor]
Fit = Callable[[Any, Tensor, Hierarchy, float], Predict]
LOG_LOSS, SQUARED_HINGE = (1.0, 10.0, 100.0), (0.1, 1.0, 10.0)  # values of C: three for everyone, around each loss's optimum
LIBLINEAR = "-s 1 -B 1 -e 0.0001 -q -m 1"  # as in LibMultiLabel's own configurations; one thread
OURS = "htc"


@dataclass(frozen=True)
class Method:
    """A row of the tables.

    Attributes:
        library: whose it is.
        title: its name there.
        fit: the adapter.
        values: of C, among which dev chooses.
        one_path: how it decides where each document has one path in a tree; empty if it takes no such documents.
        several: how it decides else; empty if it cannot.
    """

    library: str
    title: str
    fit: Fit
    values: tuple[float, ...]
    one_path: str = ""
    several: str = ""

    @property
    def name(self) -> str:
        """Its name in tables and files."""
        return f"{self.library}: {self.title}"

    def decision(self, one_path: bool) -> str:
        """How it decides for documents of this kind; empty if it is not for them."""
        return self.one_path if one_path else self.several


def has_one_path(targets: Tensor, hierarchy: Hierarchy) -> bool:
    """Whether the hierarchy is a tree and each document has one lowest label. Args: targets (D, N) bool, closed."""
    return hierarchy.is_tree and bool((hierarchy.most_specific(targets).sum(1) == 1).all())


def lowest_labels(targets: Tensor, hierarchy: Hierarchy) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The lowest labels of documents. Returns: the (L,) nodes that are one; which of them each document has, (D, L) bool."""
    lowest = hierarchy.most_specific(targets).numpy()
    nodes = np.flatnonzero(lowest.any(0))
    return nodes, lowest[:, nodes]


def closed(chosen: NDArray[np.bool_], nodes: NDArray[np.int64], hierarchy: Hierarchy) -> Tensor:
    """Label sets with all ancestors. Args: chosen (D, L) bool, of the (L,) nodes. Returns: (D, N) bool."""
    sets = torch.zeros(len(chosen), hierarchy.num_nodes, dtype=torch.bool)
    sets[:, torch.from_numpy(nodes)] = torch.from_numpy(np.ascontiguousarray(chosen, dtype=bool))
    return hierarchy.close(sets)


def best_column(scores: NDArray[Any]) -> NDArray[np.bool_]:
    """The highest score of each row. Args: scores (D, L). Returns: (D, L) bool."""
    return np.arange(scores.shape[1]) == scores.argmax(1)[:, None]


def ours(objective: str, decoder: str | None = None) -> Fit:
    """`HierarchicalClassifier`."""

    def fit(features: Any, targets: Tensor, hierarchy: Hierarchy, C: float) -> Predict:
        from htc.estimator import HierarchicalClassifier

        return HierarchicalClassifier(hierarchy, objective, decoder, C=C).fit(features, targets.numpy()).predict_sets

    return fit


def flat(kind: str) -> Fit:
    """scikit-learn on the lowest labels: one of them where documents have one, else a yes or no of each."""

    def fit(features: Any, targets: Tensor, hierarchy: Hierarchy, C: float) -> Predict:
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.svm import LinearSVC

        nodes, truth = lowest_labels(targets, hierarchy)
        one_path = has_one_path(targets, hierarchy)
        if kind == "svc":
            model = LinearSVC(C=C)
        else:
            model = LogisticRegression(C=C, max_iter=1000) if one_path else LogisticRegression(C=C, solver="liblinear")
        if one_path:
            model.fit(features, truth.argmax(1))
            return lambda rows: closed(np.arange(len(nodes)) == model.predict(rows)[:, None], nodes, hierarchy)
        each = OneVsRestClassifier(model).fit(features, truth.astype(int))
        return lambda rows: closed(each.predict(rows) > 0, nodes, hierarchy)

    return fit


def local(approach: str) -> Fit:
    """hiclass's local classifiers, each a logistic regression. Without one path in a tree they have no labels to learn; a
    prediction always goes on to a leaf, also where paths of documents end above one."""

    def fit(features: Any, targets: Tensor, hierarchy: Hierarchy, C: float) -> Predict:
        import hiclass
        from sklearn.linear_model import LogisticRegression

        own = LogisticRegression(C=C, max_iter=1000)
        model = getattr(hiclass, f"LocalClassifierPer{approach}")(local_classifier=own, verbose=logging.ERROR)
        paths = [[str(node) for node in row.nonzero()[:, 0].tolist()] for row in targets]  # parents come first
        levels = max(map(len, paths))
        model.fit(features, [path + [""] * (levels - len(path)) for path in paths])  # blanks below the end of a path
        return lambda rows: _of_names(model.predict(rows), hierarchy)

    return fit


def _of_names(names: NDArray[Any], hierarchy: Hierarchy) -> Tensor:
    """hiclass's predictions, (D, levels) names of nodes or empty, as closed label sets (D, N) bool."""
    sets = torch.zeros(len(names), hierarchy.num_nodes, dtype=torch.bool)
    for document, row in enumerate(names.reshape(len(names), -1)):
        sets[document, [int(name) for name in row if name]] = True
    return hierarchy.close(sets)


def libmultilabel(technique: str) -> Fit:
    """LibMultiLabel's linear methods on the lowest labels."""

    def fit(features: Any, targets: Tensor, hierarchy: Hierarchy, C: float) -> Predict:
        from libmultilabel import linear

        np.random.seed(0)  # its tree is drawn by k-means with NumPy's generator
        nodes, truth = lowest_labels(targets, hierarchy)
        one_path = has_one_path(targets, hierarchy)
        as_csr = partial(sparse.csr_matrix, dtype=np.float64)
        train, threshold = {"tree": (linear.train_tree, 0.5), "1vsrest": (linear.train_1vsrest, 0.0)}[technique]
        model = train(as_csr(truth), as_csr(features), options=f"{LIBLINEAR} -c {C}", verbose=False)

        def predict(rows: Any) -> Tensor:
            scores = np.asarray(linear.predict_values(model, as_csr(rows)))
            return closed(best_column(scores) if one_path else scores > threshold, nodes, hierarchy)

        return predict

    return fit


METHODS = (
    Method(OURS, "conditional softmax", ours("conditional_softmax"), LOG_LOSS, "argmax of ends"),
    Method(OURS, "conditional softmax, expected hF1", ours("conditional_softmax", "expected_hf"), LOG_LOSS, "expected hF1"),
    Method(OURS, "conditional softmax, logit-adjusted", ours("conditional_softmax_la"), LOG_LOSS, "argmax of ends"),
    Method(OURS, "leaf softmax", ours("leaf_softmax"), LOG_LOSS, "argmax of leaves"),
    Method(OURS, "BCE", ours("bce"), LOG_LOSS, several="threshold 0.5 from the top"),
    Method(OURS, "conditional sigmoid", ours("conditional_sigmoid"), LOG_LOSS, several="threshold 0.5 from the top"),
    Method("hiclass", "per parent", local("ParentNode"), LOG_LOSS, "argmax from the top"),
    Method("hiclass", "per node", local("Node"), LOG_LOSS, "argmax from the top"),
    Method("hiclass", "per level", local("Level"), LOG_LOSS, "argmax of each level, with all ancestors"),
    Method("scikit-learn", "logistic regression", flat("logistic"), LOG_LOSS, "argmax", "threshold 0.5"),
    Method("scikit-learn", "LinearSVC", flat("svc"), SQUARED_HINGE, "argmax", "threshold 0"),
    Method("LibMultiLabel", "tree", libmultilabel("tree"), SQUARED_HINGE, "argmax", "threshold 0.5"),
    Method("LibMultiLabel", "one-vs-rest", libmultilabel("1vsrest"), SQUARED_HINGE, "argmax", "threshold 0"),
)
