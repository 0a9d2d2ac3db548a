"""JSON in common layouts: one value per line, values over several lines, or an array. Each value has its first line."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from htc.labels.text_files import decoded_lines
from rlkl_htc_common.errors import InputError

DECODER = json.JSONDecoder()
WHITE = " \t\r\n"
UNREAD = object()


def json_values(content: str, source: str) -> Iterator[tuple[str, Any]]:
    """The values in a text, with their places: the elements of an array, or consecutive values.

    >>> list(json_values('{"a": 1}\\n{"a": 2}', "file"))
    [('file:1', {'a': 1}), ('file:2', {'a': 2})]
    >>> list(json_values('[\\n {"a": 1},\\n {"a": 2}\\n]', "file"))
    [('file:2', {'a': 1}), ('file:3', {'a': 2})]

    Raises:
        InputError: with the line, for malformed JSON.
    """
    reader = _Reader(content, source)
    return reader.elements() if content[reader.skip() : reader.at + 1] == "[" else reader.lines()


def json_values_in(lines: Iterable[bytes], source: str) -> Iterator[tuple[str, Any]]:
    """The values in a file, as `json_values` gives them; where there is one a line, one line is in memory at a time.

    Args: lines: of the file, with line ends.
    """
    texts, is_first = decoded_lines(lines, source, "the line"), True
    for number, text in texts:
        begins = text.lstrip(WHITE)
        if not begins:
            continue
        is_array, is_first = is_first and begins.startswith("["), False
        try:
            value = UNREAD if is_array else json.loads(text)
        except (RecursionError, ValueError):
            value = UNREAD
        if value is UNREAD:  # an array, a value over several lines, or an error, which the reader of whole texts describes
            reader = _Reader("".join([text, *(rest for _, rest in texts)]), source, number)
            reader.skip()
            yield from reader.elements() if is_array else reader.lines()
            return
        yield f"{source}:{number}", value


class _Reader:
    """A text, a position in it, and the line of that position. Args: line: where the text begins."""

    def __init__(self, content: str, source: str, line: int = 1) -> None:
        self.content, self.source = content, source
        self.at, self._line, self._counted = 0, line, 0
        self._end = "\n" if "\n" in content else "\r"  # of lines, as `decoded_lines` splits them

    def place(self) -> str:
        """source:line of the position; it must not move back between calls."""
        self._line += self.content.count(self._end, self._counted, self.at)
        self._counted = self.at
        return f"{self.source}:{self._line}"

    def skip(self) -> int:
        """Skip white space. Returns: the position."""
        while self.at < len(self.content) and self.content[self.at] in WHITE:
            self.at += 1
        return self.at

    def elements(self) -> Iterator[tuple[str, Any]]:
        """The elements of the array that begins here; nothing may follow it. Elements on one line are numbered."""
        last = opened = self.place()
        array, separator, number = f"the array that begins in line {self._line}", ",", 0
        self.at += 1
        if self._next(array) == "]":
            separator, self.at = "]", self.at + 1
        while separator == ",":
            self._next(array)
            number, begins = number + 1, self.place()
            place = f"{begins} (element {number})" if begins in (last, opened) else begins
            yield place, self.value(place)
            last, separator = begins, self._next(array)
            if separator not in ",]":
                self.fail(f"expected a comma or ] in {array}")
            self.at += 1
        if self.skip() < len(self.content):
            raise InputError(
                f"{self.place()}: expected one JSON object a line, or one array of them, but more follows the array."
            )

    def _next(self, array: str) -> str:
        """The next character that is not white space."""
        if self.skip() == len(self.content):
            self.fail(f"{array} is not closed")
        return self.content[self.at]

    def lines(self) -> Iterator[tuple[str, Any]]:
        """Values that each begin on a new line."""
        while self.skip() < len(self.content):
            place = self.place()
            line = self._rest_of_line()
            try:
                value = json.loads(line)
                self.at += len(line)
            except json.JSONDecodeError as error:
                value = self._over_lines(place, error)
            except (RecursionError, ValueError) as error:
                raise InputError(_too_much(place)) from error
            yield place, value

    def value(self, place: str) -> Any:
        """The value that begins here."""
        try:
            value, self.at = DECODER.raw_decode(self.content, self.at)
        except json.JSONDecodeError as error:
            self.at = error.pos
            self.fail(error.msg)
        except (RecursionError, ValueError) as error:
            raise InputError(_too_much(place)) from error
        return value

    def fail(self, problem: str) -> NoReturn:
        """Raise InputError with the current position, at most the end of the text."""
        self.at = min(self.at, len(self.content.rstrip(WHITE)))
        column = self.at - self.content.rfind(self._end, 0, self.at)
        raise InputError(f"{self.place()}: malformed JSON: {problem} (column {column}).")

    def _rest_of_line(self) -> str:
        end = self.content.find(self._end, self.at)
        return self.content[self.at : len(self.content) if end < 0 else end]

    def _over_lines(self, place: str, of_line: json.JSONDecodeError) -> Any:
        """The value that begins here and continues on later lines. Raises InputError with the line of the error."""
        in_line = InputError(f"{place}: malformed JSON: {of_line.msg} (column {of_line.colno}).")
        try:
            value, end = DECODER.raw_decode(self.content, self.at)
        except json.JSONDecodeError as error:
            end = self.at + len(self._rest_of_line())
            is_next_record = self.content.startswith("\n{", error.pos - 1)
            if error.pos <= end or is_next_record or not self.content[end:].strip(WHITE):
                raise in_line from error
            self.at = error.pos
            self.fail(error.msg)
        except (RecursionError, ValueError) as error:
            raise InputError(_too_much(place)) from error
        self.at = end
        if self._rest_of_line().strip(WHITE):
            raise in_line
        return value


def _too_much(place: str) -> str:
    return f"{place}: the JSON holds lists too deep, or a number too long, to be read."
