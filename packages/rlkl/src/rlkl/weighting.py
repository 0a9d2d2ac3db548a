"""How much each token's KL counts, given how certain the reference was there.

    loss = policy_gradient + alpha * masked_mean(weights * kl, mask)

Functions take (B, T) certainties of the reference, or weights made from them, and a (B, T) mask of the tokens that count, and
give (B, T) weights without a gradient. One multiplication joins them to any estimator of `rlkl.kl`.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor, total: Tensor | None = None) -> Tensor:
    """The mean over the tokens that count.

    Args:
        values: (B, T)
        mask: (B, T) bool; what it leaves out may be anything, also not finite, and gets no gradient.
        total: what to divide by, where these are only a part of the tokens of a step; their number by default.
    """
    return values.masked_fill(~mask, 0.0).sum() / (mask.sum() if total is None else total).clamp_min(1)


def prioritized(certainty: Tensor, mask: Tensor, beta: float) -> Tensor:
    """certainty ** beta: the KL is relaxed where the reference was unsure (the paper's J^beta, section 4)."""
    return certainty.detach().pow(beta)


def uniform(certainty: Tensor, mask: Tensor, beta: float) -> Tensor:
    """1 everywhere: the standard KL penalty."""
    return torch.ones_like(certainty)


def matched_mean(certainty: Tensor, mask: Tensor, beta: float) -> Tensor:
    """The mean of the prioritized weights, everywhere: a control that has as little KL, but not in the right places."""
    return torch.ones_like(certainty) * masked_mean(prioritized(certainty, mask, beta), mask)


def absent(certainty: Tensor, mask: Tensor, beta: float) -> Tensor:
    """0 everywhere: no KL penalty."""
    return torch.zeros_like(certainty)


def shuffled(weights: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The same weights on other tokens: a control that has each weight as often, but not in the right places.

    Args:
        weights: (B, T); outside the mask they stay.
        generator: of the permutation of all tokens that count, on the CPU.
    """
    of_tokens = weights.detach()[mask]
    order = torch.randperm(len(of_tokens), generator=generator).to(weights.device)
    return weights.detach().masked_scatter(mask, of_tokens[order])


def top_share(values: Tensor, mask: Tensor, share: float) -> Tensor:
    """The tokens with the highest values: a share of those that count, rounded; of equal ones the first. (B, T) bool."""
    of_tokens = values.detach()[mask]
    top = of_tokens.argsort(descending=True, stable=True)[: round(share * len(of_tokens))]
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
    log_probs, advantages = log_probs.detach(), advantages.detach()
    return (log_probs - masked_mean(log_probs, mask)) * (advantages - masked_mean(advantages, mask))


Weighting = Callable[[Tensor, Tensor, float], Tensor]
WEIGHTINGS: dict[str, Weighting] = {
    "none": absent,
    "standard": uniform,
    "prioritized": prioritized,
    "matched_mean": matched_mean,
}
"""Those that the certainties alone determine."""
