"""Schemas of the choices of a config group: each has only the settings that its choice reads.

In some groups the choices differ in their settings (objective, weighting, algorithm). Such a group has one class that documents
all settings, and a table of what each choice reads. The schemas come from both. A config cannot hold a setting that its choice
does not read: the command line refuses it, and it cannot change the hash of a run.
"""

from collections.abc import Collection
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, field, fields, make_dataclass
from typing import Any, get_type_hints

from omegaconf import MISSING


def schema_of(settings: type, choice: str, reads: Collection[str], base: type) -> type:
    """Make the schema of one choice. Its numbers have no defaults: they are in the choice's YAML.

    A field with the metadata `{"library": True}` keeps its default, for users of the library without configs.

    Args:
        settings: a dataclass with the settings of all choices.
        choice: the name of the choice; the schema is named after it.
        reads: the names of the settings that the choice reads, besides those of `base`.
        base: the parent schema; the choice's YAML may start from the YAML of `base`'s choice.
    """
    types = get_type_hints(settings)
    own = [each for each in fields(settings) if each.name in reads]
    unknown = set(reads) - {each.name for each in own}
    assert not unknown, f"{choice} reads {unknown}, which {settings.__name__} has not"
    name = "".join(part.capitalize() for part in choice.split("_")) + "Config"
    made: list[tuple[str, Any, Any]] = [(each.name, types[each.name], field(default=_default(each))) for each in own]
    return make_dataclass(name, made, bases=(base,), namespace={"__doc__": settings.__doc__, "__module__": settings.__module__})


def _default(of: Field[Any]) -> Any:
    """MISSING for numbers; names, switches and None are the same for every choice."""
    if of.metadata.get("library"):
        return of.default
    number = isinstance(of.default, int | float) and not isinstance(of.default, bool)
    return MISSING if number or of.default is NO_DEFAULT else of.default
