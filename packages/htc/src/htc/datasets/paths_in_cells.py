"""Label paths in one cell, `Arts > Music`: split them, and distinguish them from labels that only contain such a mark.

The evidence for paths is their structure: `Arts / Music` and `Arts / Film` share their beginning, `R&B / Soul` and
`Health / Fitness` do not.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile

LIST = re.compile(r"\[.*\]|[({].*['\",].*[)}]", re.DOTALL)  # a list, set, tuple or dictionary in Python's notation
MOST = 20  # the number of marks to test
HYPHENS = "-–—"
COMMAS = ",،、，"
NO_OTHER_USE = "\t\n>\\»›→⇒▶▸►❯"  # marks that labels rarely contain otherwise, as are all of two or more characters
# Runs of marks, without those in ordinary names; a single hyphen counts only between blanks.
MARKS = re.compile(r"(\s*)((?:[^\w\s()\[\]{}\"'’‘“”„&%$€£!?°…]|__)+)(\s*)|[\t\n,]")


def split_cell(cell: str, separator: str) -> list[str]:
    """Split a cell; separators at its start and end are ignored.

    >>> split_cell("Arts > Music>Opera", " > ")
    ['Arts', 'Music', 'Opera']
    >>> split_cell("X-rays - CT", " - ")
    ['X-rays', 'CT']

    White space around a separator does not matter, except around a hyphen or a word that is given with it.
    """
    parts = _pattern(separator).split(cell)
    while parts and not parts[0]:
        del parts[0]
    while parts and not parts[-1]:
        del parts[-1]
    return [part.strip() for part in parts]


def _pattern(separator: str) -> re.Pattern[str]:
    mark = separator.strip()
    if not mark:
        return re.compile(re.escape(separator))
    blanks = r"\s+" if mark != separator and (mark in HYPHENS or mark.isalnum()) else r"\s*"
    return re.compile(f"{blanks}{re.escape(mark)}{blanks}")


def separator_in(labels: Counter[str]) -> str | None:
    """The separator of the labels in one cell (of a path, or several labels); None if each cell is one label.

    >>> separator_in(Counter({"Arts/Music": 9, "Arts/Film": 5, "Science/Physics": 7}))
    '/'
    >>> separator_in(Counter({"Health / Fitness": 9, "R&B | Soul": 5, "Injuries (S00-T88)": 7}))

    Args:
        labels: each with the number of its rows.
    """
    rows: Counter[str] = Counter()
    for label, count in labels.items():
        rows.update(dict.fromkeys(_marks(label), count))
    return next((mark for mark, _ in rows.most_common(MOST) if _separates(mark, labels)), None)


def _marks(label: str) -> set[str]:
    found = set()
    for match in MARKS.finditer(label):
        before, mark, after = match.groups()
        if mark is None:
            found.add(match[0])
        elif mark not in HYPHENS:
            found.add(mark)
        elif before and after:
            found.add(f" {mark} ")
    return found


def _separates(mark: str, labels: Counter[str]) -> bool:
    """Whether a mark looks like a separator.

    It does if most rows have it and labels share their first parts; if first parts are labels elsewhere; if parts occur in
    varying order, as in lists; or, for a mark without another use, if most rows have it.
    """
    marked = {label: split_cell(label, mark) for label in labels if mark.strip(" ") in label}
    marked = {label: each for label, each in marked.items() if len(each) > 1}
    parts = {label: each for label, each in marked.items() if _may_be_labels(label, each, mark)}
    if len(parts) * 2 < len(marked):
        return False
    alone = set(labels) - set(parts)
    paths = _without_common_beginning(list(parts.values())) if not alone else list(parts.values())
    paths = [path for path in paths if len(path) > 1]
    if len(paths) < 2:
        return False
    firsts, later = Counter(path[0] for path in paths), {part for path in paths for part in path[1:]}
    in_lists = sum(alone.issuperset(path) or any(part in firsts and part in later for part in path) for path in paths)
    if in_lists * 2 > len(paths) and in_lists > 2:
        return True
    if mark in COMMAS and (mark != "," or any(", " in label for label in parts)):
        return False
    share = sum(labels[label] for label in parts) / labels.total()
    if mark in NO_OTHER_USE or len(mark.strip()) > 1:
        return share >= 0.5
    below_labels = sum(path[0] in alone for path in paths)
    sharing = sum(firsts[path[0]] > 1 or path[0] in alone for path in paths)
    enough = sharing * 2 > len(paths) if share < 0.9 else sharing > 0
    return (share >= 0.5 and enough) or (below_labels > 1 and below_labels * 2 >= len(paths))


def _may_be_labels(label: str, parts: Sequence[str], mark: str) -> bool:
    """Whether the parts of a label may be labels; around a dot only words may, not parts of codes or abbreviations."""
    if mark in NO_OTHER_USE or len(mark.strip()) > 1:
        return all(parts)
    if mark == ".":
        return ". " not in label and all(re.fullmatch(r"([^\W\d_]|-){2,}", part) for part in parts)
    return all(any(character.isalpha() for character in part) for part in parts)


def _without_common_beginning(paths: list[list[str]]) -> list[list[str]]:
    """Remove the common beginning of all paths, e.g. `Root`, or the protocol and host of URLs."""
    common = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*paths, strict=False))))
    return [path[common:] for path in paths]


def mark_between_paths(paths: Iterable[Sequence[str]]) -> str | None:
    """The separator of several paths in one cell that were read as one (`Arts`, `Music; Science`, `Physics`); or None."""
    paths = list(paths)
    tops = {path[0] for path in paths}
    for mark in (";", "|", "\n", ","):
        inner = {name for path in paths for name in path[1:-1] if len(split_cell(name, mark)) > 1}
        if len(inner) > 1 and sum(split_cell(name, mark)[-1] in tops for name in inner) * 2 >= len(inner):
            return mark
    return None
