"""Each kind of unreadable dataset has its own error sentence, which says what is wrong, where, and what to do."""

import json
import re

import pytest

from htc import InputError
from htc.datasets import load_custom

TAXONOMY = "Root\tArts\tScience\nArts\tMusic\tFilm\nScience\tBasics\n"
LINE = '{"token": ["A text."], "label": ["Arts", "Music"]}\n'


def document(text="A text.", label=("Arts", "Music"), **more):
    return json.dumps({"token": [text], "label": list(label), **more}) + "\n"


# What is wrong -> the files in the folder besides a good taxonomy and good documents, and the error.
KINDS = {
    "no folder": (None, "no such folder; set dataset.dir"),
    "no taxonomy": ({"labels.taxonomy": None}, "no file ending in .taxonomy; name the taxonomy with dataset.taxonomy="),
    "two taxonomies": ({"other.taxonomy": TAXONOMY}, "2 files ending in .taxonomy"),
    "an empty taxonomy": ({"labels.taxonomy": "\n\n"}, "labels.taxonomy: the taxonomy is empty; expected lines"),
    "a taxonomy in Latin-1": ({"labels.taxonomy": "Root\tCafé\n".encode("latin-1")}, "labels.taxonomy:1: .* not UTF-8 text"),
    "commas for tabs": ({"labels.taxonomy": "Root,Arts,Science\n"}, "labels.taxonomy:1: found no tab, but ','"),
    "a parent without children": ({"labels.taxonomy": "Root\tArts\nArts\n"}, "labels.taxonomy:2: found no child"),
    "an empty name": ({"labels.taxonomy": "Root\tArts\t\tScience\n"}, "labels.taxonomy:1: a name is empty"),
    "a label below itself": (
        {"labels.taxonomy": "Root\tArts\nArts\tArts\n"},
        "labels.taxonomy:2: 'Arts' is listed as its own child",
    ),
    "a cycle": ({"labels.taxonomy": "Root\tA\nA\tB\nB\tA\n"}, "the taxonomy has a cycle: A > B > A|cycle: B > A > B"),
    "the root as a child": ({"labels.taxonomy": "Root\tA\nA\tRoot\n"}, "labels.taxonomy:2: 'Root' is listed as a child"),
    "a root by another name": ({"labels.taxonomy": "root\tA\tB\n"}, "the root of the whole taxonomy is called 'Root'"),
    "a parent that is nobody's child": (
        {"labels.taxonomy": "Root\tArts\nArt\tMusic\n"},
        "labels.taxonomy:2: the parent 'Art' is nobody's child; did you mean 'Arts'",
    ),
    "a parent in two places": (
        {"labels.taxonomy": "Root\tA\tB\nA\tx\nB\tx\nx\ty\n"},
        "the parent 'x' is ambiguous: it stands for 'A > x' and for 'B > x'",
    ),
    "no documents": ({"documents.jsonl": None}, "no .json or .jsonl file with documents"),
    "an empty file of documents": ({"documents.jsonl": "\n"}, "documents.jsonl: the file holds no document"),
    "documents in Latin-1": (
        {"documents.jsonl": '{"token": ["Café"]}'.encode("latin-1")},
        "documents.jsonl:1: the line is not UTF-8",
    ),
    "half a line": ({"documents.jsonl": LINE + '{"token": ["A te'}, "documents.jsonl:2: malformed JSON"),
    "a path for a line": ({"documents.jsonl": LINE + '["Arts"]\n'}, "documents.jsonl:2: expected one JSON object a line"),
    "an array of texts": (
        {"documents.jsonl": '["A text.", "Another."]'},
        r"documents.jsonl:1 \(element 1\): expected one JSON object a line, or one array of them",
    ),
    "an array of arrays": (
        {"documents.jsonl": f"[\n {LINE.strip()},\n []\n]"},
        "documents.jsonl:3: expected .*, or one array of them: ",
    ),
    "an array without a comma": (
        {"documents.jsonl": f"[\n {LINE} {LINE}]"},
        r"documents.jsonl:3: malformed JSON: expected a comma or \] in the array that begins in line 1",
    ),
    "an array with a comma too many": (
        {"documents.jsonl": f"[\n {LINE.strip()},\n]\n"},
        r"documents.jsonl:3: malformed JSON: Expecting value \(column 1\)",
    ),
    "an array that is cut off": (
        {"documents.jsonl": f"\n[\n {LINE.strip()},\n\n"},
        "documents.jsonl:3: malformed JSON: the array that begins in line 2 is not closed",
    ),
    "more after an array": ({"documents.jsonl": f"[{LINE}]\n{LINE}"}, "documents.jsonl:3: expected .*, but more follows the"),
    "an object over lines that is broken": (
        {"documents.jsonl": '{\n "token": ["A"],\n "label": [oops]\n}\n'},
        r"documents.jsonl:3: malformed JSON: Expecting value \(column 12\)",
    ),
    "documents in an object": (
        {"documents.jsonl": '{\n "data": [\n' + LINE + "]}"},
        "documents.jsonl:1: .*if documents are in its list 'data', write that list alone",
    ),
    "a table by columns": (
        {"documents.jsonl": '{"text": {"0": "A"}, "label": {"0": ["Arts"]}}'},
        "documents.jsonl:1: the object holds a table by columns",
    ),
    "an archive": ({"documents.jsonl": b"PK\x03\x04\x14\0\0\0"}, "documents.jsonl: this is a ZIP archive"),
    "a compressed file": ({"documents.jsonl": b"\x1f\x8b\x08\0"}, "documents.jsonl: this is compressed with gzip"),
    "a PDF file": ({"documents.jsonl": b"%PDF-1.4\n"}, "documents.jsonl: this is a PDF file"),
    "UTF-16 without its mark": ({"documents.jsonl": LINE.encode("utf-16-le")}, "documents.jsonl:1: .* holds a NUL character"),
    "no text": (
        {"documents.jsonl": '{"label": ["Arts"]}\n'},
        r"documents.jsonl:1: the document has neither 'token' nor 'text'\.$",
    ),
    "an empty text": ({"documents.jsonl": LINE + document("  ")}, "documents.jsonl:2: the document's text is empty"),
    "a number for a text": (
        {"documents.jsonl": '{"token": 3, "label": ["Arts"]}\n'},
        "'token' must be a text or a list of texts",
    ),
    "half a character": ({"documents.jsonl": document("\ud800")}, "half a character"),
    "no label": ({"documents.jsonl": '{"token": ["A"]}\n'}, "documents.jsonl:1: the document has no 'label'"),
    "an empty list of labels": ({"documents.jsonl": document(label=())}, "'label' is an empty list"),
    "one name for a list": (
        {"documents.jsonl": '{"token": ["A"], "label": "Arts"}\n'},
        "'label' must be a list of names or of paths",
    ),
    "names and paths mixed": ({"documents.jsonl": document(label=("Arts", ["Science"]))}, "must hold names only, or paths"),
    "an unknown label": (
        {"documents.jsonl": LINE + document(label=("Arts", "Musik"))},
        "documents.jsonl:2: the label 'Musik' is not in the taxonomy; did you mean 'Music'",
    ),
    "a path that does not exist": (
        {"documents.jsonl": document(label=[["Science", "Music"]])},
        "the path 'Science > Music' is not in the taxonomy: 'Music' is not a child of 'Science'",
    ),
    "a name in two places": (
        {"labels.taxonomy": TAXONOMY.replace("Film", "Basics"), "documents.jsonl": document(label=("Basics",))},
        r"the label 'Basics' stands in 2 places; give its path, e.g. \['Arts', 'Basics'\]",
    ),
    "two training files": (
        {"a_train.jsonl": LINE, "b_train.jsonl": LINE},
        "several files for the train split .a_train.jsonl, b_train",
    ),
    "a test file and no training file": (
        {"a_test.jsonl": LINE},
        "none of a_test.jsonl, documents.jsonl is named as the training file",
    ),
    "too few to split": ({"documents.jsonl": LINE * 3}, "3 documents in 1 groups are too few to draw"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_cannot_be_read(kind, tmp_path):
    changed, message = KINDS[kind]
    folder = tmp_path / "data"
    if changed is not None:
        folder.mkdir()
        good = {"labels.taxonomy": TAXONOMY, "documents.jsonl": "".join(document(f"Text {i}.") for i in range(30))}
        for name, content in (good | changed).items():
            if content is not None:
                (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as caught:
        load_custom(folder)
    said = str(caught.value)
    assert str(folder) in said or "groups" in said, "it says where"
    told_by = [other for other, (_, pattern) in KINDS.items() if re.search(pattern, said)]
    assert told_by == [kind], "only one kind matches"


def test_there_are_many_kinds():
    assert len(KINDS) >= 40


RECORDS = [{"token": [f"Text {number}, é."], "label": ["Arts", "Music"]} for number in range(20)]
SPREAD = json.dumps(RECORDS, indent=2, ensure_ascii=False)
FORMS = {
    "JSON lines": "\n".join(map(json.dumps, RECORDS)),
    "JSON lines of Windows": "\r\n".join(map(json.dumps, RECORDS)) + "\r\n",
    "JSON lines with blank lines": "\n\n" + " \n\n".join(map(json.dumps, RECORDS)) + "\n\n\n",
    "JSON lines with a byte order mark": "\ufeff" + "\n".join(map(json.dumps, RECORDS)),
    "an array on one line": json.dumps(RECORDS),
    "an array with a document a line": "[" + ",\n".join(map(json.dumps, RECORDS)) + "]",
    "an indented array": SPREAD,
    "an indented array with a byte order mark": "\ufeff" + SPREAD,
    "an indented array of Windows": SPREAD.replace("\n", "\r\n") + "\r\n\r\n",
    "an array with tabs and blank lines": "\n\n" + json.dumps(RECORDS, indent="\t").replace("\n", "\n\n"),
    "an array in UTF-16": SPREAD.encode("utf-16"),
    "indented objects": "\n".join(json.dumps(record, indent=4) for record in RECORDS),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["documents.json", "documents.jsonl"])
def test_documents_are_read_in_every_form_of_json(form, name, tmp_path):
    content = FORMS[form]
    (tmp_path / "labels.taxonomy").write_text(TAXONOMY)
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    dataset = load_custom(tmp_path)
    assert dataset.texts == [record["token"][0] for record in RECORDS]
    if form.startswith("an array on"):
        assert dataset.places[3].endswith(f"{name}:1 (element 4)")
    elif "UTF-16" not in form and "byte" not in form:
        lines = content.split("\n")
        starts = [int(place.rpartition(":")[2].partition(" ")[0]) for place in dataset.places]
        assert ["Text" in "".join(lines[start - 1 : start + 5]) for start in starts] == [True] * 20
        assert starts == sorted(set(starts))
