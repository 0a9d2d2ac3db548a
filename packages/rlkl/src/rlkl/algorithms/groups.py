"""Groups: the episodes of one prompt, which are compared with each other."""

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
