"""htc-predict reads what htc-train reads, and takes nothing else for a text."""

import gzip
import io
import json
import sys
import zipfile

import pytest

from htc import InputError
from htc.commands.predict import read_texts
from htc.experiment.config import PredictConfig

TEXTS = ["A song, sung.", 'She said "no".', "two\nlines", "naïve 芸術", "ends in {", "=1+1"]
ONE_LINE = [text for text in TEXTS if "\n" not in text]


def table(delimiter=",", header=("id", "text", "label"), end="\n"):
    quoted = ('"' + text.replace('"', '""') + '"' for text in TEXTS)
    rows = ([text] if len(header) == 1 else [str(number), text, "Arts"] for number, text in enumerate(quoted))
    return end.join(map(delimiter.join, [header, *rows])) + end


def archive():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr(zipfile.ZipInfo("xl/worksheets/sheet1.xml"), "<row/>")  # dated, so that it is the same each time
    return content.getvalue()


RECORDS = [{"text": text, "label": ["Arts"]} for text in TEXTS]
READ = {  # what people have -> a file's name, its content, what is given beside it
    "a table": ("a.csv", table(), {}),
    "a table in capitals": ("A.CSV", table(), {}),
    "a table with semicolons": ("a.csv", table(";", end="\r\n"), {}),
    "a table of Excel": ("a.csv", "\ufeffsep=;\r\n" + table(";", end="\r\n"), {}),
    "a table with tabs": ("a.tsv", table("\t"), {}),
    "Excel's Unicode text": ("a.tsv", table("\t", end="\r\n").encode("utf-16"), {}),
    "Excel's Unicode text as it is named there": ("a.txt", table("\t").encode("utf-16"), {"input_format": "tsv"}),
    "a table with another column": ("a.csv", table(header=("id", "the report", "")), {"text_column": "the report"}),
    "a table with columns of one name": ("a.csv", table(header=("", "text", "")), {}),
    "a table of texts alone": ("a.csv", table(header=("text",)), {}),
    "JSON lines": ("a.jsonl", "\n".join(map(json.dumps, RECORDS)), {}),
    "JSON lines by another name": ("a.ndjson", "\n".join(map(json.dumps, RECORDS)), {}),
    "JSON lines without labels": ("a.jsonl", "\n".join(json.dumps({"token": [text]}) for text in TEXTS), {}),
    "JSON lines of texts": ("a.jsonl", "\n".join(map(json.dumps, TEXTS)), {}),
    "a JSON array": ("a.json", json.dumps(RECORDS), {}),
    "an indented JSON array": ("a.json", json.dumps(RECORDS, indent=2, ensure_ascii=False), {}),
    "a JSON array of texts": ("a.json", json.dumps(TEXTS, indent=2), {}),
    "JSON by another name": ("a.dat", json.dumps(TEXTS), {"input_format": "json"}),
    "JSON lines said to be so": ("a.txt", "\n".join(map(json.dumps, RECORDS)), {"input_format": "jsonl"}),
    "lines": ("a.txt", "\n".join(ONE_LINE), {}),
    "lines without an ending": ("a", "\n".join(ONE_LINE) + "\n", {}),
    "lines of Windows with a mark": ("a.txt", "\ufeff" + "\r\n".join(ONE_LINE) + "\r\n\r\n", {}),
    "lines of old Macs": ("a.txt", "\r".join(ONE_LINE) + "\r", {}),
    "lines of old Macs in UTF-16": ("a.txt", "\r".join(ONE_LINE).encode("utf-16"), {}),
    "lines in UTF-16": ("a.txt", "\r\n".join(ONE_LINE).encode("utf-16"), {}),
    "lines with blank ones": ("a.txt", "\n\n" + "\n \n".join(ONE_LINE) + "\n\n", {}),
    "lines by another name": ("a.log", "\n".join(ONE_LINE), {"input_format": "lines"}),
}


def read(folder, monkeypatch, name, content, given, from_stdin=False, column="text"):
    content = content if isinstance(content, bytes) else content.encode()
    if from_stdin:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return list(read_texts(PredictConfig(**given), column))
    (folder / name).write_bytes(content)
    return list(read_texts(PredictConfig(**{"input": str(folder / name), **given}), column))


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("from_stdin", [False, True])
def test_everything_that_training_reads(kind, from_stdin, tmp_path, monkeypatch):
    name, content, given = READ[kind]
    if from_stdin:
        given = {
            "input_format": {"csv": "csv", "tsv": "tsv", "json": "json", "jsonl": "jsonl", "ndjson": "json"}.get(
                name.lower().rpartition(".")[2], "lines"
            )
        } | given
    texts = read(tmp_path, monkeypatch, name, content, given, from_stdin)
    assert texts == (ONE_LINE if kind.startswith("lines") else TEXTS)


def test_the_column_is_that_of_the_training_unless_another_is_given(tmp_path, monkeypatch):
    content = "text,report\na,b\n"
    assert read(tmp_path, monkeypatch, "a.csv", content, {}) == ["a"]
    assert read(tmp_path, monkeypatch, "a.csv", content, {}, column="report") == ["b"]
    assert read(tmp_path, monkeypatch, "a.csv", content, {"text_column": "text"}, column="report") == ["a"]


LINES_ARE = "looks like .*, not like plain text with one text a line; say which it is: input_format=lines.json.jsonl.csv.tsv"
NOT_LINES = {  # content that is no plain text -> what it looks like
    "a table": (table(), "a table with a column 'text'"),
    "a table with semicolons": (table(";"), "a table with a column 'text'"),
    "a table with tabs": (table("\t"), "a table with tabs"),
    "a table with its texts first": ("Text,Label\na song,Arts\n", "a table with a column 'text'"),
    "a table of one column": ("text\na song\n", "a table with a column 'text'"),
    "a table in quotes": ('"text","label"\n"a song","Arts"\n', "a table with a column 'text'"),
    "a table with another column": (
        "report,label\na song,Arts\nan atom,Science\n",
        "a table with the columns 'report', 'label'",
    ),
    "a table whose text goes on": ('body,label\n"a song\nand more",Arts\n', "a table with the columns 'body', 'label'"),
    "a table without a header": ('"a song\nand more",Arts\n', "a table, in which a quoted text goes on in the next line"),
    "rows that end in labels": (
        "A song is sung.,Arts,Music\nAn atom is split.,Science,Physics\n",
        "a table with ',' between its cells",
    ),
    "rows that end in numbers of classes": ("A song is sung.;1\nAn atom is split.;0\n", "a table with ';' between its cells"),
    "AG News": (
        '"3","A song, sung.","A long one."\n"4","An atom.","A small one, split."\n',
        "a table with ',' between its cells",
    ),
    "ids and texts": ("17\ta song\n", "a table with tabs"),
    "JSON lines": ('{"text": "a song"}\n', "JSON"),
    "a JSON array": ('[{"text": "a song"}]\n', "JSON"),
    "a JSON array of texts": ('["a song"]\n', "JSON"),
    "an indented JSON array": ('[\n  {"text": "a song"}\n]\n', "JSON"),
    "an indented JSON object": ('{\n  "text": "a song"\n}\n', "JSON"),
    "a web page": ("<!DOCTYPE html>\n<html>\n", "XML or HTML"),
    "XML": ('<?xml version="1.0"?>\n<book>\n', "XML or HTML"),
    "the Blurb Genre Collection": ('<book date="2018" xml:lang="en">\n<title>T</title>\n', "XML or HTML"),
    "fastText's format": (
        "__label__Arts a song\n__label__Science an atom\n",
        "fastText's format, in which labels stand before",
    ),
    "a table of Excel": ("sep=;\nbody;label\na song;Arts\n", "a table of Excel, whose first line says"),
    "JSON after blank lines": ('\n\n{ "text": "a song"}\n', "JSON"),
}


@pytest.mark.parametrize("kind", NOT_LINES)
@pytest.mark.parametrize("from_stdin", [False, True])
def test_what_is_no_plain_text_is_not_taken_for_it(kind, from_stdin, tmp_path, monkeypatch):
    content, like = NOT_LINES[kind]
    with pytest.raises(InputError, match=LINES_ARE) as caught:
        read(tmp_path, monkeypatch, "a.txt", content, {}, from_stdin)
    assert f"looks like {like}" in str(caught.value)
    lines = [line.strip() for line in content.split("\n") if line.strip()]
    assert read(tmp_path, monkeypatch, "a.txt", content, {"input_format": "lines"}, from_stdin) == lines, "unless it is said"


@pytest.mark.parametrize(
    "first",
    [
        *(
            "A song, sung.",
            "headache, fever",
            "One; two; three.",
            "Say: yes, no",
            "[1] A reference.",
            "[sic] A text",
            "{brackets} first",
        ),
        *(
            '"No," she said.',
            'He said "no',
            "Send mail, text, or call.",
            "one",
            "a=b",
            "<3 this",
            "< 5 mg",
            "<unk the",
            "A text, the text",
            "a\rb",
            "x" * 200_000,
            "$5,000 lost",
            "It cost 5,000",
            "a song,an atom, a film",
            '"Yes","no," he said',
        ),
    ],
)
def test_plain_text_is_plain_text(first, tmp_path, monkeypatch):
    assert read(tmp_path, monkeypatch, "a.txt", f"{first}\nAnother one, here.\n", {}) == [first, "Another one, here."]


ARCHIVE, GZ = archive(), gzip.compress(b"text\na song\n", mtime=0)
BROKEN = {  # what cannot be read -> a file's name, its content, what is given beside it, the error
    "a workbook": (
        "a.xlsx",
        ARCHIVE,
        {},
        "cannot tell what a '.xlsx' file holds; texts are read from tables .*JSON .*plain text",
    ),
    "a workbook that is called otherwise": ("a.csv", ARCHIVE, {}, "a.csv: this is a ZIP archive, as .xlsx"),
    "a workbook for plain text": (
        "a.txt",
        ARCHIVE,
        {},
        "a.txt: this is a ZIP archive.*save its content as CSV, JSON or plain text",
    ),
    "a workbook without an ending": ("a", ARCHIVE, {}, "a: this is a ZIP archive"),
    "a workbook for JSON": ("a.json", ARCHIVE, {}, "a.json: this is a ZIP archive"),
    "a workbook, said to be lines": ("a.xlsx", ARCHIVE, {"input_format": "lines"}, "this is a ZIP archive"),
    "a compressed table": ("a.csv.gz", GZ, {}, "cannot tell what a '.gz' file holds"),
    "a compressed table, said to be one": ("a.csv.gz", GZ, {"input_format": "csv"}, "this is compressed with gzip"),
    "a compressed text": ("a.txt", GZ, {}, "this is compressed with gzip"),
    "Parquet": ("a.parquet", b"PAR1\x15\0", {}, "this is no Parquet file, or a damaged one"),
    "Parquet by another name": ("a", b"PAR1\x15\0", {}, "this is a Parquet file"),
    "PDF": ("a.pdf", b"%PDF-1.4\nhello", {}, "cannot tell what a '.pdf' file holds"),
    "PDF by another name": ("a.txt", b"%PDF-1.4\nhello", {}, "this is a PDF file"),
    "RTF by another name": ("a.txt", b"{\\rtf1 hello}", {}, "this is an RTF file"),
    "an old workbook": ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", {}, "this is an old .xls or .doc file"),
    "a web page": ("a.html", "<p>a song</p>", {}, "cannot tell what a '.html' file holds"),
    "other bytes": ("a.txt", b"a song\n\0\1\2", {}, "a.txt:2: the line holds a NUL character"),
    "other bytes in a table": ("a.csv", b"text\n\0", {}, "a.csv:2: the table holds a NUL character"),
    "Latin-1": ("a.txt", "fine\ncafé\n".encode("latin-1"), {}, "a.txt:2: the line is not UTF-8 text"),
    "a table in Latin-1": ("a.csv", "text\ncafé\n".encode("latin-1"), {}, "a.csv:2: the table is not UTF-8 text"),
    "JSON in Latin-1": ("a.jsonl", '"fine"\n"café"\n'.encode("latin-1"), {}, "a.jsonl:2: the line is not UTF-8 text"),
    "an empty text in a table": ("a.csv", "text,label\na,b\n ,b\n", {}, "a.csv:3: the text .column 'text'. is empty"),
    "a missing text in a table": (
        "a.csv",
        "text,label\na,b\nnan,b\n",
        {},
        "a.csv:3: the text .column 'text'. is 'nan', as pandas",
    ),
    "an empty text in JSON": ("a.jsonl", '{"text": "a"}\n{"text": " "}\n', {}, "a.jsonl:2: the document's text is empty"),
    "an empty text in an array": ("a.json", '["a",\n""]', {}, "a.json:2: the document's text is empty"),
    "no text in JSON": ("a.json", '[{"text": "a"},\n {"label": []}]', {}, "a.json:2: the document has neither"),
    "a number for a text": ("a.json", "[1]", {}, r"a.json:1 \(element 1\): expected a JSON object with a text"),
    "documents in an object": ("a.json", '{"data": [{"text": "a"}]}', {}, "documents are in its list 'data'"),
    "a broken array": ("a.json", '[\n"a",\n"b"\n"c"]', {}, "a.json:4: malformed JSON"),
    "a table without the column": (
        "a.csv",
        "report,label\na,b\n",
        {},
        "no column 'text' .text_column.; it has 'report', 'label'",
    ),
    "a column that is there twice": ("a.csv", "text,text\na,b\n", {}, "2 are called 'text'"),
    "a quote left open": ("a.csv", 'text\n"a\n', {}, "a.csv:2: the row that begins here is malformed"),
    "a row with too many cells": ("a.csv", "text\na, b\n", {}, "a.csv:2: the row has 2 cells, but there are 1 columns"),
    "a table of nothing": ("a.csv", "", {}, "a.csv: the table is empty"),
    "another format": ("a.txt", "a", {"input_format": "xml"}, "input_format must be one of lines, json, jsonl, csv, tsv"),
    "a column of plain text": ("a.txt", "a", {"text_column": "b"}, "text_column is for tables, but .*a.txt is read as lines"),
    "a text beside it": ("a.txt", "a", {"text": "b"}, "text and input are both given"),
    "a column beside a text": (
        "a.txt",
        "a",
        {"text": "b", "input": None, "text_column": "c"},
        "text and text_column are both given",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_read_is_reported(kind, tmp_path, monkeypatch):
    name, content, given, message = BROKEN[kind]
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, monkeypatch, name, content, given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [ARCHIVE, GZ, b"caf\xe9\n", b"a\0b\n", b"%PDF-1.4\n"])
def test_bytes_on_standard_input_are_no_texts(content, tmp_path, monkeypatch):
    for input_format in (None, "lines", "csv", "json"):
        with pytest.raises(InputError, match=r"^standard input:"):
            read(tmp_path, monkeypatch, "", content, {"input_format": input_format}, from_stdin=True)


def test_plain_lines_are_read_as_they_come(monkeypatch):
    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            buffer[:8] = b"a text.\n"
            return 8

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Endless(), 8)))
    texts = read_texts(PredictConfig())
    assert [next(texts) for _ in range(5)] == ["a text."] * 5
