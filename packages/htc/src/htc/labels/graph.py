"""Cycles and orders of directed graphs, without recursion, so that chains may have any length."""

from collections.abc import Iterable, Mapping, Sequence

from rlkl_htc_common.errors import InputError


def find_cycle(below: Mapping[str, Iterable[str]]) -> list[str]:
    """A cycle in a directed graph (adjacency lists), with its first node repeated at the end; empty if there is none."""
    done: set[str] = set()
    for start in list(below):
        if start in done:
            continue
        path, on_path = [start], {start}
        stack = [iter(below.get(start, ()))]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                done.add(path[-1])
                on_path.discard(path.pop())
            elif node in on_path:
                return [*path[path.index(node) :], node]
            elif node not in done:
                path.append(node)
                on_path.add(node)
                stack.append(iter(below.get(node, ())))
    return []


def breadth_first(names: Sequence[str], parents: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Nodes sorted by depth, then by the order of their parents, then as given; and the depth of each node.

    Args: names, parents: of each node, parents as indices. Raises: InputError: for a cycle, with its nodes.
    """
    children: list[list[int]] = [[] for _ in names]
    for child, above in enumerate(parents):
        for parent in dict.fromkeys(above):
            children[parent].append(child)
    waiting = [len(set(above)) for above in parents]
    level = [node for node, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    depth = [0] * len(names)
    current = 1
    while level:
        below: list[int] = []
        for node in level:
            depth[node] = current
            for child in children[node]:
                waiting[child] -= 1
                if waiting[child] == 0:
                    below.append(child)
        order += level
        level = below
        current += 1
    if len(order) < len(names):
        graph = {str(node): [str(child) for child in below] for node, below in enumerate(children)}
        cycle = " > ".join(names[int(node)] for node in find_cycle(graph))
        raise InputError(f"the hierarchy has a cycle: {cycle}.")
    return order, depth
