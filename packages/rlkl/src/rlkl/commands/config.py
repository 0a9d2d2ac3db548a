"""The schemas of rlkl's configs: a key that is not here, or a value of another type, is refused when a config is composed.

The values and their reasons are in conf/rlkl.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from rlkl.algorithms.by_name import ALGORITHMS
from rlkl.model.completion import KINDS
from rlkl.penalty import Penalty
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.tracking import TrackingConfig
from rlkl_htc_common.training.settings import TrainingConfig


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
        if not 0 <= self.muon_weight_decay < math.inf:
            raise InputError(f"training.muon_weight_decay must not be negative, but is {self.muon_weight_decay}.")
        if not 0 <= self.final_fraction <= 1:
            raise InputError(f"training.final_fraction must be from 0 to 1, not {self.final_fraction}.")
        if self.muon_learning_rate is not None and not 0 < self.muon_learning_rate < math.inf:
            raise InputError(f"training.muon_learning_rate must be positive or null, not {self.muon_learning_rate}.")


@dataclass
class PretrainConfig:
    """rlkl-pretrain.

    Attributes:
        task: one of `rlkl.tasks.registry.TASKS`; the model remembers it.
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
class AlgorithmConfig:
    """An algorithm, and how its steps are made.

    Attributes:
        name: `a2c`, `ppo`, `grpo` or `rloo` (rlkl.algorithms).
        episodes: in an iteration.
        group_size: episodes of one prompt; null for the algorithm's own: 5 where they are compared with each other, else 1.
        iterations: how often episodes are collected; raised, it lets a run that has ended go on.
        passes: over the episodes of an iteration.
        minibatch_size: episodes in a step.
        micro_batch_size: episodes that go through the model at a time, where memory holds no more: their gradients are added up
            to that of the step. Null for all of them.
        learning_rate: constant.
        max_grad_norm: gradients are scaled down to this norm.
        temperature: of the policy, in rollouts and in every term of the loss.
        gamma, gae_lambda: of the advantages of a2c and ppo.
        clip_range: of ppo and grpo.
        clip_range_uncertain: theirs on the tokens that `penalty.weighting=certain_tokens` leaves without KL, as Archer has it
            (0.5 beside 0.2; Wang et al. 2025, arXiv 2507.15778); null for `clip_range` on all, as in PPO and GRPO.
        policy_share: the share of tokens that the policy learns from: those of which it is least sure (the policy gradient on
            "forking tokens", Wang et al. 2025, arXiv 2506.01939, takes 0.2). 1 for all.
        value_coefficient, entropy_coefficient: weights of the terms of the loss.
        precision: `fp32`, or `bf16` for rollouts and mixed precision in training.
    """

    name: str = "a2c"
    episodes: int = 50
    group_size: int | None = None
    iterations: int = 12
    passes: int = 1
    minibatch_size: int = 5
    micro_batch_size: int | None = None
    learning_rate: float = 3e-5
    max_grad_norm: float = 1.0
    temperature: float = 1.0
    gamma: float = 1.0
    gae_lambda: float = 1.0
    clip_range: float = 0.2
    clip_range_uncertain: float | None = None
    policy_share: float = 1.0
    value_coefficient: float = 0.1
    entropy_coefficient: float = 0.0005
    precision: str = "fp32"

    @property
    def episodes_per_prompt(self) -> int:
        """`group_size`, or the algorithm's own."""
        return ALGORITHMS[self.name].group_size if self.group_size is None else self.group_size

    def check(self) -> None:
        """Raise InputError for values that no training can have."""
        for name, known in (("name", tuple(ALGORITHMS)), ("precision", ("fp32", "bf16"))):
            if getattr(self, name) not in known:
                raise InputError(f"algorithm.{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}.")
        for name in (
            *("episodes", "iterations", "passes", "minibatch_size", "learning_rate", "max_grad_norm", "temperature"),
            *("clip_range", "policy_share", "episodes_per_prompt"),
        ):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"algorithm.{name} must be positive, not {getattr(self, name)}.")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise InputError(f"algorithm.micro_batch_size must be positive or null, not {self.micro_batch_size}.")
        if self.clip_range_uncertain is not None:
            if not 0 < self.clip_range_uncertain < math.inf:
                raise InputError(f"algorithm.clip_range_uncertain must be positive or null, not {self.clip_range_uncertain}.")
            if not ALGORITHMS[self.name].clips:
                raise InputError(f"algorithm.clip_range_uncertain is for ppo and grpo; {self.name} clips nothing.")
        if self.episodes < 2:
            raise InputError("algorithm.episodes must be at least 2: advantages are measured in deviations of the reward.")
        group = self.episodes_per_prompt
        if self.episodes % group or (group < 2 and not ALGORITHMS[self.name].has_critic):
            raise InputError(
                f"algorithm.episodes must be a multiple of algorithm.group_size, and {self.name} needs groups of at least "
                f"{1 if ALGORITHMS[self.name].has_critic else 2}; they are {self.episodes} and {group}."
            )
        for name in ("gamma", "gae_lambda", "policy_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"algorithm.{name} must be from 0 to 1, not {getattr(self, name)}.")
        for name in ("value_coefficient", "entropy_coefficient"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"algorithm.{name} must be a number of at least 0, not {getattr(self, name)}.")

    def check_with(self, penalty: Penalty) -> None:
        """Raise InputError for what the penalty does not go with."""
        if self.clip_range_uncertain is not None and penalty.weighting != "certain_tokens":
            raise InputError(
                "algorithm.clip_range_uncertain is for the tokens that penalty.weighting=certain_tokens leaves without KL; "
                f"penalty.weighting is {penalty.weighting}."
            )


@dataclass
class AccuracyConfig:
    """How accuracy is measured while a model is fine-tuned.

    Attributes:
        operands: `varying` (one has so many digits, the other at most), `identical` (both have) or `training_mix`, those of
            training: both of up to N digits; one of N + `extra_digits`, and half of the others longer than N, too.
        temperature: 0 takes the most likely character each time. The RL figures of the paper sample at 2, on `training_mix`.
    """

    operands: str = "varying"
    temperature: float = 0.0

    def check(self) -> None:
        """Raise InputError for values that no evaluation can have."""
        if self.operands not in KINDS:
            raise InputError(f"evaluation.operands must be one of {', '.join(KINDS)}, not {self.operands!r}.")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"evaluation.temperature must be a number of at least 0, not {self.temperature}.")


@dataclass
class FinetuneConfig:
    """rlkl-finetune.

    Attributes:
        model: the model that fine-tuning starts from: a folder, or the name of one that comes with the package.
        reference: the model that the KL is to, and whose certainty weighs it: a folder or a name; null for `model`. To train a
            fine-tuned model on without moving the anchor, name the one that it was fine-tuned from.
        extra_digits: the model is fine-tuned on so many more digits than it was pre-trained on, whatever it was fine-tuned on.
        evaluate_every: iterations between evaluations; there is always one before the first and one after the last.
        evaluation_examples: problems in each evaluation set.
        evaluation: what they are, and how they are answered.
    """

    model: str = "addition-n5"
    reference: str | None = None
    extra_digits: int = 1
    penalty: Penalty = field(default_factory=Penalty)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    evaluate_every: int = 4
    evaluation_examples: int = 100
    evaluation: AccuracyConfig = field(default_factory=AccuracyConfig)
    seed: int = 0
    runs: str = "runs"
    run_dir: str | None = None
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    @property
    def anchor(self) -> str:
        """`reference`, or the model that fine-tuning starts from."""
        return self.model if self.reference is None else self.reference


@dataclass
class EvaluateConfig:
    """rlkl-evaluate.

    Attributes:
        model: a folder, or the name of a model that comes with the package.
        digits: of the operands; null for N to N + 3.
        operands: of `identical` (both have so many digits), `varying` (one has, the other at most) and `training_mix` (those of
            training, see `AccuracyConfig`).
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
class AnalyzeConfig:
    """rlkl-analyze.

    Attributes:
        model: a folder, or the name of a model that comes with the package.
        reference: the model that it was fine-tuned from, to measure drift; null for no drift.
        operands: `identical` or `varying`, see `EvaluateConfig`.
        examples: problems for drift and detection.
        problems: those for counterfactual rollouts; this and `samples` are what takes the time.
        samples: continuations after each character that is forced.
        temperature: of the continuations.
        output: a new folder for analysis.json, a report and its figures.
    """

    model: str = "addition-n5"
    reference: str | None = None
    operands: str = "varying"
    examples: int = 100
    problems: int = 20
    samples: int = 4
    temperature: float = 1.0
    seed: int = 1
    output: str | None = None


@dataclass
class ReproduceConfig(FinetuneConfig):
    """rlkl-reproduce: several methods with every seed, and a report on them.

    Attributes:
        title: of the report.
        methods: for each its `name` in the report, and how it differs from this config: {name: weak, penalty: {alpha: 1}}, say.
            None, with `models`, for a report on these before any fine-tuning.
        models: further models to evaluate, that nothing is fine-tuned from.
        seeds: every method is run with each.
        axis: a key of the config, such as penalty.beta: the report draws what is reached against it, with a line
            through methods that differ in nothing else.
        compare: which methods' differences are of interest: pairs of names; null for the first method against each other one.
        steps: methods, each of which adds something to the one before; the report says what each step gains: less KL, say, then
            less KL in the right place.
        pools: methods to be put together over models, tasks or settings: {prioritized: [those with it], standard: [the same
            models without]}, in the same order; null for none.
        size: what the names of folders end in, set by the profile: nothing, or -paper.
        examples: problems of each kind and number of digits that the models are evaluated on before.
        output: the folder of report, figures and summary.
        jobs: runs at a time, each on its share of the cores; null: as many as there are cores, at most four; one on a GPU.
    """

    title: str = MISSING
    methods: list[dict[str, Any]] = MISSING
    models: list[str] = field(default_factory=list)
    seeds: list[int] = MISSING
    axis: str | None = None
    compare: list[list[str]] | None = None
    steps: list[str] | None = None
    pools: dict[str, list[str]] | None = None
    size: str = ""
    examples: int = 1000
    output: str = MISSING
    jobs: int | None = None


def register() -> None:
    """Make the schemas known to Hydra, under the names that conf/rlkl uses."""
    store = ConfigStore.instance()
    store.store(name="pretrain_schema", node=PretrainConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    store.store(name="analyze_schema", node=AnalyzeConfig)
    store.store(name="reproduce_schema", node=ReproduceConfig)
    store.store(name="finetune_schema", node=FinetuneConfig)
    store.store(group="algorithm", name="algorithm_schema", node=AlgorithmConfig)
    store.store(group="penalty", name="penalty_schema", node=Penalty)
    store.store(group="architecture", name="architecture_schema", node=ArchitectureConfig)
    store.store(group="training", name="pretraining_schema", node=PretrainingConfig)
