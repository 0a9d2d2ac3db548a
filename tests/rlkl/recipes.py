"""What conf/rlkl says, as the library takes it."""

from dataclasses import replace
from functools import cache

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rlkl.commands import config
from rlkl.penalty import Penalty
from rlkl.settings import ALGORITHMS, WEIGHTINGS, AlgorithmSettings
from rlkl_htc_common.commands.application import conf_dir


@cache
def _composed(command, overrides):
    config.register()
    with initialize_config_dir(str(conf_dir("rlkl")), version_base="1.3"):
        return compose(command, list(overrides))


def recipe(command, *overrides, **changes):
    """A command's config, composed with overrides. Args: changes: of its fields, afterwards."""
    return replace(OmegaConf.to_object(_composed(command, overrides)), **changes)


def algorithm(name="a2c", **changes):
    """The settings of an algorithm."""
    known = name if name in ALGORITHMS else "a2c"
    return replace(AlgorithmSettings(**vars(recipe("finetune", f"algorithm={known}").algorithm)), name=name, **changes)


def penalty(weighting="prioritized", **changes):
    """A penalty."""
    known = weighting if weighting in WEIGHTINGS else "prioritized"
    return Penalty(**vars(recipe("finetune", f"penalty={known}").penalty) | {"weighting": weighting} | changes)


def finetuning(**changes):
    """The config of rlkl-finetune, whose penalty and algorithm may be settings of the library."""
    return recipe("finetune", **changes)


def pretraining(training, **changes):
    """The config of rlkl-pretrain. Args: training: changes of how it trains."""
    whole = recipe("pretrain")
    return replace(whole, training=replace(whole.training, **training), **changes)
