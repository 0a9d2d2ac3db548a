"""Settings of a training. Does not import torch, so that configs compose quickly."""

import math
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING, OmegaConf

from rlkl_htc_common.errors import InputError


def cpu_precision(file: str = "/proc/cpuinfo") -> str:
    """The precision in which this machine's CPU trains fastest: bf16 where it has instructions for it, else fp32.

    With AVX-512 BF16 a product takes half the time or less; without, bf16 is emulated, and slow.

    Args: file: where Linux lists the CPU's instructions; where there is none, fp32.
    """
    try:
        return "bf16" if "avx512_bf16" in Path(file).read_text(encoding="utf-8").split() else "fp32"
    except OSError:
        return "fp32"


OmegaConf.register_new_resolver("cpu_precision", cpu_precision, replace=True)  # for conf/htc/experiment


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
