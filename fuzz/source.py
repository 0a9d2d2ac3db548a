"""`Source`: bytes as a sequence of choices, so that a fuzzer that changes bytes changes files in ways that matter."""

import json
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, TypeVar

Choice = TypeVar("Choice")

FRAGMENTS = (  # bytes that readers stumble over
    *(bytes([byte]) for byte in b"\x00\xff\x1c\r\n\t '\"[]{}:;,|&<>/\\#$*~-+=.%9"),
    *(
        b"\xef\xbb\xbf",
        b"\xe2\x80\xa8",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\\u0000",
        b"&#0;",
        b" > ",
        b"\r\n",
        b"${",
        b"!!python/name:os",
    ),
    *(b"NaN", b"-Infinity", b"1e999", b"null", b"true", b"../", b"/dev/zero", b"Root", b"sep=", b"*a", b"&a ", b"? ", b"- "),
)
ODD = (  # JSON values that a reader may not expect
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, 10**30, 1.5, -0.5, 1e-320, 1e300, float("nan"), float("inf")),
    *("", "a", "\ud800", "\x00", "a\nb", "a|b", "<b>", "../x", "/dev/zero", "1", "nan", "Root", "é" * 300),
    *([], [[]], [None], ["a"], [1, 2], {}, {"a": None}, {"": {}}),
)


class Source:
    """Choices read off bytes; once these are used up, every choice is the first. Args: data: the bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def number(self, below: int) -> int:
        """A number from 0 to below - 1."""
        size = 1 if below <= 2**8 else 2 if below <= 2**16 else 4
        part = self._data[self._position : self._position + size]
        self._position += size
        return int.from_bytes(part, "little") % below

    def choice(self, options: Sequence[Choice]) -> Choice:
        """One of some options."""
        return options[self.number(len(options))]

    def rest(self) -> bytes:
        """All bytes that are left."""
        part = self._data[self._position :]
        self._position = len(self._data)
        return part

    @property
    def is_used_up(self) -> bool:
        """Whether no byte is left."""
        return self._position >= len(self._data)

    def file(self, good: bytes) -> bytes:
        """The content of a file: the bytes that are left as they are, or a good file with some changes."""
        kind = self.number(8)
        if kind == 1:
            return self.rest()
        if kind >= 6:  # on one of its lines, where that is JSON
            lines = good.split(b"\n")
            at = self.number(len(lines))
            try:
                content = json.loads(good) if kind == 7 else json.loads(lines[at])
            except ValueError:
                return self.spliced(good)
            changed = json.dumps(self.altered(content)).encode()
            return changed if kind == 7 else b"\n".join([*lines[:at], changed, *lines[at + 1 :]])
        return self.spliced(good)

    def spliced(self, good: bytes) -> bytes:
        """Bytes with up to four places where some were taken out and others put in."""
        content = good
        for _ in range(1 + self.number(4)):
            at = self.number(len(content) + 1)
            removed = self.choice((0, 0, 1, 2, 8, 64, len(content)))
            inserted = self.choice((b"", *FRAGMENTS)) * self.choice((1, 1, 1, 2, 3, 1500, 6000))
            if self.number(4) == 3:  # a part of the file itself
                start = self.number(len(content) + 1)
                inserted = content[start : start + self.number(256)]
            content = content[:at] + inserted + content[at + removed :]
            if self.is_used_up:
                break
        return content

    def altered(self, good: Any) -> Any:
        """A copy of a JSON value with up to three odd values in it, or parts of it gone, renamed or wrapped."""
        content = json.loads(json.dumps(good))
        for _ in range(1 + self.number(3)):
            content = self._changed(content)
            if self.is_used_up:
                break
        return content

    def _odd(self) -> Any:
        return deepcopy(self.choice(ODD))

    def _changed(self, value: Any) -> Any:
        if isinstance(value, dict | list) and value and self.number(8):  # further down
            key = self.choice(list(value)) if isinstance(value, dict) else self.number(len(value))
            action = self.number(12)
            if action == 0:
                del value[key]
            elif action == 1 and isinstance(value, dict):
                value[str(self._odd())] = value.pop(key)
            elif action == 2 and isinstance(value, list):
                value.insert(key, self._odd())
            else:
                value[key] = self._changed(value[key])
            return value
        action = self.number(6)
        if action == 0:
            return [value]
        if action == 1:
            return str(value)
        if action == 2 and isinstance(value, int | float):
            return self.choice((-value, value + 1, value * 1000, float(value)))
        return self._odd()
