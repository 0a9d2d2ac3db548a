"""What comes in parts scores as the whole does, and as each metric by itself."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from htc import InputError, metrics
from htc.metrics import LabelSetScores, ProbabilityScores

from ..conftest import random_dag, random_tree, single_paths
from .test_metric_definitions import drawn, one_label


def by_themselves(true, predicted, h):
    """Every metric of `LabelSetScores`, from the function of that name."""
    scores = {}
    for average in ("micro", "macro", "samples"):
        scores[f"f1_{average}"] = metrics.f1(true, predicted, h, average)
        p, r, f = metrics.hierarchical_precision_recall_f(true, predicted, h, average)
        scores |= {f"hp_{average}": p, f"hr_{average}": r, f"hf1_{average}": f}
    for average in ("micro", "macro"):
        scores[f"path_constrained_f1_{average}"] = metrics.path_constrained_f1(true, predicted, h, average)
        scores[f"path_f1_{average}"] = metrics.path_f1(true, predicted, h, average)
    p, r, f = metrics.lca_precision_recall_f(true, predicted, h)
    scores |= {"lca_p_samples": p, "lca_r_samples": r, "lca_f1_samples": f}
    for name in ("icm", "icm_norm", "hamming_loss", "exact_match"):
        scores[name] = getattr(metrics, name)(true, predicted, h)
    scores["incoherence_rate"] = metrics.incoherence_rate(predicted, h)
    scores["accuracy_per_level"] = metrics.accuracy_per_level(true, predicted, h)
    depths = range(1, h.max_depth + 1)
    scores["hf1_macro_per_depth"] = [metrics.macro_precision_recall_f_at_depth(true, predicted, h, d)[2] for d in depths]
    return scores


def streamed(true, predicted, h, sizes):
    scores = LabelSetScores(h)
    for t, p in zip(true.split(sizes), predicted.split(sizes), strict=True):
        scores.update(t, p)
    return scores.compute()


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_documents_and_labels_one_by_one():
    h, true, predicted = drawn(random_dag, 5)
    scores = LabelSetScores(h)
    for t, p in zip(true.split(5), predicted.split(5), strict=True):
        scores.update(t, p)
    torch.testing.assert_close(scores.hf1_per_document, metrics.hierarchical_f_per_document(true, predicted, h))
    assert scores.label_counts.tolist() == [(true & predicted).sum(0).tolist(), predicted.sum(0).tolist(), true.sum(0).tolist()]


@given(seed=st.integers(0, 10**6), part=st.integers(1, 12), dag=st.booleans())
def test_parts_score_as_the_whole(seed, part, dag):
    h, true, predicted = drawn(random_dag if dag else random_tree, seed)
    several = by_themselves(true, predicted, h)
    found = streamed(true, predicted, h, part)
    assert_same({name: found[name] for name in several}, several)


@pytest.mark.parametrize("make", [random_tree, random_dag])
@pytest.mark.parametrize("part", [1, 5, 12])
def test_metrics_of_one_label_come_where_there_is_one(make, part):
    h, true, predicted, _ = one_label(make, 3)
    expected = by_themselves(true, predicted, h) | {
        name: getattr(metrics, name)(true, predicted, h) for name in ("mistake_severity", "tree_distance", "wu_palmer")
    }
    assert_same(streamed(true, predicted, h, part), expected)
    true[-1, h.leaves[:2]] = True  # several labels, in the last part
    assert "tree_distance" not in streamed(h.close(true), predicted, h, part)


@pytest.mark.parametrize("make", [random_tree, random_dag])
def test_probabilities_in_parts(make):
    h = make(1)
    true, scores, thresholds = single_paths(h, 20), torch.rand(20, h.num_nodes), torch.linspace(0, 1, 7)
    parts = ProbabilityScores(h, thresholds)
    for t, s in zip(true.split(6), scores.split(6), strict=True):
        parts.update(t, s)
    area, curve = parts.compute()
    assert area == pytest.approx(metrics.hf1_auc(true, scores, h), abs=1e-12)
    torch.testing.assert_close(parts.hf1_auc_per_document, metrics.hf1_auc_per_document(true, scores, h))
    for found, expected in zip(curve, metrics.micro_curve(true, scores, h, thresholds), strict=True):
        torch.testing.assert_close(found, expected)


def test_nothing_yet(small):
    with pytest.raises(ValueError, match="no document to score yet"):
        LabelSetScores(small).compute()
    with pytest.raises(ValueError, match="no document to score yet"):
        ProbabilityScores(small, torch.linspace(0, 1, 3)).compute()
    with pytest.raises(InputError, match="y_pred must have a column"):
        LabelSetScores(small).update(small.encode([["Arts"]]), torch.zeros(1, 2))


def test_a_level_that_no_document_reaches(small):
    scores = LabelSetScores(small)
    scores.update([["Arts", "Film"]], [["Arts", "Film"]])
    assert scores.compute()["accuracy_per_level"][:2] == [1.0, 1.0]
    assert math.isnan(scores.compute()["accuracy_per_level"][2])
