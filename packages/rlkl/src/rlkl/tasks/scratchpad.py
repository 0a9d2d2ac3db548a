"""What the tasks have in common: calculations with a carry, written out digit by digit from the last one on.

The format is that of Lee et al. (2024), "Teaching Arithmetic to Small Transformers", as "Ignore the KL Penalty!" uses it for
additions. For each digit there is a line: the operands, as lists of the digits that remain; the result so far; the carry; and
what is worked out from them, a digit of the result and a new carry.

    [1,2] + [3,6] , A=[5] , C=1 , 2+6+1=9 , A->9 , C->0

The last line of a scratchpad has no comma between A and C: a quirk of the original that the paper kept.
"""

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import NamedTuple

# The characters of the paper's texts. Their order is that of their token ids and must not change; a task that needs more
# characters puts them behind these.
CHARACTERS = "\n +,-/0123456789:<=>ACDEINT[]aceghnprstu"

SCRATCHPAD_START = "\n<scratch>\n"
ANSWER_MARK = "</scratch>\n"
OPERAND_LISTS = ("operand 1", "operand 2")


class Piece(NamedTuple):
    """A stretch of a completion.

    Attributes:
        step: the scratchpad line it is in, from 1; 0 outside the scratchpad.
        field: what it is; `mark` for what is the same in every completion.
        text: its characters.
    """

    step: int
    field: str
    text: str


class Copy(NamedTuple):
    """An operand as one line has it: how it is written, and the digit that the line works with."""

    text: str
    digit: int


def remaining_digits(number: int) -> Iterator[Copy]:
    """An operand that loses its last digit from line to line; once it is exhausted, it is `[]` and counts as 0."""
    digits = list(str(number))
    while digits:
        yield Copy(_list(digits), int(digits.pop()))
    yield from repeat(Copy("[]", 0))


class Rule(NamedTuple):
    """How a line is worked out.

    Attributes:
        sign: stands between the operands.
        carry_sign: stands before the carry in the work.
        total: of a digit of each operand and the carry; its last digit is written, and its tens, without their sign, are
            the new carry.
    """

    sign: str
    carry_sign: str
    total: Callable[[int, int, int], int]


def write(digits: int, first: Iterator[Copy], second: Iterator[Copy], rule: Rule, answer: int) -> Iterator[Piece]:
    """A completion, piece by piece.

    Args:
        digits: how many are worked out.
        first, second: the operands in each line.
        rule: how a line is worked out.
        answer: what the answer line says.
    """
    result: list[str] = []
    carry = 0
    yield Piece(0, "mark", SCRATCHPAD_START)
    for step in range(1, digits + 1):
        a, b = next(first), next(second)
        yield from _state(step, a.text, b.text, rule.sign, result, carry, " , C=")
        total = rule.total(a.digit, b.digit, carry)
        digit, new_carry = total % 10, abs(total // 10)
        yield Piece(step, "mark", " , ")
        yield Piece(step, "work", f"{a.digit}{rule.sign}{b.digit}{rule.carry_sign}{carry}={total}")
        yield Piece(step, "mark", " , A->")
        yield Piece(step, "digit", str(digit))
        yield Piece(step, "mark", " , C->")
        yield Piece(step, "new carry", str(new_carry))
        yield Piece(step, "mark", "\n")
        result.insert(0, str(digit))
        carry = new_carry
    yield from _state(digits + 1, next(first).text, next(second).text, rule.sign, result, carry, " C=")
    yield Piece(digits + 1, "mark", " , END\n")
    yield Piece(0, "mark", ANSWER_MARK)
    yield Piece(0, "answer", answer_line(answer))
    yield Piece(0, "mark", "\n")


def _state(step: int, first: str, second: str, sign: str, result: list[str], carry: int, before_carry: str) -> Iterator[Piece]:
    yield Piece(step, "operand 1", first)
    yield Piece(step, "mark", f" {sign} ")
    yield Piece(step, "operand 2", second)
    yield Piece(step, "mark", " , A=")
    yield Piece(step, "result", _list(result))
    yield Piece(step, "mark", before_carry)
    yield Piece(step, "carry", str(carry))


def _list(digits: list[str]) -> str:
    return f"[{','.join(digits)}]"


def answer_line(number: int) -> str:
    """The digits of a number, separated by spaces."""
    return " ".join(str(number))
