"""The schemas of htc's configs: a key that is not here, or a value of another type, is refused when a config is composed.

The values and their reasons are in conf/htc. Neither torch nor transformers is imported here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from htc.settings import AUTO, AUTO_READS, FLAT, MODELS, OBJECTIVES, VALUES_OF_MODELS, LossSettings, ModelSettings
from rlkl_htc_common.cli.plain_text import NULL_IS_TEXT
from rlkl_htc_common.cli.schemas import schema_of
from rlkl_htc_common.commands import hydra_defaults
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.models.settings import EncoderConfig
from rlkl_htc_common.runs.tracking import TrackingConfig
from rlkl_htc_common.training.settings import TrainingConfig

DECAYS = (LINEAR, CONSTANT) = ("linear", "constant")


@dataclass
class DatasetConfig:
    """What every dataset has.

    Attributes:
        name: what runs and reports call it.
    """

    name: str = MISSING


@dataclass
class DrawnConfig(DatasetConfig):
    """What datasets have whose splits are drawn.

    Attributes:
        dev_fraction, test_fraction: the shares of documents for dev and test, where the data name none themselves.
        split_seed: of the draw.
    """

    dev_fraction: float = MISSING
    test_fraction: float = MISSING
    split_seed: int = MISSING


@dataclass
class LimitedConfig(DrawnConfig):
    """What datasets have that may be made smaller.

    Attributes:
        max_documents: take so many, drawn at random; null for all.
    """

    max_documents: int | None = None


@dataclass
class Icd10cmConfig(LimitedConfig):
    """See htc.datasets.icd10cm."""


@dataclass
class AttackConfig(LimitedConfig):
    """See htc.datasets.attack."""


@dataclass
class OntologyConfig(LimitedConfig):
    """What datasets of definitions have, see htc.datasets.ontology.

    Attributes:
        file: the ontology; the error for one that is not there says how to get it.
        min_descendants: labels are the terms with at least so many terms below them; documents, the definitions of all others.
    """

    file: str = MISSING
    min_descendants: int = MISSING


@dataclass
class GeneOntologyConfig(OntologyConfig):
    """See htc.datasets.gene_ontology."""


@dataclass
class WordnetConfig(OntologyConfig):
    """See htc.datasets.wordnet."""


@dataclass
class CustomConfig(DrawnConfig):
    """See htc.datasets.custom.

    Attributes:
        dir: the folder of the files.
        taxonomy: the name of the file of the hierarchy; null for the only one that ends in .taxonomy.
        train, dev, test: the names of the files of documents (JSON lines); null for those with these words in their names.
        texts: where texts are kept: `memory`, `disk`, or `auto` (`htc.datasets.stored_texts.TextStorage`).
    """

    dir: str = MISSING
    taxonomy: str | None = None
    train: str | None = None
    dev: str | None = None
    test: str | None = None
    texts: str = AUTO


@dataclass
class TableConfig(DrawnConfig):
    """See htc.datasets.table.

    Attributes:
        file: the table: .csv, .tsv, .parquet, .jsonl, .json, or a folder that `datasets` has saved.
        text: the column of the texts.
        levels: the columns of the labels from the top level down; null for all others.
        path: the column of the labels where one cell holds them all, from the top down, or a list; instead of `levels`.
        separator: what stands between the labels of a path.
        path_separator: what stands between several paths in one cell; null where each has one.
        split: the column that says train, dev or test; null to draw them.
        dev, test: the tables of these splits, as `file`; null for those that `file` has, or to draw them.
        texts: as of custom.
    """

    file: str = MISSING
    text: str = MISSING
    levels: list[str] | None = None
    path: str | None = None
    separator: str | None = MISSING
    path_separator: str | None = None
    split: str | None = None
    dev: str | None = None
    test: str | None = None
    texts: str = AUTO


@dataclass
class PublishedConfig(DatasetConfig):
    """See htc.datasets.published; the splits are the official ones.

    Attributes:
        dir: the folder of the files.
        max_depth: cut the hierarchy below so many levels; null for all.
        texts: as of custom.
    """

    dir: str = MISSING
    max_depth: int | None = None
    texts: str = AUTO


@dataclass
class LossConfig:
    """An objective: the schema of each has, besides, the settings that it reads (`htc.settings.LossSettings`).

    Attributes:
        name: one of `htc.settings.OBJECTIVES`; or auto, in htc-train: chosen by the training labels, see `build.choose_loss`.
    """

    name: str = MISSING

    def check(self) -> None:
        """Raise InputError for a name that does not go with the settings, and numbers that no loss can be computed with."""
        if self.name not in (*OBJECTIVES, AUTO):
            raise InputError(f"loss.name must be one of {', '.join(OBJECTIVES)}, or {AUTO} in htc-train, not {self.name!r}.")
        if {each.name for each in fields(self)} != {each.name for each in fields(loss_schema(self.name))}:
            raise InputError(f"loss.name={self.name} lacks the settings of that loss; give loss={self.name} instead.")
        _refuse_not_finite(self, "loss")

    def __reduce__(self) -> tuple[Callable[..., "LossConfig"], tuple[dict[str, Any]]]:
        return _loss_of, (asdict(self),)  # its class is made when it is asked for, and so is in no module


@cache
def loss_schema(name: str) -> type[LossConfig]:
    """The schema of an objective. Args: name: one of `htc.settings.OBJECTIVES`, or `AUTO`."""
    return schema_of(LossSettings, name, AUTO_READS if name == AUTO else OBJECTIVES[name].reads, LossConfig)


def loss_config(name: str, **settings: Any) -> LossConfig:
    """The config of an objective. Args: settings: those that it reads."""
    return loss_schema(name)(name=name, **settings)


def _loss_of(values: dict[str, Any]) -> LossConfig:
    return loss_config(**values)


@dataclass
class ModelConfig:
    """A model: the schema of each has, besides, the settings that it reads (`htc.settings.ModelSettings`).

    Attributes:
        name: one of `htc.settings.MODELS`.
    """

    name: str = MISSING

    def check(self) -> None:
        """Raise InputError for a name that does not go with the settings, and values that no model can have."""
        if self.name not in MODELS:
            raise InputError(f"model.name must be one of {', '.join(MODELS)}, not {self.name!r}.")
        if {each.name for each in fields(self)} != {each.name for each in fields(model_schema(self.name))}:
            raise InputError(f"model.name={self.name} lacks the settings of that model; give model={self.name} instead.")
        _refuse_not_finite(self, "model")
        for setting in MODELS[self.name].reads:
            value = getattr(self, setting)
            can_be, what = VALUES_OF_MODELS.get(setting, (lambda value: True, ""))
            if not can_be(value):
                raise InputError(f"model.{setting} must be {what}, not {value}.")

    def __reduce__(self) -> tuple[Callable[..., "ModelConfig"], tuple[dict[str, Any]]]:
        return _model_of, (asdict(self),)


@cache
def model_schema(name: str) -> type[ModelConfig]:
    """The schema of a model. Args: name: one of `htc.settings.MODELS`."""
    reads = MODELS[name].reads
    return schema_of(ModelSettings, f"{name}_model", reads, ModelConfig) if reads else ModelConfig


def model_config(name: str, **settings: Any) -> ModelConfig:
    """The config of a model. Args: settings: those that it reads."""
    return model_schema(name)(name=name, **settings)


def _model_of(values: dict[str, Any]) -> ModelConfig:
    return model_config(**values)


def _refuse_not_finite(config: LossConfig | ModelConfig, group: str) -> None:
    for setting in fields(config):
        value = getattr(config, setting.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{group}.{setting.name} must be a finite number, not {value}.")


@dataclass
class FinetuningConfig(TrainingConfig):
    """How a classifier is trained; `learning_rate` is that of the head.

    Attributes:
        encoder_learning_rate: that of a trained encoder.
        patience: stop after so many epochs without a better score (of what epochs are selected by); null to go on to the end.
        decay: how the learning rates go on after the warm-up: `linear`, down to 0; or `constant`.
    """

    encoder_learning_rate: float = MISSING
    patience: int | None = None
    decay: str = LINEAR

    def check(self) -> None:
        """Raise InputError for values that no training can have."""
        super().check()
        if self.patience is not None and self.patience <= 0:
            raise InputError(f"training.patience must be positive, or null, not {self.patience}.")
        if not 0 < self.encoder_learning_rate < math.inf:
            raise InputError(f"training.encoder_learning_rate must be positive and finite, not {self.encoder_learning_rate}.")
        if self.decay not in DECAYS:
            raise InputError(f"training.decay must be {' or '.join(DECAYS)}, not {self.decay!r}.")


@dataclass
class HeadConfig:
    """The classifier's head.

    Attributes:
        hidden: the width of its hidden layer.
        dropout: before it.
        standardize: shift and scale the text vectors, as measured before training, to mean 0 and variance 1.
    """

    hidden: int = MISSING
    dropout: float = MISSING
    standardize: bool = MISSING

    def check(self) -> None:
        """Raise InputError for sizes that no head can have."""
        if self.hidden < 1:
            raise InputError(f"head.hidden must be at least 1, not {self.hidden}.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"head.dropout must be at least 0 and less than 1, not {self.dropout}.")


@dataclass
class TrainConfig:
    """htc-train.

    Attributes:
        select: the metric on dev that the epoch is selected by; null for the last epoch.
        seed: of the weights, of their dropout and of the order of documents.
        runs: the folder that run directories go into.
        run_dir: the directory of this run; null for one below `runs`, named by what has an effect.
        cache_dir: where features of texts are kept, and texts on disk (`dataset.texts`).
    """

    dataset: DatasetConfig = MISSING
    encoder: EncoderConfig = MISSING
    head: HeadConfig = field(default_factory=HeadConfig)
    model: ModelConfig = field(default_factory=lambda: ModelConfig(FLAT))
    loss: LossConfig = MISSING
    training: FinetuningConfig = MISSING
    select: str | None = MISSING
    seed: int = MISSING
    runs: str = MISSING
    run_dir: str | None = None
    cache_dir: str = MISSING
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass
class EvaluateConfig:
    """htc-evaluate.

    Attributes:
        model: the folder of a model, RUN/model.
        split: train, dev or test.
        output: a JSON file to write; null for none.
        cache_dir: where features of texts are kept, and texts on disk (`dataset.texts`).
        coverage: between 0 and 1: also score answers that promise this share of right ones, on test, with thresholds from dev,
            and over random splits of both; null for no such scores.
        temperature: global or level, to score probabilities with the model's temperature; null for those of the model.
        calibrate: fit the model's temperatures and what a coverage needs on dev, and save them with the model.
    """

    model: str = MISSING
    dataset: DatasetConfig = MISSING
    split: str = MISSING
    output: str | None = None
    cache_dir: str = MISSING
    coverage: float | None = None
    temperature: str | None = None
    calibrate: bool = False


@dataclass
class PredictConfig:
    """htc-predict.

    Attributes:
        model: the folder of a model, RUN/model; null for the last one below `runs`.
        runs: the folder of run directories.
        text: a text to label.
        input: a file of texts; null with no `text` for standard input.
        input_format: how it is read; null for what its ending says, and of standard input, a text a line.
        text_column: of a table, or the key of the text in JSON; null for that which the model was trained with, or `text`.
        decoder: the inference rule; null for the one that suits the model. An unknown name is answered with all of them.
        format: text, jsonl or csv, on standard output.
        output: a file to write, with the input's columns before the predictions: .jsonl, .csv or .parquet; null to print.
        overwrite: whether a file that exists may be replaced.
        prefix: what the names of the predictions' columns, labels and probability, begin with.
        batch_size: texts at a time.
        coverage: the share of right answers to promise, such as 0.9, in place of a rule; null for the rule.
        temperature: global or level, for calibrated probabilities; null for those of the model.
    """

    model: str | None = None
    runs: str = MISSING
    text: str | None = field(default=None, metadata=NULL_IS_TEXT)
    input: str | None = None
    input_format: str | None = None  # what the ending of the input says; of standard input, lines
    text_column: str | None = None  # of tables; that which the model was trained with, or text
    decoder: str | None = None  # the rule that suits the model
    format: str = MISSING
    output: str | None = None
    overwrite: bool = False
    prefix: str = ""
    batch_size: int = MISSING
    coverage: float | None = None
    temperature: str | None = None


@dataclass
class DemoConfig:
    """htc-demo.

    Attributes:
        model: the folder of a model, RUN/model, or of a run; or a name on the Hugging Face hub; null for the last one below
            `runs`.
        runs: the folder of run directories.
        host: the address that the page listens on; 127.0.0.1 is reached from this machine only, 0.0.0.0 from everywhere.
        port: of it; 0 for any that is free.
        examples: texts that the page offers; null for names of labels.
        decoder: the inference rule that the page begins with; null for the one that suits the model.
        coverage: the share of right answers to promise, such as 0.9, in place of a rule; null for the rule.
        temperature: global or level, for calibrated probabilities; null for those of the model.
        max_rows: of a table that is labelled on the page.
        max_megabytes: of an uploaded file.
        batch_size: texts at a time.
    """

    model: str | None = None
    runs: str = MISSING
    host: str = MISSING
    port: int = MISSING
    examples: list[str] | None = None
    decoder: str | None = None
    coverage: float | None = None
    temperature: str | None = None
    max_rows: int = MISSING
    max_megabytes: int = MISSING
    batch_size: int = MISSING


@dataclass
class ReproduceConfig(TrainConfig):
    """htc-reproduce: every method with every seed, and a report on them.

    Attributes:
        title: of the report.
        methods: for each its name in the report, and what is set for it, as on the command line of htc-train:
            `{half: {loss: conditional_softmax_la, loss.tau: 0.5}}`. One that is called as an objective has its title there.
        seeds: every method is trained with each.
        tries: settings that each method is trained with first, with the first seed; all seeds are then run with those that give
            the best HF1-AUC on dev: `[{training.learning_rate: 1e-3}, {training.learning_rate: 5e-3}]`. None: as configured.
        size: embedded or paper, set by the profile; for the names of folders.
        split_per_seed: draw the splits anew with each seed, so that intervals hold the variance of the draw, too.
        output: the folder of report, figures and summary.
        against: the folder of another reproduction with these seeds and documents, that the report holds this one against.
        jobs: runs at a time, each on its share of the cores; null: as many as there are cores, at most four; one on a GPU.
    """

    title: str = MISSING
    methods: dict[str, dict[str, Any]] = MISSING
    seeds: list[int] = MISSING
    tries: list[dict[str, Any]] = field(default_factory=list)
    size: str = MISSING
    split_per_seed: bool = False
    output: str = MISSING
    against: str | None = None
    jobs: int | None = None


def train_config(values: Mapping[str, Any], dataset: str) -> TrainConfig:
    """A training's config from plain containers, as `asdict` gives them. Args: dataset: the name of its dataset's schema."""
    (schema,) = (schema for schema in DATASETS.values() if schema.__name__ == dataset)
    parts = {
        "dataset": schema(**values["dataset"]),
        "encoder": EncoderConfig(**values["encoder"]),
        "head": HeadConfig(**values["head"]),
        "model": model_config(**values.get("model", {"name": FLAT})),  # grids from before there were models have none
        "loss": loss_config(**values["loss"]),
        "training": FinetuningConfig(**values["training"]),
        "tracking": TrackingConfig(**values["tracking"]),
    }
    return TrainConfig(**{**values, **parts})


SCHEMAS = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "demo": DemoConfig,
    "reproduce": ReproduceConfig,
}
DATASETS: dict[str, type[DatasetConfig]] = {
    "icd10cm": Icd10cmConfig,
    "attack": AttackConfig,
    "gene_ontology": GeneOntologyConfig,
    "wordnet": WordnetConfig,
    "custom": CustomConfig,
    "table": TableConfig,
    "published": PublishedConfig,
}


def register() -> None:
    """Make the schemas known to Hydra, under the names that conf/htc uses."""
    hydra_defaults.register()
    store = ConfigStore.instance()
    for command, schema in SCHEMAS.items():
        store.store(name=f"{command}_schema", node=schema)
    for kind, schema in DATASETS.items():
        store.store(group="dataset", name=f"{kind}_schema", node=schema)
    for name in (*OBJECTIVES, AUTO):
        store.store(group="loss", name=f"{name}_schema", node=loss_schema(name))
    for name in MODELS:  # in no group `model`: other commands have a text of that name
        store.store(group="model_schemas", name=name, node=model_schema(name))
    store.store(group="encoder", name="encoder_schema", node=EncoderConfig)
    store.store(group="training", name="training_schema", node=FinetuningConfig)
