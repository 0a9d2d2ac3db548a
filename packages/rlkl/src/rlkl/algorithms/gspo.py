"""Group sequence policy optimisation (Zheng et al. 2025, GSPO): GRPO's advantages, and one ratio for a whole episode.

Shapes: as in `rlkl.algorithms.a2c`.
"""

from torch import Tensor

from rlkl import kl
from rlkl.algorithms.ppo import LARGEST_LOG_RATIO, surrogate
from rlkl.distributions import at_least_float32


def log_ratio(log_probs: Tensor, old_log_probs: Tensor, mask: Tensor) -> Tensor:
    """The log of each episode's ratio, without a gradient: the mean over its tokens. Args: (B, T). Returns: (B, 1)."""
    of_tokens = _of_tokens(log_probs.detach(), old_log_probs, mask)
    return of_tokens.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1)


def policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_range: float | Tensor = 3e-4,
    total: Tensor | None = None,
    clip_range_high: float | Tensor | None = None,
) -> Tensor:
    """The clipped surrogate with the ratio of the episode, (p / p_old) ** (1 / length), averaged over episodes.

    It is the paper's GSPO-token, which takes (B, T) advantages. If the tokens of an episode have the same advantage, its value
    and gradient are those of GSPO.

    Args:
        log_probs, old_log_probs, advantages: (B, T), as in `ppo.policy_loss`.
        mask: (B, T) bool, all sampled tokens.
        clip_range, clip_range_high: the ratio is clipped to 1 - clip_range and 1 + clip_range_high (3e-4 and 4e-4 in the
            paper).
        total: the number of episodes, if these are only a part of a step's; default: those with a token.

    Returns:
        A scalar.

    Source: Zheng et al. 2025, arXiv 2507.18071, sections 4.1 and 4.3.
    """
    advantages = at_least_float32(advantages.detach()).masked_fill(~mask, 0.0)
    of_tokens = _of_tokens(log_probs, old_log_probs, mask)
    of_episode = log_ratio(log_probs, old_log_probs, mask)
    ratio = (of_episode + of_tokens - of_tokens.detach()).exp()  # its value is the episode's, its gradient the token's
    lengths = mask.sum(1).clamp_min(1)
    means = surrogate(ratio, advantages, clip_range, clip_range_high).masked_fill(~mask, 0.0).sum(1) / lengths
    return -means.sum() / (mask.any(1).sum() if total is None else total).clamp_min(1)


def _of_tokens(log_probs: Tensor, old_log_probs: Tensor, mask: Tensor) -> Tensor:
    """(B, T) the log-ratios, 0 outside the mask; bounded, so that an excluded token gives a number."""
    of_tokens = kl.k1(log_probs.masked_fill(~mask, 0.0), old_log_probs.detach().masked_fill(~mask, 0.0))
    return of_tokens.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
