"""Advantage actor-critic (Mnih et al. 2016, A2C): advantages by GAE, and the loss terms.

Shapes: (B, T) tokens of a batch of sequences; `mask` marks the tokens that the policy sampled, contiguous in each row.
"""

import torch
from torch import Tensor

from rlkl.distributions import at_least_float32
from rlkl.weighting import masked_mean
from rlkl_htc_common.errors import InputError


def refuse_holes(mask: Tensor) -> None:
    """Raise InputError for rows with more than one run of tokens: their last token would be ambiguous."""
    starts = mask[:, :1].sum(1) + (mask[:, 1:] & ~mask[:, :-1]).sum(1)  # (B,) number of runs
    if (starts > 1).any():
        row = int((starts > 1).nonzero()[0])
        raise InputError(
            f"row {row} of the mask has a hole: {int(starts[row])} runs of tokens, where an episode has one. Give each a row."
        )


def at_last_token(rewards: Tensor, mask: Tensor) -> Tensor:
    """Put each episode's reward on its last token, 0 elsewhere. Args: rewards (B,). Returns: (B, T).

    Raises:
        InputError: for a row of the mask with a hole, or without any token.
    """
    refuse_holes(mask)
    if not mask.any(1).all():
        raise InputError(
            f"row {int((~mask.any(1)).nonzero()[0])} of the mask is empty: there is no token to give its reward to."
        )
    last = mask & ~torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
    return torch.where(last, at_least_float32(rewards)[:, None], 0.0)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016). The value after an episode's last token is 0.

    Args:
        rewards: (B, T) of each token.
        values: (B, T) the critic's value before each token.
        mask: (B, T)
        gamma, lam: the discount, and the weight of longer returns.

    Returns:
        (B, T) advantages, 0 outside the mask, no gradient.

    Raises:
        InputError: for a row of the mask with a hole.
    """
    refuse_holes(mask)
    rewards, values = at_least_float32(rewards), at_least_float32(values).detach().masked_fill(~mask, 0.0)
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)  # 0 after the last token: masked
    errors = (rewards + gamma * following - values).masked_fill(~mask, 0.0)
    advantages = torch.zeros_like(values)
    ahead = values.new_zeros(len(values))
    for step in reversed(range(values.shape[1])):
        ahead = errors[:, step] + gamma * lam * ahead
        advantages[:, step] = ahead
    return advantages.masked_fill(~mask, 0.0)


def policy_loss(log_probs: Tensor, advantages: Tensor, mask: Tensor, total: Tensor | None = None) -> Tensor:
    """The policy-gradient loss, -mean(log p * advantage). Args: (B, T); total: see `masked_mean`. Returns: a scalar.

    A token with advantage 0 adds 0, even if log p is -inf.
    """
    advantages = at_least_float32(advantages.detach())
    log_probs = at_least_float32(log_probs).masked_fill(~mask | (advantages == 0), 0.0)
    return -masked_mean(log_probs * advantages, mask, total)


def value_loss(values: Tensor, returns: Tensor, mask: Tensor, total: Tensor | None = None) -> Tensor:
    """The mean squared error of the critic. Args: (B, T); total: see `masked_mean`. Returns: a scalar."""
    errors = (at_least_float32(values) - at_least_float32(returns.detach())).masked_fill(~mask, 0.0)
    return masked_mean(errors.square(), mask, total)
