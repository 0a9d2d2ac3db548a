"""Objectives with a softmax over siblings or leaves: one path for each document."""

import torch
import torch.nn.functional as F
from torch import Tensor

from htc.labels.distances import distance_to_closed_set, leaf_diameter
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import documents_per_label, labels_per_document
from htc.labels.sparse_sets import SparseSets, spread
from htc.losses.base import Objective, UnsuitableTargetsError
from rlkl_htc_common.errors import InputError

MARGIN_FORMS = ("edges", "relative")
PRIORS = ("smoothed", "counts")


def check_one_leaf(targets: Tensor, hierarchy: Hierarchy, objective: str) -> None:
    """Check that each document has exactly one leaf and its ancestors.

    Args:
        targets: (B, N) bool.
        objective: the objective's name in errors.

    Raises:
        UnsuitableTargetsError: with the first document that has not.
    """
    leaves = hierarchy.leaves.to(targets.device)
    document_of, column = targets[:, leaves].nonzero(as_tuple=True)
    count = torch.bincount(document_of, minlength=len(targets))
    if (count != 1).any():
        document = int((count != 1).nonzero()[0])
        raise UnsuitableTargetsError(
            document,
            f"{objective} needs exactly one leaf, and it has {int(count[document])}; for endings at inner nodes wrap "
            "it in StopEvent (loss.stop=true), for several paths use an objective such as bce.",
        )
    leaf = leaves[column]
    other = labels_per_document(targets) != hierarchy.closure_size.to(targets.device)[leaf]
    if other.any():
        raise UnsuitableTargetsError(
            int(other.nonzero()[0]),
            f"{objective} needs one leaf and its ancestors, and it has other labels too or lacks an ancestor; for several "
            "paths use an objective such as bce.",
        )


class LeafSoftmax(Objective):
    """Cross-entropy over the leaves; a node's probability is the sum over the leaves below it.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> objective = LeafSoftmax(hierarchy)
    >>> logits = torch.tensor([[0.5, 0.25, 0.25]]).log()  # Science, Music, Film
    >>> objective.probabilities(logits)  # Arts, Science, Music, Film
    tensor([[0.5000, 0.5000, 0.2500, 0.2500]])
    >>> round(float(objective.loss(logits, hierarchy.encode([["Science"]]))), 4)  # -log 0.5
    0.6931
    """

    coherent = True

    def __init__(self, hierarchy: Hierarchy) -> None:
        super().__init__(hierarchy, len(hierarchy.leaves))
        self.one_path = hierarchy.is_tree
        self.register_buffer("leaves", hierarchy.leaves, persistent=False)

    leaves: Tensor

    def check_targets(self, targets: Tensor) -> None:
        """Each document needs exactly one leaf and its ancestors."""
        super().check_targets(targets)
        check_one_leaf(targets, self.hierarchy, "leaf softmax")

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.check_targets(targets)
        return F.cross_entropy(logits, targets[:, self.leaves].to(torch.uint8).argmax(1))

    def probabilities(self, logits: Tensor) -> Tensor:
        return self.hierarchy.sum_over_leaves(logits.softmax(1))


class ConditionalSoftmax(Objective):
    """A softmax inside each sibling group: log-probabilities of children given their parent, summed along the true path.

    With `priors` it is the paper's logit-adjusted form: tau * log prior is added to the logits, only in the loss, so that rare
    siblings are not suppressed (logit adjustment: Menon et al., ICLR 2021). A path may end at an inner node: groups below it
    then do not count.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> objective = ConditionalSoftmax(hierarchy)
    >>> logits = torch.tensor([[0.6, 0.4, 0.5, 0.5]]).log()  # Arts, Science; Music, Film
    >>> objective.probabilities(logits)
    tensor([[0.6000, 0.4000, 0.3000, 0.3000]])
    >>> targets = hierarchy.encode([["Arts", "Music"]])
    >>> round(float(objective.loss(logits, targets)), 4)  # -log 0.6 - log 0.5
    1.204
    >>> adjusted = ConditionalSoftmax(hierarchy, priors=conditional_priors(targets, hierarchy))
    >>> bool(adjusted.loss(logits, targets) < objective.loss(logits, targets))  # frequent labels cost less
    True

    Args:
        hierarchy: a tree.
        priors: (N,) the probability of each node given its parent, from `conditional_priors`, or from `counted_priors` as in
            the paper's code; None for the plain loss.
        tau: the strength of the adjustment.

    Raises:
        InputError: if the hierarchy is not a tree, or a prior is not positive.
    """

    coherent = True
    one_path = True

    def __init__(self, hierarchy: Hierarchy, priors: Tensor | None = None, tau: float = 1.0) -> None:
        super().__init__(hierarchy, hierarchy.num_nodes)
        self.num_groups = int(hierarchy.sibling_group[-1]) + 1
        self.register_buffer("group", hierarchy.sibling_group, persistent=False)
        sizes = torch.bincount(hierarchy.sibling_group)
        self.register_buffer("siblings", sizes[hierarchy.sibling_group], persistent=False)
        self.register_buffer("first_sibling", (sizes.cumsum(0) - sizes)[hierarchy.sibling_group], persistent=False)
        self.register_buffer("depth", hierarchy.depth, persistent=False)
        if priors is None:
            adjustment = None
        elif priors.shape != (hierarchy.num_nodes,) or not bool((priors > 0).all()):
            raise InputError(f"priors must be {hierarchy.num_nodes} positive numbers, one for each node.")
        else:
            adjustment = tau * priors.float().log()
        self.register_buffer("adjustment", adjustment, persistent=False)

    group: Tensor
    siblings: Tensor
    first_sibling: Tensor
    depth: Tensor
    adjustment: Tensor | None

    def check_targets(self, targets: Tensor) -> None:
        """Each document needs a single path: the number of its true nodes is the depth of the deepest one."""
        super().check_targets(targets)
        document, node = targets.nonzero(as_tuple=True)
        labels = torch.bincount(document, minlength=len(targets))
        several = labels != torch.zeros_like(labels).scatter_reduce(0, document, self.depth[node], "amax")
        if several.any():
            raise UnsuitableTargetsError(
                int(several.nonzero()[0]),
                "conditional softmax needs a single path, and it has several or is not closed under ancestors; "
                "for several paths use an objective such as bce.",
            )

    def _conditional_log_probabilities(self, logits: Tensor) -> Tensor:
        """Log-softmax inside each sibling group. Args: logits (B, N). Returns: (B, N)."""
        shape = (logits.shape[0], self.num_groups)  # not len, which an exported graph would take for a constant
        index = self.group.expand(logits.shape[0], -1)
        largest = logits.new_full(shape, -torch.inf).scatter_reduce(1, index, logits.detach(), "amax")
        shifted = logits - largest[:, self.group]
        total = logits.new_zeros(shape).index_add(1, self.group, shifted.exp())  # (B, G), at least 1
        return shifted - total.log()[:, self.group]

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.check_targets(targets)
        # Only the siblings of true nodes matter: a few dozen logits per document, for any number of nodes.
        document, node = targets.nonzero(as_tuple=True)  # (M,)
        row, sibling = spread(self.first_sibling[node], self.siblings[node])
        scores = logits[document[row], sibling]  # concatenated sibling groups
        if self.adjustment is not None:
            scores = scores + self.adjustment[sibling]
        largest = scores.new_full(node.shape, -torch.inf).scatter_reduce(0, row, scores.detach(), "amax")
        total = scores.new_zeros(node.shape).index_add(0, row, (scores - largest[row]).exp())
        of_true = scores[sibling == node[row]]
        return (largest + total.log() - of_true).sum() / len(targets)

    def probabilities(self, logits: Tensor) -> Tensor:
        return self.hierarchy.sum_along_paths(self._conditional_log_probabilities(logits)).exp()


def conditional_priors(targets: Tensor | SparseSets, hierarchy: Hierarchy, smoothing: float = 1.0) -> Tensor:
    """The share of each node among its siblings, counted on training targets: nu(y | parent of y).

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"]])
    >>> conditional_priors(hierarchy.encode([["Arts", "Music"]] * 2), hierarchy)  # Arts; Music, Film
    tensor([1.0000, 0.7500, 0.2500])

    Args:
        targets: (D, N) bool, closed under ancestors, dense or sparse; training documents only.
        hierarchy: a tree.
        smoothing: added to each count, so that every prior is positive; it also moves sibling groups with few documents towards
            equal priors. The public code of Plaud et al. has none, see `counted_priors`.

    Returns:
        (N,) float32, summing to one in each sibling group.
    """
    if smoothing <= 0:
        raise InputError(f"smoothing must be positive, not {smoothing}: a node without training documents has no prior else.")
    return _shares_among_siblings(documents_per_label(targets).float() + smoothing, hierarchy)


def counted_priors(targets: Tensor | SparseSets, hierarchy: Hierarchy) -> Tensor:
    """The share of each node among its siblings by plain counts (1 for a node that never occurs), as in the public code of
    Plaud et al., which also counts validation documents.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"]])
    >>> counted_priors(hierarchy.encode([["Arts", "Music"]] * 2), hierarchy)  # Arts; Music, Film
    tensor([1.0000, 0.6667, 0.3333])

    Args and returns: as `conditional_priors`.
    """
    return _shares_among_siblings(documents_per_label(targets).float().clamp_min(1.0), hierarchy)


def _shares_among_siblings(counts: Tensor, hierarchy: Hierarchy) -> Tensor:
    group = hierarchy.sibling_group
    totals = torch.zeros(int(group[-1]) + 1).index_add(0, group, counts)
    return counts / totals[group]


def logit_adjusted_softmax(
    hierarchy: Hierarchy,
    targets: Tensor | SparseSets | None,
    tau: float = 1.0,
    prior_smoothing: float = 1.0,
    priors: str = "smoothed",
) -> ConditionalSoftmax:
    """`ConditionalSoftmax` with priors from training targets.

    Args:
        hierarchy: a tree.
        targets: (D, N) bool; None for a trained model: its probabilities need no priors.
        tau: the strength of the adjustment.
        prior_smoothing: of `conditional_priors`.
        priors: `smoothed` for `conditional_priors`; `counts` for `counted_priors`, as in the public code of Plaud et al.
    """
    if targets is None:
        return ConditionalSoftmax(hierarchy)
    if priors not in PRIORS:
        raise InputError(f"priors must be one of {', '.join(PRIORS)}, not {priors!r}.")
    counted = priors == "counts"
    found = counted_priors(targets, hierarchy) if counted else conditional_priors(targets, hierarchy, prior_smoothing)
    return ConditionalSoftmax(hierarchy, found, tau)


class ParameterSharingSoftmax(Objective):
    """A softmax over leaves. A leaf's score is the sum of node scores along its path: leaves share the scores of common
    ancestors. A node's probability is the sum over the leaves below it.

    Args:
        hierarchy: a tree.
        margin: in the loss, margin times the distance to the true leaf is added to the scores of the other leaves: a leaf that
            is further away must have a lower score. 0 for none.
        margin_form: the distance. `edges`: the number of edges, as in Valmadre's code; `relative`: the number of nodes on the
            way, both leaves included, divided by the largest such number, as in the public code of Plaud et al.

    Raises:
        InputError: if the hierarchy is not a tree, for a negative margin, or another form.

    Source: Valmadre, "Hierarchical classification at multiple operating points", NeurIPS 2022.
    """

    coherent = True
    one_path = True

    def __init__(self, hierarchy: Hierarchy, margin: float = 0.0, margin_form: str = "edges") -> None:
        super().__init__(hierarchy, hierarchy.num_nodes)
        if margin < 0:
            raise InputError(f"margin must not be negative, but is {margin}.")
        if margin_form not in MARGIN_FORMS:
            raise InputError(f"margin_form must be one of {', '.join(MARGIN_FORMS)}, not {margin_form!r}.")
        hierarchy.parent  # noqa: B018  raises unless this is a tree
        self.margin, self.margin_form = margin, margin_form
        self.largest_distance = leaf_diameter(hierarchy)
        self.register_buffer("leaves", hierarchy.leaves, persistent=False)

    leaves: Tensor

    def check_targets(self, targets: Tensor) -> None:
        """Each document needs exactly one leaf and its ancestors."""
        super().check_targets(targets)
        check_one_leaf(targets, self.hierarchy, "parameter-sharing softmax")

    def _leaf_scores(self, logits: Tensor) -> Tensor:
        return self.hierarchy.sum_along_paths(logits)[:, self.leaves]  # (B, L)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.check_targets(targets)
        scores = self._leaf_scores(logits)
        if self.margin:
            depth = self.hierarchy.depth.to(targets.device)[self.leaves]
            off_path = distance_to_closed_set(targets, self.hierarchy)[:, self.leaves]  # (B, L)
            common = (depth - off_path).clamp_min(0)  # the depth of the lowest common ancestor with the true leaf
            distance = depth + targets.sum(1, keepdim=True) - 2 * common
            if self.margin_form == "relative":
                distance = torch.where(distance > 0, distance + 1, 0) / (self.largest_distance + 1)
            scores = scores + self.margin * distance.to(scores.dtype)
        return F.cross_entropy(scores, targets[:, self.leaves].to(torch.uint8).argmax(1))

    def probabilities(self, logits: Tensor) -> Tensor:
        return self.hierarchy.sum_over_leaves(self._leaf_scores(logits).softmax(1))
