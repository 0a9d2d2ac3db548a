"""Group relative policy optimisation (Shao et al. 2024, GRPO): no critic; an episode is compared with others of its prompt.

Its policy loss is PPO's.
"""

from torch import Tensor

SMALLEST_DEVIATION = 1e-4  # a group whose episodes all end alike teaches nothing, and nothing is divided by zero


def advantages(returns: Tensor, group_size: int) -> Tensor:
    """How many standard deviations an episode's return lies above the mean of its group.

    Args:
        returns: (B,) in groups: the episodes of one prompt stand next to each other.
        group_size: episodes of a prompt.

    Returns:
        (B,)

    Source: Shao et al. 2024, arXiv 2402.03300, section 4.1.2. As most of today's implementations do, the loss averages over all
    tokens of a step rather than first over those of each episode.
    """
    groups = returns.view(-1, group_size)
    return ((groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + SMALLEST_DEVIATION)).flatten()
