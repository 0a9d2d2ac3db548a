from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlkl.tasks import addition
from rlkl.tasks.addition import Operands, completion, grade, pieces, prompt

FIELDS = {"operand 1", "operand 2", "result", "carry", "work", "digit", "new carry", "answer", "mark"}

numbers = st.integers(0, 20).flatmap(lambda digits: st.integers(0, 10**digits))
operands = st.builds(Operands, numbers, numbers)

EXAMPLE = """
<scratch>
[1,2,8] + [3,6,7] , A=[] , C=0 , 8+7+0=15 , A->5 , C->1
[1,2] + [3,6] , A=[5] , C=1 , 2+6+1=9 , A->9 , C->0
[1] + [3] , A=[9,5] , C=0 , 1+3+0=4 , A->4 , C->0
[] + [] , A=[4,9,5] C=0 , END
</scratch>
4 9 5
"""


def test_the_example_of_the_paper():
    assert prompt(Operands(128, 367)) == "Input:\n128+367\nTarget:"
    assert completion(Operands(128, 367)) == EXAMPLE


def test_an_exhausted_operand_is_empty_and_a_last_carry_is_in_the_answer_only():
    text = completion(Operands(97, 5))
    assert "\n[9] + [] , A=[2] , C=1 , 9+0+1=10 , A->0 , C->1\n" in text
    assert text.endswith("[] + [] , A=[0,2] C=1 , END\n</scratch>\n1 0 2\n")


def test_zeros():
    assert completion(Operands(0, 0)).endswith("0+0+0=0 , A->0 , C->0\n[] + [] , A=[0] C=0 , END\n</scratch>\n0\n")


@pytest.mark.parametrize(("digits", "longest"), [(3, 242), (4, 313), (5, 390), (7, 562), (8, 657), (9, 758), (15, 1490)])
def test_lengths_are_the_papers(digits, longest):
    nines = Operands(10**digits - 1, 10**digits - 1)
    assert len(prompt(nines)) + len(completion(nines)) == longest


@given(operands)
def test_the_scratchpad_computes_the_sum(pair):
    """Every line follows from the one before, and the answer is Python's."""
    lines = completion(pair).splitlines()
    assert lines[:2] == ["", "<scratch>"]
    assert lines[-2] == "</scratch>"
    assert int(lines[-1].replace(" ", "")) == pair.first + pair.second
    assert len(lines) == pair.digits + 5
    carry, result = 0, ""
    for step, line in enumerate(lines[2:-3]):
        a, b = (str(number)[::-1][step : step + 1] or "0" for number in pair)
        lists = [f"[{','.join(str(number)[: max(0, len(str(number)) - step)])}]" for number in pair]
        total = int(a) + int(b) + carry
        known = f"{lists[0]} + {lists[1]} , A=[{','.join(result)}] , C={carry} , {a}+{b}+{carry}={total}"
        carry, result = total // 10, str(total % 10) + result
        assert line == f"{known} , A->{total % 10} , C->{carry}"
    assert lines[-3] == f"[] + [] , A=[{','.join(result)}] C={carry} , END"


@given(operands)
def test_the_right_completion_is_right_and_is_made_of_its_pieces(pair):
    text = completion(pair)
    assert grade(pair, text)
    assert grade(pair, text + "anything")
    assert "".join(piece.text for piece in pieces(pair)) == text
    assert {piece.field for piece in pieces(pair)} == FIELDS


@given(operands, numbers)
def test_only_the_answer_counts(pair, other):
    wrong = Operands(other, 0)
    assert grade(pair, completion(wrong)) == (pair.first + pair.second == other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4 9 5\n",
        "</scratch>\n4 9 5",
        "</scratch>\n495\n",
        "</scratch>\n 4 9 5\n",
        "</scratch>\n4 9 5 \n",
        "</scratch>4 9 5\n",
    ],
)
def test_an_answer_line_that_is_not_exactly_right_is_wrong(text):
    assert not grade(Operands(128, 367), text)


def lengths(pairs):
    return [(len(str(first)), len(str(second))) for first, second in pairs]


@given(st.integers(1, 20), st.integers(0, 2**32))
def test_operands_have_the_digits_that_were_asked_for(digits, seed):
    rng = Random(seed)
    assert set(lengths([addition.identical(digits, rng) for _ in range(5)])) == {(digits, digits)}
    for first, second in lengths([addition.varying(digits, rng) for _ in range(5)]):
        assert max(first, second) == digits
    for first, second in lengths([addition.balanced(digits, rng) for _ in range(5)]):
        assert max(first, second) <= digits
    for first, second in lengths([addition.longer(digits, digits + 2, rng) for _ in range(5)]):
        assert max(first, second) == digits + 2


def test_the_mixes_are_balanced():
    rng = Random(0)
    drawn = lengths([addition.balanced(4, rng) for _ in range(4000)])
    for operand in (0, 1):
        for digits in range(1, 5):
            assert 900 < sum(pair[operand] == digits for pair in drawn) < 1100
    drawn = lengths([addition.longer(3, 5, rng) for _ in range(4000)])
    assert 1900 < sum(min(pair) <= 3 for pair in drawn) < 2100
    first_is_longest = sum(pair[0] == 5 for pair in drawn if min(pair) <= 3)
    assert 0.45 < first_is_longest / sum(min(pair) <= 3 for pair in drawn) < 0.55
    assert {1, 2, 3, 4, 5} == {min(pair) for pair in drawn}
    assert {first for first, _ in (addition.identical(1, rng) for _ in range(300))} == set(range(10))
