"""Settings of a training. Does not import torch, so that configs compose quickly."""

import math
from dataclasses import dataclass

from omegaconf import MISSING

from rlkl_htc_common.errors import InputError


@dataclass
class TrainingConfig:
    """How a model is trained. The numbers of each recipe are in its YAML.

    Attributes:
        epochs: passes over the training data.
        batch_size: items per step.
        micro_batch_size: items per forward pass, to save memory; gradients are accumulated over the batch. Null for the whole
            batch.
        learning_rate: the peak after warm-up.
        weight_decay: not applied to biases and layer norms.
        warmup_fraction: the share of steps in which the learning rates rise from 0; then they fall.
        max_grad_norm: gradients are clipped to this norm.
        precision: `fp32`, or `bf16` for mixed precision.
        checkpoint_steps: steps between checkpoints inside an epoch; there is always one at its end.
    """

    epochs: int = MISSING
    batch_size: int = MISSING
    micro_batch_size: int | None = None
    learning_rate: float = MISSING
    weight_decay: float = MISSING
    warmup_fraction: float = MISSING
    max_grad_norm: float = MISSING
    precision: str = "fp32"
    checkpoint_steps: int | None = None

    def check(self) -> None:
        """Raise InputError for invalid values."""
        for name in ("epochs", "batch_size", "learning_rate", "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"training.{name} must be positive and finite, not {getattr(self, name)}.")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"training.weight_decay must not be negative or infinite, but is {self.weight_decay}.")
        if not 0 <= self.warmup_fraction <= 1:
            raise InputError(f"training.warmup_fraction must be from 0 to 1, not {self.warmup_fraction}.")
        if self.precision not in ("fp32", "bf16"):
            raise InputError(f"training.precision must be fp32 or bf16, not {self.precision!r}.")
        for name in ("micro_batch_size", "checkpoint_steps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"training.{name} must be positive, or null, not {value}.")
