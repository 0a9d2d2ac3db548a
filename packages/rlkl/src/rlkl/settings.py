"""Settings of penalty, algorithm and evaluation, and the settings that each choice reads. Does not import torch.

Numbers without a default here have their values in conf/rlkl.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from rlkl_htc_common.errors import InputError

NOT_GIVEN = math.nan  # marks a number without a general default: choices that read it must be given one

_STRENGTH = ("alpha", "estimator", "placement", "target_kl", "anchor", "correction", "off_clipped", "off_constant_groups")
_CERTAINTY = ("certainty", "certainty_temperature")
_PRIORITIZED = (*_STRENGTH, *_CERTAINTY, "beta")
WEIGHTINGS: Mapping[str, tuple[str, ...]] = {  # what each reads
    "none": (),
    "standard": _STRENGTH,
    "prioritized": _PRIORITIZED,
    "matched_mean": _PRIORITIZED,
    "shuffled": _PRIORITIZED,
    "certain_tokens": (*_STRENGTH, *_CERTAINTY, "share", "certainty_of", "entropy_window", "mean_over"),
    "kl_cov": (*_STRENGTH, "share", "share_count", "mean_over"),
}
CERTAINTIES = ("negentropy", "min_entropy", "max_probability")
ESTIMATORS = ("k2", "k3", "exact")  # in the loss: not k1, whose gradient is zero in expectation
PLACEMENTS = {"loss": ESTIMATORS, "reward": ("k1", *ESTIMATORS), "future": ("k1",), "zero_sum": ("exact", "k1")}
CHOICES = {
    "weighting": tuple(WEIGHTINGS),
    "placement": tuple(PLACEMENTS),
    "certainty": CERTAINTIES,
    "certainty_of": ("reference", "policy", "current"),
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
    *(
        row
        for placement in ("future", "zero_sum")
        for row in (
            ("mean_over", "penalized", "placement", placement, "advantages are not averaged"),
            ("anchor", "acting", "placement", placement, "that KL is 0 when advantages are made"),
            ("correction", "importance", "placement", placement, "that ratio is 1 when advantages are made"),
        )
    ),
    *(
        row
        for placement in ("reward", "future", "zero_sum")
        for row in (
            ("certainty_of", "current", "placement", placement, "there, weights are made before the steps"),
            ("off_clipped", True, "placement", placement, "there, the KL is a part of what is clipped"),
        )
    ),
    ("off_clipped", True, "mean_over", "penalized", "which tokens are clipped differs from step to step"),
    ("anchor", "acting", "estimator", "exact", "of the policy that acted, the sampled tokens alone are kept"),
    ("correction", "importance", "estimator", "exact", "it does not depend on which token was sampled"),
)

_STEPS = (
    *("episodes", "group_size", "iterations", "passes", "minibatch_size", "micro_batch_size", "learning_rate"),
    *("max_grad_norm", "temperature", "policy_share", "entropy_coefficient", "precision"),
)
_CRITIC = ("gamma", "gae_lambda", "value_coefficient")
_CLIPPED = ("clip_range", "clip_range_high")
_GROUPS = ("constant_groups", "resamples")
ALGORITHMS: Mapping[str, tuple[str, ...]] = {  # what each reads
    "a2c": (*_STEPS, *_CRITIC),
    "ppo": (*_STEPS, *_CRITIC, *_CLIPPED, "clip_range_uncertain"),
    "grpo": (*_STEPS, *_CLIPPED, "clip_range_uncertain", *_GROUPS),
    "rloo": (*_STEPS, *_GROUPS),
    "gspo": (*_STEPS, *_CLIPPED, *_GROUPS),
    "cispo": (*_STEPS, *_CLIPPED, *_GROUPS),
    "zcpo": (*_STEPS, *_CLIPPED, "clip_range_uncertain", *_GROUPS),
}
CONSTANT_GROUPS = ("kept", "left_out", "resampled")
LATER = {  # settings that came later, and their values without effect: left out of hashes, so that earlier runs are found again
    **{"off_clipped": False, "off_constant_groups": False, "entropy_window": 1},
    **{"clip_range_high": None, "constant_groups": "kept", "resamples": None},
}
OPERANDS = ("identical", "varying")  # all operands have this many digits; or one has, and the other at most
KINDS = (*OPERANDS, "training_mix")  # kinds of problems for accuracy, see `rlkl.model.completion.sample`

Settings = TypeVar("Settings")


@dataclass
class PenaltySettings:
    """A KL penalty to a reference model.

    Attributes:
        weighting: the weights of the tokens' KL: `none`, `standard`, `prioritized`; its controls `matched_mean` and
            `shuffled`; `certain_tokens`, no KL on the `share` of each completion's tokens that are least certain, and full KL
            on the others (after Archer); `kl_cov`, KL only on the `share` of all tokens with the highest covariance of
            log-probability and advantage (after KL-Cov).
        alpha: the coefficient; with `target_kl`, its start value.
        estimator: `k2`, `k3` or `exact` (rlkl.kl); in rewards also `k1`.
        placement: `loss`: a term of the loss; or `reward`: subtracted from the reward of each token, without a gradient
            (`rlkl.finetuning.experience.kl_ahead`). In both, alpha is in deviations of the task's reward per nat. `future`:
            after the advantages are made, the weighted log-ratios from each token to the end of its episode are subtracted
            (FRPO). `zero_sum`: the episode's mean weighted KL per token minus that of its group is subtracted (ZCPO, with
            `algorithm=zcpo`: `rlkl.algorithms.zcpo`); its `exact` KL, or `k1` as in the paper's ablation.
        target_kl: after each step, the coefficient is adapted towards this KL in nats per token; null for a constant one.
        certainty: `negentropy`, `min_entropy` or `max_probability` (rlkl.certainty).
        certainty_temperature: of the reference, for its certainty.
        beta: the exponent of the certainty.
        share: the share of tokens, see `weighting`.
        certainty_of: whose certainty `certain_tokens` uses: the `reference`'s, as in the paper's weights, or that of the
            `policy` that sampled, by its entropy; or that of the `current` policy, anew at each step, as in Archer's code
            (Archer cuts at a quantile; here tokens are counted).
        entropy_window: of `certain_tokens` by a policy's entropy: the number of tokens, from each on, whose mean entropy
            counts; 1 for its own, as in Archer; 4 in ARES.
        share_count: of `kl_cov`: `rounded` to a number of tokens, maybe 0; or `at_least_one`, rounded down, as in KL-Cov.
        mean_over: `all` tokens that count, including those of weight 0, as in the paper; or only the `penalized` ones, whose
            weight is not 0, as in Archer.
        anchor: the second model of the KL: the `reference`, as in the paper, Archer and TRL; or the `acting` policy, which
            sampled the tokens, as in KL-Cov (whose code takes the absolute log-ratio, and covariances within each step).
        off_clipped: no KL on tokens whose policy gradient is clipped to 0 at the step (ZCPO's first mask).
        off_constant_groups: no KL in groups with equal rewards, which teach nothing else (ZCPO's second mask).
        correction: `none`, as in the paper; or `importance`: times the ratio of the token's probability under the policy and
            under the policy that sampled it, with its gradient, as in TRL by default (the unbiased KL of DeepSeek-V3.2, arXiv
            2512.02556).

    Archer is Wang et al. 2025, arXiv 2507.15778 (see also `algorithm.clip_range_uncertain`); KL-Cov is Cui et al. 2025, arXiv
    2505.22617; FRPO is Yao et al. 2026, arXiv 2601.10201; ZCPO is Ding 2026, arXiv 2610.12161; ARES is Chen et al. 2025, arXiv
    2510.08457.
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
    off_clipped: bool = False
    off_constant_groups: bool = False
    entropy_window: int = 1

    def __post_init__(self) -> None:
        if self.weighting == "none":
            self.alpha = 0.0
        for name in ("beta", "share"):
            if name in WEIGHTINGS.get(self.weighting, ()) and math.isnan(getattr(self, name)):
                raise InputError(f"penalty.{name} must be given, for weighting={self.weighting}.")

    def check(self) -> None:
        """Raise InputError for invalid values."""
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
        if self.entropy_window < 1:
            raise InputError(f"penalty.entropy_window must be at least 1, not {self.entropy_window}.")
        self._check_together()

    def _check_together(self) -> None:
        """Raise InputError for options that have no meaning together."""
        for name, value, other, its_value, why in MEANINGLESS:
            if getattr(self, name) == value and getattr(self, other) == its_value:
                raise InputError(f"penalty.{name}={value} has no meaning with penalty.{other}={its_value}: {why}. Change one.")
        if self.anchor == "acting" and self.target_kl is not None:
            raise InputError("penalty.target_kl is a KL to the reference: it has no meaning with penalty.anchor=acting.")
        for name, value, weighting in (
            ("certainty_of", "policy", "certain_tokens"),
            ("certainty_of", "current", "certain_tokens"),
            ("share_count", "at_least_one", "kl_cov"),
        ):
            if getattr(self, name) == value and self.weighting != weighting:
                raise InputError(f"penalty.{name}={value} is for penalty.weighting={weighting}, not for {self.weighting}.")
        if self.entropy_window > 1 and self.certainty_of == "reference":
            raise InputError(
                "penalty.entropy_window is of a policy's entropies. Use penalty.weighting=certain_tokens with "
                "penalty.certainty_of=policy or current, or penalty.entropy_window=1."
            )

    def canonical(self: "Penalized") -> "Penalized":
        """The simplest settings with the same effect: they are used for the run and for its hash."""
        if self.weighting == "none" or (self.alpha == 0 and self.target_kl is None) or self._weights_are_0():
            return type(self)("none")
        if self._weights_are_1():
            same = replace(self, weighting="standard", mean_over="all", certainty_of="reference", entropy_window=1)
            return replace(same, **_as_they_come(same, "certainty", "certainty_temperature", "beta", "share"))
        if self.certainty_of != "reference":
            return replace(self, **_as_they_come(self, *_CERTAINTY))
        return self

    def _weights_are_0(self) -> bool:
        return (self.weighting, self.share, self.share_count) in (("certain_tokens", 1, "rounded"), ("kl_cov", 0, "rounded"))

    def _weights_are_1(self) -> bool:
        if self.off_constant_groups and self.mean_over == "penalized":  # the mean is over other groups only
            return False
        return self.beta == 0 if "beta" in WEIGHTINGS[self.weighting] else (self.weighting, self.share) == ("certain_tokens", 0)

    def effective(self) -> dict[str, Any]:
        """The settings that are read and have an effect, by name."""
        return _named(self, ("weighting", *WEIGHTINGS[self.weighting]))


Penalized = TypeVar("Penalized", bound=PenaltySettings)


@dataclass(kw_only=True)
class AlgorithmSettings:
    """An algorithm and its steps.

    Attributes:
        name: `a2c`, `ppo`, `grpo`, `rloo`, `gspo`, `cispo` or `zcpo` (rlkl.algorithms).
        episodes: per iteration.
        group_size: episodes per prompt, which all but `a2c` and `ppo` compare.
        iterations: the number of times that episodes are sampled; if it is raised, a finished run continues.
        passes: over the episodes of an iteration.
        minibatch_size: episodes per step.
        micro_batch_size: episodes per forward pass, to save memory; gradients are accumulated over the step. Null for all.
        learning_rate: constant.
        max_grad_norm: gradients are clipped to this norm.
        temperature: of the policy, in rollouts and in every term of the loss.
        gamma, gae_lambda: of the advantages of a2c and ppo.
        clip_range: of all but a2c and rloo.
        clip_range_high: the upper clip range; null for `clip_range`. 0.28 in DAPO (Yu et al. 2025, arXiv 2503.14476).
        constant_groups: groups whose episodes have the same reward: `kept`; `left_out` of the iteration, which then has fewer
            steps; or `resampled`, as in DAPO: further prompts are sampled until the iteration is full. An iteration without
            any other group makes no step.
        resamples: of `resampled`: how many more times an iteration's episodes are sampled, at most. If that is not enough, the
            iteration has fewer steps (DAPO's code stops the run).
        clip_range_uncertain: the clip range on tokens that `penalty.weighting=certain_tokens` leaves without KL, as in Archer
            (0.5, with 0.2 on the others; Wang et al. 2025, arXiv 2507.15778); null for `clip_range` on all, as in PPO and GRPO.
        policy_share: the share of tokens with a policy gradient: those with the highest entropy ("forking tokens", Wang et al.
            2025, arXiv 2506.01939, with 0.2). 1 for all.
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
    clip_range_high: float | None = None
    clip_range_uncertain: float | None = None
    constant_groups: str = "kept"
    resamples: int | None = None
    policy_share: float
    value_coefficient: float = NOT_GIVEN
    entropy_coefficient: float
    precision: str = "fp32"

    @property
    def has_critic(self) -> bool:
        """Whether the algorithm trains a critic."""
        return "value_coefficient" in ALGORITHMS[self.name]

    @property
    def clips(self) -> bool:
        """Whether the policy loss has a clip range."""
        return "clip_range" in ALGORITHMS[self.name]

    def check(self) -> None:
        """Raise InputError for invalid values."""
        choices = (("name", tuple(ALGORITHMS)), ("precision", ("fp32", "bf16")), ("constant_groups", CONSTANT_GROUPS))
        for name, known in choices:
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
        self._check_clipping()
        self._check_groups()
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

    def _check_clipping(self) -> None:
        """Raise InputError for clip ranges that are invalid or would have no effect."""
        for name in ("clip_range_uncertain", "clip_range_high"):
            value = getattr(self, name)
            if value is None:
                continue
            if not 0 < value < math.inf:
                raise InputError(f"algorithm.{name} must be positive or null, not {value}.")
            if not self.clips:
                raise InputError(f"algorithm.{name} is for ppo and grpo; {self.name} clips nothing.")
        if self.clip_range_uncertain is not None and "clip_range_uncertain" not in ALGORITHMS[self.name]:
            why = "has one ratio for a whole episode" if self.name == "gspo" else "bounds the weights of tokens"
            raise InputError(f"algorithm.clip_range_uncertain is for ppo, grpo and zcpo; {self.name} {why}.")
        if self.name == "gspo" and self.policy_share < 1:
            raise InputError(
                "algorithm.policy_share below 1 leaves tokens out, and gspo's ratio is of all tokens of an episode. Use 1."
            )

    def _check_groups(self) -> None:
        """Raise InputError for settings of groups that are invalid or would have no effect."""
        if self.constant_groups == "kept":
            return
        if self.has_critic:
            raise InputError(
                f"algorithm.constant_groups={self.constant_groups} is for algorithms that compare the episodes of a prompt; "
                f"{self.name} learns from each with its critic."
            )
        if self.constant_groups == "resampled" and (self.resamples is None or self.resamples < 1):
            raise InputError(
                "algorithm.constant_groups=resampled needs algorithm.resamples, how many more times to sample: at least 1, "
                f"not {'null' if self.resamples is None else self.resamples}."
            )

    def check_with(self, penalty: PenaltySettings) -> None:
        """Raise InputError if algorithm and penalty do not fit together."""
        if self.clip_range_uncertain is not None and penalty.weighting != "certain_tokens":
            raise InputError(
                "algorithm.clip_range_uncertain is for the tokens that penalty.weighting=certain_tokens leaves without KL; "
                f"penalty.weighting is {penalty.weighting}."
            )
        if penalty.off_clipped and (not self.clips or self.name == "cispo"):
            why = "keeps the gradient of clipped tokens" if self.name == "cispo" else "clips nothing"
            raise InputError(f"penalty.off_clipped leaves out tokens whose gradient is clipped to 0, and {self.name} {why}.")
        for name, value in (("placement", "zero_sum"), ("off_constant_groups", True)):
            if getattr(penalty, name) == value and self.has_critic:
                raise InputError(
                    f"penalty.{name}={value} is for algorithms that compare the episodes of a prompt; {self.name} learns from "
                    "each with its critic. Use algorithm=grpo or another one of these."
                )

    def effective(self) -> dict[str, Any]:
        """The settings that are read and have an effect, by name; `micro_batch_size` has none."""
        found = _named(self, [name for name in ("name", *ALGORITHMS[self.name]) if name != "micro_batch_size"])
        if found.get("clip_range_high") == self.clip_range:
            del found["clip_range_high"]
        if found.get("clip_range_uncertain") == self.clip_range and "clip_range_high" not in found:
            found["clip_range_uncertain"] = None
        if self.constant_groups != "resampled":
            found.pop("resamples", None)
        return found


@dataclass
class AccuracySettings:
    """How accuracy is measured while a model is fine-tuned.

    Attributes:
        operands: `varying` (one has this many digits, the other at most), `identical` (both have) or `training_mix`, as in
            training: for N, both have up to N digits; beyond N, one has N + `extra_digits`, the other is longer than N in half
            of the problems.
        temperature: 0 for greedy decoding. The RL figures of the paper sample at 2, on `training_mix`.
    """

    operands: str = "varying"
    temperature: float = 0.0

    def check(self) -> None:
        """Raise InputError for invalid values."""
        if self.operands not in KINDS:
            raise InputError(f"evaluation.operands must be one of {', '.join(KINDS)}, not {self.operands!r}.")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"evaluation.temperature must be a number of at least 0, not {self.temperature}.")


def _named(of: Any, names: Iterable[str]) -> dict[str, Any]:
    """Settings by name, without later ones that have no effect."""
    found = {name: getattr(of, name) for name in names}
    return {name: value for name, value in found.items() if name not in LATER or value != LATER[name]}


def _as_they_come(of: Any, *names: str) -> dict[str, Any]:
    """The defaults of some settings."""
    return {each.name: each.default for each in fields(of) if each.name in names}
