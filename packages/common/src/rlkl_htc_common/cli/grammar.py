"""Escape values for Hydra and OmegaConf, so that they read back unchanged."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

WORDS = ("null", "true", "false", "nan", "inf")  # read as text only in quotes


def literal(value: Any) -> str:
    """Write a value in the grammar of Hydra's overrides."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(literal, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{literal(each)}' for key, each in value.items())}}}"
    text = str(value)
    if re.fullmatch(r"(\.{0,2}/|[A-Za-z_])[\w./-]*", text, re.ASCII) and text.lower() not in WORDS:
        return text
    return quoted(text)


def quoted(text: str) -> str:
    """Quote a text for Hydra's overrides."""
    # A backslash is literal, except before the quote.
    escaped = re.sub(r"(\\*)('|\Z)", lambda match: match[1] * 2 + match[2].replace("'", "\\'"), without_interpolation(text))
    return f"'{escaped}'"


def without_interpolation(text: str) -> str:
    """Escape a text for OmegaConf: `${` would start an interpolation, and a backslash before it would be an escape."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", text)


def as_config(settings: Any) -> DictConfig:
    """Turn a dataclass of settings into a config, with its texts unchanged."""
    return OmegaConf.structured(meaning_itself(settings))


def meaning_itself(settings: Any) -> Any:
    """Escape every text in dataclasses, lists and dictionaries for OmegaConf."""
    if isinstance(settings, str):
        return without_interpolation(settings)
    if isinstance(settings, Mapping):
        return {key: meaning_itself(value) for key, value in settings.items()}
    if isinstance(settings, Sequence):
        return [meaning_itself(value) for value in settings]
    if is_dataclass(settings) and not isinstance(settings, type):
        return replace(settings, **{field.name: meaning_itself(getattr(settings, field.name)) for field in fields(settings)})
    return settings
