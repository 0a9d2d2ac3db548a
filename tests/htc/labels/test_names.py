"""One reading of names: every form in which people have labels, tried on everything that takes them."""

import json
from collections import Counter, deque

import numpy as np
import pandas
import pytest
import torch

from htc import Hierarchy, InputError
from htc.datasets import load_custom, load_table
from htc.estimator import HierarchicalClassifier
from htc.labels.label_sets import as_label_sets, as_scores
from htc.labels.names import clean, is_blank, read_name

PATHS = [["Arts", "Music"], ["Arts", "Film"], ["Science"]]
HIERARCHY = Hierarchy.from_paths(PATHS)
NAN = float("nan")


def encoded(labels):
    return HIERARCHY.encode(labels)


def metrics_read(labels):
    return as_label_sets(labels, HIERARCHY)


def trained_on(labels):
    """What the estimator makes of labels, read off a model that has them by heart."""
    model = HierarchicalClassifier(HIERARCHY, "bce", C=1e6, decoder="threshold").fit([[0.0], [1.0]], labels)
    return model.predict_sets([[0.0], [1.0]])


READERS = pytest.mark.parametrize("read", [encoded, metrics_read, trained_on])

# What people have for the documents [Arts > Film] and [Science]: made anew for each reader, as iterators are read but once.
FORMS = {
    "lists": lambda: [["Arts", "Film"], ["Science"]],
    "tuples": lambda: (("Arts", "Film"), ("Science",)),
    "sets": lambda: [{"Arts", "Film"}, frozenset({"Science"})],
    "deques": lambda: [deque(["Arts", "Film"]), deque(["Science"])],
    "keys of dictionaries": lambda: [{"Arts": 1, "Film": 1}.keys(), {"Science": 1}.keys()],
    "an iterator": lambda: iter([["Arts", "Film"], ["Science"]]),
    "iterators": lambda: [iter(["Arts", "Film"]), (name for name in ["Science"])],
    "an iterator of iterators": lambda: map(iter, [["Arts", "Film"], ["Science"]]),
    "rows of NumPy": lambda: np.array([["Arts", "Film"], ["Science", ""]]),
    "a list of NumPy's rows": lambda: [np.array(["Arts", "Film"]), np.array(["Science"])],
    "rows with None": lambda: np.array([["Arts", "Film"], ["Science", None]], dtype=object),
    "rows with NaN": lambda: np.array([["Arts", "Film"], ["Science", NAN]], dtype=object),
    "lists with None": lambda: [["Arts", "Film", None], ["Science", None, None]],
    "lists with NaN": lambda: [["Arts", "Film"], ["Science", NAN]],
    "lists with NumPy's NaN": lambda: [["Arts", "Film"], ["Science", np.float32("nan")]],
    "lists with NA": lambda: [["Arts", "Film"], ["Science", pandas.NA]],
    "lists with NaT": lambda: [["Arts", "Film"], ["Science", pandas.NaT]],
    "lists with blanks": lambda: [["Arts", "Film", "\t"], ["Science", " "]],
    "blanks first": lambda: [[None, "Arts", "Film"], [NAN, "Science"]],
    "a frame": lambda: pandas.DataFrame({"area": ["Arts", "Science"], "topic": ["Film", None]}),
    "a frame with an index": lambda: pandas.DataFrame({"area": ["Arts", "Science"], "topic": ["Film", NAN]}, index=[7, 3]),
    "a frame of texts": lambda: pandas.DataFrame({"a": ["Arts", "Science"], "b": ["Film", pandas.NA]}, dtype="string"),
    "a frame of categories": lambda: pandas.DataFrame({"a": ["Arts", "Science"], "b": ["Film", None]}, dtype="category"),
    "records": lambda: pandas.DataFrame({"a": ["Arts", "Science"], "b": ["Film", ""]}).to_records(index=False),
    "a series of lists": lambda: pandas.Series([["Arts", "Film"], ["Science"]], index=[5, 2]),
    "series": lambda: [pandas.Series(["Arts", "Film"]), pandas.Series(["Science", None])],
    "an array of lists": lambda: np.array([["Arts", "Film"], ["Science"]], dtype=object),
    "paths": lambda: [[["Arts", "Film"]], [("Science",)]],
    "paths that are filled up": lambda: [[["Arts", "Film"], [None, None]], [["Science", ""]]],
    "an array of paths": lambda: np.array([[["Arts", "Film"], ["", ""]], [["Science", ""], ["", ""]]]),
    "sets of paths": lambda: [{("Arts", "Film")}, {("Science",)}],
    "white space": lambda: [[" Arts", "Film\t"], ["Science\r"]],
    "no-break spaces, zero-width spaces and byte order marks": lambda: [
        ["\ufeffArts", "Film\xa0"],
        ["\u200bSci\u00adence\u2060"],
    ],
    "marks of writing direction and joiners at the ends": lambda: [["\u200eArts", "Film\u200f"], ["\u061cScience\u200d\u200c"]],
    "masked values": lambda: np.ma.array([["Arts", "Film"], ["Science", "Film"]], mask=[[False, False], [False, True]]),
    "NumPy's texts": lambda: [[np.str_("Arts"), np.str_("Film")], [np.array("Science")]],
}


@READERS
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_names(form, read):
    assert torch.equal(read(FORMS[form]()), HIERARCHY.encode([["Arts", "Film"], ["Science"]]))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_paths_makes_the_same_hierarchy(form):
    """Where they are paths: sets have no order, and blanks come last."""
    expected = Hierarchy.from_paths([["Arts", "Film"], ["Science"]])
    if form in ("sets", "keys of dictionaries", "blanks first"):
        with pytest.raises(InputError, match=r"no order|in its middle"):
            HierarchicalClassifier(objective="bce").fit([[0.0], [1.0]], FORMS[form]())
        return
    assert HierarchicalClassifier(objective="bce").fit([[0.0], [1.0]], FORMS[form]()).hierarchy_ == expected
    if "paths" not in form:
        assert Hierarchy.from_paths(FORMS[form]()) == expected


# What is no label set, and what everything says to it.
NONE = {
    "scores": ([{"Arts": 1.0, "Science": 0.0}, {}], r"not the dictionary.*\[label for label, score in scores.items\(\)"),
    "counts": ([Counter(["Arts"]), Counter()], "not the dictionary"),
    "documents by name": ({"first": ["Arts"], "second": ["Science"]}, "must be in a list, one after another"),
    "a text": ("Arts", "must be in a list, one after another, not in 'Arts'"),
    "documents without an order": ({"Arts", "Science"}, "must be in a list, one after another"),
    "a number": (3, "must be in a list, but 3 is a number"),
    "numbers": ([[1, 2], [3, 4]], "labels are texts.*map"),
    "numbers, one each": ([1, 2], "labels are texts.*map"),
    "rows of numbers": (np.array([[1, 2], [3, 4]]), "labels are texts.*map"),
    "an array of numbers": (np.array([7, 8]), "labels are texts.*map"),
    "numbers of rows of different lengths": ([[1, 2], [3]], "labels are texts.*map"),
    "a frame of numbers": (pandas.DataFrame({"a": [1, 2], "b": [11, 12]}), "labels are texts.*map"),
    "a frame of numbers with blanks": (pandas.DataFrame({"a": [1, 2], "b": [11, None]}, dtype="Int64"), "labels are texts"),
    "numbers among names": ([["Arts", 3], ["Science"]], "labels are texts, but 3 is a number; give the text '3'"),
    "numbers before names": ([[3, "Arts"], ["Science", "Arts"]], "labels are texts, but 3 is a number"),
    "broken numbers": ([["Arts", 3.5], ["Science"]], "labels are texts, but 3.5 is a number.*dtype=str"),
    "truth values": ([["Arts", True], ["Science"]], "labels are texts, but True is a number"),
    "bytes": ([[b"Arts"], [b"Science"]], r"labels are texts, but b'Arts' is bytes.*decode\(\)"),
    "NumPy's bytes": (np.array([["Arts"], ["Science"]], dtype="S"), r"labels are texts, but b'Arts' is bytes.*decode\(\)"),
    "other things": ([[object()], ["Science"]], "labels are texts, but .* is of the type object"),
    "NaN as a text": (np.array([["Arts", "Film"], ["Science", NAN]]), "holds 'nan', which NumPy makes of NaN"),
    "half a character": ([["\ud800"], ["Science"]], "half a character"),
    "a gap in a path": ([[["Arts", None, "Film"]], ["Science"]], "has an empty name in its middle"),
    "sets as paths": ([[{"Arts", "Film"}], ["Science"]], "which has no order"),
}


@READERS
@pytest.mark.parametrize("kind", NONE)
def test_what_are_no_labels(kind, read):
    labels, message = NONE[kind]
    with pytest.raises(InputError, match=message):
        read(labels)


@pytest.mark.parametrize("kind", NONE)
def test_what_are_no_paths(kind):
    labels, _ = NONE[kind]
    if kind == "documents without an order":
        assert Hierarchy.from_paths({("Science",), ("Arts", "Film")}).names == ("Arts", "Science", "Film")
        return  # among paths no order is needed
    with pytest.raises(InputError, match=r"labels are texts|must be in a list|no order|empty|nan|half a"):
        Hierarchy.from_paths(labels)


def test_documents_without_labels():
    """Blanks are no labels: metrics take them, as predictions may have none, and training says which document it is."""
    for none in (None, NAN, "", [], [None, ""], set(), np.array([])):
        assert as_label_sets([["Arts"], none], HIERARCHY).sum(1).tolist() == [1, 0]
        with pytest.raises(InputError, match="document 1: no label is given"):
            HIERARCHY.encode([["Arts"], none])
    assert as_label_sets(pandas.Series(["Film", None]), HIERARCHY).sum(1).tolist() == [2, 0]


def test_lists_of_tensors_are_arrays():
    expected = HIERARCHY.encode([["Arts", "Film"], ["Science"]])
    assert torch.equal(as_label_sets(list(expected), HIERARCHY), expected)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Café", "Cafe\u0301"),
        ("Ångström", "\u212bngstro\u0308m"),
        ("각", "\u1100\u1161\u11a8"),
        ("Fine Arts", "Fine\xa0Arts"),
        ("18 %", "18\u202f%"),
        ("Arts", "Arts\u200b"),
        ("Arts", "\ufeffArts"),
        ("Arts", "\u3000Arts\u2003"),
        ("Cooperation", "Coop\u00aderation"),
        ("فنون", "\u200fفنون\u200e"),
        ("نیم\u200cفاصله", "\u200dنیم\u200cفاصله \u200c"),
    ],
)
def test_spellings_that_are_one_name(one, other, tmp_path):
    assert clean(one) == one == clean(other)
    h = Hierarchy.from_paths([[one, "x"], [other, "y"]])
    assert h.names == (one, "x", "y")
    assert Hierarchy.from_pairs([(one, "x"), (other, "y")]) == h
    assert h.node(other) == h.node([other]) == 0
    assert torch.equal(h.encode([[other], [[other, "y"]]]), h.encode([[one], [one, "y"]]))
    taxonomy = tmp_path / "a.taxonomy"
    taxonomy.write_text(f"Root\t{one}\n{other}\tx\ty\n", encoding="utf-8")
    assert Hierarchy.from_taxonomy(taxonomy) == h
    texts = [f"Text {i}." for i in range(20)]
    with (tmp_path / "train.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(
            json.dumps({"text": text, "label": [other if i % 2 else one, "x"]}) + "\n" for i, text in enumerate(texts)
        )
    assert load_custom(tmp_path).targets.sum(0).tolist() == [20, 20, 0]
    table = tmp_path / "table.csv"
    rows = (f"{text},{other if i % 2 else one},x" for i, text in enumerate(texts))
    table.write_text("\n".join(["text,area,topic", *rows]) + "\n", encoding="utf-8")
    assert load_table(table).hierarchy.names == (one, "x")
    model = HierarchicalClassifier().fit([[0.0], [1.0], [2.0]], [one, other, "b"])
    assert sorted(model.classes_) == sorted([one, "b"])


def test_what_is_another_name():
    """Case, spaces inside, compatibility characters, and joiners that have a meaning."""
    for one, other in (
        ("arts", "Arts"),
        ("Fine  Arts", "Fine Arts"),
        ("ﬁlm", "film"),
        ("می\u200cخواهم", "میخواهم"),
        ("²", "2"),
    ):
        assert clean(one) == one != clean(other)


@pytest.mark.parametrize(
    "blank", [None, NAN, np.float32("nan"), np.datetime64("NaT"), pandas.NA, pandas.NaT, "", " ", "\xa0", "\u200b"]
)
def test_blanks(blank):
    assert is_blank(blank)
    with pytest.raises(InputError, match="is empty"):
        read_name(blank)
    with pytest.raises(InputError, match="is empty"):
        HIERARCHY.node(blank)
    h = Hierarchy.from_pairs([(blank, "Arts"), ("Arts", "Music"), (blank, "Science")])  # a blank parent is the root
    assert h.paths == (("Arts",), ("Science",), ("Arts", "Music"))
    with pytest.raises(InputError, match=r"pair 1: .* has no child"):
        Hierarchy.from_pairs([("Arts", "Music"), ("Arts", blank)])
    with pytest.raises(InputError, match=r"path 0: .* empty"):
        Hierarchy.from_paths([[blank, "Music"]])


EXPECTED = Hierarchy.from_paths([["Arts"], ["Science"], ["Arts", "Music"]])


@pytest.mark.parametrize(
    "pairs",
    [
        [["", "Arts"], ["", "Science"], ["Arts", "Music"]],
        [("Root", "Arts"), ("Root", "Science"), ("Arts ", "Music")],
        [("", "Root"), ("Root", "Arts"), ("Root", "Science"), ("Arts", "Music")],
        np.array([["", "Arts"], ["", "Science"], ["Arts", "Music"]]),
        pandas.DataFrame({"parent": [None, NAN, "Arts"], "child": ["Arts", "Science", "Music"]}),
        pandas.DataFrame({"parent": [None, NAN, "Arts"], "child": ["Arts", "Science", "Music"]}).to_numpy(),
        pandas.DataFrame({"parent": ["", "", "Arts"], "child": ["Arts", "Science", "Music"]}, dtype="string").itertuples(
            index=False
        ),
        zip(["", "", "Arts"], ["Arts", "Science", "Music"], strict=True),
        {"": ["Arts", "Science"], "Arts": ["Music"]},
        {"Root": ["Arts", "Science"], "Arts": ("Music",)},
        {"Arts": ["Music"], "Science": [], "Music": []},
        {"Arts": {"Music"}, "Science": None},
        {"Arts": np.array(["Music"]), "Science": np.array([])},
        [iter(["", "Arts"]), iter(["", "Science"]), iter(["Arts", "Music"])],
    ],
    ids=lambda pairs: type(pairs).__name__,
)
def test_every_form_of_pairs(pairs):
    assert Hierarchy.from_pairs(pairs) == EXPECTED


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("Arts", "Music"), (1, 2)], "pair 1: labels are texts, but 1 is a number"),
        (np.array([[1, 2]]), "pair 0: labels are texts, but 1 is a number; give the text '1'"),
        ({1: [2]}, "pair 0: labels are texts"),
        ([("Arts", b"Music")], "pair 0: labels are texts, but b'Music' is bytes"),
        (["AB"], r"pair 0: a pair must be \(parent, child\), not 'AB'"),
        ([("Arts",)], r"pair 0: a pair must be \(parent, child\)"),
        ([("Arts", "Music", "Jazz")], r"pair 0: a pair must be \(parent, child\)"),
        ([{"Arts", "Music"}], r"pair 0: a pair must be \(parent, child\)"),
        ([{"parent": "Arts", "child": "Music"}], r"pair 0: a pair must be \(parent, child\)"),
        ({"Music": "Arts"}, r"each parent a list of its children.*\(parent, child\) for child, parent in it.items\(\)"),
        ({"Arts": {"Music": {}}}, "each parent a list of its children.*use from_paths"),
        ({"Arts": 3}, "the children of 'Arts' must be a list of names, but 3 is a number"),
        ("Arts", "pairs must be in a list"),
        (None, "pairs must be in a list"),
        ([("Utilities", "Utilities")], r"its own parent.*Hierarchy.from_paths\(\[\['Utilities', 'Utilities'\], ...\]\)"),
        ([("Arts", " Arts\xa0")], "'Arts' is given as its own parent"),
        ([("", "")], "pair 0: .* has no child"),
        ([("", "Root")], "at least one node"),
    ],
)
def test_what_are_no_pairs(pairs, message):
    with pytest.raises(InputError, match=message):
        Hierarchy.from_pairs(pairs)


def test_names_that_look_like_numbers(tmp_path):
    """In a file every name is a text, and stays the text that it is."""
    (tmp_path / "naics.taxonomy").write_text("Root\t11\t22\n11\t111\t112\n22\t0221\n")
    h = Hierarchy.from_taxonomy(tmp_path / "naics.taxonomy")
    assert h.names == ("11", "22", "111", "112", "0221")
    assert h.decode(h.encode([["11", "111"]])) == [[("11", "111")]]
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": [11, 111]}\n')
    with pytest.raises(InputError, match=r"train.jsonl:1: labels are texts, but 11 is a number; give the text '11'"):
        load_custom(tmp_path)


@pytest.mark.parametrize(
    ("label", "nodes"),
    [
        (["Arts", "Film", None], ["Arts", "Film"]),
        ([["Arts", "Film"], ["Science", None]], ["Arts", "Science", "Film"]),
        ([" Film"], ["Arts", "Film"]),
    ],
)
def test_documents_in_files_are_filled_up_too(label, nodes, tmp_path):
    (tmp_path / "a.taxonomy").write_text("Root\tArts\tScience\nArts\tMusic\tFilm\n")
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({"text": f"{i}", "label": label}) + "\n" for i in range(20)))
    data = load_custom(tmp_path)
    assert [name for name, on in zip(data.hierarchy.names, data.targets[0], strict=True) if on] == nodes


def test_scores_of_a_frame_are_put_in_node_order():
    scores = torch.tensor([[0.9, 0.1, 0.2, 0.7]], dtype=torch.double)
    frame = pandas.DataFrame(scores.numpy(), columns=["Arts", "Science", "Music", "Film"])
    for form in (
        frame,
        frame[["Film", "Science", "Arts", "Music"]],
        frame.rename(columns={"Film": "Film "}),
        frame.astype(object),
    ):
        assert torch.equal(as_scores(form, HIERARCHY), scores)
    with pytest.raises(InputError, match="its columns are names of labels, 'Arts' for one"):
        as_scores(frame.rename(columns={"Film": "Films"}), HIERARCHY)
    for form in ([{"Arts": 0.9}], [["a", "b", "c", "d"]], [[None] * 4]):
        with pytest.raises(InputError, match="y_score must be an array of numbers, a column for each node"):
            as_scores(form, HIERARCHY)


def test_hierarchies_that_were_saved_with_other_names_load(tmp_path):
    file = tmp_path / "h.json"
    file.write_text(json.dumps({"names": ["Cafe\u0301", "Arts ", "Fine\xa0X", ""], "parents": [[], [], [0], [1]]}))
    h = Hierarchy.load(file)
    assert h.names == ("Cafe\u0301", "Arts ", "Fine\xa0X", "")
    assert h.fingerprint == "4d3a8e5b192cb6ee"  # as it was
    assert (h.node("Café"), h.node("Arts"), h.node(["Café", "Fine X"]), h.node(h.paths[2])) == (0, 1, 2, 2)


def test_the_constructor_reads_names_too():
    assert Hierarchy(["Arts ", "Cafe\u0301"], [[], [0]]).names == ("Arts", "Café")
    for name, message in ((3, "labels are texts"), ("", "is empty"), (None, "is empty")):
        with pytest.raises(InputError, match=message):
            Hierarchy(["Arts", name], [[], []])
    with pytest.raises(InputError, match="two siblings have the same path 'Arts'"):
        Hierarchy(["Arts", "Arts "], [[], []])


def test_a_path_in_one_text_and_a_blank_that_became_one_are_reported():
    with pytest.raises(InputError, match=r"give a path as a list of names, \['Arts', 'Music'\]"):
        HIERARCHY.node("Arts > Music")
    with pytest.raises(InputError, match=r"a blank of which astype\(str\) made a text"):
        HIERARCHY.encode([["Science", "<NA>"]])
