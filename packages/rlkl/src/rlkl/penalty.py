"""The KL penalty: estimator, certainty, weighting and coefficient put together by name."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rlkl import kl
from rlkl.certainty import CERTAINTIES
from rlkl.errors import InputError
from rlkl.sequences import token_log_probs
from rlkl.weighting import WEIGHTINGS, covariances, masked_mean, prioritized, shuffled, top_share, top_share_of_rows

NAMES = (*WEIGHTINGS, "shuffled", "certain_tokens", "kl_cov")
ESTIMATORS = ("k2", "k3", "exact")  # in the loss: not k1, whose gradient is zero in expectation
GAIN = 0.25  # of the adaptive coefficient
PLACEMENTS = {"loss": ESTIMATORS, "reward": ("k1", *ESTIMATORS)}


@dataclass
class Penalty:
    """A KL penalty to a reference model.

    Attributes:
        weighting: how much each token's KL counts: `none`, `standard`, `prioritized`; its controls `matched_mean` and
            `shuffled`; `certain_tokens`, none on the `share` of each completion's tokens of which the reference is least
            certain and all of it on the others (after Archer, Wang et al. 2025, arXiv 2507.15778, which takes the policy's own
            entropy); `kl_cov`, only on the `share` of all tokens with the highest covariance of log-probability and advantage
            (the tokens of KL-Cov, Cui et al. 2025, which penalizes the distance from the policy that acted).
        alpha: the coefficient; with `target_kl`, where it starts.
        estimator: `k2`, `k3` or `exact` (rlkl.kl); in rewards also `k1`.
        placement: `loss`, a term of it; or `reward`, taken from the reward of each token, without a gradient of its own.
        target_kl: the KL in nats per token that the coefficient is adapted to after each step; null to leave it.
        certainty: `negentropy`, `min_entropy` or `max_probability` (rlkl.certainty).
        certainty_temperature: of the reference, for its certainty.
        beta: the exponent of the certainty.
        share: of the tokens, see `weighting`.
    """

    weighting: str = "prioritized"
    alpha: float = 5.0
    estimator: str = "k2"
    placement: str = "loss"
    target_kl: float | None = None
    certainty: str = "negentropy"
    certainty_temperature: float = 1.0
    beta: float = 150.0
    share: float = 0.2

    def check(self) -> None:
        """Raise InputError for values that no penalty can have."""
        for name, known in (("weighting", NAMES), ("placement", PLACEMENTS), ("certainty", CERTAINTIES)):
            if getattr(self, name) not in known:
                raise InputError(f"penalty.{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}.")
        if self.estimator not in PLACEMENTS[self.placement]:
            known = PLACEMENTS[self.placement]
            raise InputError(
                f"penalty.estimator must be one of {', '.join(known)} where penalty.placement is {self.placement}, "
                f"not {self.estimator!r}."
            )
        if self.weighting == "kl_cov" and self.placement == "reward":
            raise InputError(
                "penalty.weighting=kl_cov needs advantages, which a KL in the reward comes before; use placement=loss."
            )
        if not (0 <= self.alpha < math.inf and 0 <= self.beta < math.inf):
            raise InputError(f"penalty.alpha and penalty.beta must not be negative, but are {self.alpha} and {self.beta}.")
        if self.target_kl is not None and not (0 < self.target_kl < math.inf and self.alpha > 0):
            raise InputError("penalty.target_kl and the penalty.alpha that it adapts must be positive.")
        if not 0 < self.certainty_temperature < math.inf:
            raise InputError(f"penalty.certainty_temperature must be positive, not {self.certainty_temperature}.")
        if not 0 <= self.share <= 1:
            raise InputError(f"penalty.share must be from 0 to 1, not {self.share}.")

    def weights(
        self,
        reference_logits: Tensor,
        mask: Tensor,
        *,
        log_probs: Tensor | None = None,
        advantages: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """How much each token's KL counts.

        Args:
            reference_logits: (B, T, V) of the reference, at temperature 1.
            mask: (B, T) bool, the tokens that count.
            log_probs, advantages: (B, T) of the sampled tokens, for `kl_cov`.
            generator: for `shuffled`.

        Returns:
            (B, T)
        """
        certainty = CERTAINTIES[self.certainty](reference_logits, self.certainty_temperature)
        if self.weighting == "shuffled":
            return shuffled(prioritized(certainty, mask, self.beta), mask, generator)
        if self.weighting == "certain_tokens":
            return (~top_share_of_rows(-certainty, mask, self.share)).to(certainty.dtype)
        if self.weighting == "kl_cov":
            if log_probs is None or advantages is None:
                raise ValueError("kl_cov needs log_probs and advantages.")
            return top_share(covariances(log_probs, advantages, mask), mask, self.share).to(certainty.dtype)
        return WEIGHTINGS[self.weighting](certainty, mask, self.beta)

    def divergence(self, logits: Tensor, reference_logits: Tensor, targets: Tensor) -> Tensor:
        """The KL of each token, not weighted.

        Args:
            logits, reference_logits: (B, T, V) of policy and reference, divided by the sampling temperature.
            targets: (B, T) the sampled tokens.

        Returns:
            (B, T)
        """
        if self.estimator == "exact":
            return kl.exact(logits, reference_logits)
        return kl.SAMPLED[self.estimator](token_log_probs(logits, targets), token_log_probs(reference_logits, targets))

    def loss(
        self,
        logits: Tensor,
        reference_logits: Tensor,
        targets: Tensor,
        weights: Tensor,
        mask: Tensor,
        total: Tensor | None = None,
    ) -> Tensor:
        """The mean weighted KL of the tokens that count, without its coefficient.

        Args: as above; total: see `masked_mean`. Returns: a scalar.
        """
        return masked_mean(weights * self.divergence(logits, reference_logits, targets), mask, total)


def adapted(alpha: float, divergence: float, target: float) -> float:
    """A coefficient brought nearer to what gives the target, by at most 5%.

    Args: divergence, target: KL, in nats per token. Returns: the next coefficient.

    Source: Ziegler et al. 2019, arXiv 1909.08593, section 2.2; their gain is 0.1, for many more steps than are made here.
    """
    return alpha * (1 + GAIN * min(max(divergence / target - 1, -0.2), 0.2))
