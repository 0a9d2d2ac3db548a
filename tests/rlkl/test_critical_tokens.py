from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlkl import addition, multiplication, subtraction
from rlkl.addition import Operands, completion, pieces, prompt
from rlkl.analysis import certainty_gaps, errors, scratchpads
from rlkl.critical_evaluation import CriticalProbabilities, critical_places
from rlkl.critical_tokens import critical_tokens, first_error, piece_at
from rlkl.scratchpad_view import to_html, to_terminal
from rlkl.sequences import next_token_logits
from rlkl.texts import right_sequences

from .conftest import tiny_model

numbers = st.integers(1, 12).flatmap(lambda digits: st.integers(0, 10**digits - 1))
operands = st.builds(Operands, numbers, numbers)
LONG = Operands(123, 45)  # one operand has one digit more than a model of two


def test_where_they_are():
    text = completion(LONG)
    found = critical_tokens(addition, LONG, 2)
    assert [(token.step, token.operand, token.digit, token.character) for token in found] == [(1, 1, 3, ","), (1, 1, 3, "3")]
    assert text[: found[-1].position + 2].endswith("[1,2,3]")


@given(operands, st.integers(1, 13))
def test_they_end_the_lists_that_are_too_long(pair, trained):
    found = critical_tokens(addition, pair, trained)
    text = completion(pair)
    assert all(text[token.position] == token.character for token in found)
    expected = sum(2 * max(0, len(str(number)) - step - trained) for number in pair for step in range(pair.digits))
    assert len(found) == expected
    assert (not found) == (pair.digits <= trained)
    for token in found:
        line = text[: token.position].rpartition("\n")[2]
        written = line.rpartition("[")[2]
        assert len(written) == 2 * (token.digit - 1) - (token.character == ",")
        assert token.digit > trained


def test_lists_of_every_task_have_them():
    """In 1234 - 567 both lists are longer than two digits; in 1234 * 7 there is one list, and the digit is none."""
    found = [token[1:] for token in critical_tokens(subtraction, Operands(1234, 567), 2)]
    first = [(1, 1, 3, ","), (1, 1, 3, "3"), (1, 1, 4, ","), (1, 1, 4, "4")]
    assert found == [*first, (1, 2, 3, ","), (1, 2, 3, "7"), (2, 1, 3, ","), (2, 1, 3, "3")]
    found = critical_tokens(multiplication, Operands(1234, 7), 2)
    assert [token[1:] for token in found] == [*first, (2, 1, 3, ","), (2, 1, 3, "3")]
    text = multiplication.completion(Operands(1234, 7))
    assert all(text[token.position] == token.character for token in found)
    assert critical_tokens(multiplication, Operands(12, 7), 2) == []


@pytest.mark.parametrize(("task", "pair"), [(subtraction, Operands(123, 45)), (multiplication, Operands(123, 7))])
def test_a_model_is_measured_on_the_task_it_was_made_for(task, pair):
    model = tiny_model(task)
    right = task.completion(pair)
    wrong = right.replace("[1,2,3]", "[1,2]", 1)
    pads = scratchpads(model, [pair] * 2, [right, wrong], 2)
    assert [pad["prompt"] for pad in pads] == [task.prompt(pair)] * 2
    assert [pad["first_error"] for pad in pads] == [None, right.index(",3]")]
    assert [pad["critical"] for pad in pads] == [[right.index(",3]"), right.index(",3]") + 1]] * 2
    found = certainty_gaps(model, [pair], 2)
    assert {place["step"] for place in found["places"] if place["field"] == "critical"} == {1}
    scores = CriticalProbabilities(task, [pair], 2).scores(model)
    assert set(scores) == {"critical/comma", "critical/lists", "critical/comma_step1_operand1"}


@given(operands)
def test_first_error(pair):
    text = completion(pair)
    assert first_error(addition, pair, text) is None
    assert first_error(addition, pair, text[:-3]) == len(text) - 3
    assert first_error(addition, pair, text + "x") == len(text)
    assert first_error(addition, pair, text[:9] + "#" + text[10:]) == 9
    assert piece_at(addition, pair, 0).field == "mark"
    assert piece_at(addition, pair, len(text) - 2).field == "answer"


def test_errors_tell_where_wrong_answers_begin():
    early = completion(LONG).replace("[1,2,3]", "[1,2]", 1).replace("1 6 8", "6 8")
    late = completion(LONG).replace("1 6 8", "1 6 9")
    found = errors(addition, [LONG] * 3, [completion(LONG), early, late], 2)
    assert found == {
        "wrong": 2,
        "critical": 0.5,
        "operand_lists": 0.5,
        "fields": [{"step": 1, "field": "operand 1", "count": 1}, {"step": 0, "field": "answer", "count": 1}],
    }


def test_probabilities_are_those_of_the_right_character(model):
    pairs = [LONG, Operands(1, 999), Operands(12, 34)]
    probabilities = next_token_logits(model, right_sequences(addition, pairs)).softmax(-1)
    sequences = right_sequences(addition, pairs)
    places = critical_places(addition, pairs, 2)
    for row, column, token in places:
        right = (prompt(pairs[row]) + completion(pairs[row]))[column + 1]
        assert right == token.character
    expected = [
        probabilities[row, column, sequences.targets[row, column]].item()
        for row, column, token in places
        if token.character == ","
    ]
    scores = CriticalProbabilities(addition, pairs, 2).scores(model)
    assert scores["critical/comma"] == pytest.approx(sum(expected) / 2)
    assert scores["critical/comma_step1_operand1"] == pytest.approx(expected[0])
    assert scores["critical/comma_step1_operand2"] == pytest.approx(expected[1])
    copied = []
    for row, pair in enumerate(pairs):
        start, chance = len(prompt(pair)) - 1, 1.0
        fields = [piece.field for piece in pieces(pair) for _ in piece.text]
        for position, field in enumerate(fields):
            if field.startswith("operand"):
                chance *= probabilities[row, start + position, sequences.targets[row, start + position]].item()
        copied.append(chance)
    assert scores["critical/lists"] == pytest.approx(sum(copied) / 3)


def test_no_critical_comma_is_an_error():
    with pytest.raises(ValueError, match="no operand has more than 3 digits"):
        CriticalProbabilities(addition, [LONG], 3)


class Unsure(torch.nn.Module):
    """A model that is certain of every token but those at critical places, where it is uniform."""

    device = torch.device("cpu")
    config = SimpleNamespace(task="addition")

    def __init__(self, pairs, trained):
        super().__init__()
        sequences = right_sequences(addition, pairs)
        self.logits = torch.nn.functional.one_hot(sequences.targets, 41) * 100.0
        for row, column, _ in critical_places(addition, pairs, trained):
            self.logits[row, column] = 0.0

    def forward(self, input_ids, use_cache):
        return type("Output", (), {"logits": self.logits})


def test_certainty_gap():
    pairs = [LONG, Operands(321, 999)]
    found = certainty_gaps(Unsure(pairs, 2), pairs, 2)
    assert found["gaps"]["critical"]["mean"] == pytest.approx(-1.0, abs=1e-5)
    assert found["gaps"]["critical"]["deviation"] == pytest.approx(0.0, abs=1e-5)
    assert found["gaps"]["operand lists"]["mean"] > 0
    assert 0 < found["gaps"]["lowest"]["mean"] <= found["gaps"]["operand lists"]["mean"]
    assert found["places"][0] == {"step": 1, "field": "critical", "certainty": pytest.approx(0.0, abs=1e-6)}


def test_a_coloured_scratchpad_marks_doubt_critical_tokens_and_the_first_error(model):
    wrong = completion(LONG).replace("[1,2,3]", "[1,2]", 1)
    pads = scratchpads(model, [LONG, LONG], [completion(LONG), wrong], 2)
    assert [pad["right"] for pad in pads] == [True, True]
    assert all(len(pad["certainty"]) == len(pad["text"]) for pad in pads)
    html = to_html(pads[0])
    assert html.count("outline") == 2
    assert "wavy" not in html
    assert "<scratch>" not in html
    assert "&lt;" in html
    assert to_html(pads[1]).count("wavy") == 1
    plain = to_terminal(pads[1], color=False)
    assert plain == prompt(LONG) + wrong
    coloured = to_terminal(pads[1])
    assert "\x1b[4;1m" in coloured or ";4;1m" in coloured
