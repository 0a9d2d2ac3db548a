"""Reinforcement learning with a KL penalty that knows critical tokens: the penalty, the rollout engine, the experiments."""
