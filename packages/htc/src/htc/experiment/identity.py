"""What makes a training what it is: configs with the same effect are made and named alike."""

from dataclasses import asdict, replace
from typing import Any

from htc.experiment.config import LossConfig, TrainConfig, loss_config
from htc.settings import plainest

# What changes the memory that a training takes, or what is saved on the way, but not what comes of it, rounding apart.
NO_EFFECT = (("training", "micro_batch_size"), ("training", "checkpoint_steps"), ("encoder", "batch_size"))


def plainest_loss(config: LossConfig) -> LossConfig:
    """The plainest loss with the same effect, see `htc.settings.plainest`. Args: config: of an objective, not of auto."""
    settings = asdict(config)
    name, plain = plainest(settings.pop("name"), settings)
    return loss_config(name, **plain)


def identity_of(config: TrainConfig) -> dict[str, Any]:
    """What a run is known by, as plain containers: settings without effect are left out, or as if they had not been given.

    Args: config: with the plainest loss, of which the run is made.
    """
    patience = config.training.patience
    never_out = patience is not None and patience >= config.training.epochs
    training = replace(config.training, patience=None if never_out else patience)
    found = asdict(replace(config, training=training))
    for part, key in NO_EFFECT:
        del found[part][key]
    if config.encoder.frozen:
        del found["training"]["encoder_learning_rate"]
    return found
