"""Zero-sum calibrated policy optimisation (Ding 2026, ZCPO): a KL that only compares the episodes of a prompt.

The coefficient of an episode is A / max(abs(A)) - alpha (D - mean(D)), maximum and mean over its group: A is its return above
the mean of its group, D the mean of its tokens' exact KL. It sums to 0 in each group; groups with equal returns are left out.
The coefficient takes the place of the advantage in a clipped loss (`ppo.policy_loss`). The paper computes D with the policy of
each update. Here it is that of the policy that sampled, which is the same at the first step.

Source: Ding 2026, "When KL Regularization Misfires in Group Policy Optimization", arXiv 2610.12161, section 4.
"""

import torch
from torch import Tensor

from rlkl.algorithms.groups import in_groups


def advantages(returns: Tensor, group_size: int) -> Tensor:
    """Each return's distance above the mean of its group, divided by the largest such distance: from -1 to 1.

    Args:
        returns: (B,) of the task only; episodes of one prompt are adjacent.
        group_size: episodes of a prompt, at least 2.

    Returns:
        (B,), 0 in a group with equal returns.

    Raises:
        InputError: for groups of one, or episodes that do not divide into groups.
    """
    groups = in_groups(returns, group_size)
    alike = groups.amax(1, keepdim=True) == groups.amin(1, keepdim=True)  # then do not divide the rounding error
    above = (groups - groups.mean(1, keepdim=True)).masked_fill(alike, 0.0)
    largest = above.abs().amax(1, keepdim=True)
    return (above / torch.where(alike, 1.0, largest)).flatten(0, 1)


def relative_drift(divergences: Tensor, mask: Tensor, group_size: int) -> Tensor:
    """Each episode's mean KL per token, minus the mean over the episodes of its prompt.

    Args:
        divergences: (B, T) KL of each token; masked values may be anything.
        mask: (B, T) bool
        group_size: episodes of a prompt, at least 2; they are adjacent.

    Returns:
        (B,); it sums to 0 in each group.

    Raises:
        InputError: for groups of one, or episodes that do not divide into groups.
    """
    per_token = divergences.masked_fill(~mask, 0.0).sum(1) / mask.sum(1).clamp_min(1)  # (B,)
    groups = in_groups(per_token, group_size)
    return (groups - groups.mean(1, keepdim=True)).flatten(0, 1)
