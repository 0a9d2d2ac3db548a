"""Objectives with a binary decision for every node: any label sets, also several paths and paths to inner nodes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from htc.labels.distances import diameter, distance_to_closed_set
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import documents_per_label
from htc.labels.sparse_sets import SparseSets
from htc.losses.base import Objective
from htc.settings import LossSettings
from rlkl_htc_common.errors import InputError

REDUCTIONS = ("mean", "sum")


class BCE(Objective):
    """Binary cross-entropy of every node, mean over all B x N cells; probabilities need not be coherent.

    A head that starts at probability 0.5 for thousands of nodes spends its first steps on lowering them all, and a short
    training does not recover from these gradients. Start its output bias at `base_rate_log_odds` instead.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"]])
    >>> objective = BCE(hierarchy)
    >>> round(float(objective.loss(torch.zeros(1, 3), hierarchy.encode([["Arts", "Film"]]))), 4)  # log 2
    0.6931
    """

    coherent = False

    def __init__(self, hierarchy: Hierarchy) -> None:
        super().__init__(hierarchy, hierarchy.num_nodes)
        self.per_document = float(hierarchy.num_nodes)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


def base_rate_log_odds(targets: Tensor | SparseSets, smoothing: float = 1.0) -> Tensor:
    """The logit of each node's share of the training documents: the best initial bias of a binary classifier.

    Args:
        targets: (D, N) bool, training documents.
        smoothing: added to the numbers of documents with and without the node, so that the logit is finite.

    Returns:
        (N,) float32.

    Source: the prior initialisation of Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, here per node.
    """
    if smoothing <= 0:
        raise InputError(
            f"smoothing must be positive, not {smoothing}: a node in no document or in all has no finite logit else."
        )
    with_node = documents_per_label(targets).float()
    return ((with_node + smoothing) / (len(targets) - with_node + smoothing)).log()


class BCEAtBaseRates(BCE):
    """`BCE` with an initial output bias of `base_rate_log_odds`.

    Args: targets (D, N) bool, training documents; None for a trained model. prior_smoothing: the smoothing.
    """

    def __init__(self, hierarchy: Hierarchy, targets: Tensor | SparseSets | None, prior_smoothing: float = 1.0) -> None:
        super().__init__(hierarchy)
        if targets is not None:
            self.initial_bias = base_rate_log_odds(targets, prior_smoothing)


class Focal(Objective):
    """Binary cross-entropy with less weight on cells that are already right: the weight is (1 - p)^gamma, p being the
    probability of the true value; mean over all B x N cells.

    Args:
        gamma: 0 gives `BCE`.
        alpha: the weight of true cells; 1 - alpha is that of the others; None for equal weights. The public code of Plaud et
            al. uses 0.25.

    Raises:
        InputError: for a negative gamma, or an alpha that is not between 0 and 1.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; there with alpha 0.25.
    """

    coherent = False

    def __init__(self, hierarchy: Hierarchy, gamma: float = LossSettings.gamma, alpha: float | None = None) -> None:
        super().__init__(hierarchy, hierarchy.num_nodes)
        if gamma < 0:
            raise InputError(f"gamma must not be negative, but is {gamma}.")
        if alpha is not None and not 0 < alpha < 1:
            raise InputError(f"alpha must be between 0 and 1, not {alpha}.")
        self.gamma, self.alpha = gamma, alpha
        self.per_document = float(hierarchy.num_nodes)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        towards_truth = torch.where(targets.bool(), logits, -logits)  # (B, N)
        cells = -F.logsigmoid(towards_truth) * (self.gamma * F.logsigmoid(-towards_truth)).exp()
        if self.alpha is not None:
            cells = cells * torch.where(targets.bool(), self.alpha, 1 - self.alpha)
        return cells.mean()

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


class CHAMP(Objective):
    """Binary cross-entropy in which a wrong label costs more if it is further from the closest true one.

    A wrong label at distance d costs -log(1 - p) (1 + beta ((d / d_max + 1)^2 - 1)). d is in edges, with the root as a node;
    d_max is the largest distance between two labels. If targets are closed under ancestors, the closest true label is the
    lowest true one on the way up. So no (B, N, N) tensor is needed, only one pass down the levels.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science", "Physics"]])
    >>> objective, targets = CHAMP(hierarchy, beta=1.0), hierarchy.encode([["Arts", "Music"]])
    >>> logits = torch.full((2, 5), -5.0)  # Arts, Science, Music, Film, Physics
    >>> logits[0, 3] = logits[1, 4] = 5.0  # wrong once with Film, which is near, once with Physics
    >>> bool(objective.loss(logits[:1], targets) < objective.loss(logits[1:], targets))
    True

    Args:
        hierarchy: a tree or a DAG (see `htc.labels.distances`).
        beta: the weight of the distance; 0 gives `BCE`. The configs of the public code of Plaud et al. have 1e-4.
        reduction: `mean` over all B x N cells, as in `BCE`, or `sum` over labels and mean over documents, as in that code: N
            times as large, which changes gradient clipping. (That code also counts a label twice if two true ones are equally
            near.)

    Raises:
        InputError: for a negative beta, or another reduction.

    Source: Vaswani et al., "All Mistakes Are Not Equal: Comprehensive Hierarchy Aware Multi-label Predictions (CHAMP)", 2022.
    """

    coherent = False

    def __init__(self, hierarchy: Hierarchy, beta: float = LossSettings.beta, reduction: str = "mean") -> None:
        super().__init__(hierarchy, hierarchy.num_nodes)
        if beta < 0:
            raise InputError(f"beta must not be negative, but is {beta}.")
        if reduction not in REDUCTIONS:
            raise InputError(f"reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}.")
        self.beta, self.reduction = beta, reduction
        self.per_document = float(hierarchy.num_nodes) if reduction == "mean" else 1.0
        self.largest_distance = diameter(hierarchy)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        distance = distance_to_closed_set(targets, self.hierarchy).to(logits.dtype)  # (B, N), 0 where true
        severity = 1 + self.beta * ((distance / self.largest_distance + 1) ** 2 - 1)
        if self.reduction == "mean":
            return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), weight=severity)
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), severity, reduction="none").sum(1).mean()

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


class ConditionalSigmoid(Objective):
    """Binary cross-entropy of each node given its parents: sum over nodes whose parents are all true, mean over documents. Top
    nodes always count.

    A node's probability is its conditional probability times the probability of its parent (in a DAG: of its least probable
    one).
    """

    coherent = True

    def __init__(self, hierarchy: Hierarchy) -> None:
        super().__init__(hierarchy, hierarchy.num_nodes)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        targets = targets.bool()
        parent, child = self.hierarchy.edges.to(targets.device)
        untrue_parents = torch.zeros(targets.shape[::-1], device=targets.device)  # (N, B)
        untrue_parents.index_add_(0, child, (~targets).T[parent].float())
        costs = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
        return costs.masked_fill(untrue_parents.T > 0, 0.0).sum(1).mean()

    def probabilities(self, logits: Tensor) -> Tensor:
        return self.hierarchy.sum_along_paths(F.logsigmoid(logits)).exp()
