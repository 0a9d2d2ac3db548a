"""How much each token's KL counts, given how certain the reference was there.

    loss = policy_gradient + alpha * weighted_mean(kl.k2, log_probs, reference_log_probs, weights=weights, mask=mask)

Functions take (B, T) certainties of the reference, or weights made from them, and a (B, T) mask of the tokens that count, and
give (B, T) weights without a gradient, float32 or float64. `weighted_mean` joins them to any estimator of `rlkl.kl`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from rlkl.distributions import at_least_float32


def masked_mean(values: Tensor, mask: Tensor, total: Tensor | None = None) -> Tensor:
    """The mean over the tokens that count.

    Args:
        values: (B, T)
        mask: (B, T) bool; what it leaves out may be anything, also not finite, and gets no gradient.
        total: what to divide by, where these are only a part of the tokens of a step; their number by default.
    """
    return at_least_float32(values).masked_fill(~mask, 0.0).sum() / (mask.sum() if total is None else total).clamp_min(1)


def weighted_mean(
    divergence: Callable[..., Tensor], *inputs: Tensor, weights: Tensor, mask: Tensor, total: Tensor | None = None
) -> Tensor:
    """The mean weighted KL of the tokens that count.

    A token of weight 0 is left out: it adds 0 to the value and to the gradient, also where its KL is not finite. Its inputs are
    replaced before the KL is taken, as 0 times inf would be NaN, backward, too.

    Args:
        divergence: an estimator of `rlkl.kl`.
        inputs: what it takes of policy and reference: (B, T) log-probabilities of the sampled tokens, or (B, T, V) logits.
        weights: (B, T)
        mask: (B, T) bool; what it leaves out may be anything, also not finite, and gets no gradient.
        total: see `masked_mean`.

    Returns:
        A scalar.
    """
    left_out = ~mask | (weights == 0)
    kept = [values.masked_fill(left_out if values.ndim == left_out.ndim else left_out[..., None], 0.0) for values in inputs]
    return masked_mean(at_least_float32(weights) * divergence(*kept), mask, total)


def prioritized(certainty: Tensor, mask: Tensor, beta: float) -> Tensor:
    """certainty ** beta: the KL is relaxed where the reference was unsure (the paper's J^beta, section 4)."""
    return at_least_float32(certainty.detach()).pow(beta)


def uniform(certainty: Tensor, mask: Tensor, beta: float) -> Tensor:
    """1 everywhere: the standard KL penalty."""
    return torch.ones_like(at_least_float32(certainty))


def matched_mean(certainty: Tensor, mask: Tensor, beta: float) -> Tensor:
    """The mean of the prioritized weights, everywhere: a control that has as little KL, but not in the right places."""
    return uniform(certainty, mask, beta) * masked_mean(prioritized(certainty, mask, beta), mask)


def absent(certainty: Tensor, mask: Tensor, beta: float) -> Tensor:
    """0 everywhere: no KL penalty."""
    return torch.zeros_like(at_least_float32(certainty))


def shuffled(weights: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The same weights on other tokens: a control that has each weight as often, but not in the right places.

    Args:
        weights: (B, T); outside the mask they stay.
        generator: of the permutation of all tokens that count, on the CPU.
    """
    weights = at_least_float32(weights.detach())
    of_tokens = weights[mask]
    order = torch.randperm(len(of_tokens), generator=generator).to(weights.device)
    return weights.masked_scatter(mask, of_tokens[order])


def at_least_one(number: float) -> int:
    """The number rounded down, but one at least: how many tokens KL-Cov takes (Cui et al. 2025)."""
    return max(1, int(number))


def top_share(values: Tensor, mask: Tensor, share: float, count: Callable[[float], int] = round) -> Tensor:
    """The tokens with the highest values: a share of those that count; of equal ones the first. (B, T) bool.

    Args: count: how many of a number that is none, `round` or `at_least_one`.
    """
    of_tokens = values.detach()[mask]
    top = of_tokens.argsort(descending=True, stable=True)[: count(share * len(of_tokens))]
    return torch.zeros_like(mask).masked_scatter(mask, torch.zeros_like(of_tokens, dtype=torch.bool).index_fill(0, top, True))


def top_share_of_rows(values: Tensor, mask: Tensor, share: float) -> Tensor:
    """The same for each row by itself: a share of its tokens that count. (B, T) bool."""
    order = values.detach().masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    ranks = order.argsort(dim=1)  # (B, T) how many of its row come before each
    return mask & (ranks < (share * mask.sum(1, keepdim=True)).round())


def covariances(log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """How far a token's log-probability and its advantage lie from their means together (Cui et al. 2025, arXiv 2505.22617).

    The mean over tokens is the covariance of the two, which drives the entropy down: likely tokens that are reinforced.

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
"""Those that the certainties alone determine."""
