"""REINFORCE leave-one-out (Kool et al. 2019; Ahmadian et al. 2024, RLOO): no critic, and nothing divided.

Its policy loss is A2C's.
"""

from torch import Tensor


def advantages(returns: Tensor, group_size: int) -> Tensor:
    """How far an episode's return lies above the mean of the others of its prompt.

    Args:
        returns: (B,) in groups: the episodes of one prompt stand next to each other.
        group_size: episodes of a prompt, at least 2.

    Returns:
        (B,)

    Source: Ahmadian et al. 2024, arXiv 2402.14740, section 2.
    """
    groups = returns.view(-1, group_size)
    others = (groups.sum(1, keepdim=True) - groups) / (group_size - 1)
    return (groups - others).flatten()
