"""The training loop: warm-up and decay, checkpoints and resume; by default AdamW, one learning rate per part of the model."""

import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from common.batching import epoch_batches
from common.checkpoints import Checkpoints
from common.errors import InputError
from common.tracking import Tracker

log = logging.getLogger(__name__)

NO_DECAY = ("bias", "LayerNorm.weight")


@dataclass
class TrainingConfig:
    """How a model is trained.

    Attributes:
        epochs, batch_size: passes over the training data, items in a step.
        learning_rate: of the head, the peak after warm-up.
        encoder_learning_rate: of the encoder, where it is not frozen.
        weight_decay: not applied to biases and layer norms.
        warmup_fraction: the share of steps over which the learning rates grow from 0; then they fall.
        max_grad_norm: gradients are scaled down to this norm.
        precision: `fp32`, or `bf16` for mixed precision.
        checkpoint_steps: steps between checkpoints inside an epoch; there is always one at its end.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    encoder_learning_rate: float = 2e-5
    weight_decay: float = 0.01
    warmup_fraction: float = 0.1
    max_grad_norm: float = 1.0
    precision: str = "fp32"
    checkpoint_steps: int | None = None

    def check(self) -> None:
        """Raise InputError for values that no training can have."""
        for name in ("epochs", "batch_size", "learning_rate", "encoder_learning_rate", "max_grad_norm"):
            if getattr(self, name) <= 0:
                raise InputError(f"training.{name} must be positive, not {getattr(self, name)}.")
        if self.weight_decay < 0:
            raise InputError(f"training.weight_decay must not be negative, but is {self.weight_decay}.")
        if not 0 <= self.warmup_fraction <= 1:
            raise InputError(f"training.warmup_fraction must be from 0 to 1, not {self.warmup_fraction}.")
        if self.precision not in ("fp32", "bf16"):
            raise InputError(f"training.precision must be fp32 or bf16, not {self.precision!r}.")
        if self.checkpoint_steps is not None and self.checkpoint_steps <= 0:
            raise InputError(f"training.checkpoint_steps must be positive, not {self.checkpoint_steps}.")


def make_accelerator(precision: str = "fp32") -> Accelerator:
    """An Accelerator for what this machine has: CUDA if there is any, else the CPU.

    Raises:
        InputError: if several processes were started: a run is trained by one.
    """
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no" if precision == "fp32" else precision)
    if max(accelerator.num_processes, int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise InputError("several processes were started for one training; start it as one process, without torchrun.")
    return accelerator


def parameter_groups(model: nn.Module, config: TrainingConfig) -> list[dict[str, object]]:
    """The trainable parameters by learning rate (parameters under `encoder.` have their own) and by weight decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("encoder."), not name.endswith(NO_DECAY)), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.encoder_learning_rate if is_encoder else config.learning_rate,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (is_encoder, decays), parameters in groups.items()
    ]


@dataclass
class TrainingData:
    """What the loop draws the batches of an epoch from.

    Attributes:
        size: the number of items.
        lengths: (size,) the length of each item, for bucketing; None if all are alike.
        collate: from item numbers (b,) to what `loss` takes.
    """

    size: int
    collate: Callable[[Tensor], tuple[object, Tensor]]
    lengths: Tensor | None = None


def linear(progress: float) -> float:
    """A decay of the learning rate to 0. Args: progress: from 0 to 1, after the warm-up."""
    return 1 - progress


def cosine(progress: float, final: float = 0.1) -> float:
    """A decay along half a cosine. Args: progress: from 0 to 1; final: what it ends at, relative to the peak."""
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


class Trainer:
    """Trains one model, or continues where its checkpoints end.

    Args:
        model: called with the first element of a collated batch.
        data: from the number of an epoch to what it trains on; every epoch has as many items.
        loss: of the model's output and the second element of the batch.
        config: how.
        seed: determines the order of batches and every random number of the loop.
        accelerator: device and precision.
        checkpoints: where to save and resume.
        evaluate: scores the model after each epoch; the keys are logged as they are.
        select: keep the weights of the epoch that scores highest on this key; None keeps the last.
        optimizers: what makes the steps; None for AdamW on `parameter_groups`.
        decay: of the learning rates, from progress after the warm-up to a factor.
        progress: show a progress bar.
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
        optimizers: Sequence[torch.optim.Optimizer] | None = None,
        decay: Callable[[float], float] = linear,
        progress: bool = True,
    ) -> None:
        config.check()
        set_seed(seed)
        self.model, self.loss, self.config = model, loss, config
        self.data = lru_cache(maxsize=1)(data)
        self.seed, self.accelerator, self.checkpoints = seed, accelerator, checkpoints
        self.evaluate, self.select, self.progress = evaluate, select, progress
        self.steps_per_epoch = math.ceil(self.data(0).size / config.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.optimizers = optimizers or [torch.optim.AdamW(parameter_groups(model, config), fused=True)]
        self.schedules = [LambdaLR(optimizer, partial(self._rate, decay=decay)) for optimizer in self.optimizers]
        self.step = 0
        self.loss_sum = 0.0  # over the steps of the current epoch
        self.kept: dict[str, float] = {}

    def _rate(self, step: int, decay: Callable[[float], float]) -> float:
        warmup = math.ceil(self.config.warmup_fraction * self.total_steps)
        if step < warmup:
            return step / warmup
        return max(0.0, decay((step - warmup) / max(1, self.total_steps - warmup)))

    def fit(self, open_tracker: Callable[[int | None], Tracker]) -> dict[str, float]:
        """Train to the end; the model is left with its best (or last) weights.

        Args:
            open_tracker: opens the tracker, given the step that is resumed from, None for a fresh start.

        Returns:
            The scores of the epoch that was kept, with `epoch`.

        Raises:
            InputError: if the loss is not finite: the last checkpoint stays.
            KeyboardInterrupt: after Ctrl-C, once a checkpoint of the current step is saved.
        """
        self.model.to(self.accelerator.device)
        resumed = self._resume()
        self._trained, *self._steppers = self.accelerator.prepare(self.model, *self.optimizers)
        with (
            open_tracker(self.step if resumed else None) as tracker,
            tqdm(total=self.total_steps, initial=self.step, desc="training", disable=not self.progress, leave=False) as bar,
            ctrl_c_waits() as interrupted,
        ):
            for epoch in range(self.step // self.steps_per_epoch, self.config.epochs):
                self._train_epoch(epoch, bar, interrupted)
                train_loss = self.loss_sum / self.steps_per_epoch
                scores = self._score_epoch(epoch)
                tracker.log(self.step, {"train/loss": train_loss, **scores})
                bar.set_postfix_str(
                    f"loss {train_loss:.4f}" + (f", {self.select} {scores[self.select]:.4f}" if self.select else "")
                )
                self.loss_sum = 0.0
                self._save()
                if interrupted.is_set():
                    raise KeyboardInterrupt
            tracker.summarize(self.kept)
        self.checkpoints.load_best(self.model, self.accelerator.device)
        return self.kept

    def _train_epoch(self, epoch: int, bar: "tqdm[None]", interrupted: threading.Event) -> None:
        self._trained.train()
        data = self.data(epoch)
        batches = epoch_batches(data.size, self.config.batch_size, self.seed, epoch, data.lengths)
        for batch in batches[self.step - epoch * self.steps_per_epoch :]:
            self._train_step(*data.collate(batch))
            bar.update()
            if interrupted.is_set() and self.step % self.steps_per_epoch:
                self._save()
                raise KeyboardInterrupt
            every = self.config.checkpoint_steps
            if every and self.step % every == 0 and self.step % self.steps_per_epoch:
                self._save()

    def _train_step(self, inputs: object, targets: Tensor) -> None:
        device = self.accelerator.device
        with self.accelerator.autocast():
            logits = self._trained(to_device(inputs, device))
        loss = self.loss(logits.float(), targets.to(device))
        value = loss.item()
        self._refuse_not_finite("loss", value)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self._trained.parameters(), self.config.max_grad_norm)
        self._refuse_not_finite("gradient", float(norm))
        for stepper, schedule in zip(self._steppers, self.schedules, strict=True):
            stepper.step()
            schedule.step()
            stepper.zero_grad()
        self.step += 1
        self.loss_sum += value

    def _refuse_not_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise InputError(
                f"the {what} became {value} at step {self.step + 1} of {self.total_steps}; the last checkpoint is kept. "
                "Try a smaller training.learning_rate."
            )

    def _score_epoch(self, epoch: int) -> dict[str, float]:
        self._trained.eval()
        scores = {"epoch": epoch + 1, **self.evaluate()}
        if self.select is not None and self.select not in scores:
            raise InputError(f"cannot select epochs by {self.select!r}; known: {', '.join(sorted(scores))}.")
        if self.select is None or not self.kept or scores[self.select] > self.kept[self.select]:
            self.kept = scores
            self.checkpoints.save_best(self.model)
        return scores

    def _save(self) -> None:
        state: dict[str, Any] = {"step": self.step, "loss_sum": self.loss_sum, "kept": self.kept}
        state |= {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}
        state |= {"schedules": [schedule.state_dict() for schedule in self.schedules]}
        self.checkpoints.save(self.step, self.model, state)

    def _resume(self) -> bool:
        state = self.checkpoints.load_last(self.model, self.accelerator.device)
        if state is None:
            return False
        self.step, self.loss_sum, self.kept = state["step"], state["loss_sum"], state["kept"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        log.info("continuing from step %d of %d", self.step, self.total_steps)
        return True


def to_device(inputs: object, device: torch.device) -> object:
    """Move a tensor, or a dict of tensors, to a device."""
    if isinstance(inputs, Tensor):
        return inputs.to(device)
    assert isinstance(inputs, dict)
    return {key: value.to(device) for key, value in inputs.items()}


@contextmanager
def ctrl_c_waits() -> Iterator[threading.Event]:
    """Inside, the first Ctrl-C only sets the event, so that a step is never cut in two; the second one acts as usual."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    previous = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, previous)
        interrupted.set()

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)
