"""`wordnet`: glosses of nouns, classified under the larger concepts of WordNet.

The file is data.noun of WordNet's database (WordNet licence). Debian has it as wordnet-base:

    apt-get download wordnet-base
    dpkg-deb -x wordnet-base_*.deb wordnet

and the file is then wordnet/usr/share/wordnet/data.noun.
"""

from collections import Counter
from pathlib import Path

from htc.datasets.dataset import Dataset
from htc.datasets.ontology import Term, classified_definitions
from rlkl_htc_common.errors import InputError

IS_A = ("@", "@i")  # pointers to a hypernym, and to what a name is an instance of
WORDS = 3  # of a concept, that are in its label


def load_wordnet(
    file: str | Path,
    *,
    min_descendants: int = 20,
    max_documents: int | None = None,
    dev_fraction: float = 0.1,
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """The dataset.

    Args:
        file: data.noun.
        min_descendants: the least number of concepts below a label.
        max_documents: keep so many, drawn at random; all by default.
        dev_fraction, test_fraction: the shares of documents in dev and test.
        split_seed: the draw of documents and of splits.

    Raises:
        InputError: if the file is not there, or naming the line that is not as in WordNet's database.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file. Get data.noun with `apt-get download wordnet-base` and "
            "`dpkg-deb -x wordnet-base_*.deb wordnet`, and give dataset.file=wordnet/usr/share/wordnet/data.noun"
        )
    concepts: dict[str, tuple[str, str, list[str]]] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.startswith("  "):  # the licence
                continue
            try:
                offset, words, parents, gloss = _concept(line)
            except (ValueError, IndexError) as error:
                raise InputError(f"{path}:{number}: not a line of WordNet's data.noun.") from error
            concepts[offset] = words, gloss, parents
    named = Counter(words for words, _, _ in concepts.values())
    terms = {
        offset: Term(words if named[words] == 1 else f"{words} ({offset})", gloss, parents)
        for offset, (words, gloss, parents) in concepts.items()
    }
    if missing := {parent for term in terms.values() for parent in term.parents} - terms.keys():
        raise InputError(f"{path}: no concept {min(missing)}, which others are kinds of; is the file cut off?")
    return classified_definitions(
        "wordnet",
        path,
        terms,
        min_descendants=min_descendants,
        max_documents=max_documents,
        dev_fraction=dev_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def _concept(line: str) -> tuple[str, str, list[str], str]:
    """Offset, words, offsets of the parents and gloss of a line; wndb(5WN) describes the format."""
    data, bar, gloss = line.partition(" | ")
    if not bar:
        raise ValueError("no gloss")
    fields = data.split(" ")
    count = int(fields[3], 16)
    words = [word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]
    pointers = fields[4 + 2 * count + 1 :]
    parents = [pointers[4 * i + 1] for i in range(int(fields[4 + 2 * count])) if pointers[4 * i] in IS_A]
    return fields[0], ", ".join(words[:WORDS]), list(dict.fromkeys(parents)), gloss.strip()
