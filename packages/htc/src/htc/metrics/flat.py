"""Multi-label metrics that do not look at the hierarchy; equal to scikit-learn's with `zero_division=0`."""

from typing import Literal

import torch
from torch import Tensor


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator in float64, 0 where the denominator is 0."""
    denominator = denominator.double()
    return torch.where(denominator > 0, numerator.double() / denominator.clamp(min=1e-300), 0.0)


def count(mask: Tensor, dims: tuple[int, ...]) -> Tensor:
    """How many are true along the dimensions; in int32, which sums a mask several times faster than the default int64."""
    return mask.sum(dims, dtype=torch.int32)


def f1(predictions: Tensor, targets: Tensor, average: Literal["micro", "macro", "samples"]) -> float:
    """F1: pooled over all cells (micro), mean over the N labels (macro), or mean over the D documents (samples).

    A label that is neither true nor predicted anywhere counts as 0 in the macro average.

    Args: predictions, targets (D, N) bool.
    """
    dims = {"micro": (0, 1), "macro": (0,), "samples": (1,)}[average]
    both = count(predictions & targets, dims)
    return float(divide(2 * both, count(predictions, dims) + count(targets, dims)).mean())


def hamming_loss(predictions: Tensor, targets: Tensor) -> float:
    """The share of wrong cells. Args: predictions, targets (D, N) bool."""
    return int((predictions != targets).count_nonzero()) / predictions.numel()


def exact_match(predictions: Tensor, targets: Tensor) -> float:
    """The share of documents whose whole label set is right. Args: predictions, targets (D, N) bool."""
    return float((predictions == targets).all(1).double().mean())
