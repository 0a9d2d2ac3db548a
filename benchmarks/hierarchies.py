"""The hierarchies of htc's benchmarks, and the comparison of a fast version with a naive one."""

import os
import random
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from htc import Hierarchy

HWV_LEVELS = (11, 109, 381, 437, 244, 4)  # 1,186 nodes


def tree(levels: tuple[int, ...]) -> Hierarchy:
    """A random tree with the given number of nodes on each level."""
    rng = random.Random(0)
    parents: list[list[int]] = [[] for _ in range(levels[0])]
    for above, size in pairwise(levels):
        start = len(parents) - above
        parents += [[start + rng.randrange(above)] for _ in range(size)]
    return Hierarchy([f"n{i}" for i in range(len(parents))], parents)


def hwv() -> Hierarchy:
    """The taxonomy of Hierarchical WikiVitals from the file in the variable HWV, or else a random tree of its shape."""
    return Hierarchy.from_taxonomy(os.environ["HWV"]) if os.environ.get("HWV") else tree(HWV_LEVELS)


def one_path_each(hierarchy: Hierarchy, documents: int) -> Tensor:
    """Targets of documents with a random leaf each, (D, N) bool."""
    leaves = hierarchy.leaves[torch.randint(len(hierarchy.leaves), (documents, 1))]
    return hierarchy.close(torch.zeros(documents, hierarchy.num_nodes, dtype=torch.bool).scatter_(1, leaves, True))


def seconds(function: Callable[[], object], rounds: int = 3) -> float:
    """The fastest of a few calls."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - started)
    return best


def compare(benchmark, fast: Callable[[], object], slow: Callable[[], object], at_least: float, scale: float = 1.0) -> None:
    """Compare a fast version with a naive one in the same run.

    Args:
        at_least: the smallest speed-up.
        scale: a factor on the slow version's time, if it does only a part of the work.
    """
    fast()
    slow_seconds = scale * seconds(slow)
    benchmark.pedantic(fast, rounds=9, warmup_rounds=1)
    ratio = slow_seconds / benchmark.stats.stats.median
    benchmark.extra_info.update(straightforward_seconds=round(slow_seconds, 4), times_faster=round(ratio, 1))
    assert ratio >= at_least, f"{ratio:.1f} times as fast, at least {at_least} is asked"
