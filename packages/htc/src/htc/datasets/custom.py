"""`custom`: your own documents, as a folder with a taxonomy and JSON-lines files."""

import logging
import re
from pathlib import Path

import torch

from htc.datasets.dataset import Dataset, split_by_group
from htc.datasets.jsonlines import Document, read_documents, targets_of
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
        read = {"train": [document for file in pooled for document in read_documents(file, hierarchy)]}
    else:
        read = {split: read_documents(file, hierarchy) for split, file in files.items() if file}
    documents, splits = _assemble(read, dev_fraction, test_fraction, split_seed)
    texts = [document.text for document in documents]
    places = [document.place for document in documents]
    return Dataset(name or folder.resolve().name, hierarchy, texts, targets_of(documents, hierarchy), splits, places)


def _assemble(
    read: dict[str, list[Document]], dev_fraction: float, test_fraction: float, seed: int
) -> tuple[list[Document], dict[str, torch.Tensor]]:
    """All documents in one list, and the splits as indices; missing splits are drawn from train."""
    documents: list[Document] = []
    splits: dict[str, torch.Tensor] = {}
    for split, part in read.items():
        splits[split] = torch.arange(len(documents), len(documents) + len(part))
        documents += part
    missing = {"dev", "test"} - read.keys()
    if missing:
        drawn = split_by_group([document.text for document in read["train"]], dev_fraction, test_fraction, seed)
        kept = torch.cat([drawn["train"], *(drawn[split] for split in ("dev", "test") if split not in missing)])
        splits |= {"train": kept.sort().values, **{split: drawn[split] for split in missing}}
    return documents, splits


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
