"""Scores of predictions: every metric of every rule, and an error analysis."""
