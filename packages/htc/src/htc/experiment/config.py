"""The schemas of htc's configs: a key that is not here, or a value of another type, is refused when a config is composed.

The values and their reasons are in conf/htc; the defaults here are those of the functions that take them.
"""

import math
from dataclasses import dataclass, field, fields

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from rlkl_htc_common.cli.plain_text import NULL_IS_TEXT
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.models.encoders import EncoderConfig
from rlkl_htc_common.runs.tracking import TrackingConfig
from rlkl_htc_common.training.trainer import TrainingConfig


@dataclass
class DatasetConfig:
    """What every dataset has: a name, and shares and a seed for splits that are drawn."""

    name: str = MISSING
    dev_fraction: float = 0.1
    test_fraction: float = 0.2
    split_seed: int = 0


@dataclass
class Icd10cmConfig(DatasetConfig):
    """See htc.datasets.icd10cm."""

    max_documents: int | None = None


@dataclass
class CustomConfig(DatasetConfig):
    """See htc.datasets.custom."""

    dir: str = MISSING
    taxonomy: str | None = None
    train: str | None = None
    dev: str | None = None
    test: str | None = None


@dataclass
class TableConfig(DatasetConfig):
    """See htc.datasets.table."""

    file: str = MISSING
    text: str = "text"
    levels: list[str] | None = None
    path: str | None = None
    separator: str | None = " > "
    path_separator: str | None = None
    split: str | None = None


@dataclass
class PublishedConfig(DatasetConfig):
    """See htc.datasets.published; the splits are the official ones, so that shares and seed have no effect."""

    dir: str = MISSING
    max_depth: int | None = None


@dataclass
class LossConfig:
    """The objective. Each field has its meaning for some of them only, and is left alone by the others.

    Attributes:
        name: one of `build.LOSSES`; or auto, in htc-train: chosen by the training labels, see `build.choose_loss`.
        tau: conditional_softmax_la: the strength of the logit adjustment.
        prior_smoothing: conditional_softmax_la, bce_prior_bias: the count added where priors are counted.
        priors: conditional_softmax_la: smoothed, or counts, as in the paper's code: without smoothing, 1 for what never occurs.
        gamma: focal: how much less a cell counts that is right already.
        alpha: focal: the weight of true cells; null weighs all alike, the paper's code has 0.25.
        beta: champ: how much the distance of a wrong label counts.
        reduction: champ: mean over labels, or their sum, as in the paper's code.
        margin: parameter_sharing_softmax: added to the scores of wrong leaves, times their distance.
        margin_form: parameter_sharing_softmax: the distance in edges, or relative to the largest, as in the paper's code.
        stop: the softmax objectives: give inner nodes a stop event, so that paths may end there.
        recursive_regularization: any with an output for each node: the weight of the penalty.
    """

    name: str = MISSING
    tau: float = 1.0
    prior_smoothing: float = 1.0
    priors: str = "smoothed"
    gamma: float = 2.0
    alpha: float | None = None
    beta: float = 1e-4
    reduction: str = "mean"
    margin: float = 0.0
    margin_form: str = "edges"
    stop: bool = False
    recursive_regularization: float = 0.0

    def check(self) -> None:
        """Raise InputError for numbers that no loss can be computed with."""
        for setting in fields(self):
            value = getattr(self, setting.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"loss.{setting.name} must be a finite number, not {value}.")


@dataclass
class FinetuningConfig(TrainingConfig):
    """How a classifier is trained; `learning_rate` is that of the head, `encoder_learning_rate` that of a trained encoder."""

    encoder_learning_rate: float = 2e-5

    def check(self) -> None:
        """Raise InputError for values that no training can have."""
        super().check()
        if not 0 < self.encoder_learning_rate < math.inf:
            raise InputError(f"training.encoder_learning_rate must be positive and finite, not {self.encoder_learning_rate}.")


@dataclass
class HeadConfig:
    """The classifier's head.

    Attributes:
        hidden: the width of its hidden layer.
        dropout: before it.
        standardize: shift and scale the text vectors, as measured before training, to mean 0 and variance 1.
    """

    hidden: int = 792
    dropout: float = 0.1
    standardize: bool = True

    def check(self) -> None:
        """Raise InputError for sizes that no head can have."""
        if self.hidden < 1:
            raise InputError(f"head.hidden must be at least 1, not {self.hidden}.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"head.dropout must be at least 0 and less than 1, not {self.dropout}.")


@dataclass
class TrainConfig:
    """htc-train."""

    dataset: DatasetConfig = MISSING
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: FinetuningConfig = field(default_factory=FinetuningConfig)
    select: str | None = "dev/hf1_auc"
    seed: int = 0
    runs: str = "runs"
    run_dir: str | None = None
    cache_dir: str = "runs/cache"
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass
class EvaluateConfig:
    """htc-evaluate."""

    model: str = MISSING
    dataset: DatasetConfig = MISSING
    split: str = "test"
    output: str | None = None
    cache_dir: str = "runs/cache"


@dataclass
class PredictConfig:
    """htc-predict."""

    model: str | None = None
    runs: str = "runs"
    text: str | None = field(default=None, metadata=NULL_IS_TEXT)
    input: str | None = None
    input_format: str | None = None  # what the ending of the input says; of standard input, lines
    text_column: str | None = None  # of tables; that which the model was trained with, or text
    decoder: str | None = None  # the rule that suits the model
    format: str = "text"
    batch_size: int = 32


@dataclass
class ReproduceConfig(TrainConfig):
    """htc-reproduce: every objective with every seed, and a report on them.

    Attributes:
        title: of the report.
        losses, seeds: the grid; `loss` and `seed` are set from it.
        size: embedded or paper, set by the profile; for the names of folders.
        split_per_seed: draw the splits anew with each seed, so that intervals hold the luck of the draw too.
        output: the folder of report, figures and summary.
        against: the folder of another reproduction with these seeds and documents, that the report holds this one against.
        jobs: runs at a time, each on its share of the cores; null: as many as there are cores, at most four; one on a GPU.
    """

    title: str = MISSING
    losses: list[LossConfig] = MISSING
    seeds: list[int] = MISSING
    size: str = "embedded"
    split_per_seed: bool = False
    output: str = MISSING
    against: str | None = None
    jobs: int | None = None


def register() -> None:
    """Make the schemas known to Hydra, under the names that conf/htc uses."""
    store = ConfigStore.instance()
    for name, schema in (
        ("train_schema", TrainConfig),
        ("evaluate_schema", EvaluateConfig),
        ("predict_schema", PredictConfig),
        ("reproduce_schema", ReproduceConfig),
    ):
        store.store(name=name, node=schema)
    store.store(group="dataset", name="icd10cm_schema", node=Icd10cmConfig)
    store.store(group="dataset", name="custom_schema", node=CustomConfig)
    store.store(group="dataset", name="table_schema", node=TableConfig)
    store.store(group="dataset", name="published_schema", node=PublishedConfig)
    store.store(group="loss", name="loss_schema", node=LossConfig)
    store.store(group="encoder", name="encoder_schema", node=EncoderConfig)
    store.store(group="training", name="training_schema", node=FinetuningConfig)
