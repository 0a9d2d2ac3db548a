"""rlkl-pretrain: train a model from scratch on calculations with up to N digits.

rlkl-pretrain                                      the embedded model: additions, N = 5, a GPT-2 of 0.4M parameters
rlkl-pretrain task=subtraction
rlkl-pretrain trained_digits=7 architecture=small
rlkl-pretrain experiment=pretrain_paper            N = 7, 85M parameters; for a GPU
"""

if __name__ == "__main__":  # before the slow imports
    from rlkl.commands import scripts

    scripts.pretrain()


import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from rlkl.commands.config import PretrainConfig, PretrainingConfig
from rlkl.model.completion import accuracy, check_positions, sample
from rlkl.model.language_model import new_model, save_model, task_of
from rlkl.model.texts import right_sequences
from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import Task, task_named
from rlkl_htc_common.commands.application import print_result
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import RunDirectory, config_hash
from rlkl_htc_common.runs.tracking import open_tracker, wandb_mode
from rlkl_htc_common.training.checkpoints import Checkpoints
from rlkl_htc_common.training.trainer import (
    FIXED,
    LARGE,
    Trainer,
    TrainingData,
    cosine,
    make_accelerator,
    refuse_several_processes,
    warn_without_gpu,
)

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
AT_START = 0.25  # share of rows that begin at position 0
IGNORED = -100  # cross_entropy ignores this target


class NextToken(nn.Module):
    """Wraps a language model: from a batch to logits."""

    def __init__(self, model: GPT2LMHeadModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Args: batch: input_ids and position_ids (B, T). Returns: (B, T, V) logits."""
        return self.model(**batch, use_cache=False).logits


def fresh_problems(config: PretrainConfig, epoch: int) -> TrainingData:
    """The problems of one epoch: new in every epoch, determined by seed and epoch."""
    task = task_named(config.task)
    rng = Random(f"{config.seed}-{epoch}")
    operands = [task.balanced(config.trained_digits, rng) for _ in range(config.training.examples_per_epoch)]
    lengths = [len(task.prompt(pair)) + len(task.completion(pair)) for pair in operands]
    collate = partial(_collate, task, operands, config.architecture.positions)
    return TrainingData(len(operands), collate, torch.tensor(lengths))


def _collate(task: Task, operands: list[Operands], positions: int, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """A batch whose rows begin at random positions, so that all positions are trained, also those of longer texts.

    A share of the rows begins at position 0, as all texts do at inference.
    """
    chosen = [operands[row] for row in rows.tolist()]
    sequences = right_sequences(task, chosen)
    width = sequences.inputs.shape[1]
    offsets = torch.randint(0, positions - width + 1, (len(chosen), 1))
    offsets[torch.rand(len(chosen)) < AT_START] = 0
    targets = sequences.targets.masked_fill(~sequences.mask, IGNORED)
    return {"input_ids": sequences.inputs, "position_ids": offsets + torch.arange(width)}, targets


def completion_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy per completion token. Args: logits (B, T, V); targets (B, T), IGNORED for other tokens."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def make_optimizers(model: nn.Module, config: PretrainingConfig) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters; or Muon (Jordan et al. 2024) for the matrices of the blocks and AdamW for the rest."""
    blocks = {name for name, parameter in model.named_parameters() if ".h." in name and parameter.ndim == 2}
    rate = config.muon_learning_rate
    muon = blocks if rate is not None else set()
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}  # by whether weight decay applies
    for name, parameter in model.named_parameters():
        if name not in muon:
            groups[parameter.ndim > 1].append(parameter)
    adamw = torch.optim.AdamW(
        [{"params": groups[True], "weight_decay": config.weight_decay}, {"params": groups[False], "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(0.9, config.adam_beta2),
        fused=True,
    )
    if rate is None:
        return [adamw]
    matrices = [parameter for name, parameter in model.named_parameters() if name in muon]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=config.muon_weight_decay, adjust_lr_fn="match_rms_adamw"),
        adamw,
    ]


def check(config: PretrainConfig) -> None:
    """Raise InputError for settings that would fail later."""
    refuse_several_processes()
    config.training.check()
    wandb_mode(config.tracking)
    if not 0 <= config.seed < 2**32:
        raise InputError(f"seed must be from 0 to 2**32 - 1, not {config.seed}.")
    if config.trained_digits < 1:
        raise InputError(f"trained_digits must be at least 1, not {config.trained_digits}.")
    evaluated_digits = config.trained_digits + 1
    check_positions(task_named(config.task), config.architecture.positions, evaluated_digits)
    if config.saved_dtype not in DTYPES:
        raise InputError(f"saved_dtype must be one of {', '.join(DTYPES)}, not {config.saved_dtype!r}.")
    if config.evaluation_examples < 1:
        raise InputError(f"evaluation_examples must be at least 1, not {config.evaluation_examples}.")


def pretrain(config: PretrainConfig) -> dict[str, Any]:
    """Pre-train a model. A finished run is not repeated. Returns: the run's result, and `run_dir`."""
    check(config)
    identity = asdict(config)
    name = f"{config.task}-n{config.trained_digits}-seed{config.seed}-{config_hash(identity)}"
    run = RunDirectory(config.run_dir or Path(config.runs) / "rlkl" / "pretrain" / name, identity, reasons=FIXED)
    result = run.once(partial(_pretrain, run, config), clean=Checkpoints(run.checkpoints).remove)
    return result | {"run_dir": str(run.path)}


def _pretrain(run: RunDirectory, config: PretrainConfig) -> dict[str, Any]:
    run.log_runs_not_continued()
    torch.manual_seed(config.seed)
    task = task_named(config.task)
    model = new_model(task, **asdict(config.architecture), trained_digits=config.trained_digits)
    parameters = model.num_parameters()
    log.info("a GPT-2 with %s parameters, %s of up to %d digits", f"{parameters:,}", task.PLURAL, config.trained_digits)
    if parameters >= LARGE:
        instead = "architecture=tiny training=pretrain_embedded is a size for it"
        warn_without_gpu(f"pre-training {parameters / 1e6:.0f} million parameters", "weeks", instead)
    wrapped = NextToken(model)
    trainer = Trainer(
        wrapped,
        partial(fresh_problems, config),
        completion_loss,
        config.training,
        seed=config.seed,
        accelerator=make_accelerator(config.training.precision),
        checkpoints=Checkpoints(run.checkpoints),
        evaluate=partial(_evaluate, model, config),
        optimizers=make_optimizers(wrapped, config.training),
        decay=partial(cosine, final=config.training.final_fraction),
        items="problems",
    )
    with open_tracker(run, config.tracking, main=True, job_type="pretrain", resume_step=trainer.resume()) as tracker:
        kept = trainer.fit(tracker)
        if tracker is not None:
            tracker.summarize(kept)
    save_model(run.path / "model", model, DTYPES[config.saved_dtype])
    return run.write_result(task=task.NAME, parameters=parameters, trained_digits=config.trained_digits, kept=kept)


def _evaluate(model: GPT2LMHeadModel, config: PretrainConfig) -> dict[str, float]:
    """Accuracies on varying operands of N and N + 1 digits. The problems differ from those of the final evaluation."""
    task, seed = task_of(model), config.seed + 1_000_000
    return {
        f"eval/accuracy_{name}": accuracy(model, sample(task, "varying", digits, config.evaluation_examples, seed))
        for name, digits in (("N", config.trained_digits), ("N+1", config.trained_digits + 1))
    }


def task(config: DictConfig) -> dict[str, Any]:
    """rlkl-pretrain."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, PretrainConfig)
    result = pretrain(typed)
    scores = ", ".join(f"{key} {value:.3f}" for key, value in result["kept"].items() if key.startswith("eval/"))
    print_result(f"{scores}\nmodel: {Path(result['run_dir']) / 'model'}")
    metrics = {key.removeprefix("eval/"): value for key, value in result["kept"].items() if key.startswith("eval/")}
    return {"run_dir": result["run_dir"], "metrics": metrics, "score": metrics["accuracy_N"]}
