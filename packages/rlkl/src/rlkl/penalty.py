"""The KL penalty: estimator, certainty and weighting put together by name."""

import math
from dataclasses import dataclass

from torch import Tensor

from rlkl import kl
from rlkl.certainty import CERTAINTIES
from rlkl.errors import InputError
from rlkl.sequences import token_log_probs
from rlkl.weighting import WEIGHTINGS, masked_mean

ESTIMATORS = ("k2", "k3", "exact")  # not k1, whose gradient is zero in expectation


@dataclass
class Penalty:
    """A KL penalty to a reference model.

    Attributes:
        weighting: `none`, `standard`, `prioritized` or `matched_mean` (rlkl.weighting).
        alpha: the coefficient.
        estimator: `k2`, `k3` or `exact` (rlkl.kl).
        certainty: `negentropy`, `min_entropy` or `max_probability` (rlkl.certainty).
        certainty_temperature: of the reference, for its certainty.
        beta: the exponent of the certainty.
    """

    weighting: str = "prioritized"
    alpha: float = 5.0
    estimator: str = "k2"
    certainty: str = "negentropy"
    certainty_temperature: float = 1.0
    beta: float = 150.0

    def check(self) -> None:
        """Raise InputError for values that no penalty can have."""
        for name, known in (("weighting", WEIGHTINGS), ("estimator", ESTIMATORS), ("certainty", CERTAINTIES)):
            if getattr(self, name) not in known:
                raise InputError(f"penalty.{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}.")
        if not (0 <= self.alpha < math.inf and 0 <= self.beta < math.inf):
            raise InputError(f"penalty.alpha and penalty.beta must not be negative, but are {self.alpha} and {self.beta}.")
        if not 0 < self.certainty_temperature < math.inf:
            raise InputError(f"penalty.certainty_temperature must be positive, not {self.certainty_temperature}.")

    def weights(self, reference_logits: Tensor, mask: Tensor) -> Tensor:
        """How much each token's KL counts.

        Args:
            reference_logits: (B, T, V) of the reference, at temperature 1.
            mask: (B, T) bool, the tokens that count.

        Returns:
            (B, T)
        """
        certainty = CERTAINTIES[self.certainty](reference_logits, self.certainty_temperature)
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

    def loss(self, logits: Tensor, reference_logits: Tensor, targets: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
        """alpha times the mean weighted KL of the tokens that count. Args: as above. Returns: a scalar."""
        return self.alpha * masked_mean(weights * self.divergence(logits, reference_logits, targets), mask)
