"""Every config composes against its schema, and none holds a key that its schema does not know."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from htc.config import EvaluateConfig, PredictConfig, ReproduceConfig, TrainConfig, register

CONF = Path(__file__).resolve().parents[2] / "conf/htc"
APPLICATIONS = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "reproduce": ReproduceConfig,
}
CHOICES = [(group.name, file.stem) for group in CONF.iterdir() if group.is_dir() for file in sorted(group.glob("*.yaml"))]
FILL = {"dataset.dir": "folder", "model": "folder"}


def composed(application, *overrides):
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(application, list(overrides))


def typed(config):
    for key, value in FILL.items():
        if OmegaConf.is_missing(OmegaConf.select(config, key.rpartition(".")[0]) or config, key.rpartition(".")[2]):
            OmegaConf.update(config, key, value)
    return OmegaConf.to_object(config)


def test_every_application_has_its_config():
    assert {file.stem for file in CONF.glob("*.yaml")} == {*APPLICATIONS, "app"}


@pytest.mark.parametrize("application", APPLICATIONS)
def test_applications_compose(application):
    assert isinstance(typed(composed(application)), APPLICATIONS[application])


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes(group, choice):
    application = "reproduce" if group == "experiment" else "train"
    config = typed(composed(application, f"{group}={choice}"))
    if group != "experiment":
        assert getattr(config, group).name if group in ("dataset", "loss", "encoder") else config


@pytest.mark.parametrize("file", sorted(CONF.glob("experiment/*.yaml")), ids=lambda file: file.stem)
def test_an_experiment_begins_with_the_command_that_runs_it(file):
    first, second = file.read_text().splitlines()[:2]
    assert first == "# @package _global_"
    assert second.startswith(("# make ", "# python -m htc.reproduce"))


def test_a_trained_encoder_brings_its_recipe():
    assert typed(composed("train", "encoder=minilm")).training.batch_size == 16
    assert typed(composed("train", "encoder=minilm", "training=frozen_icd10cm")).training.batch_size == 256


def test_a_frozen_encoder_takes_the_recipe_of_the_dataset():
    assert typed(composed("train")).training.epochs == 8
    assert typed(composed("train", "dataset=custom")).training.epochs == 40


def test_losses_of_experiments_are_those_of_the_loss_group():
    for file in CONF.glob("experiment/*.yaml"):
        for loss in typed(composed("reproduce", f"experiment={file.stem}")).losses:
            assert loss == typed(composed("train", f"loss={loss.name}")).loss


@pytest.mark.parametrize("override", ["training.epoch=3", "dataset.fraction=1", "loss.temperature=2"])
def test_typos_are_refused(override):
    with pytest.raises(Exception, match=r"not in|Could not"):
        composed("train", override)


def test_a_value_that_must_be_given_is_missing():
    with pytest.raises(MissingMandatoryValue, match="dir"):
        OmegaConf.to_object(composed("train", "dataset=custom"))
