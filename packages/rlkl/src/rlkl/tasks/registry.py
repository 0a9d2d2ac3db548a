"""The tasks by name. Each is a module: what can be asked of it is the protocol `Task`."""

from collections.abc import Iterator
from random import Random
from typing import Protocol

from rlkl.tasks import addition, multiplication, subtraction
from rlkl.tasks.operands import Operands
from rlkl.tasks.scratchpad import Piece
from rlkl_htc_common.errors import InputError


class Task(Protocol):
    """A calculation with two operands, written out on a scratchpad (`rlkl.tasks.scratchpad`), whose answer can be checked.

    Attributes:
        NAME: what configs and saved models call it.
        PLURAL: what sentences call several problems of it.
        CHARACTERS: those of its texts, in the order of their token ids; they begin with those of every task that has fewer, for
            one tokenizer serves all (`rlkl.model.texts`).
    """

    NAME: str
    PLURAL: str
    CHARACTERS: str

    def prompt(self, operands: Operands) -> str:
        """What the model is given."""

    def pieces(self, operands: Operands) -> Iterator[Piece]:
        """The right completion, piece by piece."""

    def completion(self, operands: Operands) -> str:
        """What the model should write, to the last newline."""

    def answer(self, operands: Operands) -> str:
        """The answer line."""

    def grade(self, operands: Operands, text: str) -> bool:
        """Whether a completion's answer line is exactly right."""

    def identical(self, digits: int, rng: Random) -> Operands:
        """Every operand that can be long has exactly so many digits."""

    def varying(self, digits: int, rng: Random) -> Operands:
        """One operand has so many digits, the other at most."""

    def balanced(self, max_digits: int, rng: Random) -> Operands:
        """The mix for pre-training, of up to so many digits."""

    def longer(self, trained_digits: int, digits: int, rng: Random) -> Operands:
        """The mix for fine-tuning on `digits` digits, which are more than were pre-trained."""

    def longest(self, digits: int) -> Operands:
        """Operands of so many digits whose text is as long as any."""


TASKS: dict[str, Task] = {
    addition.NAME: addition,
    subtraction.NAME: subtraction,
    multiplication.NAME: multiplication,
}


def task_named(name: str) -> Task:
    """A task. Raises: InputError if there is none of this name."""
    if name not in TASKS:
        raise InputError(f"task must be one of {', '.join(TASKS)}, not {name!r}.")
    return TASKS[name]
