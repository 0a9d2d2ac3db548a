"""Group relative policy optimisation (Shao et al. 2024, GRPO): no critic; episodes of one prompt are compared.

Its policy loss is PPO's.
"""

from torch import Tensor

from rlkl.algorithms.groups import in_groups

SMALLEST_DEVIATION = 1e-4  # avoids division by zero in a group with equal returns, whose advantages are 0


def advantages(returns: Tensor, group_size: int) -> Tensor:
    """Each return's distance above the mean of its group, in standard deviations.

    Args:
        returns: (B,) of the task only; episodes of one prompt are adjacent. Do not add a KL to them: it would be divided by the
            deviation too, and would lose its coefficient in groups with equal rewards.
        group_size: episodes of a prompt, at least 2.

    Returns:
        (B,)

    Raises:
        InputError: for groups of one, or episodes that do not divide into groups.

    Source: Shao et al. 2024, arXiv 2402.03300, section 4.1.2. As in most implementations today, the loss averages over all
    tokens of a step, not first over the tokens of each episode.
    """
    groups = in_groups(returns, group_size)
    alike = groups.amax(1, keepdim=True) == groups.amin(1, keepdim=True)  # then do not divide the rounding error
    above = (groups - groups.mean(1, keepdim=True)).masked_fill(alike, 0.0)
    return (above / (groups.std(1, keepdim=True) + SMALLEST_DEVIATION)).flatten(0, 1)
