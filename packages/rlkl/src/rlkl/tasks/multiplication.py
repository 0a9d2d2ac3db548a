"""Multiplications of a number by a digit from 2 to 9. For 352 * 7 the completion is

    <scratch>
    [3,5,2] * 7 , A=[] , C=0 , 2*7+0=14 , A->4 , C->1
    [3,5] * 7 , A=[4] , C=1 , 5*7+1=36 , A->6 , C->3
    [3] * 7 , A=[6,4] , C=3 , 3*7+3=24 , A->4 , C->2
    [] * 7 , A=[4,6,4] C=2 , END
    </scratch>
    2 4 6 4

with a newline before and after it. The second operand is the same in every line, so only the first one is a list. A final carry
is put in front of the answer only.
"""

from collections.abc import Iterator
from itertools import repeat
from random import Random

from rlkl.tasks import scratchpad
from rlkl.tasks.operands import Operands, number
from rlkl.tasks.scratchpad import Copy, Rule
from rlkl.tasks.task import Task

SMALLEST, LARGEST = 2, 9  # second operands


def _product(operands: Operands) -> int:
    if not SMALLEST <= operands.second <= LARGEST:
        raise ValueError(f"{operands.first}*{operands.second}: the second operand must be from {SMALLEST} to {LARGEST}.")
    return operands.first * operands.second


def _in_every_line(second: int) -> Iterator[Copy]:
    return repeat(Copy(str(second), second))


def _drawn(digits: int, rng: Random) -> Operands:
    """The first operand has exactly so many digits; the second one, which varies in the other tasks, has one."""
    return Operands(number(digits, rng), rng.randint(SMALLEST, LARGEST))


multiplication = Task(
    NAME="multiplication",
    PLURAL="multiplications",
    rule=Rule("*", "+", lambda a, b, carry: a * b + carry),
    result=_product,
    CHARACTERS=scratchpad.CHARACTERS + "*",
    second=_in_every_line,
    identical=_drawn,
    varying=_drawn,
    balanced=lambda max_digits, rng: _drawn(rng.randint(1, max_digits), rng),
    longer=lambda trained_digits, digits, rng: _drawn(digits, rng),
    longest=lambda digits: Operands(10**digits - 1, LARGEST),
)
