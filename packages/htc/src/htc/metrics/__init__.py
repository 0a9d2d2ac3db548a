"""Metrics of predicted label sets and of node probabilities, flat and hierarchical.

Conventions: predictions and targets are `(D, N)` bool, targets closed under ancestors; the root is never counted; a ratio with
an empty denominator is 0 (scikit-learn's `zero_division=0`); every name says which average is meant.
"""

from htc.metrics.flat import exact_match, f1, hamming_loss
from htc.metrics.hierarchical import (
    accuracy_per_level,
    hierarchical_f_per_document,
    hierarchical_precision_recall_f,
    incoherence_rate,
)
from htc.metrics.ranking import hf1_auc, micro_curve

__all__ = [
    "accuracy_per_level",
    "exact_match",
    "f1",
    "hamming_loss",
    "hf1_auc",
    "hierarchical_f_per_document",
    "hierarchical_precision_recall_f",
    "incoherence_rate",
    "micro_curve",
]
