"""Every metric of every inference rule, from node probabilities."""

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from htc import metrics
from htc.decoding import threshold
from htc.decoding.by_name import decode, rules_for
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import CELLS
from htc.labels.sparse_sets import SparseSets
from htc.metrics.counts import average_over_classes, by_class
from htc.metrics.ranked import AveragePrecisions, RankScores
from htc.metrics.single_path import leaf_heights
from htc.scoring.calibration import CalibrationErrors
from htc.scoring.error_analysis import f1_by_frequency
from htc.scoring.parts import Probabilities, with_targets

SELECTABLE = (  # metrics for selecting an epoch: all for which higher is better
    *(f"h{name}_{average}" for average in ("micro", "macro", "samples") for name in ("p", "r", "f1")),
    *(f"f1_{average}" for average in ("micro", "macro", "samples")),
    *(f"{name}_{average}" for name in ("path_constrained_f1", "path_f1") for average in ("micro", "macro")),
    *("lca_p_samples", "lca_r_samples", "lca_f1_samples", "icm", "icm_norm", "exact_match"),
)
CURVE_POINTS = 99  # thresholds 0.01, 0.02, ..., 0.99
DISTANCES_AT = (1, 5, 20)
PRECISION_AT = (1, 3, 5)


def decode_in_parts(
    rule: str, probabilities: Probabilities, hierarchy: Hierarchy, tuned_threshold: float | None = None
) -> SparseSets:
    """Apply a rule by name to any number of documents. Args: as `decode`; probabilities (D, N), or in parts."""
    parts = probabilities.split(max(1, CELLS // hierarchy.num_nodes))
    return SparseSets.joined([SparseSets.of(decode(rule, some, hierarchy, tuned_threshold)) for some in parts])


def score_epoch(
    probabilities: Probabilities, targets: SparseSets, hierarchy: Hierarchy, rule: str | None = None
) -> tuple[float, float, metrics.LabelSetScores]:
    """What epochs are selected by: hF1-AUC, micro hF1 at the threshold 0.5, and the scores of a rule, where one is named.

    Args: as `evaluate`; rule: one that needs no tuned threshold.
    """
    areas, counts = [], torch.zeros(3, hierarchy.num_nodes, dtype=torch.long)
    of_rule = metrics.LabelSetScores(hierarchy)
    for some, true in with_targets(probabilities, targets):
        areas.append(metrics.hf1_auc_per_document(true, some, hierarchy))
        counts += by_class(true, hierarchy.close(SparseSets.of(threshold(some, hierarchy))))
        if rule is not None:
            of_rule.update(true, decode(rule, some, hierarchy))
    return float(torch.cat(areas).mean()), average_over_classes(counts, "micro")[2], of_rule


def evaluate(
    probabilities: Probabilities,
    targets: Tensor | SparseSets,
    hierarchy: Hierarchy,
    tuned_threshold: float,
    one_path: bool,
    training_counts: Tensor | None = None,
    decoder: str = "top_down",
    rules: Collection[str] | None = None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Score node probabilities under every inference rule, or some.

    Args:
        probabilities: (D, N), or in parts.
        targets: (D, N) bool, closed under ancestors, dense or sparse.
        tuned_threshold: from `decoding.tune_threshold` on other documents.
        one_path: whether the probabilities are those of one path, see `losses.Objective`.
        training_counts: (N,) the number of training documents with each label.
        decoder: the default rule for model and documents, see `htc.decoding.by_name.rule_for`.
        rules: the names of those to apply; None for all that can decode the probabilities.

    Returns:
        The scores: `decoder`; `hf1_auc`; `hierarchical_distance_at`, if documents have one label each; `precision_at`,
        `r_precision` and `average_precision` of all labels by rank; `calibration_error` of `CalibrationErrors`; `curve` with
        micro hP, hR and hF1 over thresholds; `rules` with every metric of each rule, and F1 by the frequency of labels in
        training.
        And values per document, for comparing methods, (D,) float32 each: hF1 under each rule, and `hf1_auc`.
    """
    targets = SparseSets.of(targets)
    ranking = metrics.ProbabilityScores(hierarchy, torch.linspace(0.01, 0.99, CURVE_POINTS))
    precisions, distances, calibration = AveragePrecisions(), DistancesAtK(hierarchy), CalibrationErrors(hierarchy)
    by_rule = {rule: metrics.LabelSetScores(hierarchy) for rule in (rules_for(one_path) if rules is None else rules)}
    for some, true in with_targets(probabilities, targets):
        ranking.update(true, some)
        precisions.update(true, some)
        distances.update(true, some)
        calibration.update(true, some)
        for rule, sets in by_rule.items():
            sets.update(true, decode(rule, some, hierarchy, tuned_threshold))
    for some, _ in with_targets(probabilities, targets):
        precisions.count(some)
    hf1_auc, curve = ranking.compute()
    scores = {
        "documents": len(targets),
        "decoder": decoder,
        "hf1_auc": hf1_auc,
        "hierarchical_distance_at": distances.compute(),
        **_by_rank(ranking.ranks, precisions, hierarchy),
        "calibration_error": calibration.compute(),
        "tuned_threshold": tuned_threshold,
        "rules": {rule: _metrics(sets, training_counts) for rule, sets in by_rule.items()},
        "curve": {name: [round(float(v), 5) for v in values] for name, values in curve._asdict().items()},
    }
    per_document = {rule: sets.hf1_per_document for rule, sets in by_rule.items()} | {"hf1_auc": ranking.hf1_auc_per_document}
    return scores, {name: values.float() for name, values in per_document.items()}


def _metrics(sets: metrics.LabelSetScores, training_counts: Tensor | None) -> dict[str, Any]:
    scores = sets.compute()
    scores["accuracy_per_level"] = [None if math.isnan(value) else value for value in scores["accuracy_per_level"]]
    if training_counts is not None:
        scores["f1_by_frequency"] = f1_by_frequency(sets.label_counts, training_counts)
    return scores


def _by_rank(ranks: RankScores, precisions: AveragePrecisions, hierarchy: Hierarchy) -> dict[str, Any]:
    """The metrics of `htc.metrics.ranked`, precision at each k that there are labels for."""
    return {
        "precision_at": {str(k): ranks.precision_at_k(k) for k in PRECISION_AT if k <= hierarchy.num_nodes},
        "r_precision": ranks.r_precision(),
        "average_precision": {**precisions.compute(), "samples": ranks.average_precision()},
    }


class DistancesAtK:
    """Accumulates the hierarchical distance at each k up to the number of leaves."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        self.at = [k for k in DISTANCES_AT if k <= len(hierarchy.leaves)]
        self._one_label = True
        self._heights: list[Tensor] = []  # (d, k) each

    def update(self, true: SparseSets, probabilities: Tensor) -> None:
        """Add documents. Args: true: of d documents, closed; probabilities (d, N)."""
        self._one_label &= not bool((self.hierarchy.most_specific(true).sum(1) > 1).any())
        if self._one_label:
            self._heights.append(leaf_heights(true, probabilities, self.hierarchy, self.at[-1]))

    def compute(self) -> dict[str, float] | None:
        """The mean distance at each k; None if documents have several labels."""
        if not self._one_label:
            return None
        heights = torch.cat(self._heights)
        return {str(k): float(heights[:, :k].double().mean()) for k in self.at}


def summary_table(result: dict[str, Any], split: str = "test") -> str:
    """The main metrics of each inference rule as a text table, with intervals if available."""
    columns = ("hf1_micro", "hf1_samples", "f1_macro", "exact_match", "incoherence_rate")
    scores = result[split]
    lines = [f"{split}: {scores['documents']:,} documents, hF1-AUC {scores['hf1_auc']:.3f}"]
    width = max(20, *map(len, scores["rules"]))
    lines.append(f"{'rule':<{width}}" + "".join(f"{name:>18}" for name in columns))
    for rule, row in scores["rules"].items():
        line = f"{rule:<{width}}" + "".join(f"{row[name]:>18.3f}" for name in columns)
        if "hf1_samples_interval" in row:
            low, high = row["hf1_samples_interval"]
            line += f"   hf1_samples in {low:.3f} .. {high:.3f}"
        lines.append(line)
    if "calibration_error" in scores:
        error = scores["calibration_error"]
        levels = ", ".join("-" if value is None else f"{value:.3f}" for value in error["by_depth"])
        lines.append(f"calibration error {error['error']:.3f} (by level {levels}), log loss {error['log_loss']:.3f}")
    return "\n".join(lines)
