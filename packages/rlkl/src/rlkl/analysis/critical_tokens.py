"""Critical tokens: where the model must go beyond the lengths that it was trained on, and what it does there.

A model trained on up to N digits that is given an operand of N + k meets something new where the scratchpad copies its digits:
in each of the first three lines, the last k commas and digits before the bracket that closes the list. A wrong character there
(the bracket too early, or a digit left out) makes the answer wrong. This is the definition of section 4 of the paper and of its
public code. The window slides with the list, which loses a digit from line to line: with N = 3, for 1234 + 56, it is `,4` in
[1,2,3,4], `,3` in [1,2,3] and `,2` in [1,2]; the last two are no longer than lists of training. `untrained_tokens` are only the
characters that are further along a list than any in training: `,4`.
"""

from collections.abc import Iterator
from typing import NamedTuple

from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import Task
from rlkl.tasks.scratchpad import OPERAND_LISTS, Piece

CRITICAL_LINES = 3  # of the scratchpad, as in the paper


class CriticalToken(NamedTuple):
    """A critical character, or another one of an operand's list.

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
    """The critical characters of the right completion by the paper's definition, in its order.

    In the first three scratchpad lines, the last 2 k characters before the bracket that closes the list of an operand whose
    number has k digits more than the trained ones; all of a list that has fewer. None if no operand has more digits.
    """
    beyond = [len(str(number)) - trained_digits for number in operands]
    return [
        token
        for token, place in _list_characters(task, operands)
        if token.step <= CRITICAL_LINES and place >= -2 * beyond[token.operand - 1]
    ]


def untrained_tokens(task: Task, operands: Operands, trained_digits: int) -> list[CriticalToken]:
    """The characters of the right completion that are further along a list than any in training, in its order.

    In every scratchpad line, from the comma after digit N to the bracket that closes the list. Of operands that have up to
    three digits more than the trained ones they are some of the critical tokens, in the first line all.
    """
    return [token for token, _ in _list_characters(task, operands) if token.digit > trained_digits]


def _list_characters(task: Task, operands: Operands) -> Iterator[tuple[CriticalToken, int]]:
    """Every digit and comma of the operands' lists, with its place from the end of its list, -1 for the last digit."""
    start = 0
    for piece in task.pieces(operands):
        if piece.field in OPERAND_LISTS and piece.text.startswith("["):
            operand = OPERAND_LISTS.index(piece.field) + 1
            for index in range(1, len(piece.text) - 1):  # digit d is at 2 d - 1, and the comma before it at 2 (d - 1)
                token = CriticalToken(start + index, piece.step, operand, index // 2 + 1, piece.text[index])
                yield token, index + 1 - len(piece.text)
        start += len(piece.text)


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
