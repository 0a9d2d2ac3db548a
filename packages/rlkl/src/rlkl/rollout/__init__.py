"""Rollouts: completions sampled from the policy, many at a time."""

from rlkl_htc_common.extras import require

require("rlkl[train]", "transformers")

from rlkl.rollout.engine import Rollouts, generate  # noqa: E402 (it is told first what is missing for it)

__all__ = ["Rollouts", "generate"]
