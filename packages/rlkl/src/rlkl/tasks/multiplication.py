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
from rlkl.tasks.scratchpad import Copy, Piece, Rule, remaining_digits

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

NAME = "multiplication"
PLURAL = "multiplications"
CHARACTERS = scratchpad.CHARACTERS + "*"
RULE = Rule("*", "+", lambda a, b, carry: a * b + carry)
SMALLEST, LARGEST = 2, 9  # second operands


def prompt(operands: Operands) -> str:
    """What the model is given. Raises: ValueError if the second operand is not from 2 to 9."""
    _product(operands)
    return scratchpad.prompt(operands.first, RULE.sign, operands.second)


def completion(operands: Operands) -> str:
    """What the model should write, to the last newline. Raises: ValueError if the second operand is not from 2 to 9."""
    return "".join(piece.text for piece in pieces(operands))


def pieces(operands: Operands) -> Iterator[Piece]:
    """The completion, piece by piece. Raises: ValueError if the second operand is not from 2 to 9."""
    first, second = remaining_digits(operands.first), repeat(Copy(str(operands.second), operands.second))
    return scratchpad.write(operands.digits, first, second, RULE, _product(operands))


def answer(operands: Operands) -> str:
    """The answer line: the digits of the product, separated by spaces.

    Raises:
        ValueError: if the second operand is not from 2 to 9.
    """
    return scratchpad.answer_line(_product(operands))


def _product(operands: Operands) -> int:
    if not SMALLEST <= operands.second <= LARGEST:
        raise ValueError(f"{operands.first}*{operands.second}: the second operand must be from {SMALLEST} to {LARGEST}.")
    return operands.first * operands.second


def grade(operands: Operands, text: str) -> bool:
    """Whether a completion's answer line is exactly right; what the scratchpad says does not count.

    Args:
        operands: what was to be multiplied.
        text: what the model wrote after the prompt; what follows the answer's newline is ignored.
    """
    return scratchpad.has_answer(text, answer(operands))


def identical(digits: int, rng: Random) -> Operands:
    """The first operand has exactly so many digits."""
    return Operands(number(digits, rng), rng.randint(SMALLEST, LARGEST))


def varying(digits: int, rng: Random) -> Operands:
    """The same as `identical`: the second operand, which varies in the other tasks, has one digit here."""
    return identical(digits, rng)


def balanced(max_digits: int, rng: Random) -> Operands:
    """The mix for pre-training: the first operand's number of digits is uniform from 1 to the maximum."""
    return identical(rng.randint(1, max_digits), rng)


def longer(trained_digits: int, digits: int, rng: Random) -> Operands:
    """The mix for fine-tuning on more digits than were pre-trained: all have `digits` digits, whatever `trained_digits` is."""
    return identical(digits, rng)


def longest(digits: int) -> Operands:
    """Operands of so many digits whose text is as long as any: nines by nine, every line of which has a total of two digits."""
    return Operands(10**digits - 1, LARGEST)
