"""Linear models with an L2 penalty: the weights that minimise

    sum over documents of weight * loss  +  1 / (2 C) * sum of squared weights

as in scikit-learn's LogisticRegression: the loss of a document is the sum over its labels, and intercepts are not penalised.

Most objectives fall into parts that share no weights, such as a softmax over the children of one node, which only the documents
below that node see. `parts_of` finds them, and `fit_part` fits each by itself: small convex problems, in any order or at once.
`fit_jointly` takes any objective.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize
from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.losses import BCE, ConditionalSigmoid, ConditionalSoftmax, LeafSoftmax, Objective, StopEvent

Floats = NDArray[np.floating[Any]]
ROWS = 1024  # documents at a time, where a loss is computed by torch; bounds memory
BLOCK = 64  # outputs at a time, of those that share no weights but have all documents in common


@dataclass(frozen=True)
class Part:
    """Outputs of an objective that are fitted by themselves.

    Attributes:
        outputs: (k,) their numbers.
        documents: (n,) the numbers of the documents that count.
        truth: (n,) int64, which of the outputs is true, for a softmax over them; (n, k) bool for a yes or no of each.
        shift: (k,) what the objective adds to the scores of a softmax in its loss; 0 for none.
    """

    outputs: NDArray[np.int64]
    documents: NDArray[np.int64]
    truth: NDArray[Any]
    shift: Floats | float = 0.0


@dataclass(frozen=True)
class Fit:
    """What was found.

    Attributes:
        weights: (k, features); of a part, only for the features in `columns`.
        intercepts: (k,).
        iterations: of L-BFGS.
        problem: why it did not converge; empty if it did.
        columns: the features that occur in the part's documents, None for all.
    """

    weights: Floats
    intercepts: Floats
    iterations: int
    problem: str
    columns: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Solver:
    """Settings of L-BFGS.

    Attributes:
        C: the inverse of the strength of the penalty; infinite for none.
        tol: the largest gradient at which it stops, of the mean loss.
        max_iter: iterations at most.
    """

    C: float
    tol: float
    max_iter: int

    def minimize(
        self, loss: Callable[[Floats, Floats], tuple[float, Floats, Floats]], shape: tuple[int, int], total: float,
        start: Floats | None = None, callback: Callable[[Any], None] | None = None,
    ) -> Fit:  # fmt: skip
        """Minimise a loss and the penalty.

        Args:
            loss: of weights (k, features) and intercepts (k,), a sum over documents, and its gradients.
            shape: (k, features).
            total: the sum of the documents' weights.
            start: intercepts to begin with; 0 if not given.
            callback: called after each iteration.
        """
        size = shape[0] * shape[1]
        penalty = 0.0 if np.isinf(self.C) else 1 / self.C
        first = np.zeros(size + shape[0])
        if start is not None:
            first[size:] = start

        def value_and_gradient(flat: Floats) -> tuple[float, Floats]:
            weights, intercepts = flat[:size].reshape(shape), flat[size:]
            value, of_weights, of_intercepts = loss(weights, intercepts)
            value += 0.5 * penalty * float(flat[:size] @ flat[:size])
            gradient = np.empty_like(flat)
            gradient[:size] = of_weights.ravel()
            gradient[:size] += penalty * flat[:size]
            gradient[size:] = of_intercepts
            gradient /= total
            return value / total, gradient

        options = {"maxiter": self.max_iter, "gtol": self.tol, "ftol": 64 * np.finfo(float).eps}
        found = minimize(value_and_gradient, first, jac=True, method="L-BFGS-B", options=options, callback=callback)
        problem = "" if found.success else str(found.message)
        return Fit(found.x[:size].reshape(shape), found.x[size:], int(found.nit), problem)


def parts_of(objective: Objective, targets: Tensor) -> list[Part] | None:
    """The parts of an objective whose loss is a sum over outputs that share no weights; None for any other.

    Args:
        targets: (D, N) bool, closed under ancestors.
    """
    if isinstance(objective, StopEvent):
        return parts_of(objective.objective, objective.extend(targets))
    if type(objective) is ConditionalSoftmax:
        return _sibling_groups(objective, targets.numpy())
    if type(objective) is LeafSoftmax:
        truth = targets[:, objective.leaves].to(torch.uint8).argmax(1).numpy()
        return [Part(np.arange(objective.num_outputs), np.arange(len(targets)), truth)]
    if isinstance(objective, BCE):
        every, true = np.arange(len(targets)), targets.numpy()
        blocks = np.split(np.arange(objective.num_outputs), range(BLOCK, objective.num_outputs, BLOCK))
        return [Part(block, every, true[:, block]) for block in blocks]
    if type(objective) is ConditionalSigmoid:
        return _nodes_by_parents(objective.hierarchy, targets.numpy())
    return None


def _sibling_groups(objective: ConditionalSoftmax, targets: NDArray[np.bool_]) -> list[Part]:
    parts = []
    shift = None if objective.adjustment is None else objective.adjustment.double().numpy()
    group = objective.group.numpy()
    for siblings in np.split(np.arange(len(group)), np.flatnonzero(np.diff(group)) + 1):
        documents = np.flatnonzero(targets[:, siblings].any(1))
        if len(siblings) > 1 and len(documents):  # an only child is certain; siblings without documents are as likely
            truth = targets[np.ix_(documents, siblings)].argmax(1)
            parts.append(Part(siblings, documents, truth, 0.0 if shift is None else shift[siblings]))
    return parts


def _nodes_by_parents(hierarchy: Hierarchy, targets: NDArray[np.bool_]) -> list[Part]:
    by_parents: dict[tuple[int, ...], list[int]] = {}
    for node, parents in enumerate(hierarchy.parents):
        by_parents.setdefault(tuple(sorted(parents)), []).append(node)
    parts = []
    for parents, children in by_parents.items():
        nodes = np.array(children)
        documents = np.flatnonzero(targets[:, list(parents)].all(1))
        if len(documents):
            parts.append(Part(nodes, documents, targets[np.ix_(documents, nodes)]))
    return parts


def fit_part(part: Part, rows: Any, weight: Floats, solver: Solver) -> Fit:
    """Fit a part.

    Args:
        rows: (n, features), dense or CSR: those of the part's documents.
        weight: (n,) of those documents.
    """
    columns = None
    if sparse.issparse(rows):
        columns = np.unique(rows.indices)
        rows = sparse.csr_array((rows.data, np.searchsorted(columns, rows.indices), rows.indptr), (rows.shape[0], len(columns)))
    gradient_of = _softmax if part.truth.ndim == 1 else _yes_or_no

    def loss(weights: Floats, intercepts: Floats) -> tuple[float, Floats, Floats]:
        scores = np.asarray(rows @ weights.T.astype(rows.dtype, copy=False), dtype=float) + (intercepts + part.shift)
        value, towards = gradient_of(scores, part.truth, weight)
        return value, np.asarray((rows.T @ towards.astype(rows.dtype, copy=False)).T, dtype=float), towards.sum(0)

    fit = solver.minimize(loss, (len(part.outputs), rows.shape[1]), float(weight.sum()))
    return Fit(fit.weights, fit.intercepts, fit.iterations, fit.problem, columns)


def _softmax(scores: Floats, truth: NDArray[np.int64], weight: Floats) -> tuple[float, Floats]:
    """Cross-entropy of a softmax, and its gradient. Args: scores (n, k), overwritten; truth (n,); weight (n,)."""
    every = np.arange(len(truth))
    scores -= scores.max(1, keepdims=True)
    of_true = scores[every, truth]
    np.exp(scores, out=scores)
    total = scores.sum(1)
    scores *= (weight / total)[:, None]
    scores[every, truth] -= weight
    return float(weight @ (np.log(total) - of_true)), scores


def _yes_or_no(scores: Floats, truth: NDArray[np.bool_], weight: Floats) -> tuple[float, Floats]:
    """Binary cross-entropies, and their gradient. Args: scores (n, k); truth (n, k) bool; weight (n,)."""
    away = np.where(truth, -scores, scores)  # log(1 + exp(away)) is the loss
    value = float(weight @ np.logaddexp(0, away).sum(1))
    wrong = np.exp(-np.logaddexp(0, -away)) * weight[:, None]
    return value, np.where(truth, -wrong, wrong)


def fit_jointly(
    objective: Objective, features: Any, targets: Tensor, weight: Floats, solver: Solver,
    penalty: Callable[[Floats], tuple[float, Floats]] | None = None, callback: Callable[[Any], None] | None = None,
) -> Fit:  # fmt: skip
    """Fit all outputs of any objective at once.

    Args:
        features: (D, F), dense or CSR.
        targets: (D, N) bool.
        weight: (D,) of the documents.
        penalty: a further one: of weights (K, features), its value and gradient.
        callback: called after each iteration.
    """
    blocks = [np.arange(start, min(start + ROWS, len(weight))) for start in range(0, len(weight), ROWS)]
    groups = [rows[weight[rows] == each] for rows in blocks for each in np.unique(weight[rows])]  # documents of one weight

    def loss(weights: Floats, intercepts: Floats) -> tuple[float, Floats, Floats]:
        value, of_weights, of_intercepts = 0.0, np.zeros_like(weights), np.zeros_like(intercepts)
        for rows in groups:
            scores = np.asarray(features[rows] @ weights.T.astype(features.dtype, copy=False), dtype=float) + intercepts
            logits = torch.from_numpy(scores).requires_grad_()
            part = objective.loss(logits, targets[rows]) * (objective.per_document * len(rows) * weight[rows[0]])
            (towards,) = torch.autograd.grad(part, logits)
            of_weights += np.asarray((features[rows].T @ towards.numpy().astype(features.dtype, copy=False)).T, dtype=float)
            of_intercepts += towards.numpy().sum(0)
            value += float(part.detach())
        if penalty is not None:
            more, of_penalty = penalty(weights)
            value, of_weights = value + more, of_weights + of_penalty
        return value, of_weights, of_intercepts

    start = None if objective.initial_bias is None else objective.initial_bias.double().numpy()
    return solver.minimize(loss, (objective.num_outputs, features.shape[1]), float(weight.sum()), start, callback)


def assembled(parts: list[Part], fits: list[Fit], shape: tuple[int, int], as_sparse: bool) -> tuple[Any, Floats]:
    """The weights (K, features) and intercepts (K,) of all parts: scores without an objective's shift.

    Args:
        shape: (K, features).
        as_sparse: whether the weights are to be a CSR array.
    """
    intercepts = np.zeros(shape[0])
    for part, fit in zip(parts, fits, strict=True):
        intercepts[part.outputs] = fit.intercepts
    if as_sparse:
        return _csr(parts, fits, shape), intercepts
    weights = np.zeros(shape)
    for part, fit in zip(parts, fits, strict=True):
        weights[part.outputs] = fit.weights
    return weights, intercepts


def _csr(parts: list[Part], fits: list[Fit], shape: tuple[int, int]) -> Any:
    """The weights of all parts as a CSR array, written row by row: pairs of all entries would take four times its memory."""
    columns = [np.arange(shape[1]) if fit.columns is None else fit.columns for fit in fits]
    pointers = np.zeros(shape[0] + 1, dtype=np.int64)
    for part, found in zip(parts, columns, strict=True):
        pointers[part.outputs + 1] = len(found)
    np.cumsum(pointers, out=pointers)
    small = max(pointers[-1], shape[1]) <= np.iinfo(np.int32).max
    indices, values = np.empty(pointers[-1], dtype=np.int32 if small else np.int64), np.empty(pointers[-1])
    for part, fit, found in zip(parts, fits, columns, strict=True):
        for output, row in zip(part.outputs, fit.weights, strict=True):
            indices[pointers[output] : pointers[output + 1]] = found
            values[pointers[output] : pointers[output + 1]] = row
    return sparse.csr_array((values, indices, pointers.astype(indices.dtype)), shape)
