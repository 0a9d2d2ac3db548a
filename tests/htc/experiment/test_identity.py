"""Configs with the same effect are one run; others are not."""

import pickle
from dataclasses import replace

import pytest

from htc.experiment.config import (
    CustomConfig,
    FinetuningConfig,
    HeadConfig,
    ModelConfig,
    TrainConfig,
    loss_config,
    model_config,
)
from htc.experiment.identity import identity_of, plainest_config, plainest_loss
from htc.settings import AUTO_READS, MODELS, OBJECTIVES, LossSettings, ModelSettings
from rlkl_htc_common.models.settings import EncoderConfig
from rlkl_htc_common.runs.directory import config_hash

NUMBERS = {"tau": 1.0, "prior_smoothing": 0.5, "margin": 0.0}


def loss(name, **settings):
    """A loss with values for what has none in the code."""
    reads = AUTO_READS if name == "auto" else OBJECTIVES[name].reads
    return loss_config(name, **{key: value for key, value in NUMBERS.items() if key in reads} | settings)


MODEL_NUMBERS = {  # values for what has none in the code
    "hitin": {"height": 2, "pooled_dropout": 0.5},
    "hgclr": {"weight": 0.1, "threshold": 0.02, "temperature": 1.0, "gate_heads": 8, "graph_heads": 12}
    | {"similarity_temperature": 1.0},
    "hbgl": {"history_mask": 0.5, "global_steps": 300, "global_learning_rate": 1e-3, "copies": 32}
    | {"masked": 0.15, "masked_at_end": 0.15},
}
FINE_TUNED = {"frozen": False}


def model(name, **settings):
    """A model with values for what has none in the code."""
    return model_config(name, **MODEL_NUMBERS.get(name, {}) | settings)


def hash_of(loss, training=None, encoder=None, model=None, head=None):
    config = TrainConfig(
        dataset=CustomConfig("custom", 0.1, 0.2, 0, dir="data"),
        encoder=replace(EncoderConfig("minilm", max_length=256, batch_size=32), **(encoder or {})),
        head=replace(HeadConfig(792, 0.1, True), **(head or {})),
        loss=loss,
        training=replace(FinetuningConfig(8, 256, None, 1e-3, 0.01, 0.1, 1.0, encoder_learning_rate=2e-5), **(training or {})),
        select="dev/hf1_auc",
        seed=0,
        runs="runs",
        cache_dir="runs/cache",
    )
    return config_hash(identity_of(plainest_config(config if model is None else replace(config, model=model))))


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


MODELS_WITH_THE_SAME_EFFECT = {
    "flat, named": ({}, {"model": model("flat")}),
    "flat, of any class": ({"model": model("flat")}, {"model": ModelConfig("flat")}),
    "no contrast": (
        {"model": model("hgclr", weight=0.0)},
        {"model": model("hgclr", weight=-0.0, similarity_temperature=0.1)},
    ),
    "no global stage": (
        {"model": model("hbgl", global_steps=0)},
        {"model": model("hbgl", global_steps=0, global_learning_rate=1.0, masked=0.5, masked_at_end=0.1, copies=1)},
    ),
    "a global stage of one step": (
        {"model": model("hbgl", global_steps=1)},
        {"model": model("hbgl", global_steps=1, masked_at_end=0.9)},
    ),
    "a head that HBGL has not": ({"model": model("hbgl")}, {"model": model("hbgl"), "head": {"hidden": 7, "dropout": 0.9}}),
    "vectors that HBGL has not": ({"model": model("hbgl")}, {"model": model("hbgl"), "encoder": {"pooling": "cls"}}),
    "a hidden layer that HiTIN has not": ({"model": model("hitin")}, {"model": model("hitin"), "head": {"hidden": 7}}),
    "one part": (
        {"model": model("hitin")},
        {"model": model("hitin"), "training": {"micro_batch_size": 256}},
    ),
}
MODELS_WITH_ANOTHER_EFFECT = {
    "another model": ({}, {"model": model("hitin")}),
    "another tree": ({"model": model("hitin")}, {"model": model("hitin", height=3)}),
    "another head": ({"model": model("hgclr")}, {"model": model("hgclr"), "head": {"hidden": 7}}),
    "a head below": ({"model": model("hitin", on_top=True)}, {"model": model("hitin", on_top=True), "head": {"hidden": 7}}),
    "dropout of copies": ({"model": model("hitin")}, {"model": model("hitin"), "head": {"dropout": 0.2}}),
    "no contrast": ({}, {"model": model("hgclr", weight=0.0)}),
    "norms and negatives of parts": (
        {"model": model("hgclr")},
        {"model": model("hgclr"), "training": {"micro_batch_size": 8}},
    ),
    "a constant rate": ({}, {"training": {"decay": "constant"}}),
}


@pytest.mark.parametrize("pair", MODELS_WITH_THE_SAME_EFFECT)
def test_models_with_the_same_effect_are_one(pair):
    one, other = MODELS_WITH_THE_SAME_EFFECT[pair]
    assert hash_of(loss("bce"), **one) == hash_of(loss("bce"), **other)


@pytest.mark.parametrize("pair", MODELS_WITH_ANOTHER_EFFECT)
def test_models_with_another_effect_are_two(pair):
    one, other = MODELS_WITH_ANOTHER_EFFECT[pair]
    assert hash_of(loss("bce"), **one) != hash_of(loss("bce"), **other)


def test_a_model_with_a_loss_of_its_own_is_one_whatever_loss_it_is_given():
    assert hash_of(loss("auto"), model=model("hbgl")) == hash_of(loss("bce"), model=model("hbgl"))


def test_the_flat_model_has_the_hash_that_runs_had_before_there_were_models():
    assert hash_of(loss("bce")) == "a542cf3586ed"


@pytest.mark.parametrize("name", MODELS)
def test_the_config_of_every_model_goes_to_other_processes(name):
    assert pickle.loads(pickle.dumps(model(name))) == model(name)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_reads_settings_that_there_are(name):
    assert set(MODELS[name].reads) <= set(ModelSettings.__dataclass_fields__)
    assert set(MODELS[name].head) <= set(HeadConfig.__dataclass_fields__)
