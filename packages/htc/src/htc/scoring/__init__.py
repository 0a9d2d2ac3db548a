"""Scores of saved predictions: every metric of every rule, and where the errors are."""
