"""Critical tokens: the characters at which the model must go beyond its training lengths.

A model is trained on up to N digits and gets an operand of N + k digits. Its critical tokens are where the scratchpad copies
the digits: in each of the first three lines, the last k commas and digits before the bracket that closes the list. A wrong
character there (an early bracket, or a missing digit) makes the answer wrong. This is the definition of the paper (section 4)
and its public code. The window slides with the list, which loses one digit per line: with N = 3, for 1234 + 56, it is `,4` in
[1,2,3,4], `,3` in [1,2,3] and `,2` in [1,2]; the last two lists are not longer than in training. `untrained_tokens` are only
the characters that are further along a list than any in training: `,4`.
"""

from collections.abc import Iterator
from typing import NamedTuple

from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import Task
from rlkl.tasks.scratchpad import OPERAND_LISTS, Piece

CRITICAL_LINES = 3  # of the scratchpad, as in the paper


class CriticalToken(NamedTuple):
    """A critical character, or another character of an operand's list.

    Attributes:
        position: its index in the completion.
        step: the scratchpad line, from 1.
        operand: 1 or 2, the operand of the list.
        digit: the index in the list, from 1, of this digit or of the digit after this comma.
        character: the right character: a comma or a digit.
    """

    position: int
    step: int
    operand: int
    digit: int
    character: str


def critical_tokens(task: Task, operands: Operands, trained_digits: int) -> list[CriticalToken]:
    """The critical characters of the right completion, in order, by the paper's definition.

    In the first three scratchpad lines, for an operand with k digits more than trained: the last 2 k characters before the
    bracket that closes its list, or the whole list if it is shorter. None if no operand has more digits than trained.
    """
    beyond = [len(str(number)) - trained_digits for number in operands]
    return [
        token
        for token, place in _list_characters(task, operands)
        if token.step <= CRITICAL_LINES and place >= -2 * beyond[token.operand - 1]
    ]


def untrained_tokens(task: Task, operands: Operands, trained_digits: int) -> list[CriticalToken]:
    """The characters of the right completion, in order, that are further along a list than any in training.

    In every scratchpad line, from the comma after digit N to the bracket that closes the list. For operands with up to three
    digits more than trained, they are a subset of the critical tokens; in the first line, all of them.
    """
    return [token for token, _ in _list_characters(task, operands) if token.digit > trained_digits]


def _list_characters(task: Task, operands: Operands) -> Iterator[tuple[CriticalToken, int]]:
    """Every digit and comma of the operand lists, with its index from the end of its list (-1: the last digit)."""
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
        text: the model's completion. If it is a prefix of the right completion, the error is at its end.
    """
    right = task.completion(operands)
    for index, (character, expected) in enumerate(zip(text, right, strict=False)):
        if character != expected:
            return index
    return None if len(text) == len(right) else min(len(text), len(right))


def piece_at(task: Task, operands: Operands, position: int) -> Piece:
    """The piece of the right completion at a position; the last piece for positions after the end."""
    end = 0
    for piece in task.pieces(operands):
        end += len(piece.text)
        if position < end:
            break
    return piece
