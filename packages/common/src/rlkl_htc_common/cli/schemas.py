"""Schemas of the choices of a config group: each has just the settings that its choice reads.

A group whose choices read different settings (the objective, the weighting, the algorithm) has one plain class with all of them,
which says what each means, and a table of what each choice reads. From these come the schemas: what a choice does not read, its
config cannot hold, so that it is refused on the command line and does not tell two runs apart.
"""

from collections.abc import Collection
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import field, fields, make_dataclass
from typing import Any, get_type_hints

from omegaconf import MISSING


def schema_of(settings: type, choice: str, reads: Collection[str], base: type) -> type:
    """The schema of one choice.

    Args:
        settings: a dataclass with the settings of all choices; what has no default must be given by the config's YAML.
        choice: its name, for the name of the schema.
        reads: the names of the settings that it reads, beside those of `base`.
        base: a dataclass that the schemas of all choices are subclasses of.
    """
    types = get_type_hints(settings)
    own = [each for each in fields(settings) if each.name in reads]
    assert {each.name for each in own} == set(reads), f"{choice}: {set(reads) - {each.name for each in own}}"
    name = "".join(part.capitalize() for part in choice.split("_")) + base.__name__
    made: list[tuple[str, Any, Any]] = [
        (each.name, types[each.name], field(default=MISSING if each.default is NO_DEFAULT else each.default)) for each in own
    ]
    return make_dataclass(name, made, bases=(base,), namespace={"__doc__": settings.__doc__, "__module__": settings.__module__})
