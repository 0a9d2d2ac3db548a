"""Read and write a taxonomy file: one line per parent, `parent<TAB>child<TAB>child...`; the root is called `Root`.

Details of the format:

- A name under two parents means two nodes with different paths. If such a node has children, its line must begin with its path,
  `Technology > Basics<TAB>...`. The path of a top label begins with `Root >` (else it would be a name); other paths may, too:
  `Root > Technology`, `Root > Technology > Basics`.
- So a child may have the same name as its parent or any label above it: `Root > Utilities<TAB>Utilities`,
  `Arts > Other<TAB>Other`.
- `Root` is not a node. In a file without a line for `Root`, the top labels are the parents that are not children, and the first
  labels of paths that begin with `Root`.
- Names are cleaned as in `names`. Blank lines are skipped, a byte order mark and CRLF line ends are accepted, and an edge may
  occur twice.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from htc.labels.graph import find_cycle
from htc.labels.names import clean
from htc.labels.text_files import lines_of, read_text
from rlkl_htc_common.errors import InputError

ROOT = "Root"
PATH_SEPARATOR = " > "
FROM_ROOT = ROOT + PATH_SEPARATOR

Row = tuple[int, str, list[str]]  # line number, parent (a name or a path), children


def read_taxonomy(file: str | Path) -> list[tuple[str, ...]]:
    """Read a taxonomy file into the path of every node, parents before children.

    Raises:
        InputError: with file and line, if it is not a taxonomy.
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
    for number, raw in enumerate(lines_of(text), start=1):
        cells = [clean(cell) for cell in raw.split("\t")]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            rows.append((number, cells[0], _children(file, number, cells)))
    if not rows:
        raise InputError(f"{file}: the taxonomy is empty; expected lines of parent<TAB>child<TAB>child...")
    return rows


def _children(file: Path, line: int, cells: list[str]) -> list[str]:
    """The children in the cells of one line. Raises InputError."""
    parent, children = cells[0], cells[1:]
    if not children:
        hint = next((f"'{sep}'" for sep in (";", "|", ",", "  ") if sep in parent), None)
        found = f"found no tab, but {hint}: names are separated by tabs" if hint else "found no child"
        raise InputError(f"{file}:{line}: {found}; expected parent<TAB>child<TAB>child... and read {parent[:60]!r}.")
    if not parent or not all(children):
        raise InputError(f"{file}:{line}: a name is empty (two tabs in a row, or a tab at the start of the line).")
    return children


def _refuse_cycles(file: str | Path, rows: list[Row]) -> None:
    known = {child for _, _, names in rows for child in names}
    below: dict[str, list[str]] = defaultdict(list)
    line_of: dict[tuple[str, str], int] = {}
    for line, parent, names in rows:
        if parent not in known and PATH_SEPARATOR in parent:
            continue  # a path names one node, so it closes no cycle
        below[parent] += names
        for child in names:
            line_of.setdefault((parent, child), line)
    cycle = find_cycle(below)
    if cycle:
        parent, child = cycle[-2:]
        how = f"begin the line with its parent's path: {_path_to(parent, rows)}<TAB>{child}"
        if parent == child:
            problem = f"{child!r} is listed as its own child. If it is another label with its parent's name, {how}"
        else:
            problem = (
                f"the taxonomy has a cycle: {PATH_SEPARATOR.join(cycle)}. If the last is another label of that name, {how}"
            )
        raise InputError(f"{file}:{line_of[(parent, child)]}: {problem}")


def _path_to(name: str, rows: list[Row]) -> str:
    """A path from the root to a name; each step up uses the first matching line."""
    path = [name]
    while True:
        top = path[0].split(PATH_SEPARATOR)[0]
        above = next((parent for _, parent, names in rows if top in names and parent not in (*path, ROOT)), None)
        if above is None:
            return PATH_SEPARATOR.join(path if top == ROOT else [ROOT, *path])
        path.insert(0, above)


def _expand(file: str | Path, rows: list[Row], children: set[str], has_root: bool) -> list[tuple[str, ...]]:
    """The path of every node, breadth first from the roots."""
    by_parent: dict[str, dict[str, None]] = defaultdict(dict)  # parent cell -> its children, in order, each once
    line_of: dict[str, int] = {}
    for line, parent, names in rows:
        by_parent[parent].update(dict.fromkeys(names))
        line_of.setdefault(parent, line)
    by_parent.pop(ROOT, None)
    paths: list[tuple[str, ...]] = [(name,) for name in _top_labels(file, rows, children, has_root)]
    expanded: dict[str, tuple[str, ...]] = {}  # parent cell -> the node that it names
    for path in paths:  # grows during the loop
        cell, name = PATH_SEPARATOR.join(path), path[-1]
        cells = {cell, name, FROM_ROOT + cell} & by_parent.keys()
        for key in cells:
            if key in expanded:
                raise InputError(
                    f"{file}:{line_of[key]}: the parent {key!r} is ambiguous: it stands for {_path_cell(expanded[key])!r} and "
                    f"for {_path_cell(path)!r}; begin the line with the path of the one that is meant."
                )
            expanded[key] = path
        paths.extend((*path, child) for child in dict.fromkeys(c for key in sorted(cells) for c in by_parent[key]))
    for parent, line in line_of.items():
        if parent != ROOT and parent not in expanded:
            known = map(_path_cell, paths) if PATH_SEPARATOR in parent else (path[-1] for path in paths)
            near = get_close_matches(parent, [ROOT, *known], n=1)
            raise InputError(
                f"{file}:{line}: the parent {parent!r} is nobody's child"
                + (f"; did you mean {near[0]!r}?" if near else f"; list it as a child of another node or of '{ROOT}'.")
            )
    return paths


def _top_labels(file: str | Path, rows: list[Row], children: set[str], has_root: bool) -> dict[str, None]:
    """The children of the root, in order, without duplicates."""
    if has_root:
        return dict.fromkeys(child for _, parent, names in rows if parent == ROOT for child in names)
    parents = [parent.removeprefix(FROM_ROOT).split(PATH_SEPARATOR) for _, parent, _ in rows]
    tops = {
        path[0]: None
        for (_, cell, _), path in zip(rows, parents, strict=True)
        if cell.startswith(FROM_ROOT) or (len(path) == 1 and cell not in children)
    }
    if not tops:
        raise InputError(f"{file}: no line says which labels are at the top; begin with one of {ROOT}<TAB>label<TAB>label...")
    return tops


def _path_cell(path: tuple[str, ...]) -> str:
    """A path as a cell, distinct from a name."""
    return PATH_SEPARATOR.join(path) if len(path) > 1 else FROM_ROOT + path[0]


def write_taxonomy(file: str | Path, paths: Sequence[tuple[str, ...]]) -> None:
    """Write the path of every node to a taxonomy file, which `read_taxonomy` reads back.

    Args:
        paths: parents before children.

    Raises:
        InputError: for a name that the format does not allow.
    """
    below: dict[tuple[str, ...], list[str]] = {(): []}
    for path in paths:
        name = path[-1]
        if name == ROOT or any(mark in name for mark in (PATH_SEPARATOR, "\t", "\n", "\r")):
            raise InputError(
                f"a taxonomy file cannot hold the name {name!r}: {ROOT!r}, {PATH_SEPARATOR!r} and tabs mean more there."
            )
        below[path[:-1]].append(name)
        below[path] = []
    count = Counter(path[-1] for path in paths)
    lines = [ROOT, *(path[-1] if count[path[-1]] == 1 else _path_cell(path) for path in paths)]
    rows = ["\t".join([cell, *names]) for cell, names in zip(lines, below.values(), strict=True) if names]
    Path(file).write_text("\n".join(rows) + "\n", encoding="utf-8")
