"""The task: additions written out on a scratchpad, digit by digit.

The format is that of Lee et al. (2024), "Teaching Arithmetic to Small Transformers", as "Ignore the KL Penalty!" uses it. For
128 + 367 the prompt is "Input:\\n128+367\\nTarget:" and the completion

    <scratch>
    [1,2,8] + [3,6,7] , A=[] , C=0 , 8+7+0=15 , A->5 , C->1
    [1,2] + [3,6] , A=[5] , C=1 , 2+6+1=9 , A->9 , C->0
    [1] + [3] , A=[9,5] , C=0 , 1+3+0=4 , A->4 , C->0
    [] + [] , A=[4,9,5] C=0 , END
    </scratch>
    4 9 5

with a newline before and after it. An exhausted operand is `[]` and counts as 0. The last scratchpad line has no comma between
A and C: a quirk of the original that the paper kept. A final carry is put in front of the answer only.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

SCRATCHPAD_START = "\n<scratch>\n"
ANSWER_MARK = "</scratch>\n"


class Operands(NamedTuple):
    """Two integers to be added, neither negative."""

    first: int
    second: int

    @property
    def digits(self) -> int:
        """The number of digits of the longer one."""
        return max(len(str(self.first)), len(str(self.second)))


def prompt(operands: Operands) -> str:
    """What the model is given."""
    return f"Input:\n{operands.first}+{operands.second}\nTarget:"


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


OPERAND_LISTS = ("operand 1", "operand 2")
FIELDS = (*OPERAND_LISTS, "result", "carry", "sum", "digit", "new carry", "answer", "mark")


def completion(operands: Operands) -> str:
    """What the model should write, to the last newline."""
    return "".join(piece.text for piece in pieces(operands))


def pieces(operands: Operands) -> Iterator[Piece]:
    """The completion, piece by piece."""
    lists = list(str(operands.first)), list(str(operands.second))
    result: list[str] = []
    carry = 0
    yield Piece(0, "mark", SCRATCHPAD_START)
    for step in range(1, operands.digits + 1):
        yield from _state(step, lists, result, carry, " , C=")
        a, b = (int(digits.pop()) if digits else 0 for digits in lists)
        total = a + b + carry
        yield Piece(step, "mark", " , ")
        yield Piece(step, "sum", f"{a}+{b}+{carry}={total}")
        yield Piece(step, "mark", " , A->")
        yield Piece(step, "digit", str(total % 10))
        yield Piece(step, "mark", " , C->")
        yield Piece(step, "new carry", str(total // 10))
        yield Piece(step, "mark", "\n")
        result.insert(0, str(total % 10))
        carry = total // 10
    yield from _state(operands.digits + 1, lists, result, carry, " C=")
    yield Piece(operands.digits + 1, "mark", " , END\n")
    yield Piece(0, "mark", ANSWER_MARK)
    yield Piece(0, "answer", answer(operands))
    yield Piece(0, "mark", "\n")


def _state(step: int, lists: tuple[list[str], list[str]], result: list[str], carry: int, before_carry: str) -> Iterator[Piece]:
    yield Piece(step, "operand 1", _list(lists[0]))
    yield Piece(step, "mark", " + ")
    yield Piece(step, "operand 2", _list(lists[1]))
    yield Piece(step, "mark", " , A=")
    yield Piece(step, "result", _list(result))
    yield Piece(step, "mark", before_carry)
    yield Piece(step, "carry", str(carry))


def _list(digits: list[str]) -> str:
    return f"[{','.join(digits)}]"


def answer(operands: Operands) -> str:
    """The answer line: the digits of the sum, separated by spaces."""
    return " ".join(str(operands.first + operands.second))


def grade(operands: Operands, text: str) -> bool:
    """Whether a completion's answer line is exactly right; what the scratchpad says does not count.

    Args:
        operands: what was to be added.
        text: what the model wrote after the prompt; what follows the answer's newline is ignored.
    """
    _, mark, rest = text.partition(ANSWER_MARK)
    line, newline, _ = rest.partition("\n")
    return bool(mark) and bool(newline) and line == answer(operands)


def identical(digits: int, rng: Random) -> Operands:
    """Both operands have exactly so many digits."""
    return Operands(_number(digits, rng), _number(digits, rng))


def varying(digits: int, rng: Random) -> Operands:
    """One operand, either with equal chance, has so many digits; the other's number of digits is uniform up to it."""
    return _in_random_order(digits, rng.randint(1, digits), rng)


def balanced(max_digits: int, rng: Random) -> Operands:
    """The mix for pre-training: the number of digits of each operand is uniform from 1 to the maximum."""
    return Operands(_number(rng.randint(1, max_digits), rng), _number(rng.randint(1, max_digits), rng))


def longer(trained_digits: int, digits: int, rng: Random) -> Operands:
    """The mix for fine-tuning on more digits than were pre-trained.

    One operand, either with equal chance, has `digits` digits. The other has 1 to `trained_digits` of them half the time, and
    `trained_digits` + 1 to `digits` otherwise.
    """
    other = rng.randint(1, trained_digits) if rng.random() < 0.5 else rng.randint(trained_digits + 1, digits)
    return _in_random_order(digits, other, rng)


def _in_random_order(digits: int, other: int, rng: Random) -> Operands:
    lengths = (digits, other) if rng.random() < 0.5 else (other, digits)
    return Operands(*(_number(length, rng) for length in lengths))


def _number(digits: int, rng: Random) -> int:
    """Uniform over the integers with exactly so many digits; 0 has one."""
    return rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)
