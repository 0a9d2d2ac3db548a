"""Proximal policy optimisation (Schulman et al. 2017, PPO): A2C's advantages, and a policy loss for several passes over them.

Shapes: as in `rlkl.algorithms.a2c`.
"""

from torch import Tensor

from rlkl.weighting import masked_mean


def policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_range: float = 0.2,
    total: Tensor | None = None,
) -> Tensor:
    """The clipped surrogate: -mean(min(ratio * advantage, clip(ratio) * advantage)), ratio = p / p_old.

    Args:
        log_probs, old_log_probs: (B, T) of the sampled tokens, under the policy as it is and as it was when it acted.
        advantages: (B, T)
        clip_range: how far the ratio counts beyond 1, up and down.
        total: see `masked_mean`.

    Returns:
        A scalar.

    Source: Schulman et al. 2017, arXiv 1707.06347, equation 7.
    """
    advantages = advantages.detach()
    ratio = (log_probs - old_log_probs.detach()).masked_fill(~mask, 0.0).exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return -masked_mean((ratio * advantages).minimum(clipped * advantages), mask, total)


def beyond_clip_range(log_probs: Tensor, old_log_probs: Tensor, clip_range: float = 0.2) -> Tensor:
    """The tokens whose ratio lies beyond the clip range. Args: as above. Returns: (B, T) bool."""
    return ((log_probs - old_log_probs).detach().exp() - 1).abs() > clip_range
