"""Configs with the same effect are one run; others are not."""

import pickle
from dataclasses import replace

import pytest

from htc.experiment.config import CustomConfig, FinetuningConfig, HeadConfig, TrainConfig, loss_config
from htc.experiment.identity import identity_of, plainest_loss
from htc.settings import OBJECTIVES, LossSettings
from rlkl_htc_common.models.settings import EncoderConfig
from rlkl_htc_common.runs.directory import config_hash

NUMBERS = {"tau": 1.0, "prior_smoothing": 0.5, "margin": 0.0}


def loss(name, **settings):
    """A loss with values for what has none in the code."""
    return loss_config(name, **{key: value for key, value in NUMBERS.items() if key in OBJECTIVES[name].reads} | settings)


def hash_of(loss, training=None, encoder=None):
    config = TrainConfig(
        dataset=CustomConfig("custom", 0.1, 0.2, 0, dir="data"),
        encoder=replace(EncoderConfig("minilm", max_length=256, batch_size=32), **(encoder or {})),
        head=HeadConfig(792, 0.1, True),
        loss=plainest_loss(loss),
        training=replace(FinetuningConfig(8, 256, None, 1e-3, 0.01, 0.1, 1.0, encoder_learning_rate=2e-5), **(training or {})),
        select="dev/hf1_auc",
        seed=0,
        runs="runs",
        cache_dir="runs/cache",
    )
    return config_hash(identity_of(config))


SAME = {
    "no adjustment": (loss("conditional_softmax_la", tau=0.0), loss("conditional_softmax")),
    "no adjustment, with a stop": (loss("conditional_softmax_la", tau=0.0, stop=True), loss("conditional_softmax", stop=True)),
    "a negative zero": (loss("conditional_softmax_la", tau=-0.0, priors="counts"), loss("conditional_softmax")),
    "no focus": (loss("focal", gamma=0.0), loss("bce")),
    "no focus, with a penalty": (
        loss("focal", gamma=0.0, recursive_regularization=0.1),
        loss("bce", recursive_regularization=0.1),
    ),
    "no distance": (loss("champ", beta=0.0), loss("bce")),
    "no distance in a sum": (loss("champ", beta=-0.0, reduction="sum"), loss("champ", beta=0.0, reduction="sum")),
    "no margin": (
        loss("parameter_sharing_softmax", margin_form="relative"),
        loss("parameter_sharing_softmax", margin=-0.0, margin_form="edges"),
    ),
    "no smoothing of counts": (
        loss("conditional_softmax_la", priors="counts", prior_smoothing=0.01),
        loss("conditional_softmax_la", priors="counts", prior_smoothing=7.0),
    ),
    "no penalty": (loss("bce", recursive_regularization=0.0), loss("bce")),
    "nothing at all": (loss("champ", beta=0.0, recursive_regularization=-0.0), loss("focal", gamma=0.0)),
}
OTHER = {
    "another adjustment": (loss("conditional_softmax_la", tau=0.5), loss("conditional_softmax_la")),
    "weights of true cells": (loss("focal", gamma=0.0, alpha=0.5), loss("bce")),
    "a sum": (loss("champ", beta=0.0, reduction="sum"), loss("bce")),
    "a stop": (loss("leaf_softmax", stop=True), loss("leaf_softmax")),
    "a start": (loss("bce_prior_bias"), loss("bce")),
    "another start": (loss("bce_prior_bias", prior_smoothing=1.0), loss("bce_prior_bias")),
    "a margin": (
        loss("parameter_sharing_softmax", margin=1.0),
        loss("parameter_sharing_softmax", margin=1.0, margin_form="relative"),
    ),
    "a penalty": (loss("bce", recursive_regularization=0.1), loss("bce")),
}


@pytest.mark.parametrize("pair", SAME)
def test_losses_with_the_same_effect_are_one(pair):
    one, other = SAME[pair]
    assert plainest_loss(one) == plainest_loss(other)
    assert hash_of(one) == hash_of(other)


@pytest.mark.parametrize("pair", OTHER)
def test_losses_with_another_effect_are_two(pair):
    one, other = OTHER[pair]
    assert hash_of(one) != hash_of(other)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"training": {"micro_batch_size": 8}}, {}, True),
        ({"training": {"checkpoint_steps": 10}}, {}, True),
        ({"encoder": {"batch_size": 1}}, {}, True),
        ({"training": {"encoder_learning_rate": 1e-3}}, {}, True),  # of a frozen encoder
        ({"training": {"patience": 8}}, {"training": {"patience": 100}}, True),  # of 8 epochs
        ({"training": {"patience": 8}}, {}, True),
        ({"training": {"patience": 7}}, {}, False),
        ({"training": {"batch_size": 8}}, {}, False),
        ({"training": {"precision": "bf16"}}, {}, False),
        ({"encoder": {"max_length": 8}}, {}, False),
        (
            {"training": {"encoder_learning_rate": 1e-3}, "encoder": {"frozen": False}},
            {"encoder": {"frozen": False}},
            False,
        ),
    ],
)
def test_trainings(one, other, same):
    assert (hash_of(loss("bce"), **one) == hash_of(loss("bce"), **other)) == same


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_config_of_every_loss_goes_to_other_processes(name):
    config = loss(name)
    assert pickle.loads(pickle.dumps(config)) == config
    assert set(OBJECTIVES[name].reads) <= set(LossSettings.__dataclass_fields__)
    config.check()
