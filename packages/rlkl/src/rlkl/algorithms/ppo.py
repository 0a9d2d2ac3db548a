"""Proximal policy optimisation (Schulman et al. 2017, PPO): A2C's advantages, and a policy loss for several passes.

Shapes: as in `rlkl.algorithms.a2c`.
"""

import torch
from torch import Tensor

from rlkl import kl
from rlkl.distributions import at_least_float32
from rlkl.weighting import masked_mean

LARGEST_LOG_RATIO = 80.0  # for positive advantages, whose loss is constant beyond the clip range; its exp is finite in float32


def policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_range: float | Tensor = 0.2,
    total: Tensor | None = None,
) -> Tensor:
    """The clipped surrogate: -mean(min(ratio * advantage, clip(ratio) * advantage)), ratio = p / p_old.

    A token with advantage 0 adds 0. With a positive advantage, the clip range bounds the loss for any ratio. With a negative
    advantage, a ratio that overflows float32 makes the loss inf.

    Args:
        log_probs, old_log_probs: (B, T) of the sampled tokens, under the current policy and under the one that sampled them.
        advantages: (B, T)
        clip_range: the ratio is clipped to 1 +- clip_range; a number, or (B, T) per token.
        total: see `masked_mean`.

    Returns:
        A scalar.

    Source: Schulman et al. 2017, arXiv 1707.06347, equation 7.
    """
    advantages = at_least_float32(advantages.detach())
    log_ratio = kl.k1(log_probs, old_log_probs.detach()).masked_fill(~mask | (advantages == 0), 0.0)
    ratio = log_ratio.minimum(
        torch.where(advantages > 0, LARGEST_LOG_RATIO, torch.inf)
    ).exp()  # the gradient of inf would be NaN
    low, high = (torch.as_tensor(bound, dtype=ratio.dtype, device=ratio.device) for bound in (1 - clip_range, 1 + clip_range))
    clipped = ratio.clamp(low, high)
    return -masked_mean((ratio * advantages).minimum(clipped * advantages), mask, total)


def beyond_clip_range(log_probs: Tensor, old_log_probs: Tensor, clip_range: float | Tensor = 0.2) -> Tensor:
    """Tokens whose ratio is outside the clip range. Args: as above. Returns: (B, T) bool."""
    return (kl.k1(log_probs, old_log_probs).detach().exp() - 1).abs() > clip_range
