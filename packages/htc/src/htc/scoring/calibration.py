"""Calibration: temperatures fitted on documents that were not trained on, and how far probabilities are from frequencies.

Notation for shapes: D documents, N nodes, K logits.
"""

from typing import Any

import torch
from torch import Tensor

from htc.decoding.rules import min_over_ancestors, top_down
from htc.labels.hierarchy import Hierarchy
from htc.labels.sparse_sets import SparseSets
from htc.losses.base import Objective
from htc.losses.stop import StopEvent
from rlkl_htc_common.errors import InputError

BINS = 15
LOWEST, HIGHEST = 0.05, 20.0  # temperatures that are fitted: with a few documents that all are right, the best would be 0
SMALLEST = 1e-12  # probability whose logarithm is taken


class Tempered(Objective):
    """An objective whose logits are divided by a temperature before its own normalisation.

    So a child never exceeds its parent: a softmax over siblings or leaves, or a conditional sigmoid, of other logits is one as
    well. Independent sigmoids (`BCE`, `Focal`, `CHAMP`) promise no coherence with any logits; their probabilities are lowered
    to those of the parents afterwards. A temperature above 1 makes probabilities less extreme. One for all logits leaves the
    order of siblings as it was, and with independent sigmoids that of all labels.

    >>> from htc.losses import ConditionalSoftmax
    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> logits = torch.tensor([[2.0, 0.0, 1.0, 0.0]])  # Arts, Science; Music, Film
    >>> ConditionalSoftmax(hierarchy).probabilities(logits)
    tensor([[0.8808, 0.1192, 0.6439, 0.2369]])
    >>> Tempered(ConditionalSoftmax(hierarchy), torch.tensor([2.0])).probabilities(logits)
    tensor([[0.7311, 0.2689, 0.4551, 0.2760]])

    Args:
        objective: whose logits these are.
        temperature: (1,) for all logits, or (max_depth,) for the logits of each depth. A stop has the depth of the children
            beside it; leaf softmax has logits of leaves only.

    Raises:
        InputError: for another number of temperatures, or one that is not positive.

    Source: Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599.
    """

    coherent = True

    def __init__(self, objective: Objective, temperature: Tensor) -> None:
        super().__init__(objective.hierarchy, objective.num_outputs)
        if temperature.shape not in ((1,), (self.hierarchy.max_depth,)):
            raise InputError(f"temperatures are one for all, or one for each of {self.hierarchy.max_depth} depths.")
        if not bool(((temperature > 0) & temperature.isfinite()).all()):
            raise InputError(f"a temperature must be a positive number, but they are {temperature.tolist()}.")
        self.objective, self.one_path, self.per_document = objective, objective.one_path, objective.per_document
        self.register_buffer("scale", _scale(objective, temperature), persistent=False)

    scale: Tensor

    def check_targets(self, targets: Tensor) -> None:
        """As the objective."""
        self.objective.check_targets(targets)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.objective.loss(logits / self.scale, targets)

    def probabilities(self, logits: Tensor) -> Tensor:
        return _tempered(self.objective, logits, self.scale)


def _tempered(objective: Objective, logits: Tensor, scale: Tensor) -> Tensor:
    """Args: logits (B, K); scale (1,) or (K,). Returns: (B, N)."""
    found = objective.probabilities(logits / scale)
    return found if objective.coherent else min_over_ancestors(found, objective.hierarchy)


def _scale(objective: Objective, temperature: Tensor) -> Tensor:
    """The temperature of each logit. Args: temperature (1,) or (max_depth,). Returns: (1,), or (K,) by the outputs' depth."""
    return temperature if len(temperature) == 1 else temperature[output_depth(objective).to(temperature.device) - 1]


def output_depth(objective: Objective) -> Tensor:
    """The depth of the node of each logit. Returns: (K,) int64."""
    if isinstance(objective, StopEvent):
        return output_depth(objective.objective)
    hierarchy = objective.hierarchy
    return hierarchy.depth if objective.num_outputs == hierarchy.num_nodes else hierarchy.depth[hierarchy.leaves]


def marginal_log_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """The log loss of all marginals: sum over nodes, mean over documents. It is least for the true probabilities.

    Args: probabilities (D, N); targets (D, N) bool. Returns: a scalar, float64.
    """
    of_truth = torch.where(targets, probabilities.double(), 1 - probabilities.double())
    return -of_truth.clamp_min(SMALLEST).log().sum(1).mean()


def fit_temperature(logits: Tensor, targets: Tensor, objective: Objective, by_depth: bool = False) -> Tensor:
    """The temperatures with the least `marginal_log_loss`, between 0.05 and 20.

    Args:
        logits: (D, K), of documents that were not trained on.
        targets: (D, N) bool, closed under ancestors.
        objective: the model's.
        by_depth: one for each depth, fitted together, in place of one for all.

    Returns:
        (1,), or (max_depth,) float32.

    Raises:
        InputError: for no document.
    """
    if not len(logits):
        raise InputError("a temperature is fitted on held-out documents, and there is none.")
    logits = logits.detach().double()
    sizes = objective.hierarchy.max_depth if by_depth else 1
    log_temperature = torch.zeros(sizes, dtype=torch.float64, device=logits.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        bounded = log_temperature.exp().clamp(LOWEST, HIGHEST)
        loss = marginal_log_loss(_tempered(objective, logits, _scale(objective, bounded)), targets)
        loss.backward()
        return loss

    with torch.inference_mode(False), torch.enable_grad():
        optimizer.step(closure)
    return log_temperature.detach().exp().clamp(LOWEST, HIGHEST).float().cpu()


class CalibrationErrors:
    """Accumulates the calibration error of the labels on each document's most probable path (`top_down`).

    In each of 15 equally wide bins the mean probability is compared with the share of labels that are true; the error is the
    mean difference, weighted by the number of labels (expected calibration error). Most other labels have probabilities close
    to 0, which would hide the error; the log loss counts them all.

    Source: Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, section 2.
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        self._sums = torch.zeros(3, hierarchy.max_depth, BINS, dtype=torch.float64)  # labels, probability, true
        self._log_loss, self._documents = 0.0, 0

    def update(self, true: SparseSets, probabilities: Tensor) -> None:
        """Add documents. Args: true: of d documents, closed; probabilities (d, N)."""
        targets = true.dense().to(probabilities.device)
        document, node = top_down(probabilities, self.hierarchy).nonzero(as_tuple=True)
        confidence = probabilities[document, node].double()
        place = (confidence * BINS).long().clamp(0, BINS - 1)
        place += BINS * (self.hierarchy.depth.to(node.device)[node] - 1)
        for row, weights in enumerate((torch.ones_like(confidence), confidence, targets[document, node].double())):
            counts = torch.bincount(place, weights, minlength=self._sums[0].numel())
            self._sums[row] += counts.cpu().reshape(self._sums[0].shape)
        self._log_loss += float(marginal_log_loss(probabilities, targets)) * len(true)
        self._documents += len(true)

    def compute(self) -> dict[str, Any]:
        """`error` over all depths, `by_depth`, and `log_loss`, of all marginals: sum over labels, mean over documents."""
        return {
            "error": _expected_error(self._sums.sum(1)),
            "by_depth": [_expected_error(of_depth) for of_depth in self._sums.unbind(1)],
            "log_loss": self._log_loss / self._documents,
        }


def _expected_error(sums: Tensor) -> float | None:
    """The error; None without labels. Args: sums (3, BINS)."""
    labels, probability, true = sums
    return float((probability - true).abs().sum() / labels.sum()) if bool(labels.any()) else None
