"""The data of a comparison: documents, splits and features, computed once and kept in files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from htc.datasets import Dataset, load_attack, load_custom, load_icd10cm
from htc.labels.hierarchy import Hierarchy
from rlkl_htc_common.models.encoders import cached_features, load_encoder
from rlkl_htc_common.models.settings import EncoderConfig

FEATURES = {"tfidf": "TF-IDF", "minilm": "MiniLM"}
SPLITS = ("train", "dev", "test")
WORDS = 10_000  # the most frequent ones of train, which TF-IDF counts; with all of hwv's, flat models take ten times as long
TOKENS = 64  # that MiniLM reads of a text


@dataclass(frozen=True)
class Problem:
    """What a method gets.

    Attributes:
        hierarchy: N nodes.
        features: for each split (n, F), CSR or dense.
        targets: for each split (n, N) bool, closed under ancestors.
    """

    hierarchy: Hierarchy
    features: dict[str, Any]
    targets: dict[str, Tensor]


def load(name: str, split: int, documents: int, hwv: str) -> Dataset:
    """A dataset. Args: split: the seed; documents: at most, of icd10cm and attack; hwv: the folder of hwv."""
    if name == "hwv":
        return load_custom(hwv, split_seed=split, name=name)
    return {"icd10cm": load_icd10cm, "attack": load_attack}[name](max_documents=documents, split_seed=split)


def write_problems(datasets: list[Dataset], folder: Path) -> None:
    """Compute the features of all splits of a dataset.

    TF-IDF is fitted on each training split. MiniLM is frozen; its vectors have length 1.

    Args: datasets: the same with several splits; folder: for files, those that exist are kept.
    """
    if all(file_of(folder, dataset.fingerprint(), kind).exists() for dataset in datasets for kind in FEATURES):
        return
    texts = sorted({text for dataset in datasets for text in dataset.texts})
    encoder = load_encoder(EncoderConfig(name="minilm", max_length=TOKENS, batch_size=32))
    vectors = cached_features(encoder, texts, folder)[torch.arange(len(texts))].numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    place = {text: number for number, text in enumerate(texts)}
    for dataset in datasets:
        of = {part: [dataset.texts[document] for document in dataset.splits[part].tolist()] for part in SPLITS}
        targets = {part: dataset.targets[dataset.splits[part]] for part in SPLITS}
        tfidf = TfidfVectorizer(sublinear_tf=True, max_features=WORDS).fit(of["train"])
        features = {
            "tfidf": {part: tfidf.transform(of[part]) for part in SPLITS},
            "minilm": {part: vectors[[place[text] for text in of[part]]] for part in SPLITS},
        }
        for kind in FEATURES:
            file = file_of(folder, dataset.fingerprint(), kind)
            joblib.dump(Problem(dataset.hierarchy, features[kind], targets), file.with_suffix(".part"))
            file.with_suffix(".part").replace(file)


def file_of(folder: Path, fingerprint: str, kind: str) -> Path:
    """Where a problem is. Args: fingerprint: of the dataset with this split; kind: of features."""
    return folder / f"{fingerprint}-{kind}.joblib"


def read_problem(file: Path) -> Problem:
    """What `write_problems` wrote."""
    problem: Problem = joblib.load(file)
    return problem
