"""Reinforcement learning with a KL penalty weighted by the reference's certainty: penalty, rollout engine, experiments."""
