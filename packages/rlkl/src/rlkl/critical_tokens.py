"""Critical tokens: where the model must go beyond the lengths that it was trained on, and what it does there.

A model trained on up to N digits that is given a longer operand meets something new where the scratchpad copies that operand's
list of digits: at the comma after the N-th digit, and from there to the bracket that closes the list. A wrong character there
(the bracket too early, or a digit left out) makes the answer wrong. Section 4 of the paper.
"""

from typing import NamedTuple

from rlkl.operands import Operands
from rlkl.scratchpad import OPERAND_LISTS, Piece
from rlkl.tasks import Task


class CriticalToken(NamedTuple):
    """A critical character.

    Attributes:
        position: its index in the completion.
        step: the scratchpad line, from 1.
        operand: 1 or 2, whose list it is in.
        digit: which digit of the list it is, or comes before, from 1.
        character: what should stand there: a comma or a digit.
    """

    position: int
    step: int
    operand: int
    digit: int
    character: str


def critical_tokens(task: Task, operands: Operands, trained_digits: int) -> list[CriticalToken]:
    """The critical characters of the right completion, in its order; none if no operand has more than the trained digits."""
    found = []
    start = 0
    for piece in task.pieces(operands):
        if piece.field in OPERAND_LISTS:
            # In "[1,2,3]" digit d is at 2 d - 1, and the comma before it at 2 (d - 1).
            for index in range(2 * trained_digits, len(piece.text) - 1):
                operand = OPERAND_LISTS.index(piece.field) + 1
                found.append(CriticalToken(start + index, piece.step, operand, index // 2 + 1, piece.text[index]))
        start += len(piece.text)
    return found


def first_error(task: Task, operands: Operands, text: str) -> int | None:
    """The index of the first character of a completion that differs from the right one; None if there is none.

    Args:
        text: what the model wrote after the prompt. If it is the beginning of the right completion, the error is at its end.
    """
    right = task.completion(operands)
    for index, (character, expected) in enumerate(zip(text, right, strict=False)):
        if character != expected:
            return index
    return None if len(text) == len(right) else min(len(text), len(right))


def piece_at(task: Task, operands: Operands, position: int) -> Piece:
    """The piece of the right completion that a position is in; the last one for positions behind it."""
    end = 0
    for piece in task.pieces(operands):
        end += len(piece.text)
        if position < end:
            break
    return piece
