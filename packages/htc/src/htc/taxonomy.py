"""Reading a taxonomy file: one line per parent, `parent<TAB>child<TAB>child...`, the root is called `Root`.

What the format means here:

- A name that stands under two parents names two nodes, told apart by their paths. Where such a node has children of its own,
  its line must begin with its path, `Technology > Basics<TAB>...`.
- `Root` is not a node. A file without it has as its roots the parents that are nobody's child.
- Blank lines are skipped, a byte order mark and CRLF line ends are accepted, an edge may be listed twice.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from htc.errors import InputError
from htc.text_files import read_text

ROOT = "Root"
PATH_SEPARATOR = " > "

Row = tuple[int, str, list[str]]  # line number, parent (a name or a path), children


def read_taxonomy(file: str | Path) -> list[tuple[str, ...]]:
    """Read a taxonomy file into the path of every node, parents before children.

    Raises:
        InputError: with file and line, for anything that is not a taxonomy.
    """
    rows = _read_rows(Path(file))
    children = {child for _, _, names in rows for child in names}
    for line, _, names in rows:
        if ROOT in names:
            raise InputError(f"{file}:{line}: '{ROOT}' is listed as a child, but it stands for the root of the whole taxonomy.")
    _refuse_cycles(file, rows)
    has_root = any(parent == ROOT for _, parent, _ in rows)
    tops = {parent: line for line, parent, _ in reversed(rows) if parent not in children and PATH_SEPARATOR not in parent}
    if not has_root and len(tops) == 1 and next(iter(tops)).lower() == ROOT.lower():
        ((name, line),) = tops.items()
        raise InputError(f"{file}:{line}: the only top label is {name!r}; the root of the whole taxonomy is called '{ROOT}'.")
    return _expand(file, rows, children, has_root)


def _read_rows(file: Path) -> list[Row]:
    text = read_text(file, "the taxonomy")
    rows: list[Row] = []
    for number, raw in enumerate(text.split("\n"), start=1):
        cells = [cell.strip() for cell in raw.split("\t")]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            rows.append((number, cells[0], _children(file, number, cells)))
    if not rows:
        raise InputError(f"{file}: the taxonomy is empty; expected lines of parent<TAB>child<TAB>child...")
    return rows


def _children(file: Path, line: int, cells: list[str]) -> list[str]:
    """The children in the cells of one line, or what is wrong with it."""
    parent, children = cells[0], cells[1:]
    if not children:
        hint = next((f"'{sep}'" for sep in (";", "|", ",", "  ") if sep in parent), None)
        found = f"found no tab, but {hint}: names are separated by tabs" if hint else "found no child"
        raise InputError(f"{file}:{line}: {found}; expected parent<TAB>child<TAB>child... and read {parent[:60]!r}.")
    if not parent or not all(children):
        raise InputError(f"{file}:{line}: a name is empty (two tabs in a row, or a tab at the start of the line).")
    if parent in children:
        raise InputError(f"{file}:{line}: {parent!r} is listed as its own child.")
    return children


def _refuse_cycles(file: str | Path, rows: list[Row]) -> None:
    known = {child for _, _, names in rows for child in names}
    below: dict[str, list[str]] = defaultdict(list)
    line_of: dict[tuple[str, str], int] = {}
    for line, parent, names in rows:
        if parent not in known and PATH_SEPARATOR in parent:
            continue  # a path leads to one place only, so it closes no cycle
        below[parent] += names
        for child in names:
            line_of.setdefault((parent, child), line)
    cycle = find_cycle(below)
    if cycle:
        line = line_of[(cycle[-2], cycle[-1])]
        raise InputError(f"{file}:{line}: the taxonomy has a cycle: {PATH_SEPARATOR.join(cycle)}.")


def find_cycle(below: Mapping[str, Iterable[str]]) -> list[str]:
    """A cycle in a directed graph given as adjacency lists, its first node repeated at the end; empty where there is none."""
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


def _expand(file: str | Path, rows: list[Row], children: set[str], has_root: bool) -> list[tuple[str, ...]]:
    """Walk down from the roots, breadth first, giving every node its path."""
    by_parent: dict[str, dict[str, None]] = defaultdict(dict)  # parent cell -> its children, in order, each once
    line_of: dict[str, int] = {}
    for line, parent, names in rows:
        by_parent[parent].update(dict.fromkeys(names))
        line_of.setdefault(parent, line)
    roots = by_parent.pop(ROOT) if has_root else {p: None for _, p, _ in rows if p not in children and PATH_SEPARATOR not in p}
    paths: list[tuple[str, ...]] = [(name,) for name in roots]
    expanded: dict[str, tuple[str, ...]] = {}  # parent cell -> the node that it was taken for
    for path in paths:  # grows while it is walked
        cell, name = PATH_SEPARATOR.join(path), path[-1]
        cells = {cell, name} & by_parent.keys()
        for key in cells:
            if key in expanded:
                other = PATH_SEPARATOR.join(expanded[key])
                raise InputError(
                    f"{file}:{line_of[key]}: the parent {key!r} is ambiguous: it stands for {other!r} and for {cell!r}; "
                    "begin the line with the path of the one that is meant."
                )
            expanded[key] = path
        paths.extend((*path, child) for child in dict.fromkeys(c for key in sorted(cells) for c in by_parent[key]))
    for parent, line in line_of.items():
        if parent != ROOT and parent not in expanded:
            near = get_close_matches(parent, [ROOT, *(p[-1] for p in paths)], n=1)
            raise InputError(
                f"{file}:{line}: the parent {parent!r} is nobody's child"
                + (f"; did you mean {near[0]!r}?" if near else f"; list it as a child of another node or of '{ROOT}'.")
            )
    return paths
