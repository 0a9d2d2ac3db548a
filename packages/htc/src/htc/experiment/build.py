"""From config to the objects that it describes."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from htc.datasets import (
    Dataset,
    load_attack,
    load_custom,
    load_gene_ontology,
    load_icd10cm,
    load_published,
    load_table,
    load_wordnet,
)
from htc.datasets.cells import Cells
from htc.experiment.classifiers import suitable_mixing
from htc.experiment.config import (
    AttackConfig,
    CustomConfig,
    DatasetConfig,
    DrawnConfig,
    GeneOntologyConfig,
    HeadConfig,
    Icd10cmConfig,
    LossConfig,
    ModelConfig,
    PublishedConfig,
    TableConfig,
    TrainConfig,
    WordnetConfig,
    loss_config,
)
from htc.labels.hierarchy import Hierarchy
from htc.labels.sparse_sets import SparseSets
from htc.losses import Objective, objective_by_name, suitable_objective
from htc.models.classifier import Classifier, Parts
from htc.settings import AUTO, FLAT, MODELS, OBJECTIVES
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.models.encoders import TextEncoder

INSTALLED: dict[type[DatasetConfig], Callable[..., Dataset]] = {  # their loaders take what is in their configs
    AttackConfig: load_attack,
    GeneOntologyConfig: load_gene_ontology,
    Icd10cmConfig: load_icd10cm,
    WordnetConfig: load_wordnet,
}


def load_dataset(
    config: DatasetConfig, tables: Mapping[str, Cells] | None = None, cache_dir: str | Path | None = None
) -> Dataset:
    """Load the dataset that a config names.

    Args: tables: by split, in place of the files of a table's config; cache_dir: for texts on disk.
    """
    if isinstance(config, PublishedConfig):
        return load_published(config.name, config.dir, config.max_depth, config.texts, cache_dir)
    if not isinstance(config, DrawnConfig):
        raise TypeError(f"no dataset belongs to {type(config).__name__}.")
    shares = {
        "dev_fraction": config.dev_fraction,
        "test_fraction": config.test_fraction,
        "split_seed": config.split_seed,
    }
    if (load := INSTALLED.get(type(config))) is not None:
        return load(**{each.name: getattr(config, each.name) for each in fields(config) if each.name != "name"})
    if isinstance(config, TableConfig):
        name: str | None = Path(config.file).stem if config.name == "table" else config.name
        columns = {"text": config.text, "levels": config.levels, "path": config.path, "split": config.split}
        separators = {"separator": config.separator, "path_separator": config.path_separator}
        files = {"file": config.file, "dev": config.dev, "test": config.test} if tables is None else {"file": tables}
        kept = {"texts": config.texts, "cache_dir": cache_dir}
        return load_table(**files, name=name, **columns, **separators, **shares, **kept)  # type: ignore[arg-type]
    if isinstance(config, CustomConfig):
        files = {"taxonomy": config.taxonomy, "train": config.train, "dev": config.dev, "test": config.test}
        name = None if config.name == "custom" else config.name
        kept = {"texts": config.texts, "cache_dir": cache_dir}
        return load_custom(config.dir, name=name, **files, **shares, **kept)  # type: ignore[arg-type]
    raise TypeError(f"no dataset belongs to {type(config).__name__}.")


def choose_loss(config: LossConfig, hierarchy: Hierarchy, train_targets: SparseSets) -> tuple[LossConfig, str]:
    """The loss that a config leaves to the training labels, see `htc.losses.suitable_objective`.

    Where that is bce, its output bias starts at the base rates of the labels: started at 0.5 for each of thousands, it predicts
    nothing for a long time. The stop event that a config asks for stays.

    Args: train_targets: of the training documents. Returns: the config with a name from `htc.settings.OBJECTIVES`, and the
    choice in words.

    Raises:
        InputError: if the config asks for a stop event, and the chosen loss has none.
    """
    found = suitable_objective(hierarchy, train_targets)
    name = "bce_prior_bias" if found.name == "bce" else found.name
    reads, asked = OBJECTIVES[name].reads, settings_of(config)
    stop = bool(asked.pop("stop")) or found.stop
    if stop and "stop" not in reads:
        raise InputError(f"a stop event is for the softmax objectives; {name} takes paths that end anywhere as it is.")
    settings = {key: value for key, value in asked.items() if key in reads} | ({"stop": stop} if "stop" in reads else {})
    with_stop = " with a stop event" if found.stop else ""
    reason = f"loss: {name}{with_stop}, because {found.reason}; loss=NAME takes another."
    return loss_config(name, **settings), reason


def settings_of(config: LossConfig | ModelConfig) -> dict[str, Any]:
    """The settings of a loss or a model, without its name."""
    return {each.name: getattr(config, each.name) for each in fields(config) if each.name != "name"}


def make_objective(config: LossConfig, hierarchy: Hierarchy, train_targets: SparseSets | None) -> Objective:
    """The objective that a config names.

    Args:
        train_targets: of D documents, what priors are counted on; None for a trained model, which needs them no more.

    Raises:
        InputError: for an unknown name, or settings that do not go with it.
    """
    if config.name not in OBJECTIVES:
        raise InputError(f"loss.name must be one of {', '.join(OBJECTIVES)}, or {AUTO} in htc-train, not {config.name!r}.")
    settings = settings_of(config)
    regularization = settings.pop("recursive_regularization", None) or 0.0
    if regularization < 0:
        raise InputError(f"loss.recursive_regularization must not be negative, but is {regularization}.")
    objective = objective_by_name(config.name, hierarchy, train_targets, **settings)
    if regularization and objective.num_outputs != hierarchy.num_nodes:
        raise InputError(
            f"loss.recursive_regularization needs one output for each node, which {config.name}"
            f"{' with loss.stop' if settings.get('stop') else ''} does not have."
        )
    return objective


def check_model(config: TrainConfig) -> None:
    """Refuse a model that does not go with the encoder or the objective. Raises InputError."""
    config.model.check()
    name, model = config.model.name, MODELS[config.model.name]
    if model.trains_encoder and config.encoder.frozen:
        raise InputError(
            f"model={name} trains its text encoder, and encoder.frozen=true keeps it; take encoder=minilm, or another encoder "
            "that is not frozen."
        )
    if model.own_loss is None:
        return
    if config.loss.name not in (AUTO, model.own_loss):
        takes = ", ".join(other for other, each in MODELS.items() if each.own_loss is None)
        raise InputError(f"model={name} has a loss of its own and takes no loss={config.loss.name}; these take any: {takes}.")
    for setting in ("recursive_regularization", "stop"):
        if getattr(config.loss, setting, None):
            raise InputError(f"model={name} has a loss of its own and takes no loss.{setting}; leave it out.")


def choose_mixing(config: ModelConfig, hierarchy: Hierarchy) -> ModelConfig:
    """The model, with what it leaves to the number of labels (`htc.experiment.classifiers.suitable_mixing`)."""
    if getattr(config, "mixing", "given") is not None:
        return config
    return replace(config, mixing=suitable_mixing(hierarchy.num_nodes))  # type: ignore[call-arg]


def cut_texts(config: ModelConfig, encoder: TextEncoder, hierarchy: Hierarchy) -> None:
    """Let the encoder cut texts where the model needs positions behind them."""
    most = MODELS[config.name].maker().most_tokens(encoder, hierarchy)  # type: ignore[attr-defined]
    if most is not None:
        encoder.max_length = min(encoder.max_length, most)


def make_classifier(
    config: ModelConfig,
    head: HeadConfig,
    encoder: TextEncoder,
    hierarchy: Hierarchy,
    objective: Objective,
    *,
    trained: bool,
    for_training: bool = True,
) -> Classifier:
    """The classifier that a config names.

    Args:
        trained: whether the encoder is trained with it, and so a part of it.
        for_training: if not, what it is made of for predictions alone.

    Raises:
        InputError: for settings that do not go with the encoder or the hierarchy.
    """
    name, settings = config.name, settings_of(config)
    if not for_training and MODELS[name].at_prediction is not None:
        name, settings = MODELS[name].at_prediction or FLAT, {}
    parts = Parts(encoder, trained, hierarchy, objective, head.hidden, head.dropout)
    classifier: Classifier = MODELS[name].maker()(parts, **settings)
    return classifier
