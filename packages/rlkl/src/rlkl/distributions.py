"""Distributions over tokens as logits or log-probabilities, with care for precision and for tokens without probability.

Shapes: V is the size of the vocabulary, `...` any leading dimensions.
"""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Convert to float32, except float64: nothing is computed in half precision or in integers."""
    return values if values.dtype == torch.float64 else values.float()


def expectation(log_probs: Tensor, values: Tensor) -> Tensor:
    """The expectation of a value of each token. Tokens without probability add 0, for any value.

    Padded vocabularies and suppressed tokens have such tokens: their logits are -inf, or so low that exp gives 0. There p log p
    and its gradient are 0.

    Args:
        log_probs: (..., V), -inf for a probability of 0.
        values: (..., V); where the probability is 0, any value, finite or not.

    Returns:
        (...)
    """
    probabilities = log_probs.exp()
    return (probabilities * values.masked_fill(probabilities == 0, 0.0)).sum(-1)


def token_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """The log-probability of each target. Args: logits (B, T, V); targets (B, T). Returns: (B, T), float32 or float64."""
    return at_least_float32(logits).log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)


def entropy(logits: Tensor) -> Tensor:
    """The entropy in nats. Args: logits (..., V); may be -inf. Returns: (...)."""
    log_probs = at_least_float32(logits).log_softmax(-1)
    return -expectation(log_probs, log_probs)
