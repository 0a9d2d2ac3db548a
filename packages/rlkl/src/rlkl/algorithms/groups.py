"""Groups: the episodes of one prompt, which are compared with each other."""

import math

from torch import Tensor

from rlkl.distributions import at_least_float32
from rlkl_htc_common.errors import InputError


def in_groups(returns: Tensor, group_size: int) -> Tensor:
    """Split episodes into groups, one for each prompt.

    Args:
        returns: (B, ...) of episodes; episodes of one prompt are adjacent.
        group_size: episodes of a prompt, G.

    Returns:
        (B / G, G, ...)

    Raises:
        InputError: for groups of one, or episodes that do not divide into groups.
    """
    if group_size < 2:
        raise InputError(f"episodes are compared with others of their prompt: group_size must be at least 2, not {group_size}.")
    if not len(returns) or len(returns) % group_size:
        raise InputError(f"{len(returns)} episodes do not divide into groups of {group_size}; give a multiple of group_size.")
    return at_least_float32(returns).unflatten(0, (-1, group_size))


def constant_groups(returns: Tensor, group_size: int) -> Tensor:
    """Episodes of groups with equal returns: their advantages are 0, so their rewards teach nothing.

    Args:
        returns: (B,) of episodes; episodes of one prompt are adjacent. NaN for an episode without a score.
        group_size: episodes of a prompt.

    Returns:
        (B,) bool
    """
    groups = returns.view(-1, group_size)
    highest = groups.nan_to_num(nan=-math.inf).amax(1)
    lowest = groups.nan_to_num(nan=math.inf).amin(1)
    return (highest <= lowest).repeat_interleave(group_size)
