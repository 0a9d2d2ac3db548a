"""Plain text on the command line: file names, column names and other texts mean themselves, whatever characters they hold.

A key is a text where its schema says `str` or `list[str]`; it may be None too. So are the folders that Hydra itself has keys
for, `hydra.sweep.dir` say. Hydra's grammar is not asked about its value:

dataset.file=reports (1).csv            a text, as it stands
dataset.levels=[A (1),"B, C",D=E]       a list of texts; quotes around one that holds a comma, or blanks at its ends
dataset.levels=Topic                    a list of one
against=null                            none, where the key may be so

In a sweep, commas lie between values: `model=a,b` is two, `model="a,b"` one; and `choice(...)` and other functions of Hydra's
have their meaning. `++key=value` is left to Hydra's grammar always, with `${...}` and all.
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
"""Metadata of a field that may be None, but not by `null` on the command line: texts to be classified are texts."""
# Quoted, or up to the next comma; then the comma, or the end.
PIECE = re.compile(r"""\s*(?:"(?P<double>.*?)"|'(?P<single>.*?)'|(?P<bare>[^,]*?))\s*(?P<end>,|\Z)""", re.DOTALL)
FUNCTION = re.compile(r"(choice|range|interval|shuffle|sort|tag|extend_list|str|json_str)\(.*\)", re.DOTALL)


class TextKey(NamedTuple):
    """A key whose value is a text, or `many` texts; `null` is none where it may be none."""

    many: bool
    optional: bool


FOLDERS_OF_HYDRA = dict.fromkeys(("hydra.sweep.dir", "hydra.run.dir"), TextKey(many=False, optional=False))
Texts = str | list[str] | None


def text_keys(schema: Any, prefix: str = "") -> dict[str, TextKey]:
    """The keys of a schema, a dataclass, whose values are texts.

    A field that is a dataclass may be any subclass of it, as a group of configs has them.
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

    Args: keys: of `text_keys`; sweeping: whether commas do so. Raises: InputError for the one text that no config can hold.
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
    """The text or texts that a value of the command line means."""
    if kind.optional and value == "null":
        return None
    if not kind.many:
        return value
    inside = re.fullmatch(r"\s*\[(.*)\]\s*", value, re.DOTALL)
    return [value] if inside is None else _pieces(inside[1])


def _pieces(text: str) -> list[str]:
    """What is between commas that are not in quotes."""
    pieces, position, more = [], 0, bool(text.strip())
    while more:
        match = PIECE.match(text, position)
        assert match is not None  # bare up to a comma or the end
        pieces.append(next(each for each in match.group("double", "single", "bare") if each is not None))
        position, more = match.end(), match["end"] == ","
    return pieces
