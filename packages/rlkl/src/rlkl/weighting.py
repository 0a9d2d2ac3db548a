"""How much each token's KL counts, given how certain the reference was there.

    loss = policy_gradient + alpha * masked_mean(weights * kl, mask)

Every function takes (B, T) certainties of the reference and a (B, T) mask of the tokens that count, and gives (B, T) weights
without a gradient. One multiplication joins them to any estimator of `rlkl.kl`.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens that count.

    Args:
        values: (B, T)
        mask: (B, T) bool; what it leaves out may be anything, also not finite, and gets no gradient.
    """
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp_min(1)


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


Weighting = Callable[[Tensor, Tensor, float], Tensor]
WEIGHTINGS: dict[str, Weighting] = {
    "none": absent,
    "standard": uniform,
    "prioritized": prioritized,
    "matched_mean": matched_mean,
}
