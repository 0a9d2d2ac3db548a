"""The objectives: what a model of N nodes is trained with, and how its logits become node probabilities.

Each objective is one class with

- `num_outputs`: how many logits the head must give, K;
- `loss(logits, targets)`: logits (B, K), targets (B, N) bool closed under ancestors -> a scalar;
- `probabilities(logits)`: (B, K) -> (B, N), the marginal probability of each node.

They are torch modules only so that their index tensors follow `.to(device)`; they hold no parameters.

Source: Plaud, Labeau, Saillenfest and Bonald, "Revisiting Hierarchical Text Classification: Inference and Metrics", CoNLL 2024,
section 3; the binary cross-entropy is the flat multi-label baseline of that paper.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from htc.errors import InputError, UnsuitableTargetsError
from htc.hierarchy import Hierarchy


class Objective(nn.Module):
    """What all objectives share; see the module's docstring for the contract.

    Attributes:
        num_outputs: K, the number of logits.
        coherent: whether `probabilities` never gives a node more than its parent.
    """

    coherent: bool

    def __init__(self, hierarchy: Hierarchy, num_outputs: int) -> None:
        super().__init__()
        self.hierarchy = hierarchy
        self.num_outputs = num_outputs

    def check_targets(self, targets: Tensor) -> None:
        """Refuse targets that the objective is not defined for. Args: targets (B, N) bool.

        Raises:
            UnsuitableTargetsError: an InputError naming the first such document.
        """
        empty = ~targets.any(1)
        if empty.any():
            raise UnsuitableTargetsError(int(empty.nonzero()[0]), "it has no label.")

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The training loss. Args: logits (B, K); targets (B, N) bool. Returns: a scalar."""
        raise NotImplementedError

    def probabilities(self, logits: Tensor) -> Tensor:
        """Node marginals. Args: logits (B, K). Returns: (B, N)."""
        raise NotImplementedError


class BCE(Objective):
    """Binary cross-entropy of every node by itself, mean over all B x N cells; probabilities need not be coherent.

    A head that starts at probability 0.5 for thousands of nodes spends its first steps on lowering all of them, and a short
    training does not get over those gradients. Start its output bias at `base_rate_log_odds` instead.
    """

    coherent = False

    def __init__(self, hierarchy: Hierarchy) -> None:
        super().__init__(hierarchy, hierarchy.num_nodes)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


def base_rate_log_odds(targets: Tensor, smoothing: float = 1.0) -> Tensor:
    """The logit of each node's share of the training documents: where an untrained binary classifier should start.

    Args:
        targets: (D, N) bool, training documents.
        smoothing: added to the counts of documents with and without the node, so that the logit is finite.

    Returns:
        (N,) float32.

    Source: the prior initialisation of Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, here node by node.
    """
    if smoothing <= 0:
        raise InputError(
            f"smoothing must be positive, not {smoothing}: a node in no document or in all has no finite logit else."
        )
    with_node = targets.sum(0).float()
    return ((with_node + smoothing) / (len(targets) - with_node + smoothing)).log()


class LeafSoftmax(Objective):
    """Cross-entropy over the leaves; a node's probability is the sum over the leaves below it."""

    coherent = True

    def __init__(self, hierarchy: Hierarchy) -> None:
        super().__init__(hierarchy, len(hierarchy.leaves))
        self.register_buffer("leaves", hierarchy.leaves, persistent=False)

    leaves: Tensor

    def check_targets(self, targets: Tensor) -> None:
        """Besides a label, each document needs exactly one leaf."""
        super().check_targets(targets)
        count = targets[:, self.leaves].sum(1)
        if (count != 1).any():
            document = int((count != 1).nonzero()[0])
            raise UnsuitableTargetsError(
                document,
                f"leaf softmax needs exactly one leaf, and it has {int(count[document])}; for several paths or inner endings "
                "use an objective such as bce.",
            )

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.check_targets(targets)
        return F.cross_entropy(logits, targets[:, self.leaves].to(torch.uint8).argmax(1))

    def probabilities(self, logits: Tensor) -> Tensor:
        return self.hierarchy.sum_over_leaves(logits.softmax(1))


class ConditionalSoftmax(Objective):
    """A softmax inside each sibling group: log-probabilities of the children given their parent, summed along the true path.

    With `priors` it is the paper's logit-adjusted form: tau * log prior is added to the logits in the loss and nowhere else, so
    that rare siblings are not crowded out (logit adjustment: Menon et al., ICLR 2021). A path may end at an inner node: the
    groups below it then do not count.

    Args:
        hierarchy: a tree.
        priors: (N,) the probability of each node given its parent, as `conditional_priors` gives it; None for the plain loss.
        tau: the strength of the adjustment.

    Raises:
        InputError: if the hierarchy is not a tree, or a prior is not positive.
    """

    coherent = True

    def __init__(self, hierarchy: Hierarchy, priors: Tensor | None = None, tau: float = 1.0) -> None:
        super().__init__(hierarchy, hierarchy.num_nodes)
        self.num_groups = int(hierarchy.sibling_group[-1]) + 1
        self.register_buffer("group", hierarchy.sibling_group, persistent=False)
        self.register_buffer("depth", hierarchy.depth.int(), persistent=False)
        if priors is None:
            adjustment = None
        elif priors.shape != (hierarchy.num_nodes,) or not bool((priors > 0).all()):
            raise InputError(f"priors must be {hierarchy.num_nodes} positive numbers, one for each node.")
        else:
            adjustment = tau * priors.float().log()
        self.register_buffer("adjustment", adjustment, persistent=False)

    group: Tensor
    depth: Tensor
    adjustment: Tensor | None

    def check_targets(self, targets: Tensor) -> None:
        """Besides a label, each document must have a single path: as many true nodes as its deepest one is deep."""
        super().check_targets(targets)
        several = targets.sum(1, dtype=torch.int32) != (targets * self.depth).amax(1)
        if several.any():
            raise UnsuitableTargetsError(
                int(several.nonzero()[0]),
                "conditional softmax needs a single path, and it has several or is not closed under ancestors; "
                "for several paths use an objective such as bce.",
            )

    def _conditional_log_probabilities(self, logits: Tensor) -> Tensor:
        """Log-softmax inside each sibling group. Args: logits (B, N). Returns: (B, N)."""
        shape = (len(logits), self.num_groups)
        index = self.group.expand(len(logits), -1)
        largest = logits.new_full(shape, -torch.inf).scatter_reduce(1, index, logits.detach(), "amax")
        shifted = logits - largest[:, self.group]
        total = logits.new_zeros(shape).index_add(1, self.group, shifted.exp())  # (B, G), at least 1
        return shifted - total.log()[:, self.group]

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.check_targets(targets)
        if self.adjustment is not None:
            logits = logits + self.adjustment
        return -(self._conditional_log_probabilities(logits) * targets).sum(1).mean()

    def probabilities(self, logits: Tensor) -> Tensor:
        return self.hierarchy.sum_along_paths(self._conditional_log_probabilities(logits)).exp()


def conditional_priors(targets: Tensor, hierarchy: Hierarchy, smoothing: float = 1.0) -> Tensor:
    """The share of each node among its siblings, counted on training targets: nu(y | parent of y).

    Args:
        targets: (D, N) bool, closed under ancestors; training documents only.
        hierarchy: a tree.
        smoothing: added to each count, so that a node which never occurs still has a positive prior; it also says how far a
            sibling group with few documents is trusted.

    Returns:
        (N,) float32, summing to one in each sibling group.
    """
    if smoothing <= 0:
        raise InputError(f"smoothing must be positive, not {smoothing}: a node without training documents has no prior else.")
    counts = targets.sum(0).float() + smoothing
    group = hierarchy.sibling_group
    totals = torch.zeros(int(group[-1]) + 1).index_add(0, group, counts)
    return counts / totals[group]
