"""The KL penalty: estimator, certainty, weighting and coefficient put together by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rlkl import kl
from rlkl.certainty import CERTAINTIES
from rlkl.distributions import at_least_float32, token_log_probs
from rlkl.weighting import (
    WEIGHTINGS,
    at_least_one,
    covariances,
    prioritized,
    shuffled,
    top_share,
    top_share_of_rows,
    weighted_mean,
)
from rlkl_htc_common.errors import InputError

NAMES = (*WEIGHTINGS, "shuffled", "certain_tokens", "kl_cov")
ESTIMATORS = ("k2", "k3", "exact")  # in the loss: not k1, whose gradient is zero in expectation
GAIN = 0.25  # of the adaptive coefficient
PLACEMENTS = {"loss": ESTIMATORS, "reward": ("k1", *ESTIMATORS)}
COUNTS: dict[str, Callable[[float], int]] = {"rounded": round, "at_least_one": at_least_one}
CHOICES = {
    "weighting": NAMES,
    "placement": tuple(PLACEMENTS),
    "certainty": tuple(CERTAINTIES),
    "certainty_of": ("reference", "policy"),
    "share_count": tuple(COUNTS),
    "mean_over": ("all", "penalized"),
    "anchor": ("reference", "acting"),
    "correction": ("none", "importance"),
}

MEANINGLESS = (  # an option with another, and why
    ("weighting", "kl_cov", "placement", "reward", "it needs advantages, which a KL in the reward comes before"),
    ("mean_over", "penalized", "placement", "reward", "rewards are not averaged"),
    ("anchor", "acting", "placement", "reward", "that KL is 0 when rewards are given"),
    ("correction", "importance", "placement", "reward", "that ratio is 1 when rewards are given"),
    ("anchor", "acting", "estimator", "exact", "of the policy that acted, the sampled tokens alone are kept"),
    ("correction", "importance", "estimator", "exact", "it does not depend on which token was sampled"),
)


@dataclass
class Penalty:
    """A KL penalty to a reference model.

    Attributes:
        weighting: how much each token's KL counts: `none`, `standard`, `prioritized`; its controls `matched_mean` and
            `shuffled`; `certain_tokens`, none on the `share` of each completion's tokens that are least certain and all of it
            on the others (after Archer); `kl_cov`, only on the `share` of all tokens with the highest covariance of
            log-probability and advantage (after KL-Cov).
        alpha: the coefficient; with `target_kl`, where it starts.
        estimator: `k2`, `k3` or `exact` (rlkl.kl); in rewards also `k1`.
        placement: `loss`, a term of it; or `reward`, taken from the reward of each token, without a gradient of its own
            (`rlkl.finetuning.experience.kl_ahead`). In both, alpha is in deviations of the task's reward, for a nat.
        target_kl: the KL in nats per token that the coefficient is adapted to after each step; null to leave it.
        certainty: `negentropy`, `min_entropy` or `max_probability` (rlkl.certainty).
        certainty_temperature: of the reference, for its certainty.
        beta: the exponent of the certainty.
        share: of the tokens, see `weighting`.
        certainty_of: who is certain, for `certain_tokens`: the `reference`, as in the paper's weights, or the `policy` that
            acted, by its entropy, as in Archer (which cuts at a quantile, where tokens are counted here).
        share_count: of `kl_cov`: the share `rounded`, which may be none; or `at_least_one`, and rounded down, as in KL-Cov.
        mean_over: `all` tokens that count, those of weight 0 included, as in the paper; or the `penalized` ones, of another
            weight, as in Archer.
        anchor: what the KL is to: the `reference`, as in the paper, Archer and TRL; or the policy that was `acting` when the
            tokens were sampled, as in KL-Cov (whose code takes the absolute log-ratio, and covariances within each step).
        correction: `none`, as in the paper; or `importance`: times the ratio of the policy's probability of the token to that
            which it was sampled with, with its gradient, as TRL does by default (the unbiased KL of DeepSeek-V3.2, arXiv
            2512.02556).

    Archer is Wang et al. 2025, arXiv 2507.15778 (see also `algorithm.clip_range_uncertain`); KL-Cov is Cui et al. 2025, arXiv
    2505.22617. The defaults are the paper's method.
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
    certainty_of: str = "reference"
    share_count: str = "rounded"
    mean_over: str = "all"
    anchor: str = "reference"
    correction: str = "none"

    def check(self) -> None:
        """Raise InputError for values that no penalty can have."""
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"penalty.{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}.")
        if self.estimator not in PLACEMENTS[self.placement]:
            known = PLACEMENTS[self.placement]
            raise InputError(
                f"penalty.estimator must be one of {', '.join(known)} where penalty.placement is {self.placement}, "
                f"not {self.estimator!r}."
            )
        if not (0 <= self.alpha < math.inf and 0 <= self.beta < math.inf):
            raise InputError(f"penalty.alpha and penalty.beta must not be negative, but are {self.alpha} and {self.beta}.")
        if self.target_kl is not None and not (0 < self.target_kl < math.inf and self.alpha > 0):
            raise InputError("penalty.target_kl and the penalty.alpha that it adapts must be positive.")
        if not 0 < self.certainty_temperature < math.inf:
            raise InputError(f"penalty.certainty_temperature must be positive, not {self.certainty_temperature}.")
        if not 0 <= self.share <= 1:
            raise InputError(f"penalty.share must be from 0 to 1, not {self.share}.")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse options that have no meaning together. Raises InputError."""
        for name, value, other, its_value, why in MEANINGLESS:
            if getattr(self, name) == value and getattr(self, other) == its_value:
                raise InputError(f"penalty.{name}={value} has no meaning with penalty.{other}={its_value}: {why}. Change one.")
        if self.anchor == "acting" and self.target_kl is not None:
            raise InputError("penalty.target_kl is a KL to the reference: it has no meaning with penalty.anchor=acting.")
        for name, value, weighting in (("certainty_of", "policy", "certain_tokens"), ("share_count", "at_least_one", "kl_cov")):
            if getattr(self, name) == value and self.weighting != weighting:
                raise InputError(f"penalty.{name}={value} is for penalty.weighting={weighting}, not for {self.weighting}.")

    @property
    def is_absent(self) -> bool:
        """Whether there is no KL penalty, so that no KL needs to be computed for one."""
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
        """How much each token's KL counts.

        Args:
            reference_logits: (B, T, V) of the reference, at temperature 1.
            mask: (B, T) bool, the tokens that count.
            log_probs, advantages: (B, T) of the sampled tokens, for `kl_cov`.
            entropies: (B, T) of the policy that acted, for `certainty_of=policy`.
            generator: for `shuffled`.

        Returns:
            (B, T)
        """
        certainty = CERTAINTIES[self.certainty](reference_logits, self.certainty_temperature)
        if self.weighting == "shuffled":
            return shuffled(prioritized(certainty, mask, self.beta), mask, generator)
        if self.certainty_of == "policy":
            if entropies is None:
                raise ValueError("certainty_of=policy needs entropies.")
            certainty = -entropies
        if self.weighting == "certain_tokens":
            return (~top_share_of_rows(-certainty, mask, self.share)).to(certainty.dtype)
        if self.weighting == "kl_cov":
            if log_probs is None or advantages is None:
                raise ValueError("kl_cov needs log_probs and advantages.")
            count = COUNTS[self.share_count]
            return top_share(covariances(log_probs, advantages, mask), mask, self.share, count).to(certainty.dtype)
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

    def averaged_over(self, weights: Tensor, mask: Tensor) -> Tensor:
        """How many tokens the mean is over. Args: weights, mask (B, T). Returns: a scalar."""
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
        """The mean weighted KL of the tokens that count, without its coefficient. Tokens of weight 0 add nothing to it.

        Args:
            logits, reference_logits, targets, weights, mask: as above.
            total: what to divide by, where these are only a part of the tokens of a step; `averaged_over` by default.
            acting_log_probs: (B, T) of the sampled tokens, under the policy that acted, for `anchor` and `correction`.

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
    """A coefficient brought nearer to what gives the target, by at most 5%.

    Args: divergence, target: KL, in nats per token. Returns: the next coefficient.

    Source: Ziegler et al. 2019, arXiv 1909.08593, section 2.2; their gain is 0.1, for many more steps than are made here.
    """
    return alpha * (1 + GAIN * min(max(divergence / target - 1, -0.2), 0.2))
