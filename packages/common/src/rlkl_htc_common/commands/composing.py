"""Compose a command's config from Python: the same files, schemas and errors as on the command line."""

from collections.abc import Mapping
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlkl_htc_common.cli.grammar import literal
from rlkl_htc_common.cli.plain_text import text_keys
from rlkl_htc_common.commands.application import conf_dir, describe, refuse_added_keys
from rlkl_htc_common.commands.repository import texts_are_no_groups
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import flatten


def compose_settings(application: str, config: str, schema: type, settings: Mapping[str, Any]) -> Any:
    """The config of a command with some settings, as an object of its schema.

    It may be called inside another Hydra application.

    Args:
        application: the folder of configs; they must be registered.
        config: the name of the config.
        schema: a dataclass with the config's keys.
        settings: value by key, such as `{"loss": "focal", "training.epochs": 3}` or, nested, `{"training": {"epochs": 3}}`.

    Raises:
        InputError: for an unknown key, choice or value.
    """
    overrides = [_override(key, value, key in text_keys(schema)) for key, value in flatten(settings).items()]
    before = Singleton.get_state()
    try:
        GlobalHydra.instance().clear()
        with texts_are_no_groups(text_keys(schema)), initialize_config_dir(str(conf_dir(application)), version_base="1.3"):
            composed = compose(config, overrides)
        refuse_added_keys(composed)
        return OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(describe(error)) from error
    finally:
        Singleton.set_state(before)


def _override(key: str, value: Any, is_text: bool) -> str:
    """A setting in Hydra's grammar. A text that no schema says is one may be a choice of a group."""
    if isinstance(value, str) and not is_text:
        return f"{key}={value}"
    return f"{key}={literal(value)}"
