"""The paper's datasets, from small folders in their layouts."""

import json

import pytest

from htc import InputError
from htc.datasets import load_published

RCV1 = "Root\tCCAT\tECAT\nCCAT\tC15\tC18\nC15\tC151\n"
BOOK = """<book date="2018-08-18" xml:lang="en">
<title>{title}</title>
<body>{body}</body>
<copyright>(c) Penguin Random House</copyright>
<metadata>
<topics>{topics}</topics>
<author>A & B</author>
</metadata>
</book>
"""


def write_lines(file, records):
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


def json_layout(folder, name, taxonomy, records):
    (folder / f"{name}.taxonomy").write_text(taxonomy)
    for split in ("train", "val", "test"):
        write_lines(folder / f"{name}_{split}.json", records)


def bgc_layout(folder):
    (folder / "hierarchy.txt").write_text("Fiction\tMystery & Suspense\nFiction\tRomance\nNonfiction\tHistory\nPoetry\n")
    books = BOOK.format(title="One", body="He & she < they.", topics="<d0>Fiction</d0><d1>Mystery &amp; Suspense</d1>")
    books += BOOK.format(title="Two", body="Rhymes.", topics="<d0>Poetry</d0><d0>Fiction</d0><d1>Romance</d1>")
    for split in ("train", "dev", "test"):
        (folder / f"BlurbGenreCollection_EN_{split}.txt").write_text(books)


def test_the_layout_of_the_public_preprocessing(tmp_path, caplog):
    """RCV1: tokens and unordered labels, several paths, one of which ends at an inner node."""
    records = [
        {"doc_token": ["shares", "rose"], "doc_label": ["C151", "CCAT", "C15", "ECAT"], "doc_topic": [], "doc_keyword": []},
        {"doc_token": ["a", "merger"], "doc_label": ["CCAT"], "doc_topic": [], "doc_keyword": []},
    ]
    json_layout(tmp_path, "rcv1", RCV1, records)
    dataset = load_published("rcv1", tmp_path)
    assert dataset.name == "rcv1"
    assert dataset.texts[:2] == ["shares rose", "a merger"]
    assert dataset.hierarchy.decode(dataset.targets[:2]) == [[("ECAT",), ("CCAT", "C15", "C151")], [("CCAT",)]]
    assert {split: len(documents) for split, documents in dataset.splits.items()} == {"train": 2, "dev": 2, "test": 2}
    warned = [record.message for record in caplog.records]
    assert "rcv1: 2 train documents, but 20,833 were published" in warned
    assert "rcv1: 5 labels, but 103 were published" in warned
    assert "rcv1: levels of 2/2/1 labels, but 4/55/43/1 were published" in warned


def test_one_name_under_two_parents_is_distinguished_in_wos(tmp_path):
    taxonomy = "Root\tMedical\tPsychology\nMedical\tDepression\nPsychology\tDepression\n"
    records = [{"doc_token": ["sad"], "doc_label": [parent, "Depression"]} for parent in ("Medical", "Psychology")]
    json_layout(tmp_path, "wos", taxonomy, records)
    dataset = load_published("wos", tmp_path)
    assert dataset.hierarchy.decode(dataset.targets[:2]) == [[("Medical", "Depression")], [("Psychology", "Depression")]]


def test_bgc_as_its_authors_publish_it(tmp_path):
    bgc_layout(tmp_path)
    dataset = load_published("bgc", tmp_path)
    assert dataset.texts[:2] == ["He & she < they.", "Rhymes."]
    assert dataset.hierarchy.decode(dataset.targets[:2]) == [
        [("Fiction", "Mystery & Suspense")],
        [("Poetry",), ("Fiction", "Romance")],
    ]
    assert dataset.places[1].endswith("BlurbGenreCollection_EN_train.txt:10")


def test_bgc_in_the_common_layout(tmp_path):
    json_layout(tmp_path, "bgc", "Root\tFiction\tPoetry\n", [{"token": ["Rhymes."], "label": ["Poetry"]}])
    assert load_published("bgc", tmp_path).texts == ["Rhymes."] * 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hwv", "no hwv.taxonomy and no hwv_train.json .*RomanPlaud/revisitingHTC .MIT License.*dataset=custom"),
        ("wos", "Web of Science is not part of this project; get it from Mendeley Data .*CC BY 4.0"),
        ("rcv1", "RCV1-v2 is not part of this project; get it from .*agreement"),
        ("bgc", "BlurbGenreCollection_EN_train.txt and what belongs to it.* CC BY-NC 4.0|BlurbGenre.*CC BY-NC 4.0"),
    ],
)
def test_a_missing_dataset_says_where_to_get_it(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        load_published(name, tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("hierarchy.txt", "Fiction\tRomance\tLove\n", "hierarchy.txt:1: expected parent<TAB>child, but there are 3 names"),
        ("BlurbGenreCollection_EN_dev.txt", "nothing", "_dev.txt: the file holds no <book>"),
        (
            "BlurbGenreCollection_EN_dev.txt",
            BOOK.format(title="", body="", topics="<d0>Poetry</d0>"),
            "_dev.txt:1: .* no <body>",
        ),
        (
            "BlurbGenreCollection_EN_dev.txt",
            BOOK.format(title="", body="Text", topics=""),
            "_dev.txt:1: the book has no <topics>",
        ),
        (
            "BlurbGenreCollection_EN_test.txt",
            "\n" + BOOK.format(title="", body="Text", topics="<d0>Poems</d0>"),
            "_test.txt:2: the label 'Poems' is not in the taxonomy; did you mean 'Poetry'",
        ),
        ("BlurbGenreCollection_EN_test.txt", None, "_test.txt: cannot read the collection of books: No such file"),
        (
            "BlurbGenreCollection_EN_test.txt",
            BOOK.format(title="", body="Text", topics="<d0>Poetry</d0>").replace("</book>", "") * 2,
            "_test.txt: 2 books begin and 0 end; the file is cut off",
        ),
        (
            "BlurbGenreCollection_EN_test.txt",
            BOOK.format(title="", body="One", topics="<d0>Poetry</d0>").replace("</book>", "")
            + BOOK.format(title="", body="Two", topics="<d0>Poetry</d0>")
            + "</book>",
            "_test.txt:1: the book has no </book> before the next one begins",
        ),
        ("hierarchy.txt", b"Fi\xff", "hierarchy.txt:1: the hierarchy is not UTF-8 text"),
    ],
)
def test_a_damaged_bgc(tmp_path, file, content, message):
    bgc_layout(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        load_published("bgc", tmp_path)


def test_a_hierarchy_that_is_cut(tmp_path):
    """Nodes are numbered by depth, so that those above the cut keep their numbers."""
    records = [{"doc_token": ["shares"], "doc_label": ["C151", "CCAT", "C15", "ECAT"]}]
    json_layout(tmp_path, "rcv1", RCV1, records)
    dataset = load_published("rcv1", tmp_path, max_depth=2)
    assert dataset.hierarchy.names == ("CCAT", "ECAT", "C15", "C18")
    assert dataset.hierarchy.decode(dataset.targets[:1]) == [[("ECAT",), ("CCAT", "C15")]]
    with pytest.raises(InputError, match="max_depth must be at least 1, not 0"):
        load_published("rcv1", tmp_path, max_depth=0)
