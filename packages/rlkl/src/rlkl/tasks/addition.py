"""The paper's task: additions. For 128 + 367 the prompt is "Input:\\n128+367\\nTarget:" and the completion

    <scratch>
    [1,2,8] + [3,6,7] , A=[] , C=0 , 8+7+0=15 , A->5 , C->1
    [1,2] + [3,6] , A=[5] , C=1 , 2+6+1=9 , A->9 , C->0
    [1] + [3] , A=[9,5] , C=0 , 1+3+0=4 , A->4 , C->0
    [] + [] , A=[4,9,5] C=0 , END
    </scratch>
    4 9 5

with a newline before and after it. There are as many lines as the longer operand has digits. A final carry is put in front of
the answer only.
"""

from collections.abc import Iterator

from rlkl.tasks import scratchpad
from rlkl.tasks.operands import Operands, balanced, identical, longer, varying
from rlkl.tasks.scratchpad import (
    ANSWER_MARK,
    CHARACTERS,
    OPERAND_LISTS,
    SCRATCHPAD_START,
    Piece,
    Rule,
    remaining_digits,
)

__all__ = [
    "ANSWER_MARK",
    "CHARACTERS",
    "NAME",
    "OPERAND_LISTS",
    "PLURAL",
    "SCRATCHPAD_START",
    "Operands",
    "Piece",
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

NAME = "addition"
PLURAL = "additions"
RULE = Rule("+", "+", lambda a, b, carry: a + b + carry)


def prompt(operands: Operands) -> str:
    """What the model is given."""
    return scratchpad.prompt(operands.first, RULE.sign, operands.second)


def completion(operands: Operands) -> str:
    """What the model should write, to the last newline."""
    return "".join(piece.text for piece in pieces(operands))


def pieces(operands: Operands) -> Iterator[Piece]:
    """The completion, piece by piece."""
    first, second = remaining_digits(operands.first), remaining_digits(operands.second)
    return scratchpad.write(operands.digits, first, second, RULE, operands.first + operands.second)


def answer(operands: Operands) -> str:
    """The answer line: the digits of the sum, separated by spaces."""
    return scratchpad.answer_line(operands.first + operands.second)


def grade(operands: Operands, text: str) -> bool:
    """Whether a completion's answer line is exactly right; what the scratchpad says does not count.

    Args:
        operands: what was to be added.
        text: what the model wrote after the prompt; what follows the answer's newline is ignored.
    """
    return scratchpad.has_answer(text, answer(operands))


def longest(digits: int) -> Operands:
    """Operands of so many digits whose text is as long as any: nines, every line of which has a sum of two digits."""
    return Operands(10**digits - 1, 10**digits - 1)
