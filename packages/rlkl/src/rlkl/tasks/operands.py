"""Pairs of numbers to calculate with, drawn by their numbers of digits."""

from random import Random
from typing import NamedTuple


class Operands(NamedTuple):
    """Two integers to calculate with, neither negative."""

    first: int
    second: int

    @property
    def digits(self) -> int:
        """The number of digits of the longer one."""
        return max(len(str(self.first)), len(str(self.second)))


def identical(digits: int, rng: Random) -> Operands:
    """Both operands have exactly so many digits."""
    return Operands(number(digits, rng), number(digits, rng))


def varying(digits: int, rng: Random) -> Operands:
    """One operand, either with equal chance, has so many digits; the other's number of digits is uniform up to it."""
    return _in_random_order(digits, rng.randint(1, digits), rng)


def balanced(max_digits: int, rng: Random) -> Operands:
    """The mix for pre-training: the number of digits of each operand is uniform from 1 to the maximum."""
    return Operands(number(rng.randint(1, max_digits), rng), number(rng.randint(1, max_digits), rng))


def longer(trained_digits: int, digits: int, rng: Random) -> Operands:
    """The mix for fine-tuning on more digits than were pre-trained.

    One operand, either with equal chance, has `digits` digits. The other has 1 to `trained_digits` of them half the time, and
    `trained_digits` + 1 to `digits` otherwise.
    """
    other = rng.randint(1, trained_digits) if rng.random() < 0.5 else rng.randint(trained_digits + 1, digits)
    return _in_random_order(digits, other, rng)


def _in_random_order(digits: int, other: int, rng: Random) -> Operands:
    lengths = (digits, other) if rng.random() < 0.5 else (other, digits)
    return Operands(*(number(length, rng) for length in lengths))


def number(digits: int, rng: Random) -> int:
    """Uniform over the integers with exactly so many digits; 0 has one."""
    return rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)


def nines(digits: int) -> Operands:
    """The largest operands of so many digits."""
    return Operands(10**digits - 1, 10**digits - 1)
