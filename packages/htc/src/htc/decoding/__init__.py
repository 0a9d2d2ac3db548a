"""Inference rules: from node probabilities (B, N) to predicted label sets (B, N), as pure functions.

`rules` holds those of the paper and the common ones, which may be taken from here; `expected` those that are optimal for a
metric; `single_path` more of them for one path a document.
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
