"""Inference rules: from node probabilities (B, N) to predicted label sets (B, N), as pure functions.

`rules` holds the rules of the paper and common ones, which can be imported from here; `expected` holds rules that are optimal
for a metric; `single_path` holds more rules for one path per document.
"""

from htc.decoding.rules import (
    above_threshold,
    argmax_leaf,
    cap_at_parents,
    raise_to_descendants,
    threshold,
    top_down,
    top_down_threshold,
    top_down_until,
    tune_threshold,
)

__all__ = [
    "above_threshold",
    "argmax_leaf",
    "cap_at_parents",
    "raise_to_descendants",
    "threshold",
    "top_down",
    "top_down_threshold",
    "top_down_until",
    "tune_threshold",
]
