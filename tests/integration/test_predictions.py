"""Predictions as files: every form of the input into every form of the output, with the input's columns."""

import csv
import datetime
import io
import json
import sys
from decimal import Decimal

import pandas as pd
import psutil
import pyarrow
import pyarrow.parquet
import pytest

import htc
from htc.commands import predict as predict_app
from htc.commands.predictions import ROW_GROUP, writing
from htc.datasets.texts import Row
from htc.predictor import Step

from .entry_points import call
from .htc_runs import place, train_in

__all__ = ["place"]  # a fixture

TEXTS = ["violin song", "atom energy, light", 'a "quoted" cell\nof two lines', "force"]
TABLE = pd.DataFrame({"id": [7, 8, 9, 10], "body": TEXTS, "note": ["a", "", "c", "=1+1"], "score": [0.5, 1.5, None, 2.0]})


@pytest.fixture(scope="module")
def run(place):
    return train_in(place, "a run")


@pytest.fixture(scope="module")
def expected(run):
    return htc.load(run).predict(TEXTS)


def predict(run, monkeypatch, capsys, *arguments):
    code, out, err = call(predict_app, [f"model={run / 'model'}", *map(str, arguments)], monkeypatch, capsys)
    return code, out, err


def write_input(folder, ending):
    file = folder / f"in.{ending}"
    match ending:
        case "csv" | "tsv":
            TABLE.to_csv(file, index=False, sep="\t" if ending == "tsv" else ",")
        case "jsonl" | "json":
            records = [{**row, "body": None, "text": row["body"], "more": {"a": [1]}} for row in TABLE.to_dict("records")]
            text = "\n".join(map(json.dumps, records)) if ending == "jsonl" else json.dumps(records)
            file.write_text(text.replace("NaN", "null"))
        case "parquet":
            TABLE.to_parquet(file)
        case "txt":
            file.write_text("\n".join(text.replace("\n", " ") for text in TEXTS) + "\n")
    return file


def read_output(file):
    """The rows of an output, and for each its paths and the probabilities of their ends."""
    if file.suffix == ".jsonl":
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        ends = [
            [(" > ".join(step["label"] for step in path), path[-1]["probability"]) for path in row["labels"]] for row in rows
        ]
    elif file.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(file.read_text(), newline="")))
        ends = [
            [(path, float(p)) for path, p in zip(row["labels"].split("; "), row["probability"].split("; "), strict=True)]
            for row in rows
        ]
    else:
        rows = pyarrow.parquet.read_table(file).to_pylist()
        ends = [list(zip(row["labels"], row["probability"], strict=True)) for row in rows]
    return rows, ends


@pytest.mark.parametrize("output", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet", "txt"])
def test_every_input_into_every_output(ending, output, run, expected, tmp_path, monkeypatch, capsys):
    file, out = write_input(tmp_path, ending), tmp_path / "new folder" / f"out.{output}"
    column = ["text_column=body"] if ending in ("csv", "tsv", "parquet") else []
    code, printed, err = predict(run, monkeypatch, capsys, f"input={file}", f"output={out}", *column)
    assert (code, printed) == (0, ""), err
    rows, ends = read_output(out)
    if ending != "txt":
        assert ends == [[(" > ".join(s.label for s in path), path[-1].probability) for path in paths] for paths in expected]
    own = [name for name in rows[0] if name not in ("labels", "probability")]
    assert list(rows[0])[: len(own)] == own  # before the predictions
    names = {"txt": ["text"], "json": [*TABLE.columns, "text", "more"], "jsonl": [*TABLE.columns, "text", "more"]}
    assert own == names.get(ending, list(TABLE.columns))
    if ending == "txt":
        return
    assert [int(row["id"]) for row in rows] == [7, 8, 9, 10]
    assert [row["text" if ending.startswith("json") else "body"] for row in rows] == TEXTS
    assert [row["note"] or "" for row in rows] == ["a", "", "c", "'=1+1" if output == "csv" else "=1+1"]
    assert [row["score"] in (None, "") for row in rows] == [False, False, True, False]
    assert [file.name for file in out.parent.iterdir()] == [out.name]


def test_columns_of_parquet_keep_their_types(run, tmp_path, monkeypatch, capsys):
    columns = {
        "text": pyarrow.array(TEXTS, pyarrow.large_string()),
        "day": pyarrow.array([datetime.date(2026, 1, day) for day in (1, 2, 3)] + [None], pyarrow.date32()),
        "at": pyarrow.array([datetime.datetime(2026, 1, 1)] * 4, pyarrow.timestamp("ms")),
        "price": pyarrow.array([Decimal("1.10")] * 4, pyarrow.decimal128(8, 2)),
        "kind": pyarrow.array(["a", "b", None, "a"]).dictionary_encode(),
        "raw": pyarrow.array([b"\0\xff"] * 4),
        "vector": pyarrow.array([[0.5, 1.0]] * 4, pyarrow.list_(pyarrow.float32())),
        "small": pyarrow.array([1, None, 3, 4], pyarrow.int16()),
        "none": pyarrow.array([None] * 4),
    }
    given = pyarrow.table(columns)
    pyarrow.parquet.write_table(given, tmp_path / "in.parquet")
    given = pyarrow.parquet.read_table(tmp_path / "in.parquet")
    arguments = (f"input={tmp_path / 'in.parquet'}", f"output={tmp_path / 'out.parquet'}")
    assert predict(run, monkeypatch, capsys, *arguments)[0] == 0
    found = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert found.select(given.column_names).equals(given)
    assert found.column_names == [*given.column_names, "labels", "probability"]
    code, _, err = predict(run, monkeypatch, capsys, arguments[0], f"output={tmp_path / 'out.csv'}")
    assert code == 2
    assert "row 0: a value of the type bytes can be written neither as JSON nor as CSV; write .parquet" in err
    assert not (tmp_path / "out.csv").exists()


def test_predictions_are_documents_for_training(run, tmp_path, monkeypatch, capsys):
    pd.DataFrame({"text": [f"{text} {number}" for number in range(20) for text in TEXTS]}).to_parquet(tmp_path / "in.parquet")
    arguments = (f"input={tmp_path / 'in.parquet'}", f"output={tmp_path / 'out.parquet'}")
    assert predict(run, monkeypatch, capsys, *arguments)[0] == 0
    dataset = htc.datasets.load_table(tmp_path / "out.parquet", path="labels")
    assert len(dataset.texts) == 80


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["output=out.xlsx"], "out.xlsx: predictions are written as .jsonl, .ndjson, .csv, .parquet, .pq"),
        (["output=out"], "out: predictions are written as"),
        (["output=old.csv"], "old.csv exists; choose another output, or replace it with overwrite=true"),
        (["output=in.csv"], "in.csv is the input"),
        (["output=in.csv", "overwrite=true"], "in.csv is the input"),
        (["output=out.csv", "format=jsonl"], "format=jsonl is for standard output"),
        (["overwrite=true"], "overwrite is for a file of predictions; give output=FILE"),
        (["prefix=a"], "prefix is for a file of predictions"),
        (["output=folder.csv", "overwrite=true"], "folder.csv is a folder"),
        (["output=/proc/no/out.csv"], "cannot write the predictions"),
        (["output=out.csv", "text_column=nope"], "in.csv:1: there is no column 'nope'"),
        (["output=out.csv", "input=labels.csv"], "labels.csv:2: the input has a column 'labels' of its own"),
        (["output=out.jsonl", "input=labels.jsonl"], "labels.jsonl:1: the input has a column 'labels' of its own"),
        (["output=out.jsonl", "input=twice.csv"], "twice.csv:2: the input has several columns 'a'"),
        (["output=out.csv", "input=empty.txt"], "there is no text in empty.txt"),
        (["output=out.csv", "input=bad.csv"], "bad.csv:3: the text (column 'text') is empty"),
        (["output=out.csv", "input=more.jsonl"], "more.jsonl:2: 'b' is in no row before, so that it has no column"),
        (["output=out.parquet", "input=mixed.jsonl"], "mixed.jsonl:1: the values of 'a' are of different types"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(arguments, says, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    contents = {
        "in.csv": "text,a\nviolin,1\n",
        "old.csv": "mine\n",
        "labels.csv": "text,labels\nviolin,1\n",
        "labels.jsonl": '{"text": "violin", "labels": ["Arts"]}\n',
        "twice.csv": "text,a,a\nviolin,1,2\n",
        "empty.txt": "\n",
        "bad.csv": "text,a\nviolin,1\n,2\n",
        "more.jsonl": '{"text": "violin", "a": 1}\n{"text": "violin", "b": 1}\n',
        "mixed.jsonl": '{"text": "violin", "a": 1}\n{"text": "violin", "a": "x"}\n',
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "folder.csv").mkdir()
    given = ["input=in.csv"] if not any(argument.startswith("input=") for argument in arguments) else []
    code, out, err = predict(run, monkeypatch, capsys, *given, *arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert {file.name for file in tmp_path.iterdir()} == {*contents, "folder.csv"}
    assert (tmp_path / "old.csv").read_text() == "mine\n"


def test_a_prefix_and_overwriting(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "in.csv").write_text("text,labels,probability,\nviolin,x,1,z\n")
    (tmp_path / "out.csv").write_text("old")
    arguments = (f"input={tmp_path / 'in.csv'}", f"output={tmp_path / 'out.csv'}", "prefix=predicted_", "overwrite=true")
    assert predict(run, monkeypatch, capsys, *arguments)[0] == 0
    ((row),) = csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text()))
    assert list(row) == ["text", "labels", "probability", "column 4", "predicted_labels", "predicted_probability"]
    assert list(row.values())[:4] == ["violin", "x", "1", "z"]


def test_the_key_of_the_text_in_json(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "in.jsonl").write_text('{"body": "violin song", "text": "atom"}\n{"body": ["violin", "song"]}\n')
    arguments = [f"input={tmp_path / 'in.jsonl'}", f"output={tmp_path / 'out.jsonl'}"]
    assert predict(run, monkeypatch, capsys, *arguments, "text_column=body")[0] == 0
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert first["labels"] == second["labels"]
    for key, says in (
        ("nope", "in.jsonl:1: the document has no 'nope' (text_column)"),
        ("text", "in.jsonl:2: the document has no"),
    ):
        code, _, err = predict(run, monkeypatch, capsys, arguments[0], f"text_column={key}")
        assert (code, says in err) == (2, True)


def test_half_characters_of_json_stay(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "in.jsonl").write_text('{"text": "violin", "a": "\\ud800", "b": "\u00e9"}\n')
    for ending in ("jsonl", "csv"):
        arguments = (f"input={tmp_path / 'in.jsonl'}", f"output={tmp_path / f'out.{ending}'}")
        assert predict(run, monkeypatch, capsys, *arguments)[0] == 0
    found = json.loads((tmp_path / "out.jsonl").read_text())
    assert (found["a"], found["b"]) == ("\ud800", "\u00e9")
    code, _, err = predict(run, monkeypatch, capsys, arguments[0], f"output={tmp_path / 'out.parquet'}")
    assert (code, "write JSON lines" in err) == (2, True)


def test_one_text_and_standard_input(run, tmp_path, monkeypatch, capsys):
    assert predict(run, monkeypatch, capsys, "text=violin song", f"output={tmp_path / 'a.jsonl'}")[0] == 0
    assert json.loads((tmp_path / "a.jsonl").read_text())["text"] == "violin song"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text,a\nviolin,1\n")))
    assert predict(run, monkeypatch, capsys, "input_format=csv", f"output={tmp_path / 'b.csv'}")[0] == 0
    assert (tmp_path / "b.csv").read_text().startswith("text,a,labels,probability\nviolin,1,")
    code, _, err = predict(run, monkeypatch, capsys, "input_format=parquet")
    assert (code, "is not read from standard input" in err) == (2, True)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_memory_does_not_grow_with_the_rows(ending, tmp_path, monkeypatch):
    """Rows are read, labelled and written in parts: 400 MB of them go through in less than 150 MB."""
    path = [[Step("Arts", 0.9), Step("Music", 0.8)]]
    text = "violin " * 1400
    monkeypatch.setattr("htc.commands.predictions.ROW_GROUP", 1024)
    process, most = psutil.Process(), 0
    before = process.memory_info().rss
    with writing(tmp_path / f"out.{ending}") as writer:
        for number in range(40_000):
            writer.write(Row(f"row {number}", text, ["id", "text"], [number, f"{text}{number}"]), path)
            if number % 1000 == 0:
                most = max(most, process.memory_info().rss - before)
    assert most < 150e6
    assert ROW_GROUP > 1024


def test_input_is_read_as_it_is_labelled(tmp_path):
    from htc.datasets.texts import rows_in

    lines = {"csv": b"%d,x\n", "json": b'{"text": "%d"}\n', "lines": b"%d\n"}
    for form, line in lines.items():
        taken = []

        def endless(line=line, form=form, taken=taken):
            if form == "csv":
                yield b"text,a\n"
            for number in range(1000, 10**9):
                taken.append(number)
                yield line % number

        rows = rows_in(endless(), "a file", form, "text", True)
        assert [next(rows).text for _ in range(50)] == [str(number) for number in range(1000, 1050)]
        assert len(taken) < 60
    pd.DataFrame({"text": [f"text {number}" for number in range(5000)]}).to_parquet(tmp_path / "a.parquet", row_group_size=100)
    with (tmp_path / "a.parquet").open("rb") as file:
        rows = rows_in(file, "a file", "parquet", "text", True)
        assert [row.text for row in rows] == [f"text {number}" for number in range(5000)]
