"""The schemas of rlkl's configs: a key that is not here, or a value of another type, is refused when a config is composed.

The values and their reasons are in conf/rlkl.
"""

import math
from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from common.tracking import TrackingConfig
from common.training import TrainingConfig
from rlkl.errors import InputError
from rlkl.penalty import Penalty


@dataclass
class ArchitectureConfig:
    """The sizes of a GPT-2."""

    layers: int = MISSING
    heads: int = MISSING
    width: int = MISSING
    positions: int = MISSING
    dropout: float = MISSING


@dataclass
class PretrainingConfig(TrainingConfig):
    """How a model is pre-trained.

    Attributes:
        examples_per_epoch: problems between two evaluations; they are new in every epoch.
        final_fraction: what the learning rates end at, relative to their peak.
        adam_beta2: AdamW's second momentum.
        muon_learning_rate: of Muon on the matrices of the blocks; null for AdamW on everything.
        muon_weight_decay: Muon's own.
    """

    examples_per_epoch: int = 24_000
    final_fraction: float = 0.1
    adam_beta2: float = 0.99
    muon_learning_rate: float | None = None
    muon_weight_decay: float = 0.01

    def check(self) -> None:
        """Raise InputError for values that no training can have."""
        super().check()
        if self.examples_per_epoch < 1:
            raise InputError(f"training.examples_per_epoch must be at least 1, not {self.examples_per_epoch}.")
        if not 0 < self.adam_beta2 < 1:
            raise InputError(f"training.adam_beta2 must be between 0 and 1, not {self.adam_beta2}.")
        if self.muon_weight_decay < 0:
            raise InputError(f"training.muon_weight_decay must not be negative, but is {self.muon_weight_decay}.")
        if not 0 <= self.final_fraction <= 1:
            raise InputError(f"training.final_fraction must be from 0 to 1, not {self.final_fraction}.")
        if self.muon_learning_rate is not None and self.muon_learning_rate <= 0:
            raise InputError(f"training.muon_learning_rate must be positive or null, not {self.muon_learning_rate}.")


@dataclass
class PretrainConfig:
    """rlkl-pretrain.

    Attributes:
        task: one of `rlkl.tasks.TASKS`; the model remembers it.
        trained_digits: N; operands have up to so many digits.
        evaluation_examples: problems in each evaluation set.
        saved_dtype: of the weights on disk.
    """

    task: str = "addition"
    trained_digits: int = 5
    architecture: ArchitectureConfig = MISSING
    training: PretrainingConfig = field(default_factory=PretrainingConfig)
    evaluation_examples: int = 200
    saved_dtype: str = "float32"
    seed: int = 0
    runs: str = "runs"
    run_dir: str | None = None
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass
class A2CConfig:
    """Advantage actor-critic, and how its steps are made.

    Attributes:
        episodes: problems in a collect.
        collects: how often episodes are collected; each collect is trained on once.
        minibatch_size: episodes in a step.
        learning_rate: constant.
        max_grad_norm: gradients are scaled down to this norm.
        temperature: of the policy, in rollouts and in every term of the loss.
        gamma, gae_lambda: of the advantages.
        value_coefficient, entropy_coefficient: weights of the terms of the loss.
    """

    episodes: int = 50
    collects: int = 12
    minibatch_size: int = 10
    learning_rate: float = 3e-5
    max_grad_norm: float = 1.0
    temperature: float = 1.0
    gamma: float = 1.0
    gae_lambda: float = 1.0
    value_coefficient: float = 0.1
    entropy_coefficient: float = 0.0005

    def check(self) -> None:
        """Raise InputError for values that no training can have."""
        positive = ("episodes", "collects", "minibatch_size", "learning_rate", "max_grad_norm", "temperature")
        for name in positive:
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"algorithm.{name} must be positive, not {getattr(self, name)}.")
        if self.episodes < 2:
            raise InputError("algorithm.episodes must be at least 2: advantages are measured in deviations of the reward.")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"algorithm.{name} must be from 0 to 1, not {getattr(self, name)}.")
        for name in ("value_coefficient", "entropy_coefficient"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"algorithm.{name} must be a number of at least 0, not {getattr(self, name)}.")


@dataclass
class FinetuneConfig:
    """rlkl-finetune.

    Attributes:
        model: a pre-trained model: a folder, or the name of one that comes with the package.
        extra_digits: the model is fine-tuned on so many more digits than it was pre-trained on.
        evaluate_every: collects between evaluations; there is always one before the first and one after the last.
        evaluation_examples: problems in each evaluation set.
    """

    model: str = "addition-n5"
    extra_digits: int = 1
    penalty: Penalty = field(default_factory=Penalty)
    algorithm: A2CConfig = field(default_factory=A2CConfig)
    evaluate_every: int = 4
    evaluation_examples: int = 100
    seed: int = 0
    runs: str = "runs"
    run_dir: str | None = None
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass
class EvaluateConfig:
    """rlkl-evaluate.

    Attributes:
        model: a folder, or the name of a model that comes with the package.
        digits: of the operands; null for N to N + 3.
        operands: `identical` (both have so many digits) and `varying` (one has, the other at most).
        examples: problems of each kind and number of digits.
        generations: problems that certainty is measured on.
        temperature: 0 takes the most likely character each time.
        show: how many coloured scratchpads to print.
        output: a JSON file to write.
    """

    model: str = "addition-n5"
    digits: list[int] | None = None
    operands: list[str] = field(default_factory=lambda: ["identical", "varying"])
    examples: int = 1000
    generations: int = 50
    temperature: float = 0.0
    show: int = 0
    seed: int = 1
    output: str | None = None


@dataclass
class ReproduceConfig(FinetuneConfig):
    """python -m rlkl.reproduce: every penalty with every seed from one model, and a report on them.

    Attributes:
        title: of the report.
        penalties, seeds: the grid; `penalty` and `seed` are set from it.
        examples: problems of each kind and number of digits that the model is evaluated on before.
        output: the folder of report, figures and summary.
        jobs: runs at a time, each on its share of the cores; null: as many as there are cores, at most four; one on a GPU.
    """

    title: str = MISSING
    penalties: list[Penalty] = MISSING
    seeds: list[int] = MISSING
    examples: int = 1000
    output: str = MISSING
    jobs: int | None = None


def register() -> None:
    """Make the schemas known to Hydra, under the names that conf/rlkl uses."""
    store = ConfigStore.instance()
    store.store(name="pretrain_schema", node=PretrainConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    store.store(name="reproduce_schema", node=ReproduceConfig)
    store.store(name="finetune_schema", node=FinetuneConfig)
    store.store(group="algorithm", name="a2c_schema", node=A2CConfig)
    store.store(group="penalty", name="penalty_schema", node=Penalty)
    store.store(group="architecture", name="architecture_schema", node=ArchitectureConfig)
    store.store(group="training", name="pretraining_schema", node=PretrainingConfig)
