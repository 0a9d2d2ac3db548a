"""Schemas of the choices of a config group: each has just the settings that its choice reads.

A group whose choices read different settings (objective, weighting, algorithm) has one plain class with all of them, which says
what each means, and a table of what each choice reads. From these come the schemas: what a choice does not read, its config
cannot hold, so that it is refused on the command line and does not make two runs of one.
"""

from collections.abc import Collection
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, field, fields, make_dataclass
from typing import Any, get_type_hints

from omegaconf import MISSING


def schema_of(settings: type, choice: str, reads: Collection[str], base: type) -> type:
    """The schema of one choice. Its numbers have no defaults: they stand in the choice's YAML.

    A field with the metadata `{"library": True}` keeps its number: the library is used without configs, too, and has it there.

    Args:
        settings: a dataclass with the settings of all choices.
        choice: its name, for the name of the schema.
        reads: the names of the settings that it reads, beside those of `base`.
        base: the schema that it is a subclass of, so that its YAML may begin with that of `base`'s choice.
    """
    types = get_type_hints(settings)
    own = [each for each in fields(settings) if each.name in reads]
    unknown = set(reads) - {each.name for each in own}
    assert not unknown, f"{choice} reads {unknown}, which {settings.__name__} has not"
    name = "".join(part.capitalize() for part in choice.split("_")) + "Config"
    made: list[tuple[str, Any, Any]] = [(each.name, types[each.name], field(default=_default(each))) for each in own]
    return make_dataclass(name, made, bases=(base,), namespace={"__doc__": settings.__doc__, "__module__": settings.__module__})


def _default(of: Field[Any]) -> Any:
    """MISSING for numbers; what is a name, a switch or None is the same for every choice."""
    if of.metadata.get("library"):
        return of.default
    number = isinstance(of.default, int | float) and not isinstance(of.default, bool)
    return MISSING if number or of.default is NO_DEFAULT else of.default
