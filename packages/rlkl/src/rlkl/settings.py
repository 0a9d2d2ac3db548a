"""What a penalty, an algorithm and an evaluation can be told, and which of it each choice reads. Without torch.

Numbers without a default here have their values in conf/rlkl.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from rlkl_htc_common.errors import InputError

NOT_GIVEN = math.nan  # of a number that what reads it must be given: it has no value that would do for all

_STRENGTH = ("alpha", "estimator", "placement", "target_kl", "anchor", "correction")
_CERTAINTY = ("certainty", "certainty_temperature")
_PRIORITIZED = (*_STRENGTH, *_CERTAINTY, "beta")
WEIGHTINGS: Mapping[str, tuple[str, ...]] = {  # what each reads
    "none": (),
    "standard": _STRENGTH,
    "prioritized": _PRIORITIZED,
    "matched_mean": _PRIORITIZED,
    "shuffled": _PRIORITIZED,
    "certain_tokens": (*_STRENGTH, *_CERTAINTY, "share", "certainty_of", "mean_over"),
    "kl_cov": (*_STRENGTH, "share", "share_count", "mean_over"),
}
CERTAINTIES = ("negentropy", "min_entropy", "max_probability")
ESTIMATORS = ("k2", "k3", "exact")  # in the loss: not k1, whose gradient is zero in expectation
PLACEMENTS = {"loss": ESTIMATORS, "reward": ("k1", *ESTIMATORS)}
CHOICES = {
    "weighting": tuple(WEIGHTINGS),
    "placement": tuple(PLACEMENTS),
    "certainty": CERTAINTIES,
    "certainty_of": ("reference", "policy"),
    "share_count": ("rounded", "at_least_one"),
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

_STEPS = (
    *("episodes", "group_size", "iterations", "passes", "minibatch_size", "micro_batch_size", "learning_rate"),
    *("max_grad_norm", "temperature", "policy_share", "entropy_coefficient", "precision"),
)
_CRITIC = ("gamma", "gae_lambda", "value_coefficient")
_CLIPPED = ("clip_range", "clip_range_uncertain")
ALGORITHMS: Mapping[str, tuple[str, ...]] = {  # what each reads
    "a2c": (*_STEPS, *_CRITIC),
    "ppo": (*_STEPS, *_CRITIC, *_CLIPPED),
    "grpo": (*_STEPS, *_CLIPPED),
    "rloo": _STEPS,
}
OPERANDS = ("identical", "varying")  # kinds of operands by their digits: all have so many, or one has and the other at most
KINDS = (*OPERANDS, "training_mix")  # what accuracy is measured on, see `rlkl.model.completion.sample`

Settings = TypeVar("Settings")


@dataclass
class PenaltySettings:
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
    2505.22617.
    """

    weighting: str
    alpha: float = NOT_GIVEN
    estimator: str = "k2"
    placement: str = "loss"
    target_kl: float | None = None
    certainty: str = "negentropy"
    certainty_temperature: float = 1.0
    beta: float = NOT_GIVEN
    share: float = NOT_GIVEN
    certainty_of: str = "reference"
    share_count: str = "rounded"
    mean_over: str = "all"
    anchor: str = "reference"
    correction: str = "none"

    def __post_init__(self) -> None:
        if self.weighting == "none":
            self.alpha = 0.0
        for name in ("beta", "share"):
            if name in WEIGHTINGS.get(self.weighting, ()) and math.isnan(getattr(self, name)):
                raise InputError(f"penalty.{name} must be given, for weighting={self.weighting}.")

    def check(self) -> None:
        """Raise InputError for values that no penalty can have."""
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"penalty.{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}.")
        if self.weighting == "none":
            return
        if self.estimator not in PLACEMENTS[self.placement]:
            known = PLACEMENTS[self.placement]
            raise InputError(
                f"penalty.estimator must be one of {', '.join(known)} where penalty.placement is {self.placement}, "
                f"not {self.estimator!r}."
            )
        for name in ("alpha", "beta"):
            if name in WEIGHTINGS[self.weighting] and not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"penalty.{name} must be a number of at least 0, not {getattr(self, name)}.")
        if self.target_kl is not None and not (0 < self.target_kl < math.inf and self.alpha > 0):
            raise InputError("penalty.target_kl and the penalty.alpha that it adapts must be positive.")
        if not 0 < self.certainty_temperature < math.inf:
            raise InputError(f"penalty.certainty_temperature must be positive, not {self.certainty_temperature}.")
        if "share" in WEIGHTINGS[self.weighting] and not 0 <= self.share <= 1:
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

    def canonical(self: "Penalized") -> "Penalized":
        """The plainest settings with the same effect: a run is made with these, and known by them."""
        if self.weighting == "none" or (self.alpha == 0 and self.target_kl is None) or self._weights_are_0():
            return type(self)("none")
        if self._weights_are_1():
            same = replace(self, weighting="standard", mean_over="all", certainty_of="reference")
            return replace(same, **_as_they_come(same, "certainty", "certainty_temperature", "beta", "share"))
        if self.certainty_of == "policy":
            return replace(self, **_as_they_come(self, *_CERTAINTY))
        return self

    def _weights_are_0(self) -> bool:
        return (self.weighting, self.share, self.share_count) in (("certain_tokens", 1, "rounded"), ("kl_cov", 0, "rounded"))

    def _weights_are_1(self) -> bool:
        return self.beta == 0 if "beta" in WEIGHTINGS[self.weighting] else (self.weighting, self.share) == ("certain_tokens", 0)

    def effective(self) -> dict[str, Any]:
        """The settings that are read, by name."""
        return {name: getattr(self, name) for name in ("weighting", *WEIGHTINGS[self.weighting])}


Penalized = TypeVar("Penalized", bound=PenaltySettings)


@dataclass(kw_only=True)
class AlgorithmSettings:
    """An algorithm, and how its steps are made.

    Attributes:
        name: `a2c`, `ppo`, `grpo` or `rloo` (rlkl.algorithms).
        episodes: in an iteration.
        group_size: episodes of one prompt, which `grpo` and `rloo` compare with each other.
        iterations: how often episodes are collected; raised, it lets a run that has ended go on.
        passes: over the episodes of an iteration.
        minibatch_size: episodes in a step.
        micro_batch_size: episodes that go through the model at a time, where memory holds no more: their gradients are added up
            to that of the step. Null for all of them.
        learning_rate: constant.
        max_grad_norm: gradients are scaled down to this norm.
        temperature: of the policy, in rollouts and in every term of the loss.
        gamma, gae_lambda: of the advantages of a2c and ppo.
        clip_range: of ppo and grpo.
        clip_range_uncertain: theirs on the tokens that `penalty.weighting=certain_tokens` leaves without KL, as Archer has it
            (0.5 beside 0.2; Wang et al. 2025, arXiv 2507.15778); null for `clip_range` on all, as in PPO and GRPO.
        policy_share: the share of tokens that the policy learns from: those of which it is least sure (the policy gradient on
            "forking tokens", Wang et al. 2025, arXiv 2506.01939, takes 0.2). 1 for all.
        value_coefficient, entropy_coefficient: weights of the terms of the loss.
        precision: `fp32`, or `bf16` for rollouts and mixed precision in training.
    """

    name: str
    episodes: int
    group_size: int
    iterations: int
    passes: int
    minibatch_size: int
    micro_batch_size: int | None = None
    learning_rate: float
    max_grad_norm: float
    temperature: float
    gamma: float = 1.0
    gae_lambda: float = 1.0
    clip_range: float = NOT_GIVEN
    clip_range_uncertain: float | None = None
    policy_share: float
    value_coefficient: float = NOT_GIVEN
    entropy_coefficient: float
    precision: str = "fp32"

    @property
    def has_critic(self) -> bool:
        """Whether a critic is trained."""
        return "value_coefficient" in ALGORITHMS[self.name]

    @property
    def clips(self) -> bool:
        """Whether its policy loss has a clip range."""
        return "clip_range" in ALGORITHMS[self.name]

    def check(self) -> None:
        """Raise InputError for values that no training can have."""
        for name, known in (("name", tuple(ALGORITHMS)), ("precision", ("fp32", "bf16"))):
            if getattr(self, name) not in known:
                raise InputError(f"algorithm.{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}.")
        for name in (
            *("episodes", "group_size", "iterations", "passes", "minibatch_size", "learning_rate", "max_grad_norm"),
            *("temperature", "policy_share", *(["clip_range"] if self.clips else [])),
        ):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"algorithm.{name} must be positive, not {getattr(self, name)}.")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise InputError(f"algorithm.micro_batch_size must be positive or null, not {self.micro_batch_size}.")
        if self.clip_range_uncertain is not None:
            if not 0 < self.clip_range_uncertain < math.inf:
                raise InputError(f"algorithm.clip_range_uncertain must be positive or null, not {self.clip_range_uncertain}.")
            if not self.clips:
                raise InputError(f"algorithm.clip_range_uncertain is for ppo and grpo; {self.name} clips nothing.")
        if self.episodes < 2:
            raise InputError("algorithm.episodes must be at least 2: advantages are measured in deviations of the reward.")
        if self.episodes % self.group_size or (self.group_size < 2 and not self.has_critic):
            raise InputError(
                f"algorithm.episodes must be a multiple of algorithm.group_size, and {self.name} needs groups of at least "
                f"{1 if self.has_critic else 2}; they are {self.episodes} and {self.group_size}."
            )
        for name in ("gamma", "gae_lambda", "policy_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"algorithm.{name} must be from 0 to 1, not {getattr(self, name)}.")
        for name in ("entropy_coefficient", *(["value_coefficient"] if self.has_critic else [])):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"algorithm.{name} must be a number of at least 0, not {getattr(self, name)}.")

    def check_with(self, penalty: PenaltySettings) -> None:
        """Raise InputError for what the penalty does not go with."""
        if self.clip_range_uncertain is not None and penalty.weighting != "certain_tokens":
            raise InputError(
                "algorithm.clip_range_uncertain is for the tokens that penalty.weighting=certain_tokens leaves without KL; "
                f"penalty.weighting is {penalty.weighting}."
            )

    def effective(self) -> dict[str, Any]:
        """The settings that are read and have an effect, by name: how much goes through the model at a time has none."""
        found = {name: getattr(self, name) for name in ("name", *ALGORITHMS[self.name]) if name != "micro_batch_size"}
        if found.get("clip_range_uncertain") == self.clip_range:
            found["clip_range_uncertain"] = None
        return found


@dataclass
class AccuracySettings:
    """How accuracy is measured while a model is fine-tuned.

    Attributes:
        operands: `varying` (one has so many digits, the other at most), `identical` (both have) or `training_mix`, those of
            training: both of up to N digits; one of N + `extra_digits`, and half of the others longer than N, too.
        temperature: 0 takes the most likely character each time. The RL figures of the paper sample at 2, on `training_mix`.
    """

    operands: str = "varying"
    temperature: float = 0.0

    def check(self) -> None:
        """Raise InputError for values that no evaluation can have."""
        if self.operands not in KINDS:
            raise InputError(f"evaluation.operands must be one of {', '.join(KINDS)}, not {self.operands!r}.")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"evaluation.temperature must be a number of at least 0, not {self.temperature}.")


def _as_they_come(of: Any, *names: str) -> dict[str, Any]:
    """The defaults of some settings."""
    return {each.name: each.default for each in fields(of) if each.name in names}
