"""Estimators of KL(policy || reference) per token, to be weighted, masked and averaged by who uses them.

k1, k2 and k3 (Schulman 2020, "Approximating KL Divergence") look at the sampled token only. What counts here is their gradient
as a loss, for tokens sampled from the policy itself (Liu et al. 2025, arXiv 2510.01555):

    k1      zero in expectation: it tells the value of the KL, but teaches nothing
    k2      that of the KL, in expectation
    k3      that of KL(reference || policy), in expectation
    exact   that of the KL, without sampling noise

Shapes: (B, T) tokens of a batch of sequences, V the size of the vocabulary.
"""

import torch
from torch import Tensor


def k1(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """log p - log q.

    Args:
        log_probs, reference_log_probs: (B, T) of the sampled tokens, under policy and reference.

    Returns:
        (B, T), unbiased, of either sign.
    """
    return log_probs - reference_log_probs


def k2(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """(log p - log q)^2 / 2, the paper's estimator.

    Args:
        log_probs, reference_log_probs: (B, T) of the sampled tokens, under policy and reference.

    Returns:
        (B, T), biased, never negative.
    """
    return 0.5 * (log_probs - reference_log_probs).square()


def k3(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """q / p - 1 - log(q / p).

    Args:
        log_probs, reference_log_probs: (B, T) of the sampled tokens, under policy and reference.

    Returns:
        (B, T), unbiased, never negative.
    """
    log_ratio = reference_log_probs - log_probs
    return torch.expm1(log_ratio) - log_ratio


def exact(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """The KL itself, summed over the vocabulary.

    Args:
        logits, reference_logits: (B, T, V) under policy and reference.

    Returns:
        (B, T), never negative but for rounding.
    """
    log_probs, reference_log_probs = logits.log_softmax(-1), reference_logits.log_softmax(-1)
    return (log_probs.exp() * (log_probs - reference_log_probs)).sum(-1)


SAMPLED = {"k1": k1, "k2": k2, "k3": k3}  # estimators that need the sampled tokens' log-probabilities only
