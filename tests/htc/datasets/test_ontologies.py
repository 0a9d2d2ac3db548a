"""`gene_ontology` and `wordnet`, on small files in the formats of the large ones."""

import sqlite3

import pytest

from htc import InputError
from htc.datasets import load_gene_ontology, load_wordnet

TERMS = {  # parents, definition
    "biological_process": ([], "What living things do."),
    "growth": (["biological_process"], "Getting larger."),
    "cell process": (["biological_process"], "What cells do."),
    "cell growth": (["growth", "cell process"], "A cell  gets\nlarger."),
    "leaf growth": (["growth"], "A leaf gets larger."),
    "root growth": (["growth"], None),
    "division": (["cell process"], "A cell divides."),
    "fusion": (["cell process"], "Cells fuse."),
    "swelling": (["cell growth"], "A cell takes up water."),
}


@pytest.fixture
def go(tmp_path):
    file = tmp_path / "GO.sqlite"
    database = sqlite3.connect(file)
    database.execute("CREATE TABLE go_term (_id INTEGER, go_id TEXT, term TEXT, ontology TEXT, definition TEXT)")
    numbers = {"all": 1, **{term: number for number, term in enumerate(TERMS, start=2)}}
    database.execute("INSERT INTO go_term VALUES (1, 'all', 'all', 'universal', 'all')")
    for ontology in ("bp", "mf", "cc"):
        database.execute(f"CREATE TABLE go_{ontology}_parents (_id INTEGER, _parent_id INTEGER, relationship_type TEXT)")
    for term, (parents, definition) in TERMS.items():
        row = (numbers[term], f"GO:{numbers[term]:07}", term, "BP", definition)
        database.execute("INSERT INTO go_term VALUES (?, ?, ?, ?, ?)", row)
        for parent in parents or ["all"]:
            database.execute("INSERT INTO go_bp_parents VALUES (?, ?, 'isa')", (numbers[term], numbers[parent]))
    wrong = (numbers["division"], numbers["growth"], "regulates")
    database.execute("INSERT INTO go_bp_parents VALUES (?, ?, ?)", wrong)
    database.commit()
    database.close()
    return file


def paths(dataset):
    return {text: dataset.hierarchy.decode(row[None])[0] for text, row in zip(dataset.texts, dataset.targets, strict=True)}


def test_larger_terms_are_labels_and_definitions_of_the_others_documents(go):
    dataset = load_gene_ontology(go, min_descendants=3, dev_fraction=0.2, test_fraction=0.2)
    top = "biological_process"
    assert set(dataset.hierarchy.names) == {top, "growth", "cell process"}
    assert paths(dataset) == {
        "A cell gets larger.": [(top, "growth"), (top, "cell process")],
        "A leaf gets larger.": [(top, "growth")],
        "A cell divides.": [(top, "cell process")],
        "Cells fuse.": [(top, "cell process")],
        "A cell takes up water.": [(top, "growth"), (top, "cell process")],
    }


def test_a_label_has_at_least_so_many_terms_below_it(go):
    lower = load_gene_ontology(go, min_descendants=1, dev_fraction=0.2, test_fraction=0.2)
    assert [lower.hierarchy.names[p] for p in lower.hierarchy.parents[lower.hierarchy.node("cell growth")]] == [
        "growth",
        "cell process",
    ]
    with pytest.raises(InputError, match=r"lower dataset\.min_descendants"):
        load_gene_ontology(go, min_descendants=9)


@pytest.mark.parametrize("load", [load_gene_ontology, load_wordnet])
def test_a_file_that_is_not_there_says_how_to_get_it(load, tmp_path):
    with pytest.raises(InputError, match="apt-get download"):
        load(tmp_path / "nothing")


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\x00" + b"\x00" * 200])
def test_another_file_is_refused(content, tmp_path):
    (tmp_path / "GO.sqlite").write_bytes(content)
    with pytest.raises(InputError, match=r"GO\.sqlite"):
        load_gene_ontology(tmp_path / "GO.sqlite")


LICENCE = "  1 This software and database is being provided to you, the LICENSEE, by Princeton University\n"
NOUNS = [  # offset, words, parents by "@", instances by "@i", gloss
    ("00000001", ["entity"], [], [], "what is"),
    ("00000002", ["dog", "domestic_dog"], ["00000001"], [], "a tame wolf"),
    ("00000003", ["bank"], ["00000001"], [], "land beside water"),
    ("00000004", ["bank"], ["00000001"], [], "keeps money; | takes interest"),
    ("00000005", ["Laika"], [], ["00000002"], "the first dog in space"),
    ("00000006", ["puppy"], ["00000002", "00000001"], [], "a young dog"),
    ("00000007", ["savings_bank"], ["00000004"], [], "a bank for savers"),
    ("00000008", ["river_bank"], ["00000003"], [], "land beside a river"),
]


def wordnet_line(offset, words, parents, instances, gloss):
    pointers = [("@", parent) for parent in parents] + [("@i", parent) for parent in instances] + [("~", "00000001")]
    listed = " ".join(f"{word} 0" for word in words)
    return f"{offset} 03 n {len(words):02x} {listed} {len(pointers):03} " + "".join(
        f"{kind} {parent} n 0000 " for kind, parent in pointers
    ) + f"| {gloss}  \n"  # fmt: skip


def test_nouns_are_classified_under_larger_concepts(tmp_path):
    file = tmp_path / "data.noun"
    file.write_text(LICENCE + "".join(wordnet_line(*noun) for noun in NOUNS))
    dataset = load_wordnet(file, min_descendants=1, dev_fraction=0.25, test_fraction=0.25)
    assert set(dataset.hierarchy.names) == {"entity", "dog, domestic dog", "bank (00000003)", "bank (00000004)"}
    assert paths(dataset) == {
        "the first dog in space": [("entity", "dog, domestic dog")],
        "a young dog": [("entity", "dog, domestic dog")],
        "a bank for savers": [("entity", "bank (00000004)")],
        "land beside a river": [("entity", "bank (00000003)")],
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (wordnet_line(*NOUNS[0]) + "no noun\n", "data.noun:2: not a line of WordNet"),
        (wordnet_line("00000001", ["a"], ["00000009"], [], "x"), "no concept 00000009"),
        (wordnet_line("00000001", ["a"], ["00000002"], [], "x") + wordnet_line("00000002", ["b"], ["00000001"], [], "y"),
         "above themselves"),
        ("", "no term"),
    ],
)  # fmt: skip
def test_a_damaged_wordnet_is_refused(text, says, tmp_path):
    (tmp_path / "data.noun").write_text(text)
    with pytest.raises(InputError, match=says):
        load_wordnet(tmp_path / "data.noun")
