"""The command that repeats a run, reconstructed from its config."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from rlkl_htc_common.cli.grammar import literal
from rlkl_htc_common.cli.plain_text import TextKey, read, text_keys
from rlkl_htc_common.runs.directory import NOT_HASHED, flatten


def commands_of(program: str, config: str, runs: Sequence[Any], choices: Sequence[Mapping[str, str]]) -> list[str]:
    """The command for each run of a grid. Call it inside a Hydra application with the same folder of configs.

    Args:
        program: the entry point, such as `rlkl-finetune`.
        config: the name of its config.
        runs: the config of each run, as the entry point's dataclass.
        choices: of each run, by group; groups that the entry point does not have are left out.
    """
    default = compose(config, return_hydra_config=True)
    own = default.hydra.runtime.choices
    bases: dict[tuple[str, ...], dict[str, Any]] = {}
    commands = []
    for run, chosen in zip(runs, choices, strict=True):
        other = tuple(f"{group}={choice}" for group, choice in chosen.items() if group in default and choice != own.get(group))
        if other not in bases:
            base = OmegaConf.to_container(compose(config, list(other)), resolve=True)
            assert isinstance(base, dict)
            bases[other] = flatten({str(key): value for key, value in base.items()})
        commands.append(shlex.join([program, *own_configs(), *other, *_arguments(bases[other], run)]))
    return commands


def _arguments(base: Mapping[str, Any], run: Any) -> list[str]:
    keys = text_keys(type(run))
    return [
        as_argument(key, value, keys)
        for key, value in flatten(asdict(run)).items()
        if base.get(key, key) != value and key.split(".")[0] not in NOT_HASHED
    ]


def as_argument(key: str, value: Any, keys: Mapping[str, TextKey]) -> str:
    """The argument that sets a key to a value on the command line (not in a sweep), not yet quoted for a shell.

    Args: keys: those whose values are plain text. If plain text cannot express the value, Hydra's grammar is used.
    """
    if key not in keys:
        return f"{key}={literal(value)}"
    shown = "null" if value is None else value if isinstance(value, str) else f"[{','.join(value)}]"
    return f"{key}={shown}" if read(shown, keys[key]) == value else f"++{key}={literal(value)}"


def override_for_people(override: str, config: DictConfig, keys: Mapping[str, TextKey]) -> tuple[str, str, str]:
    """Turn an override in Hydra's grammar into the argument that a user would type.

    Args: config: composed with it; keys: see `as_argument`. Returns: key, value, and the argument.
    """
    key = OverridesParser.create().parse_override(override).get_key_element().lstrip("+~")
    if key not in keys:
        return key, override.partition("=")[2], override
    value = OmegaConf.select(config, key)
    argument = as_argument(key, value if value is None or isinstance(value, str) else list(value), keys)
    return key, argument.partition("=")[2], argument


def given_overrides(of: str = "task") -> list[str]:
    """The overrides of the running command, as written: `${...}` in a text stays escaped.

    Args: of: `task` for the command's keys, `hydra` for Hydra's.
    """
    given = OmegaConf.to_container(getattr(HydraConfig.get().overrides, of), resolve=False)
    assert isinstance(given, list)
    return [str(override) for override in given]


def own_configs() -> list[str]:
    """`--config-dir` and its folder, if the running command has it; else empty."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else []
    return [word for source in sources if source.provider == "command-line" for word in ("--config-dir", source.path)]
