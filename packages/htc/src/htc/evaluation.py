"""Every metric of every inference rule, from node probabilities."""

import math
from typing import Any

import torch
from torch import Tensor

from htc import decoding, metrics
from htc.hierarchy import Hierarchy

RULES = ("threshold", "tuned_threshold", "top_down", "argmax_leaf")
CURVE_POINTS = 99  # thresholds 0.01, 0.02, ..., 0.99


def decode(rule: str, probabilities: Tensor, hierarchy: Hierarchy, tuned_threshold: float) -> Tensor:
    """Apply an inference rule by name. Args: probabilities (D, N). Returns: (D, N) bool."""
    match rule:
        case "threshold":
            return decoding.threshold(probabilities, hierarchy)
        case "tuned_threshold":
            return decoding.threshold(probabilities, hierarchy, tuned_threshold)
        case "top_down":
            return decoding.top_down(probabilities, hierarchy)
        case "argmax_leaf":
            return decoding.argmax_leaf(probabilities, hierarchy)
    raise ValueError(f"unknown inference rule {rule!r}; known: {', '.join(RULES)}.")


def score_sets(predictions: Tensor, targets: Tensor, hierarchy: Hierarchy) -> dict[str, Any]:
    """Every metric of predicted sets. Args: predictions, targets (D, N) bool. Returns: metric name -> number or list."""
    micro = metrics.hierarchical_precision_recall_f(predictions, targets, hierarchy, "micro")
    samples = metrics.hierarchical_precision_recall_f(predictions, targets, hierarchy, "samples")
    return {
        "hp_micro": micro[0],
        "hr_micro": micro[1],
        "hf1_micro": micro[2],
        "hp_samples": samples[0],
        "hr_samples": samples[1],
        "hf1_samples": samples[2],
        "f1_micro": metrics.f1(predictions, targets, "micro"),
        "f1_macro": metrics.f1(predictions, targets, "macro"),
        "f1_samples": metrics.f1(predictions, targets, "samples"),
        "hamming_loss": metrics.hamming_loss(predictions, targets),
        "exact_match": metrics.exact_match(predictions, targets),
        "incoherence_rate": metrics.incoherence_rate(predictions, hierarchy),
        "accuracy_per_level": [
            None if math.isnan(accuracy) else accuracy
            for accuracy in metrics.accuracy_per_level(predictions, targets, hierarchy)
        ],
    }


def evaluate(probabilities: Tensor, targets: Tensor, hierarchy: Hierarchy, tuned_threshold: float) -> dict[str, Any]:
    """Score node probabilities under every inference rule.

    Args:
        probabilities: (D, N).
        targets: (D, N) bool, closed under ancestors.
        tuned_threshold: from `decoding.tune_threshold` on other documents than these.

    Returns:
        `hf1_auc`; `curve` with micro hP, hR and hF1 over thresholds; `rules` with `score_sets` of each rule.
    """
    curve = metrics.micro_curve(probabilities, targets, hierarchy, torch.linspace(0.01, 0.99, CURVE_POINTS))
    return {
        "documents": len(targets),
        "hf1_auc": metrics.hf1_auc(probabilities, targets, hierarchy),
        "tuned_threshold": tuned_threshold,
        "rules": {
            rule: score_sets(decode(rule, probabilities, hierarchy, tuned_threshold), targets, hierarchy) for rule in RULES
        },
        "curve": {name: [round(float(v), 5) for v in values] for name, values in curve._asdict().items()},
    }


def summary_table(result: dict[str, Any], split: str = "test") -> str:
    """What a person wants to see at the end: the main metrics of each inference rule, with an interval where there is one."""
    columns = ("hf1_micro", "hf1_samples", "f1_macro", "exact_match", "incoherence_rate")
    scores = result[split]
    lines = [f"{split}: {scores['documents']:,} documents, hF1-AUC {scores['hf1_auc']:.3f}"]
    lines.append(f"{'rule':<16}" + "".join(f"{name:>18}" for name in columns))
    for rule, row in scores["rules"].items():
        line = f"{rule:<16}" + "".join(f"{row[name]:>18.3f}" for name in columns)
        if "hf1_samples_interval" in row:
            low, high = row["hf1_samples_interval"]
            line += f"   hf1_samples in {low:.3f} .. {high:.3f}"
        lines.append(line)
    return "\n".join(lines)
