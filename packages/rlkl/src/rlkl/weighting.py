"""The weights of the tokens' KL, from the reference's certainty.

    loss = policy_gradient + alpha * weighted_mean(kl.k2, log_probs, reference_log_probs, weights=weights, mask=mask)

Functions take (B, T) certainties of the reference, or weights made from them, and a (B, T) mask of the tokens that count. They
return (B, T) weights without a gradient, float32 or float64. `weighted_mean` combines them with any estimator of `rlkl.kl`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from rlkl.distributions import at_least_float32


def masked_mean(values: Tensor, mask: Tensor, total: Tensor | None = None) -> Tensor:
    """The mean over the tokens that count.

    Args:
        values: (B, T)
        mask: (B, T) bool; masked values may be anything, finite or not, and get no gradient.
        total: the divisor, if these are only a part of a step's tokens; default: their number.
    """
    return at_least_float32(values).masked_fill(~mask, 0.0).sum() / (mask.sum() if total is None else total).clamp_min(1)


def weighted_mean(
    divergence: Callable[..., Tensor], *inputs: Tensor, weights: Tensor, mask: Tensor, total: Tensor | None = None
) -> Tensor:
    """The mean weighted KL of the tokens that count.

    A token of weight 0 adds 0 to the value and to the gradient, even if its KL is not finite. Its inputs are replaced before
    the KL is computed, because 0 times inf would be NaN, also backward.

    Args:
        divergence: an estimator of `rlkl.kl`.
        inputs: its inputs of policy and reference: (B, T) log-probabilities of the sampled tokens, or (B, T, V) logits.
        weights: (B, T)
        mask: (B, T) bool; masked values may be anything, finite or not, and get no gradient.
        total: see `masked_mean`.

    Returns:
        A scalar.
    """
    left_out = ~mask | (weights == 0)
    kept = [values.masked_fill(left_out if values.ndim == left_out.ndim else left_out[..., None], 0.0) for values in inputs]
    return masked_mean(at_least_float32(weights) * divergence(*kept), mask, total)


def prioritized(certainty: Tensor, mask: Tensor, beta: float) -> Tensor:
    """certainty ** beta: relaxes the KL where the reference is uncertain (the paper's J^beta, section 4)."""
    return at_least_float32(certainty.detach()).pow(beta)


def uniform(certainty: Tensor, mask: Tensor, beta: float) -> Tensor:
    """1 everywhere: the standard KL penalty."""
    return torch.ones_like(at_least_float32(certainty))


def matched_mean(certainty: Tensor, mask: Tensor, beta: float) -> Tensor:
    """The mean of the prioritized weights, everywhere: a control with the same amount of KL, but not in the right places."""
    return uniform(certainty, mask, beta) * masked_mean(prioritized(certainty, mask, beta), mask)


def absent(certainty: Tensor, mask: Tensor, beta: float) -> Tensor:
    """0 everywhere: no KL penalty."""
    return torch.zeros_like(at_least_float32(certainty))


def shuffled(weights: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The same weights on other tokens: a control with the same distribution of weights, but not in the right places.

    Args:
        weights: (B, T); unchanged outside the mask.
        generator: for the permutation of all tokens that count, on the CPU.
    """
    weights = at_least_float32(weights.detach())
    of_tokens = weights[mask]
    order = torch.randperm(len(of_tokens), generator=generator).to(weights.device)
    return weights.masked_scatter(mask, of_tokens[order])


def at_least_one(number: float) -> int:
    """The number rounded down, but at least one: the number of tokens in KL-Cov (Cui et al. 2025)."""
    return max(1, int(number))


def top_share(values: Tensor, mask: Tensor, share: float, count: Callable[[float], int] = round) -> Tensor:
    """The share of tokens with the highest values, among those that count; of equal values, the first. (B, T) bool.

    Args: count: rounds the number of tokens, `round` or `at_least_one`.
    """
    of_tokens = values.detach()[mask]
    top = of_tokens.argsort(descending=True, stable=True)[: count(share * len(of_tokens))]
    return torch.zeros_like(mask).masked_scatter(mask, torch.zeros_like(of_tokens, dtype=torch.bool).index_fill(0, top, True))


def top_share_of_rows(values: Tensor, mask: Tensor, share: float) -> Tensor:
    """`top_share` for each row separately. (B, T) bool."""
    order = values.detach().masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    ranks = order.argsort(dim=1)  # (B, T) the rank of each token in its row
    return mask & (ranks < (share * mask.sum(1, keepdim=True)).round())


def to_the_end(values: Tensor, mask: Tensor) -> Tensor:
    """For each token, the sum of values from it to the end of its completion. Args: values, mask (B, T). Returns: (B, T)."""
    return values.masked_fill(~mask, 0.0).flip(1).cumsum(1).flip(1)


def window_means(values: Tensor, mask: Tensor, window: int) -> Tensor:
    """For each token, the mean of the values of it and the next `window` - 1 tokens; at the end of a row, of those that exist.

    Of entropies, this is the window entropy of ARES (Chen et al. 2025, arXiv 2510.08457).

    Args:
        values: (B, T)
        mask: (B, T) bool; masked values do not count.
        window: a number of tokens, at least 1.

    Returns:
        (B, T), 0 where no token of the window counts.
    """
    if window == 1:
        return values.masked_fill(~mask, 0.0)
    padding = values.new_zeros(len(values), window - 1)
    kept = torch.cat([values.masked_fill(~mask, 0.0), padding], dim=1).unfold(1, window, 1)  # (B, T, window)
    counts = torch.cat([mask.to(values.dtype), padding], dim=1).unfold(1, window, 1)
    return kept.sum(-1) / counts.sum(-1).clamp_min(1)


def covariances(log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """Per token, the product of the deviations of log-probability and advantage (Cui et al. 2025, arXiv 2505.22617).

    Its mean over tokens is the covariance of the two. A high covariance (likely tokens are reinforced) lowers the entropy.

    Args: log_probs, advantages (B, T) of sampled tokens. Returns: (B, T).
    """
    log_probs, advantages = at_least_float32(log_probs.detach()), at_least_float32(advantages.detach())
    return (log_probs - masked_mean(log_probs, mask)) * (advantages - masked_mean(advantages, mask))


Weighting = Callable[[Tensor, Tensor, float], Tensor]
WEIGHTINGS: dict[str, Weighting] = {
    "none": absent,
    "standard": uniform,
    "prioritized": prioritized,
    "matched_mean": matched_mean,
}
"""Weightings that depend only on the certainties."""
