"""How a completion that was begun probably goes on, whether it is right so far or not.

A model that has made a mistake mostly goes on by the rules from what it wrote: after a list that it closed too early, the next
line takes the last digit off that list. So each line is foreseen from the line before it and from its own beginning. Rollouts
check what is foreseen, many characters in one pass (`rlkl.rollout.drafts`): where it is wrong, only time is lost.
"""

import re
from typing import NamedTuple

from rlkl.tasks.operands import Operands
from rlkl.tasks.scratchpad import ANSWER_MARK, SCRATCHPAD_START, Rule, answer_line
from rlkl.tasks.task import Task

FIELD = re.compile(r"\[[\d,]*\]|-?\d+(?=\D)")  # a list, or a number that has ended


class UnforeseenError(Exception):
    """A text is not in the format."""


class State(NamedTuple):
    """What the next line begins with: two operands, the result so far and the carry, as they are written.

    Attributes:
        ended: whether the scratchpad has ended, so that there is no next line.
    """

    first: str
    second: str
    result: str
    carry: str
    ended: bool = False


class Foresight:
    """Foresees the completion of one problem while it is written.

    Args:
        task: the task.
        operands: of the problem.
    """

    def __init__(self, task: Task, operands: Operands) -> None:
        self._rule = task.rule
        self._state = State(_list("", str(operands.first)), next(task.second(operands.second)).text, "[]", "0")
        self._read = 0  # where the lines end that lead to this state

    def rest(self, text: str, most: int) -> str:
        """What probably follows.

        Args:
            text: the completion so far. It must begin with that of the call before.
            most: how many characters are wanted.

        Returns:
            At most so many, to the last newline of the completion; none where the text is not in the format.
        """
        if self._read == 0 and text.startswith(SCRATCHPAD_START):
            self._read = len(SCRATCHPAD_START)
        try:
            while self._read and not self._state.ended and (end := text.find("\n", self._read) + 1):
                line, self._read = text[self._read : end], end
                self._state = _line(_Reader(line), self._rule, self._state)
            state, reader = self._state, _Reader(text[self._read :])
            if self._read == 0:
                reader.mark(SCRATCHPAD_START)
            while not state.ended:
                if reader.foreseen >= most:
                    return reader.rest()[:most]
                state = _line(reader, self._rule, state)
            reader.mark(ANSWER_MARK)
            reader.mark(answer_line(_number(state.carry + _digits(state.result))) + "\n")
        except UnforeseenError:
            return ""
        return reader.rest()[:most]


class _Reader:
    """Reads the parts of a text that was begun; where it ends, goes on by guesses."""

    def __init__(self, begun: str) -> None:
        self.begun, self.place = begun, 0
        self.parts: list[str] = []

    def mark(self, text: str) -> None:
        """The next part is this in every completion. Raises UnforeseenError where it is not."""
        if not text.startswith(self.begun[self.place : self.place + len(text)]):
            raise UnforeseenError
        self._take(text)

    def field(self, guess: str) -> str:
        """The next part, a list or a number, is as it was written; or as guessed, where it has not ended."""
        found = FIELD.match(self.begun, self.place)
        written = self.begun[self.place :]
        return self._take(found.group() if found else written + guess[len(written) :])

    @property
    def foreseen(self) -> int:
        """How many characters the parts add to what was begun."""
        return self.place - len(self.begun)

    def rest(self) -> str:
        """What the parts add to what was begun."""
        return "".join(self.parts)[len(self.begun) :]

    def _take(self, part: str) -> str:
        self.parts.append(part)
        self.place += len(part)
        return part


def _line(reader: _Reader, rule: Rule, state: State) -> State:
    """Read a line of the scratchpad, see `rlkl.tasks.scratchpad.write`. Returns: what the next one begins with."""
    first = reader.field(state.first)
    reader.mark(f" {rule.sign} ")
    second = reader.field(state.second)
    reader.mark(" , A=")
    result = reader.field(state.result)
    if not any(operand.startswith("[") and _digits(operand) for operand in (first, second)):
        reader.mark(" C=")
        carry = reader.field(state.carry)
        reader.mark(" , END\n")
        return State(first, second, result, carry, ended=True)
    reader.mark(" , C=")
    carry = reader.field(state.carry)
    reader.mark(" , ")
    worked = [reader.field(_last_digit(first))]
    for sign, guess in ((rule.sign, _last_digit(second)), (rule.carry_sign, carry)):
        reader.mark(sign)
        worked.append(reader.field(guess))
    reader.mark("=")
    total = reader.field(str(rule.total(*map(_number, worked))))
    reader.mark(" , A->")
    digit = reader.field(str(_number(total) % 10))
    reader.mark(" , C->")
    new_carry = reader.field(str(abs(_number(total) // 10)))
    reader.mark("\n")
    return State(_without_last(first), _without_last(second), _list(digit, _digits(result)), new_carry)


def _number(text: str) -> int:
    """Raises UnforeseenError for what is no number."""
    try:
        return int(text)
    except ValueError as error:
        raise UnforeseenError from error


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _list(*digits: str) -> str:
    return f"[{','.join(''.join(digits))}]"


def _last_digit(operand: str) -> str:
    return _digits(operand)[-1:] or "0"


def _without_last(operand: str) -> str:
    """An operand in the next line: a list loses its last digit, a number stays."""
    return _list(_digits(operand)[:-1]) if operand.startswith("[") else operand
