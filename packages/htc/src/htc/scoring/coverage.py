"""How often answers that back off are right, and how deep they are: on one split, and over random splits."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from htc.decoding.conformal import conformal_threshold, score_by_depth, wrong_score
from htc.labels.hierarchy import Hierarchy
from htc.labels.sparse_sets import SparseSets
from htc.scoring.parts import Probabilities, with_targets
from rlkl_htc_common.report.statistics import Interval, bootstrap, over_seeds, share_over_seeds

SPLITS = 20


@dataclass(frozen=True)
class AnswerScores:
    """All that coverage and depth at any threshold need of D documents.

    Attributes:
        wrong: (D,) `htc.decoding.conformal.wrong_score`.
        by_depth: (D, max_depth) `htc.decoding.conformal.score_by_depth`.
    """

    wrong: Tensor
    by_depth: Tensor

    @classmethod
    def of(cls, probabilities: Probabilities, targets: SparseSets, hierarchy: Hierarchy, several: bool) -> "AnswerScores":
        """Args: probabilities (D, N), or in parts; targets: closed; several: see `htc.decoding.conformal.largest_answer`."""
        wrong, by_depth = [torch.empty(0)], [torch.empty(0, hierarchy.max_depth)]
        for some, true in with_targets(probabilities, targets):
            wrong.append(wrong_score(some, true, hierarchy, several).cpu())
            by_depth.append(score_by_depth(some, hierarchy, several).cpu())
        return cls(torch.cat(wrong), torch.cat(by_depth))

    @classmethod
    def joined(cls, *parts: "AnswerScores") -> "AnswerScores":
        """The documents of all parts."""
        return cls(torch.cat([part.wrong for part in parts]), torch.cat([part.by_depth for part in parts]))

    def __len__(self) -> int:
        return len(self.wrong)

    def select(self, documents: Tensor) -> "AnswerScores":
        """Some of the documents. Args: documents (n,) int64."""
        return AnswerScores(self.wrong[documents], self.by_depth[documents])

    def right(self, threshold: float) -> Tensor:
        """Whether each document's answer is right; an empty one is. Returns: (D,) bool."""
        return self.wrong <= threshold

    def depth(self, threshold: float) -> Tensor:
        """The depth of each document's answer, 0 for an empty one. Returns: (D,) int64."""
        return (self.by_depth > threshold).sum(1)


def coverage_on(scores: AnswerScores, threshold: float, promised: float) -> dict[str, Any]:
    """Coverage, depth and abstentions on documents, with 95% bootstrap intervals over them.

    Returns:
        `promised`; `threshold`, None where all answers go down to the end; `found`: the share of right answers; `mean_depth`;
        `abstained`: the share of empty answers; `right_of_answered`: the share of right ones among the others, None if there
        are none.
    """
    right, depth = scores.right(threshold), scores.depth(threshold)
    answered = depth > 0
    return {
        "promised": promised,
        "threshold": threshold if math.isfinite(threshold) else None,
        "found": _with_bounds(bootstrap(right.tolist())),
        "mean_depth": _with_bounds(bootstrap(depth.tolist())),
        "abstained": float((~answered).double().mean()),
        "right_of_answered": float(right[answered].double().mean()) if bool(answered.any()) else None,
    }


def coverage_over_splits(
    scores: AnswerScores, held_out: int, promised: float, splits: int = SPLITS, seed: int = 0
) -> dict[str, Any]:
    """Coverage and depth over random splits of the documents: of each, some give the threshold, and the others are answered.

    The splits are of the same documents, so that the interval of their mean holds the luck of the draw of a split, not that of
    the documents.

    Args:
        held_out: the number of documents that give the threshold.
        promised: the coverage.
        splits: their number.
        seed: of the draw.

    Returns:
        `splits`; `found` and `mean_depth`: mean and 95% interval over splits, and the value of each; `expected`: where 95% of
        splits' coverages are, if scores have no ties.

    Raises:
        InputError: for too few documents for the promise.
    """
    generator = torch.Generator().manual_seed(seed)
    found, depth = [], []
    for _ in range(splits):
        order = torch.randperm(len(scores), generator=generator)
        threshold = conformal_threshold(scores.wrong[order[:held_out]], promised)
        answered = scores.select(order[held_out:])
        found.append(float(answered.right(threshold).double().mean()))
        depth.append(float(answered.depth(threshold).double().mean()))
    return {
        "splits": splits,
        "found": _with_bounds(share_over_seeds(found)) | {"values": found},
        "mean_depth": _with_bounds(over_seeds(depth)) | {"values": depth},
        "expected": list(expected_coverage(held_out, len(scores) - held_out, promised)),
    }


def expected_coverage(held_out: int, answered: int, promised: float, confidence: float = 0.95) -> tuple[float, float]:
    """Where the coverage of one draw of held-out and answered documents is, if scores have no ties: a beta-binomial interval.

    Args: held_out, answered: numbers of documents. Returns: its bounds.

    Source: Angelopoulos and Bates, "A Gentle Introduction to Conformal Prediction and Distribution-Free Uncertainty
    Quantification", arXiv 2107.07511, section 3.2.
    """
    ranks = torch.arange(1, held_out + 1, dtype=torch.float64)
    rank = conformal_threshold(ranks, promised)
    law = stats.betabinom(answered, rank, held_out + 1 - rank)
    low, high = law.interval(confidence)
    return float(low) / answered, float(high) / answered


def coverage_table(coverage: dict[str, Any], split: str = "test") -> Iterator[str]:
    """What was found as lines of text. Args: coverage: of `coverage_on`, with `over_splits` of `coverage_over_splits`."""
    yield (
        f"coverage {coverage['promised']:g} promised; {split}: {_shown(coverage['found'], '.3f')}, mean depth "
        f"{_shown(coverage['mean_depth'], '.2f')}, {coverage['abstained']:.1%} without an answer"
    )
    over = coverage["over_splits"]
    least, most = min(over["found"]["values"]), max(over["found"]["values"])
    low, high = over["expected"]
    if coverage["threshold"] is None:
        yield "all answers go down to the end of a path: they are right often enough"
    yield (
        f"over {over['splits']} random splits of dev and test: {_shown(over['found'], '.4f')}, each in {least:.3f} .. "
        f"{most:.3f} (95% are expected in {low:.3f} .. {high:.3f}), mean depth {_shown(over['mean_depth'], '.2f')}"
    )


def _shown(mean: dict[str, Any], form: str) -> str:
    return f"{mean['mean']:{form}} ({mean['low']:{form}} .. {mean['high']:{form}})"


def _with_bounds(interval: Interval) -> dict[str, Any]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}
