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
    clip_range_high: float | Tensor | None = None,
) -> Tensor:
    """The clipped surrogate: -mean(min(ratio * advantage, clip(ratio) * advantage)), ratio = p / p_old.

    A token with advantage 0 adds 0. With a positive advantage, the clip range bounds the loss for any ratio. With a negative
    advantage, a ratio that overflows float32 makes the loss inf.

    Args:
        log_probs, old_log_probs: (B, T) of the sampled tokens, under the current policy and under the one that sampled them.
        advantages: (B, T)
        clip_range: the ratio is clipped to 1 +- clip_range; a number, or (B, T) per token.
        total: see `masked_mean`.
        clip_range_high: the upper bound is 1 + this, as in DAPO; None for `clip_range`.

    Returns:
        A scalar.

    Source: Schulman et al. 2017, arXiv 1707.06347, equation 7; Yu et al. 2025 (DAPO), arXiv 2503.14476, section 3.1.
    """
    advantages = at_least_float32(advantages.detach())
    log_ratio = kl.k1(log_probs, old_log_probs.detach()).masked_fill(~mask | (advantages == 0), 0.0)
    ratio = log_ratio.minimum(
        torch.where(advantages > 0, LARGEST_LOG_RATIO, torch.inf)
    ).exp()  # the gradient of inf would be NaN
    return -masked_mean(surrogate(ratio, advantages, clip_range, clip_range_high), mask, total)


def surrogate(
    ratio: Tensor, advantages: Tensor, clip_range: float | Tensor, clip_range_high: float | Tensor | None = None
) -> Tensor:
    """min(ratio * advantage, clip(ratio) * advantage). Args: ratio, advantages (B, T), others as above. Returns: (B, T)."""
    high = clip_range if clip_range_high is None else clip_range_high
    return (ratio * advantages).minimum(clipped_ratio(ratio, clip_range, high) * advantages)


def clipped_ratio(ratio: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """The ratio, clipped to 1 - low and 1 + high. Args: ratio (B, T); low, high: numbers, or (B, T). Returns: (B, T)."""
    bounds = (torch.as_tensor(bound, dtype=ratio.dtype, device=ratio.device) for bound in (1 - low, 1 + high))
    return ratio.clamp(*bounds)


def log_ratio(log_probs: Tensor, old_log_probs: Tensor, mask: Tensor) -> Tensor:
    """The log of each token's ratio, without a gradient. Args: as above. Returns: (B, T)."""
    return kl.k1(log_probs, old_log_probs).detach()


def outside(log_ratio: Tensor, clip_range: float | Tensor = 0.2, clip_range_high: float | Tensor | None = None) -> Tensor:
    """Where the ratio is outside the clip range. Args: log_ratio (B, T) or (B, 1). Returns: bool, of the same shape."""
    high = clip_range if clip_range_high is None else clip_range_high
    beyond = log_ratio.detach().exp() - 1
    return (beyond > high) | (-beyond > clip_range)


def beyond_clip_range(log_probs: Tensor, old_log_probs: Tensor, clip_range: float | Tensor = 0.2) -> Tensor:
    """Tokens whose ratio is outside the clip range. Args: as above. Returns: (B, T) bool."""
    return outside(kl.k1(log_probs, old_log_probs), clip_range)


def clipped(log_ratio: Tensor, advantages: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """Tokens whose policy gradient is clipped to 0: the ratio is above 1 + `high` with a positive advantage, or below 1 - `low`
    with a negative one.

    Args:
        log_ratio: (B, T) log-probability minus that of the policy that sampled; (B, 1) for whole completions.
        advantages: (B, 1) or (B, T)
        low, high: numbers, or (B, T).

    Returns:
        (B, T) bool, or (B, 1)
    """
    ratio = log_ratio.detach().exp()
    return ((ratio > 1 + high) & (advantages > 0)) | ((ratio < 1 - low) & (advantages < 0))
