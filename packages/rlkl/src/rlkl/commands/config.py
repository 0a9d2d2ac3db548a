"""The schemas of rlkl's configs: composing refuses unknown keys and values of a wrong type.

The values and their reasons are in conf/rlkl. Does not import torch, so that configs compose quickly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from rlkl.integrations.sums_settings import SumsSettings
from rlkl.settings import (
    ALGORITHMS,
    WEIGHTINGS,
    AccuracySettings,
    AlgorithmSettings,
    PenaltySettings,
)
from rlkl.tasks.registry import TASKS
from rlkl_htc_common.cli.plain_text import NULL_IS_TEXT
from rlkl_htc_common.cli.schemas import schema_of
from rlkl_htc_common.commands import hydra_defaults
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.tracking import TrackingConfig
from rlkl_htc_common.training.settings import TrainingConfig


@dataclass
class ArchitectureConfig:
    """The sizes of a GPT-2.

    Attributes:
        layers, heads, width: of the network.
        positions: the largest number of tokens, prompt and completion.
        dropout: during training.
    """

    layers: int = MISSING
    heads: int = MISSING
    width: int = MISSING
    positions: int = MISSING
    dropout: float = MISSING


@dataclass
class PretrainingConfig(TrainingConfig):
    """How a model is pre-trained.

    Attributes:
        examples_per_epoch: problems between two evaluations; every epoch has new ones.
        final_fraction: the last learning rate, relative to the peak.
        adam_beta2: AdamW's beta2.
        muon_learning_rate: learning rate of Muon for the matrices of the blocks; null for AdamW on all parameters.
        muon_weight_decay: weight decay of Muon.
    """

    examples_per_epoch: int = MISSING
    final_fraction: float = MISSING
    adam_beta2: float = MISSING
    muon_learning_rate: float | None = None
    muon_weight_decay: float = MISSING

    def check(self) -> None:
        """Raise InputError for invalid values."""
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
        task: what is calculated; it is saved with the model.
        trained_digits: N, the largest number of digits of an operand.
        evaluation_examples: problems in each evaluation set.
        saved_dtype: of the weights on disk.
        seed: of the weights and the problems.
        runs: the folder of run directories.
        run_dir: the directory of this run; null for a directory below `runs` with the hash of the config in its name.
    """

    task: str = field(default=MISSING, metadata={"choices": tuple(TASKS)})
    trained_digits: int = MISSING
    architecture: ArchitectureConfig = MISSING
    training: PretrainingConfig = field(default_factory=PretrainingConfig)
    evaluation_examples: int = MISSING
    saved_dtype: str = MISSING
    seed: int = MISSING
    runs: str = MISSING
    run_dir: str | None = None
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass
class PenaltyConfig:
    """The base of all penalty schemas, see `PenaltySettings`."""

    weighting: str = MISSING


@dataclass
class AlgorithmConfig:
    """The base of all algorithm schemas, see `AlgorithmSettings`."""

    name: str = MISSING


@dataclass
class FinetuneConfig:
    """rlkl-finetune.

    Attributes:
        model: the model to fine-tune: a folder, or the name of a model in the package.
        reference: the reference of the KL, whose certainty weights it: a folder or a name; null for `model`. To fine-tune a
            fine-tuned model further with the same reference, name the model that it was fine-tuned from.
        extra_digits: fine-tune on N plus this many digits; N is from pre-training.
        easier_share: the share of the problems that have at most N digits, as in pre-training.
        evaluate_every: iterations between evaluations; there is always one before the first and one after the last.
        evaluation_examples: problems in each evaluation set.
        evaluation: the problems of an evaluation, and the temperature of the answers.
        seed: of problems, samples and the order of minibatches.
        runs: the folder of run directories.
        run_dir: the directory of this run; null for a directory below `runs` with the hash of the config in its name.
    """

    model: str = MISSING
    reference: str | None = None
    extra_digits: int = MISSING
    easier_share: float = 0.0
    penalty: PenaltyConfig = MISSING
    algorithm: AlgorithmConfig = MISSING
    evaluate_every: int = MISSING
    evaluation_examples: int = MISSING
    evaluation: AccuracySettings = field(default_factory=AccuracySettings)
    seed: int = MISSING
    runs: str = MISSING
    run_dir: str | None = None
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    @property
    def anchor(self) -> str:
        """The reference: `reference`, or else `model`."""
        return self.model if self.reference is None else self.reference


@dataclass
class EvaluateConfig:
    """rlkl-evaluate.

    Attributes:
        model: a folder, or the name of a model in the package.
        digits: of the operands; null for N to N + 3.
        operands: some of `identical` (both have this many digits), `varying` (one has this many, the other at most) and
            `training_mix` (as in training, see `rlkl.settings.AccuracySettings`).
        examples: problems per kind and number of digits.
        generations: problems to measure certainty on.
        temperature: 0 for greedy decoding.
        show: the number of coloured scratchpads to print.
        seed: of the problems.
        output: a JSON file to write.
    """

    model: str = MISSING
    digits: list[int] | None = None
    operands: list[str] = MISSING
    examples: int = MISSING
    generations: int = MISSING
    temperature: float = MISSING
    show: int = MISSING
    seed: int = MISSING
    output: str | None = None


@dataclass
class AnalyzeConfig:
    """rlkl-analyze.

    Attributes:
        model: a folder, or the name of a model in the package.
        reference: the model that it was fine-tuned from, to measure drift; null for no drift.
        ensemble: further models that were pre-trained like it, from other seeds: whether their certainty together finds more.
        operands: `identical` or `varying`, see `EvaluateConfig`.
        examples: problems for drift and detection, and as many others for the temperature that certainty is measured at, too.
        problems: problems for counterfactual rollouts; this and `samples` determine the run time.
        samples: continuations after each forced character.
        temperature: of the continuations.
        seed: of problems and continuations.
        output: a new folder for analysis.json, a report and its figures.
    """

    model: str = MISSING
    reference: str | None = None
    ensemble: list[str] = field(default_factory=list)
    operands: str = MISSING
    examples: int = MISSING
    problems: int = MISSING
    samples: int = MISSING
    temperature: float = MISSING
    seed: int = MISSING
    output: str | None = None


@dataclass
class InspectConfig:
    """rlkl-inspect.

    Attributes:
        model: a model that comes with rlkl, or `smollm2`; a folder; a GGUF file or a folder with one; a name of the hub.
        gguf_file: which file of the folder, or of the hub's model, to take, where it holds GGUF files.
        reference: the model that a KL is to, and whose certainty weighs it; null for neither.
        before: the model as it was before fine-tuning, shown beside; null for none.
        compare: `completions`, so that both see the same ones; or `samples`, so that each continues the prompts itself.
        dtype: of the weights in memory: `float32`, `bfloat16` or `float16`.
        input: a file of prompts, some with completions: JSON lines (.jsonl, .json) with `prompt` and `completion`, texts or
            messages; of any other file, each line is a prompt.
        prompt: one prompt, in place of `input`.
        completion: what follows it; null to have it sampled.
        chat: take prompts for what a user says in the model's chat template.
        problems: of a task of rlkl, where there are neither input nor prompt.
        digits: of their operands; null for one more than the model was pre-trained on.
        samples: completions for each prompt that has none.
        max_new_tokens: in each of these, at most; problems of a task of rlkl have as many as they need.
        temperature: of samples and continuations; 0 takes the most likely token each time.
        certainty: `negentropy`, `min_entropy` or `max_probability` (rlkl.certainty).
        certainty_temperature: the logits are divided by it for the certainty.
        kl: how the KL to the reference is measured: `exact`, or from the token alone by `k1`, `k2` or `k3` (rlkl.kl).
        beta: the exponent of the weights; null for the one that gives `share`.
        share: of the tokens, which get a weight below one half.
        least: how many of the least certain tokens to rank.
        alternatives: likeliest tokens to show for each place.
        verifier: who says whether a completion is right: `module:function`, which takes prompt and completion and gives true,
            false or a number; or `task`, for a task of rlkl. Then the ranked tokens get what they are worth.
        continuations: after each ranked token, and after its likeliest alternative, to measure that.
        batch_size: completions at a time, at most.
        show: how many completions to print.
        seed: of problems and samples.
        output: a new or empty folder for inspection.html and inspection.jsonl, a line for each completion.
    """

    model: str = MISSING
    gguf_file: str | None = None
    reference: str | None = None
    before: str | None = None
    compare: str = MISSING
    dtype: str = MISSING
    input: str | None = None
    prompt: str | None = field(default=None, metadata=NULL_IS_TEXT)
    completion: str | None = field(default=None, metadata=NULL_IS_TEXT)
    chat: bool = MISSING
    problems: int = MISSING
    digits: int | None = None
    samples: int = MISSING
    max_new_tokens: int = MISSING
    temperature: float = MISSING
    certainty: str = MISSING
    certainty_temperature: float = MISSING
    kl: str = MISSING
    beta: float | None = None
    share: float = MISSING
    least: int = MISSING
    alternatives: int = MISSING
    verifier: str | None = None
    continuations: int = MISSING
    batch_size: int = MISSING
    show: int = MISSING
    seed: int = MISSING
    output: str | None = None


@dataclass
class ReproduceConfig(FinetuneConfig):
    """rlkl-reproduce: several methods, each with every seed, and a report.

    Attributes:
        title: of the report.
        methods: the overrides of each method, by its name in the report, e.g. {weak: {penalty: standard, penalty.alpha: 1}}.
            Leave it empty, with `models`, for a report on models before fine-tuning.
        models: further models to evaluate, without fine-tuning.
        seeds: every method runs with each seed.
        axis: a key of the config, such as penalty.beta: the report plots the accuracy over it, with a line through methods
            that differ only in this key.
        compare: pairs of methods to compare; null to compare the first method with each other one.
        steps: methods, each of which adds something to the previous one; the report gives the gain of each step, e.g. less KL,
            then less KL in the right places.
        pools: methods to pool over models, tasks or settings: {prioritized: [methods with it], standard: [the same models
            without it]}, in the same order; null for none.
        conditions: for each condition, the methods to choose the best one of, by kind: {subtraction: {prioritized: [methods],
            standard: [methods]}}, with two kinds, the same in all conditions. The report compares the best of both against the
            share of successes before fine-tuning. {} for none.
        suffix: the ending of folder names, set by the profile: empty or -paper.
        examples: problems per kind and number of digits, to evaluate the models before fine-tuning.
        output: the folder of report, figures and summary.
        jobs: runs at a time, each on its share of the cores; null: one per core and at most four; one on a GPU.
    """

    title: str = MISSING
    methods: dict[str, Any] = MISSING
    models: list[str] = field(default_factory=list)
    seeds: list[int] = MISSING
    axis: str | None = None
    compare: list[list[str]] | None = None
    steps: list[str] | None = None
    pools: dict[str, list[str]] | None = None
    conditions: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    suffix: str = MISSING
    examples: int = MISSING
    output: str = MISSING
    jobs: int | None = None


@dataclass
class ReproduceLLMConfig(SumsSettings):
    """rlkl-reproduce-llm: a pre-trained language model on one-digit sums, by several methods with every seed, and a report.

    Attributes:
        title: of the report.
        methods: the overrides of each method, by its name in the report, e.g. {weak: {weighting: standard, alpha: 0.01}}. A
            line goes through the methods whose names differ in what follows the first comma only.
        seeds: every method runs with each seed.
        compare: pairs of methods to compare; null to compare the first method with each other one.
        output: the folder of report, figures and summary.
        runs: the folder of run directories, and of the converted model.
        jobs: runs at a time, each on its share of the cores; null: one per core and at most four; one on a GPU.
    """

    title: str
    methods: dict[str, Any]
    seeds: list[int]
    output: str
    runs: str
    compare: list[list[str]] | None = None
    jobs: int | None = None


def _schemas_of(settings: type, reads: Mapping[str, tuple[str, ...]], bases: Mapping[str, str], first: type) -> dict[str, type]:
    """The schemas of a group's choices. Args: bases: choice -> the choice that its YAML starts from; default: `first`."""
    made: dict[str, type] = {}
    for choice, keys in reads.items():
        base = made[bases[choice]] if choice in bases else first
        more = [key for key in keys if choice not in bases or key not in reads[bases[choice]]]
        made[choice] = schema_of(settings, choice, more, base)
    return made


PENALTIES = _schemas_of(
    PenaltySettings,
    WEIGHTINGS,
    dict.fromkeys(("prioritized", "certain_tokens", "kl_cov"), "standard")
    | dict.fromkeys(("matched_mean", "shuffled"), "prioritized"),
    PenaltyConfig,
)
ALGORITHM_SCHEMAS = _schemas_of(AlgorithmSettings, ALGORITHMS, {"ppo": "a2c"}, AlgorithmConfig)


SCHEMAS = {
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "evaluate": EvaluateConfig,
    "analyze": AnalyzeConfig,
    "inspect": InspectConfig,
    "reproduce": ReproduceConfig,
    "reproduce_llm": ReproduceLLMConfig,
}


def register() -> None:
    """Register the schemas with Hydra, under the names that conf/rlkl uses."""
    hydra_defaults.register()
    store = ConfigStore.instance()
    for command, schema in SCHEMAS.items():
        store.store(name=f"{command}_schema", node=schema)
    for group, schemas in (("penalty", PENALTIES), ("algorithm", ALGORITHM_SCHEMAS)):
        for choice, schema in schemas.items():
            store.store(group=group, name=f"{choice}_schema", node=schema)
    store.store(group="architecture", name="architecture_schema", node=ArchitectureConfig)
    store.store(group="training", name="pretraining_schema", node=PretrainingConfig)
