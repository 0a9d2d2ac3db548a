"""Many runs, several at a time: a pool of processes that share the cores and stop together."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

from tqdm import tqdm

from common.errors import InputError
from common.terminal import PrintableFormatter

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
    bad_input: type[Exception] = InputError,
) -> list[dict[str, Any]]:
    """Call a function on every run, several at a time, each on its share of the cores.

    Args:
        function: made to be pickled; it takes Ctrl-C only where it asks for it.
        runs: its arguments.
        jobs: processes, at most; no more than there are runs are started.
        what: the name of the progress bar.
        bad_input: what, beside InputError, a run may fail with so that the others go on; any other exception stops them.

    Returns:
        The results, in the order of `runs`; none for none.

    Raises:
        InputError: at the end, if runs failed, with what they said; or if a process was killed from outside.
    """
    if not runs:
        return []
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    jobs = min(jobs, len(runs))
    threads = max(1, available_cores() // jobs)
    results: dict[int, dict[str, Any]] = {}
    failed: dict[int, Exception] = {}
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(threads, stop)) as pool:
        ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: a worker that is still starting ignores Ctrl-C too
        futures = {pool.submit(_call_unless_stopped, function, run): index for index, run in enumerate(runs)}
        signal.signal(signal.SIGINT, ours)
        try:
            with tqdm(total=len(runs), desc=what, unit="run", smoothing=0.0) as bar:
                for future in as_completed(futures):
                    try:
                        results[futures[future]] = future.result()
                    except (InputError, bad_input) as error:
                        failed[futures[future]] = error
                        bar.set_postfix_str(f"{len(failed)} failed")
                    bar.update()
        except BrokenProcessPool as error:
            raise InputError("a process was killed, for want of memory perhaps; try jobs=1.") from error
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if failed:
        told = [str(failed[index]) for index in sorted(failed)]
        more = f" (and {len(told) - TOLD} more)" if len(told) > TOLD else ""
        raise InputError(f"{len(failed)} of {len(runs)} {what} failed; the others are done: {' '.join(told[:TOLD])}{more}")
    return [results[index] for index in range(len(runs))]


_stop: Event | None = None  # of a worker process


def _start_worker(threads: int, stop: Event) -> None:
    global _stop
    _stop = stop
    if logging.lastResort is not None:  # which tells the warnings of a worker: nothing else is set up there
        logging.lastResort.setFormatter(PrintableFormatter())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training loop takes Ctrl-C while it trains, the parent otherwise
    import torch

    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threading.Thread(target=_interrupt_when_stopped, args=(stop,), daemon=True).start()


def _interrupt_when_stopped(stop: Event) -> None:
    """Ctrl-C, again and again, for a run that was not yet training when it came first; where it is not taken, it is ignored."""
    stop.wait()
    while True:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call_unless_stopped(function: Callable[[Run], dict[str, Any]], run: Run) -> dict[str, Any]:
    assert _stop is not None
    if _stop.is_set():
        raise KeyboardInterrupt
    return function(run)
