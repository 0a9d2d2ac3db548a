"""The optimizer step of every training, and a flag shared by all processes."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from rlkl_htc_common.errors import InputError


def make_step(
    accelerator: Accelerator,
    parameters: Iterable[nn.Parameter],
    steppers: Sequence[Any],
    *,
    loss: float,
    max_grad_norm: float,
    place: str,
    setting: str,
) -> float:
    """Clip the gradients, step optimizers and schedules, and reset the gradients.

    Args:
        steppers: optimizers and learning-rate schedules, in the order to call them.
        loss: of the whole step, over all processes.
        place, setting: for the error: which step this is, and the learning rate that may be too high.

    Returns:
        The norm of the gradient before clipping.

    Raises:
        InputError: if the loss or the gradient is not finite; the parameters are unchanged then.
    """
    _refuse_not_finite("loss", loss, place, setting)
    norm = float(accelerator.clip_grad_norm_(parameters, max_grad_norm))
    _refuse_not_finite("gradient", norm, place, setting)
    for stepper in steppers:
        stepper.step()
    for stepper in steppers:
        if hasattr(stepper, "zero_grad"):
            stepper.zero_grad()
    return norm


def anywhere(accelerator: Accelerator, here: bool) -> bool:
    """Whether `here` is true in any process."""
    if accelerator.num_processes == 1:
        return here
    return bool(accelerator.reduce(torch.tensor(float(here), device=accelerator.device), "sum") > 0)


def _refuse_not_finite(what: str, value: float, place: str, setting: str) -> None:
    if not math.isfinite(value):
        raise InputError(f"the {what} became {value} {place}; the last checkpoint is kept. Try a smaller {setting}.")
