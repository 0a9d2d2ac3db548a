"""Label paths in one cell, `Arts > Music`: taking them apart, and telling them from labels that merely hold such a mark.

What speaks for paths is their structure. `Arts / Music` and `Arts / Film` share their beginning, `R&B / Soul` and
`Health / Fitness` do not.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile

LIST = re.compile(r"\[.*\]|[({].*['\",].*[)}]", re.DOTALL)  # a list, a set, a tuple or a dictionary, as Python writes it
MOST = 20  # marks that are looked at
HYPHENS = "-–—"
COMMAS = ",،、，"
NO_OTHER_USE = "\t\n>\\»›→⇒▶▸►❯"  # marks that labels hardly hold otherwise; nor any of two characters or more
# Runs of marks, without those that are part of ordinary names; a lone hyphen counts between blanks only.
MARKS = re.compile(r"(\s*)((?:[^\w\s()\[\]{}\"'’‘“”„&%$€£!?°…]|__)+)(\s*)|[\t\n,]")


def split_cell(cell: str, separator: str) -> list[str]:
    """The parts of a cell; separators at its beginning and end count for nothing.

    >>> split_cell("Arts > Music>Opera", " > ")
    ['Arts', 'Music', 'Opera']
    >>> split_cell("X-rays - CT", " - ")
    ['X-rays', 'CT']

    White space around a separator does not matter, but around a hyphen or a word that is given with it.
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
    """What separates the labels of a path, or several labels, in one cell; None if the cells are labels as they are.

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
    """Whether the labels with a mark look as if it took them apart.

    They do if most rows have it and labels share their first parts; if first parts are labels elsewhere; if parts come in
    varying order, as those of lists do; and, of a mark that has no other use, if most rows have it.
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
    """Whether the parts of a label may be labels; around a dot only words are, not the rest of a code or an abbreviation."""
    if mark in NO_OTHER_USE or len(mark.strip()) > 1:
        return all(parts)
    if mark == ".":
        return ". " not in label and all(re.fullmatch(r"([^\W\d_]|-){2,}", part) for part in parts)
    return all(any(character.isalpha() for character in part) for part in parts)


def _without_common_beginning(paths: list[list[str]]) -> list[list[str]]:
    """Without the parts that all begin with, `Root` say, or the protocol and host of addresses."""
    common = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*paths, strict=False))))
    return [path[common:] for path in paths]


def mark_between_paths(paths: Iterable[Sequence[str]]) -> str | None:
    """What separates several paths in one cell that were taken for one, as in `Arts`, `Music; Science`, `Physics`; or None."""
    paths = list(paths)
    tops = {path[0] for path in paths}
    for mark in (";", "|", "\n", ","):
        inner = {name for path in paths for name in path[1:-1] if len(split_cell(name, mark)) > 1}
        if len(inner) > 1 and sum(split_cell(name, mark)[-1] in tops for name in inner) * 2 >= len(inner):
            return mark
    return None
