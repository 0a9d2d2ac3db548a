"""Rollouts: batched sampling of completions from the policy."""

from rlkl_htc_common.extras import require

require("rlkl[train]", "transformers")

from rlkl.rollout.engine import Rollouts, generate  # noqa: E402 (after `require`)

__all__ = ["Rollouts", "generate"]
