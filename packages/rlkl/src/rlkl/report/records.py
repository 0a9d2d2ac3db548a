"""What the reports are drawn from, as types: runs of fine-tuning by method, models before, and analyses of one model."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rlkl.analysis.certainty_gaps import Scratchpad
from rlkl_htc_common.report.records import GridSummary


@dataclass(frozen=True, slots=True)
class Part:
    """A part of completions, from `start` to `end` as shares of them: KL per character in nats, of so many tokens."""

    start: float
    end: float
    kl: float
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a policy is from its reference: KL per character, and the share of characters where another is likeliest now."""

    kl: float
    changed: float
    tokens: int = 0
    positions: list[Part] = field(default_factory=list)
    fields: dict[str, "Drift"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """On what accuracy was measured during fine-tuning."""

    operands: str
    temperature: float
    examples: int


@dataclass(frozen=True, slots=True)
class Run:
    """What is kept of a fine-tuning: `history`, one dict of what was logged for each iteration; `drift`, by digits."""

    history: list[dict[str, float | None]]
    digits: int
    trained_digits: int
    model: str
    evaluation: Evaluation
    reference: str = ""
    drift: dict[str, Drift] = field(default_factory=dict)
    wall_seconds: float = 0.0
    run_dir: str = ""


Runs = dict[str, list[Run]]
"""By method, the runs of its seeds."""
Pairs = Sequence[Sequence[str]]
"""Methods to compare."""


@dataclass(frozen=True, slots=True)
class Place:
    """A field of a scratchpad line; `count` of wrong answers that begin there, or the mean `certainty`."""

    step: int
    field: str
    count: int = 0
    certainty: float = float("nan")


@dataclass(frozen=True, slots=True)
class Row:
    """Accuracy on one kind of operands and one number of digits, with its interval, and where wrong answers begin."""

    operands: str
    digits: int
    accuracy: float
    low: float
    high: float
    wrong: int = 0
    critical: float = float("nan")
    operand_lists: float = float("nan")
    fields: list[Place] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Gap:
    """How much certainty at some characters differs from that at all others: mean and deviation over problems."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Certainty:
    """Certainty on N + 1 digits."""

    gaps: dict[str, Gap]
    problems: int = 0
    places: list[Place] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Start:
    """What `rlkl.commands.evaluate.gather` says about a model."""

    model: str
    task: str
    trained_digits: int
    examples: int
    rows: list[Row]
    certainty: Certainty
    scratchpads: list[Scratchpad] = field(default_factory=list)
    fingerprint: str = ""
    temperature: float = 0.0
    seed: int = 0
    git_commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Axis:
    """A key of the configs that results are drawn against, and by the name of each line the value of its methods."""

    key: str
    lines: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(GridSummary):
    """A reproduction: models before, by name; runs by method; and what the report is to compare."""

    package: str = "rlkl"
    starts: dict[str, Start]
    methods: Runs
    compare: list[list[str]] = field(default_factory=list)
    steps: list[str] | None = None
    pools: dict[str, list[str]] | None = None
    conditions: dict[str, dict[str, list[str]]] | None = None
    axis: Axis | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """Precision at a recall."""

    recall: float
    precision: float


@dataclass(frozen=True, slots=True)
class Found:
    """How well 1 - certainty finds characters of one kind."""

    base_rate: float
    average_precision: float
    r_precision: float
    curve: list[Point]


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Group:
    """Right answers after the right and after the wrong character, at the places of one group."""

    group: str
    places: int
    right: Mean
    wrong: Mean
    importance: Mean
    lost: float | None


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """What a character is worth."""

    groups: list[Group]


@dataclass(frozen=True, slots=True)
class Analysis:
    """What `rlkl.commands.analyze.analyze` gave of a model; `detection` by question and measure, `drift` by digits."""

    model: str
    fingerprint: str
    reference: str | None
    task: str
    trained_digits: int
    examples: int
    problems: int
    samples: int
    detection: dict[str, dict[str, Found]]
    counterfactual: Counterfactual
    drift: dict[str, Drift] | None
    git_commit: str | None
    versions: dict[str, str]
    command: str = ""
    ensemble: list[str] = field(default_factory=list)
    fitted_temperature: float | None = None
