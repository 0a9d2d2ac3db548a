"""Analyses: uncertainty, errors, and the effect of fine-tuning on both."""
