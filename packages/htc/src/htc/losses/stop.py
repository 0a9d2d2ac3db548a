"""Paths that end at inner nodes, for the softmax objectives."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.labels.sparse_sets import SparseSets
from htc.losses.base import Objective, UnsuitableTargetsError

STOP = "\N{END OF TEXT}stop"  # not a possible label


class StopEvent(Objective):
    """Any softmax objective, over a hierarchy with an extra leaf, the stop, under every inner node.

    A path that ends at an inner node continues to its stop, so that it ends at a leaf of the extended hierarchy. The
    probability that a path ends at a node is then the node's probability minus the sum over its children
    (`htc.decoding.expected.end_probabilities`); the rules in `htc.decoding.expected` use it.

    >>> from htc.losses import ConditionalSoftmax
    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> objective = StopEvent(hierarchy, ConditionalSoftmax)
    >>> objective.num_outputs  # four labels, and the stop at Arts
    5
    >>> objective.probabilities(torch.zeros(1, 5))  # Arts, Science, Music, Film
    tensor([[0.5000, 0.5000, 0.1667, 0.1667]])

    Args:
        hierarchy: a tree.
        make: makes the objective for the extended hierarchy; count priors on `extend(targets)`.

    Attributes:
        extended: the hierarchy with the stops.
    """

    coherent = True
    one_path = True

    def __init__(self, hierarchy: Hierarchy, make: Callable[[Hierarchy], Objective]) -> None:
        hierarchy.parent  # noqa: B018  raises unless this is a tree
        inner = (~hierarchy.is_leaf).nonzero().squeeze(1)
        names = [*hierarchy.names, *[STOP] * len(inner)]
        extended = Hierarchy(names, [*hierarchy.parents, *([node] for node in inner.tolist())])
        objective = make(extended)
        super().__init__(hierarchy, objective.num_outputs)
        self.extended, self.objective = extended, objective
        kept = [extended.node(path) for path in hierarchy.paths]
        stops = [extended.node((*hierarchy.paths[node], STOP)) for node in inner.tolist()]
        self.register_buffer("inner", inner, persistent=False)
        self.register_buffer("kept", torch.tensor(kept), persistent=False)
        self.register_buffer("stops", torch.tensor(stops, dtype=torch.long), persistent=False)

    kept: Tensor
    stops: Tensor
    inner: Tensor

    def extend(self, targets: Any) -> Any:
        """Add the stops of paths that end at inner nodes. Args: targets (B, N) bool, dense or sparse. Returns: (B, N')."""
        if isinstance(targets, SparseSets):
            ends = self.hierarchy.most_specific(targets)
            stop = torch.full_like(self.kept, -1).index_copy_(0, self.inner, self.stops)[ends.node]
            document = torch.cat([targets.document, ends.document[stop >= 0]])
            node = torch.cat([self.kept[targets.node], stop[stop >= 0]])
            return SparseSets.of_pairs(document, node, (len(targets), self.extended.num_nodes))
        extended = targets.new_zeros(len(targets), self.extended.num_nodes)
        extended[:, self.kept] = targets
        extended[:, self.stops] = self.hierarchy.most_specific(targets)[:, self.inner]
        return extended

    def check_targets(self, targets: Tensor) -> None:
        """Each document needs a single path."""
        super().check_targets(targets)
        try:
            self.objective.check_targets(self.extend(targets))
        except UnsuitableTargetsError as error:
            problem = "a stop event needs a single path, and it has several or is not closed under ancestors; for several "
            raise UnsuitableTargetsError(error.document, problem + "paths use an objective such as bce.") from error

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.check_targets(targets)
        return self.objective.loss(logits, self.extend(targets))

    def probabilities(self, logits: Tensor) -> Tensor:
        return self.objective.probabilities(logits)[:, self.kept]
