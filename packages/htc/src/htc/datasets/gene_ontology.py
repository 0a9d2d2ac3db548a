"""`gene_ontology`: definitions of biological terms, classified under the larger terms of the Gene Ontology.

The file is GO.sqlite of Bioconductor's GO.db (Artistic-2.0; the ontology itself is CC BY 4.0). Debian has it as r-bioc-go.db:

    apt-get download r-bioc-go.db
    dpkg-deb -x r-bioc-go.db_*.deb go

and the file is then go/usr/lib/R/site-library/GO.db/extdata/GO.sqlite. Version 3.16.0 (July 2022) gives 1,098 labels to depth
12, 489 of them with several parents, and 34,159 documents, 13,468 of them with several lowest labels.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from htc.datasets.dataset import Dataset
from htc.datasets.ontology import Term, classified_definitions
from rlkl_htc_common.errors import InputError

TERMS = "SELECT go_id, term, definition FROM go_term WHERE go_id != 'all' ORDER BY go_id"
PARENTS = (
    "SELECT child.go_id, parent.go_id FROM go_{}_parents AS pair JOIN go_term AS child ON child._id = pair._id "
    "JOIN go_term AS parent ON parent._id = pair._parent_id WHERE relationship_type = 'isa'"
)


def load_gene_ontology(
    file: str | Path,
    *,
    min_descendants: int = 50,
    max_documents: int | None = None,
    dev_fraction: float = 0.1,
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """The dataset. Only "is a" leads from a term to its parents; other relations do not make one a kind of the other.

    Args:
        file: GO.sqlite.
        min_descendants: the least number of terms below a label.
        max_documents: keep so many, drawn at random; all by default.
        dev_fraction, test_fraction: the shares of documents in dev and test.
        split_seed: the draw of documents and of splits.

    Raises:
        InputError: if the file is not there, or is no such database.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file. Get GO.sqlite with `apt-get download r-bioc-go.db` and "
            "`dpkg-deb -x r-bioc-go.db_*.deb go`, and give dataset.file=go/usr/lib/R/site-library/GO.db/extdata/GO.sqlite"
        )
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            terms = database.execute(TERMS).fetchall()
            known = {key for key, _, _ in terms}
            parents: dict[str, list[str]] = {key: [] for key in known}
            for ontology in ("bp", "mf", "cc"):
                for child, parent in database.execute(PARENTS.format(ontology)):
                    if parent in known:  # the term "all" stands above the three ontologies
                        parents[child].append(parent)
    except (sqlite3.DatabaseError, KeyError) as error:
        raise InputError(f"{path}: not the database GO.sqlite of GO.db: {error}.") from error
    return classified_definitions(
        "gene_ontology",
        path,
        {key: Term(name, " ".join((definition or "").split()), parents[key]) for key, name, definition in terms},
        min_descendants=min_descendants,
        max_documents=max_documents,
        dev_fraction=dev_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )
