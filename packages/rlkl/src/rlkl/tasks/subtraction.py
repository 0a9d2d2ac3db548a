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

from collections.abc import Iterator
from random import Random

from rlkl.tasks import operands as pairs
from rlkl.tasks import scratchpad
from rlkl.tasks.operands import Operands
from rlkl.tasks.scratchpad import CHARACTERS, Piece, Rule, remaining_digits

__all__ = [
    "CHARACTERS",
    "NAME",
    "PLURAL",
    "Operands",
    "answer",
    "balanced",
    "completion",
    "grade",
    "identical",
    "longer",
    "longest",
    "pieces",
    "prompt",
    "varying",
]

NAME = "subtraction"
PLURAL = "subtractions"
RULE = Rule("-", "-", lambda a, b, carry: a - b - carry)


def prompt(operands: Operands) -> str:
    """What the model is given. Raises: ValueError if the second operand is the larger one."""
    _difference(operands)
    return scratchpad.prompt(operands.first, RULE.sign, operands.second)


def completion(operands: Operands) -> str:
    """What the model should write, to the last newline. Raises: ValueError if the second operand is the larger one."""
    return "".join(piece.text for piece in pieces(operands))


def pieces(operands: Operands) -> Iterator[Piece]:
    """The completion, piece by piece. Raises: ValueError if the second operand is the larger one."""
    first, second = remaining_digits(operands.first), remaining_digits(operands.second)
    return scratchpad.write(operands.digits, first, second, RULE, _difference(operands))


def answer(operands: Operands) -> str:
    """The answer line: the digits of the difference, separated by spaces.

    Raises:
        ValueError: if the second operand is the larger one.
    """
    return scratchpad.answer_line(_difference(operands))


def _difference(operands: Operands) -> int:
    if operands.first < operands.second:
        raise ValueError(f"{operands.first}-{operands.second}: the first operand must not be smaller than the second.")
    return operands.first - operands.second


def grade(operands: Operands, text: str) -> bool:
    """Whether a completion's answer line is exactly right; what the scratchpad says does not count.

    Args:
        operands: what was to be subtracted.
        text: what the model wrote after the prompt; what follows the answer's newline is ignored.
    """
    return scratchpad.has_answer(text, answer(operands))


def identical(digits: int, rng: Random) -> Operands:
    """Both operands have exactly so many digits."""
    return _larger_first(pairs.identical(digits, rng))


def varying(digits: int, rng: Random) -> Operands:
    """The first operand has so many digits; the second one's number of digits is uniform up to it."""
    return _larger_first(pairs.varying(digits, rng))


def balanced(max_digits: int, rng: Random) -> Operands:
    """The mix for pre-training: two numbers of 1 to the maximum of digits, each length as likely, the larger one first."""
    return _larger_first(pairs.balanced(max_digits, rng))


def longer(trained_digits: int, digits: int, rng: Random) -> Operands:
    """The mix for fine-tuning on more digits than were pre-trained.

    The first operand has `digits` digits. The second has 1 to `trained_digits` of them half the time, and `trained_digits` + 1
    to `digits` otherwise.
    """
    return _larger_first(pairs.longer(trained_digits, digits, rng))


def _larger_first(operands: Operands) -> Operands:
    return Operands(max(operands), min(operands))


def longest(digits: int) -> Operands:
    """Operands of so many digits whose text is as long as any: 9000 - 1999.

    No digit of the difference is lost, and each line between the first and the last has -10, the longest of totals.
    """
    return Operands(9 * 10 ** (digits - 1), 2 * 10 ** (digits - 1) - 1)
