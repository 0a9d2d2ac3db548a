"""Estimators of KL(policy || reference) per token. The caller weights, masks and averages them.

k1, k2 and k3 (Schulman 2020, "Approximating KL Divergence") use only the sampled token. Their gradients as a loss, for tokens
sampled from the policy (Liu et al. 2025, arXiv 2510.01555):

    k1      zero in expectation: it measures the KL but cannot train
    k2      the gradient of the KL, in expectation
    k3      the gradient of KL(reference || policy), in expectation
    exact   the gradient of the KL, without sampling noise

A token that both exclude has a log-ratio of 0; a token that only the reference excludes has a KL of inf. Half precision is
converted to float32; results are float32, or float64 for float64 inputs.

Shapes: (B, T) tokens of a batch of sequences, V the size of the vocabulary.
"""

import torch
from torch import Tensor

from rlkl.distributions import at_least_float32, expectation


def k1(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """log p - log q.

    Args:
        log_probs, reference_log_probs: (B, T) of the sampled tokens, under policy and reference.

    Returns:
        (B, T), unbiased, of either sign.
    """
    log_probs, reference_log_probs = at_least_float32(log_probs), at_least_float32(reference_log_probs)
    both_excluded = log_probs.isneginf() & reference_log_probs.isneginf()
    return (log_probs - reference_log_probs).masked_fill(both_excluded, 0.0)


def k2(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """(log p - log q)^2 / 2, the paper's estimator.

    Args:
        log_probs, reference_log_probs: (B, T) of the sampled tokens, under policy and reference.

    Returns:
        (B, T), biased, never negative.
    """
    return 0.5 * k1(log_probs, reference_log_probs).square()


def k3(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """q / p - 1 - log(q / p).

    Args:
        log_probs, reference_log_probs: (B, T) of the sampled tokens, under policy and reference.

    Returns:
        (B, T), unbiased, never negative.
    """
    log_ratio = k1(reference_log_probs, log_probs)
    return torch.expm1(log_ratio) - log_ratio.clamp_max(torch.finfo(log_ratio.dtype).max)  # inf - inf would be NaN


def exact(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """The exact KL, summed over the vocabulary.

    Args:
        logits, reference_logits: (B, T, V) under policy and reference; -inf for tokens without probability.

    Returns:
        (B, T), never negative except for rounding. It is inf, without a finite gradient, if the policy gives probability to a
        token that the reference excludes; a token that both exclude adds 0.
    """
    log_probs = at_least_float32(logits).log_softmax(-1)
    return expectation(log_probs, log_probs - at_least_float32(reference_logits).log_softmax(-1))


SAMPLED = {"k1": k1, "k2": k2, "k3": k3}  # estimators that need only the log-probabilities of sampled tokens
