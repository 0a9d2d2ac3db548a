"""What the report of a reproduction is drawn from, as types."""

from dataclasses import dataclass, field
from typing import Any

from rlkl_htc_common.report.records import GridSummary
from rlkl_htc_common.report.statistics import Interval


@dataclass(frozen=True, slots=True)
class Facts:
    """The documents and labels of a dataset in numbers; `levels`: labels by depth."""

    train: int
    dev: int
    test: int
    hierarchy_fingerprint: str
    fingerprint: str | None = None
    name: str = ""
    nodes: int = 0
    leaves: int = 0
    levels: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Curve:
    """Micro hierarchical precision, recall and F1 by threshold."""

    thresholds: list[float]
    precision: list[float]
    recall: list[float]
    f1: list[float]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run cost: training without evaluation, prediction of the test split (without an encoder whose vectors are kept).

    None for a prediction in parts. Processor seconds are of all cores together, of the main process. Memory: bytes of this
    process, or of its GPU, at the peak.
    """

    training_seconds: float
    training_processor_seconds: float
    prediction_seconds: float | None
    prediction_processor_seconds: float | None
    memory: int
    gpu: bool

    @property
    def training(self) -> float:
        """Seconds of the GPU, or of all processors together."""
        return self.training_seconds if self.gpu else self.training_processor_seconds

    @property
    def prediction(self) -> float | None:
        """Likewise."""
        return self.prediction_seconds if self.gpu else self.prediction_processor_seconds


@dataclass(frozen=True, slots=True)
class Tried:
    """One way of training a method that was tried, by dev HF1-AUC, before its seeds were run.

    Attributes:
        settings: as on the command line.
        chosen: whether the seeds were run with it.
    """

    method: str
    settings: str
    hf1_auc: float
    chosen: bool


@dataclass(frozen=True, slots=True)
class Scores:
    """The test scores of a run.

    Attributes:
        decoder: the rule that suits the objective and the documents.
        rules: for each rule by metric a number, or one for each level, depth or range of frequencies.
    """

    hf1_auc: float
    rules: dict[str, dict[str, Any]]
    tuned_threshold: float = 0.5
    decoder: str = ""
    documents: int = 0
    hierarchical_distance_at: dict[str, float] = field(default_factory=dict)
    curve: Curve | None = None
    cost: Cost | None = None


Losses = dict[str, list[Scores]]
"""For each method, most often called like its objective, the test scores of its seeds."""


@dataclass(frozen=True, slots=True)
class BestTwo:
    """The best two methods under a rule: how much better in hF1 per document the first one is."""

    rule: str
    better: str
    worse: str
    over_documents: Interval  # bootstrap, pairs of the same document
    over_seeds: Interval  # Student t, pairs of the same seed

    @property
    def sure(self) -> bool:
        """Whether neither interval holds zero; from one seed, never."""
        return self.over_documents.low > 0 and self.over_seeds.low > 0


@dataclass(frozen=True, slots=True)
class Confused:
    """A label below some others that was missed, its sibling that was predicted instead, and in how many documents `of` it."""

    below: str
    true: str
    predicted: str
    documents: int
    of: int


@dataclass(frozen=True, slots=True)
class Wrong:
    """A document that went wrong: its text, true and predicted paths, and hF1."""

    text: str
    true: str
    predicted: str
    hf1: float


@dataclass(frozen=True, slots=True)
class Level:
    """Calibration of one level by bins of probability: what was said, how often it was true; and the calibration error."""

    confidence: list[float]
    frequency: list[float]
    error: float


@dataclass(frozen=True, slots=True)
class Node:
    """A label with test documents: its depth from 1, where it begins and how wide it is, both in [0, 1], and its F1."""

    name: str
    depth: int
    left: float
    width: float
    f1: float  # NaN where it is neither true nor predicted


@dataclass(frozen=True, slots=True)
class Errors:
    """What one model gets wrong on the test documents under a rule."""

    model: str
    rule: str
    confused: list[Confused]
    worst: list[Wrong]
    calibration: list[Level]
    hierarchy: list[Node]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(GridSummary):
    """A reproduction.

    Attributes:
        losses: the test scores by method.
        best_two: by rule; None where the scores of single documents are missing.
        errors: None where no model was kept.
        against: the folder of another reproduction to compare with.
        tries: of each method, as many as of any other.
    """

    package: str = "htc"
    dataset: Facts
    losses: Losses
    best_two: list[BestTwo] | None = None
    errors: Errors | None = None
    against: str | None = None
    tries: list[Tried] = field(default_factory=list)
