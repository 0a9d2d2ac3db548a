"""Texts on disk: the same documents, the same errors, and nothing left behind."""

import json
import mmap
import pickle
import subprocess
import sys

import datasets
import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch

from htc import InputError
from htc.datasets import load_custom, load_published, load_table, stored_texts
from htc.datasets.stored_texts import StoredTexts, TextFile, TextStorage, same_texts, stored_numbers
from rlkl_htc_common import extras

NUMBER = 120
PATHS = [["Arts", "Music"], ["Arts", "Film"], ["Science", "Physics"], ["Science"]]
WORDS = ["Ein Gänse-Ei.", "日本語の本文", "emoji 🎻 text", 'a,b;c\t"d"\nline two', "nul-free", "x" * 3000]
TEXTS = [f"{WORDS[i % len(WORDS)]} {i // 2}" for i in range(NUMBER)]  # some twice
TABLE = pd.DataFrame(
    {
        "text": [f"  {text} " if i % 3 == 0 else text for i, text in enumerate(TEXTS)],
        "paths": [" > ".join(PATHS[i % 4]) for i in range(NUMBER)],
        "unused": range(NUMBER),
    }
)
CLEAN = TABLE.assign(text=TEXTS)
OPTIONS = {"path": "paths"}


def saved(data, folder):
    data.save_to_disk(folder / "saved")
    return folder / "saved"


def lines(records, file):
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


def in_lists(folder):
    return lines([{"text": text.split(" "), "paths": [PATHS[i % 4]]} for i, text in enumerate(TEXTS)], folder / "a.jsonl")


def written(name, folder, table=TABLE):
    file = folder / name
    match file.suffix:
        case ".csv" | ".tsv":
            table.to_csv(file, index=False, sep="\t" if file.suffix == ".tsv" else ",", encoding="utf-8")
        case ".parquet":
            table.to_parquet(file)
        case _:
            table.to_json(file, orient="records", lines=file.suffix == ".jsonl")
    return file


def custom(folder, **parts):
    """A folder of documents. Args: parts: the documents of each file."""
    (folder / "data").mkdir()
    (folder / "data/x.taxonomy").write_text("Root\tArts\tScience\nArts\tMusic\tFilm\nScience\tPhysics\n")
    for name, numbers in parts.items():
        records = [{"token": [TABLE.text[i], "more"], "label": PATHS[i % 4]} for i in numbers]
        lines(records, folder / f"data/{name}.jsonl")
    return folder / "data"


def published(folder):
    data = custom(folder, wos_train=range(80), wos_val=range(80, 100), wos_test=range(100, NUMBER))
    for file in list(data.glob("*.jsonl")):
        file.rename(file.with_suffix(".json"))
    (data / "x.taxonomy").rename(data / "wos.taxonomy")
    return data


PARTS = {"test": TABLE[80:100], "train": TABLE[:80], "validation": TABLE[100:]}  # in another order
SPLITS = TABLE.assign(part=["train", "val", "test"] * (NUMBER // 3))
# What is read -> how.
FORMS = {
    "csv": lambda folder, **kept: load_table(written("a.csv", folder), **OPTIONS, **kept),
    "tsv": lambda folder, **kept: load_table(written("a.tsv", folder), **OPTIONS, **kept),
    "csv, levels": lambda folder, **kept: load_table(written("a.csv", folder), levels=["paths"], separator="", **kept),
    "parquet": lambda folder, **kept: load_table(written("a.parquet", folder), **OPTIONS, **kept),
    "jsonl": lambda folder, **kept: load_table(written("a.jsonl", folder), **OPTIONS, **kept),
    "json": lambda folder, **kept: load_table(written("a.json", folder), **OPTIONS, **kept),
    "texts in lists": lambda folder, **kept: load_table(in_lists(folder), **kept),
    "a column of splits": lambda folder, **kept: load_table(written("a.csv", folder, SPLITS), split="part", **OPTIONS, **kept),
    "files of splits": lambda folder, **kept: load_table(
        written("a.csv", folder, TABLE[:80]), dev=written("b.jsonl", folder, TABLE[80:]), **OPTIONS, **kept
    ),
    "frame": lambda folder, **kept: load_table(TABLE, **OPTIONS, **kept),
    "records": lambda folder, **kept: load_table(TABLE.to_dict("records"), **OPTIONS, **kept),
    "table": lambda folder, **kept: load_table(pyarrow.Table.from_pandas(TABLE), **OPTIONS, **kept),
    "data set": lambda folder, **kept: load_table(datasets.Dataset.from_pandas(TABLE), **OPTIONS, **kept),
    "data set, shuffled": lambda folder, **kept: load_table(
        datasets.load_from_disk(saved(datasets.Dataset.from_pandas(CLEAN), folder)).shuffle(seed=1), **OPTIONS, **kept
    ),
    "folder, as it is": lambda folder, **kept: load_table(
        saved(datasets.Dataset.from_pandas(CLEAN), folder), **OPTIONS, **kept
    ),
    "folder, not stripped": lambda folder, **kept: load_table(
        saved(datasets.Dataset.from_pandas(TABLE), folder), **OPTIONS, **kept
    ),
    "folder of splits": lambda folder, **kept: load_table(
        saved(datasets.DatasetDict({name: datasets.Dataset.from_pandas(part) for name, part in PARTS.items()}), folder),
        **OPTIONS,
        **kept,
    ),
    "custom, one file": lambda folder, **kept: load_custom(custom(folder, documents=range(NUMBER)), **kept),
    "custom, train and test": lambda folder, **kept: load_custom(custom(folder, train=range(90), test=range(90, 120)), **kept),
    "published": lambda folder, **kept: load_published("wos", published(folder), **kept),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_data_set_with_texts_on_disk_is_the_same(form, tmp_path):
    loaded = {}
    for kept in ("memory", "disk"):
        (tmp_path / kept).mkdir()
        loaded[kept] = FORMS[form](tmp_path / kept, texts=kept, cache_dir=tmp_path / "cache")
    one, other = loaded["memory"], loaded["disk"]
    assert isinstance(one.texts, list)
    assert isinstance(other.texts, StoredTexts)
    assert list(other.texts) == one.texts == other.texts
    assert other.hierarchy == one.hierarchy
    assert other.targets == one.targets
    assert {split: of.tolist() for split, of in other.splits.items()} == {
        split: of.tolist() for split, of in one.splits.items()
    }
    assert [place.replace("disk", "memory") for place in other.places] == list(one.places)
    assert (other.name, other.fingerprint(), other.describe()) == (one.name, one.fingerprint(), one.describe())
    assert torch.equal(other.text_hashes("train"), one.text_hashes("train"))
    assert not list((tmp_path / "cache").glob("*"))  # the file has no name


@pytest.mark.parametrize(
    ("form", "mapped"), [("folder, as it is", False), ("folder, not stripped", True), ("data set, shuffled", True)]
)
def test_a_data_set_that_is_mapped_already_is_copied_only_where_its_texts_differ(form, mapped, tmp_path):
    texts = FORMS[form](tmp_path, texts="disk", cache_dir=tmp_path / "cache").texts
    assert bool(texts._mapped) == mapped


ROW = {"text": "a", "area": "X"}
BAD = {
    "no text": [ROW, {"area": "X"}],
    "an empty text": [ROW, {"text": " ", "area": "X"}],
    "a number": [ROW, {"text": 3, "area": "X"}],
    "a missing value": [ROW, {"text": "nan", "area": "X"}],
    "half a character": [ROW, {"text": "\ud800", "area": "X"}],
    "no label": [ROW, {"text": "b"}],
    "a number as label": [ROW, {"text": "b", "area": 3}],
    "no column of texts": [{"body": "a", "area": "X"}],
    "two columns of texts": [ROW, {"text ": "b", "area": "X"}],
    "no row": [],
    "too few rows": [ROW],
    "texts as labels": [{"text": "a"}],
}


@pytest.mark.parametrize("bad", BAD)
def test_errors_are_the_same(bad, tmp_path):
    errors = set()
    for kept in ("memory", "disk"):
        with pytest.raises(InputError) as caught:
            load_table(lines(BAD[bad], tmp_path / "a.jsonl"), texts=kept, cache_dir=tmp_path / "cache")
        errors.add(str(caught.value))
    assert len(errors) == 1


@pytest.mark.parametrize(
    "content", [b'text,area\na,X\n"b,X\n', b"text,area\na\n", b"text,area\na,X,Y\n", b"text,area\n\xff,X\n", b""]
)
def test_errors_of_files_are_the_same(content, tmp_path):
    (tmp_path / "a.csv").write_bytes(content)
    errors = set()
    for kept in ("memory", "disk"):
        with pytest.raises(InputError) as caught:
            load_table(tmp_path / "a.csv", texts=kept, cache_dir=tmp_path / "cache")
        errors.add(str(caught.value))
    assert len(errors) == 1


@pytest.fixture
def stored(tmp_path):
    file = TextFile(tmp_path / "cache")
    for text in TEXTS:
        file.add(text)
    return file.finish()


@pytest.mark.parametrize("small", [False, True])
def test_texts_are_read_as_a_list_is(small, tmp_path, monkeypatch):
    if small:  # several batches and parts
        monkeypatch.setattr(stored_texts, "WRITTEN", 500)
        monkeypatch.setattr(stored_texts, "READ", 7)
    file = TextFile(tmp_path)
    for text in TEXTS:
        file.add(text)
    texts = file.finish()
    assert len(texts) == NUMBER
    assert list(texts) == list(iter(texts)) == TEXTS
    assert [texts[i] for i in (0, -1, 5, np.int64(7))] == [TEXTS[i] for i in (0, -1, 5, 7)]
    for part in (
        slice(3, 9),
        slice(None),
        slice(100, 500),
        slice(9, 3),
        slice(None, None, -1),
        slice(2, None, 7),
        slice(-5, None),
    ):
        assert texts[part] == TEXTS[part]
        assert texts[part][1:][:3] == TEXTS[part][1:][:3]
    chosen = torch.tensor([5, 3, 3, 119])
    assert texts.select(chosen) == [TEXTS[i] for i in chosen.tolist()]
    assert texts[10:].select(chosen[:3])[1:] == [TEXTS[13], TEXTS[13]]
    with pytest.raises(IndexError):
        texts[NUMBER]
    assert texts != TEXTS[:-1]
    assert texts != [*TEXTS[:-1], ""]
    assert TEXTS[4] in texts
    assert pickle.loads(pickle.dumps(texts[5:9])) == TEXTS[5:9]


def test_no_texts(tmp_path):
    texts = TextFile(tmp_path).finish()
    assert list(texts) == []
    assert len(stored_numbers(iter([]), tmp_path)) == 0


def test_parts_in_memory_and_on_disk_are_joined(stored):
    assert StoredTexts.joined([stored, ["a"], stored[:2]]) == [*TEXTS, "a", *TEXTS[:2]]
    assert StoredTexts.joined([["a"], ["b"]]) == ["a", "b"]


def test_equal_texts_have_equal_numbers(stored):
    first = {text: number for number, text in enumerate(dict.fromkeys(TEXTS))}
    assert same_texts(stored).tolist() == [first[text] for text in TEXTS]


def test_numbers_are_kept_in_a_file(tmp_path):
    parts = [torch.arange(5, dtype=torch.int32), torch.empty(0, dtype=torch.int32), torch.arange(3, dtype=torch.int32)]
    found = stored_numbers(iter(parts), tmp_path / "cache")
    assert torch.equal(found, torch.cat(parts))
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("choice", "size", "installed", "is_disk"),
    [
        ("auto", stored_texts.LARGE, True, True),
        ("auto", stored_texts.LARGE - 1, True, False),
        ("auto", stored_texts.LARGE, False, False),
        ("memory", stored_texts.LARGE, True, False),
        ("disk", 0, True, True),
    ],
)
def test_where_texts_go(choice, size, installed, is_disk, monkeypatch):
    monkeypatch.setattr(extras, "_is_installed", lambda name: installed)
    assert TextStorage(choice).is_disk(size) == is_disk


@pytest.mark.parametrize(("form", "name"), [("csv", "a.csv"), ("jsonl", "a.jsonl"), ("custom, one file", "data")])
def test_large_files_go_to_disk_by_themselves(form, name, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_texts, "LARGE", 1000)
    assert isinstance(FORMS[form](tmp_path).texts, StoredTexts)


def test_without_pyarrow_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "_is_installed", lambda name: name != "pyarrow")
    with pytest.raises(InputError, match=r"pip install 'htc\[data\]'"):
        FORMS["csv"](tmp_path, texts="disk")


def test_another_word_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.texts must be one of auto, memory, disk, not 'ram'"):
        FORMS["frame"](tmp_path, texts="ram")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match=r"cache: cannot write the texts there: .*cache_dir=FOLDER, or keep texts in memory"):
        FORMS["csv"](tmp_path, texts="disk", cache_dir=tmp_path / "cache")


def test_a_full_disk_is_reported(tmp_path):
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from htc.datasets.stored_texts import TextFile\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        f"file = TextFile({str(tmp_path)!r})\n"
        "for i in range(20): file.add('x' * 1000000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"{tmp_path}: cannot write the texts there: " in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_killed_writer_leaves_nothing(tmp_path):
    code = (
        "import os, signal\n"
        "from htc.datasets.stored_texts import TextFile\n"
        f"file = TextFile({str(tmp_path)!r})\n"
        "for i in range(20): file.add('x' * 1000000)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert not list(tmp_path.iterdir())


def test_pages_that_were_read_are_given_back(stored):
    (mapped,) = stored._mapped
    assert isinstance(mapped, mmap.mmap)
    assert list(stored) == list(stored)  # also after they were
