import re
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlkl.analysis.certainty_gaps import certainty_gaps, errors, scratchpads
from rlkl.analysis.comma_probabilities import CriticalProbabilities, critical_places
from rlkl.analysis.critical_tokens import CriticalToken, critical_tokens, first_error, piece_at, untrained_tokens
from rlkl.model.sequences import next_token_logits
from rlkl.model.texts import right_sequences
from rlkl.report.scratchpad_view import to_html, to_terminal
from rlkl.tasks import addition, multiplication, subtraction
from rlkl.tasks.addition import Operands, completion, pieces, prompt

from ..conftest import tiny_model

numbers = st.integers(1, 12).flatmap(lambda digits: st.integers(0, 10**digits - 1))
operands = st.builds(Operands, numbers, numbers)
LONG = Operands(123, 45)  # one operand has one digit more than a model of two


# By task, operands and N: for each list of the first three lines that has any, its line, operand, and critical characters.
EXAMPLES = [
    (addition, (1234, 56), 3, [(1, 1, ",4"), (2, 1, ",3"), (3, 1, ",2")]),  # the fourth line's [1] is none of the first three
    (addition, (56, 1234), 3, [(1, 2, ",4"), (2, 2, ",3"), (3, 2, ",2")]),
    (addition, (1234, 5678), 3, [(1, 1, ",4"), (1, 2, ",8"), (2, 1, ",3"), (2, 2, ",7"), (3, 1, ",2"), (3, 2, ",6")]),
    (addition, (12345, 6789), 3, [(1, 1, ",4,5"), (1, 2, ",9"), (2, 1, ",3,4"), (2, 2, ",8"), (3, 1, ",2,3"), (3, 2, ",7")]),
    (addition, (123456, 0), 3, [(1, 1, ",4,5,6"), (2, 1, ",3,4,5"), (3, 1, ",2,3,4")]),
    (addition, (123, 999), 3, []),
    (addition, (0, 1), 1, []),
    (addition, (1000, 1), 3, [(1, 1, ",0"), (2, 1, ",0"), (3, 1, ",0")]),
    (addition, (123, 4), 2, [(1, 1, ",3"), (2, 1, ",2"), (3, 1, "1")]),  # a list of fewer than 2 k characters: all of them
    (addition, (12345, 4), 1, [(1, 1, ",2,3,4,5"), (2, 1, "1,2,3,4"), (3, 1, "1,2,3")]),
    (addition, (12, 34), 1, [(1, 1, ",2"), (1, 2, ",4"), (2, 1, "1"), (2, 2, "3")]),  # the third line's lists are empty
    (addition, (5, 6), 0, [(1, 1, "5"), (1, 2, "6")]),
    (subtraction, (1234, 567), 2, [(1, 1, ",3,4"), (1, 2, ",7"), (2, 1, ",2,3"), (2, 2, ",6"), (3, 1, "1,2"), (3, 2, "5")]),
    (multiplication, (1234, 7), 3, [(1, 1, ",4"), (2, 1, ",3"), (3, 1, ",2")]),  # the second operand is no list
    (multiplication, (12, 7), 2, []),
]


@pytest.mark.parametrize(("task", "pair", "trained", "expected"), EXAMPLES)
def test_they_end_the_lists_of_the_first_three_lines(task, pair, trained, expected):
    found = critical_tokens(task, Operands(*pair), trained)
    by_list = {}
    for token in found:
        by_list.setdefault((token.step, token.operand), []).append(token.character)
    assert [(*key, "".join(characters)) for key, characters in by_list.items()] == expected


@given(st.sampled_from([addition, subtraction, multiplication]), operands, st.integers(1, 13))
def test_they_are_the_last_of_their_lists(task, pair, trained):
    """The definition read off the text: of each list in each line, and of no more than three lines."""
    if task is subtraction:
        pair = Operands(max(pair), min(pair))
    if task is multiplication:
        pair = Operands(pair.first, 2 + pair.second % 8)
    text = task.completion(pair)
    expected, start = [], text.index("[")
    for step, line in enumerate(text[start:].splitlines()[:3], start=1):
        lists = list(re.finditer(r"\[([\d,]*)\]", line.partition(" , A=")[0]))
        for operand, (number, found) in enumerate(zip(pair, lists, strict=False), start=1):
            last = found.group(1)[-2 * max(0, len(str(number)) - trained) :] if len(str(number)) > trained else ""
            for place in range(found.end(1) - len(last), found.end(1)):
                digit = (place - found.start(1)) // 2 + 1 + (line[place] == ",")
                expected.append(CriticalToken(start + place, step, operand, digit, line[place]))
        start += len(line) + 1
    assert critical_tokens(task, pair, trained) == expected
    assert (not expected) == (max(len(str(number)) for number in pair[: len(lists) or 1]) <= trained)


@given(operands, st.integers(1, 13))
def test_untrained_tokens_end_the_lists_that_are_too_long(pair, trained):
    found = untrained_tokens(addition, pair, trained)
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
    critical = critical_tokens(addition, pair, trained)
    if pair.digits <= trained + 3:
        assert set(found) <= set(critical)
    assert {token for token in found if token.step == 1} == {token for token in critical if token.step == 1}


@pytest.mark.parametrize(("task", "pair"), [(subtraction, Operands(123, 45)), (multiplication, Operands(123, 7))])
def test_a_model_is_measured_on_the_task_it_was_made_for(task, pair):
    model = tiny_model(task)
    right = task.completion(pair)
    wrong = right.replace("[1,2,3]", "[1,2]", 1)
    pads = scratchpads(model, [pair] * 2, [right, wrong], 2)
    assert [pad["prompt"] for pad in pads] == [task.prompt(pair)] * 2
    assert [pad["first_error"] for pad in pads] == [None, right.index(",3]")]
    first, second, third = (right.index(end) for end in (",3] ", ",2] ", "1] " + "-*"[task is multiplication]))
    critical = [first, first + 1, second, second + 1, third]
    assert [pad["critical"] for pad in pads] == [critical] * 2
    found = certainty_gaps(model, [pair], 2)
    assert {place["step"] for place in found["places"] if place["field"] == "critical"} == {1, 2, 3}
    scores = CriticalProbabilities(task, [pair], 2).scores(model)
    commas = {"critical/comma_step1_operand1", "critical/comma_step2_operand1"}  # the third line's list has none
    assert set(scores) == {"critical/comma", "critical/lists"} | commas


@given(operands)
def test_first_error(pair):
    text = completion(pair)
    assert first_error(addition, pair, text) is None
    assert first_error(addition, pair, text[:-3]) == len(text) - 3
    assert first_error(addition, pair, text + "x") == len(text)
    assert first_error(addition, pair, text[:9] + "#" + text[10:]) == 9
    assert piece_at(addition, pair, 0).field == "mark"
    assert piece_at(addition, pair, len(text) - 2).field == "answer"


def test_errors_show_where_wrong_answers_begin():
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
    scores = CriticalProbabilities(addition, pairs, 2).scores(model)
    commas = {(1, 1): ",3]", (2, 1): ",2]", (1, 2): ",9]", (2, 2): ",9]"}  # those of 123 + 45, and of 1 + 999
    expected = {}
    for (step, operand), end in commas.items():
        row = operand - 1
        text, line = prompt(pairs[row]) + completion(pairs[row]), completion(pairs[row]).splitlines()[1 + step]
        column = text.index(line) + line.index(end) - 1
        expected[step, operand] = probabilities[row, column, sequences.targets[row, column]].item()
        assert scores[f"critical/comma_step{step}_operand{operand}"] == pytest.approx(expected[step, operand])
    assert scores["critical/comma"] == pytest.approx(sum(expected.values()) / 4)
    copied = []
    for row, pair in enumerate(pairs):
        start, chance = len(prompt(pair)) - 1, 1.0
        fields = [piece.field for piece in pieces(pair) for _ in piece.text]
        for position, field in enumerate(fields):
            if field.startswith("operand"):
                chance *= probabilities[row, start + position, sequences.targets[row, start + position]].item()
        copied.append(chance)
    assert scores["critical/lists"] == pytest.approx(sum(copied) / 3)


@pytest.mark.parametrize(("digits", "window"), [(4, 1), (5, 2), (6, 3)])
def test_the_three_lines_of_figure_7_exist_on_one_digit_more_and_on_any_number(digits, window):
    """With N = 3 the commas are those before digits 4, 3 and 2 of the lists, however many digits the operands have."""
    places = {}
    pair = Operands(int("123456"[:digits]), int("987654"[:digits]))
    measured = CriticalProbabilities(addition, [pair], 3)
    for _, _, token in measured.places:
        places[token.step, token.operand] = token.digit
    assert places == {(step, operand): 5 - step for step in (1, 2, 3) for operand in (1, 2)}
    assert len(critical_tokens(addition, pair, 3)) == 2 * window * 2 * 3


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
    assert html.count("outline") == 5
    assert "wavy" not in html
    assert "<scratch>" not in html
    assert "&lt;" in html
    assert to_html(pads[1]).count("wavy") == 1
    plain = to_terminal(pads[1], color=False)
    assert plain == prompt(LONG) + wrong
    coloured = to_terminal(pads[1])
    assert "\x1b[4;1m" in coloured or ";4;1m" in coloured
