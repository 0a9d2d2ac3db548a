"""The algorithms by name: advantages and policy loss of each."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from rlkl.algorithms import a2c, cispo, grpo, gspo, ppo, rloo, zcpo


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
        clip_range_high: float | Tensor | None = None,
    ) -> Tensor:
        """Returns: a scalar."""
        ...


class Algorithm(NamedTuple):
    """An algorithm.

    Attributes:
        group_advantages: (returns (B,), group size) -> (B,); None if a critic gives the advantages (`a2c.gae`).
        policy_loss: the loss of the policy.
        units: mask (B, T) -> the number of units that the policy loss is averaged over.
        log_ratio: (log-probabilities, those when sampled, mask), (B, T) each -> the log-ratios that are clipped, (B, T), or
            (B, 1) of whole episodes.
    """

    group_advantages: Callable[[Tensor, int], Tensor] | None
    policy_loss: PolicyLoss
    units: Callable[[Tensor], Tensor]
    log_ratio: Callable[[Tensor, Tensor, Tensor], Tensor] = ppo.log_ratio


def tokens(mask: Tensor) -> Tensor:
    """The number of tokens. Args: mask (B, T). Returns: a scalar."""
    return mask.sum()


def episodes(mask: Tensor) -> Tensor:
    """The number of episodes with a token. Args: mask (B, T). Returns: a scalar."""
    return mask.any(1).sum()


def _policy_gradient(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_range: float | Tensor,
    total: Tensor,
    clip_range_high: float | Tensor | None = None,
) -> Tensor:
    return a2c.policy_loss(log_probs, advantages, mask, total)


ALGORITHMS = {
    "a2c": Algorithm(None, _policy_gradient, tokens),
    "ppo": Algorithm(None, ppo.policy_loss, tokens),
    "grpo": Algorithm(grpo.advantages, ppo.policy_loss, tokens),
    "rloo": Algorithm(rloo.advantages, _policy_gradient, tokens),
    "gspo": Algorithm(grpo.advantages, gspo.policy_loss, episodes, gspo.log_ratio),
    "cispo": Algorithm(grpo.advantages, cispo.policy_loss, tokens),
    "zcpo": Algorithm(zcpo.advantages, ppo.policy_loss, tokens),
}
