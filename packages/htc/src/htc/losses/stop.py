"""Paths that end at inner nodes, for objectives that choose one leaf."""

from collections.abc import Callable

import torch
from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.losses.base import Objective, UnsuitableTargetsError

STOP = "\N{END OF TEXT}stop"  # no label can be called so


class StopEvent(Objective):
    """Any softmax objective, over a hierarchy in which to stop at an inner node is a leaf of its own.

    Every inner node gets one more child, the stop; a path that ends at an inner node goes on to its stop, so that it ends at a
    leaf of the extended hierarchy. A node then has a probability of being the end: its own less that of its children
    (`htc.decoding.expected.end_probabilities`), which the rules in `htc.decoding.expected` take into account.

    >>> from htc.losses import ConditionalSoftmax
    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> objective = StopEvent(hierarchy, ConditionalSoftmax)
    >>> objective.num_outputs  # four labels, and to stop at Arts
    5
    >>> objective.probabilities(torch.zeros(1, 5))  # Arts, Science, Music, Film
    tensor([[0.5000, 0.5000, 0.1667, 0.1667]])

    Args:
        hierarchy: a tree.
        make: gives the objective for the extended hierarchy; priors are counted on `extend(targets)`.

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

    def extend(self, targets: Tensor) -> Tensor:
        """The targets with the stops where paths end at inner nodes. Args: targets (B, N) bool. Returns: (B, N') bool."""
        extended = targets.new_zeros(len(targets), self.extended.num_nodes)
        extended[:, self.kept] = targets
        extended[:, self.stops] = self.hierarchy.most_specific(targets)[:, self.inner]
        return extended

    def check_targets(self, targets: Tensor) -> None:
        """Besides a label, each document must have a single path."""
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
