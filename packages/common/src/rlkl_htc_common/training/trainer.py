"""The training loop: warm-up and decay, checkpoints and resume, one or several processes (torchrun); AdamW by default."""

import logging
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import InitProcessGroupKwargs, set_seed
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from rlkl_htc_common.cli.interruption import finishing
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.tracking import Tracker
from rlkl_htc_common.training.batching import epoch_batches
from rlkl_htc_common.training.checkpoints import Checkpoints
from rlkl_htc_common.training.cost import Stopwatch
from rlkl_htc_common.training.settings import TrainingConfig
from rlkl_htc_common.training.step import anywhere, make_step

log = logging.getLogger(__name__)

NO_DECAY = ("bias", "LayerNorm.weight")
LARGE = 50_000_000  # parameters; larger models need a GPU
# Why a run cannot be continued, by key of its config (`rlkl_htc_common.runs.directory.RunDirectory`).
FIXED = {
    "training.epochs": "the learning rate falls over all epochs, so a shorter training cannot be continued; the longer one "
    "must be trained anew"
}


def make_accelerator(precision: str = "fp32") -> Accelerator:
    """An Accelerator on CUDA if available, else on the CPU, for one or several processes."""
    mixed = "no" if precision == "fp32" else precision
    if is_initialized() and AcceleratorState().mixed_precision != mixed:
        AcceleratorState._reset_state()  # of an earlier training in this process; what its processes share stays
    patient = InitProcessGroupKwargs(timeout=timedelta(hours=12))  # others wait while one process encodes all texts
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=mixed,
        kwargs_handlers=[patient],
    )
    if not accelerator.is_main_process:
        logging.disable(logging.WARNING)  # only the main process logs
    return accelerator


def warn_without_gpu(what: str, takes: str, instead: str) -> None:
    """Warn before GPU-sized work starts on a machine without a GPU.

    Args: what: the work; takes: its time on a CPU; instead: an alternative.
    """
    if not torch.cuda.is_available() and os.environ.get("RANK", "0") == "0":
        log.warning("no CUDA device was found: %s is sized for a GPU and takes %s on a CPU; %s.", what, takes, instead)


def refuse_several_processes() -> None:
    """Raise InputError under torchrun, for work that runs in one process."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("several processes were started for this, which is done by one; start it without torchrun.")


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, encoder_learning_rate: float | None = None
) -> list[dict[str, object]]:
    """Group trainable parameters by learning rate (`encoder.*` may have its own) and by weight decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("encoder."), not name.endswith(NO_DECAY)), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": encoder_learning_rate if is_encoder and encoder_learning_rate is not None else learning_rate,
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (is_encoder, decays), parameters in groups.items()
    ]


@dataclass
class TrainingData:
    """The training data of one epoch.

    Attributes:
        size: the number of items.
        lengths: (size,) the length of each item, for bucketing; None if all have the same.
        collate: from item numbers (b,) to the model's input and the targets of `loss`.
    """

    size: int
    collate: Callable[[Tensor], tuple[object, Tensor]]
    lengths: Tensor | None = None


def linear(progress: float) -> float:
    """Linear decay of the learning rate to 0. Args: progress: from 0 to 1, after the warm-up."""
    return 1 - progress


def constant(progress: float) -> float:
    """No decay of the learning rate after the warm-up. Args: progress: see `linear`."""
    return 1.0


def cosine(progress: float, final: float = 0.1) -> float:
    """Decay along half a cosine. Args: progress: from 0 to 1; final: the last value, relative to the peak."""
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


class Trainer:
    """Trains one model; call `resume` first to continue from its last checkpoint.

    Args:
        model: called with the first element of a collated batch.
        data: from an epoch's number to its data; every epoch has the same number of items.
        loss: of the model's output and the second element of the batch; a mean over the items.
        config: the settings.
        seed: determines the order of batches and every random number of the loop.
        accelerator: device, precision and processes. Several processes split every batch, so that the steps are those of one
            process.
        checkpoints: where to save and resume; the main process saves.
        evaluate: scores the model after each epoch, in every process; the keys are the logged names.
        select: keep the weights of the epoch with the highest score on this key; None keeps the last.
        patience: stop after this many epochs without a better score; None: never.
        optimizers: None for AdamW on `parameter_groups`.
        decay: from progress after the warm-up (0 to 1) to a factor of the learning rates.
        items: what the items of the data are called, where their number per second is logged.
        progress: show a progress bar.

    Attributes:
        stopwatch: the time of all training steps, without evaluation, those before a continuation included.
        learning_rate: of the last step, the highest of all groups of parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Callable[[int], TrainingData],
        loss: Callable[[Tensor, Tensor], Tensor],
        config: TrainingConfig,
        *,
        seed: int,
        accelerator: Accelerator,
        checkpoints: Checkpoints,
        evaluate: Callable[[], Mapping[str, float]],
        select: str | None = None,
        patience: int | None = None,
        optimizers: Sequence[torch.optim.Optimizer] | None = None,
        decay: Callable[[float], float] = linear,
        items: str = "items",
        progress: bool = True,
    ) -> None:
        config.check()
        if patience and select is None:
            raise InputError("training.patience needs a score that epochs are selected by; set select, or patience=null.")
        self.patience = patience
        set_seed(seed + accelerator.process_index)  # every process has its own dropout
        self.model, self.loss, self.config = model, loss, config
        self.data = lru_cache(maxsize=1)(data)
        self.seed, self.accelerator, self.checkpoints = seed, accelerator, checkpoints
        self.evaluate, self.select, self.progress = evaluate, select, progress and accelerator.is_main_process
        self.steps_per_epoch = math.ceil(self.data(0).size / config.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.optimizers = optimizers or [
            torch.optim.AdamW(parameter_groups(model, config.learning_rate, config.weight_decay), fused=True)
        ]
        self.schedules = [LambdaLR(optimizer, partial(self._rate, decay=decay)) for optimizer in self.optimizers]
        self.step = 0
        self.loss_sum = self.norm_sum = 0.0  # over the steps of the current epoch
        self.items, self.learning_rate = items, 0.0
        self.kept: dict[str, float] = {}  # the scores of the best epoch
        self.best_step = 0  # at which its weights were saved
        self.stopwatch = Stopwatch()

    def _rate(self, step: int, decay: Callable[[float], float]) -> float:
        warmup = math.ceil(self.config.warmup_fraction * self.total_steps)
        if step < warmup:
            return step / warmup
        return max(0.0, decay((step - warmup) / max(1, self.total_steps - warmup)))

    def resume(self) -> int | None:
        """Load the last checkpoint. Returns: its step; None if there is none."""
        self.model.to(self.accelerator.device)
        return self.step if self._resume() else None

    def fit(self, tracker: Tracker | None) -> dict[str, float]:
        """Train to the end. The model then has its best (or last) weights.

        Args:
            tracker: for the metrics; None in processes other than the main one.

        Returns:
            The scores of the best (or last) epoch, with `epoch`.

        Raises:
            InputError: if the loss or its gradient is not finite; the last checkpoint stays.
            KeyboardInterrupt: after an interruption, once a checkpoint of the current step is saved.

        A continued training gives the same numbers with one process; with several, the random numbers differ.
        """
        self._trained, *self._steppers = self.accelerator.prepare(self.model.to(self.accelerator.device), *self.optimizers)
        with (
            tqdm(total=self.total_steps, initial=self.step, desc="training", disable=not self.progress, leave=False) as bar,
            finishing() as interrupted,
        ):
            for epoch in range(self.step // self.steps_per_epoch, self.config.epochs):
                if self._patience_is_over(epoch):
                    log.info("stopped after %d epochs, %d of them without a better score", epoch, self.patience)
                    break
                speed = self._train_epoch(epoch, bar, interrupted)
                train_loss, norm = self.loss_sum / self.steps_per_epoch, self.norm_sum / self.steps_per_epoch
                scores = self._score_epoch(epoch)
                if tracker is not None:
                    of_steps = {"train/loss": train_loss, "train/grad_norm": norm, "train/learning_rate": self.learning_rate}
                    tracker.log(self.step, of_steps | scores, {f"charts/{self.items}_per_second": speed})
                bar.set_postfix_str(
                    f"loss {train_loss:.4f}" + (f", {self.select} {scores[self.select]:.4f}" if self.select else "")
                )
                self.loss_sum = self.norm_sum = 0.0
                self._save()
                if anywhere(self.accelerator, interrupted.is_set()):
                    raise KeyboardInterrupt
        self.accelerator.unwrap_model(self._trained, keep_fp32_wrapper=False)  # from here on in fp32
        self.checkpoints.load_best(self.best_step, self.model, self.accelerator.device)
        return self.kept

    def _train_epoch(self, epoch: int, bar: "tqdm[None]", interrupted: threading.Event) -> float:
        """The rest of an epoch. Returns: its items per second, over the steps that this process made."""
        self._trained.train()
        before, done = self.stopwatch.seconds, 0
        data = self.data(epoch)
        batches = epoch_batches(data.size, self.config.batch_size, self.seed, epoch, data.lengths)
        for batch in batches[self.step - epoch * self.steps_per_epoch :]:
            with self.stopwatch:
                self._train_step(data, batch)
            done += len(batch)
            bar.update()
            if anywhere(self.accelerator, interrupted.is_set()) and self.step % self.steps_per_epoch:
                self._save()
                raise KeyboardInterrupt
            every = self.config.checkpoint_steps
            if every and self.step % every == 0 and self.step % self.steps_per_epoch:
                self._save()
        return done / max(self.stopwatch.seconds - before, 1e-9)

    def _train_step(self, data: TrainingData, batch: Tensor) -> None:
        """One step on a batch (b,) of item numbers; this process takes its share."""
        processes = self.accelerator.num_processes
        mine = batch[self.accelerator.process_index :: processes]
        items = len(mine)
        if not items:  # the last batch may be smaller than the number of processes: take part with weight 0
            mine = batch[:1]
        value = torch.zeros((), device=self.accelerator.device)
        parts = mine.split(self.config.micro_batch_size or len(mine))
        for number, part in enumerate(parts, start=1):
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(self._trained):
                weight = min(len(part), items) * processes / len(batch)  # gradients are averaged over processes
                loss = self._loss_of(*data.collate(part)) * weight
                self.accelerator.backward(loss)
            value += loss.detach()
        value = self.accelerator.reduce(value, "mean")
        self.learning_rate = max(group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups)
        norm = make_step(
            self.accelerator,
            self._trained.parameters(),
            [each for pair in zip(self._steppers, self.schedules, strict=True) for each in pair],
            loss=value.item(),
            max_grad_norm=self.config.max_grad_norm,
            place=f"at step {self.step + 1} of {self.total_steps}",
            setting="training.learning_rate",
        )
        self.step += 1
        self.loss_sum += value.item()
        self.norm_sum += norm

    def _loss_of(self, inputs: object, targets: Tensor) -> Tensor:
        device = self.accelerator.device
        with self.accelerator.autocast():
            logits = self._trained(to_device(inputs, device))
        return self.loss(logits.float(), targets.to(device))

    def _patience_is_over(self, epoch: int) -> bool:
        return bool(self.patience and self.kept and epoch - self.kept["epoch"] >= self.patience)

    def _score_epoch(self, epoch: int) -> dict[str, float]:
        self._trained.eval()
        scores = {"epoch": epoch + 1, **self.evaluate()}
        if self.select is not None and self.select not in scores:
            raise InputError(f"cannot select epochs by {self.select!r}; known: {', '.join(sorted(scores))}.")
        best = self.kept.get(self.select, math.nan) if self.select is not None else math.nan
        if math.isnan(best) or scores[str(self.select)] > best:
            self.kept, self.best_step = scores, self.step
            if self.accelerator.is_main_process:
                self.checkpoints.save_best(self.step, self.model)
        return scores

    def _save(self) -> None:
        state: dict[str, Any] = {"step": self.step, "loss_sum": self.loss_sum, "norm_sum": self.norm_sum}
        state |= {"kept": self.kept, "best_step": self.best_step}
        state |= {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}
        state |= {"schedules": [schedule.state_dict() for schedule in self.schedules]}
        state |= {"cost": [self.stopwatch.seconds, self.stopwatch.processor_seconds]}
        if self.accelerator.is_main_process:
            self.checkpoints.save(self.step, self.model, state, self.best_step if self.kept else None)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> bool:
        with self.accelerator.main_process_first():  # the main process removes a damaged checkpoint
            state = self.checkpoints.load_last(self.model, self.accelerator.device)
        if state is None:
            return False
        with self.checkpoints.told_when_foreign():
            self.step, self.loss_sum, self.kept = int(state["step"]), float(state["loss_sum"]), dict(state["kept"])
            self.best_step = int(state["best_step"])
            not_kept = math.nan if self.loss_sum else 0.0  # by an earlier version
            self.norm_sum = float(state.get("norm_sum", not_kept))
            self.stopwatch = Stopwatch(*map(float, state.get("cost", (0.0, 0.0))))
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
                schedule.load_state_dict(saved)
        if self.accelerator.num_processes > 1:  # only the main process's random state was saved
            set_seed(self.seed + self.accelerator.process_index + 1000 * self.step)
        log.info("continuing from step %d of %d", self.step, self.total_steps)
        return True


def to_device(inputs: object, device: torch.device) -> object:
    """Move a tensor, or a dict of tensors, to a device."""
    if isinstance(inputs, Tensor):
        return inputs.to(device)
    assert isinstance(inputs, dict)
    return {key: value.to(device) for key, value in inputs.items()}
