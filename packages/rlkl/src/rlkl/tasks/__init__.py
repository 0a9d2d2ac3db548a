"""Arithmetic written out on scratchpads: addition, subtraction, multiplication."""
