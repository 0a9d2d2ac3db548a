import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from htc import Hierarchy

PAPER = [
    ["Arts", "Music", "Opera"],
    ["Arts", "Music", "Jazz"],
    ["Arts", "Film"],
    ["Science", "Physics", "Optics"],
    ["Science", "Physics", "Waves"],
    ["Science", "Physics", "Heat"],
    ["Science", "Basics"],
    ["Arts", "Basics"],
]


def random_tree(seed: int, nodes: int = 30) -> Hierarchy:
    """A random forest with names that tell nothing about the shape."""
    rng = random.Random(seed)
    parents: list[list[int]] = []
    for node in range(nodes):
        top = node == 0 or rng.random() < 0.1
        parents.append([] if top else [rng.randrange(node)])
    return Hierarchy([f"n{i}" for i in range(nodes)], parents)


def random_dag(seed: int, nodes: int = 30) -> Hierarchy:
    rng = random.Random(seed)
    parents = [[] if n < 3 else rng.sample(range(n), rng.choice([1, 1, 2, 3])) for n in range(nodes)]
    return Hierarchy([f"n{i}" for i in range(nodes)], parents)


def single_paths(hierarchy: Hierarchy, documents: int, seed: int = 0, leaves_only: bool = True) -> Tensor:
    """Targets with one path each, (D, N) bool."""
    generator = torch.Generator().manual_seed(seed)
    ends = hierarchy.leaves if leaves_only else torch.arange(hierarchy.num_nodes)
    chosen = ends[torch.randint(len(ends), (documents,), generator=generator)]
    sets = torch.zeros(documents, hierarchy.num_nodes, dtype=torch.bool)
    sets[torch.arange(documents), chosen] = True
    return hierarchy.close(sets)


def reordered(hierarchy: Hierarchy, seed: int) -> tuple[Hierarchy, Tensor]:
    """The same hierarchy given in another order; and for each old node its new number."""
    order = list(range(hierarchy.num_nodes))
    random.Random(seed).shuffle(order)
    position = {old: new for new, old in enumerate(order)}
    parents = [[position[p] for p in hierarchy.parents[old]] for old in order]
    other = Hierarchy([hierarchy.names[old] for old in order], parents)
    new_number = {name: node for node, name in enumerate(other.names)}
    return other, torch.tensor([new_number[name] for name in hierarchy.names])


@pytest.fixture
def small() -> Hierarchy:
    return Hierarchy.from_paths(PAPER)


@pytest.fixture
def make_tree() -> Callable[..., Hierarchy]:
    return random_tree


@pytest.fixture
def make_dag() -> Callable[..., Hierarchy]:
    return random_dag


@pytest.fixture
def make_targets() -> Callable[..., Tensor]:
    return single_paths


@pytest.fixture
def reorder() -> Callable[..., tuple[Hierarchy, Tensor]]:
    return reordered
