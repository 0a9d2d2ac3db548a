"""Subtractions of a number from one that is at least as large. For 352 - 67 the completion is

    <scratch>
    [3,5,2] - [6,7] , A=[] , C=0 , 2-7-0=-5 , A->5 , C->1
    [3,5] - [6] , A=[5] , C=1 , 5-6-1=-2 , A->8 , C->1
    [3] - [] , A=[8,5] , C=1 , 3-0-1=2 , A->2 , C->0
    [] - [] , A=[2,8,5] C=0 , END
    </scratch>
    2 8 5

with a newline before and after it. The carry is what is borrowed from the next digit, so the last one is 0. Zeros in front of
the result are left out of the answer only.
"""

from collections.abc import Callable
from typing import ParamSpec

from rlkl.tasks import operands as pairs
from rlkl.tasks.operands import Operands
from rlkl.tasks.scratchpad import Rule
from rlkl.tasks.task import Task

P = ParamSpec("P")


def _difference(operands: Operands) -> int:
    if operands.first < operands.second:
        raise ValueError(f"{operands.first}-{operands.second}: the first operand must not be smaller than the second.")
    return operands.first - operands.second


def _larger_first(draw: Callable[P, Operands]) -> Callable[P, Operands]:
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Operands:
        return Operands(*sorted(draw(*args, **kwargs), reverse=True))

    return drawn


def _longest(digits: int) -> Operands:
    """9000 - 1999: no digit of the difference is lost, and each line between first and last has -10, the longest total."""
    return Operands(9 * 10 ** (digits - 1), 2 * 10 ** (digits - 1) - 1)


subtraction = Task(
    NAME="subtraction",
    PLURAL="subtractions",
    rule=Rule("-", "-", lambda a, b, carry: a - b - carry),
    result=_difference,
    identical=_larger_first(pairs.identical),
    varying=_larger_first(pairs.varying),
    balanced=_larger_first(pairs.balanced),
    longer=_larger_first(pairs.longer),
    longest=_longest,
)
