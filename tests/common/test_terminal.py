"""Text that others wrote: what a terminal, a log or a spreadsheet would act on is shown."""

import csv
import io
import logging

import pytest

from rlkl_htc_common.terminal import PrintableFormatter, csv_line, printable

UNSAFE = {
    "\x1b]0;title\x07": r"\x1b]0;title\x07",  # names the window
    "\x1b[2J": r"\x1b[2J",  # clears the screen
    "\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m",
    "\x1b]8;;http://a.org\x1b\\link": r"\x1b]8;;http://a.org\x1b\link",
    "100%\rdone": r"100%\rdone",  # writes over the line
    "a\x08\x08": r"a\x08\x08",
    "\x00\x0b\x0c\x7f": r"\x00\x0b\x0c\x7f",
    "\x9b2J \x85 \x9d0;x": r"\x9b2J \x85 \x9d0;x",  # the same in one character each
    "\u202edcba": r"\u202edcba",
    "\u202a\u202b\u202c\u202d": r"\u202a\u202b\u202c\u202d",
    "\u2066\u2067\u2068\u2069": r"\u2066\u2067\u2068\u2069",
    "a\u2028b\u2029c": r"a\u2028b\u2029c",
    "half \ud83d": r"half \ud83d",
}
AS_IT_IS = (
    "",
    "plain",
    "naïve café",
    "עברית \u200fעם סימן",
    "می\u200cخواهم",
    "👩\u200d🔬 🏳️",
    "芸術・音楽",
    "a\\b \\x1b",
    "£ € ±",
    "a\u00a0b",
)


@pytest.mark.parametrize("text", UNSAFE)
def test_what_a_terminal_acts_on_is_shown(text):
    assert printable(text) == UNSAFE[text]
    assert printable(printable(text)) == printable(text)
    assert printable(text).encode()
    record = logging.LogRecord("name", logging.WARNING, "file", 1, "label %s", (text,), None)
    assert PrintableFormatter().format(record) == f"label {UNSAFE[text]}"


@pytest.mark.parametrize("text", AS_IT_IS)
def test_all_other_text_stays(text):
    assert printable(text, keep="") == text


def test_layout_stays_where_it_is_asked_for():
    assert printable("a\n\tb") == "a\n\tb"
    assert printable("a\n\tb", keep="") == r"a\n\tb"


@pytest.mark.parametrize(
    "cell", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", "\rx", " =1", "\n=1", "＝1", "-", "+a"]
)
def test_a_formula_is_quoted_for_spreadsheets(cell):
    (row,) = csv.reader(io.StringIO(csv_line(["a", cell]), newline=""))
    assert row == ["a", printable(f"'{cell}")]


@pytest.mark.parametrize(
    "cell", ["-5", "+1.5", "-1e-5", "-3,5", "+5%", ".5", "-.5", "a=b", "a - b", "1-2", "", "it's", 'a "b", c', "a\nb"]
)
def test_numbers_and_other_cells_stay(cell):
    (row,) = csv.reader(io.StringIO(csv_line([cell, "b"]), newline=""))
    assert row == [cell, "b"]
