"""Plain text on the command line: file names, column names and other texts are taken literally, with any characters.

A key is a text if its schema says `str` or `list[str]`, with or without None. Hydra's own folders, e.g. `hydra.sweep.dir`, are
texts too. Hydra's grammar does not apply to their values:

dataset.file=reports (1).csv            a text
dataset.levels=[A (1),"B, C",D=E]       a list of texts; quote a text with a comma, or with blanks at its ends
dataset.levels=Topic                    a list of one
against=null                            None, if the key allows it

In a sweep, commas separate values: `model=a,b` is two, `model="a,b"` is one. `choice(...)` and Hydra's other functions work as
usual. `++key=value` always follows Hydra's grammar, `${...}` included.
"""

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from omegaconf import MISSING

from rlkl_htc_common.cli.grammar import literal
from rlkl_htc_common.errors import InputError

NULL_IS_TEXT = {"null": "a text"}
"""Metadata of a field that may be None, but for which `null` on the command line is a text (a text to classify)."""
# Quoted, or up to the next comma; then the comma, or the end.
PIECE = re.compile(r"""\s*(?:"(?P<double>.*?)"|'(?P<single>.*?)'|(?P<bare>[^,]*?))\s*(?P<end>,|\Z)""", re.DOTALL)
FUNCTION = re.compile(r"(choice|range|interval|shuffle|sort|tag|extend_list|str|json_str)\(.*\)", re.DOTALL)


class TextKey(NamedTuple):
    """A key whose value is a text, or a list of texts (`many`). `optional`: `null` means None."""

    many: bool
    optional: bool


FOLDERS_OF_HYDRA = dict.fromkeys(("hydra.sweep.dir", "hydra.run.dir"), TextKey(many=False, optional=False))
Texts = str | list[str] | None


def text_keys(schema: Any, prefix: str = "") -> dict[str, TextKey]:
    """The keys of a schema (a dataclass) whose values are texts.

    A field that is a dataclass stands for all its subclasses, the choices of a config group.
    """
    found: dict[str, TextKey] = {}
    hints = get_type_hints(schema)
    for field in fields(schema):
        kind, optional = _without_none(hints[field.name])
        key = prefix + field.name
        if kind in (str, list[str]):
            found[key] = TextKey(kind is not str, optional and "null" not in field.metadata)
        elif is_dataclass(kind):
            for each in _family(kind):
                found |= text_keys(each, f"{key}.")
    return found


def _without_none(kind: Any) -> tuple[Any, bool]:
    if get_origin(kind) not in (Union, UnionType):
        return kind, False
    others = [each for each in get_args(kind) if each is not NoneType]
    return (others[0] if len(others) == 1 else kind), True


def _family(kind: Any) -> list[Any]:
    return [kind, *(each for child in kind.__subclasses__() for each in _family(child))]


def as_override(argument: str, keys: Mapping[str, TextKey], sweeping: bool = False) -> str:
    """An argument of the command line in Hydra's grammar.

    Args: keys: from `text_keys`; sweeping: commas separate values. Raises: InputError for `???`, which no config can hold.
    """
    key, equals, value = argument.partition("=")
    if not equals or key not in keys or (sweeping and FUNCTION.fullmatch(value)):
        return argument
    kind = keys[key]
    values: list[Texts] = [read(value, kind)]
    if sweeping and kind.many and value.strip().startswith("["):
        values = [read(each, kind) for each in re.split(r"(?<=\])\s*,\s*(?=\[)", value)]
    elif sweeping:
        values = [None if kind.optional and each == "null" else [each] if kind.many else each for each in _pieces(value)]
    if any(MISSING in (each if isinstance(each, list) else [each]) for each in values):
        raise InputError(
            f"{key}: {MISSING} alone stands for a value that is missing; write a file as ./{MISSING}, and a text to be "
            "classified to standard input."
        )
    return f"{key}={','.join(map(literal, values))}"


def read(value: str, kind: TextKey) -> Texts:
    """Read the text or texts of a value on the command line."""
    if kind.optional and value == "null":
        return None
    if not kind.many:
        return value
    inside = re.fullmatch(r"\s*\[(.*)\]\s*", value, re.DOTALL)
    return [value] if inside is None else _pieces(inside[1])


def _pieces(text: str) -> list[str]:
    """Split at commas that are not in quotes."""
    pieces, position, more = [], 0, bool(text.strip())
    while more:
        match = PIECE.match(text, position)
        assert match is not None  # bare up to a comma or the end
        pieces.append(next(each for each in match.group("double", "single", "bare") if each is not None))
        position, more = match.end(), match["end"] == ","
    return pieces
