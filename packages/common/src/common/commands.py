"""Commands that start a run again, told from its config."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from common.runs import NOT_HASHED, flatten


def commands_of(program: str, config: str, runs: Sequence[Any]) -> list[str]:
    """The command for each run of a grid. To be called inside a Hydra application with the same folder of configs.

    Args:
        program: the entry point, such as `rlkl-finetune`.
        config: the name of its config; where it has groups that the running application has too, their choices are taken over.
        runs: a config of each run, as the dataclass that the entry point takes.
    """
    default = compose(config, return_hydra_config=True)
    own, here = default.hydra.runtime.choices, HydraConfig.get().runtime.choices
    chosen = [
        f"{group}={choice}" for group, choice in here.items() if group in default and choice not in (None, own.get(group))
    ]
    base = _flat(compose(config, chosen))
    return [shlex.join([program, *chosen, *_overrides(base, _flat(OmegaConf.structured(run)))]) for run in runs]


def _overrides(base: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}={literal(value)}"
        for key, value in run.items()
        if base.get(key, key) != value and key.split(".")[0] not in NOT_HASHED
    ]


def _flat(config: Any) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return flatten({str(key): value for key, value in plain.items()})


def literal(value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(literal, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{literal(each)}' for key, each in value.items())}}}"
    text = str(value)
    if re.fullmatch(r"(\.{0,2}/|[A-Za-z_])[\w./-]*", text) and text.lower() not in ("null", "true", "false", "nan", "inf"):
        return text
    return quoted(text)


def quoted(text: str) -> str:
    """A text in quotes, in the grammar of Hydra's overrides."""
    # A backslash means itself, except before the quote; OmegaConf takes ${ for an interpolation.
    escaped = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + match[2].replace("'", "\\'"), text).replace("${", "\\${")
    return f"'{escaped}'"
