import numpy as np
import pytest

from htc.report.comparison import best_two, paired_difference, ranks, winners


def test_winners_and_ranks():
    scores = {"threshold": {"a": 0.5, "b": 0.7, "c": 0.7}, "top_down": {"a": 0.9, "b": 0.1}, "crm": {}}
    assert winners(scores, lower_is_better=False) == {"threshold": ["b", "c"], "top_down": ["a"]}
    assert winners(scores, lower_is_better=True) == {"threshold": ["a"], "top_down": ["b"]}
    assert ranks(scores["threshold"], lower_is_better=False) == {"a": 3, "b": 1, "c": 1}
    assert ranks(scores["threshold"], lower_is_better=True) == {"a": 1, "b": 2, "c": 2}


SAME = [np.arange(400)] * 3


def documents(difference, spread=0.3):
    """Two methods on the same 400 documents with three seeds; they share far more noise than they do not."""
    rng = np.random.default_rng(0)
    hard = rng.normal(0.5, spread, 400)
    return {
        name: [hard + shift + rng.normal(0, 0.02, 400) for _ in range(3)] for name, shift in (("a", difference), ("b", 0.0))
    }


def test_pairs_distinguish_what_means_do_not():
    scores = documents(0.01)
    assert best_two(scores) == ("a", "b")
    found = paired_difference("a", "b", scores, SAME)
    assert found.over_documents.mean == pytest.approx(0.01, abs=0.003)
    assert found.over_documents.values == 400
    assert found.over_seeds.values == 3
    assert found.sure
    unpaired = 1.96 * np.sqrt(2 * 0.3**2 / 400)
    assert found.over_documents.half_width < unpaired / 10


def test_no_difference_is_not_found():
    found = paired_difference("a", "b", documents(0.0), SAME)
    assert found.over_documents.low < 0 < found.over_documents.high
    assert not found.sure


def test_a_document_counts_once_however_many_seeds_tested_it():
    scores = documents(0.01)
    assert paired_difference("a", "b", scores, SAME).over_documents.values == 400
    others = [np.arange(400) + 400 * seed for seed in range(3)]
    assert paired_difference("a", "b", scores, others).over_documents.values == 1200
    overlapping = [np.arange(400), np.arange(400), np.arange(200, 600)]
    found = paired_difference("a", "b", scores, overlapping)
    assert found.over_documents.values == 600
    differences = [a - b for a, b in zip(scores["a"], scores["b"], strict=True)]
    expected = np.nanmean(
        [np.r_[differences[0], [np.nan] * 200], np.r_[differences[1], [np.nan] * 200], np.r_[[np.nan] * 200, differences[2]]],
        axis=0,
    )
    assert found.over_documents.mean == pytest.approx(expected.mean())


def test_one_seed_has_no_interval_over_seeds():
    one = {name: seeds[:1] for name, seeds in documents(0.01).items()}
    found = paired_difference("a", "b", one, SAME[:1])
    assert np.isnan(found.over_seeds.low)
    assert not found.sure
