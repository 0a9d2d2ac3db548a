"""The paper's datasets, `hwv`, `wos`, `rcv1` and `bgc`, from a folder with their files, with the official splits.

The files have the layout of the public preprocessing: NAME_train.json, NAME_val.json, NAME_test.json (JSON lines, see
`htc.datasets.jsonlines`) and NAME.taxonomy. bgc may also be in its authors' format (`htc.datasets.bgc`).
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from htc.datasets.bgc import TRAINING_FILE, load_bgc
from htc.datasets.custom import load_custom
from htc.datasets.dataset import Dataset
from htc.datasets.stored_texts import AUTO, TextStorage
from rlkl_htc_common.errors import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """Facts about a published dataset.

    Attributes:
        title: its full name.
        source: where to get it, and its licence.
        documents: the sizes of train, dev and test.
        nodes: the number of nodes in the hierarchy.
        levels: the number of nodes on each level.
    """

    title: str
    source: str
    documents: tuple[int, int, int]
    nodes: int
    levels: tuple[int, ...] | None = None


PUBLISHED = {
    "hwv": Published(
        "Hierarchical WikiVitals",
        "the folder data/HWV of github.com/RomanPlaud/revisitingHTC (MIT License)",
        (6_408, 1_602, 2_003),
        1_186,
        (11, 109, 381, 437, 244, 4),
    ),
    "wos": Published(
        "Web of Science",
        "Mendeley Data 10.17632/9rw3vkcfy4, WOS-46985 (CC BY 4.0), preprocessed by data/preprocess_wos.py of "
        "github.com/Rooooyy/HiTIN",
        (30_070, 7_518, 9_397),
        141,
        (7, 134),
    ),
    "rcv1": Published(
        "RCV1-v2",
        "trec.nist.gov/data/reuters/reuters.html (an agreement with Reuters and NIST is needed), LYRL2004 split, preprocessed "
        "by data/preprocess_rcv1.py of github.com/Rooooyy/HiTIN",
        (20_833, 2_316, 781_265),
        103,
        (4, 55, 43, 1),
    ),
    "bgc": Published(
        "Blurb Genre Collection EN",
        "www.inf.uni-hamburg.de/en/inst/ab/lt/resources/data/blurb-genre-collection.html (CC BY-NC 4.0)",
        (58_715, 14_785, 18_394),
        146,
    ),
}


def load_published(
    name: str,
    directory: str | Path,
    max_depth: int | None = None,
    texts: str = AUTO,
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Read a published dataset.

    Args:
        name: one of `PUBLISHED`.
        directory: the folder with its files.
        max_depth: cut hierarchy and labels below this depth.
        texts, cache_dir: where the texts are kept, `htc.datasets.stored_texts.TextStorage`.

    Raises:
        InputError: for a missing file, with the source of the dataset; or for an unreadable one, with the line.
    """
    known, folder = PUBLISHED[name], Path(directory)
    if name == "bgc" and (folder / TRAINING_FILE).exists():
        dataset = load_bgc(folder, TextStorage(texts, cache_dir))
    else:
        taxonomy, train, dev, test = f"{name}.taxonomy", f"{name}_train.json", f"{name}_val.json", f"{name}_test.json"
        missing = [file for file in (taxonomy, train, dev, test) if not (folder / file).is_file()]
        if missing:
            also = f", or {TRAINING_FILE} and what belongs to it" if name == "bgc" else ""
            raise InputError(
                f"{folder}: no {' and no '.join(missing)}{also}. {known.title} is not part of this project; get it from "
                f"{known.source}, and set dataset.dir to its folder. For other splits of your own use dataset=custom."
            )
        files = {"taxonomy": taxonomy, "train": train, "dev": dev, "test": test}
        dataset = load_custom(folder, name=name, texts=texts, cache_dir=cache_dir, **files)  # type: ignore[arg-type]
    _compare(dataset, known)
    return dataset if max_depth is None else dataset.cut(max_depth)


def _compare(dataset: Dataset, known: Published) -> None:
    """Warn of differences from the published sizes."""
    found = {split: len(documents) for split, documents in dataset.splits.items()}
    expected = dict(zip(("train", "dev", "test"), known.documents, strict=True))
    for split, count in expected.items():
        if found[split] != count:
            log.warning("%s: %s %s documents, but %s were published", dataset.name, f"{found[split]:,}", split, f"{count:,}")
    if dataset.hierarchy.num_nodes != known.nodes:
        log.warning("%s: %d labels, but %d were published", dataset.name, dataset.hierarchy.num_nodes, known.nodes)
    levels = tuple(level.stop - level.start for level in dataset.hierarchy.levels)
    if known.levels and levels != known.levels:
        shapes = ["/".join(map(str, shape)) for shape in (levels, known.levels)]
        log.warning("%s: levels of %s labels, but %s were published", dataset.name, *shapes)
