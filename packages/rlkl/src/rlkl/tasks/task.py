"""What can be asked of a task: its texts, whether an answer is right, and operands for it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from rlkl.tasks import operands as pairs
from rlkl.tasks import scratchpad
from rlkl.tasks.scratchpad import ANSWER_MARK, Copy, Piece, Rule, answer_line, remaining_digits


@dataclass(frozen=True)
class Task:
    """A calculation with two operands, written out on a scratchpad (`rlkl.tasks.scratchpad`), whose answer can be checked.

    Attributes:
        NAME: what configs and saved models call it.
        PLURAL: what sentences call several problems of it.
        rule: how a line is worked out.
        result: what the answer line says. It raises ValueError for operands that are no problem of the task, and so do all
            methods.
        CHARACTERS: those of its texts, in the order of their token ids; they begin with those of every task that has fewer, for
            one tokenizer serves all (`rlkl.model.texts`).
        second: the second operand in each line.
        identical: operands, drawn so that each that can be long has exactly so many digits.
        varying: one operand has so many digits, the other at most.
        balanced: the mix for pre-training, of up to so many digits.
        longer: the mix for fine-tuning on more digits than were pre-trained; takes the latter, then the former.
        longest: operands of so many digits whose text is as long as any.
    """

    NAME: str
    PLURAL: str
    rule: Rule
    result: Callable[[pairs.Operands], int]
    CHARACTERS: str = scratchpad.CHARACTERS
    second: Callable[[int], Iterator[Copy]] = remaining_digits
    identical: Callable[[int, Random], pairs.Operands] = pairs.identical
    varying: Callable[[int, Random], pairs.Operands] = pairs.varying
    balanced: Callable[[int, Random], pairs.Operands] = pairs.balanced
    longer: Callable[[int, int, Random], pairs.Operands] = pairs.longer
    longest: Callable[[int], pairs.Operands] = pairs.nines

    Operands: ClassVar = pairs.Operands  # `addition.Operands(12, 3)` needs no second import

    def prompt(self, operands: pairs.Operands) -> str:
        """What the model is given."""
        self.result(operands)  # refuses what is no problem of the task
        return f"Input:\n{operands.first}{self.rule.sign}{operands.second}\nTarget:"

    def pieces(self, operands: pairs.Operands) -> Iterator[Piece]:
        """The right completion, piece by piece."""
        first, second = remaining_digits(operands.first), self.second(operands.second)
        return scratchpad.write(operands.digits, first, second, self.rule, self.result(operands))

    def completion(self, operands: pairs.Operands) -> str:
        """What the model should write, to the last newline."""
        return "".join(piece.text for piece in self.pieces(operands))

    def answer(self, operands: pairs.Operands) -> str:
        """The answer line: the digits of the result, separated by spaces."""
        return answer_line(self.result(operands))

    def grade(self, operands: pairs.Operands, text: str) -> bool:
        """Whether a completion's answer line is exactly right; what the scratchpad says does not count.

        Args:
            operands: what was to be calculated with.
            text: what the model wrote after the prompt; what follows the answer's newline is ignored.
        """
        _, mark, rest = text.partition(ANSWER_MARK)
        line, newline, _ = rest.partition("\n")
        return line == self.answer(operands) and bool(mark) and bool(newline)
