"""Label paths in one cell are distinguished from labels that contain such a mark, and split."""

from collections import Counter

import pytest

from htc.datasets.paths_in_cells import mark_between_paths, separator_in, split_cell

PATHS = [["Arts", "Music"], ["Arts", "Film"], ["Science", "Physics"], ["Science", "Biology", "Cells"]]
MARKS = [
    *(">", "/", "|", "||", "##", "#", "--", "::", ":", ";", "»", "›", "→", "\\", ".", "->", "=>", ">>", "~", "@", "__", "///"),
    *("•", "^", "+", "*", "=", "\t", "\n", " > ", " / ", " | ", " -> ", " » ", " \\ ", " :: ", "; ", ": ", " - ", " – ", " — "),
    ",",
]


def found(labels, rows=5):
    return separator_in(Counter(dict.fromkeys(labels, rows)))


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("more", [[], ["Arts", "Sports"], ["All"]])
def test_paths_are_found(mark, more):
    roots = more if more == ["All"] else []
    labels = [mark.join([*roots, *path]) for path in PATHS] + [label for label in more if label != "All"]
    separator = found(labels)
    assert separator is not None
    assert split_cell(labels[0], separator) == [*roots, "Arts", "Music"]
    assert found([mark + label for label in labels]) == separator, "with a mark in front"


LABELS = {
    "slashes": ["Health / Fitness", "Arts / Crafts", "Food / Drink", "Home / Garden"],
    "some of the same beginning": [
        "Health / Fitness",
        "Health / Beauty",
        "Books",
        "Toys",
        "Home / Garden",
        "Music",
        "Garden / Pool",
    ],
    "bars": ["R&B | Soul", "Rock | Pop", "Hip-Hop | Rap", "Jazz"],
    "ranges of codes": ["Injuries (S00-T88)", "Neoplasms (C00-D49)", "Injuries to the head (S00-S09)"],
    "codes alone": ["S00-T88", "S00-S09", "C00-D49"],
    "codes with dots": ["S00.1", "S00.2", "T88.0", "T88.1", "E11.65"],
    "codes with slashes": ["A01B 1/00", "A01B 1/02", "A01B 3/00"],
    "numbers": ["1.1", "1.2", "2.1"],
    "versions": ["v1.2.3", "v1.2.4", "v2.0.0"],
    "dates": ["2024/01/02", "2024/01/03", "2023/01/02"],
    "times": ["10:30", "10:45", "11:00"],
    "fractions": ["1/2", "1/3", "2/3"],
    "either or": ["and/or", "either/or", "w/o", "he/she"],
    "abbreviations": ["TCP/IP", "I/O", "CI/CD", "A/B testing"],
    "points in abbreviations": ["U.S. politics", "U.K. politics", "World", "Mr. Smith", "Mr. Jones"],
    "names of libraries": ["Node.js", "Vue.js", "Next.js"],
    "commas": ["Agriculture, Forestry and Fishing", "Mining, Quarrying", "Arts, Entertainment and Recreation"],
    "inverted names": ["Diabetes, type 1", "Diabetes, type 2", "Anemia, iron deficiency", "Anemia, other"],
    "subtitles": ["Star Wars: A New Hope", "Dune: Part Two", "Alien"],
    "numbered chapters": ["Chapter 1: Infections", "Chapter 2: Neoplasms", "Chapter 3: Blood"],
    "one beginning": ["Category:Music", "Category:Film", "Category:Art"],
    "addresses": ["http://a.org/x/Music", "http://a.org/x/Film", "http://a.org/x/Art"],
    "languages": ["C", "C++", "C#", "F#", "C/C++"],
    "fastText": ["__label__music", "__label__film"],
    "snakes": ["machine_learning", "machine_translation", "computer_vision"],
    "ampersands": ["R&B", "R&D", "Rock & Roll", "Rock & Pop"],
    "hyphens": ["x-ray", "x-ray CT", "e-mail", "Sci-Fi", "Sci-Fi & Fantasy"],
    "years": ["1990–2000", "1990–1995", "2000–2010"],
    "prices": ["$5-$10", "$10-$20", ">$20"],
    "comparisons": ["< 18", ">= 18", "> 65"],
    "other scripts": ["アート・音楽", "科学・物理", "スポーツ"],
    "questions": ["Who?", "What!", "Why?!"],
    "feelings": ["positive", "negative", "neutral"],
    "one label": ["Arts > Music"],
    "none": [],
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_as_they_are_are_not_taken_for_paths(kind):
    assert found(LABELS[kind]) is None


@pytest.mark.parametrize("mark", [",", ", ", ";", "; ", "|", "/", " + "])
def test_several_labels_in_one_cell_are_found(mark):
    genres = ["comedy", "drama", "romance", "horror"]
    several = [mark.join(pair) for pair in (genres[:2], genres[1:3], genres[2:], genres[::2])]
    assert found([*genres, *several]) == mark.strip()
    assert found(several) == mark.strip()


@pytest.mark.parametrize(
    ("cell", "separator", "parts"),
    [
        ("Arts > Music", " > ", ["Arts", "Music"]),
        ("Arts>Music  >Opera", " > ", ["Arts", "Music", "Opera"]),
        ("/Arts/Music/", "/", ["Arts", "Music"]),
        ("Arts > > Music", ">", ["Arts", "", "Music"]),
        ("X-ray - CT", " - ", ["X-ray", "CT"]),
        ("X-ray", "-", ["X", "ray"]),
        ("Arts in Music", " in ", ["Arts", "Music"]),
        ("Arts\\Music", "\\", ["Arts", "Music"]),
        ("A.1.2", ".", ["A", "1", "2"]),
        ("Arts\tMusic", "\t", ["Arts", "Music"]),
        ("Arts Music", " ", ["Arts", "Music"]),
        (" > ", ">", []),
    ],
)
def test_cells_are_split(cell, separator, parts):
    assert split_cell(cell, separator) == parts


def test_several_paths_that_were_taken_for_one():
    cells = ["Arts > Music; Science > Physics", "Science > Biology; Arts > Film", "Arts > Film"]
    assert mark_between_paths(split_cell(cell, ">") for cell in cells) == ";"
    assert mark_between_paths([["Arts", "Music; Dance", "Opera"], ["Science", "Physics; Optics", "Waves"]]) is None
