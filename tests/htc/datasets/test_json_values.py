"""JSON that is read line by line gives the values, places and errors of JSON that is read at once."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htc import InputError
from htc.datasets.json_values import json_values, json_values_in
from htc.labels.text_files import decoded

PIECES = [
    "{}",
    '{"a": 1}',
    '{"a":\n [1,\n 2]}',
    "[1, 2]",
    "[",
    "]",
    "{",
    ",",
    "null",
    "1",
    '"text"',
    "\n",
    "\r\n",
    " ",
    '{"a": "é"}',
    "x",
]
HARD = [
    *(b"", b"\n\n", b"null\nnull", b'{"a": 1}', b'{"a": 1}\r\n{"a": 2}\r\n', b'{"a": 1}\r{"a": 2}', b'[{"a": 1},\n {"a": 2}]'),
    *(
        b"\n [1]\n",
        b"[1]\n[2]",
        b'{"a": 1}\n[2]\n{"a":',
        b'{"a": 1} {"a": 2}',
        b'{\n"a": 1\n}\n{\n"a": 2\n}',
        b"1\n" * 5 + b"{",
    ),
    *(b"\xef\xbb\xbf" + b'{"a": 1}\n{"a": 2}', b'{"a": 1}\n\xef\xbb\xbf{"a": 2}', '{"a": 1}\n{"b": 2}'.encode("utf-16")),
    *(
        b'{"a": "\xe9"}',
        b'1\n2\n{"a": "\xe9"}',
        b'1\n"a\0"',
        b"a\0",
        b"PK\x03\x04\n\xff",
        b"PAR1\n\xff\n",
        b"%PDF-1.4\n1",
        b"[" * 9000,
    ),
    *(b"1\n" + b"[" * 9000, b"1\n" + b"9" * 9000 + b"\n2", b'{"a": 1},\n{"a": 2}', b"[1\n2]", b"NaN\n-Infinity\n"),
]


def read(values):
    """The values, and the error that ends them."""
    found = []
    try:
        found.extend((place, repr(value)) for place, value in values())
    except InputError as error:
        return found, str(error)
    return found, None


def both(content):
    at_once = read(lambda: json_values(decoded(content, "file", "the line"), "file"))
    return at_once, read(lambda: json_values_in(io.BytesIO(content), "file"))


@pytest.mark.parametrize("content", HARD, ids=lambda content: repr(content[:24]))
def test_hard_cases(content):
    (values, error), (found, problem) = both(content)
    assert problem == error
    assert found == values or (values == [] and error is not None)  # an encoding is checked as lines are read


@given(st.lists(st.sampled_from(PIECES), max_size=9))
def test_any_sequence(pieces):
    content = "".join(pieces).encode()
    assert both(content)[0] == both(content)[1]


def test_lines_are_read_when_they_are_asked_for():
    values = json_values_in(iter([b'{"a": 1}\n', b"not JSON"]), "file")
    assert next(values) == ("file:1", {"a": 1})
    with pytest.raises(InputError, match="file:2: malformed JSON"):
        next(values)
