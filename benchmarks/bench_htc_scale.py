"""make benchmark: memory and time of one htc-train on 100,000 documents and 10,000 nodes."""

import json
import random
import resource
import subprocess
import sys
from pathlib import Path

from hierarchies import tree

from htc import Hierarchy
from htc.labels.taxonomy import ROOT
from rlkl_htc_common.models.encoders import load_encoder
from rlkl_htc_common.models.settings import PACKAGED, EncoderConfig

LEVELS, DOCUMENTS = (20, 300, 2000, 7680), 100_000
GIGABYTES = 8


def write_documents(folder: Path, hierarchy: Hierarchy) -> None:
    """A word for each node; texts of the words of the document's own labels, one path to a leaf, and of as many others."""
    rng = random.Random(0)
    vocabulary = load_encoder(EncoderConfig(PACKAGED, max_length=256)).tokenizer.get_vocab()
    words = sorted(word for word in vocabulary if word.isalpha() and len(word) > 3)
    leaves = hierarchy.leaves.tolist()
    below: dict[str, list[str]] = {}
    for name, parents in zip(hierarchy.names, hierarchy.parents, strict=True):
        below.setdefault(hierarchy.names[parents[0]] if parents else ROOT, []).append(name)
    rows = ("\t".join([parent, *children]) for parent, children in below.items())
    (folder / "large.taxonomy").write_text("\n".join(rows), encoding="utf-8")
    with (folder / "large.json").open("w", encoding="utf-8") as file:
        for _ in range(DOCUMENTS):
            path = hierarchy.paths[rng.choice(leaves)]
            text = [words[int(name[1:])] for name in path] + rng.choices(words, k=len(path))
            rng.shuffle(text)
            file.write(json.dumps({"token": [" ".join(text)], "label": list(path)}) + "\n")


def test_many_documents_and_nodes(benchmark, tmp_path):
    write_documents(tmp_path, tree(LEVELS))
    options = ["dataset=custom", f"dataset.dir={tmp_path}", f"runs={tmp_path}", f"cache_dir={tmp_path}"]
    options += ["loss=conditional_softmax", "training.epochs=4", "training.batch_size=256", "tracking.mode=disabled"]
    command = [sys.executable, "-m", "htc.commands.train", *options]
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=1)
    gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    result = json.loads(next(tmp_path.glob("htc/*/*/result.json")).read_text(encoding="utf-8"))
    benchmark.extra_info.update(
        gigabytes=round(gigabytes, 2),
        minutes=round(benchmark.stats.stats.median / 60, 1),
        hf1_micro_top_down=round(result["test"]["rules"]["top_down"]["hf1_micro"], 3),
    )
    assert gigabytes < GIGABYTES, f"{gigabytes:.1f} GB"
