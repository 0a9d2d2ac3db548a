"""Advantage actor-critic (Mnih et al. 2016, A2C): advantages by GAE, and the terms of its loss.

Shapes: (B, T) tokens of a batch of sequences; `mask` tells which were sampled by the policy, one run of tokens in each row.
"""

import torch
from torch import Tensor

from rlkl.weighting import masked_mean


def at_last_token(rewards: Tensor, mask: Tensor) -> Tensor:
    """Rewards of episodes as rewards of tokens: 0 but for each episode's last one. Args: rewards (B,). Returns: (B, T)."""
    last = mask & ~torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
    return torch.where(last, rewards[:, None], 0.0)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016). After an episode's last token, nothing more is expected.

    Args:
        rewards: (B, T) given for each token.
        values: (B, T) what the critic expected before each token.
        mask: (B, T)
        gamma, lam: discount, and weight of longer returns.

    Returns:
        (B, T) advantages, 0 outside the mask, without a gradient.
    """
    values = values.detach().masked_fill(~mask, 0.0)
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)  # 0 behind the last token, as it is masked
    errors = (rewards + gamma * following - values).masked_fill(~mask, 0.0)
    advantages = torch.zeros_like(values)
    ahead = torch.zeros_like(values[:, 0])
    for step in reversed(range(values.shape[1])):
        ahead = errors[:, step] + gamma * lam * ahead
        advantages[:, step] = ahead
    return advantages.masked_fill(~mask, 0.0)


def policy_loss(log_probs: Tensor, advantages: Tensor, mask: Tensor, total: Tensor | None = None) -> Tensor:
    """The policy gradient as a loss: -mean(log p * advantage). Args: (B, T); total: see `masked_mean`. Returns: a scalar."""
    return -masked_mean(log_probs * advantages.detach(), mask, total)


def value_loss(values: Tensor, returns: Tensor, mask: Tensor, total: Tensor | None = None) -> Tensor:
    """The mean squared error of the critic. Args: (B, T); total: see `masked_mean`. Returns: a scalar."""
    return masked_mean((values - returns.detach()).square(), mask, total)


def entropy(logits: Tensor) -> Tensor:
    """The entropy of the policy in nats. Args: logits (B, T, V). Returns: (B, T)."""
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)
