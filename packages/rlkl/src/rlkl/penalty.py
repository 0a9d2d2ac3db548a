"""The KL penalty: estimator, certainty, weighting and coefficient, chosen by name."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rlkl import kl
from rlkl.certainty import CERTAINTIES
from rlkl.distributions import at_least_float32, token_log_probs
from rlkl.settings import PenaltySettings
from rlkl.weighting import (
    WEIGHTINGS,
    at_least_one,
    covariances,
    prioritized,
    shuffled,
    top_share,
    top_share_of_rows,
    weighted_mean,
    window_means,
)

GAIN = 0.25  # of the adaptive coefficient
COUNTS: dict[str, Callable[[float], int]] = {"rounded": round, "at_least_one": at_least_one}


class Penalty(PenaltySettings):
    """A KL penalty to a reference model: `PenaltySettings` applied to tensors."""

    @property
    def is_absent(self) -> bool:
        """Whether there is no KL penalty, so that the KL need not be computed."""
        return self.weighting == "none" or self.alpha == 0

    def weights(
        self,
        reference_logits: Tensor,
        mask: Tensor,
        *,
        log_probs: Tensor | None = None,
        advantages: Tensor | None = None,
        entropies: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The weight of each token's KL.

        Args:
            reference_logits: (B, T, V) of the reference, at temperature 1.
            mask: (B, T) bool, the tokens that count.
            log_probs, advantages: (B, T) of the sampled tokens, for `kl_cov`.
            entropies: (B, T) of the policy that sampled or of the current one, for `certainty_of` other than `reference`.
            generator: for `shuffled`.

        Returns:
            (B, T)
        """
        certainty = CERTAINTIES[self.certainty](reference_logits, self.certainty_temperature)
        if self.weighting == "shuffled":
            return shuffled(prioritized(certainty, mask, self.beta), mask, generator)
        if self.certainty_of != "reference":
            if entropies is None:
                raise ValueError(f"certainty_of={self.certainty_of} needs entropies.")
            certainty = -window_means(entropies, mask, self.entropy_window)
        if self.weighting == "certain_tokens":
            return (~top_share_of_rows(-certainty, mask, self.share)).to(certainty.dtype)
        if self.weighting == "kl_cov":
            if log_probs is None or advantages is None:
                raise ValueError("kl_cov needs log_probs and advantages.")
            count = COUNTS[self.share_count]
            return top_share(covariances(log_probs, advantages, mask), mask, self.share, count).to(certainty.dtype)
        return WEIGHTINGS[self.weighting](certainty, mask, self.beta)

    def divergence(self, logits: Tensor, reference_logits: Tensor, targets: Tensor) -> Tensor:
        """The KL of each token, without weights.

        Args:
            logits, reference_logits: (B, T, V) of policy and reference, divided by the sampling temperature.
            targets: (B, T) the sampled tokens.

        Returns:
            (B, T)
        """
        if self.estimator == "exact":
            return kl.exact(logits, reference_logits)
        return kl.SAMPLED[self.estimator](token_log_probs(logits, targets), token_log_probs(reference_logits, targets))

    def averaged_over(self, weights: Tensor, mask: Tensor) -> Tensor:
        """The number of tokens in the mean. Args: weights, mask (B, T). Returns: a scalar."""
        return mask.sum() if self.mean_over == "all" else (mask & (weights != 0)).sum()

    def loss(
        self,
        logits: Tensor,
        reference_logits: Tensor,
        targets: Tensor,
        weights: Tensor,
        mask: Tensor,
        total: Tensor | None = None,
        acting_log_probs: Tensor | None = None,
    ) -> Tensor:
        """The mean weighted KL of the tokens that count, without the coefficient. Tokens of weight 0 add nothing.

        Args:
            logits, reference_logits, targets, weights, mask: as above.
            total: the divisor, if these are only a part of a step's tokens; default: `averaged_over`.
            acting_log_probs: (B, T) of the sampled tokens, under the policy that sampled, for `anchor` and `correction`.

        Returns:
            A scalar.
        """
        if self.weighting == "none":
            return at_least_float32(logits[:0]).sum()  # 0, with a gradient of 0
        total = self.averaged_over(weights, mask) if total is None else total
        if self.anchor == "reference" and self.correction == "none":
            divergence = partial(self.divergence, targets=targets)
            return weighted_mean(divergence, logits, reference_logits, weights=weights, mask=mask, total=total)
        if acting_log_probs is None:
            raise ValueError("anchor=acting and correction=importance need acting_log_probs.")

        def of_tokens(policy: Tensor, reference: Tensor, acting: Tensor) -> Tensor:
            log_probs = token_log_probs(policy, targets)
            others = token_log_probs(reference, targets) if self.anchor == "reference" else acting
            ratio = kl.k1(log_probs, acting).exp() if self.correction == "importance" else 1.0
            return ratio * kl.SAMPLED[self.estimator](log_probs, others)

        return weighted_mean(of_tokens, logits, reference_logits, acting_log_probs, weights=weights, mask=mask, total=total)


def adapted(alpha: float, divergence: float, target: float) -> float:
    """The coefficient, adapted towards the target KL by at most 5%.

    Args: divergence, target: KL, in nats per token. Returns: the next coefficient.

    Source: Ziegler et al. 2019, arXiv 1909.08593, section 2.2; their gain is 0.1, for many more steps than here.
    """
    return alpha * (1 + GAIN * min(max(divergence / target - 1, -0.2), 0.2))
