"""The algorithms by name: advantages and policy loss of each."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from rlkl.algorithms import a2c, grpo, ppo, rloo


class PolicyLoss(Protocol):
    """A policy loss; arguments as in `ppo.policy_loss`."""

    def __call__(
        self,
        log_probs: Tensor,
        old_log_probs: Tensor,
        advantages: Tensor,
        mask: Tensor,
        clip_range: float | Tensor,
        total: Tensor,
    ) -> Tensor:
        """Returns: a scalar."""
        ...


class Algorithm(NamedTuple):
    """An algorithm.

    Attributes:
        group_advantages: (returns (B,), group size) -> (B,); None if a critic gives the advantages (`a2c.gae`).
        policy_loss: the loss of the policy.
    """

    group_advantages: Callable[[Tensor, int], Tensor] | None
    policy_loss: PolicyLoss


def _policy_gradient(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_range: float | Tensor,
    total: Tensor,
) -> Tensor:
    return a2c.policy_loss(log_probs, advantages, mask, total)


ALGORITHMS = {
    "a2c": Algorithm(None, _policy_gradient),
    "ppo": Algorithm(None, ppo.policy_loss),
    "grpo": Algorithm(grpo.advantages, ppo.policy_loss),
    "rloo": Algorithm(rloo.advantages, _policy_gradient),
}
