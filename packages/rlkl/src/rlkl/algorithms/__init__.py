"""Reinforcement-learning algorithms as pure functions of tensors: advantages and losses."""
