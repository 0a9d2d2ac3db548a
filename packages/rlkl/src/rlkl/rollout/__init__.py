"""Rollouts: completions sampled from the policy, many at a time."""

from rlkl.rollout.engine import Rollouts, generate

__all__ = ["Rollouts", "generate"]
