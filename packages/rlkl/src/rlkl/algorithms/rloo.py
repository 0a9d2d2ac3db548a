"""REINFORCE leave-one-out (Kool et al. 2019; Ahmadian et al. 2024, RLOO): no critic, no division by the group's deviation.

Fine-tuning divides the rewards by the deviation of all episodes (see `experience`), for every algorithm.
The policy loss is A2C's.
"""

from torch import Tensor

from rlkl.algorithms.groups import in_groups


def advantages(returns: Tensor, group_size: int) -> Tensor:
    """Each return minus the mean of the other returns of its prompt.

    Args:
        returns: (B, ...); episodes of one prompt are adjacent. (B, T) returns-to-go are compared token by token.
        group_size: episodes of a prompt, at least 2.

    Returns:
        (B, ...)

    Raises:
        InputError: for groups of one, or episodes that do not divide into groups.

    Source: Ahmadian et al. 2024, arXiv 2402.14740, section 2.
    """
    groups = in_groups(returns, group_size)
    others = (groups.sum(1, keepdim=True) - groups) / (group_size - 1)
    return (groups - others).flatten(0, 1)
