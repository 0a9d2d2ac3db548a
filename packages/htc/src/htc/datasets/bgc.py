"""The Blurb Genre Collection in its authors' format: books between tags, and the hierarchy as lines of parent and child.

    <book date="..." xml:lang="en">
    <title>...</title>
    <body>the blurb</body>
    <metadata><topics><d0>Fiction</d0><d1>Mystery &amp; Suspense</d1>...</topics>...</metadata>
    </book>

It is not XML: it has unescaped ampersands and angle brackets. The text of a document is its blurb.

Source: Aly, Remus and Biemann, "Hierarchical Multi-label Classification of Text with Capsule Networks", ACL SRW 2019.
"""

import html
import re
from collections.abc import Iterator
from pathlib import Path

from htc.datasets.dataset import Dataset
from htc.datasets.jsonlines import Document, Documents
from htc.datasets.stored_texts import TextStorage
from htc.labels.hierarchy import Hierarchy
from htc.labels.taxonomy import ROOT
from htc.labels.text_files import read_text
from rlkl_htc_common.errors import InputError

FILES = {split: f"BlurbGenreCollection_EN_{split}.txt" for split in ("train", "dev", "test")}
TRAINING_FILE = FILES["train"]
HIERARCHY_FILE = "hierarchy.txt"

BEGIN = re.compile(r"<book\b")
BOOK = re.compile(r"<book\b[^>]*>(.*?)</book>", re.DOTALL)
BODY = re.compile(r"<body>(.*?)</body>", re.DOTALL)
TOPICS = re.compile(r"<topics>(.*?)</topics>", re.DOTALL)
TOPIC = re.compile(r"<d(\d+)>(.*?)</d\1>", re.DOTALL)


def load_bgc(folder: Path, storage: TextStorage) -> Dataset:
    """Read the three book files and hierarchy.txt. Args: storage: of the texts. Raises InputError with file and line."""
    hierarchy = Hierarchy.from_pairs(_pairs(folder / HIERARCHY_FILE))
    documents = Documents(storage, [folder / file for file in FILES.values()])
    for split, file in FILES.items():
        documents.add(split, _books(folder / file, hierarchy))
    targets = hierarchy.closed_sets(documents.nodes)
    return Dataset("bgc", hierarchy, documents.texts(), targets, documents.splits(), documents.places)


def _pairs(file: Path) -> Iterator[tuple[str, str]]:
    """(parent, child) of each line; a line with one name is a top label."""
    for number, line in enumerate(read_text(file, "the hierarchy").splitlines(), start=1):
        names = [name.strip() for name in line.split("\t") if name.strip()]
        if len(names) > 2:
            raise InputError(f"{file}:{number}: expected parent<TAB>child, but there are {len(names)} names.")
        if names:
            yield (names[0], names[1]) if len(names) == 2 else (ROOT, names[0])


def _books(file: Path, hierarchy: Hierarchy) -> Iterator[Document]:
    content = read_text(file, "the collection of books")
    begun, ended = len(BEGIN.findall(content)), content.count("</book>")
    line, counted = 1, 0
    for book in BOOK.finditer(content):
        line, counted = line + content.count("\n", counted, book.start()), book.start()
        place = f"{file}:{line}"
        if BEGIN.search(book[1]):
            raise InputError(f"{place}: the book has no </book> before the next one begins.")
        body, topics = BODY.search(book[1]), TOPICS.search(book[1])
        text = html.unescape(body[1]).strip() if body else ""
        names = [html.unescape(name).strip() for _, name in TOPIC.findall(topics[1])] if topics else []
        if not text or not names:
            raise InputError(f"{place}: the book has no {'<body>' if not text else '<topics>'}.")
        try:
            yield Document(place, text, hierarchy.resolve(names))
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
    if begun != ended:
        raise InputError(f"{file}: {begun} books begin and {ended} end; the file is cut off.")
    if not counted and not BOOK.search(content):
        raise InputError(f"{file}: the file holds no <book>.")
