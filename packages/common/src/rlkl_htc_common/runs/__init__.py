"""Runs: their directories, their records, and many of them at once."""
