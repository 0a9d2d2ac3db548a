"""`icd10cm`: descriptions of diagnosis codes, classified into chapter > block > category of ICD-10-CM.

The texts come from the package simple-icd-10-cm, so nothing is downloaded. A document is a code: its description followed by
its inclusion terms. Variants that differ only in the 7th character (encounter, stage, number of the foetus) are one document,
that of their parent code.
"""

import re
import warnings

from htc.datasets.dataset import Dataset, draw_by_group, split_by_group
from htc.labels.hierarchy import Hierarchy
from rlkl_htc_common.extras import require

SIDES_AND_ENCOUNTERS = re.compile(
    r"\b(right|left|bilateral|unilateral|unspecified|side|sides|both|eye|ear"
    r"|initial encounter|subsequent encounter|sequela|encounter"
    r"|(first|second|third|fourth|fifth) trimester|trimester)\b"
)


def load_icd10cm(
    *, max_documents: int | None = None, dev_fraction: float = 0.1, test_fraction: float = 0.2, split_seed: int = 0
) -> Dataset:
    """Load the dataset. Documents that differ only in side or encounter are in the same split.

    Args:
        max_documents: keep this many documents, drawn by group; default: all.
        dev_fraction, test_fraction: the shares of documents in dev and test.
        split_seed: the seed for drawing documents and splits.
    """
    paths, texts = _documents()
    groups = [near_duplicate_key(text) for text in texts]
    kept = draw_by_group(groups, max_documents, split_seed)
    paths, texts, groups = [paths[i] for i in kept], [texts[i] for i in kept], [groups[i] for i in kept]
    hierarchy = Hierarchy.from_paths(paths)
    return Dataset(
        name="icd10cm",
        hierarchy=hierarchy,
        texts=texts,
        targets=hierarchy.encode_sparse(paths),
        splits=split_by_group(groups, dev_fraction, test_fraction, split_seed),
    )


def near_duplicate_key(text: str) -> str:
    """A key that is equal for documents that differ only in side or encounter.

    It holds the sorted words of the description, without inclusion terms, words for the side of the body or the encounter, and
    plural s.
    """
    description = SIDES_AND_ENCOUNTERS.sub(" ", text.lower().partition("; ")[0])
    return " ".join(sorted(word.removesuffix("s") for word in re.findall(r"\w+", description)))


def _documents() -> tuple[list[list[str]], list[str]]:
    """The label path and the text of every document."""
    require("htc[icd10]", "simple-icd-10-cm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package still reads its data through pkg_resources
        import simple_icd_10_cm as icd

    documents: dict[str, list[str]] = {}
    for leaf in filter(icd.is_leaf, icd.get_all_codes(True)):
        code = leaf
        while icd.is_extended_subcategory(code):
            code = icd.get_parent(code)
        levels = [*reversed(icd.get_ancestors(code)), code][:3]
        if len(levels) == 3:  # a few blocks hold no code at all
            documents[code] = [
                f"Chapter {levels[0]}: {icd.get_description(levels[0])}",
                _with_range(icd.get_description(levels[1]), levels[1]),
                f"{levels[2]} {icd.get_description(levels[2])}",
            ]
    texts = ["; ".join([icd.get_description(code), *icd.get_inclusion_term(code)]) for code in documents]
    return list(documents.values()), texts


def _with_range(description: str, codes: str) -> str:
    return description if description.endswith(f"({codes})") else f"{description} ({codes})"
