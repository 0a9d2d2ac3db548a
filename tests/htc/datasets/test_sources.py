"""Documents from tables of other forms than CSV: the same documents, and the same errors."""

import json

import datasets
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from htc import InputError
from htc.datasets import load_table
from rlkl_htc_common import extras

PATHS = [["Arts", "Music"], ["Arts", "Film"], ["Science", "Physics"], ["Science"]]
NUMBER = 40
TEXTS = [f"text {number}" for number in range(NUMBER)]


def frame(labels, **others):
    """A table with a row for each text. Args: labels: of four rows, again and again."""
    return pd.DataFrame({"id": range(NUMBER), "text": TEXTS, "labels": labels * (NUMBER // len(labels)), **others})


LEVELS = pd.DataFrame(
    {"text": TEXTS, "area": [path[0] for path in PATHS] * 10, "topic": ["Music", "Film", "Physics", None] * 10}
)
LISTS = frame(PATHS, vector=[np.zeros(3)] * NUMBER)
SEVERAL = [[path, ["Other"]] for path in PATHS]
FORMS = ["frame", "records", "parquet", "jsonl", "json", "dataset", "folder", "table", "shuffled index"]


def as_form(table, form, folder):
    """The table in another form."""
    match form:
        case "frame":
            return table
        case "shuffled index":
            return table.set_index(pd.Index(range(len(table), 0, -1)))
        case "records":
            return table.to_dict("records")
        case "parquet":
            table.to_parquet(folder / "a.parquet")
            return folder / "a.parquet"
        case "jsonl" | "json":
            table.to_json(folder / f"a.{form}", orient="records", lines=form == "jsonl")
            return str(folder / f"a.{form}")
        case "dataset":
            return datasets.Dataset.from_pandas(table)
        case "folder":
            datasets.Dataset.from_pandas(table).save_to_disk(folder / "saved")
            return folder / "saved"
        case "table":
            return pyarrow.Table.from_pandas(table)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_documents_of_the_csv_file(form, tmp_path):
    LEVELS.to_csv(tmp_path / "a.csv", index=False)
    expected = load_table(tmp_path / "a.csv")
    found = load_table(as_form(LEVELS, form, tmp_path))
    assert found.fingerprint() == expected.fingerprint()
    assert found.hierarchy.paths == (("Arts",), ("Science",), ("Arts", "Music"), ("Arts", "Film"), ("Science", "Physics"))
    assert len(set(found.places)) == NUMBER


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (SEVERAL, {}),
        ([[" > ".join(path), "Other"] for path in PATHS], {}),
        ([["/".join(path), "Other"] for path in PATHS], {"separator": "/"}),
        (["; ".join([" > ".join(path), "Other"]) for path in PATHS], {"path": "labels", "path_separator": ";"}),
        ([[path, ["Other", None]] for path in PATHS], {"path": "labels"}),
    ],
)
def test_several_paths_in_a_column(form, labels, options, tmp_path):
    dataset = load_table(as_form(frame(labels), form, tmp_path), **options)
    assert [sorted(paths) for paths in dataset.hierarchy.decode(dataset.targets[:4])] == [
        sorted([tuple(path), ("Other",)]) for path in PATHS
    ]


@pytest.mark.parametrize("form", FORMS)
def test_a_path_as_a_list(form, tmp_path):
    dataset = load_table(as_form(LISTS, form, tmp_path))
    assert dataset.hierarchy.decode(dataset.targets[:4]) == [[tuple(path)] for path in PATHS]


def test_labels_without_levels():
    dataset = load_table(frame([["a", "b"], ["b", "c"], ["c"], ["a"]]), separator="")
    assert dataset.hierarchy.num_nodes == len(dataset.hierarchy.leaves) == 3
    assert dataset.targets[:4].sum(1).tolist() == [2, 2, 1, 1]


@pytest.mark.parametrize("several", [False, True])
def test_numbers_of_classes_are_read_as_their_names(several, tmp_path):
    kind = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.Sequence(kind) if several else kind})
    numbers = [number % 2 for number in range(NUMBER)]
    data = datasets.Dataset.from_dict({"text": TEXTS, "label": [[n] for n in numbers] if several else numbers}, features)
    data.to_parquet(tmp_path / "a.parquet")
    for each in (data, tmp_path / "a.parquet", data.shuffle(seed=0).sort("text")):
        assert set(load_table(each).hierarchy.names) == {"bad", "good"}


@pytest.mark.parametrize("given", ["DatasetDict", "folder", "frames", "by themselves", "files"])
def test_splits_that_are_given_are_kept(given, tmp_path):
    parts = {"train": LEVELS[:20], "validation": LEVELS[20:32], "test": LEVELS[32:]}
    others = {}
    if given in ("DatasetDict", "folder"):
        data = datasets.DatasetDict({name: datasets.Dataset.from_pandas(part) for name, part in parts.items()})
        if given == "folder":
            data.save_to_disk(tmp_path / "saved")
            data = tmp_path / "saved"
    elif given == "frames":
        data = parts
    elif given == "by themselves":
        data, others = parts["train"], {"dev": parts["validation"], "test": parts["test"][["topic", "text", "area"]]}
    else:
        for name, part in parts.items():
            part.to_csv(tmp_path / f"{name}.csv", index=False)
        data, others = tmp_path / "train.csv", {"dev": tmp_path / "validation.csv", "test": str(tmp_path / "test.csv")}
    dataset = load_table(data, **others)
    found = {name: documents.tolist() for name, documents in dataset.splits.items()}
    assert found == {"train": list(range(20)), "dev": list(range(20, 32)), "test": list(range(32, 40))}
    assert dataset.texts == TEXTS


@pytest.mark.parametrize("missing", ["dev", "test"])
def test_a_missing_split_is_drawn_from_train(missing):
    given = {"train": LEVELS[:30], "dev": LEVELS[30:], "test": LEVELS[30:]}
    del given[missing]
    splits = load_table(given).splits
    assert list(splits) == ["train", "dev", "test"]
    drawn = sorted(splits["train"].tolist() + splits[missing].tolist())
    assert drawn == list(range(30))
    assert all(document >= 30 for name in {"dev", "test"} - {missing} for document in splits[name].tolist())


def with_first(table, column, value):
    """The table with another value in its fourth row."""
    changed = table.astype({column: object}).copy()
    changed.at[3, column] = value
    return changed


@pytest.mark.parametrize("form", ["frame", "records", "parquet", "jsonl", "dataset"])
@pytest.mark.parametrize(
    ("table", "options", "says"),
    [
        (with_first(LEVELS, "text", None), {}, r"the text \(column 'text'\) is empty"),
        (with_first(LEVELS, "text", "  "), {}, r"the text \(column 'text'\) is empty"),
        (with_first(LEVELS, "text", "nan"), {}, "as pandas writes what is missing"),
        (with_first(LEVELS, "area", None), {}, "the row has no label"),
        (with_first(with_first(LEVELS, "area", None), "topic", "x"), {}, "the label in column 'area' is empty, but there is"),
        (with_first(LEVELS, "area", "NaN"), {}, "a label is 'NaN'"),
        (with_first(LISTS, "labels", []), {}, r"the row has no label \(column 'labels'\)"),
        (with_first(LISTS, "labels", ["Arts", None, "Music"]), {}, r"an empty name in its middle \(column 'labels'\)"),
        (with_first(LISTS, "labels", None), {}, "the row has no label"),
        (with_first(frame(SEVERAL), "labels", [["Arts"], []]), {}, "a label path is empty"),
    ],
)
def test_malformed_rows_are_refused_with_their_place(table, options, says, form, tmp_path):
    place = {"frame": "DataFrame, row 3", "records": "record 3", "parquet": "a.parquet, row 3", "jsonl": "a.jsonl:4"}
    with pytest.raises(InputError, match=says) as caught:
        load_table(as_form(table, form, tmp_path), **options)
    assert f"{place.get(form, 'Dataset, row 3')}: " in str(caught.value)


@pytest.mark.parametrize(
    ("table", "options", "says"),
    [
        (LEVELS, {"text": "body"}, "the DataFrame: there is no column 'body' .dataset.text.; it has 'text', 'area', 'topic'"),
        (LEVELS, {"text": "txt"}, "did you mean 'text'"),
        (LEVELS[["text"]], {}, "there is no column of labels beside 'text'"),
        (LEVELS[:0], {}, "has columns but no row"),
        (pd.DataFrame(), {}, "the table is empty"),
        (LEVELS.assign(text=3), {}, r"row 0: the text \(column 'text'\) is 3, not a text"),
        (LEVELS.assign(area=3), {}, r"row 0: labels are texts, but 3 is a number.*\(column 'area'\)"),
        (LEVELS.assign(area=[True, False] * 20), {}, "labels are texts, but True"),
        (LEVELS.assign(year=2020.0), {}, r"column 'year'\); if it holds none, name the columns that do"),
        (pd.concat([LEVELS, LEVELS], axis=1), {}, "2 are called 'text'"),
        (LISTS, {"levels": ["labels"]}, "holds a list; read lists with dataset.path=labels"),
        (LISTS.assign(more=[["a"]] * NUMBER), {}, "the columns 'labels', 'more' hold lists; name that of the labels"),
        (LISTS, {"path": "vector"}, "row 0: labels are texts, but"),
        (LISTS, {"path": "labels", "path_separator": ";"}, "holds lists, and dataset.path_separator is for"),
        (frame([["a", "b"], ["b", "c"], ["c", "a"], ["b"]]), {}, "row 0: lists such as .* look like sets of labels"),
        (frame([["/".join(path)] for path in PATHS]), {}, "look like paths, with '/' between .* dataset.separator=/"),
        (frame([str(path) for path in PATHS]), {"path": "labels"}, "are lists, such as"),
        (LEVELS.assign(split="train"), {"split": "split", "dev": LEVELS}, "dataset.split names a column of splits"),
        (LEVELS, {"dev": LEVELS[["text", "area"]]}, "the DataFrame of dev: there is no column 'topic'"),
        ({"train": LEVELS, "dev": LEVELS}, {"dev": LEVELS}, "dev is given twice"),
        ({"train": LEVELS, "dev": LEVELS, "val": LEVELS}, {}, "two splits are read as dev"),
        ({"train": LEVELS, "held out": LEVELS}, {}, "the split 'held out' is none of train, dev"),
        ({"test": LEVELS}, {}, "there is no split 'train', but test"),
        ({"train": {"train": LEVELS}}, {}, "the split 'train' must be one table"),
        (LEVELS, {"dev": {"train": LEVELS}}, "dev must be one table, not several splits"),
        (LEVELS["text"], {}, "data of the type pandas.* cannot be read; give a file"),
        (3, {}, "data of the type int cannot be read"),
        ([], {}, "data of the type list cannot be read"),
        (datasets.Dataset.from_pandas(LEVELS).to_iterable_dataset(), {}, "load it without streaming"),
    ],
)
def test_tables_that_are_refused(table, options, says):
    with pytest.raises(InputError, match=says):
        load_table(table, **options)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.parquet", b"text,area\n", "a.parquet: this is no Parquet file, or a damaged one"),
        ("a.parquet", b"", "this is no Parquet file"),
        ("a.parquet", None, "a.parquet: cannot read the table: No such file"),
        ("a.jsonl", None, "a.jsonl: cannot read the documents: No such file"),
        ("a.jsonl", b'{"text": "a", "area": "X"}\n{"text": "b", "area"\n', "a.jsonl:2: malformed JSON"),
        ("a.jsonl", b'{"text": "a", "area": "X"}\n["b"]\n', "a.jsonl:2: expected one JSON object a line"),
        ("a.jsonl", b'{"text": "a", "area": "X"}\n{"area": "X"}\n', r"a.jsonl:2: the text \(column 'text'\) is empty"),
        ("a.json", b'[{"text": "\\ud800", "area": "X"}]', r"a.json:1 \(element 1\): the text .* holds half a character"),
        ("a.json", b"[]", "the table is empty"),
        ("a.csv", b"PAR1 \xff", "this is a Parquet file"),
    ],
)
def test_files_that_are_refused(name, content, says, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        load_table(tmp_path / name)


def test_damaged_files_of_every_length_are_refused(tmp_path):
    whole = as_form(LEVELS, "parquet", tmp_path).read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "b.parquet").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"b\.parquet"):
            load_table(tmp_path / "b.parquet")
    saved = as_form(LEVELS, "folder", tmp_path)
    with pytest.raises(InputError, match="the folder holds no data set"):
        load_table(tmp_path)
    for file in sorted(saved.iterdir()):
        before = file.read_bytes()
        file.write_bytes(before[: len(before) // 2])
        if file.name != "dataset_info.json" or before != b"{}":
            with pytest.raises(InputError, match="the saved data set is damaged"):
                load_table(saved)
        file.write_bytes(before)


def test_texts_in_lists_are_joined(tmp_path):
    records = [{"token": ["a", text], "label": PATHS[number % 4]} for number, text in enumerate(TEXTS)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert load_table(tmp_path / "a.jsonl", text="token").texts[0] == "a text 0"


@pytest.mark.parametrize("form", ["parquet", "folder"])
def test_a_missing_package_is_named_with_its_extra(form, tmp_path, monkeypatch):
    data = as_form(LEVELS, form, tmp_path)
    monkeypatch.setattr(extras, "_is_installed", lambda name: name not in ("pyarrow", "datasets"))
    with pytest.raises(InputError, match=r"not installed here: pip install 'htc\[data\]'"):
        load_table(data)
