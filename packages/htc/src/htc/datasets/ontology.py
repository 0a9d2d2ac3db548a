"""Definitions of the terms of an ontology, classified under its larger terms; see `gene_ontology` and `wordnet`.

Labels are the terms with at least `min_descendants` terms below them. Documents are the definitions of all other terms; the
labels of one are the labels above it. A term may have several parents, so the labels are a DAG, and a document may have several
lowest labels.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from htc.datasets.dataset import Dataset, draw_by_group, split_by_group
from htc.labels.hierarchy import Hierarchy
from rlkl_htc_common.errors import InputError


@dataclass(frozen=True)
class Term:
    """A term of an ontology.

    Attributes:
        name: what it is called; no two terms share one.
        definition: empty for none.
        parents: the keys of the terms right above it.
    """

    name: str
    definition: str
    parents: Sequence[str]


def classified_definitions(
    name: str,
    file: Path,
    terms: Mapping[str, Term],
    *,
    min_descendants: int,
    max_documents: int | None,
    dev_fraction: float,
    test_fraction: float,
    split_seed: int,
) -> Dataset:
    """The dataset of an ontology. Definitions with the same text are in one split.

    Args:
        name: of the dataset.
        file: what was read, for messages.
        terms: by key; each parent is a key.
        min_descendants: the least number of terms below a label.
        max_documents: keep so many, drawn at random; None for all.

    Raises:
        InputError: for a cycle; where no term has so many below it, or no definition is left.
    """
    above = _ancestors(file, terms)
    below = Counter(ancestor for ancestors in above.values() for ancestor in ancestors)
    labels = [key for key in terms if below[key] >= min_descendants]
    if not labels:
        raise InputError(f"{file}: no term has {min_descendants} terms below it; lower dataset.min_descendants.")
    number = {key: node for node, key in enumerate(labels)}
    # The parents of a label are labels: what is above it has more terms below.
    hierarchy = Hierarchy([terms[key].name for key in labels], [[number[p] for p in terms[key].parents] for key in labels])
    documents = [
        (term.definition, [terms[ancestor].name for ancestor in sorted(above[key] & number.keys(), key=number.__getitem__)])
        for key, term in terms.items()
        if key not in number and term.definition
    ]
    documents = [(text, names) for text, names in documents if names]
    if not documents:
        raise InputError(f"{file}: no term has a definition and a label above it; raise dataset.min_descendants.")
    documents = [documents[i] for i in draw_by_group([text for text, _ in documents], max_documents, split_seed)]
    texts = [text for text, _ in documents]
    return Dataset(
        name=name,
        hierarchy=hierarchy,
        texts=texts,
        targets=hierarchy.encode_sparse([set(names) for _, names in documents]),
        splits=split_by_group(texts, dev_fraction, test_fraction, split_seed),
    )


def _ancestors(file: Path, terms: Mapping[str, Term]) -> dict[str, frozenset[str]]:
    above: dict[str, frozenset[str]] = {}
    try:
        for key in TopologicalSorter({key: term.parents for key, term in terms.items()}).static_order():
            parents = terms[key].parents
            above[key] = frozenset(parents).union(*(above[parent] for parent in parents))
    except CycleError as error:
        raise InputError(f"{file}: terms that are above themselves: {' < '.join(map(str, error.args[1]))}.") from error
    return above
