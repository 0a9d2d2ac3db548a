"""`make compare-peers`: hierarchical classification by several libraries, on the same features and splits.

    python -m benchmarks.peers                        ICD-10-CM and ATT&CK, 2,000 documents of each, three splits
    python -m benchmarks.peers --hwv FOLDER           Hierarchical WikiVitals, too
    python -m benchmarks.peers --documents 10000      more documents

Needs the packages in requirements.txt. An interrupted run goes on where it was: finished cells are kept in OUTPUT/cells (remove
those of a method whose code has changed). Writes summary.json, table.md and report.html.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rlkl_htc_common.cli.program import BAD_INPUT
from rlkl_htc_common.errors import InputError

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
LIBRARIES = ("hiclass", "libmultilabel", "scikit-learn", "scipy", "numpy", "torch")


def settings_of(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="Compare htc's estimator with its peers.")
    parser.add_argument("--hwv", default="", metavar="FOLDER", help="a folder with hwv.taxonomy and documents")
    parser.add_argument("--documents", type=int, default=2000, help="of icd10cm and attack, at most (%(default)s)")
    parser.add_argument("--splits", type=int, default=3, help="how many (%(default)s)")
    parser.add_argument("--limit", type=int, default=600, help="seconds of processor time for a cell (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/compare-peers"), help="a folder (%(default)s)")
    settings = parser.parse_args(arguments)
    if settings.splits < 1 or settings.limit < 1:
        parser.error("--splits and --limit must be at least 1")
    return settings


def main(arguments: list[str]) -> None:
    """Prepare, run what is missing, and write the report, anew after each split."""
    settings = settings_of(arguments)
    os.environ.update(ONE_THREAD)
    multiprocessing.set_forkserver_preload(["benchmarks.peers.cells", "htc.estimator", "sklearn.linear_model", "sklearn.svm"])
    from benchmarks.peers import features
    from benchmarks.peers.report import write

    folder = settings.output / "features"
    folder.mkdir(parents=True, exist_ok=True)
    versions = {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()}
    summary: dict[str, Any] = {"versions": versions, "documents": settings.documents, "datasets": {}, "cells": []}
    for name in ["icd10cm", "attack", *(["hwv"] if settings.hwv else [])]:
        datasets = [features.load(name, split, settings.documents, settings.hwv) for split in range(settings.splits)]
        features.write_problems(datasets, folder)
        summary["datasets"][name] = [dataset.facts() for dataset in datasets]
    for split in range(settings.splits):
        for name, facts in summary["datasets"].items():
            for kind in features.FEATURES:
                data = facts[split]["fingerprint"]
                where = {"dataset": name, "split": split, "features": kind}
                file = features.file_of(folder, data, kind)
                summary["cells"] += cells_of(where, {"data": data, "versions": versions}, file, settings)
        write(settings.output, summary)


def cells_of(where: dict[str, Any], of: dict[str, Any], file: Path, settings: argparse.Namespace) -> list[dict[str, Any]]:
    """The cells of all methods on one problem. Those that are there, with the same data, values and versions, are read.

    Args: where: dataset, split and features; of: what the records depend on; file: of the problem.
    """
    from benchmarks.peers.cells import STOPPED, run_cell
    from benchmarks.peers.features import read_problem
    from benchmarks.peers.methods import METHODS, has_one_path

    problem = read_problem(file)
    one_path = has_one_path(problem.targets["train"], problem.hierarchy)
    found = []
    for method in METHODS:
        if not method.decision(one_path):
            continue
        cell = where | {"method": method.name, "decision": method.decision(one_path)}
        known = cell | {"of": of | {"values": list(method.values)}}
        record = settings.output / "cells" / ("-".join(map(str, [*where.values(), method.name])).replace(" ", "_") + ".json")
        cell = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        ended = "tries" in cell or cell.get("problem") == STOPPED.format(limit=settings.limit)
        if not ended or any(cell.get(key) != value for key, value in known.items()):
            print(*where.values(), method.name, sep=", ", flush=True)
            cell = known | run_cell(method.name, file, settings.limit)
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps(cell, indent=1), encoding="utf-8")
        found.append(cell)
    return found


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (InputError, PackageNotFoundError) as error:
        missing = "; see benchmarks/peers/requirements.txt" if isinstance(error, PackageNotFoundError) else ""
        print(f"compare-peers: {error}{missing}", file=sys.stderr)
        sys.exit(BAD_INPUT)
