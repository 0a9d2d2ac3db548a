import pytest
import torch

from rlkl import addition, evaluation
from rlkl.addition import Operands
from rlkl.errors import InputError
from rlkl.evaluation import check_positions, complete, completes_right, grades, sample
from rlkl.language_model import load_model
from rlkl.texts import decode, positions_needed


@pytest.fixture(scope="module")
def embedded():
    return load_model("addition-n5")


def test_the_embedded_model_adds_what_it_was_trained_on_and_some_of_what_it_was_not(embedded):
    assert embedded.config.trained_digits == 5
    for digits, low, high in ((5, 0.9, 1.0), (6, 0.1, 0.8), (7, 0.0, 0.1)):
        operands = sample("varying", digits, 30, seed=5)
        assert low <= sum(grades(operands, complete(embedded, operands))) / 30 <= high


def test_texts_that_one_pass_finds_right_are_those_that_are_written_out(embedded):
    operands = sample("varying", 6, 40, seed=3)
    right = completes_right(embedded, operands)
    assert 0 < right.sum() < 40
    written = decode(evaluation.roll_out(embedded, operands, 0.0)[1])
    assert right.tolist() == [text == addition.completion(pair) for pair, text in zip(operands, written, strict=True)]
    assert complete(embedded, operands) == written


def test_completions_keep_their_order_and_depend_on_the_seed(model):
    operands = [Operands(99, 99), Operands(1, 2), Operands(1, 2), Operands(12, 3)]
    texts = complete(model, operands, temperature=1.0, seed=1, batch_size=4)
    assert texts == complete(model, operands, temperature=1.0, seed=1, batch_size=4)
    assert texts != complete(model, operands, temperature=1.0, seed=2, batch_size=4)
    assert texts[1] != texts[2], "each addition is sampled by itself"
    assert complete(model, operands)[1] == complete(model, operands)[2]


def test_progress_is_told_to_the_end(model):
    done = []
    complete(model, [Operands(1, 2)] * 5, batch_size=2, advance=done.append)
    assert done == [2, 2, 1]


def test_samples_are_the_same_for_the_same_seed():
    assert sample("varying", 4, 9, 1) == sample("varying", 4, 9, 1) != sample("varying", 4, 9, 2)
    assert sample("varying", 4, 9, 1)[:5] == sample("varying", 4, 5, 1)


def test_positions():
    check_positions(positions_needed(4), 4)
    with pytest.raises(InputError, match=f"additions of 4 digits need {positions_needed(4)} positions"):
        check_positions(positions_needed(4) - 1, 4)
    assert positions_needed(4) == 313 + 1 + 64
    assert torch.is_tensor(completes_right(load_model("addition-n5"), [Operands(1, 2)]))
