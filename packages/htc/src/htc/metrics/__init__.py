"""Metrics of predicted label sets and of node probabilities, flat and hierarchical.

Conventions, as in scikit-learn:

- truth first: `metric(y_true, y_pred, hierarchy)`, or `metric(y_true, y_score, hierarchy)` for node probabilities;
- label sets are multi-hot arrays `(D, N)` of torch or NumPy, or lists of label paths (see `htc.labels.label_sets`);
- every name or argument states the average: `micro` pools counts, `macro` is a mean over nodes, `samples` a mean over
  documents;
- a ratio with denominator 0 is 0 (scikit-learn's `zero_division=0`); exception: `accuracy_per_level` is NaN at a level where no
  document has a label.

The root is never counted. All metrics accept trees, DAGs and paths to inner nodes; all except those of one path accept several
paths.

| | |
|---|---|
| flat | `f1` (micro, macro, samples), `hamming_loss`, `exact_match` |
| closed sets | `hierarchical_precision_recall_f` (micro, macro, samples), `macro_precision_recall_f_at_depth` |
| whole paths | `path_constrained_f1` (C-F1), `path_f1` (P-F1) |
| distance | `lca_precision_recall_f` |
| distance, of one path | `tree_distance`, `wu_palmer`, `mistake_severity`, `hierarchical_distance_at_k` |
| information | `icm`, `icm_norm` |
| levels, coherence | `accuracy_per_level`, `incoherence_rate` |
| all thresholds | `hf1_auc`, `micro_curve`, `average_precision` (AUPRC; micro, macro, samples) |
| ranks | `precision_at_k`, `r_precision` |
| for each document | `hierarchical_f_per_document`, `hf1_auc_per_document` |
| all at once, part by part | `LabelSetScores`, `ProbabilityScores` |
"""

from htc.labels.label_sets import as_label_sets
from htc.metrics.flat import exact_match, f1, hamming_loss
from htc.metrics.hierarchical import (
    accuracy_per_level,
    hierarchical_f_per_document,
    hierarchical_precision_recall_f,
    incoherence_rate,
    macro_precision_recall_f_at_depth,
)
from htc.metrics.information import icm, icm_norm
from htc.metrics.lca import lca_precision_recall_f
from htc.metrics.paths import path_constrained_f1, path_f1
from htc.metrics.ranked import average_precision, precision_at_k, r_precision
from htc.metrics.ranking import hf1_auc, hf1_auc_per_document, micro_curve
from htc.metrics.single_path import hierarchical_distance_at_k, mistake_severity, tree_distance, wu_palmer
from htc.metrics.streaming import LabelSetScores, ProbabilityScores

__all__ = [
    "LabelSetScores",
    "ProbabilityScores",
    "accuracy_per_level",
    "as_label_sets",
    "average_precision",
    "exact_match",
    "f1",
    "hamming_loss",
    "hf1_auc",
    "hf1_auc_per_document",
    "hierarchical_distance_at_k",
    "hierarchical_f_per_document",
    "hierarchical_precision_recall_f",
    "icm",
    "icm_norm",
    "incoherence_rate",
    "lca_precision_recall_f",
    "macro_precision_recall_f_at_depth",
    "micro_curve",
    "mistake_severity",
    "path_constrained_f1",
    "path_f1",
    "precision_at_k",
    "r_precision",
    "tree_distance",
    "wu_palmer",
]
