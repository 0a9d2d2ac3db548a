"""Group relative policy optimisation (Shao et al. 2024, GRPO): no critic; an episode is compared with others of its prompt.

Its policy loss is PPO's.
"""

from torch import Tensor

from rlkl.algorithms.groups import in_groups

SMALLEST_DEVIATION = 1e-4  # a group whose episodes all end alike teaches nothing, and nothing is divided by zero


def advantages(returns: Tensor, group_size: int) -> Tensor:
    """How many standard deviations an episode's return lies above the mean of its group.

    Args:
        returns: (B,) of the task alone, in groups: the episodes of one prompt stand next to each other. What is added to them
            here is divided by the deviation, too, and so loses its coefficient where the task's rewards are all the same.
        group_size: episodes of a prompt, at least 2.

    Returns:
        (B,)

    Raises:
        InputError: for groups of one, or episodes that do not divide into groups.

    Source: Shao et al. 2024, arXiv 2402.03300, section 4.1.2. As most of today's implementations do, the loss averages over all
    tokens of a step rather than first over those of each episode.
    """
    groups = in_groups(returns, group_size)
    alike = groups.amax(1, keepdim=True) == groups.amin(1, keepdim=True)  # no rounding of their mean is to be divided
    above = (groups - groups.mean(1, keepdim=True)).masked_fill(alike, 0.0)
    return (above / (groups.std(1, keepdim=True) + SMALLEST_DEVIATION)).flatten(0, 1)
