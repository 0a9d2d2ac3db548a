"""Documents as people look at them: their text, what is true of them, and what was predicted."""

from collections.abc import Sequence

from torch import Tensor

from htc.labels.hierarchy import Hierarchy, Sets
from htc.labels.taxonomy import PATH_SEPARATOR
from htc.metrics import hierarchical_f_per_document
from htc.report.records import Wrong
from htc.scoring.error_analysis import worst_documents
from htc.scoring.parts import Probabilities
from rlkl_htc_common.report.page import Table

LONGEST_TEXT = 240  # characters of a document that are shown


def worst(
    hierarchy: Hierarchy, texts: Sequence[str], targets: Sets, predicted: Sets, probabilities: Probabilities
) -> list[Wrong]:
    """The documents that went most wrong, with true and predicted paths.

    Args: texts: of D documents; targets, predicted (D, N) bool, dense or sparse; probabilities (D, N), or in parts.
    """
    f = hierarchical_f_per_document(targets, predicted, hierarchy)
    found = []
    for i in worst_documents(f, probabilities, predicted):
        text = " ".join(texts[i].split())
        shown = text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT].rsplit(" ", 1)[0] + " …"
        found.append(Wrong(shown, _paths(hierarchy, targets[i]), _paths(hierarchy, predicted[i]), float(f[i])))
    return found


def table_of(found: Sequence[Wrong]) -> Table:
    """These documents as a table."""
    return Table(
        columns=["document", "true", "predicted", "hF1"],
        rows=[[each.text, each.true, each.predicted, f"{each.hf1:.2f}"] for each in found],
        caption="The documents with the lowest hF1; of equal ones those of which the model was surest.",
        texts={0, 1, 2},
    )


def worst_table(
    hierarchy: Hierarchy, texts: Sequence[str], targets: Sets, predicted: Sets, probabilities: Probabilities
) -> Table:
    """`worst` as a table."""
    return table_of(worst(hierarchy, texts, targets, predicted, probabilities))


def _paths(hierarchy: Hierarchy, labels: Tensor) -> str:
    return "; ".join(PATH_SEPARATOR.join(path) for path in hierarchy.decode(labels[None])[0]) or "–"
