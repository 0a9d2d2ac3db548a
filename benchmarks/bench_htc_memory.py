"""make benchmark: memory of many documents and labels, one to five paths each, from the reader to the scores.

DOCUMENTS=1000000 python -m pytest benchmarks/bench_htc_memory.py      with so many documents; 100,000 by default
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import torch
from hierarchies import tree

from htc.commands import scripts
from htc.datasets import load_custom
from htc.labels.taxonomy import ROOT
from rlkl_htc_common.models.encoders import TextEncoder

LEVELS = (20, 300, 3000, 26680)  # 30,000 labels
DOCUMENTS = int(os.environ.get("DOCUMENTS", "100000"))
MOST_PATHS = 5
LOADING, TRAINING = 0.5, 8.0  # gigabytes: above the start of the process for 100,000 documents; in all
DIM = 384  # of the vectors that stand in for an encoder's


def write_documents(folder: Path) -> None:
    """Texts of 20 words; those of a document's labels are among them."""
    hierarchy, rng = tree(LEVELS), random.Random(0)
    leaves = hierarchy.leaves.tolist()
    below: dict[str, list[str]] = {}
    for name, parents in zip(hierarchy.names, hierarchy.parents, strict=True):
        below.setdefault(hierarchy.names[parents[0]] if parents else ROOT, []).append(name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = ("\t".join([parent, *children]) for parent, children in below.items())
    (folder / "large.taxonomy").write_text("\n".join(rows), encoding="utf-8")
    with (folder / "large.json").open("w", encoding="utf-8") as file:
        for _ in range(DOCUMENTS):
            paths = [hierarchy.paths[leaf] for leaf in rng.sample(leaves, rng.randint(1, MOST_PATHS))]
            words = [name for path in paths for name in path] + ["and"] * (MOST_PATHS * len(LEVELS))
            text = " ".join(words[: MOST_PATHS * len(LEVELS)])
            file.write(json.dumps({"token": [text], "label": paths}) + "\n")


def in_process(what: str, folder: Path) -> dict[str, float]:
    """Run one of the functions below in a process of its own. Returns: what it printed."""
    command = [sys.executable, __file__, what, str(folder)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def memory(key: str) -> float:
    """Gigabytes of this process: VmRSS now, VmHWM at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024 / 1e9


def load(folder: Path) -> dict[str, float]:
    """Read the documents."""
    start = memory("VmRSS")
    load_custom(folder)
    return {"gigabytes_above_start": round(memory("VmHWM") - start, 2)}


def train(folder: Path) -> dict[str, float]:
    """htc-train: read the documents, train a head on cached vectors, tune the threshold, and score every rule."""
    TextEncoder.embed = words_as_vectors  # type: ignore[method-assign]
    sys.argv[1:] = ["dataset=custom", f"dataset.dir={folder}", f"runs={folder}", f"cache_dir={folder}"]
    sys.argv += ["dataset.dev_fraction=0.05", "dataset.test_fraction=0.1", "head.hidden=64", "training.epochs=1"]
    sys.argv += ["training.batch_size=256", "tracking.mode=disabled"]
    scripts.train()
    result = json.loads(next(folder.glob("htc/*/*/result.json")).read_text(encoding="utf-8"))
    hf1 = result["test"]["rules"]["tuned_threshold"]["hf1_micro"]
    return {"gigabytes": round(memory("VmHWM"), 2), "hf1_micro_tuned_threshold": round(hf1, 3)}


def words_as_vectors(encoder: object, texts: list[str], batch_size: int = 32, progress: str | None = None) -> torch.Tensor:
    """Sums of random vectors of the words."""
    table = torch.randn(sum(LEVELS) + 1, DIM, generator=torch.Generator().manual_seed(0)) / 2
    numbers = [[int(word[1:]) if word[1:].isdigit() else sum(LEVELS) for word in text.split()] for text in texts]
    offsets = torch.tensor([0, *map(len, numbers[:-1])]).cumsum(0)
    return torch.nn.functional.embedding_bag(torch.tensor([n for row in numbers for n in row]), table, offsets, mode="sum")


def test_loading(benchmark, tmp_path):
    write_documents(tmp_path)
    found = benchmark.pedantic(lambda: in_process("load", tmp_path), rounds=1)
    benchmark.extra_info.update(documents=DOCUMENTS, labels=sum(LEVELS), **found)
    assert found["gigabytes_above_start"] < LOADING * DOCUMENTS / 100_000


def test_from_the_reader_to_the_scores(benchmark, tmp_path):
    write_documents(tmp_path)
    found = benchmark.pedantic(lambda: in_process("train", tmp_path), rounds=1)
    minutes = round(benchmark.stats.stats.median / 60, 1)
    benchmark.extra_info.update(documents=DOCUMENTS, labels=sum(LEVELS), minutes=minutes, **found)
    assert found["gigabytes"] < TRAINING


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))))
