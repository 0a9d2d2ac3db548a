"""Node probabilities of many documents, part by part."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from htc.labels.label_sets import CELLS
from htc.labels.sparse_sets import SparseSets


class ProbabilityParts:
    """Node probabilities that are computed again whenever they are read, as they do not fit into memory.

    Args:
        compute: gives the probabilities of all documents in order, some documents at a time, (d, N) each.
        shape: (D, N).
    """

    def __init__(self, compute: Callable[[], Iterator[Tensor]], shape: tuple[int, int]) -> None:
        self._compute, self.shape = compute, shape

    def __len__(self) -> int:
        return self.shape[0]

    def split(self, documents: int) -> Iterator[Tensor]:
        """Parts of so many documents, the last one maybe smaller."""
        rest: list[Tensor] = []
        for part in self._compute():
            while sum(map(len, rest)) + len(part) >= documents:
                needed = documents - sum(map(len, rest))
                yield torch.cat([*rest, part[:needed]])
                rest, part = [], part[needed:]
            if len(part):
                rest.append(part)
        if rest:
            yield torch.cat(rest)


Probabilities = Tensor | ProbabilityParts
"""(D, N) node probabilities, in memory or in parts."""


def with_targets(probabilities: Probabilities, targets: SparseSets) -> Iterator[tuple[Tensor, SparseSets]]:
    """Probabilities (d, N) and label sets of a few documents at a time, as few as fit into a processor's cache."""
    rows = max(1, CELLS // targets.shape[1])
    return zip(probabilities.split(rows), targets.split(rows), strict=True)
