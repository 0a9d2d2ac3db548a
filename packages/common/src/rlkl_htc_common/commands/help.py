"""The text of `--help`: the choices of each group, and each key with its value and meaning.

The meanings are the lines below `Attributes:` in the docstrings of the schemas.
"""

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from rlkl_htc_common.cli.grammar import literal

WIDEST = 110
ATTRIBUTE = re.compile(r"^(\w[\w, ]*): ?(.*)$")


def help_text(program: str, config: DictConfig, folders: list[Path]) -> str:
    """The help of a command.

    Args:
        program: its name.
        config: composed, with Hydra's part.
        folders: the folders of its configs.
    """
    hydra = config.hydra
    groups = [group for group in hydra.runtime.choices if not group.startswith(("hydra/", "_"))]
    choices = {group: choices_of(group, folders) for group in groups}
    lines = [hydra.help.header.strip(), "", f"Usage: {program} [key=value ...] [--multirun] [--cfg job] [--version]", ""]
    lines += ["Choices (group=choice):", ""]
    for group, names in choices.items():
        lines += _wrapped(f"{group}={hydra.runtime.choices[group]}", ", ".join(names))
    lines += _wrapped(
        "hydra/launcher",
        "what does several jobs: cores, on this machine; basic, one after the other; submitit_slurm, on a cluster",
    )
    lines += ["", "Settings (key=value):", ""]
    for key, value, meaning in settings_of(config):
        shown = "must be given" if value == "???" else literal(value)
        lines += _wrapped(f"{key}: {shown}" if value == "???" else f"{key}={shown}", meaning)
    return "\n".join([*lines, ""])


def choices_of(group: str, folders: list[Path]) -> list[str]:
    """The names of a group's choices."""
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})


def for_users(completions: str) -> str:
    """Completions that Hydra offers a shell, without schemas and private groups."""
    return re.sub(r"(^|(?<=\s))(\S+_schema|_\S*)(\s|$)", "", completions)


def settings_of(config: DictConfig, prefix: str = "") -> Iterator[tuple[str, object, str]]:
    """Each key of a config with its value and meaning. Args: config: with or without Hydra's part."""
    meant = meanings(OmegaConf.get_type(config))
    for key in map(str, config):
        if not prefix and key == "hydra":
            continue
        value = "???" if OmegaConf.is_missing(config, key) else config[key]
        if isinstance(value, DictConfig) and OmegaConf.get_type(value) not in (dict, None):
            yield from settings_of(value, f"{prefix}{key}.")
        else:
            plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            yield f"{prefix}{key}", plain, meant.get(key, "")


def meanings(schema: type | None) -> Mapping[str, str]:
    """The meanings of a schema's settings, by name: from its docstring and those of its base classes.

    If a field's metadata has `choices`, its meaning ends with them.
    """
    found: dict[str, str] = {}
    for each in reversed(getattr(schema, "__mro__", ())):
        _, _, attributes = (each.__doc__ or "").partition("Attributes:\n")
        names: list[str] = []
        for line in textwrap.dedent(attributes.partition("\n\n")[0]).splitlines():
            begins = ATTRIBUTE.match(line)
            if begins and not line.startswith(" "):
                names = [name.strip() for name in begins[1].split(",")]
                found |= dict.fromkeys(names, begins[2])
            else:
                found |= {name: f"{found[name]} {line.strip()}" for name in names}
    for field in fields(schema) if is_dataclass(schema) else ():
        if "choices" in field.metadata:
            found[field.name] = f"{found.get(field.name, '')} One of {', '.join(field.metadata['choices'])}.".lstrip()
    return found


def _wrapped(what: str, meaning: str) -> list[str]:
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    return [f"  {what}", *textwrap.wrap(meaning, width, initial_indent=" " * 6, subsequent_indent=" " * 6)]
