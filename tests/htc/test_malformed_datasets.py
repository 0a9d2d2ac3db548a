"""Every kind of dataset that cannot be read is told from every other, by a sentence that says what, where, and what to do."""

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
    "one JSON array": ({"documents.jsonl": f"[{LINE.strip()}]\n"}, "documents.jsonl:1: expected one JSON object a line"),
    "no text": ({"documents.jsonl": '{"label": ["Arts"]}\n'}, "documents.jsonl:1: the document has neither 'token' nor 'text'"),
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
    assert told_by == [kind], "it is told from all others"


def test_there_are_many_kinds():
    assert len(KINDS) >= 30
