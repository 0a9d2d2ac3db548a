"""`HierarchicalClassifier`: the objectives and inference rules with scikit-learn's interface, for any feature matrix.

    from htc.estimator import HierarchicalClassifier

    model = HierarchicalClassifier(hierarchy, objective="conditional_softmax", decoder="expected_hf")
    model.fit(X, [["Arts", "Music"], ["Science"], ...])

A linear model with an L2 penalty (`htc.models.linear`), trained by L-BFGS: no learning rate, the same result every time.
For deep encoders there is htc-train.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from warnings import warn

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
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
from htc.models.linear import Solver, assembled, fit_jointly, fit_part, parts_of
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import require

Decoder = Callable[[Tensor, Hierarchy], Tensor]
MakeObjective = Callable[[Hierarchy, Tensor], Objective]
ROWS = 128  # documents at a time; limits memory


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
        C: the inverse of the strength of the L2 penalty, as in scikit-learn: C times the sum of the documents' losses, and half
            the sum of squared weights, are minimised, whatever the objective. Smaller values for few or noisy documents.
        recursive_regularization: the weight, beside half the sum of squared weights, of half the sum of squared differences
            between the weights of parents and children; for objectives with an output for each node.
        class_weight: how much documents with a label as their lowest one count: `{label: weight}`, "balanced", or None.
        max_iter: iterations of L-BFGS at most.
        tol: the largest gradient of the mean loss at which it stops.
        n_jobs: processes that fit parts of the model at a time (`htc.models.linear`), as in scikit-learn.
        verbose: whether to show progress.

    Attributes:
        hierarchy_: the hierarchy in use.
        classes_: (N,) the nodes, in the order of the columns of `predict_proba`: as given in `y` where that is one-dimensional,
            names where these are unique, paths joined by " > " else.
        objective_: the objective in use.
        coef_: (K, n_features); sparse where X was and the objective has parts: features that do not occur in the documents
            below a node have no weight for its children.
        intercept_: (K,).
        n_iter_: iterations that L-BFGS took, of the part that took most.
    """

    def __init__(
        self,
        hierarchy: Hierarchy | None = None,
        objective: str | MakeObjective = AUTO,
        decoder: str | Decoder | None = None,
        *,
        objective_params: Mapping[str, Any] | None = None,
        C: float = 10.0,
        recursive_regularization: float = 0.0,
        class_weight: Mapping[Any, float] | str | None = None,
        max_iter: int = 500,
        tol: float = 1e-4,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.hierarchy = hierarchy
        self.objective = objective
        self.decoder = decoder
        self.objective_params = objective_params
        self.C = C
        self.recursive_regularization = recursive_regularization
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.tol = tol
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "HierarchicalClassifier":
        """Train.

        Args:
            X: (D, n_features), dense or sparse.
            y: the labels of D documents: one name each, or any other form of `htc.labels.label_sets.LabelSets`, a DataFrame
                with a column for each level say. Numbers, one each, are classes where no hierarchy is given, as anywhere in
                scikit-learn. In its searches, lists of label sets need `cv=KFold(...)`, as it stratifies arrays only.
            sample_weight: (D,) how much each document's loss counts; 1 by default.

        Raises:
            InputError: for unknown labels, label sets that do not fit the objective, or, without a hierarchy, sets of several
                names (a set is not a path).
        """
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32])
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
        self._minimize(X, targets, self._weights_of(targets, sample_weight))
        return self

    def _check_settings(self) -> None:
        if not self.C > 0:
            raise InputError(f"C must be a number above 0, not {self.C}.")
        if not 0 <= self.recursive_regularization < float("inf"):
            raise InputError(f"recursive_regularization must be a number from 0 on, not {self.recursive_regularization}.")
        if self.max_iter < 1 or not self.tol > 0:
            raise InputError(f"max_iter must be at least 1 and tol positive, not {self.max_iter} and {self.tol}.")

    def _make_objective(self, targets: Tensor) -> Objective:
        if callable(self.objective):
            return self.objective(self.hierarchy_, targets)
        name = suitable_objective(self.hierarchy_, targets).name if self.objective == AUTO else self.objective
        stops = bool((self._ends & ~self.hierarchy_.is_leaf).any()) and name in SOFTMAX_OBJECTIVES
        params = {"stop": stops and self.hierarchy_.is_tree, **(self.objective_params or {})}
        return objective_by_name(name, self.hierarchy_, targets, **params)

    def _weights_of(self, targets: Tensor, sample_weight: Any) -> np.ndarray:
        """(D,) of documents: their own times those of their lowest labels, the mean where there are several."""
        weight = _check_sample_weight(sample_weight, targets, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise InputError("every sample_weight is zero: no document is left to train on.")
        if self.class_weight is None:
            return weight
        lowest = self.hierarchy_.most_specific(targets).double().numpy()
        counts = lowest.sum(0)
        if isinstance(self.class_weight, str):
            if self.class_weight != "balanced":
                raise InputError(f"class_weight must be 'balanced', a dictionary or None, not {self.class_weight!r}.")
            of_label = len(targets) / (np.maximum(counts, 1) * (counts > 0).sum())
        else:
            of_label = np.ones(len(counts))
            nodes = {value: node for node, value in enumerate(self.classes_.tolist())}
            for label, value in self.class_weight.items():
                of_label[nodes[label] if label in nodes else _node(label, self.hierarchy_)] = value
        return weight * (lowest @ of_label) / np.maximum(lowest.sum(1), 1)

    def _minimize(self, X: Any, targets: Tensor, weight: np.ndarray) -> None:
        solver = Solver(self.C, self.tol, self.max_iter)
        parts = None if self.recursive_regularization else parts_of(self.objective_, targets)
        shape = (self.objective_.num_outputs, X.shape[1])
        bar = _progress_bar(self.max_iter if parts is None else len(parts)) if self.verbose else None
        if parts is None:
            advance = None if bar is None else lambda _: bar.update()
            penalty = self._recursive_penalty if self.recursive_regularization else None
            fits = [fit_jointly(self.objective_, X, targets, weight, solver, penalty, advance)]
            self.coef_, self.intercept_ = fits[0].weights, fits[0].intercepts
        else:
            parts = [part for part in parts if weight[part.documents].any()]
            jobs = (delayed(fit_part)(part, X[part.documents], weight[part.documents], solver) for part in parts)
            fits = []
            for fit in Parallel(self.n_jobs, return_as="generator")(jobs):
                fits.append(fit)
                if bar is not None:
                    bar.update()
            self.coef_, self.intercept_ = assembled(parts, fits, shape, issparse(X))
        if bar is not None:
            bar.close()
        self.n_iter_ = max((fit.iterations for fit in fits), default=0)
        problems = [fit.problem for fit in fits if fit.problem]
        if problems:
            of_how_many = "" if parts is None else f" for {len(problems)} of {len(parts)} parts"
            warn(
                f"L-BFGS did not converge in {self.n_iter_} iterations{of_how_many}: {problems[0]}. Raise "
                f"max_iter={self.max_iter}, or scale the features.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _recursive_penalty(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        tensor = torch.tensor(weights, requires_grad=True)
        penalty = self.recursive_regularization / self.C * recursive_regularization(tensor, self.hierarchy_)
        (gradient,) = torch.autograd.grad(penalty, tensor)
        return float(penalty.detach()), gradient.numpy()

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
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)
        probabilities = np.empty((X.shape[0], self.hierarchy_.num_nodes))
        for start in range(0, len(probabilities), ROWS):
            rows = slice(start, start + ROWS)
            # The weights come first where they are sparse: X @ coef_.T would copy all of them, transposed, for every part.
            scores = (self.coef_ @ X[rows].T).T if issparse(self.coef_) else X[rows] @ self.coef_.T
            scores = (scores.toarray(order="C") if issparse(scores) else scores) + self.intercept_
            probabilities[rows] = self.objective_.probabilities(torch.from_numpy(scores)).numpy()
        return probabilities

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
