"""A cell: a method on one split with one kind of features, in a process of its own.

Each value of C is tried: fitted on train, and scored on dev and test; the best on dev counts. Time is processor time of all
threads. Memory is the peak over all tries above what the process held before, with the data loaded.
"""

import json
import multiprocessing
import os
import resource
import signal
import time
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.peers.features import SPLITS, read_problem
from benchmarks.peers.methods import METHODS, Fit
from torch import Tensor

from htc import metrics
from htc.labels.hierarchy import Hierarchy

STOPPED = "stopped after {limit} s"


def memory(key: str) -> float:
    """Megabytes of this process (Linux): VmRSS now, VmHWM at most."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split(f"{key}:")[1].split()[0]) * 1024 / 1e6


def chosen(tries: Sequence[dict[str, float]]) -> dict[str, float]:
    """The try with the highest hF1 on dev; the first of several."""
    return max(tries, key=lambda each: each["dev_hf1"])


def scores(true: Tensor, predicted: Tensor, hierarchy: Hierarchy) -> dict[str, float]:
    """hF1 (micro), exact path, and macro F1 over nodes. Args: true, predicted (D, N) bool, closed."""
    return {
        "hf1": metrics.hierarchical_precision_recall_f(true, predicted, hierarchy)[2],
        "exact": metrics.exact_match(true, predicted, hierarchy),
        "macro_f1": metrics.f1(true, predicted, hierarchy, "macro"),
    }


def tries_of(fit: Fit, values: Sequence[float], problem: Any) -> list[dict[str, float]]:
    """Fit and score with each value of C."""
    tries = []
    for C in values:
        started = time.process_time()
        predict = fit(problem.features["train"], problem.targets["train"], problem.hierarchy, C)
        fitted = time.process_time()
        test = predict(problem.features["test"])
        done = time.process_time()
        found = scores(problem.targets["test"], test, problem.hierarchy)
        dev = metrics.hierarchical_precision_recall_f(
            problem.targets["dev"], predict(problem.features["dev"]), problem.hierarchy
        )
        tries.append({"C": C, "dev_hf1": dev[2], **found, "fit_s": fitted - started, "predict_s": done - fitted})
    return tries


def measure(name: str, file: str, result: str, limit: int) -> None:
    """Run a cell in this process and write its record.

    Args: name: of the method; file: of the problem; result: for JSON; limit: seconds of processor time.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 60))
    method = next(method for method in METHODS if method.name == name)
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # iterations that do not converge are the method's own limit
        problem = read_problem(Path(file))
        tries_of(method.fit, method.values[:1], toy())  # imports what the method needs
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        start = memory("VmRSS")
        tries = tries_of(method.fit, method.values, problem)
        record = {"tries": tries, "memory_mb": memory("VmHWM") - start}
    Path(result).write_text(json.dumps(record), encoding="utf-8")


def toy() -> Any:
    """A problem of six documents."""
    import numpy as np
    from benchmarks.peers.features import Problem

    hierarchy = Hierarchy.from_paths([["a", "b"], ["a", "c"], ["d", "e"], ["d", "f"]])
    targets = hierarchy.encode([[path] for path in (["a", "b"], ["a", "c"], ["d", "e"], ["d", "f"], ["a", "b"], ["d", "e"])])
    features = np.eye(6)[[0, 1, 2, 3, 0, 2]]
    return Problem(hierarchy, dict.fromkeys(SPLITS, features), dict.fromkeys(SPLITS, targets))


def run_cell(name: str, file: Path, limit: int) -> dict[str, Any]:
    """Run a cell in a process of its own.

    Args: limit: seconds of processor time after which it is stopped. Returns: its tries and memory, or what went wrong.
    """
    result = file.with_name(f"{os.getpid()}.json")
    result.unlink(missing_ok=True)
    process = multiprocessing.get_context("forkserver").Process(target=measure, args=(name, str(file), str(result), limit))
    process.start()
    process.join()
    if process.exitcode == -signal.SIGXCPU:
        return {"problem": STOPPED.format(limit=limit)}
    if process.exitcode:
        return {"problem": f"ended with exit code {process.exitcode}"}
    record: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    result.unlink()
    return record
