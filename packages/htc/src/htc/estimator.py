"""`HierarchicalClassifier`: the objectives and inference rules with scikit-learn's interface, for any feature matrix.

    from htc.estimator import HierarchicalClassifier

    model = HierarchicalClassifier(hierarchy, objective="conditional_softmax", decoder="expected_hf")
    model.fit(X, [["Arts", "Music"], ["Science"], ...])

A linear model with an L2 penalty, trained on all documents at once by L-BFGS: no learning rate, and deterministic.
For deep encoders use htc-train.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from warnings import warn

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from htc import metrics
from htc.datasets.paths_in_cells import LIST, separator_in
from htc.decoding.by_name import ALL_RULES, check_rule
from htc.decoding.rules import top_down, top_down_threshold
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import as_label_sets, as_lists, as_numbers, as_rows
from htc.labels.names import is_blank, no_text, read_name, read_paths, rows_of
from htc.labels.taxonomy import PATH_SEPARATOR
from htc.losses import (
    AUTO,
    SOFTMAX_OBJECTIVES,
    LeafSoftmax,
    Objective,
    objective_by_name,
    recursive_regularization,
    suitable_objective,
)
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import require

Decoder = Callable[[Tensor, Hierarchy], Tensor]
MakeObjective = Callable[[Hierarchy, Tensor], Objective]
ROWS = 1024  # documents at a time; limits memory


class HierarchicalClassifier(ClassifierMixin, BaseEstimator):
    """A linear classifier into a label hierarchy.

    >>> import numpy as np
    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> X = np.array([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
    >>> y = [["Arts", "Music"], ["Arts", "Music"], ["Arts", "Film"], ["Science"]]
    >>> model = HierarchicalClassifier(hierarchy).fit(X, y)
    >>> model.predict([[0.95, 0.05], [0.1, 0.9]])
    [[('Arts', 'Music')], [('Science',)]]
    >>> model.predict_proba([[0.95, 0.05]]).shape  # Arts, Science, Music, Film
    (1, 4)

    `predict_proba` gives the probability of each node, inner ones too. Its rows do not sum to one, so tools that need a
    distribution over classes (calibration, log loss) do not apply.

    Args:
        hierarchy: the labels; None for the smallest hierarchy of the labels in `y`, where a list of names is a path.
        objective: a name from `htc.losses.OBJECTIVES`, or a function of hierarchy and training targets (D, N) that makes one.
            "auto": conditional_softmax if each document has one path; bce if documents have several or the hierarchy is a DAG
            (`htc.losses.suitable_objective`).
        decoder: a name from `htc.decoding.by_name.ALL_RULES` (except tuned_threshold), or a function of probabilities
            (D, N) and hierarchy. None: the most probable whole path for the softmax objectives; `top_down_threshold` for the
            others, or a single label from the top down if `y` has one label per document.
        objective_params: settings of a named objective, see `htc.settings.LossSettings`; `stop` is set automatically if labels
            end at inner nodes.
        alpha: the strength of the L2 penalty, alpha / 2 times the sum of squared weights, added to the mean loss.
        recursive_regularization: the strength of the penalty on differences between parents and children; for objectives with
            one output per node.
        max_iter: the largest number of L-BFGS iterations.
        tol: it stops when the largest gradient is below this.
        verbose: whether to show progress.

    Attributes:
        hierarchy_: the hierarchy.
        classes_: (N,) the nodes, in the order of the columns of `predict_proba`: the values of a one-dimensional `y`; else
            names if they are unique; else paths joined by " > ".
        objective_: the objective.
        coef_: (K, n_features).
        intercept_: (K,).
        n_iter_: the number of L-BFGS iterations.
    """

    def __init__(
        self,
        hierarchy: Hierarchy | None = None,
        objective: str | MakeObjective = AUTO,
        decoder: str | Decoder | None = None,
        *,
        objective_params: Mapping[str, Any] | None = None,
        alpha: float = 1e-3,
        recursive_regularization: float = 0.0,
        max_iter: int = 500,
        tol: float = 1e-5,
        verbose: bool = False,
    ) -> None:
        self.hierarchy = hierarchy
        self.objective = objective
        self.decoder = decoder
        self.objective_params = objective_params
        self.alpha = alpha
        self.recursive_regularization = recursive_regularization
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> "HierarchicalClassifier":
        """Train.

        Args:
            X: (D, n_features), dense or sparse.
            y: the labels of D documents: one name each, or any other form of `htc.labels.label_sets.LabelSets`, e.g. a
                DataFrame with a column per level. Without a hierarchy, one number per document is a class, as in scikit-learn.
                In scikit-learn's searches, lists of label sets need `cv=KFold(...)`, because it stratifies only arrays.

        Raises:
            InputError: for unknown labels, label sets that do not fit the objective, or, without a hierarchy, sets of several
                names (a set is not a path).
        """
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64)
        if y is None:
            raise InputError("this classifier requires y to be passed, but the target y is None.")
        self._check_settings()
        y = as_rows(y, "y")
        check_consistent_length(X, y)
        self._as_given, labels = _read(y, self.hierarchy)
        if self._as_given == "classes":
            check_classification_targets(labels)
        if self.hierarchy is None:
            _warn_of_paths_in_names(self._as_given, labels)
            self.hierarchy_, self.classes_ = _smallest_hierarchy(self._as_given, labels)
        else:
            self.hierarchy_, self.classes_ = self.hierarchy, _classes_of(self.hierarchy)
        targets = _encode(self._as_given, labels, self.hierarchy_, self.classes_)
        self._ends = self.hierarchy_.most_specific(targets).any(0)  # (N,) bool, nodes where paths end
        self.objective_ = self._make_objective(targets)
        self._decoder()  # raises if it does not fit the objective
        if self.objective_.one_path:  # the others also accept documents without labels
            self.objective_.check_targets(targets)
        if self.recursive_regularization and self.objective_.num_outputs != self.hierarchy_.num_nodes:
            raise InputError("recursive_regularization needs an objective with one output for each node.")
        self._minimize(X, targets)
        return self

    def _check_settings(self) -> None:
        for name in ("alpha", "recursive_regularization"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} must be a number from 0 on, not {getattr(self, name)}.")
        if self.max_iter < 1 or not self.tol > 0:
            raise InputError(f"max_iter must be at least 1 and tol positive, not {self.max_iter} and {self.tol}.")

    def _make_objective(self, targets: Tensor) -> Objective:
        if callable(self.objective):
            return self.objective(self.hierarchy_, targets)
        name = suitable_objective(self.hierarchy_, targets).name if self.objective == AUTO else self.objective
        stops = bool((self._ends & ~self.hierarchy_.is_leaf).any()) and name in SOFTMAX_OBJECTIVES
        params = {"stop": stops and self.hierarchy_.is_tree, **(self.objective_params or {})}
        return objective_by_name(name, self.hierarchy_, targets, **params)

    def _minimize(self, X: Any, targets: Tensor) -> None:
        outputs = self.objective_.num_outputs
        shape = (outputs, X.shape[1] + 1)  # the last column is the intercept
        bar = _progress_bar(self.max_iter) if self.verbose else None

        def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(shape)
            gradient = np.zeros(shape)
            loss = 0.0
            for start in range(0, X.shape[0], ROWS):
                rows = X[start : start + ROWS]
                logits = torch.from_numpy(rows @ weights[:, :-1].T + weights[:, -1]).requires_grad_()
                part = self.objective_.loss(logits, targets[start : start + ROWS]) * (rows.shape[0] / X.shape[0])
                (towards,) = torch.autograd.grad(part, logits)
                gradient[:, :-1] += (rows.T @ towards.numpy()).T
                gradient[:, -1] += towards.numpy().sum(0)
                loss += float(part.detach())
            penalty, of_penalty = self._penalty(weights[:, :-1])
            gradient[:, :-1] += of_penalty
            return loss + penalty, gradient.ravel()

        first = np.zeros(shape)
        if self.objective_.initial_bias is not None:
            first[:, -1] = self.objective_.initial_bias.numpy()
        options = {"maxiter": self.max_iter, "gtol": self.tol, "ftol": 64 * np.finfo(float).eps}
        found = minimize(
            loss_and_gradient,
            first.ravel(),
            jac=True,
            method="L-BFGS-B",
            options=options,
            callback=None if bar is None else lambda _: bar.update(),
        )
        if bar is not None:
            bar.close()
        weights = found.x.reshape(shape)
        self.coef_, self.intercept_, self.n_iter_ = weights[:, :-1], weights[:, -1], int(found.nit)
        if not found.success:
            warn(
                f"L-BFGS did not converge in {found.nit} iterations: {found.message}. Raise max_iter={self.max_iter}, or scale "
                "the features.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _penalty(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """The penalties on the weights (K, n_features), and their gradient."""
        loss, gradient = 0.5 * self.alpha * float((weights**2).sum()), self.alpha * weights
        if self.recursive_regularization:
            tensor = torch.tensor(weights, requires_grad=True)
            recursive = self.recursive_regularization * recursive_regularization(tensor, self.hierarchy_)
            (of_recursive,) = torch.autograd.grad(recursive, tensor)
            loss, gradient = loss + float(recursive.detach()), gradient + of_recursive.numpy()
        return loss, gradient

    def _decoder(self) -> Decoder:
        if callable(self.decoder):
            return self.decoder
        if self.decoder is None:
            if self.objective_.one_path:
                return ALL_RULES["argmax_end"]
            if isinstance(self.objective_, LeafSoftmax):
                return ALL_RULES["argmax_leaf"]
            return self._down_to_a_label if self._as_given == "classes" else ALL_RULES["top_down_threshold"]
        check_rule(self.decoder, self.objective_.one_path)
        if ALL_RULES[self.decoder].tuned:
            raise InputError(
                "a threshold is tuned on documents that were not trained on: use htc.decoding.rules.tune_threshold there, and "
                "decoder=functools.partial(htc.decoding.rules.threshold, value=...)."
            )
        return ALL_RULES[self.decoder]

    def _down_to_a_label(self, probabilities: Tensor, hierarchy: Hierarchy) -> Tensor:
        """Top-down to a node where training labels end, stopping once all nodes below are improbable."""
        parent, child = hierarchy.edges
        goes_on = torch.ones_like(probabilities, dtype=torch.bool)
        goes_on[:, child] = (probabilities[:, child] >= 0.5) | ~self._ends[parent]
        return top_down(probabilities, hierarchy) & top_down_threshold(goes_on.double(), hierarchy)

    def predict_sets(self, X: Any) -> Tensor:
        """The predicted label sets. Args: X (D, n_features). Returns: (D, N) bool."""
        probabilities = torch.from_numpy(self.predict_proba(X))
        return self._decoder()(probabilities, self.hierarchy_)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability that a document has each label. Args: X (D, n_features). Returns: (D, N), see `classes_`."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        logits = torch.from_numpy(np.asarray(X @ self.coef_.T + self.intercept_))
        return torch.cat([self.objective_.probabilities(rows) for rows in logits.split(ROWS)]).numpy()

    def predict(self, X: Any) -> Any:
        """Predicted labels, in the form of `fit`'s `y`: one name each, lists of paths, or a multi-hot array.

        Raises:
            InputError: if `y` had one name each, and the decoder gives no label or several.
        """
        sets = self.predict_sets(X)
        if self._as_given == "label sets":
            return self.hierarchy_.decode(sets)
        if self._as_given == "multi-hot":
            return sets.numpy().astype(int)
        specific = self.hierarchy_.most_specific(sets)
        if not bool((specific.sum(1) == 1).all()):
            document = int((specific.sum(1) != 1).nonzero()[0])
            raise InputError(
                f"the decoder gives document {document} {int(specific[document].sum())} labels, but y held one name each; fit "
                "on label sets, [[name], [name], ...], or use a decoder of one path, such as top_down."
            )
        return self.classes_[specific.to(torch.uint8).argmax(1).numpy()]

    def score(self, X: Any, y: Any) -> float:
        """Micro hF1 of the predictions; for one label in a flat hierarchy, this is the accuracy.

        Without a given hierarchy, labels that were not in training count as missed. Args: as `fit`.
        """
        sets = self.predict_sets(X)
        form, labels = _read(y, self.hierarchy_)
        hierarchy, classes = self.hierarchy_, self.classes_
        if self.hierarchy is None and form == "label sets":
            hierarchy, classes = _smallest_hierarchy(form, [*([path] for path in self.hierarchy_.paths), *labels])
            sets = _moved(sets, [hierarchy.node(path) for path in self.hierarchy_.paths], hierarchy.num_nodes)
        elif self.hierarchy is None and form == "classes":
            hierarchy, classes = _smallest_hierarchy(form, np.concatenate([self.classes_, labels]))
            sets = _moved(sets, np.searchsorted(classes, self.classes_).tolist(), hierarchy.num_nodes)
        true = _encode(form, labels, hierarchy, classes)
        return metrics.hierarchical_precision_recall_f(true, sets, hierarchy)[2]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_label = isinstance(self.objective, str) and self.objective not in SOFTMAX_OBJECTIVES
        return tags


def _moved(sets: Tensor, columns: list[int], width: int) -> Tensor:
    """Move label sets to a larger hierarchy. Args: sets (D, N) bool; columns: N indices. Returns: (D, width) bool."""
    moved = sets.new_zeros(len(sets), width)
    moved[:, columns] = sets
    return moved


def _read(y: Any, hierarchy: Hierarchy | None) -> tuple[str, Any]:
    """The form of labels, and the labels: "multi-hot" and an array (D, .), "classes" and (D,), "label sets" and lists."""
    y = as_rows(y, "y")
    numbers = as_numbers(y, hierarchy, "y")
    if numbers is not None and numbers.ndim == 2 and (numbers.shape[1] > 1 or hierarchy is not None):
        return "multi-hot", numbers
    if numbers is not None:
        return "classes", column_or_1d(numbers, warn=True)
    if all(isinstance(value, str) and not is_blank(value) for value in rows_of(y, "y")):
        return "classes", np.array([read_name(value) for value in rows_of(y, "y")])
    return "label sets", as_lists(y, "y")


def _warn_of_paths_in_names(form: str, labels: Any) -> None:
    """Warn of names, one per document, that look like paths or lists: they are read as flat classes."""
    paths = _paths(labels) if form == "label sets" else [(str(label),) for label in labels] if form == "classes" else []
    names = Counter(path[0] for path in paths if len(path) == 1)
    mark = PATH_SEPARATOR if any(PATH_SEPARATOR in name for name in names) else separator_in(names)
    shown = next((name for name in names if (mark is not None and mark in name) or LIST.fullmatch(name)), None)
    if shown is not None:
        warn(
            f"y: the name {shown!r} looks like several labels in one text, but is taken for one class; give a path as a list "
            "of names, ['Arts', 'Music'], or the hierarchy.",
            stacklevel=3,
        )


def _smallest_hierarchy(form: str, labels: Any) -> tuple[Hierarchy, np.ndarray]:
    if form == "label sets":
        hierarchy = Hierarchy.from_paths(_paths(labels))
        return hierarchy, _classes_of(hierarchy)
    classes = np.arange(labels.shape[1]) if form == "multi-hot" else np.unique(labels)
    return Hierarchy([str(value) for value in classes], [[] for _ in classes]), classes


def _paths(labels: list[Any]) -> list[tuple[str, ...]]:
    """The paths of all documents without a hierarchy: a row of names is a path."""
    paths = []
    for document, of_document in enumerate(labels):
        try:
            paths += read_paths(of_document)
        except InputError as error:
            raise InputError(f"y: document {document}: {error}") from error
    return paths


def _progress_bar(total: int) -> Any:
    """The progress bar of `verbose`; needs tqdm."""
    require("htc[train]", "tqdm")
    from tqdm import tqdm

    return tqdm(total=total, desc="L-BFGS")


def _classes_of(hierarchy: Hierarchy) -> np.ndarray:
    """Names if they are unique, else paths."""
    if len(set(hierarchy.names)) == hierarchy.num_nodes:
        return np.array(hierarchy.names)
    return np.array([PATH_SEPARATOR.join(path) for path in hierarchy.paths])


def _encode(form: str, labels: Any, hierarchy: Hierarchy, classes: np.ndarray) -> Tensor:
    """Labels as targets. Returns: (D, N) bool, closed under ancestors."""
    if form == "multi-hot":
        return hierarchy.close(as_label_sets(labels, hierarchy, "y"))
    if form == "label sets":
        return hierarchy.encode(labels, allow_empty=True)
    node_of = {value: node for node, value in enumerate(classes.tolist())}
    nodes = [node_of[value] if value in node_of else _node(value, hierarchy) for value in labels.tolist()]
    return hierarchy.close(torch.nn.functional.one_hot(torch.tensor(nodes), hierarchy.num_nodes).bool())


def _node(label: Any, hierarchy: Hierarchy) -> int:
    if not isinstance(label, str):
        raise InputError(f"y: the label {label!r} is none of the hierarchy's: labels are texts, but {no_text(label)}.")
    return hierarchy.node(label)
