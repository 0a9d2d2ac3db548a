"""make benchmark: memory and time to load documents whose texts are in memory, or on disk.

MEGABYTES=3000 python -m pytest benchmarks/bench_htc_texts.py      with so much text; 300 by default
"""

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hierarchies import tree

from htc import Hierarchy
from htc.datasets import load_custom, load_table
from htc.labels.taxonomy import ROOT

MEGABYTES = int(os.environ.get("MEGABYTES", "300"))
LENGTH = 1500  # characters of a text
DOCUMENTS = MEGABYTES * 1_000_000 // LENGTH
LEVELS = (10, 50, 500)
COLUMNS = ["text", "one", "two", "three"]
ROWS = 10_000  # of a row group
ABOVE_START = 150  # megabytes that loading may take with texts on disk, of which 30 are Arrow's and torch's own


def documents(hierarchy: Hierarchy):
    """Texts of random words, each other, and a path to a leaf."""
    rng, leaves = random.Random(0), hierarchy.leaves.tolist()
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(20_000)]
    for number in range(DOCUMENTS):
        text = " ".join([str(number), *rng.choices(words, k=LENGTH // 4)])[:LENGTH].strip()
        yield text, hierarchy.paths[rng.choice(leaves)]


def write_documents(file: Path) -> None:
    """Write a .csv, .parquet or .jsonl; the last is a folder's document file, too."""
    hierarchy = tree(LEVELS)
    rows = ((text, *path) for text, path in documents(hierarchy))
    with file.open("wb") if file.suffix == ".parquet" else file.open("w", encoding="utf-8", newline="") as opened:
        if file.suffix == ".csv":
            csv.writer(opened).writerows([COLUMNS])
            csv.writer(opened).writerows(rows)
        elif file.suffix == ".parquet":
            schema = pyarrow.schema([(name, pyarrow.string()) for name in COLUMNS])
            with pyarrow.parquet.ParquetWriter(opened, schema) as writer:
                while some := [row for _, row in zip(range(ROWS), rows, strict=False)]:
                    writer.write_table(pyarrow.table(list(map(list, zip(*some, strict=True))), schema=schema))
        else:
            opened.writelines(json.dumps({"text": text, "label": path}) + "\n" for text, *path in rows)
    below: dict[str, list[str]] = {}
    for name, parents in zip(hierarchy.names, hierarchy.parents, strict=True):
        below.setdefault(hierarchy.names[parents[0]] if parents else ROOT, []).append(name)
    file.with_name("labels.taxonomy").write_text("\n".join("\t".join([parent, *names]) for parent, names in below.items()))


def memory(key: str) -> float:
    """Megabytes of this process: VmRSS now, VmHWM at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024 / 1e6


def load(file: Path, form: str, texts: str) -> dict[str, float]:
    """Read the documents."""
    start, begun = memory("VmRSS"), time.perf_counter()
    if form == "folder":
        load_custom(file.parent, texts=texts, cache_dir=file.parent)
    else:
        load_table(file, texts=texts, cache_dir=file.parent, **({"path": "label"} if form == "jsonl" else {}))
    seconds = time.perf_counter() - begun
    return {"megabytes_above_start": round(memory("VmHWM") - start), "seconds": round(seconds, 1)}


def in_process(file: Path, form: str, texts: str) -> dict[str, float]:
    """The same in a process of its own. Returns: what it printed."""
    command = [sys.executable, __file__, str(file), form, texts]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


@pytest.mark.parametrize("form", ["folder", "jsonl", "csv", "parquet"])
def test_loading(form, benchmark, tmp_path):
    file = tmp_path / f"documents.{'jsonl' if form == 'folder' else form}"
    write_documents(file)
    found = {"memory": in_process(file, form, "memory")}
    found["disk"] = benchmark.pedantic(lambda: in_process(file, form, "disk"), rounds=1)
    benchmark.extra_info.update(documents=DOCUMENTS, megabytes=round(file.stat().st_size / 1e6), **found)
    assert found["disk"]["megabytes_above_start"] < ABOVE_START * MEGABYTES / 300


if __name__ == "__main__":
    print(json.dumps(load(Path(sys.argv[1]), *sys.argv[2:])))
