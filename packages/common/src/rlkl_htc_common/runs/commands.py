"""Commands that start a run again, told from its config."""

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
    """The command for each run of a grid. To be called inside a Hydra application with the same folder of configs.

    Args:
        program: the entry point, such as `rlkl-finetune`.
        config: the name of its config.
        runs: a config of each run, as the dataclass that the entry point takes.
        choices: of each run, by group; those of groups that the entry point has are told.
    """
    default = compose(config, return_hydra_config=True)
    own = default.hydra.runtime.choices
    bases: dict[tuple[str, ...], dict[str, Any]] = {}
    commands = []
    for run, chosen in zip(runs, choices, strict=True):
        told = tuple(f"{group}={choice}" for group, choice in chosen.items() if group in default and choice != own.get(group))
        if told not in bases:
            base = OmegaConf.to_container(compose(config, list(told)), resolve=True)
            assert isinstance(base, dict)
            bases[told] = flatten({str(key): value for key, value in base.items()})
        commands.append(shlex.join([program, *own_configs(), *told, *_arguments(bases[told], run)]))
    return commands


def _arguments(base: Mapping[str, Any], run: Any) -> list[str]:
    keys = text_keys(type(run))
    return [
        as_argument(key, value, keys)
        for key, value in flatten(asdict(run)).items()
        if base.get(key, key) != value and key.split(".")[0] not in NOT_HASHED
    ]


def as_argument(key: str, value: Any, keys: Mapping[str, TextKey]) -> str:
    """What sets a key to a value on the command line, outside of sweeps; not yet quoted for a shell.

    Args: keys: those whose values are plain text there; where that cannot say the value, Hydra's grammar does.
    """
    if key not in keys:
        return f"{key}={literal(value)}"
    shown = "null" if value is None else value if isinstance(value, str) else f"[{','.join(value)}]"
    return f"{key}={shown}" if read(shown, keys[key]) == value else f"++{key}={literal(value)}"


def override_for_people(override: str, config: DictConfig, keys: Mapping[str, TextKey]) -> tuple[str, str, str]:
    """An override in Hydra's grammar, as people would give it.

    Args: config: composed with it; keys: see `as_argument`. Returns: its key, its value, and the argument that says both.
    """
    key = OverridesParser.create().parse_override(override).get_key_element().lstrip("+~")
    if key not in keys:
        return key, override.partition("=")[2], override
    value = OmegaConf.select(config, key)
    argument = as_argument(key, value if value is None or isinstance(value, str) else list(value), keys)
    return key, argument.partition("=")[2], argument


def given_overrides(of: str = "task") -> list[str]:
    """What the command that runs here was given, as it was written: `${...}` in a text stays escaped.

    Args: of: `task`, the command's own keys, or `hydra`, Hydra's.
    """
    given = OmegaConf.to_container(getattr(HydraConfig.get().overrides, of), resolve=False)
    assert isinstance(given, list)
    return [str(override) for override in given]


def own_configs() -> list[str]:
    """The option that makes a command find the user's own configs; empty where `--config-dir` was not given."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else []
    return [word for source in sources if source.provider == "command-line" for word in ("--config-dir", source.path)]
