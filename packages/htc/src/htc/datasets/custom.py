"""`custom`: your own documents, as a folder with a taxonomy and JSON-lines files."""

import logging
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch

from htc.datasets.dataset import Dataset, split_by_group
from htc.datasets.jsonlines import Documents, read_documents
from htc.datasets.stored_texts import AUTO, TextStorage
from htc.labels.hierarchy import Hierarchy
from rlkl_htc_common.errors import InputError

log = logging.getLogger(__name__)

ENDINGS = {"train": ("train",), "dev": ("dev", "val", "valid", "validation"), "test": ("test",)}


def load_custom(
    directory: str | Path,
    *,
    taxonomy: str | None = None,
    train: str | None = None,
    dev: str | None = None,
    test: str | None = None,
    dev_fraction: float = 0.1,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    name: str | None = None,
    texts: str = AUTO,
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Read a folder with a taxonomy (`htc.labels.taxonomy`) and documents (`htc.datasets.jsonlines`).

    Args:
        directory: the folder.
        taxonomy: the taxonomy's file name; default: the one file that ends in `.taxonomy`.
        train, dev, test: file names; default: the files whose names end in train; dev, val or validation; test.
        dev_fraction, test_fraction: the share of a split without a file; it is drawn from the training file if there is one,
            else from all documents of the folder.
        split_seed: the seed of this draw. Documents with the same text stay together.
        name: the dataset's name in reports; default: the folder's name.
        texts, cache_dir: where the texts are kept, `htc.datasets.stored_texts.TextStorage`.

    Raises:
        InputError: with file and line.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; set dataset.dir to the folder with the taxonomy and the documents.")
    hierarchy = Hierarchy.from_taxonomy(_taxonomy_file(folder, taxonomy))
    files = {split: _split_file(folder, split, given) for split, given in (("train", train), ("dev", dev), ("test", test))}
    if files["train"] is None:
        pooled = _document_files(folder)
        if not pooled:
            raise InputError(
                f"{folder}: no .json or .jsonl file with documents; see dataset.train, dataset.dev and dataset.test."
            )
        if len(pooled) > 1 and any(files.values()):
            names = ", ".join(file.name for file in pooled)
            raise InputError(f"{folder}: none of {names} is named as the training file; name it with dataset.train=FILE.")
        log.info("no training file in %s: drawing all splits from %s", folder, ", ".join(f.name for f in pooled))
        read = {"train": pooled}
    else:
        read = {split: [file] for split, file in files.items() if file}
    documents = Documents(TextStorage(texts, cache_dir), chain(*read.values()))
    for split, of_split in read.items():
        documents.add(split, chain.from_iterable(read_documents(file, hierarchy) for file in of_split))
    found = documents.texts()
    splits = _completed(documents.splits(), found, dev_fraction, test_fraction, split_seed)
    targets = hierarchy.closed_sets(documents.nodes)
    return Dataset(name or folder.resolve().name, hierarchy, found, targets, splits, documents.places)


def _completed(
    splits: dict[str, torch.Tensor], texts: Sequence[str], dev_fraction: float, test_fraction: float, seed: int
) -> dict[str, torch.Tensor]:
    """The splits; those that are missing are drawn from train, which comes first."""
    missing = {"dev", "test"} - splits.keys()
    if not missing:
        return splits
    drawn = split_by_group(texts[: len(splits["train"])], dev_fraction, test_fraction, seed)
    kept = torch.cat([drawn["train"], *(drawn[split] for split in ("dev", "test") if split not in missing)])
    return splits | {"train": kept.sort().values, **{split: drawn[split] for split in missing}}


def _taxonomy_file(folder: Path, given: str | None) -> Path:
    if given is not None:
        return folder / given
    found = sorted(folder.glob("*.taxonomy"))
    if len(found) != 1:
        count = "no file" if not found else f"{len(found)} files"
        raise InputError(f"{folder}: {count} ending in .taxonomy; name the taxonomy with dataset.taxonomy=FILE.")
    return found[0]


def _document_files(folder: Path) -> list[Path]:
    return sorted(file for pattern in ("*.json", "*.jsonl") for file in folder.glob(pattern))


def _split_file(folder: Path, split: str, given: str | None) -> Path | None:
    if given is not None:
        return folder / given
    ending = re.compile(rf"(^|[^a-z])({'|'.join(ENDINGS[split])})$")
    found = [file for file in _document_files(folder) if ending.search(file.stem.lower())]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise InputError(f"{folder}: several files for the {split} split ({names}); choose with dataset.{split}=FILE.")
    return found[0] if found else None
