"""Many runs, several at a time: a pool of processes that share the cores and stop together."""

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import resource_tracker
from types import ModuleType
from typing import Any, TypeVar

from tqdm import tqdm

from rlkl_htc_common.cli import interruption
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.terminal import PrintableFormatter

Run = TypeVar("Run")

MOST_JOBS = 4  # a run needs about 1 GB of memory
TOLD = 5  # failures that are told in full


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def number_of_jobs(asked: int | None) -> int:
    """How many runs to have at a time: what is asked, else one on a GPU, else one a core and at most MOST_JOBS.

    Raises:
        InputError: if less than one is asked.
    """
    import torch  # here, so that entry points which start no runs need not wait for it

    if asked is not None and asked < 1:
        raise InputError(f"jobs must be at least 1, not {asked}.")
    return asked or (1 if torch.cuda.is_available() else min(MOST_JOBS, available_cores()))


def run_all(
    function: Callable[[Run], dict[str, Any]],
    runs: Sequence[Run],
    jobs: int,
    what: str,
) -> list[dict[str, Any]]:
    """Call a function on every run, several at a time, each on its share of the cores.

    Args:
        function: made to be pickled; KeyboardInterrupt is raised in it when this process is interrupted, unless it is
            `interruption.finishing` something.
        runs: its arguments.
        jobs: processes, at most; no more than there are runs are started.
        what: the name of the progress bar.

    Returns:
        The results, in the order of `runs`; none for none.

    Raises:
        InputError: at the end, if runs failed, with what they said; or if a process was killed from outside.
        KeyboardInterrupt: after an interruption, when all runs under way have ended.
    """
    if not runs:
        return []
    context = multiprocessing.get_context("spawn")
    jobs = min(jobs, len(runs))
    threads = max(1, available_cores() // jobs)
    results: dict[int, dict[str, Any]] = {}
    failed: dict[int, Exception] = {}
    others = multiprocessing.active_children()
    start_quietly(resource_tracker)
    with (
        interruption.finishing(
            "the runs under way end, trainings with a checkpoint", partial(_stop_all_but, others)
        ) as interrupted,
        ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(threads,)) as pool,
    ):
        try:
            with interruption.kept_from_children():
                futures = {pool.submit(_call, function, run): index for index, run in enumerate(runs)}
            if interrupted.is_set():
                raise KeyboardInterrupt
            with tqdm(total=len(runs), desc=what, unit="run", smoothing=0.0) as bar:
                for future in as_completed(futures):
                    try:
                        results[futures[future]] = future.result()
                    except InputError as error:
                        failed[futures[future]] = error
                        bar.set_postfix_str(f"{len(failed)} failed")
                    bar.update()
        except BrokenProcessPool as error:
            if interrupted.is_set():
                raise KeyboardInterrupt from error
            raise InputError("a process was killed, for want of memory perhaps; try jobs=1.") from error
        except BaseException:
            _stop_all_but(others)
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if failed:
        told = [str(failed[index]) for index in sorted(failed)]
        more = f" (and {len(told) - TOLD} more)" if len(told) > TOLD else ""
        raise InputError(f"{len(failed)} of {len(runs)} {what} failed; the others are done: {' '.join(told[:TOLD])}{more}")
    return [results[index] for index in range(len(runs))]


def _stop_all_but(others: Sequence[multiprocessing.process.BaseProcess]) -> None:
    """Interrupt the workers; those that are still importing end at once, others after what they are finishing."""
    for process in multiprocessing.active_children():
        if process not in others:
            process.terminate()


def start_quietly(tracker: ModuleType) -> None:
    """Start the process that cleans up after worker processes, such that it outlives a closed terminal, and says nothing when
    this process ends at once.

    Args: tracker: the module of multiprocessing or of joblib that does so.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker:UserWarning"]))
    try:
        with interruption.kept_from_children():
            tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def _start_worker(threads: int) -> None:
    interruption.answer_as_worker()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if logging.lastResort is not None:  # which tells the warnings of a worker: nothing else is set up there
        logging.lastResort.setFormatter(PrintableFormatter())
    import torch

    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(function: Callable[[Run], dict[str, Any]], run: Run) -> dict[str, Any]:
    """In a worker, which ends when it is interrupted: its pool is then over."""
    try:
        with interruption.stoppable():
            return function(run)
    except KeyboardInterrupt:
        os._exit(interruption.exit_code())
