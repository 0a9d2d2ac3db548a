"""Clipped importance-sampling policy optimisation (MiniMax 2025, CISPO): GRPO's advantages; clipped tokens keep their gradient.

Shapes: as in `rlkl.algorithms.a2c`.
"""

from torch import Tensor

from rlkl import kl
from rlkl.algorithms import a2c
from rlkl.algorithms.ppo import clipped_ratio


def policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_range: float | Tensor = 1.0,
    total: Tensor | None = None,
    clip_range_high: float | Tensor | None = None,
) -> Tensor:
    """The policy-gradient loss with the clipped ratio as a weight: -mean(clip(ratio) * advantage * log p), no gradient in clip.

    Args:
        log_probs, old_log_probs, advantages, mask, total: as in `ppo.policy_loss`.
        clip_range: the lower bound is 1 - this; 1, as in the paper, for none.
        clip_range_high: the upper bound is 1 + this; None for `clip_range`.

    Returns:
        A scalar.

    Source: MiniMax 2025 (MiniMax-M1), arXiv 2506.13585, equations 4 and 5.
    """
    ratio = kl.k1(log_probs, old_log_probs).detach().masked_fill(~mask, 0.0).exp()
    weight = clipped_ratio(ratio, clip_range, clip_range if clip_range_high is None else clip_range_high)
    return a2c.policy_loss(log_probs, advantages * weight, mask, total)
