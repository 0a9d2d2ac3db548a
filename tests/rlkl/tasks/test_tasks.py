"""Every task's texts, held against examples, against Python's arithmetic, and against themselves, line by line."""

import re
import sys
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlkl.tasks import addition, multiplication, subtraction
from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import TASKS, task_named
from rlkl.tasks.scratchpad import CHARACTERS
from rlkl_htc_common.errors import InputError

FIELDS = {"operand 1", "operand 2", "result", "carry", "work", "digit", "new carry", "answer", "mark"}

EXAMPLES = {
    "addition": (
        Operands(352, 67),
        """
<scratch>
[3,5,2] + [6,7] , A=[] , C=0 , 2+7+0=9 , A->9 , C->0
[3,5] + [6] , A=[9] , C=0 , 5+6+0=11 , A->1 , C->1
[3] + [] , A=[1,9] , C=1 , 3+0+1=4 , A->4 , C->0
[] + [] , A=[4,1,9] C=0 , END
</scratch>
4 1 9
""",
    ),
    "subtraction": (
        Operands(1007, 998),
        """
<scratch>
[1,0,0,7] - [9,9,8] , A=[] , C=0 , 7-8-0=-1 , A->9 , C->1
[1,0,0] - [9,9] , A=[9] , C=1 , 0-9-1=-10 , A->0 , C->1
[1,0] - [9] , A=[0,9] , C=1 , 0-9-1=-10 , A->0 , C->1
[1] - [] , A=[0,0,9] , C=1 , 1-0-1=0 , A->0 , C->0
[] - [] , A=[0,0,0,9] C=0 , END
</scratch>
9
""",
    ),
    "multiplication": (
        Operands(352, 7),
        """
<scratch>
[3,5,2] * 7 , A=[] , C=0 , 2*7+0=14 , A->4 , C->1
[3,5] * 7 , A=[4] , C=1 , 5*7+1=36 , A->6 , C->3
[3] * 7 , A=[6,4] , C=3 , 3*7+3=24 , A->4 , C->2
[] * 7 , A=[4,6,4] C=2 , END
</scratch>
2 4 6 4
""",
    ),
}
SIGNS = {"addition": "+", "subtraction": "-", "multiplication": "*"}
VALUES = {
    "addition": lambda a, b: a + b,
    "subtraction": lambda a, b: a - b,
    "multiplication": lambda a, b: a * b,
}
EVERY_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)

numbers = st.integers(0, 20).flatmap(lambda digits: st.integers(0, 10**digits))


def operands_of(task):
    """Any operands that a task takes."""
    if task is multiplication:
        return st.builds(Operands, numbers, st.integers(2, 9))
    pairs = st.builds(Operands, numbers, numbers)
    return pairs.map(lambda pair: Operands(max(pair), min(pair))) if task is subtraction else pairs


problems = st.sampled_from(list(TASKS.values())).flatmap(lambda task: st.tuples(st.just(task), operands_of(task)))


@EVERY_TASK
def test_the_text_of_an_example(task):
    pair, text = EXAMPLES[task.NAME]
    assert task.prompt(pair) == f"Input:\n{pair.first}{SIGNS[task.NAME]}{pair.second}\nTarget:"
    assert task.completion(pair) == text


@pytest.mark.parametrize("task", [addition, subtraction, multiplication])
def test_the_example_of_the_docstring(task):
    page = sys.modules[f"rlkl.tasks.{task.NAME}"].__doc__
    example = re.search(r"<scratch>.*", page, flags=re.DOTALL)[0].partition("\n\n")[0]
    first, second = re.search(r"For (\d+) \S (\d+)", page).groups()
    shown = "".join(f"\n{line.strip()}" for line in example.splitlines()) + "\n"
    assert task.completion(Operands(int(first), int(second))) == shown


LINE = re.compile(
    r"(?P<first>\[[\d,]*\]) (?P<sign>.) (?P<second>\[[\d,]*\]|\d) , A=(?P<result>\[[\d,]*\]) , C=(?P<carry>\d) , "
    r"(?P<a>\d)[+*-](?P<b>\d)[+-](?P<c>\d)=(?P<total>-?\d+) , A->(?P<digit>\d) , C->(?P<new_carry>\d)"
)
LAST_LINE = re.compile(r"(?P<first>\[\]) (?P<sign>.) (?P<second>\[\]|\d) , A=(?P<result>\[[\d,]+\]) C=(?P<carry>\d) , END")


def check_lines(task, pair):
    """Read a scratchpad as a pupil would: each line's work is right, and the next line takes over what it found."""
    lines = task.completion(pair).splitlines()
    assert lines[:2] == ["", "<scratch>"]
    assert len(lines) == pair.digits + 5
    carry, result = "0", []
    for step, line in enumerate(lines[2:-3]):
        found = LINE.fullmatch(line)
        assert found["sign"] == SIGNS[task.NAME]
        for number, name, digit in ((pair.first, "first", "a"), (pair.second, "second", "b")):
            left = list(str(number)[: max(0, len(str(number)) - step)])
            if task is multiplication and name == "second":
                assert found["second"] == found["b"] == str(number)
            else:
                assert found[name] == f"[{','.join(left)}]"
                assert found[digit] == (left[-1] if left else "0")
        assert found["result"] == f"[{','.join(result)}]"
        assert found["carry"] == found["c"] == carry
        work = line.partition("=")[2].partition(f"C={carry} , ")[2].partition("=")[0]
        assert eval(work) == int(found["total"])
        borrows = task is subtraction
        tens = -int(found["new_carry"]) if borrows else int(found["new_carry"])
        assert 10 * tens + int(found["digit"]) == int(found["total"])
        carry, result = found["new_carry"], [found["digit"], *result]
    last = LAST_LINE.fullmatch(lines[-3])
    assert last["result"] == f"[{','.join(result)}]"
    assert last["carry"] == carry
    assert last["second"] == (str(pair.second) if task is multiplication else "[]")
    assert lines[-2] == "</scratch>"
    written = (carry + "".join(result)).lstrip("0") or "0"
    assert lines[-1] == " ".join(written) == " ".join(str(VALUES[task.NAME](*pair)))


@given(problems)
def test_the_scratchpad_leads_to_pythons_answer(problem):
    check_lines(*problem)


@pytest.mark.parametrize("task", [addition, subtraction, multiplication])
def test_every_pair_of_digits_with_every_carry(task):
    """The last two digits of three are enough to meet each pair of digits with each carry that there can be."""
    met = set()
    for first, second in product(range(100, 200), range(2, 10) if task is multiplication else range(100)):
        check_lines(task, Operands(first, second))
        met |= set(re.findall(r"(\d)[+*-](\d)[+-](\d)=", task.completion(Operands(first, second))))
    assert {carry for _, _, carry in met} == set(map(str, range(9 if task is multiplication else 2)))
    # A digit times b, from 2 to 9, meets the carries from 0 to b - 1.
    assert len(met) == (10 * sum(range(2, 10)) if task is multiplication else 10 * 10 * 2)


@pytest.mark.parametrize(
    ("task", "pair", "ending"),
    [
        (subtraction, Operands(0, 0), "0-0-0=0 , A->0 , C->0\n[] - [] , A=[0] C=0 , END\n</scratch>\n0\n"),
        (subtraction, Operands(457, 457), "[] - [] , A=[0,0,0] C=0 , END\n</scratch>\n0\n"),
        (subtraction, Operands(100, 99), "[] - [] , A=[0,0,1] C=0 , END\n</scratch>\n1\n"),
        (subtraction, Operands(99, 9), "[] - [] , A=[9,0] C=0 , END\n</scratch>\n9 0\n"),
        (multiplication, Operands(0, 9), "0*9+0=0 , A->0 , C->0\n[] * 9 , A=[0] C=0 , END\n</scratch>\n0\n"),
        (multiplication, Operands(99, 9), "9*9+8=89 , A->9 , C->8\n[] * 9 , A=[9,1] C=8 , END\n</scratch>\n8 9 1\n"),
        (multiplication, Operands(50, 2), "[] * 2 , A=[0,0] C=1 , END\n</scratch>\n1 0 0\n"),
    ],
)
def test_zeros_nines_and_last_carries(task, pair, ending):
    assert task.completion(pair).endswith(ending)


@given(problems)
def test_the_right_completion_is_right_and_is_made_of_its_pieces(problem):
    task, pair = problem
    text = task.completion(pair)
    assert task.grade(pair, text)
    assert task.grade(pair, text + "anything")
    assert not task.grade(pair, text[:-1])
    assert not task.grade(pair, text.replace("</scratch>\n", "</scratch>\n0 "))
    assert text.endswith(f"</scratch>\n{task.answer(pair)}\n")
    assert "".join(piece.text for piece in task.pieces(pair)) == text
    assert {piece.field for piece in task.pieces(pair)} == FIELDS
    assert set(task.prompt(pair) + text) <= set(task.CHARACTERS)


@given(problems, numbers)
def test_only_the_answer_counts(problem, other):
    task, pair = problem
    assert task.grade(pair, addition.completion(Operands(other, 0))) == (VALUES[task.NAME](*pair) == other)


@pytest.mark.parametrize(
    ("task", "pair", "message"),
    [
        (subtraction, Operands(3, 5), "3-5: the first operand must not be smaller than the second"),
        (multiplication, Operands(3, 1), "3\\*1: the second operand must be from 2 to 9"),
        (multiplication, Operands(3, 12), "3\\*12: the second operand must be from 2 to 9"),
    ],
)
def test_operands_that_a_task_has_no_text_for_are_refused(task, pair, message):
    for ask in (task.prompt, task.pieces, task.completion, task.answer, lambda pair: task.grade(pair, "")):
        with pytest.raises(ValueError, match=message):
            ask(pair)


def lengths(pairs):
    return [(len(str(first)), len(str(second))) for first, second in pairs]


@EVERY_TASK
@given(digits=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_operands_have_the_digits_that_were_asked_for(task, digits, seed):
    rng = Random(seed)
    drawn = [task.identical(digits, rng) for _ in range(5)]
    assert set(lengths(drawn)) == {(digits, 1 if task is multiplication else digits)}
    drawn += (varying := [task.varying(digits, rng) for _ in range(5)])
    assert {pair.digits for pair in varying} == {digits}
    drawn += (balanced := [task.balanced(digits, rng) for _ in range(5)])
    assert max(pair.digits for pair in balanced) <= digits
    drawn += (longer := [task.longer(digits, digits + 2, rng) for _ in range(5)])
    assert {pair.digits for pair in longer} == {digits + 2}
    for pair in drawn:
        assert task.grade(pair, task.completion(pair))  # which refuses what is no problem of the task


def test_subtractions_are_drawn_like_additions_and_factors_evenly():
    for name in ("identical", "varying", "balanced"):
        pairs = [getattr(addition, name)(4, Random(seed)) for seed in range(50)]
        drawn = [getattr(subtraction, name)(4, Random(seed)) for seed in range(50)]
        assert drawn == [tuple(sorted(pair, reverse=True)) for pair in pairs]
    rng = Random(0)
    drawn = [multiplication.balanced(3, rng) for _ in range(4000)]
    for digit in range(2, 10):
        assert 400 < sum(pair.second == digit for pair in drawn) < 600
    for digits in (1, 2, 3):
        assert 1200 < sum(pair.digits == digits for pair in drawn) < 1470


@EVERY_TASK
def test_no_text_is_longer_than_the_longest(task):
    def length(pair):
        return len(task.prompt(pair)) + len(task.completion(pair))

    for digits in (1, 2):
        top = 10**digits
        pairs = map(Operands, *zip(*product(range(top), range(2, 10) if task is multiplication else range(top)), strict=True))
        assert task.longest(digits).digits == digits
        allowed = [pair for pair in pairs if task is not subtraction or pair.first >= pair.second]
        assert max(map(length, allowed)) == length(task.longest(digits))
    rng = Random(0)
    for digits in (3, 4, 9):
        drawn = [task.identical(digits, rng) for _ in range(1000)]
        assert max(map(length, drawn)) <= length(task.longest(digits))


def test_tasks_by_name():
    assert {name: task.NAME for name, task in TASKS.items()} == {name: name for name in EXAMPLES}
    assert all(task.CHARACTERS.startswith(CHARACTERS) for task in TASKS.values())
    assert task_named("subtraction") is subtraction
    with pytest.raises(InputError, match=f"task must be one of {', '.join(TASKS)}, not 'division'"):
        task_named("division")
