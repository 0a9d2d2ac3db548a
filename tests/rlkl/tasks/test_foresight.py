from random import Random

import pytest

from rlkl.tasks import addition
from rlkl.tasks.foresight import Foresight
from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import TASKS
from rlkl.tasks.scratchpad import SCRATCHPAD_START


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_right_completion_is_foreseen_from_every_place(task):
    rng = Random(0)
    for digits in (1, 2, 3, 5, 9):
        for pair in (task.varying(digits, rng), task.identical(digits, rng), task.longest(digits)):
            whole, foresight = task.completion(pair), Foresight(task, pair)
            for place in range(len(whole) + 1):
                assert foresight.rest(whole[:place], 1000) == whole[place:]
                assert Foresight(task, pair).rest(whole[:place], 7) == whole[place:][:7]


LINES = "[1,2] + [3] , A=[] , C=0 , 2+3+0=5 , A->5 , C->0\n[1] + [] , A=[5] , C=0 , 1+0+0=1 , A->1 , C->0\n"
END = "[] + [] , A=[1,5] C=0 , END\n</scratch>\n1 5\n"


@pytest.mark.parametrize(
    ("begun", "rest"),  # of 123 + 3
    [
        ("[1,2]", LINES[5:] + END),  # a digit is missing: it is missing from then on
        (LINES[:60], LINES[60:] + END),
        (LINES, END),
        (LINES + "[] + [] , A=[1,5", END[16:]),
        (LINES.replace("C->0\n[1]", "C->0\n[7]"), "[] + [] , A=[1,5] C=0 , END\n</scratch>\n1 5\n"),
        (LINES[:-1] + " \n", None),  # no line of the format: nothing, and no error
        ("[1,2] - ", None),
        ("[1,2] + [3] , A=[] , C=0 , 2+3+0=[] , ", None),
        (LINES + END[:-4] + "2", None),
        (LINES + END + "\n", None),
        ("\n" * 9, None),
    ],
)
def test_a_wrong_completion_goes_on_from_what_was_written(begun, rest):
    pair = Operands(123, 3)
    assert Foresight(addition, pair).rest(SCRATCHPAD_START + begun, 1000) == (rest or "")


def test_any_text_can_be_given():
    rng, characters = Random(0), addition.CHARACTERS
    whole = addition.completion(Operands(901, 45))
    for _ in range(500):
        place = rng.randrange(len(whole))
        noise = "".join(rng.choice(characters) for _ in range(rng.randrange(12)))
        foresight, text = Foresight(addition, Operands(901, 45)), whole[:place] + noise + whole[place + rng.randrange(3) :]
        for end in range(0, len(text), 7):
            assert len(foresight.rest(text[:end], 30)) <= 30
