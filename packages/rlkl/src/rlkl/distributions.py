"""Distributions over tokens as logits or log-probabilities: their precision, and tokens that have no probability at all.

Shapes: V is the size of the vocabulary, `...` any leading dimensions.
"""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """The same in float32, or in float64 where they are in it: nothing is computed in half precision, nor in integers."""
    return values if values.dtype == torch.float64 else values.float()


def expectation(log_probs: Tensor, values: Tensor) -> Tensor:
    """The mean of a value of each token, over a distribution. Tokens without probability count 0, whatever their value.

    Padded vocabularies and suppressed tokens have none: logits of -inf, or so low that exp gives 0. There p log p is 0, and so
    is its gradient.

    Args:
        log_probs: (..., V), -inf for a probability of 0.
        values: (..., V), anything where the probability is 0, also not finite.

    Returns:
        (...)
    """
    probabilities = log_probs.exp()
    return (probabilities * values.masked_fill(probabilities == 0, 0.0)).sum(-1)


def token_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """The log-probability of each target. Args: logits (B, T, V); targets (B, T). Returns: (B, T), float32 or float64."""
    return at_least_float32(logits).log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)
