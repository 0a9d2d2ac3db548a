"""Settings of a weighted KL in TRL's GRPOTrainer."""

import math
from dataclasses import dataclass, field

from trl import GRPOConfig

from rlkl.integrations.trl.versions import fused_lm_head
from rlkl.integrations.trl.weights import CERTAINTIES
from rlkl_htc_common.errors import InputError

BY_EXPONENT = ("prioritized", "matched_mean", "shuffled")
BY_TOKEN_SHARE = ("certain_tokens", "top_entropy")
WEIGHTINGS = (*BY_EXPONENT, "rank", *BY_TOKEN_SHARE, "standard", "none")
ESTIMATORS = ("trl", "k2", "k3", "exact")
CORRECTIONS = ("none", "ratio", "detached")
PLACES = ("loss", "advantages", "future", "zero_sum")
CLIPPED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
TOKEN_LOSSES = (*CLIPPED_LOSSES, "cispo", "sapo")  # on policy, their gradient is that of advantage * log p, per token
SHARE = 0.1


@dataclass
class PrioritizedKLConfig(GRPOConfig):
    """TRL's GRPOConfig with the weights of the KL. `beta` is TRL's coefficient of the KL (the paper's alpha).

    Attributes:
        kl_weighting: `prioritized`, a power of the reference's certainty; `rank`, a power of the certainty's rank among tokens
            that are measured before training; the controls `matched_mean` (the mean of the prioritized weights on every token),
            `shuffled` (each weight on a random token), `certain_tokens` (no KL on the `token_share` of each completion's tokens
            with the lowest certainty of the reference, full KL on the others) and `top_entropy` (the same, by the highest
            entropy of the current policy, as Archer, arXiv 2507.15778, and ARES do); `standard`, 1; `none`, 0.
        weight_exponent: the power of the certainty (the paper's beta; its meaning depends on the vocabulary).
        weight_share: an alternative to it: the share of tokens with a weight below one half; 0.1 if neither is given. The
            exponent is measured on completions of the reference before training and is then constant.
        calibration_completions: the number of completions to measure it on.
        token_share: of `certain_tokens` and `top_entropy`.
        entropy_window: of `top_entropy`: the number of tokens, from each on, whose mean entropy counts; 1 for its own. ARES
            (arXiv 2510.08457) has 4, with a `token_share` of 0.05.
        certainty: `negentropy`, `renyi2`, `max_probability` or `min_entropy` of the reference's next-token distribution.
        certainty_temperature: of the reference's logits, for its certainty. If it equals TRL's `temperature`, negentropy and,
            from TRL 1.15, Renyi-2 cost nothing; the others need one more pass of the reference per batch of completions.
        kl_estimator: `trl`, TRL's (k3, times the importance ratio if `use_bias_correction_kl`); `k2`, the paper's; `k3`;
            `exact`, for small vocabularies: it keeps (B, T, V) logits and needs one more pass of the policy.
        kl_bias_correction: of `k2`, `k3` and `exact`: `none`; `detached`, times the importance ratio as a constant, which
            corrects the gradient for tokens that an older policy sampled; `ratio`, times the ratio with its gradient, as in
            TRL. Null: `detached` for k2 and k3, `none` for exact.
        via: where the KL acts: `loss`; `advantages`: beta * weight * (log p - log p_ref) is subtracted from each token's
            advantage (on policy this has the gradient of the weighted k2); `future`, the same, summed over the token and all
            later ones (FRPO, arXiv 2601.10201); `zero_sum`: the advantages are divided by the largest of their group, and beta
            times the completion's mean exact KL, relative to that of its group, is subtracted (ZCPO, arXiv 2610.12161).
        kl_off_clipped: no KL on tokens whose policy gradient is clipped away (ZCPO's first mask).
        kl_off_constant_groups: no KL in groups whose rewards are all equal (ZCPO's second).
    """

    kl_weighting: str = field(default="prioritized", metadata={"help": f"One of {', '.join(WEIGHTINGS)}."})
    weight_exponent: float | None = field(default=None, metadata={"help": "The power of the reference's certainty."})
    weight_share: float | None = field(
        default=None, metadata={"help": f"Share of tokens with a weight below one half; {SHARE} if no exponent is given."}
    )
    calibration_completions: int = field(default=64, metadata={"help": "Completions that the exponent is measured on."})
    token_share: float = field(default=0.2, metadata={"help": "Share of tokens of certain_tokens and top_entropy."})
    entropy_window: int = field(default=1, metadata={"help": "Tokens whose mean entropy counts, of top_entropy."})
    certainty: str = field(default="negentropy", metadata={"help": f"One of {', '.join(CERTAINTIES)}."})
    certainty_temperature: float = field(default=1.0, metadata={"help": "Of the reference, for its certainty."})
    kl_estimator: str = field(default="trl", metadata={"help": f"One of {', '.join(ESTIMATORS)}."})
    kl_bias_correction: str | None = field(
        default=None, metadata={"help": f"One of {', '.join(CORRECTIONS)}, for estimators other than TRL's own."}
    )
    via: str = field(default="loss", metadata={"help": f"Where the KL acts: one of {', '.join(PLACES)}."})
    kl_off_clipped: bool = field(default=False, metadata={"help": "No KL on tokens that are clipped."})
    kl_off_constant_groups: bool = field(default=False, metadata={"help": "No KL in groups whose rewards are all equal."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_kl()

    @property
    def share(self) -> float | None:
        """The share of tokens with a weight below one half to calibrate for; None without calibration."""
        if self.kl_weighting not in (*BY_EXPONENT, "rank") or self.weight_exponent is not None:
            return None
        return SHARE if self.weight_share is None else self.weight_share

    @property
    def bias_correction(self) -> str:
        """`kl_bias_correction`, or the estimator's default."""
        return self.kl_bias_correction or ("none" if self.kl_estimator == "exact" else "detached")

    def check_kl(self) -> None:
        """Raise InputError for values that are invalid or would have no effect."""
        for name, known in (
            ("kl_weighting", WEIGHTINGS),
            ("kl_estimator", ESTIMATORS),
            ("kl_bias_correction", (*CORRECTIONS, None)),
            ("via", PLACES),
            ("certainty", CERTAINTIES),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(map(str, known))}, not {getattr(self, name)!r}.")
        self._check_coefficient()
        self._check_weights()
        self._check_estimator()
        if self.via != "loss":
            self._check_advantages()

    def _check_coefficient(self) -> None:
        if not 0 <= self.beta < math.inf:
            raise InputError(f"beta, the coefficient of the KL, must be a number that is not negative, not {self.beta}.")
        if self.beta == 0 and (self.kl_weighting != "none" or self.kl_off_clipped or self.kl_off_constant_groups):
            raise InputError(
                "beta is 0 (TRL's default), so that there is no KL to weigh, and no reference. Set beta, the coefficient "
                "of the KL, above 0; or kl_weighting='none' for training without a KL."
            )
        if self.use_liger_kernel and not fused_lm_head():
            raise InputError(
                "Before TRL 1.15, use_liger_kernel replaces the loss, so that the KL would not be weighted. Use "
                "use_liger_kernel=False, or TRL 1.15 or newer."
            )
        if self.sync_ref_model:
            raise InputError(
                "sync_ref_model replaces the reference during training, and with it the certainty that weights are made of. "
                "Use sync_ref_model=False."
            )

    def _check_weights(self) -> None:
        if self.weight_exponent is not None and self.weight_share is not None:
            raise InputError("weight_exponent and weight_share both say what the weights are. Give one of them.")
        for name, used in (("weight_exponent", BY_EXPONENT), ("weight_share", (*BY_EXPONENT, "rank"))):
            if getattr(self, name) is not None and self.kl_weighting not in used:
                raise InputError(f"{name} has no effect on kl_weighting={self.kl_weighting!r}; leave it out.")
        if self.weight_exponent is not None and not 0 <= self.weight_exponent < math.inf:
            raise InputError(f"weight_exponent must be a number that is not negative, not {self.weight_exponent}.")
        if self.weight_share is not None and not 0 < self.weight_share < 1:
            raise InputError(f"weight_share must be above 0 and below 1, not {self.weight_share}.")
        if not 0 <= self.token_share <= 1:
            raise InputError(f"token_share must be from 0 to 1, not {self.token_share}.")
        if self.entropy_window < 1:
            raise InputError(f"entropy_window must be at least 1, not {self.entropy_window}.")
        if self.entropy_window > 1 and self.kl_weighting != "top_entropy":
            raise InputError(f"entropy_window has no effect on kl_weighting={self.kl_weighting!r}; leave it out.")
        if not 0 < self.certainty_temperature < math.inf:
            raise InputError(f"certainty_temperature must be positive, not {self.certainty_temperature}.")
        if self.calibration_completions < 1:
            raise InputError(f"calibration_completions must be at least 1, not {self.calibration_completions}.")

    def _check_estimator(self) -> None:
        if self.kl_estimator == "trl" and self.kl_bias_correction is not None:
            raise InputError(
                "kl_bias_correction has no effect on kl_estimator='trl', which has use_bias_correction_kl; leave it out."
            )
        if self.kl_estimator == "exact" and self.bias_correction != "none":
            raise InputError(
                "kl_estimator='exact' sums over all tokens that could have been sampled: the ratio of the one that was has no "
                "place in it. Use kl_bias_correction='none'."
            )
        if self.kl_off_clipped and self.loss_type not in CLIPPED_LOSSES:
            raise InputError(
                f"kl_off_clipped needs a loss_type that clips: one of {', '.join(CLIPPED_LOSSES)}, not {self.loss_type!r}."
            )

    def _check_advantages(self) -> None:
        via = f"via={self.via!r}"
        if self.via == "zero_sum":
            self._check_zero_sum()
        else:
            self._check_tokens()
        if self.gradient_accumulation_steps % (self.steps_per_generation * self.num_iterations):
            raise InputError(
                f"{via} fixes the KL when completions are sampled. Here optimizer steps are made before they are used up "
                f"(num_iterations {self.num_iterations}, steps_per_generation {self.steps_per_generation}, "
                f"gradient_accumulation_steps {self.gradient_accumulation_steps}), so that it would be stale, and clipped. "
                "Use via='loss'."
            )
        if self.kl_weighting == "top_entropy" or self.kl_off_clipped:
            name = "kl_off_clipped" if self.kl_off_clipped else "kl_weighting='top_entropy'"
            raise InputError(f"{name} looks at the policy in the loss, after the advantages are made. Use via='loss'.")

    def _check_tokens(self) -> None:
        """A KL in the advantages of tokens."""
        via = f"via={self.via!r}"
        if self.kl_estimator != "k2":
            raise InputError(f"{via} has the gradient of k2. Set kl_estimator='k2' to say so, or use via='loss'.")
        if self.kl_bias_correction is not None:
            raise InputError(f"kl_bias_correction has no effect on {via}: TRL corrects advantages itself; leave it out.")
        for name, known in (("loss_type", TOKEN_LOSSES), ("importance_sampling_level", ("token",))):
            if getattr(self, name) not in known:
                raise InputError(
                    f"{via} needs {name} to be one of {', '.join(known)}, not {getattr(self, name)!r}, which does not treat "
                    "the advantages of tokens one by one. Use via='loss'."
                )
        masks = (
            ("top_entropy_quantile below 1", self.top_entropy_quantile < 1),
            ("off_policy_mask_threshold", self.off_policy_mask_threshold is not None),
        )
        for name, given in masks:
            if given:
                raise InputError(f"{via} makes the KL a part of the advantages, which {name} acts on. Use via='loss'.")

    def _check_zero_sum(self) -> None:
        """A KL in the advantages of completions."""
        if self.kl_estimator != "exact":
            raise InputError("via='zero_sum' compares exact KLs. Set kl_estimator='exact' to say so, or use via='loss'.")
        if self.multi_objective_aggregation != "sum_then_normalize":
            raise InputError(
                "via='zero_sum' needs advantages that sum to 0 in each group, which multi_objective_aggregation="
                f"{self.multi_objective_aggregation!r} does not give. Use 'sum_then_normalize'."
            )
