"""Rows of a table in little memory: their places as numbers, and equal cells once."""

import re
from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

Kept = TypeVar("Kept")

MOST = 2**16  # different objects that are looked up
PLACE = re.compile(r"(.*?)(0|[1-9][0-9]{0,17})([^0-9]*)", re.DOTALL)  # the last number of a place, and what is around it


class Shared:
    """Gives one object for equal ones; only the first of them are known, so that it stays small."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def __call__(self, key: Hashable, value: Kept) -> Kept:
        """The first object with this key."""
        return self._known.setdefault(key, value) if len(self._known) < MOST else self._known.get(key, value)


class Places(Sequence[str]):
    """The places of documents, such as `file:line`; the numbers in them are kept apart.

    >>> places = Places(["a.json:1", "a.json:2 (element 1)"])
    >>> places[1]
    'a.json:2 (element 1)'
    """

    def __init__(self, places: Iterable[str] = ()) -> None:
        self._forms: dict[tuple[str, str] | str, int] = {}
        self._texts: list[tuple[str, str] | str] = []
        self._form, self._number = array("q"), array("q")
        for place in places:
            self.append(place)

    def append(self, place: str) -> None:
        """Another one."""
        found = PLACE.fullmatch(place)
        form: tuple[str, str] | str = place if found is None else (found[1], found[3])
        known = self._forms.setdefault(form, len(self._texts))
        if known == len(self._texts):
            self._texts.append(form)
        self._form.append(known)
        self._number.append(0 if found is None else int(found[2]))

    def __len__(self) -> int:
        return len(self._form)

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> list[str]: ...
    def __getitem__(self, key: int | slice) -> str | list[str]:
        if isinstance(key, slice):
            return [self[each] for each in range(*key.indices(len(self)))]
        form = self._texts[self._form[key]]
        return form if isinstance(form, str) else f"{form[0]}{self._number[key]}{form[1]}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Rows(Sequence[tuple[str, list[Any]]]):
    """The rows of a table: for each its place and its cells. Equal cells are one list: do not change them."""

    def __init__(self, rows: Iterable[tuple[str, list[Any]]] = ()) -> None:
        self.places, self.cells = Places(), list[list[Any]]()
        self._shared = Shared()
        for place, cells in rows:
            self.append(place, cells)

    def append(self, place: str, cells: list[Any]) -> None:
        """Another one."""
        self.places.append(place)
        try:
            self.cells.append(self._shared(_key(cells), cells))
        except TypeError:  # a cell that cannot be looked up
            self.cells.append(cells)

    def __len__(self) -> int:
        return len(self.cells)

    def __iter__(self) -> Iterator[tuple[str, list[Any]]]:
        return zip(self.places, self.cells, strict=True)

    @overload
    def __getitem__(self, key: int) -> tuple[str, list[Any]]: ...
    @overload
    def __getitem__(self, key: slice) -> "Rows": ...
    def __getitem__(self, key: int | slice) -> "tuple[str, list[Any]] | Rows":
        if isinstance(key, slice):
            return Rows(zip(self.places[key], self.cells[key], strict=True))
        return self.places[key], self.cells[key]


def _key(cell: Any) -> Hashable:
    """What equal cells of the same types share."""
    if isinstance(cell, str):
        return cell
    return tuple(map(_key, cell)) if isinstance(cell, list) else (type(cell), cell)
