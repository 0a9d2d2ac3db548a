"""The algorithms by name: what each takes as an advantage, and what it makes of it."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from rlkl.algorithms import a2c, grpo, ppo, rloo


class PolicyLoss(Protocol):
    """A loss of the policy; arguments as in `ppo.policy_loss`."""

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
        group_advantages: (returns (B,), group size) -> (B,); None where a critic tells them (`a2c.gae`).
        policy_loss: what is minimised.
        group_size: episodes of one prompt, where nothing else is asked for.
    """

    group_advantages: Callable[[Tensor, int], Tensor] | None
    policy_loss: PolicyLoss
    group_size: int

    @property
    def has_critic(self) -> bool:
        """Whether a critic is trained."""
        return self.group_advantages is None

    @property
    def clips(self) -> bool:
        """Whether its policy loss has a clip range."""
        return self.policy_loss is ppo.policy_loss


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
    "a2c": Algorithm(None, _policy_gradient, 1),
    "ppo": Algorithm(None, ppo.policy_loss, 1),
    "grpo": Algorithm(grpo.advantages, ppo.policy_loss, 5),
    "rloo": Algorithm(rloo.advantages, _policy_gradient, 5),
}
