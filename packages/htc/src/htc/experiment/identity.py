"""What makes a training what it is: configs with the same effect are made and named alike."""

from dataclasses import asdict, replace
from typing import Any

from htc.experiment.config import LINEAR, FinetuningConfig, LossConfig, TableConfig, TrainConfig, loss_config, model_config
from htc.settings import AUTO, FLAT, MODELS, plainest, plainest_model

# What changes the memory that a training takes, or what is saved on the way, but not what comes of it, rounding apart.
NO_EFFECT = (
    *(("training", "micro_batch_size"), ("training", "checkpoint_steps"), ("encoder", "batch_size")),
    ("dataset", "texts"),
)


def plainest_loss(config: LossConfig) -> LossConfig:
    """The plainest loss with the same effect, see `htc.settings.plainest`. Args: config: of an objective, not of auto."""
    settings = asdict(config)
    name, plain = plainest(settings.pop("name"), settings)
    return loss_config(name, **plain)


def plainest_config(config: TrainConfig) -> TrainConfig:
    """The same training with the plainest loss and model. Args: config: with any loss; auto stays as it is."""
    own_loss = MODELS[config.model.name].own_loss
    loss = config.loss if own_loss is None else loss_config(own_loss)
    if loss.name != AUTO:
        loss = plainest_loss(loss)
    return replace(config, loss=loss, model=model_config(**plainest_model(asdict(config.model))))


def identity_of(config: TrainConfig) -> dict[str, Any]:
    """What a run is known by, as plain containers: settings without effect are left out, or as if they had not been given.

    Args: config: the plainest, of which the run is made.
    """
    model = MODELS[config.model.name]
    patience = config.training.patience
    never_out = patience is not None and patience >= config.training.epochs
    training = replace(config.training, patience=None if never_out else patience)
    found = asdict(replace(config, training=training))
    for part, key in NO_EFFECT:
        if not (key == "micro_batch_size" and model.whole_batches and _in_parts(config.training)):
            found[part].pop(key, None)
    if config.encoder.frozen:
        del found["training"]["encoder_learning_rate"]
    for split in ("dev", "test"):  # tables from before they could have files of splits do not have them
        if isinstance(config.dataset, TableConfig) and getattr(config.dataset, split) is None:
            del found["dataset"][split]
    if config.training.decay == LINEAR:  # runs from before there was a choice do not have it
        del found["training"]["decay"]
    if config.model.name == FLAT:  # likewise
        del found["model"]
    found["head"] = {key: value for key, value in found["head"].items() if key in model.head}
    if not getattr(config.model, "on_top", True):  # HiTIN, in place of the head
        del found["head"]["hidden"]
    if not model.head:  # nor a text vector
        del found["head"], found["encoder"]["pooling"]
    return found


def _in_parts(training: FinetuningConfig) -> bool:
    """Whether a batch goes through the model in several parts."""
    return training.micro_batch_size is not None and training.micro_batch_size < training.batch_size
