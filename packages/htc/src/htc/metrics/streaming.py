"""All metrics, computed part by part: the results equal those of all documents at once."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import LabelSets, Scores, as_sparse_sets, check_as_many, in_parts
from htc.labels.sparse_sets import SparseSets
from htc.metrics import hierarchical, information, lca, paths, ranked, ranking, single_path
from htc.metrics.counts import all_right, average_over_classes, by_class, by_document, precision_recall_f
from htc.metrics.reached import reached_in_rows

AVERAGES: tuple[Literal["micro", "macro"], ...] = ("micro", "macro")
Sums = Callable[[SparseSets, SparseSets, Hierarchy], Tensor]
"""(true, predicted, hierarchy) -> sums over documents."""


class LabelSetScores:
    """Accumulates label sets part by part; `compute` gives every metric over all of them.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> scores = LabelSetScores(hierarchy)
    >>> scores.update([["Arts", "Music"]], [["Arts", "Film"]])
    >>> scores.update([["Science"]], [["Science"]])
    >>> round(scores.compute()["hf1_micro"], 3)
    0.667
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        self.documents = 0
        self.single_path = True
        self._sums: dict[str, Tensor] = {}
        self._hf1: list[Tensor] = []

    def update(self, y_true: LabelSets, y_pred: LabelSets) -> None:
        """Add documents, or none. Raises: InputError: for label sets that do not fit, see `htc.labels.label_sets`."""
        true, predicted = as_sparse_sets(y_true, self.hierarchy, "y_true"), as_sparse_sets(y_pred, self.hierarchy, "y_pred")
        if len(true) or len(predicted):
            check_as_many(true, predicted)
            for part in in_parts(true, predicted):
                self._update(*part)

    def _update(self, true: SparseSets, predicted: SparseSets) -> None:
        closed = self.hierarchy.close(true), self.hierarchy.close(predicted)
        self.single_path &= all(bool((self.hierarchy.most_specific(sets).sum(1) <= 1).all()) for sets in closed)
        for name, sums in AS_GIVEN.items():
            self._add(name, sums(true, predicted, self.hierarchy))
        for name, sums in (CLOSED | SINGLE_PATH if self.single_path else CLOSED).items():
            self._add(name, sums(*closed, self.hierarchy))
        each = precision_recall_f(by_document(*closed))  # (3, D)
        self._add("closed_samples", each.sum(1))
        self._hf1.append(each[2].cpu())
        self.documents += len(true)

    def _add(self, name: str, sums: Tensor) -> None:
        self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    @property
    def label_counts(self) -> Tensor:
        """(3, N) int64: counts of each label: right, predicted, true. Raises: ValueError: without a document."""
        self._check()
        return self._sums["flat"]

    @property
    def hf1_per_document(self) -> Tensor:
        """(documents,) float64, see `hierarchical_f_per_document`. Raises: ValueError: without a document."""
        self._check()
        return torch.cat(self._hf1)

    def _check(self) -> None:
        if not self.documents:
            raise ValueError("there is no document to score yet; call update first.")

    def compute(self) -> dict[str, Any]:
        """Every metric of the documents so far, by name; the metrics of one path only if no document has several.

        Raises:
            ValueError: if there is no document yet.
        """
        self._check()
        sums, n, hierarchy = self._sums, self.documents, self.hierarchy
        flat, closed = sums["flat"], sums["closed"]
        scores: dict[str, Any] = {}
        for average in AVERAGES:
            scores |= _named("h", average, average_over_classes(closed, average))
        scores |= _named("h", "samples", (sums["closed_samples"] / n).tolist())
        for average in AVERAGES:
            scores[f"f1_{average}"] = average_over_classes(flat, average)[2]
        scores["f1_samples"] = float(sums["flat_samples"][2]) / n
        for name in ("path_constrained_f1", "path_f1"):
            for average in AVERAGES:
                scores[f"{name}_{average}"] = average_over_classes(sums[name], average)[2]
        scores |= _named("lca_", "samples", (sums["lca_samples"] / n).tolist())
        scores["icm"] = information.icm_of_counts(closed, sums["with_parents"], n)
        scores["icm_norm"] = information.icm_norm_of_counts(closed, sums["with_parents"], n)
        scores["hamming_loss"] = int(flat[1].sum() + flat[2].sum() - 2 * flat[0].sum()) / (n * hierarchy.num_nodes)
        scores["exact_match"] = float(sums["exact_match"]) / n
        scores["incoherence_rate"] = float(sums["incoherent"]) / n
        scores["accuracy_per_level"] = hierarchical.accuracies(sums["levels"])
        scores["hf1_macro_per_depth"] = [
            hierarchical.average_at_depth(sums["class_at_depth"], hierarchy, depth)[2]
            for depth in range(1, hierarchy.max_depth + 1)
        ]
        if self.single_path:
            mistakes, severity = sums["mistakes"].tolist()
            scores["mistake_severity"] = severity / mistakes if mistakes else 0.0
            scores["tree_distance"] = float(sums["tree_distance"]) / n
            scores["wu_palmer"] = float(sums["wu_palmer"]) / n
        return scores


def _named(family: str, average: str, values: Any) -> dict[str, float]:
    return {f"{family}{name}_{average}": value for name, value in zip(("p", "r", "f1"), values, strict=True)}


def _samples(true: SparseSets, predicted: SparseSets, hierarchy: Hierarchy) -> Tensor:
    return precision_recall_f(by_document(true, predicted)).sum(1)


def _mistakes(true: SparseSets, predicted: SparseSets, hierarchy: Hierarchy) -> Tensor:
    severities = single_path.mistake_severities(true, predicted, hierarchy)
    return torch.stack([torch.tensor(len(severities), device=severities.device), severities.sum()])


class ProbabilityScores:
    """Accumulates true label sets and node probabilities part by part; gives the metrics over all thresholds and of ranks.

    Attributes:
        ranks: the metrics of ranks (`htc.metrics.ranked`), of the label sets closed under ancestors.
    """

    def __init__(self, hierarchy: Hierarchy, thresholds: Sequence[float] | Tensor) -> None:
        """Args: thresholds (T,) of the curve, ascending."""
        self.hierarchy, self.thresholds = hierarchy, ranking.ascending(thresholds)
        self.ranks = ranked.RankScores()
        self._areas: list[Tensor] = []
        self._counts = torch.zeros(3, len(self.thresholds), dtype=torch.long)

    def update(self, y_true: LabelSets, y_score: Scores) -> None:
        """Add documents. Raises: InputError: see `hf1_auc`."""
        if not len(y_score):
            return
        for true, scores in in_parts(*ranking.true_and_scores(y_true, y_score, self.hierarchy)):
            closed = self.hierarchy.max_over_descendants(scores).contiguous()
            reached = reached_in_rows(true, closed)
            self._areas.append(ranking.areas_of(true, closed, reached).cpu())
            self._counts += ranking.curve_counts(true, closed, self.thresholds).cpu()
            coherent = torch.equal(closed, scores)
            self.ranks.update(true, scores, reached if coherent else reached_in_rows(true, scores))

    @property
    def hf1_auc_per_document(self) -> Tensor:
        """(documents,) float64, see the function of that name. Raises: ValueError: without a document."""
        if not self._areas:
            raise ValueError("there is no document to score yet; call update first.")
        return torch.cat(self._areas)

    def compute(self) -> tuple[float, ranking.Curve]:
        """HF1-AUC and the micro curve of the documents so far. Raises: ValueError: if there is none yet."""
        return float(self.hf1_auc_per_document.mean()), ranking.Curve(self.thresholds, *precision_recall_f(self._counts))


AS_GIVEN: dict[str, Sums] = {
    "flat": lambda true, predicted, hierarchy: by_class(true, predicted),
    "flat_samples": _samples,
    "path_constrained_f1": paths.constrained_counts,
    "path_f1": paths.path_counts,
    "lca_samples": lambda *sets: precision_recall_f(lca.lca_counts(*sets)).sum(1),
    "exact_match": lambda true, predicted, hierarchy: all_right(true, predicted).sum(),
    "incoherent": lambda true, predicted, hierarchy: (~hierarchy.is_coherent(predicted)).sum(),
    "levels": hierarchical.level_counts,
}
CLOSED: dict[str, Sums] = {
    "closed": lambda true, predicted, hierarchy: by_class(true, predicted),
    "class_at_depth": hierarchical.class_at_depth_counts,
    "with_parents": lambda true, predicted, hierarchy: information.parent_counts(true, hierarchy),
}
SINGLE_PATH: dict[str, Sums] = {
    "mistakes": _mistakes,
    "tree_distance": lambda *sets: single_path.tree_distances(*sets).sum(),
    "wu_palmer": lambda *sets: single_path.wu_palmer_similarities(*sets).sum(),
}
