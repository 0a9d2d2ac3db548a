import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from transformers import GPT2Config

from rlkl.analysis.comma_probabilities import critical_places
from rlkl.analysis.critical_tokens import untrained_tokens
from rlkl.analysis.detection import (
    DISAGREEMENT,
    ENSEMBLE,
    FITTED,
    average_precision,
    critical_labels,
    detect,
    detection,
    first_error_labels,
    precision_recall,
    r_precision,
    uncertainties,
)
from rlkl.certainty import CERTAINTIES
from rlkl.model.sequences import next_token_logits
from rlkl.model.texts import right_sequences
from rlkl.tasks import addition
from rlkl.tasks.addition import Operands, completion

PAIRS = [Operands(123, 45), Operands(321, 999), Operands(12, 34)]
rankings = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=20).filter(
    lambda pairs: any(label for label, _ in pairs)
)


def arrays(pairs):
    return np.array([label for label, _ in pairs]), np.array([score for _, score in pairs], dtype=float)


@given(rankings)
def test_curve_and_average_precision_are_those_of_scikit_learn(pairs):
    labels, scores = arrays(pairs)
    assert average_precision(labels, scores) == pytest.approx(metrics.average_precision_score(labels, scores))
    precision, recall = precision_recall(labels, scores)
    theirs_precision, theirs_recall, _ = metrics.precision_recall_curve(labels, scores)
    assert precision == pytest.approx(theirs_precision[-2::-1])
    assert recall == pytest.approx(theirs_recall[-2::-1])


@given(rankings)
def test_r_precision_is_the_mean_over_orders_of_what_ties(pairs):
    labels, scores = arrays(pairs)
    rng = np.random.default_rng(0)
    count = labels.sum()
    tried = [labels[np.lexsort((rng.random(len(scores)), -scores))[:count]].mean() for _ in range(300)]
    assert r_precision(labels, scores) == pytest.approx(np.mean(tried), abs=0.12)
    untied = scores + np.arange(len(scores)) / 100
    assert r_precision(labels, untied) == pytest.approx(labels[np.argsort(-untied)[:count]].mean())


def test_the_best_the_worst_and_the_blind_order():
    labels = np.array([True, False, False, True])
    assert average_precision(labels, np.array([4.0, 1, 2, 3])) == r_precision(labels, np.array([4.0, 1, 2, 3])) == 1
    assert r_precision(labels, np.array([1.0, 4, 3, 2])) == 0
    assert average_precision(labels, np.zeros(4)) == r_precision(labels, np.zeros(4)) == 0.5
    for function in (average_precision, r_precision, precision_recall):
        with pytest.raises(ValueError, match="nothing to find"):
            function(np.array([False]), np.array([1.0]))


def test_labels_are_the_critical_characters():
    long, _, short = critical_labels(addition, PAIRS, 2)
    text = completion(PAIRS[0])
    assert "".join(text[index] for index in np.flatnonzero(long)) == ",3,21"  # of [1,2,3], [1,2] and [1]
    untrained = critical_labels(addition, PAIRS, 2, untrained_tokens)[0]
    assert "".join(text[index] for index in np.flatnonzero(untrained)) == ",3"
    assert len(long) == len(text) + 1
    assert not short.any()


def test_labels_are_the_first_errors_of_wrong_answers():
    pair, text = PAIRS[0], completion(PAIRS[0])
    early = text.replace("[1,2,3]", "[1,2]", 1).replace("1 6 8", "6 8")
    slip = text.replace("[1,2,3]", "[1,2]", 1)
    cut, longer = text[:-3], text + "0"
    right, wrong, unharmed, short, after = first_error_labels(addition, [pair] * 5, [text, early, slip, cut, longer])
    assert len(right) == len(text) + 1
    assert not right.any()
    place = text.index("[1,2,3]") + len("[1,2")
    assert np.flatnonzero(wrong).tolist() == [place]
    assert len(wrong) == len(unharmed) == place + 1
    assert not unharmed.any()
    assert np.flatnonzero(short).tolist() == [len(short) - 1] == [len(text) - 3]
    assert len(after) == len(text) + 1, "the end token should have stood there"
    assert not after.any()


@torch.no_grad()
def test_uncertainties_are_those_of_each_token_however_batched(model):
    found = uncertainties(model, PAIRS, batch_size=2)
    assert list(found) == list(CERTAINTIES)
    sequences = right_sequences(addition, PAIRS)
    probabilities = next_token_logits(model, sequences).softmax(-1)
    for row, pair in enumerate(PAIRS):
        top = 1 - probabilities[row].amax(-1)[sequences.mask[row]]
        assert found["max_probability"][row] == pytest.approx(top.numpy(), abs=1e-5)
        assert len(found["negentropy"][row]) == len(completion(pair)) + 1


def test_a_fitted_temperature_and_an_ensemble_are_further_uncertainties(model):
    other = type(model)(model.config)
    other.task, other.tokenizer = getattr(model, "task", None), getattr(model, "tokenizer", None)
    alone = uncertainties(model, PAIRS)
    found = uncertainties(model, PAIRS, temperature=1.0, ensemble=[other.double()])
    assert set(found) - set(alone) == {FITTED, ENSEMBLE, DISAGREEMENT}
    for name, rows in alone.items():
        for mine, theirs in zip(rows, found[name], strict=True):
            assert np.array_equal(mine, theirs)
    for one, same in zip(found["negentropy"], found[FITTED], strict=True):
        assert np.array_equal(one, same)
    for of_ensemble, apart in zip(found[ENSEMBLE], found[DISAGREEMENT], strict=True):
        assert (of_ensemble > 0).all()
        assert (apart > 0).all()


def test_certainties_that_are_functions_of_each_other_find_the_same(model):
    found = detect(model, PAIRS, [completion(pair)[:40] for pair in PAIRS], 2)
    assert list(found) == ["critical", "untrained", "first_error"]
    for question in found:
        by_certainty = found[question]
        assert by_certainty["min_entropy"] == by_certainty["max_probability"] != by_certainty["negentropy"]


class Unsure(torch.nn.Module):
    """A model that is certain of every token but those at critical places, where it is uniform."""

    device, config = torch.device("cpu"), GPT2Config()

    def __init__(self, pairs, trained):
        super().__init__()
        sequences = right_sequences(addition, pairs)
        self.logits = torch.nn.functional.one_hot(sequences.targets, 41) * 100.0
        for row, column, _ in critical_places(addition, pairs, trained):
            self.logits[row, column] = 0.0

    def forward(self, input_ids, use_cache):
        return type("Output", (), {"logits": self.logits})


def test_a_model_that_is_unsure_of_nothing_else_finds_all():
    """Right at all but the critical tokens; where it is uniform it errs, and the first of them is the error."""
    wrong = completion(PAIRS[0]).replace("[1,2,3]", "[1,2]", 1).replace("1 6 8", "6 8")
    texts = [wrong, completion(PAIRS[1]), completion(PAIRS[2])]
    found = detect(Unsure(PAIRS, 2), PAIRS, texts, 2)
    critical = sum(row.sum() for row in critical_labels(addition, PAIRS, 2))
    for result in found["critical"].values():
        assert (result["average_precision"], result["r_precision"], result["labelled"]) == (1.0, 1.0, critical)
        assert all(point["precision"] == 1 for point in result["curve"])
        assert set(result["fields"]) == {"operand 1", "operand 2"}
    for result in found["first_error"].values():
        assert result["labelled"] == 1
        assert result["r_precision"] == pytest.approx(1 / (1 + critical_labels(addition, PAIRS, 2)[1].sum()))
    assert list(detect(Unsure(PAIRS, 3), PAIRS, [completion(pair) for pair in PAIRS], 3)) == []


def test_a_detection_reports_what_it_counted():
    labels = [np.array([True, False]), np.array([False, True])]
    scores = [np.array([3.0, 1.0]), np.array([2.0, 1.0, 99.0])]
    found = detection(labels, scores, [["sum", "carry"], ["digit", "sum", "end"]])
    assert found["characters"] == 4, "scores behind the labels are left out"
    assert found["base_rate"] == found["r_precision"] == 0.5
    assert found["fields"] == {"sum": 1, "digit": 1}
    precision = {point["recall"]: point["precision"] for point in found["curve"]}
    assert (precision[0.05], precision[0.5], precision[0.55], precision[1.0]) == (1.0, 1.0, 0.5, 0.5)
