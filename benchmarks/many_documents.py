"""Memory and time of htc over numbers of documents and of labels, from the reader to the scores.

    python benchmarks/many_documents.py                              all points: 10,000 to 1,000,000 documents
    python benchmarks/many_documents.py --documents 100000           one point, with 30,000 labels

Documents are synthetic: 15 or 20 words, one to five paths. Sums of random vectors of the words stand in for an encoder's
vectors, so that the time is htc's own. Each point runs in a process of its own; finished points are kept. Writes points.json
and its figures.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from hierarchies import tree

from htc.commands import scripts
from htc.datasets import load_custom
from htc.labels.taxonomy import ROOT
from rlkl_htc_common.models.encoders import TextEncoder
from rlkl_htc_common.report.figures import legend, line, new_figure, picture
from rlkl_htc_common.report.page import Picture, write_pictures
from rlkl_htc_common.report.styles import styles_of
from rlkl_htc_common.runs.directory import write_json

LEVELS = {  # number of labels -> labels on each level
    1_000: (20, 80, 900),
    10_000: (20, 300, 1180, 8500),
    30_000: (20, 300, 3000, 26680),
    100_000: (20, 300, 3000, 96680),
}
BY_DOCUMENTS = [(documents, 30_000) for documents in (10_000, 100_000, 1_000_000)]
BY_LABELS = [(10_000, labels) for labels in LEVELS]
MOST_PATHS = 5
FEWEST = 100  # documents: dev has a twentieth of them
DIM = 384  # of the vectors
PARTS = {"reading": "load", "training and scoring": "train"}  # what is measured -> the function below
UNITS = {"gigabytes": "GB above the start of the process", "seconds": "processor seconds"}


def write_documents(folder: Path, documents: int, labels: int) -> None:
    """Texts of five words for each level; those of a document's labels are among them."""
    hierarchy, rng = tree(LEVELS[labels]), random.Random(0)
    leaves, depth = hierarchy.leaves.tolist(), len(LEVELS[labels])
    below: dict[str, list[str]] = {}
    for name, parents in zip(hierarchy.names, hierarchy.parents, strict=True):
        below.setdefault(hierarchy.names[parents[0]] if parents else ROOT, []).append(name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = ("\t".join([parent, *children]) for parent, children in below.items())
    (folder / "large.taxonomy").write_text("\n".join(rows), encoding="utf-8")
    with (folder / "large.json").open("w", encoding="utf-8") as file:
        for _ in range(documents):
            paths = [hierarchy.paths[leaf] for leaf in rng.sample(leaves, rng.randint(1, MOST_PATHS))]
            words = [name for path in paths for name in path] + ["and"] * (MOST_PATHS * depth)
            text = " ".join(words[: MOST_PATHS * depth])
            file.write(json.dumps({"token": [text], "label": paths}) + "\n")


def in_process(what: str, folder: Path) -> dict[str, float]:
    """Run `load` or `train` in a process of its own. Returns: what it printed."""
    command = [sys.executable, __file__, "--run", what, str(folder)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(printed.splitlines()[-1]))


def memory(key: str) -> float:
    """Gigabytes of this process: VmRSS now, VmHWM at most."""
    found = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(key))
    return int(found.split()[1]) * 1024 / 1e9


def load(folder: Path) -> dict[str, float]:
    """Read the documents."""
    start, started = memory("VmRSS"), time.process_time()
    load_custom(folder)
    return {"gigabytes": round(memory("VmHWM") - start, 3), "seconds": round(time.process_time() - started, 1)}


def train(folder: Path) -> dict[str, float]:
    """htc-train: read the documents, train a head on cached vectors, tune the threshold, and score every rule."""
    TextEncoder.embed = words_as_vectors  # type: ignore[method-assign, assignment]
    start, started = memory("VmRSS"), time.process_time()
    sys.argv[1:] = ["dataset=custom", f"dataset.dir={folder}", f"runs={folder}", f"cache_dir={folder}"]
    sys.argv += ["dataset.dev_fraction=0.05", "dataset.test_fraction=0.1", "head.hidden=64", "training.epochs=1"]
    sys.argv += ["training.batch_size=256", "tracking.mode=disabled"]
    with suppress(SystemExit):  # commands end the process
        scripts.train()
    spent = time.process_time() - started
    result = json.loads(next(folder.glob("htc/*/*/result.json")).read_text(encoding="utf-8"))
    hf1 = result["test"]["rules"]["tuned_threshold"]["hf1_micro"]
    return {"gigabytes": round(memory("VmHWM") - start, 3), "seconds": round(spent, 1), "hf1": round(hf1, 4)}


def words_as_vectors(encoder: object, texts: list[str], batch_size: int = 32, progress: str | None = None) -> torch.Tensor:
    """Sums of random vectors of the words."""
    rows = max(map(sum, LEVELS.values())) + 1
    table = torch.randn(rows, DIM, generator=torch.Generator().manual_seed(0)) / 2
    numbers = [[int(word[1:]) if word[1:].isdigit() else rows - 1 for word in text.split()] for text in texts]
    offsets = torch.tensor([0, *map(len, numbers[:-1])]).cumsum(0)
    return torch.nn.functional.embedding_bag(torch.tensor([n for row in numbers for n in row]), table, offsets, mode="sum")


def measure(documents: int, labels: int) -> dict[str, Any]:
    """One point. Returns: documents, labels, and by part of the work gigabytes above the start and processor seconds."""
    with tempfile.TemporaryDirectory() as folder:
        write_documents(Path(folder), documents, labels)
        return {
            "documents": documents,
            "labels": labels,
            **{part: in_process(what, Path(folder)) for part, what in PARTS.items()},
        }


def pictures(points: list[dict[str, Any]]) -> dict[str, Picture]:
    """Memory and time over documents and over labels. Args: points: see `measure`."""
    drawn = {}
    for key, what in (("gigabytes", "memory"), ("seconds", "seconds")):
        for axis, other, at in (("documents", "labels", 30_000), ("labels", "documents", 10_000)):
            shown = sorted((each for each in points if each[other] == at), key=lambda each: each[axis])
            if len(shown) < 2:
                continue
            figure, axes = new_figure()
            x = [each[axis] for each in shown]
            for part, style in styles_of(PARTS).items():
                line(axes, x, [each[part][key] for each in shown], part, style, markers=True)
            axes.set(xscale="log", yscale="log", xlabel=axis, ylabel=UNITS[key])
            legend(axes)
            title = f"{UNITS[key]} by {axis}, {at:,} {other}"
            drawn[f"{what}_by_{axis}"] = picture(figure, title, f"{title}.")
    return drawn


def main() -> None:
    """Measure what is missing, and draw."""
    parser = argparse.ArgumentParser(description="Memory and time over documents and labels.")
    parser.add_argument("--documents", type=int, help="one point: how many documents (10000)")
    parser.add_argument("--labels", type=int, choices=LEVELS, help="one point: how many labels (30000)")
    parser.add_argument("--output", type=Path, default=Path("outputs/htc-scale"), help="a folder (%(default)s)")
    settings = parser.parse_args()
    if settings.documents is not None and settings.documents < FEWEST:
        parser.error(f"--documents must be at least {FEWEST}, not {settings.documents}")
    file = settings.output / "points.json"
    points = json.loads(file.read_text(encoding="utf-8"))["points"] if file.exists() else []
    wanted = {*BY_DOCUMENTS, *BY_LABELS}
    if settings.documents is not None or settings.labels is not None:
        wanted = {(settings.documents or 10_000, settings.labels or 30_000)}
    settings.output.mkdir(parents=True, exist_ok=True)
    for documents, labels in sorted(wanted, key=lambda each: each[0] * each[1]):
        if not any((each["documents"], each["labels"]) == (documents, labels) for each in points):
            print(f"{documents:,} documents, {labels:,} labels", file=sys.stderr, flush=True)
            points.append(measure(documents, labels))
            write_json(file, {"points": points})
    write_pictures(settings.output, pictures(points))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(globals()[sys.argv[2]](Path(sys.argv[3]))))
    else:
        main()
